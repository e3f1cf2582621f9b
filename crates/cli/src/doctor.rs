//! `salon doctor`: looks at everything that can be wrong before it is, and says how to mend it.

mod agents;

use std::time::Duration;

use anyhow::Result;
use salon::Clock;
use salon::catalog::Catalog;
use salon::engines::Choice;
use salon::relay::Cache;
use salon_bots::roster::{self, Access, Intake};
use salon_engine::outbound::Outbound;
use salon_store::{Error, Place, Store};
use salon_telegram::{Class, Client, ClientConfig};

use crate::config::{Config, EngineConfig};
use crate::house;

/// Looks, prints a line for each thing, and answers whether all is well. `closely` starts the agents.
pub async fn doctor(config: &Config, closely: bool) -> Result<bool> {
    let mut sheet = Sheet::default();
    for (old, new) in &config.old_names {
        sheet.note(&format!("{old} was read; its name here is {new}"));
    }
    disk(config, &mut sheet);
    database(config, &mut sheet).await;
    port(config, &mut sheet).await;
    clock(config, &mut sheet).await;
    redis(config, &mut sheet).await;
    bots(config, &mut sheet).await;
    let catalog = Catalog::of(Clock::default(), Outbound::new(), config.sources.clone());
    for engine in &config.engines {
        model(engine, &catalog, &mut sheet).await;
    }
    if config.engines.is_empty() {
        sheet.note("no model is configured: set OPENAI_API_KEY or LLM_SERVER_URL, or [engines.NAME] in salon.toml");
    }
    agents::agents(config, closely, &mut sheet).await;
    println!();
    match sheet.problems {
        0 => println!("All is well."),
        1 => println!("One thing to mend."),
        problems => println!("{problems} things to mend."),
    }
    Ok(sheet.problems == 0)
}

#[derive(Default)]
struct Sheet {
    problems: usize,
}

impl Sheet {
    fn good(&self, text: &str) {
        println!("  ok    {text}");
    }

    fn note(&self, text: &str) {
        println!("  note  {text}");
    }

    fn bad(&mut self, text: &str, mend: &str) {
        self.problems += 1;
        println!("  BAD   {text}");
        println!("        -> {mend}");
    }
}

fn disk(config: &Config, sheet: &mut Sheet) {
    if house::make_private_folder(&config.data).is_err() {
        sheet.bad(
            &format!("the data folder {} cannot be made", config.data.display()),
            "name another with --data, or give this user the right to write there",
        );
        return;
    }
    match house::disk(&config.data) {
        Some(disk) if disk.has_room() => sheet.good(&format!("{} MiB are free for data", disk.free >> 20)),
        Some(disk) => sheet.bad(
            &format!("only {} MiB are free for data", disk.free >> 20),
            "make room: Salon wants 256 MiB and a twentieth of the disk",
        ),
        None => sheet.note("the free room on the disk cannot be read"),
    }
}

async fn database(config: &Config, sheet: &mut Sheet) {
    let name = match &config.place {
        Place::Folder(folder) => format!("SQLite in {}", folder.display()),
        Place::Postgres(_) => "PostgreSQL".to_owned(),
    };
    let store = match Store::open(&config.place, "doctor").await {
        Ok(store) => store,
        Err(Error::Unavailable(why)) if matches!(config.place, Place::Folder(_)) => {
            sheet.note(&format!("{name}: {why}"));
            return;
        }
        Err(error @ Error::NewerSchema { .. }) => {
            sheet.bad(&format!("{name}: {error}"), "install the newer Salon, or restore an older copy of the data");
            return;
        }
        Err(error) => {
            sheet.bad(&format!("{name}: {error:#}"), "check the address, the password and that the server is running");
            return;
        }
    };
    match store.schema_version().await {
        Ok(version) => sheet.good(&format!("{name}, schema version {version}")),
        Err(error) => sheet.bad(&format!("{name}: {error:#}"), "run `salon migrate`"),
    }
    match store.check().await {
        Ok(problems) if problems.is_empty() => sheet.good("the data is consistent"),
        Ok(problems) => {
            for problem in problems {
                sheet.bad(&problem, "keep a copy of the data and report this");
            }
        }
        Err(error) => sheet.bad(&format!("the data cannot be checked: {error:#}"), "see the log"),
    }
    if let Ok(Some(theirs)) = store.clock_ms().await {
        let apart = (salon::Clock::default().now().0 - theirs).abs();
        if apart > 2_000 {
            sheet.bad(
                &format!("this clock and the database's are {apart} ms apart"),
                "let both machines take their time from the network (NTP)",
            );
        } else {
            sheet.good("this clock and the database's agree");
        }
    }
    store.close().await;
}

/// Where answers lie that are given again, if not in memory.
async fn redis(config: &Config, sheet: &mut Sheet) {
    let Some(address) = &config.relay.cache.redis else { return };
    match Cache::probe(address, &config.relay.cache).await {
        Ok(()) => sheet.good("Redis is there, and quick enough"),
        Err(why) => sheet.bad(
            &format!("Redis: {why}"),
            "check REDIS_URL and that the server is running; without it the relay works, and gives no answer again",
        ),
    }
}

