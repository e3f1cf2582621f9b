use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use salon::access::jwt::JwtError;
use salon::keys::KeyError;
use salon_cli::common::Common;
use salon_cli::config::{Config, Flags, Log, LogForm};
use salon_cli::office::Office;
use salon_cli::{bench, bot, demo, doctor, serve, webhook};
use salon_mock::upstream::{Upstream, UpstreamConfig};
use salon_mock::{Mock, MockConfig};
use salon_store::{Error, Store};

/// Less time and less memory than the C library's where thousands of streams wait; docs/reference/performance.md has by how
/// much.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// People, models and coding agents in conversation, on your own machine.
///
/// Start with `salon demo`: it needs no key, no network and no database.
#[derive(Parser)]
#[command(name = "salon", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of them, and it is read once")]
enum Command {
    /// Try everything on this machine: a mock Telegram with its page, and three bots
    Demo {
        #[command(flatten)]
        common: Common,
        /// Where the mock Telegram and its page listen
        #[arg(long, default_value = "127.0.0.1:9082")]
        mock_listen: SocketAddr,
    },
    /// Serve the bots of config/bots.yaml
    Serve {
        #[command(flatten)]
        common: Common,
        /// What this process does: http (webhooks, health), work (answers), poll (takes updates in, sets webhooks)
        #[arg(long, value_name = "http,work,poll")]
        roles: Option<String>,
        /// Serve this bot alone
        #[arg(long, value_name = "ID")]
        bot: Option<String>,
    },
    /// Start the mock Telegram alone, to try bots of any kind against it
    Mock {
        #[arg(long, default_value = "127.0.0.1:9082")]
        listen: SocketAddr,
        /// The list of bots that the page shows and edits
        #[arg(long, default_value = "config/bots.yaml")]
        bots: PathBuf,
        /// Keeps conversations over a restart
        #[arg(long)]
        state: Option<PathBuf>,
        /// Where the bots' own health is, for the page's diagnostics
        #[arg(long)]
        bot_url: Option<String>,
        /// Let getUpdates work while a webhook is set, for debugging
        #[arg(long)]
        allow_get_updates_with_webhook: bool,
        /// Start a scripted model server beside it, in the formats of OpenAI, Anthropic, Gemini and midm
        #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:9090")]
        upstream: Option<SocketAddr>,
    },
    /// Look at configuration, database, Telegram, models and ports, and say how to mend what is wrong
    Doctor {
        #[command(flatten)]
        common: Common,
        /// Start each agent in its sandbox and see whether it still knows the flags that it is given
        #[arg(long)]
        agents: bool,
    },
    /// List, add and remove bots; a running Salon notices
    Bot {
        #[command(subcommand)]
        command: BotCommand,
    },
    /// Set, delete and show a bot's webhook at Telegram
    Webhook {
        #[command(subcommand)]
        command: WebhookCommand,
    },
    #[command(flatten)]
    Office(Office),
    /// Make or migrate the database's schema and say its version
    Migrate {
        #[command(flatten)]
        common: Common,
    },
    /// Measure this machine: updates per second, time to acknowledge, to start and to recover
    Bench(bench::Bench),
    /// What runs first in an agent's cell; nobody types it
    #[command(hide = true)]
    Shim {
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        args: Vec<String>,
    },
    /// The bridge's word for `serve`
    #[command(hide = true)]
    Supervisor(Bridge),
    /// The bridge's word for `serve --bot`
    #[command(hide = true)]
    RunBot {
        #[arg(long)]
        bot_id: String,
        #[command(flatten)]
        bridge: Bridge,
    },
    /// The bridge's word for `serve` on the gateway's port
    #[command(hide = true)]
    RunGateway(Bridge),
}

#[derive(Subcommand)]
enum BotCommand {
    /// Show the bots
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Add a bot to the list
    Add {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        add: bot::Add,
    },
    /// Take a bot out of the list
    Remove {
        #[command(flatten)]
        common: Common,
        /// The bot's name in Salon
        id: String,
    },
}

#[derive(Subcommand)]
enum WebhookCommand {
    /// Tell Telegram where to post the bot's updates
    Set {
        #[command(flatten)]
        common: Common,
        /// Which bot, if there are several
        #[arg(long, value_name = "ID")]
        bot: Option<String>,
    },
    /// Take the webhook away until Salon starts again; nothing that waits is dropped
    Delete {
        #[command(flatten)]
        common: Common,
        /// Which bot, if there are several
        #[arg(long, value_name = "ID")]
        bot: Option<String>,
    },
    /// Show what Telegram knows
    Info {
        #[command(flatten)]
        common: Common,
        /// Which bot, if there are several
        #[arg(long, value_name = "ID")]
        bot: Option<String>,
    },
}

