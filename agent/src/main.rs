//! placeholder
#![allow(dead_code, reason = "until both halves are there")]
mod handoff;
mod metrics;
mod settings;
fn main() {}
