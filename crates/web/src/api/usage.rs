//! Who used how much of what, and when.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use salon::access::Caller;
use salon_core::people::Role;
use salon_core::{Micros, Period, Time, UserId, Window};
use salon_store::Tx;
use salon_store::ledger::{CallFilter, Usage, UsageFilter};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{No, Said, caller, limits, query, split, told};
use crate::Web;

/// How many models and people a list names.
const LISTED: i64 = 200;
const TOP: i64 = 10;
/// Single calls in a person's report.
const CALLS: i64 = 100;

/// Which time: a period that contains now, or days from and up to and with another, in the organisation's zone.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    period: Option<String>,
    from: Option<String>,
    to: Option<String>,
    model: Option<String>,
}

/// A stretch of time, and how it was asked for.
struct Span {
    name: String,
    window: Window,
}

impl Asked {
    fn span(&self, caller: &Caller, now: Time) -> Result<Span, No> {
        let zone = &caller.zone;
        if self.from.is_none() && self.to.is_none() {
            let name = self.period.as_deref().unwrap_or("month");
            let period = Period::parse(name).ok_or_else(|| No::bad("period is day, week, month or total"))?;
            return Ok(Span { name: name.to_owned(), window: period.window(zone, now) });
        }
        if self.period.is_some() {
            return Err(No::bad("say a period, or from and to"));
        }
        let day = |day: &Option<String>, name: &str| match day {
            None => Ok(None),
            Some(day) => match zone.midnight(day) {
                Some(midnight) => Ok(Some(midnight)),
                None => Err(No::bad(format!("{name} is a day such as 2026-02-01"))),
            },
        };
        let start = day(&self.from, "from")?.unwrap_or(Window::EVER.start);
        let last = day(&self.to, "to")?;
        let end = last.map_or(Window::EVER.end, |last| Period::Day.window(zone, last).end);
        if end <= start {
            return Err(No::bad("from lies behind to"));
        }
        Ok(Span { name: "days".to_owned(), window: Window { start, end } })
    }

    fn filter(&self, caller: &Caller, span: &Span) -> UsageFilter {
        let mut filter = UsageFilter::of(caller.org.clone(), span.window.start, span.window.end);
        filter.model.clone_from(&self.model);
        filter
    }
}

impl Span {
    fn shown(&self, caller: &Caller) -> Value {
        let day = |at: Time, ever: Time| (at != ever).then(|| caller.zone.day(at));
        let last = Time(self.window.end.0.saturating_sub(1));
        json!({
            "name": self.name,
            "from": day(self.window.start, Window::EVER.start),
            "to": (self.window.end != Window::EVER.end).then(|| caller.zone.day(last)),
            "zone": caller.zone.name(),
        })
    }
}

/// `GET /api/usage`: what the caller used.
pub(super) async fn own(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/usage", Role::User).await?;
        let asked = query::<Asked>(&head)?;
        let span = asked.span(&caller, web.salon.clock.now())?;
        let mut filter = asked.filter(&caller, &span);
        filter.user = Some(caller.user.clone());
        let mut tx = web.relay.book.report().await?;
        let mut report = report(&mut tx, &caller, &span, &filter).await?;
        drop(tx);
        report["user_id"] = json!(caller.user.as_str());
        report["limits"] = limits::of_caller(&web, &caller).await?;
        Ok(Json(report).into_response())
    }
    .await;
    told(said, &id)
}

/// `GET /api/admin/usage/statistics`: the organisation's totals, days, models, and those who used most.
pub(super) async fn statistics(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/statistics", Role::Manager).await?;
        let asked = query::<Asked>(&head)?;
        let span = asked.span(&caller, web.salon.clock.now())?;
        let filter = asked.filter(&caller, &span);
        let mut tx = web.relay.book.report().await?;
        let mut report = report(&mut tx, &caller, &span, &filter).await?;
        report["top_users"] = people(&mut tx, &filter, TOP).await?;
        let window = (span.window.start, span.window.end);
        let extra = tx.possible_extra(&caller.org, window, filter.model.as_deref()).await?;
        report["possible_extra"] = json!({ "calls": extra.0, "cost_usd": Micros(extra.1).to_string() });
        Ok(Json(report).into_response())
    }
    .await;
    told(said, &id)
}

/// `GET /api/admin/usage/users`
pub(super) async fn users(State(web): State<Web>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/users", Role::Manager).await?;
        let asked = query::<Asked>(&head)?;
        let span = asked.span(&caller, web.salon.clock.now())?;
        let filter = asked.filter(&caller, &span);
        let users = people(&mut web.relay.book.report().await?, &filter, LISTED).await?;
        Ok(Json(json!({ "period": span.shown(&caller), "users": users })).into_response())
    }
    .await;
    told(said, &id)
}

