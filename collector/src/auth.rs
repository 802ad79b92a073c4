//! Who is posting: by certificate, by token, by name, or by address.
//!
//! | certificate | tokens are configured | token sent | the agent is |
//! |---|---|---|---|
//! | yes | | no | `Logweir-Agent` where the certificate names it, else the certificate's first name |
//! | yes | yes | yes | the token's, which the certificate must name |
//! | no | yes | yes | the token's |
//! | no | yes | no | nobody: 401 |
//! | no | no | | `Logweir-Agent`, else the address: nobody vouches for that |
//!
//! Names that contradict each other are 403. A token that isn't known is 401, whatever else is shown.
//!
//! # Why the file has plain SHA-256 of the tokens
//!
//! Slow and salted hashes (Argon2, bcrypt) protect secrets that people chose: whoever has the hash tries the likely
//! ones. `logweir token new` makes tokens of 256 random bits; there are no likely ones, and 2^256 trials of the fastest
//! hash are as impossible as those of the slowest. A slow hash would only let anybody who sends made-up tokens spend
//! the collector's CPU. (NIST SP 800-63B asks for salted, slow hashes of look-up secrets below 112 bits only.)

use crate::tls::names::Certificate;
use logweir_proto::answer::ProblemCode;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq as _;

/// The longest agent ID, in characters (all of them ASCII).
const MAX_AGENT_CHARS: usize = 128;

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) id: Arc<str>,
    /// Whether a token or a certificate says so; only then may the ID become a metric's label.
    pub(crate) authenticated: bool,
}

/// Why somebody may not post, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) code: ProblemCode,
    pub(crate) detail: String,
}

/// What a request and its connection show of who posts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// The header.
    pub(crate) authorization: Option<&'a [u8]>,
    /// `Logweir-Agent`.
    pub(crate) named: Option<&'a [u8]>,
    pub(crate) certificate: Option<&'a Certificate>,
    /// Where the connection comes from.
    pub(crate) peer: IpAddr,
}

/// The tokens file: which hash belongs to which agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tokens(HashMap<[u8; 32], Token>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    agent: Arc<str>,
    /// From when on it is refused, in Unix seconds.
    expires: Option<i64>,
}

impl Tokens {
    /// Reads lines of `AGENT_ID sha256:HEX [expires:TIME]`, where HEX is the SHA-256 of the token's text and TIME is
    /// of RFC 3339. `#` begins a comment. An agent may have several tokens; of a token that stands twice, the earlier
    /// end counts.
    ///
    /// # Errors
    /// The number of the first wrong line, and what would be right; never what stands in it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: HashMap<[u8; 32], Token> = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let (hash, mut token) = parse_line(line).map_err(|what| format!("line {number}: {what}"))?;
            if let Some(other) = tokens.get(&hash) {
                if other.agent != token.agent {
                    let other = &other.agent;
                    return Err(format!("line {number}: this token belongs to the agent {other} already"));
                }
                token.expires = [token.expires, other.expires].into_iter().flatten().min();
            }
            tokens.insert(hash, token);
        }
        Ok(Self(tokens))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is known of a token.
    ///
    /// A map's lookup takes a time that depends on the hash, which tells nothing: the tokens are random and
    /// long, so nobody can choose one whose hash is near another's. The comparison that decides is constant.
    fn find(&self, token: &[u8]) -> Option<&Token> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let (known, token) = self.0.get_key_value(&hash)?;
        bool::from(known.ct_eq(&hash)).then_some(token)
    }
}

fn parse_line(line: &str) -> Result<([u8; 32], Token), &'static str> {
    let mut words = line.split_whitespace();
    let (Some(agent), Some(hash), end, None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("expected AGENT_ID sha256:HEX [expires:TIME]");
    };
    if !valid_agent_id(agent) {
        return Err("the agent ID must be 1 to 128 characters of A-Z a-z 0-9 . _ / : -, beginning with a \
                    letter or digit");
    }
    let hash = hash.strip_prefix("sha256:").and_then(from_hex);
    let hash = hash.ok_or("the hash must be sha256: and 64 hex digits")?;
    let expires = match end {
        None => None,
        Some(end) => {
            let time = end.strip_prefix("expires:").and_then(|time| time.parse::<jiff::Timestamp>().ok());
            let time =
                time.ok_or("what follows the hash must be an end such as expires:2027-01-31T00:00:00Z")?;
            Some(time.as_second())
        }
    };
    Ok((hash, Token { agent: agent.into(), expires }))
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

