//! The second path: stateless calls, from whoever may make them to whoever answers.
//!
//! ```text
//!  Ask ─► head ─► route ─► reserve ─► ask an upstream ─► the answer passes ─► settle
//!                             ▲             │
//!                             └── attempt ◄─┘ it failed before anything of it was passed on
//! ```
//! Small requests for embeddings that come at the same moment are asked in one call: see [`batch`].
//! A model may say that the same question gets the same answer for a while: see [`cache`].
//!
//! Where client and upstream speak the same protocol, the bytes of question and answer pass as they are: only the model's
//! name and the credentials are exchanged, and the usage is listened to. Where they do not, one translation happens
//! ([`salon_engine::wire::carry`]), and what it cannot carry is refused by name.
//!
//! No answer is passed on whose call is not in the ledger, and however an answer ends, it is charged once.

mod batch;
mod cache;
mod charge;
mod hear;
mod house;
mod panel;
mod passing;
mod refuse;
mod tries;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use salon_core::limit::{Amounts, Measure};
use salon_core::{CallId, Micros, Owner, Tokens, TurnId};
use salon_engine::wire::{BadAsk, Changes, Head};
use serde_json::json;

use crate::Salon;
use crate::access::{Caller, Credential};
use crate::catalog::{Ability, Access as Keyed, Catalog, Destination, KeyFrom, Model, Quirk, Route, Upstream};
use crate::crowd::Crowd;
use crate::engines::Choice;
use crate::idempotency::Requests;
use crate::ledger::{Book, Granted, NotReserved, Payer, Share, Tab};

pub use crate::catalog::Listed;
pub use batch::Batches;
pub use cache::{Cache, CacheSettings};
pub use hear::{Heard, Hearing};
pub use passing::Passing;
pub use refuse::over_limit;
pub use salon_engine::upstream::Fault;
pub use salon_engine::wire::{Kind, Refused, Wire};

/// What is set aside for an answer where neither the request nor the catalog says how long it may become.
const USUAL_OUTPUT: i64 = 4_096;
/// What the ledger calls the door of calls that turns make.
pub(crate) const DOOR_OF_TURNS: &str = "turn";
/// The header that names a call which waited for an admin, and is made again.
pub const WAITED: HeaderName = HeaderName::from_static("x-salon-call");
/// A call that nobody has ended so long after its last deadline is nobody's any more.
const REAP_AFTER: Duration = Duration::from_secs(60);

/// How the relay behaves.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// The longest request, in bytes.
    pub max_body: usize,
    /// How long an upstream is heard to its end after its client has gone; zero hangs up at once.
    pub drain: Duration,
    /// How long a stream may be silent before a comment says that somebody is still there.
    pub silence: Duration,
    /// Who calls without a credential from this machine. `None` lets nobody in without one.
    pub anonymous: Option<Arc<Caller>>,
    pub cache: CacheSettings,
    /// Calls that one person may have in flight.
    pub calls_per_user: usize,
}

impl Default for RelaySettings {
    fn default() -> Self {
        RelaySettings {
            max_body: 32 << 20,
            drain: Duration::from_secs(10),
            silence: Duration::from_secs(15),
            anonymous: None,
            cache: CacheSettings::default(),
            calls_per_user: 64,
        }
    }
}

/// Everything that a stateless call needs. One per process.
pub struct Relay {
    pub salon: Arc<Salon>,
    pub catalog: Arc<Catalog>,
    pub book: Book,
    /// Remembers what was answered to those who may ask again.
    pub requests: Requests,
    /// Gives answers again, for models that say so.
    pub cache: Cache,
    /// Asks for embeddings together that are asked for at the same time.
    pub batches: Batches,
    /// Calls in flight at the doors.
    pub calls: Crowd,
    pub settings: RelaySettings,
}

