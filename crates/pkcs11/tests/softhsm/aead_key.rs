//! An AES-256 key for services: what it does, what that costs the module, and
//! what it says of everything that goes wrong.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::time::Duration;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use twinlock_pkcs11::{
    AeadKey, Done, ErrorKind, MAX_AAD_LEN, MAX_DATA_LEN, Pkcs11Error, Sealed, Token, TokenOptions,
};
use zeroize::Zeroizing;

use crate::fault_module::{Faults, in_time, with_faults};
use crate::support::{SoftHsm, TOKEN, block_on, options, with_softhsm};

/// Time enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_millis(200);

#[test]
fn data_of_any_length_comes_back_bound_to_its_aad() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let lens = [0, 1, 15, 16, 17, 4300, MAX_DATA_LEN];
        let aad_lens = [0, 1, 8195, 65_535, 65_536, MAX_AAD_LEN];
        for (len, aad_len) in lens.into_iter().zip(aad_lens.into_iter().cycle()) {
            let (data, aad) = (bytes(len), bytes(aad_len));
            let sealed = encrypt(&key, &data, &aad).result.unwrap();
            assert_eq!((sealed.iv.len(), sealed.ciphertext.len()), (12, len));
            assert_eq!(*decrypt(&key, &sealed, &aad).result.unwrap(), data, "{len}, {aad_len}");
            let refused = decrypt(&key, &sealed, &[&aad[..], b"x"].concat()).result;
            assert_eq!(kind(refused), ErrorKind::BadCiphertext, "{len}, {aad_len}");
        }
    });
}

#[test]
fn what_is_too_long_reaches_no_token() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options());
        let before = faults.calls();
        for (data, aad) in [(MAX_DATA_LEN + 1, 0), (0, MAX_AAD_LEN + 1)] {
            let error = encrypt(&key, &bytes(data), &bytes(aad)).result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
            let sealed = Sealed { iv: vec![1; 12], ciphertext: bytes(data), tag: [2; 16] };
            let refused = decrypt(&key, &sealed, &bytes(aad)).result;
            assert_eq!(kind(refused), ErrorKind::BadCiphertext);
        }
        assert_eq!(faults.calls(), before);
    });
}

#[test]
fn whatever_is_altered_is_refused_and_the_session_stays() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(1));
        let sealed = encrypt(&key, b"some data", b"aad").result.unwrap();
        let before = faults.count("C_OpenSession");
        for byte in 0..sealed.iv.len() {
            let mut altered = sealed.clone();
            altered.iv[byte] ^= 1;
            assert_eq!(kind(decrypt(&key, &altered, b"aad").result), ErrorKind::BadCiphertext);
        }
        for byte in 0..sealed.ciphertext.len() {
            let mut altered = sealed.clone();
            altered.ciphertext[byte] ^= 0x80;
            assert_eq!(kind(decrypt(&key, &altered, b"aad").result), ErrorKind::BadCiphertext);
        }
        for byte in 0..sealed.tag.len() {
            let mut altered = sealed.clone();
            altered.tag[byte] ^= 1;
            assert_eq!(kind(decrypt(&key, &altered, b"aad").result), ErrorKind::BadCiphertext);
        }
        let asked = faults.count("C_DecryptInit");
        for len in [0, 1, 11, 13, 15, 17, 300] {
            let altered = Sealed { iv: vec![1; len], ..sealed.clone() };
            assert_eq!(kind(decrypt(&key, &altered, b"aad").result), ErrorKind::BadCiphertext);
        }
        assert_eq!(faults.count("C_DecryptInit"), asked, "no token is asked about such an IV");
        decrypt(&key, &sealed, b"aad").result.unwrap();
        assert_eq!(faults.count("C_OpenSession"), before);
    });
}

