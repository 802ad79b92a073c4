use super::*;
use logweir_proto::event::Window;
use proptest::prelude::*;

const NOW_MS: i64 = 1_800_000_000_000;

fn rules() -> Rules {
    Rules {
        max_bytes: 1_000,
        window: Some(Window { now_ms: NOW_MS, max_age_ms: 60_000, max_ahead_ms: 1_000 }),
    }
}

fn limits() -> Limits {
    Limits { event_bytes: 1_000, batch_events: 100, decoded_bytes: 100_000, wire_bytes: 50_000 }
}

fn good(message: &str) -> String {
    format!(r#"{{"timestamp":{NOW_MS},"service":"api","level":"info","message":"{message}"}}"#)
}

fn late() -> String {
    format!(r#"{{"timestamp":{},"service":"api","level":"info","message":""}}"#, NOW_MS - 60_001)
}

fn run(body: &[u8], encoding: Encoding, kind: Kind) -> Result<Judged, Unreadable> {
    unpack(Bytes::copy_from_slice(body), encoding, kind, &limits()).map(|u| judge(u, &rules(), |_| true))
}

fn plain(judged: &Judged) -> String {
    let body = encoding::decode(judged.encoding, &judged.body, 1 << 20).unwrap();
    String::from_utf8(body).unwrap()
}

fn malformed(outcome: Result<Judged, Unreadable>) -> String {
    match outcome {
        Err(Unreadable::Malformed(detail)) => detail,
        other => panic!("expected malformed, got {other:?}"),
    }
}

#[test]
fn a_good_zstd_ndjson_body_passes_byte_for_byte() {
    let lines = format!("{}\r\n\n  \n{}", good("one"), good("two"));
    let wire = zstd::encode_all(lines.as_bytes(), 19).unwrap();
    let judged = run(&wire, Encoding::Zstd, Kind::Ndjson).unwrap();
    assert_eq!(judged.body, wire);
    assert_eq!(judged.encoding, Encoding::Zstd);
    assert_eq!((judged.events, judged.accepted()), (2, 2));
    assert!(judged.skip.is_empty());
}

#[test]
fn a_bad_line_leaves_the_good_ones() {
    let lines = format!("{}\nnonsense\n\n{}\n{}\n\u{0}\n{}", good("a"), late(), good("b"), good("c"));
    for encoding in [Encoding::Identity, Encoding::Zstd, Encoding::Gzip] {
        let judged = run(&encode(lines.as_bytes(), encoding), encoding, Kind::Ndjson).unwrap();
        assert_eq!(judged.skip, [1, 2, 4]);
        assert_eq!(judged.reasons, [Code::NotJson, Code::TooOld, Code::NotJson]);
        assert_eq!(judged.rejected.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!((judged.events, judged.accepted()), (6, 3));
        assert_eq!(plain(&judged), format!("{}\n{}\n{}\n", good("a"), good("b"), good("c")));
    }
}

#[test]
fn an_event_that_is_too_long_is_rejected_among_good_ones() {
    let lines = format!("{}\n{}\n", good(&"x".repeat(1_000)), good("b"));
    let judged = run(lines.as_bytes(), Encoding::Identity, Kind::Ndjson).unwrap();
    assert_eq!(judged.reasons, [Code::TooLong]);
    assert_eq!(plain(&judged), format!("{}\n", good("b")));
}

#[test]
fn json_becomes_lines() {
    let pretty = good("a").replace(',', ",\r\n  ");
    let one = run(pretty.as_bytes(), Encoding::Identity, Kind::Json).unwrap();
    assert_eq!(one.events, 1);
    assert_eq!(plain(&one).lines().count(), 1);
    let body = format!("[{pretty},\n {},17, {}]", late(), good("b"));
    let many = run(body.as_bytes(), Encoding::Identity, Kind::Json).unwrap();
    assert_eq!(many.skip, [1, 2]);
    assert_eq!(many.reasons, [Code::TooOld, Code::NotObject]);
    assert_eq!(plain(&many), format!("{}{}\n", plain(&one), good("b")));
}

#[test]
fn nothing_valid_leaves_no_body() {
    let judged = run(b"1\n2\n", Encoding::Identity, Kind::Ndjson).unwrap();
    assert_eq!((judged.accepted(), judged.body.len()), (0, 0));
    assert_eq!(judged.skip, [0, 1]);
}

#[test]
fn small_bodies_stay_plain_and_larger_ones_are_compressed() {
    let small = run(good("a").as_bytes(), Encoding::Identity, Kind::Ndjson).unwrap();
    assert_eq!(small.encoding, Encoding::Identity);
    let lines = format!("{}\n", good("a")).repeat(50);
    let large = run(lines.as_bytes(), Encoding::Identity, Kind::Ndjson).unwrap();
    assert_eq!(large.encoding, Encoding::Zstd);
    assert!(large.body.len() < lines.len() / 5);
    assert_eq!(plain(&large), lines);
}

#[test]
fn bodies_without_an_event_are_malformed() {
    for (body, kind) in [
        ("", Kind::Ndjson),
        ("", Kind::Json),
        ("\n \r\n\t\n", Kind::Ndjson),
        ("  ", Kind::Json),
        ("[]", Kind::Json),
        ("[ ]", Kind::Json),
        ("{", Kind::Json),
        ("nonsense", Kind::Json),
        ("[{}", Kind::Json),
    ] {
        assert!(!malformed(run(body.as_bytes(), Encoding::Identity, kind)).is_empty(), "{body:?}");
    }
    let empty = encode(b"", Encoding::Zstd);
    malformed(run(&empty, Encoding::Zstd, Kind::Ndjson));
}

#[test]
fn garbled_and_cut_encodings_are_malformed() {
    let lines = format!("{}\n", good("a")).repeat(50);
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let wire = encode(lines.as_bytes(), encoding);
        for cut in [1, wire.len() / 2, wire.len() - 1] {
            malformed(run(&wire[..cut], encoding, Kind::Ndjson));
        }
        malformed(run(lines.as_bytes(), encoding, Kind::Ndjson));
        malformed(run(&[&wire[..], b"more"].concat(), encoding, Kind::Ndjson));
    }
}

#[test]
fn what_is_too_large_says_so() {
    let large = |outcome| match outcome {
        Err(Unreadable::TooLarge(detail)) => detail,
        other => panic!("expected too large, got {other:?}"),
    };
    let bomb = vec![b' '; 10 << 20];
    for encoding in [Encoding::Zstd, Encoding::Gzip] {
        let detail = large(run(&encode(&bomb, encoding), encoding, Kind::Ndjson));
        assert!(detail.contains("100000 bytes"), "{detail}");
    }
    let many = format!("{}\n", good("")).repeat(101);
    assert!(large(run(many.as_bytes(), Encoding::Identity, Kind::Ndjson)).contains("100 events"));
    let array = format!("[{}]", vec![good(""); 101].join(","));
    assert!(large(run(array.as_bytes(), Encoding::Identity, Kind::Json)).contains("100 events"));
    let just = format!("{}\n", good("")).repeat(100);
    assert_eq!(run(just.as_bytes(), Encoding::Identity, Kind::Ndjson).unwrap().events, 100);
}

fn encode(body: &[u8], encoding: Encoding) -> Vec<u8> {
    use std::io::Write as _;
    match encoding {
        Encoding::Identity => body.to_vec(),
        Encoding::Zstd => zstd::encode_all(body, 3).unwrap(),
        Encoding::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(body).unwrap();
            out.finish().unwrap()
        }
    }
}

proptest! {
    /// Whatever mixture comes in whatever dress: the queue gets exactly the good events, in their order, and
    /// each bad one its verdict under its number.
    #[test]
    fn the_queue_gets_the_good_events_in_order(
        events in prop::collection::vec(prop_oneof![
            "[a-z]{0,40}".prop_map(|m| (good(&m), true)),
            Just((late(), false)),
            Just(("17".to_owned(), false)),
            Just(("{}".to_owned(), false)),
        ], 1..60),
        dress in 0..4_u8,
    ) {
        let texts: Vec<&str> = events.iter().map(|(text, _)| text.as_str()).collect();
        let (body, encoding, kind) = match dress {
            0 => (texts.join("\n"), Encoding::Identity, Kind::Ndjson),
            1 => (texts.join("\r\n\n") + "\n", Encoding::Zstd, Kind::Ndjson),
            2 => (texts.join("\n \n"), Encoding::Gzip, Kind::Ndjson),
            _ => (format!("[{}]", texts.join(",\n")), Encoding::Identity, Kind::Json),
        };
        let judged = run(&encode(body.as_bytes(), encoding), encoding, kind).unwrap();
        let expected: Vec<&str> = events.iter().filter(|(_, good)| *good).map(|(text, _)| text.as_str()).collect();
        let bad: Vec<u64> = (0..).zip(&events).filter(|(_, (_, good))| !good).map(|(n, _)| n).collect();
        prop_assert_eq!(&judged.skip, &bad);
        prop_assert_eq!(judged.events, u64::try_from(events.len()).unwrap());
        let stored = encoding::decode(judged.encoding, &judged.body, 1 << 20).unwrap();
        let stored: Vec<&str> = ndjson::lines(&stored).map(|l| std::str::from_utf8(l).unwrap()).collect();
        prop_assert_eq!(stored, expected);
    }
}

#[test]
fn services_that_are_too_many_are_renamed_in_every_kind_of_body() {
    let event = |service: &str| good("m").replace("api", service);
    let lines = [event("a"), "nonsense".to_owned(), event("b"), event("a"), event("c")].join("\n");
    let json = format!("[{},\n 5,{}, {},{}]", event("a"), event("b"), event("a"), event("c"));
    let expected = [event("a"), event("__overflow__"), event("a"), event("__overflow__")].join("\n") + "\n";
    for (body, kind) in [(lines, Kind::Ndjson), (json, Kind::Json)] {
        for encoding in [Encoding::Identity, Encoding::Zstd] {
            let unpacked =
                unpack(encode(body.as_bytes(), encoding).into(), encoding, kind, &limits()).unwrap();
            let judged = judge(unpacked, &rules(), |service| service == "a");
            assert_eq!((plain(&judged), &judged.skip[..], judged.overflow), (expected.clone(), &[1][..], 2));
            assert_eq!(judged.accepted(), 4);
        }
    }
}

#[test]
fn what_is_said_of_many_wrong_events_is_in_the_memory_that_is_reserved() {
    let limits = Limits { batch_events: 10_000, ..limits() };
    let odd = "\u{7f}".repeat(64);
    let wrong = [
        "1\n".to_owned(),
        "{}\n".to_owned(),
        format!(r#"{{"timestamp":"{odd}","service":1,"level":1,"message":1}}"#) + "\n",
    ];
    for line in wrong {
        let body = Bytes::from(line.repeat((100_000 / line.len()).min(10_000)));
        let unpacked = unpack(body.clone(), Encoding::Identity, Kind::Ndjson, &limits).unwrap();
        let memory = u64::try_from(unpacked.memory_to_judge()).unwrap();
        let most = logweir_fuzz::Work { steps: (0, u64::MAX), memory: (0, memory) };
        let judged = logweir_fuzz::bounded(body.len(), most, || judge(unpacked, &rules(), |_| true));
        assert_eq!(judged.accepted(), 0);
        assert!(judged.memory() > body.len() && u64::try_from(judged.memory()).unwrap() < memory);
    }
}
