//! What goes wrong with an upstream, sorted.

use std::time::Duration;

use http::StatusCode;
use http::header::{DATE, HeaderMap, RETRY_AFTER};
use thiserror::Error;

use crate::EngineError;

/// What can go wrong with an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("{}", self.sentence())]
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
    /// Its address leads where a user's address must not lead.
    Blocked,
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
            Fault::TooLong => "upstream_too_long",
            Fault::Filtered | Fault::NotFound | Fault::Refused | Fault::Blocked => "upstream_refused",
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
                "The model's provider has failed several times in a row. Please try again a little later."
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
            Fault::Blocked => "The address of the model's provider is not allowed.",
        }
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_passing(self) -> bool {
        matches!(self, Fault::Limit | Fault::Busy | Fault::Unreachable | Fault::Cut)
    }

    /// Whether another deployment, another key or another model may do better with the same request. Nobody does better
    /// with one that is wrong in itself.
    pub fn is_curable_elsewhere(self) -> bool {
        self.is_passing()
            || matches!(
                self,
                Fault::Auth
                    | Fault::Spent
                    | Fault::Resting
                    | Fault::Timeout
                    | Fault::Garbled
                    | Fault::Silent
                    | Fault::NotFound
            )
    }

    /// Whether it says that the upstream is ill. One that refuses a request is well.
    pub fn is_illness(self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&str, &str)| {
            let name: http::HeaderName = name.parse().expect("a name");
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
            (Fault::TooLong, "upstream_too_long"),
            (Fault::NotFound, "upstream_refused"),
            (Fault::Refused, "upstream_refused"),
            (Fault::Blocked, "upstream_refused"),
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
}
