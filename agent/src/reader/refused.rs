//! The records of events that the collector refused for good: each with the bytes of its file that it is made of.

use super::core::{Core, Moment};
use super::notes;
use super::recover::{bytes_of, parser, ranges};
use super::scan::open;
use crate::files::identity::Key;
use crate::handoff::Reject;
use crate::journal::state::{Batch, Piece};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;

impl Core {
    /// The records of what was refused of a batch.
    pub(super) fn rejected(&self, batch: &Batch, rejects: &[Reject], now: Moment) -> Vec<Value> {
        let settings = if rejects.is_empty() { None } else { parser(&batch.parsing, &self.settings).ok() };
        // Most of them are of one piece, or of few.
        let mut known: BTreeMap<(Key, u64), Option<Vec<Range<u64>>>> = BTreeMap::new();
        let mut record = |reject: &Reject| {
            notes::rejected(batch, reject, now, |piece| {
                let read = || ranges(piece, &self.bytes_of(piece)?, settings.as_ref()?);
                known.entry((piece.key, piece.start)).or_insert_with(read).clone()
            })
        };
        rejects.iter().map(&mut record).collect()
    }

    /// The bytes of a piece, while they are where they were.
    fn bytes_of(&self, piece: &Piece) -> Option<Vec<u8>> {
        let followed = self.tails.get(&piece.key).and_then(|tail| tail.handle());
        let held = followed.and_then(|file| bytes_of(piece, file));
        held.or_else(|| bytes_of(piece, &open(&piece.path).ok()?))
    }
}
