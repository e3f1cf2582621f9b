//! Limits: sentences about the ledger, and the arithmetic that decides whether a call still fits.
//!
//! "Alice may spend twelve dollars a month" is a [`Limit`]: whose use it is about ([`Scope`]), what is counted
//! ([`Measure`]), over which [`Period`], how much, and what happens beyond it ([`Policy`]). Periods are those of the
//! organisation's time zone, so that a day ends when people go home and not when Greenwich does.

use std::collections::HashMap;
use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::id::{LimitId, OrgId};
use crate::money::Micros;
use crate::time::Time;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Money, in millionths of a dollar.
    Micros,
    /// Tokens of every class, read and written.
    Tokens,
    Requests,
}

impl Measure {
    pub const ALL: [Measure; 3] = [Measure::Micros, Measure::Tokens, Measure::Requests];

    pub fn as_str(self) -> &'static str {
        match self {
            Measure::Micros => "micros",
            Measure::Tokens => "tokens",
            Measure::Requests => "requests",
        }
    }

    pub fn parse(text: &str) -> Option<Measure> {
        Measure::ALL.into_iter().find(|measure| measure.as_str() == text)
    }

    /// Reads an amount as people write it: dollars such as `12.50`, or a whole number of the others.
    pub fn parse_amount(self, text: &str) -> Option<i64> {
        match self {
            Measure::Micros => Micros::parse(text).map(|micros| micros.0),
            Measure::Tokens | Measure::Requests => text.parse().ok(),
        }
    }
}

/// Something of each measure: what a call is expected to take, or took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    pub micros: i64,
    pub tokens: i64,
    pub requests: i64,
}

impl Amounts {
    pub fn of(&self, measure: Measure) -> i64 {
        match measure {
            Measure::Micros => self.micros,
            Measure::Tokens => self.tokens,
            Measure::Requests => self.requests,
        }
    }

    /// Whether it is no more than the other, by whatever measure.
    pub fn fits_in(&self, other: &Amounts) -> bool {
        Measure::ALL.into_iter().all(|measure| self.of(measure) <= other.of(measure))
    }
}

impl std::ops::Add for Amounts {
    type Output = Amounts;

    fn add(self, other: Amounts) -> Amounts {
        Amounts {
            micros: self.micros.saturating_add(other.micros),
            tokens: self.tokens.saturating_add(other.tokens),
            requests: self.requests.saturating_add(other.requests),
        }
    }
}

impl std::iter::Sum for Amounts {
    fn sum<I: Iterator<Item = Amounts>>(all: I) -> Amounts {
        all.fold(Amounts::default(), std::ops::Add::add)
    }
}

/// Whose use a limit is about. The order is the one in which limits are asked, the narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One run of an agent or a panel.
    Run,
    Key,
    User,
    /// One chat, of however many people.
    Chat,
    /// The organisation's pool.
    Org,
}

impl Scope {
    pub const ALL: [Scope; 5] = [Scope::Run, Scope::Key, Scope::User, Scope::Chat, Scope::Org];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Run => "run",
            Scope::Key => "key",
            Scope::User => "user",
            Scope::Chat => "chat",
            Scope::Org => "org",
        }
    }

    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// What happens to a call that would go beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policy {
    /// It is made all the same, and people are told.
    Warn,
    /// It waits until an admin has said yes.
    Ask,
    /// It is refused until the period ends: come back later (429).
    Block,
    /// It is refused until somebody raises the limit: coming back does not help (402).
    Hard,
}

impl Policy {
    pub const ALL: [Policy; 4] = [Policy::Warn, Policy::Ask, Policy::Block, Policy::Hard];

    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Warn => "warn",
            Policy::Ask => "ask",
            Policy::Block => "block",
            Policy::Hard => "hard",
        }
    }

    pub fn parse(text: &str) -> Option<Policy> {
        Policy::ALL.into_iter().find(|policy| policy.as_str() == text)
    }

    /// Whether an account of such a limit has a cap that the database holds as well.
    pub fn caps(self) -> bool {
        self != Policy::Warn
    }
}

/// How long is counted before it starts from nothing again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    Day,
    /// From Monday to Sunday.
    Week,
    Month,
    /// For ever.
    Total,
}

impl Period {
    pub const ALL: [Period; 4] = [Period::Day, Period::Week, Period::Month, Period::Total];

