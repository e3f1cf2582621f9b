//! What somebody used, and what is left of what they may use.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use salon::logins::Visit;
use salon_core::limit::{Measure, Period, Scope, Window, Zone};
use salon_core::{Micros, Time};
use salon_store::ledger::{Account, DayUsage, ModelUsage, Usage, UsageFilter};
use serde::Deserialize;

use super::broken;
use super::chart::{Bar, bars, meter};
use super::shell::{Place, Shell, page as shown};
use super::visitor::Visitor;
use crate::Web;

const MODELS: i64 = 50;
/// Days that a chart has room for.
pub(crate) const CHARTED: usize = 62;

/// A limit of somebody's, and how much of it is gone.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub measure: &'static str,
    pub period: &'static str,
    pub taken: String,
    pub amount: String,
    pub meter: String,
    /// When it begins anew; `None` if never.
    pub until: Option<Time>,
}

#[derive(Template)]
#[template(path = "site/usage.html")]
struct UsagePage {
    shell: Shell,
    span: Span,
    used: Usage,
    models: Vec<ModelUsage>,
    days: Vec<DayUsage>,
    chart: String,
    limits: Vec<Left>,
}

/// Which time is looked at: a period that contains now, or days from and up to and with another.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    pub period: Option<String>,
    /// How many days back, as one of these systems asked for it.
    pub days: Option<String>,
    #[serde(alias = "start")]
    pub from: Option<String>,
    #[serde(alias = "end")]
    pub to: Option<String>,
}

/// The same, as it was understood. What cannot be read is passed over: a page is shown all the same.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub period: &'static str,
    /// The first and the last day.
    pub from: String,
    pub to: String,
    pub window: Window,
}

impl Asked {
    pub fn span(&self, zone: &salon_core::limit::Zone, now: Time) -> Span {
        let day = |text: &Option<String>| text.as_deref().and_then(|text| zone.midnight(text));
        let back =
            self.days.as_deref().and_then(|days| days.parse::<i64>().ok()).filter(|days| (1..=3660).contains(days));
        let (period, window) = match (day(&self.from), day(&self.to), back) {
            (None, None, Some(days)) => {
                let first = zone.day(Time(now.0 - (days - 1) * 24 * 60 * 60 * 1000));
                let start = zone.midnight(&first).unwrap_or(now);
                ("days", Window { start, end: Period::Day.window(zone, now).end })
            }
            (None, None, None) => {
                let known = ["day", "week", "month"].into_iter().find(|name| self.period.as_deref() == Some(name));
                let name = known.unwrap_or("month");
                let period = Period::parse(name).unwrap_or(Period::Month);
                (name, period.window(zone, now))
            }
            (from, to, _) => {
                let (from, to) = (from.unwrap_or(now), to.unwrap_or(now));
                // Turned round rather than refused.
                let (from, to) = (from.min(to), from.max(to));
                let start = Period::Day.window(zone, from).start;
                ("days", Window { start, end: Period::Day.window(zone, to).end })
            }
        };
        let last = Time(window.end.0 - 1);
        Span { period, from: zone.day(window.start), to: zone.day(last), window }
    }
}

impl Span {
    pub fn is(&self, period: &str) -> bool {
        self.period == period
    }
}

pub(crate) async fn page(
    State(web): State<Web>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = Shell::visiting(&web, &visit, &headers, Place::Usage);
    let span = asked.span(&visit.caller.zone, shell.now);
    let refused = shell.clone();
    match look(&web, &visit, shell, span).await {
        Ok(page) => shown(&page),
        Err(error) => broken(&refused, &error),
    }
}

async fn look(web: &Web, visit: &Visit, shell: Shell, span: Span) -> salon_store::Result<UsagePage> {
    let mut filter = UsageFilter::of(visit.account.user.org.clone(), span.window.start, span.window.end);
    filter.user = Some(visit.account.user.id.clone());
    let mut tx = web.relay.book.read().await?;
    let used = tx.usage(&filter).await?;
    let models = tx.usage_by_model(&filter, MODELS).await?;
    let days = tx.usage_by_day(&filter, &visit.caller.zone).await?;
    drop(tx);
    let chart = used_by_day(&days, &span, &visit.caller.zone, &shell.t("usage.chart"));
    let limits = left(web, visit).await?;
    Ok(UsagePage { shell, span, used, models, days, chart, limits })
}

/// A bar for every day of a span: what was spent, or else how many tokens.
pub(crate) fn used_by_day(days: &[DayUsage], span: &Span, zone: &Zone, title: &str) -> String {
    // Where nothing costs anything, tokens tell more.
    let by_money = days.iter().any(|day| day.usage.micros > 0);
    let told = |usage: &Usage| match by_money {
        true => (usage.micros, format!("${}", Micros(usage.micros))),
        false => (usage.tokens.total(), super::shell::grouped(usage.tokens.total())),
    };
    every_day(days, span, zone, title, told)
}

