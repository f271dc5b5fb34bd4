//! Who is asked, when, and what becomes of the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use twinlock::testing::MemoryHolder;
use twinlock::{
    BoxFuture, CustomerKey, DecryptError, Decryptor, EncryptionContext, Encryptor,
    EncryptorBuilder, HolderError, HolderErrorKind, InvalidHeader, KeyHolder, KeyUri,
    KeyslotFailure, OpenError, OpenErrorKind, PrepareError, ProviderKey, Share, ShareAlgorithm,
    ShareFailure, WrapContext, WrappedShare,
};

use crate::entry_points::now;
use crate::people::{People, context};

// === Encrypting ===

#[test]
fn each_holder_wraps_once_and_reads_back_once() {
    let people = People::new();
    people.envelope(b"secret");
    for holder in [&people.cloud, &people.token] {
        assert_eq!((holder.wrap_calls(), holder.unwrap_calls()), (1, 1));
    }
}

#[test]
fn a_holder_that_may_only_wrap_is_the_callers_choice() {
    let people = People::new();
    now(people.builder().without_read_back().prepare()).unwrap();
    for holder in [&people.cloud, &people.token] {
        assert_eq!((holder.wrap_calls(), holder.unwrap_calls()), (1, 0));
    }
}

#[test]
fn of_two_holders_the_one_that_can_only_wrap_is_not_asked_to_unwrap() {
    let people = People::new();
    let exported = Strange { only_wraps: true, ..Strange::over(&people.token) };
    now(people.builder_with(exported).prepare()).unwrap();
    let calls = [&people.cloud, &people.token].map(|holder| holder.unwrap_calls());
    assert_eq!(calls, [1, 0]);
}

#[test]
fn a_holder_that_does_not_give_back_what_it_wrapped_is_found_out() {
    let people = People::new();
    let forgetful = Strange::over(&people.token).unwrapping(|_| Share::copy_of(&[7; 32]));
    let error = refused(people.builder_with(forgetful));
    assert!(matches!(error, PrepareError::ReadBack { .. }), "{error}");
    assert!(error.to_string().contains("customer key pkcs11:"), "{error}");
}

#[test]
fn a_holder_that_fails_is_named() {
    let people = People::new();
    people.cloud.fail_with(Some(HolderErrorKind::Denied));
    let error = refused(people.builder());
    assert!(
        matches!(&error, PrepareError::Holder { source, .. } if source.kind() == HolderErrorKind::Denied)
    );
    assert!(error.to_string().contains("the provider key vault://"), "{error}");
}

#[test]
fn answers_that_no_header_can_carry_are_refused() {
    let people = People::new();
    let answers: [fn(WrappedShare) -> WrappedShare; 4] = [
        |_| WrappedShare::new(ShareAlgorithm::HolderAead, vec![]),
        |_| WrappedShare::new(ShareAlgorithm::HolderAead, vec![7; 6145]),
        |wrapped| wrapped.with_key_version("2/../3"),
        |wrapped| wrapped.with_key_version("v".repeat(65)),
    ];
    for answer in answers {
        let strange = Strange::over(&people.token).wrapping(answer);
        let error = refused(people.builder_with(strange).without_read_back());
        assert!(matches!(error, PrepareError::HolderAnswer { .. }), "{error}");
    }
}

#[test]
fn one_key_is_not_two_holders() {
    let uri = "file:///dev.kek";
    let both = |uri| Strange {
        uri: KeyUri::parse(uri).unwrap(),
        ..Strange::over(&MemoryHolder::customer("kek"))
    };
    let provider = ProviderKey::new(both(uri)).unwrap();
    let customer = CustomerKey::new(both("file:///%64ev.kek")).unwrap();
    let error = refused(Encryptor::builder(provider, customer));
    assert!(matches!(error, PrepareError::SameKey { .. }), "{error}");
}

#[test]
fn a_key_of_the_one_side_is_not_taken_for_the_other() {
    assert!(ProviderKey::new(MemoryHolder::customer("kek")).is_err());
    assert!(CustomerKey::new(MemoryHolder::provider("kek")).is_err());
}

#[test]
fn an_alias_never_gets_into_a_header() {
    let people = People::new();
    let uri = KeyUri::parse("aws-kms://alias/kek").unwrap();
    let provider = ProviderKey::new(Strange { uri, ..Strange::over(&people.cloud) }).unwrap();
    let error = refused(Encryptor::builder(provider, people.customer()));
    assert!(matches!(error, PrepareError::Alias(_)), "{error}");
    assert_eq!(people.cloud.wrap_calls() + people.token.wrap_calls(), 0);
}

