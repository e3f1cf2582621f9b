//! Salon itself is the shim of a cell: the sandbox's own tests use another program, and this tries the real one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use salon_engine::sandbox::{Cell, How, Sandbox, Settings};
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn salon_is_the_shim_of_a_cell() {
    if std::env::var_os("SALON_NO_BWRAP").is_some() {
        println!("NOT PROVED: SALON_NO_BWRAP is set, so the sandbox was not tried.");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let bwrap = std::env::split_paths(&path).map(|folder| folder.join("bwrap")).find(|file| file.is_file());
    let settings =
        Settings { bwrap, shim: PathBuf::from(env!("CARGO_BIN_EXE_salon")), folder: folder.path().join("sandbox") };
    let sandbox = Sandbox::probe(settings).await.unwrap_or_else(|lack| panic!("{lack}"));
    let mut took = Vec::new();
    for _ in 0..10 {
        let mut cell =
            Cell::new(Path::new("/usr/bin/env"), folder.path().join("home"), folder.path().join("workspace"));
        for folder in [&cell.home, &cell.workspace] {
            std::fs::create_dir_all(folder).unwrap();
        }
        cell.env = vec![("PARROT".into(), "\u{1F99C}".into())];
        let begun = Instant::now();
        let mut confined = sandbox.start(cell).await.unwrap();
        assert_eq!(confined.next().await.unwrap().text, "PARROT=\u{1F99C}");
        took.push(begun.elapsed());
        assert_eq!(confined.ended().await.how, How::Exit(0));
    }
    took.sort();
    println!("start to first line: median {:?}, worst {:?}", took[5], took[9]);
    assert!(took[5] < Duration::from_secs(1), "{took:?}");
}
