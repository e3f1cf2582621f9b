//! Configuration: the file, the environment, the command line. This is the one place that reads the environment.
//!
//! What the command line says wins over the environment, the environment over `.env`, and that over `salon.toml`.
//! Names that the five older systems used are read where they mean one thing only; `salon doctor` says which.

mod agents;
mod panels;
mod sessions;
mod sign_on;
pub(crate) mod upstreams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use salon::access::jwt::{Jwks, JwksSource, Jwt};
use salon::catalog::{ModelSpec, Sources, Spec, UpstreamSpec};
use salon::engines::Choice;
use salon::kms::Kms;
use salon::logins::oidc::Provider;
use salon::panels::PanelSpec;
use salon::relay::RelaySettings;
use salon::sessions::SessionSettings;
use salon_bots::Surroundings;
use salon_bots::roster::OFFICIAL_API;
use salon_core::BotId;
use salon_core::panel::Panel;
use salon_engine::Secret;
use salon_store::Place;
use salon_web::HouseSettings;
use serde::Deserialize;

use crate::master::MasterSource;

pub use agents::{AcpConfig, AgentConfig, WorkspacesConfig};

pub const CONFIG_FILE: &str = "salon.toml";
const LISTEN: &str = "127.0.0.1:8080";

/// Everything that is set, before anything is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where files live: the SQLite database, the process's lasting name.
    pub data: PathBuf,
    pub place: Place,
    pub listen: SocketAddr,
    pub roles: Roles,
    pub bots_file: PathBuf,
    pub around: Surroundings,
    /// Serve this bot alone.
    pub only: Option<BotId>,
    pub engines: Vec<EngineConfig>,
    pub agents: Vec<AgentConfig>,
    pub workspaces: WorkspacesConfig,
    pub panels: Vec<Panel>,
    pub settings: salon::Settings,
    /// Answers that may be written at once.
    pub runs: usize,
    pub metrics_token: Option<String>,
    /// Where the master keys are; in a file beside the data if nothing says otherwise.
    pub master: MasterSource,
    /// Whose tokens are believed beside our own keys.
    pub jwt: JwtConfig,
    pub youtube_search: String,
    pub youtube_fallback: String,
    pub messenger: Option<String>,
    /// Upstreams, models and prices.
    pub sources: Sources,
    pub relay: RelaySettings,
    pub sessions: SessionSettings,
    /// Whether programs of this machine may call without a key.
    pub anonymous: bool,
    /// Where the LLM server's own routes are, if they are anywhere.
    pub llm_listen: Option<SocketAddr>,
    /// Whose pages may read our answers.
    pub origins: Vec<String>,
    /// How the pages behave.
    pub house: HouseSettings,
    /// Where people may sign on.
    pub providers: Vec<Provider>,
    /// What the command line said, so that the rest can be read again.
    pub flags: Flags,
    pub log: Log,
    /// Old names that were read, with what they stand for here.
    pub old_names: Vec<(&'static str, &'static str)>,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    pub http: bool,
    pub work: bool,
    pub poll: bool,
}

impl Roles {
    pub const ALL: Roles = Roles { http: true, work: true, poll: true };

    pub fn parse(text: &str) -> Result<Roles> {
        let mut roles = Roles { http: false, work: false, poll: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "http" => roles.http = true,
                "work" => roles.work = true,
                "poll" => roles.poll = true,
                other => bail!("there is no role {other}; the roles are http, work and poll"),
            }
        }
        ensure!(roles.http || roles.work || roles.poll, "name at least one role: http, work, poll");
        Ok(roles)
    }
}

/// A sister backend, as far as we have to know it.
#[derive(Clone, Debug, Default)]
pub struct JwtConfig {
    pub secret: Option<Secret>,
    pub jwks: Option<JwksSource>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
}

impl JwtConfig {
    /// Makes ready to believe the sister's tokens; `None` if there is no sister.
    pub async fn open(&self, clock: &salon::Clock) -> Result<Option<Jwt>> {
        if self.secret.is_none() && self.jwks.is_none() {
            return Ok(None);
        }
        let mut jwt = Jwt::default().for_parties(self.issuer.clone(), self.audience.clone());
        if let Some(secret) = &self.secret {
            jwt = jwt.with_secret(secret)?;
        }
        if let Some(source) = &self.jwks {
            jwt = jwt.with_jwks(Jwks::open(source.clone(), clock).await?);
        }
        Ok(Some(jwt))
    }
}

