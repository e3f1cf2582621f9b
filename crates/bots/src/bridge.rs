//! The `events` view: a turn's log as the bridge's lines, which programs match word for word.
//!
//! A line is `[<number>][HH:MM:SS][<type>] <body>`, the time in UTC. Lines never change once they are written, so the
//! pages made of them only grow at the end.

use salon_core::{Event, Lang, Note, Stamped};
use serde_json::{Value, json};

/// Characters of one message in this view.
const PAGE_CHARS: usize = 3800;
const CONTINUED: &str = "[continued]\n";
/// A part of an answer that streams gets a line of its own once it is this long.
const PIECE_CHARS: usize = 1500;

/// The messages that show the log so far.
pub fn pages(events: &[Stamped]) -> Vec<String> {
    let mut pages: Vec<String> = Vec::new();
    for line in lines(events) {
        match pages.last_mut() {
            Some(page) if page.chars().count() + 1 + line.chars().count() <= PAGE_CHARS => {
                page.push('\n');
                page.push_str(&line);
            }
            Some(_) => pages.push(format!("{CONTINUED}{line}")),
            None => pages.push(line),
        }
    }
    pages
}

fn lines(events: &[Stamped]) -> Vec<String> {
    let mut lines = Lines::default();
    let mut said = String::new();
    let mut said_at = events.first().map_or(salon_core::Time(0), |event| event.at);
    for stamped in events {
        if let Event::Text { text } = &stamped.event {
            said.push_str(text);
            said_at = stamped.at;
            // Whole lines only, so that a piece is never cut in the middle of a word.
            if said.chars().count() > PIECE_CHARS
                && let Some(at) = said.rfind('\n')
            {
                let rest = said.split_off(at + 1);
                lines.add(said_at, "assistant_message", said.trim_end_matches('\n'));
                said = rest;
            }
            continue;
        }
        if !said.is_empty() {
            lines.add(said_at, "assistant_message", &said);
            said.clear();
        }
        let at = stamped.at;
        match &stamped.event {
            Event::Text { .. } => {}
            Event::Started { thread, .. } => {
                if let Some(thread) = thread {
                    lines.add(at, "thread_started", &python(&json!({ "thread_id": thread })));
                }
                lines.add(at, "turn_started", "{}");
            }
            Event::Thread { id } => lines.add(at, "thread_started", &python(&json!({ "thread_id": id }))),
            Event::Note(Note::Reasoning { text }) => lines.add(at, "reasoning", text),
            Event::Note(Note::CommandStarted { command, .. }) => lines.add(at, "command_started", command),
            Event::Note(Note::CommandCompleted { command, exit_code, output, .. }) => {
                let code = exit_code.map_or("none".to_owned(), |code| code.to_string());
                lines.add(at, "command_completed", &format!("{command}\nexit_code={code}\n{output}"));
            }
            Event::Note(Note::FileChanged { path, change }) => {
                lines.add(at, "file_changed", &python(&json!({ "path": path, "change": change })));
            }
            Event::Note(Note::Trouble { message }) => lines.add(at, "error", message),
            // A file that was not delivered was an error of delivery to the bridge.
            Event::Note(Note::KeptBack { files, more }) => {
                for file in files {
                    let why = file.why_in(Lang::En);
                    lines.add(at, "delivery_error", &format!("{} is not delivered: {why}", file.name));
                }
                if *more > 0 {
                    lines.add(at, "delivery_error", &format!("{more} more files are not delivered"));
                }
            }
            Event::Note(Note::Asked { title, .. }) => lines.add(at, "approval_requested", title),
            Event::Note(Note::Answered { verdict, .. }) => lines.add(at, "approval_answered", verdict),
            // The bridge had no panels, and its readers match every line.
            Event::Note(
                Note::Seated { .. }
                | Note::Gate { .. }
                | Note::VoiceBegan { .. }
                | Note::VoiceText { .. }
                | Note::VoiceEnded { .. }
                | Note::CutShort { .. },
            ) => {}
            Event::Note(Note::Steered { text, .. }) => lines.add(at, "steered", text),
            // What nobody understands was a thought to the bridge.
            Event::Note(Note::Raw { line }) => lines.add(at, "reasoning", &python(&json!({ "raw": line }))),
            Event::File(file) => lines.add(at, "artifact", &python(&json!({ "name": file.name, "size": file.size }))),
            Event::Usage(_) => {}
            Event::Done => lines.add(at, "turn_completed", &python(&json!({ "status": "success" }))),
            Event::Failed { message, .. } => {
                lines.add(at, "error", message);
                lines.add(at, "turn_completed", &python(&json!({ "status": "error" })));
            }
            Event::Stopped => {
                lines.add(at, "error", "cancelled");
                lines.add(at, "turn_completed", &python(&json!({ "status": "cancelled" })));
            }
        }
    }
    lines.list
}

