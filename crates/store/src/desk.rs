//! What those who run the place look at: people and what they did, and everything that was asked and answered.
//!
//! Whose organisation a dialog is: its person's if it belongs to one, else that of whoever talks in that private chat,
//! else the one that the bots belong to.

use salon_core::people::Role;
use salon_core::{DialogId, OrgId, Time, TurnId, TurnState, UserId};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::people::role;
use crate::row::{Column, storable};
use crate::shelf::Words;

/// Somebody in the desk's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: UserId,
    pub name: String,
    pub email: Option<String>,
    pub role: Role,
    pub active: bool,
    pub until: Option<Time>,
    pub plan: Option<String>,
    pub created_at: Time,
    /// When they were last here, in a browser or by a question.
    pub seen_at: Option<Time>,
    /// Since the moment that was asked about.
    pub calls: i64,
    pub micros: i64,
}

/// How many of what there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub people: i64,
    /// Of them, those who asked something in the time that was asked about.
    pub active: i64,
    /// Questions in that time.
    pub questions: i64,
    /// Dialogs that go on.
    pub open_dialogs: i64,
}

/// Which of an organisation's questions or dialogs: each may be left out.
#[derive(Clone, Debug)]
pub struct LogFilter {
    pub org: OrgId,
    /// The organisation that the bots belong to.
    pub bots_org: OrgId,
    pub user: Option<UserId>,
    pub dialog: Option<DialogId>,
    pub engine: Option<String>,
    pub state: Option<TurnState>,
    pub words: Option<Words>,
    pub from: Time,
    pub to: Time,
    /// Those before this one.
    pub before: (Time, String),
    pub limit: i64,
}

/// A question with its answer, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTurn {
    pub id: TurnId,
    pub dialog: DialogId,
    pub number: i64,
    pub user: Option<UserId>,
    /// What they are called, if they belong to the organisation: somebody of another may speak in a group.
    pub name: Option<String>,
    /// Their id in Telegram, if they asked there.
    pub telegram: Option<i64>,
    pub question: String,
    pub asked_at: Time,
    pub answer: Option<String>,
    pub answered_at: Option<Time>,
    pub state: String,
    pub engine: String,
    pub model: Option<String>,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub error: Option<String>,
}

/// A dialog and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedDialog {
    pub id: DialogId,
    pub channel: String,
    pub bot: Option<String>,
    pub user: Option<UserId>,
    pub name: Option<String>,
    pub title: Option<String>,
    pub engine: String,
    pub turns: i64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub active: bool,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The person of a dialog `d`, or else of the private chat it is held in.
macro_rules! keeper {
    () => {
        "COALESCE(d.user_id, (SELECT l.user_id FROM links l WHERE l.telegram_id = d.chat_id), \
                  (SELECT p.id FROM users p WHERE p.telegram_id = d.chat_id))"
    };
}

/// The person who asked a turn `t` of a dialog `d`.
macro_rules! asker {
    () => {
        "COALESCE(d.user_id, (SELECT l.user_id FROM links l WHERE l.telegram_id = t.user_id), \
                  (SELECT p.id FROM users p WHERE p.telegram_id = t.user_id))"
    };
}

/// The organisation of a dialog `d`, where `$2` is that of the bots.
macro_rules! org_of_dialog {
    () => {
        concat!("COALESCE((SELECT o.org_id FROM users o WHERE o.id = ", keeper!(), "), $2)")
    };
}

impl Tx {
    /// Notes that somebody proved again who they are. `false` if there is no such login.
    pub async fn prove_login(&mut self, id: &str, now: Time) -> Result<bool> {
        let proved = sqlx::query("UPDATE logins SET proved_at = $2, seen_at = $2 WHERE id = $1")
            .bind(id)
            .bind(now.0)
            .execute(self.connection())
            .await?;
        Ok(proved.rows_affected() == 1)
    }

