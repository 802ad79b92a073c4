//! The journal against its own prefixes, and through failures.

use super::state::{Batch, FileEntry, Parsing, Piece, RealPath};
use super::*;
use crate::files::identity::{Checksum, Key};
use crate::files::trail::Trail;
use crate::journal::recovery::{Found, Verdict, judge, parts};
use logweir_proto::line::{Format, Keys, Origin};
use logweir_proto::{BatchId, Level};
use proptest::prelude::*;
use std::os::unix::ffi::OsStrExt as _;

const PRODUCER: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10";

fn id(seq: u64) -> BatchId {
    format!("{PRODUCER}/{seq}").parse().unwrap()
}

/// In the middle of a container's log, after an event of several lines that was cut.
fn carried() -> (logweir_proto::line::State, Option<Origin>, Keys) {
    let state = r#"{"kind":"container","votes":5,"dated":240,"timed":true,"cut":"line","cut_of":"stderr"}"#;
    let origin = Origin::of_path(Path::new(
        "/var/log/pods/prod_shop-1_0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/web/0.log",
    ));
    let keys = Keys { time: Some("zeit\"".into()), ..Keys::default() };
    (serde_json::from_str(state).unwrap(), origin, keys)
}

/// What every second piece, batch and file knows.
fn carried_by(number: u64) -> (logweir_proto::line::State, Option<Origin>, Keys) {
    if number % 2 == 1 { carried() } else { Default::default() }
}

#[test]
fn what_a_container_has_left_is_there_to_be_kept() {
    let (state, origin, _) = carried();
    assert!(!state.is_first() && origin.is_some());
    let (piece, file) = (piece(1, 0, 1), file(1, 0));
    for json in [serde_json::to_string(&piece).unwrap(), serde_json::to_string(&file).unwrap()] {
        for part in ["\"cut_of\"", "\"dated\"", "\"shop-1\"", "\"zeit"] {
            assert!(json.contains(part), "{part}: {json}");
        }
    }
}

fn piece(file: u64, start: u64, events: u64) -> Piece {
    let path = std::ffi::OsStr::from_bytes(b"/var/log/\xff.log");
    let (parser, origin, keys) = carried_by(file);
    Piece {
        key: Key::new(1, file),
        path: path.into(),
        service: "a".to_owned(),
        start,
        end: start + 10 * events,
        events,
        hash: u128::MAX - u128::from(start),
        carry_ms: -5,
        parser,
        origin,
        keys,
    }
}

fn batch(seq: u64, pieces: Vec<Piece>) -> Batch {
    let (format, default_level) = (Format::Auto, Level::Warn);
    Batch {
        id: id(seq),
        parsing: Parsing {
            format,
            service: (seq % 2 == 1).then(|| "shop".to_owned()),
            default_level,
            timezone: "UTC".into(),
            multiline_start: (seq % 2 == 1).then(|| r"^\d{4}".to_owned()),
            multiline_bytes: 7,
            rules: logweir_proto::line::rules::RuleTexts::default(),
        },
        pieces,
    }
}

fn file(ino: u64, offset: u64) -> FileEntry {
    let (parser, origin, keys) = carried_by(ino);
    let mut trail = Trail::default();
    trail.pass(offset / 2, Checksum::of(&b"passed"[..usize::from(ino % 2 == 1)]));
    FileEntry {
        key: Key::new(1, ino),
        path: "/var/log/a.log".into(),
        real: (ino % 2 == 1).then(|| RealPath::of(Path::new("/proc/self/cwd"))).flatten(),
        service: "a".to_owned(),
        offset,
        fingerprint: Checksum::of(b"first"),
        guard: Checksum::of(b"last"),
        trail,
        carry_ms: 7,
        parser,
        origin,
        keys,
        timed: true,
        born: Some(9),
        packed: ino == 2,
        unread: (ino == 3).then(|| Checksum::of(b"first bytes")),
        closed_ms: (ino == 3).then_some(offset.cast_signed()),
        at_end: ino == 1,
    }
}

