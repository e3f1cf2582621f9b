//! A process that dies at a named point of its code, once before each side effect and once behind it (F02-F06).

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use futures_util::future::join_all;
use futures_util::stream;
use rustix::process::Signal;
use salon_store::failpoint::POINTS;

use crate::crowd::Crowd;
use crate::judge::judge;
use crate::runs::long_patience;
use crate::stage::{Database, Intake, Stage, TOKEN, open, tail};

const CHATS: usize = 3;
const QUESTIONS: usize = 9;
/// Conversations at the same time: each mostly waits.
const AT_ONCE: usize = 4;

/// The first line of what `/help` answers.
const HELP: &str = "What I understand:";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_at_any_named_point_loses_nothing_on_sqlite() {
    assert!(!POINTS.is_empty());
    for some in POINTS.chunks(AT_ONCE) {
        join_all(some.iter().map(|point| die_at(point, Database::Sqlite))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_around_a_commit_loses_nothing_on_postgres() {
    let points = ["commit.before", "commit.after", "poll.after_commit", "update.after_commit", "deliver.after_place"];
    for some in points.chunks(AT_ONCE) {
        join_all(some.iter().map(|point| die_at(point, Database::Postgres))).await;
    }
}

/// Talks to a program that dies at `point`, starts it again, and sees that nobody notices.
async fn die_at(point: &str, database: Database) {
    let intake = if point.starts_with("poll.") { Intake::Polling } else { Intake::Webhook };
    let stage = Stage::set(database, intake).await;
    stage.write_bots("model");
    // An answer that comes in pieces passes the points of a stream as well.
    let start =
        [("OPENAI_BASE_URL", slow_parrot().await.as_str()), ("OPENAI_API_KEY", "sk-nobody"), ("OPENAI_MODEL", "p")]
            .into_iter()
            .fold(stage.one(), |start, (name, value)| start.with(name, value));
    // Commits come at the start already, and one poll may bring everything.
    let times = match point.split('.').next() {
        Some("commit") => 15,
        Some("poll") => 1,
        _ => 2,
    };
    let mut doomed = start.clone().with("SALON_FAIL_POINT", &format!("{point}@{times}")).spawn();
    let mut crowd = Crowd::new(&stage, CHATS, CHATS);
    crowd.ask_until(QUESTIONS);
    for (chat, _) in crowd.chats() {
        stage.mock.says(TOKEN, chat, chat, "/help");
    }
    let ended = doomed.ended(Duration::from_secs(60)).await;
    stage.note_death();
    let log = start.said();
    let ended = ended.unwrap_or_else(|| panic!("{point} is never passed\n{}", tail(&log)));
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()), "{point}: {ended}\n{}", tail(&log));

    let mut program = open(&start, stage.port).await;
    let settled = crowd.ask_all(&[stage.port], QUESTIONS, long_patience()).await;
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(25)).await;
    let log = tail(&start.said());
    assert!(ended.is_some_and(|status| status.success()), "{point}: {ended:?}\n{log}");
    let (damage, traces) = judge(&stage, &crowd).await;
    println!("{point} on {database:?}: {traces:?}");
    assert!(settled, "{point}: work is left: {damage:?}\n{log}");
    assert!(damage.none(), "{point}: {damage:?}\n{log}");
    assert_eq!(traces.unexcused, 0, "{point}: {traces:?}\n{log}");
    assert!(traces.orphans <= traces.listed, "{point}: the outbox does not know every orphan: {traces:?}");
    for (chat, _) in crowd.chats() {
        let helps = stage.mock.bot_texts(TOKEN, chat).iter().filter(|text| text.starts_with(HELP)).count();
        assert_eq!(helps, 1, "{point}: one question for help, {helps} answers\n{log}");
    }
}

/// A model that repeats the question, in pieces and with pauses between them; answers where it is.
async fn slow_parrot() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route("/v1/chat/completions", post(repeat));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/v1")
}

async fn repeat(axum::Json(asked): axum::Json<serde_json::Value>) -> axum::response::Response {
    let question =
        asked["messages"].as_array().and_then(|messages| messages.last()).map(|last| last["content"].clone());
    let question = question.and_then(|content| content.as_str().map(str::to_owned)).expect("a question");
    let pieces: Vec<String> = question.chars().map(String::from).collect();
    let last = pieces.len();
    let pieces = stream::unfold((pieces, 0), move |(pieces, at)| async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let data = match pieces.get(at) {
            Some(piece) => {
                serde_json::json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] }).to_string()
            }
            None if at == last => {
                serde_json::json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }).to_string()
            }
            None if at == last + 1 => "[DONE]".to_owned(),
            None => return None,
        };
        Some((Ok::<_, std::convert::Infallible>(format!("data: {data}\n\n")), (pieces, at + 1)))
    });
    let response = axum::response::Response::builder().header("content-type", "text/event-stream");
    response.body(Body::from_stream(pieces)).expect("a response")
}
