//! The ways in which a call is refused here, in words that every protocol has.

use std::time::Duration;

use salon_core::limit::{Headroom, Measure, Scope};
use salon_core::overrun::Overrun;
use salon_core::{Micros, Policy};
use salon_engine::wire::talk::CannotCarry;
use salon_engine::wire::{Kind, Refused};

use crate::access::{BadCredential, Denied};
use crate::catalog::{Ability, NoRoute};
use crate::ledger::{NotReserved, Standing};

impl From<BadCredential> for Refused {
    fn from(bad: BadCredential) -> Refused {
        let kind = if bad.status() == 400 { Kind::InvalidRequest } else { Kind::Authentication };
        Refused::new(kind, bad.to_string()).with_code(bad.code())
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Refused {
        let kind = match denied.status() {
            401 => Kind::Authentication,
            403 => Kind::Permission,
            429 => Kind::RateLimit,
            _ => Kind::Overloaded,
        };
        let wait = if let Denied::TooMany { retry_after } = denied { Some(retry_after) } else { None };
        Refused::new(kind, denied.to_string()).with_code(denied.code()).with_retry_after(wait)
    }
}

/// Nobody said who they are.
pub(super) fn nobody() -> Refused {
    let words = "This needs a key. Send \"Authorization: Bearer <key>\" or \"x-api-key: <key>\".";
    Refused::new(Kind::Authentication, words).with_code("missing_api_key")
}

impl From<NoRoute> for Refused {
    fn from(none: NoRoute) -> Refused {
        let words = none.to_string();
        let refused = match &none {
            NoRoute::NotAName => Refused::new(Kind::InvalidRequest, words).with_code("invalid_model").with_status(422),
            NoRoute::Unknown { name, nearest } => return Refused::unknown_model(name, nearest),
            NoRoute::NotSpoken { .. } => Refused::new(Kind::InvalidRequest, words).with_code("unsupported_model"),
            NoRoute::Unpriced { .. } => {
                Refused::new(Kind::InvalidRequest, words).with_code("model_not_priced").with_status(422)
            }
            NoRoute::UnpricedTier { .. } => {
                let refused = Refused::new(Kind::InvalidRequest, words).with_code("model_not_priced").with_status(422);
                return refused.with_param("service_tier");
            }
            NoRoute::NoKey { .. } => Refused::new(Kind::Permission, words).with_code("no_provider_key"),
        };
        refused.with_param("model")
    }
}

impl From<NotReserved> for Refused {
    fn from(not: NotReserved) -> Refused {
        match not {
            NotReserved::Over(standing) => over(&standing),
            NotReserved::Held { call, .. } => {
                let words = format!(
                    "This call is beyond a limit and waits for an admin. Once it is approved, send it again with the \
                     header \"x-salon-call: {call}\"."
                );
                Refused::new(Kind::OverBudget, words).with_code("approval_required")
            }
            NotReserved::Denied => {
                Refused::new(Kind::Permission, "No admin has agreed to this call.").with_code("approval_denied")
            }
            NotReserved::Duplicate => {
                Refused::new(Kind::Conflict, "A call of this number was made already.").with_code("duplicate_call")
            }
            NotReserved::Stopped { .. } => {
                let words = "Paid calls are stopped here until an admin has looked into the ledger.";
                Refused::new(Kind::Unpaid, words).with_code("account_stopped")
            }
            NotReserved::Unavailable(why) => {
                tracing::warn!(why, "a call cannot be reserved now");
                ledger_away()
            }
        }
    }
}

pub(super) fn ledger_away() -> Refused {
    Refused::new(Kind::Overloaded, "The ledger is not available now. Please try again in a moment.")
        .with_code("ledger_unavailable")
        .with_retry_after(Some(Duration::from_secs(1)))
}

fn over(standing: &Standing) -> Refused {
    // When it begins anew a program has to the second, in the headers.
    over_limit(&standing.overrun(None), &standing.headroom)
}

/// A limit has no room: for a call, or for a turn, whose log has the overrun.
pub fn over_limit(overrun: &Overrun, headroom: &Headroom) -> Refused {
    let wait = headroom.reset_secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs);
    match overrun.policy {
        Policy::Hard => Refused::new(Kind::Unpaid, overrun.sentence()),
        _ => Refused::new(Kind::OverBudget, overrun.sentence()).with_retry_after(wait),
    }
    .with_code("quota_exceeded")
    .with_limit(standing_of(overrun.scope, overrun.measure, headroom))
}

/// What a caller is told of a limit in headers, whether it had room or not.
pub(super) fn standing_of(scope: Scope, measure: Measure, headroom: &Headroom) -> Vec<(&'static str, String)> {
    let [limit, remaining, reset, whose] = match measure {
        Measure::Micros => {
            ["x-salon-budget-limit", "x-salon-budget-remaining", "x-salon-budget-reset", "x-salon-budget-scope"]
        }
        Measure::Tokens => [
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
            "x-ratelimit-scope-tokens",
        ],
        Measure::Requests => [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
            "x-ratelimit-scope-requests",
        ],
    };
    let shown = |amount: i64| match measure {
        Measure::Micros => Micros(amount).to_string(),
        Measure::Tokens | Measure::Requests => amount.to_string(),
    };
    let mut headers = vec![
        (limit, shown(headroom.limit)),
        (remaining, shown(headroom.remaining)),
        (whose, scope.as_str().to_owned()),
    ];
    headers.extend(headroom.reset_secs.map(|secs| (reset, format!("{secs}s"))));
    headers
}

/// A question that wants what the model does not have.
pub(super) fn unable(model: &str, ability: Ability, param: &'static str) -> Refused {
    let what = match ability {
        Ability::Tools => "cannot call tools",
        Ability::Images => "cannot see images or documents",
        Ability::Schema => "cannot keep to a JSON schema",
        Ability::Audio => "cannot hear audio",
        Ability::Embeddings => "makes no embeddings",
        Ability::Reasoning => "cannot think",
    };
    // A name that was found has nothing in it that could not be shown.
    Refused::new(Kind::InvalidRequest, format!("The model `{model}` {what}."))
        .with_code("model_lacks_ability")
        .with_param(param)
}

/// A question that another protocol has no words for, or that is wrong in its own.
pub(super) fn cannot(cannot: CannotCarry) -> Refused {
    let refused = Refused::new(Kind::InvalidRequest, cannot.message).with_code(cannot.code);
    if cannot.param.is_empty() { refused } else { refused.with_param(cannot.param) }
}
