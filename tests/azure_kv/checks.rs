//! The vault of the tests checks what the real one would: each check refuses
//! the request that it is there for, and that request passes without it.

use serde_json::{Value, json};

use super::rig::{VAULT, rsa};
use crate::support::http::{self, Message};
use crate::support::key_vault::{Check, KeyVault};

/// A request that fails one check and no other.
struct Wrong {
    check: Check,
    status: u16,
    /// What to do to the vault before.
    prepare: fn(&KeyVault),
    /// What to do to a good request.
    spoil: fn(&KeyVault, &mut Message),
}

const WRONG: [Wrong; 15] = [
    Wrong {
        check: Check::Algorithm,
        status: 400,
        prepare: |_| (),
        spoil: |_, request| set(request, "alg", &json!("RSA1_5")),
    },
    Wrong {
        check: Check::ApiVersion,
        status: 400,
        prepare: |_| (),
        spoil: |_, request| line(request, "?api-version=2025-07-01", ""),
    },
    Wrong {
        check: Check::ApiVersion,
        status: 400,
        prepare: |_| (),
        spoil: |_, request| line(request, "2025-07-01", "2015-06-01"),
    },
    Wrong {
        check: Check::Audience,
        status: 401,
        prepare: |_| (),
        spoil: |vault, request| {
            let token = vault.token("https://management.azure.com/.default");
            header(request, "authorization", &format!("Bearer {token}"));
        },
    },
    Wrong {
        check: Check::Authorization,
        status: 401,
        prepare: |_| (),
        spoil: |_, request| header(request, "authorization", "Bearer of-nobody"),
    },
    Wrong {
        check: Check::Authorization,
        status: 401,
        prepare: |_| (),
        spoil: |_, request| request.headers.retain(|(name, _)| name != "authorization"),
    },
    Wrong {
        check: Check::Encoding,
        status: 400,
        prepare: |_| (),
        spoil: |_, request| set(request, "value", &json!("AAAA_-A=")),
    },
    Wrong {
        check: Check::Encoding,
        status: 400,
        prepare: |_| (),
        spoil: |_, request| set(request, "value", &json!("AAAA/+AA")),
    },
    Wrong {
        check: Check::Enabled,
        status: 403,
        prepare: |vault| vault.change("kek", |version| version.enabled = false),
        spoil: |_, _| (),
    },
    Wrong {
        check: Check::Lifetime,
        status: 401,
        prepare: |vault| vault.turn_clock(7200),
        spoil: |_, _| (),
    },
    Wrong {
        check: Check::Lifetime,
        status: 401,
        prepare: |vault| vault.turn_clock(-7200),
        spoil: |_, _| (),
    },
    Wrong {
        check: Check::Operations,
        status: 403,
        prepare: |vault| vault.change("kek", |version| version.operations.clear()),
        spoil: |_, _| (),
    },
    Wrong {
        check: Check::Permission,
        status: 403,
        prepare: |vault| vault.deny("wrapKey"),
        spoil: |_, _| (),
    },
    Wrong {
        check: Check::Shape,
        status: 400,
        prepare: |_| (),
        spoil: |_, request| set(request, "aad", &json!("AAAA")),
    },
    Wrong {
        check: Check::Version,
        status: 404,
        prepare: |_| (),
        spoil: |_, request| line(request, "/kek//", "/kek/0a1b/"),
    },
];

#[test]
fn each_check_refuses_what_it_is_there_for() {
    for wrong in &WRONG {
        let (vault, request) = prepared(wrong);
        assert_eq!(status(&vault, &request), wrong.status, "{:?}", wrong.check);
    }
}

#[test]
fn without_its_check_each_wrong_request_passes() {
    for wrong in &WRONG {
        let (vault, request) = prepared(wrong);
        vault.skip(wrong.check);
        assert_eq!(status(&vault, &request), 200, "{:?}", wrong.check);
    }
}

#[test]
fn no_other_check_catches_it() {
    for wrong in &WRONG {
        for other in WRONG.iter().map(|wrong| wrong.check).filter(|it| *it != wrong.check) {
            let (vault, request) = prepared(wrong);
            vault.skip(other);
            assert_eq!(status(&vault, &request), wrong.status, "{:?} {other:?}", wrong.check);
        }
    }
}

#[test]
fn a_good_request_passes_all_checks() {
    let vault = vault();
    let answer = http::exchange(vault.address(), &good(&vault)).unwrap();
    assert!(answer.first_line.contains(" 200 "), "{}", answer.first_line);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let kid = body["kid"].as_str().unwrap();
    assert!(kid.starts_with(&format!("https://{VAULT}/keys/kek/")), "{kid}");
}

fn prepared(wrong: &Wrong) -> (KeyVault, Message) {
    let vault = vault();
    (wrong.prepare)(&vault);
    let mut request = good(&vault);
    (wrong.spoil)(&vault, &mut request);
    (vault, request)
}

/// RSA takes anything short: only what is tested can be wrong.
fn vault() -> KeyVault {
    let vault = KeyVault::start(VAULT);
    vault.add("kek", rsa());
    vault
}

fn good(vault: &KeyVault) -> Message {
    let token = vault.token("https://vault.azure.net/.default");
    let headers =
        [("authorization", &*format!("Bearer {token}")), ("content-type", "application/json")];
    let body = json!({ "alg": "RSA-OAEP-256", "value": "AAAA" });
    let line = "POST /keys/kek//wrapkey?api-version=2025-07-01 HTTP/1.1";
    Message::new(line, &headers, body.to_string().as_bytes())
}

fn status(vault: &KeyVault, request: &Message) -> u16 {
    let answer = http::exchange(vault.address(), request).unwrap();
    answer.first_line.split(' ').nth(1).unwrap().parse().unwrap()
}

fn set(request: &mut Message, field: &str, value: &Value) {
    let mut body: Value = serde_json::from_slice(&request.body).unwrap();
    body[field] = value.clone();
    request.body = body.to_string().into_bytes();
}

fn header(request: &mut Message, name: &str, value: &str) {
    request.headers.retain(|(header, _)| header != name);
    request.headers.push((name.to_owned(), value.to_owned()));
}

fn line(request: &mut Message, from: &str, to: &str) {
    assert!(request.first_line.contains(from));
    request.first_line = request.first_line.replace(from, to);
}
