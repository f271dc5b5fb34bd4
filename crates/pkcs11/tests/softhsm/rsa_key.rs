//! An RSA key for services: what it decrypts, and the one answer to everything
//! that it does not.

use std::time::Duration;

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use futures_util::future::join_all;
use twinlock_pkcs11::{
    Done, ErrorKind, Fleet, FleetOptions, Pkcs11Error, RsaKey, RsaPublicKey, Token, TokenOptions,
};
use zeroize::Zeroizing;

use crate::fault_module::{in_time, with_faults};
use crate::kind::Kind;
use crate::rsa::{encrypted, generate, modulus, oaep, pkcs1};
use crate::support::{SoftHsm, TOKEN, block_on, options, with_softhsm};

/// Time enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn messages_of_any_length_come_back() {
    with_softhsm(|hsm| {
        for (bits, lens) in [(2048, [0, 1, 32, 44, 189, 190]), (3072, [0, 1, 32, 44, 317, 318])] {
            let label = bits.to_string();
            create(hsm, &label, bits, &[]);
            let key = open(hsm, &label, options()).unwrap();
            for len in lens {
                // What looks like padding is a message, too.
                for byte in [0, 1, 0xA5] {
                    let message = vec![byte; len];
                    assert_eq!(*decrypt(&key, wrap(&key, &message)).result.unwrap(), message);
                }
            }
        }
    });
}

#[test]
fn its_public_key_is_the_tokens_own() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let public = key.public_key();
        assert_eq!((public.modulus(), public.exponent()), (&*modulus(hsm, "dke"), 65537));
        assert_eq!((public.bits(), public.modulus().len()), (2048, 256));
        assert_eq!(key.facts().decrypt, Some(true));
        assert_eq!(key.is_unpadded_by_token(), Kind::of_this_run() == Kind::Kryoptic);
    });
}

#[test]
fn whatever_does_not_decrypt_gets_one_answer_from_the_token_itself() {
    with_faults(|hsm, faults| {
        let strict = options().with_workers(1).with_breaker(1, Duration::from_secs(3600));
        let key = new_key(hsm, strict);
        let good = wrap(&key, b"a message");
        assert_eq!(*decrypt(&key, good.clone()).result.unwrap(), b"a message");
        let cases = hostile(hsm, &good);
        let asked = faults.count("C_Decrypt");
        let refused: Vec<_> =
            cases.iter().map(|(what, bytes)| (what, decrypt(&key, bytes.clone()))).collect();
        // None is answered sooner than another, not even what no token can be asked. One
        // that takes the padding off is asked for what is good, and once more.
        let each = if key.is_unpadded_by_token() { 3 } else { 1 };
        assert_eq!(faults.count("C_Decrypt"), asked + cases.len() * each);
        let first = kind_and_text(&refused[0].1.result);
        for (what, done) in &refused {
            assert_eq!(kind_and_text(&done.result), first, "{what}");
            assert!(done.in_token > Duration::ZERO, "{what}");
        }
        assert_eq!(first.0, ErrorKind::BadCiphertext);
        assert!(!first.1.contains("CKR_"), "{}", first.1);
        assert!(decrypt(&key, good).result.is_ok(), "no breaker is open, and the session is good");
    });
}

/// Where the padding is taken off here, the token has no say in it.
#[test]
fn whatever_code_a_token_has_for_what_does_not_decrypt_there_is_one_answer() {
    with_faults(|hsm, faults| {
        let strict = options().with_workers(1).with_breaker(1, Duration::from_secs(3600));
        let key = new_key(hsm, strict);
        let good = wrap(&key, b"a message");
        let flipped = [&good[..128], &[good[128] ^ 1], &good[129..]].concat();
        let first = kind_and_text(&decrypt(&key, flipped.clone()).result);
        for code in [
            "CKR_ENCRYPTED_DATA_INVALID",
            "CKR_ENCRYPTED_DATA_LEN_RANGE",
            "CKR_DATA_INVALID",
            "CKR_DATA_LEN_RANGE",
            "CKR_FUNCTION_FAILED",
            "CKR_FUNCTION_REJECTED",
            "CKR_GENERAL_ERROR",
            "CKR_DEVICE_ERROR",
            "CKR_DEVICE_REMOVED",
            "CKR_MECHANISM_PARAM_INVALID",
            "CKR_SESSION_HANDLE_INVALID",
            "CKR_USER_NOT_LOGGED_IN",
            "0x80000001",
        ] {
            faults.set(&format!("C_Decrypt recode {code}"));
            let opened = faults.count("C_OpenSession");
            assert_eq!(kind_and_text(&decrypt(&key, flipped.clone()).result), first, "{code}");
            assert_eq!(*decrypt(&key, good.clone()).result.unwrap(), b"a message", "{code}");
            assert_eq!(faults.count("C_OpenSession"), opened, "{code}: nothing was lost");
        }
    });
}

