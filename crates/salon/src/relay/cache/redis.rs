//! Answers in a Redis, where every process on the same data finds them.
//!
//! Redis is somebody else's program, and other programs may write to it. So what lies there is sealed under a key of the
//! data's, and bound to its place: what was not put there by one of us does not open, and what was moved does not either.
//! And no call waits for it longer than the settings' patience: where it is away or slow there is no answer of before, and it is
//! left alone until it answers again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError};
use salon_engine::Secret;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use ulid::Ulid;

use super::{About, CacheSettings, Kept, Name};
use crate::keys::hex;
use crate::metrics::Metrics;
use crate::seal::{Blob, Key, seal};

/// For whatever no call waits for.
const SLOWLY: Duration = Duration::from_secs(1);
/// The pause before it is called again; it doubles up to the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Answers that are on their way there at once. Those beyond are not kept.
const WRITES: usize = 64;
/// What an answer's head and its seal take at most.
const FRAME: usize = 16 << 10;
/// What answers are bound to, beside their place.
const LABEL: &[u8] = b"salon.answer.v1";
/// Something that somebody should look at is said again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A Redis. Its connections live as long as it does.
pub(super) struct Redis {
    inner: Arc<Inner>,
    _closes: DropGuard,
}

struct Inner {
    client: Client,
    lines: Mutex<Option<Lines>>,
    lost: Notify,
    seal: Key,
    /// How long a call waits for an answer of before.
    patience: Duration,
    /// The longest sealed answer.
    longest: usize,
    writes: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    said: Mutex<Option<Instant>>,
}

/// Two connections, so that long answers on their way there hold nobody up who asks.
#[derive(Clone)]
struct Lines {
    read: MultiplexedConnection,
    write: MultiplexedConnection,
    /// Whether these are still the ones that a failure is about.
    since: Instant,
}

/// What stands before an answer's body, on a line of its own.
#[derive(Serialize, Deserialize)]
struct Label {
    at: i64,
    about: About,
}

impl Redis {
    /// Connects, or begins to try. An error says that the address cannot be one.
    pub(super) async fn open(
        address: &Secret,
        seal: Key,
        settings: &CacheSettings,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Redis> {
        let inner = Arc::new(Inner::new(address, seal, settings, metrics)?);
        if let Err(why) = inner.connect().await {
            tracing::warn!(why, "Redis is away, so no answers are given again until it is back");
            inner.lost.notify_one();
        }
        let closed = CancellationToken::new();
        tokio::spawn(stay_connected(inner.clone(), closed.clone()));
        Ok(Redis { inner, _closes: closed.drop_guard() })
    }

    /// Sees whether it is there.
    pub(super) async fn probe(address: &Secret, settings: &CacheSettings) -> Result<(), String> {
        let inner = Inner::new(address, Key::default(), settings, Arc::default()).map_err(|error| error.to_string())?;
        inner.connect().await.map_err(str::to_owned)
    }

    pub(super) async fn find(&self, name: &Name) -> Option<Kept> {
        let inner = &self.inner;
        let Some(mut lines) = inner.lines().clone() else {
            inner.metrics.count("", "relay_cache_away");
            return None;
        };
        // No more of it than one of ours could be, whatever lies there.
        let mut command = redis::cmd("GETRANGE");
        command.arg(place(name)).arg(0).arg(inner.longest);
        let asked = command.query_async::<Vec<u8>>(&mut lines.read);
        let found = inner.judge(lines.since, tokio::time::timeout(inner.patience, asked).await)?;
        if found.is_empty() {
            return None;
        }
        let opened = inner.open(name, &found);
        if opened.is_none() {
            inner.metrics.count("", "relay_cache_foreign");
            inner.say("something in Redis stands in the place of an answer and is none of ours");
        }
        opened
    }

    /// Puts an answer there, without anybody waiting for it.
    pub(super) fn keep(&self, name: Name, kept: Kept, ttl: Duration) {
        let inner = self.inner.clone();
        let (lines, permit) = (inner.lines().clone(), inner.writes.clone().try_acquire_owned());
        let (Some(mut lines), Ok(permit)) = (lines, permit) else {
            inner.metrics.count("", "relay_cache_away");
            return;
        };
        tokio::spawn(async move {
            let _permit = permit;
            let Some(sealed) = inner.seal(&name, &kept) else { return };
            let mut command = redis::cmd("SET");
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            command.arg(place(&name)).arg(sealed).arg("PX").arg(ttl_ms);
            let asked = command.query_async::<()>(&mut lines.write);
            if inner.judge(lines.since, tokio::time::timeout(SLOWLY, asked).await).is_some() {
                inner.metrics.count("", "relay_cache_kept");
            }
        });
    }
}

impl Inner {
    fn new(address: &Secret, seal: Key, settings: &CacheSettings, metrics: Arc<Metrics>) -> anyhow::Result<Inner> {
        // What it says of the address may repeat a password.
        let client = Client::open(address.expose())
            .map_err(|error| anyhow::anyhow!("the address of Redis cannot be used: {}", error.category()))?;
        Ok(Inner {
            client,
            lines: Mutex::default(),
            lost: Notify::new(),
            seal,
            patience: settings.patience,
            longest: settings.longest + FRAME,
            writes: Arc::new(Semaphore::new(WRITES)),
            metrics,
            said: Mutex::default(),
        })
    }