#[test]
fn seventeen_keyslots_are_one_too_many() {
    let people = People::new();
    let of = |count: usize| {
        let first = people.builder();
        (1..count).fold(first, |builder, _| builder.keyslot(people.provider(), people.customer()))
    };
    now(of(16).prepare()).unwrap();
    let asked = people.cloud.wrap_calls();
    let error = refused(of(17));
    assert!(matches!(error, PrepareError::Header(InvalidHeader::KeyslotCount(17))), "{error}");
    assert_eq!(people.cloud.wrap_calls(), asked, "nobody was asked in vain");
}

#[test]
fn keyslots_that_do_not_fit_together_are_refused() {
    let people = People::new();
    let large = || {
        let holder = Strange::over(&people.token)
            .wrapping(|_| WrappedShare::new(ShareAlgorithm::HolderAead, vec![7; 6144]));
        CustomerKey::new(holder).unwrap()
    };
    let builder = (0..11).fold(people.builder().without_read_back(), |builder, _| {
        builder.keyslot(people.provider(), large())
    });
    let error = refused(builder);
    assert!(matches!(error, PrepareError::HeaderTooLarge(_)), "{error}");
}

#[test]
fn only_powers_of_two_are_segment_lengths() {
    for len in [0, 1, 2048, 4095, 4097, 12288, 32 << 20, u32::MAX] {
        let error = refused(People::new().builder().segment_len(len));
        assert!(matches!(error, PrepareError::SegmentLen(refused) if refused == len), "{error}");
    }
    now(People::new().builder().segment_len(16 << 20).prepare()).unwrap();
}

#[test]
fn a_holder_is_told_side_pair_and_context() {
    let people = People::new();
    let seen: Arc<std::sync::Mutex<Vec<WrapContext>>> = Arc::default();
    let spy = Strange { seen: Some(Arc::clone(&seen)), ..Strange::over(&people.token) };
    now(people.builder_with(spy).prepare()).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "one to wrap, one to read back");
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].side(), twinlock::Side::Customer);
    assert_eq!(seen[0].pairs(), [("object".to_owned(), "a".to_owned())]);
    let pair_id = seen[0].label().strip_prefix("v1/customer/").expect("the label says the side");
    assert_eq!(pair_id.len(), 64);
    assert!(seen[0].aad().starts_with(b"twinlock/v1 share\0"));
    assert_eq!(seen[0].aad().len(), 66);
}

// === Decrypting ===

#[test]
fn only_holders_that_were_given_are_asked() {
    let (ours, theirs) = (People::new(), People::named("other"));
    let envelope = two_keyslots(&theirs, &ours);
    let calls = theirs.unwrap_calls();
    open(&ours, &envelope).unwrap();
    assert_eq!(theirs.unwrap_calls(), calls);
}

#[test]
fn a_file_for_others_is_refused_without_asking_anybody() {
    let (ours, theirs) = (People::new(), People::named("other"));
    let envelope = theirs.envelope(b"secret");
    let error = open(&ours, &envelope).unwrap_err();
    assert!(matches!(error, OpenError::NoKeyslot { .. }), "{error}");
    assert!(error.to_string().contains(theirs.token.uri().as_str()), "{error}");
    assert_eq!(ours.unwrap_calls(), 0);

    // A keyslot of our provider and somebody else's customer is not ours.
    let mixed = People { cloud: ours.cloud.clone(), token: theirs.token.clone() };
    let error = open(&ours, &mixed.envelope(b"secret")).unwrap_err();
    assert!(matches!(error, OpenError::NoKeyslot { .. }), "{error}");
}

#[test]
fn holders_are_asked_in_the_order_in_which_they_were_given() {
    let (first, second) = (People::new(), People::named("other"));
    let envelope = two_keyslots(&first, &second);
    let before = (first.unwrap_calls(), second.unwrap_calls());
    let decryptor = first.having_both(second.having_both(Decryptor::expecting(context())));
    now(decryptor.decrypt_slice(&envelope)).unwrap();
    assert_eq!((first.unwrap_calls(), second.unwrap_calls()), (before.0, before.1 + 2));
}

