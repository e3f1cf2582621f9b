//! Panels of people and organisations. What a body means is known above.

use salon_core::{Owner, Time};
use sqlx::any::AnyRow;

use crate::Tx;
use crate::error::Result;
use crate::row::Column;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelRow {
    pub id: String,
    pub owner: Owner,
    pub name: String,
    pub body: String,
    pub updated_at: Time,
}

impl Tx {
    pub async fn find_panel(&mut self, owner: &Owner, name: &str) -> Result<Option<PanelRow>> {
        let row = sqlx::query("SELECT id, owner, name, body, updated_at FROM panels WHERE owner = $1 AND name = $2")
            .bind(owner.to_string())
            .bind(name)
            .fetch_optional(self.connection())
            .await?;
        row.map(panel).transpose()
    }

    /// An owner's panels, by name.
    pub async fn list_panels(&mut self, owner: &Owner) -> Result<Vec<PanelRow>> {
        let rows =
            sqlx::query("SELECT id, owner, name, body, updated_at FROM panels WHERE owner = $1 ORDER BY name, id")
                .bind(owner.to_string())
                .fetch_all(self.connection())
                .await?;
        rows.into_iter().map(panel).collect()
    }

    /// Adds a panel, or writes it anew under its owner and name.
    pub async fn put_panel(&mut self, panel: &PanelRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO panels (id, owner, name, body, updated_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (owner, name) DO UPDATE SET body = $4, updated_at = $5",
        )
        .bind(&panel.id)
        .bind(panel.owner.to_string())
        .bind(&panel.name)
        .bind(&panel.body)
        .bind(panel.updated_at.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// `false` if there was none.
    pub async fn remove_panel(&mut self, owner: &Owner, name: &str) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM panels WHERE owner = $1 AND name = $2")
            .bind(owner.to_string())
            .bind(name)
            .execute(self.connection())
            .await?;
        Ok(removed.rows_affected() == 1)
    }
}

fn panel(row: AnyRow) -> Result<PanelRow> {
    let owner = row.text("owner")?;
    Ok(PanelRow {
        id: row.text("id")?,
        owner: Owner::parse(&owner).ok_or_else(|| anyhow::anyhow!("a panel belongs to {owner}"))?,
        name: row.text("name")?,
        body: row.text("body")?,
        updated_at: Time(row.int("updated_at")?),
    })
}
