//! What is measured. Labels are fixed sets.

use crate::failure::What;
use crate::settle::Verdict;
use crate::unknown::Source;
use logweir_queue::Depth;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWhat {
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySource {
    source: &'static str,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchResult {
    /// All its events were new.
    Applied,
    /// None was.
    Duplicate,
    /// Some were.
    Partial,
    /// It failed by its own fault; it is tried again, or goes to the dead letters.
    Failed,
    DeadLettered,
}

impl BatchResult {
    const ALL: [Self; 5] = [Self::Applied, Self::Duplicate, Self::Partial, Self::Failed, Self::DeadLettered];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// All metrics of the worker; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    batches: Family<ByResult, Counter>,
    events_counted: Counter,
    events_duplicate: Counter,
    events_too_old: Counter,
    transactions: Family<ByResult, Counter>,
    commit_duration: Histogram,
    lag_from_event: Histogram,
    lag_from_enqueue: Histogram,
    world_retries: Family<ByWhat, Counter>,
    unknown_errors: Family<BySource, Counter>,
    ledger_ranges: Gauge<u64, AtomicU64>,
    pub(crate) reclaimed: Counter,
    pub(crate) in_hand: Gauge,
    pub(crate) postgres_up: Gauge,
    pub(crate) redis_up: Gauge,
    queue_entries: Gauge<u64, AtomicU64>,
    queue_bytes: Gauge<u64, AtomicU64>,
    queue_pending: Gauge<u64, AtomicU64>,
    queue_unread: Gauge<u64, AtomicU64>,
    queue_oldest_age: Gauge<f64, AtomicU64>,
    queue_dead: Gauge<u64, AtomicU64>,
    queue_dead_bytes: Gauge<u64, AtomicU64>,
    pub(crate) dead_letters_full: Gauge,
}

impl Metrics {
    /// Makes the metrics, and the registry that knows them.
    pub(crate) fn new() -> (Self, Registry) {
        let lag = [
            0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0,
            86_400.0,
        ];
        let commit = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let metrics = Self {
            batches: Family::default(),
            events_counted: Counter::default(),
            events_duplicate: Counter::default(),
            events_too_old: Counter::default(),
            transactions: Family::default(),
            commit_duration: Histogram::new(commit),
            lag_from_event: Histogram::new(lag),
            lag_from_enqueue: Histogram::new(lag),
            world_retries: Family::default(),
            unknown_errors: Family::default(),
            ledger_ranges: Gauge::default(),
            reclaimed: Counter::default(),
            in_hand: Gauge::default(),
            postgres_up: Gauge::default(),
            redis_up: Gauge::default(),
            queue_entries: Gauge::default(),
            queue_bytes: Gauge::default(),
            queue_pending: Gauge::default(),
            queue_unread: Gauge::default(),
            queue_oldest_age: Gauge::default(),
            queue_dead: Gauge::default(),
            queue_dead_bytes: Gauge::default(),
            dead_letters_full: Gauge::default(),
        };
        // A rate needs its zero.
        for result in BatchResult::ALL {
            drop(metrics.batches.get_or_create(&ByResult { result: result.as_str() }));
        }
        for source in Source::ALL {
            drop(metrics.unknown_errors.get_or_create(&BySource { source: source.as_str() }));
        }
        let mut registry = Registry::with_prefix("logweir_worker");
        metrics.register(&mut registry);
        (metrics, registry)
    }

    fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("batches", "Batches by result; a failed one is tried again", m.batches);
        registry.register("events_counted", "Events that were counted", m.events_counted);
        registry.register("events_duplicate", "Events that were counted before", m.events_duplicate);
        registry.register("events_too_old", "Events older than --retention: losses", m.events_too_old);
        registry.register("transactions", "Transactions by result", m.transactions);
        registry.register(
            "commit_duration_seconds",
            "How long a committed transaction took",
            m.commit_duration,
        );
        registry.register(
            "lag_from_event_seconds",
            "From a batch's oldest event, by its timestamp, to the commit",
            m.lag_from_event,
        );
        registry.register(
            "lag_from_enqueue_seconds",
            "From a batch's enqueueing to the commit",
            m.lag_from_enqueue,
        );
        registry.register(
            "world_retries",
            "Transactions tried again for no fault of a batch, by what was wrong",
            m.world_retries,
        );
        registry.register(
            "unknown_errors",
            "Errors that the worker doesn't know, by who gave them; a person should look at the log",
            m.unknown_errors,
        );
        registry.register(
            "ledger_ranges",
            "The most ranges of numbers that a producer of the last transaction has",
            m.ledger_ranges,
        );
        registry.register("reclaimed", "Batches taken over from workers that fell silent", m.reclaimed);
        registry.register("in_hand", "Batches that this worker holds", m.in_hand);
        registry.register("postgres_up", "Whether Postgres can be used (1) or not (0)", m.postgres_up);
        registry.register("redis_up", "Whether the queue can be used (1) or not (0)", m.redis_up);
        registry.register("queue_entries", "Batches in the queue", m.queue_entries);
        registry.register("queue_bytes", "Bytes of the batches in the queue", m.queue_bytes);
        registry.register("queue_pending", "Batches that some worker holds", m.queue_pending);
        registry.register("queue_unread", "Batches that no worker has been handed yet", m.queue_unread);
        registry.register(
            "queue_oldest_age_seconds",
            "Age of the oldest batch in the queue",
            m.queue_oldest_age,
        );
        registry.register("queue_dead_letters", "Batches that failed for good", m.queue_dead);
        registry.register("queue_dead_bytes", "Bytes of the dead letters", m.queue_dead_bytes);
        registry.register(
            "dead_letters_full",
            "Whether the dead letters are full (1), so that bad batches stay in the queue, or not (0)",
            m.dead_letters_full,
        );
    }

    pub(crate) fn batch(&self, result: BatchResult) {
        self.batches.get_or_create(&ByResult { result: result.as_str() }).inc();
    }

    /// A transaction that committed, and the most ranges that one of its producers has.
    pub(crate) fn committed(&self, took: Duration, most_ranges: usize) {
        self.transactions.get_or_create(&ByResult { result: "committed" }).inc();
        self.commit_duration.observe(took.as_secs_f64());
        self.ledger_ranges.set(u64::try_from(most_ranges).unwrap_or(u64::MAX));
    }

    pub(crate) fn transaction_failed(&self) {
        self.transactions.get_or_create(&ByResult { result: "failed" }).inc();
    }

    pub(crate) fn world_retry(&self, what: What) {
        self.world_retries.get_or_create(&ByWhat { what: what.as_str() }).inc();
    }

    pub(crate) fn unknown_error(&self, source: Source) {
        self.unknown_errors.get_or_create(&BySource { source: source.as_str() }).inc();
    }

    /// A batch that is in Postgres; both lags in milliseconds.
    pub(crate) fn done(&self, verdict: &Verdict, from_event: Option<i64>, from_enqueue: i64) {
        let Verdict::Done { counted, duplicate, too_old } = verdict else { return };
        self.events_counted.inc_by(*counted);
        self.events_duplicate.inc_by(*duplicate);
        self.events_too_old.inc_by(*too_old);
        self.batch(match (counted + too_old, duplicate) {
            (0, 1..) => BatchResult::Duplicate,
            (_, 0) => BatchResult::Applied,
            _ => BatchResult::Partial,
        });
        // Clocks of several machines are compared: a lag below zero is none.
        if let Some(from_event) = from_event {
            self.lag_from_event.observe(from_event.max(0) as f64 / 1_000.0);
        }
        self.lag_from_enqueue.observe(from_enqueue.max(0) as f64 / 1_000.0);
    }

    pub(crate) fn depth(&self, depth: Depth) {
        self.queue_entries.set(depth.entries);
        self.queue_bytes.set(depth.bytes);
        self.queue_pending.set(depth.pending);
        self.queue_unread.set(depth.unread());
        self.queue_oldest_age.set(depth.oldest_age_ms.unwrap_or(0) as f64 / 1_000.0);
        self.queue_dead.set(depth.dead);
        self.queue_dead_bytes.set(depth.dead_bytes);
    }
}
