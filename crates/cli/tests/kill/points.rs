//! A process that dies at a named point of its code, once before each side effect and once behind it (F02-F06), and at
//! every commit of a conversation, one after the other.
//!
//! The walk is over [`POINTS`], so that no point can be added without a scene in which it is passed.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use rustix::process::Signal;
use salon_core::{BotId, ChatId};
use salon_store::Store;
use salon_store::failpoint::POINTS;
use tokio::time::Instant;

use crate::crowd::Crowd;
use crate::judge::{charged_otherwise, judge};
use crate::program::{Start, text};
use crate::runs::long_patience;
use crate::stage::{BOT, Database, Intake, Stage, TOKEN, open, tail};

/// Questions that a chat asks without waiting for the answers.
const WINDOW: usize = 3;
/// Conversations at the same time: each mostly waits.
const AT_ONCE: usize = 8;
/// No conversation of the length that is walked through commit by commit has so many.
const COMMITS: u64 = 1_000;

/// The first line of what `/help` answers.
const HELP: &str = "What I understand:";
/// Pieces in which an answer comes.
const PIECES: usize = 4;
/// Letters that need a second message.
const TWO_PAGES: usize = 5_000;

/// How much a crowd asks.
#[derive(Clone, Copy, Debug)]
struct Size {
    chats: usize,
    questions: usize,
    /// How often the program looks for work without being told of any.
    poll_ms: &'static str,
}

impl Size {
    const USUAL: Size = Size { chats: 3, questions: 9, poll_ms: "250" };
    /// Two questions in one chat, so that a button is pressed below the first answer while the second is written. Vain
    /// looks are commits too, and one of them is as good as the next.
    const SMALL: Size = Size { chats: 1, questions: 2, poll_ms: "1000" };
}

/// What people do until the program dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// They ask, and ask for help meanwhile.
    Talk,
    /// They only ask for help: what is shown is no answer of an engine.
    Help,
    /// They press a button below every first answer, while the next ones are written.
    Press,
    /// They watch an answer come as a draft.
    Draft,
    /// Somebody was told more by an engine that died over it than is said in the end.
    Shrink,
}

