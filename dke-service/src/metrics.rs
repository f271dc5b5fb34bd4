//! What Prometheus sees. `docs/dke.md` says how to read it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use twinlock_pkcs11::TokenState;

use crate::bearer::Unverified;

/// Seconds: people wait for a document to open.
const LATENCIES: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Everything that is counted. Clones count the same.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Histogram>,
    hsm_time: Family<HsmLabels, Histogram>,
    queue_time: Family<HsmLabels, Histogram>,
    hsm_works: Family<HsmLabels, Gauge>,
    hsm_sessions: Family<HsmLabels, Gauge>,
    hsm_busy: Family<HsmLabels, Gauge>,
    hsm_waiting: Family<HsmLabels, Gauge>,
    hsm_hung: Family<HsmLabels, Gauge>,
    hsm_resting: Family<HsmLabels, Gauge>,
    in_flight: Gauge,
    tokens: Family<TokenLabels, Counter>,
    issuer_problems: Gauge,
    issuer_keys_age: Family<IssuerLabels, Gauge>,
    key_problems: Gauge,
    /// When the certificate expires, in seconds since 1970.
    pub certificate_expires: Gauge,
    reloads: Family<ReloadLabels, Counter>,
}

/// Of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    outcome: &'static str,
    key: Name,
}

/// Of a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HsmLabels {
    hsm: String,
}

/// Of a bearer token that a caller showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    /// `good`, `invalid`, or `unavailable`: that could not be told
    outcome: &'static str,
}

/// Of an issuer of such tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

/// Of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    /// `ok` or `refused`
    result: &'static str,
}

/// A text that many labels share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        fmt::Write::write_str(encoder, &self.0)
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
            hsm_works: Family::default(),
            hsm_sessions: Family::default(),
            hsm_busy: Family::default(),
            hsm_waiting: Family::default(),
            hsm_hung: Family::default(),
            hsm_resting: Family::default(),
            in_flight: Gauge::default(),
            tokens: Family::default(),
            issuer_problems: Gauge::default(),
            issuer_keys_age: Family::default(),
            key_problems: Gauge::default(),
            certificate_expires: Gauge::default(),
            reloads: Family::default(),
        };
        metrics.register(registry);
        // A counter that begins with 1 has not increased, as Prometheus sees it.
        for result in ["ok", "refused"] {
            drop(metrics.reloads.get_or_create(&ReloadLabels { result }));
        }
        for outcome in ["good", "invalid", "unavailable"] {
            drop(metrics.tokens.get_or_create(&TokenLabels { outcome }));
        }
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        let times = [
            ("hsm", "Time in a token", &self.hsm_time),
            ("queue", "Time waiting for a session", &self.queue_time),
        ];
        for (name, help, family) in times {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        let requests = self.requests.clone();
        registry.register_with_unit("request", "Time from head to answer", Unit::Seconds, requests);
        let of_hsms = [
            ("hsm_works", "1 if it is open, logged in and has its keys", &self.hsm_works),
            ("hsm_sessions", "Open sessions", &self.hsm_sessions),
            ("hsm_busy_sessions", "Sessions with a call in the token", &self.hsm_busy),
            ("hsm_waiting_calls", "Calls that wait for a session", &self.hsm_waiting),
            ("hsm_hung_calls", "Calls that hang in a module", &self.hsm_hung),
            ("hsm_resting", "1 while the breaker lets no call through", &self.hsm_resting),
        ];
        for (name, help, family) in of_hsms {
            registry.register(name, help, family.clone());
        }
        let in_flight = self.in_flight.clone();
        registry.register("in_flight", "Decryptions that are under way", in_flight);
        let tokens = self.tokens.clone();
        registry.register("tokens", "Bearer tokens that callers have shown", tokens);
        registry.register(
            "issuer_problems",
            "Issuers of tokens with which something is wrong",
            self.issuer_problems.clone(),
        );
        registry.register(
            "key_problems",
            "Generations of keys that are not served, or that a token lacks or has another key for",
            self.key_problems.clone(),
        );
        registry.register_with_unit(
            "issuer_keys_age",
            "Since when an issuer's keys are what they are known as",
            Unit::Seconds,
            self.issuer_keys_age.clone(),
        );
        registry.register_with_unit(
            "certificate_expires",
            "When the certificate expires, since 1970",
            Unit::Seconds,
            self.certificate_expires.clone(),
        );
        registry.register("reloads", "Reloads of the configuration", self.reloads.clone());
    }

    pub(crate) fn request(
        &self,
        operation: &'static str,
        outcome: &'static str,
        key: Option<&Arc<str>>,
        time: Duration,
    ) {
        // Names that strangers make up would be labels without end.
        let key = key.map_or_else(|| Arc::from("-"), Arc::clone);
        let labels = RequestLabels { operation, outcome, key: Name(key) };
        self.requests.get_or_create(&labels).observe(time.as_secs_f64());
    }

    pub(crate) fn in_flight(&self, requests: usize) {
        self.in_flight.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// A token that a caller showed, and what became of it.
    pub(crate) fn bearer_token<T>(&self, verified: Result<&T, &Unverified>) {
        let outcome = match verified {
            Ok(_) => "good",
            Err(Unverified::Invalid(_)) => "invalid",
            Err(Unverified::Unavailable(_)) => "unavailable",
        };
        self.tokens.get_or_create(&TokenLabels { outcome }).inc();
    }

    pub(crate) fn issuer_keys_age(&self, issuer: &str, age: Duration) {
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.issuer_keys_age.get_or_create(&IssuerLabels { issuer: issuer.to_owned() }).set(age);
    }

    pub(crate) fn issuer_problems(&self, problems: usize) {
        self.issuer_problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }

    pub(crate) fn key_problems(&self, problems: usize) {
        self.key_problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }

    pub(crate) fn works(&self, hsm: &str, works: bool) {
        self.hsm_works.get_or_create(&HsmLabels { hsm: hsm.to_owned() }).set(i64::from(works));
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

    /// Forgets what another configuration had: an HSM or an issuer that is not there
    /// any more must not be one that does not work.
    pub(crate) fn forget(&self) {
        self.issuer_keys_age.clear();
        for hsms in [
            &self.hsm_works,
            &self.hsm_sessions,
            &self.hsm_busy,
            &self.hsm_waiting,
            &self.hsm_hung,
            &self.hsm_resting,
        ] {
            hsms.clear();
        }
    }

    pub(crate) fn reload(&self, is_ok: bool) {
        let result = if is_ok { "ok" } else { "refused" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    pub(crate) fn token(&self, hsm: &str, queued: Duration, in_token: Duration) {
        let labels = HsmLabels { hsm: hsm.to_owned() };
        self.queue_time.get_or_create(&labels).observe(queued.as_secs_f64());
        self.hsm_time.get_or_create(&labels).observe(in_token.as_secs_f64());
    }
}
