//! What claude's lines mean, whichever way it is talked to.

use std::collections::HashMap;

use salon_core::{Note, Usage};
use serde_json::Value;

use super::tools::Tools;
use crate::agent::ending::{Fault, Silence, Word};
use crate::agent::telling::Telling;
use crate::agent::words;
use crate::agent::{Errand, Step, names};
use crate::{EngineError, Secret};

/// Reads the lines of one process. An answer may come twice: in pieces while it is written, and whole, a content block in
/// a line; it is told once, in pieces if there are any, and what the pieces lack is made up from the whole.
pub(in crate::agent) struct Lines {
    key: Secret,
    model: Option<String>,
    thread: Option<String>,
    telling: Telling,
    /// The message whose pieces come now, for versions that do not name it in each.
    current: String,
    /// The message that was told last, if nothing came between.
    last: Option<String>,
    messages: HashMap<String, Message>,
    tools: Tools,
    usage: Usage,
    /// What it wrote instead of an answer.
    excuse: Option<(String, Option<i64>)>,
    word: Option<Word>,
}

/// A message on its two ways here.
#[derive(Default)]
struct Message {
    /// Told in pieces, and not yet seen whole.
    pieces: String,
    /// Told from a whole line, while its pieces may still come.
    ahead: String,
}

impl Lines {
    pub(in crate::agent) fn new(errand: &Errand) -> Lines {
        Lines {
            key: errand.door.key.clone(),
            model: errand.model.clone(),
            thread: None,
            telling: Telling::default(),
            current: String::new(),
            last: None,
            messages: HashMap::new(),
            tools: Tools::default(),
            usage: Usage::default(),
            excuse: None,
            word: None,
        }
    }

    pub(in crate::agent) fn hear(&mut self, line: &str) -> Vec<Step> {
        match words::read(line) {
            Ok(value) => self.read(&value).unwrap_or_else(|| vec![Step::Note(words::raw(line))]),
            Err(note) => note.map(Step::Note).into_iter().collect(),
        }
    }

