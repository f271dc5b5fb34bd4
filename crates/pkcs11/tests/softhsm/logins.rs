//! Logging in, and where PINs come from.

use std::ffi::OsStr;

use futures_util::future::join_all;
use twinlock_keys::KeyHolder as _;
use twinlock_pkcs11::{ErrorKind, PinSource, Pkcs11Error, Token, list_tokens};

use crate::support::{PIN, SoftHsm, block_on, context, options, parse, pin, share, with_softhsm};

#[test]
fn a_wrong_pin_is_denied_and_not_shown() {
    with_softhsm(|hsm| {
        let error = open_with(hsm, "not-the-pin").unwrap_err();
        assert_eq!(
            (error.kind(), error.code().as_deref()),
            (ErrorKind::Denied, Some("CKR_PIN_INCORRECT"))
        );
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("not-the-pin"), "{shown}");
        assert!(shown.contains("does not try it again"), "{shown}");
    });
}

#[test]
fn a_pin_that_was_refused_is_not_tried_again() {
    with_softhsm(|hsm| {
        assert!(open_with(hsm, "not-the-pin").is_err());
        assert!(a_wrong_pin_was_tried(hsm));
        log_in_elsewhere(hsm);
        assert!(!a_wrong_pin_was_tried(hsm), "a good login clears the token's flag");
        let error = open_with(hsm, "not-the-pin").unwrap_err();
        assert_eq!(error.code().as_deref(), Some("CKR_PIN_INCORRECT"));
        assert!(!a_wrong_pin_was_tried(hsm), "answered from memory");
    });
}

#[test]
fn nor_by_other_workers_and_tokens_at_the_same_time() {
    with_softhsm(|hsm| {
        assert!(open_with(hsm, "not-the-pin").is_err());
        log_in_elsewhere(hsm);
        let uri = parse(&hsm.text_without_pin("token=Twinlock"));
        let options = options().with_workers(4).with_pin(PinSource::given(pin("not-the-pin")));
        let opened = (0..16).map(|_| Token::open(&uri, options.clone()));
        for result in block_on(join_all(opened)) {
            assert_eq!(result.err().unwrap().kind(), ErrorKind::Denied);
        }
        assert!(!a_wrong_pin_was_tried(hsm));
    });
}

#[test]
fn the_right_pin_works_after_a_wrong_one() {
    with_softhsm(|hsm| {
        assert!(open_with(hsm, "not-the-pin").is_err());
        open_with(hsm, PIN).unwrap();
        assert!(!a_wrong_pin_was_tried(hsm));
    });
}

#[test]
fn a_pin_of_impossible_length_is_denied() {
    with_softhsm(|hsm| {
        let error = open_with(hsm, "1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
}

#[test]
fn without_any_source_the_message_names_the_sources() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        let uri = hsm.text_without_pin("token=Twinlock;object=archive");
        let output = hsm.in_child("check", &uri, &[]).unwrap_err();
        assert!(output.contains("Misconfigured: the token \"Twinlock\" wants a PIN"), "{output}");
        assert!(
            ["pin-source", "TWINLOCK_PIN_FILE", "twinlock-pin"]
                .iter()
                .all(|name| output.contains(name)),
            "{output}"
        );
    });
}

#[test]
fn the_pin_comes_from_the_environment_a_file_or_systemd() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        let uri = hsm.text_without_pin("token=Twinlock;object=archive");
        let credentials = hsm.folder.join("credentials");
        std::fs::create_dir(&credentials).unwrap();
        std::fs::write(credentials.join("twinlock-pin"), PIN).unwrap();
        let file = hsm.folder.join("pin");
        for (name, value) in [
            ("TWINLOCK_PIN", OsStr::new(PIN)),
            ("TWINLOCK_PIN_FILE", file.as_os_str()),
            ("CREDENTIALS_DIRECTORY", credentials.as_os_str()),
        ] {
            hsm.in_child("check", &uri, &[(name, value)])
                .unwrap_or_else(|output| panic!("{name}: {output}"));
        }
        hsm.in_child("check", &format!("{uri}&pin-value={PIN}"), &[]).unwrap();
        hsm.in_child("check", &format!("{uri}&pin-source={}", file.display()), &[]).unwrap();
    });
}

#[test]
fn being_logged_in_already_is_fine() {
    with_softhsm(|hsm| {
        let _session = hsm.raw_session("Twinlock");
        hsm.new_kek("archive");
        let _open = hsm.open("token=Twinlock;object=archive").unwrap();
        assert!(hsm.open("token=Twinlock;object=archive").is_ok());
    });
}

#[test]
fn a_login_that_was_lost_is_made_again() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        hsm.raw_session("Twinlock").logout().unwrap();
        let wrapped = block_on(key.wrap_key(&share(), &context(""))).unwrap();
        assert!(block_on(key.unwrap_key(&wrapped, &context(""))).is_ok());
    });
}

#[test]
fn sessions_that_were_closed_are_opened_again() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        restart_module(hsm);
        let wrapped = block_on(key.wrap_key(&share(), &context(""))).unwrap();
        assert!(block_on(key.unwrap_key(&wrapped, &context(""))).is_ok());
    });
}

#[test]
fn a_module_that_was_finalised_is_initialised_again() {
    with_softhsm(|hsm| {
        let key = hsm.new_kek("archive");
        hsm.raw().finalize().unwrap();
        let wrapped = block_on(key.wrap_key(&share(), &context(""))).unwrap();
        assert!(block_on(key.unwrap_key(&wrapped, &context(""))).is_ok());
        assert!(hsm.open("token=Twinlock;object=archive").is_ok());
    });
}

#[test]
fn a_token_that_was_closed_can_be_opened_again() {
    with_softhsm(|hsm| {
        for _ in 0..3 {
            open_with(hsm, PIN).unwrap();
        }
    });
}

fn open_with(hsm: &SoftHsm, text: &str) -> Result<(), Pkcs11Error> {
    let uri = parse(&hsm.text_without_pin("token=Twinlock"));
    let options = options().with_pin(PinSource::given(pin(text)));
    block_on(Token::open(&uri, options)).map(drop)
}

/// The token's own memory of wrong PINs, cleared by a good one.
fn a_wrong_pin_was_tried(hsm: &SoftHsm) -> bool {
    let tokens = block_on(list_tokens(&hsm.uri(""), options())).unwrap();
    tokens.iter().any(|token| token.user_pin_count_low)
}

fn log_in_elsewhere(hsm: &SoftHsm) {
    let uri = hsm.uri("token=Twinlock;object=missing").profile_uri();
    let output = hsm.in_child("check", &uri, &[]).unwrap_err();
    assert!(output.contains("NotFound"), "logged in, and then found no key: {output}");
}

/// Another part of the program finalises the module, which closes every
/// session, and initialises it again.
fn restart_module(hsm: &SoftHsm) {
    hsm.raw().finalize().unwrap();
    hsm.raw();
}