#[test]
fn others_read_what_it_writes_and_it_reads_what_they_write() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let session = hsm.raw_session(TOKEN);
        let handle = handle_of(&session, "service");
        let sealed = encrypt(&key, b"ours", b"aad").result.unwrap();
        let joined = [&sealed.ciphertext[..], &sealed.tag].concat();
        let mut iv = sealed.iv.clone();
        let data = session.decrypt(&gcm(&mut iv, b"aad"), handle, &joined).unwrap();
        assert_eq!(data, b"ours");
        for iv_len in [12, 16] {
            let mut iv = bytes(iv_len);
            let joined = session.encrypt(&gcm(&mut iv, b"aad"), handle, b"theirs").unwrap();
            let (ciphertext, tag) = joined.split_last_chunk().unwrap();
            let sealed = Sealed { iv, ciphertext: ciphertext.to_vec(), tag: *tag };
            let data = decrypt(&key, &sealed, b"aad").result.unwrap();
            assert_eq!(*data, b"theirs", "an IV of {iv_len} bytes");
        }
    });
}

#[test]
fn no_iv_is_used_twice_not_even_after_calls_that_failed() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(2));
        let mut ivs = HashSet::new();
        for round in 0..10 {
            let calls = (0..30).map(|_| key.encrypt(data(b"data"), Vec::new(), LONG));
            for done in block_on(join_all(calls)) {
                assert!(ivs.insert(done.result.unwrap().iv), "round {round}");
            }
            faults.set("C_EncryptInit return CKR_GENERAL_ERROR times 3");
            (0..3).for_each(|_| drop(encrypt(&key, b"data", b"")));
            faults.clear();
        }
        assert_eq!(ivs.len(), 300);
    });
}

#[test]
fn the_module_is_called_no_more_often_than_needed() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(1));
        let sealed = encrypt(&key, b"data", b"aad").result.unwrap();
        let cost = |work: &dyn Fn()| {
            let before = faults.calls();
            work();
            difference(&before, &faults.calls())
        };
        let one_each = |functions: &[&str]| -> BTreeMap<String, usize> {
            functions.iter().map(|function| ((*function).to_owned(), 200)).collect()
        };
        let times = |work: &dyn Fn()| (0..200).for_each(|_| work());

        let mut calls = cost(&|| times(&|| drop(encrypt(&key, b"data", b"aad").result.unwrap())));
        let random = calls.remove("C_GenerateRandom").unwrap();
        assert!((4..=8).contains(&random), "{random} times for 200 IVs: 2, 4, 8, ... 64 at a time");
        assert_eq!(calls, one_each(&["C_EncryptInit", "C_Encrypt"]));

        let mut calls = cost(&|| times(&|| drop(checked(&key, b"data").result.unwrap())));
        let random = calls.remove("C_GenerateRandom").unwrap();
        assert!((3..=4).contains(&random), "{random} times for 200 IVs: 64 at a time");
        let four = ["C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"];
        assert_eq!(calls, one_each(&four));

        let calls = cost(&|| times(&|| drop(decrypt(&key, &sealed, b"aad").result.unwrap())));
        assert_eq!(calls, one_each(&["C_DecryptInit", "C_Decrypt"]));
        let calls = cost(&|| times(&|| drop(decrypt(&key, &sealed, b"no").result.unwrap_err())));
        assert_eq!(calls, one_each(&["C_DecryptInit", "C_Decrypt"]), "bad ciphertext");
    });
}

#[test]
fn the_check_happens_after_the_caller_has_seen_what_is_checked() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options());
        let decrypted = || faults.count("C_DecryptInit");
        let before = decrypted();
        let counts = faults.to_owned();
        let between = move |sealed: &Sealed| (sealed.clone(), counts.count("C_DecryptInit"));
        let done = block_on(key.encrypt_checked(data(b"data"), b"aad".to_vec(), LONG, between));
        let (sealed, (seen, decrypted_by_then)) = done.result.unwrap();
        assert_eq!((&sealed, decrypted_by_then), (&seen, before));
        assert_eq!(decrypted(), before + 1);
        assert_eq!(*decrypt(&key, &sealed, b"aad").result.unwrap(), b"data");
    });
}

