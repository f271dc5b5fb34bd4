//! The specification's clauses, as a client sees them. `docs/xks.md` names each
//! test beside its clause.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::proxy::{AAD, Answer, PATH, Proxy, base64, decrypt_request, encrypt_request, metadata};
use super::signed::Signer;

use crate::support::http::Message;

fn only_metadata() -> Value {
    json!({ "requestMetadata": metadata() })
}

/// Something else in a field of a request.
fn changed(mut request: Value, field: &str, value: Value) -> Value {
    request[field] = value;
    request
}

fn without(mut request: Value, field: &str) -> Value {
    request.as_object_mut().unwrap().remove(field).unwrap();
    request
}

fn bytes(field: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(field.as_str().unwrap()).unwrap()
}

#[test]
fn metadata_says_that_an_aes_256_key_encrypts_and_decrypts_and_is_enabled() {
    let answer = Proxy::start().ask("keys/k/metadata", &only_metadata()).ok();
    let expected = json!({
        "keySpec": "AES_256", "keyUsage": ["ENCRYPT", "DECRYPT"], "keyStatus": "ENABLED",
    });
    assert_eq!(answer.body, expected);
    assert_eq!(answer.content_type, "application/json");
    assert!(!answer.text.contains('\n'));
}

#[test]
fn health_has_the_token_s_own_names_and_its_state() {
    let proxy = Proxy::with(|config| format!("fleet_size = 3\n{config}"));
    let answer = proxy.ask("health", &only_metadata()).ok().body;
    assert_eq!(answer["xksProxyFleetSize"], 3);
    assert_eq!(answer["xksProxyVendor"], "Twinlock");
    assert!(answer["xksProxyModel"].as_str().unwrap().starts_with("twinlock-xks 0."));
    assert_eq!(answer["ekmVendor"], "SoftHSM project");
    let [ekm] = &answer["ekmFleetDetails"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!((&ekm["id"], &ekm["healthStatus"]), (&json!("a"), &json!("ACTIVE")));
    assert!(ekm["model"].as_str().unwrap().contains("SoftHSM"), "{ekm}");
}

#[test]
fn what_was_encrypted_decrypts_from_nothing_to_4300_bytes() {
    let proxy = Proxy::start();
    for len in [0, 1, 15, 16, 17, 48, 4300] {
        let plaintext = vec![0xa5; len];
        let encrypted = proxy.encrypt(&plaintext).ok();
        assert_eq!(bytes(&encrypted.body["ciphertext"]).len(), len);
        assert_eq!(bytes(&encrypted.body["initializationVector"]).len(), 12);
        assert_eq!(bytes(&encrypted.body["authenticationTag"]).len(), 16);
        assert_eq!(bytes(&encrypted.body["ciphertextMetadata"]), [1, 0, 0, 0, 1]);
        assert!(encrypted.body.get("ciphertextDataIntegrityValue").is_none());
        let decrypted = proxy.decrypt(&encrypted).ok();
        assert_eq!(decrypted.body, json!({ "plaintext": base64(&plaintext) }));
    }
}

#[test]
fn the_longest_aad_and_none_at_all_are_taken() {
    let proxy = Proxy::start();
    for aad in [json!(base64(&[7; 8192])), json!(""), Value::Null] {
        let name = "additionalAuthenticatedData";
        let encrypted =
            proxy.ask("keys/k/encrypt", &changed(encrypt_request(b"x"), name, aad.clone())).ok();
        let request = changed(decrypt_request(&encrypted.body), name, aad);
        proxy.ask("keys/k/decrypt", &request).ok();
    }
}

#[test]
fn the_integrity_value_is_the_hash_of_all_that_decrypt_needs() {
    let proxy = Proxy::start();
    let request = changed(
        encrypt_request(b"plaintext"),
        "ciphertextDataIntegrityValueAlgorithm",
        json!("SHA_256"),
    );
    let encrypted = proxy.ask("keys/k/encrypt", &request).ok();
    let field = |name: &str| bytes(&encrypted.body[name]);
    let parts = [
        bytes(&json!(AAD)),
        field("ciphertextMetadata"),
        field("initializationVector"),
        field("ciphertext"),
        field("authenticationTag"),
    ];
    let hash = Sha256::digest(parts.concat());
    assert_eq!(field("ciphertextDataIntegrityValue"), hash.as_slice());
    proxy.decrypt(&encrypted).ok();
}

/// Ciphertext, IV, tag, metadata and AAD are bound to each other: a flip of any
/// bit in any of them is found by the token.
#[test]
fn whatever_is_changed_of_a_ciphertext_is_an_invalid_ciphertext() {
    let proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"plaintext").ok();
    let good = decrypt_request(&encrypted.body);
    for field in [
        "ciphertext",
        "initializationVector",
        "authenticationTag",
        "ciphertextMetadata",
        "additionalAuthenticatedData",
    ] {
        let before = bytes(&good[field]);
        for (at, bit) in [(0, 1), (before.len() - 1, 0x80)] {
            let mut flipped = before.clone();
            flipped[at] ^= bit;
            let request = changed(good.clone(), field, json!(base64(&flipped)));
            let answer = proxy.ask("keys/k/decrypt", &request);
            assert_eq!(
                (answer.error(), answer.status),
                ("InvalidCiphertextException", 400),
                "{field}"
            );
        }
    }
    proxy.ask("keys/k/decrypt", &good).ok();
    assert_eq!(
        proxy.ask("health", &only_metadata()).body["ekmFleetDetails"][0]["healthStatus"],
        "ACTIVE"
    );
}

