//! The costly half of a request: read, decode, rate, validate, enqueue.

use crate::answer::{self, Refusal, Reply};
use crate::auth::Agent;
use crate::budget::Reservation;
use crate::enqueue::{self, Batch};
use crate::fair::Crowded;
use crate::line::Who;
use crate::quota::{Admission, Ask, Charge, Denial};
use crate::request::Identity;
use crate::service::{Admitted, Shared, soon};
use crate::upload::{Broken, Pace, Received, Upload};
use crate::verdict::{self, Unpacked, Unreadable};
use http::HeaderName;
use logweir_proto::answer::ProblemCode;
use logweir_proto::encoding::Encoding;
use logweir_proto::event::Rules;
use logweir_proto::{BatchId, OVERFLOW_SERVICE};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};

/// Plain bodies up to this size are handled on the spot; others go to the blocking pool, each agent's in its turn,
/// so that one agent's large batches don't delay another's small ones.
const INLINE_BYTES: usize = 32 << 10;
/// Those with more events are judged on the pool, since a sentence for each of them takes more memory than the body.
const INLINE_EVENTS: u64 = 100;

/// Takes an admitted request's body, and answers when the queue has it.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    request: Admitted,
    upload: &mut Upload,
) -> Result<Reply, Refusal> {
    let Admitted { agent, headers, dry_run, hold_until, who, hand } = request;
    let mark = headers.identity.mark();
    let pace = Pace { speed: shared.args.min_body_speed, total: shared.args.body_timeout };
    let read = upload.read(pace, shared.limits.wire_bytes, &shared.budget, &hand).await;
    let Received { bytes: wire, reserved } = read.map_err(|broken| of_broken(shared, broken, &agent))?;
    let wire_bytes = wire.len();
    let inline = headers.encoding == Encoding::Identity && wire_bytes <= INLINE_BYTES;

    let (limits, kind, encoding) = (shared.limits, headers.kind, headers.encoding);
    let decoded_bytes = if encoding == Encoding::Identity { 0 } else { limits.decoded_bytes };
    let unpack = move || verdict::unpack(wire, encoding, kind, &limits);
    let work = Work { shared, inline, agent: &agent };
    let (unpacked, reserved) = work.run(reserved, wire_bytes + decoded_bytes, unpack).await?;
    let unpacked = unpacked.map_err(of_unreadable)?;
    let reserved = shrink(reserved, unpacked.memory());
    shared.metrics.received(wire_bytes, unpacked.decoded_bytes());
    let batch = numbered(&headers.identity, unpacked.events)?;

    let charge = rate(shared, &agent, mark, &unpacked, hold_until).await?;

    let now_ms = unix_ms();
    let rules = Rules { max_bytes: limits.event_bytes, window: Some(shared.args.window(now_ms)) };
    let memory = unpacked.memory_to_judge();
    let work = Work { inline: inline && unpacked.events <= INLINE_EVENTS, ..work };
    let series = shared.series.clone();
    let judge = move || {
        let mut names = series.asker(now_ms);
        verdict::judge(unpacked, &rules, |service| dry_run || names.takes(service))
    };
    let (judged, reserved) = work.run(reserved, memory, judge).await?;
    let _reserved = shrink(reserved, judged.memory());
    if !dry_run {
        shared.metrics.rejected(&judged.reasons);
    }
    say_overflow(shared, &agent, judged.overflow);
    if judged.accepted() == 0 {
        charge.keep();
        if !dry_run && let Some(reply) = enqueue::first_answer(shared, &agent, &headers.identity).await? {
            return Ok(reply);
        }
        let mut refusal =
            Refusal::new(ProblemCode::AllRejected, "no event is valid; see `rejected` for each one");
        refusal.rejected = Some(judged.rejected);
        return Err(refusal);
    }
    if dry_run {
        // It made the same work.
        charge.keep();
        return Ok(answer::dry_run(batch, judged.accepted(), &judged.rejected));
    }
    let traceparent = headers.traceparent;
    let who = who.unwrap_or_else(|| Who { agent: agent.id.clone(), mark });
    let batch = Batch { shared, agent: &agent, judged, now_ms, traceparent, hold_until, mark, who };
    let reply = batch.enqueue(&headers.identity).await?;
    charge.keep();
    Ok(reply)
}

/// Counts events whose services are too many, and tells of each agent once an hour.
fn say_overflow(shared: &Shared, agent: &Agent, events: u64) {
    shared.metrics.series.set(u64::try_from(shared.series.count()).unwrap_or(u64::MAX));
    if events == 0 {
        return;
    }
    shared.metrics.overflowed(agent, events);
    if shared.series.is_news(&agent.id) {
        tracing::warn!(
            agent = %agent.id, events, max_series = shared.args.max_series,
            "there are more services in this hour than --max-series; events of this agent are counted as {OVERFLOW_SERVICE}"
        );
    }
}

/// The batch that the client named, if it did.
///
/// # Errors
/// 400 when there are no such numbers.
fn numbered(identity: &Identity, events: u64) -> Result<Option<BatchId>, Refusal> {
    match identity {
        Identity::Batch(batch) if batch.holds(events) => Ok(Some(*batch)),
        Identity::Batch(_) => Err(Refusal::new(
            ProblemCode::Malformed,
            "Logweir-Batch: the numbers of these events would pass the largest number there is",
        )),
        Identity::Key(_) | Identity::None => Ok(None),
    }
}

