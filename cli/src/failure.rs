//! Errors by what the caller's shell sees, with the next step for the person before it.

use logweir_queue::QueueError;
use logweir_telemetry::exit::Exit;
use logweir_telemetry::redact::SecretUrl;
use thiserror::Error;

/// Why a command could not answer.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// A person must change the flags or the configuration.
    #[error("{0}")]
    Usage(String),
    /// Something needed is not there.
    #[error("can't reach {what} at {url}: {cause}; {remedy}")]
    Unreachable {
        /// Its name.
        what: &'static str,
        /// Where it was looked for; prints without the password.
        url: SecretUrl,
        /// What happened.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Whoever read stdout has left; nobody waits for the rest.
    #[error("stdout was closed")]
    PipeClosed,
}

/// The exit code of an error. What has no class of its own (a disk that is full) is something that is missing.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    match error.downcast_ref::<Failure>() {
        Some(Failure::Usage(_)) => Exit::Usage,
        Some(Failure::PipeClosed) => Exit::Done,
        Some(Failure::Unreachable { .. }) | None => Exit::Unreachable,
    }
}

/// A queue's error, with the address of its Redis.
pub(crate) fn of_queue(error: &QueueError, url: &SecretUrl) -> Failure {
    match error {
        QueueError::Unavailable(_) | QueueError::Timeout(_) | QueueError::Protocol(_) => {
            Failure::Unreachable {
                what: "the queue",
                url: url.clone(),
                cause: error.to_string(),
                remedy: "is Redis running there? set --redis or LOGWEIR_REDIS",
            }
        }
        QueueError::Unfit(text) | QueueError::Usage(text) => {
            Failure::Usage(format!("{text}; set --redis or LOGWEIR_REDIS (now {url})"))
        }
    }
}