async fn port(config: &Config, sheet: &mut Sheet) {
    match tokio::net::TcpListener::bind(config.listen).await {
        Ok(_) => sheet.good(&format!("{} is free to listen on", config.listen)),
        Err(_) => {
            sheet.note(&format!("{} is taken; fine if that is Salon itself, otherwise see --listen", config.listen))
        }
    }
}

/// Compares this machine's clock with the one of the Bot API's server, which every answer of its carries.
async fn clock(config: &Config, sheet: &mut Sheet) {
    let asked = async {
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .ok()?;
        let answer = client.get(&config.around.api_base).send().await.ok()?;
        let date = answer.headers().get(reqwest::header::DATE)?.to_str().ok()?;
        let date = httpdate::parse_http_date(date).ok()?;
        let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    };
    let Some(theirs) = asked.await else {
        sheet.note("the clock cannot be compared: the Bot API's server does not answer");
        return;
    };
    // The header counts whole seconds, and the answer took a while.
    let apart_s = (salon::Clock::default().wall().0 - theirs).abs() / 1000;
    if apart_s > 5 {
        sheet.bad(
            &format!("this clock and the Bot API's are {apart_s} s apart"),
            "let the machine take its time from the network (NTP)",
        );
    } else {
        sheet.good("this clock and the Bot API's agree");
    }
}

async fn bots(config: &Config, sheet: &mut Sheet) {
    let bots = match roster::read(&config.bots_file, &config.around) {
        Ok(bots) => bots,
        Err(error) => {
            sheet.bad(&error.to_string(), "mend the list of bots; config/bots.example.yaml shows its form");
            return;
        }
    };
    if bots.is_empty() {
        sheet.note("there is no bot yet: salon bot add NAME --token TOKEN --owner YOUR_ID");
    }
    for bot in bots {
        let client = Client::new(ClientConfig {
            base_url: bot.api_base.clone(),
            token: bot.token.clone(),
            timeout: Duration::from_secs(10),
        });
        match client {
            Ok(client) => match client.get_me().await {
                Ok(me) => {
                    sheet.good(&format!("bot {}: Telegram knows it as @{}", bot.id, me.username.unwrap_or_default()))
                }
                Err(error) => {
                    let mend = match error.class() {
                        Class::Unauthorized => "ask @BotFather for the token again and put it into the list of bots",
                        _ => "check the network, and TELEGRAM_API_BASE_URL if it is set",
                    };
                    sheet.bad(&format!("bot {}: {error}", bot.id), mend);
                }
            },
            Err(error) => sheet.bad(&format!("bot {}: {error:#}", bot.id), "check telegram_api_base_url"),
        }
        if bot.access == Access::Nobody {
            sheet.bad(
                &format!("bot {}: nobody may use it", bot.id),
                "set owner_user_id or allow; @userinfobot tells you your id",
            );
        }
        if bot.access == Access::Everyone && !bot.is_local() {
            sheet.note(&format!("bot {}: everyone may use it, at your cost", bot.id));
        }
        if let Intake::Webhook { public_url } = &bot.intake
            && !bot.is_local()
            && !public_url.starts_with("https://")
        {
            sheet.bad(&format!("bot {}: Telegram posts to https addresses only", bot.id), "change webhook.public_url");
        }
    }
}

/// Whether an engine's server is there and has the model that is meant.
async fn model(engine: &EngineConfig, catalog: &Catalog, sheet: &mut Sheet) {
    let name = &engine.name;
    let Some(upstream) = &engine.upstream else {
        match &engine.choice {
            Choice::Named(model) if !catalog.snapshot().knows(model) => sheet
                .bad(&format!("engine {name}: there is no model {model}"), "`salon model list` shows what there is"),
            _ => sheet.good(&format!("engine {name}: a model of the catalog")),
        }
        return;
    };
    catalog.decide().await;
    match (catalog.check(upstream).await, &engine.choice) {
        (None, _) => {
            let why = catalog.snapshot().problems.iter().find(|problem| problem.contains(upstream.as_str())).cloned();
            let why = why.unwrap_or_else(|| format!("there is no upstream {upstream}"));
            sheet.bad(&format!("engine {name}: {why}"), "its base_url is an http:// or https:// address");
        }
        (Some(Ok(models)), Choice::Named(model))
            if !models.is_empty() && !models.iter().any(|known| model.ends_with(&format!(":{known}"))) =>
        {
            let model = model.split_once(':').map_or(model.as_str(), |(_, model)| model);
            sheet.bad(&format!("engine {name}: its server has no model {model}"), "choose one that it lists");
        }
        (Some(Ok(models)), _) => {
            sheet.good(&format!("engine {name}: its server lists {} models", models.len()));
        }
        (Some(Err(fault)), _) => sheet.bad(&format!("engine {name}: {fault}"), "check its address and key"),
    }
}
