//! `salon demo`: everything in one process on this machine, with nothing to set up.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use salon_mock::{Mock, MockConfig};

use crate::bot::{secret, write_private};
use crate::config::Config;
use crate::house::{House, make_private_folder};
use crate::serve::Signals;

const BOTS: &[(&str, &str, &str, &str)] = &[
    ("parrot", "Parrot", "parrot", "mock_token_1"),
    ("storyteller", "Storyteller", "storyteller", "mock_token_2"),
    ("model", "Model", "model", "mock_token_3"),
];

pub async fn demo(mut config: Config, mock_listen: SocketAddr) -> Result<()> {
    let mut signals = Signals::catch()?;
    make_private_folder(&config.data)
        .with_context(|| format!("the data folder {} cannot be used", config.data.display()))?;
    config.bots_file = config.data.join("bots.yaml");
    if !config.bots_file.exists() {
        write_private(&config.bots_file, &first_list())?;
    }
    let public = format!("http://{}", config.listen);
    let mock = Mock::start(MockConfig {
        listen: mock_listen,
        bots_config: Some(config.bots_file.clone()),
        state_file: Some(config.data.join("messenger.json")),
        embedded_url: Some(public.clone()),
        ..MockConfig::default()
    })
    .await
    .context("the mock Telegram cannot be started; --mock-listen names another address")?;
    let messenger = format!("{}/_mock/ui", mock.base_url());
    // The mock's people are the only ones who can come in, and all of them may.
    config.around.api_base = mock.base_url().to_owned();
    config.around.open = true;
    config.around.owner = None;
    config.around.public_url = None;
    config.around.engine = "storyteller".to_owned();
    config.messenger = Some(messenger.clone());
    // Everything is on this machine, and so is whoever tries it.
    config.anonymous = true;
    if config.engines.is_empty() {
        config.sessions.engine = "storyteller".to_owned();
    }
    let mut house = House::open(&config).await?;
    let door = house.first_door(&config).await?;
    greet(&messenger, &public, door.as_deref(), &config);
    let asked = signals.until_asked(&mut house, &config.flags).await;
    signals.close(house).await;
    mock.shutdown().await?;
    asked
}

fn greet(messenger: &str, public: &str, door: Option<&str>, config: &Config) {
    println!();
    match config.engines.first() {
        None => println!("  Salon is open. Nothing leaves this machine but a search that you ask for."),
        Some(_) => println!("  Salon is open. What you ask the Model bot goes to its server; the rest stays here."),
    }
    println!();
    println!("  Messenger   {messenger}");
    println!("  Front door  {public}");
    if let Some(door) = door {
        println!("  First visit {door}");
    }
    println!("  API         {public}/docs, without a key from this machine");
    println!("  Data        {}", config.data.display());
    println!();
    println!("  Try: write to the parrot, ask the storyteller for a story and press Stop,");
    println!("  tick all bots and send one question to all, or kill this process in the");
    println!("  middle of an answer and start it again. Ctrl-C closes.");
    println!();
}

/// The three bots of the demo. Their webhook secrets are made here, so the page can try a webhook too.
fn first_list() -> String {
    let mut text =
        String::from("# The bots of `salon demo`. Edit as you like: changes are taken in within a second.\nbots:\n");
    for (id, name, engine, token) in BOTS {
        let (path, header) = (secret(), secret());
        text.push_str(&format!(
            "  - bot_id: {id}\n    name: {name}\n    adapter: {engine}\n    telegram_token: {token}\n    webhook:\n      \
             path_secret: \"{path}\"\n      secret_token: \"{header}\"\n"
        ));
    }
    text
}