    pub fn as_str(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Total => "total",
        }
    }

    pub fn parse(text: &str) -> Option<Period> {
        Period::ALL.into_iter().find(|period| period.as_str() == text)
    }

    /// The window that `at` lies in. Windows of a period follow each other without gap or overlap, whatever the clocks
    /// of the zone do.
    pub fn window(self, zone: &Zone, at: Time) -> Window {
        let Some(date) = zone.date(at) else { return Window::EVER };
        let bounds = match self {
            Period::Total => None,
            Period::Day => date.tomorrow().ok().map(|next| (date, next)),
            Period::Week => {
                let since = i64::from(date.weekday().since(Weekday::Monday));
                let monday = date.checked_sub(since.days());
                monday.and_then(|monday| Ok((monday, monday.checked_add(7.days())?))).ok()
            }
            Period::Month => {
                let first = date.first_of_month();
                first.checked_add(1.month()).ok().map(|next| (first, next))
            }
        };
        let window =
            bounds.and_then(|(first, next)| Some(Window { start: zone.start_of(first)?, end: zone.start_of(next)? }));
        window.unwrap_or(Window::EVER)
    }
}

/// A stretch of time: from `start`, up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Window {
    pub start: Time,
    pub end: Time,
}

impl Window {
    pub const EVER: Window = Window { start: Time(i64::MIN), end: Time(i64::MAX) };

    pub fn contains(&self, at: Time) -> bool {
        self.start <= at && at < self.end
    }

    /// When it begins anew; `None` if never.
    pub fn reset(&self) -> Option<Time> {
        (self.end != Window::EVER.end).then_some(self.end)
    }
}

/// A time zone of the IANA list, which is part of the program: what the machine has in `/usr/share` does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// The zone of this name, such as `Asia/Seoul`.
    pub fn find(name: &str) -> Option<Zone> {
        // Names that mean "as this machine is set" would differ from process to process.
        if name == "Etc/Unknown" || name == "local" {
            return None;
        }
        TimeZone::get(name).ok().map(Zone)
    }

    /// Its name in the list.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The day that `at` lies in, as `2026-02-01`.
    pub fn day(&self, at: Time) -> String {
        self.date(at).map(|date| date.to_string()).unwrap_or_default()
    }

    /// The moment on the clocks here, as `2026-02-01 14:05`.
    pub fn stamp(&self, at: Time) -> String {
        let Ok(timestamp) = jiff::Timestamp::from_millisecond(at.0) else { return String::new() };
        let here = timestamp.to_zoned(self.0.clone());
        format!("{} {:02}:{:02}", here.date(), here.hour(), here.minute())
    }

    /// When the day written as `2026-02-01` begins here.
    pub fn midnight(&self, day: &str) -> Option<Time> {
        // Of a moment that was written the hour would be passed over in silence.
        let date: Date = day.parse().ok().filter(|date: &Date| date.to_string() == day)?;
        self.start_of(date)
    }

    /// A day, which begins at midnight here, or a while from `now`, such as `12h`, `30d` or `8w`.
    pub fn moment(&self, text: &str, now: Time) -> Option<Time> {
        if let Some(at) = self.midnight(text) {
            return Some(at);
        }
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let hours = match unit {
            "h" => 1,
            "d" => 24,
            "w" => 7 * 24,
            _ => return None,
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let count = digits.parse::<u32>().ok().filter(|_| plain).filter(|count| (1..=100_000).contains(count))?;
        Some(now + Duration::from_secs(u64::from(count) * hours * 3600))
    }

    fn date(&self, at: Time) -> Option<Date> {
        let timestamp = jiff::Timestamp::from_millisecond(at.0).ok()?;
        Some(timestamp.to_zoned(self.0.clone()).date())
    }

    /// The first instant of a day, which is not midnight where clocks are moved at midnight.
    fn start_of(&self, date: Date) -> Option<Time> {
        let zoned = date.to_zoned(self.0.clone()).ok()?.start_of_day().ok()?;
        Some(Time(zoned.timestamp().as_millisecond()))
    }
}

/// A sentence about the ledger: how much of something may be used in a period, by whom, and what happens beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub id: LimitId,
    pub org: OrgId,
    pub scope: Scope,
    /// Whom it is about: the key, user, chat or run. `None` is each of them by itself, and for [`Scope::Org`] the pool.
    pub subject: Option<String>,
    pub measure: Measure,
    pub period: Period,
    pub amount: i64,
    pub policy: Policy,
    /// Shares of the amount, in percent, at which people are told.
    pub thresholds: Vec<i64>,
}

