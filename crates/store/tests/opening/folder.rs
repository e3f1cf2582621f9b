use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use salon_store::testing::Scratch;
use salon_store::{Error, Place, Store};

use crate::child;
use crate::{count, enqueue, enqueue_with};

/// The one line that an operator would read.
async fn refusal(folder: &Path) -> String {
    let place = Place::Folder(folder.to_owned());
    let error = Store::open(&place, "test").await.err().expect("it is refused");
    let line = format!("{error:#}");
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[tokio::test]
async fn a_second_store_on_the_same_folder_is_refused_until_the_first_is_closed() {
    let Scratch { store, place, folder } = Scratch::sqlite().await;
    let Place::Folder(data) = &place else { unreachable!("a folder") };
    let line = refusal(data).await;
    assert!(line.contains("another Salon is using the data folder"), "{line}");
    assert!(line.contains(data.to_str().expect("text")), "{line}");
    enqueue(&store, 1).await.expect("the first goes on");

    store.close().await;
    let again = Store::open(&place, "test").await.expect("the folder is free");
    assert_eq!(count(&again).await.expect("count"), 1);
    drop(folder);
}

#[tokio::test]
async fn a_dropped_store_lets_go_of_its_folder() {
    let Scratch { store, place, folder } = Scratch::sqlite().await;
    enqueue(&store, 1).await.expect("enqueue");
    drop(store);
    let again = Store::open(&place, "test").await.expect("the folder is free soon");
    assert_eq!(count(&again).await.expect("count"), 1);
    drop(folder);
}

#[tokio::test]
async fn a_folder_may_have_any_name_and_is_nobody_elses_business() {
    let scratch = tempfile::tempdir().expect("a folder");
    for name in ["a b", "what?mode=memory", "#1", "100%25", "ключ 🦜", "a:b@c", "deep/er"] {
        let folder = scratch.path().join(name);
        let store = Store::open(&Place::Folder(folder.clone()), "test").await.expect(name);
        enqueue(&store, 1).await.expect(name);
        store.close().await;
        assert!(folder.join("salon.db").metadata().expect(name).len() > 0);
        assert_eq!(folder.metadata().expect(name).permissions().mode() & 0o777, 0o700, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_by_name() {
    if let Some(folder) = child::variable("SALON_TEST_FOLDER") {
        println!("refusal: {}", refusal(Path::new(&folder)).await);
        return;
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let permit = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");

    let closed = scratch.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    permit(&closed, 0o555);
    let line = refusal_without_privileges(&closed);
    assert!(line.contains("cannot be used") && line.contains("Permission denied"), "{line}");
    assert_eq!(fs::read_dir(&closed).expect("a folder").count(), 0, "nothing is left behind");

    let missing = closed.join("missing");
    let line = refusal_without_privileges(&missing);
    assert!(line.contains("missing cannot be used"), "{line}");

    let frozen = scratch.path().join("frozen");
    Store::open(&Place::Folder(frozen.clone()), "test").await.expect("open").close().await;
    let before = fs::read(frozen.join("salon.db")).expect("the file");
    permit(&frozen.join("salon.db"), 0o444);
    let line = refusal_without_privileges(&frozen);
    assert!(line.contains("frozen/salon.db") && line.contains("read-only"), "{line}");
    assert_eq!(fs::read(frozen.join("salon.db")).expect("the file"), before);

    let file = scratch.path().join("file");
    fs::write(&file, "not a folder").expect("a file");
    assert!(refusal(&file).await.contains("cannot be used"));
}

/// As root one may write everywhere, so root gives that right away first.
fn refusal_without_privileges(folder: &Path) -> String {
    let wrapper: &[&str] = match child::is_root() {
        true => {
            &["setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search"]
        }
        false => &[],
    };
    let mut command = child::command(wrapper, "folder::what_cannot_be_written_is_refused_by_name", "refused");
    command.env("SALON_TEST_FOLDER", folder);
    let output = String::from_utf8(child::run(command).stdout).expect("text");
    let line = output.lines().find_map(|line| line.split_once("refusal: ")).expect("a refusal").1;
    line.to_owned()
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let scratch = tempfile::tempdir().expect("a folder");
    let file = scratch.path().join("salon.db");
    let text = "this is a letter to my grandmother, and no database at all\n".repeat(100);
    fs::write(&file, &text).expect("a file");
    let line = refusal(scratch.path()).await;
    assert!(line.contains("salon.db") && line.contains("damaged"), "{line}");
    assert_eq!(fs::read_to_string(&file).expect("text"), text);
}

/// A closed database with something in it, and zeros where its last pages were.
async fn damaged(scratch: &tempfile::TempDir) -> PathBuf {
    let folder = scratch.path().join("data");
    let store = Store::open(&Place::Folder(folder.clone()), "test").await.expect("open");
    for n in 0..40 {
        enqueue_with(&store, n, "word ".repeat(400)).await.expect("enqueue");
    }
    store.close().await;
    let file = fs::OpenOptions::new().write(true).open(folder.join("salon.db")).expect("the file");
    let pages = file.metadata().expect("metadata").len() / 4096;
    for page in pages - 10..pages {
        file.write_all_at(&[0; 4096], page * 4096).expect("write");
    }
    folder
}

#[tokio::test]
async fn damage_is_found_by_a_check() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = damaged(&scratch).await;
    let store = Store::open(&Place::Folder(folder), "test").await.expect("it looks well from outside");
    let wrong = store.check().await.expect("a check");
    assert!(!wrong.is_empty());
    // Whoever meets the damage is told, and the process goes on.
    let mut tx = store.read().await.expect("read");
    let mut met = 0;
    for lane in 0..4 {
        if let Err(error) = tx.list_open(&format!("lane {lane}")).await {
            assert!(matches!(error, Error::Fault(_)), "{error:?}");
            assert!(error.to_string().contains("damaged"), "{error}");
            met += 1;
        }
    }
    assert!(met > 0);
}

#[tokio::test]
async fn damage_is_looked_for_after_an_unclean_end() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = damaged(&scratch).await;
    // A log is left when nobody closed the database; even one that says nothing.
    fs::write(folder.join("salon.db-wal"), [0; 32]).expect("a log");
    let line = refusal(&folder).await;
    assert!(line.contains("damaged") && line.contains("restore a backup"), "{line}");
}
