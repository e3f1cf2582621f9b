//! The fleet: the bots as they are running now, kept in step with the roster.
//!
//! Once a second the file is looked at, and what it says is made so: a new bot is introduced to Telegram and its poller
//! queued, a removed one is let go, a changed one is both. A file that cannot be read changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use salon::agents::{Agent, OfBot, Policy};
use salon::arrive::Rejected;
use salon::engines::Answers;
use salon::{Configured, Salon};
use salon_core::{BotId, Lang};
use salon_store::{NewJob, StoredReply, failpoint};
use salon_telegram::types::{BotCommand, SetWebhook};
use salon_telegram::{CallError, Class, Client, ClientConfig, Moment, Pacer};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::roster::{self, BotConfig, Intake, Surroundings};

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(400);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// Commands that Telegram takes of one bot.
const MOST_COMMANDS: usize = 100;
/// Characters of a text that describe its command.
const DESCRIPTION: usize = 60;

/// A bot at work.
pub struct Bot {
    pub config: BotConfig,
    pub client: Client,
    pub pacer: Pacer,
    /// Cancelled when the roster no longer has this bot as it is here.
    pub gone: CancellationToken,
    status: Mutex<Status>,
    /// Which chat was refused for its pace last, and when.
    refused: Mutex<Option<(i64, Instant)>>,
}

/// How a bot is doing, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The name that Telegram knows, without `@`; known once the bot was introduced.
    pub username: Option<String>,
    pub receiving: bool,
    /// The last thing that went wrong, if nothing went right since.
    pub error: Option<String>,
}

impl Bot {
    fn new(config: BotConfig) -> anyhow::Result<Bot> {
        let client = client(&config)?;
        let pacer = if config.paced { Pacer::new() } else { Pacer::unlimited() };
        Ok(Bot {
            config,
            client,
            pacer,
            gone: CancellationToken::new(),
            status: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    pub fn id(&self) -> &BotId {
        &self.config.id
    }

    /// What an agent may do for this bot.
    pub fn policy(&self, agent: &Agent) -> Policy {
        self.config.policy.unwrap_or(agent.policy)
    }

    /// Whether an engine may answer for this bot: not an agent that cannot ask where it must.
    pub fn suits(&self, engine: &Configured) -> bool {
        match &engine.answers {
            Answers::Agent(agent) => agent.keeps(self.policy(agent)),
            _ => true,
        }
    }

    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn well(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.error = None;
        status.receiving = true;
    }

    /// Keeps the pause that Telegram asked for. When a second chat is refused within a second, it is the bot that is too
    /// fast, and every chat waits: each would only run into a refusal of its own.
    pub fn pause(&self, chat: i64, pause: Duration) {
        self.pacer.pause_chat(chat, pause);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_some_and(|(other, at)| other != chat && at.elapsed() < Duration::from_secs(1)) {
            self.pacer.pause_bot(pause);
        }
        *refused = Some((chat, Instant::now()));
    }

    /// Updates do not come in.
    pub fn unwell(&self, error: &CallError) {
        self.unreachable(error);
        self.status.lock().unwrap_or_else(PoisonError::into_inner).receiving = false;
    }

    /// A call did not get through, or Telegram did not want it.
    pub fn unreachable(&self, error: &CallError) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let error = error.to_string();
        if status.error.as_ref() != Some(&error) {
            tracing::warn!(bot.name = %self.config.id, error, "Telegram cannot be reached");
        }
        status.error = Some(error);
    }

    /// A call got through.
    pub fn reached(&self) {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).error = None;
    }

    /// The lane of its poller: one for each token, whatever the bot is called.
    pub fn poll_lane(&self) -> String {
        format!("poll:{}", self.config.token.fingerprint())
    }
}

/// Speaks to Telegram as this bot. The tests let a debug build die around whatever it calls.
pub fn client(config: &BotConfig) -> anyhow::Result<Client> {
    let client = Client::new(ClientConfig {
        base_url: config.api_base.clone(),
        token: config.token.clone(),
        timeout: CALL_TIMEOUT,
    })?;
    Ok(client.watched(|method, moment| failpoint::pass_call(method, moment == Moment::After)))
}

pub struct Fleet {
    salon: Arc<Salon>,
    source: Source,
    bots: RwLock<Vec<Arc<Bot>>>,
}

fn admit(bot: Option<Arc<Bot>>, path: &str, header: Option<&str>) -> Result<BotId, Rejected> {
    let secrets = bot.as_ref().and_then(|bot| bot.config.secrets.clone());
    let (known_path, known_header) = secrets.map_or_else(Default::default, |known| (known.path, known.header));
    // Hashes are compared, so the time says nothing about how much of a guess was right.
    let same = |known: &str, shown: &str| Sha256::digest(known) == Sha256::digest(shown);
    let path_right = same(&known_path, path) & !known_path.is_empty();
    let header_right = same(&known_header, header.unwrap_or_default()) & !known_header.is_empty();
    match (bot, path_right, header_right) {
        (None, _, _) => Err(Rejected::UnknownBot),
        (Some(bot), false, _) => Err(Rejected::WrongPath(bot.id().clone())),
        (Some(bot), true, false) => Err(Rejected::WrongHeader(bot.id().clone())),
        (Some(bot), true, true) => Ok(bot.id().clone()),
    }
}

/// Where the roster comes from.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: PathBuf,
    pub around: Surroundings,
    /// Serve this bot alone.
    pub only: Option<BotId>,
    /// Whether this process takes updates in; otherwise it only answers.
    pub intake: bool,
}

