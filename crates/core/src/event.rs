//! Events: the numbered log of a turn, and the fold that turns it into what a reader shows.

use serde::{Deserialize, Serialize};

use crate::kept_back::{KeptBack, KeptFile};
use crate::{Lang, Time, TurnState};

/// One line of a turn's story. This is the durable format: variants and fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// An attempt began. A reader that sees a second one forgets what the first one said.
    Started {
        engine: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<String>,
    },
    /// More of the answer. Texts are concatenated as they stand.
    Text { text: String },
    /// Something beside the answer: a thought, a tool at work.
    Note(Note),
    /// A file for people, kept beside the log.
    File(LeftFile),
    /// The engine named its thread after it started.
    Thread { id: String },
    /// What the answer cost, as far as it is known. A later one replaces an earlier one.
    Usage(Usage),
    /// The answer is complete.
    Done,
    /// There will be no answer, or no more of it. `message` is a sentence for people.
    Failed { code: String, message: String },
    /// Someone asked for silence.
    Stopped,
}

/// A file that an engine left for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftFile {
    pub id: String,
    pub name: String,
    /// Its media type, as its bytes say.
    pub media: String,
    /// Bytes.
    pub size: i64,
}

/// Something an engine tells beside its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    Reasoning {
        text: String,
    },
    /// A tool is at work. `command` is what it runs, or what it does in a few words.
    CommandStarted {
        command: String,
        /// The agent's name for the tool, where it is not a shell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<String>,
    },
    CommandCompleted {
        command: String,
        exit_code: Option<i64>,
        output: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<String>,
        /// Whether the tool itself said that it failed, whatever the code.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
    /// A file in the workspace was added, changed or deleted.
    FileChanged {
        path: String,
        change: Change,
    },
    /// Something went wrong on the way, and the engine goes on.
    Trouble {
        message: String,
    },
    /// The engine wants to do something, and waits for somebody's answer.
    Asked {
        ask: String,
        title: String,
        detail: String,
        /// When silence counts as no, in Unix milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<i64>,
        /// The detail once more, so that it can be said in another language. None where that would be too long.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<AskLine>,
    },
    /// What became of such a question: `once`, `session`, `deny` or `expired`. `by` is a person's name, or nobody's.
    Answered {
        ask: String,
        verdict: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A panel sat down: who can be asked, and the most that it can cost. Nobody was asked before this.
    Seated {
        panel: String,
        seats: Vec<Seat>,
        /// Micro-dollars if everybody is asked as often as the rounds allow.
        most_micros: i64,
        /// Micro-dollars that the question may cost.
        ceiling_micros: i64,
    },
    /// The gate decided whether several are asked. `why` is a word such as `plain`, `long`, `risk`, `code`, `always`,
    /// `never`, `model`, or `doubt` where the first answer was not sure of itself.
    Gate {
        several: bool,
        why: String,
    },
    /// Somebody of a panel begins to speak.
    VoiceBegan {
        speaker: String,
        round: i64,
        model: String,
    },
    /// More of what somebody says beside the answer.
    VoiceText {
        speaker: String,
        round: i64,
        text: String,
    },
    /// Somebody has spoken, and what it took.
    VoiceEnded {
        speaker: String,
        round: i64,
        tokens_in: i64,
        tokens_out: i64,
        micros: i64,
        /// Whether the words of this speaker are the answer: then they stand there and not among the voices.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        answers: bool,
        /// Why there are no words, in a sentence for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
    },
    /// The panel ended before everybody was asked: `agreed`, `ceiling` or `alone`.
    CutShort {
        why: String,
    },
    /// The engine was told more while it was at work, and heard it. `steer` is the name of what was told.
    Steered {
        steer: String,
        text: String,
    },
    /// Files that the engine left and that nobody gets, and how many there are besides.
    KeptBack {
        files: Vec<KeptFile>,
        #[serde(default)]
        more: i64,
    },
    /// What the engine said and nobody understood.
    Raw {
        line: String,
    },
}

/// A place at a panel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    pub speaker: String,
    /// `solver`, `critic`, `checker`, `adviser`, `synth` or `gate`.
    pub part: String,
    pub model: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Changed,
    Deleted,
}

