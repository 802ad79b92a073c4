//! What loggers really write: each event of the files in `corpus/` has its minute and its level.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use jiff::tz::TimeZone;
use logweir_proto::Level;
use logweir_proto::event::{self, Rules};
use logweir_proto::line::{
    Assembly, By, Carry, Facts, Format, Keys, Kind, MAX_EVENT_BYTES, Next, Origin, Settings,
};
use std::path::Path;
use std::sync::Arc;

const RULES: Rules = Rules { max_bytes: 256 << 10, window: None };

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
        rules: Arc::default(),
    }
}

fn ms(time: &str) -> i64 {
    time.replace('Z', ":00Z").parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// The events of a file, and what it leaves; `near` is the time before its first line.
fn read(content: &[u8], settings: &Settings, near: i64) -> (Vec<(String, Facts)>, Carry) {
    let mut carry = Carry::at(near);
    carry.begin(content);
    let mut assembly = Assembly::new(settings, carry);
    let mut events = Vec::new();
    let take = |assembly: &mut Assembly<'_>, events: &mut Vec<(String, Facts)>| {
        if let Some(facts) = assembly.take() {
            events.push((String::from_utf8(assembly.event().to_vec()).unwrap(), facts));
        }
    };
    let mut rest = content;
    while !rest.is_empty() {
        let (len, taken) = assembly.encoding().line_end(rest).unwrap_or((rest.len(), rest.len()));
        match assembly.line(&rest[..len]) {
            Next::Complete => {
                take(&mut assembly, &mut events);
                continue;
            }
            Next::Whole => take(&mut assembly, &mut events),
            Next::Open | Next::Nothing => {}
        }
        rest = &rest[taken..];
    }
    take(&mut assembly, &mut events);
    (events, assembly.after())
}

fn minute_and_level(event: &str) -> String {
    let event = event::check(event.trim_end().as_bytes(), &RULES).unwrap_or_else(|r| panic!("{r}: {event}"));
    let minute = jiff::Timestamp::from_millisecond(event.minute_ms()).unwrap().to_string();
    format!("{} {}", minute.replace(":00Z", "Z"), event.level)
}

fn corpus() -> impl Iterator<Item = (String, Vec<u8>, Vec<String>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "expected")).map(|path| {
        let expected = std::fs::read_to_string(&path).unwrap();
        let content = std::fs::read(path.with_extension("log")).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, content, expected.lines().map(str::to_owned).collect())
    })
}

