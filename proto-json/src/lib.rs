//! The wire of logweir: what an event is, which batch it belongs to, and how requests are answered.
//!
//! ```text
//! line   a log line ──► one event as JSON        (agent, verify)
//! ndjson body ──► the lines of its events        (collector, worker)
//! event  one line ──► minute, service, level, or the reason why not
//! batch  PRODUCER/SEQ: the numbers of the events
//! answer 202, and RFC 9457 problems with their codes
//! ```
//!
//! Everything here is pure: no I/O, no clock, no randomness, no async. Time and limits are passed in.

pub mod answer;
pub mod batch;
pub mod encoding;
pub mod event;
pub mod headers;
pub mod level;
pub mod limits;
pub mod line;
pub mod ndjson;
pub mod reject;
mod scan;

pub use batch::{BatchId, ProducerId, Seq};
pub use event::{EVENT_SCHEMA, Event, OVERFLOW_SERVICE, Rules};
pub use level::Level;
pub use limits::Limits;
pub use reject::{Code, Rejection};
