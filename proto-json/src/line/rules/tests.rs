use super::*;
use crate::event as wire;
use crate::line::{Assembly, Carry, Facts, Format, Keys, MAX_EVENT_BYTES, Next, Settings};
use proptest::prelude::*;
use std::sync::Arc;

fn rules(include: &[&str], exclude: &[&str], redact: &[ReadySet], replace: &[&str]) -> Rules {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let replace = replace.iter().map(|text| text.parse().unwrap()).collect();
    let texts =
        RuleTexts { include: owned(include), exclude: owned(exclude), redact: redact.to_vec(), replace };
    Rules::new(texts).unwrap()
}

fn settings(format: Format, rules: Rules) -> Settings {
    Settings {
        format,
        service: None,
        file_service: "api".to_owned(),
        origin: None,
        keys: Keys::default(),
        default_level: crate::Level::Info,
        timezone: jiff::tz::TimeZone::UTC,
        multiline_start: None,
        max_event_bytes: MAX_EVENT_BYTES,
        rules: Arc::new(rules),
    }
}

/// All events of a file, left out or not, and how often each rule found something.
fn events(text: &[u8], settings: &Settings) -> Vec<(Facts, String, Vec<u32>)> {
    let mut assembly = Assembly::new(settings, Carry::at(1_795_514_580_000));
    let mut all = Vec::new();
    let mut take = |assembly: &mut Assembly<'_>| {
        let facts = assembly.take().unwrap();
        all.push((
            facts,
            String::from_utf8(assembly.event().to_vec()).unwrap(),
            assembly.redacted().to_vec(),
        ));
    };
    for line in text.split(|byte| *byte == b'\n') {
        let mut next = assembly.line(line);
        if next == Next::Complete {
            take(&mut assembly);
            next = assembly.line(line);
        }
        if next == Next::Whole {
            take(&mut assembly);
        }
    }
    if assembly.is_open() {
        take(&mut assembly);
    }
    all
}

/// What becomes of one text, as the message of an event.
fn redacted(text: &str, set: ReadySet) -> String {
    let settings = settings(Format::Text, rules(&[], &[], &[set], &[]));
    let [(_, event, _)] = events(text.as_bytes(), &settings).try_into().unwrap();
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    event["message"].as_str().unwrap().to_owned()
}

