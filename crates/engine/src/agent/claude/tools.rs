//! Claude's tools at work: what each was asked, and what came of it.

use std::collections::HashMap;

use salon_core::{Change, Note};
use serde_json::Value;

use crate::agent::Step;
use crate::agent::words::{self, COMMAND, OUTPUT, SENTENCE, shown};

#[derive(Default)]
pub(super) struct Tools {
    open: HashMap<String, Tool>,
}

struct Tool {
    command: String,
    /// Its name, where it is not a shell.
    name: Option<String>,
    /// The file that it writes.
    path: Option<String>,
}

impl Tools {
    pub(super) fn begin(&mut self, block: &Value) -> Step {
        let tool = tool(block["name"].as_str().unwrap_or("?"), &block["input"]);
        let note = Note::CommandStarted { command: tool.command.clone(), tool: tool.name.clone() };
        self.open.insert(block["id"].as_str().unwrap_or_default().to_owned(), tool);
        Step::Note(note)
    }

    /// `more` is what only the program knows of the result, and not the model.
    pub(super) fn end(&mut self, block: &Value, more: &Value, steps: &mut Vec<Step>) {
        let id = block["tool_use_id"].as_str().unwrap_or_default();
        let unknown = || Tool { command: String::new(), name: Some("?".into()), path: None };
        let Tool { command, name, path } = self.open.remove(id).unwrap_or_else(unknown);
        let failed = block["is_error"] == true;
        let output = match block["content"].as_array() {
            Some(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
            None => words::compact(&block["content"]),
        };
        let exit_code = match (&name, failed) {
            (Some(_), _) => None,
            (None, false) => Some(0),
            (None, true) => exit_code(&output),
        };
        let output = shown(&output, OUTPUT);
        steps.push(Step::Note(Note::CommandCompleted { command, exit_code, output, tool: name, failed }));
        if let Some(path) = path.filter(|_| !failed) {
            let change = if more["type"] == "create" { Change::Added } else { Change::Changed };
            steps.push(Step::Note(Note::FileChanged { path, change }));
        }
    }

    pub(super) fn are_done(&self) -> bool {
        self.open.is_empty()
    }
}

/// A command that failed says so in the first line of its output.
fn exit_code(output: &str) -> Option<i64> {
    output.strip_prefix("Exit code ")?.lines().next()?.trim().parse().ok()
}

fn tool(name: &str, input: &Value) -> Tool {
    let text = |field: &str| input[field].as_str();
    if let ("Bash" | "run_shell_command", Some(command)) = (name, text("command")) {
        return Tool { command: shown(command, COMMAND), name: None, path: None };
    }
    let path = text("file_path").or_else(|| text("notebook_path"));
    let said = ["pattern", "url", "query", "description", "skill", "path"].iter().find_map(|field| text(field));
    let does = match path.or(said) {
        Some(word) => words::inside(word).unwrap_or_else(|| word.to_owned()),
        None => words::compact(input),
    };
    let writes = matches!(name, "Write" | "Edit" | "MultiEdit" | "NotebookEdit" | "write_file" | "edit");
    Tool {
        command: shown(&does, COMMAND),
        name: Some(shown(name, SENTENCE)),
        path: path.filter(|_| writes).and_then(words::inside),
    }
}
