//! What is told of each recording.

use std::fs;
use std::path::PathBuf;

use crate::told::told;
use crate::{errand, maker};

/// A recording, and what is told of it. The file of what is told begins with what the lines do not say, after question
/// marks: how the process ended, what it wrote to standard error, which thread it was to go on with.
pub struct Recording {
    pub name: String,
    pub lines: String,
    pub exit: Option<i32>,
    pub errors: String,
    pub thread: Option<String>,
    pub given: String,
    pub told: String,
}

pub fn list() -> Vec<Recording> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/agents");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().unwrap().strip_suffix(".told").map(str::to_owned))
        .collect();
    names.sort();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let recording = |name: String| {
        let (lines, text) = (read(&format!("{name}.jsonl")), read(&format!("{name}.told")));
        let (given, told): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("? "));
        let say =
            |word: &str| given.iter().filter_map(|line| line.strip_prefix(&format!("? {word} "))).collect::<Vec<_>>();
        Recording {
            exit: say("exit").first().map(|code| code.parse().unwrap()),
            errors: say("errors").join("\n"),
            thread: say("thread").first().map(|thread| (*thread).to_owned()),
            given: given.join("\n"),
            told: told.join("\n"),
            name,
            lines,
        }
    };
    names.into_iter().map(recording).collect()
}

#[test]
fn every_recording_is_told_as_it_is_written_beside_it() {
    let recordings = list();
    assert!(recordings.len() > 40, "the recordings are there");
    let fresh = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut wrong = Vec::new();
    for recording in recordings {
        let mut talk = maker(&recording.name)
            .talk(&salon_engine::agent::Errand { thread: recording.thread.clone(), ..errand("say hello") });
        let now = told(talk.as_mut(), &recording.lines, recording.exit, &recording.errors);
        if now.trim_end() != recording.told {
            let path = fresh.join(format!("{}.told", recording.name));
            fs::write(&path, format!("{}\n{now}", recording.given)).unwrap();
            wrong.push(format!("{} (now {}):\n{now}", recording.name, path.display()));
        }
    }
    assert!(wrong.is_empty(), "told otherwise than before:\n\n{}", wrong.join("\n"));
}
