//! An agent's answer, put together from its messages: each word once, and a blank line between two messages.

use super::{Step, words};

#[derive(Default)]
pub(super) struct Telling {
    /// All of it as the agent wrote it; what it repeats is recognised by this.
    said: String,
    paused: bool,
}

impl Telling {
    /// What is said next is another message.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn say(&mut self, text: &str, steps: &mut Vec<Step>) {
        if text.is_empty() {
            return;
        }
        let gap = match self.paused && !self.said.is_empty() {
            false => "",
            true if self.said.ends_with("\n\n") => "",
            true if self.said.ends_with('\n') => "\n",
            true => "\n\n",
        };
        self.paused = false;
        self.said.push_str(gap);
        self.said.push_str(text);
        let text = words::clean(&format!("{gap}{text}"));
        if !text.is_empty() {
            steps.push(Step::Text(text));
        }
    }

    /// Says a message of which a part may have been said as the message so far, and remembers it there.
    pub(super) fn go_on(&mut self, so_far: &mut String, text: &str, steps: &mut Vec<Step>) {
        if so_far.starts_with(text) {
            return;
        }
        match text.strip_prefix(so_far.as_str()) {
            Some(rest) if !so_far.is_empty() => self.say(rest, steps),
            _ => {
                self.pause();
                self.say(text, steps);
            }
        }
        text.clone_into(so_far);
    }

    pub(super) fn has_said(&self, text: &str) -> bool {
        self.said.contains(text.trim())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }
}
