//! Why a limit has no room, as the log of a turn keeps it: one English sentence, which is written and read here, so that
//! whoever shows the turn can say it in another language.

use std::fmt;

use crate::limit::{Measure, Period, Scope};

/// A limit that has no room for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    pub scope: Scope,
    pub measure: Measure,
    pub period: Period,
    /// In the measure's own unit.
    pub limit: i64,
    pub remaining: i64,
    /// The day on which it begins anew, and in which zone; `None` if it never does.
    pub anew: Option<(String, String)>,
}

const HEAD: &str = "This does not fit into a limit: ";

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overrun { scope, measure, period, limit, remaining, anew } = self;
        let (scope, measure, period) = (scope.as_str(), measure.as_str(), period.as_str());
        write!(f, "{HEAD}{scope}, {limit} {measure}, {period}; left: {remaining}; ")?;
        match anew {
            Some((day, zone)) => write!(f, "begins anew on {day} ({zone})."),
            None => write!(f, "never begins anew."),
        }
    }
}

impl Overrun {
    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Overrun> {
        let mut parts = text.strip_prefix(HEAD)?.strip_suffix('.')?.split("; ");
        let mut about = parts.next()?.split(", ");
        let scope = Scope::parse(about.next()?)?;
        let (limit, measure) = about.next()?.split_once(' ')?;
        let period = Period::parse(about.next()?)?;
        let remaining = parts.next()?.strip_prefix("left: ")?.parse().ok()?;
        let anew = match parts.next()? {
            "never begins anew" => None,
            anew => {
                let (day, zone) = anew.strip_prefix("begins anew on ")?.strip_suffix(')')?.split_once(" (")?;
                Some((day.to_owned(), zone.to_owned()))
            }
        };
        let (limit, measure) = (limit.parse().ok()?, Measure::parse(measure)?);
        Some(Overrun { scope, measure, period, limit, remaining, anew })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_read_as_it_was_written() {
        for anew in [Some(("2026-02-01".to_owned(), "Asia/Seoul".to_owned())), None] {
            for (scope, measure, period) in [
                (Scope::User, Measure::Tokens, Period::Day),
                (Scope::Org, Measure::Micros, Period::Total),
                (Scope::Chat, Measure::Requests, Period::Month),
            ] {
                let overrun = Overrun { scope, measure, period, limit: 1000, remaining: 12, anew: anew.clone() };
                assert_eq!(Overrun::parse(&overrun.to_string()), Some(overrun));
            }
        }
        assert_eq!(Overrun::parse("This call does not fit into the user's limit of 10 tokens; 0 are left."), None);
        let overrun = Overrun {
            scope: Scope::User,
            measure: Measure::Tokens,
            period: Period::Day,
            limit: 10,
            remaining: 0,
            anew: Some(("2026-02-01".to_owned(), "UTC".to_owned())),
        };
        let said = "This does not fit into a limit: user, 10 tokens, day; left: 0; begins anew on 2026-02-01 (UTC).";
        assert_eq!(overrun.to_string(), said);
    }
}
