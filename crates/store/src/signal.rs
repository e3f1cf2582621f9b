//! Wake-ups: what changed, told after the commit that changed it.
//!
//! Inside the process a signal is a call of the listener. Between processes on PostgreSQL it is a `NOTIFY`, sent beside
//! the transaction and in bundles: inside it every commit would queue behind one lock. A signal can be lost; everyone
//! who waits for one also looks by himself now and then.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// There may be something to claim in this queue.
    Work(String),
    /// This turn's log grew.
    Turn(String),
    /// This job was asked to stop.
    Stop(String),
    /// What processes remember of this, such as of people, is outdated.
    Revision(String),
}

type Listener = Box<dyn Fn(&Signal) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Signals {
    listener: OnceLock<Listener>,
    outward: OnceLock<mpsc::Sender<Signal>>,
}

const CHANNEL: &str = "salon";
const BUNDLE_EVERY: Duration = Duration::from_millis(10);
/// NOTIFY carries less than 8000 bytes.
const BUNDLE_BYTES: usize = 7000;

impl Signals {
    /// Sets who is told. Only the first listener counts.
    pub(crate) fn listen(&self, listener: Listener) {
        self.listener.set(listener).ok();
    }

    pub(crate) fn raise(&self, mut signals: Vec<Signal>) {
        // A group of operations tends to say the same thing many times.
        signals.sort_unstable();
        signals.dedup();
        for signal in signals {
            self.tell(&signal);
            if let Some(outward) = self.outward.get() {
                // A full channel loses a wake-up, which costs one poll interval.
                outward.try_send(signal).ok();
            }
        }
    }

    /// A panic of the listener stays here: what is told is committed, and the writer's task must live.
    fn tell(&self, signal: &Signal) {
        if let Some(listener) = self.listener.get()
            && catch_unwind(AssertUnwindSafe(|| listener(signal))).is_err()
        {
            tracing::error!(?signal, "the listener panicked");
        }
    }

    /// Connects the processes that share a PostgreSQL. Answers the tasks that do it, to be aborted at the end.
    pub(crate) fn connect(self: &Arc<Self>, url: String, pool: AnyPool) -> Vec<AbortHandle> {
        let (sender, receiver) = mpsc::channel(4096);
        self.outward.set(sender).ok();
        // Keeps a store from hearing itself. Names from the configuration may be the same twice; this is not.
        let me = format!("{:032x}", rand::random::<u128>());
        let send = tokio::spawn(send_bundles(pool, receiver, me.clone()));
        let hear = tokio::spawn(hear(self.clone(), url, me));
        vec![send.abort_handle(), hear.abort_handle()]
    }
}

async fn send_bundles(pool: AnyPool, mut signals: mpsc::Receiver<Signal>, me: String) {
    while let Some(first) = signals.recv().await {
        tokio::time::sleep(BUNDLE_EVERY).await;
        let mut bundle = BTreeSet::from([first]);
        while let Ok(more) = signals.try_recv() {
            bundle.insert(more);
        }
        for text in bundle_up(&me, &bundle) {
            let sent =
                sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)").bind(CHANNEL).bind(text).execute(&pool).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "a wake-up for the other processes was lost");
            }
        }
    }
}

/// Packs signals into as few notifications as they fit into.
fn bundle_up(me: &str, signals: &BTreeSet<Signal>) -> Vec<String> {
    let mut bundles: Vec<String> = Vec::new();
    for line in signals.iter().map(encode) {
        match bundles.last_mut() {
            Some(bundle) if bundle.len() + 1 + line.len() <= BUNDLE_BYTES => {
                bundle.push('\n');
                bundle.push_str(&line);
            }
            _ => bundles.push(format!("{me}\n{line}")),
        }
    }
    bundles
}

async fn hear(signals: Arc<Signals>, url: String, me: String) {
    loop {
        if let Err(error) = hear_until_lost(&signals, &url, &me).await {
            tracing::debug!(%error, "not hearing the other processes, trying again");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn hear_until_lost(signals: &Signals, url: &str, me: &str) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let notification = listener.recv().await?;
        let mut lines = notification.payload().lines();
        if lines.next() == Some(me) {
            continue;
        }
        lines.filter_map(decode).for_each(|signal| signals.tell(&signal));
    }
}

fn encode(signal: &Signal) -> String {
    match signal {
        Signal::Work(queue) => format!("w{queue}"),
        Signal::Turn(turn) => format!("t{turn}"),
        Signal::Stop(job) => format!("s{job}"),
        Signal::Revision(name) => format!("r{name}"),
    }
}

fn decode(line: &str) -> Option<Signal> {
    let rest = line.get(1..)?.to_owned();
    match line.as_bytes().first()? {
        b'w' => Some(Signal::Work(rest)),
        b't' => Some(Signal::Turn(rest)),
        b's' => Some(Signal::Stop(rest)),
        b'r' => Some(Signal::Revision(rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_finds_its_way_through_a_notification() {
        let signals: BTreeSet<_> = (0..2_000)
            .map(|n| Signal::Turn(format!("01J{n:023}")))
            .chain([Signal::Work("chat".to_owned()), Signal::Stop("01JOB".to_owned())])
            .chain([Signal::Revision("people".to_owned())])
            .collect();
        let bundles = bundle_up("me", &signals);
        assert!(bundles.iter().all(|bundle| bundle.len() < 8000));
        let heard: BTreeSet<_> = bundles.iter().flat_map(|bundle| bundle.lines().skip(1).filter_map(decode)).collect();
        assert_eq!(heard, signals);
    }

    #[test]
    fn a_strange_line_is_passed_over() {
        assert_eq!(decode(""), None);
        assert_eq!(decode("x1"), None);
        assert_eq!(decode("\u{e9}t\u{e9}"), None);
    }

    #[test]
    fn a_listener_that_panics_hears_the_next_signal_all_the_same() {
        let heard = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let signals = Signals::default();
        let count = heard.clone();
        signals.listen(Box::new(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            panic!("a listener that panics");
        }));
        signals.raise(vec![Signal::Work("a".to_owned()), Signal::Work("b".to_owned()), Signal::Work("a".to_owned())]);
        assert_eq!(heard.load(std::sync::atomic::Ordering::SeqCst), 2);
    }
}
