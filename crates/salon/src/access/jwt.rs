//! Tokens of a sister backend: JWTs that it signed and that we believe.
//!
//! The sister says who somebody is, of which organisation and in which role. Which key may prove a token is decided by the
//! *kind* of key: a shared secret proves HS256 and nothing else, a public key RS256 and nothing else, so a token cannot
//! choose how it is to be judged.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use salon_core::Time;
use salon_core::people::Role;
use salon_engine::Secret;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::Denied;
use crate::keys::is_pattern;
use crate::people::SISTER;

pub use jwks::{Jwks, JwksSource};

mod jwks;

/// Clocks of two machines differ.
const SKEW: Duration = Duration::from_secs(60);
const SHORTEST_SECRET: usize = 32;
const LONGEST_ID: usize = 128;

/// How tokens are proven.
#[derive(Debug, Default)]
pub struct Jwt {
    secret: Option<hmac::Key>,
    jwks: Option<Jwks>,
    /// Who must have issued a token, and for whom, if that matters.
    issuer: Option<String>,
    audience: Option<String>,
}

#[derive(Debug, Error)]
pub enum JwtError {
    #[error("JWT_SECRET_KEY must be at least {SHORTEST_SECRET} bytes long")]
    Short,
    #[error("JWT_SECRET_KEY can be guessed; make a random one")]
    Weak,
    #[error(
        "JWT_SECRET_KEY is a public key, which anybody may know; tokens signed with RS256 need JWT_JWKS_FILE or JWT_JWKS_URL"
    )]
    PublicKey,
    #[error("the keys of the sister backend cannot be read: {0}")]
    Jwks(String),
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// What the sister calls the person and the organisation, after `jwt:`.
    pub(crate) user: String,
    pub(crate) org: Option<String>,
    pub(crate) name: String,
    pub(crate) email: Option<String>,
    pub(crate) role: Role,
    /// The clocks' difference included.
    pub(crate) expires_at: Time,
}

impl Jwt {
    /// Believes tokens that were signed with this secret (HS256).
    pub fn with_secret(mut self, secret: &Secret) -> Result<Jwt, JwtError> {
        check_secret(secret.expose())?;
        self.secret = Some(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()));
        Ok(self)
    }

    /// Believes tokens that were signed with one of these keys (RS256).
    #[must_use]
    pub fn with_jwks(mut self, jwks: Jwks) -> Jwt {
        self.jwks = Some(jwks);
        self
    }

    /// Wants tokens to name this issuer or this audience.
    #[must_use]
    pub fn for_parties(mut self, issuer: Option<String>, audience: Option<String>) -> Jwt {
        (self.issuer, self.audience) = (issuer, audience);
        self
    }

    /// Judges a token. The signature comes first; nothing of an unproven token is looked at but its header.
    pub(crate) async fn prove(&self, token: &str, now: Time) -> Result<Claims, Denied> {
        let parts = Parts::split(token)?;
        match parts.header.alg.as_str() {
            "HS256" => {
                let key = self
                    .secret
                    .as_ref()
                    .ok_or(Denied::BadToken("it is signed with HS256, for which there is no secret"))?;
                hmac::verify(key, parts.signed.as_bytes(), &parts.signature).map_err(|_| FORGED)?;
            }
            "RS256" => {
                let jwks = self
                    .jwks
                    .as_ref()
                    .ok_or(Denied::BadToken("it is signed with RS256, for which there are no keys"))?;
                let keys = jwks.find(parts.header.kid.as_deref(), now).await?;
                if !keys.iter().any(|key| key.proves(parts.signed.as_bytes(), &parts.signature)) {
                    return Err(FORGED);
                }
            }
            _ => return Err(Denied::BadToken("it is not signed with HS256 or RS256")),
        }
        self.judge(&parts.payload, now)
    }

    fn judge(&self, payload: &[u8], now: Time) -> Result<Claims, Denied> {
        let said: Said =
            serde_json::from_slice(payload).map_err(|_| Denied::BadToken("it does not say who it is about"))?;
        let expires_at = time(&said.exp).ok_or(Denied::BadToken("it does not say when it expires"))? + SKEW;
        if expires_at <= now {
            return Err(Denied::Expired);
        }
        if !said.nbf.is_null() && time(&said.nbf).is_none_or(|begins| begins > now + SKEW) {
            return Err(Denied::BadToken("it is not valid yet"));
        }
        if self.issuer.as_deref().is_some_and(|issuer| said.iss.as_str() != Some(issuer)) {
            return Err(Denied::BadToken("it was issued by somebody else"));
        }
        if self.audience.as_deref().is_some_and(|audience| !names(&said.aud, audience)) {
            return Err(Denied::BadToken("it is meant for somebody else"));
        }
        let nobody = Denied::BadToken("it does not say who it is about");
        let user = subject(&said.user.id).ok_or(nobody.clone())?;
        let org = match &said.user.org_id {
            Value::Null => None,
            id => Some(subject(id).ok_or(nobody)?),
        };
        Ok(Claims {
            user,
            org,
            name: said.user.username.unwrap_or_default(),
            // What is none here is not kept: what was kept otherwise than it is said would be news each time.
            email: said.user.email.and_then(|email| crate::people::email(&email).ok()),
            // A role that we do not know gives the least.
            role: said.user.role.as_deref().and_then(Role::parse).unwrap_or(Role::User),
            expires_at,
        })
    }
}

const FORGED: Denied = Denied::BadToken("its signature is wrong");

