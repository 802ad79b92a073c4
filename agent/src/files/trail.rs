//! Some of the places that a file's reading has passed, so that a part of its content is known again.
//!
//! ```text
//! 0 ──┼───────────────────┼─────────┼────┼──┼─┼┼┼ offset      the closer, the more of them
//! ```
//!
//! Pure. Limit: [`MOST`] places. The first one stays, so that there is one before the end of every part that is longer.

use super::identity::Checksum;

const MOST: usize = 12;

/// The places, and the checksums of the bytes just before each.
#[derive(Debug, Clone, Default)]
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
        trail.clear();
        trail.pass(5, Checksum::of(b""));
        assert_eq!(trail.within(9), None);
    }
}
