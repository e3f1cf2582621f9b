//! What the page knows of a bot: its health, its metrics, and the session it is in, read from what it wrote.
//!
//! The texts are a protocol (`docs/reference`): `session=`, `agent=`, and event lines such as
//! `[3][12:00:00][assistant_message] …`.

use std::time::Duration;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::catalog;
use crate::control::watch::Timeline;
use crate::control::{Answer, Ask, ControlError, Controls, result, some_id};

/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(2);
/// The part of a probe's answer that is read.
const PROBE_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
pub struct Asked {
    bot_id: String,
    #[serde(default)]
    token: String,
    #[serde(default, deserialize_with = "some_id")]
    chat_id: Option<i64>,
    #[serde(default = "limit")]
    limit: usize,
}

fn limit() -> usize {
    120
}

pub async fn bot(State(controls): State<Controls>, Ask(asked): Ask<Asked>) -> Answer {
    if !(1..=300).contains(&asked.limit) {
        return Err(ControlError::invalid("limit is 1 to 300"));
    }
    let bots = catalog::entries(&controls).await;
    let Some(bot) = bots.iter().find(|bot| bot["bot_id"] == asked.bot_id.as_str()) else {
        return Err(ControlError::not_found(format!("unknown bot_id: {}", asked.bot_id)));
    };
    let token = bot["token"].as_str().unwrap_or_default().to_owned();
    if !asked.token.is_empty() && asked.token != token {
        return Err(ControlError::invalid("token does not belong to this bot"));
    }
    let url = bot["embedded_url"].as_str().map(|url| url.trim_end_matches('/').to_owned());
    let (health, metrics) = match &url {
        None => (json!({"ok": false, "status_code": null, "latency_ms": null, "error": "no embedded_url"}), None),
        Some(url) => tokio::join!(health(&controls, url), metrics(&controls, url)),
    };
    let metrics = metrics.unwrap_or_default();
    let beat = |worker: &str| metrics.pointer(&format!("/runtime_counters/worker_heartbeat.{worker}")).cloned();
    let threads: Vec<Value> = controls
        .threads(Some(&token))
        .into_iter()
        .take(10)
        .map(|thread| {
            json!({
                "chat_id": thread["chat_id"],
                "message_count": thread["message_count"],
                "webhook_enabled": thread["webhook_enabled"],
                "last_updated_at": thread["last_updated_at"],
            })
        })
        .collect();
    let chat_id = asked.chat_id.or_else(|| threads.first().and_then(|thread| thread["chat_id"].as_i64()));
    let texts = match chat_id {
        Some(chat_id) => {
            let timeline =
                controls.messages(&Timeline { token: token.clone(), chat_id: Some(chat_id), limit: asked.limit })?;
            let messages = timeline["messages"].as_array().cloned().unwrap_or_default();
            let of_bot = |message: &&Value| message["direction"] == "bot";
            messages.iter().filter(of_bot).filter_map(|message| message["text"].as_str().map(str::to_owned)).collect()
        }
        None => Vec::new(),
    };
    let session = Session::read(&texts);
    let mut told = json!({
        "health": {"bot": health},
        "metrics": {
            "in_flight_runs": metrics.get("in_flight_runs"),
            "worker_heartbeat": {"run_worker": beat("run_worker"), "update_worker": beat("update_worker")},
        },
        "session": {
            "current_agent": session.agent.unwrap_or_else(|| "unknown".to_owned()),
            "session_id": session.session_id,
            "thread_id": session.thread_id,
            "run_status": session.run_status,
            "summary_preview": session.summary,
        },
        "threads_top10": threads,
        "last_error_tag": session.error_tag,
    });
    // Not among the bridge's names: there only if it was said.
    if let Some(model) = session.model {
        told["session"]["model"] = json!(model);
    }
    result(told)
}

async fn health(controls: &Controls, url: &str) -> Value {
    let started = Instant::now();
    let outcome =
        controls.0.http.get(format!("{url}/healthz")).header("accept", "application/json").timeout(PROBE).send().await;
    let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(response) => {
            let status = response.status();
            json!({"ok": status.is_success(), "status_code": status.as_u16(), "latency_ms": latency_ms, "error": null})
        }
        Err(error) => {
            let error = if error.is_timeout() { "timed out" } else { "connection failed" };
            json!({"ok": false, "status_code": null, "latency_ms": latency_ms, "error": error})
        }
    }
}

