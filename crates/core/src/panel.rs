//! Panels: several models that answer together, and the rules of when who is asked.
//!
//! ```text
//!  question ─► gate ─► solvers ─┬─ plain: that is the answer
//!                               └─ several: critics, checkers, advisers ─► synth ─► the answer
//!                                            ▲                              │
//!                                            └────────── one more round ◄───┘
//! ```
//! Who pays, who is called and how are not here; this module only decides.

use thiserror::Error;

use crate::Micros;

/// The most voices of a panel.
pub const MOST_VOICES: usize = 6;
/// The most rounds of critique.
pub const MOST_ROUNDS: i64 = 2;
/// The most tokens that a voice may be allowed.
pub const MOST_CAP: i64 = 4_096;
/// The longest instruction of a voice, in characters.
pub const LONGEST_INSTRUCTION: usize = 4_000;
/// What a question may cost where nobody said otherwise: ten cents.
pub const USUAL_CEILING: Micros = Micros(100_000);
/// A question longer than this is not plain, in characters.
const LONG: usize = 600;
/// Characters of a first answer in which doubt shows. They are held back until they are judged.
pub const HELD_CHARS: usize = 160;
/// The longest review that finds nothing, in characters.
const CONTENT_CHARS: usize = 80;
/// The longest names of panels and voices.
const LONGEST_NAME: usize = 32;

/// What a voice is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Answers the question. The first one answers alone where the question is plain.
    Solver,
    /// Attacks the answer.
    Critic,
    /// Looks whether it holds together.
    Checker,
    /// Adds what its own instruction says.
    Adviser,
    /// Makes the answer out of everything that was said.
    Synth,
}

impl Part {
    pub const ALL: [Part; 5] = [Part::Solver, Part::Critic, Part::Checker, Part::Adviser, Part::Synth];

    pub fn as_str(self) -> &'static str {
        match self {
            Part::Solver => "solver",
            Part::Critic => "critic",
            Part::Checker => "checker",
            Part::Adviser => "adviser",
            Part::Synth => "synth",
        }
    }

    pub fn parse(text: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.as_str() == text)
    }

    /// The most tokens that it writes where nobody said otherwise.
    pub fn usual_cap(self) -> i64 {
        match self {
            Part::Solver => 500,
            Part::Critic | Part::Checker | Part::Adviser => 200,
            Part::Synth => 700,
        }
    }

    fn reviews(self) -> bool {
        matches!(self, Part::Critic | Part::Checker | Part::Adviser)
    }
}

/// One seat of a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    /// How people know it.
    pub name: String,
    pub part: Part,
    /// A model of the catalog; `None` is the first solver's, and for that one the house's usual model.
    pub model: Option<String>,
    /// What it is told beside, or in the place of, what its part is told.
    pub instruction: String,
    /// The most tokens that it writes.
    pub cap: i64,
    /// Voices before it whose words of this round it waits for. A review that waits for nobody runs beside the others.
    pub hears: Vec<String>,
}

impl Voice {
    pub fn new(name: &str, part: Part) -> Voice {
        let (name, cap) = (name.to_owned(), part.usual_cap());
        Voice { name, part, model: None, instruction: String::new(), cap, hears: Vec::new() }
    }
}

/// Who decides whether a question needs several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The rules of [`Why::of`].
    Rules,
    /// A model, by its name; the rules where it does not say.
    Model(String),
    Always,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    pub name: String,
    /// In the order in which they sit. Solvers speak first and the synth last, wherever they sit.
    pub voices: Vec<Voice>,
    pub gate: Gate,
    /// How often an answer is reviewed at most.
    pub rounds: i64,
    /// What one question may cost.
    pub ceiling: Micros,
}

