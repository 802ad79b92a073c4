//! From a body to a verdict for each event, and the body that goes into the queue. Pure: no clock, no I/O.
//!
//! ```text
//! wire ──unpack──► Unpacked (decoded, split, counted) ──judge──► Judged (rejected, skip, body for the queue)
//! ```
//!
//! When all events of a zstd NDJSON request are valid, the queue's body is the wire's, byte for byte.

use crate::request::Kind;
use bytes::Bytes;
use logweir_proto::answer::RejectedEvent;
use logweir_proto::encoding::{self, DecodeError, Encoding};
use logweir_proto::event::{self, Rules};
use logweir_proto::ndjson::{self, BodyError};
use logweir_proto::{Code, Limits, OVERFLOW_SERVICE};
use std::ops::Range;

/// Bodies of the queue that are larger than this are compressed.
const COMPRESS_FROM: usize = 1 << 10;
/// Fast rather than small: agents compress by themselves, this is for direct posters.
const COMPRESS_LEVEL: i32 = 1;
/// The most that one rejected event takes beside the body: its place, code and sentence, in lists that double.
pub(crate) const REASON_BYTES: usize = 768;

/// Why a body as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// 400
    Malformed(String),
    /// 413
    TooLarge(String),
}

/// A body that was decoded and taken apart into its events.
#[derive(Debug)]
pub(crate) struct Unpacked {
    wire: Bytes,
    decoded: Bytes,
    encoding: Encoding,
    parts: Parts,
    /// How many events.
    pub(crate) events: u64,
}

#[derive(Debug)]
enum Parts {
    Lines,
    Elements(Vec<Range<usize>>),
}

/// What became of a batch's events.
#[derive(Debug)]
pub(crate) struct Judged {
    /// How many events, rejected ones included.
    pub(crate) events: u64,
    pub(crate) rejected: Vec<RejectedEvent>,
    /// The reasons, one for each of `rejected`.
    pub(crate) reasons: Vec<Code>,
    /// Their indices, ascending.
    pub(crate) skip: Vec<u64>,
    /// How many events are counted as the overflow, since there are too many services.
    pub(crate) overflow: u64,
    /// NDJSON of the valid events, encoded as `encoding` says; empty when there is none.
    pub(crate) body: Bytes,
    pub(crate) encoding: Encoding,
}

impl Judged {
    pub(crate) fn accepted(&self) -> u64 {
        self.events - u64::try_from(self.skip.len()).unwrap_or(self.events)
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        let said = |rejected: &RejectedEvent| rejected.code.capacity() + rejected.detail.capacity();
        let lists =
            self.rejected.capacity() * size_of::<RejectedEvent>() + self.skip.capacity() * size_of::<u64>();
        self.body.len() + lists + self.rejected.iter().map(said).sum::<usize>()
    }
}

impl Unpacked {
    /// Bytes of the decoded body.
    pub(crate) fn decoded_bytes(&self) -> usize {
        self.decoded.len()
    }

    /// The most bytes that [`judge`] has in memory: this, the lines that are kept, room to compress them, and what is
    /// said of the others. Tiny events that are all wrong make a hundred times of what they are.
    pub(crate) fn memory_to_judge(&self) -> usize {
        let events = usize::try_from(self.events).unwrap_or(usize::MAX);
        self.memory()
            .saturating_add(2 * self.decoded.len())
            .saturating_add(events.saturating_mul(REASON_BYTES))
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        let parts = match &self.parts {
            Parts::Lines => 0,
            Parts::Elements(places) => size_of_val(places.as_slice()),
        };
        match self.encoding {
            Encoding::Identity => self.decoded.len() + parts,
            Encoding::Zstd | Encoding::Gzip => self.decoded.len() + self.wire.len() + parts,
        }
    }
}

/// Decodes a body, and counts its events.
///
/// # Errors
/// See [`Unreadable`].
pub(crate) fn unpack(
    wire: Bytes,
    encoding: Encoding,
    kind: Kind,
    limits: &Limits,
) -> Result<Unpacked, Unreadable> {
    if wire.is_empty() {
        return Err(Unreadable::Malformed("the body is empty; send at least one event".to_owned()));
    }
    let decoded = decode(&wire, encoding, limits)?;
    let (parts, events) = match kind {
        Kind::Ndjson => (Parts::Lines, ndjson::lines(&decoded).take(limits.batch_events + 1).count()),
        Kind::Json => {
            let elements = ndjson::json_elements(&decoded, limits.batch_events).map_err(of_body_error)?;
            let base = decoded.as_ptr().addr();
            let place = |e: &&[u8]| {
                let from = e.as_ptr().addr() - base;
                from..from + e.len()
            };
            let places: Vec<_> = elements.iter().map(place).collect();
            let count = places.len();
            (Parts::Elements(places), count)
        }
    };
    if events == 0 {
        return Err(Unreadable::Malformed(
            "the body holds no event, only blank lines; send at least one".to_owned(),
        ));
    }
    if events > limits.batch_events {
        return Err(too_many(limits.batch_events));
    }
    Ok(Unpacked { wire, decoded, encoding, parts, events: u64::try_from(events).unwrap_or(u64::MAX) })
}

