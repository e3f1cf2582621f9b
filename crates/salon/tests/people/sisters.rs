use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use ring::rsa::KeyPair;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaPublicKeyComponents};
use ring::{hmac, rand};
use salon::Actor;
use salon::access::jwt::{Jwks, JwksSource, Jwt, JwtError};
use salon::people::{DEFAULT_ORG, UserChange, find_org, set_reach, set_user};
use salon::{Caller, Clock, Credential, Denied, Salon};
use salon_core::people::Role;
use salon_engine::Secret;
use salon_store::on_both_databases;
use salon_store::testing::Scratch;
use serde_json::{Value, json};

use crate::cast::*;

/// Made for these tests, and believed by nobody else.
const SISTER: &[u8] = include_bytes!("sister.pk8");
const SECRET: &str = "9vJ2kQ7xWm4ZrT1bLs8pDf6hYc3nGe5a";
/// Seconds.
const SOON: i64 = NOON.0 / 1000 + 600;

on_both_databases! {
    a_sisters_token_makes_its_person_and_organisation
    what_the_sister_says_later_is_taken_over
    whoever_was_switched_off_here_stays_outside
    whoever_may_do_little_here_does_no_more_by_a_token
    what_is_no_address_is_not_news_each_time
    a_token_is_good_until_it_expires
    many_first_tokens_make_one_person
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn claims(user: Value) -> Value {
    json!({ "user": user, "exp": SOON })
}

fn alice() -> Value {
    json!({ "id": 42, "username": "alice", "email": "alice@birds.example", "orgId": 7, "role": "ADMIN" })
}

fn hs256(header: Value, claims: &Value, secret: &str) -> String {
    let signed = format!("{}.{}", part(&header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())))
}

fn token(claims: &Value) -> String {
    hs256(json!({ "alg": "HS256", "typ": "JWT" }), claims, SECRET)
}

fn rs256(header: Value, claims: &Value) -> String {
    let key = KeyPair::from_pkcs8(SISTER).expect("a key");
    let signed = format!("{}.{}", part(&header), part(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), signed.as_bytes(), &mut signature).expect("signed");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn jwks(kid: &str) -> Value {
    let key = KeyPair::from_pkcs8(SISTER).expect("a key");
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
    let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
    json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "other", "x": "AA", "y": "AA" },
        { "kty": "RSA", "use": "enc", "kid": kid, "n": n, "e": e },
        { "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e },
    ] })
}

async fn salon_that_trusts(store: &salon_store::Store) -> Arc<Salon> {
    let salon = salon(store).await;
    salon.access.trust(Jwt::default().with_secret(&Secret::new(SECRET)).expect("a secret"));
    salon
}

async fn show(salon: &Salon, token: &str) -> Result<Arc<Caller>, Denied> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"));
    let credential = Credential::read(&headers, None).expect("readable").expect("a credential");
    salon.access.admit(&credential, peer(), ROUTE, salon.clock.now()).await
}

async fn a_sisters_token_makes_its_person_and_organisation(Scratch { store, .. }: Scratch) {
    let salon = salon_that_trusts(&store).await;
    let caller = show(&salon, &token(&claims(alice()))).await.expect("let in");
    assert_eq!((caller.role, caller.key.as_ref()), (Role::Admin, None));
    let mut tx = store.read().await.expect("a connection");
    let user = tx.find_user(&caller.user).await.expect("find").expect("a person");
    assert_eq!((user.name.as_str(), user.email.as_deref()), ("alice", Some("alice@birds.example")));
    let org = tx.find_org(&caller.org).await.expect("find").expect("an organisation");
    assert_eq!(org.subject.as_deref(), Some("jwt:7"));
    drop(tx);
    // A colleague of the same organisation, and somebody of none.
    let bob = json!({ "id": "b-1", "username": "bob", "orgId": 7, "role": "JANITOR" });
    let bob = show(&salon, &token(&claims(bob))).await.expect("let in");
    assert_eq!((&bob.org, bob.role), (&caller.org, Role::User));
    let loner = show(&salon, &token(&claims(json!({ "id": 9 })))).await.expect("let in");
    assert_eq!(loner.org, find_org(&store, DEFAULT_ORG).await.expect("default").id);
    assert_eq!(show(&salon, &token(&claims(alice()))).await.expect("again").user, caller.user);
}

