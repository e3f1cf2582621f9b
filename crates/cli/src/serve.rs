//! `salon serve`: opens the house and keeps it open until it is asked to close.

use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::house::House;

/// After this the process ends, whatever still hangs.
const LAST_PATIENCE: Duration = Duration::from_secs(25);
const EXIT_HUNG: i32 = 75;

pub async fn serve(config: Config) -> Result<()> {
    let house = House::open(&config).await?;
    if let Some(address) = house.address {
        tracing::info!(%address, "listening");
    }
    match house.fleet.all().len() {
        0 => tracing::info!("open, without a bot yet: `salon bot add` adds one, and it is taken in at once"),
        bots => tracing::info!(bots, "open"),
    }
    until_asked(&house).await?;
    close(house).await;
    Ok(())
}

/// Waits for SIGTERM or SIGINT; SIGHUP reads the list of bots again.
pub async fn until_asked(house: &House) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => {
                tracing::info!("reading the list of bots again");
                house.fleet.reload();
            }
        }
    }
}

/// Closes the house. A second signal ends the process at once: what was committed stays committed.
pub async fn close(house: House) {
    tracing::info!("closing; a second signal ends at once");
    std::thread::spawn(|| {
        std::thread::sleep(LAST_PATIENCE);
        std::process::exit(EXIT_HUNG);
    });
    let again = async {
        let terminate = signal(SignalKind::terminate());
        let interrupt = signal(SignalKind::interrupt());
        match (terminate, interrupt) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = house.close() => tracing::info!("closed"),
        () = again => tracing::warn!("ended at once"),
    }
}
