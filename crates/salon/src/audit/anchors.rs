//! Anchors: where the audit stood at a moment, written outside of the database. Without them whoever cuts its end off, or
//! has the key and writes it anew, would not be found out.
//!
//! They are lines in a file beside the data and in the log, which is best sent to another machine.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use salon_core::Time;
use tokio_util::sync::CancellationToken;

use crate::Salon;

/// The file's name in the data folder.
pub const FILE: &str = "audit-anchors.log";
/// An anchor is made after so many new lines, or after so long if there is one.
const EVERY: i64 = 1_000;
const AT_LATEST: Duration = Duration::from_secs(10 * 60);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the audit stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub at: Time,
    pub seq: i64,
    pub mac: String,
}

impl Anchor {
    fn line(&self) -> String {
        format!("{} seq={} mac={}\n", self.at, self.seq, self.mac)
    }

    fn parse(line: &str) -> Option<Anchor> {
        let mut words = line.split(' ');
        let (at, seq, mac) = (words.next()?, words.next()?, words.next()?);
        Some(Anchor {
            at: Time(at.parse().ok()?),
            seq: seq.strip_prefix("seq=")?.parse().ok()?,
            mac: mac.strip_prefix("mac=")?.to_owned(),
        })
    }
}

/// The anchors of a data folder, and how many lines there are that are none. A missing file has none.
pub fn read(folder: &Path) -> std::io::Result<(Vec<Anchor>, usize)> {
    let file = match File::open(folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let (mut anchors, mut strange) = (Vec::new(), 0);
    for line in BufReader::new(file).lines() {
        match Anchor::parse(&line?) {
            Some(anchor) => anchors.push(anchor),
            None => strange += 1,
        }
    }
    Ok((anchors, strange))
}

/// Makes anchors in a data folder.
pub struct Anchors {
    salon: Arc<Salon>,
    folder: PathBuf,
    /// The last line that has an anchor.
    seq: i64,
    made_at: Time,
}

impl Anchors {
    pub fn open(salon: Arc<Salon>, folder: PathBuf) -> std::io::Result<Anchors> {
        let seq = read(&folder)?.0.last().map_or(0, |anchor| anchor.seq);
        let made_at = salon.clock.now();
        Ok(Anchors { salon, folder, seq, made_at })
    }

    /// Makes anchors until Salon closes, and a last one then.
    pub async fn keep(mut self, closing: CancellationToken) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ends = tokio::select! {
                () = closing.cancelled() => true,
                _ = every.tick() => false,
            };
            let made = if ends { self.make(1).await } else { self.make_when_due().await };
            if let Err(error) = made {
                tracing::warn!(error = format!("{error:#}"), "the audit could not be anchored");
            }
            if ends {
                return;
            }
        }
    }

    /// Makes an anchor if it is time for one. `false` if it is not.
    pub async fn make_when_due(&mut self) -> anyhow::Result<bool> {
        let waited = self.salon.clock.now().since(self.made_at) >= AT_LATEST;
        self.make(if waited { 1 } else { EVERY }).await
    }

    /// Makes an anchor if there are so many lines without one.
    async fn make(&mut self, lines: i64) -> anyhow::Result<bool> {
        let head = self.salon.store.read().await?.audit_head().await?;
        if head.seq - self.seq < lines {
            return Ok(false);
        }
        let anchor = Anchor { at: self.salon.clock.now(), seq: head.seq, mac: head.mac };
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.folder.join(FILE));
        file.and_then(|mut file| {
            file.write_all(anchor.line().as_bytes())?;
            file.sync_data()
        })?;
        tracing::info!(seq = anchor.seq, mac = anchor.mac, "audit anchor");
        (self.seq, self.made_at) = (anchor.seq, anchor.at);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_read_as_it_was_written() {
        let anchor = Anchor { at: Time(1_000), seq: 7, mac: "ab".to_owned() };
        assert_eq!(Anchor::parse(anchor.line().trim_end()), Some(anchor));
        assert_eq!(Anchor::parse("1000 seq=x mac=ab"), None);
        assert_eq!(Anchor::parse(""), None);
    }
}