#[derive(Clone, Copy, Debug)]
struct Death {
    point: &'static str,
    /// Which pass of the point is its last.
    times: u64,
    scene: Scene,
    intake: Intake,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_at_any_named_point_loses_nothing_on_sqlite() {
    die_everywhere(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_at_any_named_point_loses_nothing_on_postgres() {
    die_everywhere(Database::Postgres).await;
}

async fn die_everywhere(database: Database) {
    assert!(!POINTS.is_empty());
    let deaths = POINTS.iter().flat_map(|point| deaths(point)).map(|death| async move {
        let reached = die_at(death, Size::USUAL, database).await;
        assert!(reached, "{death:?} on {database:?}: the point is never passed");
    });
    stream::iter(deaths).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_before_or_behind_every_commit_of_a_conversation_loses_nothing_on_sqlite() {
    die_at_every_commit(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_before_or_behind_every_commit_of_a_conversation_loses_nothing_on_postgres() {
    die_at_every_commit(Database::Postgres).await;
}

/// Plays the same short conversation again and again, and dies one commit later each time, until one is over before its
/// commit comes.
async fn die_at_every_commit(database: Database) {
    for point in ["commit.before", "commit.after"] {
        let death = |times| Death { point, times, scene: Scene::Press, intake: Intake::Webhook };
        let lives = stream::iter((1..COMMITS).map(|times| die_at(death(times), Size::SMALL, database)));
        let commits = lives.buffered(AT_ONCE).take_while(|reached| std::future::ready(*reached)).count().await;
        println!("{point} on {database:?}: {commits} commits");
        // A claim, a reaction, a run's beginning and its end, a placed message and a shown one, for each of them.
        assert!(commits > 20, "{point} on {database:?}: only {commits} commits");
    }
}

/// The ways to come by a point. In each of them it must be passed.
fn deaths(point: &'static str) -> Vec<Death> {
    let death = |scene, times| Death { point, times, scene, intake: Intake::Webhook };
    let polling = |times| Death { intake: Intake::Polling, ..death(Scene::Talk, times) };
    match point.split('.').next().unwrap_or_default() {
        // Commits come at the start already.
        "commit" => vec![death(Scene::Talk, 15)],
        // One for each language.
        "setMyCommands" => vec![death(Scene::Talk, 2)],
        "setWebhook" => vec![death(Scene::Talk, 1)],
        "deleteWebhook" => vec![polling(1)],
        // The second call tells Telegram that the first batch is stored. The first batch may be the only one.
        "getUpdates" => vec![polling(if point.ends_with("before") { 2 } else { 1 })],
        "poll" => vec![polling(1)],
        "answerCallbackQuery" => vec![death(Scene::Press, 2)],
        "sendMessage" | "editMessageText" | "deliver" => vec![death(Scene::Talk, 2), death(Scene::Help, 2)],
        "sendMessageDraft" => vec![death(Scene::Draft, 2)],
        "deleteMessage" => vec![death(Scene::Shrink, 1)],
        _ => vec![death(Scene::Talk, 2)],
    }
}

/// Talks to a program that dies at a point, starts it again, and sees that nobody notices. `false` if everything was
/// said and done before the point was passed so often.
async fn die_at(death: Death, size: Size, database: Database) -> bool {
    let Death { point, times, scene, intake } = death;
    let stage = Stage::set(database, intake).await;
    stage.write_bots_with("model", if scene == Scene::Draft { "    drafts: true\n" } else { "" });
    let parrot = Parrot::default();
    let start = parrot.answers(stage.one()).await.with("WORKER_POLL_INTERVAL_MS", size.poll_ms);
    let mut crowd = Crowd::new(&stage, size.chats, WINDOW);
    if scene == Scene::Shrink {
        die_over_a_long_answer(&stage, &mut crowd, &start, &parrot).await;
    }
    for (chat, _) in crowd.chats() {
        stage.mock.says(TOKEN, chat, chat, "/help");
    }
    let mut doomed = start.clone().with("SALON_FAIL_POINT", &format!("{point}@{times}")).spawn();
    let deadline = Instant::now() + long_patience();
    let ended = loop {
        if scene != Scene::Help {
            crowd.ask_until(size.questions);
        }
        if scene == Scene::Press {
            crowd.press();
        }
        if let Some(ended) = doomed.ended(Duration::from_millis(30)).await {
            break ended;
        }
        let everything = crowd.asked() == size.questions && (scene != Scene::Press || crowd.has_pressed());
        if (everything || scene == Scene::Help) && crowd.is_settled(&[stage.port]).await {
            return false;
        }
        assert!(Instant::now() < deadline, "{death:?}: nothing comes to an end\n{}", tail(&start.said()));
    };
    stage.note_death().await;
    let log = || tail(&start.said());
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()), "{death:?}: {ended}\n{}", log());
    // What bears the name of a call stands right before it and right behind it.
    if let Some((method, side)) = point.split_once('.').filter(|(name, _)| name.contains(char::is_uppercase)) {
        let made = stage.mock.calls(TOKEN, method).len() as u64;
        let in_place = if side == "before" { made < times } else { made >= times };
        assert!(in_place, "{death:?}: {made} calls were made");
    }

    let wrong = half_charged(&stage, &crowd).await;
    assert!(wrong.is_empty(), "{death:?}: {wrong:#?}\n{}", log());

    let mut program = open(&start, stage.port).await;
    let mut settled = crowd.ask_all(&[stage.port], size.questions, long_patience()).await;
    if scene == Scene::Press {
        crowd.press();
        settled &= crowd.ask_all(&[stage.port], size.questions, long_patience()).await;
        assert!(crowd.has_pressed(), "{death:?}: a first answer has no buttons\n{}", log());
    }
    program.signal(Signal::TERM);
    let ended = program.ended(Duration::from_secs(25)).await;
    assert!(ended.is_some_and(|status| status.success()), "{death:?}: {ended:?}\n{}", log());
    let (damage, traces) = judge(&stage, &crowd).await;
    println!("{death:?} on {database:?}: {traces:?}");
    assert!(settled, "{death:?}: work is left: {damage:?}\n{}", log());
    assert!(damage.none(), "{death:?}: {damage:?}\n{}", log());
    assert_eq!(traces.unexcused, 0, "{death:?}: {traces:?}\n{}", log());
    assert!(traces.orphans <= traces.listed, "{death:?}: the outbox does not know every orphan: {traces:?}");
    for (chat, _) in crowd.chats() {
        let helps = stage.mock.bot_texts(TOKEN, chat).iter().filter(|text| text.starts_with(HELP)).count();
        assert_eq!(helps, 1, "{death:?}: one question for help, {helps} answers\n{}", log());
    }
    true
}

/// What the dead process left of turns and their charges that does not belong together.
async fn half_charged(stage: &Stage, crowd: &Crowd) -> Vec<String> {
    let store = Store::open(&stage.place(), "judge").await.expect("the database opens");
    let mut tx = store.read().await.expect("a reader");
    let mut wrong = Vec::new();
    for (chat, _) in crowd.chats() {
        let dialog = tx.find_active_dialog(&BotId::new(BOT), ChatId(chat)).await.expect("dialogs");
        let Some(dialog) = dialog else { continue };
        let turns = tx.list_turns_before(&dialog.id, i64::MAX, i64::MAX).await.expect("turns");
        wrong.extend(charged_otherwise(&mut tx, &turns).await.expect("entries"));
    }
    drop(tx);
    store.close().await;
    wrong
}

/// Lets an engine say two messages' worth and hang, and kills the program over it.
async fn die_over_a_long_answer(stage: &Stage, crowd: &mut Crowd, start: &Start, parrot: &Parrot) {
    parrot.rambles.store(true, Ordering::SeqCst);
    let program = open(start, stage.port).await;
    crowd.ask_until(1);
    let asker = crowd.chats().find(|(_, asked)| *asked > 0).expect("somebody has asked").0;
    let stands = |texts: &[String]| texts.len() == 2 && texts.iter().all(|text| text.len() > 100);
    let two = stage.mock.wait_for_texts(TOKEN, asker, stands);
    let two = tokio::time::timeout(long_patience(), two).await;
    assert!(two.is_ok(), "no answer takes two messages\n{}", tail(&start.said()));
    stage.kill(program).await;
    parrot.rambles.store(false, Ordering::SeqCst);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_command_that_dies_is_repeated() {
    let stage = Stage::set(Database::Sqlite, Intake::Webhook).await;
    let mut command = stage.one();
    let has_webhook = || stage.mock.state(Some(TOKEN))["state"]["bots"][0]["webhook_url"].is_string();
    for (word, method, wanted) in [("set", "setWebhook", true), ("delete", "deleteWebhook", false)] {
        for (side, had) in [("before", !wanted), ("after", wanted)] {
            command.args = ["webhook", word, "--bots"].map(str::to_owned).to_vec();
            command.args.push(text(&stage.bots()));
            let mut doomed = command.clone().with("SALON_FAIL_POINT", &format!("{method}.{side}")).spawn();
            let ended = doomed.ended(Duration::from_secs(20)).await.expect("it ends");
            assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()), "{method}.{side}\n{}", command.said());
            assert_eq!(has_webhook(), had, "{method}.{side} stands in the wrong place");
        }
        let ended = command.spawn().ended(Duration::from_secs(20)).await.expect("it ends");
        assert!(ended.success(), "{}", command.said());
        assert_eq!(has_webhook(), wanted);
    }
}

/// A model that repeats the question, in pieces and with pauses between them.
#[derive(Clone, Default)]
struct Parrot {
    /// Whether it says something long instead, and never comes to an end.
    rambles: Arc<AtomicBool>,
}

impl Parrot {
    /// Has this program's questions answered.
    async fn answers(&self, start: Start) -> Start {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/v1/chat/completions", post(repeat)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let base = format!("http://{address}/v1");
        [("OPENAI_BASE_URL", base.as_str()), ("OPENAI_API_KEY", "sk-nobody"), ("OPENAI_MODEL", "p")]
            .into_iter()
            .fold(start, |start, (name, value)| start.with(name, value))
    }
}

async fn repeat(
    State(parrot): State<Parrot>,
    axum::Json(asked): axum::Json<serde_json::Value>,
) -> axum::response::Response {
    let question =
        asked["messages"].as_array().and_then(|messages| messages.last()).map(|last| last["content"].clone());
    let question = question.and_then(|content| content.as_str().map(str::to_owned)).expect("a question");
    let rambles = parrot.rambles.load(Ordering::SeqCst);
    let words = if rambles { "and then ".repeat(TWO_PAGES / 9) } else { question };
    let letters: Vec<char> = words.chars().collect();
    let pieces: Vec<String> = letters.chunks(letters.len().div_ceil(PIECES).max(1)).map(String::from_iter).collect();
    let last = pieces.len();
    let pieces = stream::unfold((pieces, 0), move |(pieces, at)| async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let data = match pieces.get(at) {
            Some(piece) => {
                serde_json::json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] }).to_string()
            }
            None if rambles => std::future::pending().await,
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
