//! Servers: TLS, namespaces, quotas and seals.

use serde_json::json;
use twinlock_keys::{HolderErrorKind as Kind, KeyHolder as _, KeyUri, Share};
use twinlock_remote_keys::vault_transit::{Options, VaultTransitKey};

use super::rig::{Rig, assert_opens, context, kind, refusal, token, wrapped};
use crate::support::openbao::{OpenBao, ROOT, openbao, unique};
use crate::support::tls::Authority;

/// With nothing but the URI, a token and whom to trust.
#[tokio::test]
async fn the_uri_says_where_and_the_certificate_who() {
    let name = openbao().create_key(&json!({}));
    let port = openbao().tls_address.port();
    for host in ["127.0.0.1", "localhost"] {
        let uri = KeyUri::parse(&format!("vault://{host}:{port}/transit/keys/{name}")).unwrap();
        let options = Options::new().auth(token(ROOT));
        let trusting = options.clone().ca_file(Authority::trusted().certificate());
        let key = VaultTransitKey::connect(&uri, &trusting).unwrap();
        let (share, wrapped) = wrapped(&key).await;
        assert_opens(&key, &share, &wrapped).await;

        // The system's authorities have not heard of it.
        let key = VaultTransitKey::connect(&uri, &options).unwrap();
        let error = refusal(key.unwrap_key(&wrapped, &context()).await);
        assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
        assert!(error.to_string().contains("VAULT_CACERT"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_not_trusted() {
    let rig = Rig::new();
    let address = format!("https://127.0.0.2:{}", openbao().tls_address.port());
    let options = rig.options().address(address).ca_file(Authority::trusted().certificate());
    let error =
        refusal(rig.key_with(&options).wrap_key(&Share::random().unwrap(), &context()).await);
    // Where 127.0.0.2 is this machine's and not listened on, nobody answers.
    assert!(matches!(error.kind(), Kind::Misconfigured | Kind::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn files_without_certificates_are_refused() {
    let rig = Rig::new();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    for file in [empty, folder.path().join("missing.pem"), Authority::trusted().server_key()] {
        let error = refusal(VaultTransitKey::connect(&rig.uri(), &rig.options().ca_file(&file)));
        assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_share_is_not_sent_in_the_clear() {
    let rig = Rig::new();
    for address in ["http://192.0.2.1:8200", "http://vault.example"] {
        let error = refusal(VaultTransitKey::connect(&rig.uri(), &rig.options().address(address)));
        assert_eq!(error.kind(), Kind::Misconfigured);
        assert!(error.to_string().contains("https://"), "{error}");
    }
}

#[tokio::test]
async fn a_namespace_has_keys_of_its_own() {
    let rig = Rig::new();
    let namespace = unique("team");
    let server = openbao();
    server.call("POST", &format!("sys/namespaces/{namespace}"), &json!({}));
    let path = |path: &str| format!("{namespace}/{path}");
    server.call("POST", &path("sys/mounts/transit"), &json!({ "type": "transit" }));
    server.call("POST", &path(&format!("transit/keys/{}", rig.name)), &json!({}));
    let inside = rig.key_with(&rig.options().namespace(&namespace));
    let (share, wrapped) = wrapped(&inside).await;
    assert_opens(&inside, &share, &wrapped).await;
    let outside = rig.key().unwrap_key(&wrapped, &context()).await;
    assert_eq!(kind(outside), Kind::InvalidCiphertext);
    let odd = VaultTransitKey::connect(&rig.uri(), &rig.options().namespace("a\r\nb: c"));
    assert_eq!(kind(odd), Kind::Misconfigured);
}

#[tokio::test]
async fn a_quota_throttles() {
    let rig = Rig::new();
    let key = rig.key();
    wrapped(&key).await;
    let path = format!("transit/encrypt/{}", rig.name);
    let quota = json!({ "path": path, "rate": 1, "interval": "10m" });
    openbao().call("POST", &format!("sys/quotas/rate-limit/{}", unique("quota")), &quota);
    wrapped(&key).await;
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert!(matches!(error.kind(), Kind::Unavailable { .. }), "{error}");
    assert_eq!(error.answer().unwrap().code, "429");
}

#[tokio::test]
async fn a_sealed_server_is_unavailable_until_it_is_unsealed() {
    let server = OpenBao::start();
    let name = server.create_key(&json!({}));
    let uri = KeyUri::parse(&format!("vault://vault.example/transit/keys/{name}")).unwrap();
    let address = format!("http://{}", server.address);
    let options = Options::new().address(address).auth(token(ROOT)).attempts(1);
    let key = VaultTransitKey::connect(&uri, &options).unwrap();
    let (share, wrapped) = wrapped(&key).await;
    server.call("PUT", "sys/seal", &json!({}));
    let error = refusal(key.unwrap_key(&wrapped, &context()).await);
    assert_eq!(error.kind(), Kind::Unavailable { retry_after: None }, "{error}");
    assert!(error.to_string().contains("sealed"), "{error}");
    server.call("PUT", "sys/unseal", &json!({ "key": server.unseal_key }));
    assert_opens(&key, &share, &wrapped).await;
}
