//! Keys beneath external keys: generations, states, other proxies' ciphertexts,
//! quotas and policies.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::proxy::{Proxy, base64, decrypt_request, encrypt_request, eventually, metadata};
use super::signed::Signer;
use crate::support::softhsm::write_private;

const FIRST: &str = "generations = [{ number = 1, object = \"key-1\" }]";
const BOTH: &str =
    "generations = [{ number = 1, object = \"key-1\" }, { number = 2, object = \"key-2\" }]";

fn reloaded(proxy: &Proxy, config: &str) {
    let ok = "twinlock_xks_reloads_total{result=\"ok\"}";
    let before = proxy.metric(ok).unwrap_or(0.0);
    proxy.write_config(config);
    proxy.signal(rustix::process::Signal::HUP);
    eventually("the configuration is read again", || proxy.metric(ok).unwrap_or(0.0) > before);
}

#[test]
fn a_key_is_rotated_beneath_its_external_key_and_old_ciphertexts_decrypt() {
    let proxy = Proxy::start();
    let old = proxy.encrypt(b"old").ok();
    reloaded(&proxy, &proxy.config().replace(FIRST, BOTH));
    let new = proxy.encrypt(b"new").ok();
    assert_eq!(new.body["ciphertextMetadata"], "AQAAAAI=");
    assert_eq!(proxy.decrypt(&old).ok().body["plaintext"], base64(b"old"));
    assert_eq!(proxy.decrypt(&new).ok().body["plaintext"], base64(b"new"));
    // One generation's ciphertext is none of another's, whatever it says it is.
    let mut other = decrypt_request(&new.body);
    other["ciphertextMetadata"] = json!("AQAAAAE=");
    assert_eq!(proxy.ask("keys/k/decrypt", &other).error(), "InvalidCiphertextException");
    other["ciphertextMetadata"] = json!("AQAAAAM=");
    assert_eq!(proxy.ask("keys/k/decrypt", &other).error(), "InvalidCiphertextException");
}

#[test]
fn a_key_is_disabled_at_once_and_enabled_again() {
    let proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"x").ok();
    let disabled = proxy.config().replace("id = \"k\"", "id = \"k\"\nstate = \"disabled\"");
    reloaded(&proxy, &disabled);
    let metadata = json!({ "requestMetadata": metadata() });
    assert_eq!(proxy.ask("keys/k/metadata", &metadata).ok().body["keyStatus"], "DISABLED");
    for answer in [proxy.encrypt(b"x"), proxy.decrypt(&encrypted)] {
        assert_eq!((answer.error(), answer.status), ("InvalidStateException", 400));
    }
    reloaded(&proxy, &proxy.config());
    proxy.decrypt(&encrypted).ok();
}

#[test]
fn a_key_that_only_decrypts_does_not_encrypt() {
    let proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"x").ok();
    reloaded(&proxy, &proxy.config().replace("id = \"k\"", "id = \"k\"\nstate = \"decrypt-only\""));
    proxy.decrypt(&encrypted).ok();
    let answer = proxy.encrypt(b"x");
    assert_eq!((answer.error(), answer.status), ("InvalidKeyUsageException", 400));
    let metadata = json!({ "requestMetadata": metadata() });
    assert_eq!(proxy.ask("keys/k/metadata", &metadata).ok().body["keyUsage"], json!(["DECRYPT"]));
}

/// What a proxy encrypted that hashes the AAD and has metadata of its own.
#[test]
fn ciphertexts_of_another_proxy_decrypt_once_their_metadata_is_named() {
    let hashed = |config: String| config.replace("deadline_ms", "aad = \"sha-256\"\ndeadline_ms");
    // Ours with the metadata of generation 1 stands for the other's, which we then
    // know as the foreign metadata of generation 7.
    let proxy = Proxy::with(hashed);
    let theirs = proxy.encrypt(b"theirs").ok();
    let config = hashed(proxy.config()).replace(
        FIRST,
        "generations = [{ number = 7, object = \"key-1\", foreign_metadata = \"AQAAAAE=\" }]",
    );
    reloaded(&proxy, &config);
    assert_eq!(proxy.decrypt(&theirs).ok().body["plaintext"], base64(b"theirs"));
    let ours = proxy.encrypt(b"ours").ok();
    assert_eq!(ours.body["ciphertextMetadata"], "AQAAAAc=");
    // The two forms of the AAD are not the same.
    reloaded(&proxy, &config.replace("aad = \"sha-256\"\n", ""));
    assert_eq!(proxy.decrypt(&ours).error(), "InvalidCiphertextException");
}

