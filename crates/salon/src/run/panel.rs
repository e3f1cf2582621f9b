//! Several models that answer together. Each voice is a call of the relay like any other: with the asker's keys and limits,
//! its retries, and an entry of its own in the ledger.
//!
//! What is decided here is nothing: [`salon_core::panel`] says who is asked when, and this asks them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, StatusCode};
use salon_core::event::Seat;
use salon_core::mask::Mask;
use salon_core::panel::{Gate, HELD_CHARS, Halt, Panel, Part, SoFar, UNSURE, Why, doubts, is_content, unmarked};
use salon_core::{Amounts, Brief, CallId, Lang, Micros, Note, Role, Tokens, Usage};
use salon_engine::upstream::fault_of_status;
use salon_engine::wire::carry::{Quirks, Terms, write_ask};
use salon_engine::wire::{Head, Outside as Told, talk};
use salon_engine::{Emitter, Engine, EngineError, estimate};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::fare::REAP_AFTER;
use super::model::error_of;
use crate::access::Caller;
use crate::catalog::Route;
use crate::engines::{Answers, USUAL_MODEL};
use crate::ledger::{NotReserved, Quote, Reserved, Share};
use crate::relay::{Ask, Asking, Begun, Fault, Heard, Hearing, Kind, NotBegun, Outside, Refused, Relay, Wire, payer};

/// The speaker who decides whether several are asked, where that is a model.
const GATE: &str = "gate";
/// Where the ledger says that something was set aside for a whole panel.
const DOOR_OF_PANELS: &str = "panel";
/// Tokens for its one word. Some models need a few before it.
const GATE_CAP: i64 = 16;
/// Words of voices are told in bundles: after this time or this many bytes.
const BUNDLE_EVERY: Duration = Duration::from_millis(200);
const BUNDLE_BYTES: usize = 512;
/// Pieces that may wait to be told.
const WAITING: usize = 64;
/// Earlier messages that reviewers are shown, and characters of each.
const BEFORE: usize = 2;
const BEFORE_CHARS: usize = 1_000;

/// What its part is told.
fn prompt(part: Part) -> &'static str {
    match part {
        Part::Solver => include_str!("../../../../prompts/solver.md"),
        Part::Critic => include_str!("../../../../prompts/critic.md"),
        Part::Checker => include_str!("../../../../prompts/checker.md"),
        Part::Adviser => include_str!("../../../../prompts/adviser.md"),
        Part::Synth => include_str!("../../../../prompts/synth.md"),
    }
}

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

