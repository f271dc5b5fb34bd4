//! Tokens that fail: what callers see, what it costs, and how work resumes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use twinlock_keys::{HolderErrorKind, KeyHolder as _};
use twinlock_pkcs11::{ErrorKind, PinSource, Pkcs11Key, Token};

use crate::fault_module::{OpenKey, in_time, resumes, with_faults};
use crate::support::{TOKEN, block_on, context, options, parse, pin, share};

const DEADLINE: Duration = Duration::from_millis(300);
const REST: Duration = Duration::from_millis(400);

/// The token is pulled out: its slot is empty and its sessions are gone.
const REMOVED: &str = "C_GetTokenInfo return CKR_TOKEN_NOT_PRESENT
C_OpenSession return CKR_TOKEN_NOT_PRESENT
C_GetSessionInfo return CKR_DEVICE_REMOVED
C_GenerateRandom return CKR_DEVICE_REMOVED
C_EncryptInit return CKR_DEVICE_REMOVED
C_DecryptInit return CKR_DEVICE_REMOVED
";

/// An order that makes the next call need a new session.
const SESSION_LOST: &str = "C_DecryptInit return CKR_SESSION_CLOSED times 1\n";

#[test]
fn a_removed_token_is_left_alone_and_found_when_it_returns() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_breaker(3, REST));
        faults.set(REMOVED);
        for _ in 0..3 {
            assert_eq!(key.unwrap().unwrap_err().kind(), UNTIMED);
        }
        let calls = || faults.count("C_DecryptInit") + faults.count("C_GetSlotList");
        let before = calls();
        for _ in 0..20 {
            let kind = in_time(Duration::ZERO, "open", || key.unwrap()).unwrap_err().kind();
            assert!(
                matches!(kind, HolderErrorKind::Unavailable { retry_after: Some(t) } if t <= REST),
                "{kind:?}"
            );
        }
        // If the machine was slow, one call may have been let through.
        assert!(calls() - before <= 4, "it is hardly asked any more");
        faults.clear();
        resumes("returned", || key.unwrap());
        resumes("returned", || key.wrap());
    });
}

#[test]
fn bad_ciphertext_never_opens_the_breaker() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_breaker(1, Duration::from_secs(3600)));
        for _ in 0..20 {
            let kind = key.unwrap_badly().unwrap_err().kind();
            assert_eq!(kind, HolderErrorKind::InvalidCiphertext);
        }
        // However a token says so.
        for code in ["DEVICE_ERROR", "FUNCTION_FAILED", "GENERAL_ERROR", "DATA_INVALID"] {
            faults.set(&format!("C_Decrypt return CKR_{code}"));
            for _ in 0..5 {
                assert!(key.unwrap().is_err());
            }
        }
        faults.clear();
        key.unwrap().expect("at once: the breaker never opened");
    });
}

#[test]
fn a_missing_key_or_a_refusal_never_opens_the_breaker() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_breaker(1, Duration::from_secs(3600)));
        for code in ["FUNCTION_REJECTED", "KEY_FUNCTION_NOT_PERMITTED", "USER_NOT_LOGGED_IN"] {
            faults.set(&format!("C_DecryptInit return CKR_{code}"));
            for _ in 0..5 {
                assert!(key.unwrap().is_err());
            }
        }
        faults.clear();
        let missing = hsm.uri(&format!("token={TOKEN};object=missing"));
        for _ in 0..5 {
            let error = block_on(Pkcs11Key::on(key.key.token(), &missing)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        key.unwrap().unwrap();
    });
}

#[test]
fn a_refused_pin_is_tried_once_whoever_asks_and_however_often() {
    with_faults(|hsm, faults| {
        let before = faults.count("C_Login");
        faults.set("C_Login return CKR_PIN_INCORRECT");
        let uri = hsm.uri(&format!("token={TOKEN}"));
        for _ in 0..3 {
            let opened = (0..8).map(|_| Token::open(&uri, options().with_workers(4)));
            for result in block_on(join_all(opened)) {
                assert_eq!(result.err().unwrap().kind(), ErrorKind::Denied);
            }
        }
        assert_eq!(faults.count("C_Login") - before, 1);
    });
}

#[test]
fn a_wrong_pin_reaches_the_token_once() {
    with_faults(|hsm, faults| {
        let before = faults.count("C_Login");
        let uri = parse(&hsm.text_without_pin(&format!("token={TOKEN}")));
        let wrong = options().with_workers(4).with_pin(PinSource::given(pin("not-the-pin")));
        for _ in 0..3 {
            let opened = (0..8).map(|_| Token::open(&uri, wrong.clone()));
            for result in block_on(join_all(opened)) {
                let error = result.err().unwrap();
                assert_eq!(error.code().as_deref(), Some("CKR_PIN_INCORRECT"), "{error}");
            }
        }
        assert_eq!(faults.count("C_Login") - before, 1);
    });
}