fn check_secret(secret: &str) -> Result<(), JwtError> {
    if secret.trim_start().starts_with("-----BEGIN") {
        return Err(JwtError::PublicKey);
    }
    if secret.len() < SHORTEST_SECRET {
        return Err(JwtError::Short);
    }
    let mut letters: Vec<u8> = secret.bytes().collect();
    letters.sort_unstable();
    letters.dedup();
    let plain: String = secret.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    // What stands in samples and gets into production.
    let samples =
        ["changeme", "changethis", "yoursecret", "secretkey", "replaceme", "jwtsecret", "password", "example"];
    if letters.len() < 10 || is_pattern(secret.as_bytes()) || samples.iter().any(|sample| plain.contains(sample)) {
        return Err(JwtError::Weak);
    }
    Ok(())
}

/// A public key that proves RS256, and what the sister calls it.
#[derive(Clone, Debug)]
pub(super) struct PublicKey {
    kid: Option<String>,
    n: Vec<u8>,
    e: Vec<u8>,
}

impl PublicKey {
    fn proves(&self, signed: &[u8], signature: &[u8]) -> bool {
        let key = RsaPublicKeyComponents { n: &self.n, e: &self.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
    }
}

struct Parts<'a> {
    header: Header,
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// What the signature is over.
    signed: &'a str,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; we understand none.
    crit: Option<Value>,
}

impl Parts<'_> {
    fn split(token: &str) -> Result<Parts<'_>, Denied> {
        let read = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            Some(Parts {
                header: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?,
                payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
                signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
                signed,
            })
        };
        let parts = read().ok_or(Denied::BadToken("it cannot be read"))?;
        if parts.header.crit.is_some() { Err(Denied::BadToken("it wants more than we understand")) } else { Ok(parts) }
    }
}

#[derive(Deserialize)]
struct Said {
    user: SaidUser,
    #[serde(default)]
    exp: Value,
    #[serde(default)]
    nbf: Value,
    #[serde(default)]
    iss: Value,
    #[serde(default)]
    aud: Value,
}

#[derive(Deserialize)]
struct SaidUser {
    id: Value,
    username: Option<String>,
    email: Option<String>,
    #[serde(rename = "orgId", default)]
    org_id: Value,
    role: Option<String>,
}

/// Seconds since 1970, with a fraction perhaps.
fn time(value: &Value) -> Option<Time> {
    let seconds = value
        .as_i64()
        .or_else(|| value.as_f64().filter(|seconds| seconds.abs() < 1e15).map(|seconds| seconds as i64))?;
    seconds.checked_mul(1000).map(Time)
}

/// What the sister calls somebody: a number or a text.
fn subject(id: &Value) -> Option<String> {
    let text = match id {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let good = !text.is_empty() && text.len() <= LONGEST_ID && !text.chars().any(char::is_control);
    good.then(|| format!("{SISTER}{text}"))
}

/// Whether the audience is this one, or this one among others.
fn names(audience: &Value, wanted: &str) -> bool {
    match audience {
        Value::String(text) => text == wanted,
        Value::Array(several) => several.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}

/// The keys as they are known, to be read without waiting.
type Shared = RwLock<Arc<Vec<PublicKey>>>;

fn current(keys: &Shared) -> Arc<Vec<PublicKey>> {
    keys.read().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "9vJ2kQ7xWm4ZrT1bLs8pDf6hYc3nGe5a";

    fn prove(token: &str) -> Result<Claims, Denied> {
        let jwt = Jwt::default().with_secret(&Secret::new(SECRET)).expect("a secret");
        jwt.prove(token, Time(0)).now_or_never().expect("nothing is waited for")
    }

    fn signed(header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
    }

    fn good() -> String {
        signed(r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"user":{"id":42,"orgId":7,"role":"ADMIN"},"exp":1000}"#)
    }

    #[test]
    fn a_good_token_says_who_it_is_about() {
        let claims = prove(&good()).expect("proven");
        assert_eq!((claims.user.as_str(), claims.org.as_deref(), claims.role), ("jwt:42", Some("jwt:7"), Role::Admin));
        assert_eq!(claims.expires_at, Time(1_060_000));
    }

    #[test]
    fn a_hundred_thousand_damaged_tokens_are_refused() {
        use rand::{RngExt, SeedableRng};
        const LETTERS: &[u8; 67] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= ";
        let good = good();
        let mut rng = rand::rngs::SmallRng::seed_from_u64(43);
        for _ in 0..100_000 {
            let mut text = good.clone().into_bytes();
            for _ in 0..rng.random_range(1..4) {
                if text.is_empty() {
                    break;
                }
                let at = rng.random_range(0..text.len());
                match rng.random_range(0..4) {
                    0 => drop(text.remove(at)),
                    1 => text.insert(at, LETTERS[rng.random_range(0..LETTERS.len())]),
                    2 => text.truncate(at.max(1)),
                    _ => text[at] = LETTERS[rng.random_range(0..LETTERS.len())],
                }
            }
            let text = String::from_utf8(text).expect("letters");
            assert!(text == good || prove(&text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_sister_signs_is_answered(
            payload in "[\\[\\]{}\":,a-z0-9.e-]{0,60}",
            header in "(\\{\"alg\":\"HS256\"[,:\"a-z]{0,10}\\}|.{0,20})",
        ) {
            prop_assert!(prove(&signed(&header, &payload)).is_err());
        }
    }
}
