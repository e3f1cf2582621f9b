//! A turn as it is shown: its question, its answer from the log, who spoke, what it cost, and why there is no answer.

use askama::Template;
use salon::engines::is_absence;
use salon::logins::Visit;
use salon_core::event::{Voice, VoiceState};
use salon_core::overrun::Overrun;
use salon_core::{FileId, LeftFile, Measure, Micros, Reply, ReplyState, Turn, TurnId, TurnState};

use super::super::markdown::blocks;
use super::super::shell::{Shell, grouped};
use crate::Web;

/// Others that are offered where nobody stands behind whoever was asked.
const OTHERS: usize = 4;

/// A turn as it is shown.
#[derive(Template)]
#[template(path = "part/turn.html")]
pub(crate) struct Shown {
    pub shell: Shell,
    pub dialog: String,
    pub turn: Turn,
    /// HTML, block by block.
    pub answer: Vec<String>,
    pub files: Vec<LeftFile>,
    /// Which files were left and are not delivered, if there are any.
    pub kept_back: Option<String>,
    /// Pictures that came with the question: their ids and names.
    pub brought: Vec<(FileId, String)>,
    pub cost: i64,
    pub is_open: bool,
    pub aside: String,
    pub voices: String,
    /// Why there is no answer.
    pub failed: Option<String>,
    /// Who could answer instead, where nobody stands behind whoever should have.
    pub others: Vec<String>,
}

/// Who spoke on a panel, and what it took.
#[derive(Template)]
#[template(path = "part/voices.html")]
struct Voices<'a> {
    shell: &'a Shell,
    reply: &'a Reply,
    is_live: bool,
}

impl Voices<'_> {
    /// Those whose words do not stand in the answer, with their words as HTML.
    fn spoken(&self) -> Vec<(&Voice, String)> {
        self.reply.voices.iter().map(|voice| (voice, blocks(&voice.text).concat())).collect()
    }

    /// Whoever decides has no name of its own, and perhaps a model that is called gate.
    fn name(&self, voice: &Voice) -> String {
        if voice.part == "gate" { self.shell.t("part.gate") } else { voice.speaker.clone() }
    }

    fn speaks(&self, voice: &Voice) -> bool {
        voice.state == VoiceState::Speaking
    }

    fn failed(&self, voice: &Voice) -> Option<String> {
        match &voice.state {
            VoiceState::Failed(why) => Some(why.clone()),
            VoiceState::Speaking | VoiceState::Spoke => None,
        }
    }
}

fn voices(shell: &Shell, reply: &Reply, is_live: bool) -> String {
    Voices { shell, reply, is_live }.render().unwrap_or_default()
}

/// What stands beside an answer while it is written: what is being done, and what is asked.
#[derive(Template)]
#[template(path = "part/aside.html")]
pub(crate) struct Aside<'a> {
    pub shell: &'a Shell,
    pub dialog: &'a str,
    pub reply: &'a Reply,
    /// What an agent asks, in the reader's language.
    pub title: String,
    pub detail: String,
    /// HTML.
    pub voices: String,
}

/// A turn with what its log tells.
pub(crate) fn turn_shown(shell: &Shell, turn: Turn, reply: &Reply, cost: i64) -> Shown {
    let is_open = !turn.state.is_final();
    // What ended is on the turn; what is being written, in the log.
    let text = match &turn.answer {
        Some(answer) if !is_open => answer.as_str(),
        _ => reply.text.as_str(),
    };
    let dialog = turn.dialog.to_string();
    let aside = if is_open { aside(shell, &dialog, reply) } else { String::new() };
    Shown {
        answer: blocks(text),
        files: reply.files.clone(),
        kept_back: reply.kept_back.told(shell.lang),
        brought: Vec::new(),
        others: Vec::new(),
        failed: failure(shell, &turn, reply),
        voices: if is_open { String::new() } else { voices(shell, reply, false) },
        shell: shell.clone(),
        is_open,
        aside,
        cost,
        dialog,
        turn,
    }
}

/// Who could answer this person instead, if a turn failed because nobody stands behind whoever was asked.
pub(crate) fn others(web: &Web, visit: &Visit, turn: &Turn, reply: &Reply) -> Vec<String> {
    if !matches!(&reply.state, ReplyState::Failed { code, .. } if is_absence(code)) {
        return Vec::new();
    }
    let others = web.salon.engines.others(&turn.engine).into_iter().map(|other| other.name.clone());
    others.filter(|name| web.salon.may_ask(&visit.caller, name).is_ok()).take(OTHERS).collect()
}

