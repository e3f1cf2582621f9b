//! The stage: a house, a Telegram, a few people, and the lines of a story, one after the other.

#[path = "stage/cast.rs"]
mod cast;
#[path = "stage/people.rs"]
mod people;
#[path = "stage/seen.rs"]
mod seen;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use salon::Clock;
use salon::people::DEFAULT_ORG;
use salon_bots::fleet::Bot;
use salon_bots::roster::Intake;
use salon_cli::config::Config;
use salon_cli::house::House;
use salon_core::{OrgId, Time, UserId};
use salon_mock::{Fault, Mock, MockConfig};
use salon_store::ledger::UsageFilter;
use salon_store::{Place, testing};
use serde_json::json;
use tempfile::TempDir;

use crate::desk::Desk;
use crate::pattern::{Bound, Pattern};
use crate::script::{Line, Story};
use crate::{Database, house};

/// How long a line may take to come true. Nobody waits that long if all is well.
const PATIENCE: Duration = Duration::from_secs(30);
/// What tells us nothing by itself is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The cast: name, Telegram's id, language.
const PEOPLE: [(&str, i64, &str); 6] = [
    ("alice", 9001, "en"),
    ("bob", 9002, "en"),
    ("minji", 9003, "ko-KR"),
    ("ivan", 9004, "ru"),
    ("carol", 9005, "en-GB"),
    ("mallory", 9666, "en"),
];
const GROUPS: [(&str, i64); 2] = [("birds", -7001), ("trees", -7002)];
/// The bot that is meant where none is named.
const FIRST: &str = "parrot";

/// Plays a story from its first line to the last, and looks whether everything is tidy afterwards.
pub async fn play(story: &Story, database: Database) -> Result<()> {
    let mut stage = Stage::set(database).await?;
    let mut outcome = Ok(());
    for line in &story.lines {
        outcome =
            stage.perform(line).await.with_context(|| format!("{}.md:{}: {}", story.file, line.number, line.text));
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() {
        outcome = stage.look_around().await.context("after the last line");
    }
    let outcome = outcome.map_err(|error| anyhow!("{error:#}\n{}", stage.picture()));
    stage.strike().await;
    outcome
}

struct Stage {
    folder: TempDir,
    mock: Mock,
    house: Option<House>,
    /// Whether the story closed the house, so that it opens only when told to.
    closed: bool,
    config: Config,
    clock: Clock,
    desk: Arc<Desk>,
    videos: Arc<Videos>,
    /// The bots that were named so far: their numbers follow from the order.
    bots: Vec<String>,
    /// The list of bots as it is written: a bot's further lines of YAML, by its name.
    roster: BTreeMap<usize, Vec<String>>,
    /// Messages of bots that the story has told of, by their place.
    told: BTreeMap<At, Expected>,
    labels: HashMap<String, At>,
    /// Groups that became supergroups, by name.
    moved: HashMap<String, i64>,
    /// Who has an account, and the newest code that they made.
    accounts: HashMap<String, UserId>,
    codes: HashMap<String, String>,
    /// Topics of groups: `birds/nests`.
    topics: HashMap<String, i64>,
    bound: Bound,
    /// Whose turn it was last: the bot and the chat.
    here: (String, i64),
    /// The message that was told of last.
    newest: Option<At>,
    /// What each person wrote last.
    written: HashMap<(String, i64), At>,
    pressed: Option<(String, String)>,
    dead_letters: i64,
}

/// A message: token, chat, number.
type At = (String, i64, i64);

#[derive(Clone, Debug)]
struct Expected {
    pattern: Pattern,
    rows: Vec<Vec<String>>,
    /// Whether the placeholder may stand for ever.
    left: bool,
}

/// Panels whose voices repeat what they are asked, so that it shows who was shown what.
const COUNCIL: &str = r#"{"voices":[
    {"name":"Solver","part":"solver","model":"echo"},
    {"name":"Critic","part":"critic"},
    {"name":"Synth","part":"synth"}]}"#;
const DUET: &str = r#"{"gate":"always","voices":[
    {"name":"Ann","part":"solver","model":"echo"},
    {"name":"Ben","part":"solver"},
    {"name":"Clerk","part":"synth"}]}"#;

