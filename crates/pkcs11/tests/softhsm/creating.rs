//! Creating keys, and looking at them.

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType};
use twinlock_pkcs11::{ErrorKind, KeyKind, check_key, create_kek, list_keys};

use crate::kind::Kind;
use crate::support::{TOKEN, block_on, options, with_softhsm};

#[test]
fn a_new_kek_has_the_attributes_that_keep_it_in_the_token() {
    with_softhsm(|hsm| {
        let uri = hsm.uri("token=Twinlock;object=archive");
        let key = block_on(create_kek(&uri, options())).unwrap();
        assert_eq!((key.kind, key.bits, key.id.len()), (KeyKind::Aes, Some(256), 16));
        let yes = [
            key.private,
            key.sensitive,
            key.always_sensitive,
            key.never_extractable,
            key.local,
            key.encrypt,
            key.decrypt,
        ];
        let no = [key.extractable, key.wrap, key.unwrap, key.sign, key.derive];
        assert_eq!((yes, no), ([Some(true); 7], [Some(false); 5]));
        assert_eq!(key.kek_problem(false), None);
        assert_eq!(key.uri, Some(uri.key_uri()));
    });
}

#[test]
fn the_token_itself_says_so_and_shows_no_bytes() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        let session = hsm.raw_session(TOKEN);
        let found = session.find_objects(&[Attribute::Label(b"archive".to_vec())]).unwrap();
        let wanted = [
            AttributeType::Token,
            AttributeType::Sensitive,
            AttributeType::Extractable,
            AttributeType::AllowedMechanisms,
        ];
        let attributes = session.get_attributes(found[0], &wanted).unwrap();
        assert_eq!(
            attributes,
            [
                Attribute::Token(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::AllowedMechanisms(vec![MechanismType::AES_GCM]),
            ]
        );
        assert!(session.get_attributes(found[0], &[AttributeType::Value]).unwrap().is_empty());
        assert!(session.encrypt(&Mechanism::AesEcb, found[0], &[0; 16]).is_err(), "only for GCM");
    });
}

#[test]
fn a_label_or_id_that_exists_is_refused() {
    with_softhsm(|hsm| {
        let create = |path: &str| block_on(create_kek(&hsm.uri(path), options()));
        create("token=Twinlock;object=archive;id=%01%02").unwrap();
        for taken in [
            "token=Twinlock;object=archive",
            "token=Twinlock;object=archive;id=%03",
            "token=Twinlock;object=other;id=%01%02",
        ] {
            let error = create(taken).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{taken}");
            assert!(error.to_string().contains("already"), "{error}");
        }
        let key = create("token=Twinlock;object=other;id=%03").unwrap();
        assert_eq!(key.id, [3]);
    });
}

#[test]
fn a_new_key_needs_a_label() {
    with_softhsm(|hsm| {
        let error = block_on(create_kek(&hsm.uri("token=Twinlock;id=%01"), options())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    });
}

#[test]
fn a_list_shows_every_key_of_the_token() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        hsm.raw_session(TOKEN)
            .generate_key_pair(
                &Mechanism::RsaPkcsKeyPairGen,
                &[
                    Attribute::Token(true),
                    Attribute::ModulusBits(2048.into()),
                    Attribute::PublicExponent(vec![1, 0, 1]),
                ],
                &[
                    Attribute::Token(true),
                    Attribute::Label(b"label".to_vec()),
                    Attribute::Sensitive(true),
                ],
            )
            .unwrap();
        let mut keys = block_on(list_keys(&hsm.uri("token=Twinlock"), options())).unwrap();
        keys.sort_by(|one, other| one.label.cmp(&other.label));
        let seen: Vec<_> =
            keys.iter().map(|key| (key.label.as_str(), key.kind, key.bits)).collect();
        assert_eq!(
            seen,
            [("archive", KeyKind::Aes, Some(256)), ("label", KeyKind::RsaPrivate, Some(2048))]
        );
    });
}

#[test]
fn a_check_wraps_and_unwraps() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        let uri = hsm.uri("token=Twinlock;object=archive");
        let check = block_on(check_key(&uri, options())).unwrap();
        assert_eq!(
            (check.key.label.as_str(), check.token.vendor),
            ("archive", Kind::of_this_run().vendor())
        );
        assert!(!check.wrap.is_zero() && !check.unwrap.is_zero());
    });
}