/// Why a panel cannot sit down. The sentences are for whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Wrong {
    #[error("A panel's name has 1 to {LONGEST_NAME} letters, digits, '-' and '_'.")]
    Name,
    #[error("A panel has 1 to {MOST_VOICES} voices.")]
    Count,
    #[error("A voice's name has 1 to {LONGEST_NAME} characters, and no line breaks; \"gate\" is taken.")]
    VoiceName,
    #[error("Two voices are called {0}.")]
    Twice(String),
    #[error("A panel has at least one solver.")]
    NoSolver,
    #[error("A panel of several voices ends with exactly one synth.")]
    Synth,
    #[error("The voice {voice} waits for {other}, which does not stand before it among the reviews.")]
    Hears { voice: String, other: String },
    #[error("The voice {0} may write 1 to {MOST_CAP} tokens.")]
    Cap(String),
    #[error("The instruction of {0} is longer than {LONGEST_INSTRUCTION} characters.")]
    Instruction(String),
    #[error("The adviser {0} needs an instruction: nobody else says what it is there for.")]
    Adviser(String),
    #[error("A panel has 1 or {MOST_ROUNDS} rounds.")]
    Rounds,
    #[error("A ceiling is not below zero.")]
    Ceiling,
}

impl Panel {
    /// Solver, critic, checker and synth, all of them the house's usual model.
    pub fn usual(name: &str) -> Panel {
        let voices = vec![
            Voice::new("Solver", Part::Solver),
            Voice::new("Critic", Part::Critic),
            Voice::new("Checker", Part::Checker),
            Voice::new("Synth", Part::Synth),
        ];
        Panel { name: name.to_owned(), voices, gate: Gate::Rules, rounds: 1, ceiling: USUAL_CEILING }
    }

    /// Whether it can sit down at all. Whether its models are there is for others to say.
    pub fn check(&self) -> Result<(), Wrong> {
        if !is_name(&self.name) {
            return Err(Wrong::Name);
        }
        if self.voices.is_empty() || self.voices.len() > MOST_VOICES {
            return Err(Wrong::Count);
        }
        for (at, voice) in self.voices.iter().enumerate() {
            let name = voice.name.trim();
            let fits = name == voice.name && (1..=LONGEST_NAME).contains(&name.chars().count());
            if !fits || name.chars().any(char::is_control) || name.to_lowercase() == "gate" {
                return Err(Wrong::VoiceName);
            }
            let before = &self.voices[..at];
            if before.iter().any(|other| other.name.to_lowercase() == name.to_lowercase()) {
                return Err(Wrong::Twice(voice.name.clone()));
            }
            if !(1..=MOST_CAP).contains(&voice.cap) {
                return Err(Wrong::Cap(voice.name.clone()));
            }
            if voice.instruction.chars().count() > LONGEST_INSTRUCTION {
                return Err(Wrong::Instruction(voice.name.clone()));
            }
            if voice.part == Part::Adviser && voice.instruction.trim().is_empty() {
                return Err(Wrong::Adviser(voice.name.clone()));
            }
            for heard in &voice.hears {
                let stands = before.iter().any(|other| other.name == *heard && other.part.reviews());
                if !stands || !voice.part.reviews() {
                    return Err(Wrong::Hears { voice: voice.name.clone(), other: heard.clone() });
                }
            }
        }
        if self.solvers().is_empty() {
            return Err(Wrong::NoSolver);
        }
        let synths = self.voices.iter().filter(|voice| voice.part == Part::Synth).count();
        if synths > 1 || (synths == 0) != (self.voices.len() == 1) {
            return Err(Wrong::Synth);
        }
        if !(1..=MOST_ROUNDS).contains(&self.rounds) {
            return Err(Wrong::Rounds);
        }
        if self.ceiling < Micros::ZERO { Err(Wrong::Ceiling) } else { Ok(()) }
    }

    /// Places of the solvers.
    pub fn solvers(&self) -> Vec<usize> {
        self.places(|part| part == Part::Solver)
    }

    pub fn synth(&self) -> Option<usize> {
        self.places(|part| part == Part::Synth).first().copied()
    }

