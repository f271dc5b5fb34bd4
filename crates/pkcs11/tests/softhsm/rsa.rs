//! RSA keys: wrapped with the public key, with or without the token, and
//! unwrapped in it.

use std::time::Duration;

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
    PublicEncryptingKey, PublicKeyComponents,
};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use num_bigint::BigUint;
use twinlock_keys::{
    HolderAnswer, HolderError, HolderErrorKind, KeyHolder, Pkcs11Uri, Share, ShareAlgorithm,
    WrappedShare,
};
use twinlock_pkcs11::{
    ErrorKind, KeyKind, Pkcs11Key, Pkcs11PublicKey, RsaPublicKey, RsaSize, check_key, create_kek,
    create_rsa_kek, list_keys,
};

use crate::fault_module::{Faults, in_time, with_faults};
use crate::kind::Kind;
use crate::support::{SoftHsm, TOKEN, block_on, context, options, share, with_softhsm};

#[test]
fn a_new_rsa_kek_is_for_decrypting_only_and_stays_in_the_token() {
    with_softhsm(|hsm| {
        let uri = hsm.uri("token=Twinlock;object=archive");
        let key = block_on(create_rsa_kek(&uri, RsaSize::Rsa3072, options())).unwrap();
        assert_eq!((key.kind, key.bits, key.id.len()), (KeyKind::RsaPrivate, Some(3072), 16));
        let yes = [
            key.private,
            key.sensitive,
            key.always_sensitive,
            key.never_extractable,
            key.local,
            key.decrypt,
        ];
        let no = [key.extractable, key.unwrap, key.sign, key.derive];
        assert_eq!((yes, no), ([Some(true); 6], [Some(false); 4]));
        assert_eq!((key.kek_problem(false), key.uri), (None, Some(uri.key_uri())));

        // The public part lies beside it.
        let session = hsm.raw_session(TOKEN);
        let beside = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Label(b"archive".to_vec()),
            Attribute::Id(key.id),
        ];
        assert_eq!(session.find_objects(&beside).unwrap().len(), 1);
        comes_back(&block_on(Pkcs11Key::open(&uri, options())).unwrap());
    });
}

#[test]
fn it_can_have_4096_bits() {
    with_softhsm(|hsm| {
        let uri = hsm.uri("token=Twinlock;object=archive");
        // It may take longer than calls have.
        let impatient = options().with_deadline(Duration::from_millis(200));
        let key = block_on(create_rsa_kek(&uri, RsaSize::Rsa4096, impatient)).unwrap();
        assert_eq!(key.bits, Some(4096));
        let wrapped = comes_back(&block_on(Pkcs11Key::open(&uri, options())).unwrap());
        assert_eq!(wrapped.bytes().len(), 512);
    });
}

#[test]
fn names_that_are_taken_are_refused_whatever_kind_of_key_has_them() {
    with_softhsm(|hsm| {
        let uri = |path: &str| hsm.uri(&format!("token=Twinlock;{path}"));
        block_on(create_kek(&uri("object=aes;id=%01"), options())).unwrap();
        create_pair(hsm, "rsa", &[Attribute::Id(vec![2])]);
        for taken in ["object=aes", "object=rsa", "object=a;id=%01", "object=a;id=%02"] {
            let rsa = block_on(create_rsa_kek(&uri(taken), RsaSize::Rsa3072, options()));
            let aes = block_on(create_kek(&uri(taken), options()));
            for error in [rsa.unwrap_err(), aes.unwrap_err()] {
                assert!(error.to_string().contains("already"), "{taken}: {error}");
            }
        }
    });
}

#[test]
fn a_share_comes_back() {
    with_softhsm(|hsm| {
        let key = new_pair(hsm, "archive");
        let wrapped = comes_back(&key);
        assert_eq!(wrapped.algorithm(), ShareAlgorithm::RsaOaepSha256);
        assert_eq!((wrapped.bytes().len(), wrapped.key_version()), (256, None));
        assert_eq!(key.uri().as_str(), "pkcs11:token=Twinlock;object=archive");
        assert!(!key.only_wraps());
    });
}

#[test]
fn many_shares_come_back() {
    with_softhsm(|hsm| {
        let key = new_pair(hsm, "archive");
        // About one raw decryption in 256 of what is masked begins with two zeros.
        (0..300).for_each(|_| drop(comes_back(&key)));
    });
}

