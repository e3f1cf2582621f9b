//! Several models that answer together. Each voice is a call of the relay like any other: with the asker's keys and limits,
//! its retries, and an entry of its own in the ledger.
//!
//! What is decided here is nothing: [`salon_core::panel`] says who is asked when, and this asks them.

mod asked;
mod ear;
mod price;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use salon_core::event::Seat;
use salon_core::mask::Mask;
use salon_core::panel::{Gate, Halt, Panel, SoFar, Why, is_content, unmarked};
use salon_core::{Amounts, Brief, CallId, Micros, Note, Tokens, Usage};
use salon_engine::upstream::fault_of_status;
use salon_engine::wire::talk;
use salon_engine::{Emitter, Engine, EngineError, estimate};
use tokio::sync::mpsc;

use self::asked::gate_asked;
use self::ear::{Ear, Heed};
use super::model::error_of;
use crate::access::Caller;
use crate::catalog::Route;
use crate::engines::{Answers, USUAL_MODEL};
use crate::ledger::Reserved;
use crate::relay::{Asking, Begun, Fault, Heard, Hearing, Kind, NotBegun, Refused, Relay, Wire};

/// The speaker who decides whether several are asked, where that is a model.
const GATE: &str = "gate";
/// Pieces that may wait to be told.
const WAITING: usize = 64;

/// A model that can be asked.
struct Place {
    model: String,
    route: Route,
}

/// Who a call is for: a voice by its place, or the gate.
type Who = Option<usize>;

/// A panel that has sat down to one question.
pub(crate) struct Sitting {
    relay: Arc<Relay>,
    caller: Arc<Caller>,
    asking: Option<Asking>,
    call: CallId,
    panel: Panel,
    mask: Mask,
    places: Vec<Place>,
    gate: Option<Place>,
    /// What the gate says, unless a model is asked.
    decided: Option<Why>,
    /// The most that all of it can take.
    most: Amounts,
    /// What an administrator agreed to, set aside as a whole: each call takes from it, and the rest is given back.
    agreed: Mutex<Option<Reserved>>,
    /// The first call, for which enough is set aside already.
    first: Mutex<Option<(Who, Begun)>>,
    /// See [`Asker::asked`].
    asked: Option<String>,
    calls: AtomicI64,
    spent: Arc<AtomicI64>,
}

/// Who asks a panel.
pub(crate) struct Asker {
    pub caller: Arc<Caller>,
    pub asking: Option<Asking>,
    /// What an administrator is asked about.
    pub call: CallId,
    /// What its calls' own numbers begin with, if an administrator was asked before.
    pub asked: Option<String>,
    pub mask: Mask,
}

/// What has been said so far.
#[derive(Clone, Default)]
struct Table {
    /// Answers, by who gave them.
    answers: Vec<(String, String)>,
    /// Reviews of this round.
    reviews: Vec<(String, String)>,
}

/// What somebody said, and what it took.
#[derive(Default)]
struct Spoken {
    text: String,
    tokens: Tokens,
    estimated: bool,
    micros: Micros,
    failed: Option<EngineError>,
    /// Its words are in the answer already.
    told: bool,
}

