//! Any body at all: what is accepted are exactly the events that [`super::reference`] sees in it, in the entry of the queue,
//! and byte for byte where it is passed through.

use super::reference::{self, TIMES};
use super::*;
use logweir_proto::event::Window;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::io::Write as _;

/// 2027-01-15T08:00:00Z
const NOW_MS: i64 = 1_800_000_000_000;
/// In `./test`; `LOGWEIR_BODY_CASES` asks for more.
const CASES: u32 = 6_000;

fn rules() -> Rules {
    let window = Window { now_ms: NOW_MS, max_age_ms: 60_000, max_ahead_ms: 1_000 };
    Rules { max_bytes: 2_000, window: Some(window) }
}

fn limits() -> Limits {
    Limits { event_bytes: 2_000, batch_events: 20, decoded_bytes: 1 << 20, wire_bytes: 1 << 20 }
}

/// JSON values that parsers like to see differently.
fn odd_value() -> impl Strategy<Value = String> {
    let values = [
        "null",
        "true",
        "0",
        "-0.0",
        "1e999",
        "123456789012345678901234567890",
        "0.1e-400",
        "01",
        "+1",
        ".5",
        "1.",
        "NaN",
        r#""""#,
        r#""\u0000""#,
        r#""\ud83e\udd80""#,
        r#""\ud83e""#,
        r#""\udd80\ud83e""#,
        r#""\x41""#,
        "\"\u{2028}\"",
        "\"größe 🦀\"",
        "\"\t\"",
        r#""\/\b\f\n\r\t\\\"""#,
        "[]",
        "{}",
        "[1,[2,[3]]]",
        r#"{"a":{"a":1},"a":2}"#,
        "[1,]",
        "'a'",
    ];
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    prop_oneof![8 => select(values.to_vec()).prop_map(str::to_owned), 1 => (14_usize..35).prop_map(deep)]
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// The value of one of the known fields, mostly a right one.
fn field_value(name: &'static str) -> BoxedStrategy<String> {
    let right = match name {
        "timestamp" => {
            let times: Vec<String> = TIMES.iter().map(|(text, _)| quoted(text)).collect();
            let numbers = [
                "1800000000000",
                "1.8e12",
                "18e+11",
                "1800000000000.0",
                "1800000000000.5",
                "1800000001001",
                "1799999940000",
                "1799999939999",
                "1800000000",
                "-1",
                "1e999",
                "1e-999",
                "0e99999999999",
            ];
            let numbers: Vec<String> = numbers.map(str::to_owned).to_vec();
            return prop_oneof![60 => Just("1800000000000".to_owned()), 2 => select(numbers), 1 => select(times), 1 => odd_value()]
                .boxed();
        }
        "service" => vec!["api", "shop/api:v2", "A.b_c-9", "-a", "", "a b", "ä"],
        "level" => vec!["info", "WARN", "Critical", "emerg", "loud", " info"],
        "message" => vec!["", "m", "a \u{1f980} \u{0}\n", "\u{2028}"],
        "trace_id" => vec!["0af7651916cd43dd8448eb211c80319c", "0AF7651916cd43dd8448eb211c80319c", "0af7"],
        _ => vec!["b7ad6b7169203331", "b7ad6b716920333"],
    };
    let first = Just(quoted(right[0]));
    let right: Vec<String> = right.iter().map(|text| quoted(text)).collect();
    prop_oneof![60 => first, 4 => select(right), 1 => odd_value()].boxed()
}

/// A member, with its key sometimes written with an escape.
fn member(name: &'static str) -> impl Strategy<Value = String> {
    let value = if name == "attributes" {
        prop_oneof![4 => Just(r#"{"user":"u","http":{"status":502}}"#.to_owned()), 2 => odd_value()].boxed()
    } else {
        field_value(name)
    };
    (value, 0..12_u8, select(&["", " ", "\t", "  "][..])).prop_map(move |(value, escape, space)| {
        let key = if escape == 0 {
            format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..])
        } else {
            name.to_owned()
        };
        format!("{space}\"{key}\"{space}:{value}{space}")
    })
}

/// Something like an event: its members in any order, some missing, some twice, some unknown.
fn event() -> impl Strategy<Value = String> {
    let required: Vec<_> =
        ["timestamp", "service", "level", "message"].map(|n| prop::option::weighted(0.995, member(n))).into();
    let optional: Vec<_> =
        ["trace_id", "span_id", "attributes", "level"].map(|n| prop::option::weighted(0.1, member(n))).into();
    let unknown = prop::option::weighted(0.3, odd_value().prop_map(|value| format!("\"x\":{value}")));
    (required, optional, unknown)
        .prop_map(|(required, optional, unknown)| {
            required.into_iter().chain(optional).chain([unknown]).flatten()
        })
        .prop_flat_map(|members| Just(members.collect::<Vec<_>>()).prop_shuffle())
        .prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let garbage = select(
        [&b"\xff\xfe"[..], b"\0", b"17", b"null", b"[]", b"\"a\"", b"{", b"\xc3\x28", b"\x0c", b"{}"]
            .to_vec(),
    );
    prop_oneof![40 => event().prop_map(String::into_bytes), 1 => garbage.prop_map(<[u8]>::to_vec)]
}

/// A body, and whether it is said to be JSON rather than lines.
fn plain() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let ends = select(&["\n", "\r\n", "\n\n", " \n\t\r\n", "\r\r\n"][..]);
    let lines = (prop::collection::vec((piece(), ends), 0..8), any::<bool>(), 0..20_u8).prop_map(
        |(all, last, bom)| {
            let mut body = if bom == 0 { "\u{feff}".as_bytes().to_vec() } else { Vec::new() };
            for (piece, end) in all {
                body.extend(piece);
                body.extend(end.as_bytes());
            }
            if last {
                body.pop();
            }
            (body, false)
        },
    );
    let commas = select(&[",", ",\n", "\r\n ,", ",,"][..]);
    let json = (
        prop_oneof![12 => prop::collection::vec(piece(), 0..6), 1 => prop::collection::vec(piece(), 18..24)],
        commas,
        0..10_u8,
    )
        .prop_map(|(all, comma, dress)| match dress {
            0 => (all.concat(), true),
            1 => ([b" [\n", all.join(comma.as_bytes()).as_slice(), b"\r\n]\n"].concat(), true),
            _ => ([b"[", all.join(&b","[..]).as_slice(), b"]"].concat(), true),
        });
    prop_oneof![3 => lines, 2 => json]
}

