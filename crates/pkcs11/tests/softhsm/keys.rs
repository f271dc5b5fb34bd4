//! Wrapping and unwrapping.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use futures_util::future::join_all;
use twinlock_keys::{
    CustomerKey, HolderAnswer, HolderErrorKind, KeyHolder as _, ShareAlgorithm, WrappedShare,
};
use twinlock_pkcs11::{ErrorKind, Pkcs11Key};

use crate::kind::Kind;
use crate::support::{SoftHsm, TOKEN, block_on, context, options, share, with_softhsm};

#[test]
fn a_share_comes_back() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let (share, context) = (share(), context("share aad"));
        let wrapped = block_on(key.wrap_key(&share, &context)).unwrap();
        assert_eq!((wrapped.bytes().len(), wrapped.algorithm()), (60, ShareAlgorithm::HolderAead));
        let unwrapped = block_on(key.unwrap_key(&wrapped, &context)).unwrap();
        assert_eq!(unwrapped.expose(), share.expose());
        assert_eq!(unwrapped.answer(), Some(&HolderAnswer::code("CKR_OK")));
    });
}

#[test]
fn it_is_a_customers_key_with_the_name_that_a_header_carries() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        assert_eq!(key.uri().as_str(), "pkcs11:token=Twinlock;object=archive");
        CustomerKey::new(key).unwrap();
    });
}

#[test]
fn each_wrapping_has_its_own_iv() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let (share, context) = (share(), context(""));
        let wrap = || block_on(key.wrap_key(&share, &context)).unwrap().bytes()[..12].to_vec();
        let ivs: std::collections::HashSet<_> = (0..100).map(|_| wrap()).collect();
        assert_eq!(ivs.len(), 100);
    });
}

#[test]
fn a_share_of_another_context_is_refused() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let wrapped = block_on(key.wrap_key(&share(), &context("one"))).unwrap();
        for other in ["", "two", "one "] {
            let Err(error) = block_on(key.unwrap_key(&wrapped, &context(other))) else {
                panic!("unwrapped under {other:?}");
            };
            assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext);
        }
    });
}

#[test]
fn every_flipped_bit_is_refused() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let context = context("share aad");
        let wrapped = block_on(key.wrap_key(&share(), &context)).unwrap();
        for bit in 0..wrapped.bytes().len() * 8 {
            let mut bytes = wrapped.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_refused(&key, bytes, &format!("bit {bit}"));
        }
        block_on(key.unwrap_key(&wrapped, &context)).expect("the session is as good as before");
    });
}

#[test]
fn every_other_length_is_refused() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let wrapped = block_on(key.wrap_key(&share(), &context("share aad"))).unwrap();
        for len in (0..60).chain(61..100) {
            let mut bytes = wrapped.bytes().to_vec();
            bytes.resize(len, 0);
            assert_refused(&key, bytes, &format!("length {len}"));
        }
    });
}

#[test]
fn a_foreign_ciphertext_is_refused_in_the_tokens_own_words() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        for len in [60, 184, 512, 6144] {
            let foreign = WrappedShare::new(ShareAlgorithm::HolderAead, vec![7; len]);
            let answer = block_on(key.unwrap_key(&foreign, &context("share aad")));
            let Err(error) = answer else { panic!("unwrapped") };
            assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext, "{len}");
            assert!(error.answer().is_some_and(|answer| answer.code.starts_with("CKR_")), "{len}");
        }
    });
}

#[test]
fn a_share_of_another_key_is_refused() {
    with_softhsm(|hsm| {
        let (ours, other) = (hsm.new_kek("ours"), hsm.new_kek("other"));
        let context = context("share aad");
        let wrapped = block_on(other.wrap_key(&share(), &context)).unwrap();
        assert_refused(&ours, wrapped.bytes().to_vec(), "another key");
    });
}

#[test]
fn a_share_of_another_algorithm_is_refused() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let context = context("share aad");
        let wrapped = block_on(key.wrap_key(&share(), &context)).unwrap();
        let wrapped = WrappedShare::new(ShareAlgorithm::AesKw, wrapped.bytes().to_vec());
        let Err(error) = block_on(key.unwrap_key(&wrapped, &context)) else { panic!("unwrapped") };
        assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext);
    });
}