    fn lines(&self) -> MutexGuard<'_, Option<Lines>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, and sees whether it answers as fast as it has to.
    async fn connect(&self) -> Result<(), &'static str> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(SLOWLY)).set_response_timeout(Some(SLOWLY));
        let connect = async || {
            let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
            connected.map_err(|error| why(&error))
        };
        let (mut read, write) = (connect().await?, connect().await?);
        let ping = redis::cmd("PING");
        match tokio::time::timeout(self.patience, ping.query_async::<redis::Value>(&mut read)).await {
            Err(_) => return Err("it is too slow"),
            Ok(Err(error)) => return Err(why(&error)),
            Ok(Ok(_)) => {}
        }
        *self.lines() = Some(Lines { read, write, since: Instant::now() });
        Ok(())
    }

    /// What it answered, unless that says that it is ill.
    fn judge<T>(&self, since: Instant, answered: Result<Result<T, RedisError>, impl std::error::Error>) -> Option<T> {
        let why = match answered {
            Ok(Ok(value)) => return Some(value),
            // It is there and says no: the memory is full, the key is of another kind, we may not.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => {
                self.metrics.count("", "relay_cache_refused");
                self.say("Redis refuses to keep answers or to give them back; is its memory full?");
                return None;
            }
            Ok(Err(error)) => why(&error),
            Err(_) => "it is too slow",
        };
        self.metrics.count("", "relay_cache_away");
        let gone = self.lines().take_if(|lines| lines.since == since);
        if gone.is_some() {
            tracing::warn!(why, "Redis is away, so no answers are given again until it is back");
            self.lost.notify_one();
        }
        None
    }

    fn say(&self, what: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }

    fn seal(&self, name: &Name, kept: &Kept) -> Option<Vec<u8>> {
        let label = Label { at: kept.at.0, about: kept.about.clone() };
        let mut plain = serde_json::to_vec(&label).ok()?;
        plain.push(b'\n');
        plain.extend_from_slice(&kept.body);
        let sealed = seal(&self.seal, "", Ulid::nil(), &[LABEL, name], &plain);
        (sealed.len() <= self.longest).then_some(sealed)
    }

    fn open(&self, name: &Name, sealed: &[u8]) -> Option<Kept> {
        let plain = Blob::parse(sealed).ok()?.open(&self.seal, &[LABEL, name]).ok()?;
        let end = plain.iter().position(|byte| *byte == b'\n')?;
        let Label { at, about } = serde_json::from_slice(&plain[..end]).ok()?;
        Some(Kept { at: salon_core::Time(at), about, body: Bytes::copy_from_slice(&plain[end + 1..]) })
    }
}

/// Calls it again whenever it was lost, with pauses that grow while it does not stay.
async fn stay_connected(inner: Arc<Inner>, closed: CancellationToken) {
    let mut rest = FIRST_REST;
    let mut came = Instant::now();
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = inner.lost.notified() => {}
        }
        if came.elapsed() > LONGEST_REST {
            rest = FIRST_REST;
        }
        loop {
            tokio::select! {
                () = closed.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
            rest = (rest * 2).min(LONGEST_REST);
            if inner.connect().await.is_ok() {
                break;
            }
        }
        came = Instant::now();
        tracing::info!("Redis is back");
    }
}

fn place(name: &Name) -> String {
    format!("salon:answer:{}", hex(name))
}

/// Without the address, which may hold a password.
fn why(error: &RedisError) -> &'static str {
    match error.kind() {
        ErrorKind::AuthenticationFailed => "it does not take our password",
        ErrorKind::Io if error.is_timeout() => "it is too slow",
        ErrorKind::Io => "it cannot be reached, or hung up",
        ErrorKind::Server(_) | ErrorKind::Extension => "it says no",
        _ => "what answers there is no Redis",
    }
}

#[cfg(test)]
mod tests {
    use salon_core::Time;
    use zeroize::Zeroizing;

    use super::*;

    fn inner(key: u8) -> Inner {
        let address = Secret::new("redis://127.0.0.1:1");
        let settings = CacheSettings { longest: 1_000, ..CacheSettings::default() };
        Inner::new(&address, Zeroizing::new([key; 32]), &settings, Arc::default()).unwrap()
    }

    #[test]
    fn what_lies_there_opens_in_its_place_and_under_our_key_alone() {
        let about = About { content_type: "application/json".into(), model: "m".into(), left_out: "top_k".into() };
        let kept = Kept { at: Time(7), about, body: Bytes::from_static(b"{\"a\":\n1}") };
        let ours = inner(1);
        let sealed = ours.seal(&[1; 32], &kept).unwrap();
        assert_eq!(ours.open(&[1; 32], &sealed), Some(kept.clone()));
        assert_eq!(ours.open(&[2; 32], &sealed), None, "moved");
        assert_eq!(inner(2).open(&[1; 32], &sealed), None, "somebody else's");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // The middle of the frame names a key, of which there is one here.
            let names_a_key = (3..19).contains(&at);
            assert!(names_a_key || ours.open(&[1; 32], &changed).is_none(), "changed at {at}");
            assert_eq!(ours.open(&[1; 32], &sealed[..at]), None, "cut at {at}");
        }
        let long = Kept { body: vec![b'x'; 1_000 + FRAME].into(), ..kept };
        assert_eq!(ours.seal(&[1; 32], &long), None, "it could not be read again");
    }
}
