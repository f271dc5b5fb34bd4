//! What opens, what does not, and what exactly is sent for it.

use serde_json::{Value, json};
use twinlock_keys::{HolderErrorKind, KeyHolder as _, Share, ShareAlgorithm, WrappedShare};
use twinlock_remote_keys::aws_kms::AwsKmsKey;

use super::rig::{LABEL, REGION, Rig, context, context_of, kind, new_key, refusal, uri};
use crate::support::kms_proxy::Fault;
use crate::support::moto::{id_of, moto};

#[tokio::test]
async fn a_share_comes_back_for_one_call_each_way() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (share, wrapped) = rig.wrapped(&key).await;
    let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();
    assert_eq!(opened.expose(), share.expose());
    assert_eq!(wrapped.algorithm(), ShareAlgorithm::HolderAead);
    assert_eq!(wrapped.key_version(), None);

    let operations: Vec<_> = rig.proxy.all_calls().into_iter().map(|call| call.operation).collect();
    assert_eq!(operations, ["Encrypt", "Decrypt"]);
    let evidence = opened.answer().expect("KMS answered");
    assert_eq!(evidence.code, "200");
    assert!(evidence.request_id.as_ref().is_some_and(|id| !id.is_empty()));
}

/// The encryption context is documented (`docs/format.md`, shares), as IAM
/// conditions depend on it.
#[tokio::test]
async fn the_requests_are_as_documented() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();
    let expected =
        json!({ "object": "2026/report.pdf", "tenant": "blue", "twinlock:share": LABEL });
    for (operation, input) in [("Encrypt", "Plaintext"), ("Decrypt", "CiphertextBlob")] {
        let body = rig.proxy.calls(operation).remove(0).body;
        assert_eq!(body["KeyId"], key.uri().key_name(), "{operation}");
        assert_eq!(body["EncryptionContext"], expected, "{operation}");
        let fields: Vec<_> = body.as_object().unwrap().keys().collect();
        let mut wanted = [input, "EncryptionContext", "KeyId"];
        wanted.sort_unstable();
        assert_eq!(fields, wanted);
    }
}

#[tokio::test]
async fn another_context_or_label_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    let others = [
        context_of(LABEL, &[("object", "2026/report.pdf"), ("tenant", "green")]),
        context_of(LABEL, &[("object", "2026/report.pdf")]),
        context_of(LABEL, &[]),
        context_of("v1/customer/00112233", &[("object", "2026/report.pdf"), ("tenant", "blue")]),
        context_of("v1/provider/00112234", &[("object", "2026/report.pdf"), ("tenant", "blue")]),
    ];
    for other in others {
        let error = refusal(key.unwrap_key(&wrapped, &other).await);
        assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext, "{other:?}");
        assert_eq!(error.answer().unwrap().code, "InvalidCiphertextException");
    }
}

#[tokio::test]
async fn an_altered_ciphertext_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    for place in [wrapped.bytes().len() - 1, wrapped.bytes().len() / 2] {
        let mut bytes = wrapped.bytes().to_vec();
        bytes[place] ^= 1;
        let altered = WrappedShare::new(ShareAlgorithm::HolderAead, bytes);
        let result = key.unwrap_key(&altered, &context()).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
    }
}

/// moto calls a ciphertext of another key a denial; AWS, which
/// `failures.rs` plays, an `IncorrectKeyException`.
#[tokio::test]
async fn the_share_of_another_key_does_not_open() {
    let rig = Rig::new();
    let (_, foreign) = rig.wrapped(&rig.key().await).await;
    let result = rig.key().await.unwrap_key(&foreign, &context()).await;
    assert_eq!(kind(result), HolderErrorKind::Denied);
}

#[tokio::test]
async fn what_cannot_be_a_ciphertext_is_not_sent() {
    let rig = Rig::new();
    let key = rig.key().await;
    let odd = [
        WrappedShare::new(ShareAlgorithm::HolderAead, Vec::new()),
        WrappedShare::new(ShareAlgorithm::HolderAead, vec![1; 6145]),
        WrappedShare::new(ShareAlgorithm::AesKw, vec![1; 40]),
    ];
    for wrapped in odd {
        let result = key.unwrap_key(&wrapped, &context()).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
    }
    assert!(rig.proxy.all_calls().is_empty());
}

#[tokio::test]
async fn the_callers_pairs_cannot_replace_ours() {
    let rig = Rig::new();
    let key = rig.key().await;
    for pair in [("twinlock:share", "v1/provider/ff"), ("tenant", "green")] {
        let context = context_of(LABEL, &[("tenant", "blue"), pair]);
        let result = key.wrap_key(&Share::random().unwrap(), &context).await;
        assert_eq!(kind(result), HolderErrorKind::Misconfigured);
    }
    assert!(rig.proxy.all_calls().is_empty());
}

