//! The queue, and the address that its errors name.

use crate::args::Shared;
use crate::failure::{self, Failure};
use logweir_queue::{Ack, Queue, QueueError, Settings};
use logweir_telemetry::redact::SecretUrl;
use std::time::Duration;

/// How long one call to Redis may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// One queue. It is reached at the first call.
pub(crate) struct Place {
    pub(crate) queue: Queue,
    url: SecretUrl,
}

impl Place {
    /// The queue that the flags name.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the URL is none.
    pub(crate) fn open(shared: &Shared) -> Result<Self, Failure> {
        let url = shared.redis()?;
        let settings = Settings::new(url.expose(), Ack::Memory, DEADLINE);
        let settings = Settings { access: shared.redis_access.clone(), ..settings };
        let queue = Queue::new(settings).map_err(|e| failure::of_queue(&e, &url))?;
        Ok(Self { queue, url })
    }

    /// For `map_err`.
    pub(crate) fn failure(&self) -> impl Fn(QueueError) -> Failure + '_ {
        |error| failure::of_queue(&error, &self.url)
    }
}