#[derive(Default)]
struct Lines {
    list: Vec<String>,
    number: usize,
}

impl Lines {
    fn add(&mut self, at: salon_core::Time, kind: &str, body: &str) {
        self.number += 1;
        let prefix = format!("[{}][{}][{kind}] ", self.number, at.hms());
        let room = 200.max(PAGE_CHARS.saturating_sub(prefix.chars().count() + 16));
        let pieces = cut(body, room);
        let count = pieces.len();
        for (at, piece) in pieces.iter().enumerate() {
            let mark = if count > 1 { format!("({}/{count}) ", at + 1) } else { String::new() };
            self.list.push(format!("{prefix}{mark}{piece}"));
        }
    }
}

/// Pieces of at most `room` characters; an empty text is one empty piece.
fn cut(text: &str, room: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    if characters.is_empty() {
        return vec![String::new()];
    }
    characters.chunks(room).map(|piece| piece.iter().collect()).collect()
}

/// JSON with the separators `, ` and `: `, as the bridge's programs expect it.
fn python(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), python(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(python).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salon_core::Time;

    fn log(events: Vec<Event>) -> Vec<Stamped> {
        let stamp = |(at, event)| Stamped { seq: at as i64 + 1, attempt: 1, at: Time(3_661_000), event };
        events.into_iter().enumerate().map(stamp).collect()
    }

    #[test]
    fn the_echo_adapter_reads_as_it_always_did() {
        let log = log(vec![
            Event::Started { engine: "echo".into(), thread: Some("echo-thread".into()) },
            Event::Text { text: "echo: ".into() },
            Event::Text { text: "hi".into() },
            Event::Done,
        ]);
        assert_eq!(
            pages(&log),
            ["[1][01:01:01][thread_started] {\"thread_id\": \"echo-thread\"}\n\
              [2][01:01:01][turn_started] {}\n\
              [3][01:01:01][assistant_message] echo: hi\n\
              [4][01:01:01][turn_completed] {\"status\": \"success\"}"]
        );
    }

    #[test]
    fn a_missing_program_is_an_error_and_an_end() {
        let log = log(vec![Event::Failed { code: "binary_missing".into(), message: "provider=codex …".into() }]);
        assert_eq!(
            pages(&log),
            ["[1][01:01:01][error] provider=codex …\n[2][01:01:01][turn_completed] {\"status\": \"error\"}"]
        );
    }

    #[test]
    fn each_file_that_nobody_gets_is_an_error_of_delivery() {
        let file = |name: &str, why: &str| salon_core::KeptFile { name: name.into(), why: why.into() };
        let files = vec![file("film.mp4", "too_large"), file("p.txt", "link")];
        let log = log(vec![Event::Note(Note::KeptBack { files, more: 3 })]);
        assert_eq!(
            pages(&log),
            ["[1][01:01:01][delivery_error] film.mp4 is not delivered: it is too large\n\
              [2][01:01:01][delivery_error] p.txt is not delivered: it is a link\n\
              [3][01:01:01][delivery_error] 3 more files are not delivered"]
        );
    }

    #[test]
    fn long_bodies_are_cut_and_pages_continued() {
        let log = log(vec![Event::Note(Note::Reasoning { text: "가".repeat(9000) }), Event::Done]);
        let pages = pages(&log);
        assert!(pages.iter().all(|page| page.chars().count() <= PAGE_CHARS + CONTINUED.len()));
        assert!(pages[0].starts_with("[1][01:01:01][reasoning] (1/3) 가"));
        assert!(pages[1].starts_with("[continued]\n[1][01:01:01][reasoning] (2/3) 가"));
    }

    #[test]
    fn a_growing_log_never_changes_earlier_pages() {
        let mut events = vec![Event::Started { engine: "x".into(), thread: None }];
        let mut before: Vec<String> = Vec::new();
        for n in 0..200 {
            events.push(Event::Text { text: format!("line {n} of a long story\n") });
            let now = pages(&log(events.clone()));
            for (old, new) in before.iter().zip(&now) {
                assert!(new.starts_with(old.as_str()));
            }
            before = now;
        }
    }
}
