//! The one place that finds out by what a request says who it is.

use percent::decoded;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use salon_engine::Secret;
use thiserror::Error;

use super::token;

/// Headers that carry a credential. Whichever it is, the same checks run.
const HEADERS: [HeaderName; 5] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-litellm-api-key"),
];

/// Names under which clients put keys into addresses, where logs and proxies read them.
const PARAMETERS: [&str; 10] = [
    "key",
    "api_key",
    "api-key",
    "apikey",
    "access_token",
    "auth_token",
    "token",
    "x-api-key",
    "x-goog-api-key",
    "authorization",
];

const LONGEST: usize = 8 * 1024;

/// What a request shows to say who it is. Not proven yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A key of ours, by its form.
    Key(Secret),
    /// A token of a sister backend, by its form.
    Jwt(Secret),
    /// Something else; some other service's key, perhaps. It is never looked up.
    Foreign,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadCredential {
    /// Two headers carry one each, or one header comes twice. Also if they are equal: what a proxy on the way and what
    /// the caller said must not be taken for each other.
    #[error("The request carries two credentials: {0} and {1}. Send one.")]
    Two(&'static str, &'static str),
    #[error("The request carries a key in its address ({0}), where logs keep it. Send it in a header, and replace it.")]
    InQuery(&'static str),
    #[error("The credential in {0} cannot be read. Send \"Authorization: Bearer <key>\" or \"x-api-key: <key>\".")]
    Malformed(&'static str),
}

impl BadCredential {
    pub fn status(&self) -> u16 {
        match self {
            BadCredential::Two(..) => 400,
            BadCredential::InQuery(_) | BadCredential::Malformed(_) => 401,
        }
    }

    /// A stable machine-readable name.
    pub fn code(&self) -> &'static str {
        match self {
            BadCredential::Two(..) => "two_credentials",
            BadCredential::InQuery(_) => "key_in_query",
            BadCredential::Malformed(_) => "malformed_credential",
        }
    }
}

impl Credential {
    /// Reads the credential of a request; `None` if it has none. `query` is what stands behind the `?` of its address.
    ///
    /// A key in the address is refused even beside a good header: the caller has to learn that it was shown.
    pub fn read(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Credential>, BadCredential> {
        if let Some(name) = query.and_then(key_in) {
            return Err(BadCredential::InQuery(name));
        }
        let mut found: Option<(&'static str, &HeaderValue)> = None;
        for (header, name) in HEADERS.iter().zip(NAMES) {
            for value in headers.get_all(header) {
                if let Some((first, _)) = found {
                    return Err(BadCredential::Two(first, name));
                }
                found = Some((name, value));
            }
        }
        let Some((name, value)) = found else { return Ok(None) };
        let text = value.to_str().map_err(|_| BadCredential::Malformed(name))?.trim();
        let text = match name {
            "Authorization" => bearer(text).ok_or(BadCredential::Malformed(name))?,
            // Its clients write it either way, and so it is read.
            "x-litellm-api-key" => bearer(text).unwrap_or(text),
            _ => text,
        };
        Credential::of(text).map(Some).ok_or(BadCredential::Malformed(name))
    }

    /// Tells by its form what a credential is. `None` if it can be none.
    fn of(text: &str) -> Option<Credential> {
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        if text.starts_with(token::PREFIX) {
            return token::is_whole(text).then(|| Credential::Key(Secret::new(text)));
        }
        let mut parts = text.split('.');
        let named = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
        if text.starts_with("eyJ") && named(parts.next()) && named(parts.next()) && parts.next().is_some() {
            return parts.next().is_none().then(|| Credential::Jwt(Secret::new(text)));
        }
        Some(Credential::Foreign)
    }
}

/// The headers as people write them, in the order of [`HEADERS`].
const NAMES: [&str; 5] = ["Authorization", "x-api-key", "x-goog-api-key", "api-key", "x-litellm-api-key"];

/// What stands behind `Bearer`, in any case.
fn bearer(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

/// The parameter of an address that carries a key: one by such a name, or whichever has one of our keys.
fn key_in(query: &str) -> Option<&'static str> {
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if value.is_empty() {
            continue;
        }
        let name = decoded(name);
        if let Some(known) = PARAMETERS.iter().find(|known| known.eq_ignore_ascii_case(&name)) {
            return Some(known);
        }
        if decoded(value).contains(token::PREFIX) {
            return Some("a parameter");
        }
    }
    None
}

mod percent {
    /// Decodes a part of an address as servers do, as far as it can be.
    pub(super) fn decoded(text: &str) -> String {
        let bytes = text.as_bytes();
        let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
        while at < bytes.len() {
            match (bytes[at], digit(at + 1), digit(at + 2)) {
                (b'%', Some(high), Some(low)) => {
                    plain.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                    at += 2;
                }
                (b'+', ..) => plain.push(b' '),
                (byte, ..) => plain.push(byte),
            }
            at += 1;
        }
        String::from_utf8_lossy(&plain).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], query: Option<&str>) -> Result<Option<Credential>, BadCredential> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header's name");
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header's value"));
        }
        Credential::read(&map, query)
    }

    #[test]
    fn every_header_carries_a_key_just_as_well() {
        let key = token::make();
        for name in NAMES {
            let value =
                if name == "Authorization" { format!("Bearer {}", key.expose()) } else { key.expose().to_owned() };
            assert_eq!(read(&[(name, &value)], None), Ok(Some(Credential::Key(key.clone()))), "{name}");
        }
        let bearer = format!("Bearer {}", key.expose());
        assert_eq!(read(&[("x-litellm-api-key", &bearer)], None), Ok(Some(Credential::Key(key.clone()))));
        assert_eq!(read(&[("x-api-key", &bearer)], None), Err(BadCredential::Malformed("x-api-key")));
        assert_eq!(
            read(&[("authorization", &format!("bEARER   {} ", key.expose()))], None),
            Ok(Some(Credential::Key(key)))
        );
        assert_eq!(read(&[("accept", "*/*")], Some("page=2")), Ok(None));
    }

    #[test]
    fn two_credentials_are_refused_even_if_they_are_equal() {
        let key = token::make();
        let bearer = format!("Bearer {}", key.expose());
        let both = read(&[("x-api-key", key.expose()), ("authorization", &bearer)], None);
        assert_eq!(both, Err(BadCredential::Two("Authorization", "x-api-key")));
        assert_eq!(both.expect_err("refused").status(), 400);
        let twice = read(&[("x-api-key", key.expose()), ("x-api-key", key.expose())], None);
        assert_eq!(twice, Err(BadCredential::Two("x-api-key", "x-api-key")));
        assert!(read(&[("api-key", ""), ("x-goog-api-key", key.expose())], None).is_err());
    }

    #[test]
    fn a_key_in_an_address_is_refused_whatever_else_there_is() {
        let key = token::make();
        for query in ["key=AIza", "alt=sse&key=x", "API_KEY=x", "api%5Fkey=x", "access_token=x", "a=b&token=x"] {
            let refused = read(&[("x-api-key", key.expose())], Some(query)).expect_err(query);
            assert_eq!((refused.status(), refused.code()), (401, "key_in_query"), "{query}");
        }
        let hidden = format!("q=%73alon_{}", &key.expose()[token::PREFIX.len()..]);
        assert!(matches!(read(&[], Some(&hidden)), Err(BadCredential::InQuery(_))));
        for query in ["", "key", "key=", "alt=sse", "keys=1", "monkey=1"] {
            assert_eq!(read(&[], Some(query)), Ok(None), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_a_credential_is_malformed() {
        let key = token::make();
        let cut = &key.expose()[..key.expose().len() - 1];
        let long = "x".repeat(LONGEST + 1);
        for value in [
            "Basic YTpi",
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "salon",
            &format!("Bearer {cut}"),
            &format!("Bearer {long}"),
            "Bearer ключ",
        ] {
            let refused = read(&[("authorization", value)], None).expect_err(value);
            assert_eq!(refused, BadCredential::Malformed("Authorization"), "{value}");
            assert_eq!(refused.status(), 401);
        }
        assert!(read(&[("x-api-key", "")], None).is_err());
    }

    #[test]
    fn credentials_are_told_apart_by_their_form() {
        assert_eq!(Credential::of("sk-proj-parrot"), Some(Credential::Foreign));
        assert!(matches!(Credential::of("eyJhbGciOiJIUzI1NiJ9.e30.sig"), Some(Credential::Jwt(_))));
        assert!(matches!(Credential::of("eyJhbGciOiJub25lIn0.e30."), Some(Credential::Jwt(_))));
        assert_eq!(Credential::of("eyJhbGciOiJIUzI1NiJ9.e30.s.t"), None);
    }

    #[test]
    fn no_error_repeats_what_was_sent() {
        let canary = "salon_CANARY-credential";
        for headers in [
            vec![("x-api-key", canary)],
            vec![("authorization", canary)],
            vec![("api-key", canary), ("x-api-key", canary)],
        ] {
            let error = read(&headers, None).expect_err("refused");
            assert!(!format!("{error} {error:?}").contains("CANARY"));
        }
        let error = read(&[], Some("key=CANARY")).expect_err("refused");
        assert!(!format!("{error} {error:?}").contains("CANARY"));
        let shown = read(&[("x-api-key", token::make().expose())], None);
        assert_eq!(format!("{shown:?}"), "Ok(Some(Key(Secret(…))))");
    }

    #[test]
    fn a_hundred_thousand_requests_are_answered_by_the_rules() {
        use rand::{RngExt, SeedableRng};
        let whole = token::make();
        let words: [&[u8]; 12] = [
            b"Bearer ",
            b"bearer",
            b"Basic ",
            b" ",
            b"salon_",
            whole.expose().as_bytes(),
            &whole.expose().as_bytes()[..30],
            b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
            b".",
            b"eyJ",
            b"sk-x",
            b"\xff",
        ];
        let names = ["key", "API_KEY", "access%5Ftoken", "q", "", "alt", "%", "salon_"];
        let mut rng = rand::rngs::SmallRng::seed_from_u64(41);
        let mut let_through = 0;
        for _ in 0..if is_long() { 1_000_000 } else { 100_000 } {
            let mut map = HeaderMap::new();
            for _ in 0..rng.random_range(0..3) {
                // One of five that carry credentials, or another.
                let name = HEADERS.get(rng.random_range(0..7)).cloned().unwrap_or(HeaderName::from_static("accept"));
                let value: Vec<u8> = if rng.random_range(0..4) == 0 {
                    (0..rng.random_range(0..20)).map(|_| rng.random()).collect()
                } else {
                    (0..rng.random_range(0..4)).flat_map(|_| words[rng.random_range(0..words.len())]).copied().collect()
                };
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    map.append(name, value);
                }
            }
            let query = (rng.random_range(0..3) == 0).then(|| {
                let name = |rng: &mut rand::rngs::SmallRng| names[rng.random_range(0..names.len())];
                format!("{}={}&{}", name(&mut rng), name(&mut rng), name(&mut rng))
            });
            let shown: Vec<_> = HEADERS.iter().flat_map(|header| map.get_all(header)).collect();
            let read = Credential::read(&map, query.as_deref());
            let_through += usize::from(matches!(read, Ok(Some(Credential::Key(_)))));
            let right = match (&read, shown.as_slice()) {
                _ if query.as_deref().and_then(key_in).is_some() => matches!(read, Err(BadCredential::InQuery(_))),
                (read, [_, _, ..]) => matches!(read, Err(BadCredential::Two(..))),
                (read, []) => *read == Ok(None),
                // What is found is exactly what was sent.
                (Ok(Some(Credential::Key(secret) | Credential::Jwt(secret))), [value]) => {
                    let text = value.to_str().expect("it was read");
                    let ours = secret.expose().starts_with(token::PREFIX);
                    text.trim().ends_with(secret.expose()) && token::is_whole(secret.expose()) == ours
                }
                (Ok(Some(Credential::Foreign)) | Err(BadCredential::Malformed(_)), [_]) => true,
                _ => false,
            };
            assert!(right, "{map:?} {query:?}: {read:?}");
        }
        assert!(let_through > 500, "some make sense: {let_through}");
    }

    #[expect(clippy::disallowed_methods, reason = "how long tests run is the environment's to say")]
    fn is_long() -> bool {
        std::env::var("SALON_LONG").is_ok_and(|value| !matches!(&*value, "" | "0"))
    }
}
