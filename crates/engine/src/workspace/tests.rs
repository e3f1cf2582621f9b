use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

struct Chat {
    _root: tempfile::TempDir,
    workspace: Workspace,
}

fn chat() -> Chat {
    let root = tempfile::tempdir().unwrap();
    let workspace = Workspaces::open(root.path()).unwrap().place("birds", "parrot", "-100123").unwrap();
    Chat { _root: root, workspace }
}

impl Chat {
    fn path(&self, name: &str) -> PathBuf {
        self.workspace.work.join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// All that there is, with modes and contents, as a text.
    fn all(&self) -> String {
        let mut lines = Vec::new();
        let mut folders = vec![self.workspace.work.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
                let what = if meta.is_dir() {
                    folders.push(path.clone());
                    "folder".to_owned()
                } else if meta.is_symlink() {
                    fs::read_link(&path).unwrap().display().to_string()
                } else if meta.is_file() {
                    format!("{:?}", fs::read(&path).unwrap())
                } else {
                    "strange".to_owned()
                };
                lines.push(format!("{} {:o} {what}", path.display(), meta.permissions().mode()));
            }
        }
        lines.sort();
        lines.join("\n")
    }
}

#[test]
fn each_chat_has_a_folder_that_is_its_own() {
    let root = tempfile::tempdir().unwrap();
    let all = Workspaces::open(root.path()).unwrap();
    let a = all.place("birds", "parrot", "1").unwrap();
    let names = [
        ("birds", "parrot", "2"),
        ("birds", "crow", "1"),
        ("fish", "parrot", "1"),
        ("birds", "../parrot", "1"),
        ("", "..", "a/b"),
    ];
    let mut works = std::collections::BTreeSet::from([a.work.clone()]);
    for (org, bot, chat) in names {
        let workspace = all.place(org, bot, chat).unwrap();
        assert!(workspace.work.starts_with(fs::canonicalize(root.path()).unwrap()));
        assert_eq!(workspace.work.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(works.insert(workspace.work));
    }
    assert_eq!(all.place("birds", "parrot", "1").unwrap().work, a.work);
}

#[test]
fn a_diff_shows_what_changed_and_undo_takes_it_back() {
    let chat = chat();
    chat.write("kept.txt", "as it was\n");
    chat.write("poem.txt", "one\ntwo\nthree\n");
    chat.write("gone/old.txt", "bye\n");
    chat.write("image.bin", [0, 1, 2]);
    chat.write(".git/index", "git's own");
    chat.write("script.sh", "#!/bin/sh\n");
    fs::create_dir(chat.path("empty")).unwrap();
    symlink("kept.txt", chat.path("link")).unwrap();
    chat.mode("empty", 0o750);
    chat.mode("script.sh", 0o644);
    let before = chat.all();
    assert_eq!(chat.workspace.diff().unwrap(), Diff::default(), "without a snapshot nothing changed");
    assert_eq!(chat.workspace.undo().unwrap(), None);
    chat.workspace.snapshot().unwrap();
    assert_eq!(chat.workspace.diff().unwrap(), Diff::default());

    chat.write("poem.txt", "one\n2\nthree\n");
    chat.write("new/deep/file.txt", "hello\n");
    chat.write("image.bin", [9; 70_000]);
    chat.write(".git/index", "changed");
    chat.mode("script.sh", 0o755);
    fs::remove_dir_all(chat.path("gone")).unwrap();
    fs::remove_dir(chat.path("empty")).unwrap();
    fs::remove_file(chat.path("link")).unwrap();
    symlink("/etc/passwd", chat.path("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, chat.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let diff = chat.workspace.diff().unwrap();
    assert_eq!(
        diff.text,
        "--- a/gone/old.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n\
         binary image.bin: 3 bytes to 70000 bytes\n\
         --- a/link\n+++ b/link\n@@ -1 +1 @@\n-kept.txt\n+/etc/passwd\n\
         --- /dev/null\n+++ b/new/deep/file.txt\n@@ -0,0 +1 @@\n+hello\n\
         binary pipe: nothing to no file\n\
         --- a/poem.txt\n+++ b/poem.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\
         mode of script.sh: 644 to 755\n"
    );
    assert!(!diff.cut);
    assert_eq!(chat.workspace.changed().unwrap(), diff.changes);
    let undone = chat.workspace.undo().unwrap().unwrap();
    assert_eq!(undone, diff.changes);
    assert_eq!(chat.all(), before);
    assert_eq!(chat.workspace.undo().unwrap(), None);
}

#[test]
fn one_can_undo_more_than_once() {
    let chat = chat();
    let mut states = Vec::new();
    for round in 0..25 {
        chat.write("round.txt", format!("{round}\n"));
        states.push(chat.all());
        chat.workspace.snapshot().unwrap();
        chat.write("round.txt", format!("{round} and more\n"));
    }
    for state in states.iter().rev().take(KEPT) {
        assert!(chat.workspace.undo().unwrap().is_some());
        assert_eq!(&chat.all(), state);
    }
    assert_eq!(chat.workspace.undo().unwrap(), None, "older ones were forgotten");
}

#[test]
fn what_a_run_hides_comes_back_all_the_same() {
    let chat = chat();
    chat.write("a/b/file", "text");
    chat.write("private", "secret");
    chat.mode("private", 0o000);
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("file"), "somebody's").unwrap();
    let before = |chat: &Chat| fs::read_to_string(chat.path("a/b/file")).unwrap();
    chat.workspace.snapshot().unwrap();
    // A folder becomes a link to somebody else's: what is put back must not land there.
    fs::remove_dir_all(chat.path("a/b")).unwrap();
    symlink(victim.path(), chat.path("a/b")).unwrap();
    chat.mode("private", 0o600);
    chat.write("locked/inner", "x");
    chat.mode("locked", 0o000);
    chat.write("fixed/inner", "x");
    chat.mode("fixed", 0o500);
    assert_eq!(chat.workspace.diff().unwrap().changes.len(), 5);
    chat.workspace.undo().unwrap().unwrap();
    assert_eq!(before(&chat), "text");
    assert!(!chat.path("locked").exists() && !chat.path("fixed").exists());
    assert_eq!(fs::read_to_string(victim.path().join("file")).unwrap(), "somebody's");
    assert_eq!(chat.path("private").metadata().unwrap().permissions().mode() & 0o777, 0);
}

#[test]
fn a_large_diff_is_cut_and_a_large_file_named() {
    let chat = chat();
    chat.workspace.snapshot().unwrap();
    chat.write("large.txt", "x".repeat(2 << 20));
    for at in 0..40 {
        chat.write(&format!("many/{at}"), "\u{1F99C}\n".repeat(4000));
    }
    let diff = chat.workspace.diff().unwrap();
    assert!(diff.cut && diff.text.len() <= 256 << 10);
    assert!(diff.text.starts_with("binary large.txt: nothing to 2097152 bytes\n"));
    assert_eq!(diff.changes.len(), 41);
}

#[test]
fn a_project_has_a_past_of_its_own() {
    let chat = chat();
    let project = tempfile::tempdir().unwrap();
    fs::write(project.path().join("main.rs"), "fn main() {}\n").unwrap();
    let there = chat.workspace.in_project(project.path()).unwrap();
    there.snapshot().unwrap();
    fs::remove_file(project.path().join("main.rs")).unwrap();
    assert_eq!(chat.workspace.undo().unwrap(), None);
    assert_eq!(there.undo().unwrap().unwrap(), [Change::Removed("main.rs".into())]);
    assert_eq!(fs::read_to_string(project.path().join("main.rs")).unwrap(), "fn main() {}\n");
    there.clear().unwrap();
    assert!(project.path().join("main.rs").exists());
}

#[test]
fn what_is_no_file_and_was_there_before_stays() {
    let chat = chat();
    let pipe = |name: &str| {
        rustix::fs::mknodat(rustix::fs::CWD, chat.path(name), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    };
    pipe("service");
    pipe("taken");
    chat.workspace.snapshot().unwrap();
    pipe("new");
    fs::remove_file(chat.path("taken")).unwrap();
    chat.write("taken", "a file now");
    chat.workspace.undo().unwrap().unwrap();
    assert!(chat.path("service").symlink_metadata().is_ok());
    assert!(!chat.path("new").exists() && !chat.path("taken").exists());
}

#[test]
fn holes_without_end_are_not_copied_and_can_be_taken_back() {
    let chat = chat();
    chat.write("nest.txt", "egg\n");
    chat.workspace.snapshot().unwrap();
    for number in 0..20 {
        fs::File::create(chat.path(&format!("hole{number}"))).unwrap().set_len(1 << 30).unwrap();
    }
    chat.write("nest.txt", "all gone\n");
    let full = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    let blobs = || fs::read_dir(chat.workspace.past.join("blobs")).unwrap().count();
    let before = blobs();
    full(chat.workspace.changed().unwrap_err());
    full(chat.workspace.diff().unwrap_err());
    assert_eq!(chat.workspace.undo().unwrap().unwrap().len(), 21);
    assert_eq!(fs::read_to_string(chat.path("nest.txt")).unwrap(), "egg\n");
    assert_eq!((fs::read_dir(&chat.workspace.work).unwrap().count(), blobs()), (1, before));
}

#[test]
fn of_a_long_past_the_oldest_is_forgotten_and_the_last_never() {
    let chat = chat();
    let numbers = || {
        let names = fs::read_dir(&chat.workspace.past).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".json")).count()
    };
    for number in 0..4 {
        chat.write("nest.txt", vec![number; 1000]);
        chat.workspace.snapshot().unwrap();
    }
    past::forget(&chat.workspace.past, 20, 2500).unwrap();
    assert_eq!((numbers(), fs::read_dir(chat.workspace.past.join("blobs")).unwrap().count()), (2, 2));
    past::forget(&chat.workspace.past, 20, 10).unwrap();
    assert_eq!(numbers(), 1);
    chat.write("nest.txt", "other");
    chat.workspace.undo().unwrap().unwrap();
    assert_eq!(fs::read(chat.path("nest.txt")).unwrap(), [3; 1000]);
}

#[test]
fn a_diff_reads_as_it_is_written() {
    let chat = chat();
    chat.workspace.snapshot().unwrap();
    chat.write("a\nb\u{202e}c.txt", "if \u{202e}admin\u{2066} \u{1b}[2J\n");
    symlink("x\n+++ b/y", chat.path("z")).unwrap();
    let text = chat.workspace.diff().unwrap().text;
    assert_eq!(
        text,
        "--- /dev/null\n+++ b/a\u{fffd}b\u{fffd}c.txt\n@@ -0,0 +1 @@\n+if \u{fffd}admin\u{fffd} \u{fffd}[2J\n\
         --- /dev/null\n+++ b/z\n@@ -0,0 +1 @@\n+x\u{fffd}+++ b/y\n"
    );
}

#[test]
fn a_folder_is_held_by_one() {
    let chat = chat();
    let project = chat.workspace.in_project(&chat.workspace.work).unwrap();
    let held = chat.workspace.hold().unwrap();
    assert!(held.is_some() && chat.workspace.hold().unwrap().is_none() && project.hold().unwrap().is_none());
    drop(held);
    assert!(project.hold().unwrap().is_some());
}