#[test]
fn a_pin_that_was_changed_meanwhile_is_tried_once_by_an_open_key() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_workers(4));
        hsm.raw_session(TOKEN).logout().unwrap();
        let before = faults.count("C_Login");
        faults.set("C_Login return CKR_PIN_INCORRECT\nC_DecryptInit return CKR_USER_NOT_LOGGED_IN");
        let (wrapped, context) = (&key.wrapped, &context(""));
        let calls = (0..32).map(|_| key.key.unwrap_key(wrapped, context));
        for result in block_on(join_all(calls)) {
            assert_eq!(result.err().unwrap().kind(), HolderErrorKind::Denied);
        }
        assert_eq!(faults.count("C_Login") - before, 1);
    });
}

#[test]
fn an_unclear_answer_to_a_pin_is_taken_for_a_refusal() {
    with_faults(|hsm, faults| {
        let codes = ["CKR_GENERAL_ERROR", "CKR_DEVICE_ERROR", "CKR_FUNCTION_FAILED", "0x80000001"];
        for (number, code) in codes.into_iter().enumerate() {
            let before = faults.count("C_Login");
            faults.set(&format!("C_Login return {code}"));
            let uri = parse(&hsm.text_without_pin(&format!("token={TOKEN}")));
            let pin = PinSource::given(pin(&format!("never tried before {number}")));
            for _ in 0..3 {
                let open = Token::open(&uri, options().with_pin(pin.clone()));
                let error = block_on(open).unwrap_err();
                assert_eq!(
                    (error.kind(), error.code().as_deref()),
                    (ErrorKind::Denied, name(code))
                );
            }
            assert_eq!(faults.count("C_Login") - before, 1, "{code}");
        }
        faults.clear();
        hsm.new_kek("archive"); // the right PIN works
    });
}

#[test]
fn a_pin_that_was_right_gets_the_benefit_of_the_doubt_but_not_for_ever() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_breaker(100, REST));
        hsm.raw_session(TOKEN).logout().unwrap();
        let before = faults.count("C_Login");
        faults.set(&format!("{SESSION_LOST}C_Login return CKR_DEVICE_ERROR"));
        assert_eq!(key.unwrap().unwrap_err().kind(), UNTIMED);
        assert_eq!(faults.count("C_Login") - before, 1, "not twice in one call");
        assert_eq!(key.unwrap().unwrap_err().kind(), UNTIMED);
        for _ in 0..5 {
            assert_eq!(key.unwrap().unwrap_err().kind(), HolderErrorKind::Denied);
        }
        assert_eq!(faults.count("C_Login") - before, 3);
    });
}

#[test]
fn the_tokens_own_count_of_wrong_pins_is_looked_at_before_each_login() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options());
        for flag in ["CKF_USER_PIN_FINAL_TRY", "CKF_USER_PIN_LOCKED"] {
            hsm.raw_session(TOKEN).logout().unwrap();
            let before = faults.count("C_Login");
            // The session lives, so nothing but a login asks for the flags.
            faults.set(&format!(
                "C_GetTokenInfo flags {flag}\nC_DecryptInit return CKR_KEY_HANDLE_INVALID times 1"
            ));
            assert_eq!(key.unwrap().unwrap_err().kind(), HolderErrorKind::Denied, "{flag}");
            assert_eq!(faults.count("C_Login"), before, "{flag}");
            faults.clear();
            key.unwrap().expect("as soon as the token counts none");
        }
    });
}

#[test]
fn being_told_that_the_user_is_logged_in_already_is_no_failure() {
    with_faults(|hsm, faults| {
        hsm.new_kek("archive");
        let before = faults.count("C_Login");
        faults.set("C_Login return CKR_USER_ALREADY_LOGGED_IN times 1");
        hsm.open(&format!("token={TOKEN};object=archive")).unwrap();
        assert!(faults.count("C_Login") > before);
    });
}

#[test]
fn a_pool_larger_than_the_session_table_serves_everybody() {
    with_faults(|hsm, faults| {
        faults.set("C_OpenSession cap 3");
        let key = OpenKey::new(hsm, options().with_workers(8));
        let (share, context) = (&share(), &context(""));
        let calls = (0..100).map(|_| key.key.wrap_key(share, context));
        for result in block_on(join_all(calls)) {
            result.unwrap();
        }
    });
}

