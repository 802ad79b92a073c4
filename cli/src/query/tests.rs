use super::rows::{CountRow, ErrorRow, bucket};
use super::*;
use crate::args::{Cli, Command};
use clap::Parser as _;

/// 2026-11-24T10:03:00Z
const AT_MS: i64 = 1_795_514_580_000;

fn parse(words: &[&str]) -> Result<Args, String> {
    let words = ["logweir", "query"].iter().chain(words);
    match Cli::try_parse_from(words).map_err(|e| e.to_string())?.command {
        Command::Query(args) => Ok(args),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_hour_by_everything_is_the_default() {
    let args = parse(&[]).unwrap();
    assert_eq!(args.by, [Key::Minute, Key::Service, Key::Level]);
    let filter = Filter::new(&args, AT_MS + 59_999);
    let expected = Filter { since_ms: AT_MS - 3_600_000, until_ms: None, services: None, levels: None };
    assert_eq!(filter, expected);
}

#[test]
fn filters_are_taken_from_the_flags() {
    let args = parse(&[
        "--since",
        "2026-11-24T10:03:30Z",
        "--until",
        "1m",
        "--service",
        "a",
        "--service",
        "b",
        "--level",
        "Warning",
        "--by",
        "service",
    ])
    .unwrap();
    let expected = Filter {
        since_ms: AT_MS,
        until_ms: Some(AT_MS + 60_000),
        services: Some(vec!["a".to_owned(), "b".to_owned()]),
        levels: Some(vec!["warn"]),
    };
    assert_eq!(Filter::new(&args, AT_MS + 120_000), expected);
    assert_eq!(args.by, [Key::Service]);
}

#[test]
fn wrong_flags_say_what_would_be_right() {
    for (words, hint) in [
        (["--since", "soon"], "10m"),
        (["--level", "banana"], "fatal"),
        (["--by", "colour"], "minute"),
        (["--csv", "--json"], "--json"),
    ] {
        let error = parse(&words).unwrap_err();
        assert!(error.contains(hint), "{error}");
    }
    assert!(parse(&["--errors", "--level", "info"]).is_err());
}

#[test]
fn the_json_has_only_the_keys_that_were_asked_for() {
    let full = CountRow {
        bucket: Some(bucket(AT_MS / 1000).unwrap()),
        service: Some("api".to_owned()),
        level: Some("warn".to_owned()),
        count: 7,
        bytes: 700,
    };
    assert_eq!(
        serde_json::to_string(&[&full]).unwrap(),
        r#"[{"bucket":"2026-11-24T10:03:00Z","service":"api","level":"warn","count":7,"bytes":700}]"#
    );
    let by_service =
        CountRow { service: Some("api".to_owned()), count: 7, bytes: 700, ..CountRow::default() };
    assert_eq!(
        serde_json::to_string(&[&by_service]).unwrap(),
        r#"[{"service":"api","count":7,"bytes":700}]"#
    );
    let error = ErrorRow {
        bucket: bucket(AT_MS / 1000).unwrap(),
        service: "api".to_owned(),
        total: 8,
        errors: 2,
        error_rate: 0.25,
    };
    assert_eq!(
        serde_json::to_string(&[&error]).unwrap(),
        r#"[{"bucket":"2026-11-24T10:03:00Z","service":"api","total":8,"errors":2,"error_rate":0.25}]"#
    );
    assert_eq!(
        output::csv(&CountRow::columns(&[Key::Minute, Key::Service, Key::Level]), [full.cells()]),
        "bucket,service,level,count,bytes\r\n2026-11-24T10:03:00Z,api,warn,7,700\r\n"
    );
    assert_eq!(
        output::table(&ErrorRow::COLUMNS, [error.cells()]),
        "bucket                service  total  errors  error_rate\n\
         2026-11-24T10:03:00Z  api          8       2      0.2500\n"
    );
}

#[test]
fn nothing_from_outside_gets_into_the_statement() {
    let sql = sql::counts(&[Key::Service, Key::Level]);
    assert!(sql.contains("GROUP BY 1, 2") && sql.contains("$4"), "{sql}");
    assert!(!sql.contains("extract"), "{sql}");
}
