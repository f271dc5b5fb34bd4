//! What Prometheus sees. `docs/operations.md` says how to read it.

use std::sync::Arc;
use std::time::Duration;

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use twinlock_pkcs11::TokenState;

use crate::config::Config;
use crate::serve::seconds;
use crate::state::oldest_secret;
use crate::wire::HealthStatus;

/// Seconds: KMS gives up after a quarter of one.
const LATENCIES: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5];

/// Everything that is counted. Clones count the same.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Histogram>,
    hsm_time: Family<HsmLabels, Histogram>,
    queue_time: Family<HsmLabels, Histogram>,
    /// How each token was when it was last tried: 2 ACTIVE, 1 DEGRADED, 0 UNAVAILABLE.
    hsm_health: Family<HsmLabels, Gauge>,
    hsm_sessions: Family<HsmLabels, Gauge>,
    hsm_busy: Family<HsmLabels, Gauge>,
    hsm_waiting: Family<HsmLabels, Gauge>,
    hsm_hung: Family<HsmLabels, Gauge>,
    hsm_resting: Family<HsmLabels, Gauge>,
    /// Requests that are being answered.
    in_flight: Gauge,
    /// Encryptions of each generation that encrypts.
    pub encryptions: Family<GenerationLabels, Gauge>,
    /// When the certificate expires, in seconds since 1970.
    pub certificate_expires: Gauge,
    /// When the oldest secret of each key store was written, in seconds since 1970.
    pub credential_written: Family<KeyStoreLabels, Gauge>,
    /// How far the clock of whoever signs is ahead of ours, of the last request.
    pub clock_ahead: Gauge,
    /// Reloads of the configuration, by result.
    pub reloads: Family<ReloadLabels, Counter>,
    /// What a policy denied, or would have.
    pub denials: Family<DenialLabels, Counter>,
}

/// Of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    outcome: &'static str,
    key_store: Path,
}

/// Of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HsmLabels {
    /// Its name in the configuration.
    pub hsm: String,
}

/// Of a key store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KeyStoreLabels {
    /// Its path.
    pub key_store: Path,
}

/// Of a generation of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct GenerationLabels {
    /// `store:key:generation`
    pub generation: Path,
}

/// Of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `ok` or `refused`
    pub result: &'static str,
}

/// Of what a policy denied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DenialLabels {
    /// The key store's path.
    pub key_store: Path,
    /// `true` if the policy is only tried out.
    pub dry_run: &'static str,
}

/// A text that many labels share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path(pub Arc<str>);

impl EncodeLabelValue for Path {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(&self.0)
    }
}

impl Metrics {
    /// Metrics that `registry` shows.
    pub fn new(registry: &mut Registry) -> Self {
        let latencies = || Histogram::new(LATENCIES);
        let metrics = Self {
            requests: Family::new_with_constructor(latencies),
            hsm_time: Family::new_with_constructor(latencies),
            queue_time: Family::new_with_constructor(latencies),
            hsm_health: Family::default(),
            hsm_sessions: Family::default(),
            hsm_busy: Family::default(),
            hsm_waiting: Family::default(),
            hsm_hung: Family::default(),
            hsm_resting: Family::default(),
            in_flight: Gauge::default(),
            encryptions: Family::default(),
            certificate_expires: Gauge::default(),
            credential_written: Family::default(),
            clock_ahead: Gauge::default(),
            reloads: Family::default(),
            denials: Family::default(),
        };
        metrics.register(registry);
        // A counter that begins with 1 has not increased, as Prometheus sees it.
        for result in ["ok", "refused"] {
            drop(metrics.reloads.get_or_create(&ReloadLabels { result }));
        }
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        let seconds = Unit::Seconds;
        let of = |text: &str| text.to_owned();
        registry.register_with_unit(
            "request",
            of("Time from head to answer"),
            seconds.clone(),
            self.requests.clone(),
        );
        registry.register_with_unit(
            "hsm",
            of("Time in a token"),
            seconds.clone(),
            self.hsm_time.clone(),
        );
        registry.register_with_unit(
            "queue",
            of("Time waiting for a session"),
            seconds.clone(),
            self.queue_time.clone(),
        );
        registry.register(
            "hsm_health",
            of("2 ACTIVE, 1 DEGRADED, 0 UNAVAILABLE"),
            self.hsm_health.clone(),
        );
        let sessions = [
            ("hsm_sessions", "Open sessions", &self.hsm_sessions),
            ("hsm_busy_sessions", "Sessions with a call in the token", &self.hsm_busy),
            ("hsm_waiting_calls", "Calls that wait for a session", &self.hsm_waiting),
            ("hsm_hung_calls", "Calls that hang in a module", &self.hsm_hung),
            ("hsm_resting", "1 while the breaker lets no call through", &self.hsm_resting),
        ];
        for (name, help, family) in sessions {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "in_flight",
            of("Requests that are being answered"),
            self.in_flight.clone(),
        );
        registry.register(
            "encryptions",
            of("Encryptions by the newest generation of each key"),
            self.encryptions.clone(),
        );
        registry.register_with_unit(
            "certificate_expires",
            of("When the certificate expires, since 1970"),
            seconds.clone(),
            self.certificate_expires.clone(),
        );
        registry.register_with_unit(
            "credential_written",
            of("When the oldest secret was written, since 1970"),
            seconds.clone(),
            self.credential_written.clone(),
        );
        registry.register_with_unit(
            "clock_ahead",
            of("How far the signer's clock is ahead of ours"),
            seconds,
            self.clock_ahead.clone(),
        );
        registry.register("reloads", of("Reloads of the configuration"), self.reloads.clone());
        registry.register(
            "policy_denials",
            of("Requests that a policy denied, or would have"),
            self.denials.clone(),
        );
    }

