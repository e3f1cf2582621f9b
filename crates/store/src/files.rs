//! Files that engines leave for people: written with the end of the turn, so a file that is told of is there.

use salon_core::{FileId, Time, TurnId};

use crate::Tx;
use crate::error::Result;
use crate::row::{Column, storable};

/// A file with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    pub id: FileId,
    pub turn: TurnId,
    pub name: String,
    /// Its media type, as its bytes say.
    pub media: String,
    pub data: Vec<u8>,
}

impl Tx {
    /// Adds a file. One that is there stays as it is.
    pub async fn add_file(&mut self, file: &StoredFile, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO files (id, turn_id, name, media, size, data, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT DO NOTHING",
        )
        .bind(file.id.as_str())
        .bind(file.turn.as_str())
        .bind(storable(&file.name))
        .bind(storable(&file.media))
        .bind(file.data.len() as i64)
        .bind(file.data.clone())
        .bind(now.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    pub async fn find_file(&mut self, id: &FileId) -> Result<Option<StoredFile>> {
        let row = sqlx::query("SELECT id, turn_id, name, media, data FROM files WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(self.connection())
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(StoredFile {
            id: FileId::new(row.text("id")?),
            turn: TurnId::new(row.text("turn_id")?),
            name: row.text("name")?,
            media: row.text("media")?,
            data: row.bytes("data")?,
        }))
    }
}