/// `GET /api/admin/usage/users/{id}`: one person's totals, days, models and newest calls.
pub(super) async fn user(State(web): State<Web>, Path(user): Path<String>, request: Request) -> Response {
    let (id, head, _) = split(request);
    let said: Said = async {
        let caller = caller(&web, &head, "/api/admin/usage/users/{id}", Role::Manager).await?;
        let user = UserId::new(user);
        let mut tx = web.relay.book.report().await?;
        let known = named(&mut tx, &caller, &user).await?;
        let asked = query::<Asked>(&head)?;
        let span = asked.span(&caller, web.salon.clock.now())?;
        let mut filter = asked.filter(&caller, &span);
        filter.user = Some(user.clone());
        let mut report = report(&mut tx, &caller, &span, &filter).await?;
        report["user_id"] = json!(user.as_str());
        report["name"] = json!(known);
        let newest = CallFilter { usage: filter, before: None, limit: CALLS };
        let entries = tx.list_entries(&newest).await?;
        let calls = entries.iter().map(|entry| {
            json!({
                "call_id": entry.call.as_str(), "at_ms": entry.at.0, "door": entry.door, "model": entry.model,
                "upstream": entry.upstream, "upstream_model": entry.upstream_model, "key": entry.whose,
                "conversation": entry.payer.chat, "turn_id": entry.payer.turn.as_ref().map(|turn| turn.as_str()),
                "tokens_in": entry.tokens.read(), "tokens_out": entry.tokens.written(),
                "cost_usd": Micros(entry.amounts.micros).to_string(),
                "estimated": entry.estimated, "suspect": entry.suspect, "cache_hit": entry.cache_hit,
            })
        });
        report["calls"] = calls.collect();
        Ok(Json(report).into_response())
    }
    .await;
    told(said, &id)
}

/// The name of one of the organisation's people. Who was removed or belongs elsewhere by now has none, and is found by
/// what they used here, because the reports list them; anybody else is nobody here.
async fn named(tx: &mut Tx, caller: &Caller, user: &UserId) -> Result<Option<String>, No> {
    let known = tx.find_user(user).await?;
    if let Some(known) = known.filter(|known| known.org == caller.org) {
        return Ok(Some(known.name));
    }
    let ever = UsageFilter::of(caller.org.clone(), Window::EVER.start, Window::EVER.end);
    let filter = UsageFilter { user: Some(user.clone()), ..ever };
    let newest = CallFilter { usage: filter, before: None, limit: 1 };
    let used = tx.list_entries(&newest).await?;
    if used.is_empty() { Err(No::missing("person")) } else { Ok(None) }
}

async fn report(tx: &mut Tx, caller: &Caller, span: &Span, filter: &UsageFilter) -> Result<Value, No> {
    let total = tx.usage(filter).await?;
    let models = tx.usage_by_model(filter, LISTED).await?;
    let days = tx.usage_by_day(filter, &caller.zone).await?;
    let models = models.iter().map(|model| labelled("model", &model.model, &model.usage));
    let days = days.iter().map(|day| labelled("day", &day.day, &day.usage));
    Ok(json!({
        "period": span.shown(caller),
        "total": shown(&total),
        "models": models.collect::<Value>(),
        "days": days.collect::<Value>(),
    }))
}

async fn people(tx: &mut Tx, filter: &UsageFilter, limit: i64) -> Result<Value, No> {
    let used = tx.usage_by_user(filter, limit).await?;
    let known = tx.list_users(Some(&filter.org)).await?;
    let people = used.iter().map(|used| {
        let name = known.iter().find(|user| user.id == used.user).map(|user| user.name.as_str());
        let mut line = labelled("user_id", used.user.as_str(), &used.usage);
        line["name"] = json!(name);
        line
    });
    Ok(people.collect())
}

fn labelled(name: &str, value: &str, usage: &Usage) -> Value {
    let mut line = shown(usage);
    line[name] = json!(value);
    line
}

fn shown(usage: &Usage) -> Value {
    let tokens = &usage.tokens;
    json!({
        "calls": usage.calls,
        "tokens_in": tokens.read(),
        "tokens_out": tokens.written(),
        "tokens": {
            "input": tokens.input, "output": tokens.output, "reasoning": tokens.reasoning,
            "cache_read": tokens.cache_read, "cache_write_5m": tokens.cache_write_5m,
            "cache_write_1h": tokens.cache_write_1h, "audio_in": tokens.audio_in, "audio_out": tokens.audio_out,
        },
        "cost_micros": usage.micros,
        "cost_usd": Micros(usage.micros).to_string(),
        "estimated": usage.estimated,
        "suspect": usage.suspect,
        "cache_hits": usage.cache_hits,
    })
}
