//! Fuzz targets, see fuzz/README.md: what a client can send, and what stands in the tokens file.

use crate::auth::{self, Shown, Tokens};
use crate::request::{self, Headers, Identity, Kind};
use crate::request_id;
use crate::verdict::{self, Judged, Unreadable};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, HeaderName as Name};
use logweir_fuzz::{Input, Work, bounded};
use logweir_proto::encoding::{self, Encoding};
use logweir_proto::event::{self, Rules, Window};
use logweir_proto::{Limits, headers, ndjson};
use serde_json::value::RawValue;
use std::time::{Duration, UNIX_EPOCH};

const HEADERS: Work = Work { steps: (100, 10_000), memory: (2, 2_000) };

/// Lines of `name: value`, as they would come over HTTP; what could not come so is left out.
fn header_map(text: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in text.split(|b| *b == b'\n').take(100) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}

#[test]
fn fuzz_headers() {
    logweir_fuzz::target("collector/headers", |text| {
        let map = header_map(text);
        let parsed = bounded(text.len(), HEADERS, || request::parse(&map));
        assert!(text.len() > 16 << 10 || !request::headers_too_large(&map));

        // An unknown header changes nothing.
        let mut more = map.clone();
        more.insert("x-unknown", HeaderValue::from_static("1"));
        assert_eq!(request::parse(&more), parsed);
        let id = request_id::of(&map);
        assert!((1..=64).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
        match parsed {
            Ok(parsed) => parsed_right(&map, &parsed),
            Err((code, detail)) => {
                assert!([400, 415].contains(&code.status()), "{detail}");
                // Nothing that a client sends comes back at length, or unescaped.
                assert!(detail.len() < 400 && detail.bytes().all(|b| (b' '..=b'~').contains(&b)), "{detail}");
            }
        }
    });
}

fn parsed_right(map: &HeaderMap, parsed: &Headers) {
    for single in [CONTENT_TYPE, CONTENT_ENCODING, batch(), key()] {
        assert!(map.get_all(&single).iter().count() <= 1, "{single} was taken although it stands twice");
    }
    assert!(!(map.contains_key(batch()) && map.contains_key(key())));
    let one = |name: Name| map.get(name).and_then(|value| value.to_str().ok());
    match &parsed.identity {
        Identity::Batch(id) => {
            let text = one(batch()).expect("it came from there").to_ascii_lowercase();
            assert_eq!(id.to_string(), text);
        }
        Identity::Key(text) => {
            assert_eq!(Some(text.as_str()), one(key()));
            assert!(text.len() <= 255 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()));
        }
        Identity::None => assert!(!map.contains_key(batch()) && !map.contains_key(key())),
    }
    assert_eq!(parsed.identity.mark().is_none(), parsed.identity == Identity::None);
    if let Some(trace) = &parsed.traceparent {
        // Fields of a fixed length, so that it can stand in a log line and in the queue.
        assert!(trace.len() == 55 && trace.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()), "{trace}");
    }

    // Written from what was understood, it is understood in the same way.
    let mut plain = HeaderMap::new();
    let put = |map: &mut HeaderMap, name: HeaderName, value: &str| {
        map.insert(name, HeaderValue::from_str(value).expect("it came from a header"));
    };
    let kind = if parsed.kind == Kind::Json { headers::JSON } else { headers::NDJSON };
    put(&mut plain, CONTENT_TYPE, kind);
    put(&mut plain, CONTENT_ENCODING, parsed.encoding.as_str());
    match &parsed.identity {
        Identity::Batch(id) => put(&mut plain, batch(), &id.to_string()),
        Identity::Key(text) => put(&mut plain, key(), text),
        Identity::None => {}
    }
    if let Some(trace) = &parsed.traceparent {
        put(&mut plain, HeaderName::from_static(headers::TRACEPARENT), trace);
    }
    if let Some(length) = parsed.declared {
        put(&mut plain, CONTENT_LENGTH, &length.to_string());
    }
    assert_eq!(request::parse(&plain).as_ref(), Ok(parsed));
}

const fn batch() -> HeaderName {
    HeaderName::from_static(headers::BATCH)
}

const fn key() -> HeaderName {
    HeaderName::from_static(headers::IDEMPOTENCY_KEY)
}

