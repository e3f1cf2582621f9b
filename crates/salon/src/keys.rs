//! The master keys, and what is derived from them.
//!
//! A master key is 32 random bytes that are kept apart from the data: in a file that only its owner can read, in
//! `MASTER_KEY`, or wrapped by a key service. There may be several, each with a name; the first one encrypts, all of them
//! decrypt, so that one can follow another while work goes on. What stands in the database is worthless without them,
//! and *canaries* there tell a wrong key before anything is done with it.
//!
//! A master key never seals a secret. It wraps data keys, see [`vault`](crate::vault), and one key more: the one that
//! tokens are hashed by, which therefore outlives every master key.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use salon_store::{Dek, Error, Store};
use sha2::Sha256;
use thiserror::Error as ThisError;
use ulid::Ulid;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::seal::{Blob, Broken, Key, seal};

/// The canary of whatever master key the data is made with; one of ours must be it.
pub(crate) const ANCHOR: &str = "master_key_canary";
/// Canaries by the name of their key.
pub(crate) const CANARIES: &str = "master_key_canary:";
/// Who owns the key that tokens are hashed by.
const OURSELVES: &str = "salon";

#[derive(Debug, ThisError)]
pub enum KeyError {
    #[error("a master key is 32 bytes in URL-safe base64: 43 characters of A-Z a-z 0-9 - _")]
    Malformed,
    #[error(
        "{0:?} is no name for a master key: up to 32 letters, digits, '-', '_' and '.', then ':' and the key, one a line"
    )]
    BadName(String),
    #[error("there are two master keys {0}, or one under two names")]
    Twice(String),
    #[error("the master key can be guessed; make a random one")]
    Weak,
    #[error(
        "the master key is not the one this data was made with; set MASTER_KEY to that one. Processes that share a \
         database share the key"
    )]
    Wrong,
    #[error("secrets here were sealed under the master key {0}, which is not among those at hand; bring it back")]
    Missing(String),
    /// The key that tokens are hashed by does not open, though its master key is right: the data was changed by hand.
    #[error("the key that tokens are hashed by does not open: {0}; restore a backup")]
    Broken(Broken),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Master keys in their order: the first one encrypts.
#[derive(Clone)]
pub struct MasterKeys {
    keys: Vec<MasterKey>,
}

#[derive(Clone)]
struct MasterKey {
    kid: String,
    wrap: Key,
    canary: String,
    /// What the token key is at first. Data that is older than the vault has tokens that were hashed by it.
    first_tokens: Key,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys({})", self.kids().join(","))
    }
}

impl MasterKeys {
    /// Reads master keys as people write them: one a line, `name:key` or only the key, whose name is then made from it.
    /// Lines that begin with `#` are for people.
    pub fn parse(text: &str) -> Result<MasterKeys, KeyError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<MasterKey> = lines.map(MasterKey::parse).collect::<Result<_, _>>()?;
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.kid == key.kid || other.canary == key.canary) {
                return Err(KeyError::Twice(key.kid.clone()));
            }
        }
        if keys.is_empty() { Err(KeyError::Malformed) } else { Ok(MasterKeys { keys }) }
    }

    /// A new random master key, as people write it.
    pub fn generate() -> String {
        URL_SAFE_NO_PAD.encode(*Zeroizing::new(rand::random::<[u8; 32]>()))
    }

    /// Whether the text can be the name of a master key.
    pub fn is_valid_kid(text: &str) -> bool {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !text.is_empty() && text.len() <= 32 && text.bytes().all(known)
    }

    /// The names, that of the key which encrypts first.
    pub fn kids(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.kid.as_str()).collect()
    }

    /// The name of the key that encrypts.
    pub fn primary(&self) -> &str {
        &self.keys[0].kid
    }

    pub fn has(&self, kid: &str) -> bool {
        self.find(kid).is_some()
    }

    pub(crate) fn canary(&self, kid: &str) -> Option<&str> {
        self.find(kid).map(|key| key.canary.as_str())
    }

    fn find(&self, kid: &str) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// Whether one of the keys made this canary.
    fn made(&self, canary: &str) -> bool {
        self.keys.iter().any(|key| key.canary == canary)
    }

    /// Wraps a data key under the master key that encrypts.
    pub(crate) fn wrap(&self, owner: &str, id: Ulid, dek: &Key, clock: &Clock) -> Dek {
        let key = &self.keys[0];
        let bound = bound_dek(owner, &id, &key.kid);
        let wrapped = seal(&key.wrap, &key.kid, id, &bound.each_ref().map(Vec::as_slice), &**dek);
        Dek { id: id.to_string(), owner: owner.to_owned(), kid: key.kid.clone(), wrapped, created_at: clock.now() }
    }

    /// Opens a data key. `None` if its master key is not at hand.
    pub(crate) fn unwrap(&self, dek: &Dek) -> Option<Result<Key, Broken>> {
        let key = self.find(&dek.kid)?;
        Some(key.unwrap(dek))
    }
}

