//! What a body holds, found out in the slow and obvious way: everything is decoded and built, one thing after the other, and
//! the grammar is serde_json's.

use flate2::read::MultiGzDecoder;
use logweir_proto::Level;
use logweir_proto::encoding::Encoding;
use logweir_proto::event::Rules;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::io::Read as _;

/// Times as texts, and whether RFC 3339 knows them; the only ones that the reference can judge.
pub(super) const TIMES: [(&str, bool); 8] = [
    ("2027-01-15T08:00:00Z", true),
    ("2027-01-15T09:00:00.000999+01:00", true),
    ("2027-01-15t07:59:59.5z", true),
    ("2027-01-15T08:00:00", false),
    ("2027-01-15 08:00:00Z", false),
    ("2027-02-30T08:00:00Z", false),
    ("yesterday", false),
    ("", false),
];

/// An event's text, and whether it is valid.
pub(super) type Seen = (Vec<u8>, bool);

/// The events of a decoded body, or `None` when it is none.
pub(super) fn events(decoded: &[u8], json: bool, rules: &Rules) -> Option<Vec<Seen>> {
    let texts = if json { elements(decoded)? } else { lines(decoded) };
    let events: Vec<Seen> = texts.into_iter().map(|text| (text.clone(), is_valid(&text, rules))).collect();
    (!events.is_empty()).then_some(events)
}

/// The decoded body, or `None` when it is no whole stream.
pub(super) fn decoded(wire: &[u8], encoding: Encoding) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match encoding {
        Encoding::Identity => out.extend_from_slice(wire),
        Encoding::Gzip => drop(MultiGzDecoder::new(wire).read_to_end(&mut out).ok()?),
        Encoding::Zstd => drop(zstd::Decoder::new(wire).ok()?.read_to_end(&mut out).ok()?),
    }
    Some(out)
}

pub(super) fn lines(body: &[u8]) -> Vec<Vec<u8>> {
    let blank = |line: &&[u8]| !line.iter().all(|b| b" \t\r".contains(b));
    let without_cr = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    body.split(|b| *b == b'\n').filter(blank).map(without_cr).collect()
}

fn elements(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let text = |raw: Box<RawValue>| raw.get().as_bytes().to_vec();
    if body.trim_ascii_start().starts_with(b"[") {
        let all: Vec<Box<RawValue>> = serde_json::from_slice(body).ok()?;
        return Some(all.into_iter().map(text).collect());
    }
    Some(vec![text(serde_json::from_slice(body).ok()?)])
}

/// Any JSON; numbers as they are written, and objects with all that they hold, in order.
enum Any {
    Other,
    Number(String),
    Text(String),
    List(Vec<Any>),
    Map(Vec<(String, Any)>),
}

/// `None` for what is no Unicode text, such as half a surrogate pair.
fn build(raw: &str) -> Option<Any> {
    let raw = raw.trim();
    Some(match raw.as_bytes().first()? {
        b'{' => {
            let pairs = serde_json::Deserializer::from_str(raw).deserialize_map(Pairs).ok()?;
            let pair = |(key, value): (String, Box<RawValue>)| Some((key, build(value.get())?));
            Any::Map(pairs.into_iter().map(pair).collect::<Option<_>>()?)
        }
        b'[' => {
            let all: Vec<Box<RawValue>> = serde_json::from_str(raw).ok()?;
            Any::List(all.iter().map(|raw| build(raw.get())).collect::<Option<_>>()?)
        }
        b'"' => Any::Text(serde_json::from_str(raw).ok()?),
        b'-' | b'0'..=b'9' => Any::Number(raw.to_owned()),
        _ => Any::Other,
    })
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

fn depth(value: &Any) -> usize {
    match value {
        Any::Other | Any::Number(_) | Any::Text(_) => 0,
        Any::List(all) => 1 + all.iter().map(depth).max().unwrap_or(0),
        Any::Map(all) => 1 + all.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
    }
}

fn is_valid(text: &[u8], rules: &Rules) -> bool {
    let whole: Option<Box<RawValue>> = serde_json::from_slice(text).ok();
    let Some(Any::Map(pairs)) = whole.and_then(|raw| build(raw.get())) else { return false };
    let field = |name: &str| {
        let mut all = pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        (all.next(), all.next().is_some())
    };
    let text_where = |name, right: &dyn Fn(&str) -> bool| matches!(field(name), (Some(Any::Text(text)), false) if right(text));
    let hex = |name, digits| {
        let right =
            |text: &str| text.len() == digits && text.bytes().all(|b| b"0123456789abcdef".contains(&b));
        field(name).0.is_none() || text_where(name, &right)
    };
    let attributes = match field("attributes") {
        (None, _) => true,
        (Some(map @ Any::Map(_)), false) => depth(map) <= 16,
        _ => false,
    };
    let names = Level::ALL.iter().map(|level| level.as_str()).chain(Level::SYNONYMS.map(|(name, _)| name));
    let names: Vec<&str> = names.collect();
    text.len() <= rules.max_bytes
        && pairs.iter().all(|(_, value)| depth(value) <= 31)
        && matches!(field("timestamp"), (Some(time), false) if in_window(time, rules))
        && text_where("service", &is_service)
        && text_where("level", &|name| names.contains(&&*name.to_ascii_lowercase()))
        && text_where("message", &|_| true)
        && hex("trace_id", 32)
        && hex("span_id", 16)
        && attributes
}

fn is_service(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/:-".contains(c);
    (1..=128).contains(&name.chars().count())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn in_window(time: &Any, rules: &Rules) -> bool {
    let window = rules.window.unwrap();
    match time {
        Any::Text(text) => TIMES.iter().any(|(time, good)| time == text && *good),
        Any::Number(number) => exact(number).is_some_and(|ms| {
            (window.now_ms - window.max_age_ms..=window.now_ms + window.max_ahead_ms).contains(&ms)
        }),
        _ => false,
    }
}

/// The value of a number that is whole, by moving its point digit by digit.
fn exact(number: &str) -> Option<i64> {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    let exponent: i32 = exponent.parse().ok().filter(|e| (-40..=40).contains(e))?;
    for _ in 0..exponent {
        fraction += "0";
        whole.push(fraction.remove(0));
    }
    for _ in exponent..0 {
        fraction.insert(0, whole.pop().filter(char::is_ascii_digit).unwrap_or('0'));
    }
    if fraction.bytes().any(|b| b != b'0') {
        return None;
    }
    if whole.is_empty() { Some(0) } else { whole.parse().ok() }
}
