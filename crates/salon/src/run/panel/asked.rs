//! What everybody at the table is asked.

use salon_core::panel::Part;
use salon_core::{Brief, Role};
use salon_engine::wire::talk;

use super::{Sitting, Table};

/// Tokens for its one word. Some models need a few before it.
const GATE_CAP: i64 = 16;
/// Earlier messages that reviewers are shown, and characters of each.
const BEFORE: usize = 2;
const BEFORE_CHARS: usize = 1_000;

/// What its part is told.
fn prompt(part: Part) -> &'static str {
    match part {
        Part::Solver => include_str!("../../../../../prompts/solver.md"),
        Part::Critic => include_str!("../../../../../prompts/critic.md"),
        Part::Checker => include_str!("../../../../../prompts/checker.md"),
        Part::Adviser => include_str!("../../../../../prompts/adviser.md"),
        Part::Synth => include_str!("../../../../../prompts/synth.md"),
    }
}

impl Sitting {
    pub(super) fn solver_asked(&self, at: usize, brief: &Brief) -> talk::Ask {
        let mut ask = self.asked(at, brief, Some(&brief.instructions));
        ask.messages.extend(history(brief));
        ask.messages.push(talk::Message::text(talk::Role::User, &brief.question));
        ask
    }

    pub(super) fn reviewer_asked(&self, at: usize, brief: &Brief, table: &Table) -> talk::Ask {
        let mut ask = self.asked(at, brief, None);
        let mut text = String::new();
        let earlier = brief.history.len().saturating_sub(BEFORE);
        for message in &brief.history[earlier..] {
            let who = if message.role == Role::User { "Earlier question" } else { "Earlier answer" };
            let said: String = message.text.chars().take(BEFORE_CHARS).collect();
            add(&mut text, who, &said);
        }
        add(&mut text, "Question", &brief.question);
        table.answers.iter().for_each(|(who, said)| add(&mut text, &format!("Answer of {who}"), said));
        let hears = &self.panel.voices[at].hears;
        let heard = table.reviews.iter().filter(|(who, _)| hears.contains(who));
        heard.for_each(|(who, said)| add(&mut text, &format!("Remarks of {who}"), said));
        ask.messages.push(talk::Message::text(talk::Role::User, text));
        ask
    }

    pub(super) fn synth_asked(&self, at: usize, brief: &Brief, table: &Table) -> talk::Ask {
        let mut ask = self.asked(at, brief, Some(&brief.instructions));
        ask.messages.extend(history(brief));
        let mut text = String::new();
        add(&mut text, "Question", &brief.question);
        table.answers.iter().for_each(|(who, said)| add(&mut text, &format!("Draft of {who}"), said));
        table.reviews.iter().for_each(|(who, said)| add(&mut text, &format!("Remarks of {who}"), said));
        ask.messages.push(talk::Message::text(talk::Role::User, text));
        ask
    }

    /// A question of a voice without its messages.
    fn asked(&self, at: usize, brief: &Brief, house: Option<&str>) -> talk::Ask {
        let voice = &self.panel.voices[at];
        let instructions = [house.unwrap_or_default(), prompt(voice.part), &voice.instruction];
        let instructions: Vec<_> = instructions.map(str::trim).into_iter().filter(|text| !text.is_empty()).collect();
        let mut ask = bare(&instructions.join("\n\n"), voice.cap);
        if matches!(voice.part, Part::Solver | Part::Synth) {
            // What the asker wishes for is wished for the answer.
            ask.max_output = Some(brief.wishes.max_output.map_or(voice.cap, |most| most.clamp(1, voice.cap)));
            let temperature = brief.wishes.temperature.and_then(serde_json::Number::from_f64);
            ask.sampling = talk::Sampling { temperature, ..talk::Sampling::default() };
        }
        ask
    }
}

pub(super) fn gate_asked(brief: &Brief) -> talk::Ask {
    let mut ask = bare(include_str!("../../../../../prompts/gate.md").trim(), GATE_CAP);
    ask.messages.push(talk::Message::text(talk::Role::User, &brief.question));
    ask
}

fn bare(instructions: &str, cap: i64) -> talk::Ask {
    talk::Ask {
        messages: vec![talk::Message::text(talk::Role::System, instructions)],
        stream: true,
        usage_asked: true,
        max_output: Some(cap),
        ..talk::Ask::default()
    }
}

fn history(brief: &Brief) -> impl Iterator<Item = talk::Message> {
    brief.history.iter().map(|earlier| {
        let role = match earlier.role {
            Role::User => talk::Role::User,
            Role::Assistant => talk::Role::Assistant,
        };
        talk::Message::text(role, &earlier.text)
    })
}

fn add(text: &mut String, heading: &str, said: &str) {
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str("# ");
    text.push_str(heading);
    text.push_str("\n\n");
    text.push_str(said.trim());
}
