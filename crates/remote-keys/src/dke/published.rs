//! The public key that a service publishes, and for how long it may be used.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use twinlock_keys::{HolderError, RsaPublicKey};

use super::call::Call;
use super::client::Answer;
use super::{KeyFacts, Pin, misconfigured, wire};

/// The longest time that a key is kept, whatever the service says: then a process
/// that runs for ever learns of a new one.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// A public key and its version.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) key: RsaPublicKey,
    pub(super) version: String,
    /// How long it may be kept from now on.
    lifetime: Duration,
}

/// The last one.
#[derive(Default)]
pub(super) struct Cache(Option<(Published, Instant)>);

impl Published {
    pub(super) fn read(call: &Call<'_>, answer: &Answer) -> Result<Self, HolderError> {
        let parsed = wire::published(&answer.body)
            .ok_or_else(|| call.not_the_service().with_answer(answer.evidence()))?;
        let key = RsaPublicKey::new(&parsed.modulus, &parsed.exponent.to_be_bytes());
        let key = key.map_err(|error| {
            misconfigured(format!(
                "the public key that {} publishes is of no use ({error}): its owner has to make \
                 another one",
                call.subject
            ))
            .with_answer(answer.evidence())
        })?;
        let lifetime = lifetime(parsed.expires, SystemTime::now());
        Ok(Self { key, version: parsed.version, lifetime })
    }

    pub(super) fn facts(&self) -> KeyFacts {
        KeyFacts {
            version: self.version.clone(),
            bits: self.key.bits(),
            pin: Pin::of(self.key.spki_sha256()),
        }
    }
}

impl Cache {
    pub(super) fn get(&self) -> Option<&Published> {
        let (published, until) = self.0.as_ref()?;
        (Instant::now() < *until).then_some(published)
    }

    pub(super) fn put(&mut self, published: &Published) {
        self.0 = Some((published.clone(), Instant::now() + published.lifetime));
    }
}

/// What is left until `expires`, in seconds since 1970; nothing without one.
fn lifetime(expires: Option<u64>, now: SystemTime) -> Duration {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires = Duration::from_secs(expires.unwrap_or(0));
    expires.saturating_sub(now).min(MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_as_long_as_the_service_says_and_a_day_at_most() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seconds = |expires| lifetime(expires, now).as_secs();
        assert_eq!(seconds(Some(1_000_060)), 60);
        assert_eq!(seconds(Some(u64::MAX)), 24 * 3600);
        for over in [None, Some(0), Some(999_999), Some(1_000_000)] {
            assert_eq!(seconds(over), 0, "{over:?}");
        }
    }
}
