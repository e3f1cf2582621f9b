//! Sealed secrets, and the wrapped keys that sealed them. What is inside is nobody's business here.

use salon_core::{SecretId, Time};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::row::Column;

/// A data key, wrapped by a master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dek {
    pub id: String,
    pub owner: String,
    /// The master key that wrapped it.
    pub kid: String,
    pub wrapped: Vec<u8>,
    pub created_at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub id: SecretId,
    pub owner: String,
    pub provider: String,
    pub origin: String,
    pub dek: String,
    pub blob: Vec<u8>,
    pub hint: String,
    pub created_at: Time,
}

/// The master keys that a process has at hand, the one that encrypts first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    pub instance: String,
    pub kids: Vec<String>,
    pub seen_at: Time,
}

impl Tx {
    /// Adds an owner's active key. `false` if the owner has one; then nothing changes.
    pub async fn add_dek(&mut self, dek: &Dek) -> Result<bool> {
        let added = sqlx::query(
            "INSERT INTO deks (id, owner, kid, wrapped, active, created_at) VALUES ($1, $2, $3, $4, 1, $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&dek.id)
        .bind(&dek.owner)
        .bind(&dek.kid)
        .bind(&dek.wrapped)
        .bind(dek.created_at.0)
        .execute(self.connection())
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Puts another key in the place of the active one `old`. `false` if `old` is not active any more; then nothing
    /// changes.
    pub async fn replace_dek(&mut self, old: &str, dek: &Dek) -> Result<bool> {
        let retired = sqlx::query("UPDATE deks SET active = 0 WHERE id = $1 AND owner = $2 AND active = 1")
            .bind(old)
            .bind(&dek.owner)
            .execute(self.connection())
            .await?;
        if retired.rows_affected() == 0 {
            return Ok(false);
        }
        self.add_dek(dek).await
    }

    pub async fn find_dek(&mut self, id: &str) -> Result<Option<Dek>> {
        let row = sqlx::query("SELECT id, owner, kid, wrapped, created_at FROM deks WHERE id = $1")
            .bind(id)
            .fetch_optional(self.connection())
            .await?;
        row.map(dek).transpose()
    }

    pub async fn find_active_dek(&mut self, owner: &str) -> Result<Option<Dek>> {
        let row = sqlx::query("SELECT id, owner, kid, wrapped, created_at FROM deks WHERE owner = $1 AND active = 1")
            .bind(owner)
            .fetch_optional(self.connection())
            .await?;
        row.map(dek).transpose()
    }

    /// Keys behind the id `after`, in the order of their ids.
    pub async fn list_deks(&mut self, after: &str, limit: i64) -> Result<Vec<Dek>> {
        let rows =
            sqlx::query("SELECT id, owner, kid, wrapped, created_at FROM deks WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(after)
                .bind(limit)
                .fetch_all(self.connection())
                .await?;
        rows.into_iter().map(dek).collect()
    }

    /// Keys behind the id `after` that another master key than `kid` wrapped, in the order of their ids.
    pub async fn list_deks_beside(&mut self, kid: &str, after: &str, limit: i64) -> Result<Vec<Dek>> {
        let rows = sqlx::query(
            "SELECT id, owner, kid, wrapped, created_at FROM deks WHERE kid <> $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(kid)
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(dek).collect()
    }

    /// Active keys behind the id `after` that were made before `before`, in the order of their ids.
    pub async fn list_older_deks(&mut self, before: Time, after: &str, limit: i64) -> Result<Vec<Dek>> {
        let rows = sqlx::query(
            "SELECT id, owner, kid, wrapped, created_at FROM deks \
             WHERE active = 1 AND owner <> 'salon' AND created_at < $1 AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(before.0)
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(dek).collect()
    }

    /// Puts the new wrapping in the place of the old one. `false` if it is not there any more: somebody else was faster.
    pub async fn rewrap_dek(&mut self, id: &str, old: &[u8], kid: &str, wrapped: &[u8]) -> Result<bool> {
        let moved = sqlx::query("UPDATE deks SET kid = $3, wrapped = $4 WHERE id = $1 AND wrapped = $2")
            .bind(id)
            .bind(old.to_vec())
            .bind(kid)
            .bind(wrapped.to_vec())
            .execute(self.connection())
            .await?;
        Ok(moved.rows_affected() == 1)
    }

    /// How many data keys each master key wrapped.
    pub async fn count_deks(&mut self) -> Result<Vec<(String, i64)>> {
        let rows = sqlx::query("SELECT kid, COUNT(*) AS deks FROM deks GROUP BY kid ORDER BY kid")
            .fetch_all(self.connection())
            .await?;
        rows.into_iter().map(|row| Ok((row.text("kid")?, row.int("deks")?))).collect()
    }

    /// Deletes data keys that nothing is sealed by any more and that nothing will be.
    pub async fn drop_retired_deks(&mut self) -> Result<u64> {
        let dropped = sqlx::query(
            "DELETE FROM deks WHERE active = 0 AND NOT EXISTS (SELECT 1 FROM secrets s WHERE s.dek_id = deks.id)",
        )
        .execute(self.connection())
        .await?;
        Ok(dropped.rows_affected())
    }

    /// Stores a secret in the place of the one for the same owner, provider and origin. `false` if its data key is not
    /// active any more; then nothing changes, and it is to be sealed anew.
    pub async fn put_secret(&mut self, secret: &Sealed) -> Result<bool> {
        let active = sqlx::query("SELECT id FROM deks WHERE id = $1 AND owner = $2 AND active = 1")
            .bind(&secret.dek)
            .bind(&secret.owner)
            .fetch_optional(self.connection())
            .await?;
        if active.is_none() {
            return Ok(false);
        }
        // Blob and id belong together, so all of the row changes or none of it.
        sqlx::query(
            "INSERT INTO secrets (id, owner, provider, origin, dek_id, sealed, hint, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (owner, provider, origin) \
             DO UPDATE SET id = $1, dek_id = $5, sealed = $6, hint = $7, created_at = $8",
        )
        .bind(secret.id.as_str())
        .bind(&secret.owner)
        .bind(&secret.provider)
        .bind(&secret.origin)
        .bind(&secret.dek)
        .bind(&secret.blob)
        .bind(&secret.hint)
        .bind(secret.created_at.0)
        .execute(self.connection())
        .await?;
        self.touch_people().await?;
        Ok(true)
    }

    pub async fn find_secret(&mut self, owner: &str, provider: &str, origin: &str) -> Result<Option<Sealed>> {
        let row = sqlx::query(
            "SELECT id, owner, provider, origin, dek_id, sealed, hint, created_at FROM secrets \
             WHERE owner = $1 AND provider = $2 AND origin = $3",
        )
        .bind(owner)
        .bind(provider)
        .bind(origin)
        .fetch_optional(self.connection())
        .await?;
        row.map(sealed).transpose()
    }

    /// An owner's secrets or everybody's, behind the id `after`, in the order of their ids.
    pub async fn list_secrets(&mut self, owner: Option<&str>, after: &str, limit: i64) -> Result<Vec<Sealed>> {
        let rows = sqlx::query(
            "SELECT id, owner, provider, origin, dek_id, sealed, hint, created_at FROM secrets \
             WHERE (CAST($1 AS TEXT) IS NULL OR owner = $1) AND id > $2 ORDER BY id LIMIT $3",
        )
        .bind(owner)
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(sealed).collect()
    }

    /// Secrets behind the id `after` whose data key was retired, in the order of their ids.
    pub async fn list_stale_secrets(&mut self, after: &str, limit: i64) -> Result<Vec<Sealed>> {
        let rows = sqlx::query(
            "SELECT s.id, s.owner, s.provider, s.origin, s.dek_id, s.sealed, s.hint, s.created_at \
             FROM secrets s JOIN deks d ON d.id = s.dek_id WHERE d.active = 0 AND s.id > $1 ORDER BY s.id LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.into_iter().map(sealed).collect()
    }

    /// Puts the new blob in the place of the old one. `false` if it is not there any more: somebody else was faster.
    pub async fn reseal_secret(&mut self, id: &SecretId, old: &[u8], dek: &str, blob: &[u8]) -> Result<bool> {
        let moved = sqlx::query("UPDATE secrets SET dek_id = $3, sealed = $4 WHERE id = $1 AND sealed = $2")
            .bind(id.as_str())
            .bind(old.to_vec())
            .bind(dek)
            .bind(blob.to_vec())
            .execute(self.connection())
            .await?;
        Ok(moved.rows_affected() == 1)
    }

    /// `false` if there is none with that id.
    pub async fn remove_secret(&mut self, id: &SecretId) -> Result<bool> {
        let removed =
            sqlx::query("DELETE FROM secrets WHERE id = $1").bind(id.as_str()).execute(self.connection()).await?;
        self.touch_people().await?;
        Ok(removed.rows_affected() == 1)
    }

    /// Says which master keys this process has at hand, and forgets processes not seen since `forget`.
    pub async fn show_keyring(&mut self, keyring: &Keyring, forget: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO keyrings (instance, kids, seen_at) VALUES ($1, $2, $3) \
             ON CONFLICT (instance) DO UPDATE SET kids = $2, seen_at = $3",
        )
        .bind(&keyring.instance)
        .bind(keyring.kids.join(","))
        .bind(keyring.seen_at.0)
        .execute(self.connection())
        .await?;
        sqlx::query("DELETE FROM keyrings WHERE seen_at < $1").bind(forget.0).execute(self.connection()).await?;
        Ok(())
    }

    /// A process that ends in order has no keys any more.
    pub async fn drop_keyring(&mut self, instance: &str) -> Result<()> {
        sqlx::query("DELETE FROM keyrings WHERE instance = $1").bind(instance).execute(self.connection()).await?;
        Ok(())
    }

    /// The processes that were seen since `since`.
    pub async fn list_keyrings(&mut self, since: Time) -> Result<Vec<Keyring>> {
        let rows = sqlx::query("SELECT instance, kids, seen_at FROM keyrings WHERE seen_at >= $1 ORDER BY instance")
            .bind(since.0)
            .fetch_all(self.connection())
            .await?;
        let keyring = |row: AnyRow| {
            Ok(Keyring {
                instance: row.text("instance")?,
                kids: row.text("kids")?.split(',').map(str::to_owned).collect(),
                seen_at: Time(row.int("seen_at")?),
            })
        };
        rows.into_iter().map(keyring).collect()
    }
}

fn dek(row: AnyRow) -> Result<Dek> {
    Ok(Dek {
        id: row.text("id")?,
        owner: row.text("owner")?,
        kid: row.text("kid")?,
        wrapped: row.bytes("wrapped")?,
        created_at: Time(row.int("created_at")?),
    })
}

fn sealed(row: AnyRow) -> Result<Sealed> {
    Ok(Sealed {
        id: SecretId::new(row.text("id")?),
        owner: row.text("owner")?,
        provider: row.text("provider")?,
        origin: row.text("origin")?,
        dek: row.text("dek_id")?,
        blob: row.bytes("sealed")?,
        hint: row.text("hint")?,
        created_at: Time(row.int("created_at")?),
    })
}
