//! The second factor: an app's codes and those on paper, each good once.

#[path = "people/cast.rs"]
#[expect(dead_code, reason = "this file needs a part of the cast")]
mod cast;

use std::sync::Arc;
use std::time::Duration;

use salon::logins::{Entered, Newcomer, NotIn, Shown};
use salon::{Actor, Salon};
use salon_core::Owner;
use salon_store::testing::Scratch;
use salon_store::{Account, AuditFilter, Realm, Store, on_both_databases};

use cast::salon;

on_both_databases! {
    a_factor_counts_from_its_first_code_on
    a_code_is_good_once
    a_code_on_paper_is_good_once
    a_factor_is_switched_off_by_password_and_code
    an_administrator_helps_whoever_lost_it
    who_guesses_codes_waits
}

const EMAIL: &str = "alice@birds.example";
const PASSWORD: &str = "seven grey storks";

async fn with_alice(store: &Store) -> Arc<Salon> {
    let salon = salon(store).await;
    let invited = salon.first_invitation().await.expect("an invitation").expect("nobody is there yet");
    let new = Newcomer {
        name: "alice".to_owned(),
        email: EMAIL.to_owned(),
        password: PASSWORD.to_owned(),
        lang: None,
        pass: Some(invited.word),
    };
    salon.register(new).await.expect("registered");
    salon
}

async fn alice(store: &Store) -> Account {
    store.read().await.expect("read").find_account_of_login(EMAIL).await.expect("found").expect("alice")
}

async fn log_in(salon: &Salon, code: Option<&str>) -> Result<Entered, NotIn> {
    let shown = Shown { login: EMAIL, password: PASSWORD, code, peer: None, browser: "curl/8", realm: Realm::House };
    salon.log_in(shown).await
}

