//! The desk of an open Salon: a socket beside the data, at which commands of the office are handed in.
//!
//! Whoever can reach the socket can read the data and the master key beside it, so nothing more is asked of them.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser as _;
use salon::ledger::Book;
use salon_engine::Secret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Forwarded, Room, Told};

/// The socket's name in the data folder.
pub const SOCKET: &str = "salon.sock";

const MAX_BYTES: u64 = 64 * 1024;
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// For handing a command in. What it does may take longer.
const PATIENCE: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 8;

#[derive(Serialize, Deserialize)]
struct Asked {
    words: Vec<String>,
    input: Option<String>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Told(Told),
    Failed(String),
}

/// Takes commands in until the house closes.
pub struct Desk {
    listener: UnixListener,
    path: PathBuf,
    room: Arc<Room>,
    book: Book,
}

impl Drop for Desk {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

impl Desk {
    /// Opens the desk in a data folder that is ours alone. A socket that is there was left by a process that was killed.
    ///
    /// The book learns at once of limits that come with a command.
    pub fn open(folder: &Path, room: Room, book: Book) -> Result<Desk> {
        super::private_folder(folder)?;
        let path = folder.join(SOCKET);
        std::fs::remove_file(&path).ok();
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Desk { listener, path, room: Arc::new(room), book })
    }

    pub async fn serve(self, closing: CancellationToken) {
        let mut asked = JoinSet::new();
        loop {
            tokio::select! {
                () = closing.cancelled() => break,
                _ = asked.join_next(), if !asked.is_empty() => {}
                came = self.listener.accept(), if asked.len() < AT_ONCE => match came {
                    Ok((stream, _)) => {
                        let (room, book) = (self.room.clone(), self.book.clone());
                        asked.spawn(async move {
                            if let Err(error) = attend(stream, &room, &book).await {
                                tracing::debug!(%error, "a command was not handed in properly");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the desk cannot be reached");
                        tokio::time::sleep(PATIENCE).await;
                    }
                },
            }
        }
        // What was begun is finished: a rotation stops between two batches only if the process is killed.
        while asked.join_next().await.is_some() {}
    }
}

async fn attend(mut stream: UnixStream, room: &Room, book: &Book) -> Result<()> {
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    tokio::time::timeout(PATIENCE, (&mut stream).take(MAX_BYTES).read_to_end(&mut bytes)).await??;
    let asked: Asked = serde_json::from_slice(&bytes)?;
    let input = asked.input.map(Secret::new);
    let answer = match Forwarded::try_parse_from(&asked.words) {
        Err(error) => Answer::Failed(error.to_string()),
        Ok(parsed) => match parsed.command.perform(room, input).await {
            Ok(told) => Answer::Told(told),
            Err(error) => Answer::Failed(format!("{error:#}")),
        },
    };
    // A key that was made with limits has them from its first use on.
    if let Err(error) = book.look().await {
        tracing::warn!(%error, "limits that came with a command are not known yet");
    }
    let answer = zeroize::Zeroizing::new(serde_json::to_vec(&answer)?);
    stream.write_all(&answer).await?;
    Ok(stream.shutdown().await?)
}

/// Hands a command in at the desk of the Salon that has this data folder. `None` if none is open.
pub(super) async fn ask(folder: &Path, words: &[String], input: Option<&Secret>) -> Result<Option<Told>> {
    let mut stream = match UnixStream::connect(folder.join(SOCKET)).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        // A name that is too long for a socket: there is none.
        Err(error) if error.kind() == ErrorKind::InvalidInput => return Ok(None),
        Err(error) => return Err(error).context("the Salon that has this data folder cannot be asked"),
    };
    let asked = Asked { words: words.to_vec(), input: input.map(|secret| secret.expose().to_owned()) };
    let bytes = zeroize::Zeroizing::new(serde_json::to_vec(&asked)?);
    if bytes.len() as u64 >= MAX_BYTES {
        bail!("the command is too long");
    }
    let gone = "the Salon that has this data folder ended before it answered; look whether the command had an effect";
    stream.write_all(&bytes).await.context(gone)?;
    stream.shutdown().await.context(gone)?;
    let mut answer = zeroize::Zeroizing::new(Vec::new());
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.context(gone)?;
    match serde_json::from_slice(&answer).context(gone)? {
        Answer::Told(told) => Ok(Some(told)),
        Answer::Failed(why) => bail!(why),
    }
}
