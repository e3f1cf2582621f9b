//! Points in time, in Unix milliseconds. Nothing here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Unix milliseconds, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(pub i64);

impl Time {
    /// Seconds since the previous UTC midnight.
    fn second_of_day(self) -> i64 {
        self.0.div_euclid(1000).rem_euclid(86_400)
    }

    /// `HH:MM:SS` in UTC, as the bridge's event lines show it.
    pub fn hms(self) -> String {
        let second = self.second_of_day();
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }

    /// ISO 8601 with milliseconds and an offset of zero, which every client's date parser understands. Empty for times
    /// that no calendar has.
    pub fn iso(self) -> String {
        let timestamp = jiff::Timestamp::from_millisecond(self.0);
        timestamp.map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()).unwrap_or_default()
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_utc_and_works_before_1970() {
        assert_eq!(Time(0).hms(), "00:00:00");
        assert_eq!(Time(86_399_999).hms(), "23:59:59");
        assert_eq!(Time(-1).hms(), "23:59:59");
    }
}