#[test]
fn a_token_that_does_not_decrypt_what_it_made_is_not_believed() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options());
        faults.set("C_Decrypt return CKR_ENCRYPTED_DATA_INVALID");
        assert_eq!(kind(checked(&key, b"data").result), ErrorKind::Fatal);
        faults.set("C_Decrypt return CKR_OK"); // and it writes nothing
        assert_eq!(kind(checked(&key, b"data").result), ErrorKind::Fatal);
        faults.clear();
        checked(&key, b"data").result.unwrap();
        checked(&key, b"").result.unwrap();
    });
}

#[test]
fn a_panic_between_is_answered() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let between = |_: &Sealed| -> () { panic!("for the test") };
        let done = block_on(key.encrypt_checked(data(b"data"), Vec::new(), LONG, between));
        assert_eq!(kind(done.result), ErrorKind::Fatal);
        checked(&key, b"data").result.unwrap();
    });
}

#[test]
fn a_key_for_one_use_only_is_opened_and_says_so_when_used_otherwise() {
    with_softhsm(|hsm| {
        let session = hsm.raw_session(TOKEN);
        for (label, encrypts, decrypts) in [("seals", true, false), ("opens", false, true)] {
            generate(
                &session,
                label,
                32,
                &[Attribute::Encrypt(encrypts), Attribute::Decrypt(decrypts)],
            );
            let key = open(hsm, label, options());
            assert_eq!(
                (key.facts().encrypt, key.facts().decrypt),
                (Some(encrypts), Some(decrypts))
            );
            let sealed = encrypt(&key, b"data", b"").result;
            assert_eq!(sealed.is_ok(), encrypts);
            let other = Sealed { iv: vec![1; 12], ciphertext: vec![2; 4], tag: [3; 16] };
            let opened = decrypt(&key, &sealed.as_ref().cloned().unwrap_or(other), b"").result;
            let checked = checked(&key, b"data").result;
            assert!(checked.unwrap_err().is_forbidden_use());
            let error = if encrypts { opened.map(drop) } else { sealed.map(drop) }.unwrap_err();
            assert!(error.is_forbidden_use(), "{error}");
        }
        let key = new_key(hsm, options());
        let other = Sealed { iv: vec![1; 12], ciphertext: vec![2; 4], tag: [3; 16] };
        assert!(!decrypt(&key, &other, b"").result.unwrap_err().is_forbidden_use());
    });
}

#[test]
fn what_is_no_aes_256_key_or_not_well_kept_is_not_opened() {
    with_softhsm(|hsm| {
        let session = hsm.raw_session(TOKEN);
        generate(&session, "short", 16, &[]);
        generate(&session, "loose", 32, &[Attribute::Extractable(true)]);
        for label in ["short", "loose"] {
            let error = try_open(hsm, label, options()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        }
        assert_eq!(try_open(hsm, "absent", options()).unwrap_err().kind(), ErrorKind::NotFound);
        try_open(hsm, "loose", options().with_extractable_keys()).unwrap();
    });
}

#[test]
fn a_key_that_is_gone_is_missing_and_one_that_was_replaced_is_found() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options().with_workers(1));
        let sealed = encrypt(&key, b"data", b"").result.unwrap();
        let path = format!("token={TOKEN};object=service");
        hsm.in_child("replace", &path, &[]).unwrap();
        encrypt(&key, b"data", b"").result.expect("with the new key");
        assert_eq!(kind(decrypt(&key, &sealed, b"").result), ErrorKind::BadCiphertext);
        hsm.in_child("delete", &path, &[]).unwrap();
        for _ in 0..3 {
            assert_eq!(kind(encrypt(&key, b"data", b"").result), ErrorKind::NotFound);
            assert_eq!(kind(decrypt(&key, &sealed, b"").result), ErrorKind::NotFound);
        }
    });
}