/// A plausible history: sealing, settling in any order, files that come and go.
fn history() -> impl Strategy<Value = Vec<Delta>> {
    prop::collection::vec((0_u64..4, 1_u64..5, any::<bool>(), any::<prop::sample::Index>()), 1..20).prop_map(
        |steps| {
            let (mut next, mut open, mut deltas) = (1, Vec::new(), Vec::new());
            for (ino, events, settles, which) in steps {
                let mut delta = Delta { files: vec![file(ino, next * 10)], ..Delta::default() };
                if settles && !open.is_empty() {
                    delta.settled.push(open.remove(which.index(open.len())));
                    delta.forgotten.push(Key::new(1, (ino + 1) % 4));
                }
                delta.sealed.push(batch(next, vec![piece(ino, next * 10, events)]));
                open.push(id(next));
                next += events;
                deltas.push(delta);
            }
            deltas
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_journal_is_its_history_and_a_damaged_one_a_prefix_or_refused(deltas in history(), at: prop::sample::Index, bit in 0..8) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), State::default()).unwrap();
        let mut prefixes = vec![State::default()];
        for delta in &deltas {
            journal.commit(delta).unwrap();
            let mut state = prefixes[prefixes.len() - 1].clone();
            state.apply(delta).unwrap();
            prefixes.push(state);
        }
        let bytes = std::fs::read(dir.path().join("journal")).unwrap();
        prop_assert_eq!(bytes.len() as u64, journal.len());
        prop_assert_eq!(&replay(&bytes).unwrap(), &prefixes[prefixes.len() - 1]);
        prop_assert_eq!(journal.state(), &prefixes[prefixes.len() - 1]);

        let cut = at.index(bytes.len());
        match replay(&bytes[..cut]) {
            Ok(state) => prop_assert!(prefixes.contains(&state)),
            Err(why) => prop_assert!(cut < 16, "{why}"),
        }
        let mut flipped = bytes;
        flipped[cut] ^= 1_u8 << bit;
        if let Ok(state) = replay(&flipped) {
            prop_assert!(prefixes.contains(&state));
        }

        // A snapshot is the same state.
        let again = Journal::create(dir.path(), journal.state().clone()).unwrap();
        prop_assert_eq!(&Journal::read(dir.path()).unwrap().unwrap(), again.state());
    }

    #[test]
    fn parts_keep_the_numbers(events in prop::collection::vec((1_u64..4, any::<bool>()), 1..8)) {
        let pieces: Vec<Piece> = events.iter().enumerate().map(|(at, (events, _))| piece(at as u64, 0, *events)).collect();
        let there: Vec<bool> = events.iter().map(|(_, there)| *there).collect();
        let whole = batch(5, pieces);
        let number = |batches: &[Batch]| {
            let mut numbers = Vec::new();
            for batch in batches {
                let mut next = batch.id.seq.get();
                for piece in &batch.pieces {
                    numbers.extend((next..next + piece.events).map(|number| (number, piece.key)));
                    next += piece.events;
                }
            }
            numbers
        };
        let mut expected = number(std::slice::from_ref(&whole));
        let left: Vec<Key> = whole.pieces.iter().zip(&there).filter(|(_, t)| **t).map(|(p, _)| p.key).collect();
        expected.retain(|(_, key)| left.contains(key));
        prop_assert_eq!(number(&parts(&whole, &there)), expected);
        if there.iter().all(|there| *there) {
            prop_assert_eq!(parts(&whole, &there), vec![whole]);
        }
    }
}

#[test]
fn every_byte_that_is_flipped_or_missing_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(dir.path(), State::default()).unwrap();
    let mut prefixes = vec![State::default()];
    for seq in 1..6 {
        let settled = if seq > 2 { vec![id(seq - 2)] } else { Vec::new() };
        let sealed = vec![batch(seq, vec![piece(seq % 3, 10 * seq, 1)])];
        let files = vec![file(seq % 4, 10 * seq)];
        let forgotten = if seq == 5 { vec![Key::new(1, 3)] } else { Vec::new() };
        journal.commit(&Delta { settled, sealed, files, forgotten }).unwrap();
        prefixes.push(journal.state().clone());
    }
    let path = dir.path().join("journal");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(replay(&bytes).is_err(), "byte {at}, bit {bit}");
        }
        // A torn end was never acted on.
        match replay(&whole[..at]) {
            Ok(state) => assert!(prefixes.contains(&state), "cut at {at}"),
            Err(why) => assert!(at < 16, "cut at {at}: {why}"),
        }
    }
    // Also as an agent reads it.
    let mut bytes = whole;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 64;
    std::fs::write(&path, bytes).unwrap();
    assert!(Journal::read(dir.path()).unwrap_err().to_string().contains("damaged at byte"));
}