async fn what_the_sister_says_later_is_taken_over(Scratch { store, .. }: Scratch) {
    let salon = salon_that_trusts(&store).await;
    let before = show(&salon, &token(&claims(alice()))).await.expect("let in");
    let issued = metered_key(&salon, &before.user).await;
    let demoted = json!({ "id": 42, "username": "Alice B.", "orgId": 8, "role": "user" });
    let after = show(&salon, &token(&claims(demoted))).await.expect("let in");
    assert_eq!((&after.user, after.role), (&before.user, Role::User));
    assert_ne!(after.org, before.org);
    let user = store.read().await.expect("a connection").find_user(&after.user).await.expect("find").expect("a person");
    assert_eq!((user.name.as_str(), user.email), ("Alice B.", None));
    let limits = store.read().await.expect("a connection").list_limits(&after.org).await.expect("limits");
    assert_eq!(limits[0].subject.as_deref(), Some(issued.key.id.as_str()), "her key keeps its limit");
}

async fn whoever_was_switched_off_here_stays_outside(Scratch { store, .. }: Scratch) {
    let salon = salon_that_trusts(&store).await;
    person(&salon, "carol", Role::Admin).await;
    let text = token(&claims(alice()));
    let caller = show(&salon, &text).await.expect("let in");
    let off = UserChange { active: Some(false), ..UserChange::default() };
    set_user(&store, &salon.pen(Actor::Operator), &caller.user, off).await.expect("off");
    assert_eq!(show(&salon, &text).await, Err(Denied::Inactive));
    let promoted = json!({ "id": 42, "username": "alice2", "orgId": 7, "role": "ADMIN" });
    assert_eq!(show(&salon, &token(&claims(promoted))).await, Err(Denied::Inactive));
}

async fn whoever_may_do_little_here_does_no_more_by_a_token(Scratch { store, .. }: Scratch) {
    let salon = salon_that_trusts(&store).await;
    let text = token(&claims(alice()));
    let caller = show(&salon, &text).await.expect("let in");
    assert_eq!(caller.may_use("claude-opus"), Ok(()));
    let (pen, soon) = (salon.pen(Actor::Operator), salon.clock.now() + Duration::from_secs(60));
    set_reach(&store, &pen, &caller.user, Some(soon), Some("gpt-*")).await.expect("held to less");
    let caller = show(&salon, &text).await.expect("let in");
    assert_eq!((caller.may_use("gpt-4o"), caller.may_use("claude-opus")), (Ok(()), Err(Denied::Model)));
    salon.clock.wind(Duration::from_secs(60));
    assert_eq!(show(&salon, &text).await, Err(Denied::Expired));
    let newer = json!({ "user": alice(), "exp": SOON + 60 });
    assert_eq!(show(&salon, &token(&newer)).await, Err(Denied::Expired));
}

async fn what_is_no_address_is_not_news_each_time(Scratch { store, .. }: Scratch) {
    let salon = salon_that_trusts(&store).await;
    for email in ["a\0b@birds.example", "nonsense"] {
        let user = json!({ "id": 43, "username": "bob", "email": email });
        let caller = show(&salon, &token(&claims(user.clone()))).await.expect("let in");
        let mut tx = store.read().await.expect("a connection");
        assert_eq!(tx.find_user(&caller.user).await.expect("find").expect("a person").email, None);
        let before = tx.people_revision().await.expect("a number");
        drop(tx);
        let again = json!({ "user": user, "exp": SOON + 1 });
        show(&salon, &token(&again)).await.expect("let in");
        assert_eq!(store.read().await.expect("a connection").people_revision().await.expect("a number"), before);
    }
}

async fn a_token_is_good_until_it_expires(Scratch { store, .. }: Scratch) {
    let salon = salon_that_trusts(&store).await;
    let text = token(&claims(alice()));
    salon.clock.wind(Duration::from_secs(600));
    // The two machines' clocks may differ by a minute.
    assert!(show(&salon, &text).await.is_ok());
    salon.clock.wind(Duration::from_secs(59));
    assert!(show(&salon, &text).await.is_ok());
    salon.clock.wind(Duration::from_secs(1));
    assert_eq!(show(&salon, &text).await, Err(Denied::Expired));
}

