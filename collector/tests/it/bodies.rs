//! The table of bodies in docs/events.md, row by row, through the whole collector: what each is answered, and what of it
//! stands in the queue.

use crate::common::http::{Answer, Client};
use crate::common::redis::Redis;
use crate::common::{GZIP, JSON, NDJSON, Running, ZSTD, event, gzip, zstd};
use std::io::Read as _;

/// What a body must come to.
enum Verdict {
    /// 400 or 413, with this word in its sentence.
    Refused(u16, &'static str),
    /// These events are in the queue, and the others have these reasons.
    Taken(Vec<Vec<u8>>, Vec<(u64, &'static str)>),
    /// Nothing is valid.
    AllRejected(Vec<&'static str>),
}

use Verdict::{AllRejected, Refused, Taken};

struct Case {
    name: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    verdict: Verdict,
}

/// A zstd frame of one raw block, without checksum, with a window of 2^log bytes (RFC 8878 §3.1.1).
fn frame(window_log: u8, body: &[u8]) -> Vec<u8> {
    let block = u32::try_from(body.len() << 3 | 1).unwrap();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    frame.extend_from_slice(&block.to_le_bytes()[..3]);
    frame.extend_from_slice(body);
    frame
}

const SKIPPABLE: &[u8] = b"\x5a\x2a\x4d\x18\x04\0\0\0skip";

fn encodings() -> Vec<Case> {
    let (a, b) = (event("a"), event("b"));
    let both = || Taken(vec![a.clone().into(), b.clone().into()], vec![]);
    let one = || Taken(vec![a.clone().into()], vec![]);
    let (first, second) = (format!("{a}\n"), b.clone());
    let (za, zb) = (zstd(first.as_bytes()), zstd(second.as_bytes()));
    let (ga, gb) = (gzip(first.as_bytes()), gzip(second.as_bytes()));
    let mut flipped = frame(10, first.as_bytes());
    flipped[4] = 0x08; // A reserved bit.
    let mut wrong_sum = ga.clone();
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    // A dictionary's ID, which nobody here has.
    let dictionary =
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x00, 0x07][..], &frame(10, first.as_bytes())[6..]].concat();
    let case = |name, headers: &[_], body: Vec<u8>, verdict| Case {
        name,
        headers: [&[NDJSON], headers].concat(),
        body,
        verdict,
    };
    vec![
        case("zstd: several frames", &[ZSTD], [za.clone(), zb.clone()].concat(), both()),
        case("zstd: skippable frames", &[ZSTD], [SKIPPABLE, &za, SKIPPABLE, &zb, SKIPPABLE].concat(), both()),
        case("zstd: nothing but a skippable frame", &[ZSTD], SKIPPABLE.to_vec(), Refused(400, "no event")),
        case("zstd: a window of 8 MiB", &[ZSTD], frame(23, first.as_bytes()), one()),
        case("zstd: a window of 16 MiB", &[ZSTD], frame(24, first.as_bytes()), Refused(400, "window")),
        case("zstd: trailing garbage", &[ZSTD], [&za[..], b"x"].concat(), Refused(400, "zstd")),
        case("zstd: a cut end", &[ZSTD], za[..za.len() - 1].to_vec(), Refused(400, "zstd")),
        case("zstd: a reserved bit", &[ZSTD], flipped, Refused(400, "zstd")),
        case("zstd: a dictionary", &[ZSTD], dictionary, Refused(400, "zstd")),
        case("zstd: it is gzip", &[ZSTD], ga.clone(), Refused(400, "zstd")),
        case("zstd: larger than allowed", &[ZSTD], zstd(&vec![b' '; 9 << 20]), Refused(413, "8388608")),
        case("gzip: several members", &[GZIP], [ga.clone(), gb].concat(), both()),
        case("gzip: trailing garbage", &[GZIP], [&ga[..], b"x"].concat(), Refused(400, "gzip")),
        case("gzip: trailing zeros", &[GZIP], [&ga[..], &[0; 512]].concat(), Refused(400, "gzip")),
        case("gzip: a cut end", &[GZIP], ga[..ga.len() - 1].to_vec(), Refused(400, "gzip")),
        case("gzip: a wrong checksum", &[GZIP], wrong_sum, Refused(400, "gzip")),
        case("gzip: it is plain", &[GZIP], first.clone().into(), Refused(400, "gzip")),
        case("gzip: larger than allowed", &[GZIP], gzip(&vec![b'\n'; 9 << 20]), Refused(413, "8388608")),
        case("identity: named", &[("Content-Encoding", "identity")], first.clone().into(), one()),
        case(
            "identity: it looks like zstd",
            &[],
            b"\x28\xb5\x2f\xfd\xa0".to_vec(),
            AllRejected(vec!["not_json"]),
        ),
        case("identity: larger than allowed", &[], vec![b' '; 5 << 20], Refused(413, "4194304")),
        case("empty", &[], vec![], Refused(400, "empty")),
        case("empty within gzip", &[GZIP], gzip(b""), Refused(400, "no event")),
        case("only blank lines", &[], b" \n\t\r\n\n".to_vec(), Refused(400, "blank")),
    ]
}

/// An event with more members.
fn with(more: &str) -> String {
    event("m").replace('}', &format!(",{more}}}"))
}

fn lines() -> Vec<Case> {
    let good = event("m");
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    // Each line has its own verdict: these are taken as they are,
    let taken = [
        with(r#""x":1,"x":2"#),
        with(r#""x":1e999,"y":123456789012345678901234567890,"z":-0.0"#),
        with(&format!(r#""x":{}"#, deep(31))),
        with(&format!(r#""attributes":{{"a":{}}}"#, deep(15))),
        event(r"\u0000 \ud83e\udd80"),
        event("ä \u{2028} \u{85} \u{feff}"),
        good.clone(),
    ];
    // and these are not.
    let rejected: [(Vec<u8>, &str); 14] = [
        (with(r#""level":"info""#).into(), "duplicate_field"),
        (with(r#""lev\u0065l":"info""#).into(), "duplicate_field"),
        (with(&format!(r#""x":{}"#, deep(32))).into(), "too_deep"),
        (with(&format!(r#""attributes":{{"a":{}}}"#, deep(16))).into(), "too_deep"),
        (event(r"\ud83e").into(), "not_json"),
        (event(r"\udd80\ud83e").into(), "not_json"),
        (event("a\0b").into(), "not_json"),
        (event("a\x1bb").into(), "not_json"),
        ([event("a").as_bytes(), b"\xff"].concat(), "not_json"),
        (event("?").into_bytes().into_iter().map(|b| if b == b'?' { 0xe9 } else { b }).collect(), "not_json"),
        (format!("\u{feff}{good}").into(), "not_json"),
        (format!("{good}\r{good}").into(), "not_json"),
        (b"\x0c".to_vec(), "not_json"),
        (event("m").replace(&event("m")[13..26], "1e999").into(), "invalid_timestamp"),
    ];
    let mut body = Vec::new();
    let mut reasons = Vec::new();
    let mut number = 0;
    for (index, (line, reason)) in rejected.iter().enumerate() {
        body.extend([line.as_slice(), [&b"\n"[..], b"\r\n", b"\n \r\n\t\n"][index % 3]].concat());
        reasons.push((number, *reason));
        number += 1;
        if let Some(line) = taken.get(index) {
            body.extend([line.as_bytes(), b"\r\n"].concat());
            number += 1;
        }
    }
    body.extend(good.as_bytes());
    let all: Vec<Vec<u8>> = taken.iter().chain([&good]).map(|line| line.clone().into_bytes()).collect();
    vec![
        Case {
            name: "lines",
            headers: vec![NDJSON],
            body: body.clone(),
            verdict: Taken(all.clone(), reasons.clone()),
        },
        Case {
            name: "the same in zstd",
            headers: vec![NDJSON, ZSTD],
            body: zstd(&body),
            verdict: Taken(all, reasons),
        },
        Case {
            name: "UTF-16",
            headers: vec![NDJSON],
            body: good.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            verdict: AllRejected(vec!["not_json"]),
        },
    ]
}

fn json() -> Vec<Case> {
    let (a, pretty) = (event("a"), event("a").replace(',', " ,\r\n\t"));
    let case = |name, body: &[u8], verdict| Case { name, headers: vec![JSON], body: body.to_vec(), verdict };
    let flat = || pretty.replace(['\r', '\n'], " ").into_bytes();
    let mixed = format!("\n[ {pretty} , 17, {}, {} ]\r\n", event(r"\ud83e"), with(r#""level":"x""#));
    vec![
        case("one, on several lines", pretty.as_bytes(), Taken(vec![flat()], vec![])),
        case(
            "an array",
            mixed.as_bytes(),
            Taken(vec![flat()], vec![(1, "not_object"), (2, "not_json"), (3, "duplicate_field")]),
        ),
        case("an array of arrays", format!("[[{a}]]").as_bytes(), AllRejected(vec!["not_object"])),
        case("an empty array", b" [ ] ", Refused(400, "empty")),
        case("a byte order mark", format!("\u{feff}{a}").as_bytes(), Refused(400, "byte 0")),
        case("invalid UTF-8", &[a.as_bytes(), b" \xff"].concat(), Refused(400, "JSON")),
        case("a raw NUL", format!("[{a},\"\0\"]").as_bytes(), Refused(400, "JSON")),
        case("two texts", format!("{a}\n{a}").as_bytes(), Refused(400, "JSON")),
        case("a comma too many", format!("[{a},]").as_bytes(), Refused(400, "JSON")),
        case("cut", &a.as_bytes()[..20], Refused(400, "JSON")),
        case("a hundred thousand brackets", &vec![b'['; 100_000], Refused(400, "JSON")),
    ]
}

/// The lines of the newest entry, decoded by other code than the collector's.
fn stored(redis: &Redis) -> Vec<Vec<u8>> {
    let entry = redis.entries().pop().unwrap();
    let mut body = Vec::new();
    match &entry["enc"][..] {
        b"zstd" => drop(::zstd::Decoder::new(&entry["body"][..]).unwrap().read_to_end(&mut body).unwrap()),
        _ => body.clone_from(&entry["body"]),
    }
    let lines = body.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec());
    lines.filter(|line| !line.iter().all(|b| b" \t\r".contains(b))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_of_the_table_is_so() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let mut entries = 0;
    for Case { name, headers, body, verdict } in [encodings(), lines(), json()].into_iter().flatten() {
        let answer = collector.post(&headers, &body).await;
        println!("{name}: {}", answer.text());
        match verdict {
            Refused(status, word) => {
                let code = if status == 413 { "too_large" } else { "malformed" };
                let detail = answer.problem(status, code);
                assert!(detail.contains(word), "{name}: {detail}");
            }
            AllRejected(codes) => {
                answer.problem(422, "all_rejected");
                let seen: Vec<String> = answer.rejected().into_iter().map(|(_, code)| code).collect();
                assert_eq!(seen, codes, "{name}");
            }
            Taken(events, reasons) => {
                let (_, accepted, rejected) = answer.accepted();
                let rejected: Vec<(u64, &str)> = rejected.iter().map(|(n, code)| (*n, &**code)).collect();
                assert_eq!((accepted, &rejected), (u64::try_from(events.len()).unwrap(), &reasons), "{name}");
                assert_eq!(stored(&redis), events, "{name}");
                entries += 1;
            }
        }
        assert_eq!(redis.entries().len(), entries, "{name}");
    }
    collector.stop().await;
}

/// Sends bytes as they are, and returns all answers until the end of the connection.
async fn raw(collector: &Running, bytes: &[u8]) -> String {
    let mut client = Client::connect(collector.public).await;
    client.send(bytes).await;
    client.end().await;
    let mut all = Vec::new();
    client.read_rest(&mut all).await;
    String::from_utf8(all).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_as_long_as_its_framing_says() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let line = event("a") + "\n";
    let head = |framing: &str| {
        format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n{framing}\r\n")
    };
    let length = line.len();
    let chunk = format!("{length:x}\r\n{line}\r\n");
    let statuses = async |bytes: String| {
        let all = raw(&collector, bytes.as_bytes()).await;
        let lines = all.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned());
        (lines.collect::<Vec<_>>().join(" "), redis.entries().len())
    };
    for (name, bytes, expected) in [
        ("as declared", head(&format!("Content-Length: {length}\r\n")) + &line, ("202", 1)),
        ("in chunks", head("Transfer-Encoding: chunked\r\n") + &chunk + &chunk + "0\r\n\r\n", ("202", 2)),
        ("no length, so no body", head("") + &line, ("400 400", 2)),
        ("longer than declared", head("Content-Length: 3\r\n") + "17\n{}\n", ("422 400", 2)),
        ("shorter than declared", head(&format!("Content-Length: {}\r\n", length + 1)) + &line, ("400", 2)),
        ("chunks without an end", head("Transfer-Encoding: chunked\r\n") + &chunk, ("400", 2)),
        (
            "a chunk of wrong length",
            head("Transfer-Encoding: chunked\r\n") + "3\r\n17\n\n\r\n0\r\n\r\n",
            ("400", 2),
        ),
        (
            "a chunk that is no number",
            head("Transfer-Encoding: chunked\r\n") + "x\r\n17\n\r\n0\r\n\r\n",
            ("400", 2),
        ),
        (
            "two lengths",
            head(&format!("Content-Length: {length}\r\nContent-Length: 3\r\n")) + &line,
            ("400", 2),
        ),
        ("a length that is none", head("Content-Length: -1\r\n") + &line, ("400", 2)),
        ("a huge length", head("Content-Length: 18446744073709551615\r\n") + &line, ("431", 2)),
        ("a large length", head("Content-Length: 9223372036854775807\r\n") + &line, ("413", 2)),
        // Chunked wins, as RFC 9112 §6.3 says, and nothing of it is taken for a second request.
        (
            "length and chunks",
            head("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + &chunk + "0\r\n\r\n",
            ("202", 3),
        ),
        ("a coding that nobody knows", head("Transfer-Encoding: br\r\n") + &line, ("400", 3)),
    ] {
        let (seen, entries) = statuses(bytes).await;
        assert_eq!((&*seen, entries), expected, "{name}");
    }
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_one_body_is_not_in_the_next() {
    let redis = Redis::start();
    let collector = Running::start(&redis, &[]).await;
    let mut client = collector.client().await;
    let answers: Vec<Answer> = vec![
        client.post(&[NDJSON, ZSTD], b"nonsense").await,
        client.post(&[JSON], b"[").await,
        client.post(&[NDJSON], event("a").as_bytes()).await,
        client.post(&[NDJSON, GZIP], &gzip(b"17\n")).await,
        client.post(&[NDJSON, ZSTD], &zstd(event("b").as_bytes())).await,
    ];
    assert_eq!(answers.iter().map(|a| a.status).collect::<Vec<_>>(), [400, 400, 202, 422, 202]);
    assert_eq!(redis.entries().len(), 2);
    collector.stop().await;
}
