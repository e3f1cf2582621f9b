//! What the lines of such an agent mean.

use std::mem;

use salon_core::{Note, Usage};
use serde_json::{Value, json};

use super::tools::Tools;
use super::{Entry, Mode};
use crate::agent::ending::{Fault, Silence};
use crate::agent::questions::{Next, Questions};
use crate::agent::rpc::{self, End, Message, Refusal};
use crate::agent::telling::Telling;
use crate::agent::words::{self, SENTENCE};
use crate::agent::{Errand, Policy, Step, Talk, Verdict, WORKSPACE, names, prompt};
use crate::{EngineError, Secret};

const VERSION: i64 = 1;
/// What agents call modes in which they do much without asking.
const UNASKED: [&str; 9] = [
    "acceptEdits",
    "agent-full-access",
    "auto",
    "auto-edit",
    "autoEdit",
    "bypassPermissions",
    "dontAsk",
    "full-access",
    "yolo",
];

/// Our questions.
const INITIALIZE: i64 = 1;
const AUTHENTICATE: i64 = 2;
const SESSION: i64 = 3;
const MODE: i64 = 4;
const PROMPT: i64 = 5;
/// Echoes are numbered from here.
const ECHO: i64 = 6;

/// Echoes without news between them after which nothing is to come that belongs to the time before; and the most that
/// are waited for.
const QUIET: i64 = 2;
const ECHOES: i64 = 200;

pub(super) struct AcpTalk {
    prompt: String,
    key: Secret,
    model: Option<String>,
    auth: Option<String>,
    mode: Option<Mode>,
    /// Whether somebody has to be asked.
    must_ask: bool,
    /// The thread to go on with, as the agent is told it.
    thread: Option<String>,
    session: Option<String>,
    at: At,
    questions: Questions<Question>,
    tools: Tools,
    telling: Telling,
    message: String,
    thought: String,
    tasks: String,
    stopping: bool,
    end: Option<End>,
}

/// How far the conversation is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    /// It repeats what was said before, or says that its mode is another one, in the same words as an answer. Not every
    /// agent is done with that when it says that it is, so it is asked for an echo until nothing comes in between.
    Repeating {
        echoes: i64,
        quiet: i64,
    },
    Turn,
}

struct Question {
    id: Value,
    tool: String,
    once: Option<String>,
    always: Option<String>,
    no: Option<String>,
}

impl AcpTalk {
    pub(super) fn new(errand: &Errand, entry: &Entry, mode: Option<Mode>) -> AcpTalk {
        AcpTalk {
            prompt: errand.prompt.clone(),
            key: errand.door.key.clone(),
            model: errand.model.clone(),
            auth: entry.auth.clone(),
            mode,
            must_ask: errand.policy == Policy::Ask,
            thread: errand.thread.as_ref().map(|thread| format!("{}{thread}", entry.thread_prefix)),
            session: None,
            at: At::Start,
            questions: Questions::new(errand.policy),
            tools: Tools::default(),
            telling: Telling::default(),
            message: String::new(),
            thought: String::new(),
            tasks: String::new(),
            stopping: false,
            end: None,
        }
    }

    fn finish(&mut self, end: End, steps: &mut Vec<Step>) {
        if self.end.is_some() {
            return;
        }
        self.think(steps);
        self.end = Some(end);
        steps.extend(self.questions.close().into_iter().map(|question| question.cancelled()));
        steps.extend([Step::CloseInput, Step::Finished]);
    }

    fn fail(&mut self, code: &'static str, words: &str, steps: &mut Vec<Step>) {
        self.finish(End::Failed(Fault { code, words: words.to_owned() }), steps);
    }

