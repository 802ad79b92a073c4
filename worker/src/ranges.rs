//! Sets of event numbers, as the ledger keeps them: sorted half-open ranges that neither touch nor overlap.
//!
//! ```text
//! 1 2 3   5 6     9   ⇄   {[1,4),[5,7),[9,10)}
//! ```
//!
//! A producer that sends all its numbers has one range, however many they are. Pure; tested against a plain set.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// A set of event numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

/// How much of one set lies in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overlap {
    None,
    Part,
    Whole,
}

impl Ranges {
    /// The numbers of a batch: `events` from `first` on, without those whose index stands in `skip` (ascending).
    /// `first + events` must not overflow, which a batch's own limits see to.
    pub(crate) fn of_batch(first: u64, events: u64, skip: &[u64]) -> Self {
        let mut ranges = Vec::with_capacity(skip.len() + 1);
        let mut start = first;
        for index in skip {
            let gap = first + index;
            if start < gap {
                ranges.push(start..gap);
            }
            start = gap + 1;
        }
        if start < first + events {
            ranges.push(start..first + events);
        }
        Self(ranges)
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let next = self.0.partition_point(|range| range.end <= number);
        self.0.get(next).is_some_and(|range| range.start <= number)
    }

    /// How much of this set lies in `other`.
    pub(crate) fn overlap(&self, other: &Self) -> Overlap {
        let (mut any, mut all) = (false, true);
        for mine in &self.0 {
            let next = other.0.partition_point(|range| range.end <= mine.start);
            match other.0.get(next) {
                Some(theirs) if theirs.start <= mine.start && mine.end <= theirs.end => any = true,
                Some(theirs) => {
                    any |= theirs.start < mine.end;
                    all = false;
                }
                None => all = false,
            }
        }
        match (any, all) {
            (_, true) => Overlap::Whole,
            (true, false) => Overlap::Part,
            (false, false) => Overlap::None,
        }
    }

    /// Adds all numbers of `other`: one range in its place, several by one walk along both.
    pub(crate) fn add(&mut self, other: &Self) {
        match other.0.as_slice() {
            [one] => self.insert(one.clone()),
            several => self.merge(several),
        }
    }

    fn merge(&mut self, other: &[Range<u64>]) {
        let mine = std::mem::take(&mut self.0);
        self.0.reserve(mine.len() + other.len());
        let (mut mine, mut other) = (mine.into_iter().peekable(), other.iter().cloned().peekable());
        loop {
            let mine_first = match (mine.peek(), other.peek()) {
                (Some(mine), Some(other)) => mine.start <= other.start,
                (mine, _) => mine.is_some(),
            };
            let Some(next) = (if mine_first { mine.next() } else { other.next() }) else { return };
            match self.0.last_mut() {
                Some(last) if next.start <= last.end => last.end = last.end.max(next.end),
                _ => self.0.push(next),
            }
        }
    }

    fn insert(&mut self, mut new: Range<u64>) {
        // Those that touch the new one melt into it.
        let from = self.0.partition_point(|range| range.end < new.start);
        let to = self.0.partition_point(|range| range.start <= new.end);
        if let (Some(first), Some(last)) = (self.0.get(from), to.checked_sub(1).and_then(|i| self.0.get(i)))
            && from < to
        {
            new = new.start.min(first.start)..new.end.max(last.end);
        }
        self.0.splice(from..to, std::iter::once(new));
    }
}

impl fmt::Display for Ranges {
    /// As the text of an `int8multirange`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}[{},{})", range.start, range.end)?;
        }
        f.write_str("}")
    }
}

impl FromStr for Ranges {
    type Err = String;

    /// Reads what Postgres prints: for whole numbers that is always `[start,end)`, in order.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("not a set of event numbers: {}", text.chars().take(80).collect::<String>());
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(wrong)?;
        let mut ranges = Self::default();
        if inner.is_empty() {
            return Ok(ranges);
        }
        let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
        for part in inner.split("),[") {
            let (start, end) = part.split_once(',').ok_or_else(wrong)?;
            let (start, end): (u64, u64) =
                (start.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
            if start >= end || ranges.0.last().is_some_and(|last| last.end >= start) {
                return Err(wrong());
            }
            ranges.0.push(start..end);
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.0.iter().cloned().flatten().collect()
    }

    fn assert_canonical(ranges: &Ranges) {
        assert!(ranges.0.iter().all(|range| range.start < range.end), "{ranges}");
        assert!(ranges.0.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges}");
    }

    fn batch() -> impl Strategy<Value = (u64, u64, Vec<u64>)> {
        (1u64..40, 1u64..12).prop_flat_map(|(first, events)| {
            (Just(first), Just(events), prop::collection::btree_set(0..events, 0..4))
                .prop_map(|(first, events, skip)| (first, events, skip.into_iter().collect()))
        })
    }

    proptest! {
        /// The twin is a set of numbers.
        #[test]
        fn it_is_a_set(batches in prop::collection::vec(batch(), 0..12)) {
            let mut ranges = Ranges::default();
            let mut twin = BTreeSet::new();
            for (first, events, skip) in batches {
                let mine = Ranges::of_batch(first, events, &skip);
                assert_canonical(&mine);
                let numbers: BTreeSet<u64> =
                    (0..events).filter(|index| !skip.contains(index)).map(|index| first + index).collect();
                prop_assert_eq!(&set(&mine), &numbers);
                let known = numbers.intersection(&twin).count();
                let expected = if known == numbers.len() {
                    Overlap::Whole
                } else if known == 0 {
                    Overlap::None
                } else {
                    Overlap::Part
                };
                prop_assert_eq!(mine.overlap(&ranges), expected);
                ranges.add(&mine);
                twin.extend(numbers);
                assert_canonical(&ranges);
                prop_assert_eq!(&set(&ranges), &twin);
                for number in 0..60 {
                    prop_assert_eq!(ranges.contains(number), twin.contains(&number));
                }
            }
            prop_assert_eq!(ranges.to_string().parse::<Ranges>().unwrap(), ranges);
        }
    }

    #[test]
    fn the_largest_numbers_fit() {
        let last = logweir_proto::batch::MAX_NUMBER;
        let ranges = Ranges::of_batch(last, 1, &[]);
        assert_eq!(ranges.to_string(), "{[9223372036854775806,9223372036854775807)}");
        assert!(ranges.contains(last) && !ranges.contains(last - 1));
    }

    #[test]
    fn what_is_no_set_of_numbers_is_refused() {
        for text in
            ["", "{", "{[1,2]}", "{(,5)}", "{[5,)}", "{[2,2)}", "{[1,3),[2,4)}", "{[1,2),[2,3)}", "{[-1,2)}"]
        {
            assert!(text.parse::<Ranges>().is_err(), "{text}");
        }
        assert_eq!("{}".parse::<Ranges>().unwrap(), Ranges::default());
    }
}
