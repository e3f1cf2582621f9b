//! The sister backend's public keys, from a file or from its server.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client, Url};
use salon_core::Time;
use salon_engine::upstream::guarded_client;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{JwtError, PublicKey, Shared, current};
use crate::access::Denied;
use crate::clock::Clock;

/// Keys are read again after this, because the sister may have taken one back.
const KEEP: Duration = Duration::from_secs(10 * 60);
/// A key that we do not know makes us look, but not more often than this; doubled by each failure.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Keys that could not be read again are not believed for ever.
const BELIEVE: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 100;
/// In bytes.
const SHORTEST_MODULUS: usize = 256;

/// Where the keys are. The operator says so, so the address is not judged like one that a user gave.
#[derive(Clone, Debug)]
pub enum JwksSource {
    File(PathBuf),
    Url(Url),
}

/// The keys of a source, read again when it is time.
pub struct Jwks {
    source: JwksSource,
    client: Option<Client>,
    keys: Shared,
    read_at: AtomicI64,
    /// Who reads; the others wait for it or go on with what is known.
    reading: Mutex<Tries>,
}

#[derive(Default)]
struct Tries {
    tried_at: Time,
    failures: u32,
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({:?}, {} keys)", self.source, current(&self.keys).len())
    }
}

impl Jwks {
    /// Reads the keys for the first time. A file must be readable; a server may come up later.
    pub async fn open(source: JwksSource, clock: &Clock) -> Result<Jwks, JwtError> {
        let wrong = |error: anyhow::Error| JwtError::Jwks(format!("{error:#}"));
        let client = match &source {
            JwksSource::File(_) => None,
            JwksSource::Url(url) if matches!(url.scheme(), "https" | "http") => {
                let client = guarded_client(&[url], |builder| builder.timeout(PATIENCE)).map_err(wrong)?;
                Some(client)
            }
            JwksSource::Url(_) => return Err(JwtError::Jwks("the address is not https".to_owned())),
        };
        let keys = Shared::default();
        let jwks = Jwks { source, client, keys, read_at: AtomicI64::new(i64::MIN), reading: Mutex::default() };
        let mut tries = jwks.reading.lock().await;
        if let Err(error) = jwks.read_again(&mut tries, clock.now()).await {
            if matches!(jwks.source, JwksSource::File(_)) {
                return Err(wrong(error));
            }
            tracing::warn!(
                error = format!("{error:#}"),
                "the sister backend's keys could not be read, trying again later"
            );
        }
        drop(tries);
        Ok(jwks)
    }

    /// The keys that may have signed a token which names `kid`, or none.
    pub(super) async fn find(&self, kid: Option<&str>, now: Time) -> Result<Vec<PublicKey>, Denied> {
        let found = self.known(kid);
        let old = self.age(now).is_none_or(|age| age > KEEP);
        if old || found.is_empty() {
            self.refresh(now, found.is_empty()).await;
        }
        if self.age(now).is_none_or(|age| age > BELIEVE) {
            return Err(Denied::Unavailable);
        }
        let found = self.known(kid);
        if found.is_empty() { Err(Denied::BadToken("it is signed with a key that we do not know")) } else { Ok(found) }
    }

    fn known(&self, kid: Option<&str>) -> Vec<PublicKey> {
        let fits = |key: &&PublicKey| match (kid, &key.kid) {
            (Some(wanted), Some(kid)) => wanted == kid,
            _ => true,
        };
        current(&self.keys).iter().filter(fits).cloned().collect()
    }

    fn age(&self, now: Time) -> Option<Duration> {
        let read_at = self.read_at.load(Ordering::Acquire);
        (read_at != i64::MIN).then(|| now.since(Time(read_at)))
    }

    /// Reads again unless that was tried just now. Whoever can go on without does not wait for it.
    async fn refresh(&self, now: Time, wait: bool) {
        let tries = if wait { Some(self.reading.lock().await) } else { self.reading.try_lock().ok() };
        let Some(mut tries) = tries else { return };
        let pause = (PAUSE * 2u32.saturating_pow(tries.failures.min(10))).min(LONGEST_PAUSE);
        if now.since(tries.tried_at) < pause {
            return;
        }
        if let Err(error) = self.read_again(&mut tries, now).await {
            tracing::warn!(error = format!("{error:#}"), "the sister backend's keys could not be read again");
        }
    }

    async fn read_again(&self, tries: &mut Tries, now: Time) -> anyhow::Result<()> {
        tries.tried_at = now;
        let read = match &self.source {
            JwksSource::File(path) => tokio::fs::read(path).await.map_err(anyhow::Error::from),
            JwksSource::Url(url) => self.fetch(url).await,
        };
        match read.and_then(|bytes| parse(&bytes)) {
            Ok(keys) => {
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                self.read_at.store(now.0, Ordering::Release);
                tries.failures = 0;
                Ok(())
            }
            Err(error) => {
                tries.failures = tries.failures.saturating_add(1);
                Err(error)
            }
        }
    }

    async fn fetch(&self, url: &Url) -> anyhow::Result<Vec<u8>> {
        let Some(client) = &self.client else { anyhow::bail!("there is no client") };
        let mut response = client.get(url.clone()).send().await.map_err(reqwest::Error::without_url)?;
        anyhow::ensure!(response.status().is_success(), "the server answered {}", response.status());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            anyhow::ensure!(bytes.len() + chunk.len() <= MAX_BYTES, "the answer is too long");
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<SetKey>,
}

#[derive(Deserialize)]
struct SetKey {
    kty: String,
    #[serde(rename = "use")]
    used_for: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Reads a key set (RFC 7517). Keys of other kinds are passed over; a set without one for RS256 is an error.
fn parse(bytes: &[u8]) -> anyhow::Result<Vec<PublicKey>> {
    anyhow::ensure!(bytes.len() <= MAX_BYTES, "the key set is too long");
    let set: Set = serde_json::from_slice(bytes).map_err(|_| anyhow::anyhow!("it is no JSON web key set"))?;
    let keys: Vec<PublicKey> = set.keys.into_iter().take(MAX_KEYS).filter_map(SetKey::public_key).collect();
    anyhow::ensure!(!keys.is_empty(), "there is no key for RS256 of at least {} bits in it", SHORTEST_MODULUS * 8);
    Ok(keys)
}

impl SetKey {
    fn public_key(self) -> Option<PublicKey> {
        let signs = self.used_for.as_deref().is_none_or(|used_for| used_for == "sig");
        if self.kty != "RSA" || !signs || self.alg.as_deref().is_some_and(|alg| alg != "RS256") {
            return None;
        }
        let number = |text: Option<String>| -> Option<Vec<u8>> {
            let bytes = URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec())
        };
        let (n, e) = (number(self.n)?, number(self.e)?);
        (n.len() >= SHORTEST_MODULUS && !e.is_empty()).then_some(PublicKey { kid: self.kid, n, e })
    }
}