    /// Places of those who review, in groups: the voices of a group are asked at once, the groups one after another.
    pub fn reviews(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut depth = vec![0; self.voices.len()];
        for at in self.places(Part::reviews) {
            let heard = |other: &usize| self.voices[at].hears.contains(&self.voices[*other].name);
            let waits = (0..at).filter(heard).map(|other| depth[other] + 1).max().unwrap_or(0);
            depth[at] = waits;
            if groups.len() <= waits {
                groups.resize(waits + 1, Vec::new());
            }
            groups[waits].push(at);
        }
        groups
    }

    fn places(&self, fits: impl Fn(Part) -> bool) -> Vec<usize> {
        let places = self.voices.iter().enumerate().filter(|(_, voice)| fits(voice.part));
        places.map(|(at, _)| at).collect()
    }

    /// What the gate says where nobody has to be asked: `None` where a model decides.
    pub fn gate(&self, question: &str) -> Option<Why> {
        match self.gate {
            // Whoever sits alone has nobody to ask.
            _ if self.voices.len() == 1 => Some(Why::Never),
            Gate::Rules => Some(Why::of(question)),
            Gate::Always => Some(Why::Always),
            Gate::Never => Some(Why::Never),
            Gate::Model(_) => None,
        }
    }

    /// Whether answers are reviewed a first or a further time.
    pub fn goes_on(&self, so_far: &SoFar) -> Result<(), Halt> {
        if self.reviews().is_empty() && so_far.round > 0 {
            return Err(Halt::Rounds);
        }
        if so_far.content {
            return Err(Halt::Agreed);
        }
        if so_far.round >= self.rounds {
            return Err(Halt::Rounds);
        }
        // A review that nobody could afford to heed is money for nothing.
        if so_far.spent + so_far.next > self.ceiling { Err(Halt::Ceiling) } else { Ok(()) }
    }
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoFar {
    /// Rounds that are over.
    pub round: i64,
    /// Whether the last round found nothing.
    pub content: bool,
    pub spent: Micros,
    /// The most that another round costs, its synth included.
    pub next: Micros,
}

/// Why there is no further round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Nobody found anything.
    Agreed,
    Rounds,
    Ceiling,
}

/// Why a question is plain or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Plain,
    Long,
    Risk,
    Code,
    Always,
    Never,
    /// A model said so.
    Model {
        several: bool,
    },
    /// The first answer is not sure of itself.
    Doubt,
}

impl Why {
    /// The rules.
    pub fn of(question: &str) -> Why {
        let lower = question.to_lowercase();
        if question.chars().count() > LONG {
            Why::Long
        } else if CODE.iter().any(|mark| question.contains(mark)) {
            Why::Code
        } else if RISKS.iter().any(|risk| lower.contains(risk)) || RISK_WORDS.iter().any(|word| has_word(&lower, word))
        {
            Why::Risk
        } else {
            Why::Plain
        }
    }

    /// What a model that was asked said; `None` if it said neither.
    pub fn said(answer: &str) -> Option<Why> {
        let answer = answer.to_uppercase();
        match (answer.contains("MULTI"), answer.contains("SIMPLE")) {
            (true, _) => Some(Why::Model { several: true }),
            (false, true) => Some(Why::Model { several: false }),
            (false, false) => None,
        }
    }

    /// Whether several are asked.
    pub fn several(self) -> bool {
        match self {
            Why::Plain | Why::Never => false,
            Why::Long | Why::Risk | Why::Code | Why::Always | Why::Doubt => true,
            Why::Model { several } => several,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Why::Plain => "plain",
            Why::Long => "long",
            Why::Risk => "risk",
            Why::Code => "code",
            Why::Always => "always",
            Why::Never => "never",
            Why::Model { .. } => "model",
            Why::Doubt => "doubt",
        }
    }
}

/// Marks of code, as they stand.
const CODE: [&str; 6] = ["```", "def ", "class ", "import ", "SELECT ", "CREATE TABLE"];