#[test]
fn a_failing_holder_moves_on_to_the_next_keyslot() {
    let (first, second) = (People::new(), People::named("other"));
    let envelope = two_keyslots(&first, &second);
    let decryptor = second.having_both(first.having_both(Decryptor::expecting(context())));
    for fault in
        [HolderErrorKind::Denied, HolderErrorKind::TimedOut, HolderErrorKind::InvalidCiphertext]
    {
        first.token.fail_with(Some(fault));
        assert_eq!(now(decryptor.decrypt_slice(&envelope)).unwrap(), b"secret");
    }
    second.cloud.fail_with(Some(HolderErrorKind::Disabled));
    let error = now(decryptor.decrypt_slice(&envelope)).unwrap_err().to_string();
    assert!(error.contains(first.token.uri().as_str()), "{error}");
    assert!(error.contains(second.cloud.uri().as_str()), "{error}");
}

#[test]
fn at_most_four_keyslots_are_tried() {
    let people = People::new();
    let builder = (1..6)
        .fold(people.builder(), |builder, _| builder.keyslot(people.provider(), people.customer()));
    let envelope = now(builder.prepare()).unwrap().encrypt_slice(b"secret").unwrap();
    let before = people.token.unwrap_calls();
    people.token.fail_with(Some(HolderErrorKind::InvalidCiphertext));
    let error = open(&people, &envelope).unwrap_err();
    assert!(
        matches!(error, OpenError::Keyslots { ref failures } if failures.len() == 4),
        "{error}"
    );
    assert_eq!(people.token.unwrap_calls() - before, 4);
}

#[test]
fn a_tampered_header_stops_at_the_first_keyslot_that_opens() {
    let people = People::new();
    let builder = people.builder().keyslot(people.provider(), people.customer());
    let mut envelope = now(builder.prepare()).unwrap().encrypt_slice(b"secret").unwrap();
    let tag = envelope.len() - 38 - 74 - 1;
    envelope[tag] ^= 1;
    let before = people.unwrap_calls();
    let error = open(&people, &envelope).unwrap_err();
    assert!(matches!(error, OpenError::Tampered), "{error}");
    assert_eq!(people.unwrap_calls() - before, 2);
}

#[test]
fn a_share_that_is_not_the_one_goes_no_further() {
    let people = People::new();
    let envelope = people.envelope(b"secret");
    let wrong = Strange::over(&people.token).unwrapping(|_| Share::copy_of(&[7; 32]));
    let decryptor = Decryptor::expecting(context())
        .provider(people.provider())
        .customer(CustomerKey::new(wrong).unwrap());
    let Err(DecryptError::Open(error)) = now(decryptor.decrypt_slice(&envelope)) else {
        panic!("it opened");
    };
    let OpenError::Keyslots { failures } = &error else { panic!("{error}") };
    let only_the_customers =
        KeyslotFailure::Shares { provider: None, customer: Some(ShareFailure::WrongShare) };
    assert_eq!(failures[0].failure, only_the_customers);
    assert_eq!(error.kind(), OpenErrorKind::NotAuthentic);
}

#[test]
fn a_moved_holder_is_found_when_it_is_said_to_have_moved() {
    let people = People::new();
    let envelope = people.envelope(b"secret");
    let now_at = KeyUri::parse("pkcs11:token=renamed;object=kek").unwrap();
    let renamed = Strange { uri: now_at.clone(), ..Strange::over(&people.token) };
    let decryptor = Decryptor::expecting(context())
        .provider(people.provider())
        .customer(CustomerKey::new(renamed).unwrap());
    assert!(now(decryptor.decrypt_slice(&envelope)).is_err());
    let decryptor = decryptor.moved(people.token.uri().clone(), now_at);
    assert_eq!(now(decryptor.decrypt_slice(&envelope)).unwrap(), b"secret");
}

#[test]
fn what_holders_say_decides_whether_there_is_hope() {
    let people = People::new();
    let envelope = people.envelope(b"secret");
    let unavailable = HolderErrorKind::Unavailable { retry_after: None };
    for (cloud, token, expected) in [
        (Some(HolderErrorKind::Denied), None, OpenErrorKind::NoAccess),
        (Some(HolderErrorKind::NotFound), None, OpenErrorKind::NoAccess),
        (None, Some(HolderErrorKind::Disabled), OpenErrorKind::NoAccess),
        (None, Some(HolderErrorKind::TimedOut), OpenErrorKind::Unavailable),
        (Some(unavailable), Some(HolderErrorKind::Denied), OpenErrorKind::Unavailable),
        (Some(HolderErrorKind::InvalidCiphertext), None, OpenErrorKind::NotAuthentic),
        (None, Some(HolderErrorKind::Misconfigured), OpenErrorKind::Misconfigured),
        (None, Some(HolderErrorKind::Failed), OpenErrorKind::Failed),
    ] {
        people.cloud.fail_with(cloud);
        people.token.fail_with(token);
        assert_eq!(open(&people, &envelope).unwrap_err().kind(), expected, "{cloud:?} {token:?}");
    }
}

