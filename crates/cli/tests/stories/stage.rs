//! The stage: a house, a Telegram, a few people, and the lines of a story, one after the other.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use salon::audit::Actor;
use salon::engines::Answers;
use salon::people::{DEFAULT_ORG, NewUser, add_user};
use salon::{Clock, Configured};
use salon_bots::fleet::Bot;
use salon_bots::roster::Intake;
use salon_cli::config::Config;
use salon_cli::house::{House, Staged};
use salon_core::people::Role;
use salon_core::{BotId, Limit, LimitId, Measure, OrgId, Period, Policy, Scope, Time, UserId};
use salon_mock::{
    Block, Calls, Correct, Fault, Group, Migrate, Mock, MockConfig, Press, Say, Timeline, TopicChange, Verify,
};
use salon_store::ledger::UsageFilter;
use salon_store::{Place, testing};
use salon_telegram::text::plain;
use salon_telegram::types::{InlineKeyboardButton, InlineKeyboardMarkup, SendMessage};
use salon_telegram::{Client, ClientConfig, Token};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::broadcast::error::RecvError;

use crate::desk::{Desk, text as spelled};
use crate::pattern::{Bound, Pattern};
use crate::script::{Line, Story};
use crate::{Database, house};

/// How long a line may take to come true. Nobody waits that long if all is well.
const PATIENCE: Duration = Duration::from_secs(30);
/// What tells us nothing by itself is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const PLACEHOLDER: &str = "…";

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

/// A message of a bot as the chat shows it.
struct Shown {
    number: i64,
    text: String,
    rows: Vec<Vec<(String, String)>>,
    /// The topic or thread in which it stands.
    thread: Option<i64>,
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

    /// Puts a bot on the list, changes it there, or takes it off; a running house takes that in by itself.
    async fn cast(&mut self, id: &str, yaml: Option<Vec<String>>) -> Result<()> {
        let number = self.number_of(id);
        match yaml {
            Some(yaml) => self.roster.insert(number, yaml),
            None => self.roster.remove(&number),
        };
        if self.house.is_none() {
            return Ok(());
        }
        let before = self.house()?.fleet.find(&BotId::new(id));
        self.write_roster()?;
        let fleet = self.house()?.fleet.clone();
        let wanted = self.roster.contains_key(&number);
        let taken_in = async || match (fleet.find(&BotId::new(id)), &before) {
            (None, _) => (!wanted).then_some(()),
            (Some(bot), Some(before)) if Arc::ptr_eq(&bot, before) => None,
            (Some(bot), _) => ready(&bot).then_some(()),
        };
        self.until(|| "the list of bots was not taken in".to_owned(), taken_in).await
    }

    async fn open(&mut self) -> Result<()> {
        if self.house.is_some() {
            return Ok(());
        }
        if self.roster.values().flatten().any(|line| line.contains("{house}")) && self.config.listen.port() == 0 {
            // Telegram must know the address before there is one: any free one.
            let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            self.config.listen = free.local_addr()?;
        }
        self.write_roster()?;
        let engine = Configured {
            rates: salon_core::Tariff::default(),
            name: "script".to_owned(),
            answers: Answers::Engine(self.desk.clone()),
            model: None,
            installed: true,
            why_not: None,
            selectable: true,
        };
        let staged = Staged { clock: self.clock.clone(), engines: vec![engine] };
        let house = House::open_staged(&self.config, staged).await?;
        let fleet = house.fleet.clone();
        self.house = Some(house);
        // Until then a bot does not know what it is called.
        let all_ready = async || fleet.all().iter().all(ready).then_some(());
        self.until(|| "a bot was not introduced to Telegram".to_owned(), all_ready).await
    }

