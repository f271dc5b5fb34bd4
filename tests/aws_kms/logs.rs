//! No share in any log or error, whatever happens.

use twinlock_keys::{KeyHolder as _, Share};

use super::rig::{Rig, context, refusal};
use crate::support::kms_proxy::Fault;
use crate::support::logs::recorded;
use crate::support::process::in_a_process;

#[test]
fn no_share_is_in_a_log_even_at_trace() {
    in_a_process("aws_kms::logs::no_share_is_in_a_log_even_at_trace", a_few_calls);
}

async fn a_few_calls() {
    let (log, _recording) = recorded();
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();

    let astray = rig.key_with(rig.options().endpoint("not a url")).await;
    refusal(astray.wrap_key(&Share::random().unwrap(), &context()).await);

    let text = log.text();
    assert!(!text.contains("Plaintext"), "no bodies: {text}");
    for target in ["aws_config", "aws_sigv4", "orchestrator"] {
        assert!(!text.contains(target), "not a word from the SDK about a call: {text}");
    }
    for operation in ["Encrypt", "Decrypt"] {
        let line = text.lines().find(|line| line.contains(&format!("operation=\"{operation}\"")));
        let line = line.expect("one line of our own for each call");
        assert!(line.contains(key.uri().as_str()) && line.contains("request_id="), "{line}");
    }
}

/// The SDK prints whole requests in some of its errors.
#[tokio::test]
async fn a_share_is_in_no_error() {
    let rig = Rig::new();
    let good = rig.options().attempts(1);
    let keys = [
        rig.key_with(good.clone().endpoint("not a url")).await,
        rig.key_with(good.clone().endpoint("http://192.0.2.1/")).await,
        rig.key_with(good.clone().profile("absent")).await,
        rig.key_with(good).await,
    ];
    let share = Share::copy_of(b"twinlock twinlock twinlock twinl");
    let faults = [Fault::Drop, Fault::Echo, Fault::raw(200, "<html>"), Fault::raw(500, "")];
    for fault in faults {
        rig.proxy.inject("Encrypt", fault);
        for key in &keys {
            let error = refusal(key.wrap_key(&share, &context()).await);
            let text = format!("{error} {error:?}");
            assert!(!text.contains("dHdpbmxvY2sgdHdpbmxvY2sg"), "in base64: {text}");
            assert!(!text.contains("Plaintext"), "{text}");
        }
    }
}
