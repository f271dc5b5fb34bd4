//! What these tests share.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use twinlock_keys::{
    HolderError, HolderErrorKind, KeyHolder as _, KeyUri, Share, Side, WrapContext, WrappedShare,
};
use twinlock_remote_keys::azure_key_vault::{AzureKeyVaultKey, Credential, Options};

use crate::support::http::Message;
use crate::support::key_vault::{self, CLIENT, KeyVault, Material, SECRET, TENANT};
use crate::support::proxy::{Fault, Proxy};
use crate::support::tls::Authority;

pub(super) const VAULT: &str = "archive.vault.azure.net";
pub(super) const HSM: &str = "archive.managedhsm.azure.net";

/// A vault with a key `kek`, and a proxy before it: nothing of the environment
/// takes part.
pub(super) struct Rig {
    pub(super) host: &'static str,
    pub(super) vault: KeyVault,
    pub(super) proxy: Proxy,
    /// Of the key's only version.
    pub(super) version: String,
}

impl Rig {
    /// A vault with an RSA key.
    pub(super) fn new() -> Self {
        Self::with(VAULT, rsa())
    }

    pub(super) fn with(host: &'static str, material: Material) -> Self {
        let vault = KeyVault::start(host);
        let version = vault.add("kek", material);
        let tls = Authority::trusted().server();
        let proxy = Proxy::with_tls(vault.address(), key_vault::operation, tls);
        Self { host, vault, proxy, version }
    }

    pub(super) fn options(&self) -> Options {
        Options::new()
            .endpoint(self.proxy.url())
            .authority(self.proxy.url())
            .ca_file(Authority::trusted().certificate())
            .credential(principal(SECRET))
            .deadline(Duration::from_secs(30))
    }

    pub(super) fn uri(&self) -> KeyUri {
        uri(self.host, "kek")
    }

    /// A holder of the key, which no call has been made for.
    pub(super) async fn key(&self) -> AzureKeyVaultKey {
        self.key_with(self.options()).await
    }

    pub(super) async fn key_with(&self, options: Options) -> AzureKeyVaultKey {
        AzureKeyVaultKey::connect(&self.uri(), &options).await.unwrap()
    }

    /// A share that `key` wrapped, and what it was.
    pub(super) async fn wrapped(&self, key: &AzureKeyVaultKey) -> (Share, WrappedShare) {
        let share = Share::random().unwrap();
        let wrapped = key.wrap_key(&share, &context()).await.unwrap();
        (share, wrapped)
    }

    /// The names of all calls so far.
    pub(super) fn operations(&self) -> Vec<String> {
        self.proxy.calls().into_iter().map(|(operation, _)| operation).collect()
    }

    /// The requests of an operation.
    pub(super) fn requests(&self, operation: &str) -> Vec<Message> {
        let calls = self.proxy.calls().into_iter();
        calls.filter(|(name, _)| name == operation).map(|(_, request)| request).collect()
    }
}

/// An RSA key of 2048 bits, the same one each time: they are slow to make.
pub(super) fn rsa() -> Material {
    static KEY: OnceLock<Material> = OnceLock::new();
    KEY.get_or_init(|| Material::rsa("RSA-HSM", 2048)).clone()
}

pub(super) fn uri(host: &str, name: &str) -> KeyUri {
    KeyUri::parse(&format!("azure-kv://{host}/keys/{name}")).unwrap()
}

pub(super) fn principal(secret: &str) -> Credential {
    Credential::ClientSecret {
        tenant_id: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        client_secret: secret.to_owned().into(),
    }
}

pub(super) fn context() -> WrapContext {
    let pairs = vec![("object".to_owned(), "2026/report.pdf".to_owned())];
    WrapContext::new(Side::Provider, "v1/provider/00112233".to_owned(), vec![1; 66], pairs)
}

/// A refusal in Azure's form.
pub(super) fn refuse(status: u16, code: &str, inner: Option<&str>) -> Fault {
    let body = key_vault::refusal(code, inner, &format!("injected {code}"));
    answer(status, &[], &body.to_string())
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let mut all = vec![("x-ms-request-id", key_vault::REQUEST_ID)];
    all.extend(headers);
    Fault::answer(status, &all, body)
}

pub(super) fn json(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

/// The error of a result whose success cannot be printed.
#[track_caller]
pub(super) fn refusal<T>(result: Result<T, HolderError>) -> HolderError {
    result.err().expect("it is refused")
}

#[track_caller]
pub(super) fn kind<T>(result: Result<T, HolderError>) -> HolderErrorKind {
    refusal(result).kind()
}
