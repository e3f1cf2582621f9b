//! Files that an engine left: each is sent behind its answer, and its message's number recorded.
//!
//! Nothing can be placed first and filled later here, so a crash between a file's arrival and the record of it sends it
//! once more: a file that comes twice is better than one that never does.

use salon_core::{FileId, KeptFile, LeftFile};
use salon_store::{Error, Part};
use salon_telegram::text::plain;
use salon_telegram::types::Upload;
use salon_telegram::{Act, Class};

use super::{Courier, Halt};

/// What Telegram shows as a photo, up to so many bytes; everything else is a document.
const PHOTO_BYTES: i64 = 10 << 20;

impl Courier<'_> {
    /// Sends the files that the chat does not have yet, and answers which of them Telegram will not have. `marked` puts the
    /// bridge's words into the captions.
    pub async fn send_files(&mut self, files: &[LeftFile], marked: bool) -> Result<Vec<KeptFile>, Halt> {
        let mut untaken = Vec::new();
        if files.is_empty() {
            return Ok(untaken);
        }
        let owner = format!("{}:files", self.owner);
        let sent = self.salon.store.read().await?.list_shown(&owner).await?;
        for (file, number) in files.iter().zip(0..) {
            if sent.contains(&number) {
                continue;
            }
            let found = self.salon.store.read().await?.find_file(&FileId::new(file.id.as_str())).await?;
            // It may have been deleted with its dialog.
            let Some(found) = found else { continue };
            let photo = is_photo(file);
            let mut upload = Upload::new(self.chat.0, found.name.clone(), found.data);
            upload.message_thread_id = self.topic;
            upload.caption = marked.then(|| plain(&mark(file, photo)));
            let message = self.send_file(upload, photo).await?;
            let Some(message) = message else {
                untaken.push(KeptFile { name: file.name.clone(), why: "not_taken".to_owned() });
                continue;
            };
            self.record_file(&owner, number, message).await?;
        }
        Ok(untaken)
    }

    /// Sends a picture of our own making, once.
    pub async fn send_picture(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Halt> {
        let owner = format!("{}:files", self.owner);
        if !self.salon.store.read().await?.list_shown(&owner).await?.is_empty() {
            return Ok(());
        }
        let mut upload = Upload::new(self.chat.0, name, bytes);
        upload.message_thread_id = self.topic;
        if let Some(message) = self.send_file(upload, true).await? {
            self.record_file(&owner, 0, message).await?;
        }
        Ok(())
    }

    /// `None` if Telegram will not have it, whatever we do.
    async fn send_file(&mut self, upload: Upload, photo: bool) -> Result<Option<i64>, Halt> {
        self.go(Act::Send).await?;
        let mut method = if photo { "sendPhoto" } else { "sendDocument" };
        let mut sent = match photo {
            true => self.bot.client.send_photo(upload.clone()).await,
            false => self.bot.client.send_document(upload.clone()).await,
        };
        if let Err(error) = &sent
            && photo
            && error.class() == Class::BadRequest
        {
            // What looks like a picture may be none that Telegram can shrink.
            self.go(Act::Send).await?;
            method = "sendDocument";
            sent = self.bot.client.send_document(upload).await;
        }
        match sent {
            Ok(message) => {
                self.bot.reached();
                Ok(Some(message.message_id))
            }
            Err(error) if error.class() == Class::BadRequest => {
                tracing::warn!(bot.name = %self.bot.id(), %error, "a file was refused");
                self.salon.metrics.count(self.bot.id().as_str(), "files_refused");
                Ok(None)
            }
            Err(error) => Err(self.halt(method, &error)),
        }
    }

    async fn record_file(&self, owner: &str, number: i64, message: i64) -> Result<(), Error> {
        let part = Part {
            owner: owner.to_owned(),
            part: number,
            bot: self.bot.id().clone(),
            chat: self.chat,
            message: Some(message),
        };
        let args = (self.work.lease.ticket.clone(), self.work.lease.until(self.salon), part, self.salon.clock.now());
        self.work
            .write(self.salon, args, |tx, (ticket, until, part, now)| {
                Box::pin(async move {
                    let held = tx.hold(ticket, *until).await?;
                    tx.place_part(&held, part, *now).await?;
                    tx.mark_shown(&held, &part.owner, &[part.part], *now).await
                })
            })
            .await
    }
}

fn is_photo(file: &LeftFile) -> bool {
    matches!(file.media.as_str(), "image/png" | "image/jpeg" | "image/webp") && file.size <= PHOTO_BYTES
}

fn mark(file: &LeftFile, photo: bool) -> String {
    let kind = match file.media.as_str() {
        _ if photo => "image",
        media if media.starts_with("image/") => "image",
        "text/html" => "html",
        _ => "file",
    };
    format!("[artifact:{kind}] {}", file.name)
}
