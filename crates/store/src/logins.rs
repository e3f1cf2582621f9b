//! Browsers that came in, and what a person's account says of how they may.

use salon_core::people::Role;
use salon_core::{OrgId, Time, User, UserId};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::people::role;
use crate::row::{Column, storable};

/// A person, and how they come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub user: User,
    /// What they type to come in, in lower case; `None` if not by a password.
    pub login: Option<String>,
    /// Argon2id, as a PHC string.
    pub password: Option<String>,
    /// The sealed secret of their second factor, and the last step of it that was used.
    pub factor: Option<String>,
    pub factor_step: i64,
    /// What they have open is good as long as this stands.
    pub epoch: i64,
    /// After this they may do nothing.
    pub until: Option<Time>,
    /// Names of models between commas; `None` is everything.
    pub models: Option<String>,
    pub plan: Option<String>,
    pub taste: Taste,
}

/// What somebody likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taste {
    /// A language's tag.
    pub lang: Option<String>,
    /// Who answers them where nobody says.
    pub engine: Option<String>,
    /// In which style.
    pub style: Option<String>,
}

/// The pages that a browser came in to; each has a cookie of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm {
    House,
    Desk,
}

impl Realm {
    pub fn as_str(self) -> &'static str {
        match self {
            Realm::House => "house",
            Realm::Desk => "desk",
        }
    }
}

/// A browser that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub id: String,
    pub user: UserId,
    pub realm: Realm,
    pub epoch: i64,
    /// Which browser it says it is.
    pub browser: String,
    pub created_at: Time,
    pub seen_at: Time,
    pub expires_at: Time,
    /// When they proved last who they are.
    pub proved_at: Time,
}

