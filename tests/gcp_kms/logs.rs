//! No share, token or private key in any log or error, whatever happens.

use twinlock_keys::{KeyHolder as _, Share};

use super::rig::{Rig, context, refusal};
use crate::support::cloud_kms::account::account;
use crate::support::cloud_kms::{cut, echo};
use crate::support::logs::recorded;
use crate::support::process::in_a_process;
use crate::support::proxy::Fault;

#[test]
fn no_secret_is_in_a_log_even_at_trace() {
    in_a_process("gcp_kms::logs::no_secret_is_in_a_log_even_at_trace", a_few_calls);
}

async fn a_few_calls() {
    let (log, _recording) = recorded();

    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();
    rig.server.inject("Encrypt", Fault::Drop);
    refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);

    let text = log.text();
    for secret in ["plaintext", "Bearer", "eyJ", &account().some_of_the_private_key()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for operation in ["Encrypt", "Decrypt"] {
        let line = text.lines().find(|line| line.contains(&format!("operation=\"{operation}\"")));
        let line = line.expect("one line of our own for each call");
        assert!(line.contains(key.uri().as_str()), "{line}");
    }
}

#[tokio::test]
async fn a_share_is_in_no_error() {
    let rig = Rig::new();
    let key = rig.key_with(rig.options().attempts(1)).await;
    let share = Share::copy_of(b"twinlock twinlock twinlock twinl");
    let wrapped = key.wrap_key(&share, &context()).await.unwrap();
    let faults = [
        Fault::Drop,
        echo(),
        cut(),
        Fault::answer(200, &[], "<html>"),
        Fault::answer(500, &[], ""),
        Fault::Edit(|answer| answer["plaintextCrc32c"] = serde_json::json!("x")),
        Fault::Edit(|answer| answer["protectionLevel"] = answer["plaintext"].clone()),
        Fault::Edit(|answer| answer["usedPrimary"] = answer["plaintext"].clone()),
    ];
    for fault in faults {
        rig.server.inject_times(1, "Encrypt", fault.clone());
        rig.server.inject_times(1, "Decrypt", fault);
        let errors = [
            key.wrap_key(&share, &context()).await.err(),
            key.unwrap_key(&wrapped, &context()).await.err(),
        ];
        for error in errors.into_iter().flatten() {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("dHdpbmxvY2sgdHdpbmxvY2sg"), "in base64: {text}");
            assert!(!text.contains("plaintext"), "{text}");
        }
    }
}