/// What is risky to be wrong about. Korean and Russian words change at their ends, and Korean ones stand together.
const RISKS: [&str; 46] = [
    "투자",
    "선물",
    "레버리지",
    "대출",
    "세금",
    "법",
    "소송",
    "의학",
    "약",
    "진단",
    "보안",
    "해킹",
    "취약점",
    "키",
    "비밀번호",
    "개인정보",
    "배포",
    "프로덕션",
    "장애",
    "инвест",
    "фьючерс",
    "плечо",
    "кредит",
    "налог",
    "закон",
    "иск в суд",
    "судебн",
    "медицин",
    "лекарств",
    "диагноз",
    "безопасност",
    "взлом",
    "уязвимост",
    "парол",
    "персональн",
    "деплой",
    "продакшн",
    "сбой",
    "ипотек",
    "дозиров",
    "invest",
    "lawsuit",
    "diagnos",
    "vulnerabilit",
    "credential",
    "password",
];

/// The same where the word alone counts: "tax", but not "taxi".
const RISK_WORDS: [&str; 22] = [
    "futures",
    "leverage",
    "loan",
    "loans",
    "mortgage",
    "tax",
    "taxes",
    "law",
    "legal",
    "medicine",
    "medical",
    "drug",
    "dosage",
    "security",
    "hack",
    "hacked",
    "exploit",
    "secret",
    "deploy",
    "deployment",
    "production",
    "outage",
];

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|found| found == word)
}

/// Words of somebody who is not sure, in the beginning of an answer. The prompt of a solver asks for the first.
const DOUBTS: [&str; 26] = [
    "unsure",
    "i'm not sure",
    "i am not sure",
    "not certain",
    "i don't know",
    "i do not know",
    "i can't be sure",
    "hard to say",
    "it is unclear",
    "it's unclear",
    "i might be wrong",
    "i may be wrong",
    "cannot verify",
    "can't verify",
    "확실하지 않",
    "확신할 수 없",
    "잘 모르",
    "불확실",
    "не уверен",
    "точно не знаю",
    "не могу сказать точно",
    "трудно сказать",
    "сложно сказать",
    "могу ошибаться",
    "неясно",
    "не знаю",
];

/// The word by which a solver says at once that it is not sure. It is not part of its answer.
pub const UNSURE: &str = "UNSURE";

/// Whether an answer that begins like this is not sure of itself.
pub fn doubts(beginning: &str) -> bool {
    let beginning: String = beginning.chars().take(HELD_CHARS).collect::<String>().to_lowercase().replace('’', "'");
    DOUBTS.iter().any(|doubt| beginning.contains(doubt))
}

/// An answer without the solver's own mark.
pub fn unmarked(answer: &str) -> &str {
    let trimmed = answer.trim_start();
    match trimmed.strip_prefix(UNSURE) {
        Some(rest) => rest.trim_start_matches([':', '.', ',', '-', '–', '—']).trim_start(),
        None => answer,
    }
}

/// Whether a review finds nothing.
pub fn is_content(review: &str) -> bool {
    let review = review.trim().trim_matches(['"', '*', '`', '\'', '.', '!']).trim();
    if review.chars().count() > CONTENT_CHARS {
        return false;
    }
    let lower = review.to_lowercase();
    matches!(
        lower.as_str(),
        "ok" | "okay" | "ок" | "none" | "nothing" | "없음" | "нет" | "нет замечаний" | "замечаний нет"
    ) || ["ok.", "ok,", "ok:", "ok -", "ok –", "ok —", "no issues", "no problems", "문제 없", "문제없"]
        .iter()
        .any(|mark| lower.starts_with(mark) && !lower.contains("but") && !lower.contains("however"))
}

