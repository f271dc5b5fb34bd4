//! The key step: what is asked of holders before any bulk work.

use futures_util::future::join;
use twinlock_format::limits::DEK_NONCE_LEN;
use twinlock_format::schedule::{self, KekInfo};
use twinlock_format::{
    EncryptionContext, EnvelopeId, PairId, PairKeyslot, ShareSlot, Side, WrappedPair,
};
use twinlock_keys::{
    CustomerKey, HolderError, KeyHolder, KeyUri, ProviderKey, Secret, Share, ShareAlgorithm,
    WrapContext, WrappedShare,
};

use crate::cache::{CacheKey, UnwrapCache};
use crate::encrypt::PrepareError;
use crate::payload::{Counter, Meter};
use crate::random;

/// Two fresh shares and what their holders made of them.
pub(crate) struct NewPair {
    provider: Share,
    customer: Share,
    wrapped: WrappedPair,
    kek_info: KekInfo,
}

impl NewPair {
    /// Draws a pair and has each holder wrap its share, side by side. With
    /// `read_back` each holder must also show that it can unwrap it again.
    pub(crate) async fn make(
        provider: &ProviderKey,
        customer: &CustomerKey,
        context: &EncryptionContext,
        read_back: bool,
    ) -> Result<Self, PrepareError> {
        let pair_id = PairId(random::bytes()?);
        let (provider_share, customer_share) = (Share::random()?, Share::random()?);
        let of_side = |side| WrapRequest { side, pair_id, context, read_back };
        let (provider_slot, customer_slot) = join(
            of_side(Side::Provider).ask(provider.holder(), &provider_share),
            of_side(Side::Customer).ask(customer.holder(), &customer_share),
        )
        .await;
        let wrapped = WrappedPair::new(pair_id, provider_slot?, customer_slot?)
            .map_err(|_| PrepareError::SameKey { uri: provider.holder().uri().clone() })?;
        let kek_info = KekInfo::of(&wrapped);
        Ok(Self { provider: provider_share, customer: customer_share, wrapped, kek_info })
    }

    pub(crate) fn pair_id(&self) -> PairId {
        self.wrapped.pair_id()
    }

    /// A keyslot of this pair for one envelope. The nonce is random.
    pub(crate) fn keyslot(
        &self,
        envelope_id: &EnvelopeId,
        nonce: &[u8; DEK_NONCE_LEN],
        dek: &Secret<32>,
    ) -> PairKeyslot {
        let shares = (self.provider.expose(), self.customer.expose());
        let kek = self.kek_info.kek(shares.0, shares.1, envelope_id);
        let wrapped_dek = schedule::wrap_dek(&kek, envelope_id, nonce, dek.expose());
        PairKeyslot::new(self.wrapped.clone(), wrapped_dek)
    }
}

struct WrapRequest<'a> {
    side: Side,
    pair_id: PairId,
    context: &'a EncryptionContext,
    read_back: bool,
}

impl WrapRequest<'_> {
    async fn ask(&self, holder: &dyn KeyHolder, share: &Share) -> Result<ShareSlot, PrepareError> {
        let failed = |source| PrepareError::Holder {
            side: keys_side(self.side),
            uri: holder.uri().clone(),
            source,
        };
        let bound = wrap_context(self.side, self.pair_id, self.context);
        let wrapped = holder.wrap_key(share, &bound).await.map_err(failed)?;
        if self.read_back && holder.only_wraps() {
            warn_not_read_back(keys_side(self.side), holder.uri());
        } else if self.read_back {
            let back = holder.unwrap_key(&wrapped, &bound).await.map_err(failed)?;
            // Both are ours and never leave: there is nothing to time.
            if back.expose() != share.expose() {
                return Err(PrepareError::ReadBack {
                    side: keys_side(self.side),
                    uri: holder.uri().clone(),
                });
            }
        }
        let binding = schedule::ShareBinding::new(&self.pair_id, self.context);
        ShareSlot::new(
            holder.uri().as_str(),
            format_algorithm(wrapped.algorithm()),
            wrapped.bytes().to_vec(),
            schedule::share_check(share.expose(), binding.aad(self.side)),
            wrapped.key_version().map(str::to_owned),
        )
        .map_err(|source| PrepareError::HolderAnswer { uri: holder.uri().clone(), source })
    }
}

/// Who named an exported public key has chosen this, and should still know.
fn warn_not_read_back(side: twinlock_keys::Side, uri: &KeyUri) {
    tracing::warn!(
        key = %uri,
        "the {side} share was not read back: only a public key is here; make sure that its \
         private key opens what is encrypted with it"
    );
}

/// Why one holder gave no usable share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareFailure {
    /// The holder refused or failed.
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// The share that it returned is of another context, side or pair.
    #[error("it returned a share that is not the one this keyslot was made with")]
    WrongShare,
}

/// Why a keyslot that we have both holders for did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyslotFailure {
    /// One or both shares could not be had.
    Shares {
        /// What became of the provider's, if it failed.
        provider: Option<ShareFailure>,
        /// What became of the customer's, if it failed.
        customer: Option<ShareFailure>,
    },
    /// Both shares are right, and the wrapped DEK does not open with them.
    WrappedDek,
}