#[test]
fn a_ciphertext_of_another_shape_is_an_invalid_ciphertext() {
    let proxy = Proxy::start();
    let good = decrypt_request(&proxy.encrypt(b"plaintext").ok().body);
    let short = json!(base64(&[1; 8]));
    for request in [
        without(good.clone(), "initializationVector"),
        without(good.clone(), "authenticationTag"),
        without(good.clone(), "ciphertext"),
        without(good.clone(), "ciphertextMetadata"),
        changed(good.clone(), "initializationVector", short.clone()),
        changed(good.clone(), "authenticationTag", short.clone()),
        changed(good.clone(), "ciphertextMetadata", json!(base64(&[1; 21]))),
        changed(good.clone(), "ciphertext", json!("not base64")),
    ] {
        let answer = proxy.ask("keys/k/decrypt", &request);
        assert_eq!(
            (answer.error(), answer.status),
            ("InvalidCiphertextException", 400),
            "{request}"
        );
    }
}

#[test]
fn a_request_that_lacks_something_or_says_it_wrong_is_a_validation_error() {
    let proxy = Proxy::start();
    let encrypt = || encrypt_request(b"x");
    let mut no_principal = metadata();
    no_principal.as_object_mut().unwrap().remove("awsPrincipalArn");
    for (operation, body) in [
        ("health", json!({})),
        ("health", json!({ "requestMetadata": {} })),
        ("keys/k/metadata", json!({})),
        ("keys/k/metadata", json!({ "requestMetadata": {} })),
        ("keys/k/metadata", json!({ "requestMetadata": no_principal })),
        ("keys/k/encrypt", without(encrypt(), "requestMetadata")),
        ("keys/k/encrypt", without(encrypt(), "plaintext")),
        ("keys/k/encrypt", without(encrypt(), "encryptionAlgorithm")),
        ("keys/k/encrypt", changed(encrypt(), "encryptionAlgorithm", json!("AES_CBC"))),
        ("keys/k/encrypt", changed(encrypt(), "plaintext", json!("AAE"))),
        ("keys/k/encrypt", changed(encrypt(), "plaintext", json!("AAEC_-=="))),
        (
            "keys/k/encrypt",
            changed(encrypt(), "ciphertextDataIntegrityValueAlgorithm", json!("MD5")),
        ),
        ("keys/k/encrypt", json!([])),
    ] {
        let answer = proxy.ask(operation, &body);
        assert_eq!(
            (answer.error(), answer.status),
            ("ValidationException", 400),
            "{operation} {body}"
        );
    }
}

#[test]
fn more_than_the_specification_asks_for_is_an_unsupported_operation() {
    let proxy = Proxy::start();
    for (field, value) in [
        ("plaintext", json!(base64(&[1; 4301]))),
        ("additionalAuthenticatedData", json!(base64(&[1; 8193]))),
    ] {
        let answer = proxy.ask("keys/k/encrypt", &changed(encrypt_request(b"x"), field, value));
        assert_eq!(
            (answer.error(), answer.status),
            ("UnsupportedOperationException", 501),
            "{field}"
        );
    }
}

