//! A process that dies in the middle of stateless calls: the upstream's own ledger is laid beside ours.
//!
//! The walk is over [`RELAY_POINTS`]. Every call that the upstream saw has an attempt (I5), what was charged is what the
//! upstream counted, once (I4), and no limit is exceeded, whatever is still open (I6).

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use rustix::process::Signal;
use salon::Clock;
use salon::ledger::{Book, BookSettings};
use salon_core::{CallId, Measure, OrgId, Time};
use salon_mock::upstream::{Trouble, Upstream, UpstreamConfig};
use salon_store::failpoint::{JOURNAL_POINTS, RELAY_POINTS};
use salon_store::ledger::{AttemptState, CallState, EntryKind};
use salon_store::{Store, Tx};

use crate::program::{Answer, Start, ask, text};
use crate::runs::long_patience;
use crate::stage::{Database, Intake, Stage, open, tail};

/// People who call at the same time, each again and again.
const CALLERS: usize = 6;
/// Calls of each after the death.
const AFTERWARDS: usize = 2;
/// Which pass of a point is the last.
const TIMES: u64 = 3;
/// Requests that a day may have; more than are made.
const REQUESTS: i64 = 1_000;
/// Longer than the deadline of any call.
const LONG_AFTER: Duration = Duration::from_secs(3600);
const ORG: &str = "default";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_unexplained_or_charged_twice_wherever_the_program_dies_on_sqlite() {
    die_everywhere(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_unexplained_or_charged_twice_wherever_the_program_dies_on_postgres() {
    die_everywhere(Database::Postgres).await;
}

async fn die_everywhere(database: Database) {
    assert!(!RELAY_POINTS.is_empty());
    let limited = RELAY_POINTS.iter().map(|point| die_at(point, true, database));
    // Where no limit applies, an upstream is asked before the reservation is in the database.
    let mut free = vec!["ledger.before_reserve", "ledger.after_reserve"];
    if database == Database::Sqlite {
        free.extend(["ledger.before_settle", "ledger.after_settle"].iter().chain(JOURNAL_POINTS));
    }
    let free = free.into_iter().map(|point| die_at(point, false, database));
    let lives: Vec<_> = limited.chain(free).map(Box::pin).collect();
    stream::iter(lives).buffer_unordered(3).collect::<Vec<()>>().await;
}

/// A call as its caller saw it.
struct Made {
    /// The number that the answer bears; `None` if there was none.
    call: Option<CallId>,
    /// It was heard to its end.
    whole: bool,
}

async fn die_at(point: &str, limited: bool, database: Database) {
    let what = format!("{point} on {database:?}, limited: {limited}");
    let stage = Stage::set(database, Intake::Webhook).await;
    let upstream = Upstream::start(UpstreamConfig::default()).await.expect("the upstream starts");
    // One call in eight takes two attempts.
    upstream.add_trouble(Trouble { p: 0.125, seed: TIMES, ..Trouble::new("status:503") }).expect("a trouble");
    write_catalog(&stage, &upstream);
    let start = stage.one();
    let key = make_key(&stage).await;

    let mut doomed = open(&start.clone().with("SALON_FAIL_POINT", &format!("{point}@{TIMES}")), stage.port).await;
    if limited {
        for (measure, amount) in [("requests", REQUESTS.to_string()), ("micros", "\"10\"".to_owned())] {
            let limit = format!(r#"{{"scope":"org","measure":"{measure}","period":"day","amount":{amount}}}"#);
            let set = post(stage.port, &key, "/api/admin/usage/limits", &limit).await.expect("an answer");
            assert_eq!(set.status, 201, "{what}: {}", set.body);
        }
    }
    let calling = stream::iter(0..CALLERS).map(|caller| call_until_silence(stage.port, &key, caller));
    let calling = calling.buffer_unordered(CALLERS).collect::<Vec<_>>();
    let (made, ended) = tokio::join!(calling, doomed.ended(long_patience()));
    let mut made: Vec<Made> = made.into_iter().flatten().collect();
    let ended = ended.unwrap_or_else(|| panic!("{what}: the point is never passed\n{}", tail(&start.said())));
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()), "{what}: {ended}\n{}", tail(&start.said()));

    let mut program = open(&start, stage.port).await;
    for caller in 0..CALLERS {
        for number in 0..AFTERWARDS {
            let call = call(stage.port, &key, caller + number).await.expect("an answer");
            assert!(call.whole, "{what}: a call after the death is not answered\n{}", tail(&start.said()));
            made.push(call);
        }
    }
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(25)).await;
    assert!(ended.is_some_and(|status| status.success()), "{what}: {ended:?}\n{}", tail(&start.said()));
    let wrong = judge(&stage, &upstream, &made, limited).await;
    assert!(wrong.is_empty(), "{what}: {wrong:#?}\n{}", tail(&start.said()));
}