impl Limit {
    /// What is wrong with it, for who enters it.
    pub fn fault(&self) -> Option<&'static str> {
        match &self.subject {
            Some(_) if self.scope == Scope::Org => Some("the pool of an organisation has no subject"),
            Some(subject) if subject.is_empty() || subject.chars().count() > 256 => {
                Some("the subject has 1 to 256 characters")
            }
            // Any other would hold for no chat that there is.
            Some(subject) if self.scope == Scope::Chat && !is_chat(subject) => {
                Some("a chat is named by its bot and its number in Telegram, such as parrot:1001")
            }
            _ => fault_of(self.amount, &self.thresholds),
        }
    }
}

/// Whether it names a chat as the ledger does.
fn is_chat(subject: &str) -> bool {
    subject.rsplit_once(':').is_some_and(|(bot, chat)| !bot.is_empty() && chat.parse::<i64>().is_ok())
}

/// What is wrong with the terms of a limit.
pub fn fault_of(amount: i64, thresholds: &[i64]) -> Option<&'static str> {
    if amount < 0 {
        Some("the amount is negative")
    } else if thresholds.len() > 10 || thresholds.iter().any(|percent| !(1..=1_000).contains(percent)) {
        Some("there are at most ten thresholds, each from 1 to 1000 percent")
    } else {
        None
    }
}

/// The limits of every organisation, as they were at one revision.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub revision: i64,
    orgs: HashMap<OrgId, OrgLimits>,
}

#[derive(Clone, Debug, Default)]
struct OrgLimits {
    each: Vec<Limit>,
    own: HashMap<(Scope, String), Vec<Limit>>,
}

impl Limits {
    /// `removed` are organisations that once had limits: accounts that they left are still kept.
    pub fn new(
        revision: i64,
        limits: impl IntoIterator<Item = Limit>,
        removed: impl IntoIterator<Item = OrgId>,
    ) -> Self {
        let mut orgs: HashMap<OrgId, OrgLimits> = HashMap::new();
        for limit in limits {
            let org = orgs.entry(limit.org.clone()).or_default();
            match &limit.subject {
                Some(subject) if limit.scope != Scope::Org => {
                    org.own.entry((limit.scope, subject.clone())).or_default().push(limit);
                }
                _ => org.each.push(limit),
            }
        }
        for org in removed {
            orgs.entry(org).or_default();
        }
        Limits { revision, orgs }
    }

    /// Whether this organisation has, or ever had, a limit. Of one that never had any there are no accounts.
    pub fn know(&self, org: &OrgId) -> bool {
        self.orgs.contains_key(org)
    }

    /// The limits on one subject. A limit that names it takes the place of those for each, where both speak of the same
    /// measure and period: "everyone five dollars, alice twenty".
    pub fn on<'a>(&'a self, org: &OrgId, scope: Scope, subject: &str) -> impl Iterator<Item = &'a Limit> + use<'a> {
        let limits = self.orgs.get(org);
        let own = limits.and_then(|limits| limits.own.get(&(scope, subject.to_owned()))).map_or(&[][..], Vec::as_slice);
        let each = limits.map_or(&[][..], |limits| limits.each.as_slice());
        let replaced = move |limit: &&Limit| {
            own.iter().any(|other| (other.measure, other.period) == (limit.measure, limit.period))
        };
        own.iter().chain(each.iter().filter(move |limit| limit.scope == scope && !replaced(limit)))
    }
}

/// What is taken of an amount: promised to calls that are under way, and used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub reserved: i64,
    pub spent: i64,
}

impl Balance {
    pub fn taken(&self) -> i64 {
        self.reserved.saturating_add(self.spent)
    }

    /// Whether `more` still fits into `amount`.
    pub fn has_room(&self, more: i64, amount: i64) -> bool {
        self.taken().saturating_add(more) <= amount
    }
}

/// What the limits that apply say about a call, the strictest word of them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<L> {
    Pass,
    /// An admin has to agree, because of this limit.
    Ask(L),
    /// Refused by a limit of the policy `Block` or `Hard`.
    Refuse(L),
}