#[test]
fn what_kms_may_send_one_day_is_tolerated() {
    let proxy = Proxy::start();
    let mut metadata = metadata();
    metadata["kmsOperation"] = json!("SomethingNew");
    metadata["kmsRequestId"] = json!("not a uuid \u{1F980}");
    metadata["awsPrincipalArn"] = json!("AWS Internal");
    metadata["sourceIdentity"] = json!({ "new": [1, 2, { "x": null }] });
    metadata["awsSourceVpc"] = json!("vpc-1");
    metadata["kmsKeyArn"] = json!(format!("arn:aws:kms:::key/{}", "x".repeat(2000)));
    let request = json!({ "requestMetadata": metadata, "tags": ["x"] });
    for operation in ["health", "keys/k/metadata"] {
        proxy.ask(operation, &request).ok();
    }
    let mut encrypt = changed(encrypt_request(b"x"), "requestMetadata", metadata);
    encrypt["somethingElse"] = json!({});
    proxy.ask("keys/k/encrypt", &encrypt).ok();
}

#[test]
fn other_methods_are_not_allowed_and_unknown_paths_are_not_found_before_authentication() {
    let proxy = Proxy::start();
    let ask = |method: &str, path: &str| {
        let head = format!("{method} {path} HTTP/1.1");
        proxy.send(&Message::new(&head, &[("host", "x")], b""))
    };
    for operation in ["keys/k/metadata", "keys/k/encrypt", "keys/k/decrypt", "health"] {
        for method in ["GET", "PUT", "DELETE"] {
            assert_eq!(ask(method, &format!("{PATH}/{operation}")).status, 405, "{method}");
        }
        assert_eq!(
            ask("POST", &format!("{PATH}/{operation}")).error(),
            "AuthenticationFailedException"
        );
    }
    for path in [
        "/",
        "/kms/xks/v1/health",
        "/tenant-b/kms/xks/v1/health",
        "/ping",
        "/tenant-a/kms/xks/v1/keys/k/sign",
        "/tenant-a/kms/xks/v1/health/",
    ] {
        for method in ["GET", "POST"] {
            let answer = ask(method, path);
            assert_eq!((answer.error(), answer.status), ("InvalidUriPathException", 404), "{path}");
        }
    }
}

#[test]
fn a_key_that_is_not_there_is_not_found() {
    let proxy = Proxy::start();
    for (operation, body) in [
        ("keys/other/metadata", only_metadata()),
        ("keys/other/encrypt", encrypt_request(b"x")),
        ("keys/other/decrypt", decrypt_request(&proxy.encrypt(b"x").ok().body)),
    ] {
        let answer = proxy.ask(operation, &body);
        assert_eq!((answer.error(), answer.status), ("KeyNotFoundException", 404), "{operation}");
    }
}

