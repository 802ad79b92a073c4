//! One request, from its headers to its answer.
//!
//! The order of the checks is part of the interface: what fails early costs nothing.
//!
//! ```text
//! headers' size → path, method → who → draining, in flight, pressure → query, type, encoding, identity
//!   → declared length → read (intake) → decode → rate → validate → enqueue
//! ```
//!
//! Up to here the body hasn't been touched, so a client that waits for `100 Continue` gets its answer instead.

use crate::answer::{Refusal, Reply, closing};
use crate::auth::{self, Agent};
use crate::budget::Budget;
use crate::config::Args;
use crate::fair::Fair;
use crate::gate::Gate;
use crate::hands::{Hand, Hands};
use crate::intake;
use crate::line::Who;
use crate::metrics::{Living, Metrics};
use crate::numbers::Numbers;
use crate::own_limits;
use crate::pressure::spread;
use crate::quota::Limiters;
use crate::request::{self, Headers, Identity};
use crate::request_id::{self, REQUEST_ID};
use crate::room;
use crate::route::{self, Route};
use crate::series::Series;
use crate::server::pulse::Pulse;
use crate::tls::Tls;
use crate::tls::handshakes::Handshakes;
use crate::tls::names::Certificate;
use crate::tokens_file::TokensFile;
use crate::upload::Upload;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderName, Request, Version};
use hyper::body::Incoming;
use logweir_proto::answer::ProblemCode;
use logweir_proto::{Limits, headers};
use logweir_queue::{Queue, Shard};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument as _;

/// When to come back after an answer that says nothing of when: spread by agent from once to twice this.
const SOON: Duration = Duration::from_secs(1);

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) args: Args,
    pub(crate) limits: Limits,
    pub(crate) queue: Queue,
    pub(crate) gate: Arc<Gate>,
    pub(crate) tokens: Option<Arc<TokensFile>>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) handshakes: Handshakes,
    pub(crate) limiters: Limiters,
    pub(crate) series: Arc<Series>,
    pub(crate) numbers: Numbers,
    pub(crate) metrics: Metrics,
    pub(crate) budget: Budget,
    /// Requests in hand.
    pub(crate) in_flight: Arc<Semaphore>,
    /// Requests that wait for quota or room.
    pub(crate) holding: Semaphore,
    /// What each agent has of them.
    pub(crate) hands: Hands,
    /// Bodies that are decoded or validated on the blocking pool.
    pub(crate) decoding: Arc<Fair>,
    pub(crate) draining: AtomicBool,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) ip: IpAddr,
    /// What the client has shown, and somebody vouches for.
    pub(crate) certificate: Option<Certificate>,
    pub(crate) pulse: Arc<Pulse>,
}

/// A request that may bring its body.
pub(crate) struct Admitted {
    pub(crate) agent: Agent,
    pub(crate) headers: Headers,
    /// Whether only the verdicts are asked for.
    pub(crate) dry_run: bool,
    /// Until when it may be held.
    pub(crate) hold_until: Instant,
    /// As whom it stands in the queue's line; nobody does who only wants the verdicts.
    pub(crate) who: Option<Who>,
    /// What its agent has in hand.
    pub(crate) hand: Arc<Hand>,
}

/// The end of a request.
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    /// Whether a part of its body was not read.
    pub(crate) unread: bool,
    /// Whether the client took it back half-way.
    pub(crate) broken_off: bool,
}

/// Answers one request.
pub(crate) async fn answer(shared: &Arc<Shared>, caller: &Caller, request: Request<Incoming>) -> Answered {
    let begun = Instant::now();
    let _living = Living::new(&shared.metrics.in_flight);
    let (head, body) = request.into_parts();
    let id = request_id::of(&head.headers);
    let mut upload = Upload::new(body, Arc::clone(&caller.pulse));
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let taken = take(shared, caller, &head, &mut upload, begun).instrument(span.clone()).await;
    let (mut reply, code) = match taken {
        Ok(taken) => taken,
        Err(refusal) => {
            let (status, code) = (refusal.status(), refusal.code.as_str());
            span.in_scope(
                || tracing::debug!(status, code, peer = %caller.ip, detail = ?refusal.detail, "refused"),
            );
            (refusal.into_reply(), code)
        }
    };
    reply.headers_mut().insert(REQUEST_ID, id);
    shared.metrics.answered(reply.status().as_u16(), code, begun.elapsed().as_secs_f64());
    let unread = !upload.is_finished();
    // What is left of a body would be taken for the next request's headers. HTTP/2 has streams and GOAWAY for that.
    let one_by_one = head.version < Version::HTTP_2;
    let reply = if one_by_one && (unread || shared.draining.load(Ordering::Relaxed)) {
        closing(reply)
    } else {
        reply
    };
    Answered { reply, unread, broken_off: upload.is_broken_off() }
}

