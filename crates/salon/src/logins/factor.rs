//! The second factor: codes of an app (TOTP, RFC 6238), and codes on paper for whoever loses it.
//!
//! The app's secret is in the vault, bound to its person; the codes on paper are tokens of which only the hash is kept.
//! A code is good once, also to somebody who read it over a shoulder within its half minute.

use std::time::Duration;

use ring::hmac;
use salon_core::{SecretId, Time};
use salon_store::{Account, Pass, Tx};
use serde_json::json;

use super::{NotIn, passes};
use crate::Salon;
use crate::audit::{Action, Deed, Pen, note};
use crate::vault::{Secret, VaultError};

/// As in every app: SHA-1, six digits, thirty seconds. Apps that know anything else are rare.
const STEP_MS: i64 = 30_000;
const DIGITS: usize = 6;
/// Steps before and after the present one that are good, because clocks differ.
const SLACK: i64 = 1;
const SECRET_BYTES: usize = 20;
/// How the app calls us.
const ISSUER: &str = "Salon";

const RECOVERY: &str = "recovery";
const RECOVERY_CODES: usize = 10;
const RECOVERY_LETTERS: usize = 12;
/// They do not expire; a token must say when it does.
const RECOVERY_LASTS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A factor that is not switched on before its first code. What is here is seen this once.
#[derive(Clone, Debug)]
pub struct Enrolling {
    /// In base32, for whoever types it.
    pub secret: Secret,
    /// For a camera: an address of the scheme `otpauth`.
    pub uri: Secret,
}

impl Salon {
    /// Makes a factor for somebody who knows their password. It counts from [`Salon::confirm_factor`] on.
    pub async fn begin_factor(&self, account: &Account, password: &str) -> Result<Enrolling, NotIn> {
        if account.factor.is_some() {
            return Err(NotIn::FactorOn);
        }
        self.prove(account, password).await?;
        let secret = Secret::new(base32(&rand::random::<[u8; SECRET_BYTES]>()));
        self.vault.put_factor(&account.user.id, &secret).await.map_err(closed)?;
        Ok(enrolling(account, secret))
    }

    /// The factor that was begun, to be shown again while it is not confirmed.
    pub async fn begun_factor(&self, account: &Account) -> Result<Option<Enrolling>, NotIn> {
        if account.factor.is_some() {
            return Ok(None);
        }
        let found = self.vault.find_factor(&account.user.id).await.map_err(closed)?;
        Ok(found.map(|(_, secret)| enrolling(account, secret)))
    }

    /// Switches the factor on by its first code, and answers the codes on paper. What they have open ends.
    pub async fn confirm_factor(&self, account: &Account, code: &str) -> Result<Vec<Secret>, NotIn> {
        let (user, now) = (&account.user.id, self.clock.now());
        if account.factor.is_some() {
            return Err(NotIn::FactorOn);
        }
        let (id, secret) = self.vault.find_factor(user).await.map_err(closed)?.ok_or(NotIn::NoFactor)?;
        let login = account.login.as_deref().unwrap_or(user.as_str());
        self.backoff.allow(login, None, now).map_err(|retry_after| NotIn::TooMany { retry_after })?;
        let Some(step) = matching(secret.expose(), &digits(code), now) else {
            self.backoff.note(login, None, now);
            return Err(NotIn::Wrong);
        };
        let codes: Vec<Secret> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let papers = codes.iter().map(|code| Pass {
            hash: self.recovery_hash(code.expose()),
            kind: RECOVERY.to_owned(),
            account: Some(user.clone()),
            text: None,
            expires_at: now + RECOVERY_LASTS,
            used: false,
        });
        let deed = Deed::new(Action::FactorOn, &account.user.org, user);
        let args = (account.clone(), id, step, papers.collect::<Vec<Pass>>(), self.pen(user), deed);
        let on = self.store.write(args, |tx, (account, id, step, papers, pen, deed)| {
            Box::pin(async move {
                let user = &account.user.id;
                let known = tx.find_account(user).await?;
                if known.is_none_or(|known| known.factor.is_some()) {
                    return Ok(false);
                }
                tx.set_factor(user, Some(id.as_str())).await?;
                tx.use_factor_step(user, *step).await?;
                tx.drop_passes(RECOVERY, Some(user)).await?;
                for paper in papers {
                    tx.add_pass(paper, pen.at()).await?;
                }
                note(tx, pen, deed.clone()).await?;
                Ok(true)
            })
        });
        if on.await? { Ok(codes) } else { Err(NotIn::FactorOn) }
    }

