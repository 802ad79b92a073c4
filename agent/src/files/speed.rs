//! How fast a file is read, for people. Pure: the time is passed in.

use std::time::Duration;

/// Over so long at least.
const SPAN: Duration = Duration::from_secs(1);

/// The bytes per second of late.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speed {
    since: Duration,
    offset: u64,
    per_second: u64,
}

impl Speed {
    /// Nothing was read before `now`.
    pub(crate) const fn from(offset: u64, now: Duration) -> Self {
        Self { since: now, offset, per_second: 0 }
    }

    /// It has been read up to `offset`.
    pub(crate) fn passed(&mut self, offset: u64, now: Duration) {
        if now.saturating_sub(self.since) >= SPAN {
            *self = Self { since: now, offset, per_second: self.at(offset, now) };
        }
    }

    /// In bytes per second: of the last whole span, or since then where nothing has been read for as long.
    pub(crate) fn at(&self, offset: u64, now: Duration) -> u64 {
        let span = now.saturating_sub(self.since);
        if span < SPAN {
            return self.per_second;
        }
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        offset.saturating_sub(self.offset).saturating_mul(1_000) / millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_last_second_or_less() {
        let ms = Duration::from_millis;
        let mut speed = Speed::from(100, ms(5_000));
        speed.passed(600, ms(5_500));
        assert_eq!(speed.at(600, ms(5_500)), 0);
        speed.passed(2_100, ms(6_000));
        assert_eq!(speed.at(2_100, ms(6_100)), 2_000);
        // A pause.
        assert_eq!(speed.at(2_100, ms(7_000)), 0);
        speed.passed(6_100, ms(8_000));
        assert_eq!(speed.at(6_100, ms(8_500)), 2_000);
        // Truncated.
        speed.passed(0, ms(9_000));
        assert_eq!(speed.at(0, ms(9_000)), 0);
    }
}
