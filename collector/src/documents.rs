//! What can be read here besides answers: the event's schema, and the description of this interface. The same text
//! for everybody, so it has a tag by which a client sees that it has it already.

use crate::answer::{Reply, reply};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use logweir_proto::{EVENT_SCHEMA, headers};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// A day without asking again; `private`, since who may read it is asked each time.
const CACHE: HeaderValue = HeaderValue::from_static("private, max-age=86400");

/// The description of this interface.
const OPENAPI: &str = include_str!("../openapi.json");

/// One of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Document {
    /// The JSON Schema of an event.
    Schema,
    /// OpenAPI 3.1.
    OpenApi,
}

static SCHEMA_TAG: LazyLock<String> = LazyLock::new(|| tag_of(EVENT_SCHEMA));
static OPENAPI_TAG: LazyLock<String> = LazyLock::new(|| tag_of(OPENAPI));

/// A strong tag: other bytes, another tag.
fn tag_of(text: &str) -> String {
    let hash = Sha256::digest(text);
    let hex: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    format!("\"{hex}\"")
}

impl Document {
    fn text(self) -> &'static str {
        match self {
            Document::Schema => EVENT_SCHEMA,
            Document::OpenApi => OPENAPI,
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Document::Schema => "application/schema+json",
            Document::OpenApi => headers::JSON,
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Document::Schema => &SCHEMA_TAG,
            Document::OpenApi => &OPENAPI_TAG,
        }
    }

    /// 200, or 304 when the client has it; to HEAD too, whose body the server leaves out.
    pub(crate) fn reply(self, asked: &HeaderMap) -> Reply {
        let tag = self.tag();
        let mut reply = if client_has(asked, tag) {
            let mut reply = Reply::default();
            *reply.status_mut() = http::StatusCode::NOT_MODIFIED;
            reply
        } else {
            reply(200, self.media_type(), Bytes::from_static(self.text().as_bytes()))
        };
        reply.headers_mut().insert(CACHE_CONTROL, CACHE);
        reply.headers_mut().insert(ETAG, HeaderValue::from_static(tag));
        reply
    }
}

/// `If-None-Match`, compared as RFC 9110 §13.1.2 wants it: whether weak or strong.
fn client_has(asked: &HeaderMap, tag: &str) -> bool {
    let values = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let asked = |value: Option<&str>| {
            let mut map = HeaderMap::new();
            if let Some(value) = value {
                map.insert(IF_NONE_MATCH, value.parse().unwrap());
            }
            Document::Schema.reply(&map)
        };
        let fresh = asked(None);
        assert_eq!(fresh.status(), 200);
        assert_eq!(fresh.headers()["content-type"], "application/schema+json");
        let tag = fresh.headers()["etag"].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() == 34, "{tag}");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"old\" , {tag}"), "*".to_owned()] {
            let reply = asked(Some(&known));
            assert_eq!(reply.status(), 304, "{known}");
            assert_eq!(reply.headers()["etag"], tag.as_str());
            assert!(reply.headers().get("content-type").is_none());
        }
        for other in ["\"old\"", "", tag.trim_matches('"')] {
            assert_eq!(asked(Some(other)).status(), 200, "{other}");
        }
    }
}