/// Whether a panel may be called so.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_gate_knows_the_contracts_vectors() {
        let long = "a ".repeat(301);
        let edge = "a".repeat(600);
        let table = [
            ("Hi, how are you?", Why::Plain),
            ("Who wrote Faust?", Why::Plain),
            ("Where is the next taxi?", Why::Plain),
            ("Tell me of the outlaws.", Why::Plain),
            ("안녕하세요, 오늘 어때요?", Why::Plain),
            ("Привет! Как дела?", Why::Plain),
            (edge.as_str(), Why::Plain),
            (long.as_str(), Why::Long),
            ("주식 투자 어떻게 시작하지?", Why::Risk),
            ("선물 거래", Why::Risk),
            ("대출을 받을까?", Why::Risk),
            ("이 약을 먹어도 되나요?", Why::Risk),
            ("서버 장애 대응", Why::Risk),
            ("비밀번호를 잊었어요", Why::Risk),
            ("Which tax do I pay?", Why::Risk),
            ("Is this legal?", Why::Risk),
            ("We deploy to production on Friday.", Why::Risk),
            ("How should I invest 100 dollars?", Why::Risk),
            ("Какой налог я плачу?", Why::Risk),
            ("Нашли уязвимость", Why::Risk),
            ("```\nfn main() {}\n```", Why::Code),
            ("what does def f(x) do", Why::Code),
            ("class Stork:", Why::Code),
            ("import os", Why::Code),
            ("SELECT 1", Why::Code),
            ("select a colour", Why::Plain),
            ("CREATE TABLE storks", Why::Code),
        ];
        for (question, why) in table {
            assert_eq!(Why::of(question), why, "{question}");
            assert_eq!(why.several(), why != Why::Plain);
        }
    }

    #[test]
    fn of_two_words_the_dearer_one_counts() {
        let table = [
            ("SIMPLE", Some(false)),
            ("simple.", Some(false)),
            ("MULTI", Some(true)),
            ("Not SIMPLE: MULTI", Some(true)),
            ("perhaps", None),
            ("", None),
        ];
        for (said, several) in table {
            assert_eq!(Why::said(said).map(Why::several), several, "{said}");
        }
    }

    #[test]
    fn every_gate_decides() {
        let panel = |gate| Panel { gate, ..Panel::usual("p") };
        assert_eq!(panel(Gate::Rules).gate("Which tax?"), Some(Why::Risk));
        assert_eq!(panel(Gate::Always).gate("Hi"), Some(Why::Always));
        assert_eq!(panel(Gate::Never).gate("Which tax?"), Some(Why::Never));
        assert_eq!(panel(Gate::Model("m".into())).gate("Hi"), None);
        let alone = Panel { voices: vec![Voice::new("S", Part::Solver)], ..panel(Gate::Always) };
        assert_eq!((alone.check(), alone.gate("Which tax?")), (Ok(()), Some(Why::Never)));
    }

    #[test]
    fn caps_are_the_contracts() {
        let caps: Vec<_> = Panel::usual("p").voices.iter().map(|voice| voice.cap).collect();
        assert_eq!(caps, [500, 200, 200, 700]);
    }

    #[test]
    fn rounds_and_money_end_a_panel() {
        let panel = Panel { rounds: 2, ceiling: Micros(100), ..Panel::usual("p") };
        let far = |round, content, spent, next| SoFar { round, content, spent: Micros(spent), next: Micros(next) };
        let table = [
            (far(0, false, 0, 0), Ok(())),
            (far(0, false, 40, 60), Ok(())),
            (far(0, false, 40, 61), Err(Halt::Ceiling)),
            (far(1, true, 0, 0), Err(Halt::Agreed)),
            (far(1, false, 0, 0), Ok(())),
            (far(1, false, 99, 2), Err(Halt::Ceiling)),
            (far(2, false, 0, 0), Err(Halt::Rounds)),
        ];
        for (so_far, wanted) in table {
            assert_eq!(panel.goes_on(&so_far), wanted, "{so_far:?}");
        }
        let once = Panel { rounds: 1, ..panel };
        assert_eq!(once.goes_on(&far(1, false, 0, 0)), Err(Halt::Rounds));
        let free = Panel { ceiling: Micros::ZERO, ..once };
        assert_eq!(free.goes_on(&far(0, false, 0, 0)), Ok(()));
        assert_eq!(free.goes_on(&far(0, false, 0, 1)), Err(Halt::Ceiling));
    }

    #[test]
    fn who_waits_for_nobody_runs_beside_the_others() {
        let mut panel = Panel::usual("p");
        assert_eq!(panel.reviews(), [vec![1, 2]]);
        panel.voices[2].hears.push("Critic".into());
        assert_eq!(panel.reviews(), [vec![1], vec![2]]);
        let mut adviser = Voice::new("Lawyer", Part::Adviser);
        adviser.instruction = "Think of the law.".into();
        panel.voices.insert(3, adviser);
        assert_eq!(panel.reviews(), [vec![1, 3], vec![2]]);
        assert_eq!((panel.check(), panel.synth()), (Ok(()), Some(4)));
    }

    #[test]
    fn what_cannot_sit_down_says_why() {
        let wrong = |change: &dyn Fn(&mut Panel)| {
            let mut panel = Panel::usual("p");
            change(&mut panel);
            panel.check()
        };
        assert_eq!(wrong(&|_| {}), Ok(()));
        assert_eq!(wrong(&|p| p.name = "a b".into()), Err(Wrong::Name));
        assert_eq!(wrong(&|p| p.voices.clear()), Err(Wrong::Count));
        let solvers = |count: usize| (0..count).map(|at| Voice::new(&format!("s{at}"), Part::Solver));
        assert_eq!(wrong(&|p| p.voices.extend(solvers(3))), Err(Wrong::Count));
        assert_eq!(wrong(&|p| p.voices.extend(solvers(2))), Ok(()));
        assert_eq!(wrong(&|p| p.voices[1].name = "solver".into()), Err(Wrong::Twice("solver".into())));
        assert_eq!(wrong(&|p| p.voices[1].name = "Gate".into()), Err(Wrong::VoiceName));
        assert_eq!(wrong(&|p| p.voices[1].name = "a\nb".into()), Err(Wrong::VoiceName));
        assert_eq!(wrong(&|p| drop(p.voices.remove(0))), Err(Wrong::NoSolver));
        assert_eq!(wrong(&|p| drop(p.voices.pop())), Err(Wrong::Synth));
        assert_eq!(wrong(&|p| p.voices[1].cap = 0), Err(Wrong::Cap("Critic".into())));
        assert_eq!(wrong(&|p| p.voices[1].cap = 4_097), Err(Wrong::Cap("Critic".into())));
        assert_eq!(wrong(&|p| p.voices[1].part = Part::Adviser), Err(Wrong::Adviser("Critic".into())));
        assert!(matches!(wrong(&|p| p.voices[1].hears.push("Checker".into())), Err(Wrong::Hears { .. })));
        assert!(matches!(wrong(&|p| p.voices[1].hears.push("Critic".into())), Err(Wrong::Hears { .. })));
        assert_eq!(wrong(&|p| p.rounds = 3), Err(Wrong::Rounds));
        assert_eq!(wrong(&|p| p.rounds = 0), Err(Wrong::Rounds));
        assert_eq!(wrong(&|p| p.ceiling = Micros(-1)), Err(Wrong::Ceiling));
    }

    #[test]
    fn doubt_shows_in_the_beginning() {
        for doubtful in
            ["UNSURE: perhaps 4", "I’m not sure, but 4.", "확실하지 않지만 4", "Не уверен, но 4", "Трудно сказать"]
        {
            assert!(doubts(doubtful), "{doubtful}");
        }
        let late = format!("{}I am not sure.", "Storks fly. ".repeat(20));
        for sure in ["4", "Surely 4.", "The answer is four.", "", late.as_str()] {
            assert!(!doubts(sure), "{sure}");
        }
        assert_eq!(unmarked("UNSURE: perhaps 4"), "perhaps 4");
        assert_eq!(unmarked(" four"), " four");
    }

    #[test]
    fn a_review_may_find_nothing() {
        for content in ["OK", " ok. ", "**OK**", "OK.", "None", "없음", "Нет замечаний.", "OK, nothing to add"]
        {
            assert!(is_content(content), "{content}");
        }
        for not in ["", "It is wrong.", "OK, but the sum is wrong", "Okinawa is not in Korea", "No. It is four."] {
            assert!(!is_content(not), "{not}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_people_write_breaks_the_rules(text in ".{0,300}") {
            Why::of(&text);
            Why::said(&text);
            doubts(&text);
            is_content(&text);
            unmarked(&text);
        }
    }
}
