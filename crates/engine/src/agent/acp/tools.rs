//! The tools of an agent at work, as its updates tell of them piece by piece.

use salon_core::{Change, Note};
use serde_json::Value;

use crate::agent::questions::{Detail, Wish, is_near};
use crate::agent::words::{self, COMMAND, OUTPUT, SENTENCE, shown};
use crate::agent::{Step, WORKSPACE};

/// Tools that are remembered at the same time.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Tools {
    tools: Vec<Tool>,
}

#[derive(Default)]
struct Tool {
    id: String,
    title: String,
    kind: String,
    content: Value,
    /// The changes that it makes, which what it says in the end may not repeat.
    diffs: Vec<Value>,
    locations: Value,
    input: Value,
    output: Value,
    cwd: Option<String>,
    /// How it was told that it began: its command, and its name.
    began: Option<(String, Option<String>)>,
    done: bool,
}

impl Tools {
    /// Takes in what an update tells of a tool. `None` if it is about none.
    pub(super) fn hear(&mut self, update: &Value, steps: &mut Vec<Step>) -> Option<()> {
        let tool = self.take(update)?;
        // What only waits may not have its title yet.
        if update["status"] != "pending" {
            tool.begin(steps);
        }
        let failed = match update["status"].as_str() {
            Some("completed") => false,
            Some("failed") => true,
            _ => return Some(()),
        };
        if !tool.done {
            tool.done = true;
            tool.end(failed, &tool.text(), steps);
        }
        Some(())
    }

    /// What a question is about: the tool that it names, with all that was told of it.
    pub(super) fn wish(&mut self, call: &Value, steps: &mut Vec<Step>) -> Option<Wish> {
        let tool = self.take(call)?;
        let wish = tool.wish()?;
        tool.begin(steps);
        Some(wish)
    }

    /// The tool will not be used, and not every agent says so.
    pub(super) fn deny(&mut self, id: &str, steps: &mut Vec<Step>) {
        if let Some(tool) = self.tools.iter_mut().find(|tool| tool.id == id && !tool.done) {
            tool.done = true;
            tool.end(true, "This was not allowed.", steps);
        }
    }

    /// The tool, with what is told of it now.
    fn take(&mut self, update: &Value) -> Option<&mut Tool> {
        let id = update["toolCallId"].as_str().filter(|id| !id.is_empty())?;
        let index = self.tools.iter().position(|tool| tool.id == id).unwrap_or_else(|| {
            if self.tools.len() >= MOST {
                self.tools.remove(0);
            }
            self.tools.push(Tool { id: id.to_owned(), ..Tool::default() });
            self.tools.len() - 1
        });
        let tool = &mut self.tools[index];
        for (field, name) in [(&mut tool.title, "title"), (&mut tool.kind, "kind")] {
            if let Some(text) = update[name].as_str() {
                text.clone_into(field);
            }
        }
        for (field, name) in [
            (&mut tool.content, "content"),
            (&mut tool.locations, "locations"),
            (&mut tool.input, "rawInput"),
            (&mut tool.output, "rawOutput"),
        ] {
            if !update[name].is_null() {
                field.clone_from(&update[name]);
            }
        }
        let diffs = |content: &Value| -> Vec<Value> {
            content.as_array().into_iter().flatten().filter(|part| part["type"] == "diff").cloned().collect()
        };
        match diffs(&update["content"]) {
            diffs if diffs.is_empty() => {}
            diffs => tool.diffs = diffs,
        }
        if let Some(cwd) = update["rawInput"]["cwd"].as_str() {
            tool.cwd = Some(cwd.to_owned());
        }
        Some(tool)
    }
}

impl Tool {
    fn begin(&mut self, steps: &mut Vec<Step>) {
        if self.began.is_none() && !self.done {
            let (command, tool) = self.named();
            self.began = Some((command.clone(), tool.clone()));
            steps.push(Step::Note(Note::CommandStarted { command, tool }));
        }
    }

    /// Its command, and its name where it is not a shell.
    fn named(&self) -> (String, Option<String>) {
        let title = self.title();
        let title = words::inside(title).unwrap_or_else(|| title.to_owned());
        match self.kind.as_str() {
            "execute" => (shown(&title, COMMAND), None),
            "" => (shown(&title, COMMAND), Some("other".to_owned())),
            kind => (shown(&title, COMMAND), Some(shown(kind, SENTENCE))),
        }
    }

    /// What it does: a command as it is, or what the agent calls it.
    fn title(&self) -> &str {
        let command = self.input["command"].as_str().filter(|_| self.kind == "execute");
        command.unwrap_or(&self.title).trim()
    }

    fn text(&self) -> String {
        let text = |part: &Value| part["content"]["text"].as_str().map(str::to_owned);
        let texts: Vec<String> = self.content.as_array().into_iter().flatten().filter_map(text).collect();
        match texts.is_empty() {
            true => self.output.as_str().unwrap_or_default().to_owned(),
            false => texts.join("\n"),
        }
    }