#[test]
fn sixteen_callers_at_once_get_their_own_answers() {
    with_softhsm(|hsm| {
        let key = &hsm.new_kek("archive");
        std::thread::scope(|scope| {
            for caller in 0..16 {
                scope.spawn(move || {
                    let context = context(&format!("caller {caller}"));
                    for _ in 0..20 {
                        let share = share();
                        let wrapped = block_on(key.wrap_key(&share, &context)).unwrap();
                        let unwrapped = block_on(key.unwrap_key(&wrapped, &context)).unwrap();
                        assert_eq!(unwrapped.expose(), share.expose());
                    }
                });
            }
        });
    });
}

#[test]
fn one_executor_may_have_many_calls_under_way() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let (share, context) = (share(), context(""));
        let calls = (0..200).map(|_| key.wrap_key(&share, &context));
        assert!(block_on(join_all(calls)).iter().all(Result::is_ok));
    });
}

#[test]
fn a_key_that_another_process_replaced_is_found_again() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        let (share, context) = (share(), context("share aad"));
        let old = block_on(key.wrap_key(&share, &context)).unwrap();
        hsm.in_child("replace", "token=Twinlock;object=archive", &[]).unwrap();
        let new = block_on(key.wrap_key(&share, &context)).unwrap();
        assert!(block_on(key.unwrap_key(&new, &context)).is_ok());
        assert_refused(&key, old.bytes().to_vec(), "the replaced key");
    });
}

#[test]
fn a_key_that_another_process_deleted_is_not_found_until_there_is_a_new_one() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        block_on(key.wrap_key(&share(), &context(""))).unwrap();
        hsm.in_child("delete", "token=Twinlock;object=archive", &[]).unwrap();
        let error = block_on(key.wrap_key(&share(), &context(""))).unwrap_err();
        assert_eq!(error.kind(), HolderErrorKind::NotFound, "{error}");
        hsm.in_child("create", "token=Twinlock;object=archive", &[]).unwrap();
        block_on(key.wrap_key(&share(), &context(""))).expect("without being opened again");
    });
}

#[test]
fn a_missing_key_is_not_found_and_the_message_lists_those_that_are_there() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        hsm.new_kek("backup");
        let error = hsm.open("token=Twinlock;object=missing").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let message = error.to_string();
        assert!(
            ["missing", "archive", "backup"].iter().all(|name| message.contains(name)),
            "{message}"
        );
    });
}

#[test]
fn two_keys_with_one_label_are_told_apart_by_their_ids() {
    with_softhsm(|hsm| {
        for id in [1, 2] {
            create_object(hsm, &[Attribute::Label(b"twin".to_vec()), Attribute::Id(vec![id])]);
        }
        let error = hsm.open("token=Twinlock;object=twin").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        let message = error.to_string();
        assert!(message.contains("id=%01") && message.contains("id=%02"), "{message}");
        let one = hsm.open("token=Twinlock;object=twin;id=%01").unwrap();
        let two = hsm.open("token=Twinlock;id=%02").unwrap();
        assert_eq!((&one.facts().id[..], &two.facts().id[..]), (&[1][..], &[2][..]));
        let context = context("share aad");
        let wrapped = block_on(one.wrap_key(&share(), &context)).unwrap();
        assert_refused(&two, wrapped.bytes().to_vec(), "its twin");
    });
}

#[test]
fn an_extractable_key_is_refused_unless_it_is_allowed() {
    with_softhsm(|hsm| {
        create_object(hsm, &[Attribute::Label(b"loose".to_vec()), Attribute::Extractable(true)]);
        let error = hsm.open("token=Twinlock;object=loose").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("extractable"), "{error}");
        let uri = hsm.uri("token=Twinlock;object=loose");
        let key = block_on(Pkcs11Key::open(&uri, options().with_extractable_keys())).unwrap();
        block_on(key.wrap_key(&share(), &context(""))).unwrap();
    });
}

#[test]
fn a_key_whose_bytes_the_token_shows_is_refused_unless_it_is_allowed() {
    with_softhsm(|hsm| {
        create_object(hsm, &[Attribute::Label(b"bare".to_vec()), Attribute::Sensitive(false)]);
        let error = hsm.open("token=Twinlock;object=bare").unwrap_err();
        assert!(error.to_string().contains("not sensitive"), "{error}");
        let uri = hsm.uri("token=Twinlock;object=bare");
        assert!(block_on(Pkcs11Key::open(&uri, options().with_extractable_keys())).is_ok());
    });
}