/// The engine that answers where nobody chose another one.
pub const MODEL: &str = salon::engines::USUAL_MODEL;

/// A model of the catalog that answers under a name.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub name: String,
    /// Where its server is described.
    pub upstream: Option<String>,
    pub choice: Choice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    Text,
    Json,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub form: LogForm,
    /// In `tracing`'s filter language.
    pub filter: String,
}

/// What the command line may say about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub database_url: Option<String>,
    pub listen: Option<SocketAddr>,
    pub bots: Option<PathBuf>,
    pub roles: Option<String>,
    pub only: Option<String>,
}

/// `salon.toml`. Unknown words are errors: a setting that does nothing would be believed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    data: Option<PathBuf>,
    database_url: Option<String>,
    listen: Option<String>,
    metrics_token: Option<String>,
    log: FileLog,
    telegram: FileTelegram,
    engines: BTreeMap<String, FileEngine>,
    upstreams: BTreeMap<String, UpstreamSpec>,
    models: BTreeMap<String, ModelSpec>,
    agents: BTreeMap<String, agents::FileAgent>,
    workspaces: agents::FileWorkspaces,
    panels: BTreeMap<String, PanelSpec>,
    relay: upstreams::FileRelay,
    sessions: sessions::FileSessions,
    llm_server: sessions::FileLlmServer,
    house: FileHouse,
    oidc: BTreeMap<String, sign_on::FileProvider>,
    cors_origins: Option<Vec<String>>,
    anonymous: Option<bool>,
    answers: FileAnswers,
    jobs: FileJobs,
    youtube: FileYoutube,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileLog {
    format: Option<String>,
    filter: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileTelegram {
    bots: Option<PathBuf>,
    api_base_url: Option<String>,
    default_engine: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FileEngine {
    /// A server of its own; without one, `model` is a name of the catalog.
    base_url: Option<String>,
    /// The *name* of the environment variable that holds the key.
    api_key_env: Option<String>,
    model: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileAnswers {
    instruction: Option<String>,
    context_messages: Option<usize>,
    at_once: Option<usize>,
    deadline_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileJobs {
    lease_ms: Option<u64>,
    poll_ms: Option<u64>,
    attempts: Option<i64>,
    longest_backoff_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileHouse {
    public_url: Option<String>,
    secure_cookies: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileYoutube {
    search_url: Option<String>,
    fallback_url: Option<String>,
}

impl Config {
    pub fn read(flags: &Flags) -> Result<Config> {
        Config::from(flags, &mut Env::of_process())
    }

    fn from(flags: &Flags, env: &mut Env) -> Result<Config> {
        let file = read_file(flags.config.clone().or_else(|| env.path("SALON_CONFIG")))?;
        let data = flags.data.clone().or_else(|| env.path("SALON_DATA")).or(file.data).unwrap_or("data".into());
        let url = flags.database_url.clone().or_else(|| env.text("DATABASE_URL")).or(file.database_url);
        let place = place(&data, url)?;
        let house = house(env, file.house)?;
        let settings = settings(env, file.answers.instruction.clone(), &file.answers, &file.jobs)?;
        let settings = salon::Settings { public_url: house.public_url.clone(), ..settings };
        let agents = agents::agents(env, file.agents)?;
        let around = Surroundings {
            token: env.text("TELEGRAM_BOT_TOKEN"),
            virtual_token: env.text("TELEGRAM_VIRTUAL_TOKEN").unwrap_or_else(|| "mock_token_1".to_owned()),
            owner: env.number("TELEGRAM_OWNER_USER_ID")?,
            api_base: env
                .text("TELEGRAM_API_BASE_URL")
                .or(file.telegram.api_base_url)
                .unwrap_or_else(|| OFFICIAL_API.to_owned()),
            bot_id: env.text("TELEGRAM_BOT_ID"),
            bot_name: env.text("TELEGRAM_BOT_NAME"),
            public_url: env.text("TELEGRAM_WEBHOOK_PUBLIC_URL"),
            path_secret: env.text("TELEGRAM_WEBHOOK_PATH_SECRET"),
            secret_token: env.text("TELEGRAM_WEBHOOK_SECRET_TOKEN"),
            engine: file.telegram.default_engine.unwrap_or_else(|| "model".to_owned()),
            silent: agents.iter().filter(|agent| agent.is_silent()).map(|agent| agent.name.clone()).collect(),
            open: false,
        };
        let mut written = Spec { upstreams: file.upstreams, models: file.models };
        let mut engines = Vec::new();
        for (name, engine) in file.engines {
            ensure!(BotId::is_valid(&name), "[engines.{name}]: a name has letters, digits, '-', '_' and '.'");
            engines.push(upstreams::engine(&name, engine, env, &mut written)?);
        }
        let sources = upstreams::sources(env, written, &file.relay)?;
        if !engines.iter().any(|engine| engine.name == MODEL) {
            engines.extend(upstreams::usual_engine(env, &sources.file));
        }
        Ok(Config {
            place,
            listen: listen(flags, env, file.listen)?,
            roles: flags.roles.as_deref().map_or(Ok(Roles::ALL), Roles::parse)?,
            bots_file: flags
                .bots
                .clone()
                .or_else(|| env.path("SALON_BOTS"))
                .or(file.telegram.bots)
                .unwrap_or("config/bots.yaml".into()),
            around,
            only: flags.only.clone().map(BotId::new),
            engines,
            agents,
            workspaces: agents::workspaces(env, &data, file.workspaces)?,
            panels: panels::panels(file.panels)?,
            settings,
            runs: env.number("RUN_WORKER_CONCURRENCY")?.or(file.answers.at_once).unwrap_or(16),
            metrics_token: env.text("METRICS_TOKEN").or(file.metrics_token),
            master: master(env, &data)?,
            jwt: jwt(env)?,
            youtube_search: env
                .text("YOUTUBE_SEARCH_URL")
                .or(file.youtube.search_url)
                .unwrap_or_else(|| "https://www.youtube.com".to_owned()),
            youtube_fallback: env
                .text("YOUTUBE_FALLBACK_URL")
                .or(file.youtube.fallback_url)
                .unwrap_or_else(|| "https://html.duckduckgo.com".to_owned()),
            messenger: None,
            sources,
            relay: upstreams::relay(env, &file.relay)?,
            sessions: sessions::settings(env, &file.sessions, &file.llm_server)?,
            anonymous: env.flag("SALON_ANONYMOUS")?.or(file.anonymous).unwrap_or(false),
            llm_listen: sessions::llm_listen(env, &file.llm_server)?,
            origins: sessions::origins(env, file.cors_origins)?,
            house,
            providers: sign_on::providers(env, file.oidc)?,
            flags: flags.clone(),
            log: log(env, &file.log)?,
            old_names: env.old_names.clone(),
            data,
        })
    }
}

fn house(env: &mut Env, file: FileHouse) -> Result<HouseSettings> {
    let url = env.text("SALON_PUBLIC_URL").or(file.public_url).or_else(|| env.old("BASE_URL", "SALON_PUBLIC_URL"));
    let public_url = url.map(|url| url.trim_end_matches('/').to_owned());
    if let Some(url) = &public_url {
        let web = url.starts_with("https://") || url.starts_with("http://");
        ensure!(web, "SALON_PUBLIC_URL is an address such as https://salon.example.com, not {url}");
    }
    let secure = env.flag("SALON_SECURE_COOKIES")?.or(file.secure_cookies).unwrap_or(true);
    Ok(HouseSettings { secure_cookies: secure, public_url })
}

fn read_file(named: Option<PathBuf>) -> Result<File> {
    let path = named.clone().unwrap_or_else(|| CONFIG_FILE.into());
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{} cannot be understood", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(File::default()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn place(data: &Path, url: Option<String>) -> Result<Place> {
    let Some(url) = url else { return Ok(Place::Folder(data.to_owned())) };
    // The bridge's Python driver stood in the scheme.
    let url = url.replacen("postgresql+asyncpg://", "postgresql://", 1);
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Place::Postgres(url));
    }
    bail!("DATABASE_URL is a postgres:// address; for SQLite leave it out and name a folder with --data")
}

fn listen(flags: &Flags, env: &mut Env, file: Option<String>) -> Result<SocketAddr> {
    if let Some(listen) = flags.listen {
        return Ok(listen);
    }
    let old = match (env.old("HOST", "SALON_LISTEN"), env.old("PORT", "SALON_LISTEN")) {
        (None, None) => None,
        (host, port) => Some(format!("{}:{}", host.unwrap_or("127.0.0.1".into()), port.unwrap_or("8080".into()))),
    };
    let text = env.text("SALON_LISTEN").or(file).or(old).unwrap_or_else(|| LISTEN.to_owned());
    text.parse().with_context(|| format!("{text} is no address to listen on, such as {LISTEN}"))
}

fn settings(
    env: &mut Env,
    instruction: Option<String>,
    answers: &FileAnswers,
    jobs: &FileJobs,
) -> Result<salon::Settings> {
    let usual = salon::Settings::default();
    let lease_ms = env.number("JOB_LEASE_MS")?.or(jobs.lease_ms);
    let poll_ms = env.number("WORKER_POLL_INTERVAL_MS")?.or(jobs.poll_ms);
    ensure!(lease_ms.is_none_or(|ms| ms >= 1000), "JOB_LEASE_MS must be at least 1000");
    ensure!(poll_ms.is_none_or(|ms| ms >= 50), "WORKER_POLL_INTERVAL_MS must be at least 50");
    let mut window = usual.window;
    window.messages = env.number("MAX_CONTEXT_MESSAGES")?.or(answers.context_messages).unwrap_or(window.messages);
    Ok(salon::Settings {
        lease: lease_ms.map_or(usual.lease, Duration::from_millis),
        poll_interval: poll_ms.map_or(usual.poll_interval, Duration::from_millis),
        attempts: jobs.attempts.unwrap_or(usual.attempts).clamp(1, 100),
        longest_backoff: jobs.longest_backoff_s.map_or(usual.longest_backoff, Duration::from_secs),
        run_deadline: answers.deadline_s.map_or(usual.run_deadline, Duration::from_secs),
        drain: usual.drain,
        window,
        instruction: instruction.unwrap_or_default(),
        public_url: usual.public_url,
    })
}

/// Where the master keys are. Several places would leave it to chance which one counts.
fn master(env: &Env, data: &Path) -> Result<MasterSource> {
    let given = env.text("MASTER_KEY").map(|key| MasterSource::Given(Secret::new(key)));
    let file = env.path("MASTER_KEY_FILE").map(|path| MasterSource::File { path, make: false });
    let wrapped = kms(env)?.map(MasterSource::Kms);
    let mut places = [given, file, wrapped].into_iter().flatten();
    let first = places.next();
    ensure!(places.next().is_none(), "set one of MASTER_KEY, MASTER_KEY_FILE and MASTER_KEY_KMS_CIPHERTEXT");
    Ok(first.unwrap_or_else(|| MasterSource::File { path: data.join("master.key"), make: true }))
}

/// How a sister backend's tokens are proven. An algorithm without its key would turn everybody away.
fn jwt(env: &Env) -> Result<JwtConfig> {
    let mut secret = env.text("JWT_SECRET_KEY").map(Secret::new);
    let file = env.path("JWT_JWKS_FILE").map(JwksSource::File);
    let url = match env.text("JWT_JWKS_URL") {
        Some(text) => Some(JwksSource::Url(text.parse().context("JWT_JWKS_URL is no address")?)),
        None => None,
    };
    ensure!(file.is_none() || url.is_none(), "set one of JWT_JWKS_FILE and JWT_JWKS_URL");
    let mut jwks = file.or(url);
    match env.text("JWT_ALGORITHM").as_deref() {
        None => {}
        // The sample of the older system sets the algorithm and no key; then no tokens are believed.
        Some("HS256") => jwks = None,
        Some("RS256") => {
            ensure!(jwks.is_some() || secret.is_none(), "JWT_ALGORITHM=RS256 needs JWT_JWKS_FILE or JWT_JWKS_URL");
            secret = None;
        }
        Some(other) => bail!("JWT_ALGORITHM is HS256 or RS256, not {other}"),
    }
    Ok(JwtConfig { secret, jwks, issuer: env.text("JWT_ISSUER"), audience: env.text("JWT_AUDIENCE") })
}

fn kms(env: &Env) -> Result<Option<Kms>> {
    let Some(ciphertext) = env.text("MASTER_KEY_KMS_CIPHERTEXT") else { return Ok(None) };
    let needed = |name| env.text(name).with_context(|| format!("MASTER_KEY_KMS_CIPHERTEXT needs {name}"));
    Ok(Some(Kms {
        ciphertext,
        region: env
            .text("MASTER_KEY_KMS_REGION")
            .or_else(|| env.text("AWS_REGION"))
            .or_else(|| env.text("AWS_DEFAULT_REGION"))
            .context("MASTER_KEY_KMS_CIPHERTEXT needs MASTER_KEY_KMS_REGION")?,
        endpoint: env.text("MASTER_KEY_KMS_ENDPOINT"),
        access_key_id: needed("AWS_ACCESS_KEY_ID")?,
        secret_access_key: needed("AWS_SECRET_ACCESS_KEY").map(Secret::new)?,
        session_token: env.text("AWS_SESSION_TOKEN").map(Secret::new),
    }))
}

/// Where the agents' programs are: named by the environment, or on the path.
fn log(env: &mut Env, file: &FileLog) -> Result<Log> {
    let form = match env.text("LOG_FORMAT").or(file.format.clone()).as_deref() {
        None | Some("text") => LogForm::Text,
        Some("json") => LogForm::Json,
        Some(other) => bail!("LOG_FORMAT is text or json, not {other}"),
    };
    let level = env.text("LOG_LEVEL").map(|level| level.to_lowercase().replace("warning", "warn"));
    let usual = if env.flag("DEBUG").ok().flatten() == Some(true) { "debug,sqlx=warn" } else { "info,sqlx=warn" };
    let filter = env.text("RUST_LOG").or(level).or(file.filter.clone()).unwrap_or_else(|| usual.to_owned());
    Ok(Log { form, filter })
}

/// The environment and the `.env` file of the working folder. Empty values count as unset.
pub struct Env {
    values: BTreeMap<String, String>,
    old_names: Vec<(&'static str, &'static str)>,
}

impl Env {
    fn of_process() -> Env {
        let mut values = BTreeMap::new();
        // Read without setting anything: changing the environment of a running process is not safe.
        if let Ok(file) = dotenvy::from_path_iter(".env") {
            values.extend(file.flatten());
        }
        let readable =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        values.extend(readable);
        Env { values, old_names: Vec::new() }
    }

    /// A variable whose name another setting says.
    fn any(&self, name: &str) -> Option<String> {
        self.values.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Option<String> {
        self.any(name)
    }

    /// A variable by a name that is only kept for those who used it before.
    fn old(&mut self, name: &'static str, today: &'static str) -> Option<String> {
        let value = self.any(name)?;
        self.old_names.push((name, today));
        Some(value)
    }

    fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.any(name).map(PathBuf::from)
    }

    fn flag(&self, name: &'static str) -> Result<Option<bool>> {
        match self.any(name).map(|text| text.to_lowercase()).as_deref() {
            None => Ok(None),
            Some("1" | "true" | "yes" | "on") => Ok(Some(true)),
            Some("0" | "false" | "no" | "off") => Ok(Some(false)),
            Some(_) => bail!("{name} is true or false"),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>> {
        let Some(text) = self.any(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{name} must be a number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[(&str, &str)]) -> Result<Config> {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::from(&Flags::default(), &mut Env { values, old_names: Vec::new() })
    }

    #[test]
    fn the_bridges_database_address_is_understood() {
        let read = config(&[("DATABASE_URL", "postgresql+asyncpg://tg:tg@localhost/x")]).expect("a configuration");
        assert_eq!(read.place, Place::Postgres("postgresql://tg:tg@localhost/x".into()));
        assert!(config(&[("DATABASE_URL", "mysql://x")]).is_err());
    }

    #[test]
    fn a_model_comes_from_the_names_its_clients_use() {
        let choice = |values: &[(&str, &str)]| {
            let engines = config(values).expect("a configuration").engines;
            engines.into_iter().next().map(|engine| engine.choice)
        };
        let named = |name: &str| Some(Choice::Named(name.to_owned()));
        let first_of = |upstream: &str| Some(Choice::FirstOf(upstream.to_owned()));
        assert_eq!(choice(&[]), None);
        assert_eq!(choice(&[("OPENAI_API_KEY", "k")]), named("openai:gpt-6-luna"));
        assert_eq!(choice(&[("OPENAI_API_KEY", "k"), ("OPENAI_MODEL", "gpt-4o")]), named("openai:gpt-4o"));
        assert_eq!(choice(&[("OPENAI_API_KEY", "k"), ("DEFAULT_MODEL", "openai:gpt-4o")]), named("openai:gpt-4o"));
        assert_eq!(choice(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://h:2/v1")]), first_of("openai"));
        assert_eq!(choice(&[("LLM_SERVER_URL", "http://h:1/")]), first_of("llm"));
        assert_eq!(choice(&[("LLM_SERVER_URL", "http://h:1/"), ("OPENAI_API_KEY", "k")]), first_of("llm"));
        assert_eq!(choice(&[("LLM_SERVER_URL", "http://h:1/"), ("OPENAI_MODEL", "qwen")]), named("llm:qwen"));
        assert_eq!(choice(&[("ANTHROPIC_API_KEY", "k")]), named("anthropic:claude-haiku-4-5"));
        assert_eq!(choice(&[("OLLAMA_HOST", "gpu")]), first_of("ollama"));
    }

    #[test]
    fn old_names_are_noticed() {
        let read = config(&[("PORT", "9000")]).expect("a configuration");
        assert_eq!(read.listen.port(), 9000);
        assert_eq!(read.old_names, [("PORT", "SALON_LISTEN")]);
    }

    #[test]
    fn the_names_of_the_chat_backend_are_understood() {
        let read = config(&[
            ("SESSION_TIMEOUT_HOURS", "2"),
            ("MAX_CONTEXT_MESSAGES", "6"),
            ("DEFAULT_MAX_TOKENS", "300"),
            ("DEFAULT_TEMPERATURE", "0.5"),
            ("CORS_ORIGINS", "https://a.example, http://localhost:3000/"),
            ("DEBUG", "true"),
        ])
        .expect("a configuration");
        assert_eq!(read.sessions.timeout, Some(Duration::from_secs(7_200)));
        assert_eq!(read.settings.window.messages, 6);
        assert_eq!((read.sessions.wishes.max_output, read.sessions.wishes.temperature), (Some(300), Some(0.5)));
        assert_eq!(read.origins, ["https://a.example", "http://localhost:3000"]);
        assert!(read.log.filter.starts_with("debug"));
        let lasting = config(&[("SESSION_TIMEOUT_HOURS", "0")]).expect("a configuration");
        assert_eq!(lasting.sessions.timeout, None);
        let json = config(&[("CORS_ORIGINS", "[\"https://a.example\"]")]).expect("a configuration");
        assert_eq!(json.origins, ["https://a.example"]);
        for wrong in ["*", "https://*.example", "a.example", "https://a.example/path", "null"] {
            assert!(config(&[("CORS_ORIGINS", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_hold() {
        assert!(config(&[("JOB_LEASE_MS", "10")]).is_err());
        assert!(config(&[("TELEGRAM_OWNER_USER_ID", "me")]).is_err());
    }

    #[test]
    fn roles_have_names() {
        assert_eq!(Roles::parse("http, work").expect("roles"), Roles { http: true, work: true, poll: false });
        assert!(Roles::parse("cook").is_err());
        assert!(Roles::parse("").is_err());
    }
}
