//! Neither the provider nor the proxy has the plaintext without the other.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::{Value, json};

use super::rig::{Rig, eventually};

const CONTEXT: &str = "report.md";

#[test]
fn the_provider_alone_decrypts_nothing() {
    let (mut rig, store) = Rig::connected();
    let key = rig.create_key(&store, "external-key-1");
    let made = data_key(&rig, &key);

    let request = json!({ "CustomKeyStoreId": store });
    rig.cloud.call("DisconnectCustomKeyStore", &request);
    assert_refused(&decrypt(&rig, &made), "Unavailable");
    rig.cloud.call("ConnectCustomKeyStore", &request);
    while rig.cloud.call("DescribeKey", &json!({ "KeyId": key }))["KeyMetadata"]["KeyState"]
        != "Enabled"
    {}

    rig.stop_proxy();
    assert_refused(&decrypt(&rig, &made), "cannot communicate");
    rig.start_proxy();
    assert_eq!(decrypt(&rig, &made).unwrap()["Plaintext"], made["Plaintext"]);
}

/// What its key opens is the provider's ciphertext.
#[test]
fn the_proxy_alone_decrypts_nothing() {
    let (rig, store) = Rig::connected();
    let key = rig.create_key(&store, "external-key-1");
    let made = data_key(&rig, &key);
    decrypt(&rig, &made).unwrap();

    let call = &rig.cloud.calls_of_the_proxy("Decrypt")[0];
    let opened: Value = serde_json::from_str(call["response"].as_str().unwrap()).unwrap();
    let sent = &rig.cloud.calls_of_the_proxy("GenerateDataKey")[0]["request"]["plaintext"];
    assert_eq!(&opened["plaintext"], sent, "the token's layer is off");
    // A nonce of 12 bytes, the 32 of the data key, a tag of 16.
    let sent = bytes(sent);
    assert_eq!(sent.len(), 60);

    let data_key = bytes(&made["Plaintext"]);
    eventually("the proxy has recorded it", || {
        rig.recorded().iter().any(|record| record["kms_operation"] == "Decrypt")
    });
    let seen = rig.cloud.passed();
    let written = rig.recorded().iter().map(Value::to_string).collect::<String>();
    for text in [made["Plaintext"].as_str().unwrap(), &hex::encode(&data_key)] {
        assert!(!seen.contains(text) && !written.contains(text));
    }
    assert!(!sent.windows(data_key.len()).any(|window| window == data_key));
}

fn data_key(rig: &Rig, key: &str) -> Value {
    let context = json!({ "object": CONTEXT });
    let request = json!({ "KeyId": key, "KeySpec": "AES_256", "EncryptionContext": context });
    rig.cloud.call("GenerateDataKey", &request)
}

fn decrypt(rig: &Rig, made: &Value) -> Result<Value, Value> {
    let context = json!({ "object": CONTEXT });
    let request = json!({ "CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context });
    rig.cloud.try_call("Decrypt", &request)
}

fn bytes(field: &Value) -> Vec<u8> {
    BASE64.decode(field.as_str().unwrap()).unwrap()
}

#[track_caller]
fn assert_refused(answer: &Result<Value, Value>, words: &str) {
    let error = answer.as_ref().unwrap_err();
    assert_eq!(error["__type"], "KMSInvalidStateException");
    assert!(error["message"].as_str().unwrap().contains(words), "{error}");
}