impl Fleet {
    /// Reads the roster once; a broken one is an error at the start.
    pub fn new(salon: Arc<Salon>, source: Source) -> anyhow::Result<Arc<Fleet>> {
        let bots = source.read()?.into_iter().map(|config| Bot::new(config).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Fleet { salon, source, bots: RwLock::new(bots) }))
    }

    pub fn all(&self) -> Vec<Arc<Bot>> {
        self.bots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn find(&self, id: &BotId) -> Option<Arc<Bot>> {
        self.all().into_iter().find(|bot| bot.id() == id)
    }

    /// Whether a webhook call for `bot` shows the right secrets; every mistake takes the same work.
    pub fn admit(&self, bot: &str, path: &str, header: Option<&str>) -> Result<BotId, Rejected> {
        let found = self.all().into_iter().find(|candidate| candidate.id().as_str() == bot);
        admit(found, path, header)
    }

    /// The same for the first bot, on the short route.
    pub fn admit_default(&self, path: &str, header: Option<&str>) -> Result<BotId, Rejected> {
        admit(self.all().into_iter().next(), path, header)
    }

    /// Keeps the bots as the roster wants them until `closing`.
    pub async fn supervise(self: Arc<Self>, closing: CancellationToken) {
        // Before the bots are introduced, so that no change falls between the two.
        let mut menus = None;
        self.tell_menus(&mut menus).await;
        for bot in self.all() {
            self.begin(&bot);
        }
        let mut watch = Watch::new(self.source.stamp());
        self.call_the_roll().await;
        loop {
            self.queue_pollers().await;
            self.tell_menus(&mut menus).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = closing.cancelled() => return,
            }
            if watch.is_due(self.source.stamp()) {
                self.reload();
                self.call_the_roll().await;
            }
        }
    }

    /// Tells Telegram the commands anew when those of the team's own have changed. What was told is forgotten with the
    /// process: each bot is told its commands when it is introduced, too.
    async fn tell_menus(&self, told: &mut Option<i64>) {
        if !self.source.intake {
            return;
        }
        let revision = async { self.salon.store.read().await?.replies_revision().await };
        let Ok(revision) = revision.await else { return };
        if told.replace(revision).is_none_or(|before| before == revision) {
            return;
        }
        for bot in self.all().into_iter().filter(|bot| bot.config.intake != Intake::Off) {
            tokio::spawn(tell_menu_until_heard(self.salon.clone(), bot));
        }
    }

    /// Tells the audit what became of the list. Whoever serves one bot alone does not know the others.
    async fn call_the_roll(&self) {
        if !self.source.intake || self.source.only.is_some() {
            return;
        }
        let bots = self.all();
        if let Err(error) = crate::roll::call(&self.salon, bots.iter().map(|bot| &bot.config)).await {
            tracing::warn!(%error, "what became of the list of bots could not be written down");
        }
    }

    /// Looks at the roster now.
    pub fn reload(&self) {
        match self.source.read() {
            Ok(configs) if configs.is_empty() && !self.all().is_empty() && self.source.is_blank() => {
                tracing::warn!("the list of bots is missing or blank, nothing was changed");
            }
            Ok(configs) => self.become_like(configs),
            Err(error) => tracing::warn!(error = %error, "the list of bots is broken, nothing was changed"),
        }
    }

    fn become_like(&self, configs: Vec<BotConfig>) {
        let old = self.all();
        let mut new = Vec::with_capacity(configs.len());
        for config in configs {
            if let Some(same) = old.iter().find(|bot| bot.config == config) {
                new.push(same.clone());
                continue;
            }
            match Bot::new(config) {
                Ok(bot) => {
                    // The same token is the same bot at Telegram: its name need not be asked for again.
                    if let Some(before) = old.iter().find(|known| known.config.token == bot.config.token) {
                        bot.status.lock().unwrap_or_else(PoisonError::into_inner).username = before.status().username;
                    }
                    tracing::info!(bot.name = %bot.config.id, "a bot was added or changed");
                    new.push(Arc::new(bot));
                }
                Err(error) => tracing::warn!(%error, "a bot cannot be made"),
            }
        }
        for bot in old.iter().filter(|bot| !new.iter().any(|kept| Arc::ptr_eq(kept, bot))) {
            tracing::info!(bot.name = %bot.config.id, "a bot was let go or changed");
            bot.gone.cancel();
        }
        *self.bots.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
        self.tell_agents();
        for bot in new.iter().filter(|bot| !old.iter().any(|kept| Arc::ptr_eq(kept, bot))) {
            self.begin(bot);
        }
    }

    /// Says what the runs of each bot may do.
    pub fn tell_agents(&self) {
        let of = |bot: &Arc<Bot>| OfBot {
            hosts: bot.config.hosts.clone(),
            policy: bot.config.policy,
            deaf: !bot.config.steer,
        };
        if let Some(agents) = self.salon.agents.get() {
            agents.heed(self.all().iter().map(|bot| (bot.id().clone(), of(bot))).collect());
        }
    }

    fn begin(&self, bot: &Arc<Bot>) {
        let announce = self.source.intake && bot.config.intake != Intake::Off;
        tokio::spawn(introduce(self.salon.clone(), bot.clone(), announce));
    }

    /// Sees to it that every polling bot has a poller, here or in another process.
    async fn queue_pollers(&self) {
        if !self.source.intake {
            return;
        }
        for bot in self.all().into_iter().filter(|bot| bot.config.intake == Intake::Polling) {
            let job = NewJob {
                id: salon_core::JobId::new(self.salon.clock.id()),
                key: None,
                queue: salon::QUEUE_POLL,
                kind: crate::poll::KIND,
                lane: bot.poll_lane(),
                bot: Some(bot.id().clone()),
                payload: "{}".to_owned(),
                now: self.salon.clock.now(),
                room: Some(1),
            };
            let missing =
                async { Ok::<_, salon_store::Error>(self.salon.store.read().await?.count_open(&job.lane).await? == 0) };
            if !matches!(missing.await, Ok(true)) {
                continue;
            }
            if let Err(error) = self.salon.store.write(job, |tx, job| Box::pin(tx.enqueue(job))).await {
                tracing::warn!(bot.name = %bot.config.id, %error, "a poller could not be queued");
            }
        }
    }
}

