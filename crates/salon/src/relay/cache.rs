//! Answers that are given again: the same question of the same people gets what was told before.
//!
//! ```text
//!  question ─► Place: a keyed hash of all that decides the answer ─► the shelf ─► hit: told again, and free
//!                                                                        └──────► miss: asked, and kept if it comes whole
//! ```
//! Only for models that say so. Whoever could not make the call gets no answer from here either: this stands behind the
//! doors, the scopes, the route and the keys, and a hit is reserved and settled in the ledger like any other call.
//!
//! What an answer could repeat of its question was in the question, which is the same to the byte; and what we put into
//! it ourselves, the ids of a translated answer, is made of a number that belongs to nobody's call.

mod memory;
mod redis;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use salon_core::{Amounts, Micros, Time};
use salon_engine::Secret;
use salon_engine::wire::{Head, Refused, Wire};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use self::memory::Memory;
use self::redis::Redis;
use super::{Answer, Ask, REAP_AFTER, Relay, Told, passed_on, put, tell_limits};
use crate::Salon;
use crate::catalog::{Access as Keyed, CacheFor, Route};
use crate::clock::Clock;
use crate::ledger::{Quote, Spent};
use crate::metrics::Metrics;

/// Says whether an answer was told before.
const SHOWN: &str = "x-salon-cache";

/// How much is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// The most that this process remembers, in bytes.
    pub bytes: usize,
    /// The longest question whose answer is kept, and the longest answer, in bytes.
    pub longest: usize,
    /// The address of a Redis that keeps them instead.
    pub redis: Option<Secret>,
    /// How long a call waits for it.
    pub patience: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings { bytes: 64 << 20, longest: 1 << 20, redis: None, patience: Duration::from_millis(50) }
    }
}

/// The memory of answers. Clones share it.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    settings: CacheSettings,
    shelf: Shelf,
    names: Hmac<Sha256>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

enum Shelf {
    Memory(Mutex<Memory>),
    Redis(Redis),
}

/// What an answer is found by: it tells nothing of the question, and nobody without our key can compute it.
type Name = [u8; 32];

/// Where the answer to a question lies, or will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    name: Name,
    ttl: Duration,
    /// The oldest answer that the client takes; `None` takes no answer that was told before.
    oldest: Option<Duration>,
}

/// An answer that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    at: Time,
    about: About,
    body: Bytes,
}

/// What its head said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    content_type: String,
    model: String,
    left_out: String,
}

/// What a client says of caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wish {
    no_store: bool,
    no_cache: bool,
    max_age: Option<Duration>,
}

impl Cache {
    /// A Redis that is away is no reason not to open; an address that cannot be one is.
    pub async fn open(salon: &Salon, settings: CacheSettings) -> anyhow::Result<Cache> {
        let (clock, metrics) = (salon.clock.clone(), salon.metrics.clone());
        let shelf = match &settings.redis {
            None => Shelf::Memory(Mutex::new(Memory::new(settings.bytes))),
            Some(address) => {
                let seal = salon.keys.answer_seal();
                Shelf::Redis(Redis::open(address, seal, &settings, metrics.clone()).await?)
            }
        };
        let names = salon.keys.answer_names();
        Ok(Cache { shared: Arc::new(Shared { settings, shelf, names, clock, metrics }) })
    }

    /// Sees whether a Redis is there. The error says why not, without its address.
    pub async fn probe(address: &Secret, settings: &CacheSettings) -> Result<(), String> {
        Redis::probe(address, settings).await
    }

