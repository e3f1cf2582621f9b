//! What agents and their tools print, made fit to be shown: no control sequences, no megabytes, no addresses.

use salon_core::{Change, Note};
use serde_json::Value;

use super::{Step, WORKSPACE};

/// Most characters of a tool's output that are kept. Who wants all of it asks the agent for a file.
pub(super) const OUTPUT: usize = 4_000;
/// Most characters of a command, or of what a tool does.
pub(super) const COMMAND: usize = 1_000;
/// Most characters of a sentence about a failure, and of a line that nobody understood.
pub(super) const SENTENCE: usize = 400;
pub(super) const RAW: usize = 1_000;

/// One line of an agent: the JSON object that it is, or a note of what it was instead. Nothing for an empty one.
pub(super) fn read(line: &str) -> Result<Value, Option<Note>> {
    match serde_json::from_str(line) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(Some(raw(line)).filter(|_| !line.trim().is_empty())),
    }
}

/// What a line means to who reads its object; what it was instead is kept as a note.
pub(super) fn hear(line: &str, told: impl FnOnce(Value, &mut Vec<Step>)) -> Vec<Step> {
    let mut steps = Vec::new();
    match read(line) {
        Ok(value) => told(value, &mut steps),
        Err(note) => steps.extend(note.map(Step::Note)),
    }
    steps
}

pub(super) fn raw(line: &str) -> Note {
    Note::Raw { line: shown(line, RAW) }
}

/// A text without the sequences that would steer a terminal, and without the control characters that no database and no
/// chat takes. Line ends and tabs stay, and whatever stands between two sequences.
pub(super) fn clean(text: &str) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return text.to_owned();
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => kept.push(c),
            // Programs that draw a bar of progress go back to the start of the line; a log goes on.
            '\r' => {
                if !rest.as_str().starts_with('\n') {
                    kept.push('\n');
                }
            }
            '\u{1b}' => {
                let after = rest.as_str();
                let skipped = match after.chars().next() {
                    Some('[') => 1 + sequence(&after[1..]),
                    Some(']' | 'P' | 'X' | '^' | '_') => 1 + string(&after[1..]),
                    _ => escape(after),
                };
                rest = after[skipped..].chars();
            }
            '\u{9b}' => {
                let after = rest.as_str();
                rest = after[sequence(after)..].chars();
            }
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => {
                let after = rest.as_str();
                rest = after[string(after)..].chars();
            }
            c if c.is_control() => {}
            c => kept.push(c),
        }
    }
    kept
}

/// How long the rest of a control sequence is: parameters, and the letter that ends it if there is one.
fn sequence(text: &str) -> usize {
    let parameters = text.bytes().take_while(|byte| matches!(byte, 0x20..=0x3f)).count();
    match text.as_bytes().get(parameters) {
        Some(0x40..=0x7e) => parameters + 1,
        _ => 0,
    }
}

/// How long a string for the terminal is with its end, as titles and clipboards have one. Zero where it has no end: what
/// follows may be an answer.
fn string(text: &str) -> usize {
    let ends = ["\u{7}", "\u{1b}\\", "\u{9c}"];
    ends.iter().filter_map(|end| Some(text.find(end)? + end.len())).min().unwrap_or(0)
}

/// How long the rest of any other escape is.
fn escape(text: &str) -> usize {
    let between = text.bytes().take_while(|byte| matches!(byte, 0x20..=0x2f)).count();
    match text.as_bytes().get(between) {
        Some(0x30..=0x7e) => between + 1,
        _ => 0,
    }
}

/// What is shown of a command or an output: clean, without the marks that turn the direction of writing around (a
/// command must not look like another one), and of at most `limit` characters.
pub(super) fn shown(text: &str, limit: usize) -> String {
    let text = clean(text);
    let text = match text.contains(turns) {
        true => text.replace(turns, ""),
        false => text,
    };
    cut(text, limit)
}

fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Leaves the middle out of what is too long: how it began is there, and so is how it ended.
fn cut(text: String, limit: usize) -> String {
    let count = if text.len() <= limit { 0 } else { text.chars().count() };
    if count <= limit {
        return text;
    }
    let (head, tail) = (limit - limit / 4, limit / 4);
    let at = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    format!("{}\n… {} characters …\n{}", &text[..at(head)], count - head - tail, &text[at(count - tail)..])
}

/// A JSON value in one line.
pub(super) fn compact(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// A path's name within the workspace. Nothing for what is outside: whoever joins it to a folder must not get out.
pub(super) fn inside(path: &str) -> Option<String> {
    let path = match path.strip_prefix(WORKSPACE) {
        Some(rest) => rest.strip_prefix('/')?,
        None => path,
    };
    let path = path.strip_prefix("./").unwrap_or(path);
    let plain = !path.is_empty()
        && !path.starts_with('/')
        && !path.contains(|c: char| c.is_control() || turns(c))
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then(|| path.to_owned())
}

/// What became of a file, by codex's word for it. One elsewhere, or one that was left alone after all, is told like the
/// work of any other tool.
pub(super) fn changed(verb: &str, path: &str, failed: bool) -> Note {
    let change = match verb {
        "add" => Change::Added,
        "delete" => Change::Deleted,
        _ => Change::Changed,
    };
    match inside(path) {
        Some(path) if !failed => Note::FileChanged { path, change },
        _ => Note::CommandCompleted {
            command: shown(&format!("{verb} {path}"), COMMAND),
            exit_code: None,
            output: String::new(),
            tool: Some("file_change".into()),
            failed,
        },
    }
}

/// Words of an agent about a failure, in one line, without what is nobody's business: addresses, keys, paths outside the
/// workspace.
pub(super) fn redacted(text: &str, key: &str) -> String {
    let text = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let text = if key.len() < 6 { text } else { text.replace(key, "…") };
    let mut kept = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| c.is_whitespace() || "\"'`()<>[]{}".contains(c)) {
        let end = word.char_indices().next_back().map_or(0, |(at, _)| at);
        let (word, mark) = match word[end..].starts_with(|c: char| c.is_whitespace() || "\"'`()<>[]{}".contains(c)) {
            true => word.split_at(end),
            false => (word, ""),
        };
        match word.contains("://") {
            true => kept.push_str(if word.ends_with(',') { "…," } else { "…" }),
            false => {
                for piece in word.split_inclusive([',', ';', '=']) {
                    let bare = piece.trim_end_matches([',', ';', '=', '.', ':', '!', '?']);
                    kept.push_str(if is_private(bare) { "…" } else { bare });
                    kept.push_str(&piece[bare.len()..]);
                }
            }
        }
        kept.push_str(mark);
    }
    match kept.char_indices().nth(SENTENCE) {
        Some((end, _)) => format!("{}…", kept[..end].trim_end()),
        None => kept,
    }
}

fn is_private(word: &str) -> bool {
    let outside = (word.starts_with('/') && word[1..].contains('/') || word.starts_with("~/"))
        && word != WORKSPACE
        && inside(word).is_none();
    outside || is_key(word) || is_host(word)
}