/// Judges one call. `asked` are the limits that it does not fit into, with their policies, the narrowest scope first. An
/// approved call has been asked for already. Of several refusals the one counts that lasts longest: a hard one before
/// one that ends with its window.
pub fn judge<L: Copy>(crossed: impl IntoIterator<Item = (L, Policy, Window)>, approved: bool) -> Verdict<L> {
    let mut verdict = Verdict::Pass;
    let mut strictest = None;
    for (limit, policy, window) in crossed {
        let weight = (policy, window.end);
        match policy {
            Policy::Warn => continue,
            Policy::Ask if approved => continue,
            Policy::Ask | Policy::Block | Policy::Hard if strictest.is_some_and(|other| other >= weight) => continue,
            Policy::Ask => verdict = Verdict::Ask(limit),
            Policy::Block | Policy::Hard => verdict = Verdict::Refuse(limit),
        }
        strictest = Some(weight);
    }
    verdict
}

/// Shares of an amount, in percent, at which people are told.
pub const THRESHOLDS: [i64; 3] = [80, 90, 100];

/// The thresholds that are crossed when `before` becomes `after`, in the order given. An amount of zero is crossed by
/// the first use.
pub fn crossed(before: i64, after: i64, amount: i64, thresholds: &[i64]) -> Vec<i64> {
    let reached = |taken: i64, percent: i64| {
        taken > 0 && i128::from(taken) * 100 >= i128::from(amount.max(0)) * i128::from(percent)
    };
    thresholds.iter().copied().filter(|percent| !reached(before, *percent) && reached(after, *percent)).collect()
}

/// How full an amount is, in whole percent, rounded down; more than 100 if it was exceeded.
pub fn percent(taken: i64, amount: i64) -> i64 {
    if amount <= 0 {
        return if taken > 0 { 100 } else { 0 };
    }
    i64::try_from(i128::from(taken.max(0)) * 100 / i128::from(amount)).unwrap_or(i64::MAX)
}

/// How full an amount is, at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    Green,
    /// From the first threshold on.
    Yellow,
    /// At the amount and beyond.
    Red,
}

impl Level {
    pub fn of(taken: i64, amount: i64, thresholds: &[i64]) -> Level {
        let percent = percent(taken, amount);
        match thresholds.iter().copied().min().unwrap_or(THRESHOLDS[0]) {
            _ if percent >= 100 => Level::Red,
            first if percent >= first => Level::Yellow,
            _ => Level::Green,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Green => "green",
            Level::Yellow => "yellow",
            Level::Red => "red",
        }
    }
}

/// What a client is told of a limit in the headers of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    pub limit: i64,
    pub remaining: i64,
    /// Whole seconds until it begins anew, rounded up; `None` if it never does.
    pub reset_secs: Option<i64>,
}

impl Headroom {
    pub fn new(amount: i64, balance: Balance, window: Window, now: Time) -> Headroom {
        let remaining = amount.saturating_sub(balance.taken()).max(0);
        Headroom { limit: amount, remaining, reset_secs: window.reset().map(|end| Headroom::secs(end, now)) }
    }

