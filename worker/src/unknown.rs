//! Errors that nobody has thought of: they are taken for the world's, so nothing is given up for them, and they are told
//! loudly, since no wait may mend them.

use crate::failure::{Trouble, What};
use crate::metrics::Metrics;
use logweir_queue::QueueError;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Where an error came from; the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Postgres,
    Redis,
}

impl Source {
    pub(crate) const ALL: [Self; 2] = [Self::Postgres, Self::Redis];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

/// The last such error of each lane and source. One lane may commit while another can't for long.
pub(crate) struct Unknown {
    metrics: Metrics,
    last: Mutex<BTreeMap<(usize, Source), String>>,
}

impl Unknown {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { metrics, last: Mutex::default() }
    }

    /// Counts a trouble of Postgres if nobody has thought of it; logs it if the lane's last one was another. Returns whether
    /// it was logged.
    pub(crate) fn postgres(&self, lane: usize, trouble: &Trouble) -> bool {
        if trouble.what != What::Other {
            return false;
        }
        let code = trouble.code.as_deref().unwrap_or("none");
        let news = self.met((lane, Source::Postgres), trouble.code.as_deref().unwrap_or(&trouble.detail));
        if news {
            tracing::error!(
                error = %trouble, code,
                "Postgres gave an error that the worker doesn't know; it keeps the batches and tries again for ever"
            );
        }
        news
    }

    /// The lane has committed: its next error is news, whatever it is.
    pub(crate) fn committed(&self, lane: usize) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.remove(&(lane, Source::Postgres));
    }

    /// As [`Unknown::postgres`], of an answer of Redis that no wait may mend.
    pub(crate) fn redis(&self, lane: usize, error: &QueueError, what: &str) -> bool {
        if !matches!(error, QueueError::Protocol(_) | QueueError::Usage(_)) {
            return false;
        }
        let news = self.met((lane, Source::Redis), &format!("{what}: {error}"));
        if news {
            tracing::error!(
                %error, what,
                "Redis gave an answer that the worker doesn't understand; the batch stays in the queue, and comes again"
            );
        }
        news
    }

    fn met(&self, from: (usize, Source), error: &str) -> bool {
        self.metrics.unknown_error(from.1);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(from, error.to_owned()).is_none_or(|before| before != error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_per_change() {
        let unknown = Unknown::new(Metrics::new().0);
        let of = |code: &str, detail: &str| Trouble {
            code: Some(code.to_owned()),
            ..Trouble::new(What::Other, detail)
        };
        assert!(unknown.postgres(1, &of("XX000", "row 1")));
        assert!(!unknown.postgres(1, &of("XX000", "row 2")), "the code is what matters");
        assert!(unknown.postgres(1, &of("ZZ999", "row 2")));
        assert!(unknown.postgres(1, &of("XX000", "row 1")));
        assert!(unknown.postgres(1, &Trouble::new(What::Other, "gone")));
        assert!(!unknown.postgres(1, &Trouble::new(What::Other, "gone")));
        unknown.committed(2);
        assert!(!unknown.postgres(1, &Trouble::new(What::Other, "gone")), "another lane's commit");
        unknown.committed(1);
        assert!(unknown.postgres(1, &Trouble::new(What::Other, "gone")));
        assert!(!unknown.postgres(1, &Trouble::new(What::Connection, "broken")));

        let strange = QueueError::Protocol("WRONGTYPE".to_owned());
        assert!(unknown.redis(1, &strange, "acknowledge"));
        assert!(!unknown.redis(1, &strange, "acknowledge"));
        assert!(unknown.redis(1, &strange, "read"));
        assert!(!unknown.redis(1, &QueueError::Timeout(std::time::Duration::from_secs(1)), "read"));
    }
}
