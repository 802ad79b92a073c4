//! Reading a line takes a time that is linear in its length, whatever it holds, in each format; and so does reading
//! many lines. The shorter and the longer input are timed by turns in one run, so that a busy machine slows both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;
use logweir_proto::Level;
use logweir_proto::line::{Assembly, Carry, Format, Keys, MAX_EVENT_BYTES, Next, Settings};
use std::time::{Duration, Instant};

const SHORT: usize = 8 << 10;
/// So many times longer is the long one. Linear time makes it so many times slower, quadratic time 256 times.
const TIMES: usize = 16;
/// What is between both.
const MOST: u32 = 64;

/// What is repeated to make a line, behind the beginning: it leads a parser on for as long as it can.
const PIECES: [(&str, &str); 34] = [
    ("", "x"),
    ("", " "),
    ("", "["),
    ("", "[a"),
    ("", "[a] "),
    ("", "a: "),
    ("", "a=b "),
    ("", "a=\""),
    ("", "a="),
    ("", "{"),
    ("", "{\"a\":"),
    ("", "{\"a\":1},"),
    ("", "\\"),
    ("", "<"),
    ("", "(a) "),
    ("", "- "),
    ("", "| "),
    ("", "1:"),
    ("", "7"),
    ("", "2026-11-24 10:03:00 "),
    ("", "Nov 24 10:03:00 "),
    ("", "[24/Nov/2026:10:03:00 +0000]"),
    ("", "\u{1b}["),
    ("", "\u{1b}[31m"),
    ("", "\u{1b}]8;;"),
    ("", "\u{ff}"),
    ("{", "\"a\":\"\\u0041\","),
    ("{\"msg\":\"", "\\\""),
    ("2026-11-24 10:03:00 ", "pid=7 "),
    ("2026-11-24 10:03:00 \"", "\\\""),
    ("Nov 24 10:03:00 web1 app[7]: time=1 ", "a=b "),
    ("Nov 24 10:03:00 web1 app: [24/Nov/2026:10:03:00 +0000] \"", "\\\""),
    ("Started GET \"", "\\\""),
    ("GET /", "/"),
];

fn settings(format: Format) -> Settings {
    Settings {
        format,
        service: None,
        file_service: "api".to_owned(),
        origin: None,
        keys: Keys::default(),
        default_level: Level::Info,
        timezone: TimeZone::UTC,
        multiline_start: None,
        max_event_bytes: MAX_EVENT_BYTES,
        rules: std::sync::Arc::default(),
    }
}

fn read(lines: &[&[u8]], settings: &Settings) -> usize {
    let mut assembly = Assembly::new(settings, Carry::at(1_795_514_580_000));
    let mut events = 0;
    for line in lines {
        let mut next = assembly.line(line);
        if next == Next::Complete {
            events += usize::from(assembly.take().is_some());
            next = assembly.line(line);
        }
        if next == Next::Whole {
            events += usize::from(assembly.take().is_some());
        }
    }
    events + usize::from(assembly.take().is_some())
}

/// The least of several, as the least disturbed one.
fn least(times: usize, mut run: impl FnMut()) -> Duration {
    let measured = (0..times).map(|_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    });
    measured.min().unwrap()
}

fn is_linear(what: &str, short: impl Fn(), long: impl Fn()) {
    // A disturbed measurement is made again, a quadratic one stays what it is.
    let mut last = (Duration::ZERO, Duration::ZERO);
    for _ in 0..4 {
        last = (least(5, &short), least(2, &long));
        if last.1 <= last.0 * MOST {
            return;
        }
    }
    panic!("{what}: {TIMES} times as much took {:?} instead of {:?}", last.1, last.0);
}

#[test]
fn a_long_line() {
    for format in Format::ALL {
        let settings = settings(format);
        for (begin, piece) in PIECES {
            let make = |len: usize| format!("{begin}{}", piece.repeat(len / piece.len())).into_bytes();
            let (short, long) = (make(SHORT), make(SHORT * TIMES));
            is_linear(
                &format!("{format:?} {begin:?} {piece:?}"),
                || assert!(read(&[&short], &settings) <= 1),
                || assert!(read(&[&long], &settings) <= 1),
            );
        }
    }
}

#[test]
fn many_lines() {
    for format in Format::ALL {
        let settings = settings(format);
        for line in [
            "x",
            "",
            "\tat a.b(C.java:1)",
            "panic: x",
            "thread 'main' panicked at ",
            "#Date: 2026-11-24 10:03:00",
            "a=1",
        ] {
            let lines = vec![line.as_bytes(); SHORT / 8 * TIMES];
            is_linear(
                &format!("{format:?} {line:?}"),
                || assert!(read(&lines[..lines.len() / TIMES], &settings) <= lines.len()),
                || assert!(read(&lines, &settings) <= lines.len()),
            );
        }
    }
}
