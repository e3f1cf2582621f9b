//! The roster: which bots there are, read from `config/bots.yaml` or from the environment.
//!
//! The file's shape is the bridge's, and so are the rules by which a token is found. What differs on purpose: secrets
//! that anyone could guess are refused, and a bot without owner or allow-list answers nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use salon::agents::{Hosts, Policy};
use salon_core::{BotId, View};
use salon_telegram::Token;
use serde::Deserialize;
use thiserror::Error;

pub const OFFICIAL_API: &str = "https://api.telegram.org";

/// What the environment adds to the file.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `TELEGRAM_BOT_TOKEN`
    pub token: Option<String>,
    /// `TELEGRAM_VIRTUAL_TOKEN`: what a local mock takes when there is no token.
    pub virtual_token: String,
    /// `TELEGRAM_OWNER_USER_ID`
    pub owner: Option<i64>,
    /// `TELEGRAM_API_BASE_URL`
    pub api_base: String,
    pub bot_id: Option<String>,
    pub bot_name: Option<String>,
    pub public_url: Option<String>,
    pub path_secret: Option<String>,
    pub secret_token: Option<String>,
    /// The engine of a bot that names none.
    pub engine: String,
    /// Agents that do what they want without asking. No bot that wants to be asked has one of them.
    pub silent: BTreeSet<String>,
    /// Whether a bot that says nothing of who may use it is for everyone: the demo's mock has no strangers.
    pub open: bool,
}

/// Who may use a bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Nobody,
    People(BTreeSet<i64>),
    Everyone,
}

impl Access {
    pub fn allows(&self, user: i64) -> bool {
        match self {
            Access::Nobody => false,
            Access::People(people) => people.contains(&user),
            Access::Everyone => true,
        }
    }
}

/// How updates come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    Polling,
    /// Telegram posts to `{public_url}/telegram/webhook/{bot}/{path_secret}`.
    Webhook {
        public_url: String,
    },
    /// Nothing comes in; what waits is still answered.
    Off,
}

/// One bot as it is configured.
#[derive(Clone, PartialEq, Eq)]
pub struct BotConfig {
    pub id: BotId,
    pub name: String,
    pub token: Token,
    pub owner: Option<i64>,
    pub access: Access,
    /// Whether it is for everybody who linked their Telegram with an account here, too.
    pub linked: bool,
    pub engine: String,
    /// The panel at which it is a voice.
    pub seat: Option<Seat>,
    /// Whether the list names that engine, and it is not merely what there is for bots that name none.
    pub named: bool,
    pub view: View,
    pub intake: Intake,
    /// Both or none: without them the webhook's route does not exist for this bot.
    pub secrets: Option<Secrets>,
    pub api_base: String,
    /// Whether streams in private chats use `sendMessageDraft`.
    pub drafts: bool,
    /// Whether Telegram's limits are kept by waiting. A local server has none.
    pub paced: bool,
    /// Whether what is said while an agent works is told to it, where it can be told.
    pub steer: bool,
    /// Hosts that its runs may reach besides, whichever agent makes them.
    pub hosts: Hosts,
    /// What its runs may do, whichever agent makes them. `None` is what the agent may do otherwise.
    pub policy: Option<Policy>,
}

/// A place at a panel whose voices are bots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub panel: String,
    /// A voice's name, or what it is there for.
    pub voice: String,
    /// The other bots of the same panel, with their voices.
    pub others: Vec<(BotId, String)>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    pub path: String,
    pub header: String,
}

impl BotConfig {
    /// Whether the API is a mock on this machine.
    pub fn is_local(&self) -> bool {
        is_local(&self.api_base)
    }
}