/// A call as it came in.
pub struct Ask {
    pub id: CallId,
    /// What the caller speaks.
    pub wire: Wire,
    pub caller: Arc<Caller>,
    pub outside: Outside,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The turn that is answered, where the call is made for one.
    pub turn: Option<Asking>,
    /// Its place among the calls of a panel.
    pub share: Option<Box<Share>>,
}

/// A turn that asks a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    pub turn: TurnId,
    /// The chat in which it was said, if it was one.
    pub chat: Option<String>,
    /// Whether an agent asks on its behalf, as often as it likes: then the turn is a run, which may have limits of its own.
    pub run: bool,
}

/// Who pays, by the ledger's names.
pub(crate) fn payer(caller: &Caller, asking: Option<&Asking>) -> Payer {
    Payer {
        org: caller.org.clone(),
        zone: caller.zone.name().to_owned(),
        user: caller.user.clone(),
        key: caller.key.clone(),
        chat: asking.and_then(|asking| asking.chat.clone()),
        turn: asking.map(|asking| asking.turn.clone()),
        run: asking.filter(|asking| asking.run).map(|asking| asking.turn.to_string()),
    }
}

impl Ask {
    /// Whether its number was made for it: it belongs to no turn, which may be run again, and waited for no admin.
    fn is_fresh(&self) -> bool {
        self.turn.is_none() && !self.headers.contains_key(&WAITED)
    }

    fn payer(&self) -> Payer {
        payer(&self.caller, self.turn.as_ref())
    }

    /// Where it came in, as the ledger calls it.
    fn door(&self) -> &'static str {
        match &self.turn {
            Some(asking) if !asking.run => DOOR_OF_TURNS,
            _ => self.wire.as_str(),
        }
    }
}

/// What a call says outside of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    pub model: Option<String>,
    pub stream: bool,
    /// A stream is wanted as events; Gemini's clients can ask for an array instead.
    pub events: bool,
}

/// An answer on its way to the caller.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub told: Told,
}

pub enum Told {
    Whole(Bytes),
    Stream(Box<Passing>),
}

/// A call that may be made.
pub struct Begun {
    what: What,
}

enum What {
    Granted(Box<tries::Granted>),
    /// It was answered before, and is told again.
    Told(Box<Again>),
    /// Several answer it.
    Panel(Box<panel::Sat>),
}

struct Again {
    relay: Arc<Relay>,
    ask: Ask,
    head: Head,
    kept: cache::Kept,
}

impl Begun {
    /// Has the call charged by whoever closes the tab. What is told again, and what several answer, is charged by itself.
    pub fn charged_to(self, tab: &Tab) -> Begun {
        match self.what {
            What::Granted(granted) => Begun { what: What::Granted(Box::new(granted.charged_to(tab))) },
            what @ (What::Told(_) | What::Panel(_)) => Begun { what },
        }
    }

    /// Makes the call. Dropping the future hangs up.
    pub async fn answer(self) -> Result<Answer, Refused> {
        match self.what {
            What::Granted(granted) => granted.answer().await,
            What::Panel(sat) => sat.answer().await,
            What::Told(again) => {
                let Again { relay, ask, head, kept } = *again;
                cache::tell_again(&relay, &ask, &head, kept).await
            }
        }
    }
}

/// Why a call is not made.
#[derive(Debug)]
pub enum NotBegun {
    Refused(Box<Refused>),
    /// The ledger has no room for it, or not yet.
    Unpaid(NotReserved),
}

impl From<Refused> for NotBegun {
    fn from(refused: Refused) -> NotBegun {
        NotBegun::Refused(Box::new(refused))
    }
}

impl From<NotBegun> for Refused {
    fn from(not: NotBegun) -> Refused {
        match not {
            NotBegun::Refused(refused) => *refused,
            NotBegun::Unpaid(not) => not.into(),
        }
    }
}

/// How many tokens a question has, as the protocol says it.
pub struct Count {
    pub body: Vec<u8>,
}

impl Relay {
    pub fn settings(&self) -> &RelaySettings {
        &self.settings
    }