impl Source {
    fn read(&self) -> Result<Vec<BotConfig>, roster::RosterError> {
        let mut bots = roster::read(&self.path, &self.around)?;
        if let Some(only) = &self.only {
            bots.retain(|bot| &bot.id == only);
        }
        Ok(bots)
    }

    /// Whether there is no file, or nothing in it; a list that is meant to be empty says so.
    fn is_blank(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|text| text.trim().is_empty()) || !self.path.exists()
    }

    fn stamp(&self) -> Stamp {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

/// What was seen of the file. A change counts once the file has kept still between two looks: a file that is being
/// written is half a list, and two saves in a row are one.
struct Watch {
    taken: Stamp,
    seen: Stamp,
}

/// Changes when the file does.
type Stamp = Option<(SystemTime, u64)>;

impl Watch {
    fn new(stamp: Stamp) -> Watch {
        Watch { taken: stamp, seen: stamp }
    }

    /// Whether what the file says now must be taken in.
    fn is_due(&mut self, now: Stamp) -> bool {
        let due = now == self.seen && now != self.taken;
        self.seen = now;
        if due {
            self.taken = now;
        }
        due
    }
}

/// Learns the bot's name, which every process needs to know when it is meant, and tells Telegram what it must know of
/// the bot if this process takes its updates in. Tries until it works or the bot is gone.
async fn introduce(salon: Arc<Salon>, bot: Arc<Bot>, announce: bool) {
    let mut pause = Duration::from_secs(1);
    loop {
        match introduce_once(&salon, &bot, announce).await {
            Ok(()) => return,
            Err(error) => {
                bot.unwell(&error);
                salon.metrics.count(bot.id().as_str(), "introduction_failed");
                if let Class::RateLimited(wait) = error.class() {
                    pause = pause.max(wait);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))) => {}
            () = bot.gone.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_BACKOFF);
    }
}

