//! The whole collector against a private Redis: what it answers, whom it lets in, and how it lives without Redis.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test, which the lints see only in the tests themselves"
)]

mod admission;
mod answers;
mod bodies;
mod common;
mod documented;
mod draining;
mod escaping;
mod hostile;
mod http2;
mod interface;
mod metrics;
mod order;
mod outage;
mod overload;
mod quota;
mod redis_faults;
mod shards;
mod tls;