#[test]
fn rsa_binds_no_context() {
    with_softhsm(|hsm| {
        let key = new_pair(hsm, "archive");
        let share = share();
        let wrapped = block_on(key.wrap_key(&share, &context("one"))).unwrap();
        let unwrapped = block_on(key.unwrap_key(&wrapped, &context("another"))).unwrap();
        assert_eq!(unwrapped.expose(), share.expose(), "the library's check binds it");
    });
}

#[test]
fn what_does_not_decrypt_gives_one_error_and_never_opens_the_breaker() {
    with_softhsm(|hsm| {
        let uri = hsm.uri("token=Twinlock;object=archive");
        create_pair(hsm, "archive", &[]);
        let strict = options().with_workers(1).with_breaker(1, Duration::from_secs(3600));
        let key = block_on(Pkcs11Key::open(&uri, strict)).unwrap();
        let good = wrap(&key);
        let errors: Vec<_> = hostile(hsm, &key, good.bytes())
            .into_iter()
            .map(|(what, bytes)| (what, refused(&key, bytes)))
            .collect();
        for (what, error) in &errors {
            assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext, "{what}: {error}");
            assert_eq!(error, &errors[0].1, "{what}");
            assert_eq!(error.answer(), None, "{what}");
        }
        assert!(block_on(key.unwrap_key(&good, &context(""))).is_ok(), "no breaker is open");
    });
}

/// Ciphertexts that do not decrypt, each in its own way.
fn hostile(hsm: &SoftHsm, key: &Pkcs11Key, good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let other = wrap(&new_pair(hsm, "other")).bytes().to_vec();
    let modulus = modulus(hsm, "archive");
    let mut below = modulus.clone();
    *below.last_mut().unwrap() -= 1;
    let mut cases = vec![
        ("empty", Vec::new()),
        ("one byte", vec![1]),
        ("cut short", good[..255].to_vec()),
        ("cut in front", good[1..].to_vec()),
        ("too long", [good, &[0]].concat()),
        ("a zero in front", [&[0], good].concat()),
        ("twice", good.repeat(2)),
        ("the longest that a header has", vec![7; 6144]),
        ("zeros", vec![0; 256]),
        ("one", [&[0; 255][..], &[1]].concat()),
        ("the modulus", modulus.clone()),
        ("one less", below),
        ("all ones", vec![0xFF; 256]),
        ("another key's", other),
        ("no padding", encrypted(&modulus, &[7; 32])),
        ("no padding at all", encrypted(&modulus, &[0x42; 255])),
        ("padding of PKCS #1 1.5", encrypted(&modulus, &pkcs1(&[7; 32]))),
        ("OAEP with SHA-1", oaep(&modulus, &OAEP_SHA1_MGF1SHA1, &[7; 32], None)),
        ("a label", oaep(&modulus, &OAEP_SHA256_MGF1SHA256, &[7; 32], Some(b"label"))),
        ("a share cut short", oaep(&modulus, &OAEP_SHA256_MGF1SHA256, &[7; 31], None)),
        ("a longer share", oaep(&modulus, &OAEP_SHA256_MGF1SHA256, &[7; 33], None)),
    ];
    for place in [0, 1, 32, 33, 128, 254, 255] {
        let mut flipped = good.to_vec();
        flipped[place] ^= 1;
        cases.push(("a flipped bit", flipped));
    }
    assert_eq!(key.public_key().map(RsaPublicKey::bits), Some(2048));
    cases
}

#[test]
fn shares_of_other_algorithms_are_refused_by_either_kind_of_key() {
    with_softhsm(|hsm| {
        let (aes, rsa) = (hsm.new_kek("aes"), new_pair(hsm, "rsa"));
        let of = |key: &Pkcs11Key| block_on(key.wrap_key(&share(), &context(""))).unwrap();
        let swapped = [(&aes, of(&rsa)), (&rsa, of(&aes))];
        for (key, wrapped) in swapped {
            let bytes = wrapped.bytes().to_vec();
            for algorithm in
                [ShareAlgorithm::AesKw, ShareAlgorithm::HolderAead, ShareAlgorithm::RsaOaepSha256]
            {
                let wrapped = WrappedShare::new(algorithm, bytes.clone());
                let error = unwrap(key, &wrapped).unwrap_err();
                assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext, "{error}");
            }
        }
    });
}

