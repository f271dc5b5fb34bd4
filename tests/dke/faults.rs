//! Tokens and issuers that fail. It is told as what may pass (503), nothing ends
//! the program, and it recovers by itself.

use std::fs;
use std::thread;
use std::time::Duration;

use super::client::Answer;
use super::exchanged::with_key_on_two_hsms;
use super::issuer::{ALICE, Token, first_key, other_key};
use super::service::{Dke, eventually};
use crate::support::proxy::Fault;
use crate::support::softhsm::{PIN, write_private};

/// Neither the last word on the ciphertext nor on the caller.
#[track_caller]
fn is_transient(answer: &Answer) {
    assert!(matches!(answer.status, 429 | 503), "{answer:?}");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(!answer.text.contains("CKR_") && answer.text.len() < 300, "{}", answer.text);
}

// === Tokens ===

#[test]
fn a_session_that_hangs_costs_its_caller_a_deadline_and_others_nothing() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    dke.decrypt(&public, &ciphertext).ok();
    let before = dke.module.count("C_Decrypt");
    dke.faults("C_Decrypt hang times 1");
    thread::scope(|scope| {
        let stuck = scope.spawn(|| dke.decrypt(&public, &ciphertext));
        eventually("it hangs", || dke.module.count("C_Decrypt") > before);
        for _ in 0..10 {
            assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
        }
        is_transient(&stuck.join().unwrap());
    });
    dke.faults("");
    assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
}

#[test]
fn while_one_of_two_hsms_fails_or_hangs_the_other_decrypts() {
    let dke = with_key_on_two_hsms();
    let public = dke.public_key("Exchanged");
    let ciphertext = public.encrypt(b"x");
    let functions = ["C_DecryptInit", "C_OpenSession", "C_FindObjectsInit"];
    let gone = functions.map(|function| format!("{function} return CKR_DEVICE_REMOVED"));
    let decrypts = || (0..6).all(|_| dke.decrypt(&public, &ciphertext).plaintext() == b"x");
    dke.faults(&gone.join("\n"));
    assert!(decrypts());
    let records = dke.recorded(6);
    assert!(records.iter().all(|record| record["hsm"] == "b"), "{records:?}");
    dke.faults("C_Decrypt hang times 2");
    assert!(decrypts());
    dke.faults("");
    eventually("the first is used again", || {
        dke.decrypt(&public, &ciphertext).ok();
        dke.recorded(1).last().unwrap()["hsm"] == "a"
    });
}

#[test]
fn a_slow_token_answers() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    dke.faults("C_Decrypt delay 200ms");
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
}

#[test]
fn a_session_that_was_lost_is_opened_again_without_an_error() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    for code in ["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED", "CKR_USER_NOT_LOGGED_IN"] {
        dke.faults(&format!("C_DecryptInit return {code} times 1"));
        assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x", "{code}");
    }
}

#[test]
fn a_device_that_is_removed_is_told_as_transient_and_used_again_when_it_is_back() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    for code in ["CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT", "CKR_DEVICE_ERROR"] {
        let functions = ["C_DecryptInit", "C_OpenSession", "C_FindObjectsInit"];
        dke.faults(&functions.map(|function| format!("{function} return {code}")).join("\n"));
        for _ in 0..5 {
            is_transient(&dke.decrypt(&public, &ciphertext));
        }
        // The public key is known, and encrypting needs no token.
        dke.ask("GET", "/Confidential").ok();
        dke.faults("");
        eventually("it is used again", || dke.decrypt(&public, &ciphertext).status == 200);
    }
}

#[test]
fn readiness_follows_the_token() {
    let dke = Dke::start();
    dke.faults(
        &["C_OpenSession", "C_GetSessionInfo", "C_DecryptInit", "C_FindObjectsInit"]
            .map(|function| format!("{function} return CKR_DEVICE_REMOVED"))
            .join("\n"),
    );
    eventually("it is not ready", || dke.get("/readyz").unwrap().contains(" 503 "));
    assert!(dke.get("/livez").unwrap().contains(" 200 "));
    dke.faults("");
    eventually("it is ready", || dke.get("/readyz").unwrap().contains(" 200 "));
}

/// One try, or the token would lock; and no loop.
#[test]
fn a_wrong_pin_is_tried_once_and_the_right_one_after_a_reload() {
    let mut dke = Dke::prepared();
    write_private(&dke.dir.home().join("pin"), "0000-wrong");
    dke.write_config(&dke.config());
    dke.run();
    eventually("it serves", || dke.get("/livez").is_ok());
    eventually("it serves", || dke.try_send(&get("/Confidential")).is_ok());
    for _ in 0..5 {
        is_transient(&dke.try_token(&Token::of(ALICE).signed()));
    }
    thread::sleep(Duration::from_secs(12)); // more than one look at the token
    assert_eq!(dke.module.count("C_Login"), 1);
    assert!(dke.get("/readyz").unwrap().contains("PIN"), "it says why");

    write_private(&dke.dir.home().join("pin"), PIN);
    dke.signal(rustix::process::Signal::HUP);
    eventually("the key is served", || dke.ask("GET", "/Confidential").status == 200);
    let public = dke.public_key("Confidential");
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
}

fn get(path: &str) -> crate::support::http::Message {
    let head = format!("GET {path} HTTP/1.1");
    crate::support::http::Message::new(&head, &[("host", super::service::HOST)], b"")
}

