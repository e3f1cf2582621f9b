//! API keys: what was shown once is known by its hash.

use salon_core::people::Role;
use salon_core::{KeyId, OrgId, Time, UserId};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::people::role;
use crate::row::{Column, storable};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: KeyId,
    pub name: String,
    /// The last letters of what was shown.
    pub hint: String,
    /// For whom it speaks.
    pub user: UserId,
    pub maker: UserId,
    /// The key it was made with.
    pub parent: Option<KeyId>,
    pub role: Role,
    /// Scopes as [`salon_core::scopes::Allowed`] writes them; `None` is everything.
    pub routes: Option<String>,
    pub models: Option<String>,
    pub networks: Option<String>,
    pub created_at: Time,
    pub expires_at: Option<Time>,
    pub last_used_at: Option<Time>,
    pub revoked_at: Option<Time>,
}

/// A key that was shown, with what it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub key: ApiKey,
    /// As the row has it, so that it can be compared with what was asked for.
    pub hash: String,
    pub org: OrgId,
    pub zone: String,
    /// What the key may be at most today: the lesser of user and maker.
    pub role: Role,
    /// Whether user and maker both are.
    pub active: bool,
    /// When the time of its user or its maker ends, whichever is first.
    pub until: Option<Time>,
    /// By which models its user and its maker may be answered, between commas.
    pub user_models: Option<String>,
    pub maker_models: Option<String>,
}

impl Tx {
    /// `false` if there is one with that hash or id.
    pub async fn add_api_key(&mut self, key: &ApiKey, hash: &str) -> Result<bool> {
        let added = sqlx::query(
            "INSERT INTO api_keys (id, hash, name, hint, user_id, maker_id, parent_id, role, routes, models, networks, \
             created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT DO NOTHING",
        )
        .bind(key.id.as_str())
        .bind(hash)
        .bind(storable(&key.name))
        .bind(&key.hint)
        .bind(key.user.as_str())
        .bind(key.maker.as_str())
        .bind(key.parent.as_ref().map(KeyId::as_str))
        .bind(key.role.as_str())
        .bind(key.routes.as_deref())
        .bind(key.models.as_deref())
        .bind(key.networks.as_deref())
        .bind(key.created_at.0)
        .bind(key.expires_at.map(|at| at.0))
        .execute(self.connection())
        .await?;
        // Somebody may have tried the key before it was there.
        self.touch_people().await?;
        Ok(added.rows_affected() == 1)
    }

    /// The key with that hash, revoked and expired ones too.
    pub async fn find_shown_key(&mut self, hash: &str) -> Result<Option<Shown>> {
        let row = sqlx::query(
            "SELECT k.id, k.hash, k.name, k.hint, k.user_id, k.maker_id, k.parent_id, k.role, k.routes, k.models, \
             k.networks, k.created_at, k.expires_at, k.last_used_at, k.revoked_at, u.org_id, o.zone, \
             u.role AS user_role, m.role AS maker_role, u.active AS user_active, m.active AS maker_active, \
             u.until_at AS user_until, m.until_at AS maker_until, u.models AS user_models, m.models AS maker_models \
             FROM api_keys k JOIN users u ON u.id = k.user_id JOIN users m ON m.id = k.maker_id \
             JOIN orgs o ON o.id = u.org_id WHERE k.hash = $1",
        )
        .bind(hash)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Shown {
            hash: row.text("hash")?,
            org: OrgId::new(row.text("org_id")?),
            zone: row.text("zone")?,
            role: role(&row.text("user_role")?).min(role(&row.text("maker_role")?)),
            active: row.flag("user_active")? && row.flag("maker_active")?,
            until: [row.maybe_int("user_until")?, row.maybe_int("maker_until")?].into_iter().flatten().min().map(Time),
            user_models: row.maybe_text("user_models")?,
            maker_models: row.maybe_text("maker_models")?,
            key: api_key(&row)?,
        }))
    }

    pub async fn find_api_key(&mut self, id: &KeyId) -> Result<Option<ApiKey>> {
        let row = sqlx::query(
            "SELECT id, name, hint, user_id, maker_id, parent_id, role, routes, models, networks, created_at, \
             expires_at, last_used_at, revoked_at FROM api_keys WHERE id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(api_key).transpose()
    }

    /// Somebody's keys or everybody's, oldest first, revoked ones too.
    pub async fn list_api_keys(&mut self, user: Option<&UserId>) -> Result<Vec<ApiKey>> {
        let rows = sqlx::query(
            "SELECT id, name, hint, user_id, maker_id, parent_id, role, routes, models, networks, created_at, \
             expires_at, last_used_at, revoked_at FROM api_keys WHERE CAST($1 AS TEXT) IS NULL OR user_id = $1 \
             ORDER BY created_at, id",
        )
        .bind(user.map(UserId::as_str))
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(api_key).collect()
    }

    /// Revokes a key and those that were made with it. `false` if there is none that was not revoked before.
    pub async fn revoke_api_key(&mut self, id: &KeyId, now: Time) -> Result<bool> {
        let revoked = sqlx::query(
            "UPDATE api_keys SET revoked_at = $2 WHERE revoked_at IS NULL AND id IN ( \
               WITH RECURSIVE family (id) AS ( \
                 SELECT CAST($1 AS TEXT) \
                 UNION SELECT k.id FROM api_keys k JOIN family f ON k.parent_id = f.id) \
               SELECT id FROM family)",
        )
        .bind(id.as_str())
        .bind(now.0)
        .execute(self.connection())
        .await?;
        self.touch_people().await?;
        Ok(revoked.rows_affected() > 0)
    }

    /// Writes down when keys were used last. Times only move on.
    pub async fn note_key_uses(&mut self, uses: &[(KeyId, Time)]) -> Result<()> {
        for (key, at) in uses {
            sqlx::query(
                "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)",
            )
            .bind(key.as_str())
            .bind(at.0)
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }
}

fn api_key(row: &AnyRow) -> Result<ApiKey> {
    Ok(ApiKey {
        id: KeyId::new(row.text("id")?),
        name: row.text("name")?,
        hint: row.text("hint")?,
        user: UserId::new(row.text("user_id")?),
        maker: UserId::new(row.text("maker_id")?),
        parent: row.maybe_text("parent_id")?.map(KeyId::new),
        role: role(&row.text("role")?),
        routes: row.maybe_text("routes")?,
        models: row.maybe_text("models")?,
        networks: row.maybe_text("networks")?,
        created_at: Time(row.int("created_at")?),
        expires_at: row.maybe_int("expires_at")?.map(Time),
        last_used_at: row.maybe_int("last_used_at")?.map(Time),
        revoked_at: row.maybe_int("revoked_at")?.map(Time),
    })
}
