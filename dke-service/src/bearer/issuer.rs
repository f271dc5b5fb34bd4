//! One issuer: its keys, and its tokens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tokio::sync::watch;

use super::claims::Rules;
use super::fetch::Source;
use super::key_set::{Algorithm, Key, KeySet};
use super::proven::{Digest, Proven};
use super::{Caller, IssuerSettings, Timing, Unverified};
use crate::token::Token;

/// An issuer whose tokens are believed.
pub(super) struct Issuer {
    name: Arc<str>,
    algorithms: Vec<Algorithm>,
    rules: Rules,
    source: Source,
    timing: Timing,
    good: ArcSwapOption<Good>,
    attempts: Mutex<Attempts>,
}

/// Keys that were fetched.
struct Good {
    keys: KeySet,
    proven: Proven,
    since: Instant,
}

#[derive(Default)]
struct Attempts {
    /// When the last one began, and until it is over.
    last: Option<(Instant, Flight)>,
    /// Why it failed, if it did.
    problem: Option<String>,
}

/// A fetch that is under way. It goes on when nobody waits for it any more, so
/// that whoever hangs up stops none.
#[derive(Clone)]
pub(super) struct Flight(watch::Receiver<()>);

impl Issuer {
    pub(super) fn new(
        settings: &IssuerSettings,
        origin: &str,
        timing: &Timing,
    ) -> Result<Self, String> {
        Ok(Self {
            name: Arc::from(settings.issuer.as_str()),
            algorithms: Algorithm::all_of(&settings.algorithms)?,
            rules: Rules::new(settings, origin)?,
            source: Source::new(settings, timing.timeout)?,
            timing: timing.clone(),
            good: ArcSwapOption::empty(),
            attempts: Mutex::default(),
        })
    }

    /// The `iss` of its tokens.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn verify(self: &Arc<Self>, token: Token<'_>) -> Result<Caller, Unverified> {
        let invalid = Unverified::Invalid;
        let named = |algorithm: &&Algorithm| algorithm.name() == token.algorithm;
        let algorithm = self.algorithms.iter().find(named);
        let algorithm = *algorithm.ok_or(invalid("the algorithm of the token is not accepted"))?;
        let good = self.good_for(&token, algorithm).await?;
        let candidates = good.keys.candidates(token.key_id.as_deref(), algorithm);
        let candidates = candidates.map_err(invalid)?;
        if !good.has_signed(&token, algorithm, &candidates) {
            return Err(invalid("the signature of the token is wrong"));
        }
        let claims = token.claims().map_err(invalid)?;
        // The same claims as before, read by another reader.
        if claims.get("iss").and_then(Value::as_str) != Some(self.name()) {
            return Err(invalid("the token is of an issuer that is not trusted"));
        }
        self.rules.check(&claims, SystemTime::now()).map_err(invalid)?;
        Ok(Caller::new(Arc::clone(&self.name), claims))
    }

    /// The keys, fetched anew if the token names another one and that is allowed.
    async fn good_for(
        self: &Arc<Self>,
        token: &Token<'_>,
        algorithm: Algorithm,
    ) -> Result<Arc<Good>, Unverified> {
        let named = token.key_id.as_deref();
        match self.good() {
            Some(good) if good.keys.candidates(named, algorithm).is_ok() => return Ok(good),
            // Another fetch does not make it name one.
            Some(good) if named.is_none() => return Ok(good),
            _ => {}
        }
        if let Some(flight) = self.flight() {
            flight.landed().await;
        }
        self.good().ok_or_else(|| Unverified::Unavailable(self.problem().unwrap_or_default()))
    }

    /// A fetch, if it is time for one and none is under way.
    pub(super) fn refresh(self: &Arc<Self>) -> Option<Flight> {
        let is_fresh = |good: Arc<Good>| good.since.elapsed() < self.timing.refresh;
        match self.good.load_full().is_some_and(is_fresh) {
            true => None,
            false => self.flight(),
        }
    }

    /// How long ago its keys were fetched, if they ever were.
    pub(super) fn age_of_keys(&self) -> Option<Duration> {
        self.good.load_full().map(|good| good.since.elapsed())
    }

    /// Why it does not work as it should, if it does not.
    pub(super) fn problem(&self) -> Option<String> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = attempts.problem.as_deref();
        let problem = failed.or_else(|| self.good().is_none().then_some("not fetched yet"))?;
        Some(format!("the keys of the issuer {:?}: {problem}", &*self.name))
    }

    /// True if both fetch the same keys from the same place.
    pub(super) fn has_source_of(&self, other: &Self) -> bool {
        self.source.is_that_of(&other.source) && self.algorithms == other.algorithms
    }

    pub(super) fn inherit(&self, before: &Self) {
        self.good.store(before.good.load_full());
    }

    /// Keys that may still be used.
    fn good(&self) -> Option<Arc<Good>> {
        self.good.load_full().filter(|good| good.since.elapsed() < self.timing.keep)
    }

    /// The fetch that is under way, or a new one; none if the last one was a
    /// moment ago.
    fn flight(self: &Arc<Self>) -> Option<Flight> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match &attempts.last {
            Some((_, flight)) if !flight.has_landed() => return Some(flight.clone()),
            Some((began, _)) if began.elapsed() < self.timing.gap => return None,
            _ => {}
        }
        let (lands, landed) = watch::channel(());
        let issuer = Arc::clone(self);
        tokio::spawn(async move {
            issuer.fetch().await;
            drop(lands);
        });
        let flight = Flight(landed);
        attempts.last = Some((Instant::now(), flight.clone()));
        Some(flight)
    }

    async fn fetch(&self) {
        let fetched = self.source.fetch(&self.algorithms).await;
        let problem = match fetched {
            Ok(keys) => {
                self.good.store(Some(Arc::new(Good {
                    keys,
                    proven: Proven::default(),
                    since: Instant::now(),
                })));
                None
            }
            Err(problem) => {
                let kept = self.good().is_some();
                tracing::warn!(
                    issuer = &*self.name,
                    error = problem,
                    kept,
                    "the keys of an issuer cannot be fetched"
                );
                Some(problem)
            }
        };
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).problem = problem;
    }
}

impl Good {
    /// Whether one of these keys has.
    fn has_signed(&self, token: &Token<'_>, algorithm: Algorithm, keys: &[&Key]) -> bool {
        let digest = Digest::of(token);
        if self.proven.has(&digest) {
            return true;
        }
        let verifies = |key: &&Key| key.verifies(algorithm, token.message, token.signature);
        let has = keys.iter().any(verifies);
        if has {
            self.proven.add(digest);
        }
        has
    }
}

impl Flight {
    /// Waits until it is over, however it ends.
    pub(super) async fn landed(mut self) {
        while self.0.changed().await.is_ok() {}
    }

    fn has_landed(&self) -> bool {
        self.0.has_changed().is_err()
    }
}
