//! Which part of a group is tried next, when a transaction over all of it failed by a batch's fault.
//!
//! ```text
//! 0 1 2 3 4 5 6 7  ✗ ─► 0 1 2 3 ✓   4 5 6 7 ✗ ─► 4 5 ✗ ─► 4 ✓   5 ✗ the one   6 7 ✓
//! ```
//!
//! One bad batch among n costs about 2·log₂ n transactions. Pure.

use std::ops::Range;

/// The parts that are still to be tried.
#[derive(Debug)]
pub(crate) struct Narrowing {
    /// The next one last.
    parts: Vec<Range<usize>>,
}

impl Narrowing {
    /// A group of so many.
    pub(crate) fn of(count: usize) -> Self {
        let whole = 0..count;
        Self { parts: Some(whole).filter(|whole| !whole.is_empty()).into_iter().collect() }
    }

    /// The next part, of at most `most`; `None` when all have been tried.
    pub(crate) fn next(&mut self, most: usize) -> Option<Range<usize>> {
        let part = self.parts.pop()?;
        if part.len() <= most.max(1) {
            return Some(part);
        }
        let middle = part.start + most.max(1);
        self.parts.push(middle..part.end);
        Some(part.start..middle)
    }

    /// Puts a part back, to be tried again as it is, or in smaller pieces.
    pub(crate) fn again(&mut self, part: Range<usize>) {
        self.parts.push(part);
    }

    /// Notes that this part failed: its halves come next, unless it is a single one, which is returned.
    pub(crate) fn failed(&mut self, part: Range<usize>) -> Option<usize> {
        if part.len() < 2 {
            return part.into_iter().next();
        }
        let middle = part.start + part.len() / 2;
        self.parts.push(middle..part.end);
        self.parts.push(part.start..middle);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn exactly_the_bad_ones_are_found(
            count in 0usize..70,
            bad in prop::collection::btree_set(0usize..70, 0..5),
            most in 0usize..70,
        ) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|i| *i < count).collect();
            let mut narrowing = Narrowing::of(count);
            let (mut good, mut found, mut tries) = (Vec::new(), BTreeSet::new(), 0);
            while let Some(part) = narrowing.next(most) {
                prop_assert!(!part.is_empty() && part.len() <= most.max(1));
                tries += 1;
                if part.clone().any(|i| bad.contains(&i)) {
                    found.extend(narrowing.failed(part));
                } else {
                    good.extend(part);
                }
            }
            prop_assert_eq!(&found, &bad);
            prop_assert_eq!(good, (0..count).filter(|i| !bad.contains(i)).collect::<Vec<_>>());
            if most >= count && count > 0 {
                prop_assert!(tries <= 1 + bad.len() * 14, "{} tries", tries);
            }
        }
    }
}
