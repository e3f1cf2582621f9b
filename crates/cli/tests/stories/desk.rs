//! The desk: the engine called `script`, which answers as the story says, one script a call.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use salon_core::{Brief, Note, Usage};
use salon_engine::{Emitter, Engine, EngineError, Scripted, Signal, Step};

#[derive(Default)]
pub struct Desk {
    scripts: Mutex<VecDeque<Script>>,
    heard: Mutex<Vec<Brief>>,
    /// Questions for which the story has no script.
    surprises: Mutex<Vec<String>>,
    /// What every `waits` waits for.
    pub signal: Signal,
}

/// What one call of the engine does.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub words: String,
    /// Whether the engine may never be asked for it.
    pub spare: bool,
    /// The thread that is named at once.
    thread: Option<String>,
    steps: Vec<Step>,
}

impl Desk {
    pub fn add(&self, script: Script) {
        locked(&self.scripts).push_back(script);
    }

    /// The newest brief.
    pub fn last_heard(&self) -> Option<Brief> {
        locked(&self.heard).last().cloned()
    }

    pub fn calls(&self) -> usize {
        locked(&self.heard).len()
    }

    /// What is wrong with the calls now that the story is over.
    pub fn check(&self) -> Result<()> {
        let surprises = locked(&self.surprises);
        if !surprises.is_empty() {
            bail!("the engine was asked without a script: {surprises:?}");
        }
        let left: Vec<_> =
            locked(&self.scripts).iter().filter(|script| !script.spare).map(|script| script.words.clone()).collect();
        if !left.is_empty() {
            bail!("the engine was never asked for: {left:?}");
        }
        Ok(())
    }

    /// Reads `says Once ; waits ; fails timeout: too slow`.
    pub fn script(&self, words: &str) -> Result<Script> {
        let mut script = Script { words: words.to_owned(), ..Script::default() };
        for step in words.split(" ; ") {
            let (verb, rest) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
            script.steps.push(match verb {
                "opens" => {
                    script.thread = Some(rest.to_owned());
                    continue;
                }
                "is" if rest == "silent" => continue,
                "says" => Step::Text(text(rest)?),
                "echoes" => Step::Question,
                "thinks" => Step::Note(Note::Reasoning { text: text(rest)? }),
                "runs" => Step::Note(Note::CommandStarted { command: rest.to_owned(), tool: None }),
                "ran" => {
                    let (command, rest) = rest.split_once(" => ").context("ran <command> => <exit code> <output>")?;
                    let (code, output) = rest.split_once(' ').unwrap_or((rest, ""));
                    let exit_code = Some(code.parse().context("an exit code is a number")?);
                    let output = text(output)?;
                    Step::Note(Note::CommandCompleted {
                        command: command.to_owned(),
                        exit_code,
                        output,
                        tool: None,
                        failed: false,
                    })
                }
                "names" => Step::Thread(rest.to_owned()),
                "counts" => {
                    let (tokens_in, tokens_out) = rest.split_once(' ').context("counts <in> <out>")?;
                    let (tokens_in, tokens_out) = (tokens_in.parse()?, tokens_out.parse()?);
                    Step::Usage(Usage { tokens_in, tokens_out, ..Usage::default() })
                }
                "waits" => Step::Wait(self.signal.clone()),
                "rests" => Step::Pause(Duration::from_millis(rest.parse().context("rests <milliseconds>")?)),
                "fails" => {
                    let (code, message) = rest.split_once(": ").context("fails <code>: <message>")?;
                    // Codes are static in the product; a story's few may stay for as long as it is played.
                    Step::Fail { code: code.to_owned().leak(), message: message.to_owned() }
                }
                "hangs" => Step::Hang,
                "panics" => Step::Panic,
                other => bail!("an engine cannot do this: {other}"),
            });
        }
        Ok(script)
    }
}

/// `lines 1 to 300` are that many lines; everything else is itself, with `\n` for a line break.
pub fn text(words: &str) -> Result<String> {
    let Some(range) = words.strip_prefix("lines ") else { return Ok(words.replace("\\n", "\n")) };
    let (from, to) = range.split_once(" to ").context("lines <from> to <to>")?;
    let lines = from.parse::<u32>()?..=to.parse::<u32>()?;
    Ok(lines.map(|n| format!("This is line {n}.\n")).collect())
}

#[async_trait]
impl Engine for Desk {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let Some(script) = locked(&self.scripts).pop_front() else {
            locked(&self.surprises).push(brief.question.clone());
            return Err(EngineError::failed("no_script", "The story has no script for this."));
        };
        locked(&self.heard).push(brief.clone());
        Scripted::new(script.steps).answer(brief, out).await
    }

    fn thread(&self, brief: &Brief) -> Option<String> {
        let opened = locked(&self.scripts).front().and_then(|script| script.thread.clone());
        opened.or_else(|| brief.thread.clone())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