/// Tells the commands of one bot, until it works or the bot is gone.
async fn tell_menu_until_heard(salon: Arc<Salon>, bot: Arc<Bot>) {
    let mut pause = Duration::from_secs(1);
    while let Err(error) = tell_menu(&salon, &bot).await {
        bot.unreachable(&error);
        if let Class::RateLimited(wait) = error.class() {
            pause = pause.max(wait);
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))) => {}
            () = bot.gone.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_BACKOFF);
    }
}

async fn tell_menu(salon: &Salon, bot: &Bot) -> Result<(), CallError> {
    let replies = async { salon.store.read().await?.list_replies().await };
    let replies = replies.await.unwrap_or_else(|error| {
        tracing::warn!(bot.name = %bot.id(), %error, "the team's own commands cannot be read");
        Vec::new()
    });
    for lang in Lang::PEOPLE {
        let code = (lang != Lang::En).then(|| lang.tag());
        bot.client.set_my_commands(&menu(lang, bot.id(), &replies), code).await?;
    }
    Ok(())
}

async fn introduce_once(salon: &Salon, bot: &Bot, announce: bool) -> Result<(), CallError> {
    let me = bot.client.get_me().await?;
    bot.status.lock().unwrap_or_else(PoisonError::into_inner).username = me.username;
    bot.reached();
    if !announce {
        return Ok(());
    }
    tell_menu(salon, bot).await?;
    if let (Intake::Webhook { public_url }, Some(secrets)) = (&bot.config.intake, &bot.config.secrets) {
        let url = format!("{public_url}/telegram/webhook/{}/{}", bot.config.id, secrets.path);
        bot.client.set_webhook(&SetWebhook::new(url, &secrets.header)).await?;
        bot.well();
    }
    Ok(())
}