/// Tokens of one answer, as the upstream reported them or as we estimated them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub tokens_in: i64,
    pub tokens_out: i64,
    /// Whether we counted because the upstream did not say.
    #[serde(default)]
    pub estimated: bool,
    /// Whether what the upstream said could not be true and was clamped.
    #[serde(default)]
    pub suspect: bool,
}

impl Event {
    /// The terminal state that this event brings, if it brings one.
    pub fn ends(&self) -> Option<TurnState> {
        match self {
            Event::Done => Some(TurnState::Done),
            Event::Failed { .. } => Some(TurnState::Failed),
            Event::Stopped => Some(TurnState::Stopped),
            _ => None,
        }
    }
}

/// An event with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Starts at 1 in each turn and has no gaps.
    pub seq: i64,
    /// The lease epoch of the run that wrote it.
    pub attempt: i64,
    pub at: Time,
    pub event: Event,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReplyState {
    /// Nothing has started.
    #[default]
    Waiting,
    Running,
    Done,
    Failed {
        code: String,
        message: String,
    },
    Stopped,
}

/// Something that an engine waits to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub ask: String,
    pub title: String,
    pub detail: String,
    pub until_ms: Option<i64>,
    pub lines: Vec<AskLine>,
}

impl Pending {
    /// What is wanted, in a line. A command is what it is in any language.
    pub fn title_in(&self, lang: Lang) -> String {
        let Some(first) = self.lines.first().filter(|first| first.says.is_some()) else { return self.title.clone() };
        let told = match first.is_of_a_file() {
            // Of several files each is named before it is shown.
            true => {
                self.lines.iter().filter(|line| line.is_of_a_file()).map(|line| line.told(lang)).collect::<Vec<_>>()
            }
            false => vec![first.told(lang)],
        };
        let line = told.join(", ").split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(TITLE) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }

    /// All of what is wanted.
    pub fn detail_in(&self, lang: Lang) -> String {
        if self.lines.is_empty() {
            return self.detail.clone();
        }
        self.lines.iter().map(|line| line.told(lang)).collect::<Vec<_>>().join("\n")
    }
}

/// Most characters of a title.
const TITLE: usize = 200;

/// A part of what is asked: words as they stand, or a sentence of ours about them, by the end of its key in the locales.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    pub what: String,
}

impl AskLine {
    /// Whether it says what is done to a file.
    fn is_of_a_file(&self) -> bool {
        matches!(self.says.as_deref(), Some("add" | "change" | "delete" | "move" | "read" | "write"))
    }

    /// The line in a language. Of a sentence that only a newer Salon knows, the words are left.
    pub fn told(&self, lang: Lang) -> String {
        let sentence = |key: &String| lang.find(&format!("ask.{key}"), &[("what", &self.what)]);
        self.says.as_ref().and_then(sentence).unwrap_or_else(|| self.what.clone())
    }
}

/// How far somebody of a panel has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoiceState {
    Speaking,
    Spoke,
    /// There are no words, or not all. Holds a sentence for people.
    Failed(String),
}

/// What one speaker of a panel has said in one round. Speakers who are asked together stand in the order in which they
/// began; whoever was not asked is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    pub speaker: String,
    /// `solver`, `critic`, `checker`, `adviser`, `synth` or `gate`; empty if the panel did not say.
    pub part: String,
    /// Who speaks, by the catalog's name.
    pub model: String,
    /// From 1.
    pub round: i64,
    /// Empty where the words are the answer itself.
    pub text: String,
    pub state: VoiceState,
    /// Whether what it says is the answer, which stands in [`Reply::text`].
    pub answers: bool,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub micros: i64,
}

/// What a panel said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seating {
    pub panel: String,
    pub seats: Vec<Seat>,
    /// The quote: micro-dollars at the most.
    pub most_micros: i64,
    pub ceiling_micros: i64,
    /// Whether several are asked, once that is decided, and why; see [`Note::Gate`].
    pub gate: Option<(bool, String)>,
    /// Why not everybody was asked; see [`Note::CutShort`].
    pub cut_short: Option<String>,
}