/// The same: how many calls.
pub(crate) fn calls_by_day(days: &[DayUsage], span: &Span, zone: &Zone, title: &str) -> String {
    every_day(days, span, zone, title, |usage| (usage.calls, super::shell::grouped(usage.calls)))
}

/// A bar for every day of a span, also for those on which nothing was used; the newest days if there are too many.
fn every_day(
    days: &[DayUsage],
    span: &Span,
    zone: &Zone,
    title: &str,
    told: impl Fn(&Usage) -> (i64, String),
) -> String {
    let mut all = Vec::new();
    let mut at = span.window.end;
    while at > span.window.start && all.len() < CHARTED {
        let day = zone.day(Time(at.0 - 1));
        at = zone.midnight(&day).unwrap_or(span.window.start);
        all.push(day);
    }
    all.reverse();
    let bar = |day: &String| {
        let usage = days.iter().find(|known| known.day == *day).map(|known| known.usage).unwrap_or_default();
        let (value, shown) = told(&usage);
        Bar { label: day[5..].to_owned(), value, shown }
    };
    bars(&all.iter().map(bar).collect::<Vec<_>>(), title)
}

/// The limits that hold for somebody, by themselves and with their organisation.
pub(crate) async fn left(web: &Web, visit: &Visit) -> salon_store::Result<Vec<Left>> {
    let now = web.salon.clock.now();
    let (org, user) = (&visit.account.user.org, visit.account.user.id.as_str());
    let mut tx = web.relay.book.read().await?;
    let known = tx.load_limits().await?;
    let accounts = tx.list_accounts_of(org, (Scope::User, user), now).await?;
    let own = known.on(org, Scope::User, user).map(|limit| {
        let same = |account: &&Account| (account.key.measure, account.key.period) == (limit.measure, limit.period);
        let account = accounts.iter().find(same);
        let taken = account.map_or(0, |account| account.reserved.saturating_add(account.spent));
        let window = limit.period.window(&visit.caller.zone, now);
        Left {
            measure: limit.measure.as_str(),
            period: limit.period.as_str(),
            taken: quantity(limit.measure, taken),
            amount: quantity(limit.measure, limit.amount),
            meter: meter(taken as f64 / (limit.amount.max(1)) as f64, &quantity(limit.measure, taken)),
            until: (window != Window::EVER).then_some(window.end),
        }
    });
    Ok(own.collect())
}

/// An amount as people read it.
pub(crate) fn quantity(measure: Measure, amount: i64) -> String {
    match measure {
        Measure::Micros => format!("${}", Micros(amount)),
        Measure::Tokens | Measure::Requests => super::shell::grouped(amount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Time = Time(1_769_860_800_000); // 2026-01-31 12:00 in UTC.

    fn span(period: &str, days: &str, from: &str, to: &str) -> (String, String) {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let asked = Asked { period: text(period), days: text(days), from: text(from), to: text(to) };
        let span = asked.span(&Zone::utc(), NOON);
        (span.from, span.to)
    }

    #[test]
    fn a_span_is_what_was_asked_for_and_nonsense_is_this_month() {
        let days = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(span("month", "", "", ""), days("2026-01-01", "2026-01-31"));
        assert_eq!(span("day", "", "", ""), days("2026-01-31", "2026-01-31"));
        assert_eq!(span("", "7", "", ""), days("2026-01-25", "2026-01-31"));
        assert_eq!(span("", "", "2026-01-05", "2026-01-02"), days("2026-01-02", "2026-01-05"), "turned round");
        assert_eq!(span("century", "x", "yesterday", ""), days("2026-01-01", "2026-01-31"));
    }

    #[test]
    fn there_is_a_bar_for_every_day() {
        let asked = Asked { days: Some("7".to_owned()), ..Asked::default() };
        let svg = used_by_day(&[], &asked.span(&Zone::utc(), NOON), &Zone::utc(), "x");
        assert_eq!(svg.matches("class=\"bar\"").count(), 7);
        let used = DayUsage { day: "2026-01-29".to_owned(), usage: Usage { calls: 5, ..Usage::default() } };
        let svg = calls_by_day(&[used], &asked.span(&Zone::utc(), NOON), &Zone::utc(), "x");
        assert_eq!(svg.matches("class=\"bar\"").count(), 7);
        assert!(svg.contains("<title>01-29: 5</title>") && svg.contains("<title>01-30: 0</title>"), "{svg}");
    }
}
