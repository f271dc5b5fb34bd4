//! What these tests share.

use std::time::Duration;

use tempfile::TempDir;
use twinlock_keys::{
    HolderError, HolderErrorKind, KeyHolder as _, KeyUri, Share, Side, WrapContext, WrappedShare,
};
use twinlock_remote_keys::gcp_kms::{GcpKmsKey, Options};

use crate::support::cloud_kms::account::account;
use crate::support::cloud_kms::{CloudKms, Purpose};

/// A server, and credentials in a file: nothing of the environment takes part.
pub(super) struct Rig {
    pub(super) server: CloudKms,
    pub(super) folder: TempDir,
}

impl Rig {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        account().write(&folder.path().join("account.json"));
        Self { server: CloudKms::start(), folder }
    }

    pub(super) fn options(&self) -> Options {
        Options::new()
            .endpoint(self.server.url())
            .credentials_file(self.folder.path().join("account.json"))
            .deadline(Duration::from_secs(30))
    }

    pub(super) fn new_key(&self) -> KeyUri {
        uri(&self.server.create_key(Purpose::EncryptDecrypt))
    }

    /// A holder for a new key, which no call has been made for.
    pub(super) async fn key(&self) -> GcpKmsKey {
        self.key_with(self.options()).await
    }

    pub(super) async fn key_with(&self, options: Options) -> GcpKmsKey {
        GcpKmsKey::connect(&self.new_key(), &options).await.unwrap()
    }

    /// A share that `key` wrapped, and what it was.
    pub(super) async fn wrapped(&self, key: &GcpKmsKey) -> (Share, WrappedShare) {
        let share = Share::random().unwrap();
        let wrapped = key.wrap_key(&share, &context()).await.unwrap();
        (share, wrapped)
    }
}

pub(super) fn uri(name: &str) -> KeyUri {
    KeyUri::parse(&format!("gcp-kms://{name}")).unwrap()
}

pub(super) fn context() -> WrapContext {
    context_with(&[1; 66])
}

pub(super) fn context_with(aad: &[u8]) -> WrapContext {
    let pairs = vec![("object".to_owned(), "2026/report.pdf".to_owned())];
    WrapContext::new(Side::Provider, "v1/provider/00112233".to_owned(), aad.to_vec(), pairs)
}

/// The error of a result whose success cannot be printed.
pub(super) fn refusal<T>(result: Result<T, HolderError>) -> HolderError {
    result.err().expect("it is refused")
}

pub(super) fn kind<T>(result: Result<T, HolderError>) -> HolderErrorKind {
    refusal(result).kind()
}
