//! What opens, and what exactly is sent for it.

use twinlock_keys::{HolderErrorKind, KeyHolder as _, Share, ShareAlgorithm, WrappedShare};
use twinlock_remote_keys::azure_key_vault::{AzureKeyVaultKey, Options};

use super::rig::{HSM, Rig, VAULT, context, json, kind, refusal, rsa, uri};
use crate::support::http::Message;
use crate::support::key_vault::{Material, REQUEST_ID};

#[tokio::test]
async fn a_share_comes_back_from_every_kind_of_key() {
    let keys = [
        (VAULT, Material::rsa("RSA", 2048), ShareAlgorithm::RsaOaepSha256, 256),
        (VAULT, Material::rsa("RSA-HSM", 3072), ShareAlgorithm::RsaOaepSha256, 384),
        (HSM, Material::rsa("RSA-HSM", 4096), ShareAlgorithm::RsaOaepSha256, 512),
        (HSM, Material::aes(), ShareAlgorithm::AesKw, 40),
    ];
    for (host, material, algorithm, len) in keys {
        let rig = Rig::with(host, material);
        let key = rig.key().await;
        let (share, wrapped) = rig.wrapped(&key).await;
        let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();
        assert_eq!(opened.expose(), share.expose());
        assert_eq!((wrapped.algorithm(), wrapped.bytes().len()), (algorithm, len));
        assert_eq!(wrapped.key_version(), Some(rig.version.as_str()));
        let evidence = opened.answer().expect("Azure answered");
        assert_eq!(
            (evidence.code.as_str(), evidence.request_id.as_deref()),
            ("200", Some(REQUEST_ID))
        );
    }
}

#[tokio::test]
async fn one_call_each_way_and_two_to_begin_with() {
    let rig = Rig::new();
    let key = rig.key().await;
    assert_eq!(rig.operations(), [""; 0]);
    for _ in 0..2 {
        let (_, wrapped) = rig.wrapped(&key).await;
        key.unwrap_key(&wrapped, &context()).await.unwrap();
    }
    let once = ["token", "get", "wrapKey", "unwrapKey"];
    assert_eq!(rig.operations(), [&once[..], &["wrapKey", "unwrapKey"]].concat());
}

#[tokio::test]
async fn whoever_states_the_algorithm_needs_no_permission_to_ask() {
    let rig = Rig::with(HSM, Material::aes());
    rig.vault.deny("get");
    assert_eq!(kind(rig.key().await.wrap_key(&share(), &context()).await), HolderErrorKind::Denied);
    let key = rig.key_with(rig.options().algorithm(ShareAlgorithm::AesKw)).await;
    let (_, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();
}

#[tokio::test]
async fn the_requests_are_as_documented() {
    for (host, material, algorithm) in
        [(VAULT, rsa(), "RSA-OAEP-256"), (HSM, Material::aes(), "A256KW")]
    {
        let rig = Rig::with(host, material);
        let key = rig.key().await;
        let (_, wrapped) = rig.wrapped(&key).await;
        key.unwrap_key(&wrapped, &context()).await.unwrap();
        let version = &rig.version;
        let lines = [
            ("get", "GET /keys/kek/?api-version=2025-07-01 HTTP/1.1".to_owned()),
            ("wrapKey", "POST /keys/kek//wrapkey?api-version=2025-07-01 HTTP/1.1".to_owned()),
            (
                "unwrapKey",
                format!("POST /keys/kek/{version}/unwrapkey?api-version=2025-07-01 HTTP/1.1"),
            ),
        ];
        for (operation, line) in lines {
            let request = only(rig.requests(operation));
            assert_eq!(request.first_line, line);
            assert!(request.header("authorization").is_some_and(|it| it.starts_with("Bearer ")));
        }
        for operation in ["wrapKey", "unwrapKey"] {
            let body = json(&only(rig.requests(operation)));
            let fields: Vec<_> = body.as_object().unwrap().keys().collect();
            assert_eq!(fields, ["alg", "value"]);
            assert_eq!(body["alg"], algorithm);
        }
    }
}

#[tokio::test]
async fn the_host_decides_what_the_token_is_for() {
    for (host, material, scope) in [
        (VAULT, rsa(), "https%3A%2F%2Fvault.azure.net%2F.default"),
        (HSM, Material::aes(), "https%3A%2F%2Fmanagedhsm.azure.net%2F.default"),
        ("a.vault.azure.cn", rsa(), "https%3A%2F%2Fvault.azure.cn%2F.default"),
    ] {
        let rig = Rig::with(host, material);
        let key = rig.key().await;
        rig.wrapped(&key).await;
        let body = String::from_utf8(only(rig.requests("token")).body).unwrap();
        assert!(body.contains(&format!("scope={scope}")), "{host}");
    }
}

#[tokio::test]
async fn a_rotated_key_opens_what_an_older_version_wrapped() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (old_share, old) = rig.wrapped(&key).await;
    let newer = rig.vault.add("kek", Material::rsa("RSA-HSM", 2048));
    let (new_share, new) = rig.wrapped(&key).await;
    assert_eq!(old.key_version(), Some(rig.version.as_str()));
    assert_eq!(new.key_version(), Some(newer.as_str()));
    for (share, wrapped) in [(old_share, old), (new_share, new)] {
        let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();
        assert_eq!(opened.expose(), share.expose());
    }
}

