//! What is changed at the proxy while KMS uses it: no key store is disconnected
//! for it, and nothing has to be started anew.

use serde_json::{Value, json};

use super::rig::{ACCESS_KEY, FIRST, Rig, SECRET, credential, eventually};
use crate::support::softhsm::write_private;

#[test]
fn a_key_that_is_rotated_opens_what_its_predecessor_encrypted() {
    let (rig, store) = Rig::connected();
    let key = rig.create_key(&store, "external-key-1");
    let before = encrypt(&rig, &key).unwrap();
    assert_eq!(newest_generation(&rig), 1);

    rig.dir.run(["keys", "create", &rig.uri("its-successor")]).ok();
    let first = format!("{{ number = 1, object = \"{FIRST}\" }}");
    rig.reconfigure(&first, &format!("{first}, {{ number = 2, object = \"its-successor\" }}"));
    eventually("the new generation encrypts", || {
        encrypt(&rig, &key).unwrap();
        newest_generation(&rig) == 2
    });

    let after = encrypt(&rig, &key).unwrap();
    for blob in [before, after] {
        let opened = decrypt(&rig, &blob).unwrap();
        assert_eq!((&opened["Plaintext"], &opened["KeyId"]), (&json!("c2VjcmV0"), &json!(key)));
    }
}

#[test]
fn a_key_that_is_disabled_at_the_proxy_opens_nothing_until_it_is_enabled() {
    let (rig, store) = Rig::connected();
    let key = rig.create_key(&store, "external-key-1");
    let other = rig.create_key(&store, "external-key-2");
    let blob = encrypt(&rig, &key).unwrap();

    let enabled = "id = \"external-key-1\"";
    let disabled = "id = \"external-key-1\"\nstate = \"disabled\"";
    rig.reconfigure(enabled, disabled);
    eventually("it is disabled", || {
        decrypt(&rig, &blob).is_err_and(|error| {
            assert_eq!(error["__type"], "KMSInvalidStateException");
            assert!(error["message"].as_str().unwrap().contains("is not enabled"), "{error}");
            true
        })
    });
    encrypt(&rig, &key).unwrap_err();
    encrypt(&rig, &other).expect("the other key goes on");

    rig.reconfigure(disabled, "id = \"external-key-1\"\nstate = \"decrypt-only\"");
    eventually("it decrypts", || decrypt(&rig, &blob).is_ok());
    encrypt(&rig, &key).unwrap_err();
}

/// The runbook's way: the new credential beside the old one, then KMS, then the
/// old one away.
#[test]
fn credentials_are_exchanged_without_a_request_that_fails() {
    let (rig, store) = Rig::connected();
    let key = rig.create_key(&store, "external-key-1");
    let (id, secret) = ("TWINLOCKTESTSBBBBBBB", "GFEDCBA0123456789abcdefghijklmnopqrstuvwxyz");
    let file = rig.dir.home().join("new-secret");
    write_private(&file, secret);
    let (old, new) = (rig.credential(), credential(id, &file));
    let switch_to = |id: &str, secret: &str| {
        let credential = json!({ "AccessKeyId": id, "RawSecretAccessKey": secret });
        let request = json!({
            "CustomKeyStoreId": store, "XksProxyAuthenticationCredential": credential
        });
        rig.cloud.try_call("UpdateCustomKeyStore", &request)
    };

    rig.reconfigure(&old, &format!("{new}{old}"));
    eventually("the proxy takes the new one, too", || {
        encrypt(&rig, &key).expect("with the old one");
        switch_to(id, secret).is_ok()
    });
    rig.reconfigure(&old, "");
    eventually("the proxy refuses the old one", || {
        encrypt(&rig, &key).expect("with the new one");
        match switch_to(ACCESS_KEY, SECRET) {
            Ok(_) => switch_to(id, secret).map(|_| false).expect("it is there"),
            Err(error) => error["__type"] == "XksProxyIncorrectAuthenticationCredentialException",
        }
    });
    encrypt(&rig, &key).expect("with the new one");
}

fn encrypt(rig: &Rig, key: &str) -> Result<Value, Value> {
    let answer = rig.cloud.try_call("Encrypt", &json!({ "KeyId": key, "Plaintext": "c2VjcmV0" }));
    answer.map(|answer| answer["CiphertextBlob"].clone())
}

fn decrypt(rig: &Rig, blob: &Value) -> Result<Value, Value> {
    rig.cloud.try_call("Decrypt", &json!({ "CiphertextBlob": blob }))
}

/// From the metadata of the last ciphertext: version 1, then the generation.
fn newest_generation(rig: &Rig) -> u8 {
    let calls = rig.cloud.calls_of_the_proxy("Encrypt");
    let answer = calls.last().unwrap()["response"].as_str().unwrap();
    let answer: Value = serde_json::from_str(answer).unwrap();
    match answer["ciphertextMetadata"].as_str().unwrap() {
        "AQAAAAE=" => 1,
        "AQAAAAI=" => 2,
        other => panic!("{other}"),
    }
}
