//! What is measured of connections.

use super::Reason;
use crate::server::Cut;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct TransportMetrics {
    pub(crate) connections: Gauge,
    pub(crate) refused: Counter,
    cut: Family<Reason, Counter>,
    pub(crate) handshakes: Gauge,
    pub(crate) certificate_expires: Gauge,
}

impl TransportMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("connections", "Open connections", m.connections);
        registry.register(
            "connections_refused",
            "Connections closed at once: their address has --max-connections-per-address already",
            m.refused,
        );
        registry.register("connections_cut", "Connections ended by the collector, by reason", m.cut);
        registry.register("tls_handshakes", "TLS handshakes under way", m.handshakes);
        registry.register(
            "tls_certificate_expiry_timestamp_seconds",
            "Until when the certificate is valid, in Unix seconds; 0 without TLS",
            m.certificate_expires,
        );
    }

    pub(crate) fn cut(&self, why: Cut) {
        self.cut.get_or_create(&Reason { reason: why.as_str() }).inc();
    }
}