    /// Lets a caller in, or says why not. `door` is the route as the documentation has it. Whoever is not `at_home` needs
    /// a credential, whatever the peer's address.
    pub async fn admit(
        &self,
        credential: Option<Credential>,
        peer: Option<IpAddr>,
        at_home: bool,
        door: &str,
    ) -> Result<Arc<Caller>, Refused> {
        let peer = peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        match (credential, self.settings.anonymous.as_ref().filter(|_| at_home)) {
            (Some(credential), anonymous) => {
                match self.salon.access.admit(&credential, peer, door, self.salon.clock.now()).await {
                    Ok(caller) => Ok(caller),
                    // Clients that must send some key send any, where none is needed.
                    Err(denied) => match (credential, anonymous) {
                        (Credential::Foreign, Some(anybody)) if peer.is_loopback() => Ok(anybody.clone()),
                        _ => Err(denied.into()),
                    },
                }
            }
            (None, Some(anybody)) if peer.is_loopback() => Ok(anybody.clone()),
            (None, _) => Err(refuse::nobody()),
        }
    }

    /// Answers a call.
    pub async fn call(self: &Arc<Self>, ask: Ask) -> Result<Answer, Refused> {
        self.begin(ask).await?.answer().await
    }

    /// Finds out who can answer a call, and sets aside what it can take. Nobody is asked yet.
    pub async fn begin(self: &Arc<Self>, ask: Ask) -> Result<Begun, NotBegun> {
        let head = Self::read(&ask)?;
        if panel::named(&head).is_some() {
            let sat = panel::begin(self, &ask, &head).await?;
            return Ok(Begun { what: What::Panel(Box::new(sat)) });
        }
        let (head, route) = self.understand(&ask, head)?;
        let keys = self.keys(&ask.caller, &route).await?;
        let place = self.cache.place(&ask, &head, &route, &keys);
        if let Some(place) = &place
            && let Some(kept) = self.cache.find(place).await
        {
            let again = Again { relay: self.clone(), ask, head, kept };
            return Ok(Begun { what: What::Told(Box::new(again)) });
        }
        let most = self.most(&head, &route);
        let granted = tries::begin(self, ask, head, route, most, keys, place).await?;
        Ok(Begun { what: What::Granted(Box::new(granted)) })
    }

    /// Says how many tokens a question has. It costs nothing and asks nobody: our own estimate.
    pub async fn count(&self, ask: Ask) -> Result<Count, Refused> {
        let mut head = Self::read(&ask)?;
        // Nobody else looks at it, and nothing has no tokens.
        if ask.wire == Wire::Messages && head.talk().is_none() {
            return Err(BadAsk::Missing("messages").into());
        }
        if panel::named(&head).is_none() {
            (head, _) = self.understand(&ask, head)?;
        }
        // Between what it costs at least and at most.
        let tokens = ((head.input_likely + head.input_estimate) / 2).max(1);
        let body = match ask.wire {
            Wire::Generate => json!({ "totalTokens": tokens }),
            _ => json!({ "input_tokens": tokens }),
        };
        Ok(Count { body: body.to_string().into_bytes() })
    }

