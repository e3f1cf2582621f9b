//! `/usage`: what somebody used, what is left of their limits, and a picture of the last two weeks.

use std::time::Duration;

use salon_core::limit::Zone;
use salon_core::{Lang, Limit, Measure, Micros, Period, Scope, Time};
use salon_store::Result;
use salon_store::ledger::{Account, Usage, UsageFilter};

use crate::chart::{Chart, Day};
use crate::context::Context;
use crate::notice::Notice;

/// Days in the picture.
const DAYS: u32 = 14;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the ledger says. It is read before the transaction that answers the update: nobody has to wait for sums.
pub async fn look(cx: &Context) -> Result<Notice> {
    let lang = cx.lang;
    // In a group everybody would read it.
    if !cx.chat.is_private() {
        return Ok(Notice::plain(cx, lang.say("usage.private", &[])));
    }
    let Some(person) = &cx.person else { return Ok(Notice::plain(cx, lang.say("usage.none", &[]))) };
    let (user, now) = (&person.account.user, cx.salon.clock.now());
    let mut tx = cx.salon.store.read().await?;
    let zone = tx.find_org(&user.org).await?.and_then(|org| Zone::find(&org.zone)).unwrap_or_else(Zone::utc);
    let of = |from: Time, to: Time| {
        let filter = UsageFilter::of(user.org.clone(), from, to);
        UsageFilter { user: Some(user.id.clone()), ..filter }
    };
    let [today, month] = [Period::Day, Period::Month].map(|period| period.window(&zone, now));
    let used_today = tx.usage(&of(today.start, today.end)).await?;
    let used_this_month = tx.usage(&of(month.start, month.end)).await?;
    let mut lines = vec![sums(lang, "usage.today", &used_today), sums(lang, "usage.month", &used_this_month)];
    let chat = format!("{}:{}", cx.bot.id(), cx.chat);
    let known = tx.load_limits().await?;
    let mut limits = Vec::new();
    for (scope, subject) in [(Scope::User, user.id.as_str()), (Scope::Chat, &chat)] {
        let accounts = tx.list_accounts_of(&user.org, (scope, subject), now).await?;
        limits.extend(known.on(&user.org, scope, subject).map(|limit| left(lang, limit, &accounts, &zone, now)));
    }
    if limits.is_empty() {
        lines.push(lang.say("usage.unlimited", &[]));
    } else {
        lines.push(String::new());
        lines.push(lang.say("usage.limits", &[]));
        lines.extend(limits);
    }
    let days: Vec<Time> = (0..DAYS).rev().map(|back| now - DAY * back).collect();
    let first = days.first().map_or(today.start, |first| Period::Day.window(&zone, *first).start);
    let used = tx.usage_by_day(&of(first, today.end), &zone).await?;
    let mut notice = Notice::plain(cx, String::new());
    if !used.is_empty() {
        let of_day = |at: &Time| {
            let day = zone.day(*at);
            let tokens = used.iter().find(|used| used.day == day).map_or(0, |used| used.usage.tokens.total());
            let number = day.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            Day { number, tokens }
        };
        notice.chart = Some(Chart { days: days.iter().map(of_day).collect() });
        lines.push(String::new());
        lines.push(lang.say("usage.chart", &[("days", &DAYS.to_string())]));
    }
    notice.text = lines.join("\n");
    Ok(notice)
}

fn sums(lang: Lang, key: &str, usage: &Usage) -> String {
    let parts =
        [(Measure::Requests, usage.calls), (Measure::Tokens, usage.tokens.total()), (Measure::Micros, usage.micros)];
    let [requests, tokens, cost] = parts.map(|(measure, sum)| amount(lang, measure, sum));
    lang.say(key, &[("requests", &requests), ("tokens", &tokens), ("cost", &cost)])
}

fn left(lang: Lang, limit: &Limit, accounts: &[Account], zone: &Zone, now: Time) -> String {
    let same = |account: &&Account| (account.key.measure, account.key.period) == (limit.measure, limit.period);
    let account = accounts.iter().find(same);
    let taken = account.map_or(0, |account| account.spent.saturating_add(account.reserved));
    let allowance = allowance(lang, limit.measure, limit.period, limit.amount);
    let left = amount(lang, limit.measure, limit.amount.saturating_sub(taken).max(0));
    let reset = limit.period.window(zone, now).reset().map(|at| zone.day(at));
    let anew = anew(lang, reset.as_ref().map(|day| (day.as_str(), zone.name())));
    let key = format!("usage.left.{}", if limit.scope == Scope::Chat { "chat" } else { "user" });
    lang.say(&key, &[("limit", &allowance), ("left", &left), ("anew", &anew)])
}

/// How much of something, such as `12 tokens` or `$0.05`.
pub fn amount(lang: Lang, measure: Measure, amount: i64) -> String {
    let number = match measure {
        Measure::Micros => Micros(amount).to_string(),
        Measure::Tokens | Measure::Requests => amount.to_string(),
    };
    let one = if number == "1" { ".one" } else { "" };
    lang.say(&format!("amount.{}{one}", measure.as_str()), &[("number", &number)])
}

/// How much of something in which time, such as `12 tokens a day`.
pub fn allowance(lang: Lang, measure: Measure, period: Period, limit: i64) -> String {
    lang.say(&format!("allowance.{}", period.as_str()), &[("amount", &amount(lang, measure, limit))])
}

/// When it begins anew: a day, and in which zone.
pub fn anew(lang: Lang, at: Option<(&str, &str)>) -> String {
    match at {
        Some((day, zone)) => lang.say("limit.anew", &[("day", day), ("zone", zone)]),
        None => lang.say("limit.never", &[]),
    }
}
