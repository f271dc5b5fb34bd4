//! Whether the tokens work: tried with a key of their own, in the background.
//!
//! `GetHealthStatus` answers from what was found last, so it costs no call to a
//! token; what was found too long ago counts for nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use twinlock_pkcs11::{AeadKey, ErrorKind, Pkcs11Error, Token, TokenFacts};
use zeroize::Zeroizing;

use crate::hsm::Hsm;
use crate::wire::HealthStatus;

/// From one look at a token to the next.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// What was found longer ago than this is not told to KMS (specification:
/// "GetHealthStatus", at most a minute).
const FRESH: Duration = Duration::from_secs(50);

/// How long a token may take to encrypt and decrypt before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// A token that takes longer than this for both does not answer KMS in time.
const SLOW: Duration = Duration::from_millis(200);

/// How a token was when it was last tried.
#[derive(Clone, Debug)]
pub struct HsmHealth {
    state: HealthStatus,
    /// Never, at first.
    at: Option<Instant>,
    vendor: String,
    model: String,
    /// Why it is not well.
    problem: Option<String>,
}

impl HsmHealth {
    /// Before the first look.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            state: HealthStatus::Unavailable,
            at: None,
            vendor: "unknown".to_owned(),
            model: "unknown".to_owned(),
            problem: Some("not tried yet".to_owned()),
        }
    }

    /// What to tell KMS now.
    #[must_use]
    pub fn state(&self) -> HealthStatus {
        match self.at.is_some_and(|at| at.elapsed() < FRESH) {
            true => self.state,
            false => HealthStatus::Unavailable,
        }
    }

    /// Who made the token.
    #[must_use]
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// Which token it is.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Why it is not well, if it is not.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn of(token: &TokenFacts, state: HealthStatus, problem: Option<String>) -> Self {
        Self {
            state,
            at: Some(Instant::now()),
            vendor: token.manufacturer.clone(),
            model: format!("{} ({})", token.model, token.label),
            problem,
        }
    }
}

/// Tries a token, and remembers what came of it. A token that was never opened
/// is opened.
pub async fn check(hsm: &Hsm) -> Arc<HsmHealth> {
    let before = hsm.health();
    let health = match hsm.open().await {
        Ok(token) => tried(hsm, token).await,
        Err(error) => HsmHealth {
            state: HealthStatus::Unavailable,
            at: Some(Instant::now()),
            problem: Some(error.to_string()),
            ..(*before).clone()
        },
    };
    tell_of_change(hsm, &before, &health);
    hsm.set_health(health);
    hsm.health()
}

async fn tried(hsm: &Hsm, token: &Token) -> HsmHealth {
    let started = Instant::now();
    let result = match hsm.key(&hsm.settings().health_key).await {
        Ok(key) => try_key(&key).await,
        Err(error) => Err(error),
    };
    let (state, problem) = match result {
        Ok(()) if started.elapsed() > SLOW => {
            let millis = started.elapsed().as_millis();
            (HealthStatus::Degraded, Some(format!("it took {millis} ms to try it")))
        }
        Ok(()) => (HealthStatus::Active, None),
        // No room for a test is no failure: it works to capacity.
        Err(error) if error.kind() == ErrorKind::Busy && error.retry_after().is_none() => {
            (HealthStatus::Degraded, Some(error.to_string()))
        }
        Err(error) => (HealthStatus::Unavailable, Some(error.to_string())),
    };
    HsmHealth::of(token.facts(), state, problem)
}

/// Encrypts, decrypts and compares.
async fn try_key(key: &AeadKey) -> Result<(), Pkcs11Error> {
    let data = Zeroizing::new(b"twinlock-xks looks whether this token works".to_vec());
    key.encrypt_checked(data, b"health".to_vec(), PATIENCE, |_| ()).await.result.map(|_| ())
}

fn tell_of_change(hsm: &Hsm, before: &HsmHealth, now: &HsmHealth) {
    if before.at.is_some() && before.state == now.state {
        return;
    }
    let (name, state) = (hsm.name(), now.state);
    match now.problem() {
        None => tracing::info!(hsm = name, ?state, "the token works"),
        Some(problem) => {
            tracing::warn!(hsm = name, ?state, problem, "the token does not work as it should")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(state: HealthStatus, ago: Duration) -> HsmHealth {
        let at = Instant::now().checked_sub(ago);
        HsmHealth { state, at, ..HsmHealth::unknown() }
    }

    #[test]
    fn what_was_found_within_a_minute_is_told() {
        assert_eq!(found(HealthStatus::Active, Duration::ZERO).state(), HealthStatus::Active);
        assert_eq!(found(HealthStatus::Degraded, INTERVAL).state(), HealthStatus::Degraded);
    }

    #[test]
    fn what_was_found_longer_ago_counts_for_nothing() {
        assert_eq!(found(HealthStatus::Active, FRESH).state(), HealthStatus::Unavailable);
        assert_eq!(HsmHealth::unknown().state(), HealthStatus::Unavailable);
    }
}