    /// The models that the caller can use: allowed, spoken of, and with a key for them.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Listed>, Refused> {
        let snapshot = self.catalog.snapshot();
        let keyed = self.keyed(caller).await?;
        let mut listed =
            snapshot.list(Some(&caller.org), self.salon.clock.now(), |upstream| keyed.contains(&upstream.name));
        listed.extend(panel::list(self, caller, &keyed).await?);
        listed.retain(|listed| caller.scopes.allow_model(&listed.model.name));
        Ok(listed)
    }

    /// The model that the caller can use by this name, whether or not it is on the list.
    pub async fn find(&self, caller: &Caller, name: &str) -> Result<Listed, Refused> {
        if let Some(listed) = self.list(caller).await?.into_iter().find(|listed| listed.model.name == name) {
            return Ok(listed);
        }
        let (snapshot, now) = (self.catalog.snapshot(), self.salon.clock.now());
        let keyed = self.keyed(caller).await?;
        let found = snapshot.find_listed(name, Some(&caller.org), now, |upstream| keyed.contains(&upstream.name));
        let found = found.filter(|_| caller.scopes.allow_model(name));
        found.ok_or_else(|| Refused::unknown_model(name, &snapshot.nearest(name, Some(&caller.org))))
    }

    /// The upstreams for which the caller has a key.
    async fn keyed(&self, caller: &Caller) -> Result<HashSet<String>, Refused> {
        let mut keyed = HashSet::new();
        for upstream in self.catalog.snapshot().upstreams() {
            if self.key(caller, upstream).await?.is_some() {
                keyed.insert(upstream.name.clone());
            }
        }
        Ok(keyed)
    }

    /// The name of the model that is meant.
    pub async fn name_of(&self, choice: &Choice) -> Result<String, Fault> {
        match choice {
            Choice::Named(name) => Ok(name.clone()),
            Choice::FirstOf(upstream) => self.catalog.first_model(upstream).await,
        }
    }

    /// Reads what matters of a call.
    fn read(ask: &Ask) -> Result<Head, Refused> {
        let outside = salon_engine::wire::Outside { model: ask.outside.model.as_deref(), stream: ask.outside.stream };
        let head = Head::read(ask.wire, &ask.body, outside)?;
        ask.caller.may_use(&head.model)?;
        Ok(head)
    }

    /// Finds who may answer a call.
    fn understand(&self, ask: &Ask, head: Head) -> Result<(Head, Route), Refused> {
        if head.background {
            let words = "An answer cannot be made in the background here.";
            return Err(Refused::new(Kind::InvalidRequest, words)
                .with_code("unsupported_parameter")
                .with_param("background"));
        }
        let mut route = self.catalog.route(&head.model, ask.wire, Some(&ask.caller.org))?;
        route.serve(head.tier.as_deref(), head.keeps_long)?;
        if let Some((ability, param)) = lacks(&head, &route.model) {
            return Err(refuse::unable(&head.model, ability, param));
        }
        // Nor is a question put to somebody who stands in and cannot answer it.
        route.retain(|model| lacks(&head, model).is_none());
        Ok((head, route))
    }

    /// The most that a call can take.
    pub(crate) fn most(&self, head: &Head, route: &Route) -> Most {
        let model = &route.model;
        let usual = model.output.or(model.most_output).unwrap_or(USUAL_OUTPUT);
        let output = match head.wire {
            Wire::Embeddings => 0,
            _ => head.most_output(usual),
        };
        let tokens = Tokens::new(head.input_estimate, output);
        Most { tokens, micros: route.most(tokens.input, tokens.output) }
    }

    /// The keys with which each upstream of the route can be asked: the caller's own, then the team's, then the house's.
    pub(crate) async fn keys(&self, caller: &Caller, route: &Route) -> Result<Vec<(String, Keyed)>, Refused> {
        let mut keys = Vec::new();
        for upstream in route.upstreams() {
            if let Some(access) = self.key(caller, &upstream).await? {
                keys.push((upstream.name.clone(), access));
            }
        }
        Ok(keys)
    }

    /// A key is only ever looked for under the provider and the very origin that it was given for.
    async fn key(&self, caller: &Caller, upstream: &Upstream) -> Result<Option<Keyed>, Refused> {
        if let KeyFrom::Nowhere = upstream.key {
            return Ok(Some(Keyed::house(None)));
        }
        let found = match &upstream.shown {
            Some(origin) => self.salon.vault.provider_key(caller, &upstream.provider, origin).await,
            None => Ok(None),
        };
        let found = found.map_err(|error| {
            tracing::error!(%error, user.id = %caller.user, "a key cannot be had from the vault");
            Refused::new(Kind::Internal, "The stored key for this provider cannot be opened; please enter it anew.")
                .with_code("provider_key_unusable")
        })?;
        Ok(match (found, &upstream.key) {
            (Some(found), key) => {
                let own = matches!(found.owner, Owner::User(_));
                if matches!(key, KeyFrom::Caller) && !own {
                    return Ok(None);
                }
                let tag = format!("{}:{}", if own { "own" } else { "shared" }, found.id);
                Some(Keyed { key: Some(found.secret), tag, tenant: Some(found.owner.to_string()), line: None })
            }
            (None, KeyFrom::Environment { key, .. }) => key.clone().map(|key| Keyed::house(Some(key))),
            (None, _) => None,
        })
    }
}