#[test]
fn what_real_loggers_write_has_its_minute_and_level() {
    let (mut files, mut wrong) = (0, Vec::new());
    for (name, content, expected) in corpus() {
        files += 1;
        // A time far off shows what has none of its own, but no more than what a year (or a
        // day, where a logger writes none) may be taken from.
        let hours = if name == "logback-default" { 1 } else { 24 };
        let near = ms(expected[0].split_once(' ').unwrap().0) + hours * 3_600_000;
        let (events, _) = read(&content, &settings(Format::Auto), near);
        let found: Vec<String> = events.iter().map(|(event, _)| minute_and_level(event)).collect();
        if found != expected {
            let pairs: Vec<String> = events
                .iter()
                .zip(&expected)
                .filter(|((event, _), expected)| minute_and_level(event) != **expected)
                .map(|((event, _), expected)| format!("  expected {expected}: {event}"))
                .collect();
            wrong.push(format!("{name}: {} for {} events\n{}", found.len(), expected.len(), pairs.concat()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files >= 20, "{files}");
}

/// Wherever a file is cut, reading on with what the lines before have left gives the same events.
#[test]
fn reading_on_after_any_event_gives_the_same_events() {
    for (name, content, expected) in corpus() {
        let near = ms(expected[0].split_once(' ').unwrap().0);
        let settings = settings(Format::Auto);
        let (all, _) = read(&content, &settings, near);
        let mut assembly = Assembly::new(&settings, Carry::at(near));
        let (mut at, mut from, mut count) = (0, 0, 0);
        while at < content.len() {
            let (len, taken) = assembly.encoding().line_end(&content[at..]).unwrap();
            let next = assembly.line(&content[at..at + len]);
            if next != Next::Complete {
                at += taken;
            }
            if matches!(next, Next::Complete | Next::Whole) && assembly.take().is_some() {
                count += 1;
                from = at;
                let (rest, _) = read_from(&content[from..], &settings, assembly.after());
                let expected: Vec<_> = all[count..].iter().map(|(event, _)| event.clone()).collect();
                assert_eq!(rest, expected, "{name} from {from}");
            }
        }
        assert!(from > 0 || all.len() == 1, "{name}");
    }
}

fn read_from(content: &[u8], settings: &Settings, carry: Carry) -> (Vec<String>, Carry) {
    let mut assembly = Assembly::new(settings, carry);
    let (mut events, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let (len, taken) = assembly.encoding().line_end(rest).unwrap_or((rest.len(), rest.len()));
        let next = assembly.line(&rest[..len]);
        if matches!(next, Next::Complete | Next::Whole) && assembly.take().is_some() {
            events.push(String::from_utf8(assembly.event().to_vec()).unwrap());
        }
        if next != Next::Complete {
            rest = &rest[taken..];
        }
    }
    if assembly.take().is_some() {
        events.push(String::from_utf8(assembly.event().to_vec()).unwrap());
    }
    (events, assembly.after())
}

/// Lines as the manuals and the loggers' sources have them, each alone, after 2026-11-24T09:00Z and in UTC.
#[test]
fn forms_of_lines() {
    let mut wrong = Vec::new();
    let files = [
        include_str!("corpus/forms.txt"),
        include_str!("corpus/loggers.txt"),
        include_str!("corpus/loghub.txt"),
        include_str!("corpus/programs.txt"),
    ];
    let lines = files.iter().flat_map(|file| file.lines());
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (expected, line) = line.split_once(" | ").unwrap_or_else(|| panic!("{line}"));
        let line = line.replace("␛", "\u{1b}").replace("⇥", "\t").replace("⏎", "\n");
        let (events, _) = read(line.as_bytes(), &settings(Format::Auto), ms("2026-11-24T09:00Z"));
        let found: Vec<String> = events.iter().map(|(event, _)| minute_and_level(event)).collect();
        let found = found.join(", ");
        if found != expected {
            let by = events.first().map(|(_, facts)| format!("{} / {}", facts.time, facts.level));
            wrong.push(format!("expected {expected}, found {found} ({}): {line}", by.unwrap_or_default()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What stands in an event of one line: its time, level, service and message.
fn parts(line: &str, settings: &Settings) -> [String; 4] {
    let (events, _) = read(line.as_bytes(), settings, ms("2026-11-24T09:00Z"));
    assert_eq!(events.len(), 1, "{line}");
    let text = events[0].0.trim_end();
    let event = event::check(text.as_bytes(), &RULES).unwrap_or_else(|r| panic!("{r}: {text}"));
    let message =
        serde_json::from_str::<serde_json::Value>(text).unwrap()["message"].as_str().unwrap().to_owned();
    let time = jiff::Timestamp::from_millisecond(event.timestamp_ms).unwrap().to_string();
    [time, event.level.to_string(), event.service.as_str().to_owned(), message]
}

/// Each name under which a logger keeps a part of an event, with a value as that logger writes it.
#[test]
fn each_name_stands_for_its_part() {
    const TIMES: [(&str, &str); 26] = [
        ("timestamp", r#""2026-11-24T10:03:00Z""#),
        ("Timestamp", r#""2026-11-24T11:03:00.0000000+01:00""#),
        ("@timestamp", r#""2026-11-24T10:03:00.000Z""#),
        ("time", "1795514580000"),
        ("time", r#""24/Nov/2026:10:03:00 +0000""#),
        ("ts", "1795514580"),
        ("ts", "1.79551458e9"),
        ("date", r#""2026-11-24 10:03:00""#),
        ("@t", r#""2026-11-24T10:03:00Z""#),
        ("asctime", r#""2026-11-24 10:03:00,000""#),
        ("datetime", r#""2026-11-24T10:03:00""#),
        ("timeMillis", "1795514580000"),
        ("eventTime", r#""2026-11-24T10:03:00Z""#),
        ("event_time", r#""2026-11-24T10:03:00Z""#),
        ("log_time", "1795514580000000"),
        ("timeUnixNano", r#""1795514580000000000""#),
        ("__REALTIME_TIMESTAMP", r#""1795514580000000""#),
        ("time_local", r#""24/Nov/2026:10:03:00 +0000""#),
        ("time_iso8601", r#""2026-11-24T10:03:00+00:00""#),
        ("created", "1795514580.0"),
        ("t", "1795514580000"),
        ("t", r#""2026-11-24T10:03:00Z""#),
        ("instant", r#"{"epochSecond":1795514580,"nanoOfSecond":0}"#),
        ("record", r#"{"time":{"timestamp":1795514580.0}}"#),
        ("TIME", r#""2026-11-24T10:03:00Z""#),
        ("ts", "1795514580000000000"),
    ];
    const LEVELS: [(&str, &str, &str); 38] = [
        ("level", r#""ERROR""#, "error"),
        ("level", "50", "error"),
        ("level", "60", "fatal"),
        ("level", "10", "trace"),
        ("level", r#""Information""#, "info"),
        ("level", r#""Verbose""#, "debug"),
        ("level", r#""INFO+2""#, "info"),
        ("level", r#""dpanic""#, "error"),
        ("lvl", r#""warn""#, "warn"),
        ("severity", r#""WARNING""#, "warn"),
        ("severity", "3", "error"),
        ("severity", "4", "warn"),
        ("severity", "7", "debug"),
        ("levelname", r#""CRITICAL""#, "fatal"),
        ("loglevel", r#""error""#, "error"),
        ("logLevel", r#""Error""#, "error"),
        ("log.level", r#""error""#, "error"),
        ("log", r#"{"level":"error"}"#, "error"),
        ("log_level", r#""error""#, "error"),
        ("severityText", r#""ERROR""#, "error"),
        ("severity_text", r#""ERROR""#, "error"),
        ("severityNumber", "17", "error"),
        ("severityNumber", "13", "warn"),
        ("severity_number", "21", "fatal"),
        ("level_name", r#""ERROR""#, "error"),
        ("error_severity", r#""ERROR""#, "error"),
        ("@l", r#""Warning""#, "warn"),
        ("levelno", "40", "error"),
        ("levelno", "30", "warn"),
        ("level_value", "40000", "error"),
        ("level_value", "30000", "warn"),
        ("syslog_severity", "4", "warn"),
        ("syslog.severity", "4", "warn"),
        ("syslog", r#"{"severity":4}"#, "warn"),
        ("syslog_level", "3", "error"),
        ("PRIORITY", r#""3""#, "error"),
        ("PRIORITY", "7", "debug"),
        ("record", r#"{"level":{"name":"ERROR","no":40}}"#, "error"),
    ];
    const SERVICES: [(&str, &str); 9] = [
        ("service", r#""pay""#),
        ("service.name", r#""pay""#),
        ("service", r#"{"name":"pay"}"#),
        ("service_name", r#""pay""#),
        ("serviceName", r#""pay""#),
        ("app", r#""pay""#),
        ("application", r#""pay""#),
        ("app_name", r#""pay""#),
        ("appName", r#""pay""#),
    ];
    const MESSAGES: [(&str, &str); 16] = [
        ("message", r#""it is""#),
        ("msg", r#""it is""#),
        ("event", r#""it is""#),
        ("log", r#""it is""#),
        ("body", r#""it is""#),
        ("body", r#"{"stringValue":"it is"}"#),
        ("@m", r#""it is""#),
        ("@mt", r#""it is""#),
        ("RenderedMessage", r#""it is""#),
        ("MessageTemplate", r#""it is""#),
        ("short_message", r#""it is""#),
        ("text", r#""it is""#),
        ("fields", r#"{"message":"it is"}"#),
        ("record", r#"{"message":"it is"}"#),
        ("Message", r#""it is""#),
        ("MSG", r#""it is""#),
    ];
    let settings = settings(Format::Auto);
    for (name, value) in TIMES {
        let line = format!(r#"{{"{name}":{value},"level":"warn","message":"m"}}"#);
        assert_eq!(parts(&line, &settings), ["2026-11-24T10:03:00Z", "warn", "api", "m"], "{line}");
    }
    for (name, value, level) in LEVELS {
        let line = format!(r#"{{"time":"2026-11-24T10:03:00Z","{name}":{value},"message":"m"}}"#);
        assert_eq!(parts(&line, &settings), ["2026-11-24T10:03:00Z", level, "api", "m"], "{line}");
    }
    for (name, value) in SERVICES {
        let line =
            format!(r#"{{"time":"2026-11-24T10:03:00Z","{name}":{value},"level":"warn","message":"m"}}"#);
        assert_eq!(parts(&line, &settings), ["2026-11-24T10:03:00Z", "warn", "pay", "m"], "{line}");
    }
    for (name, value) in MESSAGES {
        let line = format!(r#"{{"time":"2026-11-24T10:03:00Z","level":"warn","{name}":{value}}}"#);
        assert_eq!(parts(&line, &settings), ["2026-11-24T10:03:00Z", "warn", "api", "it is"], "{line}");
    }
}

/// Names with other uses count only where the value is what it should be.
#[test]
fn a_weak_name_with_another_value_is_left_as_it_is() {
    let settings = settings(Format::Auto);
    for (name, value) in [
        ("t", r#""main""#),
        ("created", r#""by hand""#),
        ("priority", r#""high""#),
        ("text", "7"),
        ("@l", "[]"),
        ("level_value", r#""deep""#),
        ("application", "{}"),
    ] {
        let line = format!(r#"{{"time":"2026-11-24T10:03:00Z","level":"warn","{name}":{value},"msg":"m"}}"#);
        assert_eq!(parts(&line, &settings), ["2026-11-24T10:03:00Z", "warn", "api", "m"], "{line}");
        let (events, _) = read(line.as_bytes(), &settings, 0);
        let event: serde_json::Value = serde_json::from_str(&events[0].0).unwrap();
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        assert_eq!(event[name], value, "{}", events[0].0);
    }
}

/// ISO 8601 without a zone is in the zone of the settings, in JSON and logfmt as in text.
#[test]
fn a_time_without_a_zone_is_in_the_settings_zone() {
    let settings =
        Settings { timezone: TimeZone::get("America/New_York").unwrap(), ..settings(Format::Auto) };
    for line in [
        r#"{"time":"2026-11-24 05:03:00","level":"warn","msg":"m"}"#,
        r#"{"asctime":"2026-11-24 05:03:00,000","levelname":"WARNING","message":"m"}"#,
        "time=2026-11-24T05:03:00 level=warn msg=m",
        "2026-11-24 05:03:00 WARN m",
    ] {
        let [time, level, _, message] = parts(line, &settings);
        assert_eq!((time.as_str(), level.as_str()), ("2026-11-24T10:03:00Z", "warn"), "{line}");
        assert!(message.ends_with('m'), "{line}");
    }
}

/// What is wrapped is unwrapped once: what is wrapped in that stays text.
#[test]
fn an_object_in_a_string_is_unwrapped_once() {
    let settings = settings(Format::Auto);
    let inner = r#"{"level":"fatal","msg":"innermost","time":"2026-11-24T12:00:00Z"}"#;
    let middle =
        serde_json::json!({"level": "error", "time": "2026-11-24T11:00:00Z", "msg": inner}).to_string();
    let outer =
        serde_json::json!({"level": "info", "time": "2026-11-24T10:03:00Z", "message": middle}).to_string();
    let [_, level, _, message] = parts(&outer, &settings);
    assert_eq!((level.as_str(), message.as_str()), ("error", inner));

    // Docker's wrapping is the runtime's, and isn't counted.
    let docker =
        serde_json::json!({"log": format!("{middle}\n"), "stream": "stdout", "time": "2026-11-24T10:03:00Z"});
    let [time, level, _, message] = parts(&docker.to_string(), &settings);
    assert_eq!((time.as_str(), level.as_str()), ("2026-11-24T12:00:00Z", "fatal"));
    assert_eq!(message, "innermost");
}

fn kinds(lines: &[&str]) -> Vec<Option<Kind>> {
    let settings = settings(Format::Auto);
    let mut carry = Carry::at(0);
    let mut kinds = Vec::new();
    for line in lines {
        let (_, after) = read_from(line.as_bytes(), &settings, carry);
        kinds.push(after.state.kind);
        carry = after;
    }
    kinds
}

#[test]
fn auto_says_what_a_file_is_and_changes_its_mind() {
    use Kind::{Container, Json, Logfmt, Text};
    let json = r#"{"level":"info","msg":"x"}"#;
    let text = "2026-11-24T10:03:00Z INFO x";
    assert_eq!(kinds(&["welcome to it", json, json]), [None, Some(Json), Some(Json)]);
    assert_eq!(kinds(&[text, json, text]), [Some(Text), Some(Json), Some(Text)]);
    assert_eq!(kinds(&["level=info msg=x", "user=7 took=3ms"]), [Some(Logfmt); 2]);
    assert_eq!(kinds(&["2026-11-24T10:03:00Z stdout F x"]), [Some(Container)]);
    let many = kinds(&[json, json, json, json, json, json, json, text, text, text, text, text]);
    assert_eq!(many[10..], [Some(Json), Some(Text)]);
}

#[test]
fn containers_lines_bear_where_they_come_from() {
    let name = format!("/var/log/containers/pay-0_shop_app-{}.log", "0a".repeat(32));
    let settings = Settings { origin: Origin::of_path(Path::new(&name)), ..settings(Format::Auto) };
    let content = concat!(
        "2026-11-24T10:03:00.1Z stderr P {\"level\":\"error\",\"msg\":\"in two \n",
        "2026-11-24T10:03:00.2Z stderr F parts\",\"attributes\":{\"a\":1}}\n",
        "2026-11-24T10:03:01.1Z stdout F WARN: low\n",
        "2026-11-24T10:03:01.2Z stdout F \tat a.B(B.java:7)\n",
        "2026-11-24T10:03:01.3Z stderr F panic: no\n",
        "2026-11-24T10:03:01.3Z stderr F \n",
        "2026-11-24T10:03:01.3Z stderr F goroutine 1 [running]:\n",
        "2026-11-24T10:03:01.3Z stderr F main.main()\n",
    );
    let (events, carry) = read(content.as_bytes(), &settings, 0);
    let texts: Vec<&str> = events.iter().map(|(event, _)| event.trim_end()).collect();
    assert_eq!(
        texts,
        [
            r#"{"timestamp":1795514580100,"service":"api","level":"error","message":"in two parts","attributes":{"stream":"stderr","namespace":"shop","pod":"pay-0","container":"app","a":1}}"#,
            r#"{"timestamp":1795514581100,"service":"api","level":"warn","message":"WARN: low\n\tat a.B(B.java:7)","attributes":{"stream":"stdout","namespace":"shop","pod":"pay-0","container":"app"}}"#,
            r#"{"timestamp":1795514581300,"service":"api","level":"fatal","message":"panic: no\n\ngoroutine 1 [running]:\nmain.main()","attributes":{"stream":"stderr","namespace":"shop","pod":"pay-0","container":"app"}}"#,
        ]
    );
    assert_eq!((events[1].1.time, carry.state.kind), (By::Runtime, Some(Kind::Container)));
    assert!(texts.iter().all(|text| event::check(text.as_bytes(), &RULES).is_ok()));
}

#[test]
fn fields_can_be_named() {
    let keys = Keys {
        time: Some("when".to_owned()),
        level: Some("grade".to_owned()),
        message: Some("what".to_owned()),
        service: Some("who".to_owned()),
    };
    let settings = Settings { keys, ..settings(Format::Auto) };
    for line in [
        r#"{"when":"2026-11-24T10:03:00Z","grade":"ERROR","what":"x","who":"web","level":"info","time":1}"#,
        r#"{"timestamp":1795514401000,"level":"info","message":"m","service":"s","when":"2026-11-24T10:03:00Z","grade":"ERROR","what":"x","who":"web"}"#,
        r#"when=2026-11-24T10:03:00Z grade=ERROR what=x who=web level=info time=1"#,
        r#"timestamp=2026-11-24T09:00:01Z level=info when=2026-11-24T10:03:00Z grade=ERROR what=x who=web"#,
        r#"when=2026-11-24T10:03:00Z grade=ERROR what=x who=web"#,
    ] {
        let (events, _) = read(line.as_bytes(), &settings, 0);
        assert_eq!(minute_and_level(&events[0].0), "2026-11-24T10:03Z error");
        assert!(events[0].0.contains(r#""service":"web""#) && events[0].0.contains(r#""message":"x""#));
        assert_eq!(events[0].1.level, By::MappedKey);
    }
}

#[test]
fn an_object_in_a_message_or_in_place_of_a_service_makes_no_field_twice() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let wrapped = format!(
        r#"{{"trace_id":"{trace}","message":"{{\"level\":\"error\",\"trace_id\":\"{trace}\",\"span_id\":\"00f067aa0ba902b7\"}}"}}"#
    );
    let versioned = r#"{"service":{"version":"1"},"level":"warn","msg":"x"}"#;
    for (line, level, part) in [
        (wrapped.as_str(), "error", r#""span_id":"00f067aa0ba902b7""#),
        (versioned, "warn", r#""service":"api""#),
    ] {
        let (events, _) = read(line.as_bytes(), &settings(Format::Auto), ms("2026-11-24T10:03Z"));
        assert_eq!(minute_and_level(&events[0].0), format!("2026-11-24T10:03Z {level}"));
        assert!(events[0].0.contains(part), "{}", events[0].0);
    }
}

#[test]
fn a_part_of_an_event_may_stand_behind_any_number_of_fields() {
    let many: String = (0..1_500).map(|n| format!("\"f{n}\":{n},")).collect();
    let line = format!(r#"{{{many}"level":"error","message":"x","timestamp":"2026-11-24T10:03:00Z"}}"#);
    let (events, _) = read(line.as_bytes(), &settings(Format::Auto), 0);
    assert_eq!(minute_and_level(&events[0].0), "2026-11-24T10:03Z error");
}

#[test]
fn what_is_cut_off_one_stream_takes_nothing_of_the_other_along() {
    let settings = Settings { max_event_bytes: 120, ..settings(Format::Auto) };
    let line = |stream: &str, text: &str| format!("2026-11-24T10:03:00.1Z {stream} {text}\n");
    let long = "x".repeat(60);
    // Cut in the middle of a line, whose rest comes after the other stream's line.
    let in_a_line = [
        line("stderr", &format!("P {long}")),
        line("stderr", &format!("P {long}")),
        line("stdout", "F ERROR: of the other"),
        line("stderr", "P the rest"),
        line("stdout", "F WARN: of the other"),
        line("stderr", "F of it"),
        line("stderr", "F INFO: again"),
    ];
    // Cut between two lines of a trace, in a file whose lines usually have a time.
    let in_an_event = [
        line("stderr", "F 2026-11-24T10:03:00Z ERROR it broke"),
        line("stderr", &format!("F \tat {long}")),
        line("stderr", &format!("F \tat {long}")),
        line("stdout", "F without a time"),
        line("stderr", "F \tat the.End"),
        line("stderr", "F 2026-11-24T10:03:00Z INFO again"),
    ];
    for (content, expected) in [
        (in_a_line.concat(), vec!["info", "error", "warn", "info"]),
        (in_an_event.concat(), vec!["error", "info", "info"]),
    ] {
        let (events, _) = read(content.as_bytes(), &settings, 0);
        let levels: Vec<String> = events
            .iter()
            .map(|(event, _)| minute_and_level(event).split_once(' ').unwrap().1.to_owned())
            .collect();
        assert_eq!(levels, expected, "{events:?}");
        assert!(!events.iter().any(|(event, _)| event.contains("the rest") || event.contains("the.End")));
    }
}

#[test]
fn a_line_that_begins_an_event_can_be_named() {
    let start = regex::bytes::Regex::new("^(BEGIN|END) ").unwrap();
    let settings = Settings { multiline_start: Some(start), ..settings(Format::Auto) };
    let (events, _) = read(b"before\nBEGIN a\n2026-11-24T10:03:00Z b\nc\nEND d\n", &settings, 0);
    let messages: Vec<&str> =
        events.iter().map(|(event, _)| event.split_once("message").unwrap().1.trim()).collect();
    assert_eq!(messages, [r#"":"before"}"#, r#"":"BEGIN a\n2026-11-24T10:03:00Z b\nc"}"#, r#"":"END d"}"#]);
}
