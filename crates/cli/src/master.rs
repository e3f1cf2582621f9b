//! Where the master keys come from, and the file that most people have them in.
//!
//! The file has one key a line, `name:key`; the first one encrypts. It is changed in one step, so a process that is killed
//! leaves the old file or the new one, never a part.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use salon::{Clock, MasterKeys};
use salon_engine::Secret;

use crate::bot::write_private;
use crate::config::Config;

/// Where the master keys are.
#[derive(Clone, Debug)]
pub enum MasterSource {
    /// In this file. It is made at the first start if it is the one beside the data.
    File { path: PathBuf, make: bool },
    /// In `MASTER_KEY`.
    Given(Secret),
    /// Wrapped, with a key service.
    Kms(salon::kms::Kms),
}

/// Reads the master keys. The file's path is answered if it was made just now; it is written before anything in the data
/// depends on it.
pub async fn read(config: &Config, clock: &Clock) -> Result<(MasterKeys, Option<PathBuf>)> {
    match &config.master {
        MasterSource::Given(key) => Ok((MasterKeys::parse(key.expose()).context("MASTER_KEY")?, None)),
        MasterSource::Kms(kms) => {
            let key = kms.unwrap(clock.wall()).await.context("MASTER_KEY_KMS_CIPHERTEXT")?;
            Ok((MasterKeys::parse(key.expose()).context("MASTER_KEY_KMS_CIPHERTEXT")?, None))
        }
        MasterSource::File { path, make } => {
            let made = (*make && make_first(path)?).then(|| path.clone());
            // A file that the operator put somewhere may belong to a service that hands secrets out as it does.
            if let Err(error) = private(path) {
                ensure!(!make, error);
                tracing::warn!("{error:#}");
            }
            Ok((read_file(path)?, made))
        }
    }
}

pub fn read_file(path: &Path) -> Result<MasterKeys> {
    let wrong = || format!("the master key in {}", path.display());
    let text = Secret::new(std::fs::read_to_string(path).with_context(wrong)?);
    MasterKeys::parse(text.expose()).with_context(wrong)
}

/// Refuses a file that others on this machine can read: then the data's only lock hangs open.
fn private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).with_context(|| path.display().to_string())?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others can read the master key in {0}; run: chmod 600 {0}", path.display());
    Ok(())
}

/// Makes the file with one key. `false` if there is one.
fn make_first(path: &Path) -> Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let wrong = || format!("the master key in {}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        crate::house::make_private_folder(folder).with_context(wrong)?;
    }
    // Whole or not at all, and never in the place of another that was made meanwhile.
    let beside = beside(path);
    write_private(&beside, &MasterKeys::generate()).with_context(wrong)?;
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside).ok();
    match linked {
        Ok(()) => {
            sync_folder(path);
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(wrong),
    }
}

/// Adds a new random key at the end of the file, where it decrypts and does not encrypt yet.
pub fn add_last(path: &Path, kid: &str) -> Result<()> {
    edit(path, |lines| lines.push(format!("{kid}:{}", MasterKeys::generate())))
}

/// Lets the key encrypt from now on.
pub fn put_first(path: &Path, kid: &str) -> Result<()> {
    edit(path, |lines| {
        if let Some(at) = lines.iter().position(|line| is(line, kid)) {
            let line = lines.remove(at);
            let first = lines.iter().position(|line| kid_of(line).is_some()).unwrap_or(0);
            lines.insert(first, line);
        }
    })
}

/// Takes the key out of the file.
pub fn remove(path: &Path, kid: &str) -> Result<()> {
    edit(path, |lines| lines.retain(|line| !is(line, kid)))
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<String>)) -> Result<()> {
    let wrong = || format!("the master key in {}", path.display());
    let old = Secret::new(std::fs::read_to_string(path).with_context(wrong)?);
    let mut lines: Vec<String> = old.expose().lines().map(str::to_owned).collect();
    change(&mut lines);
    let new = Secret::new(lines.join("\n") + "\n");
    MasterKeys::parse(new.expose()).context("the file would not be right, nothing was changed")?;
    let beside = beside(path);
    write_private(&beside, new.expose()).with_context(wrong)?;
    std::fs::rename(&beside, path).with_context(wrong)?;
    sync_folder(path);
    Ok(())
}

fn is(line: &str, kid: &str) -> bool {
    kid_of(line).as_deref() == Some(kid)
}

/// The name of the key in a line; `None` for a line that has none.
fn kid_of(line: &str) -> Option<String> {
    MasterKeys::parse(line).ok().map(|keys| keys.primary().to_owned())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

/// What was renamed is on the disk only when its folder is. A file system that cannot do that has done it already.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(mut folder) = File::open(folder) {
        folder.flush().ok();
        folder.sync_all().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("master.key");
        assert!(make_first(&path).expect("made"));
        let keys = read_file(&path).expect("keys");
        assert!(!make_first(&path).expect("there"));
        assert_eq!(read_file(&path).expect("keys").kids(), keys.kids());
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(private(&path).expect_err("refused").to_string().contains("chmod 600"));
    }

    #[test]
    fn keys_come_and_go_and_what_people_wrote_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        write_private(&path, &format!("# Ours.\n{}\n", MasterKeys::generate())).expect("a file");
        let kids = || read_file(&path).expect("keys").kids().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let first = kids().remove(0);
        add_last(&path, "spring").expect("added");
        assert_eq!(kids(), [first.clone(), "spring".to_owned()]);
        put_first(&path, "spring").expect("moved");
        assert_eq!(kids(), ["spring".to_owned(), first.clone()]);
        remove(&path, &first).expect("removed");
        assert_eq!(kids(), ["spring"]);
        assert!(std::fs::read_to_string(&path).expect("a file").starts_with("# Ours.\nspring:"));
        // The last one is not taken away.
        assert!(remove(&path, "spring").is_err());
        assert_eq!(kids(), ["spring"]);
    }
}
