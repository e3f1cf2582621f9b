//! What people do, and Telegram with their groups.

use anyhow::{Context, Result};
use salon_mock::{Block, Correct, Group, Migrate, Press, Say, TopicChange};
use salon_telegram::text::plain;
use salon_telegram::types::{InlineKeyboardButton, InlineKeyboardMarkup, SendMessage};
use salon_telegram::{Client, ClientConfig, Token};
use serde_json::{Value, json};

use super::{At, Expected, FIRST, GROUPS, Head, PATIENCE, Stage, capital, person};
use crate::pattern::Pattern;
use crate::script::Line;

impl Stage {
    pub(super) async fn says(&mut self, head: &str, text: &str) -> Result<()> {
        if let Some((who, label)) = head.split_once(" edits") {
            return self.edits(who, label.trim(), text);
        }
        let head = Head::read(head)?;
        let (user, lang) = person(&head.who)?;
        let bot = head.to.clone().unwrap_or_else(|| match self.here.0.as_str() {
            "" => FIRST.to_owned(),
            bot => bot.to_owned(),
        });
        let token = self.token(&bot);
        let (chat, topic) = match &head.group {
            Some(name) => self.place(name)?,
            None => (user, None),
        };
        let reply_to = match &head.reply {
            Some(label) => Some(self.labelled(label)?.2),
            None => None,
        };
        for n in 1..=head.times {
            let text = self.filled(&text.replace("{i}", &n.to_string()));
            let mut say = Say::new(&token, chat, user, &text);
            say.language_code = Some(lang.to_owned());
            say.first_name = Some(capital(&head.who));
            say.reply_to = reply_to;
            say.topic = topic.flatten();
            if head.has("as a channel") {
                say.sender_chat = Some(json!({"id": -100_500, "type": "channel", "title": "News"}));
            }
            say.is_bot = head.has("as a bot");
            let sent = self.mock.send(say)?;
            let at = (token.clone(), chat, sent.message_id);
            self.written.insert((head.who.clone(), chat), at.clone());
            if let Some(label) = &head.label {
                self.labels.insert(label.clone(), at);
            }
            if head.has("one by one") {
                self.all_quiet().await?;
            }
        }
        self.here = (bot, chat);
        Ok(())
    }

    pub(super) fn edits(&mut self, who: &str, label: &str, text: &str) -> Result<()> {
        let at = match label {
            "" => self.written.get(&(who.to_owned(), self.here.1)).cloned().context("there is nothing to edit")?,
            label => self.labelled(label)?,
        };
        let (token, chat_id, message_id) = at;
        self.mock.edit(Correct { token, chat_id, message_id, text: self.filled(text) })?;
        Ok(())
    }

    /// `alice presses [Stop]`, or `… [Stop] on story`.
    pub(super) async fn press(&mut self, who: &str, what: &str) -> Result<()> {
        let (user_id, _) = person(who)?;
        let (button, on) = what.split_once(']').context("a button stands in brackets")?;
        let at = match on.trim().strip_prefix("on ") {
            Some(label) => self.labelled(label)?,
            None => self.newest.clone().context("there is no message with buttons")?,
        };
        let callback_data = self.data_of(&at, button).await?;
        let (token, chat_id, message_id) = at;
        let bot = self.bots.iter().find(|id| self.token(id) == token).cloned().unwrap_or_default();
        self.here = (bot, chat_id);
        let pressed = self.mock.press(Press { token: token.clone(), chat_id, message_id, user_id, callback_data })?;
        let id = pressed["callback_query_id"].as_str().context("a press has an id")?;
        self.pressed = Some((token, id.to_owned()));
        Ok(())
    }

    /// What the button of a message carries, once it is there.
    pub(super) async fn data_of(&self, at: &At, button: &str) -> Result<String> {
        let (token, chat, number) = at;
        let look = async || {
            let shown = self.shown(token, *chat).into_iter().find(|shown| shown.number == *number)?;
            shown.rows.into_iter().flatten().find(|(label, _)| label == button).map(|(_, data)| data)
        };
        self.until(|| format!("there is no button [{button}]"), look).await
    }

    pub(super) fn block(&mut self, who: &str, bot: &str, blocked: bool) -> Result<()> {
        let (chat_id, _) = person(who)?;
        let bot = if bot == "the bot" { FIRST } else { bot };
        self.mock.block(Block { token: self.token(bot), chat_id, blocked, reason: None })?;
        Ok(())
    }

