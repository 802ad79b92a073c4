//! Fuzz targets, see fuzz/README.md: what the agent reads from disk and from the network.

use crate::files::identity::{Checksum, Key};
use crate::journal::format::{self, FormatError};
use crate::journal::replay;
use crate::journal::state::{Batch, Delta, FileEntry, Parsing, Piece, State};
use crate::send::retry_after;
use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::line::{Format, Keys, State as ParserState};
use logweir_proto::{BatchId, Level, ProducerId, Seq};
use uuid::Uuid;

/// A record's JSON becomes values, and these are applied to maps.
const WORK: Work = Work { steps: (400, 20_000), memory: (200, 20_000) };

/// What a program that wrote this state again would read.
fn again(state: &State) -> State {
    let mut bytes = format::header();
    let snapshot = serde_json::to_vec(&state.snapshot()).expect("a state is JSON");
    format::push(&mut bytes, &snapshot).expect("it is small");
    replay(&bytes).expect("what was written is read")
}

/// Any bytes: a journal, or a reason why not, and never a guess.
#[test]
fn fuzz_journal() {
    logweir_fuzz::target("agent/journal", |bytes| {
        let state = bounded(bytes.len(), WORK, || replay(bytes));
        let records = format::records(bytes);
        match (&state, &records) {
            (Ok(state), Ok(_)) => assert_eq!(again(state), *state),
            (Ok(_), Err(error)) => panic!("read, although {error}"),
            (Err(_), Err(FormatError::Damaged { at })) => assert!(*at <= bytes.len()),
            (Err(_), _) => {}
        }
        let Ok((payloads, torn)) = records else { return };
        // What was read is just what the bytes begin with, and only an end that was torn is left out.
        let mut written = format::header();
        for payload in payloads {
            format::push(&mut written, payload).expect("it is small");
        }
        assert!(bytes.starts_with(&written));
        assert_eq!(torn, bytes.len() > written.len());
    });
}

/// Records under the right checksums, one a line, whatever they hold.
#[test]
fn fuzz_journal_records() {
    logweir_fuzz::target("agent/journal_records", |input| {
        let mut bytes = format::header();
        for payload in input.split(|byte| *byte == b'\n') {
            format::push(&mut bytes, payload).expect("it is small");
        }
        if let Ok(state) = bounded(bytes.len(), WORK, || replay(&bytes)) {
            assert_eq!(again(&state), state);
            for batch in state.batches.values() {
                assert!(batch.id.holds(batch.events()));
            }
        }
    });
}

/// A journal that an agent could have written, and then damage: the states before it are all that may be read.
#[test]
fn fuzz_journal_damage() {
    logweir_fuzz::target("agent/journal_damage", |input| {
        let mut input = Input::new(input);
        let mut bytes = format::header();
        // Where each record ends, and the state then.
        let mut history = vec![(bytes.len(), State::default())];
        let mut next = 1;
        for _ in 0..input.byte() % 6 {
            let mut state = history[history.len() - 1].1.clone();
            let delta = change(&mut input, &state, &mut next);
            state.apply(&delta).expect("it is a plausible change");
            let payload = serde_json::to_vec(&delta).expect("a change is JSON");
            format::push(&mut bytes, &payload).expect("it is small");
            history.push((bytes.len(), state));
        }
        assert_eq!(replay(&bytes).as_ref(), Ok(&history[history.len() - 1].1));

        let whole = bytes.clone();
        while !input.is_empty() && !bytes.is_empty() {
            let (what, at, byte) = (input.byte(), usize::from(input.short()) % bytes.len(), input.byte());
            match what % 6 {
                0 => bytes[at] ^= byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, byte),
                3 => drop(bytes.remove(at)),
                // Blocks that were never written, within the file and after it.
                4 => bytes[at..].iter_mut().take(usize::from(byte)).for_each(|byte| *byte = 0),
                _ => bytes.resize(bytes.len() + usize::from(byte), 0),
            }
        }
        let Ok(state) = replay(&bytes) else { return };
        let same = whole.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
        let read = history.iter().rposition(|(end, known)| *end <= same && *known == state);
        let read = read.expect("a state that was, from records that are as they were");
        // A record that was left out, and was whole, is not in the file any more.
        if let Some((end, _)) = history.get(read + 1) {
            assert!(*end > same, "a whole record was left out");
        }
    });
}

fn change(input: &mut Input<'_>, state: &State, next: &mut u64) -> Delta {
    let mut delta = Delta::default();
    let what = input.byte();
    if what & 1 == 1
        && let Some(id) = state.batches.keys().nth(usize::from(input.byte()) % state.batches.len().max(1))
    {
        delta.settled.push(*id);
    }
    if what & 2 == 2 {
        delta.forgotten.push(Key::new(1, u64::from(input.byte() % 4)));
    }
    if what & 4 == 4 {
        let events = u64::from(input.byte() % 4) + 1;
        let start = u64::from(input.short());
        let piece = Piece {
            key: Key::new(1, 7),
            path: String::from_utf8_lossy(input.take(5)).into_owned().into(),
            service: "a".to_owned(),
            start,
            end: start + 10 * events,
            events,
            hash: u128::from(start),
            carry_ms: -5,
            parser: ParserState::default(),
            origin: None,
            keys: Keys::default(),
        };
        let producer = ProducerId::new(Uuid::from_u128(1));
        let seq = Seq::new(*next).expect("a small number");
        let (format, default_level) = (Format::Auto, Level::Warn);
        let (timezone, multiline_start) = ("UTC".into(), None);
        let parsing =
            Parsing { format, service: None, default_level, timezone, multiline_start, multiline_bytes: 7 };
        delta.sealed.push(Batch { id: BatchId { producer, seq }, parsing, pieces: vec![piece] });
        *next += events;
    }
    if what & 8 == 8 || delta.is_empty() {
        delta.files.push(FileEntry {
            key: Key::new(1, u64::from(input.byte() % 4)),
            path: "/var/log/a.log".into(),
            service: "a".to_owned(),
            offset: u64::from(input.short()),
            fingerprint: Checksum::of(input.take(3)),
            guard: Checksum::of(b"last"),
            carry_ms: 7,
            parser: ParserState::default(),
            origin: None,
            keys: Keys::default(),
            timed: true,
            born: Some(9),
            closed_ms: None,
            at_end: false,
        });
    }
    delta
}

#[test]
fn fuzz_retry_after() {
    logweir_fuzz::target("agent/retry_after", |input| {
        let Ok(value) = std::str::from_utf8(input) else { return };
        let now: jiff::Timestamp = "2026-11-24T10:00:00Z".parse().expect("a time");
        let wait = bounded(value.len(), WORK, || retry_after::parse(value, now));
        let digits = value.trim();
        let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        match wait {
            Some(wait) if number => {
                let seconds = digits.parse().unwrap_or(u64::MAX);
                assert!(wait.as_secs() == seconds, "{wait:?}");
            }
            Some(wait) => {
                // Until the end of the year 9999.
                assert!(
                    digits.ends_with("GMT") && wait.as_secs() < 260_000_000_000 && wait.subsec_nanos() == 0
                );
            }
            None => assert!(!number),
        }
        if let Some(wait) = wait {
            let believed = retry_after::within_reason(wait);
            assert!(believed <= wait.max(crate::retry::SHORTEST) && believed.as_secs() <= 60);
        }
    });
}