impl Tx {
    /// Somebody's account, if they were not removed.
    pub async fn find_account(&mut self, id: &UserId) -> Result<Option<Account>> {
        let row = sqlx::query(
            "SELECT id, org_id, name, email, role, active, telegram_id, subject, created_at, login, password, factor_id, \
                    factor_step, epoch, until_at, models, plan_id, lang, engine, style FROM users \
             WHERE id = $1 AND removed_at IS NULL",
        )
        .bind(id.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.map(account).transpose()
    }

    /// The account of whoever types this to come in.
    pub async fn find_account_of_login(&mut self, login: &str) -> Result<Option<Account>> {
        let row = sqlx::query(
            "SELECT id, org_id, name, email, role, active, telegram_id, subject, created_at, login, password, factor_id, \
                    factor_step, epoch, until_at, models, plan_id, lang, engine, style FROM users \
             WHERE login = $1 AND removed_at IS NULL",
        )
        .bind(storable(login))
        .fetch_optional(self.connection())
        .await?;
        row.map(account).transpose()
    }

    /// The account of whoever this is in Telegram, and whether they were linked to it: the others are known by their
    /// Telegram id alone.
    pub async fn find_account_of_telegram(&mut self, telegram: i64) -> Result<Option<(Account, bool)>> {
        let row = sqlx::query(
            "SELECT id, org_id, name, email, role, active, telegram_id, subject, created_at, login, password, factor_id, \
                    factor_step, epoch, until_at, models, plan_id, lang, engine, style, \
                    (SELECT COUNT(*) FROM links WHERE telegram_id = $1) AS linked FROM users \
             WHERE removed_at IS NULL AND id = COALESCE((SELECT user_id FROM links WHERE telegram_id = $1), \
                                                        (SELECT id FROM users WHERE telegram_id = $1))",
        )
        .bind(telegram)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let linked = row.int("linked")? > 0;
        Ok(Some((account(row)?, linked)))
    }

    /// Whether somebody who looks after everything can come in by a password.
    pub async fn has_keyholder(&mut self) -> Result<bool> {
        let row = sqlx::query(
            "SELECT 1 AS found FROM users WHERE role = 'admin' AND active = 1 AND removed_at IS NULL \
               AND (login IS NOT NULL OR id IN (SELECT user_id FROM identities)) LIMIT 1",
        )
        .fetch_optional(self.connection())
        .await?;
        Ok(row.is_some())
    }

    /// Says what somebody types to come in. `false` if somebody else does, or there is nobody with that id.
    pub async fn set_login(&mut self, id: &UserId, login: &str) -> Result<bool> {
        let set = sqlx::query(
            "UPDATE users SET login = $2 WHERE id = $1 AND removed_at IS NULL \
               AND NOT EXISTS (SELECT 1 FROM users u WHERE u.login = $2 AND u.id <> $1)",
        )
        .bind(id.as_str())
        .bind(storable(login))
        .execute(self.connection())
        .await?;
        Ok(set.rows_affected() == 1)
    }

    /// Sets another password. What they have open ends.
    pub async fn set_password(&mut self, id: &UserId, password: &str) -> Result<()> {
        sqlx::query("UPDATE users SET password = $2 WHERE id = $1 AND removed_at IS NULL")
            .bind(id.as_str())
            .bind(password)
            .execute(self.connection())
            .await?;
        self.end_everything(id).await
    }

    /// Sets or takes away the second factor. What they have open ends.
    pub async fn set_factor(&mut self, id: &UserId, factor: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE users SET factor_id = $2, factor_step = 0 WHERE id = $1 AND removed_at IS NULL")
            .bind(id.as_str())
            .bind(factor)
            .execute(self.connection())
            .await?;
        self.end_everything(id).await
    }

    /// Uses a step of the second factor up. `false` if it, or a later one, was used before: a code is good once.
    pub async fn use_factor_step(&mut self, id: &UserId, step: i64) -> Result<bool> {
        let used = sqlx::query("UPDATE users SET factor_step = $2 WHERE id = $1 AND factor_step < $2")
            .bind(id.as_str())
            .bind(step)
            .execute(self.connection())
            .await?;
        Ok(used.rows_affected() == 1)
    }

    /// Ends whatever somebody has open, in every browser.
    pub async fn end_everything(&mut self, id: &UserId) -> Result<()> {
        sqlx::query("UPDATE users SET epoch = epoch + 1 WHERE id = $1")
            .bind(id.as_str())
            .execute(self.connection())
            .await?;
        sqlx::query("DELETE FROM logins WHERE user_id = $1").bind(id.as_str()).execute(self.connection()).await?;
        self.touch_people().await
    }

    pub async fn set_taste(&mut self, id: &UserId, taste: &Taste) -> Result<()> {
        sqlx::query("UPDATE users SET lang = $2, engine = $3, style = $4 WHERE id = $1 AND removed_at IS NULL")
            .bind(id.as_str())
            .bind(taste.lang.as_deref())
            .bind(taste.engine.as_deref().map(storable))
            .bind(taste.style.as_deref().map(storable))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Sets until when somebody may do anything, and by which models they may be answered.
    pub async fn set_reach(&mut self, id: &UserId, until: Option<Time>, models: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE users SET until_at = $2, models = $3 WHERE id = $1 AND removed_at IS NULL")
            .bind(id.as_str())
            .bind(until.map(|at| at.0))
            .bind(models.map(storable))
            .execute(self.connection())
            .await?;
        self.touch_people().await
    }

    pub async fn add_login(&mut self, login: &Login, hash: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO logins (id, hash, user_id, realm, epoch, browser, created_at, seen_at, expires_at, proved_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(&login.id)
        .bind(hash)
        .bind(login.user.as_str())
        .bind(login.realm.as_str())
        .bind(login.epoch)
        .bind(storable(&login.browser))
        .bind(login.created_at.0)
        .bind(login.seen_at.0)
        .bind(login.expires_at.0)
        .bind(login.proved_at.0)
        .execute(self.connection())
        .await?;
        sqlx::query("UPDATE users SET seen_at = $2 WHERE id = $1")
            .bind(login.user.as_str())
            .bind(login.created_at.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The login whose cookie has this hash, whatever became of its person.
    pub async fn find_login(&mut self, hash: &str, realm: Realm) -> Result<Option<Login>> {
        let row = sqlx::query(
            "SELECT id, user_id, realm, epoch, browser, created_at, seen_at, expires_at, proved_at FROM logins \
             WHERE hash = $1 AND realm = $2",
        )
        .bind(hash)
        .bind(realm.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.map(login).transpose()
    }

    /// Somebody's logins, the one that was seen last first.
    pub async fn list_logins(&mut self, user: &UserId) -> Result<Vec<Login>> {
        let rows = sqlx::query(
            "SELECT id, user_id, realm, epoch, browser, created_at, seen_at, expires_at, proved_at FROM logins \
             WHERE user_id = $1 ORDER BY seen_at DESC, id",
        )
        .bind(user.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(login).collect()
    }

    /// Notes that a browser is still there.
    pub async fn see_login(&mut self, id: &str, now: Time) -> Result<()> {
        sqlx::query("UPDATE logins SET seen_at = $2 WHERE id = $1 AND seen_at < $2")
            .bind(id)
            .bind(now.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Ends one of somebody's logins. `false` if they have no such login.
    pub async fn end_login(&mut self, user: &UserId, id: &str) -> Result<bool> {
        let ended = sqlx::query("DELETE FROM logins WHERE id = $1 AND user_id = $2")
            .bind(id)
            .bind(user.as_str())
            .execute(self.connection())
            .await?;
        Ok(ended.rows_affected() == 1)
    }

    /// Forgets logins that have expired.
    pub async fn sweep_logins(&mut self, now: Time) -> Result<u64> {
        let swept =
            sqlx::query("DELETE FROM logins WHERE expires_at < $1").bind(now.0).execute(self.connection()).await?;
        Ok(swept.rows_affected())
    }

    /// The person whom an identity provider calls so.
    pub async fn find_user_of_identity(&mut self, issuer: &str, subject: &str) -> Result<Option<UserId>> {
        let row = sqlx::query("SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2")
            .bind(storable(issuer))
            .bind(storable(subject))
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| Ok(UserId::new(row.text("user_id")?))).transpose()
    }

    /// Who somebody is elsewhere: issuers and subjects, oldest first.
    pub async fn list_identities(&mut self, user: &UserId) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query(
            "SELECT issuer, subject FROM identities WHERE user_id = $1 ORDER BY created_at, issuer, subject",
        )
        .bind(user.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(|row| Ok((row.text("issuer")?, row.text("subject")?))).collect()
    }

    /// `false` if this person is not known by it.
    pub async fn remove_identity(&mut self, user: &UserId, issuer: &str, subject: &str) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM identities WHERE user_id = $1 AND issuer = $2 AND subject = $3")
            .bind(user.as_str())
            .bind(storable(issuer))
            .bind(storable(subject))
            .execute(self.connection())
            .await?;
        Ok(removed.rows_affected() == 1)
    }

    /// `false` if the provider's person is somebody here already.
    pub async fn add_identity(&mut self, issuer: &str, subject: &str, user: &UserId, now: Time) -> Result<bool> {
        let added = sqlx::query(
            "INSERT INTO identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(storable(issuer))
        .bind(storable(subject))
        .bind(user.as_str())
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }
}

fn account(row: AnyRow) -> Result<Account> {
    Ok(Account {
        user: User {
            id: UserId::new(row.text("id")?),
            org: OrgId::new(row.text("org_id")?),
            name: row.text("name")?,
            email: row.maybe_text("email")?,
            role: role(&row.text("role")?),
            active: row.flag("active")?,
            telegram: row.maybe_int("telegram_id")?,
            subject: row.maybe_text("subject")?,
            created_at: Time(row.int("created_at")?),
        },
        login: row.maybe_text("login")?,
        password: row.maybe_text("password")?,
        factor: row.maybe_text("factor_id")?,
        factor_step: row.int("factor_step")?,
        epoch: row.int("epoch")?,
        until: row.maybe_int("until_at")?.map(Time),
        models: row.maybe_text("models")?,
        plan: row.maybe_text("plan_id")?,
        taste: Taste {
            lang: row.maybe_text("lang")?,
            engine: row.maybe_text("engine")?,
            style: row.maybe_text("style")?,
        },
    })
}

impl Account {
    /// Whether they may do anything at all now.
    pub fn may_enter(&self, now: Time) -> bool {
        self.user.active && self.until.is_none_or(|until| now < until)
    }

    pub fn role(&self) -> Role {
        self.user.role
    }
}

fn login(row: AnyRow) -> Result<Login> {
    Ok(Login {
        id: row.text("id")?,
        user: UserId::new(row.text("user_id")?),
        realm: if row.text("realm")? == "desk" { Realm::Desk } else { Realm::House },
        epoch: row.int("epoch")?,
        browser: row.text("browser")?,
        created_at: Time(row.int("created_at")?),
        seen_at: Time(row.int("seen_at")?),
        expires_at: Time(row.int("expires_at")?),
        proved_at: Time(row.int("proved_at")?),
    })
}
