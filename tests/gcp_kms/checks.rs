//! The server that the other tests trust: each of its checks refuses a request
//! that is wrong in one way, and lets it through once it is switched off. So a
//! holder that got one of these wrong would fail the other tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::cloud_kms::account::{Account, account};
use crate::support::cloud_kms::{Check, CloudKms, Purpose, VersionState, crc32c};
use crate::support::http::{self, Message};

/// A request that is wrong in one way, and how it is refused.
struct Wrong {
    check: Check,
    expected: (u16, &'static str),
    request: fn(&CloudKms) -> Message,
}

const WRONG: &[Wrong] = &[
    Wrong {
        check: Check::Authorization,
        expected: (401, "UNAUTHENTICATED"),
        request: |server| encrypt(&key(server), &encryption(), None),
    },
    Wrong {
        check: Check::Authorization,
        expected: (401, "UNAUTHENTICATED"),
        request: |server| {
            let stranger = Account::new().token(&Account::claims());
            encrypt(&key(server), &encryption(), Some(&stranger))
        },
    },
    Wrong {
        check: Check::Authorization,
        expected: (401, "UNAUTHENTICATED"),
        request: |server| encrypt(&key(server), &encryption(), Some(&claiming("exp", json!(1)))),
    },
    Wrong {
        check: Check::Authorization,
        expected: (401, "UNAUTHENTICATED"),
        request: |server| {
            let scope = json!("https://www.googleapis.com/auth/drive");
            encrypt(&key(server), &encryption(), Some(&claiming("scope", scope)))
        },
    },
    Wrong {
        check: Check::Authorization,
        expected: (401, "UNAUTHENTICATED"),
        request: |server| {
            let later = json!(9_999_999_999i64);
            encrypt(&key(server), &encryption(), Some(&claiming("iat", later)))
        },
    },
    Wrong {
        check: Check::PlaintextCrc32c,
        expected: (400, "INVALID_ARGUMENT"),
        request: |server| {
            encrypt(&key(server), &with(encryption(), "plaintextCrc32c", "1"), Some(&good()))
        },
    },
    Wrong {
        check: Check::AadCrc32c,
        expected: (400, "INVALID_ARGUMENT"),
        request: |server| {
            let body = with(encryption(), "additionalAuthenticatedDataCrc32c", "1");
            encrypt(&key(server), &body, Some(&good()))
        },
    },
    Wrong {
        check: Check::CiphertextCrc32c,
        expected: (400, "INVALID_ARGUMENT"),
        request: |server| {
            let key = key(server);
            let body = with(decryption(server, &key), "ciphertextCrc32c", "1");
            decrypt(&key, &body)
        },
    },
    Wrong {
        check: Check::Aad,
        expected: (400, "INVALID_ARGUMENT"),
        request: |server| {
            let key = key(server);
            let other = with(decryption(server, &key), "additionalAuthenticatedData", "AAAA");
            let checksum = crc32c(&[0; 3]).to_string();
            decrypt(&key, &with(other, "additionalAuthenticatedDataCrc32c", &checksum))
        },
    },
    Wrong {
        check: Check::Key,
        expected: (400, "INVALID_ARGUMENT"),
        request: |server| {
            let (one, other) = (key(server), key(server));
            decrypt(&other, &decryption(server, &one))
        },
    },
    Wrong {
        check: Check::State,
        expected: (400, "FAILED_PRECONDITION"),
        request: |server| {
            let key = key(server);
            let body = decryption(server, &key);
            server.set_state(&key, VersionState::Disabled);
            decrypt(&key, &body)
        },
    },
    Wrong {
        check: Check::Purpose,
        expected: (400, "INVALID_ARGUMENT"),
        request: |server| encrypt(&server.create_key(Purpose::Mac), &encryption(), Some(&good())),
    },
];

#[test]
fn each_check_refuses_what_passes_without_it() {
    for (number, wrong) in WRONG.iter().enumerate() {
        let what = format!("{number}: {:?}", wrong.check);
        let server = CloudKms::start();
        let (http, status, text) = send(&server, &(wrong.request)(&server));
        assert_eq!((http, status.as_str()), wrong.expected, "{what}: {text}");

        let server = CloudKms::start();
        server.skip(wrong.check);
        let (http, _, text) = send(&server, &(wrong.request)(&server));
        assert_eq!(http, 200, "{what}: {text}");
    }
}

#[test]
fn every_check_has_its_wrong_request() {
    let all = [
        Check::Authorization,
        Check::Key,
        Check::Aad,
        Check::PlaintextCrc32c,
        Check::CiphertextCrc32c,
        Check::AadCrc32c,
        Check::State,
        Check::Purpose,
    ];
    for check in all {
        assert!(WRONG.iter().any(|wrong| wrong.check == check), "{check:?}");
    }
}

#[test]
fn a_right_request_passes_all_checks() {
    let server = CloudKms::start();
    let key = key(&server);
    let body = decryption(&server, &key);
    let (http, _, text) = send(&server, &decrypt(&key, &body));
    assert_eq!(http, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["plaintext"], encryption()["plaintext"]);
}

/// Known answers, for its checksum is our own.
#[test]
fn the_servers_checksum_is_crc_32c() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
}

// === Requests ===

fn key(server: &CloudKms) -> String {
    server.create_key(Purpose::EncryptDecrypt)
}

fn encryption() -> Value {
    let (plaintext, aad) = ([7; 32], [1; 66]);
    json!({
        "plaintext": STANDARD.encode(plaintext),
        "plaintextCrc32c": crc32c(&plaintext).to_string(),
        "additionalAuthenticatedData": STANDARD.encode(aad),
        "additionalAuthenticatedDataCrc32c": crc32c(&aad).to_string(),
    })
}

/// A right request to decrypt what the server has just encrypted.
fn decryption(server: &CloudKms, key: &str) -> Value {
    let (http, _, text) = send(server, &encrypt(key, &encryption(), Some(&good())));
    assert_eq!(http, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let asked = encryption();
    json!({
        "ciphertext": answer["ciphertext"],
        "ciphertextCrc32c": answer["ciphertextCrc32c"],
        "additionalAuthenticatedData": asked["additionalAuthenticatedData"],
        "additionalAuthenticatedDataCrc32c": asked["additionalAuthenticatedDataCrc32c"],
    })
}

fn with(mut body: Value, field: &str, value: &str) -> Value {
    body[field] = json!(value);
    body
}

fn good() -> String {
    account().token(&Account::claims())
}

fn claiming(claim: &str, value: Value) -> String {
    let mut claims = Account::claims();
    claims[claim] = value;
    account().token(&claims)
}

fn encrypt(key: &str, body: &Value, token: Option<&str>) -> Message {
    post(&format!("{key}:encrypt"), body, token)
}

fn decrypt(key: &str, body: &Value) -> Message {
    post(&format!("{key}:decrypt"), body, Some(&good()))
}

fn post(path: &str, body: &Value, token: Option<&str>) -> Message {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let authorization = bearer.as_deref().map(|bearer| ("authorization", bearer));
    let mut headers = vec![("host", "localhost"), ("content-type", "application/json")];
    headers.extend(authorization);
    Message::new(&format!("POST /v1/{path} HTTP/1.1"), &headers, body.to_string().as_bytes())
}

/// The HTTP status, the code of Google's and the text of the answer.
fn send(server: &CloudKms, request: &Message) -> (u16, String, String) {
    let answer = http::exchange(server.address(), request).unwrap();
    let http = answer.first_line.split(' ').nth(1).unwrap().parse().unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    (http, json["error"]["status"].as_str().unwrap_or_default().to_owned(), text)
}
