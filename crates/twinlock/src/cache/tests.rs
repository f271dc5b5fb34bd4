use std::io::Read as _;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join;
use proptest::prelude::*;
use twinlock_format::{EnvelopeId, Header, Keyslot, Padding, UnverifiedHeader, schedule};
use twinlock_keys::{CustomerKey, HolderErrorKind, KeyHolder as _, ProviderKey, Secret};

use super::*;
use crate::batch::tests::Slow;
use crate::shares::NewPair;
use crate::testing::MemoryHolder;
use crate::{Decryptor, Encryptor, OpenErrorKind, read_header};

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

    fn batch(&self, number: usize) -> Vec<Vec<u8>> {
        self.batch_in(number, &EncryptionContext::new())
    }

    fn batch_in(&self, number: usize, context: &EncryptionContext) -> Vec<Vec<u8>> {
        let (provider, customer) = self.keys();
        let builder = Encryptor::builder(provider, customer).context(context.clone());
        let batch = builder.batch(PairLimits::default()).unwrap();
        let envelope = |_| now(batch.encryptor()).unwrap().encrypt_slice(&[7; 1_000]).unwrap();
        (0..number).map(envelope).collect()
    }

    fn decryptor(&self, cache: &Arc<UnwrapCache>) -> Decryptor {
        let (provider, customer) = self.keys();
        let decryptor = Decryptor::any_context().cache(Arc::clone(cache));
        decryptor.provider(provider).customer(customer)
    }

    /// Unwraps since the last time, the same at both holders.
    fn unwraps(&self, work: impl FnOnce()) -> usize {
        let before = (self.cloud.unwrap_calls(), self.token.unwrap_calls());
        work();
        let calls = self.cloud.unwrap_calls() - before.0;
        assert_eq!(calls, self.token.unwrap_calls() - before.1);
        calls
    }
}

fn cache(limits: PairLimits) -> Arc<UnwrapCache> {
    Arc::new(UnwrapCache::new(limits))
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("holders in memory answer at once")
}

#[test]
fn a_batch_is_one_unwrap_at_each_holder_and_without_a_cache_one_for_each_envelope() {
    let rig = Rig::new();
    let envelopes = rig.batch(50);
    let open_all = |decryptor: &Decryptor| {
        for envelope in &envelopes {
            assert_eq!(now(decryptor.decrypt_slice(envelope)).unwrap(), [7; 1_000]);
        }
    };
    let with = rig.decryptor(&cache(PairLimits::default()));
    assert_eq!(rig.unwraps(|| open_all(&with)), 1);
    let (provider, customer) = rig.keys();
    let without = Decryptor::any_context().provider(provider).customer(customer);
    assert_eq!(rig.unwraps(|| open_all(&without)), 50);
}

proptest! {
    #[test]
    fn a_share_opens_no_more_envelopes_than_its_bound(files in 1usize..30, bound in 0u64..12) {
        let rig = Rig::new();
        let envelopes = rig.batch(files);
        let decryptor = rig.decryptor(&cache(PairLimits::default().envelopes(bound)));
        let unwraps = rig.unwraps(|| {
            for envelope in &envelopes {
                now(decryptor.decrypt_slice(envelope)).unwrap();
            }
        });
        prop_assert_eq!(unwraps, files.div_ceil(usize::try_from(bound.max(1)).unwrap()));
    }
}

#[test]
fn a_share_is_not_used_once_its_bytes_were_decrypted() {
    let rig = Rig::new();
    let envelope = rig.batch(1).remove(0);
    let decryptor = rig.decryptor(&cache(PairLimits::default().bytes(2_000)));
    let open = || now(decryptor.open(read_header(&mut &envelope[..]).unwrap())).unwrap();
    let start = read_header(&mut &envelope[..]).unwrap().as_bytes().len();
    assert_eq!(rig.unwraps(|| (0..5).for_each(|_| _ = open())), 1, "nothing was read yet");
    let stream = || _ = open().reader(&envelope[start..]).unwrap().read_to_end(&mut vec![]);
    let seek = || {
        let mut reader = open().seek_reader(std::io::Cursor::new(&envelope)).unwrap();
        assert_eq!(reader.read_to_end(&mut vec![]).unwrap(), 1_000);
    };
    assert_eq!(rig.unwraps(stream), 0);
    assert_eq!(rig.unwraps(seek), 0);
    assert_eq!(rig.unwraps(stream), 1);
}