#[test]
fn addresses() {
    for (text, expected) in [
        ("from a.b+c@mail.example.com to <x@y.co>, z@t.io.", "from [email] to <[email]>, [email]."),
        ("user=bob@corp.com ok mailto:al@b.org?x", "user=[email] ok mailto:[email]?x"),
        ("müller@exämple.de 小王@163.com", "[email] [email]"),
        ("GET /in?mail=a.b%40example.com&x=1", "GET /in?mail=[email]&x=1"),
        (r#"body {"mail":"a\u0040b.co"}"#, r#"body {"mail":"[email]"}"#),
        ("a@xn--bcher-kva.xn--p1ai!", "[email]!"),
        ("a@b.co@c.de a@b.co1 a@b.co_x", "[email]@c.de [email]1 [email]_x"),
    ] {
        assert_eq!(redacted(text, ReadySet::Email), expected);
    }
    for text in [
        "clone git@github.com:org/repo.git",
        "ssh://git@host.example.com/x",
        "Started user@1000.service, getty@tty1.service",
        "icon@2x.png react@18.2.0-rc.beta lodash@4.17.21",
        "java.lang.Object@1b6d3586 at @Override foo@bar",
        "root@web1 image@sha256:0a1b2c a@b.1 @b.co a@ b.co 50%40",
        "a@ b.co",
    ] {
        assert_eq!(redacted(text, ReadySet::Email), text);
    }
}

#[test]
fn cards() {
    for text in [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5555555555554444",
        "2223003122003222",
        "3782 822463 10005",
        "378282246310005",
        "6011111111111117",
        "3056 930902 5904",
        "3530111333300000",
        "4222222222222",
        "6304000000000000",
        "6200000000000005",
    ] {
        assert_eq!(redacted(&format!("card {text}, ok"), ReadySet::Card), "card [card], ok");
        assert_eq!(redacted(&format!("paid 2026 {text} 7"), ReadySet::Card), "paid 2026 [card] 7");
        assert_eq!(redacted(&format!("卡{text}。pan={text}"), ReadySet::Card), "卡[card]。pan=[card]");
    }
    for text in [
        // The last digit doesn't fit.
        "order 4111111111111112",
        "4111 1111 1111 1112",
        // Nobody issues these, though it fits.
        "n 1000000000000008 9000000000000001 41111111111111",
        // Parts of others.
        "x4111111111111111 4111111111111111y 0.4111111111111111 41111111111111111111111",
        "4111-1111 1111-1111 41 11 11 11 11 11 11 11",
        "at 1795514580123456 1795514580123 2026-11-24T10:03:00.123456789Z",
        "123e4567-e89b-12d3-a456-426614174000",
    ] {
        assert_eq!(redacted(text, ReadySet::Card), text);
    }
}

#[test]
fn tokens() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln-na_ture";
    for (text, expected) in [
        ("Authorization: Bearer abc", "Authorization: Bearer [token]"),
        ("curl -H 'authorization: Basic dTpw' x", "curl -H 'authorization: Basic [token]' x"),
        (r#"{'Proxy-Authorization': 'Bearer abc=='}"#, r#"{'Proxy-Authorization': 'Bearer [token]'}"#),
        (r#"req {\"Authorization\":\"Bearer abc\"}"#, r#"req {\"Authorization\":\"Bearer [token]\"}"#),
        ("got BEARER 0123456789abcdef0123!", "got BEARER [token]!"),
        ("GET /x?access_token=ya29.a0AfH6SMBx12345&y=1", "GET /x?access_token=[token]&y=1"),
        ("token: 'AbCdEfGhIjKlMn0p'", "token: '[token]'"),
        (&format!("saw {jwt} there"), "saw [token] there"),
        (&format!("a=b;{jwt}"), "a=b;[token]"),
    ] {
        assert_eq!(redacted(text, ReadySet::Bearer), expected);
    }
    for text in [
        "Bearer of good news, bearer authentication-not-configured, Bearer realm=\"x\"",
        "token=expired token: missing max_token=4096 tokens=1234567890123456789",
        "unexpected token: <!DOCTYPE, next_page_token=AbCdEfGhIjKlMn0p1234",
        "Authorization: missing; authorization=failed for user bob",
        "eyJ.eyJ.x class eyJhbGciOiJIUzI1NiJ9",
    ] {
        assert_eq!(redacted(text, ReadySet::Bearer), text);
    }
}

#[test]
fn json_is_looked_at_as_what_it_means() {
    let all = || rules(&[], &[], &ReadySet::ALL, &["sid=[0-9a-f]+=>sid=***"]);
    // A valid event, which is copied otherwise.
    let event = concat!(
        r#"{"timestamp":4111111111111111,"service":"4111111111111111","level":"info","trace_id":null,"message":"a\u0040b.co \"\b\u00e9"#,
        r#" \/", "n": 4111111111111111 ,"Authorization":"Bearer x","access_token":"abcdef0123456789","c@d.io":"sid=1f",  "attributes"#,
        r#"":{"list":["e@f.gh",{"deep":"4111 1111\u00201111 1111"},1.50],"z":"\u00e9"}}"#
    );
    let event = event
        .replace(r#""trace_id":null,"#, "")
        .replace("4111111111111111,\"service", "1795514580000,\"service");
    let found = events(event.as_bytes(), &settings(Format::Auto, all()));
    assert_eq!(
        found[0].1,
        concat!(
            r#"{"timestamp":1795514580000,"service":"4111111111111111","level":"info","message":"[email] \"\bé /", "#,
            r#""n": "[card]" ,"Authorization":"Bearer [token]","access_token":"[token]","c@d.io":"sid=***",  "attributes"#,
            r#"":{"list":["[email]",{"deep":"[card]"},1.50],"z":"\u00e9"}}"#,
            "\n"
        )
    );
    assert_eq!(found[0].2, [1, 2, 2, 2]);
    // Where nothing is found, every byte stays.
    let plain = r#"{"timestamp" : 1795514580000,"service":"a","level":"info","message":"\u0041 \/ 1e5","x":[1,2.0e+3]}"#;
    let found = events(plain.as_bytes(), &settings(Format::Auto, all()));
    assert_eq!((found[0].1.as_str(), found[0].2.iter().sum::<u32>()), (&*format!("{plain}\n"), 0));
}

#[test]
fn what_is_rejected_stays_so_and_is_redacted_too() {
    let all = || rules(&[], &[], &[ReadySet::Email, ReadySet::Card], &["[} ]+$=>}", "x+=>", "^ *loud *=>"]);
    let valid = r#""timestamp":1795514580000,"service":"a","level":"info","message":"m""#;
    for (line, expected) in [
        // Without what is replaced, these would be valid, or no line at all.
        (format!("{{{valid}}}}}"), "[redacted]".to_owned()),
        ("xxx".to_owned(), "[redacted]".to_owned()),
        (r#"{"level":"loudinfo"}"#.to_owned(), r#""level":"[redacted]""#.to_owned()),
        (r#"{"level":"info a@b.co"}"#.to_owned(), r#""level":"[redacted]""#.to_owned()),
        (r#"{"service":"a@b.co"}"#.to_owned(), r#""service":"[redacted]""#.to_owned()),
        (r#"{"time":"x2026-11-24T10:03:00Z a@b.co"}"#.to_owned(), r#""timestamp":"[redacted]""#.to_owned()),
        (r#"{"message":4111111111111111}"#.to_owned(), r#""message":null"#.to_owned()),
        (r#"{"trace_id":"xx a@b.co"}"#.to_owned(), r#""trace_id":"[redacted]""#.to_owned()),
        (
            r#"{"a":"\ud800x\udc00 a@b.co"}"#.to_owned(),
            "\"a\":\"\u{fffd}\u{fffd} [email]\\ud800\"".to_owned(),
        ),
        (r#""a@b.co""#.to_owned(), r#""[email]""#.to_owned()),
        ("no JSON: a@b.co".to_owned(), "no JSON: [email]".to_owned()),
    ] {
        let found = events(line.as_bytes(), &settings(Format::Json, all()));
        assert_eq!(found.len(), 1);
        let event = &found[0].1;
        assert!(event.contains(&expected), "{line} became {event}");
        let form = wire::Rules { max_bytes: usize::MAX, window: None };
        assert!(wire::check(event.trim_end().as_bytes(), &form).is_err(), "{event}");
        assert_eq!(crate::ndjson::lines(event.as_bytes()).count(), 1, "{event}");
    }
}

#[test]
fn no_event_becomes_too_long_by_being_redacted() {
    let long = || rules(&[], &[], &[], &[&format!("a=>{}", "\"".repeat(100)), "\"=>\"\"\"\"", "[0-9]=>"]);
    let text = format!("INFO {}", "a".repeat(100_000));
    let found = events(text.as_bytes(), &settings(Format::Text, long()));
    assert!(found[0].1.contains(r#""message":"INFO ""#), "{}", &found[0].1[..200]);
    assert_eq!(found[0].2[0], 100_000);
    // Neither do numbers that become strings.
    let event = |inner: &str| {
        format!(r#"{{"timestamp":1795514580000,"service":"b","level":"info","message":"m","n":[{inner}]}}"#)
    };
    let numbers = event(&format!("7{},\"{}\"", ",7".repeat(60_000), "a".repeat(9_000)));
    let found = events(numbers.as_bytes(), &settings(Format::Auto, long()));
    assert_eq!(found[0].1.trim_end(), event(&format!("0{},\"\"", ",0".repeat(60_000))));
}

#[test]
fn the_whole_event_is_filtered_and_its_neighbours_stay() {
    let text = concat!(
        "2026-11-24T10:03:00Z INFO one\n2026-11-24T10:04:00Z DEBUG two\n\tat a.B(B.java:7) gone\nthree\n",
        "2026-11-24T10:05:00Z ERROR four\n\tat keep.C(C.java:7)\n",
        "{\"level\":\"info\",\"msg\":\"five gone\"}\n",
        "{\"timestamp\":1795514820000,\"service\":\"s\",\"level\":\"info\",\"message\":\"six gone\"}\n",
        "{\"level\":\"info\",\"msg\":\"seven\"}\n",
    );
    let all = events(text.as_bytes(), &settings(Format::Auto, Rules::default()));
    let kept = |include: &[&str], exclude: &[&str]| {
        let found = events(text.as_bytes(), &settings(Format::Auto, rules(include, exclude, &[], &[])));
        // Grouping, times and text are the same, whatever is left out.
        let texts = |events: &[(Facts, String, Vec<u32>)]| -> Vec<String> {
            events.iter().map(|(_, event, _)| event.clone()).collect()
        };
        assert_eq!(texts(&found), texts(&all));
        found
            .iter()
            .map(|(facts, ..)| facts.filtered.map_or("-".to_owned(), |why| why.to_string()))
            .collect::<Vec<_>>()
    };
    let (i, x1, x2) = ("include", "exclude-1", "exclude-2");
    assert_eq!(kept(&[], &[]), ["-", "-", "-", "-", "-", "-"]);
    assert_eq!(kept(&[], &["gone", "six|seven|ONE"]), ["-", x1, "-", x1, x1, x2]);
    assert_eq!(kept(&["keep", "(?i)info ONE"], &[]), ["-", i, "-", i, i, i]);
    assert_eq!(kept(&["INFO", "keep"], &["one$"]), [x1, i, "-", i, i, i]);
    // From its first to its last line.
    assert_eq!(kept(&[r"^2026.*four\n\tat keep\.C\(C\.java:7\)$"], &[]), [i, i, "-", i, i, i]);
}

#[test]
fn what_is_wrong_with_a_rule_is_said() {
    let error = |include: &[&str], exclude: &[&str], replace: &[(&str, &str)]| {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let replace =
            replace.iter().map(|(a, b)| Replacement { regex: (*a).into(), text: (*b).into() }).collect();
        let texts = RuleTexts { include: owned(include), exclude: owned(exclude), redact: vec![], replace };
        Rules::new(texts).unwrap_err()
    };
    let big = r"\w{200}{20}";
    for (error, parts) in [
        (error(&["a", "("], &[], &[]), ["--include-lines \"(\"", "unclosed group"]),
        (error(&[], &[big], &[]), ["--exclude-lines", "size limit"]),
        (error(&[], &[], &[(big, "")]), ["--redact-regex", "size limit"]),
        (error(&[], &["x"; 17], &[]), ["--exclude-lines is given 17 times", "16 is the most"]),
        (error(&[&"x".repeat(4000)], &["y"], &[("z", &"t".repeat(100))]), ["4102 bytes together", "4096"]),
        (error(&[], &[], &[("x*", "")]), ["--redact-regex 'x*=>'", "empty text"]),
        (error(&[], &[], &[("x", "a\nb")]), ["--redact-regex", "control characters"]),
    ] {
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    assert!("a=b".parse::<Replacement>().unwrap_err().contains("REGEX=>TEXT"));
    assert!("mail".parse::<ReadySet>().unwrap_err().contains("bearer, email, card"));
    let rule: Replacement = "a=>b=>c".parse().unwrap();
    assert_eq!((rule.regex.as_str(), rule.text.as_str()), ("a=>b", "c"));
}

#[test]
fn they_are_written_briefly_and_read_again() {
    assert_eq!(serde_json::to_string(&RuleTexts::default()).unwrap(), "{}");
    let all = rules(&["a"], &["b"], &[ReadySet::Email, ReadySet::Card, ReadySet::Email], &["c=>d"]);
    let json = serde_json::to_string(all.texts()).unwrap();
    assert_eq!(json, r#"{"include":["a"],"exclude":["b"],"redact":["email","card"],"replace":[["c","d"]]}"#);
    assert_eq!(serde_json::from_str::<RuleTexts>(&json).unwrap(), *all.texts());
    assert_eq!(all.redactions().collect::<Vec<_>>(), ["regex-1", "email", "card"]);
    assert_eq!(all.filters().map(|f| f.to_string()).collect::<Vec<_>>(), ["include", "exclude-1"]);
}

/// Texts with what is to be found in them, and with what looks like it, written with and without escapes.
fn secret() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        Just("a@b.co".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("Bearer abcdef0123456789".to_owned()),
        Just("token=".to_owned()),
        Just("authorization:".to_owned()),
        "[ -@.%a]{0,3}",
        "[0-9 -]{1,24}",
        any::<String>(),
    ];
    prop::collection::vec(parts, 0..6).prop_map(|parts| parts.concat())
}

fn escaped(text: &str, each: bool) -> String {
    let unit = |unit: u16| format!("\\u{unit:04X}");
    if each {
        text.encode_utf16().map(unit).collect()
    } else {
        serde_json::to_string(text).unwrap().trim_matches('"').to_owned()
    }
}

fn line() -> impl Strategy<Value = String> {
    let json = (secret(), secret(), secret(), any::<bool>(), 0_u8..6).prop_map(|(a, b, c, each, form)| {
        let (a, b, c) = (escaped(&a, each), escaped(&b, !each), escaped(&c, each));
        match form {
            0 => format!(r#"{{"level":"info","msg":"{a}","x":["{b}",4111111111111111],"{c}":"{c}"}}"#),
            1 => format!(
                r#"{{"timestamp":1795514580000,"service":"s","level":"warn","message":"{a}","k":"{b}"}}"#
            ),
            2 => format!(r#"{{"level":"{a}","msg":"{b}","service":"{c}"}}"#),
            3 => format!(r#"{{"level":"info","msg":"{a}\ud800","trace_id":"{b}"}}"#),
            4 => format!(r#"{{"log":"{a}\n","stream":"stderr","time":"2026-11-24T10:03:00Z"}}"#),
            _ => format!(r#"level=info msg="{a}" x="{b}""#),
        }
    });
    prop_oneof![secret().prop_map(|text| text.replace('\n', " ")), json]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// As many events, valid where they were, with the same time, service and level; nothing is left to be found,
    /// and all that is no text stays as it is.
    #[test]
    fn redacted_events_are_the_same_events(
        lines in prop::collection::vec(line(), 1..5),
        format in prop::sample::select(Format::ALL.to_vec()),
        own in any::<bool>(),
    ) {
        let text = lines.join("\n");
        let replace: &[&str] = if own { &["[ab]+=>", "0=>\"\\", "info|warn=>x"] } else { &[] };
        let plain = events(text.as_bytes(), &settings(format, Rules::default()));
        let found = events(text.as_bytes(), &settings(format, rules(&[], &[], &ReadySet::ALL, replace)));
        prop_assert_eq!(plain.len(), found.len());
        let form = wire::Rules { max_bytes: usize::MAX, window: None };
        for ((facts, before, _), (facts_now, now, counts)) in plain.iter().zip(&found) {
            prop_assert_eq!(facts, facts_now);
            prop_assert_eq!(crate::ndjson::lines(now.as_bytes()).count(), 1, "{}", now);
            let event = |text: &str| {
                let event = wire::check(text.trim_end().as_bytes(), &form).ok()?;
                Some((event.timestamp_ms, event.service.as_str().to_owned(), event.level))
            };
            prop_assert_eq!(event(before), event(now), "{} became {}", before, now);
            if counts.iter().all(|count| *count == 0) {
                prop_assert_eq!(before, now);
            }
            if !own && event(now).is_some() {
                // Once more, and nothing is found.
                let again = events(now.as_bytes(), &settings(Format::Json, rules(&[], &[], &ReadySet::ALL, &[])));
                prop_assert_eq!(&again[0].1, now);
                prop_assert_eq!(again[0].2.iter().sum::<u32>(), 0);
            }
        }
    }
}
