//! How long one share pair may be used.

use std::time::{Duration, Instant};

use crate::payload::Counter;

/// Bounds of what one share pair is used for: whichever is reached first.
///
/// No cryptographic limit is near: every envelope of a pair has its own DEK,
/// and a KEK of its own that is salted with the envelope's id. The bounds are
/// about *exposure*. Whoever obtains both shares of a pair once opens every
/// envelope of it, and a holder's log has one line for all of them.
///
/// The default is 65,536 envelopes, 1 TiB of plaintext, one hour: enough for
/// any folder that is encrypted at a stretch, and a holder's log still shows at
/// least hourly that its key is in use.
///
/// ```
/// use std::time::Duration;
/// use twinlock::PairLimits;
///
/// let limits = PairLimits::default().envelopes(1_000).bytes(1 << 30).age(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "limits do nothing by themselves"]
pub struct PairLimits {
    envelopes: u64,
    bytes: u64,
    age: Duration,
}

impl PairLimits {
    /// So many envelopes. 0 is taken as 1.
    pub fn envelopes(mut self, number: u64) -> Self {
        self.envelopes = number;
        self
    }

    /// So many bytes of plaintext, over all envelopes. They are counted as they
    /// pass, and no envelope *begins* when so many have: the last ones that
    /// began may go beyond.
    pub fn bytes(mut self, number: u64) -> Self {
        self.bytes = number;
        self
    }

    /// So long after the holders were asked. Envelopes that began by then may
    /// end later.
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }
}

impl Default for PairLimits {
    fn default() -> Self {
        Self { envelopes: 1 << 16, bytes: 1 << 40, age: Duration::from_secs(60 * 60) }
    }
}

/// What a pair, or one share of it, has been used for.
pub(crate) struct Usage {
    since: Instant,
    envelopes: u64,
    bytes: Counter,
}

impl Usage {
    /// Of one whose holders are asked from `now` on.
    pub(crate) fn since(now: Instant) -> Self {
        Self { since: now, envelopes: 0, bytes: Counter::default() }
    }

    /// True if one more envelope may begin `now`.
    pub(crate) fn is_within(&self, limits: &PairLimits, now: Instant) -> bool {
        self.envelopes < limits.envelopes
            && self.bytes.bytes() < limits.bytes
            && now.saturating_duration_since(self.since) < limits.age
    }

    /// Takes note of one more envelope, whose plaintext goes to the counter.
    pub(crate) fn begin_envelope(&mut self) -> Counter {
        self.envelopes += 1;
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However envelopes come, a pair that is asked before each of them
        /// begins none beyond a bound, and ends with no room left in at least
        /// one of them.
        #[test]
        fn no_envelope_begins_beyond_a_bound(
            envelopes in 1u64..50,
            bytes in 1u64..5_000,
            age in 1u64..5_000,
            work in prop::collection::vec((0usize..500, 0u64..500), 1..100),
        ) {
            let limits =
                PairLimits { envelopes, bytes, age: Duration::from_millis(age) };
            let start = Instant::now();
            let (mut usage, mut now) = (Usage::since(start), start);
            let (mut begun, mut passed) = (0, 0);
            for (len, wait) in work {
                let elapsed = now - start;
                let room = begun < envelopes && passed < bytes && elapsed < limits.age;
                prop_assert_eq!(usage.is_within(&limits, now), room);
                if !room {
                    break;
                }
                usage.begin_envelope().add(len);
                begun += 1;
                passed += len as u64;
                now += Duration::from_millis(wait);
            }
            prop_assert!(begun <= envelopes);
            prop_assert!(passed < bytes + 500, "one envelope beyond at most");
        }
    }

    #[test]
    fn the_default_is_enough_for_ten_thousand_files() {
        let limits = PairLimits::default();
        let now = Instant::now();
        let mut usage = Usage::since(now);
        for _ in 0..10_000 {
            assert!(usage.is_within(&limits, now + Duration::from_secs(3_599)));
            usage.begin_envelope().add(1 << 20);
        }
        assert!(!usage.is_within(&limits, now + Duration::from_secs(3_600)));
    }
}
