//! What a run leaves for people: files in its out folder, and files that it names in its workspace.
//!
//! A name is all that an agent gives. What stands behind it is opened beneath the workspace, without following any link,
//! and looked at only once it is open; pipes, devices and files that have a second name elsewhere are refused.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::{Component, Path, PathBuf};

use super::beneath::{Folder, Kind};
use super::cell::Cell;
use crate::agent::{OUT, WORKSPACE};

/// How much is delivered.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    pub files: usize,
    pub file_bytes: u64,
    pub all_bytes: u64,
}

impl Default for Caps {
    /// What Telegram takes as a document, and as many as people still look at.
    fn default() -> Caps {
        Caps { files: 20, file_bytes: 50 << 20, all_bytes: 200 << 20 }
    }
}

/// A file to be delivered. It is open: nobody can put another in its place any more.
#[derive(Debug)]
pub struct Artifact {
    /// Its path in the out folder or in the workspace, as text that can be shown.
    pub name: String,
    /// By what is in it, not by its name.
    pub media: &'static str,
    pub bytes: u64,
    file: File,
}

impl Artifact {
    /// The whole of it; no more than it had when it was opened.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        self.file.rewind()?;
        super::beneath::read_up_to(&mut self.file, self.bytes)
    }

    pub fn into_file(self) -> File {
        self.file
    }
}

/// Why something is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It leads out of the workspace.
    Outside,
    /// What an agent is not shown it cannot send either.
    Hidden,
    Missing,
    Link,
    /// A folder, a pipe, a socket, a device.
    NotAFile,
    SecondName,
    TooLarge,
    TooMany,
    Unreadable,
}

impl Refused {
    /// The word for it in the log, and the end of its key in the locales.
    pub fn as_str(self) -> &'static str {
        match self {
            Refused::Outside => "outside",
            Refused::Hidden => "hidden",
            Refused::Missing => "missing",
            Refused::Link => "link",
            Refused::NotAFile => "not_a_file",
            Refused::SecondName => "second_name",
            Refused::TooLarge => "too_large",
            Refused::TooMany => "too_many",
            Refused::Unreadable => "unreadable",
        }
    }
}

/// What was left, and what of it is not delivered and why.
#[derive(Debug, Default)]
pub struct Left {
    pub artifacts: Vec<Artifact>,
    pub refused: Vec<(String, Refused)>,
    /// What nobody looked at, because there was too much before it.
    pub more: usize,
}

/// Collects what a run put into the out folder of a workspace, and files that were named: by their paths in the workspace,
/// or as they are seen from inside. What is in the out folder and not `fresh` was left by somebody before. To be called
/// when the run has ended.
pub fn collect(workspace: &Path, fresh: &dyn Fn(&Path) -> bool, named: &[PathBuf], caps: Caps) -> io::Result<Left> {
    let workspace = Folder::open(workspace)?;
    let mut left = Left::default();
    let out = Path::new(OUT).strip_prefix(WORKSPACE).expect("the out folder is in the workspace");
    let mut paths = Vec::new();
    match workspace.kind(out)? {
        Some(Kind::Folder) => workspace.folder(out)?.walk(&mut |_, entry| {
            let path = out.join(&entry.path);
            match entry.kind != Kind::Folder && fresh(&path) {
                // There may be a million names; that there are too many is known long before.
                true if paths.len() >= caps.files * 16 => left.more += 1,
                true => paths.push(path),
                false => {}
            }
            Ok(true)
        })?,
        Some(_) if fresh(out) => paths.push(out.to_owned()),
        _ => {}
    }
    paths.sort();
    for path in named {
        let inside = path.strip_prefix(WORKSPACE).unwrap_or(path);
        if !paths.iter().any(|known| known == inside) {
            paths.push(inside.to_owned());
        }
    }
    let mut room = caps.all_bytes;
    for path in paths {
        let name = match path.strip_prefix(out) {
            Ok(below) if below != Path::new("") => shown(below.as_os_str()),
            _ => shown(path.as_os_str()),
        };
        let hidden = Cell::MASKED.iter().any(|name| path.starts_with(name));
        let opened = if left.artifacts.len() >= caps.files {
            Err(Refused::TooMany)
        } else if hidden {
            Err(Refused::Hidden)
        } else {
            open(&workspace, &path, name.clone(), caps.file_bytes.min(room))
        };
        match opened {
            Ok(artifact) => {
                room -= artifact.bytes;
                left.artifacts.push(artifact);
            }
            // Where else something is, is nobody's business.
            Err(why @ Refused::Outside) => {
                left.refused.push((path.file_name().map_or_else(|| "…".to_owned(), shown), why));
            }
            Err(why) => left.refused.push((name, why)),
        }
    }
    Ok(left)
}

