//! One look at everything: the counts, the collector's metrics and the agents'.

use super::http::Http;
use super::metrics::Metrics;
use super::plan::{Plan, Role};
use crate::failure::Failure;
use crate::postgres::Database;
use logweir_telemetry::postgres::PostgresAccess;
use logweir_telemetry::redact::SecretUrl;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// How long a look may wait for Postgres; then the last counts are shown again.
const COUNTS: Duration = Duration::from_secs(5);

/// By service and level.
pub(super) type Counts = BTreeMap<(String, String), u64>;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// All that Postgres holds.
    pub(super) counts: Counts,
    /// Batches in the queue.
    pub(super) entries: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Requests answered 503 since the collector's start.
    pub(super) refused: u64,
    /// Requests answered 429 since then.
    pub(super) limited: u64,
    pub(super) agents: Vec<Agent>,
    /// Who didn't answer; what is said of them is as before.
    pub(super) silent: Vec<String>,
}

/// One agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) name: String,
    /// Batches sealed and not settled.
    pub(super) unsettled: u64,
    /// Whether it has stopped reading, since its buffer is full.
    pub(super) stopped: bool,
    /// Bytes of its files that it has not read.
    pub(super) behind: u64,
    /// Events and lines in its rejects file since its start.
    pub(super) rejects: u64,
}

impl Sample {
    /// All events.
    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// By service.
    pub(super) fn services(&self) -> BTreeMap<&str, u64> {
        let mut services = BTreeMap::new();
        for ((service, _), count) in &self.counts {
            *services.entry(service.as_str()).or_insert(0) += count;
        }
        services
    }

    /// Whether nothing is under way: all that was read is counted, and nothing waits to be read.
    pub(super) fn is_drained(&self) -> bool {
        self.silent.is_empty()
            && self.entries == 0
            && self.agents.iter().all(|agent| agent.unsettled == 0 && agent.behind == 0)
    }

    /// Whether something was read that isn't counted yet.
    pub(super) fn is_under_way(&self) -> bool {
        !self.silent.is_empty() || self.entries > 0 || self.agents.iter().any(|agent| agent.unsettled > 0)
    }
}

/// Looks.
pub(super) struct Watch {
    http: Http,
    collector: Option<SocketAddr>,
    agents: Vec<(String, SocketAddr)>,
    postgres: SecretUrl,
    database: Option<Database>,
    last: Sample,
}

impl Watch {
    pub(super) fn new(plan: &Plan) -> anyhow::Result<Self> {
        let collector = plan.services.iter().find(|spec| spec.role == Role::Collector);
        Ok(Self {
            http: Http::new()?,
            collector: collector.and_then(|spec| spec.admin),
            agents: plan.agents().map(|(name, admin)| (name.to_owned(), admin)).collect(),
            postgres: plan.postgres.clone(),
            database: None,
            last: Sample::default(),
        })
    }

    /// What is to be seen now.
    ///
    /// The agents are asked first, then the collector, then Postgres, so that a batch on its way is seen at least
    /// once: where nothing is seen, nothing is on its way.
    pub(super) async fn sample(&mut self) -> &Sample {
        let mut sample = Sample::default();
        for (name, admin) in &self.agents {
            let text = self.http.metrics(*admin).await;
            let seen = text.map(|text| agent(name, Metrics::new(&text)));
            let before = self.last.agents.iter().find(|agent| agent.name == *name).cloned();
            if seen.is_none() {
                sample.silent.push(format!("agent-{name}"));
            }
            sample.agents.extend(seen.or(before));
        }
        let text = match self.collector {
            Some(admin) => self.http.metrics(admin).await,
            None => None,
        };
        match text {
            Some(text) => collector(&mut sample, Metrics::new(&text)),
            None => sample.silent.push("collector".to_owned()),
        }
        match timeout(COUNTS, self.counts()).await {
            Ok(Ok(counts)) => sample.counts = counts,
            failed => {
                tracing::debug!(?failed, "no counts");
                self.database = None;
                sample.counts = self.last.counts.clone();
                sample.silent.push("postgres".to_owned());
            }
        }
        self.last = sample;
        &self.last
    }

    async fn counts(&mut self) -> Result<Counts, Failure> {
        let database = match self.database.take() {
            Some(database) => database,
            None => Database::connect(&self.postgres, &PostgresAccess::default()).await?,
        };
        let sql = "SELECT service, level, sum(count)::bigint FROM log_counts GROUP BY 1, 2";
        let rows = database.rows(sql, &[]).await?;
        self.database = Some(database);
        let read = |row: &tokio_postgres::Row| {
            let count: i64 = row.try_get(2).ok()?;
            Some(((row.try_get(0).ok()?, row.try_get(1).ok()?), u64::try_from(count).ok()?))
        };
        Ok(rows.iter().filter_map(read).collect())
    }
}

fn collector(sample: &mut Sample, metrics: Metrics<'_>) {
    sample.entries = metrics.value("logweir_collector_queue_entries").unwrap_or(0);
    sample.bytes = metrics.value("logweir_collector_queue_bytes").unwrap_or(0);
    sample.refused = metrics.sum("logweir_collector_requests_total", "status=\"503\"");
    sample.limited = metrics.sum("logweir_collector_requests_total", "status=\"429\"");
}

fn agent(name: &str, metrics: Metrics<'_>) -> Agent {
    Agent {
        name: name.to_owned(),
        unsettled: metrics.value("logweir_agent_unsettled_batches").unwrap_or(0),
        stopped: metrics.value("logweir_agent_reading_stopped").unwrap_or(0) > 0,
        behind: metrics.sum("logweir_agent_behind_bytes", ""),
        rejects: metrics.sum("logweir_agent_rejects_total", ""),
    }
}
