//! Evidence that neither holder alone opens a file: by trying.

use twinlock_format::{Header, PairKeyslot, Side, UnverifiedHeader, schedule};
use twinlock_keys::{
    CustomerKey, HolderAnswer, HolderErrorKind, KeyHolder, KeyUri, ProviderKey, Share,
};

use crate::shares::{ask_to_unwrap, keys_side};

/// Who tries to open the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
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
    pub party: Party,
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
        calls_fit && self.opened == (self.party == Party::Both)
    }
}

impl Proof {
    /// True if every attempt went as expected.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.attempts.iter().all(ProofAttempt::is_as_expected)
    }
}

/// Tries to open `header` with the provider alone, with the customer alone and
/// with both, on the first keyslot that both serve.
///
/// Each attempt makes real calls: each holder is asked to unwrap *both* shares
/// of the keyslot, and then every KEK that can be computed from what was
/// obtained (in either place, and with an all-zero share in place of a missing
/// one) is tried on the wrapped DEK. `None` when no keyslot names both.
pub async fn prove(
    header: &UnverifiedHeader,
    provider: &ProviderKey,
    customer: &CustomerKey,
) -> Option<Proof> {
    let (keyslot, slot) = find_keyslot(header.header(), provider.holder(), customer.holder())?;
    let asks = Asks { header, slot };
    let provider = (Side::Provider, provider.holder());
    let customer = (Side::Customer, customer.holder());
    let attempts = [
        asks.attempt(Party::ProviderAlone, &[provider]).await,
        asks.attempt(Party::CustomerAlone, &[customer]).await,
        asks.attempt(Party::Both, &[provider, customer]).await,
    ];
    Some(Proof { keyslot, attempts })
}

fn find_keyslot<'a>(
    header: &'a Header,
    provider: &dyn KeyHolder,
    customer: &dyn KeyHolder,
) -> Option<(usize, &'a PairKeyslot)> {
    let names = |uri: &str, holder: &dyn KeyHolder| {
        KeyUri::parse(uri).is_ok_and(|uri| uri.same_key(holder.uri()))
    };
    let slots = header.keyslots().iter().enumerate();
    slots.filter_map(|(index, slot)| Some((index, slot.as_pair()?))).find(|(_, slot)| {
        slot.is_supported()
            && names(slot.pair().provider().uri(), provider)
            && names(slot.pair().customer().uri(), customer)
    })
}

struct Asks<'a> {
    header: &'a UnverifiedHeader,
    slot: &'a PairKeyslot,
}

impl Asks<'_> {
    async fn attempt(&self, party: Party, holders: &[(Side, &dyn KeyHolder)]) -> ProofAttempt {
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
        ProofAttempt { party, calls, keks_tried, opened }
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
