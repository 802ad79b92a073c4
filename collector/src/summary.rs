//! Once a minute, what was rejected: one line instead of one for each event.

use crate::metrics::Metrics;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(60);

/// Logs sums of rejected events by reason until `stop`, and a last time then.
pub(crate) async fn run(metrics: Metrics, stop: CancellationToken) {
    let mut before = metrics.rejected_so_far();
    loop {
        let going_on = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some();
        let now = metrics.rejected_so_far();
        if let Some(text) = difference(&before, &now) {
            tracing::warn!(rejected = %text, "events were rejected; their senders know which and why");
        }
        before = now;
        if !going_on {
            return;
        }
    }
}

fn difference(before: &[(&'static str, u64)], now: &[(&'static str, u64)]) -> Option<String> {
    let more: Vec<String> = before
        .iter()
        .zip(now)
        .filter(|(b, n)| n.1 > b.1)
        .map(|(b, n)| format!("{}={}", n.0, n.1 - b.1))
        .collect();
    (!more.is_empty()).then(|| more.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let before = [("not_json", 3), ("too_old", 0), ("too_long", 1)];
        assert_eq!(difference(&before, &before), None);
        let now = [("not_json", 5), ("too_old", 1), ("too_long", 1)];
        assert_eq!(difference(&before, &now).unwrap(), "not_json=2 too_old=1");
    }
}
