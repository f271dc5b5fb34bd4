//! Answers that break the contract, each of which has to be noticed.

use serde_json::{Value, json};
use twinlock_keys::{HolderErrorKind, KeyHolder as _, Share};

use super::rig::{HSM, Rig, answer, context, kind, refusal};
use crate::support::key_vault::Material;
use crate::support::proxy::Fault;

const KIDS: [fn(&mut Value); 7] = [
    |answer| answer["kid"] = json!("https://evil.vault.azure.net/keys/kek/0a1b"),
    |answer| answer["kid"] = json!("https://archive.vault.azure.net/keys/other/0a1b"),
    |answer| answer["kid"] = json!("https://archive.vault.azure.net/keys/kek"),
    |answer| answer["kid"] = json!("https://archive.vault.azure.net/keys/kek/a/b"),
    |answer| answer["kid"] = json!("https://archive.vault.azure.net/keys/kek/0a1b?x"),
    |answer| answer["kid"] = json!(""),
    |answer| _ = answer.as_object_mut().unwrap().remove("kid"),
];

#[tokio::test]
async fn an_answer_of_another_key_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    for (number, edit) in KIDS.into_iter().enumerate() {
        rig.proxy.inject_times(1, "wrapKey", Fault::Edit(edit));
        rig.proxy.inject_times(1, "unwrapKey", Fault::Edit(edit));
        let result = key.wrap_key(&Share::random().unwrap(), &context()).await;
        assert_eq!(kind(result), HolderErrorKind::Failed, "{number}");
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), HolderErrorKind::Failed, "{number}");
        assert_eq!(error.answer().unwrap().code, "200");
    }
}

#[tokio::test]
async fn an_answer_of_another_version_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    let other: fn(&mut Value) =
        |answer| answer["kid"] = json!("https://archive.vault.azure.net/keys/kek/0a1b");
    rig.proxy.inject("unwrapKey", Fault::Edit(other));
    assert_eq!(kind(key.unwrap_key(&wrapped, &context()).await), HolderErrorKind::Failed);
}

#[tokio::test]
async fn a_description_of_another_key_is_refused() {
    let rig = Rig::new();
    let other: fn(&mut Value) = |answer| {
        answer["key"]["kid"] = json!("https://archive.vault.azure.net/keys/other/0a1b");
    };
    let nothing: fn(&mut Value) = |answer| *answer = json!({});
    for edit in [other, nothing] {
        rig.proxy.inject("get", Fault::Edit(edit));
        let result = rig.key().await.wrap_key(&Share::random().unwrap(), &context()).await;
        assert_eq!(kind(result), HolderErrorKind::Failed);
    }
}

#[tokio::test]
async fn a_short_key_is_refused() {
    let rig = Rig::new();
    // 1024 bits, all of them set.
    let short: fn(&mut Value) = |answer| answer["key"]["n"] = json!("_".repeat(170) + "8");
    rig.proxy.inject("get", Fault::Edit(short));
    let result = rig.key().await.wrap_key(&Share::random().unwrap(), &context()).await;
    assert_eq!(kind(result), HolderErrorKind::Misconfigured);
    assert_eq!(rig.proxy.count("wrapKey"), 0);
}

#[tokio::test]
async fn a_ciphertext_of_no_usual_length_is_refused() {
    let edits: [fn(&mut Value); 5] = [
        |answer| answer["value"] = json!(""),
        |answer| answer["value"] = json!("AAAA"),
        |answer| answer["value"] = json!("A".repeat(684 * 2)),
        |answer| answer["value"] = json!("not base64url!"),
        |answer| _ = answer.as_object_mut().unwrap().remove("value"),
    ];
    for rig in [Rig::new(), Rig::with(HSM, Material::aes())] {
        let key = rig.key().await;
        for edit in edits {
            rig.proxy.inject_times(1, "wrapKey", Fault::Edit(edit));
            let result = key.wrap_key(&Share::random().unwrap(), &context()).await;
            assert_eq!(kind(result), HolderErrorKind::Failed);
        }
    }
}

#[tokio::test]
async fn a_plaintext_that_is_no_share_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    let edits: [fn(&mut Value); 4] = [
        |answer| answer["value"] = json!("AAAA"),
        |answer| answer["value"] = json!("A".repeat(44)),
        |answer| answer["value"] = json!("A".repeat(42)),
        |answer| _ = answer.as_object_mut().unwrap().remove("value"),
    ];
    for edit in edits {
        rig.proxy.inject_times(1, "unwrapKey", Fault::Edit(edit));
        let result = key.unwrap_key(&wrapped, &context()).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
    }
}

/// An answer without an end would fill the memory.
#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    let body = format!("{{\"value\":\"{}\"}}", "A".repeat(1 << 20));
    rig.proxy.inject("unwrapKey", answer(200, &[], &body));
    assert_eq!(kind(key.unwrap_key(&wrapped, &context()).await), HolderErrorKind::Failed);
}