    /// Where the answer to a question would lie; `None` if it is one that is always asked anew.
    pub(super) fn place(&self, ask: &Ask, head: &Head, route: &Route, keys: &[(String, Keyed)]) -> Option<Place> {
        let caching = route.model.cache?;
        let wish = Wish::read(&ask.headers);
        // Nobody is told what they could not ask, and what a person's own key paid for is that person's business.
        let own = keys.iter().any(|(_, key)| key.tag.starts_with("own:"));
        if wish.no_store || keys.is_empty() || (own && !caching.own_keys) {
            return None;
        }
        // What acts is not repeated, and what leans on something else is not all of the question.
        if head.has_tools || head.looks_around || head.leans_on.is_some() {
            return None;
        }
        if ask.body.len() > self.shared.settings.longest {
            return None;
        }
        let user = match caching.share {
            CacheFor::Org if !own => None,
            _ => Some(ask.caller.user.as_str()),
        };
        let mut mac = self.shared.names.clone();
        let mut part = |bytes: &[u8]| {
            // With its length before it, so that no two lists of parts look the same.
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        part(ask.caller.org.as_str().as_bytes());
        part(user.map_or("", |_| "user").as_bytes());
        part(user.unwrap_or_default().as_bytes());
        part(ask.wire.as_str().as_bytes());
        part(head.model.as_bytes());
        part(&[u8::from(head.stream), u8::from(ask.outside.events)]);
        part(route.edition().as_bytes());
        for (name, value) in decisive(&ask.headers) {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        part(&ask.body);
        let ttl = caching.ttl;
        let oldest = (!wish.no_cache).then(|| wish.max_age.unwrap_or(ttl).min(ttl));
        Some(Place { name: mac.finalize().into_bytes().into(), ttl, oldest })
    }

    /// What was told before and is not too old.
    pub(super) async fn find(&self, place: &Place) -> Option<Kept> {
        let found = match place.oldest {
            Some(oldest) => {
                let now = self.shared.clock.now();
                let found = match &self.shared.shelf {
                    Shelf::Memory(memory) => lock(memory).find(&place.name, now),
                    Shelf::Redis(redis) => redis.find(&place.name).await,
                };
                found.filter(|kept| now.since(kept.at) < oldest)
            }
            None => None,
        };
        self.shared.metrics.count("", if found.is_some() { "relay_cache_hit" } else { "relay_cache_miss" });
        found
    }

    /// Listens to an answer that is being told with this head.
    pub(super) fn listen(&self, place: Place, headers: &HeaderMap) -> Keeping {
        let text =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned).unwrap_or_default();
        let about = About {
            content_type: text(header::CONTENT_TYPE.as_str()),
            model: text("x-salon-model"),
            left_out: text("x-salon-left-out"),
        };
        Keeping { cache: self.clone(), place, about, heard: Some(Vec::new()) }
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that is kept once it has come whole. Dropping it keeps nothing.
pub(super) struct Keeping {
    cache: Cache,
    place: Place,
    about: About,
    /// `None` once it is too long.
    heard: Option<Vec<u8>>,
}

impl Keeping {
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        let longest = self.cache.shared.settings.longest;
        if let Some(heard) = self.heard.take_if(|heard| heard.len() + bytes.len() > longest) {
            drop(heard);
        }
        if let Some(heard) = &mut self.heard {
            heard.extend_from_slice(bytes);
        }
    }

    /// The answer has come to a good end. A stream that should say so in its last line and does not was cut off.
    pub(super) fn keep(self, wire: Wire) {
        let Some(heard) = self.heard else { return };
        let is_stream = self.about.content_type.starts_with("text/event-stream");
        if is_stream
            && matches!(wire, Wire::Chat | Wire::Completions)
            && !heard.trim_ascii_end().ends_with(b"data: [DONE]")
        {
            return;
        }
        let shared = &self.cache.shared;
        let kept = Kept { at: shared.clock.now(), about: self.about, body: heard.into() };
        match &shared.shelf {
            Shelf::Memory(memory) => {
                let until = kept.at + self.place.ttl;
                lock(memory).keep(self.place.name, kept, until);
                shared.metrics.count("", "relay_cache_kept");
            }
            Shelf::Redis(redis) => redis.keep(self.place.name, kept, self.place.ttl),
        }
    }
}

/// Tells an answer again. The ledger hears of it first: it counts as a request, and costs nothing.
pub(super) async fn tell_again(relay: &Relay, ask: &Ask, head: &Head, kept: Kept) -> Result<Answer, Refused> {
    let now = relay.salon.clock.now();
    let quote = Quote {
        call: ask.id.clone(),
        fresh: ask.is_fresh(),
        payer: ask.payer(),
        door: ask.door().to_owned(),
        model: head.model.clone(),
        most: Amounts { micros: 0, tokens: 0, requests: 1 },
        deadline: now + REAP_AFTER,
        first: None,
        share: ask.share.clone(),
    };
    let mut reserved = relay.book.reserve(quote).await?;
    reserved.durable().await?;
    let mut headers = HeaderMap::with_capacity(12);
    tell_limits(&mut headers, reserved.granted());
    put(&mut headers, header::CONTENT_TYPE.as_str(), &kept.about.content_type);
    put(&mut headers, "x-salon-model", &kept.about.model);
    if !kept.about.left_out.is_empty() {
        put(&mut headers, "x-salon-left-out", &kept.about.left_out);
    }
    if head.stream {
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    put(&mut headers, "x-salon-cost", &Micros::ZERO.to_string());
    headers.insert(SHOWN, HeaderValue::from_static("hit"));
    headers.insert(header::AGE, HeaderValue::from(now.since(kept.at).as_secs()));
    reserved.settle(Spent { cache_hit: true, ..Spent::default() }).await;
    Ok(Answer { status: StatusCode::OK, headers, told: Told::Whole(kept.body) })
}

/// Says of an answer that it was asked for just now.
pub(super) fn tell_miss(headers: &mut HeaderMap) {
    headers.insert(SHOWN, HeaderValue::from_static("miss"));
}

/// The headers that go on to the upstream and may change what it says: all of them but the client's bookkeeping.
pub(super) fn decisive(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let bookkeeping = |name: &str| matches!(name, "accept" | "x-client-request-id") || name.starts_with("x-stainless-");
    let mut decisive: Vec<_> = passed_on(headers)
        .iter()
        .filter(|(name, _)| !bookkeeping(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // Several of one name keep their order.
    decisive.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    decisive
}

impl Wish {
    fn read(headers: &HeaderMap) -> Wish {
        let mut wish = Wish::default();
        let words = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for word in words.flat_map(|words| words.split(',')).map(|word| word.trim().to_ascii_lowercase()) {
            match word.split_once('=').map_or((word.as_str(), ""), |(name, value)| (name.trim(), value.trim())) {
                ("no-store", _) => wish.no_store = true,
                ("no-cache", _) => wish.no_cache = true,
                ("max-age", seconds) => {
                    // What is no number asks for as little as possible.
                    let seconds = seconds.trim_matches('"').parse().unwrap_or(0);
                    wish.max_age = Some(Duration::from_secs(seconds));
                }
                _ => {}
            }
        }
        wish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(values: &[&'static str]) -> Wish {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_static(value));
        }
        Wish::read(&headers)
    }

    #[test]
    fn a_client_may_want_nothing_kept_nothing_old_or_nothing_told_before() {
        assert_eq!(wish(&[]), Wish::default());
        assert_eq!(wish(&["max-stale, private"]), Wish::default());
        assert_eq!(wish(&["No-Store"]), Wish { no_store: true, ..Wish::default() });
        let both = Wish { no_cache: true, max_age: Some(Duration::from_secs(60)), ..Wish::default() };
        assert_eq!(wish(&["max-age = 60", "private, no-cache"]), both);
        let none = Wish { max_age: Some(Duration::ZERO), ..Wish::default() };
        assert_eq!(wish(&["max-age=soon"]), none);
    }

    #[test]
    fn a_client_s_bookkeeping_is_no_part_of_a_question() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-stainless-retry-count", "1"),
            ("x-client-request-id", "7"),
            ("authorization", "Bearer x"),
            ("openai-beta", "assistants=v2"),
            ("anthropic-beta", "one"),
            ("anthropic-beta", "two"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let decisive = decisive(&headers);
        let shown: Vec<_> = decisive.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(shown, [("anthropic-beta", "one"), ("anthropic-beta", "two"), ("openai-beta", "assistants=v2")]);
    }
}
