//! Fuzz targets, see fuzz/README.md: what a hostile batch can do to the worker.

use crate::batch::{BatchError, Bounds, decode, index};
use bytes::Bytes;
use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::encoding::{self, Encoding};
use logweir_proto::event::{self, Rules};
use logweir_proto::{BatchId, Level, ProducerId, Seq};
use logweir_queue::{Entry, EntryId};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use uuid::Uuid;

const BOUNDS: Bounds = Bounds { bytes: 32 << 10, keys: 16 };

/// The decoded body, an event for each three bytes of it at most, and the skipped numbers.
const WORK: Work = Work { steps: (0, u64::MAX), memory: (40, 600 << 10) };

/// How many numbers the batch claims, which are skipped, and a body that is encoded here or comes as it is.
#[test]
fn fuzz_batch() {
    logweir_fuzz::target("worker/batch", |input| {
        let mut input = Input::new(input);
        let how = input.byte();
        let mut events = u64::from(input.byte());
        let mut skip = Vec::new();
        let mut next = 0;
        for _ in 0..how % 8 {
            next += u64::from(input.byte()) + 1;
            skip.push(next - 1);
        }
        if how & 16 == 16 {
            events <<= 48;
        }
        // What the queue's reader refuses doesn't come this far.
        let events = events.max(next).max(1);
        let (enc, body) = match how >> 6 {
            0 => (Encoding::Zstd, input.rest().to_vec()),
            1 => (Encoding::Zstd, encoding::encode_zstd(input.rest(), 1)),
            _ => (Encoding::Identity, input.rest().to_vec()),
        };
        let seq = Seq::new(if how & 32 == 32 { 1 << 62 } else { 7 }).expect("a number");
        let entry = Entry {
            id: EntryId("5-0".to_owned()),
            agent: "a".to_owned(),
            batch: BatchId { producer: ProducerId::new(Uuid::from_u128(1)), seq },
            events,
            skip,
            enc,
            at_ms: 0,
            traceparent: None,
            body: Bytes::from(body),
        };
        assert!(entry.batch.holds(entry.events));
        let ours = bounded(input.rest().len(), WORK, || decode(&entry, BOUNDS, &AtomicBool::new(false)));
        let expected = reference(&entry);
        match (ours, expected) {
            (Ok(batch), Some((cells, numbers))) => {
                let ours = |cell: &crate::batch::Cell| {
                    ((cell.minute_ms, cell.service.to_string(), cell.level), (cell.events, cell.bytes))
                };
                assert_eq!(batch.cells.iter().map(ours).collect::<BTreeMap<_, _>>(), cells);
                assert!(batch.cells.len() == cells.len() && cells.len() <= BOUNDS.keys);
                assert!(batch.events.iter().map(|event| event.number).eq(numbers.iter().copied()));
                assert!(numbers.iter().all(|number| batch.numbers.contains(*number)));
                assert!(batch.events.iter().all(|event| index(event.cell) < batch.cells.len()));
                assert_eq!(batch.oldest_ms, batch.events.iter().map(|event| event.at_ms).min());
                assert_eq!(batch.newest_ms, batch.events.iter().map(|event| event.at_ms).max());
            }
            (Err(BatchError::TooManyKeys { limit }), Some((cells, _))) => assert!(cells.len() > limit),
            // The lines are looked at in their order, and the first fault counts.
            (Err(error), None) => assert!(error.to_string().len() < 1_000, "{error}"),
            (ours, expected) => panic!("{ours:?}, and the reference says {expected:?}"),
        }
    });
}

type Cells = BTreeMap<(i64, String, Level), (u64, u64)>;

/// The sums and the numbers, from lists of everything.
fn reference(entry: &Entry) -> Option<(Cells, Vec<u64>)> {
    let body = encoding::decode(entry.enc, &entry.body, BOUNDS.bytes).ok()?;
    let lines: Vec<&[u8]> =
        body.split(|b| *b == b'\n').filter(|line| !line.iter().all(|b| b" \t\r".contains(b))).collect();
    let many = u64::try_from(lines.len()).ok()?;
    if many + u64::try_from(entry.skip.len()).ok()? != entry.events {
        return None;
    }
    let numbers =
        (0..entry.events).filter(|at| !entry.skip.contains(at)).map(|at| entry.batch.seq.get() + at);
    let mut cells = Cells::new();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let event = event::check(line, &Rules { max_bytes: BOUNDS.bytes, window: None }).ok()?;
        let cell =
            cells.entry((event.minute_ms(), event.service.as_str().to_owned(), event.level)).or_default();
        *cell = (cell.0 + 1, cell.1 + u64::try_from(line.len()).ok()?);
    }
    Some((cells, numbers.collect()))
}
