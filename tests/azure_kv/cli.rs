//! The program with a profile that names Azure, as whoever the environment
//! says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::rig::{HSM, Rig};
use crate::support::cli::{Dir, Ended};
use crate::support::key_vault::{ASSERTION, CLIENT, IDENTITY_HEADER, Material, SECRET, TENANT};
use crate::support::tls::Authority;

/// A profile with Azure's key and one in a file.
fn dir(rig: &Rig, settings: &str) -> Dir {
    let dir = Dir::new();
    let customer = dir.new_key("customer");
    dir.write_config(&format!(
        "profile = \"azure\"\n[profiles.azure]\nprovider = \"{}\"\ncustomer = \"{customer}\"\n\
         [profiles.azure.azure]\nca_file = \"{}\"\nendpoint = \"{}\"\n{settings}",
        rig.uri(),
        Authority::trusted().certificate().display(),
        rig.proxy.url(),
    ));
    dir
}

fn as_principal(rig: &Rig, mut dir: Dir) -> Dir {
    dir.set("AZURE_AUTHORITY_HOST", rig.proxy.url());
    dir.set("AZURE_TENANT_ID", TENANT);
    dir.set("AZURE_CLIENT_ID", CLIENT);
    dir.set("AZURE_CLIENT_SECRET", SECRET);
    dir
}

#[test]
fn a_file_goes_there_and_back() {
    let rig = Rig::new();
    let dir = as_principal(&rig, dir(&rig, ""));
    dir.write("a", "plain");
    dir.run(["encrypt", "a", "--context", "object=a"]).ok();
    let inspected = dir.run(["inspect", "a.twl", "--json"]).ok().json();
    let provider = &inspected["keyslots"][0]["provider"];
    assert_eq!(provider["uri"], rig.uri().as_str());
    assert_eq!(provider["key_version"], rig.version);
    assert_eq!(provider["algorithm"], 2);
    dir.run(["decrypt", "a.twl", "-o", "b", "--context", "object=a"]).ok();
    assert_eq!(dir.read("b"), b"plain");
    rig.vault.deny("unwrapKey");
    let denied = dir.run(["verify", "a.twl", "--context", "object=a"]).with(4);
    assert!(denied.stderr.contains("keys/unwrapKey"), "{}", denied.stderr);
}

/// Azure knows no contexts: our own check refuses it.
#[test]
fn a_share_of_another_file_does_not_open_this_one() {
    let rig = Rig::with(HSM, Material::aes());
    let dir = as_principal(&rig, dir(&rig, ""));
    dir.write("a", "plain");
    dir.run(["encrypt", "a"]).ok();
    dir.run(["prove", "a.twl", "--json"]).with(0);
    let mut bytes = dir.read("a.twl");
    dir.run(["encrypt", "a", "-o", "other.twl"]).ok();
    let other = dir.read("other.twl");
    let wrapped = |bytes: &[u8]| {
        let uri = rig.uri().to_string();
        let at = bytes.windows(uri.len()).position(|window| window == uri.as_bytes()).unwrap();
        at + uri.len()..at + uri.len() + 100
    };
    let (to, from) = (wrapped(&bytes), wrapped(&other));
    bytes[to].copy_from_slice(&other[from]);
    dir.write("mixed.twl", bytes);
    dir.run(["verify", "mixed.twl"]).with(3);
}

#[test]
fn keys_are_checked_and_created() {
    let rig = Rig::with(HSM, Material::aes());
    let dir = as_principal(&rig, dir(&rig, ""));
    let checked = dir.run(["keys", "check", "--json", rig.uri().as_str()]).ok().json();
    let wanted = json!({
        "enabled": true,
        "kind": "oct-HSM",
        "bits": null,
        "version": rig.version,
        "operations": ["wrapKey", "unwrapKey"],
    });
    assert_eq!(checked["keys"][0]["azure_kv"], wanted);
    let text = dir.run(["keys", "check", rig.uri().as_str()]).ok().text();
    assert!(text.contains("oct-HSM, for wrapKey and unwrapKey"), "{text}");

    let new = format!("azure-kv://{HSM}/keys/new");
    let created = dir.run(["keys", "create", "--json", &new]).ok().json();
    assert_eq!(created["uri"], new);
    dir.run(["keys", "create", &new]).with(2);
    dir.run(["keys", "check", &new]).ok();
}