impl Sitting {
    /// Looks whether everybody can be asked, reckons what it costs, and sets aside what the first call takes. Nobody is
    /// asked yet.
    pub(crate) fn begin<'a>(
        relay: &'a Arc<Relay>,
        asker: Asker,
        panel: Panel,
        brief: &'a Brief,
    ) -> Pin<Box<dyn Future<Output = Result<Sitting, NotBegun>> + Send + 'a>> {
        Box::pin(async move {
            let mut sitting = Sitting::seated(relay, asker, panel).await?;
            sitting.decided = sitting.panel.gate(&brief.question);
            let masked = sitting.masked(brief);
            let first = sitting.reckon(&masked)?;
            if sitting.asked.is_some() {
                let agreed = sitting.set_aside().await.map_err(NotBegun::Unpaid)?;
                sitting.agreed = Mutex::new(Some(agreed));
            }
            let who = if sitting.gate.is_some() { None } else { sitting.panel.solvers().first().copied() };
            let begun = sitting.reserve(who, first).await?;
            sitting.first = Mutex::new(Some((who, begun)));
            Ok(sitting)
        })
    }

    /// Finds a model and a key for everybody.
    async fn seated(relay: &Arc<Relay>, asker: Asker, panel: Panel) -> Result<Sitting, Refused> {
        let usual = match relay.salon.engines.find(USUAL_MODEL).map(|engine| engine.answers) {
            Some(Answers::Model(choice)) => relay.name_of(&choice).await.ok(),
            _ => None,
        };
        let solver = panel.solvers().first().and_then(|at| panel.voices[*at].model.clone());
        let mut wanted = Vec::new();
        for voice in &panel.voices {
            let Some(model) = voice.model.clone().or_else(|| solver.clone()).or_else(|| usual.clone()) else {
                let words =
                    format!("The panel {} says no model for {}, and there is no usual one.", panel.name, voice.name);
                return Err(Refused::new(Kind::InvalidRequest, words).with_code("no_model"));
            };
            wanted.push((voice.name.clone(), model));
        }
        let decides = match &panel.gate {
            Gate::Model(model) if panel.voices.len() > 1 => Some(model.clone()),
            _ => None,
        };
        wanted.extend(decides.iter().map(|model| (GATE.to_owned(), model.clone())));
        let mut places = Vec::new();
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (speaker, model) in wanted {
            asker.caller.may_use(&model)?;
            let route = relay.catalog.route(&model, Wire::Chat, Some(&asker.caller.org))?;
            let keys = relay.keys(&asker.caller, &route).await?;
            if keys.is_empty() {
                let mut providers: Vec<_> =
                    route.upstreams().iter().map(|upstream| upstream.provider.clone()).collect();
                providers.sort_unstable();
                providers.dedup();
                missing.entry(providers.join(" or ")).or_default().push(speaker);
            }
            places.push(Place { model, route });
        }
        if let Some(refused) = keyless(&panel, &missing) {
            return Err(refused);
        }
        let gate = if decides.is_some() { places.pop() } else { None };
        let Asker { caller, asking, call, asked, mask } = asker;
        Ok(Sitting {
            relay: relay.clone(),
            caller,
            asking,
            call,
            panel,
            mask,
            places,
            gate,
            decided: None,
            most: Amounts::default(),
            agreed: Mutex::default(),
            first: Mutex::default(),
            asked,
            calls: AtomicI64::new(0),
            spent: Arc::default(),
        })
    }

    /// What has been spent, also while it is still talking.
    pub(crate) fn spent(&self) -> Arc<AtomicI64> {
        self.spent.clone()
    }

    /// The question as models may read it.
    fn masked(&self, brief: &Brief) -> Brief {
        masked(self.mask, brief)
    }

    fn name_as_model(&self) -> String {
        format!("{}{}", crate::panels::AS_MODEL, self.panel.name)
    }

    // Talking.

    /// One voice, from its question to its last word. Never fails: what went wrong is part of what was heard.
    async fn speak(&self, who: Who, ask: talk::Ask, at: usize, told: mpsc::Sender<(usize, String)>) -> Spoken {
        let mut spoken = Spoken { estimated: true, ..Spoken::default() };
        let read = ask.messages.iter().map(|message| estimate::tokens(&talk::text_of(&message.parts))).sum();
        let first = {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.take_if(|(whose, _)| *whose == who).map(|(_, begun)| begun)
        };
        let begun = match first {
            Some(begun) => Ok(begun),
            None => self.reserve(who, ask).await.map_err(Refused::from),
        };
        let answered = match begun {
            Ok(begun) => begun.answer().await,
            Err(refused) => Err(refused),
        };
        let answer = match answered {
            Ok(answer) if answer.status == StatusCode::OK => answer,
            Ok(answer) => {
                spoken.failed = Some(fault_of_status(answer.status).into());
                return spoken;
            }
            Err(refused) => {
                spoken.failed = Some(error_of(refused));
                return spoken;
            }
        };
        let mut hearing = Hearing::new(answer.told, self.call.as_str());
        let mut written = estimate::Count::default();
        'heard: loop {
            let heard = hearing.next().await.unwrap_or_else(|| vec![Heard::Broken(Fault::Cut)]);
            for heard in heard {
                match heard {
                    Heard::Text(text) => {
                        written.add(&text);
                        spoken.text.push_str(&text);
                        // Nobody listens any more: then nobody needs to be told.
                        told.send((at, text)).await.ok();
                    }
                    Heard::Thought(text) => written.add(&text),
                    Heard::End(tokens) => {
                        spoken.estimated = tokens.is_none();
                        spoken.tokens = tokens.unwrap_or_else(|| Tokens::new(read, written.tokens()));
                        break 'heard;
                    }
                    Heard::Broken(fault) => {
                        spoken.tokens = Tokens::new(read, written.tokens());
                        spoken.failed = Some(EngineError::from(fault));
                        break 'heard;
                    }
                }
            }
        }
        spoken.micros = hearing.cost();
        if spoken.text.trim().is_empty() && spoken.failed.is_none() {
            spoken.failed = Some(EngineError::failed("upstream_silent", "The model said nothing."));
        }
        spoken
    }

    /// Asks some at once, and tells what they say as it comes.
    async fn hear(
        &self,
        asked: Vec<(Who, talk::Ask)>,
        round: i64,
        heed: Heed,
        talk: &mut Talk<'_>,
    ) -> Result<Vec<Spoken>, EngineError> {
        let speakers: Vec<String> = asked.iter().map(|(who, _)| self.name(*who).to_owned()).collect();
        for ((who, _), speaker) in asked.iter().zip(&speakers) {
            let model = self.place(*who).map_or_else(|_| String::new(), |place| place.model.clone());
            talk.out.note(Note::VoiceBegan { speaker: speaker.clone(), round, model }).await?;
        }
        let (told, mut said) = mpsc::channel(WAITING);
        let mut speaking: FuturesUnordered<_> = asked
            .into_iter()
            .enumerate()
            .map(|(at, (who, ask))| {
                let told = told.clone();
                async move { (at, self.speak(who, ask, at, told).await) }
            })
            .collect();
        drop(told);
        let mut ears: Vec<Ear> = speakers.iter().map(|speaker| Ear::new(speaker, round, heed)).collect();
        let mut heard: Vec<Option<Spoken>> = speakers.iter().map(|_| None).collect();
        while !speaking.is_empty() {
            let due = ears.iter().filter_map(|ear| ear.due).min();
            let news = tokio::select! {
                biased;
                () = talk.out.stopped() => return Err(EngineError::Stopped),
                Some((at, text)) = said.recv() => News::Said(at, text),
                Some((at, spoken)) = speaking.next() => News::Ended(at, Box::new(spoken)),
                () = super::until(due) => News::Due,
            };
            match news {
                News::Said(at, text) => ears[at].hear(&text, talk.out).await?,
                News::Due => {
                    for ear in &mut ears {
                        ear.tell(talk.out).await?;
                    }
                }
                News::Ended(at, mut spoken) => {
                    while let Ok((at, text)) = said.try_recv() {
                        ears[at].hear(&text, talk.out).await?;
                    }
                    ears[at].end(talk.out).await?;
                    spoken.told = ears[at].answered;
                    talk.add(&spoken, &self.spent);
                    let failed = spoken.failed.as_ref().map(|error| match error {
                        EngineError::Failed { message, .. } => message.clone(),
                        EngineError::Stopped => "It was stopped.".to_owned(),
                    });
                    let ended = Note::VoiceEnded {
                        speaker: speakers[at].clone(),
                        round,
                        tokens_in: spoken.tokens.read(),
                        tokens_out: spoken.tokens.written(),
                        micros: spoken.micros.0,
                        answers: spoken.told,
                        failed,
                    };
                    talk.out.note(ended).await?;
                    heard[at] = Some(*spoken);
                }
            }
        }
        Ok(heard.into_iter().flatten().collect())
    }

    fn name(&self, who: Who) -> &str {
        who.and_then(|at| self.panel.voices.get(at)).map_or(GATE, |voice| voice.name.as_str())
    }

    /// Asks the model that decides. Where it does not say, the rules do.
    async fn ask_gate(&self, brief: &Brief, talk: &mut Talk<'_>) -> Result<Why, EngineError> {
        let spoken = self.hear(vec![(None, gate_asked(brief))], 1, Heed::Voice, talk).await?;
        let said = spoken.first().filter(|spoken| spoken.failed.is_none()).and_then(|spoken| Why::said(&spoken.text));
        Ok(said.unwrap_or_else(|| Why::of(&brief.question)))
    }

    async fn run(&self, brief: &Brief, talk: &mut Talk<'_>) -> Result<(), EngineError> {
        talk.out.note(self.seating()).await?;
        let why = match self.decided {
            Some(why) => why,
            None => self.ask_gate(brief, talk).await?,
        };
        talk.out.note(Note::Gate { several: why.several(), why: why.as_str().to_owned() }).await?;
        let mut table = Table::default();
        let mut solvers = self.panel.solvers();
        if !why.several() {
            let Some(solver) = solvers.first().copied() else { return Ok(()) };
            let heed = if why == Why::Never { Heed::Answer } else { Heed::Perhaps };
            let asked = vec![(Some(solver), self.solver_asked(solver, brief))];
            let Some(spoken) = self.hear(asked, 1, heed, talk).await?.pop() else { return Ok(()) };
            if let Some(error) = spoken.failed {
                return Err(error);
            }
            if spoken.told {
                return Ok(());
            }
            table.answers.push((self.name(Some(solver)).to_owned(), unmarked(&spoken.text).to_owned()));
            talk.out.note(Note::Gate { several: true, why: Why::Doubt.as_str().to_owned() }).await?;
            solvers.remove(0);
        }
        self.solve(brief, &solvers, &mut table, talk).await?;
        self.review(brief, table, talk).await
    }

    /// Lets all the solvers answer. One that fails is done without, unless it is the only one.
    async fn solve(
        &self,
        brief: &Brief,
        solvers: &[usize],
        table: &mut Table,
        talk: &mut Talk<'_>,
    ) -> Result<(), EngineError> {
        let asked = solvers.iter().map(|at| (Some(*at), self.solver_asked(*at, brief))).collect();
        let mut failed = None;
        for (at, spoken) in solvers.iter().zip(self.hear(asked, 1, Heed::Voice, talk).await?) {
            match spoken.failed {
                None => table.answers.push((self.name(Some(*at)).to_owned(), unmarked(&spoken.text).to_owned())),
                Some(error) => failed = Some(error),
            }
        }
        match (table.answers.is_empty(), failed) {
            (true, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Rounds of reviews, until they find nothing, or there are no more, or no money.
    async fn review(&self, brief: &Brief, mut table: Table, talk: &mut Talk<'_>) -> Result<(), EngineError> {
        let groups = self.panel.reviews();
        let (mut round, mut content) = (0, false);
        loop {
            let draft = table.answers.first().map(|(_, text)| text.clone()).unwrap_or_default();
            let next = Micros(self.round_price(&table, brief).map_err(error_of)?.micros);
            let so_far = SoFar { round, content, spent: talk.micros, next };
            let halt = match self.panel.goes_on(&so_far) {
                Ok(()) => None,
                Err(Halt::Rounds) => Some(None),
                Err(Halt::Agreed) => Some(Some("agreed")),
                Err(Halt::Ceiling) => Some(Some("ceiling")),
            };
            if let Some(why) = halt {
                return talk.settle_for(draft, why).await;
            }
            round += 1;
            table.reviews.clear();
            let mut asked = 0;
            for group in &groups {
                asked += group.len();
                let questions = group.iter().map(|at| (Some(*at), self.reviewer_asked(*at, brief, &table))).collect();
                let spoken = self.hear(questions, round, Heed::Voice, talk).await?;
                for (at, spoken) in group.iter().zip(spoken).filter(|(_, spoken)| spoken.failed.is_none()) {
                    table.reviews.push((self.name(Some(*at)).to_owned(), spoken.text));
                }
            }
            if asked > 0 && table.reviews.is_empty() {
                return talk.settle_for(draft, Some("alone")).await;
            }
            content = asked > 0 && table.reviews.iter().all(|(_, review)| is_content(review));
            if content {
                continue;
            }
            table.reviews.retain(|(_, review)| !is_content(review));
            let Some(synth) = self.panel.synth() else { return talk.settle_for(draft, None).await };
            let is_last = round >= self.panel.rounds || groups.is_empty();
            let heed = if is_last { Heed::Answer } else { Heed::Voice };
            let asked = vec![(Some(synth), self.synth_asked(synth, brief, &table))];
            let Some(spoken) = self.hear(asked, round, heed, talk).await?.pop() else { return Ok(()) };
            match spoken.failed {
                // Half an answer is not followed by another one.
                Some(error) if spoken.told => return Err(error),
                Some(_) => return talk.settle_for(draft, Some("alone")).await,
                None if is_last => return Ok(()),
                None => table.answers = vec![(self.name(Some(synth)).to_owned(), spoken.text)],
            }
        }
    }

    fn seating(&self) -> Note {
        let seat = |speaker: &str, part: &str, place: &Place| Seat {
            speaker: speaker.to_owned(),
            part: part.to_owned(),
            model: place.model.clone(),
        };
        let gate = self.gate.iter().map(|place| seat(GATE, GATE, place));
        let voices = self.panel.voices.iter().zip(&self.places);
        Note::Seated {
            panel: self.panel.name.clone(),
            seats: gate.chain(voices.map(|(voice, place)| seat(&voice.name, voice.part.as_str(), place))).collect(),
            most_micros: self.most.micros,
            ceiling_micros: self.panel.ceiling.0,
        }
    }
}

#[async_trait]
impl Engine for Sitting {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let brief = self.masked(brief);
        let mut talk = Talk { out, tokens: Tokens::default(), estimated: false, micros: Micros::ZERO };
        let ended = self.run(&brief, &mut talk).await;
        self.give_back().await;
        if talk.tokens.total() > 0 {
            let usage = Usage {
                model: Some(self.name_as_model()),
                tokens_in: talk.tokens.read(),
                tokens_out: talk.tokens.written(),
                estimated: talk.estimated,
                suspect: false,
            };
            return ended.and(talk.out.usage(usage).await);
        }
        ended
    }
}

/// The whole conversation of a panel: where it is told, and what it took.
struct Talk<'a> {
    out: &'a mut Emitter,
    tokens: Tokens,
    estimated: bool,
    micros: Micros,
}