#[tokio::test]
async fn both_holders_are_asked_side_by_side() {
    let people = People::new();
    let meeting = Arc::new(AtomicUsize::new(0));
    let at = |holder: &MemoryHolder| Strange {
        meeting: Some(Arc::clone(&meeting)),
        ..Strange::over(holder)
    };
    let provider = ProviderKey::new(at(&people.cloud)).unwrap();
    let customer = CustomerKey::new(at(&people.token)).unwrap();
    // Each call ends only when the other holder's has begun.
    let encryptor = Encryptor::builder(provider.clone(), customer.clone()).prepare().await.unwrap();
    let envelope = encryptor.encrypt_slice(b"secret").unwrap();
    let decryptor =
        Decryptor::expecting(EncryptionContext::new()).provider(provider).customer(customer);
    assert_eq!(decryptor.decrypt_slice(&envelope).await.unwrap(), b"secret");
    assert_eq!(meeting.load(Ordering::SeqCst), 6);
}

// === Makers ===

impl People {
    fn named(name: &str) -> Self {
        Self { cloud: MemoryHolder::provider(name), token: MemoryHolder::customer(name) }
    }

    fn builder_with(&self, customer: Strange) -> EncryptorBuilder {
        Encryptor::builder(self.provider(), CustomerKey::new(customer).unwrap()).context(context())
    }
}

fn two_keyslots(first: &People, second: &People) -> Vec<u8> {
    let builder = first.builder().keyslot(second.provider(), second.customer());
    now(builder.prepare()).unwrap().encrypt_slice(b"secret").unwrap()
}

fn refused(builder: EncryptorBuilder) -> PrepareError {
    now(builder.prepare()).err().expect("it must be refused")
}

fn open(people: &People, envelope: &[u8]) -> Result<(), OpenError> {
    let decryptor = people.having_both(Decryptor::expecting(context()));
    match now(decryptor.decrypt_slice(envelope)) {
        Ok(_) => Ok(()),
        Err(DecryptError::Open(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// A holder that changes what another says.
struct Strange {
    inner: MemoryHolder,
    uri: KeyUri,
    wrapping: fn(WrappedShare) -> WrappedShare,
    unwrapping: fn(Share) -> Share,
    only_wraps: bool,
    seen: Option<Arc<std::sync::Mutex<Vec<WrapContext>>>>,
    /// How many calls have begun: each ends when there are two to a round.
    meeting: Option<Arc<AtomicUsize>>,
}

impl Strange {
    fn over(inner: &MemoryHolder) -> Self {
        Self {
            inner: inner.clone(),
            uri: inner.uri().clone(),
            wrapping: |wrapped| wrapped,
            unwrapping: |share| share,
            only_wraps: false,
            seen: None,
            meeting: None,
        }
    }

    fn wrapping(self, wrapping: fn(WrappedShare) -> WrappedShare) -> Self {
        Self { wrapping, ..self }
    }

    fn unwrapping(self, unwrapping: fn(Share) -> Share) -> Self {
        Self { unwrapping, ..self }
    }

    async fn note(&self, context: &WrapContext) {
        if let Some(seen) = &self.seen {
            seen.lock().unwrap().push(context.clone());
        }
        let Some(meeting) = &self.meeting else { return };
        let arrived = meeting.fetch_add(1, Ordering::SeqCst);
        let both = (arrived / 2 + 1) * 2;
        for _ in 0..1000 {
            if meeting.load(Ordering::SeqCst) >= both {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the other holder was not asked meanwhile");
    }
}

impl KeyHolder for Strange {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async move {
            self.note(context).await;
            self.inner.wrap_key(share, context).await.map(self.wrapping)
        })
    }

    fn only_wraps(&self) -> bool {
        self.only_wraps
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async move {
            self.note(context).await;
            self.inner.unwrap_key(wrapped, context).await.map(self.unwrapping)
        })
    }
}