pub(crate) fn aside(shell: &Shell, dialog: &str, reply: &Reply) -> String {
    let (title, detail) = match &reply.pending {
        Some(pending) => (pending.title_in(shell.lang), pending.detail_in(shell.lang)),
        None => Default::default(),
    };
    Aside { shell, dialog, reply, title, detail, voices: voices(shell, reply, true) }.render().unwrap_or_default()
}

/// Why there is no answer, or no more of it, in the reader's language.
fn failure(shell: &Shell, turn: &Turn, reply: &Reply) -> Option<String> {
    match turn.state {
        TurnState::Stopped => Some(shell.t("chat.stopped")),
        TurnState::Failed => Some(match &reply.state {
            ReplyState::Failed { code, message } => failed_with(shell, code, message),
            // Its log could not be read.
            _ => shell.t("chat.failed"),
        }),
        _ => None,
    }
}

/// A failure in the reader's language.
pub(super) fn failed_with(shell: &Shell, code: &str, message: &str) -> String {
    match Overrun::parse(message) {
        Some(overrun) => over_limit(shell, &overrun),
        None => salon_core::failure::said(shell.lang, code, message),
    }
}

/// Which limit has no room, when it has some again, and what helps meanwhile.
fn over_limit(shell: &Shell, overrun: &Overrun) -> String {
    let Overrun { scope, measure, period, limit, remaining, anew, .. } = overrun;
    let amount = |of: i64| {
        let number = match measure {
            Measure::Micros => Micros(of).to_string(),
            Measure::Tokens | Measure::Requests => grouped(of),
        };
        let one = if of == 1 && *measure != Measure::Micros { ".one" } else { "" };
        shell.lang.say(&format!("amount.{}{one}", measure.as_str()), &[("number", &number)])
    };
    let whose = shell.lang.say(&format!("limit.of.{}", scope.as_str()), &[]);
    let limit = shell.lang.say(&format!("allowance.{}", period.as_str()), &[("amount", &amount(*limit))]);
    let anew = match anew {
        Some((day, zone)) => shell.lang.say("limit.anew", &[("day", day), ("zone", zone)]),
        None => shell.lang.say("limit.never", &[]),
    };
    let holes = [("whose", whose.as_str()), ("limit", &limit), ("left", &amount(*remaining)), ("anew", &anew)];
    shell.lang.say("page.chat.over", &holes)
}

/// What a turn's log says so far; nothing if it cannot be read.
pub(super) async fn replied(web: &Web, turn: &TurnId) -> Reply {
    let events = async { web.salon.store.read().await?.list_events(turn, 0, i64::from(u16::MAX)).await };
    Reply::fold(&events.await.unwrap_or_default())
}

/// The pictures that came with a question; an answer is shown without them if they cannot be had.
pub(super) async fn brought(web: &Web, turn: &TurnId) -> Vec<(FileId, String)> {
    let found = async { web.salon.store.read().await?.list_brought(turn).await };
    found.await.unwrap_or_default().into_iter().map(|file| (file.id, file.name)).collect()
}

#[cfg(test)]
mod tests {
    use salon_core::{DialogId, Event, KeptFile, Lang, Note, Stamped, Time, Usage};

    use super::super::super::visitor::Guest;
    use super::*;

    #[test]
    fn files_that_nobody_gets_are_told_below_the_answer_in_the_readers_language() {
        let turn = Turn {
            id: TurnId::new("t"),
            dialog: DialogId::new("d"),
            number: 1,
            user: None,
            question: "?".to_owned(),
            asked_at: Time(0),
            answer: Some("Here it is.".to_owned()),
            answered_at: Some(Time(1)),
            state: TurnState::Done,
            engine: "claude".to_owned(),
            model: None,
            usage: Usage::default(),
            error: None,
        };
        let file = KeptFile { name: "<b>.png".to_owned(), why: "link".to_owned() };
        let events = [Event::Note(Note::KeptBack { files: vec![file], more: 2 }), Event::Done];
        let log = events.into_iter().zip(1..).map(|(event, seq)| Stamped { seq, attempt: 1, at: Time(seq), event });
        let reply = Reply::fold(&log.collect::<Vec<_>>());
        let shell = Shell::outside(&Guest { lang: Lang::Ru, visit: None }, Time(2));
        let html = turn_shown(&shell, turn, &reply, 0).render().expect("HTML");
        let (answer, rest) = html.split_once("Here it is.").expect("the answer");
        assert!(rest.contains("📎 Не доставлено: &#60;b&#62;.png (это ссылка), ещё 2"), "{rest}");
        assert!(!answer.contains("📎") && !html.contains("<b>"), "{html}");
    }
}