/// Neither one that stays nor one that passes. (After a fault of these tests the
/// operation is still open, so a new session has to help.)
#[test]
fn a_fault_while_decrypting_does_not_say_that_the_ciphertext_is_bad() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options());
        let good = wrap(&key, b"a message");
        for code in [
            "CKR_FUNCTION_FAILED",
            "CKR_GENERAL_ERROR",
            "CKR_DEVICE_ERROR",
            "CKR_ENCRYPTED_DATA_INVALID",
            "CKR_DATA_LEN_RANGE",
            "0x80000001",
        ] {
            faults.set(&format!("C_Decrypt return {code}"));
            let error = decrypt(&key, good.clone()).result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Gone, "{code}: {error}");
            faults.clear();
        }
        for code in ["CKR_FUNCTION_FAILED", "CKR_DEVICE_ERROR"] {
            faults.set(&format!("C_Decrypt return {code} times 1"));
            assert_eq!(*decrypt(&key, good.clone()).result.unwrap(), b"a message", "{code}");
        }
    });
}

/// Ciphertexts that do not decrypt, each in its own way.
fn hostile(hsm: &SoftHsm, good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    create(hsm, "other", 2048, &[]);
    let modulus = modulus(hsm, "dke");
    let mut below = modulus.clone();
    *below.last_mut().unwrap() -= 1;
    let sha256 = &OAEP_SHA256_MGF1SHA256;
    let mut cases = vec![
        ("empty", Vec::new()),
        ("one byte", vec![1]),
        ("cut short", good[..255].to_vec()),
        ("cut in front", good[1..].to_vec()),
        ("too long", [good, &[0]].concat()),
        ("a zero in front", [&[0], good].concat()),
        ("twice", good.repeat(2)),
        ("longer than any", vec![7; 12 << 10]),
        ("zeros", vec![0; 256]),
        ("one", [&[0; 255][..], &[1]].concat()),
        ("two", [&[0; 255][..], &[2]].concat()),
        ("the modulus", modulus.clone()),
        ("one less", below),
        ("all ones", vec![0xFF; 256]),
        ("another key's", oaep(&crate::rsa::modulus(hsm, "other"), sha256, &[7; 32], None)),
        ("no padding", encrypted(&modulus, &[7; 32])),
        ("no padding at all", encrypted(&modulus, &[0x42; 255])),
        ("padding of PKCS #1 1.5", encrypted(&modulus, &pkcs1(&[7; 32]))),
        ("OAEP with SHA-1", oaep(&modulus, &OAEP_SHA1_MGF1SHA1, &[7; 32], None)),
        ("a label", oaep(&modulus, sha256, &[7; 32], Some(b"label"))),
    ];
    for place in [0, 1, 32, 33, 128, 254, 255] {
        let mut flipped = good.to_vec();
        flipped[place] ^= 1;
        cases.push(("a flipped bit", flipped));
    }
    cases
}

#[test]
fn the_module_is_called_no_more_often_than_needed() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(1));
        let ciphertext = wrap(&key, b"a message");
        decrypt(&key, ciphertext.clone()).result.unwrap();
        let before = faults.calls();
        (0..20).for_each(|_| drop(decrypt(&key, ciphertext.clone()).result.unwrap()));
        let after = faults.calls();
        let called: Vec<_> = after
            .iter()
            .map(|(name, times)| (&**name, times - before.get(name).copied().unwrap_or(0)))
            .filter(|(_, times)| *times > 0)
            .collect();
        assert_eq!(called, [("C_Decrypt", 20), ("C_DecryptInit", 20)]);
    });
}

