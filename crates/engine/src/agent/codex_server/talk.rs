//! What the lines of codex's server mean.

use std::collections::HashSet;

use salon_core::{Note, Usage};
use serde_json::{Value, json};

use crate::agent::ending::{Fault, Silence};
use crate::agent::questions::{Detail, Next, Questions, Wish, is_near};
use crate::agent::rpc::{self, End, Message, Refusal};
use crate::agent::telling::Telling;
use crate::agent::words::{self, COMMAND, OUTPUT, SENTENCE, shown};
use crate::agent::{Errand, Policy, Step, Talk, Verdict, WORKSPACE, names};
use crate::{EngineError, Secret};

/// Our questions that have an answer we wait for. Later ones are numbered from [`LATER`].
const INITIALIZE: i64 = 1;
const THREAD: i64 = 2;
const TURN: i64 = 3;
const LATER: i64 = 4;

/// Changes whose approval may be asked for that are kept at the same time.
const CHANGES: usize = 64;

/// What it tells that is nothing to people, or is told in another way too.
const KNOWN: [&str; 30] = [
    "account/rateLimits/updated",
    "account/updated",
    "app/list/updated",
    "hook/completed",
    "hook/started",
    "item/agentMessage/delta",
    "item/autoApprovalReview/completed",
    "item/autoApprovalReview/started",
    "item/commandExecution/outputDelta",
    "item/commandExecution/terminalInteraction",
    "item/fileChange/outputDelta",
    "item/fileChange/patchUpdated",
    "item/mcpToolCall/progress",
    "item/plan/delta",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
    "mcpServer/startupStatus/updated",
    "model/rerouted",
    "rawResponse/completed",
    "rawResponseItem/completed",
    "remoteControl/status/changed",
    "skills/changed",
    "thread/compacted",
    "thread/goal/cleared",
    "thread/name/updated",
    "thread/settings/updated",
    "thread/started",
    "thread/status/changed",
    "turn/diff/updated",
];

pub(super) struct ServerTalk {
    prompt: String,
    key: Secret,
    model: Option<String>,
    policy: Policy,
    held: bool,
    thread: Option<String>,
    turn: Option<String>,
    /// Whether the thread is one that we may write to: the server has it open.
    begun: bool,
    questions: Questions<Question>,
    /// The changes of files that wait to be allowed, by their item.
    changes: Vec<(String, Value)>,
    telling: Telling,
    /// The message that is being told, and what was told of it.
    message: (String, String),
    thoughts: HashSet<String>,
    /// Tools at work.
    tools: HashSet<String>,
    tasks: String,
    /// What the thread took before this turn.
    before: Option<(i64, i64)>,
    numbers: i64,
    /// What it was told meanwhile and has not answered: our question's number, and its name.
    steers: Vec<(i64, String)>,
    stopping: bool,
    fault: Option<Fault>,
    end: Option<End>,
}

/// How a question is answered.
struct Question {
    id: Value,
    yes: Value,
    no: Value,
}

