//! The whole collector against a private Redis: what it answers, whom it lets in, and how it lives without Redis.

mod admission;
mod answers;
mod common;
mod outage;