impl MasterKey {
    fn parse(line: &str) -> Result<MasterKey, KeyError> {
        let (kid, key) = line.split_once(':').map_or((None, line), |(kid, key)| (Some(kid.trim()), key.trim()));
        if let Some(kid) = kid.filter(|kid| !MasterKeys::is_valid_kid(kid)) {
            // What stands there may be a key that lost its colon.
            return Err(KeyError::BadName(kid.chars().take(8).chain(['…']).collect()));
        }
        let master = decode(key).ok_or(KeyError::Malformed)?;
        if is_thought_up(&master) {
            return Err(KeyError::Weak);
        }
        let named = || format!("m-{}", hex(&derive(&master, b"salon.kid.v1")[..4]));
        Ok(MasterKey {
            kid: kid.map_or_else(named, str::to_owned),
            wrap: derive(&master, b"salon.wrap.v1"),
            canary: hex(&*mac(&master, b"salon.canary.v1")),
            first_tokens: mac(&master, b"salon.token-hmac.v1"),
        })
    }

    fn unwrap(&self, dek: &Dek) -> Result<Key, Broken> {
        let blob = Blob::parse(&dek.wrapped)?;
        if blob.kid != dek.kid || blob.dek.to_string() != dek.id {
            return Err(Broken::Seal);
        }
        let bound = bound_dek(&dek.owner, &blob.dek, &dek.kid);
        let opened = blob.open(&self.wrap, &bound.each_ref().map(Vec::as_slice))?;
        let key = <[u8; 32]>::try_from(opened.as_slice()).map_err(|_| Broken::Shape)?;
        Ok(Zeroizing::new(key))
    }
}

/// Whether a key is one that people think up, or find in a sample, and not one that was thrown: of 32 random bytes nearly
/// all differ, most are no letters, and nothing comes again.
fn is_thought_up(key: &Key) -> bool {
    let mut seen = key.clone();
    seen.sort_unstable();
    let different = 1 + seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
    different < 16 || key.iter().all(|byte| (b' '..=b'~').contains(byte)) || is_pattern(&**key)
}

/// Whether bytes are a piece that is repeated, or go in even steps, as `0, 1, 2, …` does.
pub(crate) fn is_pattern(bytes: &[u8]) -> bool {
    let repeats = (1..=bytes.len() / 2).any(|piece| bytes[piece..] == bytes[..bytes.len() - piece]);
    let mut steps = bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let first = steps.next();
    repeats || steps.all(|step| Some(step) == first)
}

/// What a wrapped data key is bound to.
fn bound_dek(owner: &str, id: &Ulid, kid: &str) -> [Vec<u8>; 4] {
    [b"salon.dek.v1".to_vec(), owner.as_bytes().to_vec(), id.to_bytes().to_vec(), kid.as_bytes().to_vec()]
}

/// The master keys of this process, proven to be the data's, and the key that tokens are hashed by. Clones share them.
#[derive(Clone)]
pub struct Keys {
    master: Arc<RwLock<Arc<MasterKeys>>>,
    /// Ready to begin: half of the work of a short hash is in the key.
    tokens: Hmac<Sha256>,
    answer_names: Hmac<Sha256>,
    answer_seal: Key,
    audit: Hmac<Sha256>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Refuses master keys that are not the data's. New data takes these for good. Changes nothing unless they fit.
    pub async fn open(master: MasterKeys, store: &Store, clock: &Clock) -> Result<Keys, KeyError> {
        settle(&master, store, clock).await?;
        let dek = store.read().await?.find_active_dek(OURSELVES).await?;
        let dek = dek.ok_or(KeyError::Wrong)?;
        let opened = master.unwrap(&dek).ok_or(KeyError::Missing(dek.kid))?;
        let tokens = opened.map_err(KeyError::Broken)?;
        let begin = |key: &Key| Hmac::new_from_slice(&**key).expect("HMAC takes keys of any length");
        let answer_names = begin(&derive(&tokens, b"salon.answer-name.v1"));
        let answer_seal = derive(&tokens, b"salon.answer-seal.v1");
        let audit = begin(&derive(&tokens, b"salon.audit-mac.v1"));
        let tokens = begin(&tokens);
        Ok(Keys { master: Arc::new(RwLock::new(Arc::new(master))), tokens, answer_names, answer_seal, audit })
    }

    /// Takes other master keys in, such as a new one that was added to the file. They have to fit like the first ones.
    pub async fn take(&self, master: MasterKeys, store: &Store, clock: &Clock) -> Result<(), KeyError> {
        settle(&master, store, clock).await?;
        *self.master.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(master);
        Ok(())
    }

