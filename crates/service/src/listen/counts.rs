//! What a listener counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Connections of a listener. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Open ones, handshakes included.
    pub open: Gauge,
    /// All that were ever accepted.
    pub accepted: Counter,
    /// Ended by us, and why.
    pub(super) ended: Family<Reason, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Reason {
    reason: &'static str,
}

impl Counts {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Open connections", self.open.clone());
        registry.register(
            "connections_accepted",
            "Connections that were accepted",
            self.accepted.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections that this side ended: tls (handshake failed), handshake (too slow), head \
             (too slow), idle, shed (made room for another)",
            self.ended.clone(),
        );
        // A counter that begins with 1 has not increased, as Prometheus sees it.
        for reason in ["tls", "handshake", "head", "idle", "shed"] {
            drop(self.ended.get_or_create(&Reason { reason })); // it is there from now on
        }
    }

    /// How many were ended for this reason.
    #[must_use]
    pub fn ended(&self, reason: &'static str) -> u64 {
        self.ended.get_or_create(&Reason { reason }).get()
    }

    pub(super) fn end(&self, reason: &'static str) {
        self.ended.get_or_create(&Reason { reason }).inc();
    }
}
