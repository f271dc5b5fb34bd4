//! Tokens that fail. What is transient is never told to KMS as the last word on a
//! key (400 or 404), nothing ends the program, and it recovers by itself.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::proxy::{Answer, Proxy, eventually, metadata};
use crate::support::softhsm::write_private;

fn health(proxy: &Proxy) -> String {
    let answer = proxy.ask("health", &json!({ "requestMetadata": metadata() })).ok();
    answer.body["ekmFleetDetails"][0]["healthStatus"].as_str().unwrap().to_owned()
}

/// Neither the last word on the key nor on the ciphertext.
#[track_caller]
fn is_transient(answer: &Answer) {
    assert!(matches!(answer.status, 429 | 500 | 503), "{} {}", answer.status, answer.text);
}

/// With a deadline as in production, so that the failing calls end soon.
fn quick(config: String) -> String {
    config.replace("deadline_ms = 5000", "deadline_ms = 300")
}

#[test]
fn a_session_that_hangs_costs_its_callers_the_deadline_and_others_nothing() {
    let proxy = Proxy::with(quick);
    let encrypted = proxy.encrypt(b"x").ok();
    proxy.faults("C_Encrypt hang times 1");
    let start = Instant::now();
    let stuck = proxy.encrypt(b"x");
    assert_eq!((stuck.error(), stuck.status), ("DependencyTimeoutException", 503));
    assert!(start.elapsed() < Duration::from_secs(60), "it ends");
    // The other session, and the one that takes the place of the hung one.
    (0..20).for_each(|_| {
        proxy.decrypt(&encrypted).ok();
        proxy.encrypt(b"x").ok();
    });
    proxy.faults("");
    proxy.encrypt(b"x").ok();
}

#[test]
fn while_one_call_hangs_others_are_answered() {
    let proxy = Proxy::start();
    proxy.encrypt(b"x").ok();
    let before = proxy.module.count("C_Encrypt");
    proxy.faults("C_Encrypt hang times 1");
    thread::scope(|scope| {
        let stuck = scope.spawn(|| proxy.encrypt(b"x"));
        eventually("it hangs", || proxy.module.count("C_Encrypt") > before);
        (0..20).for_each(|_| drop(proxy.encrypt(b"x").ok()));
        assert!(!stuck.is_finished() || stuck.join().unwrap().status == 503);
        proxy.faults("");
    });
}

#[test]
fn a_slow_token_answers() {
    let proxy = Proxy::start();
    proxy.faults("C_Encrypt delay 100ms\nC_Decrypt delay 100ms");
    let encrypted = proxy.encrypt(b"slowly").ok();
    proxy.decrypt(&encrypted).ok();
}

/// Its own test takes both times together.
#[test]
fn a_slow_token_is_told_as_degraded_and_stays_in_use() {
    let proxy = Proxy::start();
    let told = |state: &str| {
        let answer = proxy.ask("health", &json!({ "requestMetadata": metadata() })).ok();
        answer.body["ekmFleetDetails"][0]["healthStatus"] == state
    };
    assert!(told("ACTIVE"));
    proxy.faults("C_Encrypt delay 200ms\nC_Decrypt delay 200ms");
    eventually("it is DEGRADED", || told("DEGRADED"));
    proxy.encrypt(b"x").ok();
    proxy.faults("");
    eventually("it is ACTIVE", || told("ACTIVE"));
}

#[test]
fn a_session_that_was_lost_is_opened_again_without_an_error() {
    let proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"x").ok();
    for code in ["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED", "CKR_USER_NOT_LOGGED_IN"] {
        proxy.faults(&format!("C_EncryptInit return {code} times 1"));
        proxy.encrypt(b"x").ok();
        proxy.faults(&format!("C_DecryptInit return {code} times 1"));
        proxy.decrypt(&encrypted).ok();
    }
}

#[test]
fn a_device_that_is_removed_is_told_as_transient_and_used_again_when_it_is_back() {
    let proxy = Proxy::with(quick);
    let encrypted = proxy.encrypt(b"x").ok();
    for code in [
        "CKR_DEVICE_REMOVED",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_DEVICE_ERROR",
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_USER_NOT_LOGGED_IN",
        "CKR_GENERAL_ERROR",
    ] {
        let functions = ["C_EncryptInit", "C_DecryptInit", "C_OpenSession", "C_FindObjectsInit"];
        proxy.faults(&functions.map(|function| format!("{function} return {code}")).join("\n"));
        for _ in 0..8 {
            is_transient(&proxy.encrypt(b"x"));
            is_transient(&proxy.decrypt(&encrypted));
        }
        eventually("health says so", || health(&proxy) == "UNAVAILABLE");
        proxy.faults("");
        eventually("it is used again", || proxy.encrypt(b"x").status == 200);
        proxy.decrypt(&encrypted).ok();
        eventually("health says so", || health(&proxy) == "ACTIVE");
    }
}

#[test]
fn readiness_follows_the_token() {
    let proxy = Proxy::with(quick);
    proxy
        .faults("C_EncryptInit return CKR_DEVICE_REMOVED\nC_OpenSession return CKR_DEVICE_REMOVED");
    eventually("it is not ready", || proxy.get("/readyz").unwrap().contains(" 503 "));
    assert!(proxy.get("/livez").unwrap().contains(" 200 "));
    proxy.faults("");
    eventually("it is ready", || proxy.get("/readyz").unwrap().contains(" 200 "));
}

