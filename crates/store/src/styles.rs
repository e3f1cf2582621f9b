//! How a dialog is called, and the style in which it is answered, where people chose them.

use salon_core::DialogId;

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

impl Tx {
    /// The name of a dialog's style; `None` if nobody chose one.
    pub async fn find_style(&mut self, dialog: &DialogId) -> Result<Option<String>> {
        let row = sqlx::query("SELECT style FROM dialogs WHERE id = $1")
            .bind(dialog.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.map_or(Ok(None), |row| row.maybe_text("style"))
    }

    /// Chooses a style, or takes the choice back.
    pub async fn set_style(&mut self, dialog: &DialogId, style: Option<&str>) -> Result<()> {
        sqlx::query("UPDATE dialogs SET style = $2 WHERE id = $1")
            .bind(dialog.as_str())
            .bind(style.map(storable))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// What people call a dialog; `None` if nobody named it.
    pub async fn find_title(&mut self, dialog: &DialogId) -> Result<Option<String>> {
        let row = sqlx::query("SELECT title FROM dialogs WHERE id = $1")
            .bind(dialog.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.map_or(Ok(None), |row| row.maybe_text("title"))
    }
}