/// Errors are one line of JSON with a sentence that helps.
#[test]
fn an_error_has_a_sentence_that_kms_can_show() {
    let proxy = Proxy::start();
    let answer = proxy.ask("keys/other/metadata", &only_metadata());
    let message = answer.body["errorMessage"].as_str().unwrap();
    assert!(message.len() < 512 && message.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    assert!(message.contains("XksKeyId"), "{message}");
    assert_eq!(
        (answer.content_type.as_str(), answer.text.contains('\n')),
        ("application/json", false)
    );
}

#[test]
fn only_who_has_the_secret_is_answered() {
    let proxy = Proxy::start();
    let host = proxy.address.to_string();
    let path = format!("{PATH}/health");
    let body = only_metadata().to_string();
    let with = |change: fn(&mut Signer)| {
        let mut signer = proxy.signer();
        change(&mut signer);
        signer.post(&host, &path, body.as_bytes())
    };
    let good = with(|_| ());
    let header = |name: &str, value: &str| {
        let mut message = good.clone();
        message.headers.retain(|(header, _)| header != name);
        message.headers.push((name.to_owned(), value.to_owned()));
        message
    };
    let unsigned = Message { headers: vec![("host".to_owned(), host.clone())], ..good.clone() };
    let other_body = Message { body: b"{}".to_vec(), ..good.clone() };
    let another_path =
        Message { first_line: format!("POST {PATH}/keys/k/metadata HTTP/1.1"), ..good.clone() };
    for (what, request) in [
        ("no signature", unsigned),
        ("another body", other_body),
        ("another path", another_path),
        ("another host", header("host", "example.org")),
        ("a date that is none", header("x-amz-date", "20260231T000000Z")),
        ("another secret", with(|it| it.secret.replace_range(0..1, "1"))),
        ("another id", with(|it| it.access_key_id.replace_range(0..1, "A"))),
        ("another region", with(|it| it.region = "us-east-1".to_owned())),
        ("too old", with(|it| it.now -= Duration::from_secs(301 + 60))),
        ("too new", with(|it| it.now += Duration::from_secs(301 + 60))),
    ] {
        let answer = proxy.send(&request);
        assert_eq!(
            (answer.error(), answer.status),
            ("AuthenticationFailedException", 401),
            "{what}"
        );
    }
    proxy.send(&good).ok();
    proxy.send(&with(|it| it.now -= Duration::from_secs(240))).ok();
    let logged = format!("{:?}", proxy.records());
    assert!(!logged.contains(super::proxy::SECRET) && !logged.contains("Signature"), "{logged}");
}

/// Two calls of the module for each operation, four with the check, none for
/// what is known. (IVs come many at a time.)
#[test]
fn an_operation_costs_as_few_calls_as_it_can() {
    let proxy = Proxy::with(|config| config.replace("sessions = 2", "sessions = 1"));
    let encrypted = proxy.encrypt(b"x").ok();
    proxy.decrypt(&encrypted).ok();
    let count = || {
        [
            "C_EncryptInit",
            "C_Encrypt",
            "C_DecryptInit",
            "C_Decrypt",
            "C_FindObjectsInit",
            "C_Login",
            "C_GenerateRandom",
            "C_GetSessionInfo",
            "C_GetAttributeValue",
        ]
        .map(|function| proxy.module.count(function))
    };
    // What goes on in the background counts, too, so it takes a quiet moment.
    let costs = |what: &dyn Fn() -> Answer| {
        let smallest = (0..20).map(|_| {
            let before = count();
            assert_eq!(what().status, 200);
            let after = count();
            let calls = before.iter().zip(after).map(|(before, after)| after - before);
            calls.collect::<Vec<_>>()
        });
        smallest.min_by_key(|calls| calls.iter().sum::<usize>()).unwrap()
    };
    let checked =
        changed(encrypt_request(b"x"), "ciphertextDataIntegrityValueAlgorithm", json!("SHA_256"));
    assert_eq!(costs(&|| proxy.encrypt(b"x")), [1, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(costs(&|| proxy.ask("keys/k/encrypt", &checked)), [1, 1, 1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(costs(&|| proxy.decrypt(&encrypted)), [0, 0, 1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(costs(&|| proxy.ask("keys/k/metadata", &only_metadata())), [0; 9]);
    assert_eq!(costs(&|| proxy.ask("health", &only_metadata())), [0; 9]);
}

#[test]
fn a_record_has_what_happened_and_nothing_of_the_data() {
    let proxy = Proxy::start();
    let request = encrypt_request(b"very secret plaintext");
    let encrypted = proxy.ask("keys/k/encrypt", &request).ok();
    let record = proxy.record(request["requestMetadata"]["kmsRequestId"].as_str().unwrap());
    for (field, value) in [
        ("operation", json!("Encrypt")),
        ("key_store", json!("/tenant-a")),
        ("key", json!("k")),
        ("generation", json!(1)),
        ("principal", metadata()["awsPrincipalArn"].clone()),
        ("outcome", json!("ok")),
        ("status", json!(200)),
        ("hsm", json!("a")),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    assert!(record["hsm_us"].is_u64() && record["queue_us"].is_u64(), "{record}");
    let logged = format!("{record}{}", proxy.said());
    for field in ["ciphertext", "initializationVector", "authenticationTag"] {
        assert!(!logged.contains(encrypted.body[field].as_str().unwrap()), "{field}");
    }
    assert!(!logged.contains(request["plaintext"].as_str().unwrap()) && !logged.contains(AAD));
}
