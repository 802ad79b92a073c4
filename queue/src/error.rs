//! What can go wrong, by what the caller does about it.

use std::time::Duration;
use thiserror::Error;

/// Why a call didn't succeed. Whether it took effect is unknown, except for [`QueueError::Unfit`] and
/// [`QueueError::Usage`], which are said before anything was sent.
#[derive(Debug, Error)]
pub enum QueueError {
    /// Redis can't be reached, is loading, read-only, out of memory, or refuses just now: try again, for ever.
    #[error("Redis is unavailable: {0}")]
    Unavailable(#[source] redis::RedisError),
    /// No answer within the deadline; as [`QueueError::Unavailable`].
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// Redis' settings don't give what `--ack` promises: a person must mend that. The text says which setting,
    /// what it is, and the command that sets it.
    #[error("Redis doesn't fit --ack: {0}")]
    Unfit(String),
    /// The URL or a setting of the caller is wrong.
    #[error("{0}")]
    Usage(String),
    /// Redis answered something that this version doesn't understand.
    #[error("Redis gave an unexpected answer: {0}")]
    Protocol(String),
}