    fn answered(&mut self, number: i64, answer: Result<Value, Refusal>, line: &str, steps: &mut Vec<Step>) {
        let result = match answer {
            Ok(result) => result,
            // Whether it knows the method or not, that was its echo.
            Err(_) if number >= ECHO => Value::Null,
            Err(_) if number == MODE && !self.stopping => match self.mode.as_ref().is_some_and(|mode| mode.is_needed) {
                true => return self.fail("agent_cannot_ask", "", steps),
                // Where it may only look, its mode is not what holds it.
                false => Value::Null,
            },
            Err(refusal) => return self.finish(self.refused(number, &refusal), steps),
        };
        if self.end.is_some() {
            return;
        }
        if self.stopping && number != PROMPT {
            return self.finish(End::Stopped, steps);
        }
        match number {
            INITIALIZE if result["protocolVersion"].as_i64() != Some(VERSION) => {
                let version = words::compact(&result["protocolVersion"]);
                self.fail("agent_failed", &format!("it speaks version {version} of the protocol"), steps);
            }
            INITIALIZE => {
                let mut offered = result["authMethods"].as_array().into_iter().flatten();
                if let Some(auth) = &self.auth
                    && offered.any(|method| method["id"] == **auth)
                {
                    steps.push(rpc::ask(AUTHENTICATE, "authenticate", json!({ "methodId": auth })));
                }
                self.begin(&result["agentCapabilities"], steps);
            }
            SESSION if self.session.is_none() => self.begun(&result, line, steps),
            PROMPT if self.at == At::Turn => self.done(&result, steps),
            number if number >= ECHO => self.echoed(number, steps),
            _ => {}
        }
    }

    fn refused(&self, number: i64, refusal: &Refusal) -> End {
        if self.stopping {
            return End::Stopped;
        }
        if number == SESSION && self.thread.is_some() {
            return End::Failed(Fault { code: "agent_thread_unknown", words: String::new() });
        }
        let details = ["details", "message"].iter().find_map(|field| refusal.data[field].as_str());
        let words = details.or(refusal.data.as_str()).unwrap_or(&refusal.message);
        let status = match refusal.code {
            -32000 => Some(401),
            // Some answer with the status that they got themselves.
            code => Some(code).filter(|code| (400..600).contains(code)),
        };
        End::Failed(Fault::new(words, status))
    }

    /// The thread, new or as it was. The question for it may follow that for a proof at once: they are answered in turn.
    fn begin(&mut self, abilities: &Value, steps: &mut Vec<Step>) {
        let mut params = json!({ "cwd": WORKSPACE, "mcpServers": [] });
        let Some(thread) = &self.thread else {
            return steps.push(rpc::ask(SESSION, "session/new", params));
        };
        params["sessionId"] = json!(thread);
        if abilities["sessionCapabilities"]["resume"].is_object() {
            // Like the other one, but without repeating what was said.
            steps.push(rpc::ask(SESSION, "session/resume", params));
        } else if abilities["loadSession"] == true {
            steps.push(rpc::ask(SESSION, "session/load", params));
        } else {
            self.fail("agent_thread_unknown", "", steps);
        }
    }

    fn begun(&mut self, result: &Value, line: &str, steps: &mut Vec<Step>) {
        let mut settled = true;
        let session = match (&self.thread, result["sessionId"].as_str()) {
            (Some(thread), _) => {
                settled = false;
                thread.clone()
            }
            (None, Some(id)) if names::is_thread(id) => {
                steps.push(Step::Thread(id.to_owned()));
                id.to_owned()
            }
            _ => {
                steps.push(Step::Note(words::raw(line)));
                return self.fail("agent_failed", "its thread has no name", steps);
            }
        };
        let modes = &result["modes"];
        if let Some(Mode { name, is_needed }) = self.mode.clone()
            && modes["currentModeId"] != *name
        {
            let is_known = match modes["availableModes"].as_array() {
                Some(known) => known.iter().any(|known| known["id"] == *name),
                // It may have told when the thread was new.
                None => is_needed,
            };
            if is_known {
                settled = false;
                steps.push(rpc::ask(MODE, "session/set_mode", json!({ "sessionId": session, "modeId": name })));
            } else if is_needed || self.must_ask && UNASKED.iter().any(|mode| modes["currentModeId"] == *mode) {
                return self.fail("agent_cannot_ask", "", steps);
            }
        }
        self.session = Some(session);
        match settled {
            true => self.turn(steps),
            false => self.echo(0, 0, steps),
        }
    }

    /// A question that changes nothing. Names that begin with `_` are for those that the protocol does not know.
    fn echo(&mut self, echoes: i64, quiet: i64, steps: &mut Vec<Step>) {
        steps.push(rpc::ask(ECHO + echoes, "_salon/echo", json!({})));
        self.at = At::Repeating { echoes: echoes + 1, quiet };
    }

    fn echoed(&mut self, number: i64, steps: &mut Vec<Step>) {
        let At::Repeating { echoes, quiet } = self.at else { return };
        if number != ECHO + echoes - 1 {
            return;
        }
        match quiet + 1 >= QUIET || echoes >= ECHOES {
            true => self.turn(steps),
            false => self.echo(echoes, quiet + 1, steps),
        }
    }

