//! A person's dialogs as they look through them: by what they are called, by words that were said, and gone their own way
//! from a turn of another one.

use salon_core::{Dialog, DialogId, Time, TurnId};

use crate::Tx;
use crate::dialogs::dialog;
use crate::error::Result;
use crate::row::{Column, storable};
use crate::sessions::Keeper;

/// A dialog as it stands in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelved {
    pub dialog: Dialog,
    /// What people call it, or else how it began.
    pub title: Option<String>,
    pub style: Option<String>,
}

/// Words to be looked for. SQLite knows capitals of ASCII only, so the likely spellings are looked for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    patterns: [String; 3],
}

impl Words {
    /// `None` if nothing is looked for.
    pub fn new(text: &str) -> Option<Words> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let lower = text.to_lowercase();
        let mut letters = lower.chars();
        let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        let pattern = |text: &str| {
            let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            format!("%{}%", storable(&escaped))
        };
        Some(Words { patterns: [pattern(text), pattern(&lower), pattern(&capital)] })
    }

    pub(crate) fn pattern(&self, at: usize) -> &str {
        &self.patterns[at]
    }
}

impl Tx {
    /// The keeper's dialogs in which something happened last before `before`, newest first; with words, those in which
    /// they were said.
    pub async fn list_shelf(
        &mut self,
        keeper: &Keeper,
        words: Option<&Words>,
        before: (Time, &str),
        limit: i64,
    ) -> Result<Vec<Shelved>> {
        let patterns = words.map(|words| &words.patterns);
        let pattern = |at: usize| patterns.map(|patterns| patterns[at].as_str());
        let rows = sqlx::query(
            "SELECT id, channel, bot_id, chat_id, user_id, engine, view, thread, summary, window_from, turns, active, \
                    model, project, trusted_until, created_at, updated_at, style, \
                    COALESCE(title, (SELECT question FROM turns t WHERE t.dialog_id = dialogs.id AND t.number = 1)) \
                      AS shown_title \
             FROM dialogs \
             WHERE removed_at IS NULL AND (user_id = $1 OR (user_id IS NULL AND (chat_id = CAST($2 AS BIGINT) \
                    OR chat_id IN (SELECT telegram_id FROM links WHERE user_id = $1)))) \
               AND (updated_at < $3 OR (updated_at = $3 AND id < $4)) \
               AND (CAST($5 AS TEXT) IS NULL OR title LIKE $5 ESCAPE '\\' OR title LIKE $6 ESCAPE '\\' \
                    OR title LIKE $7 ESCAPE '\\' OR EXISTS (SELECT 1 FROM turns t WHERE t.dialog_id = dialogs.id \
                      AND (t.question LIKE $5 ESCAPE '\\' OR t.question LIKE $6 ESCAPE '\\' \
                        OR t.question LIKE $7 ESCAPE '\\' OR t.answer LIKE $5 ESCAPE '\\' \
                        OR t.answer LIKE $6 ESCAPE '\\' OR t.answer LIKE $7 ESCAPE '\\'))) \
             ORDER BY updated_at DESC, id DESC LIMIT CAST($8 AS BIGINT)",
        )
        .bind(keeper.user.as_str())
        .bind(keeper.telegram)
        .bind(before.0.0)
        .bind(before.1)
        .bind(pattern(0))
        .bind(pattern(1))
        .bind(pattern(2))
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(shelved).collect()
    }

    /// One of the keeper's dialogs.
    pub async fn find_shelved(&mut self, keeper: &Keeper, id: &DialogId) -> Result<Option<Shelved>> {
        let row = sqlx::query(
            "SELECT id, channel, bot_id, chat_id, user_id, engine, view, thread, summary, window_from, turns, active, \
                    model, project, trusted_until, created_at, updated_at, style, \
                    COALESCE(title, (SELECT question FROM turns t WHERE t.dialog_id = dialogs.id AND t.number = 1)) \
                      AS shown_title \
             FROM dialogs \
             WHERE id = $3 AND removed_at IS NULL \
               AND (user_id = $1 OR (user_id IS NULL AND (chat_id = CAST($2 AS BIGINT) \
                    OR chat_id IN (SELECT telegram_id FROM links WHERE user_id = $1))))",
        )
        .bind(keeper.user.as_str())
        .bind(keeper.telegram)
        .bind(id.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(shelved).transpose()
    }

    /// Says what people call a dialog; `None` goes back to how it began.
    pub async fn set_title(&mut self, id: &DialogId, title: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE dialogs SET title = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(title.map(storable))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// A person keeps this dialog: it does not expire.
    pub async fn keep_dialog(&mut self, id: &DialogId) -> Result<()> {
        sqlx::query("UPDATE dialogs SET kept = 1 WHERE id = $1").bind(id.as_str()).execute(self.connection()).await?;
        Ok(())
    }

    /// Copies the turns of a dialog before a number into another one, which must be new, and says where it came from.
    /// `ids` are those of the copies, in order. What the originals cost stays with them.
    pub async fn copy_turns(&mut self, from: &DialogId, before: i64, to: &DialogId, ids: &[TurnId]) -> Result<()> {
        let turns = self.list_turns_before(from, before, ids.len() as i64).await?;
        for (at, (turn, id)) in turns.iter().zip(ids).enumerate() {
            sqlx::query(
                "INSERT INTO turns (id, dialog_id, number, user_id, question, asked_at, answer, answered_at, state, \
                                    engine, model, tokens_in, tokens_out, usage_estimated, usage_suspect, error) \
                 SELECT $1, $2, CAST($3 AS BIGINT), user_id, question, asked_at, answer, answered_at, state, engine, \
                        model, tokens_in, tokens_out, usage_estimated, usage_suspect, error FROM turns \
                 WHERE id = $4",
            )
            .bind(id.as_str())
            .bind(to.as_str())
            .bind(at as i64 + 1)
            .bind(turn.id.as_str())
            .execute(self.connection())
            .await?;
        }
        sqlx::query("UPDATE dialogs SET turns = $2, branch_of = $3 WHERE id = $1")
            .bind(to.as_str())
            .bind(turns.len() as i64)
            .bind(from.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// What each turn of a dialog cost, in micro-dollars; those that cost nothing are left out.
    pub async fn costs_of_dialog(&mut self, id: &DialogId) -> Result<Vec<(TurnId, i64)>> {
        let rows = sqlx::query(
            "SELECT e.turn_id, CAST(SUM(e.micros) AS BIGINT) AS micros FROM turns t JOIN entries e ON e.turn_id = t.id \
             WHERE t.dialog_id = $1 GROUP BY e.turn_id",
        )
        .bind(id.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(|row| Ok((TurnId::new(row.text("turn_id")?), row.int("micros")?))).collect()
    }
}

fn shelved(row: &sqlx::any::AnyRow) -> Result<Shelved> {
    Ok(Shelved { dialog: dialog(row)?, title: row.maybe_text("shown_title")?, style: row.maybe_text("style")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_patterns_are_looked_for_as_they_stand() {
        let words = Words::new(" 100%_Аист ").expect("something is looked for");
        assert_eq!(words.patterns, ["%100\\%\\_Аист%", "%100\\%\\_аист%", "%100\\%\\_аист%"]);
        assert_eq!(Words::new("АИСТ").expect("words").patterns[1..], ["%аист%", "%Аист%"]);
        assert_eq!(Words::new("  "), None);
    }
}
