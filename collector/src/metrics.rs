//! What is measured. Labels are bounded: statuses, codes and reasons are fixed sets, and an agent's ID is a
//! label only when a token vouches for it, and only for the first [`MAX_AGENT_LABELS`] of them.

mod transport;

pub(crate) use transport::TransportMetrics;

use crate::auth::Agent;
use logweir_proto::Code;
use logweir_telemetry::watched::FileMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

/// How many agents get a series of their own; the others are counted together as `other`.
const MAX_AGENT_LABELS: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    status: u16,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAgent {
    agent: String,
}

/// All metrics of the collector; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<Answered, Counter>,
    duration: Histogram,
    accepted: Counter,
    rejected: Family<Reason, Counter>,
    wire_bytes: Counter,
    decoded_bytes: Counter,
    rate_limited: Family<OfAgent, Counter>,
    overflowed: Family<OfAgent, Counter>,
    labelled: Arc<Mutex<HashSet<Arc<str>>>>,
    pub(crate) held: Counter,
    pub(crate) quotas_file: FileMetrics,
    pub(crate) tokens_file: FileMetrics,
    pub(crate) tls_files: FileMetrics,
    pub(crate) agents: Gauge<u64, AtomicU64>,
    pub(crate) series: Gauge<u64, AtomicU64>,
    pub(crate) waiting_bodies: Gauge<u64, AtomicU64>,
    pub(crate) transport: TransportMetrics,
    pub(crate) in_flight: Gauge,
    pub(crate) redis_up: Gauge,
    pub(crate) queue_entries: Gauge<u64, AtomicU64>,
    pub(crate) queue_bytes: Gauge<u64, AtomicU64>,
    pub(crate) queue_oldest_age: Gauge<f64, AtomicU64>,
    pub(crate) queue_dead: Gauge<u64, AtomicU64>,
    pub(crate) promised: Gauge<u64, AtomicU64>,
}

/// Counts one up for as long as it lives.
pub(crate) struct Living(Gauge);

impl Living {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Makes the metrics, and the registry that knows them.
    pub(crate) fn new() -> (Self, Registry) {
        let seconds =
            [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let metrics = Self {
            requests: Family::default(),
            duration: Histogram::new(seconds),
            accepted: Counter::default(),
            rejected: Family::default(),
            wire_bytes: Counter::default(),
            decoded_bytes: Counter::default(),
            rate_limited: Family::default(),
            overflowed: Family::default(),
            labelled: Arc::default(),
            held: Counter::default(),
            quotas_file: FileMetrics::default(),
            tokens_file: FileMetrics::default(),
            tls_files: FileMetrics::default(),
            agents: Gauge::default(),
            series: Gauge::default(),
            waiting_bodies: Gauge::default(),
            transport: TransportMetrics::default(),
            in_flight: Gauge::default(),
            redis_up: Gauge::default(),
            queue_entries: Gauge::default(),
            queue_bytes: Gauge::default(),
            queue_oldest_age: Gauge::default(),
            queue_dead: Gauge::default(),
            promised: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("logweir_collector");
        metrics.register(&mut registry);
        (metrics, registry)
    }

    fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("requests", "Requests by status and code", m.requests);
        registry.register("request_duration_seconds", "From the headers to the answer", m.duration);
        registry.register("events_accepted", "Events that are in the queue", m.accepted);
        registry.register("events_rejected", "Events that break the schema, by reason", m.rejected);
        registry.register("received_bytes", "Bytes of bodies as they came", m.wire_bytes);
        registry.register("decoded_bytes", "Bytes of bodies after decoding", m.decoded_bytes);
        registry.register("rate_limited", "Requests over the quota, by authenticated agent", m.rate_limited);
        registry.register(
            "events_overflowed",
            "Events counted as __overflow__, since there are more services than --max-series, by authenticated agent",
            m.overflowed,
        );
        registry.register("series", "Different services in this hour, up to --max-series", m.series);
        registry.register("held", "Requests that waited for their quota or for room", m.held);
        m.quotas_file.register(registry, "quotas_file");
        m.tokens_file.register(registry, "tokens_file");
        m.tls_files.register(registry, "tls_files");
        registry.register("waiting_bodies", "Bodies that wait to be decoded or validated", m.waiting_bodies);
        registry.register("remembered_agents", "Agents whose quotas are kept in mind", m.agents);
        m.transport.register(registry);
        registry.register("in_flight_requests", "Requests that are worked on", m.in_flight);
        registry.register("redis_up", "Whether the queue can be used (1) or not (0)", m.redis_up);
        registry.register("queue_entries", "Batches in the queue", m.queue_entries);
        registry.register("queue_bytes", "Bytes of the batches in the queue", m.queue_bytes);
        registry.register(
            "queue_oldest_age_seconds",
            "Age of the oldest batch in the queue",
            m.queue_oldest_age,
        );
        registry.register(
            "queue_promised_places",
            "Refused batches for which room in the queue is kept",
            m.promised,
        );
        registry.register("queue_dead_letters", "Batches that failed for good", m.queue_dead);
    }

    pub(crate) fn answered(&self, status: u16, code: &'static str, seconds: f64) {
        self.requests.get_or_create(&Answered { status, code }).inc();
        self.duration.observe(seconds);
    }

    pub(crate) fn received(&self, wire: usize, decoded: usize) {
        self.wire_bytes.inc_by(u64::try_from(wire).unwrap_or(0));
        self.decoded_bytes.inc_by(u64::try_from(decoded).unwrap_or(0));
    }

    pub(crate) fn accepted(&self, events: u64) {
        self.accepted.inc_by(events);
    }

    pub(crate) fn rejected(&self, reasons: &[Code]) {
        for code in reasons {
            self.rejected.get_or_create(&Reason { reason: code.as_str() }).inc();
        }
    }

    /// The sums by reason so far, for the summary in the log.
    pub(crate) fn rejected_so_far(&self) -> Vec<(&'static str, u64)> {
        let count = |code: &Code| {
            let reason = code.as_str();
            (reason, self.rejected.get(&Reason { reason }).map_or(0, |c| c.get()))
        };
        Code::ALL.iter().map(count).collect()
    }

    pub(crate) fn rate_limited(&self, agent: &Agent) {
        self.rate_limited.get_or_create(&self.label(agent)).inc();
    }

    pub(crate) fn overflowed(&self, agent: &Agent, events: u64) {
        self.overflowed.get_or_create(&self.label(agent)).inc_by(events);
    }

    fn label(&self, agent: &Agent) -> OfAgent {
        OfAgent { agent: if self.may_be_label(agent) { agent.id.to_string() } else { "other".to_owned() } }
    }

    fn may_be_label(&self, agent: &Agent) -> bool {
        if !agent.authenticated {
            return false;
        }
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        labelled.contains(&agent.id)
            || (labelled.len() < MAX_AGENT_LABELS && labelled.insert(agent.id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_authenticated_agents_become_labels_and_only_so_many() {
        let (metrics, registry) = Metrics::new();
        metrics.rate_limited(&Agent { id: "made-up".into(), authenticated: false });
        for n in 0..500 {
            metrics.rate_limited(&Agent { id: format!("agent-{n}").into(), authenticated: true });
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let series = text.lines().filter(|l| l.starts_with("logweir_collector_rate_limited_total{")).count();
        assert_eq!(series, MAX_AGENT_LABELS + 1);
        assert!(text.contains("logweir_collector_rate_limited_total{agent=\"other\"} 401"), "{text}");
        assert!(!text.contains("made-up"));
    }
}
