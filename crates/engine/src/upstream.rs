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

mod fault;
mod health;
mod turns;

use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, Url};
use tokio::time::Instant;

pub use fault::{Fault, Trouble, fault_of_status, retry_after};
pub use health::{Budget, Condition, Health, Try, View};
pub use turns::{Room, Seat, Turn, Turns, Way};

/// The longest response headers, in bytes.
pub(crate) const MAX_HEADERS: u32 = 64 << 10;

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

/// A server that we do not run, and how it has been doing.
#[derive(Debug)]
pub struct Upstream {
    client: Client,
    settings: Settings,
    health: Arc<Health>,
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
        let (health, budget) = (Arc::new(Health::new(&settings)), Budget::new(settings.free_retries));
        Ok(Upstream { client, settings, health, budget })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins a question. Its total deadline runs from now.
    pub fn call(&self) -> Call<'_> {
        self.budget.count_call();
        Call { upstream: self, deadline: Instant::now() + self.settings.total, tries: 0, under_way: None }
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
    under_way: Option<Try>,
}

impl Call<'_> {
    /// Asks the breaker whether a try may begin.
    pub fn admit(&mut self) -> Result<(), Fault> {
        self.under_way = Some(self.upstream.health.admit()?);
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
        if let Some(mut under_way) = self.under_way.take() {
            under_way.succeeded();
        }
    }

    /// Takes note of a failed try. Answers how long to pause before the next one, or `None` if there should be none.
    ///
    /// `shown` is whether anybody has seen part of this answer: then there is no second one.
    pub fn failed(&mut self, trouble: &Trouble, shown: bool) -> Option<Duration> {
        if let Some(mut under_way) = self.under_way.take() {
            under_way.failed(trouble.fault);
        }
        let upstream = self.upstream;
        let pause = || health::pause_before(self.tries, trouble, &upstream.settings, self.deadline, &upstream.budget);
        (!shown).then(pause).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn upstream(settings: Settings) -> Upstream {
        Upstream::new(&Url::parse("http://127.0.0.1:1").expect("a URL"), settings).expect("a client")
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
        tokio::time::advance(health::BUDGET_WINDOW).await;
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