#[test]
fn after_a_failure_the_file_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(dir.path(), State::default()).unwrap();
    let sealed = |seq| Delta { sealed: vec![batch(seq, vec![piece(1, 0, 1)])], ..Delta::default() };
    journal.commit(&sealed(1)).unwrap();
    journal.fails = true;
    assert!(journal.commit(&sealed(2)).is_err());
    assert!(!journal.is_sound() && journal.sync().is_err());
    assert_eq!(Journal::read(dir.path()).unwrap().unwrap().batches.len(), 1, "half a record is cut off");
    journal.commit(&sealed(3)).unwrap();
    journal.fails = false;
    journal.sync().unwrap();
    assert!(journal.is_sound());
    assert_eq!(Journal::read(dir.path()).unwrap().as_ref(), Some(journal.state()));
    journal.fails = true;
    journal.commit(&Delta { settled: vec![id(1)], ..Delta::default() }).unwrap_err();
    journal.fails = false;
    journal.sync().unwrap();
    assert_eq!(Journal::read(dir.path()).unwrap().unwrap().batches.len(), 2);
}

#[test]
fn history_is_compacted_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(dir.path(), State::default()).unwrap();
    let mut largest = 0;
    for seq in 1..20_000 {
        let settled = if seq > 1 { vec![id(seq - 1)] } else { Vec::new() };
        let sealed = vec![batch(seq, vec![piece(1, 0, 1)])];
        journal.commit(&Delta { settled, sealed, ..Delta::default() }).unwrap();
        journal.compact().unwrap();
        largest = largest.max(journal.len());
    }
    assert!(largest < COMPACT_BYTES + 1000, "{largest}");
    assert_eq!(Journal::read(dir.path()).unwrap().as_ref(), Some(journal.state()));
}

#[test]
fn impossible_records_are_refused() {
    let mut state = State::default();
    assert!(state.apply(&Delta { settled: vec![id(1)], ..Delta::default() }).is_err());
    let twice = Delta { sealed: vec![batch(1, vec![piece(1, 0, 1)]); 2], ..Delta::default() };
    assert!(State::default().apply(&twice).is_err());
    let empty = Delta { sealed: vec![batch(1, Vec::new())], ..Delta::default() };
    assert!(State::default().apply(&empty).is_err());
    let endless = Piece { start: 0, end: u64::MAX, events: u64::MAX, ..piece(1, 0, 1) };
    for pieces in [vec![endless.clone()], vec![endless, piece(1, 0, 2)]] {
        let sealed = vec![batch(1, pieces)];
        assert!(State::default().apply(&Delta { sealed, ..Delta::default() }).is_err());
    }
}

#[test]
fn a_file_is_the_same_only_if_its_bytes_are() {
    let entry = file(1, 2000);
    let found = Found {
        path: &entry.path,
        size: 2000,
        born: Some(9),
        head: b"first and more",
        before: b"last",
        spooled: false,
    };
    assert_eq!(judge(&entry, &found), Verdict::Same);
    assert_eq!(judge(&entry, &Found { born: Some(1), ..found }), Verdict::Same);
    assert_eq!(judge(&entry, &Found { size: 1999, ..found }), Verdict::Truncated);
    assert_eq!(judge(&entry, &Found { head: b"fir", ..found }), Verdict::Replaced);
    assert_eq!(judge(&entry, &Found { before: b"lost", ..found }), Verdict::Replaced);
    let other = Path::new("/other");
    assert_eq!(judge(&entry, &Found { path: other, ..found }), Verdict::Same);
    assert_eq!(judge(&entry, &Found { path: other, spooled: true, ..found }), Verdict::Replaced);
    let few = FileEntry { offset: 10, ..entry.clone() };
    let found = Found { path: &few.path, size: 10, ..found };
    assert_eq!(judge(&few, &found), Verdict::Same);
    assert_eq!(judge(&few, &Found { born: Some(1), ..found }), Verdict::Replaced);
    assert_eq!(judge(&few, &Found { born: None, ..found }), Verdict::Same);
}

#[test]
fn what_a_journal_of_before_lacks_has_its_default() {
    let old = r#"{"format":"auto","service":null,"default_level":"info","timezone":"UTC"}"#;
    let parsing: Parsing = serde_json::from_str(old).unwrap();
    assert_eq!((parsing.multiline_start, parsing.multiline_bytes), (None, 128 << 10));
    assert!(parsing.rules.is_empty());
}
