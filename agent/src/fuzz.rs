//! Fuzz targets, see fuzz/README.md: what the agent reads from disk and from the network.

use crate::files::identity::{Checksum, Key};
use crate::files::trail::Trail;
use crate::journal::format::{self, FormatError};
use crate::journal::replay;
use crate::journal::state::{Batch, Delta, FileEntry, Parsing, Piece, State};
use crate::send::policy::{Action, Answer, Asked, Outcome, Wait, decide};
use crate::send::retry_after;
use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::answer::{Accepted, Problem, ProblemCode};
use logweir_proto::encoding::Encoding;
use logweir_proto::line::rules::RuleTexts;
use logweir_proto::line::{Format, Keys, State as ParserState};
use logweir_proto::{BatchId, Level, ProducerId, Seq};
use uuid::Uuid;

/// A record's JSON becomes values, and these are applied to maps.
const WORK: Work = Work { steps: (400, 20_000), memory: (200, 20_000) };

/// What a program that wrote this state again would read.
fn again(state: &State) -> State {
    let mut bytes = format::header();
    for part in state.snapshot() {
        let part = serde_json::to_vec(&part).expect("a state is JSON");
        format::push(&mut bytes, &part).expect("it is small");
    }
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
        let exclude = (what & 16 == 16).then(|| "healthz".to_owned()).into_iter().collect();
        let rules = RuleTexts { exclude, ..RuleTexts::default() };
        let parsing = Parsing {
            format,
            service: None,
            default_level,
            timezone,
            multiline_start,
            multiline_bytes: 7,
            rules,
        };
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
            trail: Trail::default(),
            carry_ms: 7,
            parser: ParserState::default(),
            origin: None,
            keys: Keys::default(),
            timed: true,
            born: Some(9),
            packed: false,
            unread: None,
            closed_ms: None,
            real: None,
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

/// What comes in answer to a batch, from the collector or from whatever stands in its place: the status, the encoding
/// that was sent, `Retry-After` up to a line break, and the body.
#[test]
fn fuzz_answer() {
    logweir_fuzz::target("agent/answer", |input| {
        let mut input = Input::new(input);
        let status = STATUSES[usize::from(input.byte()) % STATUSES.len()];
        let how = input.byte();
        let encoding = if how & 1 == 1 { Encoding::Zstd } else { Encoding::Identity };
        let id: BatchId = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/7".parse().expect("a batch");
        let asked = Asked { id, events: u64::from(how >> 5) + 1, encoding };
        let (header, body) = match input.rest().iter().position(|b| *b == b'\n') {
            Some(end) => (std::str::from_utf8(&input.rest()[..end]).ok(), &input.rest()[end + 1..]),
            None => (None, input.rest()),
        };
        let answer = Answer {
            status,
            retry_after: header.map(str::to_owned),
            pressure: None,
            body: (how & 2 == 0).then(|| body.to_vec()),
        };
        let now: jiff::Timestamp = "2026-11-24T10:00:00Z".parse().expect("a time");
        let outcome = Outcome::Answer(answer);
        let action = bounded(input.rest().len(), WORK, || decide(&asked, &outcome, now));

        let problem = serde_json::from_slice::<Problem>(body).ok();
        let code = problem.as_ref().and_then(|problem| ProblemCode::of_type(&problem.r#type));
        match action {
            Action::Settled { rejected } => {
                // The collector has said so of just this batch, or that it takes none of it.
                let taken = serde_json::from_slice::<Accepted>(body);
                let whole = |taken: Accepted| {
                    let rejected = u64::try_from(taken.rejected.len()).expect("few");
                    taken.batch.to_lowercase() == id.to_string() && taken.accepted + rejected == asked.events
                };
                match status {
                    202 => assert!(taken.is_ok_and(whole)),
                    _ => assert!(status == 422 && code == Some(ProblemCode::AllRejected)),
                }
                assert!(rejected.iter().all(|event| event.index < asked.events));
                assert!(rejected.is_sorted_by(|a, b| a.index < b.index));
            }
            Action::RejectAll { code: by, detail } => {
                // Nothing is given up unless the collector itself says so, or the one event is too large for somebody.
                assert!(code == Some(by) || (status == 413 && asked.events == 1));
                short_and_harmless(&detail);
            }
            Action::Halve => assert!(status == 413 && asked.events > 1),
            Action::Identity => assert!(status == 415 && encoding == Encoding::Zstd),
            Action::Hold(hold) => {
                if let Wait::Told(wait) = hold.wait {
                    assert!(wait <= std::time::Duration::from_secs(60) && [429, 503].contains(&status));
                }
                short_and_harmless(&hold.detail);
            }
        }
    });
}

const STATUSES: [u16; 16] = [202, 200, 301, 400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 502, 503, 599];

/// It goes to logs and to the rejects file.
fn short_and_harmless(detail: &str) {
    assert!(detail.chars().count() < 500 && !detail.contains(char::is_control), "{detail:?}");
}
