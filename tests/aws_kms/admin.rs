//! Making keys and describing them.

use serde_json::json;
use twinlock_keys::HolderErrorKind;
use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};

use super::rig::{REGION, Rig, kind, new_key, refusal, uri};
use crate::support::kms_proxy::Fault;
use crate::support::moto::{id_of, moto};

fn options(rig: &Rig) -> Options {
    rig.options().region(REGION)
}

#[tokio::test]
async fn a_new_key_answers_to_its_alias() {
    let rig = Rig::new();
    let alias = uri("alias/created");
    let key = AwsKmsKey::create(&alias, &options(&rig)).await.unwrap();
    assert!(!key.is_alias());
    let facts = AwsKmsKey::describe(&alias, &options(&rig)).await.unwrap();
    assert_eq!(facts.uri, key);
    assert!(facts.is_enabled() && !facts.multi_region);
    let words = [facts.spec, facts.manager, facts.origin];
    assert_eq!(words, ["SYMMETRIC_DEFAULT", "CUSTOMER", "AWS_KMS"]);
    let description = &rig.proxy.calls("CreateKey")[0].body["Description"];
    assert_eq!(description, "Twinlock provider KEK (alias/created)");
}

#[tokio::test]
async fn an_alias_that_is_taken_costs_no_key() {
    let rig = Rig::new();
    let alias = uri("alias/taken");
    let first = AwsKmsKey::create(&alias, &options(&rig)).await.unwrap();
    let error = refusal(AwsKmsKey::create(&alias, &options(&rig)).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains(first.as_str()), "{error}");
    assert_eq!(rig.proxy.count("CreateKey"), 1);
}

#[tokio::test]
async fn creating_a_key_is_never_asked_for_twice() {
    let rig = Rig::new();
    rig.proxy.inject("CreateKey", Fault::Drop);
    let result = AwsKmsKey::create(&uri("alias/dropped"), &options(&rig)).await;
    assert!(matches!(kind(result), HolderErrorKind::Unavailable { .. }));
    assert_eq!(rig.proxy.count("CreateKey"), 1);
}

#[tokio::test]
async fn a_key_without_its_alias_is_named() {
    let rig = Rig::new();
    rig.proxy.inject("CreateAlias", Fault::refuse("AccessDeniedException"));
    let error = refusal(AwsKmsKey::create(&uri("alias/refused"), &options(&rig)).await);
    assert_eq!(error.kind(), HolderErrorKind::Denied);
    let made = rig.proxy.calls("CreateAlias")[0].body["TargetKeyId"].as_str().unwrap().to_owned();
    assert!(error.to_string().contains(&made) && error.to_string().contains("kms:CreateAlias"));
}

#[tokio::test]
async fn only_an_alias_can_be_created() {
    let rig = Rig::new();
    let result = AwsKmsKey::create(&new_key(), &options(&rig)).await;
    assert_eq!(kind(result), HolderErrorKind::Misconfigured);
    assert!(rig.proxy.all_calls().is_empty());
}

#[tokio::test]
async fn keys_for_other_purposes_are_refused() {
    let rig = Rig::new();
    let purposes = [
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("ECC_NIST_P256", "SIGN_VERIFY"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
    ];
    for (number, (spec, usage)) in purposes.into_iter().enumerate() {
        let arn = moto().create_key(REGION, &json!({ "KeySpec": spec, "KeyUsage": usage }));
        let error = refusal(AwsKmsKey::describe(&uri(&arn), &options(&rig)).await);
        assert_eq!(error.kind(), HolderErrorKind::Misconfigured, "{spec}");
        assert!(error.to_string().contains(spec), "{error}");

        let name = format!("alias/other-purpose-{number}");
        let alias = json!({ "AliasName": name, "TargetKeyId": arn });
        moto().call(REGION, "CreateAlias", &alias);
        let result = AwsKmsKey::connect(&uri(&name), &options(&rig)).await;
        assert_eq!(kind(result), HolderErrorKind::Misconfigured, "{spec}");
    }
}

#[tokio::test]
async fn a_key_that_is_off_is_described_as_such() {
    let rig = Rig::new();
    let key = new_key();
    let id = json!({ "KeyId": id_of(key.key_name()) });
    moto().call(REGION, "DisableKey", &id);
    let facts = AwsKmsKey::describe(&key, &options(&rig)).await.unwrap();
    assert_eq!((facts.state.as_str(), facts.is_enabled()), ("Disabled", false));
    moto().call(REGION, "ScheduleKeyDeletion", &id);
    let facts = AwsKmsKey::describe(&key, &options(&rig)).await.unwrap();
    assert_eq!((facts.state.as_str(), facts.is_enabled()), ("PendingDeletion", false));
}

#[tokio::test]
async fn a_multi_region_key_is_described_as_such() {
    let rig = Rig::new();
    let arn = moto().create_key(REGION, &json!({ "MultiRegion": true }));
    assert!(AwsKmsKey::describe(&uri(&arn), &options(&rig)).await.unwrap().multi_region);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_not_found() {
    let rig = Rig::new();
    let absent = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-4000-8000-000000000000";
    for name in [absent, "alias/absent"] {
        let error = refusal(AwsKmsKey::describe(&uri(name), &options(&rig)).await);
        assert_eq!(error.kind(), HolderErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