#[derive(Debug, Error)]
pub enum RosterError {
    #[error("{path} cannot be read: {error}")]
    Unreadable { path: String, error: std::io::Error },
    #[error("{path} cannot be understood: {error}")]
    Malformed { path: String, error: String },
    #[error("bot {bot}: {problem}")]
    Bot { bot: String, problem: String },
    #[error("two bots are called {0}")]
    SameId(String),
    #[error("the bots {0} and {1} have the same token")]
    SameToken(String, String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    bots: Vec<Item>,
}

#[derive(Default, Deserialize)]
struct Item {
    bot_id: Option<String>,
    name: Option<String>,
    mode: Option<String>,
    #[serde(default)]
    telegram_token: Option<String>,
    owner_user_id: Option<i64>,
    #[serde(default)]
    allow: Allow,
    linked: Option<bool>,
    adapter: Option<String>,
    panel: Option<String>,
    voice: Option<String>,
    view: Option<String>,
    #[serde(default)]
    webhook: WebhookItem,
    telegram_api_base_url: Option<String>,
    #[serde(default)]
    drafts: bool,
    paced: Option<bool>,
    steer: Option<bool>,
    #[serde(default)]
    hosts: Vec<String>,
    policy: Option<String>,
    /// What the bridge's lists may hold and we do not need, and what was misspelt.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// Fields of the bridge's lists that mean nothing here yet, or no longer.
const KNOWN: [&str; 5] = ["codex", "gemini", "claude", "database_url", "default_role"];

#[derive(Default, Deserialize)]
struct WebhookItem {
    path_secret: Option<String>,
    secret_token: Option<String>,
    public_url: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Allow {
    #[default]
    Nothing,
    Word(String),
    People(Vec<i64>),
}

/// Reads the roster. A missing file means the one bot that the environment describes, if it describes one.
pub fn read(path: &Path, around: &Surroundings) -> Result<Vec<BotConfig>, RosterError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(RosterError::Unreadable { path: path.display().to_string(), error }),
    };
    parse(&text, around).map_err(|error| match error {
        RosterError::Malformed { error, .. } => RosterError::Malformed { path: path.display().to_string(), error },
        other => other,
    })
}

pub fn parse(text: &str, around: &Surroundings) -> Result<Vec<BotConfig>, RosterError> {
    let malformed = |error: String| RosterError::Malformed { path: "the list of bots".to_owned(), error };
    let file: Option<File> = if text.trim().is_empty() {
        None
    } else {
        serde_saphyr::from_str(text).map_err(|error| malformed(first_line(&error.to_string())))?
    };
    let mut items = file.map_or_else(Vec::new, |file| file.bots);
    if items.is_empty() && around.token.is_some() {
        let webhook = WebhookItem {
            path_secret: around.path_secret.clone(),
            secret_token: around.secret_token.clone(),
            public_url: around.public_url.clone(),
        };
        items.push(Item { bot_id: around.bot_id.clone(), name: around.bot_name.clone(), webhook, ..Item::default() });
    }
    let mut bots: Vec<_> =
        items.into_iter().enumerate().map(|(at, item)| bot(at + 1, item, around)).collect::<Result<_, _>>()?;
    for (at, one) in bots.iter().enumerate() {
        for other in &bots[..at] {
            if one.id == other.id {
                return Err(RosterError::SameId(one.id.to_string()));
            }
            if one.token.expose() == other.token.expose() && one.api_base == other.api_base {
                return Err(RosterError::SameToken(other.id.to_string(), one.id.to_string()));
            }
        }
    }
    let seats: Vec<_> = bots.iter().map(|bot| (bot.id.clone(), bot.seat.clone())).collect();
    for bot in &mut bots {
        let Some(seat) = &mut bot.seat else { continue };
        let others = seats.iter().filter_map(|(id, other)| Some((id, other.as_ref()?)));
        let others = others.filter(|(id, other)| **id != bot.id && other.panel == seat.panel);
        seat.others = others.map(|(id, other)| (id.clone(), other.voice.clone())).collect();
    }
    Ok(bots)
}

fn bot(number: usize, item: Item, around: &Surroundings) -> Result<BotConfig, RosterError> {
    let id = given(item.bot_id).unwrap_or_else(|| format!("bot-{number}"));
    let wrong = |problem: &str| RosterError::Bot { bot: id.clone(), problem: problem.to_owned() };
    if !BotId::is_valid(&id) {
        return Err(wrong("an id has letters, digits, '-', '_' and '.', at most 64 of them"));
    }
    if let Some(field) = item.rest.keys().find(|field| !KNOWN.contains(&field.as_str())) {
        return Err(wrong(&format!("there is no field {field}")));
    }
    let api_base = given(item.telegram_api_base_url).unwrap_or_else(|| around.api_base.clone());
    let api_base = api_base.trim_end_matches('/').to_owned();
    if !api_base.starts_with("http://") && !api_base.starts_with("https://") {
        return Err(wrong("telegram_api_base_url starts with http:// or https://"));
    }
    let local = is_local(&api_base);
    let token = match given(item.telegram_token) {
        Some(token) if token != "TELEGRAM_BOT_TOKEN" => token,
        _ => match &around.token {
            Some(token) => token.clone(),
            None if local => around.virtual_token.clone(),
            None => return Err(wrong("telegram_token is empty and TELEGRAM_BOT_TOKEN is not set")),
        },
    };
    let mut intake = match item.mode.as_deref() {
        // How the bridge ran its processes; one process serves all bots here.
        None | Some("embedded" | "gateway" | "polling" | "webhook") => Intake::Polling,
        Some("off") => Intake::Off,
        Some(_) => return Err(wrong("mode is polling, webhook or off (embedded and gateway are read as polling)")),
    };
    let public_url = given(item.webhook.public_url);
    let path = given(item.webhook.path_secret);
    let header = given(item.webhook.secret_token);
    let secrets = match (path, header) {
        (Some(path), Some(header)) => {
            check_secret(&id, "path_secret", &path).map_err(|problem| wrong(&problem))?;
            check_secret(&id, "secret_token", &header).map_err(|problem| wrong(&problem))?;
            Some(Secrets { path, header })
        }
        (None, None) if public_url.is_none() => None,
        _ => return Err(wrong("a webhook needs both path_secret and secret_token")),
    };
    if let (Some(url), Intake::Polling) = (public_url, &intake) {
        if !url.starts_with("https://") && !is_local(&url) {
            return Err(wrong("public_url starts with https://"));
        }
        intake = Intake::Webhook { public_url: url.trim_end_matches('/').to_owned() };
    }
    let owner = item.owner_user_id.or(around.owner);
    let access = match item.allow {
        Allow::Word(word) if word == "everyone" => Access::Everyone,
        Allow::Word(_) => return Err(wrong("allow is a list of user ids, or the word everyone")),
        Allow::People(people) => Access::People(people.into_iter().chain(owner).collect()),
        Allow::Nothing if around.open && owner.is_none() => Access::Everyone,
        Allow::Nothing => owner.map_or(Access::Nobody, |owner| Access::People([owner].into())),
    };
    let hosts = Hosts::parse(&item.hosts).map_err(|error| wrong(&format!("hosts: {error}")))?;
    let policy = given(item.policy).map(|word| Policy::parse(&word).ok_or(word)).transpose();
    let policy = policy.map_err(|word| wrong(&format!("policy is ask, read-only or workspace, not {word}")))?;
    let seat = match (given(item.panel), given(item.voice)) {
        (None, None) => None,
        (Some(panel), Some(voice)) if salon_core::panel::is_name(&panel) => {
            Some(Seat { panel, voice, others: Vec::new() })
        }
        (Some(_), Some(_)) => return Err(wrong("a panel's name has letters, digits, '-' and '_'")),
        _ => return Err(wrong("a voice of a panel needs both panel and voice")),
    };
    let own = seat.as_ref().map(|seat| format!("panel:{}", seat.panel));
    let view = match item.view.as_deref() {
        None => View::default(),
        Some(word) => View::parse(word).ok_or_else(|| wrong("view is answer or events"))?,
    };
    let adapter = given(item.adapter).or(own);
    let engine = adapter.as_ref().unwrap_or(&around.engine);
    if policy == Some(Policy::Ask) && around.silent.contains(engine) {
        return Err(wrong(&format!("its policy is ask, and {engine} cannot ask before it acts; say another policy")));
    }
    Ok(BotConfig {
        name: given(item.name).unwrap_or_else(|| format!("Bot {number}")),
        token: Token::new(token),
        owner,
        access,
        linked: item.linked.unwrap_or(true),
        named: adapter.is_some(),
        engine: adapter.unwrap_or_else(|| around.engine.clone()),
        seat,
        view,
        intake,
        secrets,
        drafts: item.drafts,
        paced: item.paced.unwrap_or(!local),
        steer: item.steer.unwrap_or(true),
        hosts,
        policy,
        api_base,
        id: BotId::new(id),
    })
}

/// Secrets that stand in examples, or that are made of the bot's name, prove nothing.
fn check_secret(bot: &str, name: &str, secret: &str) -> Result<(), String> {
    let guessable = [format!("{bot}-path"), format!("{bot}-secret")];
    if guessable.iter().any(|guess| guess == secret) || secret.contains("change-me") || secret.contains("example") {
        return Err(format!("webhook.{name} can be guessed; make one by `salon bot add`"));
    }
    if secret.len() < 32 || secret.len() > 256 {
        return Err(format!("webhook.{name} must have 32 to 256 characters"));
    }
    if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(format!("webhook.{name} may hold letters, digits, '-' and '_' only"));
    }
    Ok(())
}

