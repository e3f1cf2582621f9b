//! Sessions: dialogs as their owner finds them, whether they began in a program or in the owner's own chat.
//!
//! A session that was deleted or has expired is gone for everybody at once. Its rows go when nobody works on them any
//! more ([`Tx::purge_dialogs`]): whoever still writes an answer must find its turn.

use salon_core::{BotId, ChatId, Dialog, DialogId, Time, TurnId, UserId};

use crate::Tx;
use crate::dialogs::dialog;
use crate::error::Result;
use crate::row::{Column, storable};

/// A dialog, and what its program keeps with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub dialog: Dialog,
    /// A JSON object.
    pub metadata: String,
    pub seen_at: Time,
}

/// Whose sessions are meant: those of the user, and the dialogs of the private chats of the same person: of the one who is
/// known by this Telegram id, and of those who were linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    pub user: UserId,
    pub telegram: Option<i64>,
}

/// Sessions that one purge takes away.
const PURGED_AT_ONCE: i64 = 64;

impl Tx {
    /// Opens a session. `false` if there is a dialog of this id.
    pub async fn add_session(&mut self, session: &Session) -> Result<bool> {
        if !self.add_dialog(&session.dialog).await? {
            return Ok(false);
        }
        sqlx::query("UPDATE dialogs SET metadata = $2, seen_at = $3 WHERE id = $1")
            .bind(session.dialog.id.as_str())
            .bind(storable(&session.metadata))
            .bind(session.seen_at.0)
            .execute(self.connection())
            .await?;
        Ok(true)
    }

    /// The session, if it is the keeper's. Nobody learns whether there is one of somebody else.
    pub async fn find_session(&mut self, keeper: &Keeper, id: &DialogId) -> Result<Option<Session>> {
        let row = sqlx::query(
            "SELECT id, channel, bot_id, chat_id, user_id, engine, view, thread, summary, window_from, turns, active, \
                    model, project, trusted_until, created_at, updated_at, metadata, seen_at FROM dialogs \
             WHERE id = $1 AND removed_at IS NULL \
               AND (user_id = $2 OR (user_id IS NULL AND (chat_id = CAST($3 AS BIGINT) \
                    OR chat_id IN (SELECT telegram_id FROM links WHERE user_id = $2))))",
        )
        .bind(id.as_str())
        .bind(keeper.user.as_str())
        .bind(keeper.telegram)
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(session).transpose()
    }

    /// The keeper's sessions in which something was said or done last before `before`, newest first.
    pub async fn list_sessions(&mut self, keeper: &Keeper, before: (Time, &str), limit: i64) -> Result<Vec<Session>> {
        let rows = sqlx::query(
            "SELECT id, channel, bot_id, chat_id, user_id, engine, view, thread, summary, window_from, turns, active, \
                    model, project, trusted_until, created_at, updated_at, metadata, seen_at FROM dialogs \
             WHERE removed_at IS NULL AND (user_id = $1 OR (user_id IS NULL AND (chat_id = CAST($2 AS BIGINT) \
                    OR chat_id IN (SELECT telegram_id FROM links WHERE user_id = $1)))) \
               AND (updated_at < $3 OR (updated_at = $3 AND id < $4)) \
             ORDER BY updated_at DESC, id DESC LIMIT CAST($5 AS BIGINT)",
        )
        .bind(keeper.user.as_str())
        .bind(keeper.telegram)
        .bind(before.0.0)
        .bind(before.1)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(session).collect()
    }