/// The commands that Telegram offers while one types: ours, and then the team's own.
fn menu(lang: Lang, bot: &BotId, replies: &[StoredReply]) -> Vec<BotCommand> {
    let names = crate::commands::NAMES;
    let ours = names.iter().map(|name| BotCommand::new(*name, lang.say(&format!("menu.{name}"), &[])));
    let mut menu: Vec<_> = ours.collect();
    let of_bot = replies.iter().filter(|reply| reply.bot.as_ref().is_none_or(|known| known == bot));
    let mut own: Vec<_> = of_bot.filter(|reply| !names.contains(&reply.name.as_str())).collect();
    // A bot's own reply takes the place of that of every bot.
    own.sort_by_key(|reply| (reply.name.as_str(), reply.bot.is_none()));
    own.dedup_by_key(|reply| reply.name.as_str());
    menu.extend(own.into_iter().map(|reply| BotCommand::new(reply.name.as_str(), described(&reply.text))));
    menu.truncate(MOST_COMMANDS);
    menu
}

/// The beginning of a text, as the description of its command.
fn described(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let shown = salon_telegram::text::markdown(line).text;
    let short: String = shown.trim().chars().take(DESCRIPTION).collect();
    if short.is_empty() { "…".to_owned() } else { short }
}

#[cfg(test)]
mod tests {
    use salon_telegram::Act;

    use super::*;

    fn bot() -> Bot {
        let around = Surroundings {
            virtual_token: "mock_token_1".to_owned(),
            api_base: "http://127.0.0.1:9".to_owned(),
            ..Surroundings::default()
        };
        let mut configs = roster::parse("bots: [{bot_id: parrot}]", &around).expect("a roster");
        Bot::new(configs.remove(0)).expect("a bot")
    }

    fn may_speak(bot: &Bot, chat: i64) -> bool {
        bot.pacer.wait(chat, Act::Send).is_zero()
    }

    #[tokio::test(start_paused = true)]
    async fn a_chat_that_is_told_to_wait_waits_alone() {
        let bot = bot();
        bot.pause(1, Duration::from_secs(30));
        assert!(!may_speak(&bot, 1));
        assert!(may_speak(&bot, 2));
        // The same chat again says nothing of the others.
        bot.pause(1, Duration::from_secs(30));
        assert!(may_speak(&bot, 2));
        // Nor does another one that is told so much later.
        tokio::time::advance(Duration::from_secs(2)).await;
        bot.pause(2, Duration::from_secs(30));
        assert!(may_speak(&bot, 3));
        tokio::time::advance(Duration::from_secs(34)).await;
        assert!(may_speak(&bot, 1) && may_speak(&bot, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn when_two_chats_are_told_to_wait_at_once_all_of_them_wait() {
        let bot = bot();
        bot.pause(1, Duration::from_secs(5));
        tokio::time::advance(Duration::from_millis(900)).await;
        bot.pause(2, Duration::from_secs(30));
        assert!(!may_speak(&bot, 3));
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(!may_speak(&bot, 3) && !may_speak(&bot, 1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(may_speak(&bot, 3) && may_speak(&bot, 1));
    }

    #[test]
    fn a_list_is_read_once_it_keeps_still() {
        let stamp = |second: u64| Some((SystemTime::UNIX_EPOCH + Duration::from_secs(second), 100));
        let mut watch = Watch::new(stamp(0));
        let mut looks = |stamps: &[Stamp]| stamps.iter().map(|now| watch.is_due(*now)).collect::<Vec<_>>();
        assert_eq!(looks(&[stamp(0), stamp(0)]), [false, false], "nothing has changed");
        // Two quick saves, and one that is in the middle of a look, are one change.
        assert_eq!(looks(&[stamp(1), stamp(2), stamp(3), stamp(3), stamp(3)]), [false, false, false, true, false]);
        // A file that is replaced may be missing for a moment.
        assert_eq!(looks(&[None, stamp(4), stamp(4), stamp(4)]), [false, false, true, false]);
        // One that stays away is a change as well, and so is its return as it was.
        assert_eq!(looks(&[None, None, None, stamp(4), stamp(4)]), [false, true, false, false, true]);
    }
}