impl ServerTalk {
    pub(super) fn new(errand: &Errand) -> ServerTalk {
        ServerTalk {
            prompt: errand.prompt.clone(),
            key: errand.door.key.clone(),
            model: errand.model.clone(),
            policy: errand.policy,
            held: errand.held,
            thread: errand.thread.clone(),
            turn: None,
            begun: false,
            questions: Questions::new(errand.policy),
            changes: Vec::new(),
            telling: Telling::default(),
            message: Default::default(),
            thoughts: HashSet::new(),
            tools: HashSet::new(),
            tasks: String::new(),
            before: None,
            numbers: LATER,
            steers: Vec::new(),
            stopping: false,
            fault: None,
            end: None,
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Step {
        let id = self.numbers;
        self.numbers += 1;
        rpc::ask(id, method, params)
    }

    /// The thread, new or as it was, and how it is to behave from now on.
    fn begin(&self) -> Step {
        let mut params = json!({
            "cwd": WORKSPACE,
            "approvalPolicy": super::approvals(self.policy),
            "sandbox": super::sandbox(self.policy, self.held),
        });
        if let Some(model) = &self.model {
            params["model"] = json!(model);
        }
        match &self.thread {
            Some(thread) => {
                params["threadId"] = json!(thread);
                // What was said before is known.
                params["excludeTurns"] = json!(true);
                rpc::ask(THREAD, "thread/resume", params)
            }
            None => rpc::ask(THREAD, "thread/start", params),
        }
    }

    fn finish(&mut self, end: End, steps: &mut Vec<Step>) {
        if self.end.is_some() {
            return;
        }
        self.deny(steps);
        self.end = Some(end);
        steps.extend([Step::CloseInput, Step::Finished]);
    }

    fn deny(&mut self, steps: &mut Vec<Step>) {
        steps.extend(self.questions.close().into_iter().map(|question| rpc::answer(&question.id, question.no)));
    }

    fn answered(&mut self, number: i64, answer: Result<Value, Refusal>, line: &str, steps: &mut Vec<Step>) {
        if let Some(at) = self.steers.iter().position(|(asked, _)| *asked == number) {
            // It is refused where the turn was just over.
            let (_, steer) = self.steers.swap_remove(at);
            return steps.push(Step::Steered { steer, heard: answer.is_ok() });
        }
        let result = match answer {
            Ok(result) => result,
            Err(refusal) if number < LATER => {
                return self.finish(End::Failed(Fault::new(&refusal.message, None)), steps);
            }
            // A turn that was just over cannot be stopped.
            Err(refusal) => {
                let message = words::redacted(&refusal.message, self.key.expose());
                return steps.push(Step::Note(Note::Trouble { message }));
            }
        };
        match number {
            INITIALIZE if self.stopping => self.finish(End::Stopped, steps),
            INITIALIZE => steps.extend([rpc::tell("initialized", json!({})), self.begin()]),
            THREAD if self.begun => {}
            THREAD => match result["thread"]["id"].as_str() {
                Some(_) if self.stopping => self.finish(End::Stopped, steps),
                Some(id) if names::is_thread(id) && self.thread.as_deref().is_none_or(|thread| thread == id) => {
                    self.thread = Some(id.to_owned());
                    self.begun = true;
                    steps.push(Step::Thread(id.to_owned()));
                    let input = words_of(&std::mem::take(&mut self.prompt));
                    steps.push(rpc::ask(TURN, "turn/start", json!({ "threadId": id, "input": input })));
                }
                _ => {
                    steps.push(Step::Note(words::raw(line)));
                    self.finish(End::Failed(Fault::new("its thread has no name", None)), steps);
                }
            },
            TURN => self.started(&result["turn"], steps),
            _ => {}
        }
    }

    fn started(&mut self, turn: &Value, steps: &mut Vec<Step>) {
        let Some(id) = turn["id"].as_str().filter(|_| self.begun && self.turn.is_none()) else { return };
        self.turn = Some(id.to_owned());
        if self.stopping {
            steps.extend(self.interrupt());
        }
    }

    fn interrupt(&mut self) -> Option<Step> {
        let params = json!({ "threadId": self.thread.as_ref()?, "turnId": self.turn.as_ref()? });
        Some(self.ask("turn/interrupt", params))
    }

    /// Whether it is about our turn: agents of the agent have threads too.
    fn is_ours(&self, params: &Value) -> bool {
        self.begun && params["threadId"].as_str() == self.thread.as_deref()
    }

    fn notice(&mut self, method: &str, params: &Value, line: &str, steps: &mut Vec<Step>) {
        match method {
            "turn/started" if self.is_ours(params) => self.started(&params["turn"], steps),
            "item/agentMessage/delta" if self.is_ours(params) => {
                if let (Some(id), Some(delta)) = (params["itemId"].as_str(), params["delta"].as_str()) {
                    self.turn_to(id);
                    self.message.1.push_str(delta);
                    self.telling.say(delta, steps);
                }
            }
            "item/started" | "item/completed" if self.is_ours(params) => {
                if !self.item(&params["item"], method == "item/completed", steps) {
                    steps.push(Step::Note(words::raw(line)));
                }
            }
            "turn/plan/updated" if self.is_ours(params) => {
                let tasks = tasks(&params["plan"]);
                if !tasks.is_empty() && tasks != self.tasks {
                    steps.push(Step::Note(Note::Reasoning { text: words::clean(&tasks) }));
                    self.tasks = tasks;
                }
            }
            "thread/tokenUsage/updated"
                if self.is_ours(params) || params["threadId"].as_str() == self.thread.as_deref() =>
            {
                self.usage(params, steps);
            }
            "error" if self.is_ours(params) => {
                let error = &params["error"];
                if params["willRetry"] == true {
                    self.trouble(&told(error), steps);
                } else {
                    self.fault = Some(fault(error));
                }
            }
            "warning" | "guardianWarning" => self.trouble(params["message"].as_str().unwrap_or_default(), steps),
            "configWarning" | "deprecationNotice" => {
                self.trouble(params["summary"].as_str().unwrap_or_default(), steps);
            }
            "serverRequest/resolved" => {
                if let Some(name) = rpc::name(&params["requestId"]) {
                    self.questions.forget(&name);
                }
            }
            "turn/completed" if self.is_ours(params) => {
                let turn = &params["turn"];
                if self.turn.is_some() && turn["id"].as_str() != self.turn.as_deref() {
                    return;
                }
                match turn["status"].as_str() {
                    Some("completed") => self.finish(End::Done, steps),
                    Some("interrupted") => self.finish(End::Stopped, steps),
                    _ => {
                        let fault = match turn["error"].is_object() {
                            true => fault(&turn["error"]),
                            false => self.fault.take().unwrap_or_else(|| Fault::new("", None)),
                        };
                        self.finish(End::Failed(fault), steps);
                    }
                }
            }
            // What an agent of the agent wants to change may be asked for like anything else.
            "item/started" if params["item"]["type"] == "fileChange" => self.keep(&params["item"]),
            // The rest of other threads is theirs.
            "turn/started"
            | "turn/completed"
            | "turn/plan/updated"
            | "item/started"
            | "item/completed"
            | "error"
            | "thread/tokenUsage/updated" => {}
            method if KNOWN.contains(&method) => {}
            _ => steps.push(Step::Note(words::raw(line))),
        }
    }

    fn trouble(&self, message: &str, steps: &mut Vec<Step>) {
        let message = words::redacted(message, self.key.expose());
        if !message.is_empty() {
            steps.push(Step::Note(Note::Trouble { message }));
        }
    }

    fn turn_to(&mut self, message: &str) {
        if self.message.0 != message {
            self.telling.pause();
            self.message = (message.to_owned(), String::new());
        }
    }

    /// Whether the item is one that we know.
    fn item(&mut self, item: &Value, ends: bool, steps: &mut Vec<Step>) -> bool {
        let text = |field: &str| item[field].as_str().unwrap_or_default();
        let id = text("id");
        let failed = matches!(item["status"].as_str(), Some("failed" | "declined")) || item["success"] == false;
        match text("type") {
            "agentMessage" if ends => {
                self.turn_to(id);
                let mut so_far = std::mem::take(&mut self.message.1);
                self.telling.go_on(&mut so_far, text("text"), steps);
                self.message.1 = so_far;
            }
            "reasoning" if ends => {
                let parts = match texts(&item["summary"]) {
                    parts if parts.is_empty() => texts(&item["content"]),
                    parts => parts,
                };
                if !parts.is_empty() && self.thoughts.insert(id.to_owned()) {
                    steps.push(Step::Note(Note::Reasoning { text: words::clean(&parts) }));
                }
            }
            "plan" if ends && !text("text").is_empty() => {
                steps.push(Step::Note(Note::Reasoning { text: words::clean(text("text")) }));
            }
            "commandExecution" => {
                let command = shown(bare(text("command")), COMMAND);
                let (exit_code, output) = (item["exitCode"].as_i64(), text("aggregatedOutput"));
                self.tool(id, ends, steps, Tool { command, tool: None, exit_code, output, failed });
            }
            "fileChange" if ends => {
                self.changes.retain(|(item, _)| item != id);
                changes(&item["changes"], failed, steps);
            }
            "fileChange" => self.keep(item),
            "mcpToolCall" => {
                let tool = Some(shown(&format!("{}.{}", text("server"), text("tool")), SENTENCE));
                let output = match item["error"]["message"].as_str() {
                    Some(message) => message.to_owned(),
                    None => texts(&item["result"]["content"]),
                };
                let command = shown(&words::compact(&item["arguments"]), COMMAND);
                self.tool(id, ends, steps, Tool { command, tool, exit_code: None, output: &output, failed });
            }
            "dynamicToolCall" => {
                let tool = Some(shown(text("tool"), SENTENCE));
                let (command, output) =
                    (shown(&words::compact(&item["arguments"]), COMMAND), texts(&item["contentItems"]));
                self.tool(id, ends, steps, Tool { command, tool, exit_code: None, output: &output, failed });
            }
            "webSearch" => {
                let (command, tool) = (shown(text("query"), COMMAND), Some("web_search".to_owned()));
                self.tool(id, ends, steps, Tool { command, tool, exit_code: None, output: "", failed });
            }
            "imageView" => {
                let (command, tool) = (shown(text("path"), COMMAND), Some("view_image".to_owned()));
                self.tool(id, ends, steps, Tool { command, tool, exit_code: None, output: "", failed });
            }
            "agentMessage"
            | "reasoning"
            | "plan"
            | "userMessage"
            | "hookPrompt"
            | "functionCallOutput"
            | "collabAgentToolCall"
            | "subAgentActivity"
            | "sleep"
            | "imageGeneration"
            | "enteredReviewMode"
            | "exitedReviewMode"
            | "contextCompaction" => {}
            _ => return false,
        }
        true
    }

    fn keep(&mut self, item: &Value) {
        if let Some(id) = item["id"].as_str().filter(|_| self.changes.len() < CHANGES) {
            self.changes.retain(|(item, _)| item != id);
            self.changes.push((id.to_owned(), item["changes"].clone()));
        }
    }

    fn tool(&mut self, id: &str, ends: bool, steps: &mut Vec<Step>, used: Tool<'_>) {
        let Tool { command, tool, exit_code, output, failed } = used;
        if ends {
            self.tools.remove(id);
            let output = shown(output, OUTPUT);
            steps.push(Step::Note(Note::CommandCompleted { command, exit_code, output, tool, failed }));
        } else if self.tools.insert(id.to_owned()) {
            steps.push(Step::Note(Note::CommandStarted { command, tool }));
        }
    }

    /// What this turn took. Codex tells the thread's sum and the last request's share; the difference between the two at
    /// the turn's first request is what the thread took before.
    fn usage(&mut self, params: &Value, steps: &mut Vec<Step>) {
        let count = |of: &str, what: &str| params["tokenUsage"][of][what].as_i64().filter(|count| *count >= 0);
        let (Some(total_in), Some(total_out)) = (count("total", "inputTokens"), count("total", "outputTokens")) else {
            return;
        };
        if self.turn.is_none() || params["turnId"].as_str() != self.turn.as_deref() {
            // Told of a thread that goes on, before the turn: the sum so far.
            self.before = Some((total_in, total_out));
            return;
        }
        let last = (count("last", "inputTokens").unwrap_or(0), count("last", "outputTokens").unwrap_or(0));
        let before = *self.before.get_or_insert((total_in.saturating_sub(last.0), total_out.saturating_sub(last.1)));
        let (tokens_in, tokens_out) = (total_in.saturating_sub(before.0), total_out.saturating_sub(before.1));
        // A sum that shrank began anew.
        let suspect = tokens_in < 0 || tokens_out < 0;
        let (tokens_in, tokens_out) = if suspect { (total_in, total_out) } else { (tokens_in, tokens_out) };
        let model = self.model.clone();
        steps.push(Step::Usage(Usage { model, tokens_in, tokens_out, estimated: false, suspect }));
    }

    fn question(&mut self, id: Value, method: &str, params: &Value, steps: &mut Vec<Step>) {
        let decision = |word: &str| json!({ "decision": word });
        let (wish, yes, no) = match method {
            "item/commandExecution/requestApproval" => (command(params), decision("accept"), decision("decline")),
            "item/fileChange/requestApproval" => (self.change(params), decision("accept"), decision("decline")),
            "item/permissions/requestApproval" => (
                permissions(params),
                json!({ "permissions": params["permissions"], "scope": "turn" }),
                json!({ "permissions": {}, "scope": "turn" }),
            ),
            // Questions to people that are no permissions: nobody is there to answer them.
            "item/tool/requestUserInput" => return steps.push(rpc::answer(&id, json!({ "answers": {} }))),
            "mcpServer/elicitation/request" => {
                let declined = json!({ "action": "decline", "content": null, "_meta": null });
                return steps.push(rpc::answer(&id, declined));
            }
            _ => return steps.push(rpc::unknown(&id)),
        };
        let wish = wish.filter(|_| self.begun && !self.stopping && self.end.is_none());
        let name = rpc::name(&id).unwrap_or_default();
        match self.questions.put(&name, wish, Question { id, yes, no }) {
            Next::Ask(ask) => steps.push(Step::Ask(ask)),
            Next::Answer(question, allowed) => steps.push(question.answer(allowed)),
        }
    }

    /// What would be changed. The question does not say it; the item that it is about does.
    fn change(&self, params: &Value) -> Option<Wish> {
        let item = params["itemId"].as_str()?;
        let changes = self.changes.iter().find(|(id, _)| id == item)?.1.as_array()?;
        let mut title = Vec::new();
        let (mut detail, mut more) = (Detail::default(), false);
        for change in changes {
            let path = change["path"].as_str()?;
            let (verb, moved) = (kind(&change["kind"]), change["kind"]["move_path"].as_str());
            let name = |path: &str| words::inside(path).unwrap_or_else(|| path.to_owned());
            more |= !is_near(path) || moved.is_some_and(|path| !is_near(path));
            let file = match moved {
                Some(moved) => format!("{} → {}", name(path), name(moved)),
                None => name(path),
            };
            detail.say(verb, &file);
            detail.text(change["diff"].as_str().unwrap_or_default().trim_end());
            title.push(format!("{verb} {file}"));
        }
        let title = title.join(", ");
        if let Some(root) = params["grantRoot"].as_str() {
            more = true;
            detail.say("root", root);
        }
        reason(params, &mut detail);
        Some(Wish { what: title.clone(), title, detail, more })
    }
}

impl Question {
    fn answer(self, allowed: bool) -> Step {
        rpc::answer(&self.id, if allowed { self.yes } else { self.no })
    }
}

struct Tool<'a> {
    command: String,
    tool: Option<String>,
    exit_code: Option<i64>,
    output: &'a str,
    failed: bool,
}

fn words_of(text: &str) -> Value {
    json!([{ "type": "text", "text": text, "text_elements": [] }])
}

fn command(params: &Value) -> Option<Wish> {
    let (cwd, network) = (params["cwd"].as_str().unwrap_or(WORKSPACE), &params["networkApprovalContext"]);
    if let Some(host) = network["host"].as_str() {
        let host = format!("{host} ({})", network["protocol"].as_str().unwrap_or("network"));
        let mut detail = Detail::saying("reach", &host);
        let title = detail.title();
        if let Some(command) = params["command"].as_str() {
            detail.say("for", bare(command));
        }
        reason(params, &mut detail);
        return Some(Wish { what: title.clone(), title, detail, more: true });
    }
    let command = bare(params["command"].as_str()?);
    let mut detail = match params["kind"].as_str() {
        None | Some("command") => Detail::from(command),
        Some("writeStdin") => Detail::saying("type", command),
        // Another kind may be another thing.
        Some(_) => return None,
    };
    let title = detail.title();
    let mut what = title.clone();
    if cwd != WORKSPACE {
        detail.say("in", cwd);
        what.push_str(&format!("\nin {cwd}"));
    }
    let more = !params["additionalPermissions"].is_null();
    if more {
        detail.say("more", &params["additionalPermissions"].to_string());
    }
    reason(params, &mut detail);
    Some(Wish { title, detail, what, more })
}

fn permissions(params: &Value) -> Option<Wish> {
    let wanted = params["permissions"].as_object()?;
    let names: Vec<&str> = wanted.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let mut detail = Detail::saying("permissions", &names.join(", "));
    let title = detail.title();
    detail.text(&params["permissions"].to_string());
    reason(params, &mut detail);
    Some(Wish { what: format!("{title} {}", params["permissions"]), title, detail, more: true })
}

fn reason(params: &Value, detail: &mut Detail) {
    if let Some(reason) = params["reason"].as_str().filter(|reason| !reason.trim().is_empty()) {
        detail.say("reason", reason);
    }
}

/// The command without the shell that it is given to, where that is plain to see.
fn bare(command: &str) -> &str {
    let quoted = ["/bin/bash", "/usr/bin/bash", "/bin/sh", "bash", "sh"]
        .iter()
        .find_map(|shell| command.strip_prefix(shell)?.strip_prefix(" -lc "))
        .and_then(|rest| rest.strip_prefix('\'')?.strip_suffix('\''));
    quoted.filter(|inner| !inner.is_empty() && !inner.contains('\'')).unwrap_or(command)
}

fn kind(kind: &Value) -> &str {
    match kind["type"].as_str() {
        Some("add") => "add",
        Some("delete") => "delete",
        _ => "change",
    }
}

fn changes(changes: &Value, failed: bool, steps: &mut Vec<Step>) {
    for change in changes.as_array().into_iter().flatten() {
        let path = change["path"].as_str().unwrap_or_default();
        steps.push(Step::Note(words::changed(kind(&change["kind"]), path, failed)));
    }
}

/// The texts of a list: of strings, or of blocks of content.
fn texts(list: &Value) -> String {
    let text = |part: &Value| part.as_str().or_else(|| part["text"].as_str()).map(str::to_owned);
    list.as_array().into_iter().flatten().filter_map(text).collect::<Vec<_>>().join("\n\n")
}

fn tasks(plan: &Value) -> String {
    let line = |task: &Value| {
        let mark = if task["status"] == "completed" { "x" } else { " " };
        Some(format!("[{mark}] {}", task["step"].as_str()?))
    };
    plan.as_array().into_iter().flatten().filter_map(line).collect::<Vec<_>>().join("\n")
}

fn told(error: &Value) -> String {
    let words = |field: &str| error[field].as_str().unwrap_or_default();
    match words("additionalDetails") {
        "" => words("message").to_owned(),
        details => format!("{} ({details})", words("message")),
    }
}

fn fault(error: &Value) -> Fault {
    let info = error["codexErrorInfo"].as_object();
    let status = info.and_then(|info| info.values().find_map(|about| about["httpStatusCode"].as_i64()));
    Fault::new(error["message"].as_str().unwrap_or_default(), status)
}

impl Talk for ServerTalk {
    fn open(&mut self) -> Vec<Step> {
        let client = json!({ "name": "salon", "title": "Salon", "version": env!("CARGO_PKG_VERSION") });
        vec![rpc::ask(INITIALIZE, "initialize", json!({ "clientInfo": client, "capabilities": null }))]
    }

