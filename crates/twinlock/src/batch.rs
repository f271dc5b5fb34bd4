//! Many envelopes under one share pair.

use std::sync::Arc;
use std::time::Instant;

use twinlock_keys::{HolderError, KeyUri, Side};

use crate::encrypt::{Encryptor, PrepareError, Recipe};
use crate::flight::{Flight, State};
use crate::limits::{PairLimits, Usage};
use crate::payload::Meter;
use crate::shares::NewPair;

/// Makes encryptors that share one pair per keyslot, so that a folder of ten
/// thousand files costs each holder one wrap and one read-back instead of ten
/// thousand.
///
/// All envelopes have the same keyslots and the same encryption context; each
/// has an id, a DEK and a KEK of its own. When a bound of [`PairLimits`] is
/// reached, the next encryptor gets a new pair.
///
/// **What this costs:** whoever obtains the two shares of a pair once opens
/// *every* envelope of it, and the provider's log shows *one* line for them
/// all. Where each file is to be an event of its own in that log, or has a
/// context of its own, prepare each by itself.
///
/// The shares lie in locked memory until the next pair replaces them or this is
/// dropped, so drop it when the work is done.
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// use twinlock::{CustomerKey, Encryptor, FileKek, KeyUri, PairLimits, ProviderKey};
/// # let folder = tempfile::tempdir()?;
/// # let kek = |name| KeyUri::parse(&format!("file://{}/{name}", folder.path().display()));
/// # let (ours, theirs) = (kek("provider.kek")?, kek("customer.kek")?);
/// # FileKek::create(&ours)?;
/// # FileKek::create(&theirs)?;
/// # let provider = ProviderKey::new(FileKek::open(&ours)?)?;
/// # let customer = CustomerKey::new(FileKek::open(&theirs)?)?;
///
/// let batch = Encryptor::builder(provider, customer).batch(PairLimits::default())?;
/// for letter in ["one", "two", "three"] {
///     // Only the first asks the holders.
///     let envelope = batch.encryptor().await?.encrypt_slice(letter.as_bytes())?;
///     # assert!(envelope.starts_with(b"TWINLOCK"));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Batch {
    recipe: Recipe,
    limits: PairLimits,
    pairs: Flight<Pairs, HolderFailure>,
}

/// A pair for each keyslot.
struct Pairs {
    pairs: Arc<[NewPair]>,
    usage: Usage,
}

impl Batch {
    pub(crate) fn new(recipe: Recipe, limits: PairLimits) -> Self {
        Self { recipe, limits, pairs: Flight::new() }
    }

    /// An encryptor for one envelope more. The first one and each that follows
    /// a bound ask the holders, as
    /// [`prepare`](crate::EncryptorBuilder::prepare) does; those who come
    /// meanwhile wait for the answer.
    ///
    /// # Errors
    /// When a holder fails or its key is of no use here. The next call asks
    /// again.
    pub async fn encryptor(&self) -> Result<Encryptor, PrepareError> {
        // Several at a time: only the pairs are waited for.
        let (pairs, meter) = self.begin_envelope().await?;
        self.recipe.encryptor(&pairs, meter)
    }

    /// The pairs for one envelope more, and the meter for its plaintext.
    async fn begin_envelope(&self) -> Result<(Arc<[NewPair]>, Meter), PrepareError> {
        let mut turn = self.pairs.turn().await?;
        let now = Instant::now();
        if !turn.value.as_ref().is_some_and(|pairs| pairs.usage.is_within(&self.limits, now)) {
            turn.value = None; // let go before there is another
            turn.value = Some(self.new_pairs(now, &mut turn).await?);
        }
        let Pairs { pairs, usage } = turn.value.as_mut().expect("made above");
        Ok((Arc::clone(pairs), Meter::from_iter([usage.begin_envelope()])))
    }

    /// [`Batch::encryptor`] for callers without an async runtime: it runs one
    /// of its own and waits.
    ///
    /// # Errors
    /// As [`Batch::encryptor`].
    ///
    /// # Panics
    /// When called from inside an async runtime.
    #[cfg(feature = "blocking")]
    pub fn encryptor_blocking(&self) -> Result<Encryptor, PrepareError> {
        crate::blocking::wait_for(self.encryptor())?
    }

    async fn new_pairs(
        &self,
        now: Instant,
        turn: &mut State<Pairs, HolderFailure>,
    ) -> Result<Pairs, PrepareError> {
        match self.recipe.new_pairs().await {
            Ok(pairs) => Ok(Pairs { pairs: pairs.into(), usage: Usage::since(now) }),
            Err(error) => {
                if let Some(failure) = HolderFailure::of(&error) {
                    self.pairs.fail(turn, failure);
                }
                Err(error)
            }
        }
    }
}

/// The failure that can take a deadline to come, for those who waited too.
#[derive(Clone)]
struct HolderFailure {
    side: Side,
    uri: KeyUri,
    source: HolderError,
}

impl HolderFailure {
    fn of(error: &PrepareError) -> Option<Self> {
        match error {
            PrepareError::Holder { side, uri, source } => {
                Some(Self { side: *side, uri: uri.clone(), source: source.clone() })
            }
            _ => None,
        }
    }
}

impl From<HolderFailure> for PrepareError {
    fn from(HolderFailure { side, uri, source }: HolderFailure) -> Self {
        Self::Holder { side, uri, source }
    }
}

#[cfg(test)]
pub(crate) mod tests;
