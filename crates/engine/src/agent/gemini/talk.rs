//! What gemini's lines mean.

use std::collections::HashMap;

use salon_core::{Change, Note, Usage};
use serde_json::Value;

use crate::agent::ending::{self, Fault, Silence};
use crate::agent::telling::Telling;
use crate::agent::words::{self, COMMAND, OUTPUT, SENTENCE, shown};
use crate::agent::{Errand, Step, Talk, Verdict, names};
use crate::{EngineError, Secret};

pub(in crate::agent) struct GeminiTalk {
    prompt: String,
    key: Secret,
    model: Option<String>,
    telling: Telling,
    /// The last message came at once, not in pieces of which more could have followed.
    whole: bool,
    open: HashMap<String, Tool>,
    fault: Option<String>,
    /// Its last word: that it is done, or why not.
    word: Option<Result<(), String>>,
}

struct Tool {
    command: String,
    /// Its name, where it is not a shell.
    name: Option<String>,
    /// The file that it writes.
    path: Option<String>,
}

impl GeminiTalk {
    pub(in crate::agent) fn new(errand: &Errand) -> GeminiTalk {
        GeminiTalk {
            prompt: super::opening(errand),
            key: errand.door.key.clone(),
            model: errand.model.clone(),
            telling: Telling::default(),
            whole: false,
            open: HashMap::new(),
            fault: None,
            word: None,
        }
    }

    fn read(&mut self, value: &Value, line: &str, steps: &mut Vec<Step>) {
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        match text("type") {
            "init" if names::is_thread(text("session_id")) => steps.push(Step::Thread(text("session_id").to_owned())),
            "message" if value["role"] == "user" => {}
            "message" if value["role"] == "assistant" && value["content"].is_string() => {
                let piece = value["delta"] == true;
                self.whole = !piece;
                if !piece {
                    self.telling.pause();
                }
                self.telling.say(text("content"), steps);
            }
            "tool_use" => {
                self.telling.pause();
                let tool = tool(text("tool_name"), &value["parameters"]);
                steps.push(Step::Note(Note::CommandStarted { command: tool.command.clone(), tool: tool.name.clone() }));
                self.open.insert(text("tool_id").to_owned(), tool);
            }
            "tool_result" => {
                self.telling.pause();
                let Tool { command, name, path } = self.open.remove(text("tool_id")).unwrap_or_else(|| Tool {
                    command: String::new(),
                    name: Some("?".into()),
                    path: None,
                });
                let failed = text("status") == "error";
                let output = match value["output"].as_str() {
                    Some(output) => output.to_owned(),
                    None => words::compact(value["error"].get("message").unwrap_or(&value["error"])),
                };
                // Whatever a command's exit code was, the tool has succeeded; it is told only where nothing was printed.
                let code = output.strip_prefix("Command exited with code: ").filter(|_| name.is_none());
                let exit_code = code.and_then(|code| code.trim().parse().ok());
                let output = shown(&output, OUTPUT);
                steps.push(Step::Note(Note::CommandCompleted { command, exit_code, output, tool: name, failed }));
                if let Some(path) = path.filter(|_| !failed) {
                    steps.push(Step::Note(Note::FileChanged { path, change: Change::Changed }));
                }
            }
            "error" => {
                let message = words::redacted(text("message"), self.key.expose());
                steps.push(Step::Note(Note::Trouble { message }));
                self.fault = Some(text("message").to_owned());
            }
            "result" => {
                steps.extend(self.usage(&value["stats"]).map(Step::Usage));
                self.word = Some(match text("status") {
                    "error" => {
                        let message = value["error"]["message"].as_str().or(self.fault.as_deref());
                        Err(message.unwrap_or_default().to_owned())
                    }
                    _ => Ok(()),
                });
                steps.push(Step::Finished);
            }
            _ => steps.push(Step::Note(words::raw(line))),
        }
    }

    /// What the process took, with what choosing a model took. Thoughts are part of the total alone.
    fn usage(&self, stats: &Value) -> Option<Usage> {
        let number = |field: &str| stats[field].as_i64().filter(|count| *count >= 0);
        let (input, output) = (number("input_tokens")?, number("output_tokens")?);
        let with_thoughts = number("total_tokens").map_or(output, |total| total.saturating_sub(input).max(output));
        let models = stats["models"].as_object().into_iter().flatten();
        let most = models.max_by_key(|(_, used)| used["total_tokens"].as_i64().unwrap_or(0));
        let model = most.map(|(name, _)| shown(name, SENTENCE)).or_else(|| self.model.clone());
        (input > 0 || with_thoughts > 0).then(|| Usage {
            model,
            tokens_in: input,
            tokens_out: with_thoughts,
            ..Usage::default()
        })
    }
}

fn tool(name: &str, parameters: &Value) -> Tool {
    let text = |field: &str| parameters[field].as_str();
    if let ("run_shell_command", Some(command)) = (name, text("command")) {
        return Tool { command: shown(command, COMMAND), name: None, path: None };
    }
    let path = text("file_path").or_else(|| text("absolute_path")).or_else(|| text("path"));
    let does = match path.or_else(|| text("pattern")).or_else(|| text("query")) {
        Some(word) => words::inside(word).unwrap_or_else(|| word.to_owned()),
        None => words::compact(parameters),
    };
    let writes = matches!(name, "write_file" | "replace");
    Tool {
        command: shown(&does, COMMAND),
        name: Some(shown(name, SENTENCE)),
        path: path.filter(|_| writes).and_then(words::inside),
    }
}

impl Talk for GeminiTalk {
    fn open(&mut self) -> Vec<Step> {
        vec![Step::Write(std::mem::take(&mut self.prompt)), Step::CloseInput]
    }

    fn hear(&mut self, line: &str) -> Vec<Step> {
        words::hear(line, |value, steps| self.read(&value, line, steps))
    }

    fn decide(&mut self, _ask: &str, _verdict: Verdict) -> Vec<Step> {
        Vec::new()
    }

    fn ended(&mut self, code: Option<i32>, errors: &str) -> Result<(), EngineError> {
        let key = self.key.expose();
        // Its codes are statuses of HTTP, of which the system keeps the last eight bits.
        let status = match code {
            Some(41) => Some(401),
            Some(code @ 144..=255) => Some(i64::from(code) + 256),
            _ => None,
        };
        if let Some(word) = &self.word {
            return word.as_ref().map_err(|words| Fault::new(words, status).told(key)).copied();
        }
        // Told to go, it goes with code 0 in the middle of a sentence; so pieces are no whole answer.
        let whole = self.whole && self.open.is_empty();
        let words = self.fault.take().or_else(|| status.map(|_| ending::tail(errors)));
        let fault = words.map(|words| Fault::new(&words, status));
        Silence { code, errors, whole, fault, key }.judged()
    }
}
