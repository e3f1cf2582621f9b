//! Briefs: what an engine is told before it answers.

use crate::{Dialog, Turn, TurnId, TurnState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub text: String,
}

/// A picture that somebody brought with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub name: String,
    /// Its media type, as its bytes say.
    pub media: String,
    pub data: Vec<u8>,
}

/// How an answer is wished for, where somebody said so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Tokens.
    pub max_output: Option<i64>,
    pub temperature: Option<f64>,
}

/// Everything an engine may know about the turn it answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Brief {
    pub turn: TurnId,
    /// How to behave, and the summary of what no longer fits. Empty if there is nothing to say.
    pub instructions: String,
    /// Earlier messages, oldest first, ending before the question.
    pub history: Vec<Message>,
    pub question: String,
    /// What belongs to the question beside its words.
    pub pictures: Vec<Picture>,
    /// The engine's own thread to go on with, if it has one.
    pub thread: Option<String>,
    pub wishes: Wishes,
}

/// How much of a dialog a brief may quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages, not turns: a turn is two of them.
    pub messages: usize,
    /// Characters of history, counted from the newest backwards.
    pub chars: usize,
}

impl Default for Window {
    fn default() -> Self {
        Window { messages: 10, chars: 24_000 }
    }
}

/// Writes the brief for `turn`. `earlier` are turns of the same dialog, oldest first.
///
/// Failed and stopped turns stay in the log and out of the context. The summary is told only when it
/// covers something that the history does not.
pub fn compose(instruction: &str, dialog: &Dialog, earlier: &[Turn], turn: &Turn, window: Window) -> Brief {
    let quotable = earlier.iter().filter(|t| t.number < turn.number && t.state == TurnState::Done);
    let mut history = Vec::new();
    let mut chars = 0;
    let mut left_out = dialog.window_from > 1;
    for earlier in quotable.rev() {
        let answer = earlier.answer.as_deref().unwrap_or_default();
        chars += earlier.question.chars().count() + answer.chars().count();
        let fits = history.len() + 2 <= window.messages && chars <= window.chars;
        if earlier.number < dialog.window_from || !fits {
            left_out = true;
            break;
        }
        history.push(Message { role: Role::Assistant, text: answer.to_owned() });
        history.push(Message { role: Role::User, text: earlier.question.clone() });
    }
    history.reverse();
    // The store hands over a bounded tail, so what came before it was left out as well.
    left_out |= earlier.first().is_some_and(|first| first.number > dialog.window_from.max(1));

    let mut instructions = instruction.trim().to_owned();
    if left_out && !dialog.summary.is_empty() {
        if !instructions.is_empty() {
            instructions.push_str("\n\n");
        }
        instructions.push_str("[Session Memory Summary]\n");
        instructions.push_str(&dialog.summary);
    }
    Brief {
        turn: turn.id.clone(),
        instructions,
        history,
        question: turn.question.clone(),
        pictures: Vec::new(),
        thread: dialog.thread.clone(),
        wishes: Wishes::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BotId, Channel, ChatId, Chosen, DialogId, Time, Usage};

    fn dialog(summary: &str, window_from: i64) -> Dialog {
        Dialog {
            id: DialogId::new("d"),
            channel: Channel::Telegram { bot: BotId::new("parrot"), chat: ChatId(1) },
            owner: None,
            engine: "echo".into(),
            view: None,
            thread: None,
            summary: summary.into(),
            window_from,
            turns: 0,
            active: true,
            chosen: Chosen::default(),
            created_at: Time(0),
            updated_at: Time(0),
        }
    }

    fn turn(number: i64, state: TurnState) -> Turn {
        Turn {
            id: TurnId::new(format!("t{number}")),
            dialog: DialogId::new("d"),
            number,
            user: None,
            question: format!("q{number}"),
            asked_at: Time(0),
            answer: Some(format!("a{number}")),
            answered_at: None,
            state,
            engine: "echo".into(),
            model: None,
            usage: Usage::default(),
            error: None,
        }
    }

    fn texts(brief: &Brief) -> Vec<&str> {
        brief.history.iter().map(|m| m.text.as_str()).collect()
    }

    #[test]
    fn failed_turns_stay_out_of_the_context() {
        let earlier = [turn(1, TurnState::Done), turn(2, TurnState::Failed), turn(3, TurnState::Stopped)];
        let brief = compose("", &dialog("", 1), &earlier, &turn(4, TurnState::Running), Window::default());
        assert_eq!(texts(&brief), ["q1", "a1"]);
        assert_eq!(brief.question, "q4");
    }

    #[test]
    fn the_summary_is_told_once_something_no_longer_fits() {
        let earlier = [turn(1, TurnState::Done), turn(2, TurnState::Done)];
        let fits = Window { messages: 4, chars: 100 };
        let tight = Window { messages: 2, chars: 100 };
        let all = compose("Be kind.", &dialog("S", 1), &earlier, &turn(3, TurnState::Running), fits);
        assert_eq!(all.instructions, "Be kind.");
        let some = compose("Be kind.", &dialog("S", 1), &earlier, &turn(3, TurnState::Running), tight);
        assert_eq!(texts(&some), ["q2", "a2"]);
        assert_eq!(some.instructions, "Be kind.\n\n[Session Memory Summary]\nS");
    }

    #[test]
    fn a_renewed_thread_keeps_the_summary_and_quotes_nothing_older() {
        let earlier = [turn(1, TurnState::Done), turn(2, TurnState::Done)];
        let brief = compose("", &dialog("S", 3), &earlier, &turn(3, TurnState::Running), Window::default());
        assert!(brief.history.is_empty());
        assert_eq!(brief.instructions, "[Session Memory Summary]\nS");
    }
}
