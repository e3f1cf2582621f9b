//! Embeddings that are asked for at nearly the same moment, in one call to the upstream.
//!
//! ```text
//!  request ─► reserve, attempt ─┐                       ┌─► its vectors, its share of the usage ─► settle
//!  request ─► reserve, attempt ─┼─► 10 ms, one call ────┼─► …
//!  request ─► reserve, attempt ─┘                       └─► refused together: each by itself, once more
//! ```
//! Each request stays a call of its own: it was let in, reserved and written down by itself, and is charged its share,
//! whether or not anybody still waits for it. Only such requests meet that would have gone to the same place with the
//! same key and the same words but for their texts. Nobody hears of the others: what is told apart is counted, and what
//! an upstream refuses is asked again for each alone, so that nobody is refused for what somebody else wrote.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use rand::RngExt as _;
use salon_core::{Micros, Tokens};
use salon_engine::upstream::{Fault, Trouble, Turn};
use salon_engine::wire::embed::{self, Texts};
use salon_engine::wire::{Head, Kind, Outside, Tap, Tapped, Verdict, Wire, judge_refusal};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::charge::{Bill, Ending};
use super::tries::{MAX_ANSWER, MAX_REFUSAL, Put, attempt, put_embeddings};
use crate::Salon;
use crate::catalog::Destination;
use crate::ledger::{Failed, Reserved};

/// How long the first one waits for others.
const WINDOW: Duration = Duration::from_millis(10);
/// The most bytes of texts that a request may have to travel with others, and that travel together.
const SMALL: usize = 16 << 10;
const MOST_BYTES: usize = 256 << 10;
/// Calls for several are tried so often: that they fail together should not be worse than failing alone.
const TRIES: u32 = 2;
/// A longer pause is left to each of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

type Try = Turn<Arc<Destination>>;

/// The calls that are waiting to be made together. One per process.
#[derive(Default)]
pub struct Batches {
    open: Arc<Mutex<HashMap<Group, Open>>>,
}

/// What requests have in common that can be asked together: everything but their texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    upstream: String,
    base: Option<String>,
    model: String,
    key: String,
    tenant: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    before: Bytes,
    after: Bytes,
    are_tokens: bool,
}

/// A batch that still takes requests in.
struct Open {
    waiting: Arc<Waiting>,
    texts: usize,
    bytes: usize,
}

#[derive(Default)]
struct Waiting {
    members: Mutex<Vec<Waiter>>,
    /// There is no use in waiting any longer.
    full: Notify,
}

/// A request that travels with others.
pub(super) struct Member {
    pub turn: Try,
    pub reserved: Reserved,
    pub texts: Texts,
    /// The headers that go on to the upstream and may change what it says.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub head: Head,
    pub most: Tokens,
    pub deadline: Instant,
}

/// It, and who is told what came of it.
type Waiter = (Member, oneshot::Sender<Came>);

/// What came of it.
pub(super) enum Came {
    /// Nobody came along, and nothing was asked.
    Alone(Box<Try>, Box<Reserved>),
    /// It was asked, and each has to be asked again by itself.
    Apart(Fault, Box<Try>, Box<Reserved>),
    Trouble(Trouble, Kind, Box<Try>, Box<Reserved>),
    Answer(Box<Due>),
}

/// A request's part of an answer, which is paid for even if nobody takes it.
pub(super) struct Due {
    bill: Option<Bill>,
    tapped: Tapped,
    pub told: Bytes,
    pub left_out: Vec<String>,
}

impl Due {
    /// Gone once it is settled.
    pub(super) fn bill(&mut self) -> Option<&mut Bill> {
        self.bill.as_mut()
    }