    fn hear(&mut self, line: &str) -> Vec<Step> {
        words::hear(line, |value, steps| match Message::read(value) {
            Some(Message::Answer(number, answer)) => self.answered(number, answer, line, steps),
            Some(Message::Question { id, method, params }) => self.question(id, &method, &params, steps),
            Some(Message::Notice { method, params }) => self.notice(&method, &params, line, steps),
            None => steps.push(Step::Note(words::raw(line))),
        })
    }

    fn decide(&mut self, ask: &str, verdict: Verdict) -> Vec<Step> {
        // Only this answer is given to the agent, and what is allowed for longer is remembered here: what it would take
        // for the same is wider than what somebody was asked.
        self.questions.decide(ask, verdict).map(|(question, allowed)| question.answer(allowed)).into_iter().collect()
    }

    fn can_steer(&self) -> bool {
        self.begun && self.turn.is_some() && !self.stopping && self.end.is_none()
    }

    fn steer(&mut self, steer: &str, text: &str) -> Vec<Step> {
        if !self.can_steer() {
            return Vec::new();
        }
        let params = json!({ "threadId": self.thread, "expectedTurnId": self.turn, "input": words_of(text) });
        self.steers.push((self.numbers, steer.to_owned()));
        vec![self.ask("turn/steer", params)]
    }

    fn stop(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.stopping || self.end.is_some() {
            return steps;
        }
        self.stopping = true;
        self.deny(&mut steps);
        steps.extend(self.interrupt());
        steps
    }

    fn ended(&mut self, code: Option<i32>, errors: &str) -> Result<(), EngineError> {
        let key = self.key.expose();
        match &self.end {
            Some(end) => end.told(key),
            None if self.stopping => Err(EngineError::Stopped),
            // It ends well whenever its input does; without its last word the answer is not whole.
            None => Silence { code, errors, whole: false, fault: self.fault.take(), key }.judged(),
        }
    }
}
