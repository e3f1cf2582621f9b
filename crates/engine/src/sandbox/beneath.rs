//! A folder that may have been in anybody's hands, and ways to work in it that never lead out of it.
//!
//! Every name is opened with `openat2` from the folder itself, and the kernel refuses links on the whole way; so it does
//! not matter what somebody swaps while we look.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, openat2};
use rustix::process::{Gid, Uid};

/// An open folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Link,
    /// A pipe, a socket, a device.
    Other,
}

impl Kind {
    fn of(stat: &Stat) -> Kind {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        }
    }
}

/// A name in a folder.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: PathBuf,
    pub kind: Kind,
    pub stat: Stat,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A pipe must not keep us waiting, and a terminal must not become ours.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::NOFOLLOW);

impl Folder {
    /// By its path on this machine, which is ours and trusted.
    pub fn open(path: &Path) -> io::Result<Folder> {
        Ok(Folder(rustix::fs::open(path, FOLDER, Mode::empty())?))
    }

    /// A folder in here. `.` is this one.
    pub fn folder(&self, path: &Path) -> io::Result<Folder> {
        Ok(Folder(self.at(path, FOLDER)?))
    }

    /// Opens a file to be read. Refuses links, also on the way, and whatever is not a plain file.
    pub fn file(&self, path: &Path) -> io::Result<(std::fs::File, Stat)> {
        let file = self.at(path, FILE)?;
        let stat = rustix::fs::fstat(&file)?;
        if Kind::of(&stat) != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
        }
        Ok((file.into(), stat))
    }

    /// What a name stands for, without following it; `None` if nothing is there.
    pub fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        Ok(self.stat(path)?.map(|stat| Kind::of(&stat)))
    }

    pub fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        let result = self
            .parent(path)
            .and_then(|(parent, name)| Ok(rustix::fs::statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?));
        match result {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names in here, in no order.
    pub fn list(&self) -> io::Result<Vec<Entry>> {
        let mut space = Vec::with_capacity(16 * 1024);
        // Another opening, because a folder's place is kept with it.
        let here = self.at(Path::new("."), FOLDER)?;
        let mut folder = RawDir::new(&here, space.spare_capacity_mut());
        let mut found = Vec::new();
        while let Some(entry) = folder.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(name));
            // It may be gone by now.
            if let Ok(stat) = rustix::fs::statat(&self.0, &path, AtFlags::SYMLINK_NOFOLLOW) {
                found.push(Entry { kind: Kind::of(&stat), path, stat });
            }
        }
        Ok(found)
    }

    /// Calls for every name below, folders before what is in them, with its path from here. What vanishes meanwhile is
    /// passed over; `visit` may end it. A folder that nobody may look into is opened up, or things could be hidden in it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Folder, &Entry) -> io::Result<bool>) -> io::Result<()> {
        let mut folders = vec![PathBuf::from(".")];
        while let Some(path) = folders.pop() {
            let folder = match self.folder(&path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.set_mode(&path, 0o700)?;
                    self.folder(&path)
                }
                folder => folder,
            };
            let folder = match folder {
                Ok(folder) => folder,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            for mut entry in folder.list()? {
                if path != Path::new(".") {
                    entry.path = path.join(&entry.path);
                }
                if !visit(self, &entry)? {
                    return Ok(());
                }
                if entry.kind == Kind::Folder {
                    folders.push(entry.path);
                }
            }
        }
        Ok(())
    }

    pub fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let (parent, name) = self.parent(path)?;
        let target = rustix::fs::readlinkat(parent.as_fd(), name, Vec::new())?;
        Ok(PathBuf::from(std::ffi::OsStr::from_bytes(target.as_bytes())))
    }

    /// Writes a file, with the folders above it. What stands in the way, a link above all, is removed.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.put(path, 0o600, &mut &bytes[..])
    }

    /// Writes what comes from a reader.
    pub fn put(&self, path: &Path, mode: u32, from: &mut dyn io::Read) -> io::Result<()> {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => self.make(parent)?,
            _ => self.folder(Path::new("."))?,
        };
        let name = Path::new(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
        let new = PathBuf::from(format!(".new-{:016x}", rand::random::<u64>()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat2(&parent.0, &new, flags, Mode::from_raw_mode(0o600), INSIDE)?;
        let mut file = std::fs::File::from(file);
        let done = io::copy(from, &mut file).and_then(|_| file.flush()).and_then(|()| {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
            if parent.kind(name)? == Some(Kind::Folder) {
                parent.remove(name)?;
            }
            parent.rename(&new, name)
        });
        if done.is_err() {
            parent.remove(&new).ok();
        }
        done
    }

    pub fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.remove(path)?;
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::symlinkat(target, parent.as_fd(), name)?)
    }

    /// Makes a folder, with those above it. What stands in the way is removed.
    pub fn make(&self, path: &Path) -> io::Result<Folder> {
        let mut here = self.folder(Path::new("."))?;
        for part in path.components() {
            let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
            let name = Path::new(name);
            match here.kind(name)? {
                Some(Kind::Folder) => {}
                found => {
                    if found.is_some() {
                        here.remove(name)?;
                    }
                    rustix::fs::mkdirat(&here.0, name, Mode::from_raw_mode(0o700))?;
                }
            }
            here = here.folder(name)?;
        }
        Ok(here)
    }

    pub fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let file = self.at(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW)?;
        if Kind::of(&rustix::fs::fstat(&file)?) == Kind::Link {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Who may not read a file cannot open it, and still may say who may.
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(rustix::fs::chmod(open, Mode::from_raw_mode(mode & 0o7777))?)
    }

    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from, old), (to, new)) = (self.parent(from)?, self.parent(to)?);
        Ok(rustix::fs::renameat(from.as_fd(), old, to.as_fd(), new)?)
    }

    /// Removes a name, and all that is below it. Nothing there is fine.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let Some(kind) = self.kind(path)? else { return Ok(()) };
        let (parent, name) = self.parent(path)?;
        if kind != Kind::Folder {
            return Ok(rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty())?);
        }
        // Whoever made it may have made it unreadable.
        self.set_mode(path, 0o700).ok();
        let folder = self.folder(path)?;
        for entry in folder.list()? {
            folder.remove(&entry.path)?;
        }
        Ok(rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR)?)
    }

    /// Gives the folder and all that is below it to a user. Files with several names are left alone: another name may
    /// be somewhere else, and somebody's.
    pub fn give_all(&self, user: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
        self.walk(&mut |folder, entry| {
            let alone = entry.kind == Kind::Folder || entry.stat.st_nlink == 1;
            if entry.stat.st_uid != user && alone {
                let (parent, name) = folder.parent(&entry.path)?;
                rustix::fs::chownat(parent.as_fd(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(true)
        })?;
        // Last: what was not finished is begun again.
        Ok(rustix::fs::fchown(&self.0, uid, gid)?)
    }

    /// Gives what was written here to a user, with the folders above it.
    pub fn give(&self, path: &Path, user: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
        for path in path.ancestors().filter(|path| *path != Path::new("")) {
            let (parent, name) = self.parent(path)?;
            rustix::fs::chownat(parent.as_fd(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    pub fn owner(&self) -> io::Result<u32> {
        Ok(rustix::fs::fstat(&self.0)?.st_uid)
    }

    fn at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(openat2(&self.0, path, flags, Mode::empty(), INSIDE)?)
    }

    /// The folder that a name is in, and the name.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a Path)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        Ok((self.at(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?, Path::new(name)))
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Whether nothing is there, or nothing that could have a name below it.
fn is_absent(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    use rustix::io::Errno;
    matches!(code, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// Reads a whole file that may grow meanwhile, up to a size.
pub fn read_up_to(file: &mut std::fs::File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
