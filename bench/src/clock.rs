//! Waiting, with a deadline, for what is seen by asking.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Asks every `pause` until the answer is yes.
///
/// # Errors
/// The question's own, or that the answer wasn't yes within `limit`.
pub(crate) async fn until(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut yes: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !yes().await? {
        anyhow::ensure!(start.elapsed() < limit, "not within {}: {what}", humantime::format_duration(limit));
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
