//! Passwords: Argon2id, and few at once, because each takes 19 MiB. That memory is kept and used again: what so many threads
//! give back by themselves, their allocator keeps for each of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{Output, ParamsString, PasswordHash, Salt, SaltString};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
    params: Params,
    slots: Arc<Semaphore>,
    rooms: Arc<Rooms>,
    /// Of a password that nobody has: what is compared where there is nobody.
    nobody: String,
    computed: AtomicU64,
}

/// The memory of hashes that are not computed just now.
type Rooms = Mutex<Vec<Vec<Block>>>;

/// A turn to compute. Whoever counts failures notes them before it ends, so that many who come at once are no exception.
pub struct Turn {
    _slot: Option<OwnedSemaphorePermit>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("these numbers are within Argon2's bounds");
        // Its time is that of any other; whether it fits is not asked.
        let nobody =
            format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$bm9ib2R5aGFzdGhpcw${}", "A".repeat(43));
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        Passwords { params, slots, rooms: Arc::default(), nobody, computed: AtomicU64::new(0) }
    }
}

impl Passwords {
    /// How many hashes were computed: whoever looks for somebody must cost one, found or not.
    pub fn computed(&self) -> u64 {
        self.computed.load(Ordering::Relaxed)
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Turn {
        // Nobody closes the semaphore, and without it there would be no bound and nothing worse.
        Turn { _slot: self.slots.clone().acquire_owned().await.ok() }
    }

    pub async fn hash(&self, password: &str) -> String {
        let _turn = self.turn().await;
        self.computed.fetch_add(1, Ordering::Relaxed);
        let (params, rooms, password) = (self.params.clone(), self.rooms.clone(), Zeroizing::new(password.to_owned()));
        let hashed = tokio::task::spawn_blocking(move || {
            let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).expect("16 bytes are a salt");
            let hash = compute(&rooms, &params, &password, salt.as_salt()).expect("the salt is one");
            let params = ParamsString::try_from(&params).expect("these numbers can be written");
            let salt = Some(salt.as_salt());
            let version = Some(Version::V0x13.into());
            PasswordHash { algorithm: ARGON2ID_IDENT, version, params, salt, hash: Some(hash) }.to_string()
        });
        hashed.await.expect("hashing does not panic")
    }

    /// Whether a password is the one that was hashed. Takes as long where there is none.
    pub async fn verify(&self, _turn: &Turn, password: &str, hash: Option<&str>) -> bool {
        let is_somebodys = hash.is_some();
        self.computed.fetch_add(1, Ordering::Relaxed);
        let password = Zeroizing::new(password.chars().take(LONGEST).collect::<String>());
        let (rooms, hash) = (self.rooms.clone(), hash.unwrap_or(&self.nobody).to_owned());
        let verified = tokio::task::spawn_blocking(move || fits(&rooms, &password, &hash).unwrap_or(false));
        verified.await.unwrap_or(false) && is_somebodys
    }
}

/// Whether a password is that of a hash; `None` if that is no hash of ours.
fn fits(rooms: &Rooms, password: &str, hash: &str) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok().filter(|hash| hash.algorithm == ARGON2ID_IDENT)?;
    let params = Params::try_from(&hash).ok()?;
    // Outputs are compared in a time that tells nothing.
    Some(compute(rooms, &params, password, hash.salt?)? == hash.hash?)
}

fn compute(rooms: &Rooms, params: &Params, password: &str, salt: Salt<'_>) -> Option<Output> {
    let mut room = rooms.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    room.resize(params.block_count(), Block::default());
    let mut bytes = [0; 64];
    let salt = salt.decode_b64(&mut bytes).ok()?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
    let output = Output::init_with(length, |out| {
        Ok(argon.hash_password_into_with_memory(password.as_bytes(), salt, out, &mut room)?)
    });
    rooms.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    output.ok()
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher;

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
        let turn = passwords.turn().await;
        assert!(passwords.verify(&turn, "storks fly south", Some(&hash)).await);
        assert!(!passwords.verify(&turn, "storks fly north", Some(&hash)).await);
        assert!(!passwords.verify(&turn, "storks fly south", None).await);
        assert!(!passwords.verify(&turn, "storks fly south", Some("$argon2id$v=19$nonsense")).await);
    }

    #[tokio::test]
    async fn hashes_of_another_program_and_of_other_numbers_fit_too() {
        let passwords = Passwords::default();
        let params = Params::new(8 * 1024, 1, 1, None).expect("numbers");
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let salt = SaltString::from_b64("c29tZXNhbHRzb21l").expect("a salt");
        let hash = argon.hash_password(b"storks fly south", &salt).expect("a hash").to_string();
        let turn = passwords.turn().await;
        assert!(passwords.verify(&turn, "storks fly south", Some(&hash)).await);
        assert!(!passwords.verify(&turn, "storks fly north", Some(&hash)).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn however_many_come_at_once_there_is_room_for_two() {
        let passwords = Arc::new(Passwords::default());
        let all = (0..24).map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move {
                let turn = passwords.turn().await;
                passwords.verify(&turn, "wrong", None).await
            })
        });
        for one in all.collect::<Vec<_>>() {
            assert!(!one.await.expect("an answer"));
        }
        let rooms = passwords.rooms.lock().expect("rooms");
        assert!((1..=AT_ONCE).contains(&rooms.len()), "{}", rooms.len());
        assert!(rooms.iter().all(|room| room.capacity() == MEMORY_KIB as usize));
    }

    #[test]
    fn what_is_compared_for_nobody_costs_what_others_cost() {
        let passwords = Passwords::default();
        let hash = PasswordHash::new(&passwords.nobody).expect("it is a hash");
        assert!(hash.salt.is_some() && hash.hash.is_some());
        assert_eq!(hash.params.get_decimal("m"), Some(MEMORY_KIB));
    }
}