const RULES: Rules = Rules {
    max_bytes: 300,
    window: Some(Window { now_ms: 1_795_514_580_000, max_age_ms: 90 * 86_400_000, max_ahead_ms: 600_000 }),
};
const LIMITS: Limits =
    Limits { event_bytes: 300, batch_events: 64, decoded_bytes: 32 << 10, wire_bytes: 16 << 10 };

/// The decoded body at its limit, and half as much again while it moves; besides, what 64 events may come to.
const UNPACK: Work = Work { steps: (0, u64::MAX), memory: (2, (48 << 10) + (100 << 10)) };

/// A body, from the wire to the queue: exactly the events that a slow reference sees. The first byte gives type and
/// encoding, the second whether the body is encoded here or comes as it is.
#[test]
fn fuzz_post() {
    logweir_fuzz::target("collector/post", |input| {
        let mut input = Input::new(input);
        let kind = if input.byte() & 1 == 1 { Kind::Json } else { Kind::Ndjson };
        let how = input.byte();
        let encoding = [Encoding::Identity, Encoding::Zstd, Encoding::Gzip][usize::from(how % 3)];
        let is_plain = how >= 128 && encoding == Encoding::Zstd;
        let wire = if is_plain { encoding::encode_zstd(input.rest(), 1) } else { input.rest().to_vec() };
        let wire = Bytes::from(wire);

        let unpacked = bounded(wire.len(), UNPACK, || verdict::unpack(wire.clone(), encoding, kind, &LIMITS));
        let decoded = encoding::decode(encoding, &wire, LIMITS.decoded_bytes);
        let expected = decoded.ok().and_then(|body| events(&body, kind));
        let unpacked = match unpacked {
            Ok(unpacked) => unpacked,
            Err(Unreadable::Malformed(detail) | Unreadable::TooLarge(detail)) => {
                assert!(detail.len() < 400, "{detail}");
                let fits = |events: &Vec<Vec<u8>>| (1..=LIMITS.batch_events).contains(&events.len());
                assert!(!expected.is_some_and(|events| fits(&events)), "{detail}");
                return;
            }
        };
        let expected = expected.expect("what was taken apart is a body");
        assert_eq!(unpacked.events, u64::try_from(expected.len()).expect("few"));
        assert!(unpacked.decoded_bytes() <= LIMITS.decoded_bytes);
        // zstd's own memory isn't seen, and the buffer that it writes to is a little larger than what it is given.
        let memory = u64::try_from(unpacked.memory_to_judge()).expect("little") + 1_000;
        let most = Work { memory: (0, memory), ..UNPACK };
        let judged = bounded(wire.len(), most, || verdict::judge(unpacked, &RULES, |_| true));
        judged_right(&judged, &expected, &wire, (encoding, kind));
    });
}

/// The events of a body; `None` when it is none.
fn events(body: &[u8], kind: Kind) -> Option<Vec<Vec<u8>>> {
    if kind == Kind::Ndjson {
        let lines = body.split(|b| *b == b'\n');
        let lines = lines.filter(|line| !line.iter().all(|b| b" \t\r".contains(b)));
        return Some(lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec()).collect());
    }
    let one_line = |raw: &&RawValue| raw.get().replace(['\n', '\r'], " ").into_bytes();
    if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<Vec<&RawValue>>(body).ok().map(|all| all.iter().map(one_line).collect())
    } else {
        serde_json::from_slice::<&RawValue>(body).ok().map(|one| vec![one_line(&one)])
    }
}