/// The most that a call can take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    tokens: Tokens,
    micros: Micros,
}

impl Most {
    pub(crate) fn amounts(&self) -> Amounts {
        Amounts { micros: self.micros.0, tokens: self.tokens.total(), requests: 1 }
    }
}

/// What a caller is told of the limits: per measure, the one with the least room.
fn tell_limits(headers: &mut HeaderMap, granted: &Granted) {
    for measure in Measure::ALL {
        let standings = granted.standings.iter().filter(|standing| standing.measure == measure);
        let Some(tightest) = standings.min_by_key(|standing| standing.headroom.remaining) else { continue };
        for (name, value) in refuse::standing_of(tightest.scope, measure, &tightest.headroom) {
            put(headers, name, &value);
        }
    }
    if !granted.warnings.is_empty() {
        put(headers, "x-salon-budget-warning", "a limit is exceeded");
    }
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

/// What a question wants that a model is known not to have, and the field that wants it. Of a model of whose abilities
/// nothing is said it is not known.
fn lacks(head: &Head, model: &Model) -> Option<(Ability, &'static str)> {
    if model.abilities.is_empty() {
        return None;
    }
    let (talk, schema) = match head.wire {
        Wire::Responses => ("input", "text.format"),
        Wire::Generate => ("contents", "generationConfig"),
        Wire::Messages => ("messages", "output_config"),
        Wire::Completions => ("prompt", "response_format"),
        Wire::Embeddings => ("input", "input"),
        Wire::Chat | Wire::Midm => ("messages", "response_format"),
    };
    let wanted = [
        (head.wire == Wire::Embeddings, Ability::Embeddings, "model"),
        (head.has_tools, Ability::Tools, "tools"),
        (head.has_images, Ability::Images, talk),
        (head.has_audio, Ability::Audio, talk),
        (head.has_schema, Ability::Schema, schema),
    ];
    let missing = wanted.iter().find(|(wants, ability, _)| *wants && !model.abilities.contains(ability));
    missing.map(|(_, ability, param)| (*ability, *param))
}

/// What of a caller's headers goes on to an upstream of the same protocol: what speaks of the protocol itself and of the
/// client's own bookkeeping. Credentials, cookies and addresses stay here.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    const NAMES: [&str; 9] = [
        "content-type",
        "accept",
        "openai-beta",
        "session-id",
        "thread-id",
        "session_id",
        "conversation_id",
        "originator",
        "x-client-request-id",
    ];
    const PREFIXES: [&str; 5] = ["anthropic-", "x-codex-", "x-openai-internal-", "x-stainless-", "x-claude-code-"];
    let mut passed = HeaderMap::with_capacity(8);
    for (name, value) in headers {
        let text = name.as_str();
        if NAMES.contains(&text) || PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// What is changed of a question that goes on in its own protocol.
fn changes<'a>(head: &Head, route: &Route, to: &'a Destination) -> Changes<'a> {
    let model = to.deployment.model.as_str();
    let ask_usage = head.stream
        && !head.usage_asked
        && matches!(head.wire, Wire::Chat | Wire::Completions)
        && !to.bends(Quirk::NoStreamOptions);
    let most = route.model.most_output.filter(|most| head.max_output.is_some_and(|asked| asked > *most));
    Changes {
        model: (model != head.model && head.wire != Wire::Generate).then_some(model),
        ask_usage,
        max_output: most,
    }
}
