//! Judges the bots by what the chats show: nothing lost, nothing said twice, everything in order.
//!
//! A *question* is a text message of a user that was queued for the bot; commands count only if asked for. Its *answer*
//! is a message of the bot, later in the same chat, whose last text equals (or contains) what the template makes of the
//! question. Questions with the same text share their answers: three equal questions need exactly three.
//!
//! * **lost** (I1): the update was acknowledged, by a 2xx or by a passed offset, and there is no answer.
//! * **pending**: no answer, but the bot has not taken the update either. Not a fault.
//! * **duplicates** (I2): more answers than questions.
//! * **disorder** (I3): in one chat, a later question was answered above an earlier one.
//! * **violations**: negative offsets, `logOut`, `close` and dropped updates.
//! * **unanswered_callbacks**: presses the bot took and never answered. Reported, but no failure.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::control::{ControlError, Controls, some_id};
use crate::state::{Chat, Message, Violation};

/// What to judge and how an answer is known.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Verify {
    pub token: Option<String>,
    #[serde(deserialize_with = "some_id")]
    pub chat_id: Option<i64>,
    /// The expected answer; `{text}` stands for the question.
    pub template: String,
    /// `equal`, or `contains`: as a whole word, so that `q 1` is not found in `q 10`.
    #[serde(rename = "match")]
    pub matching: String,
    /// Only questions that begin like this count.
    pub prefix: String,
    /// Whether commands are questions too.
    pub commands: bool,
}

impl Default for Verify {
    fn default() -> Verify {
        let (template, matching) = ("{text}".to_owned(), "equal".to_owned());
        Verify { token: None, chat_id: None, template, matching, prefix: String::new(), commands: false }
    }
}

/// The judgement. `ok` means: complete, and no lost, duplicate, disordered or violating case.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub ok: bool,
    /// False if timelines had to drop messages: then the lists may miss cases.
    pub complete: bool,
    pub questions: usize,
    pub answered: usize,
    pub lost: Vec<Case>,
    pub pending: Vec<Case>,
    pub duplicates: Vec<Case>,
    pub disorder: Vec<Case>,
    pub violations: Vec<Violation>,
    pub unanswered_callbacks: Vec<String>,
    /// The bot's messages that answer no question: progress, status lines, orphans.
    pub other_messages: usize,
    pub counted: &'static str,
}

/// A question with which something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    pub token: String,
    pub chat_id: i64,
    pub message_id: i64,
    pub update_id: Option<i64>,
    pub text: String,
    /// The messages that answer it, as far as they matter here.
    pub answers: Vec<i64>,
}

const COUNTED: &str = "questions: users' text messages queued for the bot (without commands unless asked for); answers: \
                       later messages of the bot in the same chat whose last text matches the template; equal \
                       questions share their answers; deleted messages and drafts do not count";

impl Controls {
    /// Judges what the bots did so far; see [`crate::verify`] for what exactly is counted.
    pub fn verify(&self, asked: &Verify) -> Result<Verdict, ControlError> {
        if !matches!(asked.matching.as_str(), "equal" | "contains") {
            return Err(ControlError::invalid("match is equal or contains"));
        }
        if !asked.template.contains("{text}") {
            return Err(ControlError::invalid("the template must contain {text}"));
        }
        let state = self.0.lock();
        let mut verdict = Verdict {
            ok: false,
            complete: true,
            questions: 0,
            answered: 0,
            lost: Vec::new(),
            pending: Vec::new(),
            duplicates: Vec::new(),
            disorder: Vec::new(),
            violations: Vec::new(),
            unanswered_callbacks: Vec::new(),
            other_messages: 0,
            counted: COUNTED,
        };
        let token = asked.token.as_deref().filter(|token| !token.is_empty());
        let is_asked = |bot: &str| token.is_none_or(|token| token == bot);
        for bot in state.bots.values().filter(|bot| is_asked(&bot.token)) {
            for chat in bot.chats.values().filter(|chat| asked.chat_id.is_none_or(|id| id == chat.id)) {
                verdict.complete &= chat.trimmed == 0;
                judge(&mut verdict, asked, &bot.token, chat);
            }
            let open = |callback: &&crate::state::Callback| callback.acknowledged && callback.answered_at.is_none();
            verdict.unanswered_callbacks.extend(bot.callbacks.values().filter(open).map(|open| open.id.clone()));
        }
        verdict.violations = state.violations.iter().filter(|case| is_asked(&case.token)).cloned().collect();
        verdict.ok = verdict.complete
            && verdict.lost.is_empty()
            && verdict.duplicates.is_empty()
            && verdict.disorder.is_empty()
            && verdict.violations.is_empty();
        Ok(verdict)
    }
}