fn panel(name: &str, text: &str) -> Result<salon_core::panel::Panel> {
    Ok(serde_json::from_str::<salon::panels::PanelSpec>(text)?.panel(name)?)
}

impl Stage {
    async fn set(database: Database) -> Result<Stage> {
        let folder = tempfile::tempdir()?;
        let mock = Mock::start(MockConfig::default()).await?;
        let place = match database {
            Database::Sqlite => Place::Folder(folder.path().join("data")),
            Database::Postgres => Place::Postgres(testing::postgres_database().await),
        };
        let mut config = house::config(folder.path(), place, mock.base_url());
        config.panels = vec![panel("council", COUNCIL)?, panel("duet", DUET)?];
        let videos = Arc::new(Videos::default());
        let address = videos.clone().open().await?;
        config.youtube_search.clone_from(&address);
        config.youtube_fallback = address;
        let mut stage = Stage {
            folder,
            mock,
            house: None,
            closed: false,
            config,
            clock: Clock::default(),
            desk: Arc::default(),
            videos,
            bots: Vec::new(),
            roster: BTreeMap::new(),
            told: BTreeMap::new(),
            labels: HashMap::new(),
            moved: HashMap::new(),
            accounts: HashMap::new(),
            codes: HashMap::new(),
            topics: HashMap::new(),
            bound: Bound::new(),
            here: (String::new(), 0),
            newest: None,
            written: HashMap::new(),
            pressed: None,
            dead_letters: 0,
        };
        let first = stage.number_of(FIRST);
        stage.roster.insert(first, Vec::new());
        Ok(stage)
    }

    async fn strike(mut self) {
        if let Some(house) = self.house.take() {
            house.close().await;
        }
        self.mock.shutdown().await.ok();
    }

    async fn perform(&mut self, line: &Line) -> Result<()> {
        let text = line.text.as_str();
        if self.prepare(text, line)? {
            return Ok(());
        }
        if let Some(rest) = text.strip_prefix("bot ")
            && let Some(id) = rest.strip_suffix(':').or_else(|| rest.strip_suffix(" is there"))
            && !id.contains(' ')
        {
            return self.cast(id, Some(line.more.clone())).await;
        }
        if let Some(id) = text.strip_prefix("bot ").and_then(|rest| rest.strip_suffix(" is gone")) {
            return self.cast(id, None).await;
        }
        if text == "salon opens" {
            self.closed = false;
        }
        if !self.closed {
            self.open().await?;
        }
        match text {
            "salon opens" => return Ok(()),
            "bots.yaml is broken" => {
                std::fs::write(&self.config.bots_file, "bots: [{bot_id: 'parrot'")?;
                self.house()?.fleet.reload();
                return Ok(());
            }
            "bots.yaml is blank" | "bots.yaml says that there are none" => {
                let list = if text.ends_with("blank") { " \n" } else { "bots: []\n" };
                std::fs::write(&self.config.bots_file, list)?;
                self.house()?.fleet.reload();
                return Ok(());
            }
            "bots.yaml is missing" => {
                std::fs::remove_file(&self.config.bots_file)?;
                self.house()?.fleet.reload();
                return Ok(());
            }
            "telegram is well again" => {
                self.mock.clear_faults();
                return Ok(());
            }
            "the newest word is heard" => return self.newest_heard().await,
            "engine is waiting" => {
                let reached = tokio::time::timeout(PATIENCE, self.desk.signal.reached());
                return reached.await.context("no engine came to its `waits`");
            }
            "engine goes on" => {
                self.desk.signal.give();
                return Ok(());
            }
            "salon closes" | "salon restarts" => {
                let house = self.house.take().context("nothing runs")?;
                house.close().await;
                self.closed = text == "salon closes";
                return if self.closed { Ok(()) } else { self.open().await };
            }
            "everything is read" => return self.all_read().await,
            "all is quiet" => return self.all_quiet().await,
            _ => {}
        }
        if let Some((before, after)) = text.split_once(": ").filter(|(before, _)| !before.contains(['<', '>', '~'])) {
            if self.ask(before, after, line).await? {
                return Ok(());
            }
        } else if text == "update:" {
            return self.inject(line);
        }
        if let Some((name, topic)) = text.split_once(" has the topic ") {
            return self.open_topic(name, topic);
        }
        if let Some((topic, state)) = text.strip_prefix("the topic ").and_then(|rest| rest.split_once(" is ")) {
            return self.change_topic(topic, state);
        }
        if let Some(name) = text.strip_suffix(" is a supergroup") {
            return self.set_group(self.group(name)?, name, "supergroup", None);
        }
        if let Some(name) = text.strip_suffix(" becomes a supergroup") {
            return self.migrate(name);
        }
        if let Some((who, what)) = text.split_once(" presses [") {
            return self.press(who, what).await;
        }
        if let Some((who, bot)) = text.split_once(" blocks ") {
            return self.block(who, bot, true);
        }
        if let Some((who, bot)) = text.split_once(" lets ") {
            return self.block(who, bot.strip_suffix(" in").context("lets <bot> in")?, false);
        }
        if let Some(who) = text.strip_suffix(" stops the draft") {
            let (chat, _) = person(who)?;
            let update =
                json!({"stopped_message_generation": {"chat": {"id": chat, "type": "private"}, "draft_id": 1}});
            self.mock.inject(&self.token(FIRST), update)?;
            return Ok(());
        }
        if self.of_accounts(text).await? {
            return Ok(());
        }
        let (head, op, rest) = spoken(text).context("this line means nothing")?;
        let rest = line.whole(rest);
        match op {
            '>' => self.says(head, &rest).await,
            '<' if head == "toast" => self.toast(&rest).await,
            '<' => self.shows(head, &rest, line).await,
            _ => self.becomes(head, &rest, line).await,
        }
    }

