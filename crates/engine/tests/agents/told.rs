//! What was made of an agent's lines, in lines that people can read.

use std::fmt::Write as _;

use salon_core::Note;

use salon_engine::EngineError;
use salon_engine::agent::{Step, Talk};

/// Tells all that follows from `lines`, and how it ended. Pieces of text that follow each other stand in one line, with
/// bars between them.
pub fn told(talk: &mut dyn Talk, lines: &str, code: Option<i32>, errors: &str) -> String {
    let mut steps = Vec::new();
    for line in lines.lines() {
        steps.extend(talk.hear(line));
    }
    let mut told = String::new();
    let mut last_was_text = false;
    for step in &steps {
        match step {
            Step::Text(text) => {
                told.push_str(if last_was_text { "|" } else { "text " });
                told.push_str(&text.replace('\n', "⏎"));
            }
            step => {
                if last_was_text {
                    told.push('\n');
                }
                writeln!(told, "{}", line(step)).unwrap();
            }
        }
        last_was_text = matches!(step, Step::Text(_));
    }
    if last_was_text {
        told.push('\n');
    }
    match talk.ended(code, errors) {
        Ok(()) => told.push_str("= done\n"),
        Err(EngineError::Stopped) => told.push_str("= stopped\n"),
        Err(EngineError::Failed { code, message }) => writeln!(told, "= {code}: {message}").unwrap(),
    }
    told
}

fn line(step: &Step) -> String {
    let said = match step {
        Step::Note(Note::Reasoning { text }) => format!("thought {text}"),
        Step::Note(Note::CommandStarted { command, tool }) => format!("starts {}{command}", named(tool)),
        Step::Note(Note::CommandCompleted { command, exit_code, output, tool, failed }) => {
            let how = if *failed { "failed" } else { "worked" };
            let code = exit_code.map(|code| format!(" ({code})")).unwrap_or_default();
            let gap = if output.is_empty() { "" } else { ": " };
            format!("{how}{code} {}{command}{gap}{output}", named(tool))
        }
        Step::Note(Note::FileChanged { path, change }) => format!("file {path} {change:?}"),
        Step::Note(Note::Trouble { message }) => format!("trouble {message}"),
        Step::Note(Note::Raw { line }) => format!("raw {line}"),
        Step::Note(note) => format!("{note:?}"),
        Step::Thread(id) => format!("thread {id}"),
        Step::Usage(usage) => {
            let model = usage.model.as_deref().unwrap_or("?");
            let suspect = if usage.suspect { ", suspect" } else { "" };
            format!("usage {} in, {} out, {model}{suspect}", usage.tokens_in, usage.tokens_out)
        }
        Step::Finished => "finished".to_owned(),
        step => format!("{step:?}"),
    };
    said.replace('\n', "⏎")
}

fn named(tool: &Option<String>) -> String {
    tool.as_ref().map(|tool| format!("[{tool}] ")).unwrap_or_default()
}
