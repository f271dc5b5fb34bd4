//! New share pairs that serve many headers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use twinlock_format::{EncryptionContext, PairId};
use twinlock_keys::{CustomerKey, KeyUri, ProviderKey};

use crate::encrypt::PrepareError;
use crate::limits::{PairLimits, Usage};
use crate::shares::NewPair;

/// So many pairs are kept, of as many keys and encryption contexts. The oldest
/// goes first.
const MAX_KEPT: usize = 64;

/// Pairs that one plan has made, for the headers that come later.
pub(super) struct SharedPairs {
    limits: PairLimits,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    provider: KeyUri,
    customer: KeyUri,
    context: EncryptionContext,
    pair: Arc<NewPair>,
    usage: Usage,
}

impl SharedPairs {
    pub(super) fn new(limits: PairLimits) -> Self {
        Self { limits, kept: Mutex::default() }
    }

    /// A pair of these keys for a header of this context: not one of `taken`,
    /// which are those that the header has, or had.
    pub(super) async fn pair(
        &self,
        provider: &ProviderKey,
        customer: &CustomerKey,
        context: &EncryptionContext,
        taken: &[PairId],
    ) -> Result<Arc<NewPair>, PrepareError> {
        let keys = (provider.holder().uri(), customer.holder().uri());
        if let Some(pair) = self.known(keys, context, taken) {
            return Ok(pair);
        }
        // Whoever comes meanwhile makes one too, which costs a call and no more.
        let since = Instant::now();
        let pair = Arc::new(NewPair::make(provider, customer, context, true).await?);
        self.keep(keys, context, &pair, Usage::since(since));
        Ok(pair)
    }

    fn known(
        &self,
        (provider, customer): (&KeyUri, &KeyUri),
        context: &EncryptionContext,
        taken: &[PairId],
    ) -> Option<Arc<NewPair>> {
        let now = Instant::now();
        let mut kept = self.kept();
        kept.retain(|kept| kept.usage.is_within(&self.limits, now));
        let fits = |kept: &&mut Kept| {
            kept.provider == *provider
                && kept.customer == *customer
                && kept.context == *context
                && !taken.contains(&kept.pair.pair_id())
        };
        let found = kept.iter_mut().find(fits)?;
        found.usage.begin_envelope();
        Some(Arc::clone(&found.pair))
    }

    fn keep(
        &self,
        (provider, customer): (&KeyUri, &KeyUri),
        context: &EncryptionContext,
        pair: &Arc<NewPair>,
        mut usage: Usage,
    ) {
        usage.begin_envelope();
        let mut kept = self.kept();
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push(Kept {
            provider: provider.clone(),
            customer: customer.clone(),
            context: context.clone(),
            pair: Arc::clone(pair),
            usage,
        });
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Whoever panicked left it whole: each change is one call.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
