//! `salon serve`: opens the house and keeps it open until it is asked to close.

use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Flags};
use crate::house::House;

/// After this the process ends, whatever still hangs.
const LAST_PATIENCE: Duration = Duration::from_secs(25);
const EXIT_HUNG: i32 = 75;

pub async fn serve(config: Config) -> Result<()> {
    let mut signals = Signals::catch()?;
    let mut house = House::open(&config).await?;
    if let Some(address) = house.address {
        tracing::info!(%address, "listening");
    }
    if let Some(address) = house.llm_address {
        tracing::info!(%address, "listening as the LLM server");
    }
    match house.fleet.all().len() {
        0 => tracing::info!("open, without a bot yet: `salon bot add` adds one, and it is taken in at once"),
        bots => tracing::info!(bots, "open"),
    }
    match house.first_door(&config).await {
        // Not by the log, which others read: whoever opens this becomes the administrator.
        Ok(Some(door)) => {
            println!("Nobody looks after this Salon yet. Become its administrator, within a day and once:\n  {door}");
        }
        Ok(None) => {}
        // The house is open all the same, and the next start says it.
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "whether anybody looks after this Salon cannot be seen now");
        }
    }
    let asked = signals.until_asked(&mut house, &config.flags).await;
    signals.close(house).await;
    asked
}

/// What the system may ask of us. To be caught before anything is opened: a request that comes while the house opens
/// waits, instead of ending the process where it stands.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub fn catch() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP reads the list of bots and the catalog of models again. An error if the house
    /// broke down meanwhile.
    pub async fn until_asked(&mut self, house: &mut House, flags: &Flags) -> Result<()> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ok(()),
                _ = self.interrupt.recv() => return Ok(()),
                () = house.broken() => anyhow::bail!("a part of Salon broke down; see the log"),
                _ = self.hang_up.recv() => {
                    tracing::info!("reading the list of bots and the catalog of models again");
                    house.fleet.reload();
                    match Config::read(flags) {
                        Ok(config) => house.relay.catalog.replace(config.sources),
                        Err(error) => tracing::error!(error = format!("{error:#}"), "the configuration cannot be read"),
                    }
                }
            }
        }
    }

    /// Closes the house. A second signal ends the process at once: what was committed stays committed.
    pub async fn close(mut self, house: House) {
        tracing::info!("closing; a second signal ends at once");
        std::thread::spawn(|| {
            std::thread::sleep(LAST_PATIENCE);
            std::process::exit(EXIT_HUNG);
        });
        tokio::select! {
            () = house.close() => tracing::info!("closed"),
            () = self.end() => tracing::warn!("ended at once"),
        }
    }
}