/// Judges one chat.
fn judge(verdict: &mut Verdict, asked: &Verify, token: &str, chat: &Chat) {
    let mut questions: Vec<&Message> = chat.messages.values().filter(|message| is_question(asked, message)).collect();
    questions.sort_by_key(|question| question.update_id);
    let said: Vec<&Message> = chat.messages.values().filter(|message| message.from_bot).collect();
    let mut by_expected: BTreeMap<String, Vec<&Message>> = BTreeMap::new();
    for question in &questions {
        by_expected.entry(asked.template.replace("{text}", &question.text)).or_default().push(question);
    }
    let by_text = if asked.matching == "equal" { index(&said) } else { HashMap::new() };
    let case = |question: &Message, answers: Vec<i64>| Case {
        token: token.to_owned(),
        chat_id: chat.id,
        message_id: question.message_id,
        update_id: question.update_id,
        text: question.text.clone(),
        answers,
    };
    // The answer of each question, by its update.
    let mut answer_of: BTreeMap<Option<i64>, (&Message, i64)> = BTreeMap::new();
    let mut used = 0;
    for (expected, asked_so) in &by_expected {
        let first = asked_so.iter().map(|question| question.message_id).min().unwrap_or(0);
        let mut answers: Vec<i64> = match by_text.get(expected.as_str()) {
            Some(ids) => ids.clone(),
            None if asked.matching == "equal" => Vec::new(),
            None => said.iter().filter(|said| has_word(&said.text, expected)).map(|said| said.message_id).collect(),
        };
        answers.retain(|&id| id > first);
        used += answers.len();
        for (question, &answer) in asked_so.iter().zip(&answers) {
            answer_of.insert(question.update_id, (question, answer));
        }
        for question in asked_so.iter().skip(answers.len()) {
            let list = if question.acknowledged { &mut verdict.lost } else { &mut verdict.pending };
            list.push(case(question, Vec::new()));
        }
        if answers.len() > asked_so.len()
            && let Some(question) = asked_so.last()
        {
            verdict.duplicates.push(case(question, answers));
        }
    }
    let mut highest = 0;
    for (question, answer) in answer_of.values() {
        if *answer < highest {
            verdict.disorder.push(case(question, vec![highest, *answer]));
        }
        highest = highest.max(*answer);
    }
    verdict.questions += questions.len();
    verdict.answered += answer_of.len();
    verdict.other_messages += said.len().saturating_sub(used);
}

fn is_question(asked: &Verify, message: &Message) -> bool {
    !message.from_bot
        && message.update_id.is_some()
        && message.media.is_none()
        && message.service.is_none()
        && message.text.starts_with(&asked.prefix)
        && (asked.commands || !message.text.starts_with('/'))
}

fn index<'a>(said: &[&'a Message]) -> HashMap<&'a str, Vec<i64>> {
    let mut by_text: HashMap<&str, Vec<i64>> = HashMap::new();
    for message in said {
        by_text.entry(&message.text).or_default().push(message.message_id);
    }
    by_text
}

/// Whether `wanted` is in `text` and no letter or digit touches it.
fn has_word(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_found_in_a_longer_one() {
        assert!(has_word("echo: q 1", "q 1"));
        assert!(!has_word("echo: q 10", "q 1"));
        assert!(has_word("q 10, q 1.", "q 1"));
        assert!(!has_word("", "q"));
    }
}