    fn write_roster(&self) -> Result<()> {
        let mut text = String::from("bots:\n");
        for (number, yaml) in &self.roster {
            let id = &self.bots[*number];
            writeln!(text, "  - bot_id: {id}")?;
            writeln!(text, "    telegram_token: \"{}\"", self.token(id))?;
            let says = |key: &str| yaml.iter().any(|line| line.starts_with(key));
            if !says("name:") {
                writeln!(text, "    name: {}", capital(id))?;
            }
            if !says("allow:") && !says("owner_user_id:") {
                writeln!(text, "    allow: everyone")?;
            }
            for line in yaml {
                writeln!(text, "    {}", self.filled(line))?;
            }
        }
        // In one step: a half-written list would be a broken one.
        let beside = self.folder.path().join("bots.new");
        std::fs::write(&beside, text)?;
        std::fs::rename(beside, &self.config.bots_file)?;
        Ok(())
    }

    fn house(&self) -> Result<&House> {
        self.house.as_ref().context("nothing has happened yet")
    }

    fn number_of(&mut self, id: &str) -> usize {
        let known = self.bots.iter().position(|known| known == id);
        known.unwrap_or_else(|| {
            self.bots.push(id.to_owned());
            self.bots.len() - 1
        })
    }

    fn token(&self, id: &str) -> String {
        let number = self.bots.iter().position(|known| known == id).unwrap_or(self.bots.len());
        format!("{}:{id}-token", 1001 + number)
    }

    /// Fills in ids of people, names of bots and the address of the house.
    fn filled(&self, text: &str) -> String {
        let mut text = text.replace("{house}", &format!("http://{}", self.config.listen));
        for (name, code) in &self.codes {
            text = text.replace(&format!("{{code of {name}}}"), code);
        }
        for (name, id, _) in PEOPLE {
            text = text.replace(&format!("{{{name}}}"), &id.to_string());
        }
        for (name, id) in GROUPS {
            text = text.replace(&format!("{{{name}}}"), &id.to_string());
        }
        for (number, id) in self.bots.iter().enumerate() {
            text = text.replace(&format!("{{@{id}}}"), &format!("@mock{}_bot", 1001 + number));
        }
        text
    }

    // Accounts.

