//! No share, token or client secret in any log or error, whatever happens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use twinlock_keys::{KeyHolder as _, Share};

use super::rig::{Rig, answer, context, refusal};
use crate::support::http::Message;
use crate::support::key_vault::{SECRET, refusal as azures};
use crate::support::logs::recorded;
use crate::support::process::in_a_process;
use crate::support::proxy::Fault;

#[test]
fn nothing_secret_is_in_a_log_even_at_trace() {
    in_a_process("azure_kv::logs::nothing_secret_is_in_a_log_even_at_trace", a_few_calls);
}

async fn a_few_calls() {
    let (log, _recording) = recorded();
    let rig = Rig::new();
    let key = rig.key().await;
    let (share, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();
    rig.vault.deny("wrapKey");
    refusal(key.wrap_key(&share, &context()).await);

    let text = log.text();
    let token = rig.requests("wrapKey").remove(0);
    let token = token.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let encoded = URL_SAFE_NO_PAD.encode(share.expose());
    for secret in [token, SECRET, &encoded] {
        assert!(!text.contains(secret), "{text}");
    }
    for target in ["azure_core", "azure_identity", "typespec", "reqwest"] {
        assert!(!text.contains(target), "not a word from the SDK about a call: {text}");
    }
    for operation in ["getKey", "wrapKey", "unwrapKey"] {
        let line = text.lines().find(|line| line.contains(&format!("operation=\"{operation}\"")));
        let line = line.expect("one line of our own for each call");
        assert!(line.contains(key.uri().as_str()) && line.contains("request_id="), "{line}");
    }
}

/// A server that repeats what it was sent, in the text of a denial.
#[tokio::test]
async fn a_share_is_in_no_error() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().attempts(1)).await;
    rig.wrapped(&key).await;
    let share = Share::copy_of(b"twinlock twinlock twinlock twinl");
    let echo: fn(&Message) -> Message = |request| {
        let body = azures("Forbidden", None, &String::from_utf8_lossy(&request.body));
        Message::new("HTTP/1.1 403 Injected", &[], body.to_string().as_bytes())
    };
    for fault in [
        Fault::Drop,
        Fault::AnswerTo(echo),
        answer(200, &[], "<html>"),
        answer(500, &[], ""),
        answer(400, &[], "{\"error\":{\"code\":\"BadParameter\",\"message\":\"dHdpbmxvY2s\"}}"),
    ] {
        rig.proxy.inject("wrapKey", fault);
        let error = refusal(key.wrap_key(&share, &context()).await);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("dHdpbmxvY2s"), "in base64: {text}");
        assert!(!text.contains("token-"), "{text}");
    }
}

#[test]
fn options_show_no_secret() {
    let text = format!("{:?}", Rig::new().options());
    assert!(!text.contains(SECRET), "{text}");
}
