//! The cast of the tests: the bot parrot, alice's chat, and workers who want something to do.

use std::time::Duration;

use salon_core::{BotId, Channel, ChatId, Chosen, Dialog, DialogId, JobId, Time, TurnId};
use salon_store::{Claimed, Enqueued, Error, NewJob, NewTurn, Result, Store, Ticket, Tx, Worker};

/// Runs an operation: `transact!(store, args, |tx, args| tx.method(args).await)`.
macro_rules! transact {
    ($store:expr, $args:expr, |$tx:ident, $pattern:pat_param| $body:expr) => {
        $store.write($args, |$tx, $pattern| Box::pin(async move { $body })).await
    };
}
pub(crate) use transact;

pub const LEASE: Duration = Duration::from_secs(15);
pub const QUEUE: &str = "chat";

pub fn parrot() -> BotId {
    BotId::new("parrot")
}

pub const ALICE: ChatId = ChatId(1001);

pub fn worker(name: &str) -> Worker {
    Worker { owner: name.to_owned(), boot: "1".to_owned(), only: None }
}

/// A job without a key at the end of `lane`.
pub fn job(id: impl Into<String>, lane: &str) -> NewJob {
    NewJob {
        id: JobId::new(id),
        key: None,
        queue: QUEUE,
        kind: "update",
        lane: lane.to_owned(),
        bot: Some(parrot()),
        payload: r#"{"text":"hello"}"#.to_owned(),
        now: Time(1_000),
        room: None,
    }
}

pub async fn enqueue(store: &Store, job: NewJob) -> Enqueued {
    transact!(store, job, |tx, job| tx.enqueue(job).await).expect("enqueue")
}

/// Claims everything that is due at `now`.
pub async fn claim(store: &Store, worker: &Worker, now: Time) -> Vec<Claimed> {
    claim_up_to(store, worker, now, 100).await
}

pub async fn claim_up_to(store: &Store, worker: &Worker, now: Time, limit: i64) -> Vec<Claimed> {
    let args = (worker.clone(), now, limit);
    transact!(store, args, |tx, (worker, now, limit)| {
        tx.claim(QUEUE, worker, *now, *now + LEASE, *now + LEASE * 3, *limit).await
    })
    .expect("claim")
}

/// Claims the one job that is due.
pub async fn claim_one(store: &Store, worker: &Worker, now: Time) -> Claimed {
    let mut jobs = claim(store, worker, now).await;
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    jobs.remove(0)
}

/// Enqueues a job in a lane of its own and claims it.
pub async fn running(store: &Store, id: &str) -> Ticket {
    enqueue(store, job(id, &format!("lane of {id}"))).await;
    claim_one(store, &worker("w"), Time(1_000)).await.ticket
}

pub async fn hold(store: &Store, ticket: &Ticket, now: Time) -> Result<()> {
    let args = (ticket.clone(), now + LEASE);
    transact!(store, args, |tx, (ticket, until)| tx.hold(ticket, *until).await.map(drop))
}

pub async fn finish(store: &Store, ticket: &Ticket, now: Time) -> Result<()> {
    let args = (ticket.clone(), now);
    transact!(store, args, |tx, (ticket, now)| {
        let held = tx.hold(ticket, *now + LEASE).await?;
        tx.finish(held, *now).await
    })
}

pub async fn retry(store: &Store, ticket: &Ticket, now: Time, at: Time) -> Result<()> {
    let args = (ticket.clone(), now, at);
    transact!(store, args, |tx, (ticket, now, at)| {
        let held = tx.hold(ticket, *now + LEASE).await?;
        tx.retry(held, "it did not work", *at).await
    })
}

pub fn ids(jobs: &[Claimed]) -> Vec<&str> {
    jobs.iter().map(|job| job.ticket.job.as_str()).collect()
}

pub fn is_fenced<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Fenced))
}

/// How many jobs are in `state`.
pub async fn count(store: &Store, state: &str) -> i64 {
    let counts = read(store).await.count_jobs().await.expect("count");
    counts.iter().filter(|count| count.state == state).map(|count| count.count).sum()
}

pub async fn read(store: &Store) -> Tx {
    store.read().await.expect("a reading connection")
}

pub fn dialog(id: &str, chat: ChatId) -> Dialog {
    Dialog {
        id: DialogId::new(id),
        channel: Channel::Telegram { bot: parrot(), chat },
        owner: None,
        engine: "storyteller".to_owned(),
        view: None,
        thread: None,
        summary: String::new(),
        window_from: 1,
        turns: 0,
        active: true,
        chosen: Chosen::default(),
        created_at: Time(1_000),
        updated_at: Time(1_000),
    }
}

pub async fn add_dialog(store: &Store, dialog: Dialog) -> bool {
    transact!(store, dialog, |tx, dialog| tx.add_dialog(dialog).await).expect("add a dialog")
}

pub fn turn(id: impl Into<String>, dialog: &str) -> NewTurn {
    NewTurn {
        id: TurnId::new(id),
        dialog: DialogId::new(dialog),
        user: Some(42),
        question: "Do storks have teeth?".to_owned(),
        engine: "storyteller".to_owned(),
        source_message: Some(7),
        request: None,
        now: Time(2_000),
    }
}

pub async fn add_turn(store: &Store, turn: NewTurn) -> i64 {
    transact!(store, turn, |tx, turn| tx.add_turn(turn).await).expect("add a turn")
}

/// A dialog with one turn, `turn`, and the lease of the job that runs it.
pub async fn turn_in_progress(store: &Store, id: &str) -> (TurnId, Ticket) {
    add_dialog(store, dialog(&format!("dialog of {id}"), ALICE)).await;
    add_turn(store, turn(id, &format!("dialog of {id}"))).await;
    let run = NewJob { key: Some(format!("run:{id}")), ..job(format!("run of {id}"), &format!("lane of {id}")) };
    enqueue(store, run).await;
    let ticket = claim_one(store, &worker("w"), Time(2_000)).await.ticket;
    (TurnId::new(id), ticket)
}

/// Runs `task` for each number at once and answers what they answer, in order.
pub async fn at_once<F, T>(store: &Store, times: usize, task: impl Fn(Store, usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let tasks: Vec<_> = (0..times).map(|n| tokio::spawn(task(store.clone(), n))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("no task panics"));
    }
    answers
}
