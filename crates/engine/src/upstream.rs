//! Steadiness around calls to servers that we do not run.
//!
//! [`Turns`] are the tries of one question: whom to ask next, and how long to wait before it. [`Health`] is how a server
//! has been doing, with a circuit breaker; [`Budget`] bounds retries. Both are shared by all questions.
//!
//! What goes wrong is a [`Fault`], and what people read is its fixed sentence: never an address, a key or a body. Base
//! URLs come from the operator, so any address is allowed here, loopback included; URLs that users give have to pass a
//! guard before they come this far.

mod fault;
mod health;
mod turns;

use std::sync::Once;
use std::time::Duration;

use anyhow::Context;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// One server, and what is known of it.
    struct Upstream {
        settings: Settings,
        health: Arc<Health>,
        budget: Arc<Budget>,
    }

    /// One question to it.
    struct Call {
        turns: Turns<()>,
        turn: Option<Turn<()>>,
    }

    fn upstream(settings: Settings) -> Upstream {
        let (health, budget) = (Arc::new(Health::new(&settings)), Arc::new(Budget::new(settings.free_retries)));
        Upstream { settings, health, budget }
    }

    impl Upstream {
        fn call(&self) -> Call {
            let way = Way { what: (), stage: 0, health: self.health.clone(), room: Arc::default() };
            Call { turns: Turns::new(vec![way], self.settings.clone(), self.budget.clone()), turn: None }
        }
    }

    impl Call {
        fn admit(&mut self) -> Result<(), Fault> {
            self.turn = Some(self.turns.next().map_err(|trouble| trouble.fault)?);
            Ok(())
        }

        fn succeeded(&mut self) {
            self.turn.take().expect("admitted").succeeded();
        }

        fn failed(&mut self, trouble: &Trouble, shown: bool) -> Option<Duration> {
            self.turns.failed(self.turn.take().expect("admitted"), trouble, shown)
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