/// It is part of a URL.
#[tokio::test]
async fn a_version_that_is_none_is_sent_to_nobody() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, good) = rig.wrapped(&key).await;
    let calls = rig.operations().len();
    let longest = "a".repeat(65);
    for version in ["", "../../secrets/x", "a/b", "a?b", "%2e", "a b", "é", &longest] {
        let bad =
            WrappedShare::new(good.algorithm(), good.bytes().to_vec()).with_key_version(version);
        let result = key.unwrap_key(&bad, &context()).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext, "{version:?}");
    }
    assert_eq!(rig.operations().len(), calls);
}

#[tokio::test]
async fn a_version_that_is_not_there_is_not_this_keys_share() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, good) = rig.wrapped(&key).await;
    let unknown =
        || WrappedShare::new(good.algorithm(), good.bytes().to_vec()).with_key_version("0a1b");
    let error = refusal(key.unwrap_key(&unknown(), &context()).await);
    assert_eq!(error.kind(), HolderErrorKind::InvalidCiphertext);
    assert_eq!(error.answer().unwrap().code, "KeyNotFound");
    // Whoever may not ask cannot tell.
    rig.vault.deny("get");
    assert_eq!(kind(key.unwrap_key(&unknown(), &context()).await), HolderErrorKind::NotFound);
}

#[tokio::test]
async fn keys_that_cannot_wrap_are_named() {
    let rig = Rig::with(VAULT, Material::Ec);
    let error = refusal(rig.key().await.wrap_key(&share(), &context()).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains("EC-HSM"), "{error}");

    let rig = Rig::new();
    rig.vault.change("kek", |version| version.operations = vec!["wrapKey".to_owned()]);
    let error = refusal(rig.key().await.wrap_key(&share(), &context()).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains("unwrapKey"), "{error}");
}

#[tokio::test]
async fn a_host_of_no_cloud_needs_a_scope() {
    let rig = Rig::new();
    let connect = |host, options: Options| async move {
        AzureKeyVaultKey::connect(&uri(host, "kek"), &options).await
    };
    let error = refusal(connect("vault.example", rig.options()).await);
    assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
    assert!(error.to_string().contains("scope"), "{error}");
    let named = rig.options().scope("https://vault.example/.default");
    assert!(connect("vault.example", named).await.is_ok());
    let file = "file:///tmp/kek".parse().unwrap();
    let result = AzureKeyVaultKey::connect(&file, &rig.options()).await;
    assert_eq!(kind(result), HolderErrorKind::Misconfigured);
}

fn only(mut requests: Vec<Message>) -> Message {
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

fn share() -> Share {
    Share::random().unwrap()
}
