use futures_util::FutureExt as _;
use twinlock_format::{EncryptionContext, EnvelopeId};
use twinlock_keys::{BoxFuture, HolderError, Secret, Share, WrapContext, WrappedShare};

use super::*;
use crate::testing::MemoryHolder;
use crate::{Encryptor, HolderErrorKind, OpenErrorKind, PairLimits, UnverifiedHeader, read_header};

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("holders in memory answer at once")
}

fn provider(name: &str) -> (MemoryHolder, ProviderKey) {
    let holder = MemoryHolder::provider(name);
    (holder.clone(), ProviderKey::new(holder).unwrap())
}

fn customer(name: &str) -> (MemoryHolder, CustomerKey) {
    let holder = MemoryHolder::customer(name);
    (holder.clone(), CustomerKey::new(holder).unwrap())
}

fn decryptor(keys: &[(&ProviderKey, &CustomerKey)]) -> Decryptor {
    keys.iter().fold(Decryptor::expecting(EncryptionContext::new()), |decryptor, (p, c)| {
        decryptor.provider((*p).clone()).customer((*c).clone())
    })
}

fn encrypted(keys: &[(&ProviderKey, &CustomerKey)]) -> Vec<u8> {
    let ((p, c), further) = keys.split_first().unwrap();
    let builder = Encryptor::builder((*p).clone(), (*c).clone());
    let builder = further.iter().fold(builder, |b, (p, c)| b.keyslot((*p).clone(), (*c).clone()));
    now(builder.prepare()).unwrap().encrypt_slice(b"attack at dawn").unwrap()
}

fn header(envelope: &[u8]) -> UnverifiedHeader {
    read_header(&mut &envelope[..]).unwrap()
}

/// The envelope with another header, which is as long unless it does not fit.
fn with_header(envelope: &[u8], new: &RewrappedHeader) -> Vec<u8> {
    [new.as_bytes(), &envelope[header(envelope).as_bytes().len()..]].concat()
}

fn rewrapped(decryptor: &Decryptor, envelope: &[u8], plan: &RewrapPlan) -> Vec<u8> {
    let new = now(decryptor.rewrap(header(envelope), plan)).unwrap().unwrap();
    with_header(envelope, &new)
}

fn refused(decryptor: &Decryptor, envelope: &[u8], plan: &RewrapPlan) -> RewrapError {
    match now(decryptor.rewrap(header(envelope), plan)) {
        Err(error) => error,
        Ok(_) => panic!("it was accepted"),
    }
}

fn opens(decryptor: &Decryptor, envelope: &[u8]) -> bool {
    now(decryptor.decrypt_slice(envelope)).is_ok_and(|plaintext| plaintext == b"attack at dawn")
}

#[test]
fn a_new_customer_key_opens_and_the_old_one_does_not() {
    let ((_, p), (_, old), (_, new)) = (provider("p"), customer("old"), customer("new"));
    let envelope = encrypted(&[(&p, &old)]);
    let plan = RewrapPlan::new().to_customer(new.clone());
    let result = now(decryptor(&[(&p, &old)]).rewrap(header(&envelope), &plan)).unwrap().unwrap();
    assert!(result.fits(), "one key for another needs no more room");
    assert_eq!(result.header().generation().0, 1);
    assert_eq!(result.changes().len(), 1);
    let after = with_header(&envelope, &result);
    assert_eq!(after.len(), envelope.len());
    assert!(opens(&decryptor(&[(&p, &new)]), &after));
    assert!(!opens(&decryptor(&[(&p, &old)]), &after));
    // Rewrap is not revocation: who kept the old header still opens.
    assert!(opens(&decryptor(&[(&p, &old)]), &envelope));
}

#[test]
fn a_share_is_never_wrapped_again_under_another_key() {
    // format.md, "Rewrap": a new pair id, and both sides' shares anew.
    let ((_, p), (_, old), (_, new)) = (provider("p"), customer("old"), customer("new"));
    let envelope = encrypted(&[(&p, &old)]);
    let after =
        rewrapped(&decryptor(&[(&p, &old)]), &envelope, &RewrapPlan::new().to_customer(new));
    let (before, after) = (header(&envelope), header(&after));
    let pair = |header: &UnverifiedHeader| {
        header.header().supported_keyslots().next().unwrap().pair().clone()
    };
    assert_ne!(pair(&before).pair_id(), pair(&after).pair_id());
    assert_ne!(pair(&before).provider().wrapped(), pair(&after).provider().wrapped());
    assert_ne!(pair(&before).provider().check(), pair(&after).provider().check());
    assert_eq!(before.header().envelope_id(), after.header().envelope_id());
}

