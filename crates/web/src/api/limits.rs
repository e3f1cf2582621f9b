//! Limits, how full they are, and calls that wait for an admin's yes.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon::access::issue::OwnLimit;
use salon_core::limit::{Level, Measure, Period, Policy, Scope, THRESHOLDS, percent};
use salon_core::people::Role;
use salon_core::{CallId, KeyId, Limit, LimitId, Micros, UserId};
use salon_store::Terms;
use salon_store::ledger::{Account, LimitUse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::form::whole;
use super::{Done, No, Said, bytes, caller, once, parse, query, split, told};
use crate::Web;

/// Accounts that are shown of a limit for each: the fullest.
const FULLEST: i64 = 10;
const HELD: i64 = 200;

const PERIODS: &str = "day, week, month or total";
const SCOPES: &str = "run, key, user, chat or org";

/// A limit as it is entered. Money is in dollars, as text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entered {
    scope: String,
    /// Whom it is about; without one, each of them by itself.
    subject: Option<String>,
    measure: String,
    period: String,
    amount: Value,
    policy: Option<String>,
    thresholds: Option<Vec<Value>>,
}

/// A limit that a key is made with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnteredOfKey {
    measure: String,
    period: String,
    amount: Value,
    policy: Option<String>,
    thresholds: Option<Vec<Value>>,
}

impl EnteredOfKey {
    pub(super) fn read(self) -> Result<OwnLimit, No> {
        let measure = known(Measure::parse(&self.measure), "measure", "micros, tokens or requests")?;
        let terms = Terms {
            amount: amount(measure, &self.amount)?,
            policy: policy(self.policy.as_deref())?.unwrap_or(Policy::Block),
            thresholds: thresholds(self.thresholds.as_deref())?.unwrap_or_else(|| THRESHOLDS.to_vec()),
        };
        let period = known(Period::parse(&self.period), "period", PERIODS)?;
        Ok(OwnLimit { measure, period, terms })
    }
}

/// What of a limit can be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    amount: Option<Value>,
    policy: Option<String>,
    thresholds: Option<Vec<Value>>,
}

/// Which limits are asked for; all, if nothing is said.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    period: Option<String>,
    scope: Option<String>,
    subject: Option<String>,
}

/// `GET /api/admin/usage/limits`
pub(super) async fn list(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/limits", Role::Manager).await?;
        let asked: Asked = query(&head)?;
        let period = asked.period.map(|word| known(Period::parse(&word), "period", PERIODS)).transpose()?;
        let scope = asked.scope.map(|word| known(Scope::parse(&word), "scope", SCOPES)).transpose()?;
        let now = web.salon.clock.now();
        let uses = web.relay.book.read().await?.list_limit_uses(&caller.org, now, FULLEST).await?;
        let is_asked_for = |used: &&LimitUse| {
            period.is_none_or(|period| period == used.limit.period)
                && scope.is_none_or(|scope| scope == used.limit.scope)
                && asked.subject.as_ref().is_none_or(|subject| used.limit.subject.as_ref() == Some(subject))
        };
        let limits: Vec<Value> = uses.iter().filter(is_asked_for).map(used).collect();
        Ok(Json(json!({ "limits": limits })).into_response())
    }
    .await;
    told(said, &id)
}

/// `POST /api/admin/usage/limits`
pub(super) async fn add(State(web): State<Web>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/limits", Role::Admin).await?;
        let body = bytes(&head, body).await?;
        let entered: Entered = parse(&body)?;
        let measure = known(Measure::parse(&entered.measure), "measure", "micros, tokens or requests")?;
        let limit = Limit {
            id: LimitId::new(web.salon.clock.id()),
            org: caller.org.clone(),
            scope: known(Scope::parse(&entered.scope), "scope", SCOPES)?,
            subject: entered.subject,
            measure,
            period: known(Period::parse(&entered.period), "period", PERIODS)?,
            amount: amount(measure, &entered.amount)?,
            policy: policy(entered.policy.as_deref())?.unwrap_or(Policy::Block),
            thresholds: thresholds(entered.thresholds.as_deref())?.unwrap_or_else(|| THRESHOLDS.to_vec()),
        };
        if let Some(fault) = limit.fault() {
            return Err(No::bad(fault));
        }
        is_theirs(&web, &limit).await?;
        let work = async {
            let shown = shown(&limit);
            web.relay.book.add_limit(limit, &web.salon.pen(&*caller)).await?;
            Ok(Done::created(shown))
        };
        once(&web, &head, &caller, "POST /api/admin/usage/limits", &body, work).await
    }
    .await;
    told(said, &id)
}