#[test]
fn a_key_that_needs_no_pin_is_refused_unless_it_is_allowed() {
    with_softhsm(|hsm| {
        plant(hsm, "planted");
        let error = hsm.open("token=Twinlock;object=planted").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("public"), "{error}");
        let uri = hsm.uri("token=Twinlock;object=planted");
        assert!(block_on(Pkcs11Key::open(&uri, options().with_extractable_keys())).is_ok());
    });
}

#[test]
fn a_planted_twin_does_not_stand_in_the_way() {
    with_softhsm(|hsm| {
        let id = hsm.new_kek("archive").facts().id.clone();
        plant(hsm, "archive");
        assert_eq!(hsm.open("token=Twinlock;object=archive").unwrap().facts().id, id);
    });
}

#[test]
fn keys_that_cannot_be_keks_are_refused_however_much_is_allowed() {
    with_softhsm(|hsm| {
        create_object(hsm, &[Attribute::Label(b"short".to_vec()), Attribute::ValueLen(16.into())]);
        create_object(hsm, &[Attribute::Label(b"one way".to_vec()), Attribute::Decrypt(false)]);
        for (label, problem) in [("short", "AES-256"), ("one%20way", "decrypting")] {
            let uri = hsm.uri(&format!("token=Twinlock;object={label}"));
            let opened = block_on(Pkcs11Key::open(&uri, options().with_extractable_keys()));
            let error = opened.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.to_string().contains(problem), "{error}");
        }
    });
}

#[test]
fn a_uri_of_another_type_of_key_is_refused() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        assert!(hsm.open("token=Twinlock;object=archive;type=secret-key").is_ok());
        for (class, kind) in
            [("private", ErrorKind::NotFound), ("public", ErrorKind::Misconfigured)]
        {
            let path = format!("token=Twinlock;object=archive;type={class}");
            assert_eq!(hsm.open(&path).unwrap_err().kind(), kind);
        }
    });
}

#[test]
fn labels_of_any_language_are_found_by_their_escapes() {
    with_softhsm(|hsm| {
        hsm.create_token("Schlüssel; é?");
        let path = "token=Schl%C3%BCssel%3B%20%C3%A9%3F;object=%E9%8D%B5%20%26%20%25";
        let uri = hsm.uri(path);
        block_on(twinlock_pkcs11::create_kek(&uri, options())).unwrap();
        let key = hsm.open(path).unwrap();
        assert_eq!(
            (key.token().facts().label.as_str(), key.facts().label.as_str()),
            ("Schlüssel; é?", "鍵 & %")
        );
        assert_eq!(key.facts().uri.as_ref(), Some(key.uri()), "found again by what the token says");
    });
}

fn assert_refused(key: &Pkcs11Key, bytes: Vec<u8>, what: &str) {
    let wrapped = WrappedShare::new(ShareAlgorithm::HolderAead, bytes);
    let Err(error) = block_on(key.unwrap_key(&wrapped, &context("share aad"))) else {
        panic!("unwrapped: {what}");
    };
    assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext, "{what}: {error}");
}

/// A key as somebody without the PIN can make it, who knows its bytes.
fn plant(hsm: &SoftHsm, label: &str) {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Value(vec![7; 32]),
    ];
    let session = match Kind::of_this_run() {
        Kind::SoftHsm => hsm.raw_session_without_pin(TOKEN),
        Kind::Kryoptic => hsm.raw_session(TOKEN), // it lets nobody else do so
    };
    session.create_object(&template).unwrap();
}

/// A key that differs from a KEK in `attributes`, made without this crate.
fn create_object(hsm: &SoftHsm, attributes: &[Attribute]) {
    let usual = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32.into()),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
    ];
    let is_given = |attribute: &Attribute| {
        attributes.iter().any(|given| given.attribute_type() == attribute.attribute_type())
    };
    let usual = usual.into_iter().filter(|attribute| !is_given(attribute));
    let template: Vec<Attribute> = usual.chain(attributes.iter().cloned()).collect();
    hsm.raw_session(TOKEN).generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}