#[test]
fn what_is_lost_once_is_made_up_for_and_never_looks_like_a_missing_key() {
    with_faults(|hsm, faults| {
        let options = options().with_workers(1).with_breaker(10_000, Duration::from_millis(1));
        let key = new_key(hsm, options);
        let sealed = encrypt(&key, b"data", b"").result.unwrap();
        for code in LOST {
            for function in ["C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt"] {
                faults.set(&format!("{function} return {code} times 1"));
                let results = [
                    checked(&key, b"data").result.map(drop),
                    encrypt(&key, b"data", b"").result.map(drop),
                    decrypt(&key, &sealed, b"").result.map(drop),
                ];
                for result in results {
                    assert_eq!(result, Ok(()), "{function} {code}");
                }
                for more in [
                    "",
                    "C_OpenSession return CKR_TOKEN_NOT_PRESENT",
                    "C_FindObjectsInit return CKR_USER_NOT_LOGGED_IN",
                ] {
                    faults.set(&format!("{function} return {code}\n{more}"));
                    for result in [
                        encrypt(&key, b"data", b"").result.map(drop),
                        decrypt(&key, &sealed, b"").result.map(drop),
                    ] {
                        let kind = result.err().map(|error| error.kind());
                        assert_ne!(kind, Some(ErrorKind::NotFound), "{function} {code} {more}");
                    }
                }
            }
        }
    });
}

/// What a session, a login or a device that is lost answers.
const LOST: [&str; 8] = [
    "CKR_DEVICE_REMOVED",
    "CKR_KEY_HANDLE_INVALID",
    "CKR_OBJECT_HANDLE_INVALID",
    "CKR_OPERATION_NOT_INITIALIZED",
    "CKR_SESSION_CLOSED",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_USER_NOT_LOGGED_IN",
];

#[test]
fn a_login_that_ends_while_the_key_is_looked_up_is_made_again() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(1));
        let other = hsm.raw_session(TOKEN);
        let before = faults.count("C_FindObjectsInit");
        faults.set(
            "C_EncryptInit return CKR_KEY_HANDLE_INVALID times 1\n\
             C_FindObjectsInit delay 700ms times 1",
        );
        let call = std::thread::spawn(move || encrypt(&key, b"data", b"").result);
        while faults.count("C_FindObjectsInit") == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        other.logout().unwrap(); // private objects are hidden from now on
        call.join().unwrap().expect("found, after another login");
    });
}

#[test]
fn a_call_that_hangs_is_answered_at_its_deadline_while_others_go_on() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(2).with_warm_sessions());
        faults.set("C_Encrypt hang times 1");
        let hung = in_the_token(faults, "C_Encrypt", encrypt_within(&key, DEADLINE));
        let others = (0..50).map(|_| encrypt_within(&key, LONG));
        for done in block_on(join_all(others)) {
            done.result.expect("by the other session");
        }
        let hung = in_time(DEADLINE, "hang", || block_on(hung));
        assert_eq!(kind(hung.result), ErrorKind::TimedOut);
        assert!(hung.queued + hung.in_token >= DEADLINE, "{:?}", (hung.queued, hung.in_token));
        assert!(hung.in_token > hung.queued, "it was in the token");
        assert_eq!(key.token().state().hung, 1);
        encrypt(&key, b"data", b"").result.unwrap();
    });
}

#[test]
fn it_says_where_the_time_went() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(1));
        faults.set("C_Encrypt delay 30ms");
        let calls = (0..4).map(|_| key.encrypt(data(b"data"), Vec::new(), LONG));
        let times: Vec<_> = block_on(join_all(calls))
            .into_iter()
            .map(|done| (done.result.map(drop).unwrap(), done.queued, done.in_token))
            .collect();
        let delay = Duration::from_millis(30);
        assert!(times.iter().all(|(_, _, in_token)| *in_token >= delay), "{times:?}");
        assert!(times.iter().any(|(_, queued, _)| *queued >= delay * 3), "{times:?}");
    });
}

#[test]
fn calls_that_could_not_be_answered_in_time_are_refused_at_once() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(1));
        faults.set("C_Encrypt delay 50ms");
        (0..30).for_each(|_| drop(encrypt(&key, b"data", b"").result.unwrap()));
        let calls = (0..60).map(|_| key.encrypt(data(b"data"), Vec::new(), DEADLINE));
        let results: Vec<_> = block_on(join_all(calls)).into_iter().collect();
        let refused = results.iter().filter(|done| {
            let is_busy =
                done.result.as_ref().err().map(Pkcs11Error::kind) == Some(ErrorKind::Busy);
            is_busy && done.queued < DEADLINE && done.in_token.is_zero()
        });
        assert!(refused.count() >= 40, "{results:?}");
        encrypt(&key, b"data", b"").result.expect("whoever waits long enough is served");
    });
}

