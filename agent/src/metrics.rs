//! What is measured. Labels are bounded: statuses, reasons, and file names up to `--max-file-labels`.

mod config;

pub(crate) use config::ConfigMetrics;

use logweir_proto::line::{Filter, Rules};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

/// Why lines of stdin were dropped.
pub(crate) const SPOOL_FULL: &str = "spool_full";
/// The label of files that have no series of their own.
const OTHER: &str = "other";

/// A status of HTTP, or `none` for an attempt that got no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The name of a rule; there are few of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rule {
    rule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFile {
    file: String,
}

/// All metrics of the agent; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) lines_read: Counter,
    pub(crate) bytes_read: Counter,
    /// Events that have the time of another one, of their file or of reading.
    pub(crate) undated_events: Counter,
    /// Events of several lines that were cut.
    pub(crate) cut_events: Counter,
    /// Runs of bytes that were no UTF-8.
    pub(crate) replaced_bytes: Counter,
    filtered_events: Family<Rule, Counter>,
    redactions: Family<Rule, Counter>,
    pub(crate) events_sealed: Counter,
    pub(crate) events_sent: Counter,
    pub(crate) sent_bytes: Counter,
    answers: Family<Status, Counter>,
    pub(crate) retries: Counter,
    halved: Family<Reason, Counter>,
    held: Family<Reason, Counter<f64, AtomicU64>>,
    pub(crate) in_flight: Gauge,
    /// Collectors that aren't asked just now, since they fail.
    pub(crate) collectors_down: Gauge,
    /// How many batches may be on their way at a time, as the collector's answers steer it.
    pub(crate) window: Gauge,
    pub(crate) unsettled_batches: Gauge,
    /// 1 while the window of unsettled batches (or the spool) is full.
    pub(crate) reading_stopped: Gauge,
    /// 1 while journal, records and spool can be written.
    pub(crate) state_writable: Gauge,
    pub(crate) files: Gauge,
    pub(crate) open_files: Gauge,
    /// How often all patterns and files were looked up.
    pub(crate) scans: Counter,
    behind: Family<OfFile, Gauge>,
    rejects: Family<Reason, Counter>,
    lost_bytes: Family<Reason, Counter>,
    dropped_lines: Counter,
    pub(crate) journal_bytes: Gauge,
    pub(crate) journal_syncs: Counter,
    pub(crate) journal_sync_time: Counter<f64, AtomicU64>,
    pub(crate) spool_bytes: Gauge,
    pub(crate) config: ConfigMetrics,
    bytes_behind: Arc<Mutex<Behind>>,
}

/// How far each file is behind.
#[derive(Debug, Default)]
struct Behind {
    /// How many files get a series of their own; the others are counted together.
    most: usize,
    /// The bytes, and whether the file has a series of its own.
    files: HashMap<String, (u64, bool)>,
    /// How many have one.
    labelled: usize,
    /// The sum of the others.
    other: u64,
}

impl Metrics {
    /// Makes the metrics, and the registry that knows them.
    pub(crate) fn new() -> (Self, Registry) {
        let metrics = Self::default();
        let mut registry = Registry::with_prefix("logweir_agent");
        metrics.register(&mut registry);
        (metrics, registry)
    }

    fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register(
            "lines_read",
            "Lines read from files and the spool, but for empty ones",
            m.lines_read,
        );
        registry.register("read_bytes", "Bytes read from files and the spool", m.bytes_read);
        registry.register(
            "undated_events",
            "Events without a time of their own, which have that of the line before, else of the file",
            m.undated_events,
        );
        registry.register(
            "cut_events",
            "Events of several lines that were too long, and were cut",
            m.cut_events,
        );
        registry.register(
            "invalid_utf8",
            "Runs of bytes that were no UTF-8 and were replaced",
            m.replaced_bytes,
        );
        registry.register(
            "filtered_events",
            "Events that --include-lines or --exclude-lines left out, by rule",
            m.filtered_events,
        );
        registry.register("redactions", "Places whose text was replaced, by rule", m.redactions);
        registry.register("events_sealed", "Events that got their number", m.events_sealed);
        registry.register("events_sent", "Events that the collector has taken", m.events_sent);
        registry.register("sent_bytes", "Bytes of bodies sent, attempts that failed included", m.sent_bytes);
        registry.register("answers", "Attempts by the status of their answer", m.answers);
        registry.register(
            "halved",
            "Batches, and parts of them, that were sent in halves: refused as too large, or too slow for --request-timeout",
            m.halved,
        );
        registry.register("retries", "Attempts after the first of a batch", m.retries);
        registry.register_with_unit(
            "held",
            "Time that sending was held back, by reason",
            Unit::Seconds,
            m.held,
        );
        registry.register("in_flight_batches", "Batches that wait for their answer just now", m.in_flight);
        registry.register(
            "collectors_down",
            "Collectors that are not asked just now, since they fail",
            m.collectors_down,
        );
        registry.register(
            "window_batches",
            "How many batches may wait for their answer at a time, as pressure and refusals steer it",
            m.window,
        );
        registry.register("unsettled_batches", "Batches sealed and not yet settled", m.unsettled_batches);
        registry.register(
            "reading_stopped",
            "Whether reading stands still because a buffer is full",
            m.reading_stopped,
        );
        registry.register(
            "state_writable",
            "Whether the state directory can be written; while it can't, nothing new is read",
            m.state_writable,
        );
        registry.register("files", "Files that are followed", m.files);
        registry.register("open_files", "Files and segments of the spool that are open", m.open_files);
        registry.register("scans", "How often all patterns and files were looked up", m.scans);
        registry.register("behind_bytes", "Bytes of a file that are not yet read", m.behind);
        registry.register("rejects", "Events and lines that went to the rejects file, by reason", m.rejects);
        registry.register(
            "lost_bytes",
            "Bytes that could not be read, or may have been counted, by reason",
            m.lost_bytes,
        );
        registry.register(
            "dropped_lines",
            "Lines of stdin that were dropped since the spool was full",
            m.dropped_lines,
        );
        registry.register("journal_bytes", "Size of the journal", m.journal_bytes);
        registry.register("journal_syncs", "How often the journal was made durable", m.journal_syncs);
        registry.register_with_unit(
            "journal_sync",
            "Time that the reader waited for the disk to make its journal durable",
            Unit::Seconds,
            m.journal_sync_time,
        );
        registry.register("spool_bytes", "Size of the spool of stdin", m.spool_bytes);
        m.config.register(registry);
    }

    /// One attempt was answered; `None` when it got no whole answer.
    pub(crate) fn answered(&self, status: Option<u16>) {
        let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.answers.get_or_create(&Status { status }).inc();
    }

    /// A batch, or a part of one, was sent in halves.
    pub(crate) fn halved(&self, reason: &'static str) {
        self.halved.get_or_create(&Reason { reason }).inc();
    }

    /// Sending was held back for so long.
    pub(crate) fn held(&self, reason: &'static str, seconds: f64) {
        self.held.get_or_create(&Reason { reason }).inc_by(seconds);
    }

    /// These rules are applied from now on: each is there before it has found anything.
    pub(crate) fn rules(&self, rules: &Rules) {
        rules.filters().for_each(|filter| drop(self.filtered_events.get_or_create(&Rule::of(filter))));
        self.redacted(rules.redactions().map(|rule| (rule, 0)));
    }

    /// One event was left out.
    pub(crate) fn filtered(&self, filter: Filter) {
        self.filtered_events.get_or_create(&Rule::of(filter)).inc();
    }

    /// How many events each of these rules has left out, and in how many places each has replaced something.
    pub(crate) fn found_by(&self, rules: &Rules) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let of = |family: &Family<Rule, Counter>, rule: Rule| {
            let count = family.get(&rule).map_or(0, |counter| counter.get());
            (rule.rule, count)
        };
        let filters = rules.filters().map(|filter| of(&self.filtered_events, Rule::of(filter)));
        (filters.collect(), rules.redactions().map(|rule| of(&self.redactions, Rule::of(rule))).collect())
    }

    /// So much was replaced in one event, by rule.
    pub(crate) fn redacted<'r>(&self, found: impl Iterator<Item = (&'r str, u32)>) {
        for (rule, count) in found {
            self.redactions.get_or_create(&Rule::of(rule)).inc_by(count.into());
        }
    }

    /// One event or line went to the rejects file.
    pub(crate) fn rejected(&self, reason: &str) {
        let known = logweir_proto::Code::ALL.into_iter().map(logweir_proto::Code::as_str);
        let problems = logweir_proto::answer::ProblemCode::ALL.into_iter().map(|code| code.as_str());
        let reason = known.chain(problems).find(|known| *known == reason).unwrap_or("other");
        self.rejects.get_or_create(&Reason { reason }).inc();
    }

    /// So many bytes are lost, or may have been counted.
    pub(crate) fn lost(&self, reason: &'static str, bytes: u64) {
        self.lost_bytes.get_or_create(&Reason { reason }).inc_by(bytes);
    }

    /// So many files get a series of their own from now on; before this is said, none.
    pub(crate) fn label_files(&self, most: usize) {
        let mut all = self.bytes_behind.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut all.most, most) == most {
            return;
        }
        (all.labelled, all.other) = (0, 0);
        self.behind.clear();
        for (file, (bytes, _)) in std::mem::take(&mut all.files) {
            self.note_behind(&mut all, &file, bytes);
        }
    }

    /// So much of stdin was dropped.
    pub(crate) fn dropped(&self, lines: u64, bytes: u64) {
        self.dropped_lines.inc_by(lines);
        self.lost(SPOOL_FULL, bytes);
    }

    /// How far a file is behind.
    pub(crate) fn behind(&self, file: &str, bytes: u64) {
        self.note_behind(&mut self.bytes_behind.lock().unwrap_or_else(PoisonError::into_inner), file, bytes);
    }

    fn note_behind(&self, all: &mut Behind, file: &str, bytes: u64) {
        let (before, own) = match all.files.get(file) {
            Some(known) => *known,
            None => {
                let own = all.labelled < all.most;
                all.labelled += usize::from(own);
                (0, own)
            }
        };
        all.files.insert(file.to_owned(), (bytes, own));
        if !own {
            all.other = all.other.saturating_sub(before).saturating_add(bytes);
        }
        let (label, value) = if own { (file, bytes) } else { (OTHER, all.other) };
        self.set_behind(label, value);
    }

    /// A file is no longer followed.
    pub(crate) fn forget(&self, file: &str) {
        let mut all = self.bytes_behind.lock().unwrap_or_else(PoisonError::into_inner);
        match all.files.remove(file) {
            Some((_, true)) => {
                all.labelled -= 1;
                self.behind.remove(&OfFile { file: file.to_owned() });
            }
            Some((bytes, false)) => {
                all.other = all.other.saturating_sub(bytes);
                self.set_behind(OTHER, all.other);
            }
            None => {}
        }
    }

    /// How far all files together are behind.
    pub(crate) fn behind_in_all(&self) -> u64 {
        let all = self.bytes_behind.lock().unwrap_or_else(PoisonError::into_inner);
        all.files.values().fold(0, |sum, (bytes, _)| sum.saturating_add(*bytes))
    }

    fn set_behind(&self, label: &str, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.behind.get_or_create(&OfFile { file: label.to_owned() }).set(bytes);
    }
}