/// What becomes of somebody's words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heed {
    /// They stand beside the answer.
    Voice,
    /// They are the answer.
    Answer,
    /// They are the answer unless they are not sure of themselves.
    Perhaps,
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

    /// Sums up what everybody can cost; answers what is asked first.
    fn reckon(&mut self, brief: &Brief) -> Result<talk::Ask, Refused> {
        let solvers = self.panel.solvers();
        let price = |at: &usize| self.price(Some(*at), self.solver_asked(*at, brief));
        let alone = solvers.first().map_or(Ok(Amounts::default()), price)?;
        let solving = solvers.iter().map(price).sum::<Result<Amounts, _>>()?;
        let several = self.decided.is_none_or(Why::several);
        let gate = match &self.gate {
            Some(_) => self.price(None, gate_asked(brief))?,
            None => Amounts::default(),
        };
        // A plain question may still turn out to be none.
        let may_grow = self.panel.voices.len() > 1 && self.decided != Some(Why::Never);
        let table = Table {
            answers: solvers.iter().map(|at| (self.panel.voices[*at].name.clone(), self.filler(*at))).collect(),
            ..Table::default()
        };
        let round = if may_grow { self.round_price(&table, brief)? } else { Amounts::default() };
        let rounds = (0..self.panel.rounds).map(|_| round).sum::<Amounts>();
        self.most = if may_grow { gate + solving + rounds } else { alone };
        let least = gate + if several && self.decided.is_some() { solving } else { alone };
        let least = Micros(least.micros);
        if least > self.panel.ceiling {
            let (least, most) = (least.to_string(), self.panel.ceiling.to_string());
            let holes = [("panel", self.panel.name.as_str()), ("least", &least), ("most", &most)];
            let words = Lang::En.say("failure.over_ceiling.told", &holes);
            return Err(Refused::new(Kind::OverBudget, words).with_code("over_ceiling"));
        }
        match (&self.gate, solvers.first()) {
            (Some(_), _) => Ok(gate_asked(brief)),
            (None, Some(solver)) => Ok(self.solver_asked(*solver, brief)),
            (None, None) => Err(Refused::new(Kind::InvalidRequest, "A panel has at least one solver.")),
        }
    }

    /// The most that one round can cost: everybody who reviews, and the synth.
    fn round_price(&self, table: &Table, brief: &Brief) -> Result<Amounts, Refused> {
        let mut table = table.clone();
        table.reviews.clear();
        let mut price = Amounts::default();
        for group in self.panel.reviews() {
            let mut said = Vec::new();
            for at in group {
                price = price + self.price(Some(at), self.reviewer_asked(at, brief, &table))?;
                said.push((self.panel.voices[at].name.clone(), self.filler(at)));
            }
            table.reviews.extend(said);
        }
        match self.panel.synth() {
            Some(synth) => Ok(price + self.price(Some(synth), self.synth_asked(synth, brief, &table))?),
            None => Ok(price),
        }
    }

    /// As much text as a voice may write.
    fn filler(&self, at: usize) -> String {
        "word".repeat(usize::try_from(self.panel.voices[at].cap).unwrap_or_default())
    }

    /// The most that a call can take.
    fn price(&self, who: Who, ask: talk::Ask) -> Result<Amounts, Refused> {
        let place = self.place(who)?;
        let body = self.body(place, ask)?;
        let head = Head::read(Wire::Chat, &body, Told::default())?;
        Ok(self.relay.most(&head, &place.route).amounts())
    }

    fn place(&self, who: Who) -> Result<&Place, Refused> {
        let place = who.map_or(self.gate.as_ref(), |at| self.places.get(at));
        place.ok_or_else(|| Refused::new(Kind::Internal, "There is no such seat."))
    }

    fn body(&self, place: &Place, mut ask: talk::Ask) -> Result<Bytes, Refused> {
        let terms = Terms {
            model: &place.model,
            shown_model: &place.model,
            stream: true,
            id: self.call.as_str(),
            now: self.relay.salon.clock.now(),
            max_output: None,
            // Those of whoever is asked in the end are heeded there.
            quirks: Quirks::default(),
        };
        let body = write_ask(Wire::Chat, &mut ask, &terms);
        body.map(Bytes::from).map_err(|cannot| Refused::new(Kind::InvalidRequest, cannot.message))
    }

    /// Sets aside what a call takes.
    async fn reserve(&self, who: Who, ask: talk::Ask) -> Result<Begun, NotBegun> {
        let body = self.body(self.place(who)?, ask)?;
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        // Where somebody has to agree, it is to all of them, under the number that the first one has otherwise.
        let (id, share) = match (n, &self.asked) {
            (0, None) => {
                let (of, model) = (self.call.clone(), self.name_as_model());
                (self.call.clone(), Share::First { of, model, most: self.most })
            }
            (n, None) => (CallId::new(format!("{}.v{}", self.call, n + 1)), Share::Of(self.call.clone())),
            (n, Some(numbers)) => (CallId::new(format!("{numbers}.v{}", n + 1)), Share::Of(self.call.clone())),
        };
        let ask = Ask {
            id,
            wire: Wire::Chat,
            caller: self.caller.clone(),
            outside: Outside::default(),
            headers: HeaderMap::new(),
            body,
            turn: self.asking.clone(),
            share: Some(Box::new(share)),
        };
        self.relay.begin(ask).await
    }

    /// Sets aside what an administrator was asked about, if they agreed.
    async fn set_aside(&self) -> Result<Reserved, NotReserved> {
        let settings = &self.relay.salon.settings;
        let quote = Quote {
            call: self.call.clone(),
            fresh: false,
            payer: payer(&self.caller, self.asking.as_ref()),
            door: DOOR_OF_PANELS.to_owned(),
            model: self.name_as_model(),
            most: self.most,
            deadline: self.relay.salon.clock.now() + settings.run_deadline + REAP_AFTER,
            first: None,
            share: None,
        };
        self.relay.book.reserve(quote).await
    }

    /// Gives back what nobody took of that.
    async fn give_back(&self) {
        let agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(agreed) = agreed {
            agreed.release("nobody has more to say").await;
        }
    }

    fn name_as_model(&self) -> String {
        format!("{}{}", crate::panels::AS_MODEL, self.panel.name)
    }

    // What everybody is asked.

    fn solver_asked(&self, at: usize, brief: &Brief) -> talk::Ask {
        let mut ask = self.asked(at, brief, Some(&brief.instructions));
        ask.messages.extend(history(brief));
        ask.messages.push(talk::Message::text(talk::Role::User, &brief.question));
        ask
    }

    fn reviewer_asked(&self, at: usize, brief: &Brief, table: &Table) -> talk::Ask {
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

    fn synth_asked(&self, at: usize, brief: &Brief, table: &Table) -> talk::Ask {
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

enum News {
    Said(usize, String),
    Ended(usize, Box<Spoken>),
    Due,
}

/// Listens to one voice, and tells what it says where it belongs.
struct Ear {
    speaker: String,
    round: i64,
    heed: Heed,
    /// What is not told yet.
    held: String,
    due: Option<Instant>,
    /// Something of it is in the answer.
    answered: bool,
}

impl Ear {
    fn new(speaker: &str, round: i64, heed: Heed) -> Ear {
        Ear { speaker: speaker.to_owned(), round, heed, held: String::new(), due: None, answered: false }
    }

    async fn hear(&mut self, text: &str, out: &mut Emitter) -> Result<(), EngineError> {
        if self.answered {
            return out.text(text).await;
        }
        self.held.push_str(text);
        match self.heed {
            Heed::Voice => {
                self.due.get_or_insert_with(|| Instant::now() + BUNDLE_EVERY);
                if self.held.len() >= BUNDLE_BYTES { self.tell(out).await } else { Ok(()) }
            }
            Heed::Perhaps if self.held.chars().nth(HELD_CHARS).is_some() => self.judge(out).await,
            Heed::Answer if self.held.len() > UNSURE.len() + 2 => self.judge(out).await,
            Heed::Answer | Heed::Perhaps => Ok(()),
        }
    }

    /// Decides what the beginning of an answer is.
    async fn judge(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        if self.heed == Heed::Perhaps && doubts(&self.held) {
            self.heed = Heed::Voice;
            return self.tell(out).await;
        }
        let held = std::mem::take(&mut self.held);
        let text = unmarked(&held);
        self.answered = !text.is_empty();
        out.text(text).await
    }

    async fn tell(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        self.due = None;
        if self.heed != Heed::Voice || self.held.is_empty() {
            return Ok(());
        }
        let (speaker, text) = (self.speaker.clone(), std::mem::take(&mut self.held));
        out.note(Note::VoiceText { speaker, round: self.round, text }).await
    }

    async fn end(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        match self.heed {
            Heed::Voice => self.tell(out).await,
            Heed::Answer | Heed::Perhaps if self.answered || self.held.is_empty() => Ok(()),
            Heed::Answer | Heed::Perhaps => self.judge(out).await,
        }
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

fn gate_asked(brief: &Brief) -> talk::Ask {
    let mut ask = bare(include_str!("../../../../prompts/gate.md").trim(), GATE_CAP);
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