fn is_key(word: &str) -> bool {
    let opaque = |part: &str| {
        part.len() >= 12
            && part.bytes().any(|byte| byte.is_ascii_digit())
            && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    ["sk-", "sk_", "salon_", "AIza"].iter().any(|start| word.starts_with(start))
        || word.split(|c: char| !c.is_ascii_alphanumeric()).any(opaque)
}

fn is_host(word: &str) -> bool {
    const ENDS: [&str; 8] = ["com", "net", "org", "io", "ai", "dev", "local", "internal"];
    let (host, port) = match word.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        // A number below is more likely to be a line of a file.
        Some((host, port)) => (host, port >= 1_000 || [80, 443].contains(&port)),
        None => (word, false),
    };
    if host == "localhost" {
        return true;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host.contains('.') || host.len() > 2;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let named = labels.len() > 1
        && labels
            .iter()
            .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        && labels.last().is_some_and(|end| end.bytes().all(|byte| byte.is_ascii_alphabetic()));
    named && (port || labels.len() > 2 || labels.last().is_some_and(|end| ENDS.contains(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered() {
        let evil = "a\u{1b}]52;c;aGk=\u{7}b\u{1b}[2Jc\u{1b}[38;5;1md\u{1b}(Be\u{9b}1mf\u{9d}0;title\u{9c}g\u{1b}Ph\u{1b}\\i\0\u{7}\u{7f}j";
        assert_eq!(clean(evil), "abcdefgij");
        assert_eq!(clean("10%\r20%\r\nend\tof it"), "10%\n20%\nend\tof it");
        assert_eq!(clean("한국 🦜\n"), "한국 🦜\n");
    }

    #[test]
    fn what_an_unfinished_sequence_swallows_is_no_more_than_itself() {
        assert_eq!(clean("\u{1b}]0;the answer is 42"), "0;the answer is 42");
        assert_eq!(clean("\u{1b}[12"), "12");
        assert_eq!(clean("\u{1b}"), "");
        assert_eq!(clean("\u{1b}한"), "한");
        assert_eq!(clean("\u{1b}[1한"), "1한");
    }

    #[test]
    fn a_command_does_not_look_like_another() {
        assert_eq!(shown("rm \u{202e}sbil\u{2066}", 100), "rm sbil");
    }

    #[test]
    fn of_a_long_text_the_middle_is_left_out() {
        let numbers: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
        let shown = shown(&numbers, OUTPUT);
        assert!(shown.starts_with("1\n2\n") && shown.ends_with("\n20000\n") && shown.contains(" characters …"));
        assert!(shown.chars().count() < OUTPUT + 50);
        assert_eq!(cut("한국어".into(), 3), "한국어");
        assert_eq!(cut("한국어다람쥐한국".into(), 4), "한국어\n… 4 characters …\n국");
    }

    #[test]
    fn a_path_is_one_in_the_workspace_or_none() {
        assert_eq!(inside("/workspace/src/a.rs").as_deref(), Some("src/a.rs"));
        assert_eq!(inside("./a.rs").as_deref(), Some("a.rs"));
        for outside in
            ["/workspace", "/workspaces/a", "/etc/passwd", "../a", "a/../../b", "", "a//b", "/workspace/../etc"]
        {
            assert_eq!(inside(outside), None, "{outside}");
        }
    }

    #[test]
    fn a_sentence_keeps_its_sense_and_loses_addresses_keys_and_paths() {
        for (said, kept) in [
            (
                "unexpected status 401 Unauthorized: Incorrect API key provided: sk-fake., url: http://127.0.0.1:18080/v1/responses, request id: req_27888e895f194a6ca2c038a6",
                "unexpected status 401 Unauthorized: Incorrect API key provided: …., url: …, request id: …",
            ),
            ("connect ECONNREFUSED 127.0.0.1:9", "connect ECONNREFUSED …"),
            ("getaddrinfo ENOTFOUND api.example.com", "getaddrinfo ENOTFOUND …"),
            ("panicked in main.rs:12 on birds.test:8080", "panicked in main.rs:12 on …"),
            ("at open (/py/lib/python3/bin/node:12:3)", "at open (…)"),
            ("cannot write /workspace/out/a.txt", "cannot write /workspace/out/a.txt"),
            ("key=abcdef123456xyz; token=short", "key=…; token=short"),
            ("the model claude-sonnet-4-5-20250929 is gone", "the model claude-sonnet-4-5-20250929 is gone"),
            ("Please run /login.", "Please run /login."),
            ("set `wire_api = \"responses\"` in config.toml", "set `wire_api = \"responses\"` in config.toml"),
            ("the door's doorkey is known", "the door's … is known"),
        ] {
            assert_eq!(redacted(said, "doorkey"), kept);
        }
    }
}
