//! Stories: conversations as files, played by the whole house against the mock Telegram, on both databases.
//!
//! A story stands in a code block of `stories/*.md`; [`script`] reads it, [`stage`] plays it, and `stories/README.md`
//! explains its words. Every story is a test of its own, `sqlite::<file>::<title>` and `postgres::<file>::<title>`, so
//! adding one needs no Rust. That is why this test lists and runs itself, in the manner that cargo and nextest expect.

#[path = "stories/desk.rs"]
mod desk;
#[path = "house/mod.rs"]
mod house;
#[path = "stories/pattern.rs"]
mod pattern;
#[path = "stories/script.rs"]
mod script;
#[path = "stories/stage.rs"]
mod stage;

use std::process::ExitCode;

use script::Story;
use tokio::task::LocalSet;

/// What the runner of the tests wants.
#[derive(Default)]
struct Wishes {
    list: bool,
    ignored: bool,
    exact: bool,
    names: Vec<String>,
    skipped: Vec<String>,
}

impl Wishes {
    fn of_the_command_line() -> Wishes {
        let mut wishes = Wishes::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--list" => wishes.list = true,
                "--ignored" => wishes.ignored = true,
                "--exact" => wishes.exact = true,
                "--skip" => wishes.skipped.extend(words.next()),
                // What these choose does not concern us.
                "--format" | "--color" | "--test-threads" | "--logfile" => drop(words.next()),
                flag if flag.starts_with('-') => {}
                name => wishes.names.push(name.to_owned()),
            }
        }
        wishes
    }

    fn includes(&self, name: &str) -> bool {
        let fits = |wish: &String| if self.exact { name == wish } else { name.contains(wish.as_str()) };
        // No story is ever ignored.
        !self.ignored && (self.names.is_empty() || self.names.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

fn main() -> ExitCode {
    let wishes = Wishes::of_the_command_line();
    let stories = script::read_all();
    let tests: Vec<(String, Database, &Story)> = [("sqlite", Database::Sqlite), ("postgres", Database::Postgres)]
        .into_iter()
        .flat_map(|(word, database)| stories.iter().map(move |story| (word, database, story)))
        .map(|(word, database, story)| (format!("{word}::{}::{}", story.file, story.name()), database, story))
        .filter(|(name, ..)| wishes.includes(name))
        .collect();
    if wishes.list {
        for (name, ..) in &tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filter = tracing_subscriber::EnvFilter::new("info,sqlx=warn");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let mut failed = Vec::new();
    for (name, database, story) in &tests {
        let (story, database) = ((*story).clone(), *database);
        // A task of its own, so that a panic is one failed story.
        let played = LocalSet::new().block_on(&runtime, async {
            tokio::task::spawn_local(async move { stage::play(&story, database).await }).await
        });
        match played {
            Ok(Ok(())) => println!("test {name} ... ok"),
            outcome => {
                println!("test {name} ... FAILED");
                match outcome {
                    Ok(Err(error)) => eprintln!("\n{error:#}\n"),
                    Err(panic) => eprintln!("\n{panic}\n"),
                    Ok(Ok(())) => {}
                }
                failed.push(name);
            }
        }
    }
    println!("\n{} stories, {} failed", tests.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
