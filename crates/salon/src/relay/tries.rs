//! Asking, until somebody answers or it is no use: everything between the reservation and the first byte of an answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use salon_engine::outbound;
use salon_engine::upstream::{Fault, Trouble, Turn, Turns};
use salon_engine::wire::carry::{Back, Carrier, Quirks, Terms, carry_answer, carry_ask};
use salon_engine::wire::embed;
use salon_engine::wire::talk::CannotCarry;
use salon_engine::wire::{
    Beginning, Changes, Head, Refused, Tap, Tapped, Unasked, Verdict, Wire, beginning, hide_key, judge_refusal,
};
use tokio::time::Instant;

use super::batch::{self, Due, Member};
use super::cache::{self, Keeping, Place};
use super::charge::Bill;
use super::passing::{Manner, Passing, Source, Waiting};
use super::{
    Answer, Ask, Most, NotBegun, REAP_AFTER, Relay, Told, changes, house, passed_on, put, refuse, tell_limits,
};
use crate::catalog::{Ability, Access as Keyed, Destination, Kind, Quirk, Route};
use crate::ledger::{Attempt, Failed, Quote, Reserved, Tab};

/// The longest answer that is not a stream, in bytes.
pub(super) const MAX_ANSWER: usize = 64 << 20;
/// Headers of most answers, with those that every answer carries: there is room for them from the start.
const HEADERS: usize = 16;
/// As much white space may stand before a stream.
const MAX_BLANK: usize = 64 << 10;
/// As much is waited for of the first event of a stream. What is longer is no error.
const MAX_FIRST: usize = 64 << 10;
/// As much of a refusal is looked into.
pub(super) const MAX_REFUSAL: usize = 64 << 10;

/// A question in the protocol of an upstream.
pub(super) struct Put {
    pub body: Bytes,
    /// How the answer is turned round, if it has to be.
    pub back: Option<Turned>,
    pub left_out: Vec<String>,
}

/// What turns an answer round.
pub(super) enum Turned {
    Carried(Back),
    Embedded(embed::Back),
}

impl Turned {
    /// Turns a whole answer round.
    pub(super) fn carry(&self, answer: &[u8]) -> Result<Bytes, Fault> {
        match self {
            Turned::Carried(back) => carry_answer(back, answer).map(Bytes::from).map_err(|garbled| garbled.0),
            Turned::Embedded(back) => embed::carry_answer(back, answer).map(Bytes::from),
        }
    }
}

/// What came of one try.
enum Came {
    Answer(Answer),
    /// The upstream refuses, and it is about the question: nobody else would answer it either.
    Refusal(Answer),
    RefusedHere(Refused),
    /// It does not know the model, which others may; if nobody does, the client hears this.
    NotThere(Result<Answer, Refused>),
    /// With whose fault it is in the client's eyes.
    Trouble(Trouble, super::Kind),
    /// It does not understand something that we can do without, and is to be asked without it.
    Learnt,
}

/// A call while it is being answered.
struct Calling {
    relay: Arc<Relay>,
    ask: Ask,
    head: Head,
    route: Route,
    most: Most,
    deadline: Instant,
    /// Where the answer is to be kept, if it is.
    place: Option<Place>,
    /// What the ids in an answer are made of that is told in other words than it came: the call's number, unless others
    /// may be told the same.
    number: String,
}

/// A call for which enough is set aside, and which may be made.
pub(super) struct Granted {
    calling: Calling,
    turns: Turns<Arc<Destination>>,
    turn: Turn<Arc<Destination>>,
    put: Put,
    reserved: Reserved,
}

