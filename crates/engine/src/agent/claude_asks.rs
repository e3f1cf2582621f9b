//! `claude -p` with both ends in JSON: it asks before it does something, and can be told more while it is at work.
//!
//! What it asks is a `control_request` on its output, the answer a `control_response` on its input, as between the
//! program and its maker's SDK. All its other lines are those of [`super::claude`].

mod wish;

use salon_core::Note;
use serde_json::{Value, json};

use super::claude::Lines;
use super::questions::{Next, Questions};
use super::{Errand, Launch, Maker, Policy, Step, Talk, Verdict, claude, prompt, words};
use crate::{EngineError, Secret};

pub struct ClaudeAsks;

impl Maker for ClaudeAsks {
    fn launch(&self, errand: &Errand) -> Result<Launch, EngineError> {
        let mut args = claude::args(errand)?;
        args.extend(["--input-format", "stream-json", "--permission-prompt-tool", "stdio"].map(str::to_owned));
        args.extend(["--permission-mode".to_owned(), mode(errand.policy).to_owned()]);
        Ok(Launch { args, env: claude::env(errand), files: claude::files() })
    }

    fn talk(&self, errand: &Errand) -> Box<dyn Talk> {
        Box::new(AsksTalk::new(errand))
    }

    fn asks(&self) -> bool {
        true
    }

    fn steers(&self) -> bool {
        true
    }
}

/// What it does without asking. In `manual` that is to look; the rest of the answer is given by [`Questions`].
fn mode(policy: Policy) -> &'static str {
    match policy {
        Policy::Ask | Policy::ReadOnly => "manual",
        Policy::Workspace => "acceptEdits",
        Policy::Full => "bypassPermissions",
    }
}

struct AsksTalk {
    prompt: String,
    key: Secret,
    lines: Lines,
    questions: Questions<Question>,
    /// What it was told meanwhile, and did not yet take up and finish.
    waiting: Vec<Waiting>,
    /// Whether it has had the last word of a turn and did not begin another.
    over: bool,
    stopping: bool,
    finished: bool,
}

/// Something that it was told, by the name that it has for it and by ours.
struct Waiting {
    uuid: String,
    steer: String,
    heard: bool,
}

/// The answer has to repeat what was asked for.
struct Question {
    id: String,
    input: Value,
}

/// The name of our one question to it.
const INTERRUPT: &str = "salon-stop";

impl AsksTalk {
    fn new(errand: &Errand) -> AsksTalk {
        AsksTalk {
            prompt: errand.prompt.clone(),
            key: errand.door.key.clone(),
            lines: Lines::new(errand),
            questions: Questions::new(errand.policy),
            waiting: Vec::new(),
            over: false,
            stopping: false,
            finished: false,
        }
    }

    fn read(&mut self, value: &Value, line: &str, steps: &mut Vec<Step>) {
        match value["type"].as_str().unwrap_or_default() {
            "control_request" => self.asked(value, line, steps),
            "control_cancel_request" => self.questions.forget(value["request_id"].as_str().unwrap_or_default()),
            "control_response" => {
                if let Some(error) = value["response"]["error"].as_str() {
                    let message = words::redacted(error, self.key.expose());
                    steps.push(Step::Note(Note::Trouble { message }));
                }
            }
            "command_lifecycle" => {
                self.told(value["command_uuid"].as_str(), value["state"].as_str(), steps);
            }
            kind => {
                self.over &= !matches!(kind, "assistant" | "stream_event");
                match self.lines.read(value) {
                    Some(told) => {
                        for step in told {
                            match step {
                                Step::Finished => self.over = true,
                                step => steps.push(step),
                            }
                        }
                    }
                    None => steps.push(Step::Note(words::raw(line))),
                }
                self.settle(steps);
            }
        }
    }

    /// How something stands that it was told meanwhile.
    fn told(&mut self, uuid: Option<&str>, state: Option<&str>, steps: &mut Vec<Step>) {
        let Some(at) = self.waiting.iter().position(|waiting| Some(waiting.uuid.as_str()) == uuid) else { return };
        let waiting = &mut self.waiting[at];
        // Every state but the first two is an end, and one of those is good.
        let ends = match state {
            None | Some("queued") => return,
            Some("started") => false,
            Some(_) => true,
        };
        let heard = matches!(state, Some("started" | "completed"));
        if !waiting.heard {
            waiting.heard = heard;
            steps.push(Step::Steered { steer: waiting.steer.clone(), heard });
        }
        if ends {
            self.waiting.swap_remove(at);
            self.settle(steps);
        }
    }

