//! What the property tests of the wires have in common: how often they run, and real texts to damage.

use proptest::prelude::*;

/// `runs` of a property, a hundredth of them in builds that are not optimised, ten times as many if `SALON_LONG` is set.
pub(super) fn config(runs: u32) -> ProptestConfig {
    let runs = if cfg!(debug_assertions) { runs / 100 } else { runs };
    ProptestConfig::with_cases(if is_long() { runs.saturating_mul(10) } else { runs }.max(64))
}

#[expect(clippy::disallowed_methods, reason = "how long tests run is the environment's to say")]
fn is_long() -> bool {
    std::env::var("SALON_LONG").is_ok_and(|value| value != "0")
}
