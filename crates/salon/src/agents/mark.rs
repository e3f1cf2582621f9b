//! Whose folder of workspaces it is: a mark in it names the database that knows the chats and sessions in there.
//!
//! What a database does not know is swept, so two databases must not share a folder.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use salon_store::{Result, Store};

/// The file in the folder.
const MARK: &str = ".database";
/// The setting that is the database's name.
const NAME: &str = "database";

/// The name of a database, made at its first use: `new` if it has none.
pub async fn name_of(store: &Store, new: &str) -> Result<String> {
    store
        .write(new.to_owned(), |tx, new| {
            Box::pin(async move {
                tx.add_setting(NAME, new).await?;
                Ok(tx.find_setting(NAME).await?.unwrap_or_else(|| new.clone()))
            })
        })
        .await
}

/// Marks a folder as this database's. `false` if it is another's. Reads and writes files.
pub fn claim(folder: &Path, database: &str) -> io::Result<bool> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if !folder.join(MARK).exists() {
        // Whoever comes second finds the whole mark of the first, and not the beginning of one.
        let new = folder.join(format!("{MARK}.{:08x}", rand::random::<u32>()));
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(database.as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&new, folder.join(MARK));
        fs::remove_file(&new)?;
        linked.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
    }
    is_of(folder, database)
}

/// Whether a folder is marked as this database's.
pub fn is_of(folder: &Path, database: &str) -> io::Result<bool> {
    match fs::read_to_string(folder.join(MARK)) {
        Ok(mark) => Ok(mark.trim() == database),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
