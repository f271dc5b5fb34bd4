//! The proxy and a second one, written from the specification in another
//! language, hold the same key.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::rig::{ACCESS_KEY, FIRST, PATH, REGION, Rig, SECRET};
use crate::support::leash::Leashed;
use crate::support::python;
use crate::support::softhsm::{PIN, SoftHsm, TOKEN};
use crate::support::tls::{Authority, XKS_PROXY};

const KEY: [u8; 32] = *b"An AES key that two proxies have";

#[test]
fn two_proxies_open_and_refuse_the_same() {
    let rig = Rig::with_first_key(|_, hsm| import(hsm, &KEY));
    let (_second, address) = second_proxy(rig.dir.home().as_path());
    let config = json!({
        "ca": Authority::trusted().certificate(),
        "region": REGION,
        "path": PATH,
        "access_key_id": ACCESS_KEY,
        "secret": SECRET,
        "key": "external-key-1",
        "endpoints": [format!("https://{XKS_PROXY}"), "https://localhost"],
        "routes": [format!("{XKS_PROXY}={}", rig.addresses[0]), format!("localhost={address}")],
    });
    let path = rig.dir.home().join("agreement.json");
    fs::write(&path, config.to_string()).unwrap();
    let done = rig.script("agreement.py", &[path.to_str().unwrap()]);
    assert_eq!(done["differences"], json!([]), "{done:#}");
    assert_eq!(done["opened"], 60, "each, 6 plaintexts with 5 AADs");
    assert!(done["refused"].as_u64() > Some(80), "{done}");
}

/// Puts `key` into the token.
fn import(hsm: &SoftHsm, key: &[u8]) {
    let file = hsm.folder().join("key");
    fs::write(&file, key).unwrap();
    let mut util = Command::new("softhsm2-util");
    util.envs(hsm.variables()).arg("--import").arg(&file);
    util.args(["--aes", "--token", TOKEN, "--pin", PIN, "--label", FIRST, "--id", "01"]);
    let output = util.output().expect("softhsm2-util is installed with SoftHSM");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// It, and its address.
fn second_proxy(folder: &Path) -> (Leashed, String) {
    let config = json!({
        "path": PATH,
        "region": REGION,
        "credentials": { ACCESS_KEY: SECRET },
        "keys": { "external-key-1": hex::encode(KEY) },
        "certificate": Authority::trusted().server_certificate(),
        "key": Authority::trusted().server_key(),
    });
    let path = folder.join("second-proxy.json");
    fs::write(&path, config.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("xks/second_proxy.py");
    let mut command = Command::new(python());
    command.arg("-B").arg(script).arg(path);
    let mut proxy = Leashed::start(&command, &folder.join("second-proxy.log"));
    let address = proxy.line();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    (proxy, address)
}
