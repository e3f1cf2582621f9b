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
}
