//! The corpus: each event gets its verdict from the validator, and the same from the published schema.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use jiff::SignedDuration;
use jiff::civil::date;
use logweir_proto::event::{self, EVENT_SCHEMA, Rules, Window};
use logweir_proto::{Code, Level, Limits};
use std::collections::BTreeSet;

/// 2026-11-24T10:03:00Z, where the clock stands in `clock.txt`.
const NOW_MS: i64 = 1_795_514_580_000;

struct Case {
    place: String,
    event: Vec<u8>,
    verdict: String,
    schema: Schema,
}

#[derive(PartialEq)]
enum Schema {
    Same,
    Valid,
    NotAsked,
}

fn read(name: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    while let Some((number, event)) = lines.next() {
        let place = format!("{name}:{number}: {}", event.chars().take(200).collect::<String>());
        let (_, verdict) = lines.next().unwrap_or_else(|| panic!("{place}: no verdict"));
        let verdict = verdict.strip_prefix("  => ").unwrap_or_else(|| panic!("{place}: no verdict"));
        let (verdict, schema) = match verdict.split_once(" (") {
            None => (verdict, Schema::Same),
            Some((verdict, "schema: valid)")) => (verdict, Schema::Valid),
            Some((verdict, "schema: not asked)")) => (verdict, Schema::NotAsked),
            Some((_, note)) => panic!("{place}: unknown note ({note}"),
        };
        let verdict = String::from_utf8(expand(verdict)).unwrap();
        cases.push(Case { place, event: expand(event), verdict, schema });
    }
    cases
}

/// `⟪ff fe⟫` and `⟪ab × 3⟫`, see the corpus.
fn expand(text: &str) -> Vec<u8> {
    let mut parts = text.split('⟪');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (inside, after) = part.split_once('⟫').unwrap();
        match inside.split_once(" × ") {
            Some((what, count)) => out.extend(what.repeat(count.parse().unwrap()).bytes()),
            None => out.extend(inside.split(' ').map(|hex| u8::from_str_radix(hex, 16).unwrap())),
        }
        out.extend(after.bytes());
    }
    out
}

/// `ok MINUTE SERVICE LEVEL`, or `CODE FIELD`.
fn verdict(event: &[u8], rules: &Rules) -> String {
    match event::check(event, rules) {
        Ok(event) => {
            let minutes = SignedDuration::from_millis(event.minute_ms());
            let minute = date(1970, 1, 1).at(0, 0, 0, 0).checked_add(minutes).unwrap();
            let text = minute.to_string();
            let minute = text.strip_suffix(":00").unwrap();
            format!("ok {minute} {} {}", event.service.as_str(), event.level)
        }
        Err(rejection) => {
            let field = rejection.field;
            let detail = rejection.detail;
            assert!(detail.len() < 300, "{detail}");
            assert!(detail.chars().all(|c| !c.is_control()), "{detail:?}");
            if let Some(field) = field {
                assert!(detail.starts_with(&format!("`{field}` ")), "{detail}");
            }
            format!("{} {}", rejection.code, field.unwrap_or("-"))
        }
    }
}

fn schema() -> jsonschema::Validator {
    let schema: serde_json::Value = serde_json::from_str(EVENT_SCHEMA).unwrap();
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap()
}

fn corpus() -> Vec<(Case, Rules)> {
    let max_bytes = Limits::default().event_bytes;
    let window = Window { now_ms: NOW_MS, max_age_ms: 90 * 86_400_000, max_ahead_ms: 600_000 };
    let form = read("form.txt", include_str!("../corpus/form.txt"));
    let clock = read("clock.txt", include_str!("../corpus/clock.txt"));
    let form = form.into_iter().map(|case| (case, Rules { max_bytes, window: None }));
    let clock = clock.into_iter().map(|case| (case, Rules { max_bytes, window: Some(window) }));
    form.chain(clock).collect()
}

#[test]
fn every_event_gets_its_verdict() {
    let corpus = corpus();
    assert!(corpus.len() >= 300);
    let mut wrong = Vec::new();
    for (case, rules) in &corpus {
        let verdict = verdict(&case.event, rules);
        if verdict != case.verdict {
            wrong.push(format!("{}\n  => {verdict}, expected {}", case.place, case.verdict));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_schema_says_the_same() {
    let schema = schema();
    for (case, _) in corpus() {
        let value = serde_json::from_slice::<serde_json::Value>(&case.event);
        let says = value.is_ok_and(|value| schema.is_valid(&value));
        let expected = match case.schema {
            Schema::Same => case.verdict.starts_with("ok "),
            Schema::Valid => true,
            Schema::NotAsked => continue,
        };
        assert_eq!(says, expected, "{}", case.place);
    }
}

#[test]
fn every_code_occurs() {
    let seen: BTreeSet<String> = corpus()
        .iter()
        .filter_map(|(case, _)| case.verdict.split_once(' '))
        .map(|(code, _)| code.to_owned())
        .filter(|code| code != "ok")
        .collect();
    assert_eq!(seen, Code::ALL.iter().map(ToString::to_string).collect());
}

#[test]
fn the_schema_is_a_schema_and_its_examples_are_events() {
    let schema: serde_json::Value = serde_json::from_str(EVENT_SCHEMA).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let rules = Rules { max_bytes: usize::MAX, window: None };
    let examples = schema["examples"].as_array().unwrap();
    assert!(!examples.is_empty());
    for example in examples {
        event::check(example.to_string().as_bytes(), &rules).unwrap();
    }
    for (field, rule) in schema["properties"].as_object().unwrap() {
        for example in rule["examples"].as_array().unwrap() {
            let mut event = examples[0].clone();
            event[field] = example.clone();
            event::check(event.to_string().as_bytes(), &rules).unwrap();
        }
    }
}

#[test]
fn the_schema_names_every_synonym_under_its_level() {
    let schema: serde_json::Value = serde_json::from_str(EVENT_SCHEMA).unwrap();
    let description = schema["properties"]["level"]["description"].as_str().unwrap();
    let (_, folded) = description.split_once("into these: ").unwrap();
    let mut told: Vec<(String, Level)> = Vec::new();
    for part in folded.trim_end_matches('.').split("; ") {
        let (names, level) = part.split_once(" to ").unwrap();
        told.extend(names.split(", ").map(|name| (name.to_owned(), Level::parse(level).unwrap())));
    }
    let known: Vec<_> = Level::SYNONYMS.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect();
    assert_eq!(told, known);

    let validator = self::schema();
    let says = |level: &str| {
        validator
            .is_valid(&serde_json::json!({"timestamp": 0, "service": "a", "level": level, "message": ""}))
    };
    let names = Level::ALL.iter().map(|l| l.as_str()).chain(Level::SYNONYMS.iter().map(|(name, _)| *name));
    for name in names {
        assert!(says(name) && says(&name.to_uppercase()), "{name}");
        assert!(!says(&format!("{name}x")) && !says(&format!("x{name}")), "{name}");
    }
}
