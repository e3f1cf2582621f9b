//! One JSON file that keeps the timeline over a restart, with the contents of files in a folder beside it.
//!
//! Changes are gathered for a moment and written by an atomic rename, so a crash leaves the old file or the new one.
//! The ledger and the fault rules are not kept: they belong to one run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::deliver;
use crate::state::{Shared, State};

/// How long changes are gathered.
const GATHER: Duration = Duration::from_millis(500);

/// Reads the state file; one that does not exist is an empty state.
pub async fn load(path: &Path, now: i64) -> Result<State> {
    let bytes = match tokio::fs::read(path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut state: State =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no state file", path.display()))?;
    for file in state.bots.values_mut().flat_map(|bot| bot.files.values_mut()).filter(|file| !file.forgotten) {
        match tokio::fs::read(folder(path).join(file.id.to_string())).await {
            Ok(bytes) => (file.bytes, file.saved) = (Arc::new(bytes), true),
            Err(_) => file.forgotten = true,
        }
    }
    if !state.clean {
        state.bots.values_mut().for_each(|bot| bot.skip_ids(now));
    }
    Ok(state)
}

/// Goes on with what the last run left: webhooks with waiting updates.
pub fn resume(shared: &Arc<Shared>) {
    let webhooks: Vec<(String, u64)> = {
        let state = shared.lock();
        let generation = |bot: &crate::state::Bot| Some((bot.token.clone(), bot.webhook.as_ref()?.generation));
        state.bots.values().filter_map(generation).collect()
    };
    for (token, generation) in webhooks {
        deliver::start(shared, &token, generation);
    }
}

/// Writes the state after every change, until the mock stops; [`save`] then writes it a last time.
pub async fn keep(shared: Arc<Shared>, path: PathBuf) {
    loop {
        tokio::select! {
            () = shared.dirty.notified() => {}
            () = shared.stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(GATHER) => {}
            () = shared.stop.cancelled() => return,
        }
        if let Err(error) = save(&shared, &path, false).await {
            tracing::error!(error = format!("{error:#}"), "cannot write the mock's state file");
        }
    }
}

/// Writes the state once; `clean` says that nothing will come after it.
pub async fn save(shared: &Shared, path: &Path, clean: bool) -> Result<()> {
    let folder = folder(path);
    let (json, files) = {
        let mut state = shared.lock();
        state.clean = clean;
        let files = state.bots.values().flat_map(|bot| bot.files.values());
        let new: Vec<_> =
            files.filter(|file| !file.saved && !file.forgotten).map(|file| (file.id, file.bytes.clone())).collect();
        (serde_json::to_vec(&*state).context("cannot serialise the state")?, new)
    };
    if !files.is_empty() {
        tokio::fs::create_dir_all(&folder).await.with_context(|| format!("cannot make {}", folder.display()))?;
    }
    for (id, bytes) in &files {
        replace(&folder.join(id.to_string()), bytes.as_ref().clone()).await.context("cannot write a file")?;
    }
    replace(path, json).await.with_context(|| format!("cannot write {}", path.display()))?;
    let kept: std::collections::HashSet<u64> = {
        let mut state = shared.lock();
        for file in state.bots.values_mut().flat_map(|bot| bot.files.values_mut()) {
            file.saved |= files.iter().any(|(id, _)| *id == file.id);
        }
        let files = state.bots.values().flat_map(|bot| bot.files.values());
        files.filter(|file| !file.forgotten).map(|file| file.id).collect()
    };
    sweep(&folder, &kept).await;
    Ok(())
}

/// Removes the contents of files nobody remembers.
async fn sweep(folder: &Path, kept: &std::collections::HashSet<u64>) {
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let id = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if id.is_some_and(|id| !kept.contains(&id)) {
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
    }
}

fn folder(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".files");
    path.with_file_name(name)
}

/// Puts new contents in the place of a file in one step.
pub async fn replace(path: &Path, bytes: Vec<u8>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        tokio::fs::create_dir_all(parent).await?;
    }
    let mut file = tokio::fs::File::create(&beside).await?;
    tokio::io::AsyncWriteExt::write_all(&mut file, &bytes).await?;
    file.sync_all().await?;
    drop(file);
    tokio::fs::rename(&beside, path).await
}
