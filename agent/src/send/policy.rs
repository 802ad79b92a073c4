//! What the end of an attempt means for its batch. Pure: the time is passed in.
//!
//! ```text
//! 202, ours and whole ─────────────► Settled         400 malformed ──────────► RejectAll
//! 422 all_rejected ────────────────► Settled         415 ─► Identity, again ─► RejectAll
//! 413 ─► Halve, a single event ────► RejectAll       anything else ──────────► Hold, and again, for ever
//! ```
//!
//! Invariants: a batch is given up (`RejectAll`) only where the collector itself said so, in a problem of its own;
//! what a proxy in between says in its place (a login page, a 400 for the wrong port) never costs an event. A 202
//! that doesn't speak of this batch, or not of each of its events, is no answer at all.

use crate::send::retry_after;
use jiff::Timestamp;
use logweir_proto::BatchId;
use logweir_proto::answer::{Accepted, Problem, ProblemCode, RejectedEvent};
use logweir_proto::encoding::Encoding;
use std::collections::HashSet;
use std::time::Duration;

/// How much of a problem's or a proxy's words is shown.
const MAX_SHOWN_CHARS: usize = 300;

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) id: BatchId,
    pub(crate) events: u64,
    pub(crate) encoding: Encoding,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// At least status and headers came.
    Answer(Answer),
    /// Nothing that could be read: refused, reset; with what the system says.
    Failed(String),
    /// Nothing within the time that an attempt may take.
    TimedOut(String),
}

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Retry-After` as it stands.
    pub(crate) retry_after: Option<String>,
    /// `Logweir-Pressure`.
    pub(crate) pressure: Option<f64>,
    /// `None` when it was cut off, too slow or too long.
    pub(crate) body: Option<Vec<u8>>,
}

/// Why sending is held back; the names of the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    RateLimited,
    QueueFull,
    QueueUnavailable,
    Overloaded,
    Draining,
    Unauthenticated,
    Forbidden,
    /// Something that people configure: a redirect, a wrong path, a proxy that wants a login.
    Configuration,
    /// No answer.
    Unreachable,
    /// No answer within `--request-timeout`.
    TimedOut,
    /// An answer that is none of the interface: 5xx, half of one, something else's.
    Error,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Reason::RateLimited => "rate_limited",
            Reason::QueueFull => "queue_full",
            Reason::QueueUnavailable => "queue_unavailable",
            Reason::Overloaded => "overloaded",
            Reason::Draining => "draining",
            Reason::Unauthenticated => "unauthenticated",
            Reason::Forbidden => "forbidden",
            Reason::Configuration => "configuration",
            Reason::Unreachable => "unreachable",
            Reason::TimedOut => "timeout",
            Reason::Error => "error",
        }
    }

    /// The collector is there and in order, and asks for patience.
    pub(crate) const fn is_pressure(self) -> bool {
        matches!(
            self,
            Reason::RateLimited
                | Reason::QueueFull
                | Reason::QueueUnavailable
                | Reason::Overloaded
                | Reason::Draining
        )
    }

    /// A new token may mend it.
    pub(crate) const fn is_about_the_token(self) -> bool {
        matches!(self, Reason::Unauthenticated | Reason::Forbidden)
    }
}

/// How long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// What the collector said; never earlier.
    Told(Duration),
    /// Exponential backoff, up to a minute.
    Backoff,
    /// Until people have mended it; looking again now and then.
    Long,
}

/// The batch is kept, and tried again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) reason: Reason,
    pub(crate) wait: Wait,
    /// What was said.
    pub(crate) detail: String,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Every event is in the queue, but these; ascending by index.
    Settled { rejected: Vec<RejectedEvent> },
    /// The collector will never take it.
    RejectAll { code: ProblemCode, detail: String },
    /// Send its halves.
    Halve,
    /// Send it again without compression.
    Identity,
    /// Send it again, later.
    Hold(Hold),
}

/// Decides. `now` is for a `Retry-After` that is a date.
pub(crate) fn decide(asked: &Asked, outcome: &Outcome, now: Timestamp) -> Action {
    let answer = match outcome {
        Outcome::Answer(answer) => answer,
        Outcome::Failed(detail) => return hold(Reason::Unreachable, Wait::Backoff, detail.clone()),
        Outcome::TimedOut(detail) => return hold(Reason::TimedOut, Wait::Backoff, detail.clone()),
    };
    let said = answer.body.as_deref().and_then(|body| serde_json::from_slice::<Problem>(body).ok());
    let told_ms = said.as_ref().and_then(|said| said.retry_after_ms);
    let problem = said.and_then(Ours::of);
    let detail = || shown(answer, problem.as_ref());
    let error = || hold(Reason::Error, Wait::Backoff, detail());
    match (answer.status, problem.as_ref().map(|problem| problem.code)) {
        (202, _) => match settled(asked, answer) {
            Ok(rejected) => Action::Settled { rejected },
            Err(why) => hold(Reason::Error, Wait::Backoff, why.to_owned()),
        },
        // Without its words nobody can say whose answer it is.
        (400 | 415 | 422, None) if answer.body.is_none() => error(),
        (400, Some(code @ ProblemCode::Malformed)) => Action::RejectAll { code, detail: detail() },
        (401, _) => hold(Reason::Unauthenticated, Wait::Long, detail()),
        (403, _) => hold(Reason::Forbidden, Wait::Long, detail()),
        (413, _) if asked.events > 1 => Action::Halve,
        // Too large for a proxy is too large as well: nobody can make a single event smaller.
        (413, _) => Action::RejectAll { code: ProblemCode::TooLarge, detail: detail() },
        (415, _) if asked.encoding != Encoding::Identity => Action::Identity,
        (415, Some(code @ ProblemCode::Unsupported)) => Action::RejectAll { code, detail: detail() },
        (422, Some(ProblemCode::AllRejected)) => all_rejected(asked, problem.as_ref(), error),
        (408 | 425, _) => error(),
        (429 | 503, code) => refused(answer, code, told_ms, detail(), now),
        (300..=499, _) => hold(Reason::Configuration, Wait::Long, detail()),
        _ => error(),
    }
}

fn hold(reason: Reason, wait: Wait, detail: String) -> Action {
    Action::Hold(Hold { reason, wait, detail })
}

/// A problem of the collector's own.
struct Ours {
    code: ProblemCode,
    problem: Problem,
}

impl Ours {
    fn of(problem: Problem) -> Option<Self> {
        let code = ProblemCode::of_type(&problem.r#type)?;
        Some(Self { code, problem })
    }
}

/// 429 and 503: come back.
fn refused(
    answer: &Answer,
    code: Option<ProblemCode>,
    told_ms: Option<u64>,
    detail: String,
    now: Timestamp,
) -> Action {
    let reason = match code {
        Some(ProblemCode::RateLimited) => Reason::RateLimited,
        Some(ProblemCode::QueueFull) => Reason::QueueFull,
        Some(ProblemCode::QueueUnavailable) => Reason::QueueUnavailable,
        Some(ProblemCode::Overloaded) => Reason::Overloaded,
        Some(ProblemCode::Draining) => Reason::Draining,
        _ if answer.status == 429 => Reason::RateLimited,
        // A balancer without a collector behind it.
        _ => Reason::Error,
    };
    let told = told_ms
        .map(Duration::from_millis)
        .or_else(|| retry_after::parse(answer.retry_after.as_deref()?, now))
        .map(retry_after::within_reason);
    hold(reason, told.map_or(Wait::Backoff, Wait::Told), detail)
}

/// The rejected events of a 202, or why it is no answer to this batch.
fn settled(asked: &Asked, answer: &Answer) -> Result<Vec<RejectedEvent>, &'static str> {
    let body = answer.body.as_deref().ok_or("a 202 that was cut off")?;
    let accepted: Accepted =
        serde_json::from_slice(body).map_err(|_| "a 202 that isn't the collector's: is it a proxy's?")?;
    if accepted.batch.parse() != Ok(asked.id) {
        return Err("a 202 for another batch");
    }
    let count = u64::try_from(accepted.rejected.len()).ok();
    if count.and_then(|rejected| rejected.checked_add(accepted.accepted)) != Some(asked.events) {
        return Err("a 202 that doesn't account for each event");
    }
    each_once(asked, accepted.rejected).ok_or("a 202 that rejects events which the batch doesn't have")
}

/// Sorted, if each index is the batch's and stands once.
fn each_once(asked: &Asked, mut rejected: Vec<RejectedEvent>) -> Option<Vec<RejectedEvent>> {
    rejected.sort_by_key(|event| event.index);
    let mut seen = HashSet::new();
    rejected.iter().all(|event| event.index < asked.events && seen.insert(event.index)).then_some(rejected)
}

/// Each event with its own reason; one that the list leaves out has the problem's.
fn all_rejected(asked: &Asked, problem: Option<&Ours>, error: impl Fn() -> Action) -> Action {
    let Some(Ours { code, problem }) = problem else { return error() };
    let listed = problem.rejected.clone().unwrap_or_default();
    let Some(listed) = each_once(asked, listed) else { return error() };
    let mut listed = listed.into_iter().peekable();
    let rejected = (0..asked.events).map(|index| {
        listed.next_if(|event| event.index == index).unwrap_or_else(|| RejectedEvent {
            index,
            code: code.as_str().to_owned(),
            detail: problem.detail.clone(),
        })
    });
    Action::Settled { rejected: rejected.collect() }
}

/// The status and what was said, for people.
fn shown(answer: &Answer, problem: Option<&Ours>) -> String {
    let status = answer.status;
    if let Some(ours) = problem {
        let detail = printable(&ours.problem.detail);
        return format!("{status} {}: {detail}", ours.code.as_str());
    }
    let text = String::from_utf8_lossy(answer.body.as_deref().unwrap_or_default());
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = printable(&words.join(" "));
    let hint = match status {
        300..=399 => " (redirects are not followed: give the final address)",
        404 | 405 => " (is --collector the collector's address?)",
        407 | 511 => " (a proxy wants a login)",
        _ => "",
    };
    if text.is_empty() {
        format!("{status}, and not the collector's words{hint}")
    } else {
        format!("{status}{hint}, and not the collector's words: {text}")
    }
}

/// The beginning, without what a terminal would act on: whoever stands in the collector's place may have written it.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
