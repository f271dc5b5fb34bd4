//! What `doctor` finds, on machines that a test has made ill.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use super::tokens::Rig;
use crate::support::cli::{Dir, Ended};
use crate::support::kms_proxy::Fault;
use crate::support::softhsm::{PIN, SoftHsm, write_private};

#[test]
fn a_machine_in_order_has_nothing_to_do_but_a_second_keyslot() {
    let rig = Rig::new();
    let ended = rig.dir.run(["doctor", "--json"]).ok();
    let report = ended.json();
    assert_eq!(report["ok"], true, "{report}");
    for (name, seen) in [
        ("configuration", "config.toml"),
        ("module", "softhsm"),
        ("token", "vendor SoftHSM"),
        ("PIN", "no wrong tries"),
        ("key", "Enabled"),
        ("clock", "the provider's"),
        ("core dumps", "off"),
        ("sessions", "no limit"),
        ("mechanisms", "CKM_AES_GCM"),
    ] {
        let check = named(&report, name);
        assert_eq!(check["state"], "ok", "{check}");
        assert!(check["seen"].as_str().unwrap().contains(seen), "{check}");
        assert!(check["advice"].is_null(), "{check}");
    }
    let keyslots = named(&report, "keyslots");
    assert_eq!(keyslots["state"], "warn", "{keyslots}");
    assert!(advice(&keyslots).contains("--recovery-customer"), "{keyslots}");
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.iter().filter(|check| check["name"] == "round trip").count(), 2);

    let text = rig.dir.run(["doctor"]).ok().text();
    assert!(text.contains("to think about"), "{text}");
    assert_eq!(rig.dir.run(["doctor", "-q"]).ok().text(), "");
    assert!(!(text + &ended.text()).contains(PIN));
}

#[test]
fn a_configuration_that_others_can_change_is_warned_of() {
    let dir = Dir::with_keys();
    let folder = dir.home().join(".config/twinlock");
    for place in [folder.join("config.toml"), folder] {
        let mode = place.metadata().unwrap().permissions().mode();
        fs::set_permissions(&place, Permissions::from_mode(mode | 0o002)).unwrap();
        let check = named(&dir.run(["doctor", "--json"]).ok().json(), "configuration");
        assert_eq!(check["state"], "warn", "{check}");
        assert!(check["seen"].as_str().unwrap().contains("can be written by others"), "{check}");
        assert!(advice(&check).contains("chmod"), "{check}");
        fs::set_permissions(&place, Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(named(&dir.run(["doctor", "--json"]).ok().json(), "configuration")["state"], "ok");
    dir.write_config("nonsense");
    failed(dir.run(["doctor", "--json"]), 2, "configuration", "misconfigured");
    dir.write_config("");
    failed(dir.run(["doctor", "--json"]), 2, "keys", "usage");
}

#[test]
fn a_token_that_is_ill_is_told_apart() {
    let rig = Rig::new();
    let customer = |uri: &str| rig.dir.run(["doctor", "--json", "--customer", uri]);
    let module = "pkcs11:token=tests;object=kek?module-path=/no/such/module.so";
    failed(customer(module), 2, "module", "misconfigured");
    let other_token = rig.uri("kek").replace("token=tests", "token=gone");
    failed(customer(&other_token), 4, "token", "key-not-found");
    failed(customer(&rig.uri("gone")), 4, "key", "key-not-found");
}

/// SoftHSM keeps no count of tries, so a wrong PIN is tried here, once, and
/// what the tokens with a count say is tested with the checks.
#[test]
fn a_wrong_pin_is_a_failed_login() {
    let rig = Rig::new();
    write_private(&rig.hsm.folder().join("pin"), "wrong-one");
    let ended = rig.dir.run(["doctor", "--json"]);
    assert!(!(ended.text() + &ended.stderr).contains("wrong-one"));
    failed(ended, 4, "key", "denied");
}

#[test]
fn a_provider_that_is_ill_is_told_apart() {
    let rig = Rig::new();
    rig.proxy.inject("DescribeKey", Fault::refuse("AccessDeniedException"));
    let report = rig.dir.run(["doctor", "--json"]).ok().json();
    let key = named(&report, "key");
    assert_eq!(key["state"], "warn", "{key}");

    for (fault, code, kind) in [
        ("AccessDeniedException", 4, "denied"),
        ("DisabledException", 4, "key-disabled"),
        ("KMSInternalException", 5, "unavailable"),
    ] {
        let rig = Rig::new();
        rig.proxy.inject("Encrypt", Fault::refuse(fault));
        failed(rig.dir.run(["doctor", "--json"]), code, "round trip", kind);
    }
    let mut rig = Rig::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    rig.set_endpoint(&format!("http://{nobody}"));
    failed(rig.dir.run(["doctor", "--json"]), 5, "key", "unavailable");
}

#[test]
fn memory_that_cannot_be_locked_is_warned_of() {
    let dir = Dir::with_keys();
    let program = dir.command();
    // Root may lock whatever the limit is, unless that right is dropped.
    let mut shell = match rustix::process::geteuid().is_root() {
        true => {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "sh"]);
            setpriv
        }
        false => Command::new("sh"),
    };
    shell.args(["-c", "ulimit -l 0; exec \"$0\" doctor --json"]).arg(program.get_program());
    shell.env_clear().envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(dir.work());
    let report = crate::support::cli::run(shell, b"").ok().json();
    let check = named(&report, "memory lock");
    assert_eq!(check["state"], "warn", "{report}");
    assert!(advice(&check).contains("LimitMEMLOCK"), "{check}");
}

#[test]
fn two_independent_keyslots_leave_nothing_to_think_about() {
    let dir = Dir::with_keys();
    let [provider, customer] = ["rp", "rc"].map(|name| dir.new_key(name));
    dir.run(["init", "--recovery-provider", &provider, "--recovery-customer", &customer]).ok();
    let report = dir.run(["doctor", "--json"]).ok().json();
    assert_eq!(named(&report, "keyslots")["state"], "ok", "{report}");
    let holders = report["checks"].as_array().unwrap().iter().filter(|c| c["name"] == "holder");
    assert!(holders.clone().count() == 4 && holders.clone().all(|c| c["state"] == "warn"));
}

/// A token of another program's is nobody's concern.
#[test]
fn an_empty_module_has_no_token() {
    let hsm = SoftHsm::new();
    let mut dir = Dir::new();
    hsm.variables().into_iter().for_each(|(name, value)| dir.set(name, value));
    let provider = dir.new_key("provider");
    let keys = ["--provider", &provider, "--customer", "pkcs11:token=tests;object=kek"];
    let ended = dir.run(["doctor", "--json"].into_iter().chain(keys));
    failed(ended, 4, "token", "key-not-found");
}

#[track_caller]
fn failed(ended: Ended, code: i32, name: &str, kind: &str) {
    let report = ended.with(code).json();
    assert_eq!(report["ok"], json!(false));
    let checks = report["checks"].as_array().unwrap();
    let failed = checks.iter().find(|check| check["state"] == "fail").expect("one failed");
    assert_eq!((&failed["name"], &failed["kind"]), (&json!(name), &json!(kind)), "{failed}");
    assert!(!advice(failed).is_empty(), "{failed}");
}

#[track_caller]
fn named(report: &Value, name: &str) -> Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{report}")).clone()
}

fn advice(check: &Value) -> String {
    check["advice"].as_str().unwrap_or_default().to_owned()
}
