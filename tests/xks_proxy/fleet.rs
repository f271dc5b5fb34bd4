//! One key on two tokens: the first behind the module that injects faults, the
//! second behind SoftHSM's own.

use std::process::Command;

use serde_json::{Value, json};

use super::proxy::{Proxy, encrypt_request, eventually, metadata};
use super::running::under_load;
use crate::support::cli::run;
use crate::support::softhsm::{PIN, TOKEN, module, uri_of};

const KEY: [u8; 32] = [0x5a; 32];

/// Both tokens, and `k` on both.
fn on_two_tokens(hedge: &str) -> Proxy {
    let mut proxy = prepared();
    let config = with_second(&proxy, "hsms = [\"a\", \"b\"]")
        .replace("deadline_ms = 5000", &format!("deadline_ms = 5000\n{hedge}"));
    proxy.write_config(&config);
    proxy.run();
    proxy.wait_until_ready();
    proxy
}

/// A second token, and the same key on each, as two HSMs replicate it.
fn prepared() -> Proxy {
    let proxy = Proxy::prepared();
    proxy.hsm.add_token("second");
    proxy.dir.run(["keys", "create", &uri_of(proxy.hsm.folder(), "second", "health")]).ok();
    let file = proxy.dir.home().join("key");
    std::fs::write(&file, KEY).unwrap();
    for token in [TOKEN, "second"] {
        let mut util = Command::new("softhsm2-util");
        util.envs(proxy.hsm.variables()).arg("--import").arg(&file).arg("--aes");
        util.args(["--token", token, "--pin", PIN, "--label", "shared", "--id", "5a"]);
        let output = util.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    proxy
}

fn with_second(proxy: &Proxy, hsms: &str) -> String {
    let pin = proxy.dir.home().join("pin");
    let second = format!(
        "[[hsm]]\nname = \"b\"\ntoken = \"pkcs11:token=second?module-path={}\"\n\
         pin = {{ file = \"{}\" }}\nsessions = 2\nhealth_key = \"health\"\nallow_extractable = true\n\n\
         [[key_store]]",
        module().display(),
        pin.display()
    );
    proxy
        .config()
        .replacen("[[key_store]]", &second, 1)
        .replacen(
            "health_key = \"health\"\n",
            "health_key = \"health\"\nallow_extractable = true\n",
            1,
        )
        .replace("hsms = [\"a\"]", hsms)
        .replace("object = \"key-1\"", "object = \"shared\"")
}

fn states(proxy: &Proxy) -> [Value; 2] {
    let answer = proxy.ask("health", &json!({ "requestMetadata": metadata() })).ok();
    [0, 1].map(|at| answer.body["ekmFleetDetails"][at]["healthStatus"].clone())
}

/// Which token encrypts.
fn served_by(proxy: &Proxy) -> Value {
    let request = encrypt_request(b"x");
    proxy.ask("keys/k/encrypt", &request).ok();
    proxy.record(request["requestMetadata"]["kmsRequestId"].as_str().unwrap())["hsm"].clone()
}

#[test]
fn check_config_sees_that_two_hsms_are_one_token() {
    let proxy = prepared();
    let config = with_second(&proxy, "hsms = [\"a\", \"b\"]");
    proxy.write_config(&config);
    run(proxy.command("check-config"), b"").ok();
    let again = format!("token={TOKEN};model=SoftHSM%20v2?");
    proxy.write_config(&config.replace("token=second?", &again));
    let checked = run(proxy.command("check-config"), b"").with(1);
    assert!(checked.text().contains("hsms a and b are one token"), "{}", checked.text());
}

#[test]
fn while_one_token_is_gone_the_other_serves_and_no_request_fails() {
    let proxy = on_two_tokens("");
    assert_eq!(served_by(&proxy), "a");
    let encrypted = proxy.encrypt(b"x").ok();
    under_load(&proxy, || {
        let functions = ["C_EncryptInit", "C_DecryptInit", "C_OpenSession"];
        proxy.faults(&functions.map(|it| format!("{it} return CKR_DEVICE_REMOVED")).join("\n"));
        eventually("health tells them apart", || states(&proxy) == ["UNAVAILABLE", "ACTIVE"]);
    });
    assert_eq!(served_by(&proxy), "b");
    proxy.decrypt(&encrypted).ok();
    assert!(proxy.get("/readyz").unwrap().contains(" 200 "));
    proxy.faults("");
    eventually("the first one is preferred again", || served_by(&proxy) == "a");
    eventually("both are well", || states(&proxy) == ["ACTIVE", "ACTIVE"]);
}

#[test]
fn a_token_that_hangs_costs_no_more_than_the_hedge() {
    let proxy = on_two_tokens("hedge_after_ms = 50");
    let before = proxy.module.count("C_Encrypt");
    proxy.encrypt(b"x").ok();
    proxy.faults("C_Encrypt hang");
    // Far below the deadline it would be late; that is not asserted, but that it is
    // answered, and by whom.
    for _ in 0..4 {
        assert_eq!(served_by(&proxy), "b");
    }
    assert!(proxy.module.count("C_Encrypt") > before);
    proxy.faults("");
}

/// Else what one of them encrypts is lost whenever the other is asked.
#[test]
fn two_tokens_with_different_keys_of_one_name_are_refused() {
    let mut proxy = prepared();
    proxy.dir.run(["keys", "create", &uri_of(proxy.hsm.folder(), "second", "key-1")]).ok();
    let config = with_second(&proxy, "hsms = [\"a\", \"b\"]").replace("\"shared\"", "\"key-1\"");
    proxy.write_config(&config);
    let checked = run(proxy.command("check-config"), b"").with(1);
    assert!(checked.text().contains("b has another key than a"), "{}", checked.text());
    proxy.run();
    eventually("it does not start", || !proxy.is_running());
    assert!(proxy.said().contains("b has another key than a"), "{}", proxy.said());
}

#[test]
fn bad_ciphertext_asks_no_second_token() {
    let proxy = on_two_tokens("");
    let mut bad = super::proxy::decrypt_request(&proxy.encrypt(b"x").ok().body);
    bad["authenticationTag"] = json!(super::proxy::base64(&[0; 16]));
    for _ in 0..10 {
        assert_eq!(proxy.ask("keys/k/decrypt", &bad).error(), "InvalidCiphertextException");
    }
    assert_eq!(states(&proxy), ["ACTIVE", "ACTIVE"]);
    assert_eq!(served_by(&proxy), "a");
}

/// The runbook's way: add the new one, prefer it, take the old one away.
#[test]
fn an_hsm_is_replaced_without_a_failed_request() {
    let mut proxy = prepared();
    let only_first = with_second(&proxy, "hsms = [\"a\"]");
    proxy.write_config(&only_first);
    proxy.run();
    proxy.wait_until_ready();
    assert_eq!(served_by(&proxy), "a");
    under_load(&proxy, || {
        proxy.write_config(&only_first.replace("hsms = [\"a\"]", "hsms = [\"b\", \"a\"]"));
        eventually("the new one serves", || served_by(&proxy) == "b");
        let first = only_first.find("[[hsm]]").unwrap();
        let second = first + 1 + only_first[first + 1..].find("[[hsm]]").unwrap();
        let without = format!("{}{}", &only_first[..first], &only_first[second..]);
        proxy.write_config(&without.replace("hsms = [\"a\"]", "hsms = [\"b\"]"));
        eventually("the old one is gone", || {
            let answer = proxy.ask("health", &json!({ "requestMetadata": metadata() })).ok();
            answer.body["ekmFleetDetails"].as_array().unwrap().len() == 1
        });
    });
}

/// The first token never had the key; the second one, which has it, is away while
/// the configuration is read again.
#[test]
fn a_key_is_not_missing_while_a_token_that_may_have_it_is_away() {
    let proxy = {
        let mut proxy = prepared();
        let config =
            with_second(&proxy, "hsms = [\"b\", \"a\"]").replace("\"shared\"", "\"key-1\"");
        proxy.write_config(&config);
        proxy.run();
        proxy.wait_until_ready();
        proxy
    };
    let encrypted = proxy.encrypt(b"x").ok();
    let functions = ["C_EncryptInit", "C_DecryptInit", "C_OpenSession", "C_FindObjectsInit"];
    proxy.faults(&functions.map(|it| format!("{it} return CKR_DEVICE_REMOVED")).join("\n"));
    proxy.signal(rustix::process::Signal::HUP);
    for _ in 0..30 {
        let answer = proxy.decrypt(&encrypted);
        assert!(matches!(answer.status, 500 | 503), "{}", answer.text);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    proxy.faults("");
    eventually("it is used again", || proxy.decrypt(&encrypted).status == 200);
}