    /// What may stand before the house is opened.
    fn prepare(&mut self, text: &str, line: &Line) -> Result<bool> {
        if let Some(rest) = text.strip_prefix("engine").filter(|rest| rest.starts_with([':', ' '])) {
            let Some((times, script)) = rest.split_once(": ") else { return Ok(false) };
            let count = match times.trim() {
                "" => 1,
                "perhaps" => {
                    let mut script = self.desk.script(&line.whole(script))?;
                    script.spare = true;
                    self.desk.add(script);
                    return Ok(true);
                }
                times => match times.strip_suffix(" times") {
                    Some(count) => count.parse()?,
                    None => return Ok(false),
                },
            };
            for _ in 0..count {
                let script = self.desk.script(&line.whole(script))?;
                self.desk.add(script);
            }
            return Ok(true);
        }
        if let Some(rest) = text.strip_prefix("answers may take ") {
            ensure!(self.house.is_none(), "this must be said before anything happens");
            self.config.settings.run_deadline = span(rest)?;
            return Ok(true);
        }
        if let Some(rest) = text.strip_prefix("everything is tried ") {
            ensure!(self.house.is_none(), "this must be said before anything happens");
            self.config.settings.attempts = match rest {
                "once" => 1,
                times => times.strip_suffix(" times").context("how often?")?.parse()?,
            };
            return Ok(true);
        }
        if text == "youtube holds back" || text == "youtube answers" {
            self.videos.held.send_replace(text.ends_with("back"));
            return Ok(true);
        }
        if let Some(rest) = text.strip_prefix("youtube has ") {
            let (query, id) = rest.split_once(" => ").context("youtube has <query> => <id>")?;
            self.videos.list.lock().expect("a list").insert(query.to_owned(), id.to_owned());
            return Ok(true);
        }
        if text == "youtube is broken" {
            self.videos.list.lock().expect("a list").insert(String::new(), String::new());
            return Ok(true);
        }
        Ok(false)
    }

