//! Calls that begin and end in one commit, laid out in memory and written together: SQLite's way, where a statement for
//! each would cost more than what it writes.

use salon_core::{Amounts, CallId, KeyId, Time, Tokens, TurnId};

use super::{Attempt, Payer, Statement};
use crate::dialect::Dialect;
use crate::error::Result;
use crate::many::{LARGEST, many};
use crate::row::{Column, storable};
use crate::{Store, Tx};

/// A call to which no limit applies, that was asked once, and whose answer is whole.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    pub id: &'a CallId,
    pub payer: &'a Payer,
    pub door: &'a str,
    pub model: &'a str,
    /// The most that it might have taken.
    pub most: Amounts,
    pub at: Time,
    pub deadline: Time,
    pub nonce: i64,
    /// Its only attempt, made with no secret of its own.
    pub attempt: &'a Attempt,
    pub tokens: Tokens,
    /// What it took.
    pub amounts: Amounts,
    pub estimated: bool,
    pub suspect: bool,
    pub cache_hit: bool,
    pub settled_at: Time,
}

// What is laid out, and whether it may be written: the limits as they are, and how many of the calls are known.
many!(
    lay_out,
    35,
    "DELETE FROM whole_calls; \
     INSERT INTO whole_calls (id, org_id, user_id, key_id, chat, turn_id, run, door, model, most_micros, most_tokens, \
                              most_requests, at, deadline, ended_at, nonce, n, upstream, upstream_model, whose, input, \
                              output, reasoning, cache_read, cache_write_5m, cache_write_1h, audio_in, audio_out, \
                              tokens, micros, requests, estimated, suspect, cache_hit, settled_at) VALUES ",
    "; SELECT (SELECT revision FROM revisions WHERE name = 'limits') AS revision, \
              (SELECT COUNT(*) FROM whole_calls WHERE EXISTS (SELECT 1 FROM calls WHERE calls.id = whole_calls.id)) \
                  AS known"
);

/// What is not bound is no row, so that there need not be a text for every number of rows.
const WRITE: &str = "INSERT INTO calls (id, state, org_id, user_id, key_id, chat, turn_id, run, door, model, micros, tokens, requests, at, \
                        deadline, ended_at, nonce) \
         SELECT id, 'settled', org_id, user_id, key_id, chat, turn_id, run, door, model, most_micros, most_tokens, \
                most_requests, at, deadline, ended_at, nonce FROM whole_calls WHERE id IS NOT NULL; \
     INSERT INTO attempts (call_id, n, state, upstream, model, whose, started_at, ended_at) \
         SELECT id, n, 'ok', upstream, upstream_model, whose, at, ended_at FROM whole_calls WHERE id IS NOT NULL; \
     INSERT INTO entries (key, kind, call_id, org_id, user_id, key_id, chat, turn_id, run, door, model, upstream, \
                          upstream_model, whose, input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, \
                          audio_in, audio_out, tokens, micros, requests, estimated, suspect, cache_hit, at, settled_at) \
         SELECT 'settle:' || id, 'settle', id, org_id, user_id, key_id, chat, turn_id, run, door, model, upstream, \
                upstream_model, whose, input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, audio_in, \
                audio_out, tokens, micros, requests, estimated, suspect, cache_hit, at, settled_at \
         FROM whole_calls WHERE id IS NOT NULL";

impl Store {
    /// How many calls [`Tx::add_wholes`] takes at once; none where the database has no such way.
    pub fn most_wholes(&self) -> usize {
        match self.dialect() {
            Dialect::Sqlite => LARGEST,
            Dialect::Postgres => 0,
        }
    }
}

impl Tx {
    /// Adds calls with their attempts and entries, all or none.
    ///
    /// `false`, and nothing is written, if the limits are not of this revision any more or one of the calls is known: then
    /// somebody has to look closer.
    pub async fn add_wholes(&mut self, wholes: &[Whole<'_>], revision: i64, now: Time) -> Result<bool> {
        if wholes.is_empty() {
            return Ok(true);
        }
        let statements = sqlx::query(lay_out(self.dialect, wholes.len().next_power_of_two()));
        let statements = wholes.iter().fold(statements, |statements, whole| bind_whole(statements, whole, now));
        // Only the last of them has a row.
        let found = statements.fetch_all(self.connection()).await?;
        let [found] = &found[..] else { return Err(anyhow::anyhow!("nothing is said of what was laid out").into()) };
        if (found.int("revision")?, found.int("known")?) != (revision, 0) {
            return Ok(false);
        }
        sqlx::query(WRITE).execute(self.connection()).await?;
        Ok(true)
    }
}

fn bind_whole(statement: Statement, whole: &Whole<'_>, now: Time) -> Statement {
    let Whole { payer, attempt, most, tokens, amounts, .. } = *whole;
    let statement = statement
        .bind(whole.id.as_str())
        .bind(payer.org.as_str())
        .bind(payer.user.as_str())
        .bind(payer.key.as_ref().map(KeyId::as_str))
        .bind(payer.chat.as_deref().map(storable))
        .bind(payer.turn.as_ref().map(TurnId::as_str))
        .bind(payer.run.as_deref().map(storable))
        .bind(storable(whole.door))
        .bind(storable(whole.model));
    let numbers = [most.micros, most.tokens, most.requests, whole.at.0, whole.deadline.0, now.0, whole.nonce];
    let statement = numbers
        .into_iter()
        .fold(statement, Statement::bind)
        .bind(attempt.n)
        .bind(storable(&attempt.upstream))
        .bind(storable(&attempt.model))
        .bind(storable(&attempt.whose));
    let numbers = [
        tokens.input,
        tokens.output,
        tokens.reasoning,
        tokens.cache_read,
        tokens.cache_write_5m,
        tokens.cache_write_1h,
        tokens.audio_in,
        tokens.audio_out,
        amounts.tokens,
        amounts.micros,
        amounts.requests,
        i64::from(whole.estimated),
        i64::from(whole.suspect),
        i64::from(whole.cache_hit),
        whole.settled_at.0,
    ];
    numbers.into_iter().fold(statement, Statement::bind)
}