/// One try, or the token would lock; and no loop. Everything else is served.
#[test]
fn a_wrong_pin_is_tried_once_and_told_as_unavailable() {
    let mut proxy = Proxy::prepared();
    write_private(&proxy.dir.home().join("pin"), "0000-wrong");
    proxy.write_config(&quick(proxy.config()));
    proxy.run();
    eventually("it serves", || proxy.get("/livez").is_ok());
    eventually("it serves", || proxy.try_send(&proxy.post("health", &json!({}))).is_ok());
    for _ in 0..5 {
        is_transient(&proxy.encrypt(b"x"));
    }
    assert_eq!(health(&proxy), "UNAVAILABLE");
    thread::sleep(Duration::from_secs(12)); // more than one look at the token
    assert_eq!(proxy.module.count("C_Login"), 1);
    assert!(proxy.get("/readyz").unwrap().contains("PIN"), "it says why");

    write_private(&proxy.dir.home().join("pin"), crate::support::softhsm::PIN);
    proxy.signal(rustix::process::Signal::HUP);
    eventually("the right one is tried after a reload", || proxy.encrypt(b"x").status == 200);
}

#[test]
fn a_token_that_is_deleted_is_told_as_transient() {
    let mut proxy = Proxy::with(quick);
    let encrypted = proxy.encrypt(b"x").ok();
    let tokens = proxy.hsm.folder().join("tokens");
    fs::rename(&tokens, tokens.with_extension("away")).unwrap();
    fs::create_dir(&tokens).unwrap();
    // For longer than it takes to look for the key in the background.
    for _ in 0..12 {
        thread::sleep(Duration::from_millis(400));
        for answer in [proxy.encrypt(b"x"), proxy.decrypt(&encrypted)] {
            // SoftHSM goes on with what it has in memory, mostly.
            assert!(answer.status == 200 || matches!(answer.status, 500 | 503), "{}", answer.text);
        }
    }
    fs::remove_dir(&tokens).unwrap();
    fs::rename(tokens.with_extension("away"), &tokens).unwrap();
    // A SoftHSM that lost its files looks for them when it is loaded, and not before.
    assert_eq!(proxy.stop(), Some(0));
    proxy.run();
    proxy.wait_until_ready();
    proxy.decrypt(&encrypted).ok();
}

#[test]
fn a_token_that_is_not_there_at_first_is_waited_for() {
    let mut proxy = Proxy::prepared();
    let tokens = proxy.hsm.folder().join("tokens");
    proxy.faults("C_OpenSession return CKR_DEVICE_REMOVED");
    proxy.write_config(&quick(proxy.config()));
    proxy.run();
    eventually("it serves", || proxy.get("/livez").is_ok());
    eventually("it serves", || proxy.try_send(&proxy.post("health", &json!({}))).is_ok());
    is_transient(&proxy.encrypt(b"x"));
    assert_eq!(health(&proxy), "UNAVAILABLE");
    assert!(tokens.is_dir());
    proxy.faults("");
    eventually("it is used", || proxy.encrypt(b"x").status == 200);
}

#[test]
fn a_module_that_is_missing_ends_the_program_with_a_reason() {
    let mut proxy = Proxy::prepared();
    let config = proxy.config();
    let at = config.find("module-path=").unwrap() + "module-path=".len();
    let end = at + config[at..].find('"').unwrap();
    proxy.write_config(&format!("{}/nowhere/module.so{}", &config[..at], &config[end..]));
    proxy.run();
    eventually("it ends", || !proxy.is_running());
    assert!(proxy.said().contains("/nowhere/module.so"), "{}", proxy.said());
    let checked = proxy.command("check-config").output().unwrap();
    assert_ne!(checked.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("/nowhere/module.so"));
}

#[test]
fn bad_ciphertexts_do_not_make_a_token_look_ill() {
    let proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"x").ok();
    let mut bad = super::proxy::decrypt_request(&encrypted.body);
    bad["authenticationTag"] = json!(super::proxy::base64(&[0; 16]));
    for _ in 0..30 {
        assert_eq!(proxy.ask("keys/k/decrypt", &bad).error(), "InvalidCiphertextException");
    }
    proxy.decrypt(&encrypted).ok();
    assert_eq!(health(&proxy), "ACTIVE");
}

/// The module stands in for a key without `CKA_ENCRYPT`.
#[test]
fn a_use_that_the_token_does_not_permit_is_an_invalid_key_usage() {
    let proxy = Proxy::start();
    proxy.encrypt(b"x").ok();
    proxy.faults("C_EncryptInit return CKR_KEY_FUNCTION_NOT_PERMITTED");
    let answer = proxy.encrypt(b"x");
    assert_eq!((answer.error(), answer.status), ("InvalidKeyUsageException", 400));
    // And with the check, where only decrypting is forbidden.
    proxy.faults("C_DecryptInit return CKR_KEY_FUNCTION_NOT_PERMITTED");
    let mut request = super::proxy::encrypt_request(b"x");
    request["ciphertextDataIntegrityValueAlgorithm"] = json!("SHA_256");
    let answer = proxy.ask("keys/k/encrypt", &request);
    assert_eq!((answer.error(), answer.status), ("InvalidKeyUsageException", 400));
}

#[test]
fn more_than_a_token_can_do_is_refused_at_once_and_not_queued() {
    let proxy = Proxy::with(|config| quick(config).replace("sessions = 2", "sessions = 1"));
    proxy.encrypt(b"x").ok();
    proxy.faults("C_Encrypt delay 100ms");
    let answers: Vec<_> = thread::scope(|scope| {
        let asking = (0..24).map(|_| scope.spawn(|| proxy.encrypt(b"x")));
        asking.collect::<Vec<_>>().into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert!(count(200) >= 1, "some are answered");
    assert_eq!(count(200) + count(429) + count(503) + count(500), 24);
    proxy.faults("");
    eventually("all is well again", || proxy.encrypt(b"x").status == 200);
}