fn open(workspace: &Folder, path: &Path, name: String, most: u64) -> Result<Artifact, Refused> {
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Refused::Outside);
    }
    let (mut file, stat) = workspace.file(path).map_err(|error| match workspace.kind(path) {
        Ok(Some(Kind::Link)) => Refused::Link,
        Ok(Some(Kind::Other | Kind::Folder)) => Refused::NotAFile,
        // With a link on the way it would be somewhere else.
        Ok(None) if error.kind() != io::ErrorKind::NotFound => Refused::Outside,
        Ok(None) => Refused::Missing,
        _ => Refused::Unreadable,
    })?;
    // The second name may be what nobody meant to give away.
    if stat.st_nlink > 1 {
        return Err(Refused::SecondName);
    }
    let bytes = u64::try_from(stat.st_size).map_err(|_| Refused::Unreadable)?;
    if bytes > most {
        return Err(Refused::TooLarge);
    }
    let mut head = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(|_| Refused::Unreadable)?;
    Ok(Artifact { media: media(&head, path), name, bytes, file })
}

/// How much of a file says what it is.
pub const HEAD: usize = 4096;

/// What a file is, by its first bytes; text may say more by its name.
pub fn media(head: &[u8], path: &Path) -> &'static str {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"%PDF-", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b"\x1f\x8b", "application/gzip"),
        (b"OggS", "audio/ogg"),
        (b"ID3", "audio/mpeg"),
        (b"fLaC", "audio/flac"),
    ];
    if let Some((_, media)) = KNOWN.iter().find(|(start, _)| head.starts_with(start)) {
        return media;
    }
    match (head.get(..4), head.get(4..8), head.get(8..12)) {
        (Some(b"RIFF"), _, Some(b"WEBP")) => return "image/webp",
        (Some(b"RIFF"), _, Some(b"WAVE")) => return "audio/wav",
        (_, Some(b"ftyp"), _) => return "video/mp4",
        _ => {}
    }
    // The last character may have been cut in two.
    let is_text = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    if !is_text || head.contains(&0) {
        return "application/octet-stream";
    }
    match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
        Some("html" | "htm") => "text/html",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("csv") => "text/csv",
        Some("md") => "text/markdown",
        _ => "text/plain",
    }
}

