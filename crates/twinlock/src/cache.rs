//! Shares that were unwrapped already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use twinlock_format::{EncryptionContext, PairId, ShareSlot, Side};
use twinlock_keys::{KeyUri, Share};

use crate::flight::Flight;
use crate::limits::{PairLimits, Usage};
use crate::payload::Counter;
use crate::shares::ShareFailure;

/// At most so many shares are kept, whatever envelopes come along.
const MAX_ENTRIES: usize = 1024;

/// Keeps unwrapped shares for a while, so that the envelopes of a
/// [`Batch`](crate::Batch) cost each holder one unwrap, and not one each.
///
/// A decryptor has none unless it is given one
/// ([`Decryptor::cache`](crate::Decryptor::cache)).
///
/// **What this costs:** a holder is not asked about a share that is kept, so
/// what it would say by then does not count. *The time until a revocation takes
/// effect is the bound of the cache*, [`PairLimits::age`] above all (an hour by
/// default; a few minutes are better for what runs for long). All decryptors
/// that share a cache open what one of them could open: give one to those of
/// one caller only, not of several tenants.
///
/// - Kept is what a holder unwrapped and what passed the check of the keyslot;
///   a failure never is. Who asks for a share while another does waits for that
///   answer.
/// - A share is found by its side, the holder's URI, the pair's id, the wrapped
///   bytes with all that the keyslot says about them, and the whole encryption
///   context.
/// - Shares lie in locked memory, at most 1024 of them (the oldest goes first),
///   and are wiped when they leave: when their bound is seen to be reached,
///   with [`UnwrapCache::clear`], or with the cache.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use twinlock::{Decryptor, EncryptionContext, PairLimits, UnwrapCache};
///
/// let limits = PairLimits::default().age(Duration::from_secs(60));
/// let cache = Arc::new(UnwrapCache::new(limits));
/// let decryptor = Decryptor::expecting(EncryptionContext::new()).cache(cache);
/// ```
pub struct UnwrapCache {
    limits: PairLimits,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<CacheKey, Entry>,
    /// How many were ever made.
    made: u64,
}

struct Entry {
    number: u64,
    share: Arc<Flight<Kept, ShareFailure>>,
}

struct Kept {
    share: Share,
    usage: Usage,
}

/// All that the answer of a holder, and whether it is the right one, depend on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    side: Side,
    holder: KeyUri,
    pair_id: PairId,
    algorithm: twinlock_format::ShareAlgorithm,
    key_version: Option<String>,
    wrapped: Vec<u8>,
    check: Vec<u8>,
    context: EncryptionContext,
}

impl CacheKey {
    pub(crate) fn new(
        side: Side,
        holder: &KeyUri,
        pair_id: PairId,
        slot: &ShareSlot,
        context: &EncryptionContext,
    ) -> Self {
        Self {
            side,
            holder: holder.clone(),
            pair_id,
            algorithm: slot.algorithm(),
            key_version: slot.key_version().map(str::to_owned),
            wrapped: slot.wrapped().to_vec(),
            check: slot.check().to_vec(),
            context: context.clone(),
        }
    }
}

impl UnwrapCache {
    /// An empty cache. `limits` are those of each share.
    #[must_use]
    pub fn new(limits: PairLimits) -> Self {
        Self { limits, entries: Mutex::default() }
    }

    /// Forgets, and wipes, every share that nobody is using right now.
    pub fn clear(&self) {
        self.entries().by_key.clear();
    }

    /// The share of `key`, which `ask` gives, verified, if it is not kept. Also
    /// the counter for what is decrypted with it.
    pub(crate) async fn share(
        &self,
        key: CacheKey,
        ask: impl Future<Output = Result<Share, ShareFailure>>,
    ) -> Result<(Share, Counter), ShareFailure> {
        let flight = self.flight(key);
        let mut turn = flight.turn().await?;
        let now = Instant::now();
        if !turn.value.as_ref().is_some_and(|kept| kept.usage.is_within(&self.limits, now)) {
            turn.value = None; // wiped before there is another
            match ask.await {
                Ok(share) => turn.value = Some(Kept { share, usage: Usage::since(now) }),
                Err(failure) => {
                    flight.fail(&mut turn, failure.clone());
                    return Err(failure);
                }
            }
        }
        let kept = turn.value.as_mut().expect("made above");
        Ok((Share::copy_of(kept.share.expose()), kept.usage.begin_envelope()))
    }

    fn flight(&self, key: CacheKey) -> Arc<Flight<Kept, ShareFailure>> {
        let mut entries = self.entries();
        if let Some(entry) = entries.by_key.get(&key) {
            return Arc::clone(&entry.share);
        }
        entries.make_room(&self.limits);
        let share = Arc::new(Flight::new());
        let number = entries.made;
        entries.made += 1;
        entries.by_key.insert(key, Entry { number, share: Arc::clone(&share) });
        share
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Whoever panicked left the map whole: each change is one call.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Lets go of what is of no more use, and of the oldest if that is not
    /// enough.
    fn make_room(&mut self, limits: &PairLimits) {
        let now = Instant::now();
        self.by_key.retain(|_, entry| {
            !entry.share.is_idle_without(|kept| kept.usage.is_within(limits, now))
        });
        if self.by_key.len() < MAX_ENTRIES {
            return;
        }
        let oldest = self.by_key.iter().min_by_key(|(_, entry)| entry.number);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            self.by_key.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
