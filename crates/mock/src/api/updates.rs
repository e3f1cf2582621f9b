//! `getUpdates`: the long poll.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::ApiError;
use crate::params::Params;
use crate::state::{Bot, Pending, Shared};

/// The longest wait, in seconds.
const WAIT_S: i64 = 50;
/// Within this time the same offset means that the bot did not get on; it is slowed down.
const THROTTLE_MS: i64 = 3_000;
/// Within this time the same offset gets one update only.
const HASTE_MS: i64 = 500;

/// Every kind of update a bot can ask for.
const KINDS: [&str; 25] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "message_reaction",
    "message_reaction_count",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "managed_bot",
    "stopped_message_generation",
];

/// Waits for updates. Nothing is forgotten until a later call passes it with its offset.
pub async fn get_updates(shared: &Arc<Shared>, token: &str, params: &Params) -> Result<Value, ApiError> {
    let offset = params.int("offset").unwrap_or(0);
    let limit = usize::try_from(params.int("limit").unwrap_or(100).clamp(1, 100)).unwrap_or(100);
    let seconds = params.int("timeout").unwrap_or(0).clamp(0, WAIT_S);
    let mut wait = Duration::from_secs(seconds.unsigned_abs());
    let mut limit = limit;
    let begun = shared.change(|state| {
        let now = shared.clock.now();
        if offset < 0 {
            let detail = format!("offset {offset} drops all but the newest updates");
            state.violate(now, token, "negative_offset", detail);
        }
        let bot = state.bot(token, now);
        if bot.webhook.is_some() && !shared.config.allow_get_updates_with_webhook {
            return Err(conflict_wait(shared, bot, now));
        }
        allow_updates(bot, params);
        if offset == bot.poll.offset && now < bot.poll.at + shared.scaled(THROTTLE_MS) {
            wait = wait.max(Duration::from_millis(shared.scaled(THROTTLE_MS).unsigned_abs()));
            if now < bot.poll.at + shared.scaled(HASTE_MS) {
                limit = 1;
            }
        }
        (bot.poll.offset, bot.poll.at) = (offset, now);
        // An older poll that still waits finds another number and ends with a conflict.
        bot.poll.number += 1;
        bot.wake.notify_waiters();
        let passed = pass(bot, offset);
        let (number, wake) = (bot.poll.number, bot.wake.clone());
        if passed {
            state.tell("state", token, None);
        }
        Ok((number, wake))
    });
    let (number, wake) = match begun {
        Ok(begun) => begun,
        Err(delay) => {
            tokio::time::sleep(delay).await;
            return Err(ApiError::new(
                409,
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the \
                 webhook first",
            ));
        }
    };
    let deadline = Instant::now() + wait;
    loop {
        let woken = wake.notified();
        tokio::pin!(woken);
        // From here on no wake-up is missed, although the queue is looked at only afterwards.
        woken.as_mut().enable();
        match look(shared, token, number, limit) {
            Look::Found(updates) => return Ok(Value::Array(updates)),
            Look::Ended(reason, delay) => {
                tokio::time::sleep(delay).await;
                return Err(ApiError::new(409, reason));
            }
            Look::Nothing if Instant::now() >= deadline => return Ok(json!([])),
            Look::Nothing => {}
        }
        tokio::select! {
            () = &mut woken => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = shared.stop.cancelled() => return Ok(json!([])),
        }
    }
}

enum Look {
    Found(Vec<Value>),
    Nothing,
    Ended(&'static str, Duration),
}

fn look(shared: &Shared, token: &str, number: u64, limit: usize) -> Look {
    let now = shared.clock.now();
    let mut state = shared.lock();
    let bot = state.bot(token, now);
    if bot.poll.ended_by_webhook >= number {
        return Look::Ended("Conflict: terminated by setWebhook request", conflict_wait(shared, bot, now));
    }
    if bot.poll.number != number {
        let reason =
            "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
        return Look::Ended(reason, conflict_wait(shared, bot, now));
    }
    bot.expire(now);
    if bot.pending.is_empty() {
        return Look::Nothing;
    }
    Look::Found(bot.pending.iter().take(limit).map(|update| update.payload.clone()).collect())
}

/// Conflicts in quick succession are answered late, so that two pollers do not spin.
fn conflict_wait(shared: &Shared, bot: &mut Bot, now: i64) -> Duration {
    let pause = shared.scaled(THROTTLE_MS);
    if now >= bot.poll.next_conflict_at {
        bot.poll.next_conflict_at = now + pause;
        return Duration::ZERO;
    }
    Duration::from_millis(pause.unsigned_abs())
}

/// Forgets what lies before the offset: the bot has it. A negative offset keeps only the newest. Says whether anything
/// went.
fn pass(bot: &mut Bot, offset: i64) -> bool {
    if offset < 0 {
        let keep = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
        let drops = bot.pending.len().saturating_sub(keep);
        bot.pending.drain(..drops);
        return drops > 0;
    }
    if !bot.pending.iter().any(|update| update.update_id < offset) {
        return false;
    }
    let (passed, kept): (Vec<Pending>, Vec<Pending>) =
        std::mem::take(&mut bot.pending).into_iter().partition(|update| update.update_id < offset);
    bot.pending = kept.into();
    for update in &passed {
        bot.acknowledge(update);
    }
    true
}

/// Applies `allowed_updates`: absent keeps the setting, nothing known is the default.
pub fn allow_updates(bot: &mut Bot, params: &Params) {
    if let Ok(Some(Value::Array(kinds))) = params.json("allowed_updates") {
        let known = kinds.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase);
        bot.allowed_updates = known.filter(|kind| KINDS.contains(&kind.as_str())).collect();
    }
}