    pub(crate) fn request(
        &self,
        operation: &'static str,
        outcome: &'static str,
        key_store: &Arc<str>,
        time: Duration,
    ) {
        let labels = RequestLabels { operation, outcome, key_store: Path(Arc::clone(key_store)) };
        self.requests.get_or_create(&labels).observe(time.as_secs_f64());
    }

    pub(crate) fn in_flight(&self, requests: usize) {
        self.in_flight.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    pub(crate) fn health(&self, hsm: &str, status: HealthStatus) {
        let value = match status {
            HealthStatus::Active => 2,
            HealthStatus::Degraded => 1,
            HealthStatus::Unavailable => 0,
        };
        self.hsm_health.get_or_create(&HsmLabels { hsm: hsm.to_owned() }).set(value);
    }

    /// How a token's sessions are now.
    pub(crate) fn sessions(&self, hsm: &str, state: &TokenState) {
        let labels = HsmLabels { hsm: hsm.to_owned() };
        let set = |family: &Family<HsmLabels, Gauge>, value: usize| {
            family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.hsm_sessions, state.sessions);
        set(&self.hsm_busy, state.busy);
        set(&self.hsm_waiting, state.waiting);
        set(&self.hsm_hung, state.hung);
        set(&self.hsm_resting, usize::from(state.resting.is_some()));
    }

    pub(crate) fn encryptions(&self, generation: &Arc<str>, used: u64) {
        let labels = GenerationLabels { generation: Path(Arc::clone(generation)) };
        self.encryptions.get_or_create(&labels).set(i64::try_from(used).unwrap_or(i64::MAX));
    }

    /// What a configuration says by itself. What another one had is forgotten: an
    /// HSM that is not there any more must not be one that does not work.
    pub(crate) fn note(&self, config: &Config) {
        for hsms in [
            &self.hsm_health,
            &self.hsm_sessions,
            &self.hsm_busy,
            &self.hsm_waiting,
            &self.hsm_hung,
            &self.hsm_resting,
        ] {
            hsms.clear();
        }
        self.encryptions.clear();
        self.credential_written.clear();
        for store in &config.key_store {
            for dry_run in ["false", "true"] {
                let key_store = Path(Arc::from(store.path.as_str()));
                drop(self.denials.get_or_create(&DenialLabels { key_store, dry_run }));
            }
            if let Some(written) = oldest_secret(store) {
                let labels = KeyStoreLabels { key_store: Path(Arc::from(store.path.as_str())) };
                self.credential_written.get_or_create(&labels).set(seconds(written));
            }
        }
    }

    pub(crate) fn reload(&self, is_ok: bool) {
        let result = if is_ok { "ok" } else { "refused" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    pub(crate) fn denial(&self, key_store: &Arc<str>, is_dry_run: bool) {
        let dry_run = if is_dry_run { "true" } else { "false" };
        let labels = DenialLabels { key_store: Path(Arc::clone(key_store)), dry_run };
        self.denials.get_or_create(&labels).inc();
    }

    pub(crate) fn token(&self, hsm: &str, queued: Duration, in_token: Duration) {
        let labels = HsmLabels { hsm: hsm.to_owned() };
        self.queue_time.get_or_create(&labels).observe(queued.as_secs_f64());
        self.hsm_time.get_or_create(&labels).observe(in_token.as_secs_f64());
    }
}
