//! Azure Key Vault with an RSA key, and a Managed HSM with an AES key: a small
//! server of our own, with a proxy between that fails as Azure does.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use twinlock_keys::{HolderError, KeyUri};
use twinlock_remote_keys::azure_key_vault::{AzureKeyVaultKey, Credential, Options};

use super::bench::{Bench, Holder, RETRY_AFTER, SHORT_DEADLINE, Trouble};
use crate::support::key_vault::{self, CLIENT, KeyVault, Material, SECRET, TENANT};
use crate::support::proxy::{Fault, Proxy, closed_address};
use crate::support::tls::Authority;

mod key_vault_rsa {
    use super::super::suite::every_holder;
    every_holder!(super::KeyVaultRsa);
}

mod managed_hsm_aes {
    use super::super::suite::every_holder;
    every_holder!(super::ManagedHsmAes);
}

pub(super) struct KeyVaultRsa(Azure);

impl Bench for KeyVaultRsa {
    const NEVER: &'static [(Trouble, &'static str)] = &[];

    async fn new() -> Self {
        Self(Azure::new("archive.vault.azure.net", rsa().clone()))
    }

    async fn holder(&self) -> Holder {
        self.0.connect("kek", self.0.options()).await.unwrap()
    }

    async fn stranger(&self) -> Holder {
        self.0.stranger(rsa()).await
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        self.0.in_trouble(trouble).await
    }

    fn heal(&self) {
        self.0.proxy.heal();
    }
}

pub(super) struct ManagedHsmAes(Azure);

impl Bench for ManagedHsmAes {
    const NEVER: &'static [(Trouble, &'static str)] = &[];

    async fn new() -> Self {
        Self(Azure::new("archive.managedhsm.azure.net", Material::aes()))
    }

    async fn holder(&self) -> Holder {
        self.0.connect("kek", self.0.options()).await.unwrap()
    }

    async fn stranger(&self) -> Holder {
        self.0.stranger(&Material::aes()).await
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        self.0.in_trouble(trouble).await
    }

    fn heal(&self) {
        self.0.proxy.heal();
    }
}

/// Either of the two.
struct Azure {
    host: &'static str,
    vault: KeyVault,
    proxy: Proxy,
}

impl Azure {
    fn new(host: &'static str, material: Material) -> Self {
        let vault = KeyVault::start(host);
        vault.add("kek", material);
        let tls = Authority::trusted().server();
        let proxy = Proxy::with_tls(vault.address(), key_vault::operation, tls);
        Self { host, vault, proxy }
    }

    async fn stranger(&self, material: &Material) -> Holder {
        self.vault.add("other", material.clone());
        self.connect("other", self.options()).await.unwrap()
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        let mut options = self.options();
        match trouble {
            Trouble::BadCredentials => options = options.credential(principal("a wrong secret")),
            Trouble::ClockSkew => self.vault.turn_clock(7200),
            Trouble::Denied => {
                for operation in ["get", "wrapKey", "unwrapKey"] {
                    self.vault.deny(operation);
                }
            }
            Trouble::Disabled => self.vault.change("kek", |version| version.enabled = false),
            Trouble::Down => options = options.endpoint(format!("https://{}", closed_address())),
            Trouble::NoCredentials => options = options.credential(Credential::Environment),
            Trouble::NotFound => return self.connect("unknown", options).await,
            Trouble::Slow => {
                self.inject(&Fault::Delay(Duration::from_secs(600)));
                options = options.deadline(SHORT_DEADLINE);
            }
            Trouble::UntrustedServer => {
                let tls = Authority::unknown().server();
                let server = Proxy::with_tls(self.vault.address(), key_vault::operation, tls);
                options = options.endpoint(server.url());
                std::mem::forget(server); // as long as the holder
            }
            other => self.inject(&fault(other)),
        }
        self.connect("kek", options).await
    }

    async fn connect(&self, name: &str, options: Options) -> Result<Holder, HolderError> {
        let uri = KeyUri::parse(&format!("azure-kv://{}/keys/{name}", self.host)).unwrap();
        Ok(Arc::new(AzureKeyVaultKey::connect(&uri, &options).await?))
    }

    fn options(&self) -> Options {
        Options::new()
            .endpoint(self.proxy.url())
            .authority(self.proxy.url())
            .ca_file(Authority::trusted().certificate())
            .credential(principal(SECRET))
            .attempts(1)
            .deadline(Duration::from_secs(30))
    }

    fn inject(&self, fault: &Fault) {
        for operation in ["get", "wrapKey", "unwrapKey"] {
            self.proxy.inject(operation, fault.clone());
        }
    }
}

/// What Azure answers and our server does not.
fn fault(trouble: Trouble) -> Fault {
    let answer = |status, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("x-ms-request-id", key_vault::REQUEST_ID)];
        all.extend(headers);
        Fault::answer(status, &all, body)
    };
    match trouble {
        Trouble::HangsUp => Fault::Drop,
        Trouble::InternalError => {
            let body = key_vault::refusal("InternalServerError", None, "injected");
            answer(500, &[], &body.to_string())
        }
        Trouble::NotTheService => answer(200, &[], "<html>please log in</html>"),
        Trouble::Redirected(to) => answer(307, &[("location", &format!("http://{to}/"))], ""),
        Trouble::Throttled => {
            let body = key_vault::refusal("Throttled", None, "injected");
            let seconds = RETRY_AFTER.as_secs().to_string();
            answer(429, &[("retry-after", &seconds)], &body.to_string())
        }
        other => panic!("no fault of the proxy's is {other:?}"),
    }
}

fn principal(secret: &str) -> Credential {
    Credential::ClientSecret {
        tenant_id: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: secret.to_owned().into(),
    }
}

/// The same key for all: RSA keys are slow to make. What one version wrapped is
/// refused by another for being another.
fn rsa() -> &'static Material {
    static KEY: OnceLock<Material> = OnceLock::new();
    KEY.get_or_init(|| Material::rsa("RSA-HSM", 2048))
}
