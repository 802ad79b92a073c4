//! What a request's headers say, taken apart once.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use logweir_proto::BatchId;
use logweir_proto::answer::ProblemCode;
use logweir_proto::encoding::Encoding;
use logweir_proto::headers;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The longest Idempotency-Key, in characters.
const MAX_KEY_CHARS: usize = 255;
/// The largest header section that is answered with a problem; far larger ones are cut off by the parser.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// How the events stand in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One event a line.
    Ndjson,
    /// One event, or an array of them.
    Json,
}

/// Under which identity a batch comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The agent numbered the events.
    Batch(BatchId),
    /// The collector numbers them, and the poster has a key against double posting.
    Key(String),
    /// The collector numbers them.
    None,
}

impl Identity {
    /// Stands for the identity: the same each time that the batch comes. `None` without one.
    pub(crate) fn mark(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        match self {
            Identity::Batch(batch) => batch.hash(&mut hasher),
            Identity::Key(key) => key.hash(&mut hasher),
            Identity::None => return None,
        }
        Some(hasher.finish())
    }
}

/// A request's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) kind: Kind,
    pub(crate) encoding: Encoding,
    pub(crate) identity: Identity,
    /// A valid one; another is ignored, as the W3C recommends.
    pub(crate) traceparent: Option<String>,
    /// The body's length on the wire, where it is declared.
    pub(crate) declared: Option<u64>,
}

/// What is wrong with them.
pub(crate) type Wrong = (ProblemCode, String);

/// Whether the header section is larger than is reasonable.
pub(crate) fn headers_too_large(map: &HeaderMap) -> bool {
    map.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() > MAX_HEADER_BYTES
}

/// Takes the headers apart.
///
/// # Errors
/// 415 for the type and the encoding, 400 for the others.
pub(crate) fn parse(map: &HeaderMap) -> Result<Headers, Wrong> {
    let kind = kind(map)?;
    let encoding = encoding(map)?;
    let identity = identity(map)?;
    let traceparent =
        map.get(headers::TRACEPARENT).and_then(|v| v.to_str().ok()).filter(|v| valid_traceparent(v));
    let declared = map.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    Ok(Headers { kind, encoding, identity, traceparent: traceparent.map(str::to_owned), declared })
}

const TYPES: &str =
    "send application/x-ndjson (one event a line) or application/json (one event, or an array)";

fn kind(map: &HeaderMap) -> Result<Kind, Wrong> {
    let wrong = |what: &str| (ProblemCode::Unsupported, format!("{what}: {TYPES}"));
    let mut values = map.get_all(CONTENT_TYPE).iter();
    let value = values.next().ok_or_else(|| wrong("there is no Content-Type"))?;
    if values.next().is_some() {
        return Err(wrong("there is more than one Content-Type"));
    }
    let value = value.to_str().map_err(|_| wrong("the Content-Type is not understood"))?;
    let essence = value.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(headers::NDJSON) {
        Ok(Kind::Ndjson)
    } else if essence.eq_ignore_ascii_case(headers::JSON) {
        Ok(Kind::Json)
    } else {
        Err(wrong("this Content-Type is not taken"))
    }
}

fn encoding(map: &HeaderMap) -> Result<Encoding, Wrong> {
    let wrong = || {
        let detail = "this Content-Encoding is not taken: send zstd, gzip or identity, and only one of them";
        (ProblemCode::Unsupported, detail.to_owned())
    };
    let mut values = map.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(Encoding::Identity) };
    let found = value.to_str().ok().and_then(|v| Encoding::parse(v.trim()));
    if values.next().is_some() { Err(wrong()) } else { found.ok_or_else(wrong) }
}

/// The one value of a header; twice is wrong, since nobody can say which is meant.
fn single<'a>(map: &'a HeaderMap, name: &str, shown: &str) -> Result<Option<&'a str>, Wrong> {
    let malformed = |what: &str| (ProblemCode::Malformed, format!("{shown} {what}"));
    let mut values = map.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed("must stand only once"));
    }
    value.to_str().map(Some).map_err(|_| malformed("must be visible ASCII"))
}

fn identity(map: &HeaderMap) -> Result<Identity, Wrong> {
    let malformed = |detail: String| (ProblemCode::Malformed, detail);
    let batch = single(map, headers::BATCH, "Logweir-Batch")?;
    let key = single(map, headers::IDEMPOTENCY_KEY, "Idempotency-Key")?;
    match (batch, key) {
        (Some(_), Some(_)) => Err(malformed(
            "Logweir-Batch and Idempotency-Key exclude each other: a batch with an identity is counted once anyway"
                .to_owned(),
        )),
        (Some(batch), None) => batch
            .parse()
            .map(Identity::Batch)
            .map_err(|e| malformed(format!("Logweir-Batch is not understood: {e}"))),
        (None, Some(key)) if valid_key(key) => Ok(Identity::Key(key.to_owned())),
        (None, Some(_)) => Err(malformed(format!(
            "Idempotency-Key must be 1 to {MAX_KEY_CHARS} visible ASCII characters without spaces"
        ))),
        (None, None) => Ok(Identity::None),
    }
}

