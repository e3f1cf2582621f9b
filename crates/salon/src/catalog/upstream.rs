//! An upstream, ready to be called: where each wire is, how the key is shown, and how patient to be.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use reqwest::Url;
use salon_core::OrgId;
use salon_engine::Secret;
use salon_engine::guard::{Rules, judge};
use salon_engine::outbound::{Line, Outbound, Reach};
use salon_engine::upstream::{Room, Settings};
use salon_engine::wire::Wire;

use super::spec::{KeyWord, Kind, UnknownPrice, UpstreamSpec, wire_named};
use super::{Environment, Wrong, is_name};
use crate::vault::Origin;

/// The version of Anthropic's API that is asked for where the caller says nothing.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// A server of models.
#[derive(Debug)]
pub struct Upstream {
    pub name: String,
    pub kind: Kind,
    /// Whose prices count, and under which name people bring keys.
    pub provider: String,
    /// The one team that may use it.
    pub org: Option<OrgId>,
    /// `None` where answers are made in this process.
    pub base: Option<Url>,
    /// Where people's keys may be shown to it; `None` where none can be.
    pub shown: Option<Origin>,
    pub key: KeyFrom,
    /// Sent with every request.
    pub headers: HeaderMap,
    pub settings: Settings,
    /// What others are best translated into comes first.
    pub speaks: Vec<Wire>,
    pub any_model: bool,
    pub catch_all: bool,
    pub unknown_price: Option<UnknownPrice>,
    pub room: Arc<Room>,
    reach: Reach,
    line: Option<Arc<Line>>,
    outbound: Outbound,
    pub spec: UpstreamSpec,
    /// Where each wire is, streamed and whole, if that does not depend on the model.
    addresses: Vec<(Wire, bool, Uri)>,
    /// Where the bare key goes, if not where its kind wants it.
    key_header: Option<HeaderName>,
}

/// Where an upstream's key comes from. A caller's own key, if there is one for the provider and this very origin, comes
/// before the house's.
#[derive(Clone)]
pub enum KeyFrom {
    /// It wants none.
    Nowhere,
    /// The house's, from the environment; `None` if that is not set.
    Environment { name: String, key: Option<Secret> },
    /// The vault: the caller's own, else the team's.
    Vault,
    /// The caller's own and no other.
    Caller,
}

impl fmt::Debug for KeyFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFrom::Nowhere => f.write_str("nowhere"),
            KeyFrom::Environment { name, key } => {
                write!(f, "{name} ({})", if key.is_some() { "set" } else { "not set" })
            }
            KeyFrom::Vault => f.write_str("vault"),
            KeyFrom::Caller => f.write_str("caller"),
        }
    }
}

