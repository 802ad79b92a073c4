//! `GET /v1/limits`: the limits and the quota that apply to whoever asks.

use crate::answer::{Reply, json};
use crate::auth::Agent;
use crate::config::Args;
use crate::quota::{Quota, Quotas};
use logweir_proto::{Limits, headers};
use serde::Serialize;

/// The body. Names and units are part of the interface: members may be added, none is renamed.
#[derive(Serialize)]
struct OwnLimits<'a> {
    agent: &'a str,
    limits: Sizes,
    quota: OwnQuota,
    window: Window,
    encodings: [&'static str; 3],
    content_types: [&'static str; 2],
}

#[derive(Serialize)]
struct Sizes {
    event_bytes: usize,
    batch_events: usize,
    decoded_bytes: usize,
    wire_bytes: usize,
}

#[derive(Serialize)]
struct OwnQuota {
    events: Flow,
    bytes: Flow,
}

/// Per second, and at once after a pause.
#[derive(Serialize)]
struct Flow {
    rate: u64,
    burst: u64,
}

#[derive(Serialize)]
struct Window {
    max_age_ms: i64,
    max_ahead_ms: i64,
}

/// The answer to this agent.
pub(crate) fn reply(args: &Args, limits: &Limits, quotas: Quotas, agent: &Agent) -> Reply {
    let window = args.window(0);
    let flow = |quota: Quota| Flow { rate: quota.rate, burst: quota.burst };
    json(&OwnLimits {
        agent: &agent.id,
        limits: Sizes {
            event_bytes: limits.event_bytes,
            batch_events: limits.batch_events,
            decoded_bytes: limits.decoded_bytes,
            wire_bytes: limits.wire_bytes,
        },
        quota: OwnQuota { events: flow(quotas.events), bytes: flow(quotas.bytes) },
        window: Window { max_age_ms: window.max_age_ms, max_ahead_ms: window.max_ahead_ms },
        encodings: ["zstd", "gzip", "identity"],
        content_types: [headers::NDJSON, headers::JSON],
    })
}
