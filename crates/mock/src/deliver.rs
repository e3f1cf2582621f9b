//! Webhook deliveries, as the real server makes them.
//!
//! Each chat has a queue of its own (each user, for presses of buttons): the next update goes out only when the one
//! before it was taken with a 2xx. A failure is retried at once, then after 2, 4, 8 … seconds, up to a random cap
//! between one and two minutes; a `Retry-After` of up to an hour is honoured. An update whose next try would come after
//! its end is dropped.
//!
//! One task per webhook starts the deliveries. It ends when its webhook is replaced or deleted, and what it had under
//! way then counts for nothing: the updates stay queued for whoever comes next.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use bytes::Bytes;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::api::{apply_reply, method_in};
use crate::dice::Dice;
use crate::ledger::body_hash;
use crate::params::Params;
use crate::state::{Bot, Pending, Queue, Shared, Webhook};

/// The end of patience with one request.
const REQUEST_MS: u64 = 60_000;
/// The longest `Retry-After` that is honoured, in seconds.
const RETRY_AFTER_S: i64 = 3_600;
/// An endpoint that says "Gone" for this long loses its webhook.
const GONE_MS: i64 = 23 * 3_600_000;
/// The part of an answer's body that is read.
const ANSWER_BYTES: usize = 1 << 20;

/// Starts delivering for the webhook of this generation.
pub fn start(shared: &Arc<Shared>, token: &str, generation: u64) {
    let (shared, token) = (shared.clone(), token.to_owned());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = run(&shared, &token, generation) => {}
            () = shared.stop.cancelled() => {}
        }
    });
}

async fn run(shared: &Arc<Shared>, token: &str, generation: u64) {
    let wake = {
        let now = shared.clock.now();
        shared.lock().bot(token, now).wake.clone()
    };
    let mut under_way = JoinSet::new();
    loop {
        let woken = wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let Some(next) = take_due(shared, token, generation, under_way.len()) else { return };
        for (webhook, update) in next.due {
            let (shared, token) = (shared.clone(), token.to_owned());
            under_way.spawn(async move { deliver(&shared, &token, &webhook, update).await });
        }
        let sleep_until =
            next.at.map_or_else(|| Instant::now() + Duration::from_secs(3600), |at| shared.clock.instant(at));
        tokio::select! {
            () = &mut woken => {}
            Some(_) = under_way.join_next() => {}
            () = tokio::time::sleep_until(sleep_until) => {}
        }
    }
}

struct Next {
    due: Vec<(Webhook, Pending)>,
    /// When the next retry is due.
    at: Option<i64>,
}

/// Takes the first update of every queue whose time has come; `None` if the webhook is no more.
fn take_due(shared: &Shared, token: &str, generation: u64, under_way: usize) -> Option<Next> {
    let now = shared.clock.now();
    let mut state = shared.lock();
    let bot = state.bots.get_mut(token)?;
    let webhook = bot.webhook.clone().filter(|webhook| webhook.generation == generation)?;
    bot.expire(now);
    let mut room = usize::try_from(webhook.max_connections).unwrap_or(1).saturating_sub(under_way);
    let mut next = Next { due: Vec::new(), at: None };
    let mut seen = std::collections::HashSet::new();
    for update in &bot.pending {
        if !seen.insert(update.lane()) {
            continue;
        }
        let queue = bot.queues.entry(update.lane()).or_default();
        if queue.busy {
            continue;
        }
        if queue.next_at > now {
            next.at = Some(next.at.map_or(queue.next_at, |at: i64| at.min(queue.next_at)));
        } else if room > 0 {
            room -= 1;
            queue.busy = true;
            next.due.push((webhook.clone(), update.clone()));
        }
    }
    bot.queues.retain(|lane, queue| queue.busy || seen.contains(lane));
    Some(next)
}

/// Makes one attempt and books its outcome.
async fn deliver(shared: &Arc<Shared>, token: &str, webhook: &Webhook, update: Pending) {
    let outcome = post(shared, webhook, &update.payload).await;
    let now = shared.clock.now();
    let reply = shared.change(|state| {
        let bot = state.bots.get_mut(token)?;
        let current = bot.webhook.as_mut().filter(|current| current.generation == webhook.generation)?;
        let reply = match outcome {
            Ok(reply) => {
                current.gone_since = None;
                bot.queues.remove(&update.lane());
                if let Some(at) = bot.pending.iter().position(|pending| pending.update_id == update.update_id) {
                    bot.pending.remove(at);
                    bot.acknowledge(&update);
                }
                Some(reply)
            }
            Err(failure) => {
                fail(shared, bot, &update, failure, now);
                None
            }
        };
        bot.wake.notify_waiters();
        state.tell("state", token, None);
        reply
    });
    if let Some((method, params, hash)) = reply.flatten() {
        apply_reply(shared, token, &method, &params, hash);
    }
}

