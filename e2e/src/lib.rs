//! The harness: real Redis, Postgres and logweir processes, things that happen to them, and an oracle that knows
//! what Postgres must hold at the end.
//!
//! ```text
//! schedule ── kills, pauses, rotates ──────────────┬───────────┬──────────┬──────────┐
//!                                                  ▼           ▼          ▼          ▼
//! writer ──► files, stdin ──► agents ──► proxy ──► collectors ──► Redis ──► workers ──► Postgres
//!   │ first                      poster ──────────►│                                      │
//!   └──► truth ◄──────────────────── equal in every cell? ◄───────────────────────────────┘
//! ```
//!
//! The services are known here by their outward names alone: flags, HTTP, the queue's keys, Postgres' tables.
//! A broken harness and a broken product both panic: what a test asks for either happens, or the test fails with
//! the place of the logs.
//!
//! Limits: Postgres runs with `fsync=off`. Processes are killed here, never the machine, and what a process has
//! written survives its death; a power cut is not simulated.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the whole crate is test code: a panic is how it says no"
)]

pub mod bins;
pub mod client;
pub mod drain;
pub mod lines;
pub mod ports;
pub mod poster;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod reaper;
pub mod redis;
pub mod run;
pub mod schedule;
pub mod source;
pub mod stack;
pub mod truth;

use std::time::Duration;
use std::time::Instant;

/// Polls until `condition` holds.
///
/// # Panics
/// After `limit`, naming `what`.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