/// What a reader shows now: the fold of a turn's log so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub state: ReplyState,
    pub attempt: i64,
    pub text: String,
    /// The command that is running now, if one is.
    pub busy_with: Option<String>,
    /// What it waits to be allowed, if it does.
    pub pending: Option<Pending>,
    /// What it was told while it was at work, and heard.
    pub heard: Vec<String>,
    pub files: Vec<LeftFile>,
    /// What it left besides, and nobody gets.
    pub kept_back: KeptBack,
    pub thread: Option<String>,
    pub usage: Usage,
    /// The panel that answers, if one does.
    pub panel: Option<Seating>,
    /// What its speakers have said, in order. A cost per role is here, too.
    pub voices: Vec<Voice>,
    /// The number of the last event folded in; `follow` after this one.
    pub seq: i64,
}

impl Reply {
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Stamped>) -> Reply {
        let mut reply = Reply::default();
        for event in events {
            reply.push(event);
        }
        reply
    }

    /// Folds in the next event. Events of attempts older than the newest are ignored: their run lost its lease.
    pub fn push(&mut self, stamped: &Stamped) {
        self.seq = self.seq.max(stamped.seq);
        if stamped.attempt < self.attempt || self.is_final() {
            return;
        }
        match &stamped.event {
            Event::Started { thread, .. } => {
                *self = Reply {
                    state: ReplyState::Running,
                    attempt: stamped.attempt,
                    thread: thread.clone(),
                    seq: self.seq,
                    ..Reply::default()
                };
            }
            Event::Text { text } => {
                self.busy_with = None;
                self.text.push_str(text);
            }
            Event::Note(Note::CommandStarted { command, .. }) => self.busy_with = Some(command.clone()),
            Event::Note(Note::CommandCompleted { .. } | Note::Reasoning { .. }) => self.busy_with = None,
            Event::Note(Note::Asked { ask, title, detail, until_ms, lines }) => {
                let (ask, title, detail) = (ask.clone(), title.clone(), detail.clone());
                self.pending = Some(Pending { ask, title, detail, until_ms: *until_ms, lines: lines.clone() });
            }
            Event::Note(Note::Answered { ask, .. }) => {
                self.pending.take_if(|pending| pending.ask == *ask);
            }
            Event::Note(Note::Steered { text, .. }) => self.heard.push(text.clone()),
            Event::Note(Note::KeptBack { files, more }) => self.kept_back.add(files, *more),
            Event::Note(note) => self.hear(note),
            Event::File(file) => self.files.push(file.clone()),
            Event::Thread { id } => self.thread = Some(id.clone()),
            Event::Usage(usage) => self.usage = usage.clone(),
            Event::Done => self.state = ReplyState::Done,
            Event::Failed { code, message } => {
                self.state = ReplyState::Failed { code: code.clone(), message: message.clone() };
            }
            Event::Stopped => self.state = ReplyState::Stopped,
        }
        self.attempt = stamped.attempt;
        if self.is_final() {
            (self.busy_with, self.pending) = (None, None);
        }
    }

    /// Takes in what a panel tells.
    fn hear(&mut self, note: &Note) {
        match note {
            Note::Seated { panel, seats, most_micros, ceiling_micros } => {
                self.panel = Some(Seating {
                    panel: panel.clone(),
                    seats: seats.clone(),
                    most_micros: *most_micros,
                    ceiling_micros: *ceiling_micros,
                    gate: None,
                    cut_short: None,
                });
            }
            Note::Gate { several, why } => {
                if let Some(panel) = &mut self.panel {
                    panel.gate = Some((*several, why.clone()));
                }
            }
            Note::CutShort { why } => {
                if let Some(panel) = &mut self.panel {
                    panel.cut_short = Some(why.clone());
                }
            }
            Note::VoiceBegan { speaker, round, model } => {
                let seats = self.panel.iter().flat_map(|panel| &panel.seats);
                let part = seats.filter(|seat| seat.speaker == *speaker).map(|seat| seat.part.clone()).next();
                self.voices.push(Voice {
                    speaker: speaker.clone(),
                    part: part.unwrap_or_default(),
                    model: model.clone(),
                    round: *round,
                    text: String::new(),
                    state: VoiceState::Speaking,
                    answers: false,
                    tokens_in: 0,
                    tokens_out: 0,
                    micros: 0,
                });
            }
            Note::VoiceText { speaker, round, text } => {
                if let Some(voice) = self.voice(speaker, *round) {
                    voice.text.push_str(text);
                }
            }
            Note::VoiceEnded { speaker, round, tokens_in, tokens_out, micros, answers, failed } => {
                if let Some(voice) = self.voice(speaker, *round) {
                    voice.state = failed.clone().map_or(VoiceState::Spoke, VoiceState::Failed);
                    (voice.tokens_in, voice.tokens_out) = (*tokens_in, *tokens_out);
                    (voice.micros, voice.answers) = (*micros, *answers);
                }
            }
            _ => {}
        }
    }

    fn voice(&mut self, speaker: &str, round: i64) -> Option<&mut Voice> {
        self.voices.iter_mut().rev().find(|voice| voice.speaker == speaker && voice.round == round)
    }

    /// Who speaks now beside the answer.
    pub fn speaking(&self) -> impl Iterator<Item = &Voice> {
        self.voices.iter().filter(|voice| voice.state == VoiceState::Speaking)
    }

    pub fn is_final(&self) -> bool {
        !matches!(self.state, ReplyState::Waiting | ReplyState::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamped(attempt: i64, seq: i64, event: Event) -> Stamped {
        Stamped { seq, attempt, at: Time(seq), event }
    }

    fn started() -> Event {
        Event::Started { engine: "echo".into(), thread: None }
    }

    fn text(text: &str) -> Event {
        Event::Text { text: text.into() }
    }

    #[test]
    fn a_newer_attempt_starts_afresh_and_the_older_one_is_not_heard_again() {
        let log = [
            stamped(1, 1, started()),
            stamped(1, 2, text("half an ans")),
            stamped(2, 3, started()),
            stamped(1, 4, text("wer")),
            stamped(2, 5, text("whole answer")),
            stamped(2, 6, Event::Done),
        ];
        let reply = Reply::fold(&log);
        assert_eq!(reply.text, "whole answer");
        assert_eq!(reply.state, ReplyState::Done);
        assert_eq!(reply.seq, 6);
    }

    #[test]
    fn voices_are_told_apart_by_speaker_and_round() {
        let began =
            |speaker: &str, round| Event::Note(Note::VoiceBegan { speaker: speaker.into(), round, model: "m".into() });
        let says = |speaker: &str, round, text: &str| {
            Event::Note(Note::VoiceText { speaker: speaker.into(), round, text: text.into() })
        };
        let ended = |speaker: &str, micros, failed: Option<&str>| {
            let (speaker, failed) = (speaker.to_owned(), failed.map(str::to_owned));
            Event::Note(Note::VoiceEnded {
                speaker,
                round: 1,
                tokens_in: 3,
                tokens_out: 4,
                micros,
                answers: false,
                failed,
            })
        };
        let seat = Seat { speaker: "Critic".into(), part: "critic".into(), model: "m".into() };
        let seated = Note::Seated { panel: "p".into(), seats: vec![seat], most_micros: 9, ceiling_micros: 10 };
        let events = [
            started(),
            Event::Note(seated),
            Event::Note(Note::Gate { several: true, why: "code".into() }),
            began("Critic", 1),
            began("Checker", 1),
            says("Checker", 1, "b"),
            says("Critic", 1, "a"),
            says("Critic", 1, "a"),
            ended("Critic", 7, None),
            ended("Checker", 0, Some("away")),
            began("Critic", 2),
            says("Critic", 2, "c"),
        ];
        let log: Vec<_> = events.into_iter().enumerate().map(|(at, event)| stamped(1, at as i64 + 1, event)).collect();
        let reply = Reply::fold(&log);
        let told: Vec<_> =
            reply.voices.iter().map(|v| (v.speaker.as_str(), v.round, v.text.as_str(), v.micros)).collect();
        assert_eq!(told, [("Critic", 1, "aa", 7), ("Checker", 1, "b", 0), ("Critic", 2, "c", 0)]);
        assert_eq!(reply.voices[0].part, "critic");
        assert_eq!(reply.voices[1].state, VoiceState::Failed("away".into()));
        assert_eq!(reply.speaking().map(|voice| voice.round).collect::<Vec<_>>(), [2]);
        assert_eq!(reply.panel.and_then(|panel| panel.gate), Some((true, "code".into())));
        assert_eq!(reply.text, "");
    }

    #[test]
    fn a_question_about_several_files_names_each_in_the_language() {
        let says = |key: &str, what: &str| AskLine { says: Some(key.into()), what: what.into() };
        let text = |what: &str| AskLine { says: None, what: what.into() };
        let lines =
            vec![says("add", "a.txt"), text("+one"), says("delete", "b.txt"), text("-two"), says("reason", "storks")];
        let asked = Note::Asked {
            ask: "1".into(),
            title: "add a.txt, delete b.txt".into(),
            detail: String::new(),
            until_ms: None,
            lines,
        };
        let reply = Reply::fold(&[stamped(1, 1, started()), stamped(1, 2, Event::Note(asked))]);
        let title = |lang| reply.pending.as_ref().expect("a question").title_in(lang);
        assert_eq!(title(Lang::En), "add a.txt, delete b.txt");
        assert_eq!(title(Lang::Ko), "추가: a.txt, 삭제: b.txt");
        assert_eq!(title(Lang::Ru), "добавить a.txt, удалить b.txt");
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(started()),
            "[a-c]{0,3}".prop_map(|t| text(&t)),
            Just(Event::Done),
            Just(Event::Stopped),
            Just(Event::Failed { code: "x".into(), message: "y".into() }),
            Just(Event::Note(Note::Reasoning { text: "hm".into() })),
            Just(Event::Note(Note::VoiceBegan { speaker: "s".into(), round: 1, model: "m".into() })),
            (0..3i64).prop_map(|more| {
                let file = KeptFile { name: "a".into(), why: "link".into() };
                Event::Note(Note::KeptBack { files: vec![file], more })
            }),
            "[a-c]{0,3}".prop_map(|text| Event::Note(Note::VoiceText { speaker: "s".into(), round: 1, text })),
        ]
    }

    proptest! {
        #[test]
        fn folding_in_two_halves_is_folding_once(
            events in prop::collection::vec((1..4i64, any_event()), 0..20),
            cut in 0..20usize,
        ) {
            let log: Vec<_> =
                events.into_iter().enumerate().map(|(i, (attempt, e))| stamped(attempt, i as i64 + 1, e)).collect();
            let cut = cut.min(log.len());
            let mut halves = Reply::fold(&log[..cut]);
            for event in &log[cut..] {
                halves.push(event);
            }
            prop_assert_eq!(halves, Reply::fold(&log));
        }

        #[test]
        fn a_final_reply_never_changes(
            events in prop::collection::vec((1..4i64, any_event()), 0..20),
            more in any_event(),
        ) {
            let log: Vec<_> =
                events.into_iter().enumerate().map(|(i, (attempt, e))| stamped(attempt, i as i64 + 1, e)).collect();
            let mut reply = Reply::fold(&log);
            if reply.is_final() {
                let before = (reply.state.clone(), reply.text.clone());
                reply.push(&stamped(9, 99, more));
                prop_assert_eq!(before, (reply.state, reply.text));
            }
        }

        #[test]
        fn the_durable_format_survives_a_round_trip(event in any_event()) {
            let json = serde_json::to_string(&event).expect("events serialise");
            prop_assert_eq!(serde_json::from_str::<Event>(&json).expect("and parse"), event);
        }
    }
}