#[test]
fn a_key_that_is_for_more_than_decrypting_or_not_well_kept_is_not_opened() {
    with_softhsm(|hsm| {
        let cases = [
            (1024, vec![], "1024 bits", false),
            (2048, vec![Attribute::Sign(true)], "CKA_SIGN", false),
            (2048, vec![Attribute::Decrypt(false)], "not for decrypting", false),
            (2048, vec![Attribute::Extractable(true)], "extractable", true),
            (2048, vec![Attribute::Sensitive(false)], "not sensitive", true),
            (2048, vec![Attribute::Private(false)], "public", true),
        ];
        for (number, (bits, attributes, reason, can_be_allowed)) in cases.into_iter().enumerate() {
            let label = format!("key{number}");
            create(hsm, &label, bits, &attributes);
            let error = open(hsm, &label, options()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{reason}");
            assert!(error.to_string().contains(reason), "{reason}: {error}");
            let allowed = open(hsm, &label, options().with_extractable_keys());
            assert_eq!(allowed.is_ok(), can_be_allowed, "{reason}");
        }
        hsm.new_kek("aes");
        let error = open(hsm, "aes", options()).unwrap_err();
        assert!(error.to_string().contains("no RSA private key"), "{error}");
        assert_eq!(open(hsm, "nowhere", options()).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn what_a_key_is_bound_to_is_told() {
    with_softhsm(|hsm| {
        // The mechanism by which each of these tokens decrypts.
        let ours = match Kind::of_this_run() {
            Kind::SoftHsm => (MechanismType::RSA_X_509, "CKM_RSA_X_509"),
            Kind::Kryoptic => (MechanismType::RSA_PKCS_OAEP, "CKM_RSA_PKCS_OAEP"),
        };
        create(hsm, "bound", 2048, &[Attribute::AllowedMechanisms(vec![ours.0])]);
        let key = open(hsm, "bound", options()).unwrap();
        assert_eq!(key.facts().allowed_mechanisms.as_deref(), Some(&[ours.1.to_owned()][..]));
        assert_eq!(*decrypt(&key, wrap(&key, b"a message")).result.unwrap(), b"a message");
        create(hsm, "free", 2048, &[]);
        assert_eq!(open(hsm, "free", options()).unwrap().facts().allowed_mechanisms, None);
    });
}

#[test]
fn a_pair_that_was_exchanged_is_not_used() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let ciphertext = wrap(&key, b"a message");
        let session = hsm.raw_session(TOKEN);
        for object in session.find_objects(&[Attribute::Label(b"dke".to_vec())]).unwrap() {
            session.destroy_object(object).unwrap();
        }
        let gone = decrypt(&key, ciphertext.clone()).result.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
        create(hsm, "dke", 2048, &[]);
        let error = decrypt(&key, ciphertext.clone()).result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        // Whoever finds the new one on the same sessions does not make it the old one's.
        let uri = hsm.uri(&format!("token={TOKEN};object=dke"));
        let new = block_on(RsaKey::on(key.token(), &uri)).unwrap();
        let of_new = wrap(&new, b"for the new one");
        assert_eq!(*decrypt(&new, of_new.clone()).result.unwrap(), b"for the new one");
        for ciphertext in [&ciphertext, &of_new] {
            let error = decrypt(&key, ciphertext.clone()).result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        }
        assert_eq!(*decrypt(&new, of_new).result.unwrap(), b"for the new one");
        let error = decrypt(&new, ciphertext).result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadCiphertext);
    });
}

/// Whoever has no PIN can put public keys on a token.
#[test]
fn a_planted_public_key_is_not_what_it_tells() {
    with_softhsm(|hsm| {
        create(hsm, "impostor", 2048, &[]);
        create(hsm, "dke", 2048, &[Attribute::Id(vec![1])]);
        let real = modulus(hsm, "dke");
        let planted = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Encrypt(true),
            Attribute::Label(b"dke".to_vec()),
            Attribute::Id(vec![1]),
            Attribute::Modulus(modulus(hsm, "impostor")),
            Attribute::PublicExponent(vec![1, 0, 1]),
        ];
        hsm.raw_session(TOKEN).create_object(&planted).unwrap();
        assert_eq!(open(hsm, "dke", options()).unwrap().public_key().modulus(), real);
    });
}

