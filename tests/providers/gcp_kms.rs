//! Google Cloud KMS: a small one of our own, with a proxy before it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use twinlock_keys::{HolderError, KeyUri};
use twinlock_remote_keys::gcp_kms::{GcpKmsKey, Options};

use super::bench::{Bench, Holder, SHORT_DEADLINE, Trouble};
use super::suite::every_holder;
use crate::support::cloud_kms::account::{Account, account};
use crate::support::cloud_kms::{CloudKms, Purpose, Refusal, VersionState, refuse};
use crate::support::proxy::{Fault, closed_address};
use crate::support::tls::Authority;

every_holder!(GcpKms);

pub(super) struct GcpKms {
    name: String,
    server: CloudKms,
    folder: TempDir,
}

impl Bench for GcpKms {
    const NEVER: &'static [(Trouble, &'static str)] = &[];

    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        account().write(&folder.path().join("account.json"));
        let server = CloudKms::start();
        Self { name: server.create_key(Purpose::EncryptDecrypt), server, folder }
    }

    async fn holder(&self) -> Holder {
        self.connect(&self.name, self.options()).await.unwrap()
    }

    async fn stranger(&self) -> Holder {
        let other = self.server.create_key(Purpose::EncryptDecrypt);
        self.connect(&other, self.options()).await.unwrap()
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        let (mut name, mut options) = (self.name.clone(), self.options());
        match trouble {
            Trouble::BadCredentials => {
                Account::new().write(&self.file("stranger.json"));
                options = options.credentials_file(self.file("stranger.json"));
            }
            Trouble::ClockSkew => self.server.set_clock_ahead(2 * 3600),
            Trouble::Disabled => self.server.set_state(&name, VersionState::Disabled),
            Trouble::Down => options = options.endpoint(format!("http://{}", closed_address())),
            Trouble::NoCredentials => options = options.credentials_file(self.file("absent.json")),
            Trouble::NotFound => name += "-absent",
            Trouble::Slow => {
                self.inject(&Fault::Delay(Duration::from_secs(600)));
                options = options.deadline(SHORT_DEADLINE);
            }
            Trouble::UntrustedServer => {
                let tls = self.server.with_tls(Authority::unknown().server());
                options = options.endpoint(tls.url());
                std::mem::forget(tls); // as long as the holder
            }
            _ => self.inject(&fault(trouble)),
        }
        self.connect(&name, options).await
    }

    fn heal(&self) {
        self.server.heal();
    }
}

impl GcpKms {
    async fn connect(&self, name: &str, options: Options) -> Result<Holder, HolderError> {
        let uri = KeyUri::parse(&format!("gcp-kms://{name}")).unwrap();
        Ok(Arc::new(GcpKmsKey::connect(&uri, &options).await?))
    }

    fn options(&self) -> Options {
        Options::new()
            .endpoint(self.server.url())
            .credentials_file(self.file("account.json"))
            .attempts(1)
            .deadline(Duration::from_secs(30))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn inject(&self, fault: &Fault) {
        for operation in ["Encrypt", "Decrypt"] {
            self.server.inject(operation, fault.clone());
        }
    }
}

/// What Google answers and the small one does not by itself.
fn fault(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Denied => refuse(403, "PERMISSION_DENIED"),
        Trouble::HangsUp => Fault::Drop,
        Trouble::InternalError => refuse(500, "INTERNAL"),
        Trouble::NotTheService => Fault::answer(200, &[], "<html>please log in</html>"),
        Trouble::Redirected(to) => {
            Fault::answer(307, &[("location", &format!("http://{to}/"))], "")
        }
        Trouble::Throttled => {
            Refusal::new(429, "RESOURCE_EXHAUSTED", "quota").retry_after("7s").into()
        }
        other => panic!("no fault of the proxy's is {other:?}"),
    }
}