/// What the app shows, as another program computes it.
fn shown_by_app(salon: &Salon, secret: &str) -> String {
    let bits: String = secret
        .chars()
        .map(|c| format!("{:05b}", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).expect("base32")))
        .collect();
    let key: Vec<u8> = bits
        .as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).expect("bits"), 2).expect("a byte"))
        .collect();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let step = u64::try_from(salon.clock.now().0 / 30_000).expect("after 1970");
    let tag = ring::hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let number = tag.as_ref()[at..at + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

/// Switches the factor on; answers its secret and the codes on paper.
async fn enrol(salon: &Salon, store: &Store) -> (String, Vec<String>) {
    let begun = salon.begin_factor(&alice(store).await, PASSWORD).await.expect("begun");
    let secret = begun.secret.expose().to_owned();
    let code = shown_by_app(salon, &secret);
    let codes = salon.confirm_factor(&alice(store).await, &code).await.expect("confirmed");
    salon.clock.wind(Duration::from_secs(30));
    (secret, codes.iter().map(|code| code.expose().to_owned()).collect())
}

async fn a_factor_counts_from_its_first_code_on(Scratch { store, .. }: Scratch) {
    let salon = with_alice(&store).await;
    let wrong = salon.begin_factor(&alice(&store).await, "seven grey geese").await;
    assert!(matches!(wrong, Err(NotIn::Wrong)));
    let none = salon.confirm_factor(&alice(&store).await, "123456").await;
    assert!(matches!(none, Err(NotIn::NoFactor)));
    let begun = salon.begin_factor(&alice(&store).await, PASSWORD).await.expect("begun");
    let secret = begun.secret.expose().to_owned();
    let uri = format!("otpauth://totp/Salon:{EMAIL}?secret={secret}&issuer=Salon&algorithm=SHA1&digits=6&period=30");
    assert_eq!(begun.uri.expose(), uri);
    let entered = log_in(&salon, None).await.expect("it is not switched on yet");
    let again = salon.begun_factor(&alice(&store).await).await.expect("looked").expect("begun");
    assert_eq!(again.secret.expose(), secret);
    assert!(matches!(salon.confirm_factor(&alice(&store).await, "000000").await, Err(NotIn::Wrong)));
    let code = shown_by_app(&salon, &secret);
    let codes = salon.confirm_factor(&alice(&store).await, &format!("{} {}", &code[..3], &code[3..])).await;
    assert_eq!(codes.expect("confirmed").len(), 10);
    let gone = salon.visit(&entered.cookie, Realm::House).await.expect("looked");
    assert!(gone.is_none(), "what was open has ended");
    assert!(matches!(log_in(&salon, None).await, Err(NotIn::CodeWanted)));
    assert!(matches!(salon.begin_factor(&alice(&store).await, PASSWORD).await, Err(NotIn::FactorOn)));
    assert!(salon.begun_factor(&alice(&store).await).await.expect("looked").is_none(), "it is not shown any more");
    // It is nobody's key at a provider.
    let owner = Owner::User(alice(&store).await.user.id);
    assert_eq!(salon.vault.list_keys(Some(&owner)).await.expect("keys"), []);
    assert_eq!(salon.vault.list_keys(None).await.expect("keys"), []);
    assert!(salon.vault.check().await.expect("checked").broken.is_empty());
}

async fn a_code_is_good_once(Scratch { store, .. }: Scratch) {
    let salon = with_alice(&store).await;
    let (secret, _) = enrol(&salon, &store).await;
    let code = shown_by_app(&salon, &secret);
    log_in(&salon, Some(&code)).await.expect("in");
    assert!(matches!(log_in(&salon, Some(&code)).await, Err(NotIn::Wrong)), "it was read over a shoulder");
    salon.clock.wind(Duration::from_secs(30));
    let next = shown_by_app(&salon, &secret);
    // The clock of the phone is a little behind ours.
    salon.clock.wind(Duration::from_secs(30));
    log_in(&salon, Some(&next)).await.expect("in");
    salon.clock.wind(Duration::from_secs(90));
    assert!(matches!(log_in(&salon, Some(&next)).await, Err(NotIn::Wrong)), "it is too old");
    // Of two who show one code at once, one comes in.
    salon.backoff.forget(EMAIL);
    let code = shown_by_app(&salon, &secret);
    let (one, other) = tokio::join!(log_in(&salon, Some(&code)), log_in(&salon, Some(&code)));
    assert!(one.is_ok() ^ other.is_ok());
}

async fn a_code_on_paper_is_good_once(Scratch { store, .. }: Scratch) {
    let salon = with_alice(&store).await;
    let (_, codes) = enrol(&salon, &store).await;
    assert_eq!(salon.count_recovery_codes(&alice(&store).await).await.expect("counted"), 10);
    log_in(&salon, Some(&codes[3].to_lowercase().replace('-', " "))).await.expect("in");
    assert!(matches!(log_in(&salon, Some(&codes[3])).await, Err(NotIn::Wrong)));
    assert!(matches!(log_in(&salon, Some("ABCD-EFGH-JKLM")).await, Err(NotIn::Wrong)));
    log_in(&salon, Some(&codes[0])).await.expect("in by another");
    assert_eq!(salon.count_recovery_codes(&alice(&store).await).await.expect("counted"), 8);
    let lines = store.read().await.expect("read").list_audit(&AuditFilter::default(), 100).await.expect("lines");
    let used = lines.iter().filter(|line| line.action == "factor.recovery");
    assert_eq!(used.map(|line| line.detail.as_str()).collect::<Vec<_>>(), [r#"{"left":8}"#, r#"{"left":9}"#]);
}

async fn a_factor_is_switched_off_by_password_and_code(Scratch { store, .. }: Scratch) {
    let salon = with_alice(&store).await;
    let (secret, codes) = enrol(&salon, &store).await;
    let code = shown_by_app(&salon, &secret);
    assert!(matches!(salon.end_factor(&alice(&store).await, "seven grey geese", &code).await, Err(NotIn::Wrong)));
    assert!(matches!(salon.end_factor(&alice(&store).await, PASSWORD, "000000").await, Err(NotIn::Wrong)));
    salon.end_factor(&alice(&store).await, PASSWORD, &code).await.expect("off");
    log_in(&salon, None).await.expect("no code is wanted");
    assert!(matches!(salon.end_factor(&alice(&store).await, PASSWORD, &code).await, Err(NotIn::NoFactor)));
    // Another one is another one: what was on paper is worthless.
    let (_, others) = enrol(&salon, &store).await;
    assert!(matches!(log_in(&salon, Some(&codes[5])).await, Err(NotIn::Wrong)));
    log_in(&salon, Some(&others[5])).await.expect("in");
}

async fn an_administrator_helps_whoever_lost_it(Scratch { store, .. }: Scratch) {
    let salon = with_alice(&store).await;
    enrol(&salon, &store).await;
    salon.take_factor_away(&salon.pen(Actor::Operator), &alice(&store).await).await.expect("taken away");
    log_in(&salon, None).await.expect("in");
    let lines = store.read().await.expect("read").list_audit(&AuditFilter::default(), 100).await.expect("lines");
    let told: Vec<_> = lines.iter().rev().map(|line| (line.actor.as_str(), line.action.as_str())).collect();
    let by = alice(&store).await.user.id.to_string();
    assert_eq!(told[2..4], [(by.as_str(), "factor.on"), ("operator", "factor.off")]);
}

async fn who_guesses_codes_waits(Scratch { store, .. }: Scratch) {
    let salon = with_alice(&store).await;
    enrol(&salon, &store).await;
    let mut wrong = 0;
    let waits = loop {
        match log_in(&salon, Some("000000")).await {
            Err(NotIn::Wrong) => wrong += 1,
            Err(NotIn::TooMany { retry_after }) => break retry_after,
            other => panic!("{other:?}"),
        }
        assert!(wrong < 20, "nobody is stopped");
    };
    assert!((5..=10).contains(&wrong) && !waits.is_zero(), "after {wrong}");
}
