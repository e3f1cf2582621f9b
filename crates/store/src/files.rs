//! Files that engines leave for people: written with the end of the turn, so a file that is told of is there.

use salon_core::{DialogId, FileId, Time, TurnId};

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

    /// Adds a file that somebody brought with the question.
    pub async fn add_brought(&mut self, file: &StoredFile, now: Time) -> Result<()> {
        self.add_file(file, now).await?;
        sqlx::query("UPDATE files SET brought = 1 WHERE id = $1")
            .bind(file.id.as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// What somebody brought with the question of a turn, in the order of its names.
    pub async fn list_brought(&mut self, turn: &TurnId) -> Result<Vec<StoredFile>> {
        let rows = sqlx::query(
            "SELECT id, turn_id, name, media, data FROM files WHERE turn_id = $1 AND brought = 1 ORDER BY name, id",
        )
        .bind(turn.as_str())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(stored).collect()
    }

    /// What was brought with the questions of a dialog, without what is in it: turn, file and name.
    pub async fn list_brought_to(&mut self, dialog: &DialogId) -> Result<Vec<(TurnId, FileId, String)>> {
        let rows = sqlx::query(
            "SELECT f.id AS id, f.turn_id AS turn_id, f.name AS name \
             FROM turns t JOIN files f ON f.turn_id = t.id WHERE t.dialog_id = $1 AND f.brought = 1 \
             ORDER BY t.number, f.name, f.id",
        )
        .bind(dialog.as_str())
        .fetch_all(self.connection())
        .await?;
        let read = |row: &sqlx::any::AnyRow| {
            let (turn, file) = (TurnId::new(row.text("turn_id")?), FileId::new(row.text("id")?));
            Ok((turn, file, row.text("name")?))
        };
        rows.iter().map(read).collect()
    }

    pub async fn find_file(&mut self, id: &FileId) -> Result<Option<StoredFile>> {
        let row = sqlx::query("SELECT id, turn_id, name, media, data FROM files WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(stored).transpose()
    }
}

fn stored(row: &sqlx::any::AnyRow) -> Result<StoredFile> {
    Ok(StoredFile {
        id: FileId::new(row.text("id")?),
        turn: TurnId::new(row.text("turn_id")?),
        name: row.text("name")?,
        media: row.text("media")?,
        data: row.bytes("data")?,
    })
}
