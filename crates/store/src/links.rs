//! People of Telegram who are somebody here, and the passes that make them so or let somebody in: tokens of which only the
//! hash is kept, as of every token.

use salon_core::{Time, UserId};

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

/// Somebody of Telegram who is a person here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub telegram: i64,
    pub user: UserId,
    /// What they are called there.
    pub name: String,
    pub linked_at: Time,
    /// Who they were here before, known by what they said there.
    pub was: Option<UserId>,
}

/// A token that is shown outside of any chat of its own: an invitation, or a code that links one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub hash: String,
    /// What it allows, such as `invite`.
    pub kind: String,
    /// Whose it is.
    pub account: Option<UserId>,
    /// What else it says.
    pub text: Option<String>,
    pub expires_at: Time,
    pub used: bool,
}

impl Tx {
    pub async fn add_pass(&mut self, pass: &Pass, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO tokens (hash, kind, account_id, created_at, expires_at, text) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(&pass.hash)
        .bind(&pass.kind)
        .bind(pass.account.as_ref().map(UserId::as_str))
        .bind(now.0)
        .bind(pass.expires_at.0)
        .bind(pass.text.as_deref().map(storable))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The pass as it stands. It is used up by [`Tx::use_token`].
    pub async fn find_pass(&mut self, hash: &str, kind: &str) -> Result<Option<Pass>> {
        let row = sqlx::query(
            "SELECT hash, kind, account_id, text, expires_at, used_at FROM tokens WHERE hash = $1 AND kind = $2",
        )
        .bind(hash)
        .bind(kind)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Pass {
            hash: row.text("hash")?,
            kind: row.text("kind")?,
            account: row.maybe_text("account_id")?.map(UserId::new),
            text: row.maybe_text("text")?,
            expires_at: Time(row.int("expires_at")?),
            used: row.maybe_int("used_at")?.is_some(),
        }))
    }

    /// Takes back the passes of a kind that somebody has not used: a new code makes the old one worthless.
    pub async fn drop_passes(&mut self, kind: &str, account: Option<&UserId>) -> Result<()> {
        sqlx::query(
            "DELETE FROM tokens WHERE kind = $1 AND used_at IS NULL AND \
               (account_id = $2 OR (account_id IS NULL AND CAST($2 AS TEXT) IS NULL))",
        )
        .bind(kind)
        .bind(account.map(UserId::as_str))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// How many passes of a kind somebody has that are not used.
    pub async fn count_passes(&mut self, kind: &str, account: &UserId) -> Result<i64> {
        sqlx::query("SELECT COUNT(*) AS count FROM tokens WHERE kind = $1 AND account_id = $2 AND used_at IS NULL")
            .bind(kind)
            .bind(account.as_str())
            .fetch_one(self.connection())
            .await?
            .int("count")
    }

    /// Makes somebody of Telegram a person here. `false` if they are one already; then nothing changes.
    pub async fn add_link(&mut self, link: &Link) -> Result<bool> {
        let added = sqlx::query(
            "INSERT INTO links (telegram_id, user_id, name, linked_at, was) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(link.telegram)
        .bind(link.user.as_str())
        .bind(storable(&link.name))
        .bind(link.linked_at.0)
        .bind(link.was.as_ref().map(UserId::as_str))
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }

    pub async fn find_link(&mut self, telegram: i64) -> Result<Option<Link>> {
        let row = sqlx::query("SELECT telegram_id, user_id, name, linked_at, was FROM links WHERE telegram_id = $1")
            .bind(telegram)
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| link(&row)).transpose()
    }

    /// Those of Telegram who are this person, oldest first.
    pub async fn list_links(&mut self, user: &UserId) -> Result<Vec<Link>> {
        let rows = sqlx::query(
            "SELECT telegram_id, user_id, name, linked_at, was FROM links WHERE user_id = $1 ORDER BY linked_at, telegram_id",
        )
        .bind(user.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(link).collect()
    }

    /// `false` if this person has no such link.
    pub async fn remove_link(&mut self, user: &UserId, telegram: i64) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM links WHERE user_id = $1 AND telegram_id = $2")
            .bind(user.as_str())
            .bind(telegram)
            .execute(self.connection())
            .await?;
        self.touch_people().await?;
        Ok(removed.rows_affected() == 1)
    }
}

fn link(row: &sqlx::any::AnyRow) -> Result<Link> {
    Ok(Link {
        telegram: row.int("telegram_id")?,
        user: UserId::new(row.text("user_id")?),
        name: row.text("name")?,
        linked_at: Time(row.int("linked_at")?),
        was: row.maybe_text("was")?.map(UserId::new),
    })
}
