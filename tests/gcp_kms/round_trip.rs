//! What opens, what does not, and what exactly is sent for it.

use serde_json::json;
use twinlock_keys::{HolderErrorKind, KeyHolder as _, Share, ShareAlgorithm, WrappedShare};
use twinlock_remote_keys::gcp_kms::GcpKmsKey;

use super::rig::{Rig, context, context_with, kind};
use crate::support::cloud_kms::crc32c;

#[tokio::test]
async fn a_share_comes_back_for_one_call_each_way() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (share, wrapped) = rig.wrapped(&key).await;
    let opened = key.unwrap_key(&wrapped, &context()).await.unwrap();
    assert_eq!(opened.expose(), share.expose());
    assert_eq!(opened.answer().unwrap().code, "200");
    assert_eq!(wrapped.algorithm(), ShareAlgorithm::HolderAead);
    assert_eq!(wrapped.key_version(), Some("1"));
    assert_eq!((rig.server.count("Encrypt"), rig.server.count("Decrypt")), (1, 1));
    assert_eq!(rig.server.count("GetCryptoKey"), 0);
}

#[tokio::test]
async fn the_aad_and_checksums_of_everything_are_sent() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (share, wrapped) = rig.wrapped(&key).await;
    key.unwrap_key(&wrapped, &context()).await.unwrap();

    let encrypt = rig.server.calls("Encrypt").remove(0);
    assert_eq!(format!("gcp-kms://{}", encrypt.name), key.uri().as_str());
    let text = |checksum: u32| json!(checksum.to_string());
    assert_eq!(encrypt.body["plaintextCrc32c"], text(crc32c(share.expose())));
    let aad_checksum = text(crc32c(context().aad()));
    assert_eq!(encrypt.body["additionalAuthenticatedDataCrc32c"], aad_checksum);
    // 66 bytes of 0x01
    assert_eq!(encrypt.body["additionalAuthenticatedData"], json!("AQEB".repeat(22)));

    let decrypt = rig.server.calls("Decrypt").remove(0);
    assert_eq!(decrypt.name, encrypt.name);
    assert_eq!(decrypt.body["ciphertextCrc32c"], text(crc32c(wrapped.bytes())));
    assert_eq!(decrypt.body["additionalAuthenticatedDataCrc32c"], aad_checksum);
    let sent = [&encrypt, &decrypt].map(|call| call.body.to_string());
    assert!(sent.iter().all(|body| !body.contains("report")), "the context stays here");
}

#[tokio::test]
async fn another_context_opens_nothing() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    for aad in [&[2; 66][..], &[1; 65], &[]] {
        let result = key.unwrap_key(&wrapped, &context_with(aad)).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
    }
}

#[tokio::test]
async fn another_key_opens_nothing() {
    let rig = Rig::new();
    let (one, other) = (rig.key().await, rig.key().await);
    let (_, wrapped) = rig.wrapped(&one).await;
    let result = other.unwrap_key(&wrapped, &context()).await;
    assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
}

#[tokio::test]
async fn altered_cut_and_foreign_bytes_open_nothing() {
    let rig = Rig::new();
    let key = rig.key().await;
    let (_, wrapped) = rig.wrapped(&key).await;
    let whole = wrapped.bytes();
    let mut altered = whole.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let foreign = [altered, whole[..whole.len() - 1].to_vec(), vec![0], vec![0xff; 6144]];
    for bytes in foreign {
        let wrapped = WrappedShare::new(ShareAlgorithm::HolderAead, bytes);
        let result = key.unwrap_key(&wrapped, &context()).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
    }
}

#[tokio::test]
async fn what_cannot_be_googles_is_not_even_sent() {
    let rig = Rig::new();
    let key = rig.key().await;
    let unsent = [
        WrappedShare::new(ShareAlgorithm::HolderAead, Vec::new()),
        WrappedShare::new(ShareAlgorithm::HolderAead, vec![1; 6145]),
        WrappedShare::new(ShareAlgorithm::AesKw, vec![1; 40]),
        WrappedShare::new(ShareAlgorithm::RsaOaepSha256, vec![1; 256]),
    ];
    for wrapped in unsent {
        let result = key.unwrap_key(&wrapped, &context()).await;
        assert_eq!(kind(result), HolderErrorKind::InvalidCiphertext);
    }
    assert_eq!(rig.server.count("Decrypt"), 0);
}

#[tokio::test]
async fn shares_of_earlier_versions_open_after_a_rotation() {
    let rig = Rig::new();
    let uri = rig.new_key();
    let key = GcpKmsKey::connect(&uri, &rig.options()).await.unwrap();
    let (share, before) = rig.wrapped(&key).await;
    rig.server.rotate(uri.key_name());
    let (_, after) = rig.wrapped(&key).await;
    assert_eq!((before.key_version(), after.key_version()), (Some("1"), Some("2")));
    let opened = key.unwrap_key(&before, &context()).await.unwrap();
    assert_eq!(opened.expose(), share.expose());
}

#[tokio::test]
async fn the_quota_project_is_sent_when_one_is_chosen() {
    let rig = Rig::new();
    let chosen = rig.key_with(rig.options().quota_project("billing")).await;
    rig.wrapped(&chosen).await;
    let call = rig.server.calls("Encrypt").remove(0);
    assert_eq!(call.quota_project.as_deref(), Some("billing"));
}

#[tokio::test]
async fn many_calls_at_once_get_their_own_answers() {
    let rig = Rig::new();
    let key = rig.key().await;
    let shares: Vec<Share> = (0..16).map(|_| Share::random().unwrap()).collect();
    let context = context();
    let wraps = shares.iter().map(|share| key.wrap_key(share, &context));
    for (share, wrapped) in shares.iter().zip(futures_util::future::join_all(wraps).await) {
        let opened = key.unwrap_key(&wrapped.unwrap(), &context).await.unwrap();
        assert_eq!(opened.expose(), share.expose());
    }
}
