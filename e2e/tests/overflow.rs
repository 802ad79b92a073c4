//! More services than a collector counts.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

use logweir_e2e::client::{Post, metric};
use logweir_e2e::lines::{cell, event, now_ms};
use logweir_e2e::stack::Stack;
use std::time::Duration;
use uuid::Uuid;

/// Under the first names each collector counts as itself, and under one name all the others; whichever collector's
/// verdict comes first, each event is counted once.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_too_many_are_counted_as_the_overflow_and_once() {
    let mut stack = Stack::with_services("overflow", &["--max-series", "2"], 1).await;
    let other = stack.add_collector(&["--max-series", "2"]);
    stack.start_all();
    stack.ready().await;
    let first = stack.collectors[0].listen;
    let ms = now_ms();
    let body = |services: &[&str]| {
        services.iter().map(|service| event(ms, service, "error", "m")).collect::<Vec<_>>().join(&b'\n')
    };
    // c and d are too many for the first; the second knows c and d, and a and b are too many.
    let producer = Uuid::new_v4();
    let mixed = body(&["a", "b", "c", "a", "d", "c"]);
    let taken = Post::ndjson(mixed.clone()).batch(producer, 1).send(first).await.unwrap();
    assert_eq!((taken.status, &taken.body["accepted"]), (202, &6.into()), "{taken:?}");
    assert_eq!(Post::ndjson(body(&["c", "d"])).send(other).await.unwrap().status, 202);
    for to in [other, first, other] {
        assert_eq!(Post::ndjson(mixed.clone()).batch(producer, 1).zstd().send(to).await.unwrap().status, 202);
    }
    for (service, count) in [("a", 2), ("b", 1), ("__overflow__", 3), ("c", 1), ("d", 1)] {
        for _ in 0..count {
            stack.truth.add(cell(ms, service, "error"), "m");
        }
    }
    stack.assert_exact(Duration::from_secs(30), false).await;
    let overflowed = metric(stack.collectors[0].admin, "logweir_collector_events_overflowed_total").await;
    assert_eq!(overflowed, Some(6.0));
    let log = std::fs::read_to_string(stack.collectors[0].process.log()).unwrap();
    assert!(log.contains("--max-series") && log.contains("127.0.0.1"), "{log}");
}