    /// The group of this name, wherever it is by now.
    pub(super) fn group(&self, name: &str) -> Result<i64> {
        let found = GROUPS.iter().find(|(known, _)| *known == name);
        let first = found.map(|(_, id)| *id).with_context(|| format!("no group is called {name}"))?;
        Ok(self.moved.get(name).copied().unwrap_or(first))
    }

    /// `birds`, or `birds/nests` for a topic of it; `birds/` is none of its topics.
    pub(super) fn place(&self, name: &str) -> Result<(i64, Option<Option<i64>>)> {
        let (group, topic) = name.split_once('/').map_or((name, None), |(group, topic)| (group, Some(topic)));
        let topic = match topic {
            None => None,
            Some("") => Some(None),
            Some(_) => Some(Some(*self.topics.get(name).with_context(|| format!("there is no topic {name}"))?)),
        };
        Ok((self.group(group)?, topic))
    }

    pub(super) fn set_group(&self, chat_id: i64, name: &str, kind: &str, migrated_to: Option<i64>) -> Result<()> {
        let (token, title, kind) = (self.token(FIRST), capital(name), Some(kind.to_owned()));
        self.mock.add_group(Group { token, chat_id, title, kind, users: Vec::new(), migrated_to })?;
        Ok(())
    }

    /// `birds` moves; `birds quietly` moves without a word of it, so that only refusals tell.
    pub(super) fn migrate(&mut self, name: &str) -> Result<()> {
        let (name, is_quiet) = name.strip_suffix(" quietly").map_or((name, false), |name| (name, true));
        let chat_id = self.group(name)?;
        // As Telegram numbers them.
        let to = chat_id - 1_000_000_000_000;
        if is_quiet {
            self.set_group(to, name, "supergroup", None)?;
            self.set_group(chat_id, name, "group", Some(to))?;
        } else {
            self.mock.migrate(Migrate { token: self.token(FIRST), chat_id, to })?;
        }
        self.moved.insert(name.to_owned(), to);
        Ok(())
    }

    pub(super) fn open_topic(&mut self, name: &str, topic: &str) -> Result<()> {
        let (token, chat_id) = (self.token(FIRST), self.group(name)?);
        self.set_group(chat_id, name, "supergroup", None)?;
        let change = TopicChange { token, chat_id, topic: None, name: Some(topic.to_owned()), state: None };
        let number = self.mock.set_topic(change)?;
        self.topics.insert(format!("{name}/{topic}"), number);
        Ok(())
    }

    pub(super) fn change_topic(&mut self, topic: &str, state: &str) -> Result<()> {
        let (chat_id, number) = self.place(topic)?;
        let topic = number.flatten();
        self.mock.set_topic(TopicChange {
            token: self.token(FIRST),
            chat_id,
            topic,
            name: None,
            state: Some(state.to_owned()),
        })?;
        Ok(())
    }

    pub(super) fn inject(&mut self, line: &Line) -> Result<()> {
        let update: Value = serde_json::from_str(&self.filled(&line.more.join("\n"))).context("an update is JSON")?;
        self.mock.inject(&self.token(FIRST), update)?;
        Ok(())
    }

    /// A message of an earlier life, with buttons whose data the story knows: `[Stop=stop_run]`, or `[Stop=story/Stop]`
    /// for what another message's button carries.
    pub(super) async fn once_said(&mut self, bot: &str, who: &str, text: &str, line: &Line) -> Result<()> {
        let (chat, _) = person(who)?;
        let token = self.token(bot);
        let mut rows = Vec::new();
        for row in &line.rows {
            let mut buttons = Vec::new();
            for button in row {
                let (label, data) = button.split_once('=').context("[label=data]")?;
                let data = match data.split_once('/') {
                    Some((message, button)) => self.data_of(&self.labelled(message)?, button).await?,
                    None => data.to_owned(),
                };
                buttons.push(InlineKeyboardButton::new(label, data));
            }
            rows.push(buttons);
        }
        let client = Client::new(ClientConfig {
            base_url: self.mock.base_url().to_owned(),
            token: Token::new(token.clone()),
            timeout: PATIENCE,
        })?;
        let mut message = SendMessage::new(chat, plain(text));
        message.reply_markup = Some(InlineKeyboardMarkup { inline_keyboard: rows });
        let sent = client.send_message(&message).await?;
        let at = (token, chat, sent.message_id);
        let pattern = Pattern::new(text);
        self.told.insert(at.clone(), Expected { pattern, rows: Vec::new(), left: false });
        self.newest = Some(at);
        Ok(())
    }

    // What the bots are seen to do.
}
