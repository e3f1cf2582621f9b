//! Arrival: an update becomes a job, in the transaction that makes it durable.
//!
//! Only as much of an update is read here as decides its key and its lane. Whatever else is wrong with it is found by
//! the job, which can say so to the chat; refusing it here would make Telegram repeat it for a day.

use salon_core::{BotId, JobId};
use salon_store::{Enqueued, Error, NewJob, Seat, Ticket, fail_point, failpoint};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error as ThisError;

use crate::Salon;

/// Nesting that no update needs and no parser should have to follow.
const DEEPEST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum BadUpdate {
    #[error("the body is not JSON")]
    NotJson,
    #[error("the JSON is nested too deeply")]
    TooDeep,
    #[error("the body is not a JSON object")]
    NotAnObject,
    #[error("update_id is required")]
    NoId,
}

/// Why a webhook call is not let in. Counted, and never told: from outside all of them look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    UnknownBot,
    WrongPath(BotId),
    WrongHeader(BotId),
}

/// An update that can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub update_id: i64,
    key: String,
    lane: String,
    json: String,
}

impl Arrival {
    /// Reads what decides key and lane.
    ///
    /// The key holds a hash of the body beside the id, because Telegram restarts ids after an idle week: the same id
    /// with another body is another update.
    pub fn read(bot: &BotId, body: &[u8]) -> Result<Arrival, BadUpdate> {
        if depth(body) > DEEPEST {
            return Err(BadUpdate::TooDeep);
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| BadUpdate::NotJson)?;
        let update = value.as_object().ok_or(BadUpdate::NotAnObject)?;
        let update_id = update.get("update_id").and_then(Value::as_i64).ok_or(BadUpdate::NoId)?;
        let chat = chat_of(&value);
        let lane = match (is_control(&value), chat) {
            (true, Some(chat)) => format!("control:{bot}:{chat}"),
            (false, Some(chat)) => format!("chat:{bot}:{chat}"),
            (_, None) => format!("control:{bot}:{update_id}"),
        };
        let json = String::from_utf8(body.to_vec()).map_err(|_| BadUpdate::NotJson)?;
        Ok(Arrival { update_id, key: format!("update:{bot}:{update_id}:{}", short_hash(body)), lane, json })
    }

    fn job(&self, bot: &BotId, salon: &Salon) -> NewJob {
        NewJob {
            id: JobId::new(salon.clock.id()),
            key: Some(self.key.clone()),
            queue: crate::QUEUE_CHAT,
            kind: crate::KIND_UPDATE,
            lane: self.lane.clone(),
            bot: Some(bot.clone()),
            payload: self.json.clone(),
            now: salon.clock.now(),
            room: None,
        }
    }
}

impl Salon {
    /// Stores one update. When this returns, it is durable; a duplicate is no error.
    pub async fn arrive(&self, bot: &BotId, arrival: &Arrival) -> Result<Enqueued, Error> {
        let job = arrival.job(bot, self);
        fail_point!("webhook.before_commit");
        if failpoint::sabotaged("two-tx") {
            return self.arrive_in_two(job).await;
        }
        let enqueued = self.store.write_urgently(job, |tx, job| Box::pin(tx.enqueue(job))).await?;
        fail_point!("webhook.after_commit");
        Ok(enqueued)
    }

    /// What must never be done, for the test that shows why: the key in one transaction and the work in another.
    async fn arrive_in_two(&self, job: NewJob) -> Result<Enqueued, Error> {
        let seen = NewJob { queue: "nobody", lane: format!("seen:{}", job.id), ..job.clone() };
        let enqueued = self.store.write((seen, job.now), |tx, (job, now)| {
            Box::pin(async move {
                let enqueued = tx.enqueue(job).await?;
                tx.stop_unclaimed(&job.id, *now).await?;
                Ok(enqueued)
            })
        });
        let enqueued = enqueued.await?;
        if enqueued == Enqueued::New {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let work = NewJob { id: JobId::new(self.clock.id()), key: None, ..job };
            self.store.write(work, |tx, job| Box::pin(tx.enqueue(job))).await?;
        }
        Ok(enqueued)
    }

