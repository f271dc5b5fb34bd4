//! Modules, and finding tokens in them.

use std::ffi::OsStr;

use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{ErrorKind, Token, list_keys, list_tokens};

use crate::kind::Kind;
use crate::support::{SO_PIN, block_on, create_token, module, options, parse, pin, with_softhsm};

#[test]
fn a_missing_token_is_not_found_and_the_message_lists_those_that_are_there() {
    with_softhsm(|hsm| {
        hsm.create_token("Other");
        let error = hsm.open("token=Missing;object=archive").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let message = error.to_string();
        assert!(
            ["Missing", "Twinlock", "Other"].iter().all(|name| message.contains(name)),
            "{message}"
        );
    });
}

#[test]
fn a_token_is_found_by_what_the_uri_says_of_it_and_by_nothing_less() {
    with_softhsm(|hsm| {
        let uri = hsm.uri("");
        let tokens = block_on(list_tokens(&uri, options())).unwrap();
        let token = tokens.iter().find(|token| token.initialized).unwrap();
        let all = format!(
            "token=Twinlock;manufacturer={};model={};serial={};slot-id={}",
            escaped(&token.manufacturer),
            escaped(&token.model),
            token.serial,
            token.slot_id
        );
        let open = |path: &str| block_on(Token::open(&hsm.uri(path), options()));
        assert_eq!(open(&all).unwrap().facts().serial, token.serial);
        for wrong in
            ["token=twinlock", "manufacturer=Project", "model=v", "serial=0", "slot-id=999"]
        {
            let error = open(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{wrong}");
        }
    });
}

#[test]
fn tokens_with_one_label_are_told_apart_by_their_serial_numbers() {
    with_softhsm(|hsm| {
        let raw = hsm.raw();
        let empty = raw
            .get_slots_with_token()
            .unwrap()
            .into_iter()
            .find(|slot| !raw.get_token_info(*slot).unwrap().token_initialized());
        raw.init_token(empty.unwrap(), &pin(SO_PIN), "Twinlock").unwrap();
        let error = hsm.open("token=Twinlock;object=archive").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(error.to_string().contains("serial="), "{error}");
        let tokens = block_on(list_tokens(&hsm.uri(""), options())).unwrap();
        let ours = tokens.iter().find(|token| token.user_pin_set).unwrap();
        let uri = hsm.uri(&format!("token=Twinlock;serial={}", ours.serial));
        assert!(block_on(Token::open(&uri, options())).is_ok());
    });
}

#[test]
fn the_only_token_needs_no_name() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        assert_eq!(block_on(list_keys(&hsm.uri(""), options())).unwrap().len(), 1);
        hsm.create_token("Other");
        let error = block_on(list_keys(&hsm.uri(""), options())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    });
}

#[test]
fn a_list_shows_initialised_tokens_and_empty_slots() {
    with_softhsm(|hsm| {
        let tokens = block_on(list_tokens(&hsm.uri(""), options())).unwrap();
        let of = |initialized| tokens.iter().filter(move |token| token.initialized == initialized);
        let token = of(true).next().unwrap();
        assert_eq!(
            (token.label.as_str(), token.vendor),
            ("Twinlock", Kind::of_this_run().vendor())
        );
        assert!(token.login_required && token.user_pin_set && !token.user_pin_locked);
        assert_eq!((of(true).count(), of(false).count()), (1, 1));
    });
}

#[test]
fn a_token_in_an_empty_slot_cannot_be_opened() {
    with_softhsm(|hsm| {
        let tokens = block_on(list_tokens(&hsm.uri(""), options())).unwrap();
        let empty = tokens.iter().find(|token| !token.initialized).unwrap();
        let uri = hsm.uri(&format!("slot-id={}", empty.slot_id));
        let error = block_on(Token::open(&uri, options())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_new_token_needs_a_label_of_its_own_that_fits() {
    with_softhsm(|hsm| {
        let too_long = "x".repeat(33);
        for label in ["Twinlock", too_long.as_str()] {
            let uri = Pkcs11Uri::of_key(label, "any").with_module_path(module());
            assert_eq!(create_token(&uri).unwrap_err().kind(), ErrorKind::Misconfigured, "{label}");
        }
        assert_eq!(create_token(&hsm.uri("")).unwrap_err().kind(), ErrorKind::Misconfigured);
        assert_eq!(block_on(list_tokens(&hsm.uri(""), options())).unwrap().len(), 2);
    });
}

#[test]
fn a_uri_without_a_module_uses_the_one_that_the_environment_names() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        let pin = hsm.folder.join("pin");
        let uri = format!("pkcs11:token=Twinlock;object=archive?pin-source={}", pin.display());
        let variables = [("TWINLOCK_PKCS11_MODULE", OsStr::new(&module()).to_owned())];
        hsm.in_child("check", &uri, &[(variables[0].0, &variables[0].1)]).unwrap();
        let output = hsm.in_child("check", &uri, &[]).unwrap_err();
        assert!(output.contains("Misconfigured: no PKCS#11 module is named"), "{output}");
        assert!(
            output.contains("module-path") && output.contains("TWINLOCK_PKCS11_MODULE"),
            "{output}"
        );
    });
}

#[test]
fn what_is_no_module_is_a_matter_of_configuration() {
    with_softhsm(|hsm| {
        let text_file = hsm.folder.join("pin");
        for path in ["/no/such/module.so", "no-such-module.so", text_file.to_str().unwrap()] {
            let uri = parse(&format!("pkcs11:?module-path={path}"));
            let error = block_on(list_tokens(&uri, options())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{path}");
            assert!(error.to_string().contains(path), "{error}");
        }
    });
}

#[test]
fn a_module_without_its_own_configuration_is_explained() {
    with_softhsm(|hsm| {
        let variable = Kind::of_this_run().configuration_variable();
        let output = hsm
            .in_child(
                "check",
                &hsm.text_without_pin("token=Twinlock;object=a"),
                &[(variable, OsStr::new("/no/such/file"))],
            )
            .unwrap_err();
        assert!(output.contains("Misconfigured") && output.contains(variable), "{output}");
    });
}

#[test]
fn two_spellings_of_one_module_are_one_module() {
    with_softhsm(|hsm| {
        hsm.new_kek("archive");
        let link = hsm.folder.join("link.so");
        std::os::unix::fs::symlink(module(), &link).unwrap();
        let pin = hsm.folder.join("pin");
        let uri = parse(&format!(
            "pkcs11:token=Twinlock?module-path={}&pin-source={}",
            link.display(),
            pin.display()
        ));
        assert_eq!(block_on(list_keys(&uri, options())).unwrap().len(), 1);
    });
}

/// As a URI has it.
fn escaped(text: &str) -> String {
    text.replace(' ', "%20")
}
