//! Steadiness around calls to a server that we do not run.
//!
//! One [`Upstream`] belongs to one engine: its connections, its retry budget and its circuit breaker are shared by that
//! engine's calls and by nobody else's. A [`Call`] is one question, which may take several tries:
//!
//! ```text
//! let mut call = upstream.call();
//! loop {
//!     call.admit()?;                              // the breaker may say no
//!     match one_try(&mut call).await {
//!         Ok(answer) => { call.succeeded(); return Ok(answer) }
//!         Err(trouble) => match call.failed(&trouble, anything_shown) {
//!             Some(pause) => sleep(pause).await,  // worth another try
//!             None => return Err(trouble.into()),
//!         }
//!     }
//! }
//! ```
//!
//! What goes wrong is a [`Fault`], and what people read is its fixed sentence: never an address, a key or a body. Base
//! URLs come from the operator, so any address is allowed here, loopback included; URLs that users give have to pass a
//! guard before they come this far.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rand::RngExt;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url};
use tokio::time::Instant;

use crate::EngineError;

/// The longest response headers, in bytes.
const MAX_HEADERS: u32 = 64 << 10;
/// Over what time the share of retries is counted.
const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// Deadlines and patience. The defaults are for models on the other side of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For the connection, with TLS.
    pub connect: Duration,
    /// From the request to the first event of the answer.
    pub first_event: Duration,
    /// Between two events. Bytes that complete no event do not count.
    pub idle: Duration,
    /// For everything, with all tries and pauses.
    pub total: Duration,
    /// How often a question is asked at most.
    pub tries: u32,
    /// The pause before the second try; it doubles, and chance shortens it by up to a half.
    pub back_off: Duration,
    /// Whoever asks us to wait longer than this is not asked again.
    pub longest_pause: Duration,
    /// Retries in a minute that are always allowed; above it they may be a tenth of the calls.
    pub free_retries: u32,
    /// Failures in a row after which the upstream is left alone.
    pub breaker_failures: u32,
    /// How long it is left alone before one call may see whether it is back.
    pub breaker_rest: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            connect: Duration::from_secs(5),
            first_event: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
            tries: 3,
            back_off: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            free_retries: 6,
            breaker_failures: 5,
            breaker_rest: Duration::from_secs(30),
        }
    }
}

/// What can go wrong with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not accept our key.
    Auth,
    /// It wants to be asked less often.
    Limit,
    /// The account has nothing left to spend; asking again does not help.
    Spent,
    /// It is overloaded or out of order.
    Busy,
    /// It has failed so often that it is being left alone for a while.
    Resting,
    /// It did not answer in time, or fell silent.
    Timeout,
    Unreachable,
    /// The answer broke off.
    Cut,
    /// The answer cannot be read.
    Garbled,
    /// The answer is empty.
    Silent,
    /// A content filter ended the answer.
    Filtered,
    /// The conversation does not fit.
    TooLong,
    /// There is no such model, or no such path.
    NotFound,
    /// It refuses the request for another reason.
    Refused,
}

impl Fault {
    /// A stable name for programs.
    pub fn code(self) -> &'static str {
        match self {
            Fault::Auth => "upstream_auth",
            Fault::Limit | Fault::Spent => "upstream_limit",
            Fault::Busy | Fault::Resting => "upstream_busy",
            Fault::Timeout => "upstream_timeout",
            Fault::Unreachable => "upstream_unreachable",
            Fault::Cut => "upstream_cut",
            Fault::Garbled | Fault::Silent => "upstream_garbled",
            Fault::Filtered | Fault::TooLong | Fault::NotFound | Fault::Refused => "upstream_refused",
        }
    }

    /// A sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Fault::Auth => "The model's provider did not accept the key.",
            Fault::Limit => "The model's provider is being asked too often. Please try again in a moment.",
            Fault::Spent => "The account at the model's provider has no credit left.",
            Fault::Busy => "The model's provider is overloaded or out of order. Please try again later.",
            Fault::Resting => {
                "The model's provider has failed several times in a row. Please try again in half a minute."
            }
            Fault::Timeout => "The model took too long to answer.",
            Fault::Unreachable => "The model's provider cannot be reached.",
            Fault::Cut => "The connection to the model broke off before the answer was complete.",
            Fault::Garbled => "The model's provider sent something that cannot be read.",
            Fault::Silent => "The model finished without saying anything.",
            Fault::Filtered => "The model's provider held back the rest of the answer.",
            Fault::TooLong => "The conversation is too long for this model. A new dialog will help.",
            Fault::NotFound => "The model's provider does not know this model.",
            Fault::Refused => "The model's provider refused the request.",
        }
    }

    /// Whether the same request may succeed a moment later.
    fn is_passing(self) -> bool {
        matches!(self, Fault::Limit | Fault::Busy | Fault::Unreachable | Fault::Cut)
    }

    /// Whether it says that the upstream is ill. One that refuses a request is well.
    fn is_illness(self) -> bool {
        matches!(self, Fault::Busy | Fault::Timeout | Fault::Unreachable | Fault::Cut | Fault::Garbled)
    }

    /// Whether the upstream did any work for the request that someone might have to pay for.
    pub fn may_cost(self) -> bool {
        matches!(self, Fault::Timeout | Fault::Cut | Fault::Garbled | Fault::Silent | Fault::Filtered)
    }
}

