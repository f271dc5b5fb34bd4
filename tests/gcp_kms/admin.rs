//! Making keys, and asking what Google knows about one.

use serde_json::json;
use twinlock_keys::{HolderErrorKind, KeyHolder as _};
use twinlock_remote_keys::gcp_kms::GcpKmsKey;

use super::rig::{Rig, context, kind, refusal, uri};
use crate::support::cloud_kms::{Purpose, VersionState};
use crate::support::proxy::Fault;

const RING: &str = "projects/blue/locations/europe-west3/keyRings/files";

#[tokio::test]
async fn a_key_is_described_in_googles_words() {
    let rig = Rig::new();
    let key = rig.new_key();
    rig.server.rotate(key.key_name());
    let facts = GcpKmsKey::describe(&key, &rig.options()).await.unwrap();
    assert_eq!((&facts.uri, facts.version.as_str()), (&key, "2"));
    assert_eq!((facts.state.as_str(), facts.is_enabled()), ("ENABLED", true));
    assert_eq!(facts.algorithm, "GOOGLE_SYMMETRIC_ENCRYPTION");
    assert_eq!(facts.protection_level, "SOFTWARE");
}

#[tokio::test]
async fn a_key_that_is_off_is_described_as_such() {
    let rig = Rig::new();
    let key = rig.new_key();
    rig.server.set_state(key.key_name(), VersionState::DestroyScheduled);
    let facts = GcpKmsKey::describe(&key, &rig.options()).await.unwrap();
    assert_eq!((facts.state.as_str(), facts.is_enabled()), ("DESTROY_SCHEDULED", false));
}

#[tokio::test]
async fn words_newer_than_the_sdk_do_no_harm() {
    let rig = Rig::new();
    let key = rig.new_key();
    rig.server.inject(
        "GetCryptoKey",
        Fault::Edit(|answer| {
            answer["primary"]["state"] = json!(99);
            answer["primary"]["algorithm"] = json!(0);
            answer["primary"]["protectionLevel"] = json!(99);
        }),
    );
    let facts = GcpKmsKey::describe(&key, &rig.options()).await.unwrap();
    assert!(!facts.is_enabled());
    assert_eq!(facts.protection_level, "UNKNOWN");
}

#[tokio::test]
async fn keys_for_other_purposes_are_refused() {
    let rig = Rig::new();
    for purpose in [Purpose::Mac, Purpose::AsymmetricSign] {
        let key = uri(&rig.server.create_key(purpose));
        let error = refusal(GcpKmsKey::describe(&key, &rig.options()).await);
        assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
        assert!(error.to_string().contains("keys create"), "{error}");
    }
}

#[tokio::test]
async fn a_key_without_a_primary_version_encrypts_nothing() {
    let rig = Rig::new();
    let key = rig.new_key();
    rig.server.inject("GetCryptoKey", Fault::Edit(|answer| answer["primary"] = json!(null)));
    let error = refusal(GcpKmsKey::describe(&key, &rig.options()).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains("primary"), "{error}");
}

#[tokio::test]
async fn a_description_of_another_key_is_refused() {
    let rig = Rig::new();
    let key = rig.new_key();
    let lies: [fn(&mut serde_json::Value); 2] = [
        |answer| answer["name"] = json!(format!("{RING}/cryptoKeys/other")),
        |answer| {
            answer["primary"]["name"] = json!(format!("{RING}/cryptoKeys/o/cryptoKeyVersions/1"))
        },
    ];
    for lie in lies {
        rig.server.inject_times(1, "GetCryptoKey", Fault::Edit(lie));
        let result = GcpKmsKey::describe(&key, &rig.options()).await;
        assert_eq!(kind(result), HolderErrorKind::Failed);
    }
}

#[tokio::test]
async fn a_key_is_created_and_works() {
    let rig = Rig::new();
    let key = uri(&format!("{RING}/cryptoKeys/archive"));
    GcpKmsKey::create(&key, &rig.options()).await.unwrap();
    let holder = GcpKmsKey::connect(&key, &rig.options()).await.unwrap();
    let (_, wrapped) = rig.wrapped(&holder).await;
    holder.unwrap_key(&wrapped, &context()).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_taken_is_an_error() {
    let rig = Rig::new();
    let key = rig.new_key();
    let error = refusal(GcpKmsKey::create(&key, &rig.options()).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains("exists"), "{error}");
}

#[tokio::test]
async fn a_key_ring_has_to_exist() {
    let rig = Rig::new();
    let key = uri("projects/blue/locations/europe-west3/keyRings/absent/cryptoKeys/archive");
    let error = refusal(GcpKmsKey::create(&key, &rig.options()).await);
    assert_eq!(error.kind(), HolderErrorKind::NotFound);
    assert!(error.to_string().contains("key ring"), "{error}");
}

/// A second try would find the key that the first one made, and complain.
#[tokio::test]
async fn creating_is_tried_once() {
    let rig = Rig::new();
    rig.server.inject("CreateCryptoKey", Fault::Drop);
    let key = uri(&format!("{RING}/cryptoKeys/once"));
    let result = GcpKmsKey::create(&key, &rig.options()).await;
    assert_eq!(kind(result), HolderErrorKind::Unavailable { retry_after: None });
    assert_eq!(rig.server.count("CreateCryptoKey"), 1);
}
