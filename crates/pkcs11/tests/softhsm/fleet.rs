//! One key on two tokens, each behind a copy of the module that fails on
//! request: two tokens of SoftHSM, or in a run on kryoptic one of either.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::UserType;
use futures_util::future::join_all;
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{
    AeadKey, Done, ErrorKind, Fleet, FleetOptions, Pkcs11Error, Sealed, Token, TokenOptions,
};
use zeroize::Zeroizing;

use crate::fault_module::{Faults, in_time, resumes, with_copies};
use crate::kind::Kind;
use crate::support::{PIN, SoftHsm, block_on, create_token, options, parse, pin};

const LONG: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_millis(400);
const HEDGE: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn the_first_member_answers_while_it_can() {
    with_fleet(|rig| {
        let fleet = rig.fleet(None);
        let before = rig.b.calls();
        for _ in 0..20 {
            let sealed = encrypt(&fleet);
            assert_eq!(sealed.member, 0);
            let sealed = sealed.result.unwrap();
            assert_eq!(decrypt(&fleet, &sealed).result.unwrap(), "data");
            checked(&fleet).result.unwrap();
        }
        assert_eq!(rig.b.calls(), before, "the second is not asked");
    });
}

#[test]
fn what_one_member_writes_the_other_reads() {
    with_fleet(|rig| {
        let fleet = rig.fleet(None);
        let sealed = encrypt(&fleet).result.unwrap();
        rig.a.set(REMOVED);
        let done = decrypt(&fleet, &sealed);
        assert_eq!((done.result.unwrap().as_str(), done.member), ("data", 1));
        let sealed = encrypt(&fleet).result.unwrap();
        rig.a.clear();
        rig.b.set(REMOVED);
        let back = resumes("the first is back", || match decrypt(&fleet, &sealed) {
            Done { result: Ok(data), member: 0, .. } => Ok(data),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(back, "data");
    });
}

#[test]
fn every_failure_of_a_device_is_somebody_elses_turn() {
    with_fleet(|rig| {
        let fleet = rig.fleet_with(options().with_breaker(u32::MAX, NEVER), None);
        let sealed = encrypt(&fleet).result.unwrap();
        for code in [
            "CKR_DEVICE_ERROR",
            "CKR_DEVICE_MEMORY",
            "CKR_DEVICE_REMOVED",
            "CKR_FUNCTION_FAILED",
            "CKR_GENERAL_ERROR",
            "CKR_HOST_MEMORY",
            "CKR_SESSION_CLOSED",
            "CKR_SESSION_HANDLE_INVALID",
            "CKR_TOKEN_NOT_PRESENT",
            "CKR_USER_NOT_LOGGED_IN",
        ] {
            rig.a.set(&format!("C_EncryptInit return {code}\nC_DecryptInit return {code}"));
            for done in [decrypt(&fleet, &sealed).map(drop), encrypt(&fleet).map(drop)] {
                assert_eq!((done.result, done.member), (Ok(()), 1), "{code}");
            }
            let done = checked(&fleet);
            assert!(done.result.is_ok() && done.member == 1, "{code}");
        }
    });
}

#[test]
fn what_is_said_of_the_call_itself_is_the_answer() {
    with_fleet(|rig| {
        let fleet = rig.fleet_with(options().with_breaker(1, NEVER), None);
        let sealed = encrypt(&fleet).result.unwrap();
        let before = rig.b.calls();
        let altered = Sealed { tag: [0; 16], ..sealed.clone() };
        for _ in 0..10 {
            let done = decrypt(&fleet, &altered);
            assert_eq!((kind(done.result), done.member), (ErrorKind::BadCiphertext, 0));
        }
        for code in ["CKR_KEY_FUNCTION_NOT_PERMITTED", "CKR_FUNCTION_REJECTED"] {
            rig.a.set(&format!("C_DecryptInit return {code}"));
            let error = decrypt(&fleet, &sealed).result.unwrap_err();
            assert_eq!(error.code().as_deref(), Some(code));
        }
        rig.a.clear();
        assert_eq!(decrypt(&fleet, &sealed).member, 0, "its breaker never opened");
        assert_eq!(rig.b.calls(), before, "the second was never asked");
    });
}

#[test]
fn a_member_that_hangs_is_passed_by_within_the_deadline() {
    with_fleet(|rig| {
        let fleet = rig.fleet(Some(HEDGE));
        let sealed = encrypt(&fleet).result.unwrap();
        rig.a.set("C_Encrypt hang\nC_Decrypt hang");
        for _ in 0..20 {
            let done = in_time(DEADLINE, "hang", || encrypt(&fleet));
            assert_eq!((done.result.map(drop), done.member), (Ok(()), 1));
            assert_eq!(decrypt(&fleet, &sealed).result.unwrap(), "data");
        }
        let states = resumes_to(&fleet, |states| states[0].resting.is_some());
        assert!(states[0].hung > 0 && states[1].hung == 0, "{states:?}");
        rig.a.clear();
        resumes("the first is back", || match encrypt(&fleet) {
            Done { result: Ok(_), member: 0, .. } => Ok(()),
            other => Err(format!("{other:?}")),
        });
        resumes_to(&fleet, |states| states[0].resting.is_none() && states[0].hung == 0);
    });
}

#[test]
fn a_slow_member_is_still_good_if_the_other_fails() {
    with_fleet(|rig| {
        let fleet = rig.fleet(Some(HEDGE));
        rig.a.set("C_Encrypt delay 100ms");
        rig.b.set("C_Encrypt return CKR_DEVICE_ERROR");
        let done = block_on(fleet.encrypt(data(), Vec::new(), LONG));
        assert_eq!((done.result.map(drop), done.member), (Ok(()), 0));
    });
}

#[test]
fn an_open_breaker_costs_nobody_time_and_closes_by_itself() {
    with_fleet(|rig| {
        let rest = Duration::from_millis(50);
        let fleet = rig.fleet_with(options().with_breaker(2, rest), None);
        rig.a.set(REMOVED);
        (0..5).for_each(|_| assert_eq!(encrypt(&fleet).member, 1));
        assert!(fleet.states()[0].resting.is_some() && fleet.states()[1].resting.is_none());
        // It hangs when it is tried again: whoever happens to do that does not wait.
        rig.a.set("C_OpenSession hang\nC_EncryptInit hang");
        let start = Instant::now();
        while start.elapsed() < rest * 6 {
            let done = in_time(Duration::ZERO, "probe", || {
                block_on(fleet.encrypt(data(), Vec::new(), NEVER))
            });
            assert_eq!((done.result.map(drop), done.member), (Ok(()), 1));
        }
        rig.a.clear();
        resumes_to(&fleet, |states| {
            encrypt(&fleet).result.unwrap();
            states[0].resting.is_none()
        });
    });
}

#[test]
fn when_all_fail_the_first_failure_is_told_in_time() {
    with_fleet(|rig| {
        let fleet = rig.fleet(Some(HEDGE));
        rig.a.set("C_Encrypt hang");
        rig.b.set("C_Encrypt hang");
        let done = in_time(DEADLINE, "both", || encrypt(&fleet));
        assert_eq!(kind(done.result), ErrorKind::TimedOut);
        rig.a.set(REMOVED);
        rig.b.set(REMOVED);
        let done = in_time(DEADLINE, "both", || encrypt(&fleet));
        assert!(matches!(kind(done.result), ErrorKind::Gone | ErrorKind::Busy));
    });
}

#[test]
fn the_key_is_missing_only_if_nobody_has_it() {
    with_fleet(|rig| {
        let fleet = rig.fleet_with(options().with_breaker(u32::MAX, NEVER), None);
        encrypt(&fleet).result.unwrap();
        rig.delete(0);
        let done = encrypt(&fleet);
        assert_eq!((done.result.map(drop), done.member), (Ok(()), 1));
        rig.b.set(REMOVED);
        assert_eq!(
            kind(encrypt(&fleet).result),
            ErrorKind::Gone,
            "who knows whether it is missing"
        );
        rig.b.clear();
        rig.delete(1);
        assert_eq!(kind(encrypt(&fleet).result), ErrorKind::NotFound);
    });
}

#[test]
fn many_callers_are_served_while_members_come_and_go() {
    with_fleet(|rig| {
        let breaker = options().with_breaker(3, Duration::from_millis(30));
        let fleet = rig.fleet_with(breaker, Some(HEDGE));
        let orders = ["", REMOVED, "C_Encrypt delay 30ms", "C_Decrypt return CKR_SESSION_CLOSED"];
        for round in 0..12 {
            let (good, bad) = if round % 2 == 0 { (&rig.a, &rig.b) } else { (&rig.b, &rig.a) };
            good.clear();
            bad.set(orders[round / 2 % orders.len()]);
            let calls = (0..25_u8).map(|number| {
                let fleet = &fleet;
                async move {
                    let data = Zeroizing::new(vec![number; 30]);
                    let sealed =
                        fleet.encrypt_checked(data, vec![number], LONG, move |_| number).await;
                    let (sealed, marked) = sealed.result.unwrap();
                    let back = fleet.decrypt(sealed, vec![number], LONG).await.result.unwrap();
                    assert_eq!((marked, &back[..]), (number, &[number; 30][..]));
                }
            });
            block_on(join_all(calls));
        }
    });
}

// === The rig ===

/// The token is pulled out.
const REMOVED: &str = "C_GetTokenInfo return CKR_TOKEN_NOT_PRESENT
C_OpenSession return CKR_TOKEN_NOT_PRESENT
C_GetSessionInfo return CKR_DEVICE_REMOVED
C_EncryptInit return CKR_DEVICE_REMOVED
C_DecryptInit return CKR_DEVICE_REMOVED
";

struct Rig<'a> {
    a: Faults<'a>,
    b: Faults<'a>,
    uris: [Pkcs11Uri; 2],
}

/// Runs `test` with two tokens that have the same key.
fn with_fleet<F: FnOnce(&Rig<'_>)>(test: F) {
    with_copies::<F>(|hsm, [a, b]| {
        let names = [("first", Kind::SoftHsm), ("second", Kind::of_this_run())];
        let uris = [0, 1].map(|place| {
            let module = [&a, &b][place].module();
            token_with_key(hsm, module, names[place])
        });
        test(&Rig { a, b, uris });
    });
}

/// A new token, reached through the copy `module`, with the key.
fn token_with_key(hsm: &SoftHsm, module: PathBuf, (label, kind): (&str, Kind)) -> Pkcs11Uri {
    let pin_file = hsm.folder.join("pin");
    let uri = format!(
        "pkcs11:token={label};object=service?module-path={}&pin-source=file:{}",
        module.display(),
        pin_file.display()
    );
    let uri = parse(&uri);
    let token = create_token(&uri).expect("a new token");
    assert_eq!((token.manufacturer.as_str(), token.model.as_str()), kind.maker());
    let session = raw_session(&uri);
    let key = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Value(vec![0x5a; 32]),
        Attribute::Label(b"service".to_vec()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
    ];
    session.create_object(&key).expect("the key is imported");
    uri
}

fn raw_session(uri: &Pkcs11Uri) -> cryptoki::session::Session {
    let raw = Pkcs11::new(uri.module_path().unwrap()).unwrap();
    let _ = raw.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let mut slots = raw.get_slots_with_initialized_token().unwrap().into_iter();
    let label = uri.token().unwrap();
    let slot = slots.find(|slot| raw.get_token_info(*slot).unwrap().label() == label).unwrap();
    let session = raw.open_rw_session(slot).unwrap();
    let _ = session.login(UserType::User, Some(&pin(PIN))); // this process may be logged in
    session
}

impl Rig<'_> {
    fn fleet(&self, hedge_after: Option<Duration>) -> Fleet {
        self.fleet_with(options(), hedge_after)
    }

    fn fleet_with(&self, options: TokenOptions, hedge_after: Option<Duration>) -> Fleet {
        let members = self.uris.iter().map(|uri| {
            let token = block_on(Token::open(uri, options.clone())).unwrap();
            block_on(AeadKey::on(&token, uri)).unwrap()
        });
        Fleet::new(members.collect(), FleetOptions { hedge_after }).unwrap()
    }

    fn delete(&self, member: usize) {
        let session = raw_session(&self.uris[member]);
        let label = Attribute::Label(b"service".to_vec());
        for object in session.find_objects(&[label]).unwrap() {
            session.destroy_object(object).unwrap();
        }
    }
}

fn data() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(b"data".to_vec())
}

fn encrypt(fleet: &Fleet) -> Done<Sealed> {
    block_on(fleet.encrypt(data(), b"aad".to_vec(), DEADLINE))
}

fn checked(fleet: &Fleet) -> Done<(Sealed, usize)> {
    let between = |sealed: &Sealed| sealed.ciphertext.len();
    let done = block_on(fleet.encrypt_checked(data(), Vec::new(), DEADLINE, between));
    assert!(done.result.as_ref().is_ok_and(|(_, len)| *len == 4), "{done:?}");
    done
}

fn decrypt(fleet: &Fleet, sealed: &Sealed) -> Done<String> {
    let done = block_on(fleet.decrypt(sealed.clone(), b"aad".to_vec(), DEADLINE));
    done.map(|data| String::from_utf8(data.to_vec()).unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T, Pkcs11Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// The states, once they are as they should be.
fn resumes_to(
    fleet: &Fleet,
    is_good: impl Fn(&[twinlock_pkcs11::TokenState]) -> bool,
) -> Vec<twinlock_pkcs11::TokenState> {
    resumes("the states", || {
        let states = fleet.states();
        if is_good(&states) { Ok(states) } else { Err(format!("{states:?}")) }
    })
}