#[test]
fn encryptions_are_counted_across_restarts() {
    let mut proxy = Proxy::start();
    let metric = "twinlock_xks_encryptions{generation=\"/tenant-a:k:1\"}";
    (0..3).for_each(|_| drop(proxy.encrypt(b"x").ok()));
    eventually("they are counted", || proxy.metric(metric) == Some(3.0));
    assert_eq!(proxy.stop(), Some(0));
    proxy.run();
    proxy.wait_until_ready();
    proxy.encrypt(b"x").ok();
    eventually("they are counted on", || proxy.metric(metric) == Some(4.0));
    proxy.kill();
    proxy.run();
    proxy.wait_until_ready();
    eventually("none is forgotten after a crash", || {
        proxy.metric(metric).is_some_and(|it| it >= 4.0)
    });
}

#[test]
fn a_key_that_encrypted_as_often_as_is_safe_encrypts_no_more() {
    let mut proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"x").ok();
    proxy.stop();
    let counts = proxy.dir.home().join("state/encryptions.json");
    std::fs::write(&counts, format!("{{\"key-1\": {}}}", 1_u64 << 32)).unwrap();
    proxy.run();
    proxy.wait_until_ready();
    let answer = proxy.encrypt(b"x");
    assert_eq!((answer.error(), answer.status), ("InvalidStateException", 400));
    proxy.decrypt(&encrypted).ok();
    reloaded(&proxy, &proxy.config().replace(FIRST, BOTH));
    proxy.encrypt(b"x").ok();
}

/// `/tenant-b`, with a credential of its own and a key that is called as one of
/// `/tenant-a`.
fn with_second_store(proxy: &Proxy, config: &str) -> String {
    let secret = proxy.dir.home().join("secret-b");
    write_private(&secret, SECRET_B);
    let secret = secret.display();
    format!(
        r#"{config}
[[key_store]]
path = "/tenant-b"
regions = ["eu-central-1"]
deadline_ms = 5000
[[key_store.credential]]
access_key_id = "{ID_B}"
secret_access_key = {{ file = "{secret}" }}
[[key_store.key]]
id = "k"
hsms = ["a"]
generations = [{{ number = 1, object = "key-2" }}]
"#
    )
}

const ID_B: &str = "TWINLOCKTESTSBBBBBBB";
const SECRET_B: &str = "abcdefghijklmnopqrstuvwxyzABCDEFG0123456789";

