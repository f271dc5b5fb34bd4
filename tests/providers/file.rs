//! A key in a file, for development: no server, and so little trouble.

use std::sync::Arc;

use tempfile::TempDir;
use twinlock_keys::{FileKek, HolderError, KeyUri};

use super::bench::{Bench, Holder, NOWHERE, Trouble};
use super::suite::every_holder;

every_holder!(File);

const NO_SERVER: &str = "the key is in a file of this machine: there is no server to ask";
const NO_CALLER: &str =
    "whoever can read the file has the key: there is nobody to tell callers apart";

pub(super) struct File {
    folder: TempDir,
}

impl Bench for File {
    const NEVER: &'static [(Trouble, &'static str)] = &[
        (Trouble::BadCredentials, NO_CALLER),
        (Trouble::ClockSkew, NO_SERVER),
        (Trouble::Denied, NO_CALLER),
        (Trouble::Disabled, "a file has no switch"),
        (Trouble::Down, NO_SERVER),
        (Trouble::HangsUp, NO_SERVER),
        (Trouble::InternalError, NO_SERVER),
        (Trouble::NoCredentials, NO_CALLER),
        (Trouble::NotTheService, NO_SERVER),
        (Trouble::Redirected(NOWHERE), NO_SERVER),
        (Trouble::Slow, NO_SERVER),
        (Trouble::Throttled, NO_SERVER),
        (Trouble::UntrustedServer, NO_SERVER),
    ];

    async fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        FileKek::create(&bench.uri("kek")).unwrap();
        FileKek::create(&bench.uri("other")).unwrap();
        bench
    }

    async fn holder(&self) -> Holder {
        Arc::new(FileKek::open(&self.uri("kek")).unwrap())
    }

    async fn stranger(&self) -> Holder {
        Arc::new(FileKek::open(&self.uri("other")).unwrap())
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        assert_eq!(trouble, Trouble::NotFound);
        Ok(Arc::new(FileKek::open(&self.uri("missing"))?))
    }

    fn heal(&self) {}
}

impl File {
    fn uri(&self, name: &str) -> KeyUri {
        KeyUri::parse(&format!("file://{}/{name}.kek", self.folder.path().display())).unwrap()
    }
}