impl Talk<'_> {
    fn add(&mut self, spoken: &Spoken, spent: &AtomicI64) {
        let (read, written) = (spoken.tokens.read(), spoken.tokens.written());
        self.tokens = Tokens::new(self.tokens.read() + read, self.tokens.written() + written);
        self.estimated |= spoken.estimated && read + written > 0;
        self.micros = self.micros + spoken.micros;
        spent.store(self.micros.0, Ordering::Relaxed);
    }

    /// What there is, is the answer.
    async fn settle_for(&mut self, draft: String, why: Option<&str>) -> Result<(), EngineError> {
        if let Some(why) = why {
            self.out.note(Note::CutShort { why: why.to_owned() }).await?;
        }
        self.out.text(draft).await
    }
}

/// A brief as models may read it.
pub(super) fn masked(mask: Mask, brief: &Brief) -> Brief {
    let mut brief = brief.clone();
    if mask == Mask::All {
        let masked = |text: &str| mask.for_models(text).into_owned();
        brief.question = masked(&brief.question);
        brief.instructions = masked(&brief.instructions);
        for message in &mut brief.history {
            message.text = masked(&message.text);
        }
    }
    brief
}

enum News {
    Said(usize, String),
    Ended(usize, Box<Spoken>),
    Due,
}

/// Says which keys are missing, for whom, and how they come here.
fn keyless(panel: &Panel, missing: &BTreeMap<String, Vec<String>>) -> Option<Refused> {
    let (first, _) = missing.first_key_value()?;
    let each: Vec<_> = missing.iter().map(|(provider, voices)| format!("{provider} ({})", voices.join(", "))).collect();
    let example = first.split(' ').next().unwrap_or_default();
    let words = format!(
        "The panel {} has no key for {}. Nobody was asked. Add a key of your own for it, or have an administrator run \
         `salon secret add {example}`.",
        panel.name,
        each.join(" and for ")
    );
    Some(Refused::new(Kind::Permission, words).with_code("no_provider_key").with_param("model"))
}
