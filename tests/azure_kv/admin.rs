//! Making keys, and what is said about one.

use serde_json::json;
use twinlock_keys::{HolderErrorKind, KeyHolder as _, Share};
use twinlock_remote_keys::azure_key_vault::AzureKeyVaultKey;

use super::rig::{HSM, Rig, VAULT, context, json, kind, refusal, refuse, rsa, uri};
use crate::support::key_vault::Material;

#[tokio::test]
async fn a_key_is_described() {
    let rig = Rig::with(VAULT, Material::rsa("RSA-HSM", 3072));
    let facts = AzureKeyVaultKey::describe(&rig.uri(), &rig.options()).await.unwrap();
    assert_eq!((&facts.uri, facts.version.as_str()), (&rig.uri(), rig.version.as_str()));
    assert_eq!((facts.kind.as_str(), facts.bits), ("RSA-HSM", Some(3072)));
    assert_eq!(facts.operations, ["wrapKey", "unwrapKey"]);
    assert!(facts.is_enabled() && facts.in_hsm());

    rig.vault.change("kek", |version| version.enabled = false);
    let facts = AzureKeyVaultKey::describe(&rig.uri(), &rig.options()).await.unwrap();
    assert!(!facts.is_enabled());

    let rig = Rig::with(HSM, Material::aes());
    let facts = AzureKeyVaultKey::describe(&rig.uri(), &rig.options()).await.unwrap();
    assert_eq!((facts.kind.as_str(), facts.bits), ("oct-HSM", None));
}

#[tokio::test]
async fn a_new_key_wraps_and_does_nothing_else() {
    for (host, material, kind, bits) in
        [(VAULT, rsa(), "RSA-HSM", 3072), (HSM, Material::aes(), "oct-HSM", 256)]
    {
        let rig = Rig::with(host, material);
        let new = uri(host, "new");
        let facts = AzureKeyVaultKey::create(&new, &rig.options()).await.unwrap();
        assert_eq!((&facts.uri, facts.kind.as_str()), (&new, kind));
        let body = json(&rig.requests("create").remove(0));
        let wanted = json!({ "kty": kind, "key_size": bits, "key_ops": ["wrapKey", "unwrapKey"] });
        assert_eq!(body, wanted);

        let key = AzureKeyVaultKey::connect(&new, &rig.options()).await.unwrap();
        let (share, wrapped) = rig.wrapped(&key).await;
        let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();
        assert_eq!(opened.expose(), share.expose());
    }
}

/// Azure would add a version to it, which then wraps for everybody.
#[tokio::test]
async fn a_name_that_is_taken_stays_as_it_is() {
    let rig = Rig::new();
    let error = refusal(AzureKeyVaultKey::create(&rig.uri(), &rig.options()).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains(&rig.version), "{error}");
    assert_eq!(rig.proxy.count("create"), 0);
}

#[tokio::test]
async fn a_creation_is_never_sent_twice() {
    let rig = Rig::new();
    rig.proxy.inject("create", refuse(500, "InternalServerError", None));
    let result = AzureKeyVaultKey::create(&uri(VAULT, "new"), &rig.options()).await;
    assert_eq!(kind(result), HolderErrorKind::Unavailable { retry_after: None });
    assert_eq!(rig.proxy.count("create"), 1);
}

#[tokio::test]
async fn a_denied_creation_names_the_permission() {
    let rig = Rig::new();
    rig.vault.deny("create");
    let error = refusal(AzureKeyVaultKey::create(&uri(VAULT, "new"), &rig.options()).await);
    assert_eq!(error.kind(), HolderErrorKind::Denied);
    assert!(error.to_string().contains("keys/create"), "{error}");
}

#[tokio::test]
async fn a_disabled_key_wraps_nothing() {
    let rig = Rig::new();
    rig.vault.change("kek", |version| version.enabled = false);
    let result = rig.key().await.wrap_key(&Share::random().unwrap(), &context()).await;
    assert_eq!(kind(result), HolderErrorKind::Disabled);
    assert_eq!(rig.proxy.count("wrapKey"), 0);
}