    /// Switches one's factor off, by the password and a code. What they have open ends.
    pub async fn end_factor(&self, account: &Account, password: &str, code: &str) -> Result<(), NotIn> {
        if account.factor.is_none() {
            return Err(NotIn::NoFactor);
        }
        self.prove(account, password).await?;
        if let Err(error) = self.check_factor(account, Some(code)).await {
            if matches!(error, NotIn::Wrong) {
                let login = account.login.as_deref().unwrap_or(account.user.id.as_str());
                self.backoff.note(login, None, self.clock.now());
            }
            return Err(error);
        }
        self.take_factor_away(&self.pen(&account.user.id), account).await
    }

    /// Switches somebody's factor off who has lost it. Whether the holder of the pen may do so is the caller's to know.
    pub async fn take_factor_away(&self, pen: &Pen, account: &Account) -> Result<(), NotIn> {
        let Some(factor) = &account.factor else { return Err(NotIn::NoFactor) };
        let deed = Deed::new(Action::FactorOff, &account.user.org, &account.user.id);
        let args = (account.user.id.clone(), SecretId::new(factor.as_str()), pen.clone(), deed);
        let off = self.store.write(args, |tx, (user, factor, pen, deed)| {
            Box::pin(async move {
                tx.set_factor(user, None).await?;
                tx.drop_passes(RECOVERY, Some(user)).await?;
                tx.remove_secret(factor).await?;
                note(tx, pen, deed.clone()).await
            })
        });
        Ok(off.await?)
    }

    /// Whether a code is good now for whoever wants to come in; it is used up by that.
    pub(super) async fn check_factor(&self, account: &Account, code: Option<&str>) -> Result<(), NotIn> {
        let (Some(factor), user) = (&account.factor, &account.user.id) else { return Ok(()) };
        let code = code.ok_or(NotIn::CodeWanted)?;
        let typed = digits(code);
        if typed.len() == DIGITS && typed.bytes().all(|byte| byte.is_ascii_digit()) {
            let found = self.vault.find_factor(user).await.map_err(closed)?;
            // A factor that is not the one that was confirmed proves nothing.
            let (_, secret) = found.filter(|(id, _)| id.as_str() == factor).ok_or(NotIn::Wrong)?;
            let step = matching(secret.expose(), &typed, self.clock.now()).ok_or(NotIn::Wrong)?;
            let args = (user.clone(), step);
            let used = self
                .store
                .write(args, |tx, (user, step)| Box::pin(async move { tx.use_factor_step(user, *step).await }));
            return if used.await? { Ok(()) } else { Err(NotIn::Wrong) };
        }
        let deed = Deed::new(Action::RecoveryUsed, &account.user.org, user);
        let args = (self.recovery_hash(code), account.clone(), self.pen(user), deed);
        let used = self
            .store
            .write(args, |tx, (hash, account, pen, deed)| Box::pin(use_recovery_code(tx, hash, account, pen, deed)));
        if used.await? { Ok(()) } else { Err(NotIn::Wrong) }
    }

    /// How many codes on paper somebody has left.
    pub async fn count_recovery_codes(&self, account: &Account) -> salon_store::Result<i64> {
        self.store.read().await?.count_passes(RECOVERY, &account.user.id).await
    }

    fn recovery_hash(&self, code: &str) -> String {
        self.keys.token_hash(&format!("recovery {}", digits(code).to_ascii_uppercase()))
    }
}

fn enrolling(account: &Account, secret: Secret) -> Enrolling {
    let label = account.login.as_deref().unwrap_or(&account.user.name);
    let uri = format!(
        "otpauth://totp/{ISSUER}:{}?secret={}&issuer={ISSUER}&algorithm=SHA1&digits={DIGITS}&period=30",
        percent(label),
        secret.expose()
    );
    Enrolling { secret, uri: Secret::new(uri) }
}

