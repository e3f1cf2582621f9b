//! What is done to folders before a cell is made around them.
//!
//! A workspace and a home were in an agent's hands before, so nothing in them is what it seems: every step here goes
//! through [`Folder`], which follows no link.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::beneath::{Folder, Kind};
use super::cell::{Cell, outside};
use super::{Lack, Mode, Sandbox, walls};
use crate::agent::{OUT, WORKSPACE};

/// The files in `/etc` that we write.
pub(super) const ETC: [&str; 6] = ["passwd", "group", "hosts", "hostname", "resolv.conf", "nsswitch.conf"];

/// Who agents are where we are root and the workspace is, too: one of these from the first run on. They stand far beyond
/// what systems give out.
const USERS: std::ops::Range<u32> = 1_879_048_192..1_879_113_728;

/// A cell whose folders are as they must be.
pub(super) struct Ready {
    pub cell: Cell,
    /// Who it is outside, if not ourselves.
    pub user: Option<u32>,
    pub etc: PathBuf,
    pub empty_file: PathBuf,
    pub empty_folder: PathBuf,
    /// What is laid over in the workspace, and whether it is a folder.
    pub masked: Vec<(&'static str, bool)>,
    /// What is mounted over itself.
    pub kept: Vec<PathBuf>,
    /// Links that were put aside, and come back with this name afterwards.
    pub aside: Vec<&'static str>,
}

pub(super) fn ready(sandbox: &Sandbox, cell: Cell) -> Result<Ready, Lack> {
    check(&cell)?;
    prepare(sandbox, cell).map_err(|error| Lack::NoFolder(format!("{error:#}")))
}

fn check(cell: &Cell) -> Result<(), Lack> {
    let plain = |path: &Path| path.is_absolute() && path.to_str().is_some_and(|path| !path.contains('\0'));
    let paths = cell.shows.iter().flat_map(|show| [&show.from, &show.at]);
    if let Some(path) = paths.chain([&cell.program, &cell.home, &cell.workspace]).find(|path| !plain(path)) {
        return Err(Lack::NoFolder(format!("{} is not a whole path", path.display())));
    }
    Ok(())
}

fn prepare(sandbox: &Sandbox, cell: Cell) -> anyhow::Result<Ready> {
    use anyhow::Context as _;
    let own = &sandbox.settings.folder;
    fs::create_dir_all(own).with_context(|| own.display().to_string())?;
    let workspace = Folder::open(&cell.workspace).with_context(|| cell.workspace.display().to_string())?;
    let home = Folder::open(&cell.home).with_context(|| cell.home.display().to_string())?;

    let user = (sandbox.mode == Mode::Nobody).then(|| owner(&workspace)).transpose()?;
    for (name, text) in &cell.files {
        let text = if sandbox.mode == Mode::None { &outside(text, &cell) } else { text };
        home.write(name, text.as_bytes()).with_context(|| name.display().to_string())?;
    }
    let out = Path::new(OUT).strip_prefix(WORKSPACE).context("the out folder is in the workspace")?;
    workspace.make(out)?;
    let mut aside = Vec::new();
    let mut masked = Vec::new();
    let mut kept = Vec::new();
    if sandbox.mode != Mode::None {
        for name in Cell::MASKED {
            put_back(&workspace, name)?;
            match workspace.kind(Path::new(name))? {
                None => {}
                // Nothing can be laid over a link; what it leads to would be laid over.
                Some(Kind::Link) => {
                    workspace.rename(Path::new(name), Path::new(&put_aside(name)))?;
                    aside.push(name);
                }
                Some(kind) => masked.push((name, kind == Kind::Folder)),
            }
        }
        if workspace.kind(Path::new(".git"))? == Some(Kind::Folder) {
            kept.push(PathBuf::from(".git"));
            for name in Cell::KEPT {
                if matches!(workspace.kind(Path::new(name))?, Some(Kind::Folder | Kind::File)) {
                    kept.push(PathBuf::from(name));
                }
            }
        }
    }
    if let Some(user) = user {
        for folder in [&home, &workspace] {
            if folder.owner()? != user {
                folder.give_all(user)?;
            }
        }
        cell.files.iter().try_for_each(|(name, _)| home.give(name, user))?;
        workspace.give(out, user)?;
        if let Some((socket, _)) = &cell.door {
            std::os::unix::fs::chown(socket, Some(user), Some(user))?;
        }
    }
    let etc = own.join(format!("etc-{}", user.unwrap_or(walls::AGENT)));
    write_etc(&etc, user.unwrap_or(walls::AGENT))?;
    let (empty_file, empty_folder) = (own.join("nothing"), own.join("empty"));
    if !empty_file.exists() {
        fs::write(&empty_file, "")?;
    }
    fs::create_dir_all(&empty_folder)?;
    for path in [&empty_file, &empty_folder] {
        // Whoever the agent is, it may look; the mount keeps it from more.
        fs::set_permissions(path, fs::Permissions::from_mode(if path.is_dir() { 0o555 } else { 0o444 }))?;
    }
    Ok(Ready { cell, user, etc, empty_file, empty_folder, masked, kept, aside })
}

/// What happens to a workspace when nothing runs in it any more.
pub(super) fn tidy(workspace: &Path, aside: &[&'static str]) -> io::Result<()> {
    let workspace = Folder::open(workspace)?;
    aside.iter().try_for_each(|name| put_back(&workspace, name))
}

fn put_aside(name: &str) -> String {
    format!("{name}.aside")
}

/// A link that was put aside and never put back, because somebody pulled the plug, comes back before it goes again.
fn put_back(workspace: &Folder, name: &'static str) -> io::Result<()> {
    let aside = put_aside(name);
    let is_link = workspace.kind(Path::new(&aside))? == Some(Kind::Link);
    if is_link && workspace.kind(Path::new(name))?.is_none() {
        workspace.rename(Path::new(&aside), Path::new(name))?;
    }
    Ok(())
}

/// Who owns a workspace, or will: a person's folder is worked in as that person.
fn owner(workspace: &Folder) -> io::Result<u32> {
    let owner = workspace.owner()?;
    if owner == 0 { Ok(rand::random_range(USERS)) } else { Ok(owner) }
}

fn write_etc(folder: &Path, user: u32) -> io::Result<()> {
    let texts = [
        format!("agent:x:{user}:{user}:agent:{home}:/bin/sh\n", home = crate::agent::HOME),
        format!("agent:x:{user}:\n"),
        "127.0.0.1 localhost cell\n::1 localhost\n".to_owned(),
        "cell\n".to_owned(),
        // There is no server to ask, and without a line in here some would ask 127.0.0.1.
        "nameserver 0.0.0.0\noptions timeout:1 attempts:1\n".to_owned(),
        "passwd: files\ngroup: files\nhosts: files\n".to_owned(),
    ];
    if ETC.iter().zip(&texts).all(|(name, text)| fs::read_to_string(folder.join(name)).is_ok_and(|old| old == *text)) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    for (name, text) in ETC.iter().zip(texts) {
        // Another cell may be reading it: a rename is there or not.
        let new = folder.join(format!("{name}.{:08x}", rand::random::<u32>()));
        fs::write(&new, text)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o444))?;
        fs::rename(&new, folder.join(name))?;
    }
    Ok(())
}