impl From<Fault> for EngineError {
    fn from(fault: Fault) -> Self {
        EngineError::failed(fault.code(), fault.sentence())
    }
}

/// A fault, and what the upstream asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub fault: Fault,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Trouble { fault, retry_after: None }
    }
}

/// A server that we do not run, and how it has been doing.
#[derive(Debug)]
pub struct Upstream {
    client: Client,
    settings: Settings,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Health {
    breaker: Breaker,
    budget: Budget,
}

impl Upstream {
    /// `base` is below which everything is asked.
    pub fn new(base: &Url, settings: Settings) -> anyhow::Result<Upstream> {
        let client = guarded_client(&[base], |builder| {
            builder
                .connect_timeout(settings.connect)
                .pool_max_idle_per_host(16)
                .pool_idle_timeout(Duration::from_secs(60))
        })?;
        let health = Health {
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_rest),
            budget: Budget::new(settings.free_retries, Instant::now()),
        };
        Ok(Upstream { client, settings, health: Mutex::new(health) })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins a question. Its total deadline runs from now.
    pub fn call(&self) -> Call<'_> {
        let now = Instant::now();
        self.health().budget.count_call(now);
        Call { upstream: self, deadline: now + self.settings.total, tries: 0, admitted: None }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Whatever panicked while it held the lock left counters behind, not broken promises.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question to an upstream, which may take several tries.
///
/// Dropping it in the middle of a try, because someone asked to stop, says nothing about the upstream's health.
#[derive(Debug)]
pub struct Call<'a> {
    upstream: &'a Upstream,
    deadline: Instant,
    tries: u32,
    /// Since when a try is under way. The breaker waits for its outcome if it is the probe.
    admitted: Option<Instant>,
}

impl Call<'_> {
    /// Asks the breaker whether a try may begin.
    pub fn admit(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if !self.upstream.health().breaker.admit(now) {
            return Err(Fault::Resting);
        }
        self.admitted = Some(now);
        self.tries += 1;
        Ok(())
    }

    /// When the whole question has to be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sends a request and waits for the head of the response, `first_event` long at most. Any status is an answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let until = self.deadline.min(Instant::now() + self.upstream.settings.first_event);
        let response = tokio::time::timeout_at(until, request.send())
            .await
            .map_err(|_| Fault::Timeout)?
            .map_err(|error| fault_of(&error))?;
        let headers = response.headers();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if bytes > MAX_HEADERS as usize {
            return Err(Fault::Garbled);
        }
        Ok(response)
    }

    pub fn succeeded(&mut self) {
        if self.admitted.take().is_some() {
            self.upstream.health().breaker.succeeded();
        }
    }

    /// Takes note of a failed try. Answers how long to pause before the next one, or `None` if there should be none.
    ///
    /// `shown` is whether anybody has seen part of this answer: then there is no second one.
    pub fn failed(&mut self, trouble: &Trouble, shown: bool) -> Option<Duration> {
        let now = Instant::now();
        let settings = &self.upstream.settings;
        let mut health = self.upstream.health();
        if self.admitted.take().is_some() {
            if trouble.fault.is_illness() {
                health.breaker.failed(now);
            } else {
                health.breaker.succeeded();
            }
        }
        if shown || !trouble.fault.is_passing() || self.tries >= settings.tries {
            return None;
        }
        let pause = pause(settings, self.tries, trouble.retry_after);
        let asked_too_much = trouble.retry_after.is_some_and(|asked| asked > settings.longest_pause);
        if asked_too_much || now + pause >= self.deadline || !health.budget.take_retry(now) {
            return None;
        }
        Some(pause)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.admitted {
            self.upstream.health().breaker.abandoned(since);
        }
    }
}

