//! Keys: what is bound, what becomes of versions, and which are refused.

use serde_json::json;
use twinlock_keys::{HolderErrorKind as Kind, KeyHolder as _, Share};
use twinlock_remote_keys::vault_transit::VaultTransitKey;

use super::rig::{Rig, assert_opens, context, context_with, kind, refusal, token, uri, wrapped};
use crate::support::openbao::{openbao, unique};

#[tokio::test]
async fn each_wrap_and_unwrap_is_one_call_and_the_key_is_read_once() {
    let rig = Rig::new();
    let key = rig.key();
    for _ in 0..2 {
        let (share, wrapped) = wrapped(&key).await;
        assert_opens(&key, &share, &wrapped).await;
    }
    let audited = |what| openbao().audited(&format!("transit/{what}/{}", rig.name));
    let read = |entry: &&serde_json::Value| entry["request"]["operation"] == "read";
    assert_eq!((audited("encrypt").len(), audited("decrypt").len()), (2, 2));
    assert_eq!(audited("keys").iter().filter(read).count(), 1);
}

/// The AEAD binds it, not only our own check.
#[tokio::test]
async fn the_aad_is_bound_by_every_type_of_key() {
    let types = [
        json!({ "type": "aes256-gcm96" }),
        json!({ "type": "chacha20-poly1305" }),
        json!({ "type": "xchacha20-poly1305" }),
        json!({ "type": "aes256-gcm96", "derived": true }),
        json!({ "type": "chacha20-poly1305", "derived": true }),
        json!({ "type": "aes256-gcm96", "derived": true, "convergent_encryption": true }),
    ];
    for more in types {
        let key = Rig::with_key(&more);
        let (rig, key) = (&key, key.key());
        let (share, wrapped) = wrapped(&key).await;
        assert_opens(&key, &share, &wrapped).await;
        let other = key.unwrap_key(&wrapped, &context_with(b"of another")).await;
        assert_eq!(kind(other), Kind::InvalidCiphertext, "{more}");
        assert_eq!(rig.proxy.count("decrypt"), 2, "the server was asked");
    }
}

#[tokio::test]
async fn a_rotated_key_wraps_with_its_new_version_and_opens_both() {
    let rig = Rig::new();
    let key = rig.key();
    let (old_share, old) = wrapped(&key).await;
    rig.rotate();
    let (new_share, new) = wrapped(&key).await;
    assert_eq!((old.key_version(), new.key_version()), (Some("1"), Some("2")));
    assert_opens(&key, &old_share, &old).await;
    assert_opens(&key, &new_share, &new).await;
}

#[tokio::test]
async fn a_version_that_is_switched_off_is_disabled() {
    let rig = Rig::new();
    let key = rig.key();
    let (share, old) = wrapped(&key).await;
    rig.rotate();
    rig.configure(&json!({ "min_decryption_version": 2 }));
    let error = refusal(key.unwrap_key(&old, &context()).await);
    assert_eq!(error.kind(), Kind::Disabled, "{error}");
    assert!(error.to_string().contains("min_decryption_version"), "{error}");
    rig.configure(&json!({ "min_decryption_version": 1 }));
    assert_opens(&key, &share, &old).await;
}

#[tokio::test]
async fn a_deleted_key_is_not_found() {
    let rig = Rig::new();
    let key = rig.key();
    let (share, wrapped) = wrapped(&key).await;
    rig.configure(&json!({ "deletion_allowed": true }));
    openbao().call("DELETE", &format!("transit/keys/{}", rig.name), &json!({}));
    assert_eq!(kind(key.unwrap_key(&wrapped, &context()).await), Kind::NotFound);
    assert_eq!(kind(rig.key().wrap_key(&share, &context()).await), Kind::NotFound);
}

/// The engine would: a name that is misspelt gets a key that nobody knows of.
#[tokio::test]
async fn wrapping_never_makes_a_key() {
    let rig = Rig::new();
    let name = unique("misspelt");
    let key = VaultTransitKey::connect(&uri(&name), &rig.options()).unwrap();
    let error = refusal(key.wrap_key(&Share::random().unwrap(), &context()).await);
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert_eq!(rig.proxy.count("encrypt"), 0);
    let keys = openbao().call("LIST", "transit/keys", &json!({}));
    assert!(!keys["data"]["keys"].as_array().unwrap().contains(&json!(name)));
}

#[tokio::test]
async fn a_policy_without_reading_is_enough() {
    let rig = Rig::new();
    let key = rig.key_with(&rig.options().auth(token(&openbao().token(&rig.policy(), &json!({})))));
    for _ in 0..2 {
        let (share, wrapped) = wrapped(&key).await;
        assert_opens(&key, &share, &wrapped).await;
    }
    assert_eq!(rig.proxy.count("keys"), 1, "it is asked for once, and refused");
}

#[tokio::test]
async fn keys_of_other_types_are_refused_before_anything_is_sent() {
    for other in ["rsa-2048", "aes128-gcm96", "ed25519", "hmac"] {
        let settings = match other {
            "hmac" => json!({ "type": other, "key_size": 32 }),
            _ => json!({ "type": other }),
        };
        let rig = Rig::with_key(&settings);
        let wrap = refusal(rig.key().wrap_key(&Share::random().unwrap(), &context()).await);
        let describe = refusal(VaultTransitKey::describe(&rig.uri(), &rig.options()).await);
        for error in [wrap, describe] {
            assert_eq!(error.kind(), Kind::Misconfigured, "{error}");
            assert!(error.to_string().contains(other), "{error}");
        }
        assert_eq!(rig.proxy.count("encrypt"), 0);
    }
}

#[tokio::test]
async fn a_key_is_made_and_described() {
    let rig = Rig::new();
    let uri = uri(&unique("made"));
    VaultTransitKey::create(&uri, &rig.options()).await.unwrap();
    let facts = VaultTransitKey::describe(&uri, &rig.options()).await.unwrap();
    assert_eq!((facts.kind.as_str(), facts.latest_version), ("aes256-gcm96", 1));
    assert!(!facts.exportable && !facts.deletion_allowed && !facts.derived && !facts.soft_deleted);

    let error = refusal(VaultTransitKey::create(&uri, &rig.options()).await);
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("exists"), "{error}");
}

#[tokio::test]
async fn other_schemes_are_refused() {
    let file = "file:///tmp/kek".parse().unwrap();
    assert_eq!(kind(VaultTransitKey::connect(&file, &Rig::new().options())), Kind::Misconfigured);
}
