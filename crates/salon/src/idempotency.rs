//! Idempotency: a request of our own API that carries an `Idempotency-Key` is carried out once.
//!
//! Whoever begins holds a lease, which is renewed as long as its [`Work`] lives; if its process dies, another may take
//! the request over. What was answered is kept for a day, faults included: they were answered after work had begun. What
//! is refused before any work is done is forgotten, and the key may be used again.

use std::time::Duration;

use salon_core::{OrgId, Time, UserId};
use salon_store::{BegunRequest, DoneRequest, Error, NewRequest, RequestTicket, Store, Worker};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::Clock;

/// The longest answer that is kept.
pub const LONGEST_BODY: usize = 1 << 20;
/// Header names and values of an answer that is kept.
pub type Headers = Vec<(String, String)>;

const LEASE: Duration = Duration::from_secs(15);
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Who asks for what; a key is one within these.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    pub org: &'a OrgId,
    pub user: &'a UserId,
    /// Method and path, as they are routed.
    pub route: &'a str,
}

/// An `Idempotency-Key` as a client may send it: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    pub fn parse(text: &str) -> Option<Key> {
        let visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        ((1..=255).contains(&text.len()) && text.bytes().all(visible)).then(|| Key(text.to_owned()))
    }
}

/// What has become of a request.
#[derive(Debug)]
pub enum Begun {
    /// It is to be carried out now.
    New(Work),
    /// It was: this was answered.
    Replay(Replay),
    /// Somebody is at it: 409, and the client may ask again after a second.
    InProgress,
    /// The key was used for another question: 422.
    Mismatch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    pub status: u16,
    pub headers: Headers,
    /// `None` if it was longer than [`LONGEST_BODY`]: the work is done and is not done again, but what it said is gone.
    pub body: Option<Vec<u8>>,
}

/// The memory of what was answered. Cheap to clone.
#[derive(Clone)]
pub struct Requests {
    store: Store,
    clock: Clock,
    worker: Worker,
}

impl Requests {
    pub fn new(store: Store, clock: Clock, worker: Worker) -> Requests {
        Requests { store, clock, worker }
    }

    /// Begins a request, or says what has become of it. `body` is all that makes it this request and no other.
    pub async fn begin(&self, route: Route<'_>, key: &Key, body: &[u8]) -> Result<Begun, Error> {
        let now = self.clock.now();
        let request = NewRequest {
            scope: format!("{}/{}/{}", route.org, route.user, route.route),
            key: key.0.clone(),
            hash: hex(&Sha256::digest(body)),
            owner: self.worker.owner.clone(),
            boot: self.worker.boot.clone(),
            nonce: format!("{:032x}", rand::random::<u128>()),
            now,
            lease_until: now + LEASE,
        };
        let begun =
            self.store.write(request, |tx, request| Box::pin(async move { tx.begin_request(request).await })).await?;
        Ok(match begun {
            BegunRequest::New(ticket) => Begun::New(Work::new(self.clone(), ticket)),
            BegunRequest::Done(done) => Begun::Replay(replay(done)?),
            BegunRequest::Running => Begun::InProgress,
            BegunRequest::Mismatch => Begun::Mismatch,
        })
    }

    /// Lets go of what earlier starts of this process were carrying out. To be called once, before requests are taken.
    pub async fn reclaim(&self) -> Result<u64, Error> {
        let worker = (self.worker.owner.clone(), self.worker.boot.clone());
        let write = self
            .store
            .write(worker, |tx, (owner, boot)| Box::pin(async move { tx.reclaim_requests(owner, boot).await }));
        write.await
    }

    /// Forgets what was answered more than a day ago.
    pub async fn sweep(&self) -> Result<u64, Error> {
        let now = self.clock.now();
        let args = (now - KEPT, now);
        let write =
            self.store.write(args, |tx, (before, now)| Box::pin(async move { tx.sweep_requests(*before, *now).await }));
        write.await
    }
}

/// A request that is being carried out. Dropping it without a word leaves it to whoever asks next, once its lease has run
/// out.
#[derive(Debug)]
pub struct Work {
    requests: Requests,
    ticket: RequestTicket,
    renewal: JoinHandle<()>,
}

impl Work {
    fn new(requests: Requests, ticket: RequestTicket) -> Work {
        let renewal = tokio::spawn(renew(requests.clone(), ticket.clone()));
        Work { requests, ticket, renewal }
    }

    /// Keeps what is answered. An error says that it will not be replayed; the answer itself is as good as before.
    pub async fn finish(self, status: u16, headers: &Headers, body: &[u8]) -> Result<(), Error> {
        let headers =
            serde_json::to_string(headers).map_err(|error| anyhow::anyhow!("headers cannot be kept: {error}"))?;
        let body = (body.len() <= LONGEST_BODY).then(|| body.to_vec());
        let args = (self.ticket.clone(), DoneRequest { status: i64::from(status), headers, body });
        let write = self
            .requests
            .store
            .write(args, |tx, (ticket, done)| Box::pin(async move { tx.finish_request(ticket, done).await }));
        write.await
    }

    /// Nothing was done: the request was refused as it is. The client may correct it and use the key again.
    pub async fn forget(self) -> Result<(), Error> {
        let write = self
            .requests
            .store
            .write(self.ticket.clone(), |tx, ticket| Box::pin(async move { tx.forget_request(ticket).await }));
        write.await
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

/// Holds the lease until it is aborted, or somebody else has it.
async fn renew(requests: Requests, ticket: RequestTicket) {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        let args = (ticket.clone(), requests.clock.now() + LEASE);
        let renewed = requests
            .store
            .write(args, |tx, (ticket, until): &(RequestTicket, Time)| {
                Box::pin(async move { tx.renew_request(ticket, *until).await })
            })
            .await;
        match renewed {
            Ok(()) => {}
            Err(Error::Fenced) => return,
            Err(error) => tracing::warn!(%error, "the lease of a request could not be renewed"),
        }
    }
}

fn replay(done: DoneRequest) -> Result<Replay, Error> {
    let headers =
        serde_json::from_str(&done.headers).map_err(|error| anyhow::anyhow!("kept headers cannot be read: {error}"))?;
    let status = u16::try_from(done.status).map_err(|_| anyhow::anyhow!("{} is no status", done.status))?;
    Ok(Replay { status, headers, body: done.body })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_of_some_length() {
        assert!(Key::parse("8e03978e-40d5-43e8-bc93-6894a57f9324").is_some());
        assert!(Key::parse(&"x".repeat(255)).is_some());
        for bad in ["", "a\nb", "ключ", "a\u{0}", &"x".repeat(256)] {
            assert_eq!(Key::parse(bad), None, "{bad:?}");
        }
    }
}
