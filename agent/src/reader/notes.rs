//! The words of the records that are kept about what can't be counted.

use super::core::Moment;
use crate::handoff::Reject;
use crate::journal::state::{Batch, FileEntry, Piece};
use crate::metrics::{Metrics, SPOOL_FULL};
use crate::records::at;
use crate::spool::Dropped;
use logweir_proto::BatchId;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::Path;

/// Bytes that can't be sent, or not any more.
#[derive(Debug)]
pub(super) struct Loss<'a> {
    /// `truncated`, `replaced`, `deleted`, `disk_full`, `unreadable`, `corrupt` or `maybe_counted`.
    pub(super) reason: &'static str,
    pub(super) path: &'a Path,
    pub(super) start: u64,
    /// `None` where nobody knows how much there was.
    pub(super) end: Option<u64>,
    /// The numbers that are given up: the first, and how many.
    pub(super) batch: Option<(BatchId, u64)>,
    pub(super) detail: &'a str,
}

impl<'a> Loss<'a> {
    /// All from a file's place on, however much that was; `None` where nothing is unread for all that is known.
    pub(super) fn of_rest(entry: &'a FileEntry, reason: &'static str, detail: &'a str) -> Option<Self> {
        let (path, start) = (entry.path.as_path(), entry.offset);
        (!entry.has_no_rest()).then_some(Self { reason, path, start, end: None, batch: None, detail })
    }

    /// Whether something is missing for sure, or may have been counted. Else there may have been nothing.
    pub(super) fn is_certain(&self) -> bool {
        self.end.is_some() || self.batch.is_some() || self.reason == "corrupt"
    }
}

/// The record of an event that was refused. `ranges` gives where the events of a piece stand, while its bytes are there; else
/// the record says where the piece is.
pub(super) fn rejected(
    batch: &Batch,
    reject: &Reject,
    now: Moment,
    ranges: impl FnOnce(&Piece) -> Option<Vec<Range<u64>>>,
) -> Value {
    let place = piece_of(batch, reject.number.get());
    let exact = place.and_then(|(piece, index)| ranges(piece)?.get(usize::try_from(index).ok()?).cloned());
    let piece = place.map(|(piece, _)| piece);
    let range = exact.clone().or_else(|| piece.map(|piece| piece.start..piece.end));
    json!({
        "at": at(now.unix_ms),
        "code": reject.code,
        "detail": reject.detail,
        "producer": batch.id.producer.to_string(),
        "number": reject.number.get(),
        "file": piece.map(|piece| piece.path.to_string_lossy()),
        "start": range.as_ref().map(|range| range.start),
        "end": range.as_ref().map(|range| range.end),
        "exact": exact.is_some(),
        "event": String::from_utf8_lossy(&reject.event),
    })
}

/// The piece with the event of this number, and the how manieth of it that is, from 0.
fn piece_of(batch: &Batch, number: u64) -> Option<(&Piece, u64)> {
    let mut index = number.checked_sub(batch.id.seq.get())?;
    for piece in &batch.pieces {
        if index < piece.events {
            return Some((piece, index));
        }
        index -= piece.events;
    }
    None
}

/// The record of a line that is too long.
pub(super) fn too_long(path: &Path, start: u64, end: u64, hash: u128, max: usize, now: Moment) -> Value {
    json!({
        "at": at(now.unix_ms),
        "code": "too_long",
        "detail": format!("the line is longer than {max} bytes; it stands in the file from start to end"),
        "file": path.to_string_lossy(),
        "start": start,
        "end": end,
        "checksum": format!("{hash:032x}"),
        // It never had a number; this one is for what people make of it, and nothing else's.
        "resend_as": format!("{}/1", uuid::Uuid::new_v4()),
    })
}

/// The record of lines of stdin that were dropped between two times.
pub(super) fn dropped(dropped: Dropped, from: Moment, to: Moment) -> Value {
    json!({
        "at": at(to.unix_ms),
        "reason": SPOOL_FULL,
        "file": "stdin",
        "from": at(from.unix_ms),
        "to": at(to.unix_ms),
        "lines": dropped.lines,
        "bytes": dropped.bytes,
        "detail": "the spool was full, and --spool-full says to drop what comes then",
    })
}

/// The record of a loss, which is also said in the log and counted.
pub(super) fn lost(loss: &Loss<'_>, metrics: &Metrics, now: Moment) -> Value {
    let Loss { reason, path, start, end, batch, detail } = loss;
    let batch = batch.map(|(id, _)| tracing::field::display(id));
    tracing::warn!(reason, file = %path.display(), start, end, batch, "lost: {detail}");
    metrics.lost(reason, end.map_or(0, |end| end.saturating_sub(*start)));
    json!({
        "at": at(now.unix_ms),
        "reason": loss.reason,
        "file": loss.path.to_string_lossy(),
        "start": loss.start,
        "end": loss.end,
        "batch": loss.batch.map(|(id, _)| id.to_string()),
        "events": loss.batch.map(|(_, events)| events),
        "detail": loss.detail,
    })
}