#[test]
fn key_stores_share_neither_credentials_nor_keys_nor_quotas() {
    let mut proxy = Proxy::prepared();
    let config = with_second_store(&proxy, &proxy.config());
    proxy.write_config(&config);
    proxy.run();
    proxy.wait_until_ready();
    let host = proxy.address.to_string();
    let ask = |signer: &Signer, store: &str, operation: &str, body: &Value| {
        let path = format!("/{store}/kms/xks/v1/{operation}");
        proxy.send(&signer.post(&host, &path, body.to_string().as_bytes()))
    };
    let (a, b) = (proxy.signer(), Signer::new(ID_B, SECRET_B));
    let health = || json!({ "requestMetadata": metadata() });
    for (signer, other) in [(&a, "tenant-b"), (&b, "tenant-a")] {
        let answer = ask(signer, other, "health", &health());
        assert_eq!((answer.error(), answer.status), ("AuthenticationFailedException", 401));
    }

    let encrypted = proxy.encrypt(b"x").ok();
    let request = decrypt_request(&encrypted.body);
    let answer = ask(&b, "tenant-b", "keys/k/decrypt", &request);
    assert_eq!((answer.error(), answer.status), ("InvalidCiphertextException", 400));
    let encrypted = ask(&b, "tenant-b", "keys/k/encrypt", &encrypt_request(b"y")).ok();
    let opened = ask(&b, "tenant-b", "keys/k/decrypt", &decrypt_request(&encrypted.body)).ok();
    assert_eq!(opened.body["plaintext"], base64(b"y"));

    reloaded(&proxy, &config.replacen("deadline_ms", "requests_per_second = 1\ndeadline_ms", 1));
    let statuses: Vec<_> = (0..20).map(|_| proxy.ask("health", &health()).status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    (0..20).for_each(|_| _ = ask(&b, "tenant-b", "health", &health()).ok());
}

#[test]
fn a_quota_counts_only_for_who_signs() {
    let proxy =
        Proxy::with(|config| config.replace("deadline_ms", "requests_per_second = 1\ndeadline_ms"));
    let metadata = || json!({ "requestMetadata": metadata() });
    let mut unsigned = proxy.post("health", &metadata());
    unsigned.headers.retain(|(name, _)| name != "authorization");
    (0..5).for_each(|_| assert_eq!(proxy.send(&unsigned).status, 401));
    let answers: Vec<_> = (0..20).map(|_| proxy.ask("health", &metadata())).collect();
    assert_eq!(answers[0].status, 200, "those that were not signed took nothing");
    let throttled = answers.iter().find(|answer| answer.status != 200).unwrap();
    assert_eq!((throttled.error(), throttled.status), ("ThrottlingException", 429));
}

const POLICY: &str = r#"
package twinlock.xks

default allow := false

allow if {
    input.operation != "Decrypt"
    startswith(input.principal, "arn:aws:iam::123456789012:")
}

deny contains "nobody encrypts with q" if input.key == "q"
"#;

#[test]
fn a_policy_denies_what_it_does_not_allow_and_health_is_not_asked() {
    let proxy = Proxy::prepared();
    std::fs::write(proxy.dir.home().join("policy.rego"), POLICY).unwrap();
    let mut proxy = proxy;
    let file = proxy.dir.home().join("policy.rego");
    let with = |config: &str, dry_run| {
        let policy = format!(
            "policy = {{ file = \"{}\", dry_run = {dry_run} }}\ndeadline_ms",
            file.display()
        );
        config.replace("deadline_ms", &policy)
    };
    proxy.write_config(&with(&proxy.config(), false));
    proxy.run();
    proxy.wait_until_ready();
    let encrypted = proxy.encrypt(b"x").ok();
    let request = decrypt_request(&encrypted.body);
    let answer = proxy.ask("keys/k/decrypt", &request);
    assert_eq!((answer.error(), answer.status), ("AccessDeniedException", 403));
    let record = proxy.record(request["requestMetadata"]["kmsRequestId"].as_str().unwrap());
    assert_eq!(record["policy_rule"], "no `allow` was true");
    let mut other = encrypt_request(b"x");
    other["requestMetadata"]["awsPrincipalArn"] = json!("arn:aws:iam::999999999999:root");
    assert_eq!(proxy.ask("keys/k/encrypt", &other).error(), "AccessDeniedException");
    let mut health = json!({ "requestMetadata": metadata() });
    health["requestMetadata"]["awsPrincipalArn"] = json!("arn:aws:iam::999999999999:root");
    proxy.ask("health", &health).ok();

    reloaded(&proxy, &with(&proxy.config(), true));
    let request = decrypt_request(&encrypted.body);
    proxy.ask("keys/k/decrypt", &request).ok();
    let record = proxy.record(request["requestMetadata"]["kmsRequestId"].as_str().unwrap());
    assert_eq!(record["policy_would_deny"], true);
}

/// What KMS says of whoever asked it, and when.
#[test]
fn a_policy_sees_all_that_kms_says_of_a_request() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let said = [
        ("awsPrincipalArn", "principal", "arn:aws:iam::123456789012:user/Bob"),
        ("kmsKeyArn", "kms_key_arn", "arn:aws:kms:eu-central-1:123456789012:key/5678"),
        ("kmsOperation", "kms_operation", "GenerateDataKey"),
        ("awsSourceVpc", "source_vpc", "vpc-1"),
        ("awsSourceVpce", "source_vpce", "vpce-2"),
        ("kmsViaService", "via_service", "s3.eu-central-1.amazonaws.com"),
    ];
    let told = [("operation", "Encrypt"), ("key_store", "/tenant-a"), ("key", "k")];
    let of_kms = said.map(|(_, name, value)| (name, value));
    let equal: String = told
        .iter()
        .chain(&of_kms)
        .map(|(name, value)| format!("    input.{name} == \"{value}\"\n"))
        .collect();
    let policy = format!(
        "package twinlock.xks\n\nallow if {{\n{equal}    input.time >= {now}\n    \
         input.time < {now} + 3600\n}}\n"
    );
    let mut proxy = Proxy::prepared();
    let file = proxy.dir.home().join("policy.rego");
    std::fs::write(&file, policy).unwrap();
    let setting = format!("policy = {{ file = \"{}\" }}\ndeadline_ms", file.display());
    proxy.write_config(&proxy.config().replace("deadline_ms", &setting));
    proxy.run();
    proxy.wait_until_ready();
    let mut request = encrypt_request(b"x");
    for (field, _, value) in said {
        request["requestMetadata"][field] = json!(value);
    }
    proxy.ask("keys/k/encrypt", &request).ok();
    let record = proxy.record(request["requestMetadata"]["kmsRequestId"].as_str().unwrap());
    for (name, value) in told.iter().chain(&of_kms) {
        assert_eq!(record[name], *value, "{name}");
    }
    for (field, _, value) in said {
        let mut other = request.clone();
        other["requestMetadata"][field] = json!(format!("{value}x"));
        assert_eq!(proxy.ask("keys/k/encrypt", &other).error(), "AccessDeniedException", "{field}");
    }
}
