//! Who is posting: by token, by name, or by address.

use logweir_proto::answer::ProblemCode;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

/// The longest agent ID, in characters (all of them ASCII).
const MAX_AGENT_CHARS: usize = 128;

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) id: Arc<str>,
    /// Whether a token says so; only then may the ID become a metric's label.
    pub(crate) authenticated: bool,
}

/// Why somebody may not post, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) code: ProblemCode,
    pub(crate) detail: String,
}

/// The tokens file: which hash belongs to which agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tokens(HashMap<[u8; 32], Arc<str>>);

impl Tokens {
    /// Reads lines of `AGENT_ID sha256:HEX`, where HEX is the SHA-256 of the token's text. `#` begins a comment.
    /// An agent may have several tokens.
    ///
    /// # Errors
    /// The number of the first wrong line, and what would be right; never what stands in it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let (agent, hash) = parse_line(line).map_err(|what| format!("line {number}: {what}"))?;
            if let Some(other) = tokens.insert(hash, Arc::from(agent))
                && &*other != agent
            {
                return Err(format!("line {number}: this token belongs to the agent {other} already"));
            }
        }
        Ok(Self(tokens))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The agent of a token.
    ///
    /// A map's lookup takes a time that depends on the hash, which tells nothing: the tokens are random and
    /// long, so nobody can choose one whose hash is near another's. The comparison that decides is constant.
    fn agent_of(&self, token: &[u8]) -> Option<Arc<str>> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let (known, agent) = self.0.get_key_value(&hash)?;
        bool::from(known.ct_eq(&hash)).then(|| agent.clone())
    }
}

fn parse_line(line: &str) -> Result<(&str, [u8; 32]), &'static str> {
    let mut words = line.split_whitespace();
    let (Some(agent), Some(hash), None) = (words.next(), words.next(), words.next()) else {
        return Err("expected AGENT_ID sha256:HEX");
    };
    if !valid_agent_id(agent) {
        return Err("the agent ID must be 1 to 128 characters of A-Z a-z 0-9 . _ / : -, beginning with a \
                    letter or digit");
    }
    let hash = hash.strip_prefix("sha256:").and_then(from_hex);
    Ok((agent, hash.ok_or("the hash must be sha256: and 64 hex digits")?))
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|p| u8::try_from(p.first()? * 16 + p.get(1)?).ok()).collect();
    bytes?.try_into().ok()
}

/// Whether a text may be an agent's ID: the same characters as a service's name.
pub(crate) fn valid_agent_id(id: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b':' | b'-');
    id.len() <= MAX_AGENT_CHARS
        && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && id.bytes().all(rest)
}

/// Decides who posts. `tokens` is `None` where no tokens are configured; `authorization` and `named` are the
/// values of the two headers, `peer` the address that the connection came from.
///
/// # Errors
/// `unauthenticated`, `forbidden`, or `malformed` for a name that is none.
pub(crate) fn identify(
    tokens: Option<&Tokens>,
    authorization: Option<&[u8]>,
    named: Option<&[u8]>,
    peer: IpAddr,
) -> Result<Agent, Denied> {
    let Some(tokens) = tokens else { return by_name(named, peer) };
    let denied = |code, detail: &str| Denied { code, detail: detail.to_owned() };
    let Some(authorization) = authorization else {
        return Err(denied(
            ProblemCode::Unauthenticated,
            "send the agent's token as Authorization: Bearer TOKEN",
        ));
    };
    let Some(token) = bearer(authorization) else {
        return Err(denied(ProblemCode::Unauthenticated, "the Authorization header must be Bearer TOKEN"));
    };
    let Some(id) = tokens.agent_of(token) else {
        return Err(denied(ProblemCode::Unauthenticated, "this token is not known here"));
    };
    match named {
        Some(name) if name != id.as_bytes() => Err(Denied {
            code: ProblemCode::Forbidden,
            detail: format!("this token is the agent {id}'s, and Logweir-Agent names another; leave it out"),
        }),
        _ => Ok(Agent { id, authenticated: true }),
    }
}

