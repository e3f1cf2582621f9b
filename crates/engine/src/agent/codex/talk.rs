//! What codex's lines mean.

use std::collections::{HashMap, HashSet};

use salon_core::{Note, Usage};
use serde_json::Value;

use crate::agent::ending::{Fault, Silence, Word};
use crate::agent::telling::Telling;
use crate::agent::words::{self, COMMAND, OUTPUT, SENTENCE, shown};
use crate::agent::{Errand, Step, Talk, Verdict, names};
use crate::{EngineError, Secret};

pub(in crate::agent) struct CodexTalk {
    prompt: String,
    key: Secret,
    model: Option<String>,
    /// Whether the thread is new: codex only ever tells the thread's sum, which is then this run's.
    new: bool,
    telling: Telling,
    /// What was told of each message and thought; items may come again with more in them.
    told: HashMap<String, String>,
    /// Items that began and did not end.
    open: HashSet<String>,
    tasks: String,
    /// A complaint that may turn out to be the last word.
    held: Option<String>,
    word: Option<Word>,
}

impl CodexTalk {
    pub(in crate::agent) fn new(errand: &Errand) -> CodexTalk {
        CodexTalk {
            prompt: errand.prompt.clone(),
            key: errand.door.key.clone(),
            model: errand.model.clone(),
            new: errand.thread.is_none(),
            telling: Telling::default(),
            told: HashMap::new(),
            open: HashSet::new(),
            tasks: String::new(),
            held: None,
            word: None,
        }
    }

    fn read(&mut self, value: &Value, line: &str, steps: &mut Vec<Step>) {
        let kind = value["type"].as_str().unwrap_or_default();
        if kind != "turn.failed" {
            self.complain(steps);
        }
        match kind {
            "thread.started" => {
                let id = value["thread_id"].as_str().or_else(|| value["thread"]["id"].as_str()).unwrap_or_default();
                steps.push(match names::is_thread(id) {
                    true => Step::Thread(id.to_owned()),
                    false => Step::Note(words::raw(line)),
                });
            }
            "turn.started" => {}
            "item.started" | "item.updated" | "item.completed" => {
                if !self.item(&value["item"], kind, steps) {
                    steps.push(Step::Note(words::raw(line)));
                }
            }
            "turn.completed" => {
                steps.extend(self.usage(&value["usage"]).map(Step::Usage));
                self.word = Some(Ok(()));
                steps.push(Step::Finished);
            }
            "turn.failed" => {
                let words = value["error"]["message"].as_str().unwrap_or_default();
                if self.held.as_deref() == Some(words) {
                    self.held = None;
                }
                self.complain(steps);
                self.word = Some(Err(Fault::new(words, None)));
                steps.push(Step::Finished);
            }
            "error" => {
                let words = value["message"].as_str().unwrap_or_default();
                self.held = Some(words.to_owned());
                // Such a one is never the last word, and people should hear it while it is so.
                if words.starts_with("Reconnecting") {
                    self.complain(steps);
                }
            }
            _ => steps.push(Step::Note(words::raw(line))),
        }
    }

    fn complain(&mut self, steps: &mut Vec<Step>) {
        if let Some(words) = self.held.take().filter(|words| !words.trim().is_empty()) {
            let message = words::redacted(&words, self.key.expose());
            steps.push(Step::Note(Note::Trouble { message }));
        }
    }