/// Sets aside what a call can take.
pub(super) async fn begin(
    relay: &Arc<Relay>,
    ask: Ask,
    head: Head,
    route: Route,
    most: Most,
    keys: Vec<(String, Keyed)>,
    place: Option<Place>,
) -> Result<Granted, NotBegun> {
    let key = |name: &str| keys.iter().find(|(known, _)| known == name).map(|(_, key)| key.clone());
    let mut turns = route.turns(|upstream| key(&upstream.name)).map_err(Refused::from)?;
    let deadline = turns.deadline();
    let number = if place.is_some() { relay.salon.clock.id() } else { ask.id.to_string() };
    let calling = Calling { relay: relay.clone(), ask, head, route, most, deadline, place, number };
    // What nobody can be asked is refused before anything is reserved, in the words of the first who cannot.
    let (mut put, mut cannot) = (None, None);
    let turn = turns.next_that(|what| match calling.put(what) {
        Ok(words) => {
            put = Some(words);
            true
        }
        Err(refused) => {
            cannot.get_or_insert(refused);
            false
        }
    });
    let (turn, put) = match (turn, put) {
        (Ok(turn), Some(put)) => (turn, put),
        // Somebody who rests may be able to.
        (Err(Some(trouble)), _) => return Err(Refused::from(trouble).into()),
        _ => return Err(cannot.unwrap_or_else(|| Trouble::from(Fault::Resting).into()).into()),
    };
    let quote = Quote {
        call: calling.ask.id.clone(),
        fresh: calling.ask.is_fresh(),
        payer: calling.ask.payer(),
        door: calling.ask.door().to_owned(),
        model: calling.head.model.clone(),
        most: most.amounts(),
        deadline: relay.salon.clock.now() + deadline.saturating_duration_since(Instant::now()) + REAP_AFTER,
        first: Some(attempt(&turn)),
        share: calling.ask.share.clone(),
    };
    let reserved = relay.book.reserve(quote).await.map_err(NotBegun::Unpaid)?;
    Ok(Granted { calling, turns, turn, put, reserved })
}

impl Granted {
    pub fn charged_to(self, tab: &Tab) -> Granted {
        Granted { reserved: self.reserved.charged_to(tab), ..self }
    }

    /// Makes the call. Dropping the future hangs up.
    pub async fn answer(self) -> Result<Answer, Refused> {
        let Granted { calling, mut turns, mut turn, mut put, mut reserved } = self;
        loop {
            let (came, kept) = calling.once(turn, put, reserved).await;
            let learnt = matches!(came, Came::Learnt);
            let (trouble, told) = match came {
                Came::Answer(answer) | Came::Refusal(answer) => return Ok(answer),
                Came::RefusedHere(refused) => return Err(refused),
                Came::NotThere(told) => (Fault::NotFound.into(), told),
                Came::Trouble(trouble, kind) => (trouble, Err(Refused::troubled(kind, trouble))),
                Came::Learnt => {
                    let trouble = Fault::Refused.into();
                    (trouble, Err(Refused::troubled(super::Kind::Upstream, trouble)))
                }
            };
            let Some((failed, again)) = kept else { return told };
            reserved = again;
            let n = i64::from(failed.number);
            if learnt {
                turns.once_more(failed);
            } else {
                // What could not be put to others is no reason to ask them, nor what the client hears of it.
                turns.retain(|what| calling.put(what).is_ok());
                let Some(pause) = turns.failed(failed, &trouble, false) else {
                    calling.give_up(reserved, n, trouble).await;
                    return told;
                };
                tokio::time::sleep(pause).await;
            }
            turn = match turns.next() {
                Ok(turn) => turn,
                Err(last) => {
                    calling.give_up(reserved, n, last).await;
                    // Nobody else takes it, so what went wrong is what did before.
                    return if last == trouble { told } else { Err(last.into()) };
                }
            };
            put = match calling.put(&turn.what) {
                Ok(put) => put,
                Err(refused) => {
                    calling.give_up(reserved, n, trouble).await;
                    return Err(refused);
                }
            };
            let failed = Failed { n, unknown: trouble.fault.may_cost(), note: trouble.fault.code().to_owned() };
            if let Err(error) = reserved.attempt(Some(failed), attempt(&turn)).await {
                let call = &calling.ask.id;
                tracing::warn!(%error, call.id = %call, "another attempt cannot be written down, so it is not made");
                return Err(refuse::ledger_away());
            }
            calling.relay.salon.metrics.count("", "relay_retries");
        }
    }
}