    fn turn(&mut self, steps: &mut Vec<Step>) {
        self.at = At::Turn;
        let words = prompt::plain(&mem::take(&mut self.prompt));
        let params = json!({ "sessionId": self.session, "prompt": [{ "type": "text", "text": words }] });
        steps.push(rpc::ask(PROMPT, "session/prompt", params));
    }

    fn done(&mut self, result: &Value, steps: &mut Vec<Step>) {
        self.think(steps);
        steps.extend(self.usage(result).map(Step::Usage));
        match result["stopReason"].as_str() {
            Some("end_turn") => self.finish(End::Done, steps),
            Some("cancelled") => self.finish(End::Stopped, steps),
            Some("max_tokens") => self.fail("agent_cut", "its answer would be too long", steps),
            Some("max_turn_requests") => self.fail("agent_cut", "it asked its model too often", steps),
            Some("refusal") => self.fail("agent_failed", "it refuses to go on", steps),
            _ => self.fail("agent_failed", "it does not say how it ended", steps),
        }
    }

    /// What the turn took. The protocol is not settled about it; some tell it in their own way.
    fn usage(&self, result: &Value) -> Option<Usage> {
        let count = |of: &Value, name: &str| of[name].as_i64().filter(|count| *count >= 0);
        let (usage, quota) = (&result["usage"], &result["_meta"]["quota"]);
        let (tokens_in, tokens_out) = match (count(usage, "inputTokens"), count(usage, "outputTokens")) {
            (Some(read), Some(written)) => {
                let cached = ["cachedReadTokens", "cachedWriteTokens"].iter().filter_map(|name| count(usage, name));
                (cached.fold(read, i64::saturating_add), written)
            }
            _ => (count(&quota["token_count"], "input_tokens")?, count(&quota["token_count"], "output_tokens")?),
        };
        let only = quota["model_usage"].as_array().filter(|models| models.len() == 1);
        let model = only.and_then(|models| models[0]["model"].as_str()).map(|model| words::shown(model, SENTENCE));
        Some(Usage { model: model.or_else(|| self.model.clone()), tokens_in, tokens_out, ..Usage::default() })
    }

    fn notice(&mut self, method: &str, params: &Value, line: &str, steps: &mut Vec<Step>) {
        match method {
            "session/update" => {
                if let At::Repeating { quiet, .. } = &mut self.at {
                    *quiet = -1;
                }
                let ours = self.session.is_some() && params["sessionId"].as_str() == self.session.as_deref();
                if self.at == At::Turn && ours && self.end.is_none() && self.update(&params["update"], steps).is_none()
                {
                    steps.push(Step::Note(words::raw(line)));
                }
            }
            // It does not wait for an answer any more.
            "$/cancel_request" => {
                if let Some(name) = rpc::name(&params["requestId"]) {
                    self.questions.forget(&name);
                }
            }
            _ => steps.push(Step::Note(words::raw(line))),
        }
    }

    /// `None` if nobody knows what it means.
    fn update(&mut self, update: &Value, steps: &mut Vec<Step>) -> Option<()> {
        let kind = update["sessionUpdate"].as_str()?;
        if kind != "agent_thought_chunk" {
            self.think(steps);
        }
        match kind {
            "agent_message_chunk" => {
                let text = update["content"]["text"].as_str().filter(|_| update["content"]["type"] == "text")?;
                if let Some(id) = update["messageId"].as_str().filter(|id| *id != self.message) {
                    id.clone_into(&mut self.message);
                    self.telling.pause();
                }
                self.telling.say(text, steps);
            }
            "agent_thought_chunk" => self.thought.push_str(update["content"]["text"].as_str()?),
            "tool_call" | "tool_call_update" => {
                self.telling.pause();
                self.tools.hear(update, steps)?;
            }
            "plan" => {
                let tasks = tasks(&update["entries"]);
                if !tasks.is_empty() && tasks != self.tasks {
                    steps.push(Step::Note(Note::Reasoning { text: words::clean(&tasks) }));
                    self.tasks = tasks;
                }
            }
            "user_message_chunk"
            | "available_commands_update"
            | "current_mode_update"
            | "config_option_update"
            | "session_info_update"
            | "usage_update" => {}
            _ => return None,
        }
        Some(())
    }

