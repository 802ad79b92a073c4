//! When to speak: once when something changes, not once for each attempt. Pure: the time is passed in.
//!
//! ```text
//! goes ── held(reason) ──► trouble ── went ──► goes        said: the begin, each new reason, and the end
//! ```
//!
//! A throttled agent is refused and let through again every second; so a reason isn't repeated within its quiet
//! time, and a trouble that was never said doesn't end aloud either.

use crate::send::policy::Reason;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long the same reason isn't repeated.
const QUIET: Duration = Duration::from_secs(10);
/// The same for refusals that are the normal course under load.
const QUIET_UNDER_PRESSURE: Duration = Duration::from_secs(60);
/// Under load, a pause that is shorter isn't worth a word at its end.
const WORTH_A_WORD: Duration = Duration::from_secs(5);

/// What has been said.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    trouble: Option<Trouble>,
    said: HashMap<Reason, Instant>,
}

#[derive(Debug)]
struct Trouble {
    reason: Reason,
    since: Instant,
    said: bool,
}

impl Voice {
    /// An attempt was held. Whether that is to be said.
    pub(crate) fn held(&mut self, reason: Reason, now: Instant) -> bool {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.reason == reason) {
            return false;
        }
        let quiet = if reason.is_pressure() { QUIET_UNDER_PRESSURE } else { QUIET };
        let say = self.said.get(&reason).is_none_or(|last| now.duration_since(*last) >= quiet);
        if say {
            self.said.insert(reason, now);
        }
        let before = self.trouble.take();
        let since = before.as_ref().map_or(now, |trouble| trouble.since);
        let said = say || before.is_some_and(|trouble| trouble.said);
        self.trouble = Some(Trouble { reason, since, said });
        say
    }

    /// An attempt went through. How long that had been impossible, if it is to be said.
    pub(crate) fn went(&mut self, now: Instant) -> Option<(Reason, Duration)> {
        let Trouble { reason, since, said } = self.trouble.take()?;
        let lasted = now.duration_since(since);
        (said && (!reason.is_pressure() || lasted >= WORTH_A_WORD)).then_some((reason, lasted))
    }

    /// What holds sending back just now, and since when.
    pub(crate) fn trouble(&self) -> Option<(Reason, Instant)> {
        self.trouble.as_ref().map(|trouble| (trouble.reason, trouble.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_said_once() {
        let (mut voice, start) = (Voice::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert!(voice.went(at(0)).is_none());
        assert!(voice.held(Reason::Unreachable, at(0)));
        assert!(!voice.held(Reason::Unreachable, at(1)));
        assert!(voice.held(Reason::Unauthenticated, at(2)));
        assert_eq!(voice.trouble(), Some((Reason::Unauthenticated, at(0))));
        assert_eq!(voice.went(at(90)), Some((Reason::Unauthenticated, Duration::from_secs(90))));
        assert!(voice.went(at(91)).is_none());
        assert!(voice.held(Reason::Unreachable, at(92)));
    }

    #[test]
    fn a_throttled_agent_does_not_chatter() {
        let (mut voice, start) = (Voice::default(), Instant::now());
        let mut words = 0;
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            words += u32::from(voice.held(Reason::RateLimited, now));
            words += u32::from(voice.went(now + Duration::from_millis(900)).is_some());
        }
        assert_eq!(words, 2, "one at the beginning, one after a minute");
    }

    #[test]
    fn a_reason_that_comes_and_goes_is_not_repeated() {
        let (mut voice, start) = (Voice::default(), Instant::now());
        assert!(voice.held(Reason::Unreachable, start));
        assert!(voice.held(Reason::Error, start));
        assert!(!voice.held(Reason::Unreachable, start));
        assert!(voice.went(start).is_some(), "the end of what was said is said");
    }
}