/// The flags of the bridge's commands, as far as they mean something here.
#[derive(Args)]
struct Bridge {
    #[arg(long)]
    config: Option<PathBuf>,
    #[arg(long, alias = "host")]
    embedded_host: Option<std::net::IpAddr>,
    #[arg(long, alias = "port", alias = "embedded-port")]
    embedded_base_port: Option<u16>,
    #[arg(long)]
    gateway_host: Option<std::net::IpAddr>,
    #[arg(long)]
    gateway_port: Option<u16>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // It has one thread and a runtime of its own, and must be quick.
    if let Command::Shim { args } = &cli.command {
        return salon_engine::sandbox::shim::run(args);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("salon: the machine gives no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("salon: {error:#}");
            if let Some(Error::NewerSchema { .. }) = error.downcast_ref() {
                return ExitCode::from(65);
            }
            let wrong_key = error.downcast_ref().is_some_and(|error| !matches!(error, KeyError::Store(_)));
            if wrong_key || error.downcast_ref::<JwtError>().is_some() {
                return ExitCode::from(78);
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo { common, mock_listen } => {
            let mut flags = common.flags();
            flags.data.get_or_insert_with(|| "data/demo".into());
            let config = read(&flags)?;
            demo::demo(config, mock_listen).await?;
        }
        Command::Serve { common, roles, bot } => {
            serve::serve(read(&Flags { roles, only: bot, ..common.flags() })?).await?;
        }
        Command::Mock { listen, bots, state, bot_url, allow_get_updates_with_webhook, upstream } => {
            start_log(&Config::read(&Flags::default())?.log);
            let mock = Mock::start(MockConfig {
                listen,
                bots_config: Some(bots),
                state_file: state,
                embedded_url: bot_url,
                allow_get_updates_with_webhook,
                ..MockConfig::default()
            })
            .await?;
            println!("The mock Telegram is at {0}, its page at {0}/_mock/ui. Ctrl-C closes.", mock.base_url());
            let upstream = match upstream {
                Some(listen) => Some(Upstream::start(UpstreamConfig { listen, ..UpstreamConfig::default() }).await?),
                None => None,
            };
            if let Some(upstream) = &upstream {
                println!("The scripted model server is at {0}; OpenAI's clients want {0}/v1.", upstream.base_url());
            }
            serve::Signals::catch()?.end().await;
            mock.shutdown().await?;
        }
        Command::Doctor { common, agents } => {
            let config = Config::read(&common.flags())?;
            if !doctor::doctor(&config, agents).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Bot { command } => match command {
            BotCommand::List { common } => bot::list(&Config::read(&common.flags())?)?,
            BotCommand::Add { common, add } => bot::add(&Config::read(&common.flags())?, &add)?,
            BotCommand::Remove { common, id } => bot::remove(&Config::read(&common.flags())?, &id)?,
        },
        Command::Webhook { command } => match command {
            WebhookCommand::Set { common, bot } => {
                webhook::set(&Config::read(&common.flags())?, bot.as_deref()).await?
            }
            WebhookCommand::Delete { common, bot } => {
                webhook::delete(&Config::read(&common.flags())?, bot.as_deref()).await?;
            }
            WebhookCommand::Info { common, bot } => {
                webhook::info(&Config::read(&common.flags())?, bot.as_deref()).await?;
            }
        },
        Command::Office(office) => {
            let told = office.run(std::env::args().skip(1).collect()).await?;
            if !told.note.is_empty() {
                eprintln!("{}", told.note);
            }
            if !told.text.is_empty() {
                println!("{}", told.text);
            }
            if told.trouble {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Migrate { common } => {
            let config = Config::read(&common.flags())?;
            let store = Store::open(&config.place, "migrate").await?;
            println!("The schema has version {}.", store.schema_version().await?);
            store.close().await;
        }
        Command::Bench(bench) => bench::bench(&bench).await?,
        Command::Shim { .. } => unreachable!("it was answered before there was a runtime"),
        Command::Supervisor(bridge) => serve::serve(read(&bridge.flags(None, 8600))?).await?,
        Command::RunBot { bot_id, bridge } => serve::serve(read(&bridge.flags(Some(bot_id), 8600))?).await?,
        Command::RunGateway(bridge) => serve::serve(read(&bridge.flags(None, 4312))?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the configuration of a process that stays, and begins its log.
fn read(flags: &Flags) -> Result<Config> {
    // Before there is anything to see.
    salon_engine::sandbox::protect_ourselves()?;
    let config = Config::read(flags)?;
    start_log(&config.log);
    for (old, new) in &config.old_names {
        tracing::info!("{old} was read; its name here is {new}");
    }
    Ok(config)
}

fn start_log(log: &Log) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second call, as in tests, changes nothing.
    match log.form {
        LogForm::Json => builder.json().flatten_event(true).try_init().ok(),
        LogForm::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init().ok(),
    };
}

impl Bridge {
    /// The bridge named its list of bots `--config`, and gave each process an address of its own.
    fn flags(self, only: Option<String>, usual_port: u16) -> Flags {
        let host = self.gateway_host.or(self.embedded_host).unwrap_or([127, 0, 0, 1].into());
        let port = self.gateway_port.or(self.embedded_base_port).unwrap_or(usual_port);
        Flags { bots: self.config, listen: Some(SocketAddr::new(host, port)), only, ..Flags::default() }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