#[test]
fn a_share_is_not_used_beyond_its_age() {
    let rig = Rig::new();
    let envelope = rig.batch(1).remove(0);
    let decryptor = rig.decryptor(&cache(PairLimits::default().age(Duration::ZERO)));
    let twice = || (0..2).for_each(|_| _ = now(decryptor.decrypt_slice(&envelope)).unwrap());
    assert_eq!(rig.unwraps(twice), 2);
}

#[test]
fn what_was_cleared_is_asked_for_again() {
    let rig = Rig::new();
    let envelope = rig.batch(1).remove(0);
    let cache = cache(PairLimits::default());
    let decryptor = rig.decryptor(&cache);
    let open = || _ = now(decryptor.decrypt_slice(&envelope)).unwrap();
    assert_eq!(rig.unwraps(open), 1);
    cache.clear();
    assert_eq!((rig.unwraps(open), rig.unwraps(open)), (1, 0));
}

#[test]
fn a_failure_is_not_kept_and_a_kept_share_outlives_one() {
    let rig = Rig::new();
    let [early, late] = [rig.batch(1).remove(0), rig.batch(1).remove(0)];
    let decryptor = rig.decryptor(&cache(PairLimits::default()));
    now(decryptor.decrypt_slice(&early)).unwrap();
    rig.cloud.fail_with(Some(HolderErrorKind::Denied));
    now(decryptor.decrypt_slice(&early)).unwrap();
    for _ in 0..2 {
        let asked = rig.cloud.unwrap_calls();
        now(decryptor.decrypt_slice(&late)).unwrap_err();
        assert_eq!(rig.cloud.unwrap_calls(), asked + 1);
    }
    rig.cloud.fail_with(None);
    now(decryptor.decrypt_slice(&late)).unwrap();
}

#[test]
fn a_share_that_fails_its_check_is_not_kept() {
    let rig = Rig::new();
    let (provider, customer) = rig.keys();
    let context = EncryptionContext::new();
    let pair = now(NewPair::make(&provider, &customer, &context, true)).unwrap();
    let good = envelope_header(&pair, &context);
    // The same wrapped shares with the check of another one: it is another key
    // of the cache, so the kept share cannot vouch for it.
    let check = good.header().supported_keyslots().next().unwrap().pair().provider().check();
    let mut bytes = good.as_bytes().to_vec();
    let at = bytes.windows(check.len()).position(|window| window == check).unwrap();
    bytes[at] ^= 1;
    let bad = UnverifiedHeader::parse(bytes).unwrap();

    let decryptor = rig.decryptor(&cache(PairLimits::default()));
    now(decryptor.open(good)).unwrap();
    for _ in 0..2 {
        let asked = rig.cloud.unwrap_calls();
        let error = now(decryptor.open(bad.clone())).err().unwrap();
        assert_eq!(error.kind(), OpenErrorKind::NotAuthentic, "{error}");
        assert_eq!(rig.cloud.unwrap_calls(), asked + 1);
    }
}

#[test]
fn a_pair_of_another_context_is_never_used() {
    let rig = Rig::new();
    let (provider, customer) = rig.keys();
    let context = |tenant| EncryptionContext::from_pairs([("tenant", tenant)]).unwrap();
    let pair = now(NewPair::make(&provider, &customer, &context("a"), true)).unwrap();
    let decryptor = rig.decryptor(&cache(PairLimits::default()));
    now(decryptor.open(envelope_header(&pair, &context("a")))).unwrap();

    // The same pair in a header of another context: though both shares are
    // kept, the holders are asked, and refuse.
    let asked = rig.cloud.unwrap_calls();
    let error = now(decryptor.open(envelope_header(&pair, &context("b")))).err().unwrap();
    assert_eq!(error.kind(), OpenErrorKind::NotAuthentic, "{error}");
    assert_eq!(rig.cloud.unwrap_calls(), asked + 1);

    // And batches of two contexts are two pairs.
    let opened = rig.unwraps(|| {
        for tenant in ["a", "b"] {
            for envelope in rig.batch_in(2, &context(tenant)) {
                now(decryptor.decrypt_slice(&envelope)).unwrap();
            }
        }
    });
    assert_eq!(opened, 2 + 2, "two read-backs, two unwraps");
}

