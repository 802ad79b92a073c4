//! The whole agent as a process, against a collector that answers as a test says.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test, which the lints see only in the tests themselves"
)]

mod archives;
mod collector;
mod collectors;
mod disks;
mod ending;
mod explain;
mod files;
mod formats;
mod metrics;
mod mount;
mod names;
mod process;
mod reload;
mod resend;
mod rules;
mod slow;
mod status;
mod stdin;