/// An empty value counts as none.
fn given(value: Option<String>) -> Option<String> {
    value.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn is_local(url: &str) -> bool {
    url.starts_with("http://127.0.0.1") || url.starts_with("http://localhost")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            virtual_token: "mock_token_1".into(),
            api_base: OFFICIAL_API.into(),
            engine: "storyteller".into(),
            ..Surroundings::default()
        }
    }

    fn only(text: &str, around: &Surroundings) -> BotConfig {
        let mut bots = parse(text, around).expect("a roster");
        assert_eq!(bots.len(), 1);
        bots.remove(0)
    }

    fn problem(text: &str) -> String {
        parse(text, &around()).map(|_| ()).expect_err("a broken roster").to_string()
    }

    const SECRET: &str = "abcdefghijklmnopqrstuvwxyz0123456789";

    #[test]
    fn an_empty_token_is_the_environments_and_a_mock_needs_none() {
        let mut around = around();
        let mock = "bots: [{telegram_token: '', telegram_api_base_url: 'http://127.0.0.1:9082'}]";
        assert_eq!(only(mock, &around).token.expose(), "mock_token_1");
        assert_eq!(
            problem("bots: [{telegram_token: ''}]"),
            "bot bot-1: telegram_token is empty and TELEGRAM_BOT_TOKEN is not set"
        );
        around.token = Some("1:real".into());
        assert_eq!(only("bots: [{telegram_token: TELEGRAM_BOT_TOKEN}]", &around).token.expose(), "1:real");
        assert_eq!(only("", &around).id.as_str(), "bot-1");
    }

    #[test]
    fn without_owner_or_list_nobody_may_use_a_bot() {
        let nobody = only("bots: [{telegram_token: '1:a'}]", &around());
        assert!(!nobody.access.allows(1));
        let owned = only("bots: [{telegram_token: '1:a', owner_user_id: 7}]", &around());
        assert!(owned.access.allows(7) && !owned.access.allows(8));
        let listed = only("bots: [{telegram_token: '1:a', owner_user_id: 7, allow: [8]}]", &around());
        assert!(listed.access.allows(7) && listed.access.allows(8) && !listed.access.allows(9));
        let open = only("bots: [{telegram_token: '1:a', allow: everyone}]", &around());
        assert!(open.access.allows(9));
    }

    #[test]
    fn secrets_that_can_be_guessed_are_refused() {
        let hook = |path: &str| {
            format!("bots: [{{telegram_token: '1:a', webhook: {{path_secret: {path}, secret_token: {SECRET}}}}}]")
        };
        assert!(problem(&hook("bot-1-path")).contains("can be guessed"));
        assert!(problem(&hook("short")).contains("32 to 256"));
        assert!(only(&hook(SECRET), &around()).secrets.is_some());
        let url = "bots: [{telegram_token: '1:a', webhook: {public_url: 'https://salon.test'}}]";
        assert!(problem(url).contains("both path_secret and secret_token"));
    }

    #[test]
    fn a_misspelt_field_is_not_passed_over() {
        assert_eq!(
            problem("bots: [{telegram_token: '1:a', owner_userid: 7}]"),
            "bot bot-1: there is no field owner_userid"
        );
        only("bots: [{telegram_token: '1:a', codex: {model: gpt-5, sandbox: read-only}}]", &around());
    }

    #[test]
    fn hosts_are_names_with_a_port_or_without() {
        let listed = only("bots: [{telegram_token: '1:a', hosts: [packages.example.org, '10.0.0.5:8443']}]", &around());
        assert!(!listed.hosts.is_empty() && only("bots: [{telegram_token: '1:a'}]", &around()).hosts.is_empty());
        assert_eq!(
            problem("bots: [{telegram_token: '1:a', hosts: ['https://packages.example.org']}]"),
            "bot bot-1: hosts: https://packages.example.org is no host, such as packages.example.org or 10.0.0.5:8443"
        );
    }

    #[test]
    fn a_policy_is_a_word_and_an_agent_that_cannot_ask_is_not_taken_where_it_must() {
        let policy = |word: &str| format!("bots: [{{telegram_token: '1:a', adapter: mine, policy: {word}}}]");
        assert_eq!(only(&policy("read-only"), &around()).policy, Some(Policy::ReadOnly));
        assert_eq!(only("bots: [{telegram_token: '1:a'}]", &around()).policy, None);
        for wrong in ["full", "Ask", "yolo"] {
            let why = format!("bot bot-1: policy is ask, read-only or workspace, not {wrong}");
            assert_eq!(problem(&policy(wrong)), why);
        }
        let silent = Surroundings { silent: ["mine".to_owned()].into(), ..around() };
        let refused = parse(&policy("ask"), &silent).map(|_| ()).expect_err("it cannot ask");
        assert_eq!(
            refused.to_string(),
            "bot bot-1: its policy is ask, and mine cannot ask before it acts; say another policy"
        );
        assert_eq!(only(&policy("workspace"), &silent).policy, Some(Policy::Workspace));
        assert_eq!(only(&policy("ask"), &around()).policy, Some(Policy::Ask));
    }

    #[test]
    fn twins_are_refused() {
        assert_eq!(
            problem("bots: [{bot_id: a, telegram_token: '1:a'}, {bot_id: a, telegram_token: '1:b'}]"),
            "two bots are called a"
        );
        assert_eq!(
            problem("bots: [{bot_id: a, telegram_token: '1:a'}, {bot_id: b, telegram_token: '1:a'}]"),
            "the bots a and b have the same token"
        );
    }

    #[test]
    fn voices_of_one_panel_know_each_other() {
        let item = |id: &str, more: &str| format!("  - {{bot_id: {id}, telegram_token: \"1:{id}\", {more}}}\n");
        let text = format!(
            "bots:\n{}{}{}{}",
            item("ann", "panel: law, voice: Jurist"),
            item("ben", "panel: law, voice: critic, adapter: parrot"),
            item("eve", "panel: art, voice: Painter"),
            item("dan", "adapter: parrot"),
        );
        let bots = parse(&text, &around()).expect("a roster");
        let seat = |at: usize| bots[at].seat.clone().map(|seat| seat.others);
        assert_eq!(seat(0), Some(vec![(BotId::new("ben"), "critic".to_owned())]));
        assert_eq!(seat(1), Some(vec![(BotId::new("ann"), "Jurist".to_owned())]));
        assert_eq!((seat(2), seat(3)), (Some(Vec::new()), None));
        assert_eq!((bots[0].engine.as_str(), bots[1].engine.as_str()), ("panel:law", "parrot"));
        assert!(problem("bots: [{bot_id: a, telegram_token: t, panel: law}]").contains("both panel and voice"));
        assert!(problem("bots: [{bot_id: a, telegram_token: t, panel: a b, voice: c}]").contains("panel's name"));
    }

    #[test]
    fn a_public_url_means_a_webhook() {
        let text = format!(
            "bots: [{{telegram_token: '1:a', webhook: {{public_url: 'https://salon.test/', path_secret: {SECRET}, \
             secret_token: {SECRET}}}}}]"
        );
        let intake = only(&text, &around()).intake;
        assert_eq!(intake, Intake::Webhook { public_url: "https://salon.test".into() });
    }
}