    pub fn master(&self) -> Arc<MasterKeys> {
        self.master.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether these are the data's keys. Changes nothing.
    pub async fn fits(&self, store: &Store) -> Result<bool, Error> {
        let anchor = store.read().await?.find_setting(ANCHOR).await?;
        Ok(anchor.is_some_and(|anchor| self.master().made(&anchor)))
    }

    /// What stands in the database for a token that was shown.
    pub fn token_hash(&self, token: &str) -> String {
        hex(&self.token_mac(token))
    }

    /// The same as bytes.
    pub(crate) fn token_mac(&self, token: &str) -> [u8; 32] {
        let mut mac = self.tokens.clone();
        mac.update(token.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// What answers are found by that are given again. All processes on this data have the same.
    pub(crate) fn answer_names(&self) -> Hmac<Sha256> {
        self.answer_names.clone()
    }

    /// What binds the lines of the audit. All processes on this data have the same.
    pub(crate) fn audit(&self) -> Hmac<Sha256> {
        self.audit.clone()
    }

    /// What they are sealed by where others could read or write them.
    pub(crate) fn answer_seal(&self) -> Key {
        self.answer_seal.clone()
    }
}

/// What the data says of its master keys.
struct Signs {
    anchor: Option<String>,
    canaries: Vec<(String, String)>,
    /// The master keys without which something cannot be opened.
    needed: Vec<String>,
    tokens: bool,
}

impl Signs {
    async fn read(store: &Store) -> Result<Signs, Error> {
        let mut tx = store.read().await?;
        Ok(Signs {
            anchor: tx.find_setting(ANCHOR).await?,
            canaries: tx.list_settings(CANARIES).await?,
            needed: tx.count_deks().await?.into_iter().map(|(kid, _)| kid).collect(),
            tokens: tx.find_active_dek(OURSELVES).await?.is_some(),
        })
    }

    fn judge(&self, master: &MasterKeys) -> Result<(), KeyError> {
        if self.anchor.as_ref().is_some_and(|anchor| !master.made(anchor)) {
            return Err(KeyError::Wrong);
        }
        for (name, canary) in &self.canaries {
            let ours = master.canary(name.trim_start_matches(CANARIES));
            if ours.is_some_and(|ours| ours != canary) {
                return Err(KeyError::Wrong);
            }
        }
        match self.needed.iter().find(|kid| !master.has(kid)) {
            Some(kid) => Err(KeyError::Missing(kid.clone())),
            None => Ok(()),
        }
    }

    fn complete(&self, master: &MasterKeys) -> bool {
        let known = |kid: &str| self.canaries.iter().any(|(name, _)| name.trim_start_matches(CANARIES) == kid);
        self.anchor.is_some() && self.tokens && master.kids().iter().all(|kid| known(kid))
    }
}

/// Proves master keys against the data, and writes down what is not there yet.
async fn settle(master: &MasterKeys, store: &Store, clock: &Clock) -> Result<(), KeyError> {
    let signs = Signs::read(store).await?;
    signs.judge(master)?;
    if signs.complete(master) {
        return Ok(());
    }
    let id = Ulid::from_parts(u64::try_from(clock.now().0).unwrap_or(0), rand::random());
    // Not random, so that tokens from before there was a vault stay good.
    let oldest = master.keys.iter().find(|key| signs.anchor.as_ref() == Some(&key.canary)).unwrap_or(&master.keys[0]);
    let tokens = master.wrap(OURSELVES, id, &oldest.first_tokens, clock);
    let canaries: Vec<_> =
        master.keys.iter().map(|key| (format!("{CANARIES}{}", key.kid), key.canary.clone())).collect();
    let written = store.write((canaries, tokens), |tx, (canaries, tokens)| {
        Box::pin(async move {
            tx.add_setting(ANCHOR, &canaries[0].1).await?;
            let anchor = tx.find_setting(ANCHOR).await?;
            // Somebody else may have been faster with another key; then nothing of ours belongs here.
            if anchor.is_none_or(|anchor| canaries.iter().all(|(_, canary)| *canary != anchor)) {
                return Ok(());
            }
            for (name, canary) in canaries {
                tx.add_setting(name, canary).await?;
            }
            tx.add_dek(tokens).await?;
            Ok(())
        })
    });
    written.await?;
    Signs::read(store).await?.judge(master)
}

/// A sub-key by its label (HKDF-SHA256).
fn derive(master: &Key, label: &[u8]) -> Key {
    let mut key = Key::default();
    Hkdf::<Sha256>::new(None, &**master).expand(label, &mut *key).expect("32 bytes can be derived");
    key
}

/// A sub-key by its label, as it was made before there were others.
fn mac(key: &Key, label: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(&**key).expect("HMAC takes keys of any length");
    mac.update(label);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// Reads URL-safe base64 of exactly 32 bytes, padded or not.
fn decode(text: &str) -> Option<Key> {
    const EITHER: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let bytes = Zeroizing::new(EITHER.decode(text).ok()?);
    Some(Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?))
}