fn write_catalog(stage: &Stage, upstream: &Upstream) {
    let base = upstream.base_url();
    let catalog = format!(
        "[upstreams.scripted]\nkind = \"compatible\"\nbase_url = \"{base}/v1\"\n\n\
         [models.small]\nupstream = \"scripted\"\nmodel = \"mock-small\"\noutput = 100\n\
         rates = {{ input = \"1\", output = \"2\" }}\n"
    );
    std::fs::write(stage.folder.path().join("salon.toml"), catalog).expect("a catalog");
}

async fn make_key(stage: &Stage) -> String {
    let serve = stage.one();
    let mut said = String::new();
    for words in
        [&["user", "add", "alice", "--role", "admin"][..], &["key", "add", "laptop", "--user", "alice", "--quiet"]]
    {
        let mut args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        args.extend(["--data".to_owned(), text(&stage.folder.path().join("one"))]);
        args.extend(stage.place.iter().flat_map(|url| ["--database-url".to_owned(), url.clone()]));
        // What it prints stands in a log of its own.
        let log = stage.folder.path().join("command.log");
        std::fs::remove_file(&log).ok();
        let command = Start { args, env: Vec::new(), log, folder: serve.folder.clone() };
        let ended = command.spawn().ended(Duration::from_secs(60)).await.expect("it ends");
        said = command.said();
        assert!(ended.success(), "{words:?}: {said}");
    }
    let key = said.lines().rev().find(|line| line.starts_with("salon_"));
    key.unwrap_or_else(|| panic!("no key in {said}")).trim().to_owned()
}

async fn post(port: u16, key: &str, path: &str, body: &str) -> Option<Answer> {
    let head = format!("POST {path} HTTP/1.1\r\nauthorization: Bearer {key}\r\ncontent-type: application/json");
    ask(port, &head, body).await
}

/// Makes one call, streamed or whole. `None` if nobody answers.
async fn call(port: u16, key: &str, number: usize) -> Option<Made> {
    let stream = number.is_multiple_of(2);
    let body = format!(
        r#"{{"model":"small","stream":{stream},"messages":[{{"role":"user","content":"[[words={}]] [[pace=3]]"}}]}}"#,
        10 + number
    );
    let answer = post(port, key, "/v1/chat/completions", &body).await?;
    let number = answer.head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    let end = if stream { "[DONE]" } else { "\"usage\":" };
    Some(Made {
        call: number.map(|number| CallId::new(number.trim().to_uppercase())),
        whole: answer.status == 200 && answer.body.contains(end),
    })
}

async fn call_until_silence(port: u16, key: &str, caller: usize) -> Vec<Made> {
    let mut made = Vec::new();
    while let Some(call) = call(port, key, caller + made.len()).await {
        made.push(call);
    }
    made
}