    /// The people of an organisation by name, those after `after`; with words, those who are called so.
    pub async fn list_people(
        &mut self,
        org: &OrgId,
        words: Option<&Words>,
        since: Time,
        after: (&str, &str),
        limit: i64,
    ) -> Result<Vec<Person>> {
        let pattern = |at: usize| words.map(|words| words.pattern(at));
        let rows = sqlx::query(
            "SELECT u.id, u.name, u.email, u.role, u.active, u.until_at, u.plan_id, u.created_at, u.seen_at, \
                    (SELECT MAX(e.at) FROM entries e WHERE e.user_id = u.id) AS asked_at, \
                    (SELECT COALESCE(CAST(SUM(e.requests) AS BIGINT), 0) FROM entries e \
                      WHERE e.user_id = u.id AND e.at >= $2) AS calls, \
                    (SELECT COALESCE(CAST(SUM(e.micros) AS BIGINT), 0) FROM entries e \
                      WHERE e.user_id = u.id AND e.at >= $2) AS micros \
             FROM users u \
             WHERE u.org_id = $1 AND u.removed_at IS NULL AND (u.name > $3 OR (u.name = $3 AND u.id > $4)) \
               AND (CAST($5 AS TEXT) IS NULL OR u.name LIKE $5 ESCAPE '\\' OR u.name LIKE $6 ESCAPE '\\' \
                    OR u.name LIKE $7 ESCAPE '\\' OR u.email LIKE $5 ESCAPE '\\' OR u.email LIKE $6 ESCAPE '\\') \
             ORDER BY u.name, u.id LIMIT CAST($8 AS BIGINT)",
        )
        .bind(org.as_str())
        .bind(since.0)
        .bind(after.0)
        .bind(after.1)
        .bind(pattern(0))
        .bind(pattern(1))
        .bind(pattern(2))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(person).collect()
    }

    /// One of an organisation's people.
    pub async fn find_person(&mut self, org: &OrgId, id: &UserId, since: Time) -> Result<Option<Person>> {
        let row = sqlx::query(
            "SELECT u.id, u.name, u.email, u.role, u.active, u.until_at, u.plan_id, u.created_at, u.seen_at, \
                    (SELECT MAX(e.at) FROM entries e WHERE e.user_id = u.id) AS asked_at, \
                    (SELECT COALESCE(CAST(SUM(e.requests) AS BIGINT), 0) FROM entries e \
                      WHERE e.user_id = u.id AND e.at >= $3) AS calls, \
                    (SELECT COALESCE(CAST(SUM(e.micros) AS BIGINT), 0) FROM entries e \
                      WHERE e.user_id = u.id AND e.at >= $3) AS micros \
             FROM users u WHERE u.org_id = $1 AND u.id = $2 AND u.removed_at IS NULL",
        )
        .bind(org.as_str())
        .bind(id.as_str())
        .bind(since.0)
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(person).transpose()
    }