    /// What people have on the web page, and what administrators do there; `false` if the line is about neither.
    async fn of_accounts(&mut self, text: &str) -> Result<bool> {
        if text.contains(['<', '>', '~']) {
            return Ok(false);
        }
        let house = self.house()?;
        let (salon, now) = (house.salon.clone(), self.clock.now());
        if let Some(who) = text.strip_suffix(" has an account") {
            let (org, name) = (OrgId::new(DEFAULT_ORG), capital(who));
            let new = NewUser { org, name, email: None, role: Role::User, telegram: None };
            let user = add_user(&salon.store, &salon.clock, &salon.pen(Actor::Operator), new).await?;
            let login = format!("{who}@example.org");
            let args = (user.id.clone(), login);
            salon.store.write(args, |tx, (id, login)| Box::pin(async move { tx.set_login(id, login).await })).await?;
            self.accounts.insert(who.to_owned(), user.id);
        } else if let Some(who) = text.strip_suffix(" makes a code") {
            let user = self.account(who)?;
            let code = salon.make_code(&user).await?.word;
            self.codes.insert(who.to_owned(), code);
        } else if let Some(who) = text.strip_suffix(" is switched off") {
            self.change(who, |user| user.active = false).await?;
        } else if let Some(who) = text.strip_suffix(" is switched on") {
            self.change(who, |user| user.active = true).await?;
        } else if let Some((who, end)) = text.split_once(" may stay for ") {
            let args = (self.account(who)?, now + span(end)?);
            salon
                .store
                .write(args, |tx, (id, until)| Box::pin(async move { tx.set_reach(id, Some(*until), None).await }))
                .await?;
        } else if let Some((who, models)) = text.split_once(" may be answered by ") {
            let args = (self.account(who)?, models.to_owned());
            salon
                .store
                .write(args, |tx, (id, models)| Box::pin(async move { tx.set_reach(id, None, Some(models)).await }))
                .await?;
        } else if let Some((who, amount)) = text.split_once(" may take ") {
            let (amount, period) = amount.split_once(" tokens a ").context("<who> may take <n> tokens a <period>")?;
            let limit = Limit {
                id: LimitId::new(salon.clock.id()),
                org: OrgId::new(DEFAULT_ORG),
                scope: Scope::User,
                subject: Some(self.account(who)?.to_string()),
                measure: Measure::Tokens,
                period: Period::parse(period).context("a period")?,
                amount: amount.parse()?,
                policy: Policy::Hard,
                thresholds: Vec::new(),
            };
            ensure!(
                house.relay.book.add_limit(limit, &house.salon.pen(Actor::Operator)).await?,
                "there is such a limit"
            );
        } else if let Some((bot, reply)) = text.split_once(" answers ") {
            let bot = Some(bot).filter(|bot| *bot != "every bot").map(BotId::new);
            match reply.split_once(" with ") {
                Some((name, words)) => {
                    salon::replies::put(&salon.store, bot, name, words, now).await?;
                }
                None => {
                    let name = reply.strip_suffix(" no more").context("answers /<name> with <text>, or no more")?;
                    ensure!(salon::replies::remove(&salon.store, bot, name).await?, "there is no such reply");
                }
            }
        } else if text == "no code is kept" {
            for code in self.codes.values() {
                let kept = testing::keeps(&mut salon.store.read().await?, code).await;
                ensure!(!kept, "a code is kept");
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn account(&self, who: &str) -> Result<UserId> {
        self.accounts.get(who).cloned().with_context(|| format!("{who} has no account"))
    }

    async fn change(&self, who: &str, change: impl FnOnce(&mut salon_core::User)) -> Result<()> {
        let store = &self.house()?.salon.store;
        let mut user = store.read().await?.find_user(&self.account(who)?).await?.context("they are gone")?;
        change(&mut user);
        store.write(user, |tx, user| Box::pin(async move { tx.set_user(user).await })).await?;
        Ok(())
    }

    // What people do.

    async fn says(&mut self, head: &str, text: &str) -> Result<()> {
        if let Some((who, label)) = head.split_once(" edits") {
            return self.edits(who, label.trim(), text);
        }
        let head = Head::read(head)?;
        let (user, lang) = person(&head.who)?;
        let bot = head.to.clone().unwrap_or_else(|| match self.here.0.as_str() {
            "" => FIRST.to_owned(),
            bot => bot.to_owned(),
        });
        let token = self.token(&bot);
        let (chat, topic) = match &head.group {
            Some(name) => self.place(name)?,
            None => (user, None),
        };
        let reply_to = match &head.reply {
            Some(label) => Some(self.labelled(label)?.2),
            None => None,
        };
        for n in 1..=head.times {
            let text = self.filled(&text.replace("{i}", &n.to_string()));
            let mut say = Say::new(&token, chat, user, &text);
            say.language_code = Some(lang.to_owned());
            say.first_name = Some(capital(&head.who));
            say.reply_to = reply_to;
            say.topic = topic.flatten();
            if head.has("as a channel") {
                say.sender_chat = Some(json!({"id": -100_500, "type": "channel", "title": "News"}));
            }
            say.is_bot = head.has("as a bot");
            let sent = self.mock.send(say)?;
            let at = (token.clone(), chat, sent.message_id);
            self.written.insert((head.who.clone(), chat), at.clone());
            if let Some(label) = &head.label {
                self.labels.insert(label.clone(), at);
            }
            if head.has("one by one") {
                self.all_quiet().await?;
            }
        }
        self.here = (bot, chat);
        Ok(())
    }

    fn edits(&mut self, who: &str, label: &str, text: &str) -> Result<()> {
        let at = match label {
            "" => self.written.get(&(who.to_owned(), self.here.1)).cloned().context("there is nothing to edit")?,
            label => self.labelled(label)?,
        };
        let (token, chat_id, message_id) = at;
        self.mock.edit(Correct { token, chat_id, message_id, text: self.filled(text) })?;
        Ok(())
    }

    /// `alice presses [Stop]`, or `… [Stop] on story`.
    async fn press(&mut self, who: &str, what: &str) -> Result<()> {
        let (user_id, _) = person(who)?;
        let (button, on) = what.split_once(']').context("a button stands in brackets")?;
        let at = match on.trim().strip_prefix("on ") {
            Some(label) => self.labelled(label)?,
            None => self.newest.clone().context("there is no message with buttons")?,
        };
        let callback_data = self.data_of(&at, button).await?;
        let (token, chat_id, message_id) = at;
        let bot = self.bots.iter().find(|id| self.token(id) == token).cloned().unwrap_or_default();
        self.here = (bot, chat_id);
        let pressed = self.mock.press(Press { token: token.clone(), chat_id, message_id, user_id, callback_data })?;
        let id = pressed["callback_query_id"].as_str().context("a press has an id")?;
        self.pressed = Some((token, id.to_owned()));
        Ok(())
    }

    /// What the button of a message carries, once it is there.
    async fn data_of(&self, at: &At, button: &str) -> Result<String> {
        let (token, chat, number) = at;
        let look = async || {
            let shown = self.shown(token, *chat).into_iter().find(|shown| shown.number == *number)?;
            shown.rows.into_iter().flatten().find(|(label, _)| label == button).map(|(_, data)| data)
        };
        self.until(|| format!("there is no button [{button}]"), look).await
    }

    fn block(&mut self, who: &str, bot: &str, blocked: bool) -> Result<()> {
        let (chat_id, _) = person(who)?;
        let bot = if bot == "the bot" { FIRST } else { bot };
        self.mock.block(Block { token: self.token(bot), chat_id, blocked, reason: None })?;
        Ok(())
    }

    /// The group of this name, wherever it is by now.
    fn group(&self, name: &str) -> Result<i64> {
        let found = GROUPS.iter().find(|(known, _)| *known == name);
        let first = found.map(|(_, id)| *id).with_context(|| format!("no group is called {name}"))?;
        Ok(self.moved.get(name).copied().unwrap_or(first))
    }

    /// `birds`, or `birds/nests` for a topic of it; `birds/` is none of its topics.
    fn place(&self, name: &str) -> Result<(i64, Option<Option<i64>>)> {
        let (group, topic) = name.split_once('/').map_or((name, None), |(group, topic)| (group, Some(topic)));
        let topic = match topic {
            None => None,
            Some("") => Some(None),
            Some(_) => Some(Some(*self.topics.get(name).with_context(|| format!("there is no topic {name}"))?)),
        };
        Ok((self.group(group)?, topic))
    }

    fn set_group(&self, chat_id: i64, name: &str, kind: &str, migrated_to: Option<i64>) -> Result<()> {
        let (token, title, kind) = (self.token(FIRST), capital(name), Some(kind.to_owned()));
        self.mock.add_group(Group { token, chat_id, title, kind, users: Vec::new(), migrated_to })?;
        Ok(())
    }

    /// `birds` moves; `birds quietly` moves without a word of it, so that only refusals tell.
    fn migrate(&mut self, name: &str) -> Result<()> {
        let (name, is_quiet) = name.strip_suffix(" quietly").map_or((name, false), |name| (name, true));
        let chat_id = self.group(name)?;
        // As Telegram numbers them.
        let to = chat_id - 1_000_000_000_000;
        if is_quiet {
            self.set_group(to, name, "supergroup", None)?;
            self.set_group(chat_id, name, "group", Some(to))?;
        } else {
            self.mock.migrate(Migrate { token: self.token(FIRST), chat_id, to })?;
        }
        self.moved.insert(name.to_owned(), to);
        Ok(())
    }

    fn open_topic(&mut self, name: &str, topic: &str) -> Result<()> {
        let (token, chat_id) = (self.token(FIRST), self.group(name)?);
        self.set_group(chat_id, name, "supergroup", None)?;
        let change = TopicChange { token, chat_id, topic: None, name: Some(topic.to_owned()), state: None };
        let number = self.mock.set_topic(change)?;
        self.topics.insert(format!("{name}/{topic}"), number);
        Ok(())
    }

    fn change_topic(&mut self, topic: &str, state: &str) -> Result<()> {
        let (chat_id, number) = self.place(topic)?;
        let topic = number.flatten();
        self.mock.set_topic(TopicChange {
            token: self.token(FIRST),
            chat_id,
            topic,
            name: None,
            state: Some(state.to_owned()),
        })?;
        Ok(())
    }

    fn inject(&mut self, line: &Line) -> Result<()> {
        let update: Value = serde_json::from_str(&self.filled(&line.more.join("\n"))).context("an update is JSON")?;
        self.mock.inject(&self.token(FIRST), update)?;
        Ok(())
    }

    /// A message of an earlier life, with buttons whose data the story knows: `[Stop=stop_run]`, or `[Stop=story/Stop]`
    /// for what another message's button carries.
    async fn once_said(&mut self, bot: &str, who: &str, text: &str, line: &Line) -> Result<()> {
        let (chat, _) = person(who)?;
        let token = self.token(bot);
        let mut rows = Vec::new();
        for row in &line.rows {
            let mut buttons = Vec::new();
            for button in row {
                let (label, data) = button.split_once('=').context("[label=data]")?;
                let data = match data.split_once('/') {
                    Some((message, button)) => self.data_of(&self.labelled(message)?, button).await?,
                    None => data.to_owned(),
                };
                buttons.push(InlineKeyboardButton::new(label, data));
            }
            rows.push(buttons);
        }
        let client = Client::new(ClientConfig {
            base_url: self.mock.base_url().to_owned(),
            token: Token::new(token.clone()),
            timeout: PATIENCE,
        })?;
        let mut message = SendMessage::new(chat, plain(text));
        message.reply_markup = Some(InlineKeyboardMarkup { inline_keyboard: rows });
        let sent = client.send_message(&message).await?;
        let at = (token, chat, sent.message_id);
        let pattern = Pattern::new(text);
        self.told.insert(at.clone(), Expected { pattern, rows: Vec::new(), left: false });
        self.newest = Some(at);
        Ok(())
    }

    // What the bots are seen to do.

    async fn shows(&mut self, head: &str, text: &str, line: &Line) -> Result<()> {
        let head = Head::read(head)?;
        let bot = match head.who.as_str() {
            "bot" if self.here.0.is_empty() => FIRST.to_owned(),
            "bot" => self.here.0.clone(),
            id => id.to_owned(),
        };
        let token = self.token(&bot);
        let (chat, topic) = match (&head.group, &head.to) {
            (Some(name), _) => self.place(name)?,
            (None, Some(who)) => (person(who)?.0, None),
            (None, None) => (self.here.1, None),
        };
        for n in 1..=head.times {
            let text = self.filled(&text.replace("{i}", &n.to_string()));
            let pattern = Pattern::new(&text);
            let look = async || {
                let mut bound = self.bound.clone();
                let mut untold =
                    self.shown(&token, chat).into_iter().filter(|shown| !self.is_told(&token, chat, shown));
                let fits = |shown: &Shown, bound: &mut Bound| {
                    pattern.fits(&shown.text, bound)
                        && rows_fit(&line.rows, &shown.rows)
                        && topic.is_none_or(|topic| topic == shown.thread)
                };
                let found = if head.has("anywhere") {
                    untold.find(|shown| fits(shown, &mut bound))
                } else {
                    untold.next().filter(|shown| fits(shown, &mut bound))
                };
                found.map(|shown| (shown.number, bound))
            };
            let (number, bound) = self.until(|| "the next message is another one".to_owned(), look).await?;
            self.bound = bound;
            let at = (token.clone(), chat, number);
            self.told.insert(at.clone(), Expected { pattern, rows: line.rows.clone(), left: false });
            if let Some(label) = &head.label {
                self.labels.insert(label.clone(), at.clone());
            }
            self.newest = Some(at);
        }
        Ok(())
    }

    /// A message that was told of says something else now.
    async fn becomes(&mut self, head: &str, text: &str, line: &Line) -> Result<()> {
        let (label, left) = match head.strip_suffix(" is left as") {
            Some(label) => (label, true),
            None => (head, false),
        };
        let at = match label {
            "bot" => self.newest.clone().context("no message was told of")?,
            label => self.labelled(label)?,
        };
        let pattern = Pattern::new(&self.filled(text));
        let look = async || {
            let shown = self.shown(&at.0, at.1).into_iter().find(|shown| shown.number == at.2)?;
            let mut bound = self.bound.clone();
            (pattern.fits(&shown.text, &mut bound) && rows_fit(&line.rows, &shown.rows)).then_some(bound)
        };
        self.bound = self.until(|| "the message says something else".to_owned(), look).await?;
        self.told.insert(at, Expected { pattern, rows: line.rows.clone(), left });
        Ok(())
    }

    async fn toast(&mut self, text: &str) -> Result<()> {
        let (token, id) = self.pressed.clone().context("nobody has pressed anything")?;
        let answer = async || {
            let rows = self.mock.messages(&Timeline { token: token.clone(), chat_id: None, limit: 1000 }).ok()?;
            let answers = rows["callback_answers"].as_array()?;
            let answer =
                answers.iter().find(|answer| answer["id"] == id.as_str() && !answer["answered_at"].is_null())?;
            answer["text"].as_str().map(str::to_owned)
        };
        let said = self.until(|| "the press was not answered".to_owned(), answer).await?;
        ensure!(Pattern::new(text).fits(&said, &mut self.bound), "the press was answered by: {said}");
        Ok(())
    }

    /// The messages of the chat, put together, hold every line of a range once and in order.
    async fn together(&self, range: &str) -> Result<()> {
        let (token, chat) = (self.token(&self.here.0), self.here.1);
        let all: String = self.shown(&token, chat).iter().map(|shown| format!("{}\n", shown.text)).collect();
        let found: Vec<&str> = all.lines().filter(|line| line.starts_with("This is line ")).collect();
        let wanted = spelled(range)?;
        ensure!(found == wanted.lines().collect::<Vec<_>>(), "they say {} lines", found.len());
        Ok(())
    }

    async fn last_brief(&mut self, expected: &str, part: impl Fn(&salon_core::Brief) -> String) -> Result<()> {
        let expected = if expected == "nothing" { "" } else { expected };
        let pattern = Pattern::new(&self.filled(expected));
        let desk = self.desk.clone();
        let part = &part;
        let told = || desk.last_heard().map(|brief| part(&brief)).unwrap_or_default();
        let look = async || {
            let mut bound = self.bound.clone();
            pattern.fits(&told(), &mut bound).then_some(bound)
        };
        self.bound = self.until(|| format!("it was: {}", told()), look).await?;
        Ok(())
    }

    async fn turns(&self, whose: &str, wanted: &str) -> Result<()> {
        let store = &self.house()?.salon.store;
        let count = async || {
            let counts = store.read().await.ok()?.count_turns().await.ok()?;
            let words =
                counts.iter().filter(|(bot, ..)| bot == whose).map(|(_, state, count)| format!("{count} {state}"));
            let mut words: Vec<_> = words.collect();
            words.sort();
            Some(words)
        };
        let mut expected: Vec<_> = wanted.split(", ").filter(|word| *word != "none").map(str::to_owned).collect();
        expected.sort();
        let seen = Mutex::new(Vec::new());
        let look = async || {
            let found = count().await?;
            let right = found == expected;
            *seen.lock().expect("a list") = found;
            right.then_some(())
        };
        self.until(|| format!("they are: {}", seen.lock().expect("a list").join(", ")), look).await
    }

    // Waiting and looking.

    /// Every update has been taken, and what it asked for has begun.
    async fn all_read(&self) -> Result<()> {
        let tokens: Vec<String> = self.bots.iter().map(|id| self.token(id)).collect();
        let look = async || {
            // In this order: what is not with Telegram any more is a job by now.
            let taken = tokens.iter().all(|token| self.mock.undelivered(token) == 0);
            (taken && self.open_jobs(|kind| kind == salon::KIND_UPDATE).await? == 0).then_some(())
        };
        self.until(|| "updates wait".to_owned(), look).await
    }

    /// What was sent last has been taken up at least once, be it beside the rest of its chat.
    async fn newest_heard(&self) -> Result<()> {
        let token = self.token(&self.here.0);
        let lane = format!("control:{}:{}", self.here.0, self.here.1);
        let store = &self.house()?.salon.store;
        let look = async || {
            let taken = self.mock.undelivered(&token) == 0;
            let waiting = store.read().await.ok()?.find_open(&lane, salon::KIND_UPDATE).await.ok()?;
            (taken && waiting.is_none_or(|job| job.ticket.epoch > 0)).then_some(())
        };
        self.until(|| "it was not taken up".to_owned(), look).await
    }

    /// Nothing is left to do.
    async fn all_quiet(&self) -> Result<()> {
        self.all_read().await?;
        let look = async || (self.open_jobs(|kind| kind != salon_bots::poll::KIND).await? == 0).then_some(());
        self.until(|| "there are open jobs".to_owned(), look).await
    }

    async fn open_jobs(&self, kind: impl Fn(&str) -> bool) -> Option<i64> {
        let counts = self.house().ok()?.salon.store.read().await.ok()?.count_jobs().await.ok()?;
        let open = counts.iter().filter(|job| matches!(job.state.as_str(), "queued" | "running") && kind(&job.kind));
        Some(open.map(|job| job.count).sum())
    }

    /// After the last line: nothing is open, nothing was said that the story does not know, and all of it is final.
    async fn look_around(&mut self) -> Result<()> {
        self.open().await?;
        self.all_quiet().await?;
        self.desk.check()?;
        for id in self.bots.clone() {
            let token = self.token(&id);
            for chat in self.chats(&token) {
                for shown in self.shown(&token, chat) {
                    let at = (token.clone(), chat, shown.number);
                    let expected = self.told.get(&at).cloned();
                    let expected = expected
                        .with_context(|| format!("the story does not tell of {id}'s message: {}", shown.text))?;
                    let fits = expected.pattern.fits(&shown.text, &mut self.bound);
                    ensure!(fits, "{id} said {:?} and now says {:?}", expected.pattern.text, shown.text);
                    ensure!(rows_fit(&expected.rows, &shown.rows), "{:?} has other buttons now", shown.text);
                    ensure!(expected.left || shown.text != PLACEHOLDER, "a placeholder of {id} was left");
                }
                ensure!(self.drafts(&token, chat) == 0, "a draft of {id} was left");
            }
        }
        let verdict = self.mock.verify(&Verify::default())?;
        ensure!(verdict.violations.is_empty(), "Telegram complains: {:?}", verdict.violations);
        ensure!(
            verdict.unanswered_callbacks.is_empty(),
            "presses were not answered: {:?}",
            verdict.unanswered_callbacks
        );
        let counts = self.house()?.salon.store.read().await?.count_jobs().await?;
        let dead: i64 = counts.iter().filter(|job| job.state == "dead").map(|job| job.count).sum();
        ensure!(dead == self.dead_letters, "{dead} dead letters, and the story tells of {}", self.dead_letters);
        Ok(())
    }

    /// Waits until `look` finds something. What went wrong is said by `why_not`.
    async fn until<T>(&self, why_not: impl Fn() -> String, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        let mut news = self.mock.watch();
        let found = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                // The chats tell us when they change; databases and engines do not.
                tokio::select! {
                    heard = news.recv() => if let Err(RecvError::Closed) = heard { std::future::pending().await },
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.map_err(|_| anyhow!("{}", why_not()))
    }

    fn is_told(&self, token: &str, chat: i64, shown: &Shown) -> bool {
        self.told.contains_key(&(token.to_owned(), chat, shown.number))
    }

    fn labelled(&self, label: &str) -> Result<At> {
        self.labels.get(label).cloned().with_context(|| format!("no message is called {label}"))
    }

    fn rows(&self, token: &str, chat: i64) -> Vec<Value> {
        let rows = self.mock.messages(&Timeline::of(token, chat)).expect("a timeline");
        rows["messages"].as_array().cloned().unwrap_or_default()
    }

    fn shown(&self, token: &str, chat: i64) -> Vec<Shown> {
        let of_the_bot = |row: &&Value| row["direction"] == "bot" && row["is_draft"] == false;
        let mut shown: Vec<_> = self.rows(token, chat).iter().filter(of_the_bot).map(shown).collect();
        shown.sort_by_key(|shown| shown.number);
        shown
    }

    fn drafts(&self, token: &str, chat: i64) -> usize {
        self.rows(token, chat).iter().filter(|row| row["is_draft"] == true).count()
    }

    fn chats(&self, token: &str) -> Vec<i64> {
        self.mock.threads(Some(token)).iter().filter_map(|thread| thread["chat_id"].as_i64()).collect()
    }

    /// Everything that can be seen, for whoever looks for a mistake.
    fn picture(&self) -> String {
        let mut text = String::new();
        for id in &self.bots {
            let token = self.token(id);
            for chat in self.chats(&token) {
                let _ = writeln!(text, "\n--- {id}, chat {chat}");
                for row in self.rows(&token, chat) {
                    let draft = if row["is_draft"] == true { " (draft)" } else { "" };
                    let who = row["direction"].as_str().unwrap_or_default();
                    let said = row["text"].as_str().unwrap_or_default().replace('\n', "\n      | ");
                    let _ = writeln!(text, "  {:>3} {who}{draft}: {said}", row["message_id"]);
                    for row in &shown(&row).rows {
                        let labels: Vec<_> = row.iter().map(|(label, _)| format!("[{label}]")).collect();
                        let _ = writeln!(text, "      {}", labels.join(" "));
                    }
                }
            }
        }
        let calls = self.mock.ledger(&Calls::default());
        let refused = calls["calls"].as_array().into_iter().flatten().filter(|call| call["status"] != 200);
        for call in refused {
            let _ = writeln!(text, "  Telegram: {} {} {}", call["method"], call["status"], call["error"]);
        }
        text
    }
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

fn shown(row: &Value) -> Shown {
    let keyboard = row["reply_markup"]["inline_keyboard"].as_array().cloned().unwrap_or_default();
    let field = |button: &Value, name: &str| button[name].as_str().unwrap_or_default().to_owned();
    let buttons = |row: &Value| {
        let buttons = row.as_array().into_iter().flatten();
        buttons.map(|button| (field(button, "text"), field(button, "callback_data"))).collect()
    };
    Shown {
        number: row["message_id"].as_i64().unwrap_or(0),
        text: field(row, "text"),
        rows: keyboard.iter().map(buttons).collect(),
        thread: row["message_thread_id"].as_i64(),
    }
}

/// Rows that the story does not tell of may be any; `[no buttons]` are none.
fn rows_fit(expected: &[Vec<String>], shown: &[Vec<(String, String)>]) -> bool {
    let labels: Vec<Vec<&String>> = shown.iter().map(|row| row.iter().map(|(label, _)| label).collect()).collect();
    match expected {
        [] => true,
        [row] if row == &["no buttons"] => shown.is_empty(),
        rows => rows.iter().map(|row| row.iter().collect::<Vec<_>>()).eq(labels),
    }
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
