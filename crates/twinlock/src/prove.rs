//! Evidence that neither holder alone opens a file: by trying.

use twinlock_format::{PairKeyslot, Side, UnverifiedHeader, schedule};
use twinlock_keys::{HolderAnswer, HolderErrorKind, KeyHolder, KeyUri, Share};

use crate::Decryptor;
use crate::decrypt::Attempt;
use crate::shares::{ask_to_unwrap, keys_side};

/// Which holders try to open the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holders {
    /// The provider, with its key and the file.
    ProviderAlone,
    /// The customer, with their key and the file.
    CustomerAlone,
    /// Both together.
    Both,
}

/// One call to a holder, and what it answered.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Call {
    /// Whose holder was asked.
    pub holder: twinlock_keys::Side,
    /// Which key.
    pub uri: KeyUri,
    /// Whose wrapped share it was given.
    pub share: twinlock_keys::Side,
    /// What came of it.
    pub outcome: CallOutcome,
    /// The holder's own words, where it gave any.
    pub answer: Option<HolderAnswer>,
}

/// What a holder did with a wrapped share.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallOutcome {
    /// It unwrapped it.
    Unwrapped,
    /// It refused or failed.
    Refused {
        /// In which way.
        kind: HolderErrorKind,
        /// In words.
        message: String,
    },
}

/// An attempt to open the file with what some holders give.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProofAttempt {
    /// Who tried.
    pub holders: Holders,
    /// The calls that were made, in order.
    pub calls: Vec<Call>,
    /// How many KEKs could be computed from what was obtained. Each was tried
    /// on the wrapped DEK.
    pub keks_tried: usize,
    /// True if one of them opened the DEK, and the DEK verified the header.
    pub opened: bool,
}

/// What was tried on one keyslot.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The keyslot's place in the header, counted from 0.
    pub keyslot: usize,
    /// The provider alone, the customer alone, both.
    pub attempts: [ProofAttempt; 3],
}

impl ProofAttempt {
    /// True if this went as two keys with two holders promise: alone, a holder
    /// unwraps its own share, refuses the other's as foreign, and the file
    /// stays closed; together they open it.
    ///
    /// A holder that could not be asked proves nothing, so that is not as
    /// expected either.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let calls_fit = self.calls.iter().all(|call| match &call.outcome {
            CallOutcome::Unwrapped => call.holder == call.share,
            CallOutcome::Refused { kind, .. } => {
                call.holder != call.share && *kind == HolderErrorKind::InvalidCiphertext
            }
        });
        calls_fit && self.opened == (self.holders == Holders::Both)
    }
}

impl Proof {
    /// True if every attempt went as expected.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.attempts.iter().all(ProofAttempt::is_as_expected)
    }
}

impl Decryptor {
    /// Tries to open `header` with the provider alone, with the customer alone
    /// and with both, on every keyslot that holders given here serve; any
    /// keyslot opens the file, so those that they do not serve stay unproven, and
    /// those of a holder that [only wraps](KeyHolder::only_wraps).
    /// It expects no context: who proves wants to see what opens, not whether
    /// the file is the right one.
    ///
    /// Each attempt makes real calls: each holder is asked to unwrap *both*
    /// shares of the keyslot, and then every KEK that can be computed from what
    /// was obtained (in either place, and with an all-zero share in place of a
    /// missing one) is tried on the wrapped DEK. One proof for each keyslot, in
    /// the header's order; none when no keyslot names holders given here.
    pub async fn prove(&self, header: &UnverifiedHeader) -> Vec<Proof> {
        let mut attempts = self.attempts(header.header());
        attempts.retain(|it| !it.provider.only_wraps() && !it.customer.only_wraps());
        let mut proofs = Vec::new();
        for (keyslot, slot) in header.header().keyslots().iter().enumerate() {
            let pair_id = slot.as_pair().map(|slot| slot.pair().pair_id());
            let served =
                attempts.iter().find(|attempt| Some(attempt.keyslot.pair().pair_id()) == pair_id);
            if let Some(attempt) = served {
                proofs.push(Proof { keyslot, attempts: prove_keyslot(header, attempt).await });
            }
        }
        proofs
    }
}

