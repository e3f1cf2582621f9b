//! A provider's public keys, and whether a token was signed by one of them.
//!
//! The *kind* of a key decides how it proves: an RSA key proves RS256 and nothing else, a key on P-256 ES256 and nothing
//! else. A token that says `none`, or wants its key taken from itself, is signed by nobody.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

const MOST_KEYS: usize = 100;
const SHORTEST_MODULUS: usize = 256;
const COORDINATE: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    kid: Option<String>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    #[serde(rename = "use")]
    used_for: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a key set (RFC 7517). Keys that we have no use for are passed over.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Key>> {
    let set: Set = serde_json::from_slice(bytes).ok().context("it is no JSON web key set")?;
    let written = set.keys.into_iter().take(MOST_KEYS).filter_map(|key| serde_json::from_value::<Written>(key).ok());
    let keys: Vec<Key> = written.filter_map(Written::key).collect();
    ensure!(!keys.is_empty(), "there is no key for RS256 or ES256 in it");
    Ok(keys)
}

impl Written {
    fn key(self) -> Option<Key> {
        if self.used_for.as_deref().is_some_and(|used_for| used_for != "sig") {
            return None;
        }
        let bytes = |text: Option<&String>| URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok();
        let number = |text| {
            let bytes = bytes(text)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec())
        };
        let alg = self.alg.as_deref();
        let kind = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) if alg.is_none_or(|alg| alg == "RS256") => {
                let (n, e) = (number(self.n.as_ref())?, number(self.e.as_ref())?);
                (n.len() >= SHORTEST_MODULUS && !e.is_empty()).then_some(Kind::Rsa { n, e })?
            }
            ("EC", Some("P-256")) if alg.is_none_or(|alg| alg == "ES256") => {
                let (x, y) = (bytes(self.x.as_ref())?, bytes(self.y.as_ref())?);
                let whole = x.len() == COORDINATE && y.len() == COORDINATE;
                whole.then(|| Kind::P256([&[4][..], &x, &y].concat()))?
            }
            _ => return None,
        };
        Some(Key { kid: self.kid, kind })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// A token in its parts; nothing of it is believed yet.
pub(super) struct Token<'a> {
    header: Header,
    signed: &'a str,
    signature: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Token<'a>> {
        let read = || {
            let (signed, signature) = text.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            Some(Token {
                header: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?,
                payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
                signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
                signed,
            })
        };
        let token = read().context("the token cannot be read")?;
        ensure!(token.header.crit.is_none(), "the token wants more than we understand");
        Ok(token)
    }

    /// Whether there is a key among these that it may have been signed with.
    pub(super) fn has_key(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| self.names(key))
    }

    fn names(&self, key: &Key) -> bool {
        match (&self.header.kid, &key.kid) {
            (Some(wanted), Some(kid)) => wanted == kid,
            _ => true,
        }
    }

    /// What it says, if one of these keys signed it.
    pub(super) fn prove(&self, keys: &[Key]) -> Result<Value> {
        let proven = keys.iter().filter(|key| self.names(key)).any(|key| match (&key.kind, self.header.alg.as_str()) {
            (Kind::Rsa { n, e }, "RS256") => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, self.signed.as_bytes(), &self.signature).is_ok()
            }
            (Kind::P256(point), "ES256") => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(self.signed.as_bytes(), &self.signature).is_ok()
            }
            _ => false,
        });
        ensure!(proven, "the token is not signed by the provider with RS256 or ES256");
        serde_json::from_slice(&self.payload).ok().context("the token says nothing")
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    struct Signer {
        pair: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Signer {
        fn new() -> Signer {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
            let pair =
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key");
            Signer { pair, random }
        }

        fn set(&self, kid: &str) -> Vec<u8> {
            let point = self.pair.public_key().as_ref();
            let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
            let key = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y });
            json!({ "keys": [{ "kty": "oct", "k": "AAAA" }, 7, key] }).to_string().into_bytes()
        }

        fn sign(&self, header: &Value, payload: &Value) -> String {
            let signed = format!(
                "{}.{}",
                URL_SAFE_NO_PAD.encode(header.to_string()),
                URL_SAFE_NO_PAD.encode(payload.to_string())
            );
            let signature = self.pair.sign(&self.random, signed.as_bytes()).expect("signed");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    #[test]
    fn a_token_is_proven_by_the_provider_s_key_alone() {
        let (theirs, other) = (Signer::new(), Signer::new());
        let keys = parse(&theirs.set("a")).expect("keys");
        assert_eq!(keys.len(), 1);
        let claims = json!({ "sub": "7" });
        let proven = |text: &str| Token::parse(text).and_then(|token| token.prove(&keys)).ok();
        let good = theirs.sign(&json!({ "alg": "ES256", "kid": "a" }), &claims);
        assert_eq!(proven(&good), Some(claims.clone()));
        assert_eq!(proven(&theirs.sign(&json!({ "alg": "ES256" }), &claims)), Some(claims.clone()));
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": "HS256", "kid": "a" }),
            json!({ "alg": "RS256", "kid": "a" }),
            json!({ "alg": "ES256", "kid": "b" }),
            json!({ "alg": "ES256", "kid": "a", "crit": ["x"] }),
            json!({ "kid": "a" }),
        ] {
            assert_eq!(proven(&theirs.sign(&header, &claims)), None, "{header}");
        }
        assert_eq!(proven(&other.sign(&json!({ "alg": "ES256", "kid": "a" }), &claims)), None);
        let (head, signature) = good.rsplit_once('.').expect("three parts");
        assert_eq!(proven(&format!("{head}.")), None);
        let forged = format!(
            "{}.{}.{signature}",
            head.split_once('.').expect("two parts").0,
            URL_SAFE_NO_PAD.encode(json!({ "sub": "8" }).to_string())
        );
        assert_eq!(proven(&forged), None);
        assert!(
            !Token::parse(&theirs.sign(&json!({ "alg": "ES256", "kid": "b" }), &claims)).expect("read").has_key(&keys)
        );
    }

    #[test]
    fn a_set_without_a_key_for_us_is_refused() {
        for set in [
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
            r#"{"keys":[{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}]}"#,
        ] {
            parse(set.as_bytes()).expect_err(set);
        }
    }
}
