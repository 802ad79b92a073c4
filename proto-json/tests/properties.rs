//! Whatever comes in: the validator, the published schema and a slow obvious reference come to the same verdict.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod reference;

use logweir_proto::event::{self, Rules, Window};
use logweir_proto::{Code, Level};
use proptest::prelude::*;
use proptest::sample::select;
use reference::{check, same};
use serde_json::Value;

fn any_of(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    select(texts).prop_map(str::to_owned).boxed()
}

/// JSON texts of anything.
fn any_json() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        any_of(&["null", "true", "false", "0", "-0", "1e3", "0.1", "1e999", "\"\"", "[]", "{}"]),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| Value::from(n).to_string()),
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        (1..40_usize).prop_map(|n| "[".repeat(n) + &"]".repeat(n)),
    ];
    let nested = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec((key(), inner), 0..3).prop_map(|fields| object(&fields)),
        ]
    });
    nested.boxed()
}

/// JSON texts of keys, known ones above all, written with escapes or not.
fn key() -> BoxedStrategy<String> {
    let known = select(
        &["timestamp", "service", "level", "message", "trace_id", "span_id", "attributes", "Level"][..],
    );
    let escaped = (known, prop::option::weighted(0.2, 0..5_usize)).prop_map(|(key, place)| {
        let mut out = String::from("\"");
        for (at, c) in key.char_indices() {
            if Some(at) == place { out += &format!("\\u{:04x}", u32::from(c)) } else { out.push(c) }
        }
        out + "\""
    });
    prop_oneof![4 => escaped, 1 => any::<String>().prop_map(|text| Value::from(text).to_string())].boxed()
}

fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn timestamp() -> BoxedStrategy<String> {
    let text = (
        (0..=9_999_u16, 0..=13_u8, 0..=32_u8),
        any_of(&["T", "t", " ", ""]),
        (0..=24_u8, prop_oneof![Just(59_u8), 0..=60_u8], prop_oneof![Just(60_u8), 0..=61_u8]),
        prop_oneof![Just(String::new()), any_of(&[".", ",5", ".0"]), "\\.[0-9]{1,12}"],
        prop_oneof![any_of(&["Z", "z", "", "+01", "+0100", " Z", "ZZ", "\\n"]), "[+-][012][0-9]:[0-6][0-9]"],
    );
    let text = text.prop_map(|((year, month, day), t, (hour, minute, second), fraction, zone)| {
        format!("\"{year:04}-{month:02}-{day:02}{t}{hour:02}:{minute:02}:{second:02}{fraction}{zone}\"")
    });
    let right =
        (0..=9_999_u16, 1..=12_u8, 1..=28_u8, 0..24_u8, "[.][0-9]{1,12}|", "Z|[+-][01][0-9]:[0-5][0-9]");
    let right = right.prop_map(|(year, month, day, hour, fraction, zone)| {
        format!("\"{year:04}-{month:02}-{day:02}T{hour:02}:59:59{fraction}{zone}\"")
    });
    prop_oneof![
        1 => text,
        2 => right,
        2 => (-62_167_219_200_005..=253_402_300_800_005_i64).prop_map(|n| n.to_string()),
        1 => any_of(&["1795514580000.0", "1.79551458e12", "17955145800000e-1", "1795514580000.5", "1e400", "-0.0"]),
        1 => any_of(&["253402300799999", "253402300800000", "-62167219200000", "-62167219200001"]),
        1 => any_json(),
    ]
    .boxed()
}