/// What the two ledgers say otherwise than they should.
async fn judge(stage: &Stage, upstream: &Upstream, made: &[Made], limited: bool) -> Vec<String> {
    let store = Store::open(&stage.place(), "judge").await.expect("the database opens");
    let mut wrong = store.check().await.expect("it can be read");
    let limits = within_limits(&mut store.read().await.expect("a reader")).await;
    wrong.extend(limits.into_iter().map(|limit| format!("while calls are open: {limit}")));
    // An hour later nobody is at work on anything that the dead process left open.
    let clock = Clock::default();
    clock.wind(LONG_AFTER);
    let settings = BookSettings { check_every: Duration::ZERO, ..BookSettings::default() };
    let book = Book::open(store.clone(), clock, settings).await.expect("a book");
    book.reap().await.expect("the dead are buried");
    for difference in book.check().await.expect("accounts can be counted") {
        wrong.push(format!("{difference:?}"));
    }
    book.close().await;
    let mut tx = store.read().await.expect("a reader");
    wrong.extend(within_limits(&mut tx).await);
    let mut asked: HashMap<String, Vec<_>> = HashMap::new();
    for call in upstream.calls() {
        let id = call.idempotency_key.clone().expect("every call of ours says its number");
        asked.entry(id).or_default().push(call);
    }
    let heard = |id: &CallId| made.iter().any(|made| made.call.as_ref() == Some(id) && made.whole);
    for (id, calls) in &asked {
        let id = CallId::new(id.as_str());
        let attempts = tx.list_attempts(&id).await.expect("attempts");
        if attempts.len() < calls.len() && (limited || stage.place.is_none() || heard(&id)) {
            wrong.push(format!("{id}: {} calls and {} attempts", calls.len(), attempts.len()));
        }
        if attempts.iter().any(|attempt| attempt.state == AttemptState::Started) {
            wrong.push(format!("{id}: an attempt is still open: {attempts:?}"));
        }
        let found = tx.find_call(&OrgId::new(ORG), &id).await.expect("a call");
        let state = found.as_ref().map(|call| call.state);
        if state == Some(CallState::Reserved) || (state.is_none() && !attempts.is_empty()) {
            wrong.push(format!("{id}: {state:?} with {attempts:?}"));
        }
        let entries = tx.list_entries_of_call(&id).await.expect("entries");
        let settled: Vec<_> = entries.iter().filter(|entry| entry.kind == EntryKind::Settle).collect();
        let answered = calls.iter().rfind(|call| call.status == 200);
        match (&settled[..], answered) {
            ([], _) if state != Some(CallState::Settled) => {}
            ([entry], Some(call)) => {
                let counted = (call.usage.input, call.usage.output);
                if counted != (entry.tokens.input, entry.tokens.output)
                    || entry.amounts.micros != counted.0 + 2 * counted.1
                {
                    wrong.push(format!("{id}: the upstream counts {counted:?} and we {entry:?}"));
                }
            }
            (settled, answered) => wrong.push(format!("{id}: {} charges for {answered:?}", settled.len())),
        }
    }
    for made in made.iter().filter(|made| made.whole) {
        let known = made.call.as_ref().is_some_and(|id| asked.contains_key(id.as_str()));
        if !known {
            wrong.push(format!("an answer of which the upstream knows nothing: {:?}", made.call));
        }
    }
    drop(tx);
    store.close().await;
    wrong
}

/// Accounts in which more is reserved and spent than may be, or less than nothing.
async fn within_limits(tx: &mut Tx) -> Vec<String> {
    let accounts = tx.list_open_accounts(&OrgId::new(ORG), now(), 100).await.expect("accounts");
    let over = accounts.iter().filter(|account| {
        let most = if account.key.measure == Measure::Requests { REQUESTS } else { 10_000_000 };
        account.reserved < 0 || account.spent < 0 || account.reserved + account.spent > most
    });
    over.map(|account| format!("{account:?}")).collect()
}

fn now() -> Time {
    Clock::default().now()
}