#[tokio::test]
async fn an_alias_is_resolved_once_and_headers_get_the_arn() {
    let rig = Rig::new();
    let arn = moto().create_key(REGION, &json!({}));
    let alias = json!({ "AliasName": "alias/team/resolved", "TargetKeyId": arn });
    moto().call(REGION, "CreateAlias", &alias);
    let account_alias = arn.replace(&arn[arn.find(":key/").unwrap() + 1..], "alias/team/resolved");
    for (number, name) in ["alias/team/resolved", account_alias.as_str()].into_iter().enumerate() {
        let options = rig.options().region(REGION);
        let key = AwsKmsKey::connect(&uri(name), &options).await.unwrap();
        assert_eq!(key.uri(), &uri(&arn), "{name}");
        let (share, wrapped) = rig.wrapped(&key).await;
        let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();
        assert_eq!(opened.expose(), share.expose());
        assert_eq!(rig.proxy.count("DescribeKey"), number + 1);
        assert_eq!(rig.proxy.calls("Encrypt")[number].body["KeyId"], arn);
    }
}

#[tokio::test]
async fn the_arn_decides_the_region() {
    let rig = Rig::new();
    let arn = moto().create_key("ap-southeast-2", &json!({}));
    let options = rig.options().region("us-east-1");
    let key = AwsKmsKey::connect(&uri(&arn), &options).await.unwrap();
    rig.wrapped(&key).await;
    let call = rig.proxy.calls("Encrypt").remove(0);
    assert_eq!((call.region.as_str(), call.access_key.as_str()), ("ap-southeast-2", "AKIDTESTS"));
}

/// moto cannot decrypt under the long ids of multi-Region keys, so the proxy
/// answers.
#[tokio::test]
async fn a_replica_is_asked_by_its_own_arn() {
    let rig = Rig::new();
    let primary = moto().create_key(REGION, &json!({ "MultiRegion": true }));
    let ask = json!({ "KeyId": id_of(&primary), "ReplicaRegion": "eu-west-1" });
    let answer = moto().call(REGION, "ReplicateKey", &ask);
    let replica = answer["ReplicaKeyMetadata"]["Arn"].as_str().unwrap();
    let near = AwsKmsKey::connect(&uri(&primary), &rig.options()).await.unwrap();
    let far = AwsKmsKey::connect(&uri(replica), &rig.options()).await.unwrap();
    assert!(near.uri().same_key(far.uri()) && near.uri() != far.uri());

    let (_, wrapped) = rig.wrapped(&near).await;
    let plaintext = format!("{}=", "A".repeat(43));
    let answer = |key: &str| json!({ "KeyId": key, "Plaintext": plaintext }).to_string();
    rig.proxy.inject_times(1, "Decrypt", Fault::raw(200, answer(replica)));
    let opened = far.unwrap_key(&wrapped, &context()).await.unwrap();
    assert_eq!(opened.expose(), &[0; 32]);
    let call = rig.proxy.calls("Decrypt").remove(0);
    assert_eq!((call.region.as_str(), &call.body["KeyId"]), ("eu-west-1", &json!(replica)));

    rig.proxy.inject_times(1, "Decrypt", Fault::raw(200, answer(&primary)));
    assert_eq!(kind(far.unwrap_key(&wrapped, &context()).await), HolderErrorKind::Failed);
}

#[tokio::test]
async fn an_answer_for_another_key_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (share, wrapped) = rig.wrapped(&key).await;
    let edits: [fn(&mut Value); 2] = [
        |answer| answer["KeyId"] = json!(new_key().key_name()),
        |answer| {
            answer.as_object_mut().unwrap().remove("KeyId");
        },
    ];
    for edit in edits {
        rig.proxy.inject_times(1, "Encrypt", Fault::Edit(edit));
        rig.proxy.inject_times(1, "Decrypt", Fault::Edit(edit));
        assert_eq!(kind(key.wrap_key(&share, &context()).await), HolderErrorKind::Failed);
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), HolderErrorKind::Failed);
        assert_eq!(error.answer().unwrap().code, "200");
    }
}

#[tokio::test]
async fn a_plaintext_that_is_no_share_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    let edits: [fn(&mut Value); 3] = [
        |answer| answer["Plaintext"] = json!("AAAA"),
        |answer| answer["Plaintext"] = json!("A".repeat(44)),
        |answer| {
            answer.as_object_mut().unwrap().remove("Plaintext");
        },
    ];
    for edit in edits {
        rig.proxy.inject_times(1, "Decrypt", Fault::Edit(edit));
        let result = key.unwrap_key(&wrapped, &context()).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
    }
}

#[tokio::test]
async fn an_answer_without_ciphertext_is_refused() {
    let rig = Rig::new();
    let key = rig.key().await;
    rig.proxy.inject("Encrypt", Fault::Edit(|answer| answer["CiphertextBlob"] = json!("")));
    let result = key.wrap_key(&Share::random().unwrap(), &context()).await;
    assert_eq!(kind(result), HolderErrorKind::Failed);
}