/// Decides who posts. `tokens` is `None` where no tokens are configured.
///
/// # Errors
/// `unauthenticated`, `forbidden`, or `malformed` for a name that is none.
pub(crate) fn identify(tokens: Option<&Tokens>, shown: &Shown<'_>, now: SystemTime) -> Result<Agent, Denied> {
    let now =
        now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let id = match (shown.certificate, tokens) {
        (None, None) => return by_name(shown.named, shown.peer),
        (None, Some(tokens)) => by_token(tokens, shown.authorization, now)?,
        (Some(certificate), Some(tokens)) if shown.authorization.is_some() => {
            let id = by_token(tokens, shown.authorization, now)?;
            by_certificate(certificate, Some(id.as_bytes()), now)?
        }
        (Some(certificate), _) => by_certificate(certificate, shown.named, now)?,
    };
    match shown.named {
        Some(name) if name != id.as_bytes() => {
            let detail = format!("this is the agent {id}, and Logweir-Agent names another; leave it out");
            Err(Denied { code: ProblemCode::Forbidden, detail })
        }
        _ => Ok(Agent { id, authenticated: true }),
    }
}

fn unauthenticated(detail: &str) -> Denied {
    Denied { code: ProblemCode::Unauthenticated, detail: detail.to_owned() }
}

fn by_token(tokens: &Tokens, authorization: Option<&[u8]>, now: i64) -> Result<Arc<str>, Denied> {
    let Some(authorization) = authorization else {
        return Err(unauthenticated("send the agent's token as Authorization: Bearer TOKEN"));
    };
    let Some(token) = bearer(authorization) else {
        return Err(unauthenticated("the Authorization header must be Bearer TOKEN"));
    };
    match tokens.find(token) {
        None => Err(unauthenticated("this token is not known here")),
        Some(token) if token.expires.is_some_and(|end| end <= now) => {
            Err(unauthenticated("this token has expired; make a new one with `logweir token new`"))
        }
        Some(token) => Ok(token.agent.clone()),
    }
}

