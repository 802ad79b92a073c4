//! The batcher against a list.

use super::*;
use crate::files::lines::checksum;
use proptest::prelude::*;

const LIMITS: Limits = Limits { events: 3, bytes: 30, linger: Duration::from_millis(500) };

fn source(content: u64) -> Source {
    Source {
        content,
        key: Key::new(1, content),
        path: Arc::from(Path::new("/var/log/a.log")),
        service: Arc::from("a"),
        origin: None,
        keys: Arc::default(),
    }
}

/// A line: which file, how long, whether it is blank, and whether a longer stretch before it was passed over.
fn lines() -> impl Strategy<Value = Vec<(u64, usize, bool, bool)>> {
    prop::collection::vec(
        (0_u64..3, 1_usize..12, prop::bool::weighted(0.2), prop::bool::weighted(0.1)),
        0..60,
    )
}

fn slice(file: &[u8], piece: &Piece) -> Vec<u8> {
    file[usize::try_from(piece.start).unwrap()..usize::try_from(piece.end).unwrap()].to_vec()
}

proptest! {
    #[test]
    fn pieces_hold_exactly_the_events_in_their_order(lines in lines()) {
        let mut batcher = Batcher::new(LIMITS, Guidance::default());
        let mut files: [Vec<u8>; 3] = Default::default();
        let (mut batches, mut all) = (Vec::new(), Vec::new());
        for (number, (file, len, blank, gap)) in lines.into_iter().enumerate() {
            let content = &mut files[usize::try_from(file).unwrap()];
            if gap {
                content.extend_from_slice(b"long\n");
            }
            let start = content.len() as u64;
            let mut raw = if blank { vec![b' '; len] } else { format!("{number:0len$}").into_bytes() };
            raw.push(b'\n');
            content.extend_from_slice(&raw);
            let event: &[u8] = if blank { b"" } else { &raw };
            let (before, after) = (Carry::at(7), Carry::at(7));
            let line = Line { start, raw: &raw, event, before, after, last: false };
            if blank {
                batcher.skip(&source(file), line);
                continue;
            }
            if batcher.is_full_for(event.len()) {
                batches.extend(batcher.take());
            }
            batcher.push(&source(file), line, Duration::ZERO);
            all.extend_from_slice(event);
            if batcher.is_full() {
                batches.extend(batcher.take());
            }
        }
        batches.extend(batcher.take());
        let mut bodies = Vec::new();
        for batch in &batches {
            prop_assert!(batch.events <= LIMITS.events);
            prop_assert!(batch.body.len() <= 30 || batch.events == 1);
            prop_assert_eq!(batch.events, batch.pieces.iter().map(|piece| piece.events).sum::<u64>());
            let mut again: Vec<u8> = Vec::new();
            for piece in &batch.pieces {
                let file = (0..3_u64).find(|file| source(*file).key == piece.key).unwrap();
                let bytes = slice(&files[usize::try_from(file).unwrap()], piece);
                prop_assert_eq!(checksum(&bytes), piece.hash);
                prop_assert!(piece.events > 0);
                let lines = bytes.split_inclusive(|b| *b == b'\n');
                again.extend(lines.filter(|line| !line.trim_ascii().is_empty()).flatten());
            }
            prop_assert_eq!(&again, &batch.body);
            bodies.extend_from_slice(&batch.body);
        }
        prop_assert_eq!(bodies, all);
    }
}

fn push(batcher: &mut Batcher, content: u64, start: u64, before_ms: i64, now: u64) {
    let before = Carry::at(before_ms);
    let line = Line { start, raw: b"x\n", event: b"x\n", before, after: before, last: false };
    batcher.push(&source(content), line, Duration::from_millis(now));
}

#[test]
fn the_first_event_waits_for_the_others_and_no_longer() {
    let mut batcher = Batcher::new(LIMITS, Guidance::default());
    assert_eq!(batcher.remaining(Duration::ZERO), None);
    push(&mut batcher, 0, 0, 0, 100);
    push(&mut batcher, 0, 2, 0, 400);
    assert_eq!(batcher.remaining(Duration::from_millis(500)), Some(Duration::from_millis(100)));
    assert_eq!(batcher.remaining(Duration::from_secs(9)), Some(Duration::ZERO));
    assert!(batcher.take().is_some());
    assert_eq!(batcher.remaining(Duration::from_secs(9)), None);
    assert!(batcher.take().is_none());
}

#[test]
fn other_content_or_another_state_of_the_parser_begins_a_piece() {
    let mut batcher = Batcher::new(LIMITS, Guidance::default());
    push(&mut batcher, 0, 0, 0, 0);
    push(&mut batcher, 1, 2, 0, 0);
    push(&mut batcher, 1, 4, 9, 0);
    assert_eq!(batcher.take().unwrap().pieces.len(), 3);
}

#[test]
fn a_large_event_goes_alone() {
    let mut batcher = Batcher::new(LIMITS, Guidance::default());
    assert!(!batcher.is_full_for(1000));
    push(&mut batcher, 0, 0, 0, 0);
    assert!(batcher.is_full_for(29));
    assert!(!batcher.is_full_for(28));
}

#[test]
fn what_the_collector_takes_and_how_patiently_is_heeded() {
    let guidance = Guidance::default();
    let mut batcher = Batcher::new(Limits { events: 10, bytes: 1_000, ..LIMITS }, guidance.clone());
    let source = source(1);
    for at in 0..2 {
        let (before, after) = (Carry::at(7), Carry::at(7));
        let line = Line { start: at * 2, raw: b"a\n", event: b"a\n", before, after, last: false };
        batcher.push(&source, line, Duration::ZERO);
    }
    assert!(!batcher.is_full());
    guidance.set_limits(2, 1_000);
    assert!(batcher.is_full());
    guidance.set_limits(10, 4);
    assert!(batcher.is_full());
    guidance.set_limits(u64::MAX, u64::MAX);
    assert!(!batcher.is_full());
    guidance.set_stretch(4);
    assert_eq!(batcher.remaining(Duration::from_millis(500)), Some(Duration::from_millis(1_500)));
}