/// A name as people may see it: no controls, nothing that turns text around or cannot be seen, and not without end.
pub fn shown(name: &OsStr) -> String {
    let plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{ad}' | '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            && !matches!(c, '\u{2060}'..='\u{206f}')
    };
    name.to_string_lossy().chars().map(|c| if plain(c) { c } else { '\u{fffd}' }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("out/deep")).unwrap();
        folder
    }

    fn names(left: &Left) -> Vec<(&str, &str)> {
        left.artifacts.iter().map(|artifact| (artifact.name.as_str(), artifact.media)).collect()
    }

    #[test]
    fn what_lies_in_the_out_folder_is_delivered_and_what_is_named_too() {
        let folder = workspace();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("out/picture"), b"\x89PNG\r\n\x1a\n...").unwrap();
        fs::write(at("out/deep/page.html"), "<p>hi</p>").unwrap();
        fs::write(at("out/data.bin"), b"\0\x01\x02").unwrap();
        fs::write(at("notes.md"), "# Notes \u{1F99C}").unwrap();
        let named = ["notes.md", "/workspace/out/picture", "/workspace/notes.md"].map(PathBuf::from);
        let mut left = collect(folder.path(), &|_| true, &named[..2], Caps::default()).unwrap();
        assert_eq!(
            names(&left),
            [
                ("data.bin", "application/octet-stream"),
                ("deep/page.html", "text/html"),
                ("picture", "image/png"),
                ("notes.md", "text/markdown")
            ]
        );
        assert_eq!(left.artifacts[1].read().unwrap(), b"<p>hi</p>");
        assert_eq!(left.artifacts[1].read().unwrap(), b"<p>hi</p>", "and once more");
        assert!(left.refused.is_empty());
        assert_eq!(names(&collect(folder.path(), &|_| true, &named[2..], Caps::default()).unwrap()).len(), 4);
    }

    #[test]
    fn what_is_not_what_it_seems_is_refused() {
        let folder = workspace();
        let at = |name: &str| folder.path().join(name);
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs::write(secret.path(), "secret").unwrap();
        symlink(secret.path(), at("out/link")).unwrap();
        symlink("/", at("out/everything")).unwrap();
        fs::write(at("out/deep/one"), "two names").unwrap();
        fs::hard_link(at("out/deep/one"), at("other")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("out/pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::write(at(".env"), "KEY=secret").unwrap();
        let named = ["../x", "/etc/passwd", "out/everything/etc/passwd", "out/link", "out", "gone", "/workspace/.env"]
            .map(PathBuf::from);
        let left = collect(folder.path(), &|_| true, &named, Caps::default()).unwrap();
        assert_eq!(names(&left), []);
        let refused: Vec<_> = left.refused.iter().map(|(name, why)| (name.as_str(), *why)).collect();
        assert_eq!(
            refused,
            [
                ("deep/one", Refused::SecondName),
                ("everything", Refused::Link),
                ("link", Refused::Link),
                ("pipe", Refused::NotAFile),
                ("x", Refused::Outside),
                ("passwd", Refused::Outside),
                ("passwd", Refused::Outside),
                ("out", Refused::NotAFile),
                ("gone", Refused::Missing),
                (".env", Refused::Hidden),
            ]
        );
    }

    #[test]
    fn much_is_refused_and_names_are_made_plain() {
        let folder = workspace();
        for name in ["a", "b", "c\u{202e}gpj.exe", "d"] {
            fs::write(folder.path().join("out").join(name), [b'x'; 100]).unwrap();
        }
        fs::File::create(folder.path().join("out/large")).unwrap().set_len(1 << 40).unwrap();
        let caps = Caps { files: 3, file_bytes: 100, all_bytes: 250 };
        let left = collect(folder.path(), &|_| true, &[], caps).unwrap();
        assert_eq!(names(&left), [("a", "text/plain"), ("b", "text/plain")]);
        let refused: Vec<_> = left.refused.iter().map(|(name, why)| (name.as_str(), *why)).collect();
        let large = Refused::TooLarge;
        assert_eq!(refused, [("c\u{fffd}gpj.exe", large), ("d", large), ("large", large)]);
        let left = collect(folder.path(), &|_| true, &[], Caps { files: 1, ..Caps::default() }).unwrap();
        assert_eq!(left.refused[0].1, Refused::TooMany);
    }

    #[test]
    fn what_was_there_before_takes_nobodys_place() {
        let folder = workspace();
        let at = |name: &str| folder.path().join(name);
        for old in ["a", "b", "c"] {
            fs::write(at("out").join(old), "old").unwrap();
        }
        symlink("/etc/passwd", at("out/d")).unwrap();
        fs::write(at("out/z"), "new").unwrap();
        let caps = Caps { files: 2, ..Caps::default() };
        let left = collect(folder.path(), &|path| path.ends_with("z"), &["out/b".into()], caps).unwrap();
        assert_eq!(names(&left), [("z", "text/plain"), ("b", "text/plain")]);
        assert!(left.refused.is_empty(), "{:?}", left.refused);
        let left = collect(folder.path(), &|_| true, &[], Caps { files: 0, ..caps }).unwrap();
        assert_eq!((left.artifacts.len(), left.refused.len(), left.more), (0, 0, 5));
        fs::remove_dir_all(at("out")).unwrap();
        symlink("/etc", at("out")).unwrap();
        let left = collect(folder.path(), &|_| true, &[], caps).unwrap();
        assert_eq!(left.refused, [("out".to_owned(), Refused::Link)]);
    }

    #[test]
    fn a_name_is_one_line_that_reads_as_it_is_written() {
        let folder = workspace();
        let names = ["a\nb: done", "c\u{202e}gpj.exe", "d\u{61c}e", "f\u{feff}g\u{ad}h", &"é".repeat(120)];
        for name in names {
            fs::write(folder.path().join("out").join(name), "x").unwrap();
        }
        let left = collect(folder.path(), &|_| true, &[], Caps::default()).unwrap();
        let told: Vec<_> = left.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
        let fine = "é".repeat(120);
        assert_eq!(told, ["a\u{fffd}b: done", "c\u{fffd}gpj.exe", "d\u{fffd}e", "f\u{fffd}g\u{fffd}h", &fine]);
        let deep = folder.path().join("out").join("x".repeat(150)).join("y".repeat(150));
        fs::create_dir_all(deep.parent().unwrap()).unwrap();
        fs::write(deep, "x").unwrap();
        let left = collect(folder.path(), &|_| true, &[], Caps::default()).unwrap();
        assert!(left.artifacts.iter().all(|artifact| artifact.name.chars().count() <= 200));
    }
}