fn by_name(named: Option<&[u8]>, peer: IpAddr) -> Result<Agent, Denied> {
    let id = match named {
        None => Arc::from(peer.to_canonical().to_string()),
        Some(name) => match std::str::from_utf8(name).ok().filter(|name| valid_agent_id(name)) {
            Some(name) => Arc::from(name),
            None => {
                let detail = "Logweir-Agent must be 1 to 128 characters of A-Z a-z 0-9 . _ / : -, beginning with \
                              a letter or digit";
                return Err(Denied { code: ProblemCode::Malformed, detail: detail.to_owned() });
            }
        },
    };
    Ok(Agent { id, authenticated: false })
}

/// The token of `Bearer TOKEN`; the scheme in any case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn hex_of(token: &str) -> String {
        Sha256::digest(token).iter().map(|b| format!("{b:02x}")).collect()
    }

    fn tokens() -> Tokens {
        let text = format!(
            "# who may post\n\napi-1 sha256:{}\napi-1 sha256:{}  # the next one\n web-1\tsha256:{}\r\n",
            hex_of("one"),
            hex_of("two").to_uppercase(),
            hex_of("three")
        );
        Tokens::parse(&text).unwrap()
    }

    #[test]
    fn a_token_says_who_posts() {
        let tokens = tokens();
        assert_eq!(tokens.len(), 3);
        for (token, agent) in [("one", "api-1"), ("two", "api-1"), ("three", "web-1")] {
            for scheme in ["Bearer ", "bearer ", "BEARER   "] {
                let value = format!("{scheme}{token}");
                let found = identify(Some(&tokens), Some(value.as_bytes()), None, PEER).unwrap();
                assert_eq!(found, Agent { id: agent.into(), authenticated: true });
            }
            let value = format!("Bearer {token}");
            assert!(identify(Some(&tokens), Some(value.as_bytes()), Some(agent.as_bytes()), PEER).is_ok());
            let other = identify(Some(&tokens), Some(value.as_bytes()), Some(b"other"), PEER).unwrap_err();
            assert_eq!(other.code, ProblemCode::Forbidden);
        }
    }

    #[test]
    fn nobody_else_may() {
        let tokens = tokens();
        let hash = hex_of("one");
        let as_hash = format!("Bearer {hash}");
        for value in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer four"),
            Some("Basic one"),
            Some("one"),
            Some("Bearerone"),
            Some("Bearer one two"),
            Some(as_hash.as_str()),
        ] {
            let denied = identify(Some(&tokens), value.map(str::as_bytes), Some(b"api-1"), PEER).unwrap_err();
            assert_eq!(denied.code, ProblemCode::Unauthenticated, "{value:?}");
        }
        let nobody = Tokens::default();
        assert!(identify(Some(&nobody), Some(b"Bearer one"), None, PEER).is_err());
    }

    #[test]
    fn without_tokens_the_name_or_the_address_serves() {
        let named = identify(None, Some(b"Bearer whatever"), Some(b"api-1"), PEER).unwrap();
        assert_eq!(named, Agent { id: "api-1".into(), authenticated: false });
        assert_eq!(&*identify(None, None, None, PEER).unwrap().id, "192.0.2.7");
        let mapped = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(&*identify(None, None, None, mapped).unwrap().id, "192.0.2.7");
        for name in ["", " ", "-a", "a b", "ä", "a\u{0}", &"a".repeat(129)] {
            let denied = identify(None, None, Some(name.as_bytes()), PEER).unwrap_err();
            assert_eq!(denied.code, ProblemCode::Malformed, "{name:?}");
        }
        assert!(identify(None, None, Some("a".repeat(128).as_bytes()), PEER).is_ok());
    }

    #[test]
    fn a_wrong_line_is_named_and_not_shown() {
        let good = hex_of("one");
        for (line, what) in [
            ("api-1".to_owned(), "expected AGENT_ID"),
            (format!("api-1 {good}"), "sha256:"),
            (format!("api-1 sha256:{}", &good[1..]), "64 hex"),
            (format!("api-1 sha256:{}x", &good[1..]), "64 hex"),
            (format!("-api sha256:{good}"), "agent ID"),
            (format!("api-1 sha256:{good} more"), "expected AGENT_ID"),
            (format!("other sha256:{good}"), "belongs to the agent first"),
        ] {
            let message = Tokens::parse(&format!("first sha256:{good}\n{line}\n")).unwrap_err();
            assert!(message.starts_with("line 2: ") && message.contains(what), "{message}");
            assert!(!message.contains(&good[1..]), "{message}");
        }
    }
}