#[test]
fn sessions_are_opened_ahead_if_that_is_wanted() {
    with_faults(|hsm, faults| {
        create(hsm, "service");
        let before = (faults.count("C_OpenSession"), faults.count("C_Login"));
        let key = open(hsm, "service", options().with_workers(3).with_warm_sessions());
        let opened =
            || (faults.count("C_OpenSession") - before.0, faults.count("C_Login") - before.1);
        assert_eq!((key.token().state().sessions, opened()), (3, (3, 1)));
        let calls = (0..30).map(|_| encrypt_within(&key, LONG));
        assert!(block_on(join_all(calls)).iter().all(|done| done.result.is_ok()));
        assert_eq!(opened(), (3, 1));
    });
}

#[test]
fn a_token_with_room_for_fewer_sessions_is_opened_with_those() {
    with_faults(|hsm, faults| {
        create(hsm, "service");
        faults.set("C_OpenSession cap 2");
        let key = open(hsm, "service", options().with_workers(5).with_warm_sessions());
        assert_eq!(key.token().state().sessions, 2);
        let calls = (0..30).map(|_| encrypt_within(&key, LONG));
        assert!(block_on(join_all(calls)).iter().all(|done| done.result.is_ok()));
    });
}

#[test]
fn a_wrong_pin_is_tried_once_with_sessions_opened_ahead_too() {
    with_faults(|hsm, faults| {
        let before = faults.count("C_Login");
        faults.set("C_Login return CKR_PIN_INCORRECT");
        let options = options().with_workers(4).with_warm_sessions();
        let uri = hsm.uri(&format!("token={TOKEN}"));
        let error = block_on(Token::open(&uri, options)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(faults.count("C_Login") - before, 1);
    });
}

#[test]
fn a_closed_token_is_logged_out_and_takes_no_calls() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(3).with_warm_sessions());
        let before = faults.count("C_CloseSession");
        block_on(key.token().close(LONG));
        assert_eq!(faults.count("C_CloseSession") - before, 3);
        assert_eq!(kind(encrypt(&key, b"data", b"").result), ErrorKind::Gone);
        let session = hsm.raw_session_without_pin(TOKEN);
        let state = session.get_session_info().unwrap().session_state();
        assert_eq!(state, SessionState::RwPublic, "the login is over");
        block_on(key.token().close(LONG)); // twice does no harm
    });
}

#[test]
fn closing_lets_calls_finish_and_waits_for_none_that_hangs() {
    with_faults(|hsm, faults| {
        let key = new_key(hsm, options().with_workers(2).with_warm_sessions());
        let token = key.token().clone();
        faults.set("C_Encrypt delay 300ms");
        let call = in_the_token(faults, "C_Encrypt", encrypt_within(&key, LONG));
        block_on(token.close(LONG));
        block_on(call).result.expect("it was in the token already");

        let key = open(hsm, "service", options());
        faults.set("C_Encrypt hang");
        let call = in_the_token(faults, "C_Encrypt", encrypt_within(&key, DEADLINE));
        in_time(DEADLINE, "close", || block_on(key.token().close(DEADLINE)));
        assert_eq!(kind(block_on(call).result), ErrorKind::TimedOut);
    });
}

#[test]
fn facts_of_a_token_have_its_firmware() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let (major, minor) = key.token().facts().firmware.split_once('.').unwrap();
        assert!(major.parse::<u8>().is_ok() && minor.parse::<u8>().is_ok());
    });
}

