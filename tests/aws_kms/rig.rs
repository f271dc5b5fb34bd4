//! What these tests share, and the proof that it measures something.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use twinlock_keys::{
    HolderError, HolderErrorKind, KeyHolder as _, KeyUri, Share, Side, WrapContext, WrappedShare,
};
use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};

use crate::support::http;
use crate::support::kms_proxy::{Fault, KmsProxy};
use crate::support::moto::{self, moto};

pub(super) const REGION: &str = "eu-central-1";

/// A proxy before moto, and a profile of its own: nothing of the environment
/// takes part.
pub(super) struct Rig {
    pub(super) proxy: KmsProxy,
    pub(super) folder: TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let profile = "[default]\naws_access_key_id = AKIDTESTS\naws_secret_access_key = secret\n";
        fs::write(folder.path().join("config"), profile).unwrap();
        Self { proxy: KmsProxy::before(moto().address), folder }
    }

    pub(super) fn options(&self) -> Options {
        Options::new()
            .endpoint(self.proxy.url())
            .profile_file(self.folder.path().join("config"))
            .deadline(Duration::from_secs(30))
    }

    /// A holder for a new key, which no call has been made for.
    pub(super) async fn key(&self) -> AwsKmsKey {
        self.key_with(self.options()).await
    }

    pub(super) async fn key_with(&self, options: Options) -> AwsKmsKey {
        AwsKmsKey::connect(&new_key(), &options).await.unwrap()
    }

    /// A share that `key` wrapped, and what it was.
    pub(super) async fn wrapped(&self, key: &AwsKmsKey) -> (Share, WrappedShare) {
        let share = Share::random().unwrap();
        let wrapped = key.wrap_key(&share, &context()).await.unwrap();
        (share, wrapped)
    }
}

/// A new symmetric key in moto.
pub(super) fn new_key() -> KeyUri {
    uri(&moto().create_key(REGION, &json!({})))
}

pub(super) fn uri(key: &str) -> KeyUri {
    KeyUri::parse(&format!("aws-kms://{key}")).unwrap()
}

pub(super) const LABEL: &str = "v1/provider/00112233";

pub(super) fn context() -> WrapContext {
    context_of(LABEL, &[("object", "2026/report.pdf"), ("tenant", "blue")])
}

pub(super) fn context_of(label: &str, pairs: &[(&str, &str)]) -> WrapContext {
    let pairs = pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
    WrapContext::new(Side::Provider, label.to_owned(), vec![1; 66], pairs.collect())
}

/// The error of a result whose success cannot be printed.
pub(super) fn refusal<T>(result: Result<T, HolderError>) -> HolderError {
    result.err().expect("it is refused")
}

pub(super) fn kind<T>(result: Result<T, HolderError>) -> HolderErrorKind {
    refusal(result).kind()
}

#[test]
fn the_proxy_counts_and_records_what_it_forwards() {
    let rig = Rig::new();
    let arn = moto().create_key(REGION, &json!({}));
    let describe = moto::request(REGION, "DescribeKey", &json!({ "KeyId": arn }));
    for _ in 0..3 {
        let answer = http::exchange(rig.proxy.address(), &describe).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["KeyMetadata"]["Arn"], arn);
    }
    assert_eq!(rig.proxy.count("DescribeKey"), 3);
    assert_eq!(rig.proxy.count("Decrypt"), 0);
    let call = rig.proxy.calls("DescribeKey").remove(0);
    assert_eq!((call.region.as_str(), &call.body["KeyId"]), (REGION, &json!(arn)));
}

#[test]
fn the_proxy_fails_as_often_as_it_is_told_to() {
    let rig = Rig::new();
    rig.proxy.inject_times(1, "ListKeys", Fault::refuse("DisabledException"));
    rig.proxy.inject_times(1, "ListKeys", Fault::Drop);
    let list =
        || http::exchange(rig.proxy.address(), &moto::request(REGION, "ListKeys", &json!({})));
    assert!(list().is_err(), "the connection was dropped");
    assert!(String::from_utf8(list().unwrap().body).unwrap().contains("DisabledException"));
    assert!(list().unwrap().first_line.contains(" 200 "));
    assert_eq!(rig.proxy.count("ListKeys"), 3);
}

#[test]
fn a_dropped_proxy_listens_no_more() {
    let proxy = KmsProxy::before(moto().address);
    let address = proxy.address();
    drop(proxy);
    let gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        TcpStream::connect(address).is_err()
    });
    assert!(gone);
}