    fn end(&self, failed: bool, output: &str, steps: &mut Vec<Step>) {
        let (command, tool) = self.began.clone().unwrap_or_else(|| self.named());
        let output = shown(output, OUTPUT);
        steps.push(Step::Note(Note::CommandCompleted { command, exit_code: None, output, tool, failed }));
        if failed {
            return;
        }
        for diff in &self.diffs {
            let Some(path) = diff["path"].as_str().and_then(words::inside) else { continue };
            let change = match (diff["_meta"]["kind"].as_str(), diff["oldText"].as_str()) {
                (Some("add"), _) | (None, None | Some("")) => Change::Added,
                (Some("delete"), _) => Change::Deleted,
                _ => Change::Changed,
            };
            steps.push(Step::Note(Note::FileChanged { path, change }));
        }
        if self.kind == "delete" && self.diffs.is_empty() {
            for path in self.paths().into_iter().filter_map(words::inside) {
                steps.push(Step::Note(Note::FileChanged { path, change: Change::Deleted }));
            }
        }
    }

    fn paths(&self) -> Vec<&str> {
        let places = self.locations.as_array().into_iter().flatten().chain(&self.diffs);
        let mut paths = Vec::new();
        for path in places.filter_map(|place| place["path"].as_str()) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    fn wish(&self) -> Option<Wish> {
        let mut detail = match (self.title(), self.title().strip_prefix(WORKSPACE)) {
            ("", _) => return None,
            // A mere path is no sentence.
            (path, Some(_)) => {
                let name = words::inside(path).unwrap_or_else(|| path.to_owned());
                match self.kind.as_str() {
                    "edit" => Detail::saying("change", &name),
                    verb @ ("delete" | "move" | "read") => Detail::saying(verb, &name),
                    kind => Detail::from(format!("{kind} {name}").as_str()),
                }
            }
            (title, None) => Detail::from(title),
        };
        let title = detail.title();
        let paths = self.paths();
        if !self.title.trim().is_empty() && self.title.trim() != self.title() {
            detail.text(self.title.trim());
        }
        if self.kind != "execute"
            && self.diffs.is_empty()
            && self.input.as_object().is_some_and(|input| !input.is_empty())
        {
            detail.text(&self.input.to_string());
        }
        let elsewhere = self.cwd.as_deref().filter(|cwd| *cwd != WORKSPACE);
        if let Some(cwd) = elsewhere {
            detail.say("in", cwd);
        }
        for diff in &self.diffs {
            let path = diff["path"].as_str().unwrap_or("?");
            let name = words::inside(path).unwrap_or_else(|| path.to_owned());
            let (old, new) =
                (diff["oldText"].as_str().unwrap_or_default(), diff["newText"].as_str().unwrap_or_default());
            detail.text(&name);
            let difference = difference(old, new);
            if !difference.is_empty() {
                detail.text(difference.trim_end_matches('\n'));
            }
        }
        let text = self.text();
        if !text.trim().is_empty() {
            detail.text(text.trim());
        }
        // The same file may be changed again in another way; a command is only the same if all of it is.
        let what = match self.kind.as_str() {
            "edit" | "delete" | "move" | "read" if !paths.is_empty() => format!("{} {}", self.kind, paths.join(", ")),
            "execute" => elsewhere.map_or_else(|| title.clone(), |cwd| format!("{title}\nin {cwd}")),
            kind => format!("{kind} {title} {}", words::compact(&self.input)).trim().to_owned(),
        };
        // What an agent looks up elsewhere goes out with what it asks; and a mode is more than one permission.
        let wide = matches!(self.kind.as_str(), "fetch" | "switch_mode");
        let more = wide || paths.iter().any(|path| !is_near(path)) || elsewhere.is_some_and(|cwd| !is_near(cwd));
        Some(Wish { title, detail, what, more })
    }
}

/// What is different between two texts: the lines between what they begin and end with in common, and a few before.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let before = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (gone, come) = (&old[before..], &new[before..]);
    let after = gone.iter().rev().zip(come.iter().rev()).take_while(|(old, new)| old == new).count();
    let marked = |mark: char, lines: &[&str]| lines.iter().map(|line| format!("{mark}{line}\n")).collect::<String>();
    let kept = marked(' ', &old[before.saturating_sub(3)..before]);
    let gone = marked('-', &gone[..gone.len() - after]);
    let come = marked('+', &come[..come.len() - after]);
    format!("{kept}{gone}{come}")
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn a_difference_is_what_is_between_common_lines() {
        assert_eq!(difference("", "one\ntwo\n"), "+one\n+two\n");
        assert_eq!(difference("a\nb\nc\nd\ne\n", "a\nb\nc\nx\ne\n"), " a\n b\n c\n-d\n+x\n");
        assert_eq!(difference("a\na\n", "a\n"), " a\n-a\n");
        assert_eq!(difference("a\n", "a\n"), " a\n");
    }
}
