//! What is decided when an agent starts with a journal: is this file the one that it knew, and which numbers can
//! be sent again.
//!
//! ```text
//! file    fingerprint, guard, size ──► Same: read on │ Truncated, Replaced: read from the beginning, report the rest
//! batch   [piece ok, piece gone, piece ok] ──► [batch] report [batch]        each under its old numbers
//! ```
//!
//! Pure.

use super::state::{Batch, FileEntry};
use crate::files::identity::FINGERPRINT_BYTES;
use logweir_proto::BatchId;
use std::path::Path;

/// What stands on disk under a key that the journal knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) path: &'a Path,
    pub(crate) size: u64,
    pub(crate) born: Option<i64>,
    /// Its first bytes, as many as a fingerprint covers.
    pub(crate) head: &'a [u8],
    /// The bytes before the entry's offset, as many as its guard covers.
    pub(crate) before: &'a [u8],
    /// Whether it is a segment of the spool: their names are never used again, but their inodes often are.
    pub(crate) spooled: bool,
}

/// Whether it is the content that the journal knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Same,
    /// The file is shorter than what was read of it.
    Truncated,
    /// Other content.
    Replaced,
}

/// Judges what was found where `entry`'s file is expected.
pub(crate) fn judge(entry: &FileEntry, found: &Found<'_>) -> Verdict {
    if found.spooled && found.path != entry.path {
        return Verdict::Replaced;
    }
    if found.size < entry.offset {
        return Verdict::Truncated;
    }
    // A few bytes are easily the same in two files. Where there are many they are the better witness: not every
    // file system keeps the time of birth.
    let few = usize::try_from(entry.offset).is_ok_and(|offset| offset < FINGERPRINT_BYTES);
    let other_birth = entry.born.is_some() && found.born.is_some() && entry.born != found.born;
    let begins = entry.fingerprint.begins(found.head) && entry.may_be_unread(found.head);
    if (few && other_birth) || !begins || !entry.guard.is_of(found.before) {
        return Verdict::Replaced;
    }
    Verdict::Same
}

/// The parts of a batch that can be sent again, given which of its pieces are still there. Each part is a run of
/// the batch's numbers.
pub(crate) fn parts(batch: &Batch, there: &[bool]) -> Vec<Batch> {
    let mut parts: Vec<Batch> = Vec::new();
    let (mut passed, mut joins) = (0, false);
    for (piece, there) in batch.pieces.iter().zip(there) {
        if *there && let Some(seq) = batch.id.seq.plus(passed) {
            match parts.last_mut().filter(|_| joins) {
                Some(part) => part.pieces.push(piece.clone()),
                None => parts.push(Batch {
                    id: BatchId { producer: batch.id.producer, seq },
                    parsing: batch.parsing.clone(),
                    pieces: vec![piece.clone()],
                }),
            }
        }
        joins = *there;
        passed += piece.events;
    }
    parts
}