/// A call in a webhook's answer.
type Reply = Option<(String, Params, String)>;

struct Failure {
    message: String,
    retry_after_s: Option<i64>,
    gone: bool,
}

async fn post(shared: &Shared, webhook: &Webhook, payload: &Value) -> Result<Reply, Failure> {
    let failure = |message: &str| Failure { message: message.to_owned(), retry_after_s: None, gone: false };
    let mut request = shared.http.post(&webhook.url).timeout(Duration::from_millis(REQUEST_MS)).json(payload);
    if !webhook.secret_token.is_empty() {
        request = request.header("X-Telegram-Bot-Api-Secret-Token", &webhook.secret_token);
    }
    let mut response = request.send().await.map_err(|error| {
        failure(if error.is_timeout() {
            "Read timeout expired"
        } else if error.is_connect() {
            "Connection refused"
        } else {
            "Connection reset by peer"
        })
    })?;
    let status = response.status();
    if !status.is_success() {
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let reason = status.canonical_reason().unwrap_or("Unknown");
        return Err(Failure {
            message: format!("Wrong response from the webhook: {} {reason}", status.as_u16()),
            retry_after_s: retry_after.filter(|seconds| *seconds > 0),
            gone: status == StatusCode::GONE,
        });
    }
    let content_type =
        response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES {
            // Too long to be a call; the update was taken all the same.
            return Ok(None);
        }
    }
    Ok(read_reply(content_type.as_deref(), body.into()).await)
}

async fn read_reply(content_type: Option<&str>, body: Bytes) -> Reply {
    let hash = body_hash(&body);
    if let Ok(Value::Object(mut object)) = serde_json::from_slice(&body) {
        let method = method_in(&mut object)?;
        return Some((method, Params::from_object(object), hash));
    }
    let params = Params::read(None, content_type, body).await.ok()?;
    let method = params.text("method").into_owned();
    (!method.is_empty()).then_some((method, params, hash))
}

/// Books a failed attempt: when to try again, or that it is over.
fn fail(shared: &Shared, bot: &mut Bot, update: &Pending, failure: Failure, now: i64) {
    let queue = bot.queues.entry(update.lane()).or_default();
    queue.busy = false;
    queue.failures += 1;
    let wait_ms = wait_ms(queue, update, failure.retry_after_s);
    queue.next_at = now + shared.scaled(wait_ms);
    let next_at = queue.next_at;
    if let Some(pending) = bot.pending.iter_mut().find(|pending| pending.update_id == update.update_id) {
        pending.attempts += 1;
        pending.last_error = Some(failure.message.clone());
    }
    if next_at >= update.expires_at {
        bot.pending.retain(|pending| pending.update_id != update.update_id);
        bot.queues.remove(&update.lane());
    }
    let Some(webhook) = &mut bot.webhook else { return };
    (webhook.last_error_at, webhook.last_error) = (Some(now), Some(failure.message));
    if failure.gone {
        let since = *webhook.gone_since.get_or_insert(now);
        if now - since >= shared.scaled(GONE_MS) {
            bot.webhook = None;
            bot.queues.clear();
        }
    } else {
        webhook.gone_since = None;
    }
}

/// How long to wait after this failure: nothing after the first, then 2, 4, 8 … seconds up to the cap.
fn wait_ms(queue: &Queue, update: &Pending, retry_after_s: Option<i64>) -> i64 {
    if let Some(seconds) = retry_after_s {
        return seconds.min(RETRY_AFTER_S) * 1000;
    }
    if queue.failures <= 1 {
        return 0;
    }
    let mut dice = Dice::new(update.update_id.unsigned_abs().wrapping_add(u64::from(queue.failures)));
    let cap = 60_000 + i64::try_from(dice.roll() % 60_000).unwrap_or(0);
    (1000i64 << queue.failures.saturating_sub(1).min(20)).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_at_once_and_later_ones_double_up_to_a_cap() {
        let update = Pending {
            update_id: 1,
            kind: "message".to_owned(),
            chat_id: Some(1),
            queue: 1,
            payload: Value::Null,
            expires_at: 0,
            attempts: 0,
            last_error: None,
        };
        let wait = |failures: u32| wait_ms(&Queue { failures, ..Queue::default() }, &update, None);
        assert_eq!((1..=5).map(wait).collect::<Vec<_>>(), [0, 2_000, 4_000, 8_000, 16_000]);
        assert!((6..60).map(wait).all(|ms| (32_000..120_000).contains(&ms)));
        assert!((8..60).map(wait).all(|ms| ms >= 60_000));
        let asked = |seconds| wait_ms(&Queue { failures: 1, ..Queue::default() }, &update, Some(seconds));
        assert_eq!((asked(7), asked(9_999)), (7_000, 3_600_000));
    }
}