fn valid_key(key: &str) -> bool {
    (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// `00-TRACE-SPAN-FLAGS`, W3C Trace Context level 1.
fn valid_traceparent(value: &str) -> bool {
    if value.len() != 55 {
        return false;
    }
    let parts: Vec<&str> = value.split('-').collect();
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |text: &str| text.bytes().any(|b| b != b'0');
    matches!(parts[..], ["00", trace, span, flags]
        if hex(trace, 32) && some(trace) && hex(span, 16) && some(span) && hex(flags, 2))
}

/// The one value of a header that says who posts; `Err` when it stands twice.
pub(crate) fn only<'a>(map: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, ()> {
    let mut values = map.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first.map(http::HeaderValue::as_bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: &str = "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10/7";

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn with(more: &[(&'static str, &str)]) -> Result<Headers, Wrong> {
        let mut all = vec![("content-type", "application/x-ndjson")];
        all.extend(more);
        parse(&map(&all))
    }

    #[test]
    fn types() {
        for (value, kind) in [
            ("application/x-ndjson", Kind::Ndjson),
            ("Application/X-NDJSON; charset=utf-8", Kind::Ndjson),
            ("application/json", Kind::Json),
            ("application/json;charset=utf-8", Kind::Json),
        ] {
            assert_eq!(parse(&map(&[("content-type", value)])).unwrap().kind, kind, "{value}");
        }
        for value in ["", "text/plain", "application/jsonx", "application/x-www-form-urlencoded"] {
            let (code, detail) = parse(&map(&[("content-type", value)])).unwrap_err();
            assert_eq!(code, ProblemCode::Unsupported);
            assert!(detail.contains("application/x-ndjson"), "{detail}");
        }
        assert_eq!(parse(&map(&[])).unwrap_err().0, ProblemCode::Unsupported);
        let twice = map(&[("content-type", "application/json"), ("content-type", "application/json")]);
        assert_eq!(parse(&twice).unwrap_err().0, ProblemCode::Unsupported);
    }

    #[test]
    fn encodings() {
        assert_eq!(with(&[]).unwrap().encoding, Encoding::Identity);
        for (value, encoding) in [
            ("zstd", Encoding::Zstd),
            ("ZSTD", Encoding::Zstd),
            ("gzip", Encoding::Gzip),
            ("identity", Encoding::Identity),
        ] {
            assert_eq!(with(&[("content-encoding", value)]).unwrap().encoding, encoding);
        }
        for value in ["", "br", "gzip, zstd", "deflate", "zstd;q=1"] {
            let wrong = with(&[("content-encoding", value)]).unwrap_err();
            assert_eq!(wrong.0, ProblemCode::Unsupported, "{value}");
        }
        let twice = with(&[("content-encoding", "gzip"), ("content-encoding", "zstd")]);
        assert_eq!(twice.unwrap_err().0, ProblemCode::Unsupported);
    }

    #[test]
    fn identities() {
        assert_eq!(with(&[]).unwrap().identity, Identity::None);
        let batch = with(&[("logweir-batch", BATCH)]).unwrap().identity;
        assert_eq!(batch, Identity::Batch(BATCH.parse().unwrap()));
        let key = with(&[("idempotency-key", "order-17!")]).unwrap().identity;
        assert_eq!(key, Identity::Key("order-17!".to_owned()));
        let long = "k".repeat(256);
        for wrong in [
            vec![("logweir-batch", "1")],
            vec![("logweir-batch", "")],
            vec![("logweir-batch", BATCH), ("logweir-batch", BATCH)],
            vec![("logweir-batch", BATCH), ("idempotency-key", "a")],
            vec![("idempotency-key", "")],
            vec![("idempotency-key", "a b")],
            vec![("idempotency-key", long.as_str())],
            vec![("idempotency-key", "a"), ("idempotency-key", "a")],
        ] {
            let (code, detail) = with(&wrong).unwrap_err();
            assert_eq!(code, ProblemCode::Malformed, "{wrong:?}");
            assert!(detail.contains("Logweir-Batch") || detail.contains("Idempotency-Key"), "{detail}");
        }
        assert!(with(&[("idempotency-key", &long[1..])]).is_ok());
    }

    #[test]
    fn a_wrong_traceparent_is_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(with(&[("traceparent", good)]).unwrap().traceparent.as_deref(), Some(good));
        for bad in [
            "",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(with(&[("traceparent", bad)]).unwrap().traceparent, None, "{bad}");
        }
    }

    #[test]
    fn the_size_of_the_headers_is_limited() {
        assert!(!headers_too_large(&map(&[("x-a", &"a".repeat(10_000))])));
        assert!(headers_too_large(&map(&[("x-a", &"a".repeat(10_000)), ("x-b", &"b".repeat(7_000))])));
    }
}
