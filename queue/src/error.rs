//! What can go wrong, by what the caller does about it.

use crate::keys::Shard;
use redis::{ErrorKind, RedisError};
use std::time::Duration;
use thiserror::Error;

/// Why a call didn't succeed. Whether it took effect is unknown, except for [`QueueError::Unfit`] and
/// [`QueueError::Usage`], which are said before anything was sent.
#[derive(Debug, Clone, Error)]
pub enum QueueError {
    /// Redis can't be reached, is loading, read-only, out of memory, or refuses just now: try again, for ever.
    #[error("Redis is unavailable: {0}")]
    Unavailable(#[source] RedisError),
    /// No answer within the deadline; as [`QueueError::Unavailable`].
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// Redis' settings don't give what `--ack` promises, or a cluster keeps a shard elsewhere: a person must mend that.
    /// The text says which setting, what it is, and the command that sets it.
    #[error("Redis is not set up as it must be: {0}")]
    Unfit(String),
    /// The URL or a setting of the caller is wrong.
    #[error("{0}")]
    Usage(String),
    /// Redis answered something that this version doesn't understand.
    #[error("Redis gave an unexpected answer: {0}")]
    Protocol(String),
}

impl QueueError {
    /// Whether Redis has answered, and refused this: about other keys it may say yes. What it says of itself as a whole
    /// (that it is still loading, say) is no refusal.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Protocol(_) => true,
            Self::Unavailable(error) => !breaks_connection(error) && !has_any(error, WHOLE),
            Self::Timeout(_) | Self::Unfit(_) | Self::Usage(_) => false,
        }
    }

    /// With the shard that it is about.
    pub(crate) fn of(self, shard: Shard) -> Self {
        match self {
            Self::Protocol(why) => Self::Protocol(format!("of shard {shard}: {why}")),
            other => other,
        }
    }

    /// [`QueueError::Unavailable`] for a reason that is not Redis' own error.
    pub(crate) fn unavailable(why: String) -> Self {
        Self::Unavailable(std::io::Error::other(why).into())
    }
}

/// Errors by which Redis says that it can't just now, or not for this user.
const WORLD: &[&str] = &[
    "LOADING",
    "READONLY",
    "OOM",
    "MISCONF",
    "BUSY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOREPLICAS",
    "UNBLOCKED",
    "MOVED",
    "ASK",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
];

/// What concerns all keys alike.
const WHOLE: &[&str] = &["LOADING", "BUSY", "MISCONF", "NOREPLICAS"];

/// Errors after which another connection may do better: the address may lead to another server by now, or the
/// password has been changed. Not those of a cluster that has a shard on another node: see [`crate::link`]'s check.
const ELSEWHERE: &[&str] = &["READONLY", "MASTERDOWN", "UNBLOCKED", "NOAUTH", "WRONGPASS"];

/// Whether Redis' error has this code, in its first word or, inside a script of older versions, in its text.
pub(crate) fn has_code(error: &RedisError, code: &str) -> bool {
    error.code() == Some(code) || error.detail().is_some_and(|detail| detail.contains(&format!("-{code} ")))
}

/// Whether a cluster says that another of its nodes has the key.
pub(crate) fn is_moved(error: &RedisError) -> bool {
    has_any(error, &["MOVED", "ASK"])
}

fn has_any(error: &RedisError, codes: &[&str]) -> bool {
    codes.iter().any(|code| has_code(error, code))
}

/// Whether the connection must be made anew.
pub(crate) fn breaks_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || has_any(error, ELSEWHERE)
}

impl From<RedisError> for QueueError {
    fn from(error: RedisError) -> Self {
        if error.is_io_error() || error.kind() == ErrorKind::AuthenticationFailed || has_any(&error, WORLD) {
            Self::Unavailable(error)
        } else {
            Self::Protocol(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::Value;

    fn server(text: &str) -> RedisError {
        let reply = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        match reply.map(Value::extract_error) {
            Ok(Err(error)) | Err(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_is_of_some_keys_and_not_of_the_whole_server() {
        for (text, refusal) in [
            ("WRONGTYPE Operation against a key holding the wrong kind of value", true),
            ("NOPERM No permissions to access a key", true),
            ("MOVED 1 127.0.0.1:7000", true),
            ("LOADING Redis is loading the dataset in memory", false),
            ("BUSY Redis is busy running a script.", false),
            ("MISCONF Errors writing to the AOF file: No space left on device", false),
            ("NOREPLICAS Not enough good replicas to write.", false),
            ("READONLY You can't write against a read only replica.", false),
        ] {
            assert_eq!(QueueError::from(server(text)).is_refusal(), refusal, "{text}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_unavailable() {
        for text in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1.",
            "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory",
            "MISCONF Errors writing to the AOF file: No space left on device",
            "BUSY Redis is busy running a script.",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "MASTERDOWN Link with MASTER is down",
            "NOREPLICAS Not enough good replicas to write.",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'xadd' command",
        ] {
            let error = QueueError::from(server(text));
            assert!(matches!(error, QueueError::Unavailable(_)), "{text}: {error:?}");
        }
    }

    #[test]
    fn what_no_wait_mends_is_a_protocol_error() {
        for text in ["WRONGTYPE Operation against a key holding the wrong kind of value", "ERR syntax error"]
        {
            let error = QueueError::from(server(text));
            assert!(
                matches!(&error, QueueError::Protocol(said) if said.contains(&text[9..])),
                "{text}: {error:?}"
            );
        }
    }
}
