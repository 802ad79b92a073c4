//! Lines that a container's runtime has wrapped.
//!
//! ```text
//! CRI      2026-11-24T10:03:00.123456789Z stderr F the line         P: a part of it, F: its end
//! docker   {"log":"the line\n","stream":"stderr","time":"2026-11-24T10:03:00.123456789Z"}       without \n: a part
//! ```

use super::time;
use crate::scan::{Kind, Scanner};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which of its outputs a program wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stream {
    #[serde(rename = "stdout")]
    Out,
    #[serde(rename = "stderr")]
    Err,
}

impl Stream {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        }
    }
}

/// What was wrapped around a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    /// When it was written, in Unix milliseconds.
    pub(super) ms: Option<i64>,
    pub(super) stream: Option<Stream>,
    /// Whether the line goes on in the next one.
    pub(super) partial: bool,
}

/// Appends to `inner` what `line` wraps; `None`, and nothing is appended, when it wraps nothing.
pub(super) fn open(line: &[u8], inner: &mut Vec<u8>) -> Option<Outer> {
    match line.first()? {
        b'0'..=b'9' => {
            let (outer, rest) = cri(line)?;
            inner.extend_from_slice(rest);
            Some(outer)
        }
        b'{' if line.starts_with(b"{\"log\":\"") => docker(line, inner),
        _ => None,
    }
}

fn cri(line: &[u8]) -> Option<(Outer, &[u8])> {
    let space = memchr::memchr(b' ', &line[..line.len().min(40)])?;
    let (stream, rest) = match &line[space + 1..] {
        [b's', b't', b'd', b'o', b'u', b't', b' ', rest @ ..] => (Stream::Out, rest),
        [b's', b't', b'd', b'e', b'r', b'r', b' ', rest @ ..] => (Stream::Err, rest),
        _ => return None,
    };
    // Further tags may follow the first one, after colons.
    let (tags, rest) = match memchr::memchr(b' ', rest) {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, &rest[rest.len()..]),
    };
    let partial = match tags.split(|b| *b == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let (ms, len) = time::dated(&line[..space], &TimeZone::UTC)?;
    (len == space).then_some((Outer { ms: Some(ms), stream: Some(stream), partial }, rest))
}

/// An object with `log`, and nothing besides but what docker writes.
fn docker(line: &[u8], inner: &mut Vec<u8>) -> Option<Outer> {
    let mut json = Scanner::new(line);
    json.peek();
    json.take();
    let (mut log, mut stream, mut ms) = (None, None, None);
    loop {
        let key = json.key().ok()?;
        let value = json.value().ok()?;
        match (key.plain()?, value.kind) {
            (b"log", Kind::String(text)) => log = Some((text, value.json)),
            (b"stream", Kind::String(text)) => {
                stream = Some(if text.plain()? == b"stderr" { Stream::Err } else { Stream::Out });
            }
            (b"time", Kind::String(text)) => {
                ms = Some(time::whole(std::str::from_utf8(text.plain()?).ok()?, &TimeZone::UTC)?);
            }
            (b"attrs", Kind::Object) => {}
            _ => return None,
        }
        match json.peek()? {
            b',' => json.take(),
            _ => break,
        }
    }
    json.take();
    json.end().ok()?;
    stream?;
    let (text, whole) = log?;
    let start = inner.len();
    match text.plain() {
        Some(plain) => inner.extend_from_slice(plain),
        // Half a surrogate pair: docker writes none.
        None => inner.extend_from_slice(serde_json::from_slice::<String>(whole).ok()?.as_bytes()),
    }
    let partial = inner.len() > start && inner.last() != Some(&b'\n');
    if !partial {
        inner.pop();
    }
    if inner.last() == Some(&b'\r') && !partial {
        inner.pop();
    }
    Some(Outer { ms, stream, partial })
}

/// Which container a file belongs to, as its name says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Its namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name in the pod.
    pub container: String,
}