impl Rule {
    fn of(rule: impl ToString) -> Self {
        Self { rule: rule.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn files_beyond_the_limit_are_counted_together() {
        let (metrics, registry) = Metrics::new();
        metrics.label_files(100);
        for n in 0..103 {
            metrics.behind(&format!("f{n}"), 10);
        }
        metrics.behind("f102", 5);
        metrics.forget("f101");
        metrics.behind("f0", 1);
        assert_eq!(metrics.behind_in_all(), 1 + 99 * 10 + 15);
        let text = shown(&registry);
        assert!(text.contains(r#"behind_bytes{file="other"} 15"#), "{text}");
        assert!(text.contains(r#"behind_bytes{file="f0"} 1"#), "{text}");
    }

    #[test]
    fn the_limit_may_be_none_and_may_change() {
        let (metrics, registry) = Metrics::new();
        let series = || shown(&registry).lines().filter(|line| line.contains("behind_bytes{")).count();
        metrics.label_files(0);
        metrics.behind("a", 1);
        metrics.behind("b", 2);
        assert!(shown(&registry).contains(r#"behind_bytes{file="other"} 3"#), "{}", shown(&registry));
        assert_eq!(series(), 1);
        metrics.label_files(2);
        assert!(shown(&registry).contains(r#"behind_bytes{file="a"} 1"#), "{}", shown(&registry));
        assert_eq!(series(), 2);
        metrics.label_files(0);
        assert!(shown(&registry).contains(r#"behind_bytes{file="other"} 3"#), "{}", shown(&registry));
        assert_eq!((series(), metrics.behind_in_all()), (1, 3));
    }
}