#[derive(Debug, Clone)]
struct Case {
    wire: Vec<u8>,
    encoding: Encoding,
    json: bool,
}

/// One change of one byte, somewhere.
#[derive(Debug, Clone, Copy)]
enum Change {
    None,
    Set(u8),
    Insert(u8),
    Cut,
}

fn changed(mut bytes: Vec<u8>, change: Change, at: prop::sample::Index) -> Vec<u8> {
    if !bytes.is_empty() {
        let at = at.index(bytes.len());
        match change {
            Change::None => {}
            Change::Set(byte) => bytes[at] = byte,
            Change::Insert(byte) => bytes.insert(at, byte),
            Change::Cut => bytes.truncate(at),
        }
    }
    bytes
}

fn change(none: u32) -> impl Strategy<Value = Change> {
    let byte = prop_oneof![select(&b"\"\\{}[],:\n\r \0\xff0e"[..]), any::<u8>()];
    prop_oneof![none => Just(Change::None), 2 => byte.clone().prop_map(Change::Set), 2 => byte.prop_map(Change::Insert),
        1 => Just(Change::Cut)]
}

fn case() -> impl Strategy<Value = Case> {
    let place = any::<prop::sample::Index>;
    (plain(), change(100), place(), 0..6_u8, place(), change(200), place()).prop_map(
        |((body, json), inner, at, dress, split, outer, outer_at)| {
            let body = changed(body, inner, at);
            let (head, tail) = body.split_at(split.index(body.len() + 1));
            let (wire, encoding) = match dress {
                0 => (body, Encoding::Identity),
                1 | 2 => (zstd_of(&body), Encoding::Zstd),
                // A skippable frame stands between two others.
                3 => (
                    [zstd_of(head).as_slice(), b"\x50\x2a\x4d\x18\x03\0\0\0abc", &zstd_of(tail)].concat(),
                    Encoding::Zstd,
                ),
                4 => (gzip_of(&body), Encoding::Gzip),
                _ => ([gzip_of(head), gzip_of(tail)].concat(), Encoding::Gzip),
            };
            Case { wire: changed(wire, outer, outer_at), encoding, json }
        },
    )
}

