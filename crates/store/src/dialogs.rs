//! Dialogs. At most one of a chat is active; making one active is what the partial unique index guards.

use salon_core::{BotId, Channel, ChatId, Chosen, Dialog, DialogId, Time, UserId, View};

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

impl Tx {
    /// The chat's active dialog.
    pub async fn find_active_dialog(&mut self, bot: &BotId, chat: ChatId) -> Result<Option<Dialog>> {
        let row = sqlx::query(
            "SELECT id, channel, bot_id, chat_id, user_id, engine, view, thread, summary, window_from, turns, active, \
                    model, project, trusted_until, created_at, updated_at FROM dialogs WHERE bot_id = $1 AND chat_id = $2 AND active = 1",
        )
        .bind(bot.as_str())
        .bind(chat.0)
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(dialog).transpose()
    }

    pub async fn find_dialog(&mut self, id: &DialogId) -> Result<Option<Dialog>> {
        let row = sqlx::query(
            "SELECT id, channel, bot_id, chat_id, user_id, engine, view, thread, summary, window_from, turns, active, \
                    model, project, trusted_until, created_at, updated_at FROM dialogs WHERE id = $1 AND removed_at IS NULL",
        )
        .bind(id.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(dialog).transpose()
    }

    /// The newest dialog of a chat, active or not.
    pub async fn find_latest_dialog(&mut self, bot: &BotId, chat: ChatId) -> Result<Option<Dialog>> {
        let row = sqlx::query(
            "SELECT id, channel, bot_id, chat_id, user_id, engine, view, thread, summary, window_from, turns, active, \
                    model, project, trusted_until, created_at, updated_at FROM dialogs WHERE bot_id = $1 AND chat_id = $2 ORDER BY active DESC, updated_at DESC, id DESC LIMIT 1",
        )
        .bind(bot.as_str())
        .bind(chat.0)
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(dialog).transpose()
    }

    /// Adds an active dialog. `false` if the chat has one already: use that one.
    pub async fn add_dialog(&mut self, dialog: &Dialog) -> Result<bool> {
        let (channel, bot, chat) = match &dialog.channel {
            Channel::Telegram { bot, chat } => ("telegram", Some(bot.as_str()), Some(chat.0)),
            Channel::Api => ("api", None, None),
        };
        let added = sqlx::query(
            "INSERT INTO dialogs (id, channel, bot_id, chat_id, engine, thread, summary, window_from, turns, active, \
                                  created_at, updated_at, view, user_id, model, project) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING",
        )
        .bind(dialog.id.as_str())
        .bind(channel)
        .bind(bot)
        .bind(chat)
        .bind(&dialog.engine)
        .bind(dialog.thread.as_deref().map(storable))
        .bind(storable(&dialog.summary))
        .bind(dialog.window_from)
        .bind(dialog.turns)
        .bind(dialog.created_at.0)
        .bind(dialog.updated_at.0)
        .bind(dialog.view.map(View::as_str))
        .bind(dialog.owner.as_ref().map(UserId::as_str))
        .bind(dialog.chosen.model.as_deref().map(storable))
        .bind(dialog.chosen.project.as_deref().map(storable))
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Leaves a dialog; `forget` also drops its thread and summary.
    pub async fn close_dialog(&mut self, id: &DialogId, forget: bool, now: Time) -> Result<()> {
        sqlx::query(
            "UPDATE dialogs SET active = 0, thread = NULL, updated_at = $2, \
                                summary = CASE WHEN $3 = 1 THEN '' ELSE summary END WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(now.0)
        .bind(i64::from(forget))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Gives the dialog another engine: the summary stays, the thread starts anew.
    pub async fn switch_engine(&mut self, id: &DialogId, engine: &str, now: Time) -> Result<()> {
        sqlx::query(
            "UPDATE dialogs SET engine = $2, thread = NULL, window_from = turns + 1, updated_at = $3, model = NULL, \
                                trusted_until = NULL WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(engine)
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Chooses what the bot shows in this dialog.
    pub async fn set_view(&mut self, id: &DialogId, view: View) -> Result<()> {
        sqlx::query("UPDATE dialogs SET view = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(view.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Writes down what people chose for the dialog's agent. With `renew` the thread starts anew.
    pub async fn choose(&mut self, id: &DialogId, chosen: &Chosen, renew: bool, now: Time) -> Result<()> {
        sqlx::query(
            "UPDATE dialogs SET model = $2, project = $3, trusted_until = $4, updated_at = $5, \
                                thread = CASE WHEN $6 = 1 THEN NULL ELSE thread END WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(chosen.model.as_deref().map(storable))
        .bind(chosen.project.as_deref().map(storable))
        .bind(chosen.trusted_until.map(|until| until.0))
        .bind(now.0)
        .bind(i64::from(renew))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Goes on with another thread of the same engine.
    pub async fn set_thread(&mut self, id: &DialogId, thread: Option<&str>, now: Time) -> Result<()> {
        sqlx::query("UPDATE dialogs SET thread = $2, updated_at = $3 WHERE id = $1")
            .bind(id.as_str())
            .bind(thread.map(storable))
            .bind(now.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Stores what a turn taught. A thread is kept only for the engine that named it.
    pub async fn remember(
        &mut self,
        id: &DialogId,
        summary: &str,
        engine: &str,
        thread: Option<&str>,
        now: Time,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE dialogs SET summary = $2, updated_at = $5, \
                                thread = CASE WHEN engine = $3 AND active = 1 THEN COALESCE($4, thread) ELSE thread END \
             WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(storable(summary))
        .bind(engine)
        .bind(thread.map(storable))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Makes the dialogs of one person another one's.
    pub async fn hand_dialogs(&mut self, from: &UserId, to: &UserId) -> Result<()> {
        sqlx::query("UPDATE dialogs SET user_id = $2 WHERE user_id = $1")
            .bind(from.as_str())
            .bind(to.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

pub(crate) fn dialog(row: &sqlx::any::AnyRow) -> Result<Dialog> {
    let channel = match row.text("channel")?.as_str() {
        "telegram" => Channel::Telegram { bot: BotId::new(row.text("bot_id")?), chat: ChatId(row.int("chat_id")?) },
        "api" => Channel::Api,
        other => return Err(anyhow::anyhow!("a dialog has the unknown channel {other}").into()),
    };
    Ok(Dialog {
        id: DialogId::new(row.text("id")?),
        channel,
        owner: row.maybe_text("user_id")?.map(UserId::new),
        engine: row.text("engine")?,
        view: row.maybe_text("view")?.as_deref().and_then(View::parse),
        thread: row.maybe_text("thread")?,
        summary: row.text("summary")?,
        window_from: row.int("window_from")?,
        turns: row.int("turns")?,
        active: row.flag("active")?,
        chosen: Chosen {
            model: row.maybe_text("model")?,
            project: row.maybe_text("project")?,
            trusted_until: row.maybe_int("trusted_until")?.map(Time),
        },
        created_at: Time(row.int("created_at")?),
        updated_at: Time(row.int("updated_at")?),
    })
}