#[test]
fn both_keys_can_change_at_once() {
    let ((_, p1), (_, p2)) = (provider("p1"), provider("p2"));
    let ((_, c1), (_, c2)) = (customer("c1"), customer("c2"));
    let envelope = encrypted(&[(&p1, &c1)]);
    let plan = RewrapPlan::new().to_provider(p2.clone()).to_customer(c2.clone());
    let after = rewrapped(&decryptor(&[(&p1, &c1)]), &envelope, &plan);
    assert!(opens(&decryptor(&[(&p2, &c2)]), &after));
    for keys in [(&p1, &c1), (&p1, &c2), (&p2, &c1)] {
        assert!(!opens(&decryptor(&[keys]), &after));
    }
}

#[test]
fn only_the_keyslots_of_the_key_are_changed() {
    let ((_, p), (_, old), (_, new)) = (provider("p"), customer("old"), customer("new"));
    let ((_, rp), (_, rc)) = (provider("recovery"), customer("recovery"));
    let envelope = encrypted(&[(&p, &old), (&rp, &rc)]);
    let key = KeySelector::new(KeyUri::parse("pkcs11:token=memory;object=old").unwrap());
    let plan = RewrapPlan::new().from_key(key).to_customer(new.clone());
    let after = rewrapped(&decryptor(&[(&p, &old)]), &envelope, &plan);
    assert_eq!(header(&envelope).header().keyslots()[1], header(&after).header().keyslots()[1]);
    assert!(opens(&decryptor(&[(&rp, &rc)]), &after));
    assert!(opens(&decryptor(&[(&p, &new)]), &after));
    // A second time there is no such keyslot, and nothing to do.
    let again = now(decryptor(&[(&p, &new)]).rewrap(header(&after), &plan)).unwrap();
    assert!(again.is_none());
}

#[test]
fn a_keyslot_of_a_newer_version_is_kept_byte_for_byte() {
    let ((_, p), (_, old), (_, new)) = (provider("p"), customer("old"), customer("new"));
    let (dek, id) = (Secret::<32>::random().unwrap(), EnvelopeId([7; 32]));
    let context = EncryptionContext::new();
    let keyslots = [(); 2].map(|()| {
        let pair = now(NewPair::make(&p, &old, &context, true)).unwrap();
        Keyslot::from(pair.keyslot(&id, &[5; 12], &dek))
    });
    let key = schedule::header_key(dek.expose(), &id);
    let known = Header::new(id, context, keyslots.into()).unwrap();
    let mut bytes = known.encode(Padding::Standard).unwrap().sign(&key);
    // The second keyslot: an array of its kind, 1, and a byte string.
    let at = bytes.windows(3).rposition(|three| three == [0x82, 0x01, 0x59]).unwrap();
    bytes[at + 1] = 2;
    let newer = UnverifiedHeader::parse(bytes).unwrap().header().clone();
    assert_eq!(newer.keyslots()[1].kind(), 2);
    let newer = newer.encode(Padding::Standard).unwrap().sign(&key);

    let plan = RewrapPlan::new().to_customer(new);
    let opener = decryptor(&[(&p, &old)]);
    let after = now(opener.rewrap(header(&newer), &plan)).unwrap().unwrap();
    assert_eq!(after.header().keyslots()[1], header(&newer).header().keyslots()[1]);
    assert_ne!(after.header().keyslots()[0], header(&newer).header().keyslots()[0]);
}

#[test]
fn which_of_several_keyslots_has_to_be_said() {
    let ((_, p), (_, c), (_, new)) = (provider("p"), customer("c"), customer("new"));
    let ((_, rp), (_, rc)) = (provider("recovery"), customer("recovery"));
    let envelope = encrypted(&[(&p, &c), (&rp, &rc)]);
    let error = refused(&decryptor(&[(&p, &c)]), &envelope, &RewrapPlan::new().to_customer(new));
    assert!(matches!(error, RewrapError::Ambiguous { keyslots } if keyslots.len() == 2));
}

#[test]
fn a_keyslot_is_added_once() {
    let ((_, p), (_, c)) = (provider("p"), customer("c"));
    let ((_, rp), (_, rc)) = (provider("recovery"), customer("recovery"));
    let envelope = encrypted(&[(&p, &c)]);
    let plan = RewrapPlan::new().add_keyslot(rp.clone(), rc.clone());
    let after = rewrapped(&decryptor(&[(&p, &c)]), &envelope, &plan);
    assert_eq!(header(&after).header().keyslots()[0], header(&envelope).header().keyslots()[0]);
    assert!(opens(&decryptor(&[(&rp, &rc)]), &after));
    assert!(now(decryptor(&[(&p, &c)]).rewrap(header(&after), &plan)).unwrap().is_none());
}