/// `PUT /api/admin/usage/limits/{id}`
pub(super) async fn change(State(web): State<Web>, Path(limit): Path<String>, request: Request) -> Response {
    let (id, head, body) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/limits/{id}", Role::Admin).await?;
        let changed: Changed = parse(&bytes(&head, body).await?)?;
        let limit = LimitId::new(limit);
        let known = web.salon.store.read().await?.find_limit(&caller.org, &limit).await?;
        let mut known = known.ok_or_else(|| No::missing("limit"))?;
        if let Some(entered) = &changed.amount {
            known.amount = amount(known.measure, entered)?;
        }
        known.policy = policy(changed.policy.as_deref())?.unwrap_or(known.policy);
        known.thresholds = thresholds(changed.thresholds.as_deref())?.unwrap_or(known.thresholds);
        if let Some(fault) = known.fault() {
            return Err(No::bad(fault));
        }
        let shown = shown(&known);
        let terms = Terms { amount: known.amount, policy: known.policy, thresholds: known.thresholds };
        match web.relay.book.change_limit(&caller.org, &limit, terms, &web.salon.pen(&*caller)).await? {
            true => Ok(Json(shown).into_response()),
            false => Err(No::missing("limit")),
        }
    }
    .await;
    told(said, &id)
}

/// `DELETE /api/admin/usage/limits/{id}`
pub(super) async fn remove(State(web): State<Web>, Path(limit): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/limits/{id}", Role::Admin).await?;
        match web.relay.book.remove_limit(&caller.org, &LimitId::new(limit), &web.salon.pen(&*caller)).await? {
            true => Ok(StatusCode::NO_CONTENT.into_response()),
            false => Err(No::missing("limit")),
        }
    }
    .await;
    told(said, &id)
}

/// `GET /api/admin/usage/held`: calls that wait for a yes.
pub(super) async fn held(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/held", Role::Admin).await?;
        let held = web.salon.store.read().await?.list_held(&caller.org, None, HELD).await?;
        let held = held.iter().map(|call| {
            json!({
                "call_id": call.id.as_str(), "user_id": call.payer.user.as_str(), "door": call.door,
                "model": call.model, "cost_usd_at_most": Micros(call.most.micros).to_string(),
                "tokens_at_most": call.most.tokens, "at_ms": call.at.0, "until_ms": call.deadline.0,
                "limit_id": call.limit.as_ref().map(LimitId::as_str),
                "turn_id": call.payer.turn.as_ref().map(|turn| turn.as_str()),
            })
        });
        Ok(Json(json!({ "held": held.collect::<Vec<_>>() })).into_response())
    }
    .await;
    told(said, &id)
}

/// `POST /api/admin/usage/held/{call}/approve`: it may be made once, beyond the limit.
pub(super) async fn approve(State(web): State<Web>, Path(call): Path<String>, request: Request) -> Response {
    decide(web, call, request, true).await
}

/// `POST /api/admin/usage/held/{call}/deny`
pub(super) async fn deny(State(web): State<Web>, Path(call): Path<String>, request: Request) -> Response {
    decide(web, call, request, false).await
}

async fn decide(web: Web, call: String, request: Request, yes: bool) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/held/{call}", Role::Admin).await?;
        let call = CallId::new(call);
        let book = &web.relay.book;
        let state = if yes { "approved" } else { "denied" };
        let pen = web.salon.pen(&*caller);
        let work = async {
            let decided = match yes {
                true => book.approve(&caller.org, &call, &pen).await?,
                false => book.deny(&caller.org, &call, &pen).await?,
            };
            let body = json!({ "call_id": call.as_str(), "state": state });
            if decided {
                Ok(Done { status: StatusCode::OK, body, again: None })
            } else {
                Err(No::missing("call that waits"))
            }
        };
        once(&web, &head, &caller, &format!("POST /api/admin/usage/held/{call} {state}"), b"", work).await
    }
    .await;
    told(said, &id)
}