/// Work on a body, with its memory reserved before.
struct Work<'a> {
    shared: &'a Arc<Shared>,
    inline: bool,
    agent: &'a Agent,
}

impl Work<'_> {
    /// Runs `job` with `memory` bytes reserved: on the spot, or on the bounded blocking pool.
    async fn run<T: Send + 'static>(
        &self,
        mut reserved: Reservation,
        memory: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Reservation), Refusal> {
        if self.inline {
            return Ok((job(), reserved));
        }
        let internal = || Refusal::new(ProblemCode::Internal, "the collector failed on this body");
        let waiting = u64::try_from(self.shared.decoding.waiting()).unwrap_or(u64::MAX);
        self.shared.metrics.waiting_bodies.set(waiting);
        let permit = self.shared.decoding.acquire(&self.agent.id).await.map_err(|Crowded| {
            soon(ProblemCode::Overloaded, "too many bodies wait to be decoded; come back later", self.agent)
        })?;
        if !reserved.resize(memory) {
            return Err(no_memory(self.agent));
        }
        // Permit and memory go along: the job runs to its end even when the client has gone.
        let job = move || {
            let _permit = permit;
            (job(), reserved)
        };
        tokio::task::spawn_blocking(job).await.map_err(|error| {
            tracing::error!(%error, "a body made the collector fail");
            internal()
        })
    }
}

fn shrink(mut reserved: Reservation, memory: usize) -> Reservation {
    let _smaller = reserved.resize(memory);
    reserved
}

fn no_memory(agent: &Agent) -> Refusal {
    soon(ProblemCode::Overloaded, "too many bodies are in hand; come back later", agent)
}

/// 413 for a body that is too large on the wire.
pub(crate) fn wire_too_large(limit: usize) -> Refusal {
    let detail =
        format!("the body is larger than {limit} bytes; send smaller batches, or compress them with zstd");
    Refusal::new(ProblemCode::TooLarge, detail)
}

fn of_broken(shared: &Shared, broken: Broken, agent: &Agent) -> Refusal {
    match broken {
        Broken::TooLarge => wire_too_large(shared.limits.wire_bytes),
        Broken::TooSlow => Refusal::new(
            ProblemCode::TooSlow,
            format!(
                "the body must bring {} bytes per second, and end within {} s",
                shared.args.min_body_speed,
                shared.args.body_timeout.as_secs()
            ),
        ),
        Broken::Cut => Refusal::new(ProblemCode::Malformed, "the body was cut off before its declared end"),
        Broken::NoMemory => no_memory(agent),
    }
}

fn of_unreadable(unreadable: Unreadable) -> Refusal {
    match unreadable {
        Unreadable::Malformed(detail) => Refusal::new(ProblemCode::Malformed, detail),
        Unreadable::TooLarge(detail) => Refusal::new(ProblemCode::TooLarge, detail),
    }
}

/// Charges the agent's quota, after a wait if that is short enough.
async fn rate(
    shared: &Shared,
    agent: &Agent,
    key: Option<u64>,
    unpacked: &Unpacked,
    hold_until: Instant,
) -> Result<Charge, Refusal> {
    let slot = shared.holding.try_acquire().ok();
    let patience = hold_until.saturating_duration_since(Instant::now());
    let patience = if slot.is_some() { patience } else { Duration::ZERO };
    let bytes = u64::try_from(unpacked.decoded_bytes()).unwrap_or(u64::MAX);
    let admission = shared.limiters.admit(&Ask { agent, events: unpacked.events, bytes, key, patience });
    shared.metrics.agents.set(u64::try_from(shared.limiters.count()).unwrap_or(u64::MAX));
    match admission {
        Admission::After(Duration::ZERO, charge) => Ok(charge),
        Admission::After(wait, charge) => {
            shared.metrics.held.inc();
            sleep(wait).await;
            drop(slot);
            Ok(charge)
        }
        Admission::Refused(denial) => {
            shared.metrics.rate_limited(agent);
            Err(rate_limited(denial, shared.args.quota_status))
        }
    }
}

/// The refusal with the quotas and what is left of them, as draft-ietf-httpapi-ratelimit-headers-10 writes them.
fn rate_limited(denial: Denial, status: u16) -> Refusal {
    let (events, bytes) = (denial.quotas.events, denial.quotas.bytes);
    let policy = format!(
        "\"events\";q={};w={}, \"bytes\";q={};w={};qu=\"content-bytes\"",
        events.burst,
        events.window_s(),
        bytes.burst,
        bytes.window_s()
    );
    let reset = u64::try_from(denial.come_back.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
    let left =
        format!("\"events\";r={};t={reset}, \"bytes\";r={};t={reset}", denial.events_left, denial.bytes_left);
    let detail = format!(
        "over the quota of {} events and {} bytes per second; come back when this batch fits",
        events.rate, bytes.rate
    );
    let mut refusal = Refusal::new(ProblemCode::RateLimited, detail)
        .retry_after(denial.come_back)
        .header(HeaderName::from_static("ratelimit-policy"), policy)
        .header(HeaderName::from_static("ratelimit"), left);
    refusal.status = Some(status);
    refusal
}

/// The collector's clock, in Unix milliseconds.
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
