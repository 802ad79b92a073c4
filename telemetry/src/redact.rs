//! Addresses that may bear a password, and never print it.

use std::fmt;
use std::str::FromStr;

/// A URL such as `redis://user:secret@host:6379/0`. `Display` and `Debug` replace the password by `***`;
/// [`SecretUrl::expose`] gives the whole text to the client library.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The text with its password, for the client library only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretUrl {
    type Err = String;

    /// Takes any text that has a scheme (`redis://…`, `postgres://…`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(Self(text.to_owned())),
            _ => {
                Err("expected a URL such as redis://127.0.0.1:6379 or postgres://user@host/database"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        // A query may hold `password=…` (libpq style); nothing there is worth printing.
        let tail = tail.split('?').next().unwrap_or("");
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split(':').next().unwrap_or("");
                let mark = if authority.contains(':') && user.len() + host.len() + 1 < authority.len() {
                    ":***"
                } else {
                    ""
                };
                write!(f, "{scheme}://{user}{mark}@{host}{tail}")
            }
            None => write!(f, "{scheme}://{authority}{tail}"),
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:s3cret@h:1/0", "redis://:***@h:1/0"),
            ("redis://bob:s3cret@h:1", "redis://bob:***@h:1"),
            ("postgres://bob@h/db", "postgres://bob@h/db"),
            ("postgres://bob:s3@cret@h/db?password=s3cret", "postgres://bob:***@h/db"),
        ] {
            let parsed: SecretUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.expose(), url);
            assert!(!format!("{parsed:?}").contains("s3"));
        }
        assert!("127.0.0.1:6379".parse::<SecretUrl>().is_err());
    }
}