async fn prove_keyslot(header: &UnverifiedHeader, served: &Attempt<'_>) -> [ProofAttempt; 3] {
    let asks = Asks { header, slot: served.keyslot };
    let provider = (Side::Provider, served.provider);
    let customer = (Side::Customer, served.customer);
    [
        asks.attempt(Holders::ProviderAlone, &[provider]).await,
        asks.attempt(Holders::CustomerAlone, &[customer]).await,
        asks.attempt(Holders::Both, &[provider, customer]).await,
    ]
}

struct Asks<'a> {
    header: &'a UnverifiedHeader,
    slot: &'a PairKeyslot,
}

impl Asks<'_> {
    async fn attempt(&self, who: Holders, holders: &[(Side, &dyn KeyHolder)]) -> ProofAttempt {
        let mut calls = Vec::new();
        let mut shares = vec![Share::copy_of(&[0; 32])];
        for &(side, holder) in holders {
            for share in [Side::Provider, Side::Customer] {
                let (call, obtained) = self.call(side, holder, share).await;
                calls.push(call);
                shares.extend(obtained);
            }
        }
        let (keks_tried, opened) = self.try_all(&shares);
        ProofAttempt { holders: who, calls, keks_tried, opened }
    }

    async fn call(&self, side: Side, holder: &dyn KeyHolder, share: Side) -> (Call, Option<Share>) {
        let context = self.header.header().context();
        let result = ask_to_unwrap(self.slot.pair(), share, holder, context).await;
        let (outcome, answer, obtained) = match result {
            Ok(share) => (CallOutcome::Unwrapped, share.answer().cloned(), Some(share)),
            Err(error) => {
                let (kind, message) = (error.kind(), error.to_string());
                (CallOutcome::Refused { kind, message }, error.answer().cloned(), None)
            }
        };
        let uri = holder.uri().clone();
        let call = Call { holder: keys_side(side), uri, share: keys_side(share), outcome, answer };
        (call, obtained)
    }

    /// Tries every ordered pair of `shares` as provider's and customer's.
    fn try_all(&self, shares: &[Share]) -> (usize, bool) {
        let pairs = shares
            .iter()
            .flat_map(|provider| shares.iter().map(move |customer| (provider, customer)));
        let (mut tried, mut opened) = (0, false);
        for (provider, customer) in pairs {
            tried += 1;
            opened |= self.opens(provider, customer);
        }
        (tried, opened)
    }

    fn opens(&self, provider: &Share, customer: &Share) -> bool {
        let envelope_id = self.header.header().envelope_id();
        let kek =
            schedule::kek(provider.expose(), customer.expose(), &envelope_id, self.slot.pair());
        schedule::unwrap_dek(&kek, &envelope_id, self.slot.wrapped_dek()).is_ok_and(|dek| {
            let key = schedule::header_key(&dek, &envelope_id);
            self.header.clone().verify(&key).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use twinlock_keys::{
        BoxFuture, CustomerKey, HolderError, ProviderKey, WrapContext, WrappedShare,
    };

    use super::*;
    use crate::testing::MemoryHolder;
    use crate::{Encryptor, read_header};

    async fn envelope(provider: &MemoryHolder, customer: &MemoryHolder) -> UnverifiedHeader {
        let provider = ProviderKey::new(provider.clone()).unwrap();
        let customer = CustomerKey::new(customer.clone()).unwrap();
        let encryptor = Encryptor::builder(provider, customer).prepare().await.unwrap();
        let envelope = encryptor.encrypt_slice(b"secret").unwrap();
        read_header(&mut envelope.as_slice()).unwrap()
    }

    async fn proof(
        header: &UnverifiedHeader,
        provider: impl KeyHolder + 'static,
        customer: impl KeyHolder + 'static,
    ) -> Proof {
        let decryptor = Decryptor::any_context()
            .provider(ProviderKey::new(provider).unwrap())
            .customer(CustomerKey::new(customer).unwrap());
        let mut proofs = decryptor.prove(header).await;
        assert_eq!(proofs.len(), 1, "the file has one keyslot, and its holders are here");
        proofs.remove(0)
    }

    #[tokio::test]
    async fn two_holders_open_together_and_neither_alone() {
        let (provider, customer) = (MemoryHolder::provider("p"), MemoryHolder::customer("c"));
        let header = envelope(&provider, &customer).await;
        let proof = proof(&header, provider.clone(), customer.clone()).await;
        assert!(proof.is_as_expected());
        let opened = proof.attempts.each_ref().map(|attempt| attempt.opened);
        assert_eq!(opened, [false, false, true]);
        // One share obtained and one of zeros: four ordered pairs; with both, nine.
        let tried = proof.attempts.each_ref().map(|attempt| attempt.keks_tried);
        assert_eq!(tried, [4, 4, 9]);
        // Each was asked for both shares, alone and together, and once before to read back.
        assert_eq!((provider.unwrap_calls(), customer.unwrap_calls()), (5, 5));
    }

    /// A provider that can also use the customer's key: what two holders are
    /// there to prevent.
    struct Colluding(MemoryHolder, MemoryHolder);

    impl KeyHolder for Colluding {
        fn uri(&self) -> &KeyUri {
            self.0.uri()
        }

        fn wrap_key<'a>(
            &'a self,
            share: &'a Share,
            context: &'a WrapContext,
        ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
            self.0.wrap_key(share, context)
        }

        fn unwrap_key<'a>(
            &'a self,
            wrapped: &'a WrappedShare,
            context: &'a WrapContext,
        ) -> BoxFuture<'a, Result<Share, HolderError>> {
            Box::pin(async move {
                match self.0.unwrap_key(wrapped, context).await {
                    Ok(share) => Ok(share),
                    Err(_) => self.1.unwrap_key(wrapped, context).await,
                }
            })
        }
    }

    #[tokio::test]
    async fn a_provider_that_can_use_the_customers_key_is_found_out() {
        let (provider, customer) = (MemoryHolder::provider("p"), MemoryHolder::customer("c"));
        let header = envelope(&provider, &customer).await;
        let colluding = Colluding(provider, customer.clone());
        let proof = proof(&header, colluding, customer).await;
        assert!(!proof.is_as_expected());
        assert!(proof.attempts[0].opened, "the provider alone has both shares");
        assert!(!proof.attempts[1].opened);
    }

    #[tokio::test]
    async fn every_keyslot_that_is_served_is_tried() {
        let [p, q] = ["p", "q"].map(MemoryHolder::provider);
        let [c, d] = ["c", "d"].map(MemoryHolder::customer);
        let provider = |holder: &MemoryHolder| ProviderKey::new(holder.clone()).unwrap();
        let customer = |holder: &MemoryHolder| CustomerKey::new(holder.clone()).unwrap();
        let builder = Encryptor::builder(provider(&p), customer(&c));
        let builder = builder.keyslot(provider(&q), customer(&d));
        let envelope = builder.prepare().await.unwrap().encrypt_slice(b"secret").unwrap();
        let header = read_header(&mut envelope.as_slice()).unwrap();

        let one = Decryptor::any_context().provider(provider(&q)).customer(customer(&d));
        let both = one.clone().provider(provider(&p)).customer(customer(&c));
        for (decryptor, expected) in [(one, vec![1]), (both, vec![0, 1])] {
            let proofs = decryptor.prove(&header).await;
            let tried: Vec<usize> = proofs.iter().map(|proof| proof.keyslot).collect();
            assert_eq!(tried, expected);
            assert!(proofs.iter().all(Proof::is_as_expected));
        }
        assert!(Decryptor::any_context().prove(&header).await.is_empty());
    }

    #[tokio::test]
    async fn a_holder_that_cannot_be_asked_proves_nothing() {
        let (provider, customer) = (MemoryHolder::provider("p"), MemoryHolder::customer("c"));
        let header = envelope(&provider, &customer).await;
        for fault in
            [HolderErrorKind::TimedOut, HolderErrorKind::Denied, HolderErrorKind::InvalidCiphertext]
        {
            customer.fail_with(Some(fault));
            let proof = proof(&header, provider.clone(), customer.clone()).await;
            assert!(!proof.is_as_expected(), "{fault:?}");
            assert!(proof.attempts.iter().all(|attempt| !attempt.opened));
        }
    }
}