    /// Whole seconds until then, rounded up, and at least one.
    pub fn secs(end: Time, now: Time) -> i64 {
        i64::try_from(end.since(now).as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> Zone {
        Zone::find(name).expect("a zone")
    }

    fn at(text: &str) -> Time {
        Time(text.parse::<jiff::Timestamp>().expect("a time").as_millisecond())
    }

    fn check(period: Period, name: &str, now: &str, start: &str, end: &str) {
        let window = period.window(&zone(name), at(now));
        assert_eq!((window.start, window.end), (at(start), at(end)), "{period:?} of {now} in {name}");
    }

    #[test]
    fn a_moment_is_a_day_or_a_while_from_now() {
        let (now, zone) = (Time(1_769_947_200_000), zone("Asia/Seoul"));
        let hours = |text: &str| zone.moment(text, now).map(|at| at.since(now).as_secs() / 3600);
        assert_eq!(hours("12h"), Some(12));
        assert_eq!(hours("30d"), Some(720));
        assert_eq!(hours("2w"), Some(336));
        // Midnight in Seoul is three in the afternoon of the day before.
        assert_eq!(hours("2026-02-03"), Some(27));
        for bad in ["", "d", "0d", "-1d", "+1d", "1y", "2026-02-30", "soon", "é"] {
            assert_eq!(hours(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_amount_is_in_dollars_or_a_whole_number() {
        assert_eq!(Measure::Micros.parse_amount("12.50"), Some(12_500_000));
        assert_eq!(Measure::Tokens.parse_amount("12"), Some(12));
        assert_eq!(Measure::Requests.parse_amount("1.5"), None);
    }

    #[test]
    fn a_day_ends_at_the_midnight_of_the_place() {
        check(Period::Day, "UTC", "2026-02-01T15:00:00Z", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z");
        check(Period::Day, "Asia/Seoul", "2026-02-01T15:00:00Z", "2026-02-01T15:00:00Z", "2026-02-02T15:00:00Z");
        check(Period::Day, "Asia/Seoul", "2026-02-01T14:59:59.999Z", "2026-01-31T15:00:00Z", "2026-02-01T15:00:00Z");
    }

    #[test]
    fn days_of_twenty_three_and_twenty_five_hours_are_days() {
        let berlin = "Europe/Berlin";
        check(Period::Day, berlin, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check(Period::Day, berlin, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    }

    #[test]
    fn a_day_without_a_midnight_begins_when_it_begins() {
        // In Beirut clocks go from 24:00 to 01:00 in March.
        let beirut = zone("Asia/Beirut");
        let window = Period::Day.window(&beirut, at("2026-03-29T12:00:00Z"));
        assert_eq!(window.start, at("2026-03-28T22:00:00Z"));
        assert_eq!(window.end, at("2026-03-29T21:00:00Z"));
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        check(Period::Week, "UTC", "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z");
        check(
            Period::Month,
            "America/New_York",
            "2026-11-21T12:00:00Z",
            "2026-11-01T04:00:00Z",
            "2026-12-01T05:00:00Z",
        );
        check(Period::Month, "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    }

    #[test]
    fn the_total_never_begins_anew() {
        let window = Period::Total.window(&Zone::utc(), Time(0));
        assert_eq!(window, Window::EVER);
        assert_eq!(window.reset(), None);
    }

    fn limit(id: &str, org: &str, scope: Scope, subject: Option<&str>, measure: Measure) -> Limit {
        Limit {
            id: LimitId::new(id),
            org: OrgId::new(org),
            scope,
            subject: subject.map(str::to_owned),
            measure,
            period: Period::Month,
            amount: 5,
            policy: Policy::Block,
            thresholds: THRESHOLDS.to_vec(),
        }
    }

    #[test]
    fn a_limit_on_a_chat_names_it_as_the_ledger_does() {
        let fault = |subject: &str| limit("one", "birds", Scope::Chat, Some(subject), Measure::Micros).fault();
        for chat in ["parrot:1001", "parrot:-1001234567890", "big:parrot:7"] {
            assert_eq!(fault(chat), None, "{chat}");
        }
        for other in ["01M8K5675NX1V6GXGY5JPYWXR7", "parrot", "parrot:", ":1001", "parrot:home"] {
            assert!(fault(other).is_some_and(|why| why.contains("parrot:1001")), "{other}");
        }
    }

    #[test]
    fn a_limit_that_names_somebody_takes_the_place_of_the_one_for_each() {
        let limits = Limits::new(
            1,
            [
                limit("each", "birds", Scope::User, None, Measure::Micros),
                limit("calls", "birds", Scope::User, None, Measure::Requests),
                limit("alice", "birds", Scope::User, Some("alice"), Measure::Micros),
                limit("pool", "birds", Scope::Org, None, Measure::Micros),
                limit("fish", "fish", Scope::User, None, Measure::Micros),
            ],
            [OrgId::new("gone")],
        );
        let on = |org: &str, scope, subject: &str| {
            limits.on(&OrgId::new(org), scope, subject).map(|limit| limit.id.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(on("birds", Scope::User, "alice"), ["alice", "calls"]);
        assert_eq!(on("birds", Scope::User, "bob"), ["each", "calls"]);
        assert_eq!(on("birds", Scope::Org, "birds"), ["pool"]);
        assert_eq!(on("birds", Scope::Key, "alice"), [""; 0]);
        assert_eq!(on("fish", Scope::User, "alice"), ["fish"]);
        let known = ["birds", "fish", "gone", "new"].map(|org| limits.know(&OrgId::new(org)));
        assert_eq!(known, [true, true, true, false]);
    }

    #[test]
    fn a_zone_has_a_name_of_the_list() {
        for name in ["", "Mars/Olympus", "local", "Etc/Unknown", "../etc/passwd", "+09:00"] {
            assert_eq!(Zone::find(name), None, "{name}");
        }
        assert!(Zone::find("Europe/Moscow").is_some());
    }

    #[test]
    fn days_are_named_and_found_again() {
        let seoul = zone("Asia/Seoul");
        assert_eq!(seoul.day(at("2026-02-01T15:00:00Z")), "2026-02-02");
        assert_eq!(seoul.midnight("2026-02-02"), Some(at("2026-02-01T15:00:00Z")));
        for bad in ["2026-02-30", "20260202", "2026-02-02T18:00", "2026-02-02 18:00:00+09:00"] {
            assert_eq!(seoul.midnight(bad), None, "{bad}");
        }
    }

    #[test]
    fn words_are_read_again_as_they_are_written() {
        assert!(Measure::ALL.into_iter().all(|word| Measure::parse(word.as_str()) == Some(word)));
        assert!(Scope::ALL.into_iter().all(|word| Scope::parse(word.as_str()) == Some(word)));
        assert!(Policy::ALL.into_iter().all(|word| Policy::parse(word.as_str()) == Some(word)));
        assert!(Period::ALL.into_iter().all(|word| Period::parse(word.as_str()) == Some(word)));
        assert_eq!(Scope::parse("Org"), None);
    }

    fn until(end: i64) -> Window {
        Window { start: Time(0), end: Time(end) }
    }

    #[test]
    fn the_strictest_word_counts() {
        let words = [
            ("warn", Policy::Warn, until(9)),
            ("ask", Policy::Ask, until(9)),
            ("day", Policy::Block, until(1)),
            ("month", Policy::Block, until(5)),
        ];
        assert_eq!(judge(words, false), Verdict::Refuse("month"));
        assert_eq!(judge(words[..2].iter().copied(), false), Verdict::Ask("ask"));
        assert_eq!(judge(words[..2].iter().copied(), true), Verdict::Pass);
        assert_eq!(judge(words[..1].iter().copied(), false), Verdict::Pass);
        assert_eq!(judge([words[3], ("hard", Policy::Hard, until(1))], true), Verdict::Refuse("hard"));
    }

    #[test]
    fn a_threshold_is_crossed_once() {
        assert_eq!(crossed(0, 79, 100, &THRESHOLDS), [0; 0]);
        assert_eq!(crossed(79, 95, 100, &THRESHOLDS), [80, 90]);
        assert_eq!(crossed(95, 95, 100, &THRESHOLDS), [0; 0]);
        assert_eq!(crossed(0, 1, 0, &THRESHOLDS), [80, 90, 100]);
        assert_eq!(crossed(0, i64::MAX, i64::MAX, &[100]), [100]);
    }

    #[test]
    fn levels_are_green_until_the_first_threshold() {
        let level = |taken| Level::of(taken, 1_000, &[90, 80]);
        assert_eq!(
            (level(799), level(800), level(999), level(1_000)),
            (Level::Green, Level::Yellow, Level::Yellow, Level::Red)
        );
        assert_eq!(Level::of(0, 0, &[]), Level::Green);
        assert_eq!(Level::of(1, 0, &[]), Level::Red);
    }

    #[test]
    fn headers_say_what_is_left_and_when_it_is_more() {
        let room = Headroom::new(100, Balance { reserved: 30, spent: 50 }, until(2_500), Time(1_000));
        assert_eq!(room, Headroom { limit: 100, remaining: 20, reset_secs: Some(2) });
        let room = Headroom::new(100, Balance { reserved: 0, spent: 150 }, Window::EVER, Time(1_000));
        assert_eq!((room.remaining, room.reset_secs), (0, None));
    }

    proptest! {
        #[test]
        fn windows_follow_each_other_without_gap_or_overlap(
            ms in 0_i64..4_102_444_800_000,
            name in prop::sample::select(vec![
                "UTC", "Asia/Seoul", "Europe/Moscow", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Beirut",
                "America/St_Johns", "Africa/Cairo", "Pacific/Apia", "Asia/Kathmandu",
            ]),
            period in prop::sample::select(vec![Period::Day, Period::Week, Period::Month]),
        ) {
            let zone = zone(name);
            let window = period.window(&zone, Time(ms));
            prop_assert!(window.contains(Time(ms)));
            prop_assert_eq!(period.window(&zone, window.start), window);
            prop_assert_eq!(period.window(&zone, Time(window.end.0 - 1)), window);
            prop_assert_eq!(period.window(&zone, window.end).start, window.end);
        }

        #[test]
        fn what_has_room_is_never_over(taken in 0_i64..1_000, more in 0_i64..1_000, amount in 0_i64..1_000) {
            let balance = Balance { reserved: taken / 2, spent: taken - taken / 2 };
            prop_assert_eq!(balance.has_room(more, amount), taken + more <= amount);
        }
    }
}
