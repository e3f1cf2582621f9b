//! Why a limit has no room, as the log of a turn keeps it: one English sentence, which is written and read here, so that
//! whoever shows the turn can say it in another language.

use std::fmt;

use crate::limit::{Headroom, Measure, Period, Policy, Scope, Zone};
use crate::money::Micros;
use crate::time::Time;

/// A limit that has no room for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    pub scope: Scope,
    pub measure: Measure,
    pub period: Period,
    /// Whether waiting helps (`Block`) or only somebody who raises it (`Hard`).
    pub policy: Policy,
    /// In the measure's own unit.
    pub limit: i64,
    pub remaining: i64,
    /// The day on which it begins anew, and in which zone; `None` if it never does.
    pub anew: Option<(String, String)>,
}

const HEAD: &str = "This does not fit into a limit: ";

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overrun { scope, measure, period, policy, limit, remaining, anew } = self;
        let (scope, measure, period) = (scope.as_str(), measure.as_str(), period.as_str());
        write!(f, "{HEAD}{scope}, {limit} {measure}, {period}")?;
        // Most limits block, and logs from before this word was written have only those.
        if *policy != Policy::Block {
            write!(f, ", {}", policy.as_str())?;
        }
        write!(f, "; left: {remaining}; ")?;
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
        let policy = about.next().map_or(Some(Policy::Block), Policy::parse)?;
        let remaining = parts.next()?.strip_prefix("left: ")?.parse().ok()?;
        let anew = match parts.next()? {
            "never begins anew" => None,
            anew => {
                let (day, zone) = anew.strip_prefix("begins anew on ")?.strip_suffix(')')?.split_once(" (")?;
                Some((day.to_owned(), zone.to_owned()))
            }
        };
        let (limit, measure) = (limit.parse().ok()?, Measure::parse(measure)?);
        Some(Overrun { scope, measure, period, policy, limit, remaining, anew })
    }

    /// The sentence for whoever asked by a program. When it begins anew is left to whoever knows: here that is told only
    /// if it is a day.
    pub fn sentence(&self) -> String {
        let whose = match self.scope {
            Scope::Run => "run's",
            Scope::Key => "key's",
            Scope::User => "user's",
            Scope::Chat => "chat's",
            Scope::Org => "organisation's",
        };
        let span = match self.period {
            Period::Day => "a day",
            Period::Week => "a week",
            Period::Month => "a month",
            Period::Total => "in all",
        };
        let (limit, left) = (self.amount(self.limit), self.amount(self.remaining));
        let sentence = format!("This does not fit into the {whose} limit of {limit} {span}; {left} are left.");
        match &self.anew {
            Some((day, zone)) => format!("{sentence} It begins anew on {day} ({zone})."),
            None => sentence,
        }
    }

    /// As people write it: a limit on money is one of dollars.
    fn amount(&self, amount: i64) -> String {
        match self.measure {
            Measure::Micros => format!("${}", Micros(amount)),
            Measure::Tokens | Measure::Requests => format!("{amount} {}", self.measure.as_str()),
        }
    }

    /// How it stands, seen from now.
    pub fn headroom(&self, now: Time) -> Headroom {
        let begins = self.anew.as_ref().and_then(|(day, zone)| Zone::find(zone)?.midnight(day));
        Headroom { limit: self.limit, remaining: self.remaining, reset_secs: begins.map(|at| Headroom::secs(at, now)) }
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
                for policy in [Policy::Block, Policy::Hard] {
                    let (limit, remaining, anew) = (1000, 12, anew.clone());
                    let overrun = Overrun { scope, measure, period, policy, limit, remaining, anew };
                    assert_eq!(Overrun::parse(&overrun.to_string()), Some(overrun));
                }
            }
        }
        assert_eq!(Overrun::parse("This call does not fit into the user's limit of 10 tokens; 0 are left."), None);
        let overrun = Overrun {
            scope: Scope::User,
            measure: Measure::Tokens,
            period: Period::Day,
            policy: Policy::Block,
            limit: 10,
            remaining: 0,
            anew: Some(("2026-02-01".to_owned(), "UTC".to_owned())),
        };
        let said = "This does not fit into a limit: user, 10 tokens, day; left: 0; begins anew on 2026-02-01 (UTC).";
        assert_eq!(overrun.to_string(), said);
    }

    #[test]
    fn programs_read_of_dollars_and_of_the_moment_it_begins_anew() {
        let money = Overrun {
            scope: Scope::User,
            measure: Measure::Micros,
            period: Period::Month,
            policy: Policy::Hard,
            limit: 1_500_000,
            remaining: 4_000,
            anew: Some(("2026-03-01".to_owned(), "Asia/Seoul".to_owned())),
        };
        let said = "This does not fit into the user's limit of $1.50 a month; $0.004 are left. It begins anew on \
                    2026-03-01 (Asia/Seoul).";
        assert_eq!(money.sentence(), said);
        let seoul = Zone::find("Asia/Seoul").expect("a zone");
        let an_hour_before = Time(seoul.midnight("2026-03-01").expect("a day").0 - 3_600_000);
        assert_eq!(money.headroom(an_hour_before).reset_secs, Some(3600));
        let calls =
            Overrun { scope: Scope::Org, measure: Measure::Requests, period: Period::Total, anew: None, ..money };
        let said =
            "This does not fit into the organisation's limit of 1500000 requests in all; 4000 requests are left.";
        assert_eq!(calls.sentence(), said);
        assert_eq!(calls.headroom(an_hour_before).reset_secs, None);
    }
}