#[test]
fn a_holder_that_cannot_be_asked_gets_no_second_keyslot() {
    let ((_, p), (_, c)) = (provider("p"), customer("c"));
    let ((p_holder, rp), (c_holder, rc)) = (provider("recovery"), customer("recovery"));
    let envelope = encrypted(&[(&p, &c), (&rp, &rc)]);
    let (ours, plan) = (decryptor(&[(&p, &c)]), RewrapPlan::new().add_keyslot(rp, rc));
    let again = || now(ours.rewrap(header(&envelope), &plan));
    for (holder, asked) in [(&p_holder, Side::Provider), (&c_holder, Side::Customer)] {
        for kind in [HolderErrorKind::TimedOut, HolderErrorKind::Denied] {
            holder.fail_with(Some(kind));
            let error = refused(&ours, &envelope, &plan);
            let RewrapError::Prepare(error) = error else { panic!("{error}") };
            let PrepareError::Holder { side, source, .. } = *error else { panic!("{error}") };
            assert_eq!((side, source.kind()), (asked, kind));
        }
        holder.fail_with(None);
        assert!(again().unwrap().is_none());
    }
    // One that says that the share is not its own has been asked.
    c_holder.fail_with(Some(HolderErrorKind::TimedOut));
    let (_, other) = provider("recovery");
    let (new, _) = customer("recovery");
    let plan = RewrapPlan::new().add_keyslot(other, CustomerKey::new(new).unwrap());
    assert_eq!(now(ours.rewrap(header(&envelope), &plan)).unwrap().unwrap().changes().len(), 1);
}

#[test]
fn a_keyslot_of_a_key_that_only_wraps_is_added_once() {
    let ((_, p), (_, c)) = (provider("p"), customer("c"));
    let ((p_holder, rp), (token, rc)) = (provider("recovery"), customer("recovery"));
    let envelope = encrypted(&[(&p, &c)]);
    let exported = CustomerKey::new(Exported(token)).unwrap();
    let (ours, plan) =
        (decryptor(&[(&p, &c)]), RewrapPlan::new().add_keyslot(rp.clone(), exported));
    let after = rewrapped(&ours, &envelope, &plan);
    assert!(opens(&decryptor(&[(&rp, &rc)]), &after));
    assert!(now(ours.rewrap(header(&after), &plan)).unwrap().is_none());
    p_holder.fail_with(Some(HolderErrorKind::TimedOut));
    assert!(matches!(refused(&ours, &after, &plan), RewrapError::Prepare(_)));
}

/// The public part of a key in a token.
struct Exported(MemoryHolder);

impl KeyHolder for Exported {
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

    fn only_wraps(&self) -> bool {
        true
    }

    fn unwrap_key<'a>(
        &'a self,
        _: &'a WrappedShare,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async { Err(HolderError::new(HolderErrorKind::Misconfigured, "only public")) })
    }
}

#[test]
fn the_last_keyslot_stays() {
    let ((p, pk), (c, ck)) = (provider("p"), customer("c"));
    let envelope = encrypted(&[(&pk, &ck)]);
    let plan = RewrapPlan::new().remove_keyslot(p_uri(&p), p_uri(&c)).remove_unopened();
    let error = refused(&decryptor(&[(&pk, &ck)]), &envelope, &plan);
    assert!(matches!(error, RewrapError::LastKeyslot), "{error}");
}

#[test]
fn a_keyslot_that_does_not_open_is_not_removed_unless_that_is_said() {
    let ((_, p), (_, c)) = (provider("p"), customer("c"));
    let ((lost_p, rp), (lost_c, rc)) = (provider("lost"), customer("lost"));
    let envelope = encrypted(&[(&p, &c), (&rp, &rc)]);
    let plan = RewrapPlan::new().remove_keyslot(p_uri(&lost_p), p_uri(&lost_c));
    let error = refused(&decryptor(&[(&p, &c)]), &envelope, &plan);
    assert!(matches!(error, RewrapError::Unopened { .. }), "{error}");
    lost_c.fail_with(Some(HolderErrorKind::NotFound));
    let error = refused(&decryptor(&[(&p, &c), (&rp, &rc)]), &envelope, &plan);
    assert!(matches!(error, RewrapError::Unopened { .. }), "{error}");

    let after = rewrapped(&decryptor(&[(&p, &c)]), &envelope, &plan.clone().remove_unopened());
    assert_eq!(header(&after).header().keyslots().len(), 1);
    lost_c.fail_with(None);
    assert!(!opens(&decryptor(&[(&rp, &rc)]), &after));
    // And one that opens goes without a word.
    let after = rewrapped(&decryptor(&[(&p, &c), (&rp, &rc)]), &envelope, &plan);
    assert!(opens(&decryptor(&[(&p, &c)]), &after));
}