    pub(super) fn settle(&mut self) -> Micros {
        let tapped = std::mem::take(&mut self.tapped);
        self.bill.take().map_or(Micros::ZERO, |bill| bill.settle(tapped, Ending::Whole))
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Takes a request's texts out, if it is small enough to travel with others.
pub(super) fn small(to: &Destination, head: &Head, body: &Bytes) -> Option<Texts> {
    if head.wire != Wire::Embeddings || to.wire != Wire::Embeddings || to.model.batch < 2 {
        return None;
    }
    let texts = Texts::of(head, body)?;
    (texts.count <= to.model.batch / 2 && texts.list.len() <= SMALL).then_some(texts)
}

impl Batches {
    /// Waits for others and asks together with them. `None` if whoever asked for all broke down.
    pub(super) async fn join(&self, salon: &Arc<Salon>, member: Member) -> Option<Came> {
        let (tell, told) = oneshot::channel();
        self.add(salon, member, tell);
        told.await.ok()
    }

    fn add(&self, salon: &Arc<Salon>, member: Member, tell: oneshot::Sender<Came>) {
        let what = &member.turn.what;
        let most = what.model.batch;
        let (texts, bytes) = (member.texts.count, member.texts.list.len());
        let group = Group {
            upstream: what.upstream().name.clone(),
            base: what.upstream().base.as_ref().map(ToString::to_string),
            model: what.deployment.model.clone(),
            key: what.access.tag.clone(),
            tenant: what.access.tenant.clone(),
            headers: member.headers.clone(),
            before: member.texts.before.clone(),
            after: member.texts.after.clone(),
            are_tokens: member.texts.are_tokens,
        };
        let mut all = lock(&self.open);
        let has_room = |open: &&mut Open| open.texts + texts <= most && open.bytes + bytes <= MOST_BYTES;
        if let Some(open) = all.get_mut(&group).filter(has_room) {
            (open.texts, open.bytes) = (open.texts + texts, open.bytes + bytes);
            lock(&open.waiting.members).push((member, tell));
            if open.texts >= most {
                open.waiting.full.notify_one();
            }
            return;
        }
        let waiting = Arc::new(Waiting { members: Mutex::new(vec![(member, tell)]), full: Notify::new() });
        let open = Open { waiting: waiting.clone(), texts, bytes };
        // The one that has no room for it goes now.
        if let Some(before) = all.insert(group.clone(), open) {
            before.waiting.full.notify_one();
        }
        let (salon, open) = (salon.clone(), self.open.clone());
        tokio::spawn(async move {
            tokio::time::timeout(WINDOW, waiting.full.notified()).await.ok();
            let members = {
                let mut all = lock(&open);
                if all.get(&group).is_some_and(|open| Arc::ptr_eq(&open.waiting, &waiting)) {
                    all.remove(&group);
                }
                std::mem::take(&mut *lock(&waiting.members))
            };
            ask_for(&salon, members).await;
        });
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for all who are still there, and tells each what came of it.
async fn ask_for(salon: &Salon, members: Vec<Waiter>) {
    let (mut members, gone): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, tell)| !tell.is_closed());
    for (member, _) in gone {
        // Nothing was asked for it.
        member.reserved.release("hung up").await;
    }
    if members.len() < 2 {
        return alone(members).await;
    }
    let Some(put) = together(&members) else { return alone(members).await };
    salon.metrics.count("", "relay_batches");
    salon.metrics.add("", "relay_batched", members.len() as u64);
    let mut tries = 1;
    let (answer, tapped) = loop {
        let (trouble, kind) = match ask(salon, &members, &put).await {
            Ok(answered) => break answered,
            Err(Not::Refused(fault)) => return apart(salon, fault, members),
            Err(Not::Trouble(trouble, kind)) => (trouble, kind),
        };
        let pause = pause(&members[0].0.turn, &trouble).filter(|_| tries < TRIES);
        let again = match pause {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                note_again(&mut members, &trouble).await
            }
            None => false,
        };
        if !again {
            return fail(trouble, kind, members);
        }
        tries += 1;
        salon.metrics.count("", "relay_retries");
    };
    let weights: Vec<i64> = members.iter().map(|(member, _)| member.head.input_likely.max(1)).collect();
    let shares = tapped.tokens.map(|tokens| shares(&tokens, &weights));
    let share = |at: usize| shares.as_ref().map(|shares| shares[at]);
    let asked: Vec<_> = members
        .iter()
        .enumerate()
        .map(|(at, (member, _))| (member.texts.count, share(at).map(|tokens| tokens.floored().total())))
        .collect();
    let told = match embed::tell_apart(&answer, &asked) {
        Ok(told) => told,
        Err(fault) => {
            tracing::warn!(
                upstream = members[0].0.turn.what.upstream().name,
                "what was asked together cannot be told apart; `batch = 0` of the model asks for each by itself"
            );
            return apart(salon, fault, members);
        }
    };
    join(&mut members);
    for (at, ((member, tell), told)) in members.into_iter().zip(told).enumerate() {
        let Member { turn, reserved, head, most, .. } = member;
        let bill = Bill::new(reserved, turn, &head, most, salon.metrics.clone());
        let tapped = Tapped { tokens: share(at), ..tapped.clone() };
        let due = Due { bill: Some(bill), tapped, told, left_out: put.left_out.clone() };
        // Whoever has gone has been answered all the same: dropping it pays.
        drop(tell.send(Came::Answer(Box::new(due))));
    }
}

/// The one request for all of them; `None` if there is no such thing after all.
fn together(members: &[Waiter]) -> Option<Put> {
    let texts: Vec<&Texts> = members.iter().map(|(member, _)| &member.texts).collect();
    let body = Texts::together(&texts);
    let head = Head::read(Wire::Embeddings, &body, Outside::default()).ok()?;
    put_embeddings(&members[0].0.turn.what, &head, &body).ok()
}

enum Not {
    /// It is about what was asked, and so perhaps about one of them alone.
    Refused(Fault),
    /// With whose fault it is in the clients' eyes.
    Trouble(Trouble, Kind),
}

impl From<Fault> for Not {
    fn from(fault: Fault) -> Not {
        Not::Trouble(fault.into(), fault.into())
    }
}

async fn ask(salon: &Salon, members: &[Waiter], put: &Put) -> Result<(Bytes, Tapped), Not> {
    let first = &members[0].0;
    let what = &first.turn.what;
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in first.headers.iter().filter(|_| put.back.is_none()) {
        headers.append(name.clone(), value.clone());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // A number of its own: under one of theirs another question may follow.
    if let Ok(id) = HeaderValue::from_str(&salon.clock.id()) {
        headers.insert("idempotency-key", id);
    }
    let (Some(line), Some(asked)) = (&what.line, what.ask(false, false, headers, put.body.clone())) else {
        return Err(Fault::NotFound.into());
    };
    let asked = asked.map_err(|_| Fault::Auth)?;
    let deadline = members.iter().map(|(member, _)| member.deadline).min().unwrap_or(first.deadline);
    let response = line.send(asked, &what.deadlines(deadline)).await?;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let words = body.peek(MAX_REFUSAL).await;
        return Err(match judge_refusal(what.wire, head.status.as_u16(), &head.headers, &words) {
            Verdict::Ours { trouble, kind } => Not::Trouble(trouble, kind),
            Verdict::Passed { fault, .. } => Not::Refused(fault),
        });
    }
    let bytes = body.collect(MAX_ANSWER).await?;
    let mut tap = Tap::new(what.wire);
    tap.push(&bytes);
    let tapped = tap.finish();
    if let Some(fault) = tapped.error.filter(|_| !tapped.finished) {
        return Err(fault.into());
    }
    let told = match &put.back {
        Some(back) => back.carry(&bytes)?,
        None => bytes,
    };
    Ok((told, tapped))
}

/// How long to wait before all are asked for once more; `None` if each has to see for itself.
fn pause(turn: &Try, trouble: &Trouble) -> Option<Duration> {
    let full = turn.what.upstream().settings.back_off;
    let pause = trouble.retry_after.unwrap_or_else(|| full.mul_f64(rand::rng().random_range(0.5..=1.0)));
    (trouble.fault.is_passing() && pause <= LONGEST_PAUSE).then_some(pause)
}

/// Writes down for each that it will be asked for again. `false` if that is not possible, so that it must not be.
async fn note_again(members: &mut [Waiter], trouble: &Trouble) -> bool {
    let noted = join_all(members.iter_mut().map(|(member, _)| {
        let n = i64::from(member.turn.number);
        member.turn.number += 1;
        let failed = Failed { n, unknown: trouble.fault.may_cost(), note: trouble.fault.code().to_owned() };
        member.reserved.attempt(Some(failed), attempt(&member.turn))
    }));
    noted.await.into_iter().all(|noted| noted.is_ok())
}

async fn alone(members: Vec<Waiter>) {
    for (member, tell) in members {
        let came = Came::Alone(Box::new(member.turn), Box::new(member.reserved));
        if let Err(Came::Alone(_, reserved)) = tell.send(came) {
            reserved.release("hung up").await;
        }
    }
}

fn apart(salon: &Salon, fault: Fault, members: Vec<Waiter>) {
    salon.metrics.count("", "relay_batches_apart");
    for (member, tell) in members {
        drop(tell.send(Came::Apart(fault, Box::new(member.turn), Box::new(member.reserved))));
    }
}

fn fail(trouble: Trouble, kind: Kind, mut members: Vec<Waiter>) {
    join(&mut members);
    for (member, tell) in members {
        drop(tell.send(Came::Trouble(trouble, kind, Box::new(member.turn), Box::new(member.reserved))));
    }
}

/// It was one call, so one of them says how it went.
fn join(members: &mut [Waiter]) {
    for (member, _) in members.iter_mut().skip(1) {
        member.turn.joined();
    }
}

/// Each one's part of what was used, to the token.
fn shares(used: &Tokens, weights: &[i64]) -> Vec<Tokens> {
    let part = |count: i64| embed::shares(count, weights);
    let [input, output, reasoning] = [used.input, used.output, used.reasoning].map(part);
    let [cache_read, cache_write_5m, cache_write_1h] =
        [used.cache_read, used.cache_write_5m, used.cache_write_1h].map(part);
    let [audio_in, audio_out] = [used.audio_in, used.audio_out].map(part);
    (0..weights.len())
        .map(|at| Tokens {
            input: input[at],
            output: output[at],
            reasoning: reasoning[at],
            cache_read: cache_read[at],
            cache_write_5m: cache_write_5m[at],
            cache_write_1h: cache_write_1h[at],
            audio_in: audio_in[at],
            audio_out: audio_out[at],
        })
        .collect()
}
