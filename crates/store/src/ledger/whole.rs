//! Calls that begin and end in one commit, written in one visit: SQLite's way, see [`crate::dialect`].

use salon_core::{Amounts, CallId, KeyId, Time, Tokens, TurnId};
use sqlx::error::DatabaseError;
use sqlx::sqlite::SqliteError;

use super::{Attempt, Payer, Statement};
use crate::dialect::Dialect;
use crate::error::Result;
use crate::many::{LARGEST, many};
use crate::row::storable;
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

many!(
    insert_wholes,
    36,
    "INSERT INTO whole_calls (revision, id, org_id, user_id, key_id, chat, turn_id, run, door, model, most_micros, \
                              most_tokens, most_requests, at, deadline, ended_at, nonce, n, upstream, upstream_model, \
                              whose, input, output, reasoning, cache_read, cache_write_5m, cache_write_1h, audio_in, \
                              audio_out, tokens, micros, requests, estimated, suspect, cache_hit, settled_at) VALUES ",
    ""
);

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
    /// Adds calls with their attempts and entries, all or none, by a single statement.
    ///
    /// `false`, and nothing is written, if the limits are not of this revision any more or one of the calls is known: then
    /// somebody has to look closer.
    pub async fn add_wholes(&mut self, wholes: &[Whole<'_>], revision: i64, now: Time) -> Result<bool> {
        if wholes.is_empty() {
            return Ok(true);
        }
        // What is not bound is no row.
        let statement = sqlx::query(insert_wholes(self.dialect, wholes.len().next_power_of_two()));
        let statement = wholes.iter().fold(statement, |statement, whole| bind_whole(statement, whole, revision, now));
        match statement.execute(self.connection()).await {
            Ok(_) => Ok(true),
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn bind_whole(statement: Statement, whole: &Whole<'_>, revision: i64, now: Time) -> Statement {
    let Whole { payer, attempt, most, tokens, amounts, .. } = *whole;
    let statement = statement
        .bind(revision)
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

/// Whether the database refused what it was to write, and not to write at all.
fn is_conflict(error: &sqlx::Error) -> bool {
    const CONSTRAINT: u32 = 19;
    let sqlite = error.as_database_error().and_then(|error| error.try_downcast_ref::<SqliteError>());
    let code = sqlite.and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == CONSTRAINT)
}