    /// What people are called, by id; who is not there is left out.
    pub async fn names_of(&mut self, org: &OrgId) -> Result<Vec<(UserId, String)>> {
        let rows = sqlx::query("SELECT id, name FROM users WHERE org_id = $1 AND removed_at IS NULL")
            .bind(org.as_str())
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| Ok((UserId::new(row.text("id")?), row.text("name")?))).collect()
    }

    /// How many there are of what an organisation has, `bots_org` being the one that the bots belong to.
    pub async fn count_desk(&mut self, org: &OrgId, bots_org: &OrgId, from: Time, to: Time) -> Result<Counts> {
        let people = sqlx::query("SELECT COUNT(*) AS count FROM users WHERE org_id = $1 AND removed_at IS NULL")
            .bind(org.as_str())
            .fetch_one(self.connection())
            .await?;
        let asked = sqlx::query(concat!(
            "SELECT COUNT(*) AS questions FROM turns t JOIN dialogs d ON d.id = t.dialog_id \
             WHERE t.asked_at >= $3 AND t.asked_at < $4 AND d.removed_at IS NULL AND ",
            org_of_dialog!(),
            " = $1"
        ))
        .bind(org.as_str())
        .bind(bots_org.as_str())
        .bind(from.0)
        .bind(to.0)
        .fetch_one(self.connection())
        .await?;
        let active = sqlx::query(concat!(
            "SELECT COUNT(DISTINCT who) AS active FROM ( \
               SELECT user_id AS who FROM entries WHERE org_id = $1 AND at >= $3 AND at < $4 \
               UNION SELECT ",
            asker!(),
            " AS who FROM turns t JOIN dialogs d ON d.id = t.dialog_id \
               WHERE t.asked_at >= $3 AND t.asked_at < $4 AND ",
            org_of_dialog!(),
            " = $1) asked"
        ))
        .bind(org.as_str())
        .bind(bots_org.as_str())
        .bind(from.0)
        .bind(to.0)
        .fetch_one(self.connection())
        .await?;
        let open = sqlx::query(concat!(
            "SELECT COUNT(*) AS count FROM dialogs d WHERE d.active = 1 AND d.turns > 0 AND d.removed_at IS NULL AND ",
            org_of_dialog!(),
            " = $1"
        ))
        .bind(org.as_str())
        .bind(bots_org.as_str())
        .fetch_one(self.connection())
        .await?;
        Ok(Counts {
            people: people.int("count")?,
            active: active.int("active")?,
            questions: asked.int("questions")?,
            open_dialogs: open.int("count")?,
        })
    }

    /// Questions and answers, newest first.
    pub async fn list_logged_turns(&mut self, filter: &LogFilter) -> Result<Vec<LoggedTurn>> {
        let pattern = |at: usize| filter.words.as_ref().map(|words| words.pattern(at));
        let rows = sqlx::query(concat!(
            "SELECT t.id, t.dialog_id, t.number, ",
            asker!(),
            " AS person, (SELECT n.name FROM users n WHERE n.org_id = $1 AND n.id = ",
            asker!(),
            ") AS person_name, t.user_id AS telegram, t.question, t.asked_at, t.answer, t.answered_at, t.state, \
               t.engine, t.model, t.tokens_in, t.tokens_out, t.error \
             FROM turns t JOIN dialogs d ON d.id = t.dialog_id \
             WHERE t.asked_at >= $3 AND t.asked_at < $4 AND d.removed_at IS NULL AND ",
            org_of_dialog!(),
            " = $1 AND (t.asked_at < $5 OR (t.asked_at = $5 AND t.id < $6)) \
               AND (CAST($7 AS TEXT) IS NULL OR ",
            asker!(),
            " = $7) AND (CAST($8 AS TEXT) IS NULL OR t.engine = $8) AND (CAST($9 AS TEXT) IS NULL OR t.state = $9) \
               AND (CAST($10 AS TEXT) IS NULL OR t.dialog_id = $10) \
               AND (CAST($11 AS TEXT) IS NULL OR t.question LIKE $11 ESCAPE '\\' OR t.question LIKE $12 ESCAPE '\\' \
                    OR t.question LIKE $13 ESCAPE '\\' OR t.answer LIKE $11 ESCAPE '\\' \
                    OR t.answer LIKE $12 ESCAPE '\\' OR t.answer LIKE $13 ESCAPE '\\') \
             ORDER BY t.asked_at DESC, t.id DESC LIMIT CAST($14 AS BIGINT)"
        ))
        .bind(filter.org.as_str())
        .bind(filter.bots_org.as_str())
        .bind(filter.from.0)
        .bind(filter.to.0)
        .bind(filter.before.0.0)
        .bind(storable(&filter.before.1))
        .bind(filter.user.as_ref().map(UserId::as_str))
        .bind(filter.engine.as_deref().map(storable))
        .bind(filter.state.map(TurnState::as_str))
        .bind(filter.dialog.as_ref().map(DialogId::as_str))
        .bind(pattern(0))
        .bind(pattern(1))
        .bind(pattern(2))
        .bind(filter.limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(turn).collect()
    }

    /// Dialogs in which something happened in the time, newest first; `before` is by that moment.
    pub async fn list_logged_dialogs(&mut self, filter: &LogFilter) -> Result<Vec<LoggedDialog>> {
        let pattern = |at: usize| filter.words.as_ref().map(|words| words.pattern(at));
        let rows = sqlx::query(concat!(
            "SELECT d.id, d.channel, d.bot_id, ",
            keeper!(),
            " AS person, (SELECT n.name FROM users n WHERE n.org_id = $1 AND n.id = ",
            keeper!(),
            ") AS person_name, \
               COALESCE(d.title, (SELECT f.question FROM turns f WHERE f.dialog_id = d.id AND f.number = 1)) AS shown, \
               d.engine, d.turns, d.active, d.created_at, d.updated_at, \
               (SELECT COALESCE(CAST(SUM(s.tokens_in) AS BIGINT), 0) FROM turns s WHERE s.dialog_id = d.id) AS tokens_in, \
               (SELECT COALESCE(CAST(SUM(s.tokens_out) AS BIGINT), 0) FROM turns s WHERE s.dialog_id = d.id) \
                 AS tokens_out \
             FROM dialogs d \
             WHERE d.updated_at >= $3 AND d.updated_at < $4 AND d.removed_at IS NULL AND ",
            org_of_dialog!(),
            " = $1 AND (d.updated_at < $5 OR (d.updated_at = $5 AND d.id < $6)) \
               AND (CAST($7 AS TEXT) IS NULL OR ",
            keeper!(),
            " = $7) AND (CAST($8 AS TEXT) IS NULL OR d.engine = $8) \
               AND (CAST($9 AS TEXT) IS NULL OR d.id = $9) \
               AND (CAST($10 AS TEXT) IS NULL OR d.title LIKE $10 ESCAPE '\\' \
                    OR EXISTS (SELECT 1 FROM turns w WHERE w.dialog_id = d.id AND (w.question LIKE $10 ESCAPE '\\' \
                      OR w.question LIKE $11 ESCAPE '\\' OR w.question LIKE $12 ESCAPE '\\' \
                      OR w.answer LIKE $10 ESCAPE '\\' OR w.answer LIKE $11 ESCAPE '\\' \
                      OR w.answer LIKE $12 ESCAPE '\\'))) \
             ORDER BY d.updated_at DESC, d.id DESC LIMIT CAST($13 AS BIGINT)"
        ))
        .bind(filter.org.as_str())
        .bind(filter.bots_org.as_str())
        .bind(filter.from.0)
        .bind(filter.to.0)
        .bind(filter.before.0.0)
        .bind(storable(&filter.before.1))
        .bind(filter.user.as_ref().map(UserId::as_str))
        .bind(filter.engine.as_deref().map(storable))
        .bind(filter.dialog.as_ref().map(DialogId::as_str))
        .bind(pattern(0))
        .bind(pattern(1))
        .bind(pattern(2))
        .bind(filter.limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(dialog).collect()
    }
}

fn person(row: &AnyRow) -> Result<Person> {
    let (seen, asked) = (row.maybe_int("seen_at")?, row.maybe_int("asked_at")?);
    Ok(Person {
        id: UserId::new(row.text("id")?),
        name: row.text("name")?,
        email: row.maybe_text("email")?,
        role: role(&row.text("role")?),
        active: row.flag("active")?,
        until: row.maybe_int("until_at")?.map(Time),
        plan: row.maybe_text("plan_id")?,
        created_at: Time(row.int("created_at")?),
        seen_at: seen.max(asked).map(Time),
        calls: row.int("calls")?,
        micros: row.int("micros")?,
    })
}

fn turn(row: &AnyRow) -> Result<LoggedTurn> {
    Ok(LoggedTurn {
        id: TurnId::new(row.text("id")?),
        dialog: DialogId::new(row.text("dialog_id")?),
        number: row.int("number")?,
        user: row.maybe_text("person")?.map(UserId::new),
        name: row.maybe_text("person_name")?,
        telegram: row.maybe_int("telegram")?,
        question: row.text("question")?,
        asked_at: Time(row.int("asked_at")?),
        answer: row.maybe_text("answer")?,
        answered_at: row.maybe_int("answered_at")?.map(Time),
        state: row.text("state")?,
        engine: row.text("engine")?,
        model: row.maybe_text("model")?,
        tokens_in: row.int("tokens_in")?,
        tokens_out: row.int("tokens_out")?,
        error: row.maybe_text("error")?,
    })
}

fn dialog(row: &AnyRow) -> Result<LoggedDialog> {
    Ok(LoggedDialog {
        id: DialogId::new(row.text("id")?),
        channel: row.text("channel")?,
        bot: row.maybe_text("bot_id")?,
        user: row.maybe_text("person")?.map(UserId::new),
        name: row.maybe_text("person_name")?,
        title: row.maybe_text("shown")?,
        engine: row.text("engine")?,
        turns: row.int("turns")?,
        tokens_in: row.int("tokens_in")?,
        tokens_out: row.int("tokens_out")?,
        active: row.flag("active")?,
        created_at: Time(row.int("created_at")?),
        updated_at: Time(row.int("updated_at")?),
    })
}