async fn use_recovery_code(
    tx: &mut Tx,
    hash: &str,
    account: &Account,
    pen: &Pen,
    deed: &Deed,
) -> salon_store::Result<bool> {
    let paper = tx.find_pass(hash, RECOVERY).await?;
    let theirs = paper.is_some_and(|paper| paper.account.as_ref() == Some(&account.user.id));
    if !theirs || !tx.use_token(hash, pen.at()).await? {
        return Ok(false);
    }
    let left = tx.count_passes(RECOVERY, &account.user.id).await?;
    note(tx, pen, deed.clone().with(json!({ "left": left }))).await?;
    Ok(true)
}

/// What does not open is a fault of ours, and no reason to let anybody in.
fn closed(error: VaultError) -> NotIn {
    match error {
        VaultError::Store(error) => NotIn::Store(error),
        error => NotIn::Store(anyhow::Error::new(error).context("the second factor cannot be opened").into()),
    }
}

/// A code as people type it, with blanks and hyphens.
fn digits(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn recovery_code() -> Secret {
    let random = u128::from_le_bytes(rand::random());
    let letters: String = (0..RECOVERY_LETTERS)
        .flat_map(|at| {
            let letter = char::from(passes::LETTERS[(random >> (5 * at) & 31) as usize]);
            let hyphen = (at > 0 && at.is_multiple_of(4)).then_some('-');
            hyphen.into_iter().chain([letter])
        })
        .collect();
    Secret::new(letters)
}

/// The step that a code belongs to, if it is one of those about now.
fn matching(secret: &str, code: &str, now: Time) -> Option<i64> {
    let key = unbase32(secret)?;
    let step = now.0.div_euclid(STEP_MS);
    // All are compared, so that the time says nothing.
    let steps = (step - SLACK..=step + SLACK).filter(|step| {
        let right = totp(&key, *step);
        super::same(right.as_bytes(), code.as_bytes())
    });
    steps.fold(None, |_, step| Some(step))
}

/// The code of a step (RFC 4226, 5.3).
fn totp(key: &[u8], step: i64) -> String {
    code(key, step, DIGITS)
}

fn code(key: &[u8], step: i64, digits: usize) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let at = usize::from(bytes[bytes.len() - 1] & 15);
    let number = u32::from_be_bytes([bytes[at] & 0x7f, bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    format!("{:0digits$}", number % 10_u32.pow(u32::try_from(digits).unwrap_or(6)))
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Base32 (RFC 4648) without padding, as apps want it.
fn base32(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let letter = |at: usize| (0..5).fold(0, |number, n| number << 1 | bit(at * 5 + n));
    (0..(bytes.len() * 8).div_ceil(5)).map(|at| char::from(BASE32[letter(at)])).collect()
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut number, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let value = BASE32.iter().position(|letter| *letter == byte.to_ascii_uppercase())?;
        number = number << 5 | u32::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(number >> bits & 0xff).ok()?);
        }
        number &= (1 << bits) - 1;
    }
    Some(bytes)
}

/// A text within an address.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'@');
    let escaped = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, for SHA-1.
        let key = b"12345678901234567890";
        for (seconds, expected) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000_i64, "65353130"),
        ] {
            assert_eq!(code(key, seconds / 30, 8), expected);
            assert_eq!(totp(key, seconds / 30), expected[2..]);
        }
        // RFC 4226, appendix D.
        let codes: Vec<String> = (0..5).map(|count| totp(key, count)).collect();
        assert_eq!(codes, ["755224", "287082", "359152", "969429", "338314"]);
    }

    #[test]
    fn base32_is_that_of_the_standard() {
        for (plain, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(plain.as_bytes()), text);
            assert_eq!(unbase32(text).expect("base32"), plain.as_bytes());
        }
        assert_eq!(unbase32("M1"), None);
    }

    #[test]
    fn a_code_is_good_for_the_steps_around_now() {
        let secret = base32(b"12345678901234567890");
        let now = Time(1_111_111_111_000);
        let step = now.0 / STEP_MS;
        for around in -1..=1 {
            assert_eq!(matching(&secret, &totp(b"12345678901234567890", step + around), now), Some(step + around));
        }
        for beyond in [-2, 2] {
            assert_eq!(matching(&secret, &totp(b"12345678901234567890", step + beyond), now), None);
        }
    }

    #[test]
    fn recovery_codes_are_typed_by_people() {
        let code = recovery_code();
        assert_eq!(code.expose().len(), 14);
        assert_eq!(digits(code.expose()).len(), RECOVERY_LETTERS);
        assert_eq!(percent("a b&c@birds.example"), "a%20b%26c@birds.example");
    }
}