/// What a request gets, and the code under which that is counted.
type Taken = (Reply, &'static str);

async fn take(
    shared: &Arc<Shared>,
    caller: &Caller,
    head: &Parts,
    upload: &mut Upload,
    begun: Instant,
) -> Result<Taken, Refusal> {
    if request::headers_too_large(&head.headers) {
        let detail = "the headers must stay below 16 KiB together";
        return Err(Refusal::new(ProblemCode::HeadersTooLarge, detail));
    }
    let route = route::find(head)?;
    let agent = identify(shared, caller, head)?;
    match route {
        Route::Events => events(shared, agent, head, upload, begun).await,
        Route::Limits => {
            route::no_query(&head.uri)?;
            let quotas = shared.limiters.quotas_of(&agent.id);
            Ok((own_limits::reply(&shared.args, &shared.limits, quotas, &agent), "limits"))
        }
        Route::Document(document) => {
            route::no_query(&head.uri)?;
            Ok((document.reply(&head.headers), "document"))
        }
    }
}

async fn events(
    shared: &Arc<Shared>,
    agent: Agent,
    head: &Parts,
    upload: &mut Upload,
    begun: Instant,
) -> Result<Taken, Refusal> {
    if shared.draining.load(Ordering::Relaxed) {
        let detail = "this collector is stopping; come back, or go to another";
        return Err(soon(ProblemCode::Draining, detail, &agent));
    }
    let overloaded =
        || soon(ProblemCode::Overloaded, "too many requests are in hand; come back later", &agent);
    let free = shared.in_flight.available_permits();
    let in_hand = shared.hands.begin(&agent.id, free).ok_or_else(overloaded)?;
    let Ok(_in_flight) = shared.in_flight.try_acquire() else { return Err(overloaded()) };
    let hold_until = begun + shared.args.hold;
    let dry_run = route::dry_run(&head.uri);
    let headers = request::parse(&head.headers);
    let mut who = None;
    if !matches!(dry_run, Ok(true)) {
        // Whatever is wrong with query and headers is said only after the pressure.
        let identity = headers.as_ref().map_or(&Identity::None, |headers| &headers.identity);
        let shard = shard_of(shared, &agent, identity);
        who = Some(room::check(shared, shard, &agent, identity.mark(), hold_until).await?);
    }
    let dry_run = dry_run?;
    let headers = headers.map_err(|(code, detail)| Refusal::new(code, detail))?;
    let limit = shared.limits.wire_bytes;
    if headers.declared.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(intake::wire_too_large(limit));
    }
    let reply = intake::take(
        shared,
        Admitted { agent, headers, dry_run, hold_until, who, hand: in_hand.hand.clone() },
        upload,
    )
    .await?;
    Ok((reply, if dry_run { "dry_run" } else { "accepted" }))
}

fn identify(shared: &Shared, caller: &Caller, head: &Parts) -> Result<Agent, Refusal> {
    let header = |name: &HeaderName, code: ProblemCode| {
        let twice = |()| Refusal::new(code, format!("the header {name} must stand only once"));
        request::only(&head.headers, name).map_err(twice)
    };
    let shown = auth::Shown {
        authorization: header(&AUTHORIZATION, ProblemCode::Unauthenticated)?,
        named: header(&HeaderName::from_static(headers::AGENT), ProblemCode::Malformed)?,
        certificate: caller.certificate.as_ref(),
        peer: caller.ip,
    };
    let tokens = shared.tokens.as_ref().map(|file| file.current());
    auth::identify(tokens.as_deref(), &shown, SystemTime::now())
        .map_err(|denied| Refusal::new(denied.code, denied.detail))
}

/// Where the batch will go; without an identity, where it would go now.
pub(crate) fn shard_of(shared: &Shared, agent: &Agent, identity: &Identity) -> Shard {
    let (producer, key) = match identity {
        Identity::Batch(batch) => (batch.producer, None),
        Identity::Key(key) => (shared.numbers.producer(), Some(key.as_str())),
        Identity::None => (shared.numbers.producer(), None),
    };
    shared.args.shards.of(producer, &agent.id, key)
}

pub(crate) fn queue_unavailable(agent: &Agent) -> Refusal {
    let detail = "the queue can't be reached, so the batch is not known to be safe; send it again later";
    soon(ProblemCode::QueueUnavailable, detail, agent)
}

/// A refusal that says to come back in one to two seconds.
pub(crate) fn soon(code: ProblemCode, detail: &'static str, agent: &Agent) -> Refusal {
    Refusal::new(code, detail).retry_after(SOON + spread(&agent.id, 0, SOON))
}