    /// Stores a batch of updates and the offset behind it in one transaction, if the poller's lease still holds.
    pub async fn arrive_batch(&self, ticket: &Ticket, seat: Seat, arrivals: &[Arrival]) -> Result<(), Error> {
        let jobs: Vec<_> = arrivals.iter().map(|arrival| arrival.job(&seat.bot, self)).collect();
        let now = self.clock.now();
        let args = (ticket.clone(), now + self.settings.lease, seat, jobs, now);
        fail_point!("poll.before_commit");
        self.store
            .write(args, |tx, (ticket, until, seat, jobs, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    for job in jobs {
                        tx.enqueue(job).await?;
                    }
                    tx.set_offset(&held, seat, *now).await
                })
            })
            .await?;
        fail_point!("poll.after_commit");
        Ok(())
    }
}

/// The chat that the update belongs to, wherever it stands in it.
pub fn chat_of(update: &Value) -> Option<i64> {
    let places = ["message", "edited_message", "channel_post", "my_chat_member", "stopped_message_generation"];
    places
        .iter()
        .filter_map(|place| update.get(place))
        .chain(update.pointer("/callback_query/message"))
        .find_map(|holder| holder.pointer("/chat/id").and_then(Value::as_i64))
}

/// Whether the update must not wait behind what the chat asked before: buttons, and the words that stop or ask how it
/// stands.
fn is_control(update: &Value) -> bool {
    if update.get("callback_query").is_some() || update.get("stopped_message_generation").is_some() {
        return true;
    }
    let text = update.pointer("/message/text").and_then(Value::as_str).unwrap_or_default();
    let word = text.split_whitespace().next().unwrap_or_default();
    let command = word.split('@').next().unwrap_or_default();
    matches!(command, "/stop" | "/status")
}

/// The deepest nesting of arrays and objects, counted without recursion.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
                if deepest > DEEPEST {
                    return deepest;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn short_hash(body: &[u8]) -> String {
    Sha256::digest(body).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Arrival, BadUpdate> {
        Arrival::read(&BotId::new("parrot"), json.as_bytes())
    }

    fn lane(json: &str) -> String {
        read(json).expect("an update").lane
    }

    #[test]
    fn stop_and_buttons_travel_beside_the_chat() {
        let text = |text: &str| format!(r#"{{"update_id":1,"message":{{"chat":{{"id":7}},"text":"{text}"}}}}"#);
        assert_eq!(lane(&text("hello")), "chat:parrot:7");
        assert_eq!(lane(&text("/stop")), "control:parrot:7");
        assert_eq!(lane(&text("/stop@parrot_bot now")), "control:parrot:7");
        assert_eq!(lane(&text("/stopper")), "chat:parrot:7");
        assert_eq!(lane(r#"{"update_id":1,"callback_query":{"message":{"chat":{"id":-5}}}}"#), "control:parrot:-5");
        assert_eq!(lane(r#"{"update_id":9,"poll":{}}"#), "control:parrot:9");
    }

    #[test]
    fn the_same_id_with_another_body_is_another_update() {
        let one = read(r#"{"update_id":1,"message":{"text":"a"}}"#).expect("an update");
        let two = read(r#"{"update_id":1,"message":{"text":"b"}}"#).expect("an update");
        assert_ne!(one.key, two.key);
    }

    #[test]
    fn what_is_not_an_update_says_why() {
        assert_eq!(read("nonsense"), Err(BadUpdate::NotJson));
        assert_eq!(read("[1]"), Err(BadUpdate::NotAnObject));
        assert_eq!(read(r#"{"update_id":"1"}"#), Err(BadUpdate::NoId));
        assert_eq!(read(&"[".repeat(100_000)), Err(BadUpdate::TooDeep));
        assert!(read(&format!(r#"{{"update_id":1,"x":"{}"}}"#, "[".repeat(1000))).is_ok(), "text may hold brackets");
    }
}
