//! Fuzz targets, see fuzz/README.md: whatever the bytes, each ends in the right verdict, with bounded work.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a target fails by panicking")]

mod body;
mod decode;
mod event;
mod line;
mod names;
#[path = "../reference/mod.rs"]
mod reference;