#[test]
fn another_holder_is_asked_even_for_the_same_pair() {
    let rig = Rig::new();
    let envelope = rig.batch(1).remove(0);
    let cache = cache(PairLimits::default());
    now(rig.decryptor(&cache).decrypt_slice(&envelope)).unwrap();
    let elsewhere = MemoryHolder::customer("elsewhere");
    let decryptor = Decryptor::any_context()
        .cache(cache)
        .provider(rig.keys().0)
        .customer(CustomerKey::new(elsewhere.clone()).unwrap())
        .moved(rig.token.uri().clone(), elsewhere.uri().clone());
    now(decryptor.decrypt_slice(&envelope)).unwrap_err();
    assert_eq!(elsewhere.unwrap_calls(), 1);
}

#[test]
fn a_flood_of_pairs_does_not_grow_the_cache_beyond_its_bound() {
    let rig = Rig::new();
    let (provider, customer) = rig.keys();
    let context = EncryptionContext::new();
    let cache = cache(PairLimits::default());
    let decryptor = rig.decryptor(&cache);
    let headers: Vec<UnverifiedHeader> = (0..MAX_ENTRIES / 2 + 1)
        .map(|_| now(NewPair::make(&provider, &customer, &context, false)).unwrap())
        .map(|pair| envelope_header(&pair, &context))
        .collect();
    let open = |header: &UnverifiedHeader| _ = now(decryptor.open(header.clone())).unwrap();
    headers.iter().for_each(open);
    assert_eq!(cache.entries().by_key.len(), MAX_ENTRIES);
    assert_eq!(rig.unwraps(|| open(headers.last().unwrap())), 0);
    assert_eq!(rig.unwraps(|| open(&headers[0])), 1, "the oldest went");
}

#[test]
fn what_reached_its_bound_is_wiped_when_another_share_comes() {
    let rig = Rig::new();
    let cache = cache(PairLimits::default().envelopes(1));
    let decryptor = rig.decryptor(&cache);
    for _ in 0..3 {
        now(decryptor.decrypt_slice(&rig.batch(1)[0])).unwrap();
        assert!(cache.entries().by_key.len() <= 2);
    }
}

#[tokio::test]
async fn who_comes_while_a_share_is_asked_for_waits_for_it() {
    let rig = Rig::new();
    let envelopes = rig.batch(2);
    let provider = ProviderKey::new(Slow(rig.cloud.clone())).unwrap();
    let decryptor = Decryptor::any_context().cache(cache(PairLimits::default()));
    let decryptor = decryptor.provider(provider).customer(rig.keys().1);
    let both = async || {
        join(decryptor.decrypt_slice(&envelopes[0]), decryptor.decrypt_slice(&envelopes[1])).await
    };

    rig.cloud.fail_with(Some(HolderErrorKind::TimedOut));
    let asked = rig.cloud.unwrap_calls();
    let (one, two) = both().await;
    assert!(one.is_err() && two.is_err());
    assert_eq!(rig.cloud.unwrap_calls(), asked + 1, "the second took the first one's failure");

    rig.cloud.fail_with(None);
    let (one, two) = both().await;
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(rig.cloud.unwrap_calls(), asked + 2);
}

/// The header of an envelope without a payload.
fn envelope_header(pair: &NewPair, context: &EncryptionContext) -> UnverifiedHeader {
    let (id, dek) = (EnvelopeId(crate::random::bytes().unwrap()), Secret::<32>::random().unwrap());
    let keyslot = Keyslot::from(pair.keyslot(&id, &[5; 12], &dek));
    let header = Header::new(id, context.clone(), vec![keyslot]).unwrap();
    let key = schedule::header_key(dek.expose(), &id);
    UnverifiedHeader::parse(header.encode(Padding::Standard).unwrap().sign(&key)).unwrap()
}
