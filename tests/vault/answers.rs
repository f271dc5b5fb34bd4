//! Answers that a good server does not give.

use std::time::Duration;

use serde_json::{Value, json};
use twinlock_keys::{HolderErrorKind as Kind, KeyHolder as _, Share};

use super::rig::{Rig, context, kind, refusal, wrapped};
use crate::support::http::Message;
use crate::support::proxy::{Fault, Trap};

#[tokio::test]
async fn a_plaintext_that_is_no_share_is_refused() {
    let rig = Rig::new();
    let key = rig.key();
    let (_, wrapped) = wrapped(&key).await;
    let edits: [fn(&mut Value); 4] = [
        |answer| answer["data"]["plaintext"] = json!(""),
        |answer| answer["data"]["plaintext"] = json!("AAAA"),
        |answer| answer["data"]["plaintext"] = json!("A".repeat(44)),
        |answer| answer["data"]["plaintext"] = json!("not base64"),
    ];
    for edit in edits {
        rig.proxy.inject_times(1, "decrypt", Fault::Edit(edit));
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), Kind::InvalidCiphertext, "{error}");
        assert_eq!(error.answer().unwrap().code, "200");
    }
}

#[tokio::test]
async fn an_answer_without_a_usable_ciphertext_is_refused() {
    let rig = Rig::new();
    let key = rig.key();
    let share = Share::random().unwrap();
    let edits: [fn(&mut Value); 5] = [
        |answer| answer["data"]["ciphertext"] = json!(""),
        |answer| answer["data"]["ciphertext"] = json!("vault:v1:"),
        |answer| answer["data"]["ciphertext"] = json!("vault:v2/../3:AAAA"),
        |answer| answer["data"]["ciphertext"] = json!(format!("vault:v1:{}", "A".repeat(6144))),
        |answer| {
            answer["data"].as_object_mut().unwrap().remove("ciphertext");
        },
    ];
    for edit in edits {
        rig.proxy.inject_times(1, "encrypt", Fault::Edit(edit));
        assert_eq!(kind(key.wrap_key(&share, &context()).await), Kind::Failed);
    }
}

#[tokio::test]
async fn what_is_not_vault_fails() {
    let rig = Rig::new();
    let key = rig.key();
    let (_, wrapped) = wrapped(&key).await;
    let endless = vec![b' '; 8 << 20];
    let foreign = [
        Fault::answer(200, &[], ""),
        Fault::answer(200, &[], "{}"),
        Fault::answer(200, &[], "{\"data\":null}"),
        Fault::answer(200, &[], &endless),
        Fault::answer(400, &[], &endless),
        Fault::answer(200, &[], b"\xff\xfe"),
        Fault::answer(204, &[], ""),
        Fault::answer(206, &[], "{\"data\":{\"plaintext\":\"\"}}"),
        Fault::answer(403, &[], "<html>blocked</html>"),
        Fault::answer(400, &[], "Client sent an HTTP request to an HTTPS server.\n"),
        Fault::answer(404, &[], "{\"errors\":3}"),
    ];
    for fault in foreign {
        rig.proxy.inject_times(1, "decrypt", fault.clone());
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), Kind::Failed, "{error}");
        assert!(error.to_string().contains("address"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_asked_again() {
    let rig = Rig::new();
    let key = rig.key_with(&rig.options().attempts(3));
    let errors = r#"{"errors":["Vault is sealed"]}"#;
    for status in [412, 429, 472, 473, 500, 502, 503] {
        let before = rig.proxy.count("encrypt");
        rig.proxy.inject_times(2, "encrypt", Fault::answer(status, &[], errors));
        wrapped(&key).await;
        assert_eq!(rig.proxy.count("encrypt"), before + 3, "{status}");
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_passed_on() {
    let rig = Rig::new();
    let key = rig.key_with(&rig.options().attempts(3).deadline(Duration::from_secs(30)));
    for (said, heard) in [("40", 40), ("99999999", 3600)] {
        let before = rig.proxy.count("encrypt");
        rig.proxy.inject_times(1, "encrypt", Fault::answer(429, &[("retry-after", said)], "{}"));
        let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
        let retry_after = Some(Duration::from_secs(heard));
        assert_eq!(error.kind(), Kind::Unavailable { retry_after }, "{error}");
        assert_eq!(rig.proxy.count("encrypt"), before + 1, "nobody waits longer than the deadline");
    }
}

/// A challenge names somebody to get a token from, and nobody is told ours.
#[tokio::test]
async fn no_authority_is_taken_from_a_challenge() {
    let rig = Rig::new();
    let key = rig.key();
    let (_, wrapped) = wrapped(&key).await;
    let trap = Trap::new();
    let challenge = format!("Bearer authorization=\"http://{}/\", resource=\"x\"", trap.address);
    let fault = Fault::answer(401, &[("www-authenticate", &challenge)], r#"{"errors":[]}"#);
    rig.proxy.inject("decrypt", fault);
    assert_eq!(kind(key.unwrap_key(&wrapped, &context()).await), Kind::Denied);
    assert_eq!(trap.arrivals(), 0);
}

/// Whatever the server repeats of what it was sent.
#[tokio::test]
async fn a_share_is_in_no_error() {
    let rig = Rig::new();
    let key = rig.key();
    let share = Share::copy_of(b"twinlock twinlock twinlock twinl");
    let echoes: [fn(&Message) -> Message; 3] = [
        |request| echo(request, 400),
        |request| echo(request, 403),
        |request| Message::new("HTTP/1.1 200 OK", &[], &request.body),
    ];
    for echo in echoes {
        rig.proxy.inject_times(1, "encrypt", Fault::AnswerTo(echo));
        let error = refusal(key.wrap_key(&share, &context()).await);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("dHdpbmxvY2sgdHdpbmxvY2sg"), "in base64: {text}");
    }
}

fn echo(request: &Message, status: u16) -> Message {
    let body = json!({ "errors": [String::from_utf8_lossy(&request.body)] }).to_string();
    Message::new(&format!("HTTP/1.1 {status} Injected"), &[], body.as_bytes())
}