#[test]
fn a_header_that_nobody_has_seen_to_open_is_not_left_behind() {
    let ((p, pk), (c, ck)) = (provider("p"), customer("c"));
    let ((_, rp), (_, rc)) = (provider("elsewhere"), customer("elsewhere"));
    let envelope = encrypted(&[(&pk, &ck), (&rp, &rc)]);
    let plan = RewrapPlan::new().remove_keyslot(p_uri(&p), p_uri(&c));
    let error = refused(&decryptor(&[(&pk, &ck)]), &envelope, &plan);
    assert!(matches!(error, RewrapError::NoneOpens), "{error}");
    let both = decryptor(&[(&pk, &ck), (&rp, &rc)]);
    assert!(opens(&decryptor(&[(&rp, &rc)]), &rewrapped(&both, &envelope, &plan)));
}

#[test]
fn a_new_key_that_cannot_unwrap_changes_nothing() {
    let ((_, p), (_, c), (new, nk)) = (provider("p"), customer("c"), customer("new"));
    let envelope = encrypted(&[(&p, &c)]);
    new.fail_with(Some(HolderErrorKind::Denied));
    let error = refused(&decryptor(&[(&p, &c)]), &envelope, &RewrapPlan::new().to_customer(nk));
    let RewrapError::Prepare(error) = error else { panic!("{error}") };
    assert!(matches!(*error, PrepareError::Holder { .. }), "{error}");
}

#[test]
fn the_key_that_stays_has_to_be_given_too() {
    let ((_, p), (_, c), (_, new)) = (provider("p"), customer("c"), customer("new"));
    let ((_, rp), (_, rc)) = (provider("recovery"), customer("recovery"));
    let envelope = encrypted(&[(&p, &c), (&rp, &rc)]);
    let key = KeySelector::new(KeyUri::parse("pkcs11:token=memory;object=recovery").unwrap());
    let plan = RewrapPlan::new().from_key(key).to_customer(new);
    let error = refused(&decryptor(&[(&p, &c)]), &envelope, &plan);
    assert!(matches!(error, RewrapError::NoHolder { side: Side::Provider, .. }), "{error}");
}

#[test]
fn nothing_is_asked_of_holders_for_another_context() {
    let ((p, pk), (c, ck)) = (provider("p"), customer("c"));
    let envelope = encrypted(&[(&pk, &ck)]);
    let asked = p.unwrap_calls() + c.unwrap_calls();
    let context = EncryptionContext::from_pairs([("object", "x")]).unwrap();
    let decryptor = Decryptor::expecting(context).provider(pk.clone()).customer(ck.clone());
    let error = refused(&decryptor, &envelope, &RewrapPlan::new().to_customer(ck));
    assert!(
        matches!(&error, RewrapError::Open(e) if e.kind() == OpenErrorKind::NotAuthentic),
        "{error}"
    );
    assert_eq!(p.unwrap_calls() + c.unwrap_calls(), asked);
}

#[test]
fn what_does_not_fit_is_longer() {
    let ((_, p), (_, c)) = (provider("p"), customer("c"));
    let mut envelope = encrypted(&[(&p, &c)]);
    let opener = decryptor(&[(&p, &c)]);
    let names: Vec<String> = (0..15).map(|n| format!("further-{n}")).collect();
    let mut grown = 0;
    for name in &names {
        let plan = RewrapPlan::new().add_keyslot(provider(name).1, customer(name).1);
        let new = now(opener.rewrap(header(&envelope), &plan)).unwrap().unwrap();
        grown += usize::from(!new.fits());
        envelope = with_header(&envelope, &new);
        assert!(opens(&opener, &envelope));
    }
    assert!((1..15).contains(&grown), "{grown}");
    let (asked, one_more) = provider("one");
    let plan = RewrapPlan::new().add_keyslot(one_more, customer("more").1);
    assert!(matches!(refused(&opener, &envelope, &plan), RewrapError::Header(_)));
    assert_eq!(asked.wrap_calls(), 0);
}

