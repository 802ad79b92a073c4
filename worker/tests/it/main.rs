//! The whole worker against private Redis and Postgres processes: what it counts, what it gives up, and how it lives
//! without either.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test, which the lints see only in the tests themselves"
)]

mod common;
mod counting;
mod documents;
mod housekeeping;
mod migrations;
mod poison;
mod program;
mod retention;
mod rights;
mod schema;
mod shards;
mod silence;
mod standby;
mod tls;
mod world;
