//! AWS KMS: a real moto, with a proxy between that fails as AWS does.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use twinlock_keys::{HolderError, KeyUri};
use twinlock_remote_keys::aws_kms::{AwsKmsKey, Options};

use super::bench::{Bench, Holder, SHORT_DEADLINE, Trouble};
use super::suite::every_holder;
use crate::support::kms_proxy::{Fault, KmsProxy};
use crate::support::moto::{id_of, moto};
use crate::support::proxy::closed_address;
use crate::support::tls::Authority;

const REGION: &str = "eu-central-1";

every_holder!(AwsKms);

pub(super) struct AwsKms {
    arn: String,
    proxy: KmsProxy,
    folder: TempDir,
}

impl Bench for AwsKms {
    const NEVER: &'static [(Trouble, &'static str)] = &[];

    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let profile = "[default]\naws_access_key_id = AKIDTESTS\naws_secret_access_key = secret\n";
        fs::write(folder.path().join("config"), profile).unwrap();
        let bench = Self { arn: new_key(), proxy: KmsProxy::before(moto().address), folder };
        bench.heal();
        bench
    }

    async fn holder(&self) -> Holder {
        self.connect(&self.arn, self.options()).await.unwrap()
    }

    async fn stranger(&self) -> Holder {
        self.connect(&new_key(), self.options()).await.unwrap()
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        let arn = &self.arn;
        let options = self.options();
        match trouble {
            Trouble::Down => {
                let nowhere = format!("http://{}", closed_address());
                return self.connect(arn, options.endpoint(nowhere)).await;
            }
            Trouble::NoCredentials => return self.connect(arn, options.profile("absent")).await,
            Trouble::NotFound => return self.connect(&self.unknown_arn(), options).await,
            Trouble::Slow => {
                self.inject(&Fault::Delay(Duration::from_secs(600)));
                return self.connect(arn, options.deadline(SHORT_DEADLINE)).await;
            }
            Trouble::UntrustedServer => {
                let tls = KmsProxy::with_tls(moto().address, Authority::unknown().server());
                let holder = self.connect(arn, options.endpoint(tls.url())).await;
                std::mem::forget(tls); // as long as the holder
                return holder;
            }
            _ => self.inject(&fault(trouble)),
        }
        self.connect(arn, options).await
    }

    fn heal(&self) {
        self.proxy.heal();
        self.proxy.inject("Decrypt", Fault::CorrectMoto);
    }
}

impl AwsKms {
    async fn connect(&self, arn: &str, options: Options) -> Result<Holder, HolderError> {
        let uri = KeyUri::parse(&format!("aws-kms://{arn}")).unwrap();
        Ok(Arc::new(AwsKmsKey::connect(&uri, &options).await?))
    }

    fn options(&self) -> Options {
        Options::new()
            .endpoint(self.proxy.url())
            .profile_file(self.folder.path().join("config"))
            .attempts(1)
            .deadline(Duration::from_secs(30))
    }

    fn inject(&self, fault: &Fault) {
        for operation in ["Encrypt", "Decrypt"] {
            self.proxy.inject(operation, fault.clone());
        }
    }

    /// Of the right form.
    fn unknown_arn(&self) -> String {
        self.arn.replace(id_of(&self.arn), "00000000-0000-4000-8000-000000000000")
    }
}

/// What AWS answers and moto does not.
fn fault(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::BadCredentials => Fault::refuse("UnrecognizedClientException"),
        // Signature Version 4 is good for five minutes.
        Trouble::ClockSkew => Fault::refuse("InvalidSignatureException"),
        Trouble::Denied => Fault::refuse("AccessDeniedException"),
        Trouble::Disabled => Fault::refuse("DisabledException"),
        Trouble::HangsUp => Fault::Drop,
        Trouble::InternalError => {
            Fault::Refuse { status: 500, code: "KMSInternalException", headers: &[] }
        }
        Trouble::NotTheService => Fault::raw(200, "<html>please log in</html>"),
        Trouble::Redirected(to) => Fault::Redirect(to),
        Trouble::Throttled => Fault::Refuse {
            status: 400,
            code: "ThrottlingException",
            headers: &[("retry-after", "7")],
        },
        other => panic!("no fault of the proxy's is {other:?}"),
    }
}

fn new_key() -> String {
    moto().create_key(REGION, &json!({}))
}