    /// Tells what was thought, once the thought is over.
    fn think(&mut self, steps: &mut Vec<Step>) {
        let text = words::clean(&mem::take(&mut self.thought));
        if !text.trim().is_empty() {
            steps.push(Step::Note(Note::Reasoning { text }));
        }
    }

    fn question(&mut self, id: Value, method: &str, params: &Value, steps: &mut Vec<Step>) {
        if method != "session/request_permission" {
            return steps.push(rpc::unknown(&id));
        }
        self.think(steps);
        self.telling.pause();
        let option = |kind: &str| {
            let mut options = params["options"].as_array().into_iter().flatten();
            options.find(|option| option["kind"] == kind)?["optionId"].as_str().map(str::to_owned)
        };
        let call = &params["toolCall"];
        let tool = call["toolCallId"].as_str().unwrap_or_default().to_owned();
        let name = rpc::name(&id).unwrap_or_default();
        let (once, always) = (option("allow_once"), option("allow_always"));
        // An option that is both a yes and a no is none of ours.
        let no = option("reject_once").filter(|no| once.as_ref() != Some(no) && always.as_ref() != Some(no));
        let open = self.at == At::Turn && self.end.is_none() && !self.stopping;
        let wish = match open && (once.is_some() || always.is_some()) {
            true => self.tools.wish(call, steps),
            false => None,
        };
        match self.questions.put(&name, wish, Question { id, tool, once, always, no }) {
            Next::Ask(ask) => steps.push(Step::Ask(ask)),
            Next::Answer(question, true) => steps.push(question.allowed(true)),
            Next::Answer(question, false) => self.deny(&question, steps),
        }
    }

    fn deny(&mut self, question: &Question, steps: &mut Vec<Step>) {
        self.tools.deny(&question.tool, steps);
        steps.push(if self.stopping { question.cancelled() } else { question.denied() });
    }
}

impl Question {
    /// What the agent would allow itself for longer may be wider than what was asked, and may outlive the run; so that is
    /// chosen only where there is nothing else, and by somebody who means it.
    fn allowed(&self, for_longer: bool) -> Step {
        match self.once.as_ref().or(self.always.as_ref().filter(|_| for_longer)) {
            Some(option) => self.selected(option),
            None => self.denied(),
        }
    }

    fn denied(&self) -> Step {
        match &self.no {
            Some(option) => self.selected(option),
            None => self.cancelled(),
        }
    }

    fn selected(&self, option: &str) -> Step {
        rpc::answer(&self.id, json!({ "outcome": { "outcome": "selected", "optionId": option } }))
    }

    fn cancelled(&self) -> Step {
        rpc::answer(&self.id, json!({ "outcome": { "outcome": "cancelled" } }))
    }
}

fn tasks(entries: &Value) -> String {
    let line = |task: &Value| {
        let mark = if task["status"] == "completed" { "x" } else { " " };
        Some(format!("[{mark}] {}", task["content"].as_str()?))
    };
    entries.as_array().into_iter().flatten().filter_map(line).collect::<Vec<_>>().join("\n")
}

impl Talk for AcpTalk {
    fn open(&mut self) -> Vec<Step> {
        let client = json!({ "name": "salon", "title": "Salon", "version": env!("CARGO_PKG_VERSION") });
        let abilities = json!({ "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false });
        let params = json!({ "protocolVersion": VERSION, "clientCapabilities": abilities, "clientInfo": client });
        vec![rpc::ask(INITIALIZE, "initialize", params)]
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
        let mut steps = Vec::new();
        match self.questions.decide(ask, verdict) {
            Some((question, true)) => steps.push(question.allowed(verdict == Verdict::Session)),
            Some((question, false)) => self.deny(&question, &mut steps),
            None => {}
        }
        steps
    }

    fn stop(&mut self) -> Vec<Step> {
        if self.stopping || self.end.is_some() {
            return Vec::new();
        }
        self.stopping = true;
        let mut steps = Vec::new();
        if self.at == At::Turn {
            steps.push(rpc::tell("session/cancel", json!({ "sessionId": self.session })));
        }
        for question in self.questions.close() {
            self.deny(&question, &mut steps);
        }
        steps
    }

    fn ended(&mut self, code: Option<i32>, errors: &str) -> Result<(), EngineError> {
        let key = self.key.expose();
        match &self.end {
            Some(end) => end.told(key),
            None if self.stopping => Err(EngineError::Stopped),
            None => Silence { code, errors, whole: false, fault: None, key }.judged(),
        }
    }
}