#[test]
fn selectors_name_a_version_or_all() {
    let parse = |text: &str| text.parse::<KeySelector>().unwrap();
    let one = parse("vault://vault.example/transit/keys/k@3");
    assert_eq!(one.version.as_deref(), Some("3"));
    assert_eq!(one.to_string(), "vault://vault.example/transit/keys/k@3");
    assert_eq!(parse("vault://vault.example/transit/keys/k").version, None);
    assert_eq!(parse("file:///a@3").version, None, "files have no versions");
    assert!("vault://vault.example@/".parse::<KeySelector>().is_err());
}

fn p_uri(holder: &MemoryHolder) -> KeyUri {
    twinlock_keys::KeyHolder::uri(holder).clone()
}

#[test]
fn many_headers_share_a_new_pair_within_its_bound() {
    let ((cloud, p), (_, old), (token, new)) = (provider("p"), customer("old"), customer("new"));
    let envelopes: Vec<_> = (0..10).map(|_| encrypted(&[(&p, &old)])).collect();
    for (limits, pairs) in [(PairLimits::default(), 1), (PairLimits::default().envelopes(4), 3)] {
        let plan = RewrapPlan::new().to_customer(new.clone()).share_pairs(limits);
        let before = (cloud.wrap_calls(), token.wrap_calls(), token.unwrap_calls());
        let reader = decryptor(&[(&p, &old)]);
        let after: Vec<_> = envelopes.iter().map(|e| rewrapped(&reader, e, &plan)).collect();
        assert_eq!(cloud.wrap_calls() - before.0, pairs);
        assert_eq!(token.wrap_calls() - before.1, pairs);
        assert_eq!(token.unwrap_calls() - before.2, pairs, "each pair is read back once");
        let mut ids: Vec<_> = after.iter().flat_map(|envelope| pair_ids(envelope)).collect();
        ids.dedup();
        assert_eq!(ids.len(), pairs);
        assert!(after.iter().all(|envelope| opens(&decryptor(&[(&p, &new)]), envelope)));
    }
}

#[test]
fn a_header_never_has_a_pair_twice_even_if_it_is_shared() {
    let ((_, p), (_, old), (_, new)) = (provider("p"), customer("old"), customer("new"));
    let ((_, q), (_, other)) = (provider("q"), customer("other"));
    let envelope = encrypted(&[(&p, &old), (&q, &other)]);
    let plan = RewrapPlan::new()
        .from_key(KeySelector::new(p.holder().uri().clone()))
        .to_customer(new.clone())
        .add_keyslot(p.clone(), new.clone())
        .share_pairs(PairLimits::default());
    let once = rewrapped(&decryptor(&[(&p, &old)]), &envelope, &plan);
    // And what comes again gets another one than it has.
    let again = RewrapPlan { add: Vec::new(), ..plan };
    let twice = rewrapped(&decryptor(&[(&p, &new)]), &once, &again);
    let mut ids = [pair_ids(&once), pair_ids(&twice)].concat();
    assert_eq!(ids.len(), 6);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "only that of the other keyslot stayed");
    assert!(opens(&decryptor(&[(&p, &new)]), &twice));
}

#[test]
fn headers_of_two_contexts_or_two_keys_never_share_a_pair() {
    let ((cloud, p), (_, old), (_, new)) = (provider("p"), customer("old"), customer("new"));
    let (_, other) = customer("other");
    let plan = RewrapPlan::new().to_customer(new).share_pairs(PairLimits::default());
    let reader = Decryptor::any_context().provider(p.clone()).customer(old.clone());
    let mut ids = Vec::new();
    for object in ["a", "b"] {
        let context = EncryptionContext::from_pairs([("object", object)]).unwrap();
        let builder = Encryptor::builder(p.clone(), old.clone()).context(context);
        let envelope = now(builder.prepare()).unwrap().encrypt_slice(b"attack at dawn").unwrap();
        ids.extend(pair_ids(&rewrapped(&reader, &envelope, &plan)));
        let plan = RewrapPlan { customer: Some(other.clone()), ..plan.clone() };
        ids.extend(pair_ids(&rewrapped(&reader, &envelope, &plan)));
    }
    let before = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((before, ids.len()), (4, 4));
    assert_eq!(cloud.wrap_calls(), 2 + 4);
}

fn pair_ids(envelope: &[u8]) -> Vec<String> {
    let header = header(envelope);
    let id = |keyslot: &PairKeyslot| keyslot.pair().pair_id().to_string();
    header.header().supported_keyslots().map(id).collect()
}