fn zstd_of(body: &[u8]) -> Vec<u8> {
    encoding::encode_zstd(body, 3)
}

fn gzip_of(body: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(body).unwrap();
    out.finish().unwrap()
}

/// What the cases were, so that a test that never accepts anything is seen.
#[derive(Debug, Default)]
struct Tally {
    refused: Cell<u32>,
    all_good: Cell<u32>,
    passed_through: Cell<u32>,
    mixed: Cell<u32>,
    none_good: Cell<u32>,
}

fn check(case: &Case, tally: &Tally) -> Result<(), TestCaseError> {
    let count = |what: &Cell<u32>| {
        what.set(what.get() + 1);
        Ok(())
    };
    let kind = if case.json { Kind::Json } else { Kind::Ndjson };
    let unpacked = unpack(Bytes::from(case.wire.clone()), case.encoding, kind, &limits());
    let decoded = reference::decoded(&case.wire, case.encoding).filter(|_| !case.wire.is_empty());
    let seen = decoded.as_ref().and_then(|body| reference::events(body, case.json, &rules()));
    let (unpacked, seen) = match (unpacked, seen) {
        (Err(Unreadable::TooLarge(_)), Some(seen)) if seen.len() > limits().batch_events => {
            return count(&tally.refused);
        }
        // A garbled frame may first say of itself that it is too large.
        (Err(_), None) => return count(&tally.refused),
        (Ok(unpacked), Some(seen)) => (unpacked, seen),
        (unpacked, seen) => {
            return Err(TestCaseError::fail(format!("{unpacked:?}, but the reference sees {seen:?}")));
        }
    };
    let judged = judge(unpacked, &rules(), |_| true);
    let wrong: Vec<u64> = (0..).zip(&seen).filter(|(_, (_, good))| !good).map(|(index, _)| index).collect();
    prop_assert_eq!(usize::try_from(judged.events).unwrap(), seen.len());
    prop_assert_eq!(&judged.skip, &wrong, "{:?}", judged.reasons);
    let told: Vec<u64> = judged.rejected.iter().map(|r| r.index).collect();
    prop_assert_eq!(&told, &wrong);
    if wrong.len() == seen.len() {
        prop_assert!(judged.body.is_empty());
        return count(&tally.none_good);
    }
    let good = seen.iter().filter(|(_, good)| *good).map(|(text, _)| match case.json {
        // In a line there can't be line ends; in JSON they are white space.
        true => text.iter().map(|b| if b"\r\n".contains(b) { b' ' } else { *b }).collect(),
        false => text.clone(),
    });
    let good: Vec<Vec<u8>> = good.collect();
    let stored = reference::decoded(&judged.body, judged.encoding).unwrap();
    prop_assert_eq!(without_cr(reference::lines(&stored)), without_cr(good));
    if !wrong.is_empty() {
        return count(&tally.mixed);
    }
    count(&tally.all_good)?;
    if !case.json && case.encoding == Encoding::Zstd {
        prop_assert_eq!(judged.encoding, Encoding::Zstd);
        prop_assert_eq!(&judged.body[..], &case.wire[..]);
        count(&tally.passed_through)?;
    }
    Ok(())
}

/// The events without what tells nothing: carriage returns are white space, and a line's own end is no part of it.
fn without_cr(events: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let plain =
        |text: Vec<u8>| text.into_iter().map(|b| if b == b'\r' { b' ' } else { b }).collect::<Vec<u8>>();
    events.into_iter().map(|text| plain(text).trim_ascii_end().to_vec()).collect()
}

#[test]
fn the_queue_gets_exactly_the_events_that_a_slow_parser_sees() {
    let cases = std::env::var("LOGWEIR_BODY_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let tally = Tally::default();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner.run(&case(), |case| check(&case, &tally)).unwrap_or_else(|error| panic!("{error}\n{runner}"));
    println!("{tally:?}");
    for (what, least) in [
        (&tally.refused, cases / 20),
        (&tally.all_good, cases / 20),
        (&tally.passed_through, cases / 100),
        (&tally.mixed, cases / 20),
        (&tally.none_good, cases / 100),
    ] {
        assert!(what.get() >= least, "the cases are too much alike: {tally:?}");
    }
}
