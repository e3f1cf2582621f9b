//! Replies: commands of a team's own, which bots answer with a text. Commands that a bot has anyway come first.

use salon_core::{BotId, Time};
use salon_store::{Store, StoredReply};
use thiserror::Error;

/// Characters of a command's name, without the slash, as Telegram allows them.
const LONGEST_NAME: usize = 32;
/// Characters of a text: what fits into one message.
const LONGEST_TEXT: usize = 4096;
/// Commands that one bot may have of its own, and as many for every bot: Telegram lists a hundred altogether.
const MOST: usize = 30;

/// Why a reply is not taken.
#[derive(Debug, Error)]
pub enum BadReply {
    #[error("a command's name has 1 to {LONGEST_NAME} of a-z, 0-9 and _")]
    Name,
    #[error("a text has 1 to {LONGEST_TEXT} characters")]
    Text,
    #[error("there are {MOST} commands already")]
    TooMany,
    #[error(transparent)]
    Store(#[from] salon_store::Error),
}

impl BadReply {
    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            BadReply::Name => "bad_name",
            BadReply::Text => "bad_text",
            BadReply::TooMany => "too_many",
            BadReply::Store(_) => "unavailable",
        }
    }
}

/// All of them, by bot and name.
pub async fn list(store: &Store) -> salon_store::Result<Vec<StoredReply>> {
    store.read().await?.list_replies().await
}

/// Says what a bot, or every bot, answers to a command; whatever it answered before. It counts at once.
pub async fn put(
    store: &Store,
    bot: Option<BotId>,
    name: &str,
    text: &str,
    now: Time,
) -> Result<StoredReply, BadReply> {
    let reply = StoredReply { bot, name: spelled(name)?, text: said(text)?, updated_at: now };
    store
        .write(reply.clone(), |tx, reply| {
            Box::pin(async move {
                let known = tx.list_replies().await?;
                let mut siblings = known.iter().filter(|known| known.bot == reply.bot);
                if siblings.clone().count() >= MOST && siblings.all(|known| known.name != reply.name) {
                    return Ok(Err(BadReply::TooMany));
                }
                tx.put_reply(reply).await.map(Ok)
            })
        })
        .await??;
    Ok(reply)
}

/// `false` if there is no such command.
pub async fn remove(store: &Store, bot: Option<BotId>, name: &str) -> salon_store::Result<bool> {
    // What cannot be a name is none that is there.
    let Ok(name) = spelled(name) else { return Ok(false) };
    store.write((bot, name), |tx, (bot, name)| Box::pin(tx.remove_reply(bot.as_ref(), name))).await
}

/// A name as people write it, such as `/Rules`.
fn spelled(name: &str) -> Result<String, BadReply> {
    let name = name.trim();
    let name = name.strip_prefix('/').unwrap_or(name).to_ascii_lowercase();
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(known);
    if is_name { Ok(name) } else { Err(BadReply::Name) }
}

fn said(text: &str) -> Result<String, BadReply> {
    let text = text.trim();
    let fits = (1..=LONGEST_TEXT).contains(&text.chars().count());
    if fits { Ok(text.to_owned()) } else { Err(BadReply::Text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        assert_eq!(spelled(" /Rules ").ok().as_deref(), Some("rules"));
        assert_eq!(spelled("a_1").ok().as_deref(), Some("a_1"));
        for bad in ["", "/", "two words", "прав", "a-b", &"x".repeat(33)] {
            assert!(matches!(spelled(bad), Err(BadReply::Name)), "{bad}");
        }
    }

    #[test]
    fn a_text_fits_into_one_message() {
        assert!(said("  ").is_err() && said(&"x".repeat(4097)).is_err());
        assert_eq!(said(" Be kind.\n").ok().as_deref(), Some("Be kind."));
    }
}
