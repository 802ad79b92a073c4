//! A name for each request, by which its answer and its lines in the log are found together.

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// `X-Request-Id`, as proxies and load balancers call it.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest that is taken over, in characters.
const MAX_CHARS: usize = 64;

/// The client's, when it is well formed: 1 to 64 letters, digits and `. _ : / + = @ -`, once. Otherwise a new one.
pub(crate) fn of(map: &HeaderMap) -> HeaderValue {
    let mut values = map.get_all(REQUEST_ID).iter();
    if let (Some(id), None) = (values.next(), values.next())
        && is_well_formed(id.as_bytes())
    {
        return id.clone();
    }
    let id = Uuid::new_v4().hyphenated().to_string();
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
}

/// What may stand in a log line, a header and a URL without being escaped.
fn is_well_formed(id: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"._:/+=@-".contains(b);
    (1..=MAX_CHARS).contains(&id.len()) && id.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(values: &[&[u8]]) -> String {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        }
        of(&map).to_str().unwrap().to_owned()
    }

    #[test]
    fn only_a_well_formed_one_is_taken_over() {
        let longest = "a".repeat(64);
        for good in ["7", "req-17_b.C:/+=@", "0b6e2a52-6d0e-4b1c-9c0a-6f4d5c1f7a10", &longest] {
            assert_eq!(id(&[good.as_bytes()]), good);
        }
        let mut made = vec![id(&[])];
        let long = "a".repeat(65);
        for bad in [&b""[..], b"a b", b"a,b", b"\"a\"", b"a;b", b"\xff", b"\x9b31m", long.as_bytes()] {
            made.push(id(&[bad]));
        }
        made.push(id(&[b"a", b"a"]));
        assert!(made.iter().all(|id| Uuid::try_parse(id).is_ok()), "{made:?}");
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 10);
    }
}