    /// What a line means that was parsed already. `None` if nobody knows.
    pub(in crate::agent) fn read(&mut self, value: &Value) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        match value["type"].as_str().unwrap_or_default() {
            "system" => self.system(value, &mut steps)?,
            "stream_event" => self.piece(value, &mut steps)?,
            "assistant" => self.assistant(value, &mut steps)?,
            "user" => self.user(value, &mut steps),
            "result" => self.result(value, &mut steps),
            "rate_limit_event" | "keep_alive" => {}
            _ => return None,
        }
        Some(steps)
    }

    fn system(&mut self, value: &Value, steps: &mut Vec<Step>) -> Option<()> {
        match value["subtype"].as_str().unwrap_or_default() {
            "init" => {
                let id = value["session_id"].as_str().filter(|id| names::is_thread(id))?;
                // It introduces itself anew in each turn of a long conversation.
                if self.thread.as_deref() != Some(id) {
                    self.thread = Some(id.to_owned());
                    steps.push(Step::Thread(id.to_owned()));
                }
            }
            "api_retry" => {
                let number = |field: &str| value[field].as_i64().unwrap_or(0);
                let (attempt, most) = (number("attempt"), number("max_retries"));
                let why = words::redacted(value["error"].as_str().unwrap_or("no answer"), self.key.expose());
                let status = value["error_status"].as_i64().map(|status| format!(", {status}")).unwrap_or_default();
                let message = format!("The model is asked again ({attempt} of {most}): {why}{status}");
                steps.push(Step::Note(Note::Trouble { message }));
            }
            // A tool that was not allowed has a result of its own, which says so.
            "permission_denied"
            | "status"
            | "thinking_tokens"
            | "task_started"
            | "task_progress"
            | "task_updated"
            | "task_notification"
            | "compact_boundary"
            | "session_state_changed" => {}
            _ => return None,
        }
        Some(())
    }

    fn piece(&mut self, value: &Value, steps: &mut Vec<Step>) -> Option<()> {
        let event = &value["event"];
        let kind = event["type"].as_str()?;
        // What a subagent writes comes whole; it is no part of the answer.
        if !value["parent_tool_use_id"].is_null() {
            return Some(());
        }
        if kind == "message_start" {
            self.current = event["message"]["id"].as_str().unwrap_or_default().to_owned();
        }
        let Some(text) = event["delta"]["text"].as_str().filter(|_| kind == "content_block_delta") else {
            return Some(());
        };
        let id = value["api_message_id"].as_str().unwrap_or(&self.current).to_owned();
        let message = self.messages.entry(id.clone()).or_default();
        if let Some(rest) = message.ahead.strip_prefix(text) {
            message.ahead = rest.to_owned();
            return Some(());
        }
        message.pieces.push_str(text);
        self.tell(&id, text, steps);
        Some(())
    }

    fn assistant(&mut self, value: &Value, steps: &mut Vec<Step>) -> Option<()> {
        let content = value["message"]["content"].as_array()?;
        let id = value["message"]["id"].as_str().unwrap_or_default();
        let of_subagent = !value["parent_tool_use_id"].is_null();
        let excuse = value["is_api_error_message"] == true || value["error"].is_string();
        for block in content {
            match block["type"].as_str().unwrap_or_default() {
                "text" => {
                    let text = block["text"].as_str().unwrap_or_default();
                    if excuse {
                        let said = match value["error"].as_str() {
                            Some("authentication_failed") => Some(401),
                            Some("rate_limit") => Some(429),
                            _ => None,
                        };
                        self.excuse = Some((text.to_owned(), value["api_error_status"].as_i64().or(said)));
                    } else if of_subagent {
                        steps.push(Step::Note(Note::Reasoning { text: words::clean(text) }));
                    } else {
                        self.whole(id, text, steps);
                    }
                }
                "thinking" => {
                    let text = words::clean(block["thinking"].as_str().unwrap_or_default());
                    if !text.is_empty() {
                        steps.push(Step::Note(Note::Reasoning { text }));
                    }
                }
                "tool_use" | "server_tool_use" => {
                    self.last = None;
                    steps.push(self.tools.begin(block));
                }
                // Thoughts that only their maker can read, and what the provider's own tools found.
                _ => {}
            }
        }
        Some(())
    }

    fn whole(&mut self, id: &str, text: &str, steps: &mut Vec<Step>) {
        let message = self.messages.entry(id.to_owned()).or_default();
        if let Some(rest) = message.pieces.strip_prefix(text) {
            message.pieces = rest.to_owned();
            return;
        }
        // Pieces that do not fit were damaged on the way: better twice than not at all.
        let fits = text.strip_prefix(message.pieces.as_str());
        if fits.is_none() {
            self.last = None;
        }
        let rest = fits.unwrap_or(text);
        message.pieces.clear();
        message.ahead.push_str(rest);
        self.tell(id, rest, steps);
    }

    fn tell(&mut self, id: &str, text: &str, steps: &mut Vec<Step>) {
        if self.last.as_deref() != Some(id) {
            self.telling.pause();
            self.last = Some(id.to_owned());
        }
        self.telling.say(text, steps);
    }

    /// What is said to it: the results of its tools. A person's own words come back in some modes, and are known.
    fn user(&mut self, value: &Value, steps: &mut Vec<Step>) {
        for block in value["message"]["content"].as_array().into_iter().flatten() {
            if block["type"] == "tool_result" {
                self.last = None;
                self.tools.end(block, &value["tool_use_result"], steps);
            }
        }
    }

    fn result(&mut self, value: &Value, steps: &mut Vec<Step>) {
        let excuse = self.excuse.take();
        let text = value["result"].as_str().unwrap_or_default();
        let subtype = value["subtype"].as_str().unwrap_or_default();
        // A model that cannot be asked is a success in name only.
        let failed = value["is_error"] == true || !matches!(subtype, "success" | "");
        if failed {
            self.word = Some(Err(fault(value, subtype, excuse)));
        } else {
            self.word = Some(Ok(()));
            if !text.trim().is_empty() && !self.telling.has_said(text) {
                self.telling.pause();
                self.telling.say(text, steps);
            }
            if let Some((words, _)) = excuse {
                let message = words::redacted(&words, self.key.expose());
                steps.push(Step::Note(Note::Trouble { message }));
            }
        }
        self.last = None;
        self.messages.clear();
        if let Some(usage) = self.usage(value) {
            self.usage = usage.clone();
            steps.push(Step::Usage(usage));
        }
        // More that it was told in the meantime waits for its turn.
        if value["queued_turn_count"].as_i64().unwrap_or(0) == 0 {
            steps.push(Step::Finished);
        }
    }

    /// What the process took so far. Counts by model are of the whole thread, except those since the last result; the
    /// plain ones are of this run, but know nothing of what was broken off.
    fn usage(&self, value: &Value) -> Option<Usage> {
        let (mut input, mut output, mut model, mut most) = (0_i64, 0_i64, None, -1);
        let number = |value: &Value, field: &str| value[field].as_i64().unwrap_or(0).max(0);
        for (name, used) in value["model_usage_since_last_result"].as_object().into_iter().flatten() {
            let read = ["inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"];
            let read = read.iter().fold(0_i64, |sum, field| sum.saturating_add(number(used, field)));
            let written = number(used, "outputTokens");
            (input, output) = (input.saturating_add(read), output.saturating_add(written));
            if written > most {
                (most, model) = (written, Some(name));
            }
        }
        if model.is_none() {
            let read = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
            input = read.iter().fold(0, |sum, field| sum.saturating_add(number(&value["usage"], field)));
            output = number(&value["usage"], "output_tokens");
            model = value["modelUsage"].as_object().filter(|models| models.len() == 1).and_then(|m| m.keys().next());
        }
        (input > 0 || output > 0).then(|| Usage {
            model: model.map(|name| words::shown(name, words::SENTENCE)).or_else(|| self.model.clone()),
            tokens_in: self.usage.tokens_in.saturating_add(input),
            tokens_out: self.usage.tokens_out.saturating_add(output),
            ..Usage::default()
        })
    }

    pub(in crate::agent) fn ended(&mut self, code: Option<i32>, errors: &str) -> Result<(), EngineError> {
        let key = self.key.expose();
        if let Some(word) = &self.word {
            return word.as_ref().map_err(|fault| fault.told(key)).copied();
        }
        let broken_off = self.messages.values().any(|message| !message.pieces.is_empty());
        let whole = !self.telling.is_empty() && !broken_off && self.tools.are_done();
        let fault = self.excuse.take().map(|(words, status)| Fault::new(&words, status));
        Silence { code, errors, whole, fault, key }.judged()
    }
}

fn fault(value: &Value, subtype: &str, excuse: Option<(String, Option<i64>)>) -> Fault {
    let (excuse, status) = excuse.unwrap_or_default();
    let status = value["api_error_status"].as_i64().or(status);
    if value["terminal_reason"].as_str().is_some_and(|reason| reason.starts_with("aborted")) {
        return Fault { code: "agent_cut", words: String::new() };
    }
    let errors: Vec<&str> = value["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let words =
        [value["result"].as_str(), value["error"]["message"].as_str(), Some(&*excuse), Some(&*errors.join(" "))]
            .into_iter()
            .flatten()
            .find(|words| !words.trim().is_empty())
            .map_or_else(|| subtype.replace('_', " "), str::to_owned);
    Fault::new(&words, status)
}
