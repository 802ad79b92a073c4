//! Some of the places that a file's reading has passed, so that a part of its content is known again.
//!
//! ```text
//! 0 ──┼───────────────────┼─────────┼────┼──┼─┼┼┼ offset      the closer, the more of them
//! ```
//!
//! Pure. Limit: [`MOST`] places. The first one stays, so that there is one before the end of every part that is longer.

use super::identity::Checksum;
use serde::{Deserialize, Serialize};

const MOST: usize = 12;

/// The places, and the checksums of the bytes just before each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trail(Vec<(u64, Checksum)>);

impl Trail {
    /// Reading has come to here; `guard` is the checksum of the bytes just before.
    pub(crate) fn pass(&mut self, offset: u64, guard: Checksum) {
        if guard.len() == 0 || self.0.last().is_some_and(|(last, _)| *last >= offset) {
            return;
        }
        if self.0.len() == MOST {
            // Every second one of those that are further back.
            let mut at = 0;
            self.0.retain(|_| {
                at += 1;
                at > MOST / 2 || at % 2 == 1
            });
        }
        self.0.push((offset, guard));
    }

    /// Whether no place was passed.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the journal keeps of it: the first place, and one some turns back.
    pub(crate) fn in_short(&self) -> Self {
        let back = self.0.len().saturating_sub(MOST / 2);
        Self(self.0.first().into_iter().chain(self.0.get(back).filter(|_| back > 0)).copied().collect())
    }

    /// The content is another.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The last place within the first `len` bytes.
    pub(crate) fn within(&self, len: u64) -> Option<(u64, Checksum)> {
        self.0.iter().rev().find(|(offset, _)| *offset <= len).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_few_places_the_first_stays_and_the_last_are_close() {
        let (mut trail, guard) = (Trail::default(), Checksum::of(b"x"));
        for offset in 1..=10_000 {
            trail.pass(offset, guard);
            trail.pass(offset, guard);
            assert!(trail.0.len() <= MOST && trail.0.is_sorted_by_key(|(offset, _)| *offset));
            assert_eq!(trail.within(offset), Some((offset, guard)));
            assert!(
                trail
                    .within(offset.saturating_sub(3).max(1))
                    .is_some_and(|(near, _)| near + 6 > offset.min(6))
            );
        }
        assert_eq!((trail.within(1), trail.within(0)), (Some((1, guard)), None));
        assert!(trail.within(9_990).is_some_and(|(near, _)| near > 9_900), "{trail:?}");
        let short = trail.in_short();
        assert_eq!((short.0.len(), short.within(1)), (2, Some((1, guard))));
        assert!(short.within(10_000).is_some_and(|(near, _)| (9_980..9_999).contains(&near)), "{short:?}");
        trail.clear();
        assert_eq!(trail.in_short(), trail);
        trail.pass(5, Checksum::of(b""));
        assert_eq!(trail.within(9), None);
    }
}