    /// Whether the item is one that we know.
    fn item(&mut self, item: &Value, kind: &str, steps: &mut Vec<Step>) -> bool {
        let id = item["id"].as_str().unwrap_or_default().to_owned();
        let (begins, ends) = (kind == "item.started", kind == "item.completed");
        match item["type"].as_str().unwrap_or_default() {
            "agent_message" | "assistant_message" | "message" => {
                let text = message(item);
                let so_far = self.told.entry(id).or_default();
                self.telling.go_on(so_far, &text, steps);
            }
            "reasoning" => {
                let text = message(item);
                if !text.is_empty() && self.told.get(&id) != Some(&text) {
                    steps.push(Step::Note(Note::Reasoning { text: words::clean(&text) }));
                    self.told.insert(id, text);
                }
            }
            "command_execution" => {
                let command = shown(item["command"].as_str().unwrap_or_default(), COMMAND);
                let failed = matches!(item["status"].as_str(), Some("failed" | "declined"));
                self.tool(
                    &id,
                    begins,
                    ends,
                    steps,
                    Tool {
                        command,
                        tool: None,
                        exit_code: item["exit_code"].as_i64(),
                        output: item["aggregated_output"].as_str().unwrap_or_default(),
                        failed,
                    },
                );
            }
            "mcp_tool_call" => {
                let name = |field: &str| item[field].as_str().unwrap_or("?").to_owned();
                let failed = !item["error"].is_null() || item["status"] == "failed";
                let output = match item["error"]["message"].as_str() {
                    Some(message) => message.to_owned(),
                    None => blocks(&item["result"]["content"]),
                };
                self.tool(
                    &id,
                    begins,
                    ends,
                    steps,
                    Tool {
                        command: shown(&words::compact(&item["arguments"]), COMMAND),
                        tool: Some(shown(&format!("{}.{}", name("server"), name("tool")), SENTENCE)),
                        exit_code: None,
                        output: &output,
                        failed,
                    },
                );
            }
            "web_search" => {
                let command = shown(item["query"].as_str().unwrap_or_default(), COMMAND);
                let tool = Some("web_search".to_owned());
                self.tool(&id, begins, ends, steps, Tool { command, tool, exit_code: None, output: "", failed: false });
            }
            "file_change" if ends => changes(item, steps),
            "file_change" => {}
            "todo_list" => {
                let tasks = tasks(&item["items"]);
                if !tasks.is_empty() && tasks != self.tasks {
                    steps.push(Step::Note(Note::Reasoning { text: words::clean(&tasks) }));
                    self.tasks = tasks;
                }
            }
            "error" => {
                let message = words::redacted(item["message"].as_str().unwrap_or_default(), self.key.expose());
                steps.push(Step::Note(Note::Trouble { message }));
            }
            _ => return false,
        }
        true
    }

    fn tool(&mut self, id: &str, begins: bool, ends: bool, steps: &mut Vec<Step>, used: Tool<'_>) {
        let Tool { command, tool, exit_code, output, failed } = used;
        if begins {
            self.open.insert(id.to_owned());
            steps.push(Step::Note(Note::CommandStarted { command, tool }));
        } else if ends {
            self.open.remove(id);
            let output = shown(output, OUTPUT);
            steps.push(Step::Note(Note::CommandCompleted { command, exit_code, output, tool, failed }));
        }
    }

    /// What this run took. Nothing can be said of a thread that had runs before.
    fn usage(&self, usage: &Value) -> Option<Usage> {
        let count = |name: &str| usage[name].as_i64().filter(|count| self.new && *count >= 0);
        let (tokens_in, tokens_out) = (count("input_tokens")?, count("output_tokens")?);
        let model = self.model.clone();
        let some = tokens_in > 0 || tokens_out > 0;
        some.then_some(Usage { model, tokens_in, tokens_out, estimated: false, suspect: false })
    }
}

struct Tool<'a> {
    command: String,
    tool: Option<String>,
    exit_code: Option<i64>,
    output: &'a str,
    failed: bool,
}

fn message(item: &Value) -> String {
    item["text"].as_str().map_or_else(|| blocks(&item["content"]), str::to_owned)
}

/// The texts of a list of content.
fn blocks(content: &Value) -> String {
    content.as_array().into_iter().flatten().filter_map(|block| block["text"].as_str()).collect()
}

fn tasks(items: &Value) -> String {
    let line = |task: &Value| {
        let mark = if task["completed"] == true { "x" } else { " " };
        Some(format!("[{mark}] {}", task["text"].as_str()?))
    };
    items.as_array().into_iter().flatten().filter_map(line).collect::<Vec<_>>().join("\n")
}

fn changes(item: &Value, steps: &mut Vec<Step>) {
    let failed = matches!(item["status"].as_str(), Some("failed" | "declined"));
    for change in item["changes"].as_array().into_iter().flatten() {
        let (path, kind) = (change["path"].as_str().unwrap_or_default(), change["kind"].as_str().unwrap_or("change"));
        steps.push(Step::Note(words::changed(kind, path, failed)));
    }
}

impl Talk for CodexTalk {
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
        if let Some(word) = &self.word {
            return word.as_ref().map_err(|fault| fault.told(key)).copied();
        }
        let whole = !self.telling.is_empty() && self.open.is_empty();
        let fault = self.held.take().map(|words| Fault::new(&words, None));
        Silence { code, errors, whole, fault, key }.judged()
    }
}