/// The one of the certificate's agents that is meant: this one, or the first.
fn by_certificate(certificate: &Certificate, named: Option<&[u8]>, now: i64) -> Result<Arc<str>, Denied> {
    // A connection may outlive what it was let in with.
    if certificate.expires <= now {
        return Err(unauthenticated(
            "the certificate of this connection has expired; connect with a new one",
        ));
    }
    let forbidden = |detail: &str| Denied { code: ProblemCode::Forbidden, detail: detail.to_owned() };
    let Some(first) = certificate.agents.first() else {
        return Err(forbidden(
            "the certificate names no agent: it needs a URI or a DNS name, among its subject alternative names, that \
             is an agent's ID",
        ));
    };
    let Some(named) = named else { return Ok(first.clone()) };
    let found = certificate.agents.iter().find(|agent| agent.as_bytes() == named);
    found.cloned().ok_or_else(|| {
        forbidden("the certificate doesn't name the agent that the token or Logweir-Agent does")
    })
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

    use std::time::Duration;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    const NOW: i64 = 1_795_514_580;

    fn identify(
        tokens: Option<&Tokens>,
        authorization: Option<&[u8]>,
        named: Option<&[u8]>,
        peer: IpAddr,
    ) -> Result<Agent, Denied> {
        identify_with(None, tokens, authorization, named, peer)
    }

    fn identify_with(
        certificate: Option<&Certificate>,
        tokens: Option<&Tokens>,
        authorization: Option<&[u8]>,
        named: Option<&[u8]>,
        peer: IpAddr,
    ) -> Result<Agent, Denied> {
        let shown = Shown { authorization, named, certificate, peer };
        super::identify(tokens, &shown, UNIX_EPOCH + Duration::from_secs(NOW.cast_unsigned()))
    }

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
            (format!("api-1 sha256:{good} more"), "expires:"),
            (format!("api-1 sha256:{good} expires:2027-01-31"), "expires:"),
            (format!("api-1 sha256:{good} expires:2027-01-31T00:00:00Z more"), "expected AGENT_ID"),
            (format!("other sha256:{good}"), "belongs to the agent first"),
        ] {
            let message = Tokens::parse(&format!("first sha256:{good}\n{line}\n")).unwrap_err();
            assert!(message.starts_with("line 2: ") && message.contains(what), "{message}");
            assert!(!message.contains(&good[1..]), "{message}");
        }
    }

    #[test]
    fn a_token_ends_when_its_line_says_so() {
        let (now, earlier) = ("2026-11-24T10:03:00Z", "2026-11-24T10:02:59Z");
        let later = "2026-11-24T11:03:01+01:00";
        for (ends, works) in
            [(vec![later], true), (vec![now], false), (vec![earlier], false), (vec![later, now], false)]
        {
            let lines = ends.iter().map(|end| format!("a sha256:{} expires:{end}\n", hex_of("one")));
            let tokens = Tokens::parse(&lines.collect::<String>()).unwrap();
            let found = identify(Some(&tokens), Some(b"Bearer one"), None, PEER);
            match found {
                Ok(agent) => assert!(works && &*agent.id == "a"),
                Err(denied) => {
                    assert!(!works && denied.code == ProblemCode::Unauthenticated, "{denied:?}");
                    assert!(denied.detail.contains("expired"), "{denied:?}");
                }
            }
        }
        // One without an end doesn't prolong one that has.
        let hash = hex_of("one");
        let twice = Tokens::parse(&format!("a sha256:{hash}\na sha256:{hash} expires:{now}\n")).unwrap();
        assert!(identify(Some(&twice), Some(b"Bearer one"), None, PEER).is_err());
    }

    #[test]
    fn a_certificate_names_the_agent_and_a_token_must_agree() {
        let certificate = |agents: &[&str], expires: i64| Certificate {
            agents: agents.iter().map(|agent| Arc::from(*agent)).collect(),
            expires,
        };
        let good = certificate(&["api-1", "api-1.example.com"], NOW + 1);
        let tokens = tokens();
        let with_tokens = Some(&tokens);
        let (api, web, wrong) =
            (Some(&b"Bearer one"[..]), Some(&b"Bearer three"[..]), Some(&b"Bearer x"[..]));
        let (forbidden, unauthenticated) = (ProblemCode::Forbidden, ProblemCode::Unauthenticated);
        for (certificate, tokens, authorization, named, expected) in [
            (&good, None, None, None, Ok("api-1")),
            (&good, None, None, Some("api-1.example.com"), Ok("api-1.example.com")),
            (&good, None, None, Some("web-1"), Err(forbidden)),
            (&good, None, wrong, None, Ok("api-1")),
            (&good, with_tokens, None, None, Ok("api-1")),
            (&good, with_tokens, api, None, Ok("api-1")),
            (&good, with_tokens, api, Some("api-1.example.com"), Err(forbidden)),
            (&good, with_tokens, web, None, Err(forbidden)),
            (&good, with_tokens, web, Some("web-1"), Err(forbidden)),
            (&good, with_tokens, wrong, None, Err(unauthenticated)),
            (&certificate(&[], NOW + 1), None, None, None, Err(forbidden)),
            (&certificate(&[], NOW + 1), with_tokens, api, None, Err(forbidden)),
            (&certificate(&["api-1"], NOW), None, None, None, Err(unauthenticated)),
        ] {
            let named = named.map(str::as_bytes);
            let found = identify_with(Some(certificate), tokens, authorization, named, PEER);
            let found = found.map(|agent| agent.id.to_string()).map_err(|denied| denied.code);
            assert_eq!(found, expected.map(str::to_owned), "{certificate:?} {authorization:?} {named:?}");
        }
    }
}
