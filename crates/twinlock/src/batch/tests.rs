use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join;
use proptest::prelude::*;
use twinlock_format::EncryptionContext;
use twinlock_keys::{
    BoxFuture, CustomerKey, HolderErrorKind, KeyHolder, ProviderKey, Share, WrapContext,
    WrappedShare,
};

use super::*;
use crate::testing::MemoryHolder;
use crate::{Decryptor, read_header};

struct Rig {
    cloud: MemoryHolder,
    token: MemoryHolder,
}

impl Rig {
    fn new() -> Self {
        Self { cloud: MemoryHolder::provider("kek"), token: MemoryHolder::customer("kek") }
    }

    fn keys(&self) -> (ProviderKey, CustomerKey) {
        let provider = ProviderKey::new(self.cloud.clone()).unwrap();
        (provider, CustomerKey::new(self.token.clone()).unwrap())
    }

    fn batch(&self, limits: PairLimits) -> Batch {
        let (provider, customer) = self.keys();
        Encryptor::builder(provider, customer).batch(limits).unwrap()
    }

    /// Wraps and unwraps, the same at both holders.
    fn calls(&self) -> (usize, usize) {
        let calls = (self.cloud.wrap_calls(), self.cloud.unwrap_calls());
        assert_eq!(calls, (self.token.wrap_calls(), self.token.unwrap_calls()));
        calls
    }

