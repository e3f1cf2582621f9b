//! What a call is charged, however it ended.

use std::sync::Arc;

use futures_util::FutureExt;
use salon_core::{Micros, Tokens};
use salon_engine::upstream::{Fault, Turn};
use salon_engine::wire::usage::judge;
use salon_engine::wire::{Head, Tapped};

use crate::catalog::Destination;
use crate::ledger::{NotReserved, Reserved, Spent};
use crate::metrics::Metrics;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    Broken(Fault),
    /// The client went away.
    Abandoned,
}

/// An answer under way, which will be paid for.
pub(super) struct Bill {
    pub reserved: Reserved,
    pub turn: Turn<Arc<Destination>>,
    /// By our own count, likely: an upstream's claim is held against it.
    pub input_likely: i64,
    /// What was set aside.
    pub most: Tokens,
    pub metrics: Arc<Metrics>,
}

impl Bill {
    pub fn new(
        reserved: Reserved,
        turn: Turn<Arc<Destination>>,
        head: &Head,
        most: Tokens,
        metrics: Arc<Metrics>,
    ) -> Bill {
        Bill { reserved, turn, input_likely: head.input_likely / 2, most, metrics }
    }

    /// Charges what was heard of the answer, and answers how much that was.
    ///
    /// The upstream's own count is believed within bounds. Where it never came, what passed is counted, and what was
    /// asked is charged as read: whoever hangs up has still been answered.
    pub fn settle(mut self, tapped: Tapped, ending: Ending) -> Micros {
        let spent = self.spent(tapped, ending);
        let micros = spent.micros;
        // In line at once, or a moment later if the line is long; nobody waits for it here.
        let mut settling = Box::pin(self.reserved.settle(spent));
        if settling.as_mut().now_or_never().is_none()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(settling);
        }
        micros
    }

    /// The same for an answer that is whole, before anything of it is passed on: waits until the call is in the ledger.
    pub async fn settle_whole(&mut self, tapped: Tapped) -> Result<Micros, NotReserved> {
        let spent = self.spent(tapped, Ending::Whole);
        let micros = spent.micros;
        self.reserved.settle_durable(spent).await?;
        Ok(micros)
    }

    /// What the call took, by all that was heard.
    fn spent(&mut self, tapped: Tapped, ending: Ending) -> Spent {
        let Bill { reserved, turn, input_likely, most, metrics } = self;
        match ending {
            Ending::Whole => turn.succeeded(),
            Ending::Broken(fault) => turn.broke(fault),
            // Whether it would have come to a good end is not known.
            Ending::Abandoned => {}
        }
        let own = Tokens { input: *input_likely, ..tapped.estimated };
        let (tokens, suspect, estimated) = match tapped.tokens {
            // What was said of usage as a stream began is no bill for what came before it broke off.
            Some(claimed) if !tapped.finished && claimed.written() < own.written() => {
                let heard =
                    Tokens { output: own.output, reasoning: own.reasoning, audio_out: own.audio_out, ..claimed };
                let (tokens, suspect) = judge(heard, own, *most);
                (tokens, suspect, true)
            }
            Some(claimed) => {
                let (tokens, suspect) = judge(claimed, own, *most);
                (tokens, suspect, false)
            }
            None => (own, false, true),
        };
        if suspect {
            metrics.count("", "relay_usage_suspect");
            tracing::warn!(
                call.id = %reserved.call(),
                upstream = turn.what.upstream().name,
                "an upstream claims a usage that cannot be true"
            );
        }
        let what = &turn.what;
        let tokens = if what.keeps_long { kept_long(tokens) } else { tokens };
        let micros = what.charge(tapped.tier).cost(&tokens);
        Spent {
            attempt: Some(i64::from(turn.number)),
            upstream: what.upstream().name.clone(),
            upstream_model: what.deployment.model.clone(),
            whose: what.access.tag.clone(),
            tokens,
            micros,
            estimated,
            suspect,
            cache_hit: false,
        }
    }
}

/// Where it is not told apart for how long something was written to a cache, it was for as long as was asked.
fn kept_long(tokens: Tokens) -> Tokens {
    match tokens.cache_write_1h {
        0 => Tokens { cache_write_5m: 0, cache_write_1h: tokens.cache_write_5m, ..tokens },
        _ => tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_to_be_kept_for_long_is_charged_so_unless_it_is_told_apart() {
        let told = |cache_write_5m, cache_write_1h| Tokens { cache_write_5m, cache_write_1h, ..Tokens::new(1, 2) };
        assert_eq!(kept_long(told(400, 0)), told(0, 400));
        assert_eq!(kept_long(told(100, 300)), told(100, 300));
    }
}
