//! What every logweir service starts with: configuration, logs, metrics, health and the shutdown signal.
//!
//! ```text
//! flags > LOGWEIR_… > --config file > default      config
//!        └─► logs (stderr)                          logs
//!        └─► admin address: /metrics /healthz /readyz   admin
//!        └─► SIGTERM or SIGINT ─► CancellationToken     shutdown
//!        └─► SIGHUP, a changed file ─► read again       watched
//! ```
//!
//! This crate must never know what a service does: no event, no Redis, and of Postgres only how one gets in (postgres).

pub mod admin;
pub mod config;
pub mod exit;
pub mod logs;
pub mod postgres;
pub mod redact;
pub mod shutdown;
pub mod watched;