async fn metrics(controls: &Controls, url: &str) -> Option<Value> {
    let request = controls.0.http.get(format!("{url}/metrics")).header("accept", "application/json").timeout(PROBE);
    let mut response = request.send().await.ok().filter(|response| response.status().is_success())?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > PROBE_BYTES {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}

/// What a chat's texts tell of the session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Session {
    agent: Option<String>,
    session_id: Option<String>,
    thread_id: Option<String>,
    model: Option<String>,
    summary: Option<String>,
    run_status: &'static str,
    error_tag: Option<&'static str>,
}

impl Session {
    /// Reads the bot's texts, oldest first; of everything the newest mention counts.
    fn read(texts: &[String]) -> Session {
        let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).map(str::trim).collect();
        let newest =
            |find: &dyn Fn(&str) -> Option<Option<String>>| lines.iter().rev().find_map(|line| find(line)).flatten();
        Session {
            agent: newest(&|line| agent(line).map(Some)),
            session_id: newest(&|line| after(line, "session=").map(|word| Some(first_word(word)))),
            thread_id: newest(&thread),
            model: newest(&|line| after(line, "model=").map(|word| Some(first_word(word)))),
            summary: newest(&|line| {
                after(line, "summary=").map(|rest| Some(rest.to_owned()).filter(|rest| rest != "none"))
            }),
            run_status: lines.iter().rev().find_map(|line| run_status(line)).unwrap_or("idle"),
            error_tag: newest_run(&lines).iter().rev().find_map(|line| error_tag(line)),
        }
    }
}

fn after<'a>(line: &'a str, prefix: &str) -> Option<&'a str> {
    let head = line.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| line[prefix.len()..].trim()).filter(|rest| !rest.is_empty())
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// An event line's type and body.
fn event(line: &str) -> Option<(String, &str)> {
    let (number, rest) = line.strip_prefix('[')?.split_once("][")?;
    let (time, rest) = rest.split_once("][")?;
    let (kind, body) = rest.split_once(']')?;
    let is_number = number == "~" || (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    let is_time = time.len() == 8
        && time.bytes().enumerate().all(|(at, byte)| if at % 3 == 2 { byte == b':' } else { byte.is_ascii_digit() });
    let is_kind = !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    (is_number && is_time && is_kind).then(|| (kind.to_ascii_lowercase(), body.trim()))
}

fn agent(line: &str) -> Option<String> {
    let lower = line.to_ascii_lowercase();
    let named = lower
        .split_once("mode switched:")
        .and_then(|(_, rest)| rest.split_once("->"))
        .map(|(_, name)| name)
        .or_else(|| after(&lower, "adapter="))
        .or_else(|| lower.split_once("agent=").map(|(_, name)| name))?;
    let name: String = named.trim().chars().take_while(char::is_ascii_alphanumeric).collect();
    // The protocol knows these three only; whatever else answers is shown as unknown.
    matches!(name.as_str(), "codex" | "gemini" | "claude").then_some(name)
}

fn thread(line: &str) -> Option<Option<String>> {
    if let Some(rest) = after(line, "thread=") {
        return Some(Some(first_word(rest)).filter(|id| id != "none"));
    }
    let (kind, body) = event(line)?;
    let body: Value = (kind == "thread_started").then(|| serde_json::from_str(body).ok()).flatten()?;
    Some(body.get("thread_id")?.as_str().map(str::to_owned))
}

fn run_status(line: &str) -> Option<&'static str> {
    if let Some((kind, body)) = event(line) {
        return match kind.as_str() {
            "error" | "delivery_error" => Some("error"),
            "turn_completed" => {
                let status = serde_json::from_str::<Value>(body).ok();
                let status = status.as_ref().and_then(|body| body.get("status")?.as_str()).unwrap_or_default();
                Some(if matches!(status, "error" | "failed" | "timeout") { "error" } else { "completed" })
            }
            "turn_started" | "reasoning" | "command_started" | "assistant_message" => Some("running"),
            "thread_started" => Some("queued"),
            _ => None,
        };
    }
    let lower = line.to_ascii_lowercase();
    if lower.contains("queued turn:") {
        return Some("queued");
    }
    is_active_run(&lower).then_some("running")
}