async fn many_first_tokens_make_one_person(Scratch { store, .. }: Scratch) {
    let salon = salon_that_trusts(&store).await;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let salon = salon.clone();
            // Different texts, so that none is remembered for another.
            let said = json!({ "user": alice(), "exp": SOON + n });
            tokio::spawn(async move { show(&salon, &token(&said)).await.expect("let in").user.to_string() })
        })
        .collect();
    let mut users = Vec::new();
    for task in tasks {
        users.push(task.await.expect("a task"));
    }
    users.dedup();
    assert_eq!(users.len(), 1, "{users:?}");
}

async fn refused(jwt: Jwt, text: &str) -> Denied {
    let scratch = Scratch::sqlite().await;
    let salon = salon(&scratch.store).await;
    salon.access.trust(jwt);
    show(&salon, text).await.expect_err("refused")
}

#[tokio::test]
async fn a_token_cannot_choose_how_it_is_judged() {
    let secret = || Jwt::default().with_secret(&Secret::new(SECRET)).expect("a secret");
    let Scratch { folder, .. } = Scratch::sqlite().await;
    let said = claims(alice());
    let unsigned = |alg: &str| format!("{}.{}.", part(&json!({ "alg": alg })), part(&said));
    for alg in ["none", "None", "HS256", "RS256", "ES256", ""] {
        let denied = refused(secret().with_jwks(sisters_keys(folder.path(), "k").await), &unsigned(alg)).await;
        assert!(matches!(denied, Denied::BadToken(_)), "{alg}: {denied:?}");
        assert_eq!(denied.status(), 401);
    }
    // The public key as the secret: everybody has it.
    let public = jwks("k").to_string();
    let confused = hs256(json!({ "alg": "HS256", "kid": "k" }), &said, &public);
    let only_keys = Jwt::default().with_jwks(sisters_keys(folder.path(), "k").await);
    assert!(matches!(refused(only_keys, &confused).await, Denied::BadToken(_)));
    let both = secret().with_jwks(sisters_keys(folder.path(), "k").await);
    assert_eq!(refused(both, &confused).await, Denied::BadToken("its signature is wrong"));
    // A good signature of the other kind, for which there is no key.
    let rs = rs256(json!({ "alg": "RS256", "kid": "k" }), &said);
    assert!(matches!(refused(secret(), &rs).await, Denied::BadToken(_)));
    // The right signature of other words.
    let good = token(&said);
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let (header, _) = head.split_once('.').expect("two parts");
    let root = part(&claims(json!({ "id": 1, "role": "ADMIN" })));
    assert_eq!(
        refused(secret(), &format!("{header}.{root}.{signature}")).await,
        Denied::BadToken("its signature is wrong")
    );
    assert!(matches!(
        refused(secret(), &hs256(json!({ "alg": "HS256", "crit": ["x"] }), &said, SECRET)).await,
        Denied::BadToken(_)
    ));
    assert!(matches!(
        refused(secret(), &hs256(json!({ "alg": "HS256" }), &said, "another")).await,
        Denied::BadToken(_)
    ));
    assert_eq!(
        refused(Jwt::default(), &good).await,
        Denied::BadToken("it is signed with HS256, for which there is no secret")
    );
}

#[tokio::test]
async fn a_token_says_who_until_when_and_for_whom() {
    let secret = || Jwt::default().with_secret(&Secret::new(SECRET)).expect("a secret");
    let now = NOON.0 / 1000;
    let bad = [
        json!({ "user": alice() }),
        json!({ "user": alice(), "exp": "soon" }),
        json!({ "user": alice(), "exp": now - 61 }),
        json!({ "user": alice(), "exp": i64::MAX }),
        json!({ "user": alice(), "exp": SOON, "nbf": now + 62 }),
        json!({ "exp": SOON, "sub": "42" }),
        json!({ "user": {}, "exp": SOON }),
        json!({ "user": { "id": null }, "exp": SOON }),
        json!({ "user": { "id": "" }, "exp": SOON }),
        json!({ "user": { "id": "x".repeat(200) }, "exp": SOON }),
        json!({ "user": { "id": 1, "orgId": [] }, "exp": SOON }),
        json!([]),
    ];
    for said in bad {
        assert_eq!(refused(secret(), &token(&said)).await.status(), 401, "{said}");
    }
    let parties = || secret().for_parties(Some("sister".to_owned()), Some("salon".to_owned()));
    for said in [
        json!({ "user": alice(), "exp": SOON }),
        json!({ "user": alice(), "exp": SOON, "iss": "sister" }),
        json!({ "user": alice(), "exp": SOON, "iss": "sister", "aud": ["other"] }),
        json!({ "user": alice(), "exp": SOON, "iss": "stranger", "aud": "salon" }),
    ] {
        assert_eq!(refused(parties(), &token(&said)).await.status(), 401, "{said}");
    }
    let scratch = Scratch::sqlite().await;
    let salon = salon(&scratch.store).await;
    salon.access.trust(parties());
    for aud in [json!("salon"), json!(["other", "salon"])] {
        let said = json!({ "user": alice(), "exp": SOON, "nbf": now + 30, "iss": "sister", "aud": aud });
        assert!(show(&salon, &token(&said)).await.is_ok());
    }
}