#[test]
fn an_exported_key_wraps_without_module_and_token() {
    with_softhsm(|hsm| {
        let key = new_pair(hsm, "archive");
        let offline = exported(hsm, &key);
        assert!(offline.only_wraps());
        assert_eq!(offline.uri(), key.uri());
        let share = share();
        let wrapped = block_on(offline.wrap_key(&share, &context(""))).unwrap();
        assert_eq!(unwrap(&key, &wrapped).unwrap().0.expose(), share.expose());
        let error = unwrap(&offline, &wrapped).unwrap_err();
        assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
        assert!(error.to_string().contains("module-path"), "{error}");
    });
}

#[test]
fn with_a_module_too_it_wraps_without_the_token_and_unwraps_in_it() {
    with_softhsm(|hsm| {
        let key = new_pair(hsm, "archive");
        let (file, pin) = export(hsm, &key);
        let uri = hsm.uri("token=Twinlock;object=archive").with_public_key(file, pin);
        let both = Pkcs11PublicKey::open(&uri, options()).unwrap();
        assert!(!both.only_wraps());
        comes_back(&both);

        let away =
            hsm.uri("token=Away;object=archive").with_public_key(uri.public_key().unwrap(), pin);
        let away = Pkcs11PublicKey::open(&away, options()).unwrap();
        let wrapped = block_on(away.wrap_key(&share(), &context(""))).unwrap();
        assert_eq!(unwrap(&away, &wrapped).unwrap_err().kind(), HolderErrorKind::NotFound);
        assert!(unwrap(&key, &wrapped).is_ok());
    });
}

#[test]
fn a_public_key_without_a_pin_or_with_anothers_is_refused() {
    with_softhsm(|hsm| {
        let key = new_pair(hsm, "archive");
        let (file, pin) = export(hsm, &key);
        let path = file.strip_prefix("file:").unwrap().to_owned();
        let without = format!("pkcs11:token=Twinlock;object=archive?public-key={file}");
        refuses(&without.parse().unwrap(), "spki-sha256");

        let uri = Pkcs11Uri::of_key(TOKEN, "archive").with_public_key(&file, pin);
        let impostor = new_pair(hsm, "impostor").public_key().unwrap().to_pem();
        std::fs::write(&path, impostor).unwrap();
        refuses(&uri, "exchanged");
        for (content, reason) in
            [("", "BEGIN PUBLIC KEY"), ("\u{0}", "BEGIN"), (&*"A".repeat(9000), "too long")]
        {
            std::fs::write(&path, content).unwrap();
            refuses(&uri, reason);
        }
        std::fs::write(&path, [0xFF; 10]).unwrap();
        refuses(&uri, "not text");
        std::fs::remove_file(&path).unwrap();
        refuses(&uri, "cannot be read");
        refuses(&Pkcs11Uri::of_key(TOKEN, "archive").with_public_key("|cat", pin), "command");
        refuses(&Pkcs11Uri::of_key(TOKEN, "archive"), "names no public key");
    });
}

#[test]
fn the_pin_holds_for_the_key_on_the_token_too() {
    with_softhsm(|hsm| {
        let (_, pin) = export(hsm, &new_pair(hsm, "archive"));
        new_pair(hsm, "other");
        hsm.new_kek("aes");
        let open = |label: &str| {
            let uri = hsm.uri(&format!("token=Twinlock;object={label}"));
            block_on(Pkcs11Key::open(&uri.with_public_key("/nowhere", pin), options()))
        };
        assert!(open("archive").is_ok());
        for (label, reason) in [("other", "exchanged"), ("aes", "no RSA key")] {
            let error = open(label).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.to_string().contains(reason), "{error}");
        }
    });
}

/// Whoever has no PIN can put public keys on a token.
#[test]
fn a_planted_public_key_is_not_what_wraps() {
    with_softhsm(|hsm| {
        let impostor = modulus(hsm, {
            new_pair(hsm, "impostor");
            "impostor"
        });
        create_pair(hsm, "archive", &[Attribute::Id(vec![1])]);
        let planted = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Encrypt(true),
            Attribute::Label(b"archive".to_vec()),
            Attribute::Id(vec![1]),
            Attribute::Modulus(impostor),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ];
        let session = match Kind::of_this_run() {
            Kind::SoftHsm => hsm.raw_session_without_pin(TOKEN),
            Kind::Kryoptic => hsm.raw_session(TOKEN), // it lets nobody else do so
        };
        session.create_object(&planted).unwrap();
        comes_back(&hsm.open("token=Twinlock;object=archive").unwrap());
    });
}