/// What is wanted of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand<'a> {
    /// An answer, in one of the wires that it speaks. Gemini's streams are events or an array.
    Ask { wire: Wire, model: &'a str, stream: bool, array: bool },
    /// How many tokens a question has.
    Count { wire: Wire, model: &'a str },
    /// Which models it has.
    List,
}

impl Upstream {
    /// Makes what a spec describes.
    pub(super) fn build(
        name: &str,
        spec: &UpstreamSpec,
        environment: &Environment,
        rules: &Arc<Rules>,
        outbound: &Outbound,
    ) -> Result<Upstream, Wrong> {
        if !is_name(name) || name.contains(['/', ':']) {
            return Err(Wrong::new("name", "a name has letters, digits, '.', '_', '@' and '-'"));
        }
        let kind =
            spec.kind.ok_or_else(|| Wrong::new("kind", "say its kind: openai, anthropic, gemini, compatible, midm"))?;
        let org = spec.org.clone().map(OrgId::new);
        let (base, reach) = base(spec, kind, org.is_some(), rules)?;
        let key = key(spec, kind, org.is_some(), environment)?;
        let speaks = match &spec.speaks {
            None => kind.speaks().to_vec(),
            Some(names) => {
                let wire = |name: &String| {
                    wire_named(name).ok_or_else(|| Wrong::about("wire", name, format!("there is no wire {name}")))
                };
                names.iter().map(wire).collect::<Result<_, _>>()?
            }
        };
        let provider = spec.provider.as_deref().or(kind.provider()).unwrap_or(name);
        if !is_name(provider) {
            return Err(Wrong::new("provider", "the provider is no name"));
        }
        let key_header = match &spec.key_header {
            Some(name) => Some(name.parse().map_err(|_| Wrong::new("key_header", "key_header is no header"))?),
            None => None,
        };
        let addresses = match &base {
            Some(base) if kind != Kind::Gemini => speaks
                .iter()
                .flat_map(|wire| [(*wire, false), (*wire, true)])
                .filter_map(|(wire, stream)| {
                    Some((wire, stream, place(kind, base, Errand::Ask { wire, model: "", stream, array: false })?))
                })
                .collect(),
            _ => Vec::new(),
        };
        let line = base.as_ref().map(|base| outbound.line(base, org.as_ref().map(OrgId::as_str), &reach));
        Ok(Upstream {
            name: name.to_owned(),
            kind,
            provider: provider.to_owned(),
            org,
            shown: base.as_ref().and_then(Origin::of),
            base,
            key,
            headers: headers(spec)?,
            settings: spec.patience.settings(),
            speaks,
            any_model: spec.any_model.unwrap_or(true),
            catch_all: spec.catch_all,
            unknown_price: spec.unknown_price.or(kind.is_in_house().then_some(UnknownPrice::Free)),
            room: Arc::new(Room::new(spec.at_once.filter(|cap| *cap > 0))),
            reach,
            line,
            outbound: outbound.clone(),
            spec: spec.clone(),
            addresses,
            key_header,
        })
    }

    /// Whether the house can call it by itself.
    pub fn has_house_key(&self) -> bool {
        matches!(self.key, KeyFrom::Nowhere | KeyFrom::Environment { key: Some(_), .. })
    }

    /// Whether this team may use it.
    pub fn is_open_to(&self, org: Option<&OrgId>) -> bool {
        self.org.is_none() || self.org.as_ref() == org
    }

    /// What a caller who speaks `wanted` is carried over in: the same wire if possible; `None` if there is no way.
    pub fn tongue(&self, wanted: Wire) -> Option<Wire> {
        if self.speaks.contains(&wanted) {
            return Some(wanted);
        }
        if wanted == Wire::Embeddings {
            return None;
        }
        self.speaks.iter().copied().find(|wire| *wire != Wire::Embeddings)
    }

    /// The connections for one tenant; `None` for the house's.
    pub(super) fn line_for(&self, tenant: Option<&str>) -> Option<Arc<Line>> {
        match (tenant, &self.base) {
            (Some(tenant), Some(base)) => Some(self.outbound.line(base, Some(tenant), &self.reach)),
            _ => self.line.clone(),
        }
    }

    /// Scheme, host and port, as keys of the vault are bound to them; `None` where nothing is called.
    pub fn origin(&self) -> Option<String> {
        self.base.as_ref().map(|base| base.origin().ascii_serialization())
    }

    /// The method and address of an errand; `None` if it has no such thing.
    pub fn address(&self, errand: Errand<'_>) -> Option<(Method, Uri)> {
        let method = if errand == Errand::List { Method::GET } else { Method::POST };
        // Nearly every call: where it goes does not depend on the model.
        let known = |known: &&(Wire, bool, Uri)| matches!(errand, Errand::Ask { wire, stream, .. } if (wire, stream) == (known.0, known.1));
        let uri = match self.addresses.iter().find(known) {
            Some((_, _, uri)) => uri.clone(),
            None => place(self.kind, self.base.as_ref()?, errand)?,
        };
        Some((method, uri))
    }

    /// Puts on what the upstream wants to see: the key, its own headers, a version. An error if the key has characters
    /// that no header can have.
    pub fn dress(&self, headers: &mut HeaderMap, key: Option<&Secret>) -> Result<(), Wrong> {
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            // Anthropic's and its gateways' tokens are shown like everybody's, its keys are not.
            let bearer = matches!(&self.key, KeyFrom::Environment { name, .. } if name.ends_with("_AUTH_TOKEN"));
            let name = match (&self.key_header, self.kind) {
                (Some(name), _) => name.clone(),
                (None, Kind::Anthropic) if !bearer => HeaderName::from_static("x-api-key"),
                (None, Kind::Gemini) => HeaderName::from_static("x-goog-api-key"),
                (None, _) => AUTHORIZATION,
            };
            let value = match name {
                AUTHORIZATION => HeaderValue::try_from(format!("Bearer {}", key.expose())),
                _ => HeaderValue::from_str(key.expose()),
            };
            let mut value =
                value.map_err(|_| Wrong::new("key_letters", "the key contains characters that no key has"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if self.kind == Kind::Anthropic && !headers.contains_key("anthropic-version") {
            headers.insert("anthropic-version", HeaderValue::from_static(ANTHROPIC_VERSION));
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        Ok(())
    }
}

/// Where an errand is, below a base.
fn place(kind: Kind, base: &Url, errand: Errand<'_>) -> Option<Uri> {
    let mut url = base.clone();
    let mut query = None;
    let of_gemini;
    let (version, path): (Option<&str>, &[&str]) = match (kind, errand) {
        (Kind::Echo | Kind::Storyteller, _) => return None,
        (Kind::Gemini, Errand::Ask { model, stream, array, .. }) => {
            query = (stream && !array).then_some("alt=sse");
            of_gemini = format!("{model}:{}", if stream { "streamGenerateContent" } else { "generateContent" });
            (Some("v1beta"), &["models", &of_gemini])
        }
        (Kind::Gemini, Errand::Count { model, .. }) => {
            of_gemini = format!("{model}:countTokens");
            (Some("v1beta"), &["models", &of_gemini])
        }
        (Kind::Gemini, Errand::List) => (Some("v1beta"), &["models"]),
        (Kind::Anthropic, Errand::Ask { .. }) => (Some("v1"), &["messages"]),
        (Kind::Anthropic, Errand::Count { .. }) => (Some("v1"), &["messages", "count_tokens"]),
        (Kind::Anthropic, Errand::List) => (Some("v1"), &["models"]),
        (Kind::Midm, Errand::Ask { wire: Wire::Embeddings, .. }) => (None, &["embeddings"]),
        (Kind::Midm, Errand::Ask { stream: true, .. }) => (None, &["chat", "stream"]),
        (Kind::Midm, Errand::Ask { .. }) => (None, &["chat"]),
        // What it says of its health is as near to a list as it comes.
        (Kind::Midm, Errand::List) => (None, &["health"]),
        (Kind::OpenAi | Kind::Compatible, Errand::Ask { wire, .. }) => (None, openai_path(wire)?),
        (Kind::OpenAi | Kind::Compatible, Errand::List) => (None, &["models"]),
        (Kind::Midm | Kind::OpenAi | Kind::Compatible, Errand::Count { .. }) => return None,
    };
    {
        let mut whole = url.path_segments_mut().ok()?;
        whole.pop_if_empty();
        // Bases are written with the version and without it.
        whole.extend(version.filter(|_| !ends_in_version(base))).extend(path);
    }
    if let Some(query) = query {
        let whole = url.query().map_or_else(|| query.to_owned(), |own| format!("{own}&{query}"));
        url.set_query(Some(&whole));
    }
    url.as_str().parse().ok()
}

fn ends_in_version(base: &Url) -> bool {
    let last = base.path_segments().and_then(|mut path| path.rfind(|segment| !segment.is_empty()));
    last.and_then(|last| last.strip_prefix('v'))
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn openai_path(wire: Wire) -> Option<&'static [&'static str]> {
    match wire {
        Wire::Chat => Some(&["chat", "completions"]),
        Wire::Completions => Some(&["completions"]),
        Wire::Responses => Some(&["responses"]),
        Wire::Embeddings => Some(&["embeddings"]),
        // Some compatible servers speak Anthropic's messages as well.
        Wire::Messages => Some(&["messages"]),
        Wire::Generate | Wire::Midm => None,
    }
}

fn base(spec: &UpstreamSpec, kind: Kind, of_team: bool, rules: &Arc<Rules>) -> Result<(Option<Url>, Reach), Wrong> {
    if kind.is_in_house() {
        return match spec.base_url {
            None => Ok((None, Reach::Operator)),
            Some(_) => Err(Wrong::new("in_house", "its answers are made here, so it has no base_url")),
        };
    }
    let text =
        spec.base_url.as_deref().or(kind.base_url()).ok_or_else(|| Wrong::new("base_url", "say its base_url"))?;
    if of_team {
        let judged = judge(text.trim(), rules).map_err(|blocked| Wrong::new("blocked", blocked.to_string()))?;
        return Ok((Some(judged.url), Reach::Guarded(rules.clone())));
    }
    let url = Url::parse(text.trim()).map_err(|_| Wrong::new("url_unreadable", "its base_url cannot be read"))?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() || url.host().is_none() {
        return Err(Wrong::new("url_scheme", "its base_url is neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new("url_password", "its base_url contains a password; the key has its own setting"));
    }
    if url.fragment().is_some() {
        return Err(Wrong::new("url_fragment", "its base_url has a fragment, which nobody would see"));
    }
    Ok((Some(url), Reach::Operator))
}

fn key(spec: &UpstreamSpec, kind: Kind, of_team: bool, environment: &Environment) -> Result<KeyFrom, Wrong> {
    match (&spec.key_env, spec.key) {
        (Some(_), Some(_)) => Err(Wrong::new("two_keys", "say key_env or key, not both")),
        (Some(_), None) if of_team => {
            Err(Wrong::new("team_key", "a team's key stands in the vault, not in the environment"))
        }
        (Some(name), None) => {
            if !environment.may_be_key(name) {
                return Err(Wrong::about(
                    "key_env",
                    name,
                    format!("{name} is no name of a key: it ends in _KEY or _TOKEN, and is not ours"),
                ));
            }
            Ok(KeyFrom::Environment { name: name.clone(), key: environment.find(name) })
        }
        (None, Some(KeyWord::None)) => Ok(KeyFrom::Nowhere),
        (None, Some(KeyWord::Vault)) => Ok(KeyFrom::Vault),
        (None, Some(KeyWord::Caller)) => Ok(KeyFrom::Caller),
        (None, None) => Ok(match kind {
            Kind::OpenAi | Kind::Anthropic | Kind::Gemini => KeyFrom::Vault,
            Kind::Compatible if of_team => KeyFrom::Vault,
            Kind::Compatible | Kind::Midm | Kind::Echo | Kind::Storyteller => KeyFrom::Nowhere,
        }),
    }
}

fn headers(spec: &UpstreamSpec) -> Result<HeaderMap, Wrong> {
    const OURS: [&str; 9] = [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in &spec.headers {
        let wrong = || Wrong::about("header", name, format!("the header {name} cannot be sent"));
        let known: HeaderName = name.parse().map_err(|_| wrong())?;
        if OURS.contains(&known.as_str()) {
            return Err(wrong());
        }
        headers.insert(known, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}
