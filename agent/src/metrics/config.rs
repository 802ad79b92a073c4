//! What is measured of the configuration while the agent runs.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

/// Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigMetrics {
    reloads: Family<Outcome, Counter>,
    /// 1 while the file can't be used, so that what it said before is in force.
    pub(crate) stale: Gauge,
    /// Settings in the file that only a restart puts in force.
    pub(crate) pending: Gauge,
}

impl ConfigMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        // From the start on, so that the first failure is seen as one.
        drop((self.ok(), self.failed()));
        registry.register(
            "config_reloads",
            "How often the configuration was read again, by result",
            m.reloads,
        );
        registry.register(
            "config_stale",
            "Whether the configuration file can't be used as it is now (1), so that what it said before is in force",
            m.stale,
        );
        registry.register(
            "config_pending",
            "Settings in the configuration file that only a restart puts in force",
            m.pending,
        );
    }

    /// Those that went well.
    pub(crate) fn ok(&self) -> Counter {
        self.reloads.get_or_create(&Outcome { result: "ok" }).clone()
    }

    /// Those that didn't.
    pub(crate) fn failed(&self) -> Counter {
        self.reloads.get_or_create(&Outcome { result: "failed" }).clone()
    }
}