fn is_active_run(lower: &str) -> bool {
    ["run is active", "already active", "/stop first"].iter().any(|words| lower.contains(words))
}

/// The lines since the newest run began.
fn newest_run<'a>(lines: &'a [&'a str]) -> &'a [&'a str] {
    let begins = |line: &&str| {
        line.to_ascii_lowercase().contains("queued turn:")
            || event(line).is_some_and(|(kind, _)| kind == "thread_started")
    };
    let Some(last) = lines.iter().rposition(begins) else { return lines };
    // "Queued turn" and "thread_started" are two beginnings of the same run.
    let queued = lines[..last].iter().rposition(begins);
    match queued {
        Some(queued) if lines[queued..last].iter().all(|line| event(line).is_none()) => &lines[queued..],
        _ => &lines[last..],
    }
}

fn error_tag(line: &str) -> Option<&'static str> {
    let lower = line.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| lower.contains(words));
    let is_error = event(line).is_some_and(|(kind, _)| matches!(kind.as_str(), "error" | "delivery_error"));
    if has(&["executable not found", "install cli", "binary missing"]) {
        return Some("binary_missing");
    }
    if is_active_run(&lower) {
        return Some("active_run");
    }
    if has(&["invalid json", "json decode", "parse error"]) {
        return Some("parse_error");
    }
    if has(&["[delivery_error]", "failed to send telegram message"]) {
        return Some("delivery_error");
    }
    let near_error = lower.contains("timeout") && (is_error || has(&["error", "failed"]));
    if has(&["timed out", "timeout exceeded", "timeout reached"]) || near_error {
        return Some("timeout");
    }
    is_error.then_some("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(texts: &[&str]) -> Session {
        Session::read(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_finished_run_is_read_from_its_lines() {
        let read = session(&[
            "Queued turn: 1\nsession=s-1\nagent=codex",
            "[1][10:00:00][thread_started] {\"thread_id\": \"t-1\"}\n[2][10:00:00][turn_started] {}\n\
             [3][10:00:01][assistant_message] hi\n[4][10:00:01][turn_completed] {\"status\": \"success\"}",
        ]);
        assert_eq!(read.agent.as_deref(), Some("codex"));
        assert_eq!((read.session_id.as_deref(), read.thread_id.as_deref()), (Some("s-1"), Some("t-1")));
        assert_eq!((read.run_status, read.error_tag), ("completed", None));
    }

    #[test]
    fn the_newest_words_win_and_echo_is_no_agent() {
        let read = session(&["agent=gemini", "mode switched: gemini -> claude", "Queued turn: 2\nagent=echo"]);
        assert_eq!((read.agent.as_deref(), read.run_status), (Some("claude"), "queued"));
        let read = session(&[
            "session=a\nthread=none\nsummary=none",
            "session=b\nthread=t9\nsummary=birds and more",
            "model=glm-5\nSwitch with /model",
        ]);
        assert_eq!(read.model.as_deref(), Some("glm-5"));
        assert_eq!((read.session_id.as_deref(), read.thread_id.as_deref()), (Some("b"), Some("t9")));
        assert_eq!(read.summary.as_deref(), Some("birds and more"));
        assert_eq!(session(&[]).run_status, "idle");
    }

    #[test]
    fn errors_are_tagged_from_the_newest_run_only() {
        let missing = "[1][10:00:00][error] provider=codex executable not found; install CLI\n\
                       [2][10:00:00][turn_completed] {\"status\": \"error\"}";
        assert_eq!(session(&["Queued turn: 1", missing]).error_tag, Some("binary_missing"));
        assert_eq!(session(&["Queued turn: 1", missing]).run_status, "error");
        let fine = "[1][10:00:05][thread_started] {}\n[2][10:00:06][assistant_message] ok";
        assert_eq!(session(&["Queued turn: 1", missing, "Queued turn: 2", fine]).error_tag, None);
        assert_eq!(session(&["A run is already active in this chat. Use /stop first."]).error_tag, Some("active_run"));
        assert_eq!(session(&["[1][10:00:00][delivery_error] no"]).error_tag, Some("delivery_error"));
        assert_eq!(session(&["[1][10:00:00][error] turn timed out"]).error_tag, Some("timeout"));
        assert_eq!(session(&["[1][10:00:00][error] odd"]).error_tag, Some("unknown"));
        assert_eq!(event("[1][1:00:00][error] odd"), None);
    }
}