#[test]
fn keys_that_cannot_be_keks_are_refused_with_the_reason() {
    with_softhsm(|hsm| {
        let cases = [
            (1024, vec![1, 0, 1], vec![], "1024 bits"),
            (2048, vec![3], vec![], "exponent"),
            (2048, vec![1, 0, 1], vec![Attribute::Decrypt(false)], "not for decrypting"),
            (2048, vec![1, 0, 1], vec![Attribute::Extractable(true)], "extractable"),
            (2048, vec![1, 0, 1], vec![Attribute::Sensitive(false)], "not sensitive"),
            (2048, vec![1, 0, 1], vec![Attribute::Private(false)], "public"),
        ];
        for (number, (bits, exponent, attributes, reason)) in cases.into_iter().enumerate() {
            let label = format!("key{number}");
            generate(hsm, &label, bits, &exponent, &attributes);
            let path = format!("token=Twinlock;object={label}");
            let error = hsm.open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{reason}");
            assert!(error.to_string().contains(reason), "{reason}: {error}");
            // What is about its use can be allowed.
            let allowed = options().with_extractable_keys();
            let opened = block_on(Pkcs11Key::open(&hsm.uri(&path), allowed));
            assert_eq!(opened.is_ok(), number > 2, "{reason}");
        }
    });
}

#[test]
fn an_aes_and_an_rsa_key_of_one_name_are_told_apart_by_their_types() {
    with_softhsm(|hsm| {
        block_on(create_kek(&hsm.uri("token=Twinlock;object=twin;id=%01"), options())).unwrap();
        create_pair(hsm, "twin", &[Attribute::Id(vec![1])]);
        let error = hsm.open("token=Twinlock;object=twin").unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("type=secret-key") && message.contains("type=private"),
            "{message}"
        );
        for (class, kind) in [("secret-key", KeyKind::Aes), ("private", KeyKind::RsaPrivate)] {
            let key = hsm.open(&format!("token=Twinlock;object=twin;type={class}")).unwrap();
            assert_eq!(key.facts().kind, kind);
            drop(comes_back(&key));
        }
    });
}

#[test]
fn a_pair_that_was_exchanged_is_not_taken_for_the_old_one() {
    with_softhsm(|hsm| {
        let key = new_pair(hsm, "archive");
        let wrapped = wrap(&key);
        let session = hsm.raw_session(TOKEN);
        for object in session.find_objects(&[Attribute::Label(b"archive".to_vec())]).unwrap() {
            session.destroy_object(object).unwrap();
        }
        create_pair(hsm, "archive", &[]);
        let error = unwrap(&key, &wrapped).unwrap_err();
        assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
        assert!(error.to_string().contains("another one"), "{error}");
        let new = hsm.open("token=Twinlock;object=archive").unwrap();
        comes_back(&new);
        assert_eq!(
            refused(&new, wrapped.bytes().to_vec()).kind(),
            HolderErrorKind::InvalidCiphertext
        );
    });
}

#[test]
fn it_is_listed_and_checked() {
    with_softhsm(|hsm| {
        create_pair(hsm, "archive", &[]);
        let keys = block_on(list_keys(&hsm.uri("token=Twinlock"), options())).unwrap();
        let seen: Vec<_> =
            keys.iter().map(|key| (key.kind, key.bits, key.kek_problem(false))).collect();
        assert_eq!(seen, [(KeyKind::RsaPrivate, Some(2048), None)]);
        let uri = hsm.uri("token=Twinlock;object=archive");
        let check = block_on(check_key(&uri, options())).unwrap();
        assert_eq!(check.public_key.map(|key| key.bits()), Some(2048));
        assert!(!check.wrap.is_zero() && !check.unwrap.is_zero());
    });
}

