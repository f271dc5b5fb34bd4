//! A provider's key in Google Cloud KMS.

use serde_json::json;

use crate::support::cli::Dir;
use crate::support::cloud_kms::account::account;
use crate::support::cloud_kms::{CloudKms, Purpose, VersionState};
use crate::support::tls::Authority;

const NEW_KEY: &str =
    "gcp-kms://projects/blue/locations/europe-west3/keyRings/files/cryptoKeys/archive";

#[test]
fn a_key_is_created_and_files_open_with_it() {
    let server = CloudKms::start();
    let dir = dir(&server.url(), NEW_KEY);
    dir.run(["keys", "check"]).with(4);
    let created = dir.run(["--json", "keys", "create", NEW_KEY]).ok().json();
    assert_eq!(created["uri"], NEW_KEY);

    dir.write("a", "secret");
    dir.run(["encrypt", "a", "--context", "object=a"]).ok();
    let inspected = dir.run(["--json", "inspect", "a.twl"]).ok().json();
    let provider = &inspected["keyslots"][0]["provider"];
    assert_eq!((&provider["uri"], &provider["key_version"]), (&json!(NEW_KEY), &json!("1")));
    let opened = dir.run(["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).ok();
    assert_eq!(opened.stdout, b"secret");
    dir.run(["decrypt", "a.twl", "-o", "-", "--context", "object=b"]).with(3);
    assert_eq!(server.calls("Encrypt")[0].quota_project.as_deref(), Some("billing"));

    server.set_state(&NEW_KEY["gcp-kms://".len()..], VersionState::Disabled);
    let refused = dir.run(["decrypt", "a.twl", "-o", "-", "--context", "object=a"]).with(4);
    assert!(refused.stderr.contains("gcloud kms keys"), "{}", refused.stderr);
}

#[test]
fn keys_check_says_what_google_says() {
    let server = CloudKms::start();
    let dir = dir(&server.url(), &new_key(&server));
    let checked = dir.run(["--json", "keys", "check"]).ok().json();
    let facts = json!({
        "version": "1",
        "state": "ENABLED",
        "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION",
        "protection_level": "SOFTWARE",
    });
    assert_eq!(checked["keys"][0]["gcp_kms"], facts, "{checked}");
    let text = dir.run(["keys", "check"]).ok().text();
    assert!(text.contains("version 1 ENABLED"), "{text}");
}

/// Whoever may only encrypt and decrypt has a key that works.
#[test]
fn a_key_that_may_not_be_described_is_checked_all_the_same() {
    let server = CloudKms::start();
    let dir = dir(&server.url(), &new_key(&server));
    let denied = crate::support::cloud_kms::refuse(403, "PERMISSION_DENIED");
    server.inject("GetCryptoKey", denied);
    let checked = dir.run(["--json", "keys", "check"]).ok().json();
    assert_eq!(checked["keys"][0]["gcp_kms"], json!(null), "{checked}");
}

#[test]
fn a_private_endpoint_has_to_be_one_that_the_machine_trusts() {
    let server = CloudKms::start();
    let tls = server.with_tls(Authority::trusted().server());
    let mut dir = dir(&tls.url(), &new_key(&server));
    let refused = dir.run(["keys", "check"]).with(2);
    assert!(refused.stderr.contains("not trusted"), "{}", refused.stderr);
    assert_eq!(server.count("Encrypt"), 0);
    dir.set("SSL_CERT_FILE", Authority::trusted().certificate());
    dir.run(["keys", "check"]).ok();
    assert_eq!((tls.count("Encrypt"), tls.count("Decrypt")), (1, 2));
}

#[test]
fn application_default_credentials_are_found() {
    let server = CloudKms::start();
    let mut dir = dir(&server.url(), &new_key(&server));
    let config = dir.home().join(".config/twinlock/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, _) = text.split_once("credentials_file").unwrap();
    dir.write_config(before);
    // Nobody listens at port 9 of this machine, so there is no metadata server.
    dir.set("GCE_METADATA_HOST", "127.0.0.1:9");
    let refused = dir.run(["keys", "check"]).with(5);
    assert!(refused.stderr.contains("gcloud auth application-default"), "{}", refused.stderr);
    assert_eq!(server.count("GetCryptoKey"), 0);
    dir.set("GOOGLE_APPLICATION_CREDENTIALS", dir.home().join("account.json"));
    dir.run(["keys", "check"]).ok();
}

#[test]
fn what_the_credentials_are_is_in_no_log() {
    let server = CloudKms::start();
    let mut dir = dir(&server.url(), &new_key(&server));
    dir.set("TWINLOCK_LOG", "trace");
    dir.write("a", "secret");
    let run = dir.run(["-v", "encrypt", "a"]).ok();
    assert!(run.stderr.contains("operation=\"Encrypt\""), "{}", run.stderr);
    for secret in ["eyJ", "Bearer", &account().some_of_the_private_key()] {
        assert!(!run.stderr.contains(secret), "{secret} in {}", run.stderr);
    }
}

fn new_key(server: &CloudKms) -> String {
    format!("gcp-kms://{}", server.create_key(Purpose::EncryptDecrypt))
}

/// A folder with a profile: this key, and the customer's in a file.
fn dir(endpoint: &str, provider: &str) -> Dir {
    let dir = Dir::new();
    let customer = dir.new_key("customer");
    let credentials = dir.home().join("account.json");
    account().write(&credentials);
    dir.write_config(&format!(
        "profile = \"default\"\n[profiles.default]\nprovider = \"{provider}\"\n\
         customer = \"{customer}\"\n[profiles.default.gcp]\nendpoint = \"{endpoint}\"\n\
         credentials_file = \"{}\"\nquota_project = \"billing\"\n",
        credentials.display(),
    ));
    dir
}
