//! Turns: one row each, numbered in the transaction that inserts them.

use salon_core::{BotId, ChatId, DialogId, Time, Turn, TurnId, TurnState, Usage};

use crate::Tx;
use crate::error::Result;
use crate::jobs::Held;
use crate::row::{COUNTED, Column, storable};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTurn {
    pub id: TurnId,
    pub dialog: DialogId,
    pub user: Option<i64>,
    pub question: String,
    pub engine: String,
    pub source_message: Option<i64>,
    pub request: Option<Request>,
    pub now: Time,
}

/// What a program calls the request that makes a turn. In one dialog it makes one turn, however often it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub key: String,
    /// Of everything that makes it this request and no other.
    pub hash: String,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    pub turn: TurnId,
    pub state: TurnState,
    pub answer: String,
    pub usage: Usage,
    pub error: Option<String>,
    pub now: Time,
}

impl Tx {
    /// Adds a queued turn and answers its number. The dialog's row is locked meanwhile, so numbers have no gaps.
    pub async fn add_turn(&mut self, turn: &NewTurn) -> Result<i64> {
        let row = sqlx::query("UPDATE dialogs SET turns = turns + 1, updated_at = $2 WHERE id = $1 RETURNING turns")
            .bind(turn.dialog.as_str())
            .bind(turn.now.0)
            .fetch_one(self.connection())
            .await?;
        let number = row.int("turns")?;
        sqlx::query(
            "INSERT INTO turns (id, dialog_id, number, user_id, question, asked_at, state, engine, tokens_in, \
                                tokens_out, usage_estimated, usage_suspect, source_message_id, request_key, \
                                request_hash) \
             VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, 0, 0, 0, 0, $8, $9, $10)",
        )
        .bind(turn.id.as_str())
        .bind(turn.dialog.as_str())
        .bind(number)
        .bind(turn.user)
        .bind(storable(&turn.question))
        .bind(turn.now.0)
        .bind(&turn.engine)
        .bind(turn.source_message)
        .bind(turn.request.as_ref().map(|request| request.key.as_str()))
        .bind(turn.request.as_ref().map(|request| request.hash.as_str()))
        .execute(self.connection())
        .await?;
        Ok(number)
    }

    pub async fn find_turn(&mut self, id: &TurnId) -> Result<Option<Turn>> {
        let row = sqlx::query(
            "SELECT id, dialog_id, number, user_id, question, asked_at, answer, answered_at, state, engine, model, \
                    tokens_in, tokens_out, usage_estimated, usage_suspect, error FROM turns WHERE id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(turn).transpose()
    }

    /// The last `limit` turns before `number`, oldest first.
    pub async fn list_turns_before(&mut self, dialog: &DialogId, number: i64, limit: i64) -> Result<Vec<Turn>> {
        let rows = sqlx::query(
            "SELECT id, dialog_id, number, user_id, question, asked_at, answer, answered_at, state, engine, model, \
                    tokens_in, tokens_out, usage_estimated, usage_suspect, error FROM turns \
             WHERE dialog_id = $1 AND number < $2 ORDER BY number DESC LIMIT CAST($3 AS BIGINT)",
        )
        .bind(dialog.as_str())
        .bind(number)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().rev().map(turn).collect()
    }

    /// The newest turn that was answered.
    pub async fn find_latest_answered(&mut self, dialog: &DialogId) -> Result<Option<Turn>> {
        let row = sqlx::query(
            "SELECT id, dialog_id, number, user_id, question, asked_at, answer, answered_at, state, engine, model, \
                    tokens_in, tokens_out, usage_estimated, usage_suspect, error FROM turns \
             WHERE dialog_id = $1 AND state = 'done' ORDER BY number DESC LIMIT 1",
        )
        .bind(dialog.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(turn).transpose()
    }

    /// Marks the turn as running. Taken over from a lost run, it already is.
    pub async fn start_turn(&mut self, _held: &Held, id: &TurnId) -> Result<()> {
        sqlx::query("UPDATE turns SET state = 'running' WHERE id = $1 AND state IN ('queued', 'running')")
            .bind(id.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Ends the turn. A turn that has ended stays as it is.
    pub async fn finish_turn(&mut self, _held: &Held, finished: &Finished) -> Result<()> {
        sqlx::query(
            "UPDATE turns SET state = $2, answer = $3, answered_at = $4, model = $5, tokens_in = $6, tokens_out = $7, \
                              usage_estimated = $8, usage_suspect = $9, error = $10 \
             WHERE id = $1 AND state IN ('queued', 'running')",
        )
        .bind(finished.turn.as_str())
        .bind(finished.state.as_str())
        .bind(storable(&finished.answer))
        .bind(finished.now.0)
        .bind(finished.usage.model.as_deref().map(storable))
        .bind(finished.usage.tokens_in)
        .bind(finished.usage.tokens_out)
        .bind(i64::from(finished.usage.estimated))
        .bind(i64::from(finished.usage.suspect))
        .bind(finished.error.as_deref().map(storable))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Corrects the question of a turn whose message was edited. Nothing runs again. `false` if there is no such turn.
    pub async fn amend_question(&mut self, bot: &BotId, chat: ChatId, message: i64, text: &str) -> Result<bool> {
        let amended = sqlx::query(
            "UPDATE turns SET question = $4 WHERE source_message_id = $3 \
               AND dialog_id IN (SELECT id FROM dialogs WHERE bot_id = $1 AND chat_id = $2)",
        )
        .bind(bot.as_str())
        .bind(chat.0)
        .bind(message)
        .bind(storable(text))
        .execute(self.connection())
        .await?;
        Ok(amended.rows_affected() > 0)
    }

    /// Turns by bot and state, for the metrics: all that are open, and of those that have ended the newest
    /// [`COUNTED`].
    pub async fn count_turns(&mut self) -> Result<Vec<(String, String, i64)>> {
        let rows = sqlx::query(
            "SELECT COALESCE(d.bot_id, '') AS bot, t.state AS state, COUNT(*) AS count FROM ( \
               SELECT dialog_id, state FROM turns WHERE state IN ('queued', 'running') \
               UNION ALL \
               SELECT dialog_id, state FROM (SELECT dialog_id, state FROM turns ORDER BY id DESC \
                                             LIMIT CAST($1 AS BIGINT)) newest \
               WHERE state NOT IN ('queued', 'running')) t \
             JOIN dialogs d ON d.id = t.dialog_id GROUP BY d.bot_id, t.state ORDER BY d.bot_id, t.state",
        )
        .bind(COUNTED)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok((row.text("bot")?, row.text("state")?, row.int("count")?))).collect()
    }
}

fn turn(row: &sqlx::any::AnyRow) -> Result<Turn> {
    let state = row.text("state")?;
    Ok(Turn {
        id: TurnId::new(row.text("id")?),
        dialog: DialogId::new(row.text("dialog_id")?),
        number: row.int("number")?,
        user: row.maybe_int("user_id")?,
        question: row.text("question")?,
        asked_at: Time(row.int("asked_at")?),
        answer: row.maybe_text("answer")?,
        answered_at: row.maybe_int("answered_at")?.map(Time),
        state: TurnState::parse(&state).ok_or_else(|| anyhow::anyhow!("a turn is in the unknown state {state}"))?,
        engine: row.text("engine")?,
        usage: Usage {
            model: row.maybe_text("model")?,
            tokens_in: row.int("tokens_in")?,
            tokens_out: row.int("tokens_out")?,
            estimated: row.flag("usage_estimated")?,
            suspect: row.flag("usage_suspect")?,
        },
        model: row.maybe_text("model")?,
        error: row.maybe_text("error")?,
    })
}