    fn opens(&self, envelope: &[u8]) -> Vec<u8> {
        let (provider, customer) = self.keys();
        let decryptor = Decryptor::expecting(EncryptionContext::new());
        let decryptor = decryptor.provider(provider).customer(customer);
        now(decryptor.decrypt_slice(envelope)).unwrap()
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("holders in memory answer at once")
}

fn pair_of(envelope: &[u8]) -> String {
    let header = read_header(&mut &envelope[..]).unwrap();
    let keyslot = header.header().supported_keyslots().next().unwrap();
    keyslot.pair().pair_id().to_string()
}

#[test]
fn a_batch_is_one_wrap_and_one_read_back_and_every_envelope_is_its_own() {
    let rig = Rig::new();
    let batch = rig.batch(PairLimits::default());
    assert_eq!(rig.calls(), (0, 0), "nobody is asked before there is something to encrypt");
    let envelopes: Vec<Vec<u8>> =
        (0..100u8).map(|n| now(batch.encryptor()).unwrap().encrypt_slice(&[n]).unwrap()).collect();
    assert_eq!(rig.calls(), (1, 1));

    let headers: Vec<_> = envelopes.iter().map(|e| read_header(&mut &e[..]).unwrap()).collect();
    let ids: BTreeSet<_> = headers.iter().map(|h| h.header().envelope_id()).collect();
    let deks: BTreeSet<_> = headers
        .iter()
        .map(|h| *h.header().supported_keyslots().next().unwrap().wrapped_dek())
        .collect();
    let pairs: BTreeSet<_> = envelopes.iter().map(|e| pair_of(e)).collect();
    assert_eq!((ids.len(), deks.len(), pairs.len()), (100, 100, 1));
    for (n, envelope) in (0u8..).zip(&envelopes) {
        assert_eq!(rig.opens(envelope), [n]);
    }
}

proptest! {
    #[test]
    fn a_pair_serves_no_more_envelopes_than_its_bound(files in 1usize..40, bound in 0u64..12) {
        let rig = Rig::new();
        let batch = rig.batch(PairLimits::default().envelopes(bound));
        for _ in 0..files {
            now(batch.encryptor()).unwrap();
        }
        let pairs = files.div_ceil(usize::try_from(bound.max(1)).unwrap());
        prop_assert_eq!(rig.calls(), (pairs, pairs));
    }

    #[test]
    fn no_envelope_begins_once_a_pair_has_sealed_its_bytes(
        lens in prop::collection::vec(0usize..2_000, 1..20),
        bound in 1u64..4_000,
    ) {
        let rig = Rig::new();
        let batch = rig.batch(PairLimits::default().bytes(bound));
        let (mut pairs, mut sealed) = (0, bound);
        for len in lens {
            if sealed >= bound {
                (pairs, sealed) = (pairs + 1, 0);
            }
            let mut writer = now(batch.encryptor()).unwrap().writer(Vec::new()).unwrap();
            writer.write_all(&vec![7; len]).unwrap();
            writer.finish().unwrap();
            sealed += len as u64;
            prop_assert_eq!(rig.calls(), (pairs, pairs));
        }
    }
}

#[test]
fn a_pair_is_not_used_beyond_its_age() {
    let rig = Rig::new();
    let batch = rig.batch(PairLimits::default().age(Duration::ZERO));
    for n in 1..=3 {
        now(batch.encryptor()).unwrap();
        assert_eq!(rig.calls(), (n, n));
    }
}

#[test]
fn all_keyslots_of_a_batch_are_renewed_together() {
    let (rig, recovery) = (Rig::new(), Rig::new());
    let ((provider, customer), _) = (rig.keys(), ());
    let other = CustomerKey::new(MemoryHolder::customer("recovery")).unwrap();
    let (other_provider, _) = recovery.keys();
    let builder = Encryptor::builder(provider, customer).keyslot(other_provider, other);
    let batch = builder.batch(PairLimits::default().envelopes(2)).unwrap();
    for _ in 0..4 {
        now(batch.encryptor()).unwrap();
    }
    assert_eq!((rig.calls(), recovery.cloud.wrap_calls()), ((2, 2), 2));
}

#[test]
fn a_failed_renewal_is_an_error_and_the_next_call_asks_again() {
    let rig = Rig::new();
    let batch = rig.batch(PairLimits::default().envelopes(1));
    let before = now(batch.encryptor()).unwrap().encrypt_slice(b"before").unwrap();
    rig.token.fail_with(Some(HolderErrorKind::TimedOut));
    for _ in 0..2 {
        let error = now(batch.encryptor()).err().unwrap();
        assert!(matches!(error, PrepareError::Holder { side: Side::Customer, .. }), "{error}");
    }
    assert_eq!(rig.token.wrap_calls(), 3, "a failure is asked about again");
    rig.token.fail_with(None);
    let after = now(batch.encryptor()).unwrap().encrypt_slice(b"after").unwrap();
    assert_eq!((rig.opens(&before), rig.opens(&after)), (b"before".to_vec(), b"after".to_vec()));
    assert_ne!(pair_of(&before), pair_of(&after));
}

#[test]
fn settings_that_do_not_fit_are_refused_before_any_holder_is_asked() {
    let rig = Rig::new();
    let (provider, customer) = rig.keys();
    let builder = Encryptor::builder(provider, customer).segment_len(5);
    assert!(matches!(builder.batch(PairLimits::default()), Err(PrepareError::SegmentLen(5))));
    assert_eq!(rig.calls(), (0, 0));
}

#[tokio::test]
async fn who_comes_while_a_pair_is_made_waits_for_it() {
    let rig = Rig::new();
    let provider = ProviderKey::new(Slow(rig.cloud.clone())).unwrap();
    let builder = Encryptor::builder(provider, rig.keys().1);
    let batch = builder.batch(PairLimits::default()).unwrap();

    rig.cloud.fail_with(Some(HolderErrorKind::TimedOut));
    let (one, two) = join(batch.encryptor(), batch.encryptor()).await;
    assert!(one.is_err() && two.is_err());
    assert_eq!(rig.cloud.wrap_calls(), 1, "the second took the first one's failure");

    rig.cloud.fail_with(None);
    let (one, two) = join(batch.encryptor(), batch.encryptor()).await;
    assert!(one.is_ok() && two.is_ok());
    assert_eq!((rig.cloud.wrap_calls(), rig.cloud.unwrap_calls()), (2, 1));
}

/// A holder that takes a while to answer.
pub(crate) struct Slow(pub(crate) MemoryHolder);

impl KeyHolder for Slow {
    fn uri(&self) -> &KeyUri {
        self.0.uri()
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.0.wrap_key(share, context).await
        })
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.0.unwrap_key(wrapped, context).await
        })
    }
}
