//! Wake-ups: what changed, told after the commit that changed it.
//!
//! Inside the process a signal is a call of the listener. Between processes on PostgreSQL it is a `NOTIFY`, sent beside
//! the transaction and in bundles: inside it every commit would queue behind one lock. A signal can be lost; everyone
//! who waits for one also looks by himself now and then.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::postgres::PgListener;
use tokio::sync::mpsc;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// There may be something to claim in this queue.
    Work(String),
    /// This turn's log grew.
    Turn(String),
    /// This job was asked to stop.
    Stop(String),
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

    pub(crate) fn raise(&self, signals: Vec<Signal>) {
        for signal in signals {
            self.tell(&signal);
            if let Some(outward) = self.outward.get() {
                // A full channel loses a wake-up, which costs one poll interval.
                outward.try_send(signal).ok();
            }
        }
    }

    fn tell(&self, signal: &Signal) {
        if let Some(listener) = self.listener.get() {
            listener(signal);
        }
    }

    /// Connects the processes that share a PostgreSQL. `me` keeps a process from hearing itself.
    pub(crate) fn connect(self: &Arc<Self>, url: String, pool: AnyPool, me: String) {
        let (sender, receiver) = mpsc::channel(4096);
        if self.outward.set(sender).is_ok() {
            tokio::spawn(send_bundles(pool, receiver, me.clone()));
            tokio::spawn(hear(self.clone(), url, me));
        }
    }
}

async fn send_bundles(pool: AnyPool, mut signals: mpsc::Receiver<Signal>, me: String) {
    while let Some(first) = signals.recv().await {
        tokio::time::sleep(BUNDLE_EVERY).await;
        let mut bundle = BTreeSet::from([first]);
        while let Ok(more) = signals.try_recv() {
            bundle.insert(more);
        }
        let mut text = me.clone();
        for signal in &bundle {
            let line = encode(signal);
            if text.len() + line.len() < BUNDLE_BYTES {
                text.push('\n');
                text.push_str(&line);
            }
        }
        let sent = sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)").bind(CHANNEL).bind(text).execute(&pool).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a wake-up for the other processes was lost");
        }
    }
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
    }
}

fn decode(line: &str) -> Option<Signal> {
    let rest = line.get(1..)?.to_owned();
    match line.as_bytes().first()? {
        b'w' => Some(Signal::Work(rest)),
        b't' => Some(Signal::Turn(rest)),
        b's' => Some(Signal::Stop(rest)),
        _ => None,
    }
}
