//! A batch in parts: which events they are, and under which numbers.

use super::{Damaged, Delivery};
use crate::send::http::Post;
use bytes::Bytes;
use logweir_proto::encoding::{self, Encoding};
use logweir_proto::{BatchId, ndjson};

/// The level of halves; the same as the whole batch's.
const ZSTD_LEVEL: i32 = 3;

/// A run of the batch's events.
pub(super) struct Part {
    /// The index of its first event in the batch.
    pub(super) first: usize,
    pub(super) events: usize,
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
}

/// Why a part is sent in halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLarge {
    /// The collector says so.
    Refused,
    /// It takes too long on its way.
    Slow,
}

impl TooLarge {
    const fn as_str(self) -> &'static str {
        match self {
            TooLarge::Refused => "too_large",
            TooLarge::Slow => "timeout",
        }
    }
}

impl<P: Post> Delivery<'_, P> {
    /// The two halves, the first one on top.
    pub(super) fn halves(&self, part: &Part, why: TooLarge) -> Result<[Part; 2], Damaged> {
        let plain = self.plain(part)?;
        let lines = self.lines(part, &plain)?;
        let middle = part.events / 2;
        let half = |first: usize, lines: &[&[u8]]| {
            let plain = joined(lines);
            let body = match part.encoding {
                Encoding::Identity => plain,
                Encoding::Zstd | Encoding::Gzip => encoding::encode_zstd(&plain, ZSTD_LEVEL),
            };
            Part { first, events: lines.len(), body: body.into(), encoding: part.encoding }
        };
        self.shared.metrics.halved(why.as_str());
        let (batch, reason, bytes) = (self.id_of(part)?, why.as_str(), part.body.len());
        tracing::info!(%batch, trace_id = %self.trace, reason, bytes, events = part.events, "too large; sending its halves");
        Ok([half(part.first + middle, &lines[middle..]), half(part.first, &lines[..middle])])
    }

    pub(super) fn uncompress(&self, part: &mut Part) -> Result<(), Damaged> {
        part.body = self.plain(part)?.into();
        part.encoding = Encoding::Identity;
        Ok(())
    }

    pub(super) fn plain(&self, part: &Part) -> Result<Vec<u8>, Damaged> {
        let limit = usize::try_from(self.sealed.plain_bytes).unwrap_or(usize::MAX);
        encoding::decode(part.encoding, &part.body, limit)
            .map_err(|source| Damaged::Decode { id: self.sealed.id, source })
    }

    pub(super) fn lines<'b>(&self, part: &Part, plain: &'b [u8]) -> Result<Vec<&'b [u8]>, Damaged> {
        let lines: Vec<&[u8]> = ndjson::lines(plain).collect();
        if lines.len() == part.events {
            return Ok(lines);
        }
        Err(Damaged::Lines { id: self.sealed.id, lines: lines.len(), events: self.sealed.events })
    }

    pub(super) fn id_of(&self, part: &Part) -> Result<BatchId, Damaged> {
        self.id_at(part.first)
    }

    pub(super) fn id_at(&self, index: usize) -> Result<BatchId, Damaged> {
        let BatchId { producer, seq } = self.sealed.id;
        let seq = u64::try_from(index).ok().and_then(|index| seq.plus(index));
        Ok(BatchId { producer, seq: seq.ok_or(Damaged::Numbers { id: self.sealed.id })? })
    }
}

fn joined(lines: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
    for line in lines {
        body.extend_from_slice(line);
        body.push(b'\n');
    }
    body
}