    /// Lines of the form `subject: something`; `false` if it is none of them.
    async fn ask(&mut self, subject: &str, rest: &str, line: &Line) -> Result<bool> {
        let expected = line.whole(rest);
        match subject {
            "time passes" => self.clock.wind(span(rest)?),
            "engine was asked" => self.last_brief(&expected, |brief| brief.question.clone()).await?,
            "engine was told" => self.last_brief(&expected, |brief| brief.instructions.clone()).await?,
            "engine was wished" => self.last_brief(&expected, |brief| wished(&brief.wishes)).await?,
            "engine was given thread" => {
                self.last_brief(&expected, |brief| brief.thread.clone().unwrap_or_else(|| "none".to_owned())).await?;
            }
            "engine remembers" => {
                let told = |brief: &salon_core::Brief| {
                    brief.history.iter().map(|said| said.text.as_str()).collect::<Vec<_>>().join("\n")
                };
                self.last_brief(&expected, told).await?;
            }
            "engine calls" => {
                let wanted: usize = rest.parse()?;
                let desk = self.desk.clone();
                self.until(|| format!("{} calls", desk.calls()), async || (desk.calls() == wanted).then_some(()))
                    .await?;
            }
            "telegram" => {
                let mut words = rest.split(", ");
                let fault = words.next().and_then(|fault| fault.split_once(' '));
                let (method, mode) = fault.context("telegram: <method> <fault>[, after n][, n times]")?;
                let mut fault = Fault::new(method, mode);
                for word in words {
                    fault = match (word.strip_prefix("after "), word.strip_suffix(" times")) {
                        (Some(calls), _) => fault.after(calls.parse()?),
                        (None, Some(times)) => fault.times(times.parse()?),
                        (None, None) => bail!("what does {word} mean?"),
                    };
                }
                self.mock.add_fault(fault)?;
            }
            "telegram refused" => {
                let (method, wanted) = rest.split_once(' ').context("telegram refused: <method> <times>")?;
                let refused: Vec<_> =
                    self.mock.calls(&self.token(FIRST), method).into_iter().filter(|call| call.status == 400).collect();
                ensure!(refused.len() == wanted.parse::<usize>()?, "these: {refused:?}");
            }
            "telegram heard" => {
                let (method, wanted) = rest.split_once(' ').context("telegram heard: <method> <times>")?;
                let token = self.token(FIRST);
                let count = || self.mock.calls(&token, method).len();
                let enough = async || match wanted.strip_suffix(" or more") {
                    Some(least) => least.parse().is_ok_and(|least: usize| count() >= least).then_some(()),
                    None => wanted.parse().is_ok_and(|wanted: usize| count() == wanted).then_some(()),
                };
                self.until(|| format!("{} calls of {method}", count()), enough).await?;
            }
            "ledger" => {
                let wanted: i64 = rest.strip_suffix(" tokens").context("ledger: <n> tokens")?.parse()?;
                let store = &self.house()?.salon.store;
                let all = UsageFilter::of(OrgId::new(DEFAULT_ORG), Time(0), Time(i64::MAX));
                let look = async || {
                    let usage = store.read().await.ok()?.usage(&all).await.ok()?;
                    (usage.tokens.total() == wanted).then_some(())
                };
                self.until(|| "the ledger says something else".to_owned(), look).await?;
            }
            "turns" => self.turns(FIRST, rest).await?,
            "parked chats" => {
                let wanted: i64 = rest.parse()?;
                let store = &self.house()?.salon.store;
                let parked =
                    async || store.read().await.ok()?.count_parked().await.ok().filter(|found| *found == wanted);
                self.until(|| "another number of parked chats".to_owned(), parked).await?;
            }
            "dead letters" => self.dead_letters = rest.parse()?,
            "counted" => {
                let (name, wanted) = rest.rsplit_once(' ').context("counted: <name> <number>")?;
                let (name, wanted) = ((FIRST.to_owned(), name.to_owned()), wanted.parse::<u64>()?);
                let metrics = &self.house()?.salon.metrics;
                let count = || metrics.all().get(&name).copied().unwrap_or(0);
                self.until(|| format!("{} by now", count()), async || (count() == wanted).then_some(())).await?;
            }
            "together they say" => self.together(rest).await?,
            _ if subject.starts_with("turns of ") => self.turns(&subject["turns of ".len()..], rest).await?,
            _ => match subject.split_once(" once said to ") {
                Some((bot, who)) => self.once_said(bot, who, &expected, line).await?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    // Bots and the house.
}

/// Who speaks to whom, where: `alice (q) in birds, replying to story, 3 times`.
#[derive(Debug, Default)]
struct Head {
    who: String,
    label: Option<String>,
    to: Option<String>,
    group: Option<String>,
    reply: Option<String>,
    times: usize,
    extras: Vec<String>,
}

impl Head {
    fn read(text: &str) -> Result<Head> {
        let mut head = Head { times: 1, ..Head::default() };
        let (names, extras) = text.split_once(", ").unwrap_or((text, ""));
        let mut words = names.split_whitespace();
        head.who = words.next().context("who?")?.to_owned();
        while let Some(word) = words.next() {
            match word {
                "in" => head.group = words.next().map(str::to_owned),
                "to" => head.to = words.next().map(str::to_owned),
                label if label.starts_with('(') => head.label = Some(label.trim_matches(['(', ')']).to_owned()),
                other => bail!("what does {other} mean?"),
            }
        }
        for extra in extras.split(", ").filter(|extra| !extra.is_empty()) {
            if let Some(times) = extra.strip_suffix(" times") {
                head.times = times.parse()?;
            } else if let Some(label) = extra.strip_prefix("replying to ") {
                head.reply = Some(label.to_owned());
            } else {
                ensure!(
                    ["as a channel", "as a bot", "anywhere", "one by one"].contains(&extra),
                    "what does {extra} mean?"
                );
                head.extras.push(extra.to_owned());
            }
        }
        Ok(head)
    }

    fn has(&self, extra: &str) -> bool {
        self.extras.iter().any(|said| said == extra)
    }
}

/// A page of videos, as YouTube's results and as those of the other search.
#[derive(Default)]
struct Videos {
    /// By query; an entry without query says that nobody answers.
    list: Mutex<BTreeMap<String, String>>,
    /// Whether answers are held back for now.
    held: tokio::sync::watch::Sender<bool>,
}

impl Videos {
    async fn open(self: Arc<Self>) -> Result<String> {
        use axum::extract::{RawQuery, State};
        use axum::http::StatusCode;
        let page = async |State(videos): State<Arc<Videos>>, RawQuery(query): RawQuery| {
            let query = query.unwrap_or_default();
            videos.held.subscribe().wait_for(|held| !held).await.ok();
            let list = videos.list.lock().expect("a list");
            if list.contains_key("") {
                return (StatusCode::SERVICE_UNAVAILABLE, String::new());
            }
            let found = list.iter().find(|(known, _)| query == format!("search_query={}", encoded(known)));
            let page = found.map_or("<p>Nothing.</p>".to_owned(), |(_, id)| {
                format!("<script>var data = {{\"videoRenderer\":{{\"videoId\":\"{id}\",\"x\":1}}}}</script>")
            });
            (StatusCode::OK, page)
        };
        let router = axum::Router::new().fallback(page).with_state(self);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(format!("http://{address}"))
    }
}

/// As browsers write a form's value into an address.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Takes a spoken line apart, at the first sign that stands alone.
fn spoken(text: &str) -> Option<(&str, char, &str)> {
    let ops = [('>', " > "), ('<', " < "), ('~', " ~ ")];
    let found = ops.iter().filter_map(|(op, mark)| text.find(mark).map(|at| (at, *op, &text[at + 3..])));
    found.min_by_key(|(at, ..)| *at).map(|(at, op, rest)| (text[..at].trim(), op, rest))
}

/// What was wished of an answer: `256 tokens, temperature 0.7`.
fn wished(wishes: &salon_core::Wishes) -> String {
    let tokens = wishes.max_output.map(|tokens| format!("{tokens} tokens"));
    let degree = wishes.temperature.map(|degree| format!("temperature {degree}"));
    [tokens, degree].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn person(name: &str) -> Result<(i64, &'static str)> {
    let found = PEOPLE.iter().find(|(known, ..)| *known == name.trim());
    found.map(|(_, id, lang)| (*id, *lang)).with_context(|| format!("nobody is called {name}"))
}

/// Whether a bot has been introduced and takes updates in, if it should.
fn ready(bot: &Arc<Bot>) -> bool {
    let status = bot.status();
    bot.config.intake == Intake::Off || (status.username.is_some() && status.receiving)
}

fn span(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_once(' ').context("a number and a unit")?;
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 60 * 60,
        "day" => 24 * 60 * 60,
        other => bail!("how long is a {other}?"),
    };
    Ok(Duration::from_secs(number.parse::<u64>()? * seconds))
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
