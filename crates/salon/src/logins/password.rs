//! Passwords: Argon2id, and few at once, because each takes 19 MiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// KiB, passes and lanes, as OWASP asks of it at least.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Hashes that are computed at once.
const AT_ONCE: usize = 2;

const SHORTEST: usize = 10;
/// Longer ones are no safer, and cost.
const LONGEST: usize = 512;

/// What everybody tries first.
const COMMON: &str = "password 1234567890 0987654321 qwertyuiop qwerty1234 1q2w3e4r5t iloveyou changeme letmein administrator \
                      welcome passw0rd football baseball superman princess sunshine asdfghjkl zxcvbnm salon";

/// The password is too short, too long, or the first that others would try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weak;

/// Refuses a password that somebody would guess. `theirs` is what everybody knows of its owner.
pub fn check(password: &str, theirs: &[&str]) -> Result<(), Weak> {
    let length = password.chars().count();
    let lower = password.to_lowercase();
    let mut different: Vec<char> = lower.chars().collect();
    different.sort_unstable();
    different.dedup();
    // "password2026!" is "password" with what everybody puts behind it.
    let bare = lower.trim_matches(|c: char| !c.is_alphabetic());
    let common = COMMON.split(' ').any(|word| lower == word || bare == word || lower == format!("{word}{word}"));
    let own = theirs.iter().flat_map(|text| {
        let text = text.to_lowercase();
        let local = text.split('@').next().unwrap_or_default().to_owned();
        [text, local]
    });
    let mut own = own.filter(|word| word.chars().count() >= 3);
    let good = (SHORTEST..=LONGEST).contains(&length) && different.len() >= 5 && !common;
    if good && !own.any(|word| lower == word || bare == word) { Ok(()) } else { Err(Weak) }
}

/// Hashes and compares. One per process.
pub struct Passwords {
    argon: Argon2<'static>,
    slots: Arc<Semaphore>,
    /// Of a password that nobody has: what is compared where there is nobody.
    nobody: String,
    computed: AtomicU64,
}

impl Default for Passwords {
    fn default() -> Passwords {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("these numbers are within Argon2's bounds");
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        // Its time is that of any other; whether it fits is not asked.
        let nobody =
            format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$bm9ib2R5aGFzdGhpcw${}", "A".repeat(43));
        Passwords { argon, slots: Arc::new(Semaphore::new(AT_ONCE)), nobody, computed: AtomicU64::new(0) }
    }
}

impl Passwords {
    /// How many hashes were computed: whoever looks for somebody must cost one, found or not.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    pub async fn hash(&self, password: &str) -> String {
        let (argon, password) = (self.argon.clone(), Zeroizing::new(password.to_owned()));
        let _slot = self.slots.acquire().await;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let hashed = tokio::task::spawn_blocking(move || {
            let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).expect("16 bytes are a salt");
            argon.hash_password(password.as_bytes(), &salt).expect("the salt is one").to_string()
        });
        hashed.await.expect("hashing does not panic")
    }

    /// Whether a password is the one that was hashed. Takes as long where there is none.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> bool {
        let is_somebodys = hash.is_some();
        let (argon, password) =
            (self.argon.clone(), Zeroizing::new(password.chars().take(LONGEST).collect::<String>()));
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let _slot = self.slots.acquire().await;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let verified = tokio::task::spawn_blocking(move || {
            PasswordHash::new(&hash).is_ok_and(|hash| argon.verify_password(password.as_bytes(), &hash).is_ok())
        });
        verified.await.unwrap_or(false) && is_somebodys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_would_try_is_refused() {
        for bad in [
            "",
            "short",
            "password",
            "Password2026!",
            "1234567890",
            "aaaaaaaaaaaa",
            "alice@birds.example",
            "alice12345678",
            "qwertyuiop",
            "administrator",
        ] {
            assert_eq!(check(bad, &["alice@birds.example", "Alice"]), Err(Weak), "{bad}");
        }
        for good in ["storks fly south", "tr0ub4dor&3x", "황새는 남쪽으로 난다", "correct horse battery staple"]
        {
            assert_eq!(check(good, &["alice@birds.example", "Alice"]), Ok(()), "{good}");
        }
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_and_no_other() {
        let passwords = Passwords::default();
        let hash = passwords.hash("storks fly south").await;
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash("storks fly south").await, "salts differ");
        assert!(passwords.verify("storks fly south", Some(&hash)).await);
        assert!(!passwords.verify("storks fly north", Some(&hash)).await);
        assert!(!passwords.verify("storks fly south", None).await);
    }

    #[test]
    fn what_is_compared_for_nobody_costs_what_others_cost() {
        let passwords = Passwords::default();
        let hash = PasswordHash::new(&passwords.nobody).expect("it is a hash");
        assert!(hash.salt.is_some() && hash.hash.is_some());
        assert_eq!(hash.params.get_decimal("m"), Some(MEMORY_KIB));
    }
}