/// Whether a limit's person or key is one of its organisation's; a limit on somebody else's would hold for nobody.
async fn is_theirs(web: &Web, limit: &Limit) -> Result<(), No> {
    let Some(subject) = &limit.subject else { return Ok(()) };
    let mut tx = web.salon.store.read().await?;
    let (user, what) = match limit.scope {
        Scope::User => (Some(UserId::new(subject.as_str())), "person"),
        Scope::Key => (tx.find_api_key(&KeyId::new(subject.as_str())).await?.map(|key| key.user), "key"),
        Scope::Run | Scope::Chat | Scope::Org => return Ok(()),
    };
    let user = match user {
        Some(user) => tx.find_user(&user).await?,
        None => None,
    };
    user.filter(|user| user.org == limit.org).map(|_| ()).ok_or_else(|| No::missing(what))
}

/// Where the limits stand that are about the caller alone.
pub(super) async fn of_caller(web: &Web, caller: &Caller) -> Result<Value, No> {
    let now = web.salon.clock.now();
    let mut tx = web.relay.book.read().await?;
    let known = tx.load_limits().await?;
    let mut own = Vec::new();
    let key = caller.key.as_ref().map(|key| (Scope::Key, key.as_str()));
    for holder in [Some((Scope::User, caller.user.as_str())), key].into_iter().flatten() {
        let accounts = tx.list_accounts_of(&caller.org, holder, now).await?;
        for limit in known.on(&caller.org, holder.0, holder.1) {
            let same = |account: &&Account| (account.key.measure, account.key.period) == (limit.measure, limit.period);
            let mut shown = shown(limit);
            shown["use"] = accounts.iter().find(same).map_or(Value::Null, |account| full(limit, account));
            own.push(shown);
        }
    }
    Ok(own.into())
}

/// A key's own limits, and how full they are.
pub(super) fn of_key(uses: &[LimitUse], key: &KeyId) -> Value {
    let own = uses
        .iter()
        .filter(|limit| limit.limit.scope == Scope::Key && limit.limit.subject.as_deref() == Some(key.as_str()));
    let own = own.map(|limit| {
        let mut shown = shown(&limit.limit);
        shown["use"] = limit.accounts.first().map_or(Value::Null, |account| full(&limit.limit, account));
        shown
    });
    own.collect()
}

fn used(limit: &LimitUse) -> Value {
    let mut shown = shown(&limit.limit);
    shown["accounts"] = limit.accounts.iter().map(|account| full(&limit.limit, account)).collect();
    shown
}

pub(super) fn shown(limit: &Limit) -> Value {
    json!({
        "id": limit.id.as_str(), "scope": limit.scope.as_str(), "subject": limit.subject,
        "measure": limit.measure.as_str(), "period": limit.period.as_str(),
        "amount": quantity(limit.measure, limit.amount), "policy": limit.policy.as_str(),
        "thresholds": limit.thresholds,
    })
}

fn full(limit: &Limit, account: &Account) -> Value {
    let taken = account.reserved.saturating_add(account.spent);
    json!({
        "subject": account.key.holder.subject,
        "spent": quantity(limit.measure, account.spent),
        "reserved": quantity(limit.measure, account.reserved),
        "percent": percent(taken, limit.amount),
        "level": Level::of(taken, limit.amount, &limit.thresholds).as_str(),
        "stopped": account.stopped,
    })
}

/// Money in dollars, as text, so that nobody reads it as a float; the others as numbers.
fn quantity(measure: Measure, amount: i64) -> Value {
    match measure {
        Measure::Micros => json!(Micros(amount).to_string()),
        Measure::Tokens | Measure::Requests => json!(amount),
    }
}

fn amount(measure: Measure, entered: &Value) -> Result<i64, No> {
    let read = match (measure, entered) {
        (Measure::Micros, Value::String(dollars)) => measure.parse_amount(dollars),
        (Measure::Micros, _) => None,
        (_, number) => whole(number),
    };
    read.ok_or_else(|| match measure {
        Measure::Micros => No::bad("amount is in dollars, as text, such as \"12.50\""),
        Measure::Tokens | Measure::Requests => No::bad("amount is a whole number"),
    })
}

fn thresholds(entered: Option<&[Value]>) -> Result<Option<Vec<i64>>, No> {
    let read = entered.map(|percents| percents.iter().map(whole).collect::<Option<Vec<i64>>>());
    read.map(|read| read.ok_or_else(|| No::bad("thresholds are whole numbers"))).transpose()
}

fn policy(word: Option<&str>) -> Result<Option<Policy>, No> {
    word.map(|word| known(Policy::parse(word), "policy", "warn, ask, block or hard")).transpose()
}

fn known<T>(read: Option<T>, field: &str, words: &str) -> Result<T, No> {
    read.ok_or_else(|| No::bad(format!("{field} is {words}")))
}