/// Builds the only kind of client that leaves this house: it follows no redirects, knows no proxies and shares its
/// connections with nobody. Whoever asks other servers than models starts here too.
///
/// `addresses` are what it will call. A machine without CA certificates is no reason not to start: what needs none
/// works, and the rest cannot be reached.
pub fn guarded_client(
    addresses: &[&Url],
    configure: impl Fn(ClientBuilder) -> ClientBuilder,
) -> anyhow::Result<Client> {
    static RING: Once = Once::new();
    // Whoever installed a provider before us did so on purpose.
    RING.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let guarded = || {
        let builder = Client::builder()
            .user_agent(concat!("salon/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .http1_max_headers(100)
            .http2_max_header_list_size(MAX_HEADERS);
        configure(builder)
    };
    if addresses.iter().any(|url| url.scheme() == "https") {
        match guarded().build() {
            Ok(client) => return Ok(client),
            Err(error) => tracing::warn!(%error, "https addresses cannot be reached: are there CA certificates here?"),
        }
    }
    guarded().tls_certs_only([]).build().context("cannot set up the HTTP client")
}

/// Sorts the errors of the client. What they say is not passed on: it contains the address.
///
/// The client decodes nothing, so its decoding errors are bodies that broke off.
pub fn fault_of(error: &reqwest::Error) -> Fault {
    if error.is_connect() {
        Fault::Unreachable
    } else if error.is_timeout() {
        Fault::Timeout
    } else if error.is_builder() {
        Fault::Refused
    } else {
        Fault::Cut
    }
}

/// Sorts the statuses that are no success.
pub fn fault_of_status(status: StatusCode) -> Fault {
    match status.as_u16() {
        401 | 403 => Fault::Auth,
        402 => Fault::Spent,
        408 => Fault::Timeout,
        429 => Fault::Limit,
        404 => Fault::NotFound,
        413 => Fault::TooLong,
        500..=599 => Fault::Busy,
        _ => Fault::Refused,
    }
}

/// How long the upstream wants to be left alone. A date counts from the response's own `Date`, so our clock and theirs
/// need not agree.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    let asked = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = asked.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (asked, now) = (http_date(asked)?, http_date(text(DATE.as_str())?)?);
    Some(Duration::from_secs(asked.saturating_sub(now)))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` into seconds since 1970.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut time = words.next()?.splitn(3, ':').map(|part| part.parse::<u64>().ok().filter(|part| *part <= 60));
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    // Days since 1970 of the proleptic Gregorian calendar, counted in years that begin in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + in_year - 719_468;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// The pause after the `tries`th try: doubling, shortened by chance, and no shorter than the upstream asked for.
///
/// What chance takes from the one it adds to the other: everybody was told the same time, and not everybody should
/// come back at it.
fn pause(settings: &Settings, tries: u32, retry_after: Option<Duration>) -> Duration {
    let full = settings.back_off.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(settings.longest_pause);
    let jittered = full.mul_f64(rand::rng().random_range(0.5..=1.0));
    jittered.max(retry_after.map_or(Duration::ZERO, |asked| asked + (full - jittered)))
}

/// Leaves an upstream alone that fails again and again.
#[derive(Debug)]
struct Breaker {
    threshold: u32,
    rest: Duration,
    failures: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// One call is seeing whether the upstream is back.
    Probing {
        since: Instant,
    },
}

impl Breaker {
    fn new(threshold: u32, rest: Duration) -> Breaker {
        Breaker { threshold, rest, failures: 0, state: State::Closed }
    }

    fn admit(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } if now < until => false,
            State::Open { .. } => {
                self.state = State::Probing { since: now };
                true
            }
            State::Probing { .. } => false,
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.state = State::Closed;
    }

    fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= self.threshold || matches!(self.state, State::Probing { .. }) {
            self.state = State::Open { until: now + self.rest };
        }
    }

    /// A probe that was given up leaves the place to the next call.
    fn abandoned(&mut self, since: Instant) {
        if self.state == (State::Probing { since }) {
            self.state = State::Open { until: since };
        }
    }
}

/// Lets retries be a tenth of the calls of the last minute or so, and a few more: when everything fails, asking
/// everything three times makes it worse.
#[derive(Debug)]
struct Budget {
    free: u32,
    window: Instant,
    calls: u32,
    retries: u32,
}

impl Budget {
    fn new(free: u32, now: Instant) -> Budget {
        Budget { free, window: now, calls: 0, retries: 0 }
    }

    fn count_call(&mut self, now: Instant) {
        self.turn_over(now);
        self.calls += 1;
    }

    fn take_retry(&mut self, now: Instant) -> bool {
        self.turn_over(now);
        let allowed = self.retries < self.free + self.calls / 10;
        self.retries += u32::from(allowed);
        allowed
    }

    fn turn_over(&mut self, now: Instant) {
        if now.duration_since(self.window) >= BUDGET_WINDOW {
            *self = Budget::new(self.free, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn upstream(settings: Settings) -> Upstream {
        Upstream::new(&Url::parse("http://127.0.0.1:1").expect("a URL"), settings).expect("a client")
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&str, &str)| {
            let name: reqwest::header::HeaderName = name.parse().expect("a name");
            (name, value.parse().expect("a value"))
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn a_request_to_wait_is_read_in_all_its_forms() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (pairs, expected) in [
            (vec![], None),
            (vec![("retry-after", "7")], Some(7000)),
            (vec![("retry-after", " 1.5 ")], Some(1500)),
            (vec![("retry-after", "60"), ("retry-after-ms", "250")], Some(250)),
            (vec![("retry-after", "-1")], None),
            (vec![("retry-after", "NaN")], None),
            (vec![("retry-after", "1e99")], None),
            (vec![("retry-after", "soon")], None),
            (vec![date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], Some(30_000)),
            (vec![date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], Some(0)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None),
            (vec![date, ("retry-after", "Sun, 99 Nov 1994 08:50:07 GMT")], None),
        ] {
            let asked = retry_after(&headers(&pairs)).map(|pause| pause.as_millis());
            assert_eq!(asked, expected, "{pairs:?}");
        }
    }

    #[test]
    fn dates_are_seconds_since_1970() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:60 GMT"), Some(1_709_251_200));
        assert_eq!(http_date("Sunday, 06-Nov-94 08:49:37 GMT"), None);
    }

    #[test]
    fn every_fault_has_a_stable_code_and_a_sentence_without_details() {
        for (fault, code) in [
            (Fault::Auth, "upstream_auth"),
            (Fault::Limit, "upstream_limit"),
            (Fault::Spent, "upstream_limit"),
            (Fault::Busy, "upstream_busy"),
            (Fault::Resting, "upstream_busy"),
            (Fault::Timeout, "upstream_timeout"),
            (Fault::Unreachable, "upstream_unreachable"),
            (Fault::Cut, "upstream_cut"),
            (Fault::Garbled, "upstream_garbled"),
            (Fault::Silent, "upstream_garbled"),
            (Fault::Filtered, "upstream_refused"),
            (Fault::TooLong, "upstream_refused"),
            (Fault::NotFound, "upstream_refused"),
            (Fault::Refused, "upstream_refused"),
        ] {
            assert_eq!(fault.code(), code);
            assert!(fault.sentence().ends_with('.') && fault.sentence().len() < 100, "{fault:?}");
        }
    }

    #[test]
    fn statuses_are_sorted() {
        for (status, fault) in [
            (400, Fault::Refused),
            (401, Fault::Auth),
            (403, Fault::Auth),
            (404, Fault::NotFound),
            (418, Fault::Refused),
            (429, Fault::Limit),
            (500, Fault::Busy),
            (502, Fault::Busy),
            (503, Fault::Busy),
            (504, Fault::Busy),
            (529, Fault::Busy),
            (302, Fault::Refused),
        ] {
            assert_eq!(fault_of_status(StatusCode::from_u16(status).expect("a status")), fault, "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_fault_is_worth_three_tries_with_growing_pauses() {
        let upstream = upstream(Settings::default());
        let mut call = upstream.call();
        call.admit().expect("closed");
        let first = call.failed(&Fault::Busy.into(), false).expect("a second try");
        call.admit().expect("closed");
        let second = call.failed(&Fault::Busy.into(), false).expect("a third try");
        call.admit().expect("closed");
        assert_eq!(call.failed(&Fault::Busy.into(), false), None);
        assert!((Duration::from_millis(250)..=Duration::from_millis(500)).contains(&first), "{first:?}");
        assert!((Duration::from_millis(500)..=SECOND).contains(&second), "{second:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_asked_again_once_something_was_shown_or_when_it_would_not_help() {
        let upstream = upstream(Settings::default());
        for (fault, shown) in [
            (Fault::Cut, true),
            (Fault::Busy, true),
            (Fault::Auth, false),
            (Fault::Refused, false),
            (Fault::Garbled, false),
            (Fault::Timeout, false),
            (Fault::Spent, false),
        ] {
            let mut call = upstream.call();
            call.admit().expect("closed");
            assert_eq!(call.failed(&fault.into(), shown), None, "{fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_to_wait_is_obeyed_or_the_call_given_up() {
        let upstream = upstream(Settings::default());
        let asks = |seconds| Trouble { fault: Fault::Limit, retry_after: Some(SECOND * seconds) };
        let mut call = upstream.call();
        call.admit().expect("closed");
        let pause = call.failed(&asks(7), false).expect("a second try");
        assert!((SECOND * 7..=SECOND * 8).contains(&pause), "{pause:?}");
        call.admit().expect("closed");
        assert_eq!(call.failed(&asks(21), false), None, "longer than anyone wants to wait");
        let hasty = super::tests::upstream(Settings { total: SECOND * 5, ..Settings::default() });
        let mut call = hasty.call();
        call.admit().expect("closed");
        assert_eq!(call.failed(&asks(7), false), None, "later than the deadline");
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_tenth_of_the_calls_and_a_few_more() {
        let settings = Settings { breaker_failures: u32::MAX, ..Settings::default() };
        let upstream = upstream(settings);
        let mut retried = 0;
        for _ in 0..100 {
            let mut call = upstream.call();
            call.admit().expect("closed");
            while call.failed(&Fault::Busy.into(), false).is_some() {
                retried += 1;
                call.admit().expect("closed");
            }
        }
        assert_eq!(retried, 16, "six are free, ten are a tenth of a hundred");
        tokio::time::advance(BUDGET_WINDOW).await;
        let mut call = upstream.call();
        call.admit().expect("closed");
        assert!(call.failed(&Fault::Busy.into(), false).is_some(), "a new minute");
    }

    fn fail(upstream: &Upstream, fault: Fault) {
        let mut call = upstream.call();
        call.admit().expect("admitted");
        call.failed(&fault.into(), true);
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_after_five_failures_in_a_row_and_lets_one_probe_through() {
        let upstream = upstream(Settings::default());
        for _ in 0..4 {
            fail(&upstream, Fault::Busy);
        }
        let mut well = upstream.call();
        well.admit().expect("four are not five");
        well.succeeded();
        for _ in 0..5 {
            fail(&upstream, Fault::Unreachable);
        }
        assert_eq!(upstream.call().admit(), Err(Fault::Resting));
        tokio::time::advance(SECOND * 30).await;
        let mut probe = upstream.call();
        probe.admit().expect("the probe");
        assert_eq!(upstream.call().admit(), Err(Fault::Resting), "one at a time");
        probe.failed(&Fault::Timeout.into(), false);
        assert_eq!(upstream.call().admit(), Err(Fault::Resting), "still ill");
        tokio::time::advance(SECOND * 30).await;
        let mut probe = upstream.call();
        probe.admit().expect("the next probe");
        probe.succeeded();
        upstream.call().admit().expect("well again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_stopped_leaves_its_place_to_the_next_call() {
        let upstream = upstream(Settings::default());
        for _ in 0..5 {
            fail(&upstream, Fault::Busy);
        }
        tokio::time::advance(SECOND * 30).await;
        let mut probe = upstream.call();
        probe.admit().expect("the probe");
        drop(probe);
        upstream.call().admit().expect("the next one may see");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_do_not_open_the_breaker() {
        let upstream = upstream(Settings::default());
        for _ in 0..20 {
            fail(&upstream, Fault::Refused);
            fail(&upstream, Fault::Limit);
            fail(&upstream, Fault::Auth);
        }
        upstream.call().admit().expect("it is well, it only says no");
    }
}