    /// It is done when a turn is over and nothing that it was told waits for another. Some of that it takes up within the
    /// turn, some after it; only it knows.
    fn settle(&mut self, steps: &mut Vec<Step>) {
        if self.over && (self.waiting.is_empty() || self.stopping) && !self.finished {
            self.finished = true;
            steps.extend(self.questions.close().into_iter().map(|question| question.answer(false)));
            steps.extend([Step::CloseInput, Step::Finished]);
        }
    }

    fn asked(&mut self, value: &Value, line: &str, steps: &mut Vec<Step>) {
        let Some(id) = value["request_id"].as_str().filter(|id| !id.is_empty()) else {
            return steps.push(Step::Note(words::raw(line)));
        };
        let request = &value["request"];
        if request["subtype"] != "can_use_tool" {
            let response = json!({ "subtype": "error", "request_id": id, "error": "not supported" });
            return steps.push(write(&json!({ "type": "control_response", "response": response })));
        }
        let wish = wish::read(request).filter(|_| !self.stopping && !self.finished);
        let question = Question { id: id.to_owned(), input: request["input"].clone() };
        match self.questions.put(id, wish, question) {
            Next::Ask(ask) => steps.push(Step::Ask(ask)),
            Next::Answer(question, allowed) => steps.push(question.answer(allowed)),
        }
    }
}

impl Question {
    fn answer(self, allowed: bool) -> Step {
        let answer = match allowed {
            true => json!({ "behavior": "allow", "updatedInput": self.input }),
            false => json!({ "behavior": "deny", "message": "This was not allowed." }),
        };
        let response = json!({ "subtype": "success", "request_id": self.id, "response": answer });
        write(&json!({ "type": "control_response", "response": response }))
    }
}

fn message(text: &str, uuid: Option<&str>) -> Step {
    let content = json!([{ "type": "text", "text": prompt::plain(text) }]);
    let mut message =
        json!({ "type": "user", "message": { "role": "user", "content": content }, "parent_tool_use_id": null });
    if let Some(uuid) = uuid {
        message["uuid"] = json!(uuid);
    }
    write(&message)
}

fn write(message: &Value) -> Step {
    Step::Write(message.to_string())
}

/// A name that no message of the thread has, in the form that it wants.
fn uuid() -> String {
    let random: u128 = rand::random();
    let digits = format!("{random:032x}");
    format!("{}-{}-4{}-8{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
}

impl Talk for AsksTalk {
    fn open(&mut self) -> Vec<Step> {
        vec![message(&std::mem::take(&mut self.prompt), None)]
    }

    fn hear(&mut self, line: &str) -> Vec<Step> {
        words::hear(line, |value, steps| self.read(&value, line, steps))
    }

    fn decide(&mut self, ask: &str, verdict: Verdict) -> Vec<Step> {
        // Its own permissions for longer, which it suggests, are for whole modes and folders: too wide for this answer.
        self.questions.decide(ask, verdict).map(|(question, allowed)| question.answer(allowed)).into_iter().collect()
    }

    fn can_steer(&self) -> bool {
        !self.stopping && !self.finished
    }

    fn steer(&mut self, steer: &str, text: &str) -> Vec<Step> {
        if !self.can_steer() {
            return Vec::new();
        }
        let uuid = uuid();
        let step = message(text, Some(&uuid));
        self.waiting.push(Waiting { uuid, steer: steer.to_owned(), heard: false });
        vec![step]
    }

    fn stop(&mut self) -> Vec<Step> {
        if self.stopping || self.finished {
            return Vec::new();
        }
        self.stopping = true;
        let mut steps: Vec<Step> = self.questions.close().into_iter().map(|question| question.answer(false)).collect();
        let request = json!({ "subtype": "interrupt", "cancel_queued": true });
        steps.push(write(&json!({ "type": "control_request", "request_id": INTERRUPT, "request": request })));
        steps
    }

    fn ended(&mut self, code: Option<i32>, errors: &str) -> Result<(), EngineError> {
        match self.lines.ended(code, errors) {
            Err(_) if self.stopping => Err(EngineError::Stopped),
            ended => ended,
        }
    }
}

#[cfg(test)]
mod tests;