/// Asks both holders for their share of `keyslot`, side by side, and opens the
/// DEK with the two.
pub(crate) async fn open_keyslot(
    keyslot: &PairKeyslot,
    provider: &dyn KeyHolder,
    customer: &dyn KeyHolder,
    envelope_id: &EnvelopeId,
    context: &EncryptionContext,
) -> Result<Secret<32>, KeyslotFailure> {
    let opened = open_keyslot_through(None, keyslot, provider, customer, envelope_id, context);
    opened.await.map(|(dek, _)| dek)
}

/// As [`open_keyslot`], with the shares that are in `cache`. Also returns the
/// meter for what is decrypted with the DEK.
pub(crate) async fn open_keyslot_through(
    cache: Option<&UnwrapCache>,
    keyslot: &PairKeyslot,
    provider: &dyn KeyHolder,
    customer: &dyn KeyHolder,
    envelope_id: &EnvelopeId,
    context: &EncryptionContext,
) -> Result<(Secret<32>, Meter), KeyslotFailure> {
    let pair = keyslot.pair();
    let (provider_share, customer_share) = join(
        share_through(cache, pair, Side::Provider, provider, context),
        share_through(cache, pair, Side::Customer, customer, context),
    )
    .await;
    match (provider_share, customer_share) {
        (Ok((provider, provider_use)), Ok((customer, customer_use))) => {
            let kek = schedule::kek(provider.expose(), customer.expose(), envelope_id, pair);
            let dek = schedule::unwrap_dek(&kek, envelope_id, keyslot.wrapped_dek())
                .map_err(|_| KeyslotFailure::WrappedDek)?;
            Ok((Secret::copy_of(&dek), Meter::from_iter([provider_use, customer_use])))
        }
        (provider, customer) => {
            Err(KeyslotFailure::Shares { provider: provider.err(), customer: customer.err() })
        }
    }
}

async fn share_through(
    cache: Option<&UnwrapCache>,
    pair: &WrappedPair,
    side: Side,
    holder: &dyn KeyHolder,
    context: &EncryptionContext,
) -> Result<(Share, Counter), ShareFailure> {
    let verified = unwrap_share(pair, side, holder, context);
    match cache {
        None => Ok((verified.await?, Counter::default())),
        Some(cache) => {
            let slot = pair.share(side);
            let key = CacheKey::new(side, holder.uri(), pair.pair_id(), slot, context);
            cache.share(key, verified).await
        }
    }
}

async fn unwrap_share(
    pair: &WrappedPair,
    side: Side,
    holder: &dyn KeyHolder,
    context: &EncryptionContext,
) -> Result<Share, ShareFailure> {
    let share = ask_to_unwrap(pair, side, holder, context).await?;
    let binding = schedule::ShareBinding::new(&pair.pair_id(), context);
    schedule::verify_share_check(share.expose(), binding.aad(side), pair.share(side).check())
        .map_err(|_| ShareFailure::WrongShare)?;
    Ok(share)
}

/// Has `holder` unwrap the share of `side`, whoever's it is.
pub(crate) async fn ask_to_unwrap(
    pair: &WrappedPair,
    side: Side,
    holder: &dyn KeyHolder,
    context: &EncryptionContext,
) -> Result<Share, HolderError> {
    let slot = pair.share(side);
    let algorithm = keys_algorithm(slot.algorithm())
        .expect("keyslots with other algorithms are not among the supported ones");
    let mut wrapped = WrappedShare::new(algorithm, slot.wrapped().to_vec());
    if let Some(version) = slot.key_version() {
        wrapped = wrapped.with_key_version(version);
    }
    holder.unwrap_key(&wrapped, &wrap_context(side, pair.pair_id(), context)).await
}

fn wrap_context(side: Side, pair_id: PairId, context: &EncryptionContext) -> WrapContext {
    let binding = schedule::ShareBinding::new(&pair_id, context);
    let pairs = context.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    WrapContext::new(
        keys_side(side),
        schedule::aws_share_label(side, &pair_id),
        binding.aad(side).as_bytes().to_vec(),
        pairs,
    )
}

// The format and the holders do not know each other; their words meet here.

pub(crate) fn keys_side(side: Side) -> twinlock_keys::Side {
    match side {
        Side::Provider => twinlock_keys::Side::Provider,
        Side::Customer => twinlock_keys::Side::Customer,
    }
}

fn format_algorithm(algorithm: ShareAlgorithm) -> twinlock_format::ShareAlgorithm {
    match algorithm {
        ShareAlgorithm::HolderAead => twinlock_format::ShareAlgorithm::HolderAead,
        ShareAlgorithm::RsaOaepSha256 => twinlock_format::ShareAlgorithm::RsaOaepSha256,
        ShareAlgorithm::AesKw => twinlock_format::ShareAlgorithm::AesKw,
        _ => twinlock_format::ShareAlgorithm::Unsupported(0),
    }
}

fn keys_algorithm(algorithm: twinlock_format::ShareAlgorithm) -> Option<ShareAlgorithm> {
    match algorithm {
        twinlock_format::ShareAlgorithm::HolderAead => Some(ShareAlgorithm::HolderAead),
        twinlock_format::ShareAlgorithm::RsaOaepSha256 => Some(ShareAlgorithm::RsaOaepSha256),
        twinlock_format::ShareAlgorithm::AesKw => Some(ShareAlgorithm::AesKw),
        _ => None,
    }
}