fn judged_right(judged: &Judged, expected: &[Vec<u8>], wire: &Bytes, (encoding, kind): (Encoding, Kind)) {
    let verdicts: Vec<_> = expected.iter().map(|event| event::check(event, &RULES)).collect();
    let bad =
        || (0_u64..).zip(&verdicts).filter_map(|(index, verdict)| Some((index, verdict.as_ref().err()?)));
    assert!(judged.skip.iter().copied().eq(bad().map(|(index, _)| index)));
    assert!(judged.reasons.iter().copied().eq(bad().map(|(_, rejection)| rejection.code)));
    let told = judged.rejected.iter().map(|told| (told.index, told.code.as_str()));
    assert!(told.eq(bad().map(|(index, rejection)| (index, rejection.code.as_str()))));

    let good: Vec<&[u8]> =
        expected.iter().zip(&verdicts).filter(|(_, v)| v.is_ok()).map(|(e, _)| &e[..]).collect();
    assert_eq!(judged.accepted(), u64::try_from(good.len()).expect("few"));
    assert_ne!(judged.encoding, Encoding::Gzip, "the queue holds none");
    let body =
        encoding::decode(judged.encoding, &judged.body, 1 << 20).expect("the queue's body is well encoded");
    // Where lines are written anew, a carriage return, which is white space, is written as a space.
    let plain = |line: &[u8]| line.iter().map(|b| if *b == b'\r' { b' ' } else { *b }).collect::<Vec<u8>>();
    let stored = ndjson::lines(&body).map(|line| plain(line).trim_ascii_end().to_vec());
    assert!(stored.eq(good.iter().map(|line| plain(line).trim_ascii_end().to_vec())));
    if good.len() == expected.len() && encoding == Encoding::Zstd && kind == Kind::Ndjson {
        assert_eq!(judged.body, wire, "it passes through byte for byte");
    }
}

const TOKENS: Work = Work { steps: (100, 5_000), memory: (20, 5_000) };

#[test]
fn fuzz_tokens() {
    logweir_fuzz::target("collector/tokens", |text| {
        let Ok(text) = std::str::from_utf8(text) else { return };
        let parsed = bounded(text.len(), TOKENS, || Tokens::parse(text));
        let lines = || text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
        let used: Vec<&str> = lines().filter(|line| !line.is_empty()).collect();
        match parsed {
            Ok(tokens) => {
                assert!(tokens.len() <= used.len());
                // Each line that counts does so by itself, and once more changes nothing.
                assert!(used.iter().all(|line| Tokens::parse(line).is_ok_and(|one| one.len() == 1)));
                assert_eq!(Tokens::parse(&format!("{text}\n{text}")), Ok(tokens));
            }
            Err(error) => {
                let number = error.strip_prefix("line ").and_then(|rest| rest.split(':').next());
                let number: usize = number.and_then(|n| n.parse().ok()).expect("the line is named");
                assert!(lines().nth(number - 1).is_some_and(|line| !line.is_empty()), "{error}");
                // A line that is wrong may hold a secret.
                let long =
                    text.split_whitespace().filter(|word| word.len() > 20 && !word.contains(['/', ':']));
                let secret = |word: &str| error.contains(word) && auth::valid_agent_id(word);
                assert!(
                    error.len() < 400 && !long.into_iter().any(|word| error.contains(word) && !secret(word))
                );
            }
        }
    });
}

/// The headers that say who posts: a value for `Authorization`, and after a line break one for `Logweir-Agent`.
#[test]
fn fuzz_identify() {
    let known = "api-1 sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"; // key
    assert!(Tokens::parse(known).is_ok());
    logweir_fuzz::target("collector/identify", |input| {
        let known = "api-1 sha256:2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
        let tokens = Tokens::parse(known).expect("checked above");
        let mut parts = input.splitn(2, |b| *b == b'\n');
        let (authorization, named) = (parts.next(), parts.next());
        let shown = Shown { authorization, named, certificate: None, peer: [192, 0, 2, 7].into() };
        let now = UNIX_EPOCH + Duration::from_secs(1_795_514_580);
        match auth::identify(Some(&tokens), &shown, now) {
            Ok(agent) => {
                assert!(agent.authenticated && &*agent.id == "api-1");
                let authorization = authorization.expect("nobody gets in without");
                assert!(authorization[..7].eq_ignore_ascii_case(b"bearer "));
                assert_eq!(authorization[7..].trim_ascii(), b"key");
                assert!(named.is_none_or(|name| name == b"api-1"));
            }
            Err(denied) => assert!([401, 403].contains(&denied.code.status())),
        }
        match auth::identify(None, &shown, now) {
            Ok(agent) => {
                assert!(!agent.authenticated && auth::valid_agent_id(&agent.id));
                assert!(named.is_none_or(|name| name == agent.id.as_bytes()));
            }
            Err(denied) => assert_eq!(denied.code.status(), 400),
        }
    });
}