/// A request for embeddings in the words of a destination that has them.
pub(super) fn put_embeddings(to: &Destination, head: &Head, body: &Bytes) -> Result<Put, CannotCarry> {
    if to.upstream().kind == Kind::Midm {
        let embed::Carried { body, left_out, back } = embed::carry_ask(body, &to.deployment.model, &head.model)?;
        return Ok(Put { body: body.into(), back: Some(Turned::Embedded(back)), left_out });
    }
    let model = (to.deployment.model != head.model).then_some(to.deployment.model.as_str());
    let body = head.rewrite(body, &Changes { model, ..Changes::default() });
    Ok(Put { body, back: None, left_out: Vec::new() })
}

pub(super) fn attempt(turn: &Turn<Arc<Destination>>) -> Attempt {
    let what = &turn.what;
    Attempt {
        n: i64::from(turn.number),
        upstream: what.upstream().name.clone(),
        model: what.deployment.model.clone(),
        whose: what.access.tag.clone(),
        secret: None,
    }
}

/// A try that failed, and the reservation that is still good.
type Kept = Option<(Turn<Arc<Destination>>, Reserved)>;

impl Calling {
    /// The question in the words of a destination.
    fn put(&self, to: &Destination) -> Result<Put, Refused> {
        if self.ask.wire == Wire::Embeddings && to.wire == Wire::Embeddings {
            return put_embeddings(to, &self.head, &self.ask.body).map_err(refuse::cannot);
        }
        if to.line.is_none() || to.wire == self.ask.wire {
            if let Some(field) = self.head.leans_on.filter(|_| !to.access.tag.starts_with("own:")) {
                // With a key that is shared it might be somebody else's.
                let words = format!(
                    "`{field}` refers to something that is kept at the provider, which a shared key cannot tell from other people's."
                );
                let refused = Refused::new(super::Kind::InvalidRequest, words).with_code("unsupported_parameter");
                return Err(refused.with_param(field));
            }
            if self.ask.turn.is_some() && to.line.is_some() {
                // These are our own words, so they can be bent as this one likes them.
                let carried = carry_ask(self.ask.wire, to.wire, &self.ask.body, &self.terms(to));
                let carried = carried.map_err(refuse::cannot)?;
                return Ok(Put { body: carried.body.into(), back: None, left_out: carried.left_out });
            }
            let changes = changes(&self.head, &self.route, to);
            let body = self.head.rewrite(&self.ask.body, &changes);
            return Ok(Put { body, back: None, left_out: Vec::new() });
        }
        let mut carried = carry_ask(self.ask.wire, to.wire, &self.ask.body, &self.terms(to)).map_err(refuse::cannot)?;
        carried.back.door.array = self.wants_array();
        Ok(Put { body: carried.body.into(), back: Some(Turned::Carried(carried.back)), left_out: carried.left_out })
    }

    /// Whether the answer is streamed as the elements of an array: Gemini's way where events were not asked for.
    fn wants_array(&self) -> bool {
        self.ask.wire == Wire::Generate && self.head.stream && !self.ask.outside.events
    }

    pub(super) fn terms<'a>(&'a self, to: &'a Destination) -> Terms<'a> {
        let has = |quirk: Quirk| to.bends(quirk);
        Terms {
            model: &to.deployment.model,
            shown_model: &self.head.model,
            stream: self.head.stream,
            id: &self.number,
            now: self.relay.salon.clock.now(),
            max_output: to.model.output.or(to.model.most_output),
            quirks: Quirks {
                max_completion_tokens: has(Quirk::MaxCompletionTokens),
                no_sampling: has(Quirk::NoTemperature),
                no_stream_options: has(Quirk::NoStreamOptions),
                developer_role: has(Quirk::DeveloperRole),
                head_only: has(Quirk::HeadOnly),
                thoughts_back: has(Quirk::ThoughtsBack),
                // A model of whose abilities nothing is said may be able to think.
                no_thinking: !to.model.abilities.is_empty() && !to.model.abilities.contains(&Ability::Reasoning),
            },
        }
    }