    /// Notes that somebody looked at the session.
    pub async fn see_session(&mut self, id: &DialogId, now: Time) -> Result<()> {
        sqlx::query("UPDATE dialogs SET seen_at = $2 WHERE id = $1 AND (seen_at IS NULL OR seen_at < $2)")
            .bind(id.as_str())
            .bind(now.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The turn that a request made in this dialog, and the digest of the request.
    pub async fn find_turn_of_request(&mut self, dialog: &DialogId, key: &str) -> Result<Option<(TurnId, String)>> {
        let row = sqlx::query("SELECT id, request_hash FROM turns WHERE dialog_id = $1 AND request_key = $2")
            .bind(dialog.as_str())
            .bind(key)
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| Ok((TurnId::new(row.text("id")?), row.maybe_text("request_hash")?.unwrap_or_default())))
            .transpose()
    }

    /// The id of the dialog's newest turn, whatever became of it.
    pub async fn find_latest_turn(&mut self, dialog: &DialogId) -> Result<Option<TurnId>> {
        let row = sqlx::query("SELECT id FROM turns WHERE dialog_id = $1 ORDER BY number DESC LIMIT 1")
            .bind(dialog.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| Ok(TurnId::new(row.text("id")?))).transpose()
    }

    /// Moves a dialog into a chat, where it is the active one. The one before has to be closed.
    pub async fn move_dialog(&mut self, id: &DialogId, bot: &BotId, chat: ChatId, now: Time) -> Result<()> {
        sqlx::query(
            "UPDATE dialogs SET channel = 'telegram', bot_id = $2, chat_id = $3, active = 1, updated_at = $4 \
             WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(bot.as_str())
        .bind(chat.0)
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Takes a dialog away from everybody's eyes.
    pub async fn remove_dialog(&mut self, id: &DialogId, now: Time) -> Result<()> {
        sqlx::query("UPDATE dialogs SET removed_at = $2, active = 0 WHERE id = $1 AND removed_at IS NULL")
            .bind(id.as_str())
            .bind(now.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Removes sessions that nobody has looked at, and in which nothing was said, since `before`. At most some at once.
    pub async fn expire_sessions(&mut self, before: Time, now: Time) -> Result<u64> {
        let expired = sqlx::query(
            "UPDATE dialogs SET removed_at = $2, active = 0 WHERE id IN ( \
               SELECT id FROM dialogs WHERE channel = 'api' AND kept = 0 AND seen_at < $1 AND updated_at < $1 \
                 AND removed_at IS NULL ORDER BY seen_at LIMIT CAST($3 AS BIGINT))",
        )
        .bind(before.0)
        .bind(now.0)
        .bind(PURGED_AT_ONCE)
        .execute(self.connection())
        .await?;
        Ok(expired.rows_affected())
    }

    /// Deletes removed dialogs in which nobody is at work, with everything that was said in them. At most some at once.
    pub async fn purge_dialogs(&mut self) -> Result<u64> {
        let rows = sqlx::query(
            "SELECT d.id AS id FROM dialogs d WHERE d.removed_at IS NOT NULL AND NOT EXISTS ( \
               SELECT 1 FROM jobs j WHERE j.lane = 'dialog:' || d.id AND j.state IN ('queued', 'running')) \
             ORDER BY d.removed_at LIMIT CAST($1 AS BIGINT)",
        )
        .bind(PURGED_AT_ONCE)
        .fetch_all(self.connection())
        .await?;
        for row in &rows {
            self.purge_dialog(&DialogId::new(row.text("id")?)).await?;
        }
        Ok(rows.len() as u64)
    }

    async fn purge_dialog(&mut self, id: &DialogId) -> Result<()> {
        for statement in [
            "DELETE FROM events WHERE turn_id IN (SELECT id FROM turns WHERE dialog_id = $1)",
            "DELETE FROM outbox WHERE owner IN (SELECT id FROM turns WHERE dialog_id = $1)",
            "DELETE FROM tokens WHERE turn_id IN (SELECT id FROM turns WHERE dialog_id = $1)",
            "DELETE FROM asks WHERE turn_id IN (SELECT id FROM turns WHERE dialog_id = $1)",
            "DELETE FROM files WHERE turn_id IN (SELECT id FROM turns WHERE dialog_id = $1)",
            "DELETE FROM turns WHERE dialog_id = $1",
            "DELETE FROM threads WHERE dialog_id = $1",
            "DELETE FROM lanes WHERE lane = 'dialog:' || CAST($1 AS TEXT)",
            "DELETE FROM dialogs WHERE id = $1",
        ] {
            sqlx::query(statement).bind(id.as_str()).execute(self.connection()).await?;
        }
        Ok(())
    }
}

fn session(row: &sqlx::any::AnyRow) -> Result<Session> {
    let dialog = dialog(row)?;
    let seen_at = row.maybe_int("seen_at")?.map_or(dialog.updated_at, Time);
    Ok(Session { metadata: row.maybe_text("metadata")?.unwrap_or_else(|| "{}".to_owned()), seen_at, dialog })
}
