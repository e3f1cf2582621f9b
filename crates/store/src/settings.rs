//! Settings: facts about the whole, by name.

use crate::Tx;
use crate::error::Result;
use crate::row::Column;

impl Tx {
    pub async fn find_setting(&mut self, name: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(self.connection())
            .await?;
        row.map(|row| row.text("value")).transpose()
    }

    /// Sets what was not set before. `false` if it was; then nothing changes.
    pub async fn add_setting(&mut self, name: &str, value: &str) -> Result<bool> {
        let added = sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(value)
            .execute(self.connection())
            .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Sets whatever was set before.
    pub async fn set_setting(&mut self, name: &str, value: &str) -> Result<()> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2")
            .bind(name)
            .bind(value)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// `false` if it was not set.
    pub async fn remove_setting(&mut self, name: &str) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM settings WHERE name = $1").bind(name).execute(self.connection()).await?;
        Ok(removed.rows_affected() == 1)
    }

    /// The settings whose names begin with `prefix`, by name.
    pub async fn list_settings(&mut self, prefix: &str) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query("SELECT name, value FROM settings WHERE SUBSTR(name, 1, LENGTH($1)) = $1 ORDER BY name")
            .bind(prefix)
            .fetch_all(self.connection())
            .await?;
        rows.into_iter().map(|row| Ok((row.text("name")?, row.text("value")?))).collect()
    }
}