#[test]
fn whoever_may_not_ask_states_the_algorithm() {
    let rig = Rig::new();
    rig.vault.deny("get");
    let unstated = as_principal(&rig, dir(&rig, ""));
    unstated.run(["keys", "check", rig.uri().as_str()]).with(4);
    let stated = as_principal(&rig, dir(&rig, "algorithm = \"rsa-oaep-256\"\n"));
    let checked = stated.run(["keys", "check", "--json", rig.uri().as_str()]).ok().json();
    assert!(checked["keys"][0]["azure_kv"].is_null());
}

#[test]
fn the_environment_says_who_we_are() {
    let cases: [(&str, Prepare); 3] =
        [("workload-identity", workload), ("managed-identity", managed), ("azure-cli", signed_in)];
    for (name, prepare) in cases {
        for settings in [String::new(), format!("credential = \"{name}\"\n")] {
            let rig = Rig::new();
            let mut dir = dir(&rig, &settings);
            prepare(&mut dir, &rig);
            check(&rig, &dir).ok();
        }
    }
}

/// Makes somebody of whoever runs the program.
type Prepare = fn(&mut Dir, &Rig);

fn workload(dir: &mut Dir, rig: &Rig) {
    fs::write(dir.home().join("token"), ASSERTION).unwrap();
    dir.set("AZURE_AUTHORITY_HOST", rig.proxy.url());
    dir.set("AZURE_TENANT_ID", TENANT);
    dir.set("AZURE_CLIENT_ID", CLIENT);
    dir.set("AZURE_FEDERATED_TOKEN_FILE", dir.home().join("token"));
}

fn managed(dir: &mut Dir, rig: &Rig) {
    dir.set("IDENTITY_ENDPOINT", format!("http://{}/msi/token", rig.vault.address()));
    dir.set("IDENTITY_HEADER", IDENTITY_HEADER);
}

fn signed_in(dir: &mut Dir, rig: &Rig) {
    let token = rig.vault.token("https://vault.azure.net/.default");
    let answer =
        json!({ "accessToken": token, "expires_on": 4_102_444_800_u64, "tokenType": "Bearer" });
    az(dir, &format!("echo '{answer}'"));
}

#[test]
fn what_is_missing_is_said() {
    let rig = Rig::new();
    for (settings, code, said) in [
        ("credential = \"environment\"\n", 2, "AZURE_TENANT_ID"),
        ("credential = \"workload-identity\"\n", 2, "tenant"),
        ("credential = \"of-nobody\"\n", 2, "azure-cli"),
    ] {
        let ended = check(&rig, &dir(&rig, settings)).with(code);
        assert!(ended.stderr.contains(said), "{said} in {}", ended.stderr);
    }
    let mut signed_out = dir(&rig, "");
    az(&mut signed_out, "echo 'Please run az login to set up an account.' >&2; exit 1");
    let ended = check(&rig, &signed_out).with(2);
    assert!(ended.stderr.contains("az login"), "{}", ended.stderr);
}

#[test]
fn a_wrong_secret_is_denied_and_not_shown() {
    let rig = Rig::new();
    let mut dir = as_principal(&rig, dir(&rig, ""));
    dir.set("AZURE_CLIENT_SECRET", "hunter2");
    dir.set("TWINLOCK_LOG", "trace");
    let ended = check(&rig, &dir).with(4);
    assert!(ended.stderr.contains("AADSTS7000215"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

fn check(rig: &Rig, dir: &Dir) -> Ended {
    dir.run(["keys", "check", rig.uri().as_str()])
}

/// Puts an `az` before all others.
fn az(dir: &mut Dir, script: &str) {
    let bin = dir.home().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("az"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(bin.join("az"), fs::Permissions::from_mode(0o755)).unwrap();
    dir.set("PATH", format!("{}:/usr/bin:/bin", bin.display()));
}