#[test]
fn callers_side_by_side_get_their_own_answers() {
    with_softhsm(|hsm| {
        let key = new_key(hsm, options());
        let calls = (0..64).map(|number: u8| {
            let key = key.clone();
            async move {
                let between = move |_: &Sealed| number;
                let done = key.encrypt_checked(data(&[number; 40]), vec![number], LONG, between);
                let (sealed, marked) = done.await.result.unwrap();
                let back = key.decrypt(sealed, vec![number], LONG).await.result.unwrap();
                assert_eq!((marked, &back[..]), (number, &[number; 40][..]));
            }
        });
        block_on(join_all(calls));
    });
}

// === The rig ===

fn new_key(hsm: &SoftHsm, options: TokenOptions) -> AeadKey {
    create(hsm, "service");
    open(hsm, "service", options)
}

/// Nobody is logged in afterwards.
fn create(hsm: &SoftHsm, label: &str) {
    generate(&hsm.raw_session(TOKEN), label, 32, &[]);
}

/// Creates a key that `unusual` attributes are added to.
fn generate(session: &Session, label: &str, len: u64, unusual: &[Attribute]) {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label.into()),
        Attribute::ValueLen(len.into()),
        Attribute::Sensitive(true),
    ];
    let usual = [Attribute::Extractable(false), Attribute::Encrypt(true), Attribute::Decrypt(true)];
    let is_other = |usual: &&Attribute| {
        unusual.iter().all(|unusual| unusual.attribute_type() != usual.attribute_type())
    };
    template.extend(usual.iter().filter(is_other).cloned());
    template.extend_from_slice(unusual);
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}

fn open(hsm: &SoftHsm, label: &str, options: TokenOptions) -> AeadKey {
    try_open(hsm, label, options).unwrap()
}

fn try_open(hsm: &SoftHsm, label: &str, options: TokenOptions) -> Result<AeadKey, Pkcs11Error> {
    let uri = hsm.uri(&format!("token={TOKEN};object={label}"));
    let token = block_on(Token::open(&uri, options)).expect("the token opens");
    block_on(AeadKey::on(&token, &uri))
}

fn handle_of(session: &Session, label: &str) -> ObjectHandle {
    let template = [Attribute::Label(label.into()), Attribute::Class(ObjectClass::SECRET_KEY)];
    session.find_objects(&template).unwrap()[0]
}

fn gcm<'a>(iv: &'a mut [u8], aad: &'a [u8]) -> Mechanism<'a> {
    Mechanism::AesGcm(GcmParams::new(iv, aad, 128.into()).unwrap())
}

fn encrypt(key: &AeadKey, plain: &[u8], aad: &[u8]) -> Done<Sealed> {
    block_on(key.encrypt(data(plain), aad.to_vec(), LONG))
}

fn encrypt_within(key: &AeadKey, within: Duration) -> impl Future<Output = Done<Sealed>> + '_ {
    key.encrypt(data(b"data"), Vec::new(), within)
}

fn checked(key: &AeadKey, plain: &[u8]) -> Done<(Sealed, ())> {
    block_on(key.encrypt_checked(data(plain), Vec::new(), LONG, |_| ()))
}

fn decrypt(key: &AeadKey, sealed: &Sealed, aad: &[u8]) -> Done<Zeroizing<Vec<u8>>> {
    block_on(key.decrypt(sealed.clone(), aad.to_vec(), LONG))
}

/// Starts `call` and returns it once the module has it in its `function`.
fn in_the_token<F: Future>(faults: &Faults<'_>, function: &str, call: F) -> Pin<Box<F>> {
    let before = faults.count(function);
    let mut call = Box::pin(call);
    assert!((&mut call).now_or_never().is_none());
    while faults.count(function) == before {
        std::thread::sleep(Duration::from_millis(1));
    }
    call
}

fn data(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// No two of its places are alike for long.
fn bytes(len: usize) -> Vec<u8> {
    (1..=len).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

fn kind<T: std::fmt::Debug>(result: Result<T, Pkcs11Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn difference(
    before: &BTreeMap<String, usize>,
    after: &BTreeMap<String, usize>,
) -> BTreeMap<String, usize> {
    let more = after.iter().map(|(function, count)| {
        (function.clone(), count - before.get(function).copied().unwrap_or(0))
    });
    more.filter(|(_, more)| *more > 0).collect()
}