impl Origin {
    /// Of a name such as `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`, as the kubelet gives it, or
    /// `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log`.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let above = |n: usize| path.ancestors().nth(n)?.file_name()?.to_str();
        if above(3) == Some("pods") {
            let mut parts = above(2)?.splitn(3, '_');
            let (namespace, pod) = (parts.next()?, parts.next()?);
            let container = above(1)?.to_owned();
            return Some(Self { namespace: namespace.to_owned(), pod: pod.to_owned(), container });
        }
        if above(1) != Some("containers") {
            return None;
        }
        let (stem, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
        let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let mut parts = stem.splitn(3, '_');
        let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
        let owned = str::to_owned;
        let origin = Self { namespace: owned(namespace), pod: owned(pod), container: owned(container) };
        is_id.then_some(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inner line, time, stream, whether it goes on.
    fn opened(line: &str) -> Option<(String, i64, &'static str, bool)> {
        let mut inner = Vec::new();
        let outer = open(line.as_bytes(), &mut inner);
        assert!(outer.is_some() || inner.is_empty());
        let outer = outer?;
        Some((String::from_utf8(inner).unwrap(), outer.ms?, outer.stream?.as_str(), outer.partial))
    }

    const AT: i64 = 1_795_514_580_123;

    #[test]
    fn what_runtimes_write() {
        for (line, inner, stream, partial) in [
            ("2026-11-24T10:03:00.123456789Z stdout F hello", "hello", "stdout", false),
            ("2026-11-24T11:03:00.123456789+01:00 stderr P half", "half", "stderr", true),
            ("2026-11-24T10:03:00.123Z stdout F:tag ", "", "stdout", false),
            ("2026-11-24T10:03:00.123Z stdout F", "", "stdout", false),
            (
                r#"{"log":"say \"hi\"\r\n","stream":"stdout","time":"2026-11-24T10:03:00.123456789Z"}"#,
                "say \"hi\"",
                "stdout",
                false,
            ),
            (
                r#"{"log":"half","stream":"stderr","attrs":{"tag":"x"},"time":"2026-11-24T10:03:00.123Z"}"#,
                "half",
                "stderr",
                true,
            ),
        ] {
            assert_eq!(opened(line), Some((inner.to_owned(), AT, stream, partial)), "{line}");
        }
        for line in [
            "2026-11-24T10:03:00Z stdout of the program",
            "2026-11-24T10:03:00Z INFO stdout F x",
            r#"{"log":"a","stream":"stdout","time":"2026-11-24T10:03:00Z","level":"info"}"#,
            r#"{"log":"a\n","level":"info"}"#,
            r#"{"log":"a"}"#,
            r#"{"log":"a","stream":"stdout","time":"2026-11-24T10:03:00Z"} x"#,
        ] {
            assert!(opened(line).is_none(), "{line}");
        }
    }

    #[test]
    fn the_kubelets_names() {
        let id = "0123456789abcdef".repeat(4);
        let origin = Origin {
            namespace: "shop".to_owned(),
            pod: "checkout-7d9c6b7f5-x2x4z".to_owned(),
            container: "app-1".to_owned(),
        };
        for path in [
            format!("/var/log/containers/checkout-7d9c6b7f5-x2x4z_shop_app-1-{id}.log"),
            "/var/log/pods/shop_checkout-7d9c6b7f5-x2x4z_0a1b2c/app-1/0.log".to_owned(),
            "/var/log/pods/shop_checkout-7d9c6b7f5-x2x4z_0a1b2c/app-1/0.log.20261124-100300".to_owned(),
        ] {
            assert_eq!(Origin::of_path(Path::new(&path)), Some(origin.clone()), "{path}");
        }
        for path in ["/var/log/containers/app.log", "/var/log/app_x_y-z.log", "/"] {
            assert_eq!(Origin::of_path(Path::new(path)), None, "{path}");
        }
    }
}