fn decode(wire: &Bytes, encoding: Encoding, limits: &Limits) -> Result<Bytes, Unreadable> {
    let limit = limits.decoded_bytes;
    match encoding {
        Encoding::Identity if wire.len() > limit => Err(too_large(limit)),
        Encoding::Identity => Ok(wire.clone()),
        Encoding::Zstd | Encoding::Gzip => {
            encoding::decode(encoding, wire, limit).map(Bytes::from).map_err(|e| match e {
                DecodeError::TooLarge { limit } => too_large(limit),
                DecodeError::Garbled { .. } => Unreadable::Malformed(e.to_string()),
            })
        }
    }
}

fn too_large(limit: usize) -> Unreadable {
    Unreadable::TooLarge(format!("the decoded body is larger than {limit} bytes; send smaller batches"))
}

fn too_many(limit: usize) -> Unreadable {
    Unreadable::TooLarge(format!("the body holds more than {limit} events; send smaller batches"))
}

fn of_body_error(error: BodyError) -> Unreadable {
    match error {
        BodyError::TooMany { limit } => too_many(limit),
        BodyError::Empty | BodyError::EmptyArray | BodyError::NotJson { .. } => {
            Unreadable::Malformed(error.to_string())
        }
    }
}

/// Validates each event, and makes the body for the queue. Services that `takes` says no to are counted as the
/// overflow.
pub(crate) fn judge(unpacked: Unpacked, rules: &Rules, takes: impl FnMut(&str) -> bool) -> Judged {
    let mut verdicts =
        Verdicts { takes, rejected: Vec::new(), reasons: Vec::new(), skip: Vec::new(), overflow: Vec::new() };
    match &unpacked.parts {
        Parts::Lines => verdicts.all(ndjson::lines(&unpacked.decoded), rules),
        Parts::Elements(places) => verdicts.all(places.iter().map(|p| &unpacked.decoded[p.clone()]), rules),
    }
    let Verdicts { rejected, reasons, skip, overflow, .. } = verdicts;
    let events = unpacked.events;
    let (body, encoding) = if u64::try_from(skip.len()) == Ok(events) {
        (Bytes::new(), Encoding::Identity)
    } else {
        queue_body(unpacked, &skip, &overflow)
    };
    let overflow = u64::try_from(overflow.len()).unwrap_or(events);
    Judged { events, rejected, reasons, skip, overflow, body, encoding }
}

struct Verdicts<F> {
    takes: F,
    rejected: Vec<RejectedEvent>,
    reasons: Vec<Code>,
    skip: Vec<u64>,
    /// The indices of the valid ones that are counted as the overflow.
    overflow: Vec<u64>,
}

impl<F: FnMut(&str) -> bool> Verdicts<F> {
    fn all<'a>(&mut self, events: impl Iterator<Item = &'a [u8]>, rules: &Rules) {
        for (index, event) in (0_u64..).zip(events) {
            match event::check(event, rules) {
                Ok(event) => {
                    if !(self.takes)(event.service.as_str()) {
                        self.overflow.push(index);
                    }
                }
                Err(rejection) => {
                    let code = rejection.code.as_str().to_owned();
                    self.rejected.push(RejectedEvent { index, code, detail: rejection.detail.into_owned() });
                    self.reasons.push(rejection.code);
                    self.skip.push(index);
                }
            }
        }
    }
}

/// NDJSON of the events that aren't in `skip`; those in `overflow` with that as their service.
fn queue_body(unpacked: Unpacked, skip: &[u64], overflow: &[u64]) -> (Bytes, Encoding) {
    let Unpacked { wire, decoded, encoding, parts, .. } = unpacked;
    let as_it_came = skip.is_empty() && overflow.is_empty();
    let lines = match parts {
        Parts::Lines if as_it_came && encoding == Encoding::Zstd => return (wire, Encoding::Zstd),
        Parts::Lines if as_it_came => decoded,
        Parts::Lines => written(ndjson::lines(&decoded), decoded.len() + 1, skip, overflow),
        Parts::Elements(places) => {
            let room = decoded.len() + places.len();
            written(places.into_iter().map(|place| &decoded[place]), room, skip, overflow)
        }
    };
    if lines.len() > COMPRESS_FROM {
        let mut body = encoding::encode_zstd(&lines, COMPRESS_LEVEL);
        // It had room for the worst case.
        body.shrink_to_fit();
        (body.into(), Encoding::Zstd)
    } else {
        (lines, Encoding::Identity)
    }
}

/// One line for each event whose index isn't in `skip`; both lists of indices ascend.
fn written<'a>(events: impl Iterator<Item = &'a [u8]>, room: usize, skip: &[u64], overflow: &[u64]) -> Bytes {
    let mut out = Vec::with_capacity(room + overflow.len() * OVERFLOW_SERVICE.len());
    let (mut skip, mut overflow) = (skip.iter().peekable(), overflow.iter().peekable());
    let mut renamed = Vec::new();
    for (index, event) in (0_u64..).zip(events) {
        if skip.next_if_eq(&&index).is_some() {
            continue;
        }
        renamed.clear();
        let is_renamed = overflow.next_if_eq(&&index).is_some()
            && event::push_with_service(&mut renamed, event, OVERFLOW_SERVICE);
        ndjson::push_line(&mut out, if is_renamed { &renamed } else { event });
    }
    out.into()
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