    async fn once(&self, turn: Turn<Arc<Destination>>, put: Put, reserved: Reserved) -> (Came, Kept) {
        if turn.what.line.is_none() {
            return (self.in_house(turn, put, reserved).await, None);
        }
        match self.upstream(turn, put, reserved).await {
            Ok(came) => (came, None),
            Err((came, turn, reserved)) => (came, Some((*turn, *reserved))),
        }
    }

    /// Asks an upstream once.
    async fn upstream(
        &self,
        mut turn: Turn<Arc<Destination>>,
        put: Put,
        mut reserved: Reserved,
    ) -> Result<Came, (Came, Box<Turn<Arc<Destination>>>, Box<Reserved>)> {
        macro_rules! trouble {
            ($trouble:expr) => {{
                let trouble: Trouble = $trouble.into();
                trouble!(trouble, trouble.fault.into())
            }};
            ($trouble:expr, $kind:expr) => {
                return Err((Came::Trouble($trouble, $kind), Box::new(turn), Box::new(reserved)))
            };
        }
        if let Some(texts) = batch::small(&turn.what, &self.head, &self.ask.body).filter(|_| turn.number == 1) {
            let headers = cache::decisive(&self.ask.headers);
            let (head, most, deadline) = (self.head.clone(), self.most.tokens, self.deadline);
            let member = Member { turn, reserved, texts, headers, head, most, deadline };
            match self.relay.batches.join(&self.relay.salon, member).await {
                Some(batch::Came::Answer(due)) => return Ok(self.due(due).await),
                Some(batch::Came::Trouble(trouble, kind, turn, reserved)) => {
                    return Err((Came::Trouble(trouble, kind), turn, reserved));
                }
                Some(batch::Came::Alone(again, still)) => (turn, reserved) = (*again, *still),
                Some(batch::Came::Apart(fault, again, still)) => {
                    (turn, reserved) = (*again, *still);
                    let n = i64::from(turn.number);
                    turn.number += 1;
                    let failed = Failed { n, unknown: fault.may_cost(), note: "not_together".to_owned() };
                    if let Err(error) = reserved.attempt(Some(failed), attempt(&turn)).await {
                        tracing::warn!(%error, call.id = %self.ask.id, "another attempt cannot be written down, so it is not made");
                        return Ok(Came::RefusedHere(refuse::ledger_away()));
                    }
                }
                None => {
                    let words = "Something went wrong here. Please try again.";
                    return Ok(Came::RefusedHere(Refused::new(super::Kind::Internal, words)));
                }
            }
        }
        let what = turn.what.clone();
        let mut headers = if put.back.is_none() { passed_on(&self.ask.headers) } else { HeaderMap::with_capacity(8) };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // The same for every try, so that a server that knows the header answers, and charges, once.
        if let Ok(id) = HeaderValue::from_str(self.ask.id.as_str()) {
            headers.insert("idempotency-key", id);
        }
        // What passes is streamed as the client wants it; what is translated is read as events.
        let array = self.wants_array() && put.back.is_none();
        let asked = what.ask(self.head.stream, array, headers, put.body.clone());
        let (Some(line), Some(asked)) = (&what.line, asked) else { trouble!(Fault::NotFound) };
        let asked = match asked {
            Ok(asked) => asked,
            Err(_) => trouble!(Fault::Auth),
        };
        let response = match line.send(asked, &what.deadlines(self.deadline)).await {
            Ok(response) => response,
            Err(fault) => trouble!(fault),
        };
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let words = body.peek(MAX_REFUSAL).await;
            // Some repeat the key that they do not like.
            let words = what.access.key.iter().fold(words, hide_key);
            if matches!(head.status.as_u16(), 400 | 422) && self.learns(&what, &put, &words) {
                return Err((Came::Learnt, Box::new(turn), Box::new(reserved)));
            }
            return match judge_refusal(what.wire, head.status.as_u16(), &head.headers, &words) {
                Verdict::Ours { trouble, kind } => trouble!(trouble, kind),
                Verdict::Passed { status, body, message, fault: Fault::NotFound } if self.head.leans_on.is_none() => {
                    let told = match put.back {
                        None => Ok(refusal(status, body)),
                        Some(_) => Err(Refused::quoted(status, Fault::NotFound, message)),
                    };
                    Err((Came::NotThere(told), Box::new(turn), Box::new(reserved)))
                }
                Verdict::Passed { status, body, message, fault } => {
                    turn.succeeded();
                    reserved.release(fault.code()).await;
                    Ok(match put.back {
                        None => Came::Refusal(refusal(status, body)),
                        Some(_) => Came::RefusedHere(Refused::quoted(status, fault, message)),
                    })
                }
            };
        }
        // We asked for it plain. What is coded could be neither listened to nor read by whoever did not ask for it.
        if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            trouble!(Fault::Garbled);
        }
        turn.began();
        let mut tap = Tap::new(what.wire);
        // Where Google says it.
        if let Some(Ok(tier)) = head.headers.get("x-gemini-service-tier").map(HeaderValue::to_str) {
            tap.served(tier);
        }
        if self.head.stream {
            // Until the first bytes are here, another try can still be made.
            let (mut first, begins) = match first_bytes(&mut body).await {
                Ok(first) => first,
                Err(fault) => trouble!(fault),
            };
            // Some answer whole whatever they are asked. It is worth nothing before its end, and can be judged then.
            if begins == Beginning::Object {
                first = match body.rest_of(first, MAX_ANSWER).await {
                    Ok(whole) => whole,
                    Err(fault) => trouble!(fault),
                };
            }
            // What fails with its first word can still be asked elsewhere. Until it has ended nobody could read it.
            let mut ahead = Tap::new(what.wire);
            ahead.push(&first);
            if ahead.is_in_first() {
                let mut so_far = BytesMut::from(first);
                while ahead.is_in_first() && so_far.len() < MAX_FIRST {
                    match body.next().await {
                        Some(Ok(more)) => {
                            ahead.push(&more);
                            so_far.extend_from_slice(&more);
                        }
                        Some(Err(fault)) => trouble!(fault),
                        None => break,
                    }
                }
                first = so_far.freeze();
            }
            if begins == Beginning::Object || ahead.has_failed() {
                let heard = ahead.finish();
                if let Some(fault) = heard.failed_without_a_word() {
                    trouble!(fault);
                }
                if begins == Beginning::Object
                    && let Err(fault) = tell_whole(put.back.as_ref(), &first, &heard)
                {
                    trouble!(fault);
                }
            }
            if let Err(not) = reserved.durable().await {
                return Ok(Came::RefusedHere(not.into()));
            }
            let mut headers = self.headers(&reserved, &turn, &put.left_out);
            let whole = put.back.is_none() && begins == Beginning::Object;
            let kind = if whole { HeaderValue::from_static("application/json") } else { self.stream_type() };
            headers.insert(header::CONTENT_TYPE, kind);
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            let manner = match &put.back {
                Some(Turned::Carried(back)) => Manner::Carried(Box::new(Carrier::new(back))),
                None if self.hides_usage() => Manner::Hiding(Unasked::new()),
                // Embeddings do not stream.
                None | Some(Turned::Embedded(_)) => Manner::Untouched,
            };
            let bill = Box::new(self.bill(reserved, turn));
            let (source, id) = (Source::Upstream(Box::new(body)), self.ask.id.as_str());
            let waiting = self.waiting(self.relay.settings.drain);
            let passing = Passing::new(source, Some(first), manner, tap, bill, self.ask.wire, id, waiting)
                .kept(self.listen(&headers));
            return Ok(Came::Answer(Answer { status: StatusCode::OK, headers, told: Told::Stream(Box::new(passing)) }));
        }
        let bytes = match body.collect(MAX_ANSWER).await {
            Ok(bytes) => bytes,
            Err(fault) => trouble!(fault),
        };
        tap.push(&bytes);
        let tapped = tap.finish();
        let is_whole = tapped.finished && tapped.error.is_none();
        // Of what was paid for, the client gets to read even how it failed.
        if let Some(fault) = tapped.failed_without_a_word() {
            trouble!(fault);
        }
        let told = match tell_whole(put.back.as_ref(), &bytes, &tapped) {
            Ok(told) => what.access.key.iter().fold(told, hide_key),
            Err(fault) => trouble!(fault),
        };
        let mut bill = self.bill(reserved, turn);
        let cost = match bill.settle_whole(tapped).await {
            Ok(cost) => cost,
            Err(not) => return Ok(Came::RefusedHere(not.into())),
        };
        let mut headers = self.headers(&bill.reserved, &bill.turn, &put.left_out);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(mut keeping) = self.listen(&headers).filter(|_| is_whole) {
            keeping.hear(&told);
            keeping.keep(self.ask.wire);
        }
        super::put(&mut headers, "x-salon-cost", &cost.to_string());
        Ok(Came::Answer(Answer { status: StatusCode::OK, headers, told: Told::Whole(told) }))
    }

    /// Whether the words of a refusal taught something, so that the next try differs from this one. Only what we put into
    /// the question ourselves is taken out of it again.
    fn learns(&self, to: &Destination, put: &Put, words: &[u8]) -> bool {
        let ours = self.ask.turn.is_some() || matches!(put.back, Some(Turned::Carried(_)));
        let usage_is_ours = ours || !self.head.usage_asked;
        if !matches!(to.wire, Wire::Chat | Wire::Completions) {
            return false;
        }
        let words = String::from_utf8_lossy(words).to_lowercase();
        let told = |name: &str, quirk: Quirk| words.contains(name) && !to.bends(quirk) && to.deployment.learn(quirk);
        (self.head.stream && usage_is_ours && told("stream_options", Quirk::NoStreamOptions))
            || (ours && told("max_completion_tokens", Quirk::MaxCompletionTokens))
            || (ours && told("temperature", Quirk::NoTemperature))
    }

    /// Tells this call's part of an answer that came for several.
    async fn due(&self, mut due: Box<Due>) -> Came {
        let Some(bill) = due.bill() else { return Came::RefusedHere(refuse::ledger_away()) };
        if let Err(not) = bill.reserved.durable().await {
            return Came::RefusedHere(not.into());
        }
        let (reserved, turn) = (&bill.reserved, &bill.turn);
        let mut headers = self.headers(reserved, turn, &[]);
        if !due.left_out.is_empty() {
            put(&mut headers, "x-salon-left-out", &due.left_out.join(", "));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(mut keeping) = self.listen(&headers) {
            keeping.hear(&due.told);
            keeping.keep(self.ask.wire);
        }
        let cost = due.settle();
        put(&mut headers, "x-salon-cost", &cost.to_string());
        Came::Answer(Answer { status: StatusCode::OK, headers, told: Told::Whole(due.told.clone()) })
    }

    /// Lets an engine of the house answer.
    async fn in_house(&self, turn: Turn<Arc<Destination>>, put: Put, mut reserved: Reserved) -> Came {
        let spoken =
            match house::speak(&turn.what, self.ask.wire, &put.body, &self.terms(&turn.what), self.wants_array()) {
                Ok(spoken) => spoken,
                Err(refused) => {
                    reserved.release("refused").await;
                    return Came::RefusedHere(refused);
                }
            };
        if let Err(not) = reserved.durable().await {
            return Came::RefusedHere(not.into());
        }
        let mut headers = self.headers(&reserved, &turn, &[]);
        let bill = Box::new(self.bill(reserved, turn));
        let tap = Tap::new(self.ask.wire);
        let source = Source::House(spoken);
        let passing = Passing::new(
            source,
            None,
            Manner::Untouched,
            tap,
            bill,
            self.ask.wire,
            self.ask.id.as_str(),
            self.waiting(Duration::ZERO),
        );
        if self.head.stream {
            headers.insert(header::CONTENT_TYPE, self.stream_type());
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            let passing = passing.kept(self.listen(&headers));
            return Came::Answer(Answer { status: StatusCode::OK, headers, told: Told::Stream(Box::new(passing)) });
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (bytes, cost) = passing.kept(self.listen(&headers)).collect().await;
        super::put(&mut headers, "x-salon-cost", &cost.to_string());
        Came::Answer(Answer { status: StatusCode::OK, headers, told: Told::Whole(bytes) })
    }

    /// Comments are known to events alone: in an array, or in a whole answer, they would be no JSON.
    fn waiting(&self, patience: Duration) -> Waiting {
        let events = self.head.stream && !self.wants_array();
        Waiting { patience, silence: events.then_some(self.relay.settings.silence) }
    }

    fn bill(&self, reserved: Reserved, turn: Turn<Arc<Destination>>) -> Bill {
        Bill::new(reserved, turn, &self.head, self.most.tokens, self.relay.salon.metrics.clone())
    }

    /// Listens to the answer that is told with this head, if it is to be kept.
    fn listen(&self, headers: &HeaderMap) -> Option<Keeping> {
        self.place.map(|place| self.relay.cache.listen(place, headers))
    }

    /// Whether we asked for the usage of a stream and the client did not.
    fn hides_usage(&self) -> bool {
        !self.head.usage_asked && matches!(self.ask.wire, Wire::Chat | Wire::Completions)
    }

    fn headers(&self, reserved: &Reserved, turn: &Turn<Arc<Destination>>, left_out: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(HEADERS);
        tell_limits(&mut headers, reserved.granted());
        let what = &turn.what;
        put(&mut headers, "x-salon-model", &what.model.name);
        put(&mut headers, "x-salon-key", what.access.tag.split(':').next().unwrap_or_default());
        if turn.number > 1 {
            put(&mut headers, "x-salon-attempts", &turn.number.to_string());
        }
        if self.place.is_some() {
            cache::tell_miss(&mut headers);
        }
        if !left_out.is_empty() {
            put(&mut headers, "x-salon-left-out", &left_out.join(", "));
        }
        headers
    }

    fn stream_type(&self) -> HeaderValue {
        HeaderValue::from_static(if self.wants_array() {
            "application/json"
        } else {
            "text/event-stream; charset=utf-8"
        })
    }

    /// Ends a call that nobody answered. What may have been answered and paid for stays for the reports.
    async fn give_up(&self, reserved: Reserved, _n: i64, trouble: Trouble) {
        match trouble.fault.may_cost() {
            // Dropped: its end is unknown.
            true => drop(reserved),
            false => reserved.release(trouble.fault.code()).await,
        }
    }
}

/// What a stream begins with, and how that begins. White space alone is no beginning, and what is no answer is not passed
/// on: it may be a page that was meant for somebody else.
async fn first_bytes(body: &mut outbound::Body) -> Result<(Bytes, Beginning), Fault> {
    let mut blank = BytesMut::new();
    loop {
        let more = body.next().await.unwrap_or(Err(Fault::Silent))?;
        let begins = beginning(&more).ok_or(Fault::Garbled)?;
        if begins != Beginning::Blank && blank.is_empty() {
            return Ok((more, begins));
        }
        blank.extend_from_slice(&more);
        match begins {
            Beginning::Blank if blank.len() > MAX_BLANK => return Err(Fault::Garbled),
            Beginning::Blank => {}
            begins => return Ok((blank.freeze(), begins)),
        }
    }
}

/// What the client is told of an answer that came whole.
fn tell_whole(back: Option<&Turned>, bytes: &Bytes, heard: &Tapped) -> Result<Bytes, Fault> {
    match back {
        Some(back) => back.carry(bytes),
        // What is no object is nobody's answer, and an object may be somebody else's.
        None if beginning(bytes) != Some(Beginning::Object) || heard.is_none => Err(Fault::Garbled),
        None if !heard.finished && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() => {
            Err(Fault::Garbled)
        }
        None => Ok(bytes.clone()),
    }
}

fn refusal(status: u16, body: Vec<u8>) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    Answer { status, headers, told: Told::Whole(body.into()) }
}