fn event() -> impl Strategy<Value = Vec<(String, String)>> {
    let hex =
        |digits: &'static str| prop_oneof![8 => digits.prop_map(|d| format!("\"{d}\"")), 1 => any_json()];
    let names = Level::ALL.iter().map(|l| l.as_str()).chain(Level::SYNONYMS.iter().map(|(name, _)| *name));
    let names: Vec<&str> = names.collect();
    let level = (select(names), any::<bool>(), prop_oneof![9 => Just(""), 1 => Just("x"), 1 => Just(" ")]);
    let level = level.prop_map(|(name, upper, more)| {
        format!("\"{}{more}\"", if upper { name.to_uppercase() } else { name.to_owned() })
    });
    let fields = (
        timestamp(),
        prop_oneof![8 => "\"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}\"", 1 => "\"[ -!#-~]{0,130}\"", 1 => any_json()],
        prop_oneof![8 => level, 1 => any_json()],
        prop_oneof![8 => any::<String>().prop_map(|t| Value::from(t).to_string()), 1 => any_json()],
        prop::option::of(hex("[0-9a-f]{32}|[0-9a-fA-F]{31,33}")),
        prop::option::of(hex("[0-9a-f]{16}|[0-9a-g]{15,17}")),
        prop::option::of(prop_oneof![
            prop::collection::vec((key(), any_json()), 0..3).prop_map(|f| object(&f)),
            any_json()
        ]),
        prop::collection::vec((prop_oneof![9 => "\"x[a-z]{0,5}\"", 1 => key()], any_json()), 0..3),
        prop::option::weighted(0.1, 0..4_usize),
    );
    let fields =
        fields.prop_map(|(time, service, level, message, trace, span, attributes, more, without)| {
            let named = |name: &str, value: String| (format!("\"{name}\""), value);
            let mut fields = vec![
                named("timestamp", time),
                named("service", service),
                named("level", level),
                named("message", message),
            ];
            without.map(|index| fields.remove(index));
            fields.extend(trace.map(|value| named("trace_id", value)));
            fields.extend(span.map(|value| named("span_id", value)));
            fields.extend(attributes.map(|value| named("attributes", value)));
            fields.extend(more);
            fields
        });
    fields.prop_shuffle()
}

/// A few bytes of an event replaced, taken out or put in.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => select(&b"\"\\{}[],: \t\n0159eE+-.uTZz\0\xc3\xa9\xff"[..]), 1 => any::<u8>()];
    let change = (any::<prop::sample::Index>(), 0..3_u8, byte);
    (event(), prop::collection::vec(change, 1..4)).prop_map(|(fields, changes)| {
        let mut line = object(&fields).into_bytes();
        for (place, what, byte) in changes {
            let place = place.index(line.len().max(1));
            match what {
                0 if place < line.len() => line[place] = byte,
                1 if place < line.len() => drop(line.remove(place)),
                _ => line.insert(place, byte),
            }
        }
        line
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn generated_events(fields in event()) {
        same(object(&fields).as_bytes());
    }

    #[test]
    fn mutated_events(line in mutated()) {
        same(&line);
    }

    #[test]
    fn random_json(json in any_json()) {
        same(json.as_bytes());
    }

    /// Any bytes end in a verdict that can be shown.
    #[test]
    fn any_bytes(line in any::<Vec<u8>>(), now_ms: i64, max_bytes in 0..200_usize) {
        let window = Window { now_ms, max_age_ms: 1_000, max_ahead_ms: 1_000 };
        if let Err(rejection) = event::check(&line, &Rules { max_bytes, window: Some(window) }) {
            prop_assert_eq!(rejection.code == Code::TooLong, line.len() > max_bytes);
            prop_assert!(rejection.detail.chars().all(|c| !c.is_control()));
        }
    }

    /// The clock's verdict comes last, and only where all else is right.
    #[test]
    fn the_window(ahead in -2_000..2_000_i64, age: u16, limit: u16) {
        let (age, limit) = (i64::from(age), i64::from(limit));
        let line = format!(r#"{{"timestamp":{ahead},"service":"a","level":"info","message":""}}"#);
        let window = Window { now_ms: 0, max_age_ms: age, max_ahead_ms: limit };
        let expected = if ahead > limit { Err(Code::InFuture) } else if -ahead > age { Err(Code::TooOld) } else { Ok(()) };
        let verdict = event::check(line.as_bytes(), &Rules { max_bytes: 1_000, window: Some(window) });
        prop_assert_eq!(verdict.map(drop).map_err(|r| r.code), expected);
    }
}

/// So that the properties above are about something: a good part of what is generated is valid, and each reason
/// that needs no clock comes up.
#[test]
fn the_generator_reaches_every_verdict() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut seen, mut good) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..4_000 {
        let fields = event().new_tree(&mut runner).unwrap().current();
        match check(object(&fields).as_bytes()) {
            Ok(_) => good += 1,
            Err(code) => drop(seen.insert(code)),
        }
        let line = mutated().new_tree(&mut runner).unwrap().current();
        seen.extend(check(&line).err());
        let json = any_json().new_tree(&mut runner).unwrap().current();
        seen.extend(check(json.as_bytes()).err());
    }
    assert!(good > 400, "{good}");
    for code in Code::ALL {
        let by_rules = matches!(code, Code::InFuture | Code::TooOld | Code::TooLong);
        assert_eq!(seen.contains(&code), !by_rules, "{code}");
    }
}