#[test]
fn a_key_is_tried_when_it_is_first_opened() {
    with_faults(|hsm, faults| {
        create_pair(hsm, "archive", &[]);
        let key = hsm.open("token=Twinlock;object=archive").unwrap();
        let probe = faults.count("C_DecryptInit");
        // kryoptic does OAEP with SHA-256, and so do newer SoftHSMs.
        assert!(probe == 1 || Kind::of_this_run() == Kind::SoftHsm && probe == 2, "{probe}");
        let wrapped = wrap(&key);
        for _ in 0..3 {
            unwrap(&key, &wrapped).unwrap();
        }
        assert_eq!(faults.count("C_DecryptInit"), probe + 3);
        // Whoever looks for it again and again decrypts nothing.
        let uri = hsm.uri("token=Twinlock;object=archive");
        comes_back(&block_on(Pkcs11Key::on(key.token(), &uri)).unwrap());
        assert_eq!(faults.count("C_DecryptInit"), probe + 4);
        assert_eq!(faults.count("C_Encrypt"), 0, "wrapping is for software");
    });
}

#[test]
fn a_token_that_fails_while_it_is_probed_has_said_nothing() {
    with_faults(|hsm, faults| {
        create_pair(hsm, "archive", &[]);
        let open = || {
            let strict = options().with_deadline(Duration::from_secs(2));
            block_on(Pkcs11Key::open(&hsm.uri("token=Twinlock;object=archive"), strict))
        };
        for (order, kind) in [
            ("C_DecryptInit return CKR_GENERAL_ERROR", ErrorKind::Fatal),
            ("C_DecryptInit return CKR_DEVICE_ERROR", ErrorKind::Gone),
            ("C_DecryptInit return CKR_DEVICE_REMOVED", ErrorKind::Gone),
            ("C_DecryptInit return CKR_HOST_MEMORY", ErrorKind::Busy),
            ("C_DecryptInit return 0x80000001", ErrorKind::Fatal),
            ("C_DecryptInit hang", ErrorKind::TimedOut),
            ("C_Decrypt return CKR_DEVICE_REMOVED", ErrorKind::Gone),
            // It says no to both.
            ("C_DecryptInit return CKR_MECHANISM_INVALID", ErrorKind::Misconfigured),
        ] {
            faults.set(order);
            let error = in_time(Duration::from_secs(4), order, open).unwrap_err();
            assert_eq!(error.kind(), kind, "{order}: {error}");
        }
        faults.set("C_DecryptInit return CKR_DEVICE_REMOVED times 1");
        let before = faults.count("C_DecryptInit");
        let key = open().unwrap();
        assert!(faults.count("C_DecryptInit") > before + 1, "it was asked anew");
        comes_back(&key);
    });
}

#[test]
fn a_fault_while_unwrapping_is_no_bad_ciphertext() {
    with_faults(|hsm, faults| {
        let key = new_pair(hsm, "archive");
        let wrapped = wrap(&key);
        let retryable = |error: &HolderError| error.kind().is_retryable();
        for order in
            ["C_DecryptInit return CKR_DEVICE_ERROR", "C_Decrypt return CKR_DEVICE_REMOVED"]
        {
            faults.set(order);
            let error = unwrap(&key, &wrapped).unwrap_err();
            assert!(retryable(&error), "{order}: {error}");
            faults.set(&format!("{order} times 1"));
            unwrap(&key, &wrapped).unwrap();
        }
        works_with_the_token_away(&key, faults);
    });
}

fn works_with_the_token_away(key: &Pkcs11Key, faults: &Faults<'_>) {
    faults
        .set("C_DecryptInit return CKR_DEVICE_REMOVED\nC_OpenSession return CKR_TOKEN_NOT_PRESENT");
    let wrapped = wrap(key);
    assert!(unwrap(key, &wrapped).unwrap_err().kind().is_retryable());
    faults.clear();
    crate::fault_module::resumes("the token is back", || unwrap(key, &wrapped));
}

/// A pair of 2048 bits, opened.
fn new_pair(hsm: &SoftHsm, label: &str) -> Pkcs11Key {
    create_pair(hsm, label, &[]);
    hsm.open(&format!("token=Twinlock;object={label}")).expect("the new key")
}

fn create_pair(hsm: &SoftHsm, label: &str, attributes: &[Attribute]) {
    generate(hsm, label, 2048, &[1, 0, 1], attributes);
}

