//! `Retry-After` (RFC 9110, 10.2.3): whole seconds, or an HTTP date. Pure: the time is passed in.
//!
//! `None` for anything else: a fraction, a negative number, a date in one of the two forms that were obsolete in 1999.

use crate::retry::SHORTEST;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use std::time::Duration;

/// The longest that is believed. The collector says 30 s at most; what asks for more is a misconfigured proxy or a
/// clock that is wrong, and asking once a minute harms nobody.
const LONGEST: Duration = Duration::from_secs(60);

/// The wait that the header's value asks for; a date that has passed is zero.
pub(crate) fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 has is still a number, and a long time.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    if !value.ends_with("GMT") {
        return None;
    }
    let at = DateTimeParser::new().parse_timestamp(value).ok()?;
    let wait = at.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
}

/// What of it is believed.
pub(crate) fn within_reason(wait: Duration) -> Duration {
    wait.clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        for (value, seconds) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("86400", Some(86_400)),
            ("Tue, 24 Nov 2026 10:00:09 GMT", Some(9)),
            ("Tue, 24 Nov 2026 09:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Tuesday, 24-Nov-26 10:00:09 GMT", None),
            ("Tue, 24 Nov 2026 10:00:09", None),
        ] {
            assert_eq!(parse(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(parse("99999999999999999999999", now), Some(Duration::MAX));
    }

    #[test]
    fn absurd_values_are_bounded() {
        for (wait, believed) in [
            (Duration::ZERO, SHORTEST),
            (Duration::from_millis(80), Duration::from_millis(80)),
            (Duration::from_secs(30), Duration::from_secs(30)),
            (Duration::MAX, LONGEST),
        ] {
            assert_eq!(within_reason(wait), believed);
        }
    }
}