#[test]
fn a_token_that_is_not_there_at_first_is_waited_for() {
    let mut dke = Dke::prepared();
    dke.faults("C_OpenSession return CKR_DEVICE_REMOVED");
    dke.write_config(&dke.config());
    dke.run();
    eventually("it serves", || dke.try_send(&get("/Confidential")).is_ok());
    is_transient(&dke.ask("GET", "/Confidential"));
    is_transient(&dke.try_token(&Token::of(ALICE).signed()));
    dke.faults("");
    eventually("it is used", || dke.ask("GET", "/Confidential").status == 200);
}

#[test]
fn a_token_that_is_deleted_is_told_as_transient() {
    let mut dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    let tokens = dke.hsm.folder().join("tokens");
    fs::rename(&tokens, tokens.with_extension("away")).unwrap();
    fs::create_dir(&tokens).unwrap();
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(400));
        let answer = dke.decrypt(&public, &ciphertext);
        // SoftHSM goes on with what it has in memory, mostly.
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
    }
    fs::remove_dir(&tokens).unwrap();
    fs::rename(tokens.with_extension("away"), &tokens).unwrap();
    // A SoftHSM that lost its files looks for them when it is loaded, and not before.
    assert_eq!(dke.stop(), Some(0));
    dke.run();
    dke.wait_until_ready();
    assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
}

#[test]
fn more_than_a_token_can_do_is_refused_and_not_queued_without_end() {
    let dke = Dke::with(|config| config.replace("sessions = 2", "sessions = 1"));
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    dke.faults("C_Decrypt delay 300ms");
    let answers: Vec<_> = thread::scope(|scope| {
        let asking = (0..60).map(|_| scope.spawn(|| dke.decrypt(&public, &ciphertext)));
        asking.collect::<Vec<_>>().into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert!(answers.iter().any(|answer| answer.status == 200), "some are answered");
    answers.iter().filter(|answer| answer.status != 200).for_each(is_transient);
    dke.faults("");
    eventually("all is well again", || dke.decrypt(&public, &ciphertext).status == 200);
}

// === Issuers ===

#[test]
fn an_issuer_that_is_down_from_the_start_is_waited_for() {
    let mut dke = Dke::prepared();
    dke.issuer.fail(&Fault::Drop);
    dke.write_config(&dke.config());
    dke.run();
    eventually("it serves", || dke.try_send(&get("/Confidential")).is_ok());
    let token = Token::of(ALICE).signed();
    eventually("the token is there", || dke.ask("GET", "/Confidential").status == 200);
    let before = dke.decryptions();
    for _ in 0..5 {
        is_transient(&dke.try_token(&token).refused(503, "unavailable"));
    }
    assert_eq!(dke.decryptions(), before, "nobody is let in for want of an issuer");
    dke.issuer.heal();
    eventually("it is asked again", || dke.try_token(&token).status == 200);
}

#[test]
fn while_an_issuer_is_down_its_last_keys_are_used() {
    let dke = Dke::start();
    let token = Token::of(ALICE).signed();
    dke.try_token(&token).ok();
    dke.issuer.fail(&Fault::Drop);
    for _ in 0..5 {
        dke.try_token(&token).ok();
    }
    let unknown = dke.try_token(&Token::of(ALICE).by(other_key()).signed());
    assert!(matches!(unknown.status, 401 | 503), "{unknown:?}");
    dke.try_token(&token).ok();
}

/// An error page in place of keys takes none away.
#[test]
fn what_an_issuer_publishes_by_mistake_takes_nothing_away() {
    let (html, json) = ([("content-type", "text/html")], [("content-type", "application/json")]);
    let faults = [
        Fault::answer(200, &html, "<html>maintenance</html>"),
        Fault::answer(302, &[("location", "https://evil.example/")], ""),
        Fault::answer(200, &json, "{\"keys\": []}"),
        Fault::answer(200, &json, "x".repeat(8 << 20)),
    ];
    thread::scope(|scope| {
        for fault in &faults {
            scope.spawn(|| takes_nothing_away(fault));
        }
    });
}

fn takes_nothing_away(fault: &Fault) {
    let dke = Dke::start();
    let [known, unknown] = [first_key(), other_key()].map(|key| Token::of(ALICE).by(key).signed());
    dke.try_token(&known).ok();
    dke.issuer.fail(fault);
    let before = dke.issuer.asked();
    eventually("an unknown key makes it look", || {
        let answer = dke.try_token(&unknown);
        assert!(matches!(answer.status, 401 | 503), "{answer:?}");
        dke.issuer.asked() > before
    });
    for _ in 0..5 {
        dke.try_token(&known).ok();
    }
    dke.issuer.heal();
    dke.issuer.publish(&[first_key(), other_key()]);
    eventually("it recovers", || dke.try_token(&unknown).status == 200);
}

#[test]
fn an_issuer_that_answers_slowly_holds_up_nobody_who_does_not_need_it() {
    let dke = Dke::start();
    let [known, unknown] = [first_key(), other_key()].map(|key| Token::of(ALICE).by(key).signed());
    dke.try_token(&known).ok();
    dke.issuer.fail(&Fault::Delay(Duration::from_secs(60)));
    let before = dke.issuer.asked();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            eventually("an unknown key makes it look", || {
                let answer = dke.try_token(&unknown);
                assert!(matches!(answer.status, 401 | 503), "{answer:?}");
                dke.issuer.asked() > before
            });
        });
        eventually("it waits for keys", || dke.issuer.asked() > before);
        for _ in 0..10 {
            dke.try_token(&known).ok();
        }
        waiting.join().unwrap();
    });
}