#[test]
fn weak_secrets_are_refused_at_the_start() {
    let why = |text: &str| Jwt::default().with_secret(&Secret::new(text)).map(drop);
    assert!(why(SECRET).is_ok());
    assert!(matches!(why("short"), Err(JwtError::Short)));
    let digits = "1234567890".repeat(4);
    for weak in
        ["your-secret-key-your-secret-key-1234", "change_me_change_me_change_me_123456", &"ab".repeat(20), &digits]
    {
        assert!(matches!(why(weak), Err(JwtError::Weak)), "{weak}");
    }
    let pem = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n";
    assert!(matches!(why(pem), Err(JwtError::PublicKey)));
}

async fn sisters_keys(folder: &Path, kid: &str) -> Jwks {
    let path = folder.join("jwks.json");
    std::fs::write(&path, jwks(kid).to_string()).expect("a file");
    Jwks::open(JwksSource::File(path), &Clock::wound_to(NOON)).await.expect("keys")
}

#[tokio::test]
async fn keys_come_from_a_file() {
    let scratch = Scratch::sqlite().await;
    let folder = &scratch.folder;
    let salon = salon(&scratch.store).await;
    salon.access.trust(Jwt::default().with_jwks(sisters_keys(folder.path(), "spring").await));
    let said = claims(alice());
    for header in [json!({ "alg": "RS256", "kid": "spring" }), json!({ "alg": "RS256" })] {
        assert!(show(&salon, &rs256(header, &said)).await.is_ok());
    }
    // The sister changes its key: the file is read again, though not for every stranger's token.
    let summer = rs256(json!({ "alg": "RS256", "kid": "summer" }), &said);
    let unknown = Denied::BadToken("it is signed with a key that we do not know");
    assert_eq!(show(&salon, &summer).await, Err(unknown.clone()));
    std::fs::write(folder.path().join("jwks.json"), jwks("summer").to_string()).expect("a file");
    assert_eq!(show(&salon, &summer).await, Err(unknown));
    salon.clock.wind(Duration::from_secs(11));
    assert!(show(&salon, &summer).await.is_ok());
    for broken in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#] {
        std::fs::write(folder.path().join("broken.json"), broken).expect("a file");
        let source = JwksSource::File(folder.path().join("broken.json"));
        assert!(matches!(Jwks::open(source, &Clock::wound_to(NOON)).await, Err(JwtError::Jwks(_))), "{broken}");
    }
    let missing = JwksSource::File(folder.path().join("missing.json"));
    assert!(Jwks::open(missing, &Clock::wound_to(NOON)).await.is_err());
}

#[tokio::test]
async fn keys_come_from_a_server_that_may_be_away_for_a_while() {
    let asked = Arc::new(AtomicUsize::new(0));
    let away = Arc::new(AtomicUsize::new(1));
    let (count, gone) = (asked.clone(), away.clone());
    let routes = axum::Router::new().fallback(move || {
        count.fetch_add(1, Ordering::SeqCst);
        let status = if gone.load(Ordering::SeqCst) == 1 { 503 } else { 200 };
        let status = axum::http::StatusCode::from_u16(status).expect("a status");
        async move { (status, jwks("spring").to_string()) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let scratch = Scratch::sqlite().await;
    let salon = salon(&scratch.store).await;
    let source = JwksSource::Url(url.parse().expect("an address"));
    salon.access.trust(Jwt::default().with_jwks(Jwks::open(source, &salon.clock).await.expect("it may come up later")));
    let text = rs256(json!({ "alg": "RS256", "kid": "spring" }), &claims(alice()));
    for _ in 0..5 {
        assert_eq!(show(&salon, &text).await, Err(Denied::Unavailable));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it is left in peace for a while");
    away.store(0, Ordering::SeqCst);
    salon.clock.wind(Duration::from_secs(21));
    assert!(show(&salon, &text).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