#[test]
fn a_fault_is_no_bad_ciphertext_and_what_is_lost_once_is_made_up_for() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options());
        let ciphertext = wrap(&key, b"a message");
        for (order, kind) in [
            ("C_DecryptInit return CKR_DEVICE_ERROR", ErrorKind::Gone),
            ("C_DecryptInit return CKR_GENERAL_ERROR", ErrorKind::Fatal),
            ("C_Decrypt return CKR_DEVICE_REMOVED", ErrorKind::Gone),
            // The operation is still open after a fault of these tests.
            ("C_Decrypt return CKR_HOST_MEMORY", ErrorKind::Gone),
        ] {
            faults.set(order);
            let error = decrypt(&key, ciphertext.clone()).result.unwrap_err();
            assert_eq!(error.kind(), kind, "{order}: {error}");
            faults.clear();
        }
        for lost in ["CKR_SESSION_CLOSED", "CKR_USER_NOT_LOGGED_IN", "CKR_DEVICE_REMOVED"] {
            faults.set(&format!("C_DecryptInit return {lost} times 1"));
            decrypt(&key, ciphertext.clone()).result.unwrap();
        }
    });
}

#[test]
fn a_call_that_hangs_is_answered_at_its_deadline() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(1));
        let ciphertext = wrap(&key, b"a message");
        faults.set("C_Decrypt hang");
        let call = || block_on(key.decrypt(ciphertext.clone(), Duration::from_millis(200)));
        let done = in_time(Duration::from_secs(2), "C_Decrypt hang", call);
        assert_eq!(done.result.unwrap_err().kind(), ErrorKind::TimedOut);
        faults.clear();
        assert_eq!(*decrypt(&key, ciphertext).result.unwrap(), b"a message");
    });
}

#[test]
fn callers_side_by_side_get_their_own_answers() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let calls = (0..64_u8).map(|number| {
            let ciphertext = match number % 3 {
                0 => vec![number; 256],
                _ => wrap(&key, &[number; 44]),
            };
            key.decrypt(ciphertext, LONG)
        });
        for (number, done) in (0..64_u8).zip(block_on(join_all(calls))) {
            match number % 3 {
                0 => assert_eq!(done.result.unwrap_err().kind(), ErrorKind::BadCiphertext),
                _ => assert_eq!(*done.result.unwrap(), [number; 44]),
            }
        }
    });
}

#[test]
fn a_fleet_decrypts_while_one_of_its_tokens_does() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let closed = open(hsm, "dke", options()).unwrap();
        let fleet = Fleet::new(vec![closed.clone(), key.clone()], FleetOptions::default()).unwrap();
        let ciphertext = wrap(&key, b"a message");
        assert_eq!(block_on(fleet.decrypt(ciphertext.clone(), LONG)).member, 0);
        block_on(closed.token().close(LONG));
        let done = block_on(fleet.decrypt(ciphertext, LONG));
        assert_eq!((&done.result.as_ref().unwrap()[..], done.member), (&b"a message"[..], 1));
        // Bad ciphertext is an answer: no other token is asked.
        let bad = block_on(fleet.decrypt(vec![1; 256], LONG)).result.unwrap_err();
        assert_eq!(bad.kind(), ErrorKind::BadCiphertext);
    });
}

/// The key `dke` of 2048 bits, for decrypting only.
fn new_key(hsm: &SoftHsm, options: TokenOptions) -> RsaKey {
    create(hsm, "dke", 2048, &[]);
    open(hsm, "dke", options).expect("the new key")
}

fn create(hsm: &SoftHsm, label: &str, bits: u16, unusual: &[Attribute]) {
    let is_said = unusual.iter().any(|attribute| matches!(attribute, Attribute::Sign(_)));
    let no_signing = (!is_said).then_some(Attribute::Sign(false));
    let attributes: Vec<_> = unusual.iter().cloned().chain(no_signing).collect();
    generate(hsm, label, bits, &[1, 0, 1], &attributes);
}

fn open(hsm: &SoftHsm, label: &str, options: TokenOptions) -> Result<RsaKey, Pkcs11Error> {
    let uri = hsm.uri(&format!("token={TOKEN};object={label}"));
    let token = block_on(Token::open(&uri, options))?;
    block_on(RsaKey::on(&token, &uri))
}

fn wrap(key: &RsaKey, message: &[u8]) -> Vec<u8> {
    let modulus = RsaPublicKey::modulus(key.public_key());
    oaep(modulus, &OAEP_SHA256_MGF1SHA256, message, None)
}

fn decrypt(key: &RsaKey, ciphertext: Vec<u8>) -> Done<Zeroizing<Vec<u8>>> {
    block_on(key.decrypt(ciphertext, LONG))
}

fn kind_and_text(result: &Result<Zeroizing<Vec<u8>>, Pkcs11Error>) -> (ErrorKind, String) {
    let error = result.as_ref().unwrap_err();
    (error.kind(), error.to_string())
}