/// A pair whose private key differs from a KEK in `attributes`, made without
/// this crate.
pub(crate) fn generate(
    hsm: &SoftHsm,
    label: &str,
    bits: u16,
    exponent: &[u8],
    attributes: &[Attribute],
) {
    let usual = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let is_given = |attribute: &Attribute| {
        attributes.iter().any(|given| given.attribute_type() == attribute.attribute_type())
    };
    let usual = usual.into_iter().filter(|attribute| !is_given(attribute));
    let private: Vec<Attribute> = usual.chain(attributes.iter().cloned()).collect();
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Encrypt(true),
        Attribute::ModulusBits(std::ffi::c_ulong::from(bits).into()),
        Attribute::PublicExponent(exponent.to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    let session = hsm.raw_session(TOKEN);
    session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap();
}

fn public_object(hsm: &SoftHsm, label: &str) -> cryptoki::object::ObjectHandle {
    let template =
        [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Label(label.as_bytes().to_vec())];
    hsm.raw_session(TOKEN).find_objects(&template).unwrap()[0]
}

pub(crate) fn modulus(hsm: &SoftHsm, label: &str) -> Vec<u8> {
    let attributes = hsm
        .raw_session(TOKEN)
        .get_attributes(public_object(hsm, label), &[AttributeType::Modulus])
        .unwrap();
    match attributes.as_slice() {
        [Attribute::Modulus(modulus)] => modulus.clone(),
        other => panic!("{other:?}"),
    }
}

/// `data` to the power of 65537.
pub(crate) fn encrypted(modulus: &[u8], data: &[u8]) -> Vec<u8> {
    let number = BigUint::from_bytes_be;
    let power = number(data).modpow(&number(&[1, 0, 1]), &number(modulus)).to_bytes_be();
    [&vec![0; modulus.len() - power.len()][..], &power].concat()
}

pub(crate) fn pkcs1(data: &[u8]) -> Vec<u8> {
    [&[0, 2][..], &vec![0xA5; 256 - 3 - data.len()], &[0], data].concat()
}

pub(crate) fn oaep(
    modulus: &[u8],
    algorithm: &'static OaepAlgorithm,
    data: &[u8],
    label: Option<&[u8]>,
) -> Vec<u8> {
    let key: PublicEncryptingKey =
        PublicKeyComponents { n: modulus, e: &[1, 0, 1] }.try_into().unwrap();
    let key = OaepPublicEncryptingKey::new(key).unwrap();
    let mut bytes = vec![0; modulus.len()];
    key.encrypt(algorithm, data, &mut bytes, label).unwrap();
    bytes
}

/// The public key in a file, and its pin.
fn export(hsm: &SoftHsm, key: &Pkcs11Key) -> (String, [u8; 32]) {
    let public = key.public_key().expect("an RSA key");
    let path = hsm.folder.join("public.pem");
    std::fs::write(&path, public.to_pem()).unwrap();
    (format!("file:{}", path.display()), public.spki_sha256())
}

/// The same key without its token.
fn exported(hsm: &SoftHsm, key: &Pkcs11Key) -> Pkcs11PublicKey {
    let (file, pin) = export(hsm, key);
    let uri = Pkcs11Uri::of_key(TOKEN, key.facts().label.clone()).with_public_key(file, pin);
    Pkcs11PublicKey::open(&uri, options()).expect("the exported key")
}

#[track_caller]
fn refuses(uri: &Pkcs11Uri, reason: &str) {
    let error = Pkcs11PublicKey::open(uri, options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains(reason), "{reason}: {error}");
}

fn wrap(key: &dyn KeyHolder) -> WrappedShare {
    block_on(key.wrap_key(&share(), &context(""))).unwrap()
}

fn unwrap(key: &dyn KeyHolder, wrapped: &WrappedShare) -> Result<Unwrapped, HolderError> {
    block_on(key.unwrap_key(wrapped, &context(""))).map(Unwrapped)
}

/// A share that tests may print the failure of.
struct Unwrapped(Share);

impl std::fmt::Debug for Unwrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a share")
    }
}

fn refused(key: &dyn KeyHolder, bytes: Vec<u8>) -> HolderError {
    let wrapped = WrappedShare::new(ShareAlgorithm::RsaOaepSha256, bytes);
    unwrap(key, &wrapped).map(drop).unwrap_err()
}

#[track_caller]
fn comes_back(key: &dyn KeyHolder) -> WrappedShare {
    let share = share();
    let wrapped = block_on(key.wrap_key(&share, &context(""))).unwrap();
    let Unwrapped(unwrapped) = unwrap(key, &wrapped).unwrap();
    assert_eq!(unwrapped.expose(), share.expose());
    assert_eq!(unwrapped.answer(), Some(&HolderAnswer::code("CKR_OK")));
    wrapped
}