#[test]
fn a_full_session_table_is_waited_for_and_the_deadline_kept() {
    with_faults(|hsm, faults| {
        hsm.new_kek("archive");
        let others = hsm.raw_session(TOKEN);
        faults.set("C_OpenSession cap 1");
        let uri = hsm.uri(&format!("token={TOKEN};object=archive"));
        let open = |deadline| Pkcs11Key::open(&uri, options().with_deadline(deadline));
        let error = in_time(DEADLINE, "full", || block_on(open(DEADLINE))).unwrap_err();
        assert_eq!(
            (error.kind(), error.code().as_deref()),
            (ErrorKind::Busy, Some("CKR_SESSION_COUNT"))
        );
        let leave = std::thread::spawn(move || {
            std::thread::sleep(DEADLINE);
            drop(others);
        });
        block_on(open(Duration::from_secs(20))).expect("as soon as the others have left");
        leave.join().unwrap();
    });
}

#[test]
fn no_more_sessions_are_open_than_there_are_workers() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_workers(3));
        let before = faults.count("C_OpenSession"); // one of them has its session
        let (share, context) = (&share(), &context(""));
        let calls = (0..60).map(|_| key.key.wrap_key(share, context));
        assert!(block_on(join_all(calls)).into_iter().all(|result| result.is_ok()));
        assert!(faults.count("C_OpenSession") - before <= 2);
    });
}

#[test]
fn a_hung_call_costs_one_worker_and_one_caller() {
    with_faults(|hsm, faults| {
        let options = options().with_deadline(DEADLINE * 4).with_workers(2);
        let key = OpenKey::new(hsm, options);
        faults.set("C_Encrypt hang times 1");
        let (share, context) = (&share(), &context(""));
        let calls = (0..9).map(|_| key.key.wrap_key(share, context));
        let results = in_time(DEADLINE * 4, "hang", || block_on(join_all(calls)));
        let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(failed.iter().map(|error| error.kind()).collect::<Vec<_>>(), [TIMED_OUT]);
        key.wrap().expect("with the worker that replaced it");
    });
}

#[test]
fn at_the_bound_of_hung_workers_no_more_calls_are_sent_until_one_is_back() {
    with_faults(|hsm, faults| {
        let options = options()
            .with_deadline(DEADLINE)
            .with_workers(1)
            .with_hung_workers(2)
            .with_breaker(100, Duration::from_secs(3600));
        let key = OpenKey::new(hsm, options);
        let before = faults.count("C_Encrypt");
        faults.set("C_Encrypt hang");
        let start = Instant::now();
        let mut at_once = 0;
        while at_once < 20 {
            let kind = in_time(DEADLINE, "hang", || key.wrap()).unwrap_err().kind();
            let is_refused = matches!(kind, HolderErrorKind::Unavailable { retry_after: Some(_) });
            assert!(is_refused || kind == TIMED_OUT, "{kind:?}");
            at_once += usize::from(is_refused);
            assert!(start.elapsed() < Duration::from_secs(60), "the breaker never opened");
        }
        assert_eq!(faults.count("C_Encrypt") - before, 3);
        faults.clear();
        resumes("back", || key.wrap());
    });
}

#[test]
fn closing_waits_for_no_hung_call_and_finalises_nothing() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_deadline(DEADLINE));
        faults.set("C_Encrypt hang\nC_CloseSession hang");
        assert_eq!(key.wrap().unwrap_err().kind(), TIMED_OUT);
        in_time(DEADLINE, "close", || drop(key));
        assert_eq!(faults.count("C_Finalize"), 0);
        // This process ends now, with the call still out.
    });
}

#[test]
fn a_module_that_cannot_be_initialised_again_yet_is_tried_again() {
    with_faults(|hsm, faults| {
        let key = OpenKey::new(hsm, options().with_breaker(2, DEADLINE));
        faults.set("C_Initialize return CKR_DEVICE_REMOVED");
        finalise(hsm);
        for _ in 0..4 {
            assert!(key.unwrap().is_err());
        }
        faults.clear();
        resumes("initialised again", || key.unwrap());
    });
}

/// The code's name, as an error has it.
fn name(code: &str) -> Option<&str> {
    match code {
        "0x80000001" => Some("CKR_VENDOR_DEFINED 0x80000001"),
        named => Some(named),
    }
}

/// What another part of the program does.
fn finalise(hsm: &crate::support::SoftHsm) {
    let raw = cryptoki::context::Pkcs11::new(crate::support::module()).unwrap();
    raw.finalize().unwrap();
    assert!(hsm.folder.exists());
}

const TIMED_OUT: HolderErrorKind = HolderErrorKind::TimedOut;
const UNTIMED: HolderErrorKind = HolderErrorKind::Unavailable { retry_after: None };
