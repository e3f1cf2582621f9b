//! People and their organisations.

use salon_core::people::Role;
use salon_core::{Org, OrgId, Time, User, UserId};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};
use crate::signal::Signal;

/// The name of the revision that changes whenever somebody's rights, keys or secrets do.
pub const PEOPLE: &str = "people";

impl Tx {
    /// Tells every process that what it remembers of people, keys and secrets may be outdated.
    pub async fn touch_people(&mut self) -> Result<()> {
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES ('people_revision', '1') ON CONFLICT (name) \
             DO UPDATE SET value = CAST(CAST(settings.value AS BIGINT) + 1 AS TEXT)",
        )
        .execute(self.connection())
        .await?;
        self.signal(Signal::Revision(PEOPLE.to_owned()));
        Ok(())
    }

    /// A number that is another after each change.
    pub async fn people_revision(&mut self) -> Result<i64> {
        let value = self.find_setting("people_revision").await?;
        Ok(value.and_then(|value| value.parse().ok()).unwrap_or(0))
    }

    pub async fn find_org(&mut self, id: &OrgId) -> Result<Option<Org>> {
        let row = sqlx::query("SELECT id, name, zone, subject, created_at FROM orgs WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.map(org).transpose()
    }

    pub async fn find_org_of_subject(&mut self, subject: &str) -> Result<Option<Org>> {
        let row = sqlx::query("SELECT id, name, zone, subject, created_at FROM orgs WHERE subject = $1")
            .bind(subject)
            .fetch_optional(self.connection())
            .await?;
        row.map(org).transpose()
    }

    /// All of them, oldest first.
    pub async fn list_orgs(&mut self) -> Result<Vec<Org>> {
        let rows = sqlx::query("SELECT id, name, zone, subject, created_at FROM orgs ORDER BY created_at, id")
            .fetch_all(self.connection())
            .await?;
        rows.into_iter().map(org).collect()
    }

    /// `false` if there is one with that id or subject; then nothing changes.
    pub async fn add_org(&mut self, org: &Org) -> Result<bool> {
        let added = sqlx::query(
            "INSERT INTO orgs (id, name, zone, subject, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(org.id.as_str())
        .bind(storable(&org.name))
        .bind(&org.zone)
        .bind(org.subject.as_deref())
        .bind(org.created_at.0)
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Sets name and zone. `false` if there is no such organisation.
    pub async fn set_org(&mut self, org: &Org) -> Result<bool> {
        let set = sqlx::query("UPDATE orgs SET name = $2, zone = $3 WHERE id = $1")
            .bind(org.id.as_str())
            .bind(storable(&org.name))
            .bind(&org.zone)
            .execute(self.connection())
            .await?;
        self.touch_people().await?;
        Ok(set.rows_affected() == 1)
    }

    /// Who reads the organisation's texts masked, in a word. `None` if there is no such organisation.
    pub async fn find_mask(&mut self, org: &OrgId) -> Result<Option<String>> {
        let row = sqlx::query("SELECT mask FROM orgs WHERE id = $1")
            .bind(org.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| row.text("mask")).transpose()
    }

    /// `false` if there is no such organisation.
    pub async fn set_mask(&mut self, org: &OrgId, mask: &str) -> Result<bool> {
        let set = sqlx::query("UPDATE orgs SET mask = $2 WHERE id = $1")
            .bind(org.as_str())
            .bind(mask)
            .execute(self.connection())
            .await?;
        Ok(set.rows_affected() == 1)
    }

    /// The person, if there is one and it was not removed.
    pub async fn find_user(&mut self, id: &UserId) -> Result<Option<User>> {
        let row = sqlx::query(
            "SELECT id, org_id, name, email, role, active, telegram_id, subject, created_at FROM users \
             WHERE id = $1 AND removed_at IS NULL",
        )
        .bind(id.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.map(user).transpose()
    }

    /// Whoever this is in Telegram: the person to whom they were linked, or else the one who is known by that id.
    pub async fn find_user_of_telegram(&mut self, telegram: i64) -> Result<Option<User>> {
        let row = sqlx::query(
            "SELECT id, org_id, name, email, role, active, telegram_id, subject, created_at FROM users \
             WHERE removed_at IS NULL AND id = COALESCE((SELECT user_id FROM links WHERE telegram_id = $1), \
                                                        (SELECT id FROM users WHERE telegram_id = $1))",
        )
        .bind(telegram)
        .fetch_optional(self.connection())
        .await?;
        row.map(user).transpose()
    }

    pub async fn find_user_of_subject(&mut self, subject: &str) -> Result<Option<User>> {
        let row = sqlx::query(
            "SELECT id, org_id, name, email, role, active, telegram_id, subject, created_at FROM users \
             WHERE subject = $1",
        )
        .bind(subject)
        .fetch_optional(self.connection())
        .await?;
        row.map(user).transpose()
    }

    /// The people of one organisation or of all, oldest first, without those who were removed.
    pub async fn list_users(&mut self, org: Option<&OrgId>) -> Result<Vec<User>> {
        let rows = sqlx::query(
            "SELECT id, org_id, name, email, role, active, telegram_id, subject, created_at FROM users \
             WHERE removed_at IS NULL AND (CAST($1 AS TEXT) IS NULL OR org_id = $1) ORDER BY created_at, id",
        )
        .bind(org.map(OrgId::as_str))
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(user).collect()
    }

    /// `false` if somebody has that id, Telegram id or subject; then nothing changes.
    pub async fn add_user(&mut self, user: &User) -> Result<bool> {
        let added = sqlx::query(
            "INSERT INTO users (id, org_id, name, email, role, active, telegram_id, subject, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(user.id.as_str())
        .bind(user.org.as_str())
        .bind(storable(&user.name))
        .bind(user.email.as_deref().map(storable))
        .bind(user.role.as_str())
        .bind(i64::from(user.active))
        .bind(user.telegram)
        .bind(user.subject.as_deref())
        .bind(user.created_at.0)
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Writes everything but id and subject. `false` if there is nobody with that id, or somebody else has that Telegram
    /// id. Who gets another role, or is switched off, is asked to come in anew everywhere.
    pub async fn set_user(&mut self, user: &User) -> Result<bool> {
        let set = sqlx::query(
            "UPDATE users SET org_id = $2, name = $3, email = $4, role = $5, active = $6, telegram_id = $7, \
                    epoch = epoch + CASE WHEN role <> $5 OR active <> $6 OR org_id <> $2 THEN 1 ELSE 0 END \
             WHERE id = $1 AND removed_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM users u WHERE u.telegram_id = $7 AND u.id <> $1)",
        )
        .bind(user.id.as_str())
        .bind(user.org.as_str())
        .bind(storable(&user.name))
        .bind(user.email.as_deref().map(storable))
        .bind(user.role.as_str())
        .bind(i64::from(user.active))
        .bind(user.telegram)
        .execute(self.connection())
        .await?;
        self.touch_people().await?;
        Ok(set.rows_affected() == 1)
    }

    /// Forgets who somebody was, and takes their keys and secrets. The row stays, because the ledger's sums name it.
    /// `false` if there is nobody with that id.
    pub async fn remove_user(&mut self, id: &UserId, now: Time) -> Result<bool> {
        let removed = sqlx::query(
            "UPDATE users SET active = 0, name = '', email = NULL, telegram_id = NULL, subject = NULL, removed_at = $2, \
                    login = NULL, password = NULL, factor_id = NULL, lang = NULL, epoch = epoch + 1 WHERE id = $1 AND removed_at IS NULL",
        )
        .bind(id.as_str())
        .bind(now.0)
        .execute(self.connection())
        .await?;
        sqlx::query("UPDATE api_keys SET revoked_at = $2 WHERE (user_id = $1 OR maker_id = $1) AND revoked_at IS NULL")
            .bind(id.as_str())
            .bind(now.0)
            .execute(self.connection())
            .await?;
        let owner = salon_core::Owner::User(id.clone()).to_string();
        for forget in ["DELETE FROM secrets WHERE owner = $1", "DELETE FROM deks WHERE owner = $1"] {
            sqlx::query(forget).bind(&owner).execute(self.connection()).await?;
        }
        for forget in [
            "DELETE FROM logins WHERE user_id = $1",
            "DELETE FROM links WHERE user_id = $1",
            "DELETE FROM identities WHERE user_id = $1",
        ] {
            sqlx::query(forget).bind(id.as_str()).execute(self.connection()).await?;
        }
        self.touch_people().await?;
        Ok(removed.rows_affected() == 1)
    }
}

fn org(row: AnyRow) -> Result<Org> {
    Ok(Org {
        id: OrgId::new(row.text("id")?),
        name: row.text("name")?,
        zone: row.text("zone")?,
        subject: row.maybe_text("subject")?,
        created_at: Time(row.int("created_at")?),
    })
}

fn user(row: AnyRow) -> Result<User> {
    Ok(User {
        id: UserId::new(row.text("id")?),
        org: OrgId::new(row.text("org_id")?),
        name: row.text("name")?,
        email: row.maybe_text("email")?,
        role: role(&row.text("role")?),
        active: row.flag("active")?,
        telegram: row.maybe_int("telegram_id")?,
        subject: row.maybe_text("subject")?,
        created_at: Time(row.int("created_at")?),
    })
}

/// A word that we do not know gives the least.
pub(crate) fn role(text: &str) -> Role {
    Role::parse(text).unwrap_or(Role::User)
}
