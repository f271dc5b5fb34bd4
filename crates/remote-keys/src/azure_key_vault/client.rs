//! From a key URI and options to a client of the SDK.

use azure_core::http::{ClientOptions, RetryOptions, Url};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use twinlock_keys::{HolderError, KeyUri, Scheme};

use super::call::{self, Call, Operation};
use super::clouds::cloud_of;
use super::credential;
use super::wire::Wires;
use super::{Options, misconfigured};

/// A client for the vault of `uri`. Reads the environment and files; a token
/// is asked for with the first call.
pub(super) async fn open(uri: &KeyUri, options: &Options) -> Result<KeyClient, HolderError> {
    Call::new(Operation::LoadConfig, uri, options, call::until(options))
        .bounded(async { client(&Name::of(uri)?, options) })
        .await
}

fn client(name: &Name<'_>, options: &Options) -> Result<KeyClient, HolderError> {
    let scope = scope(name, options)?;
    let endpoint = options.endpoint.as_deref().map(https).transpose()?;
    let wires = Wires::new(options)?;
    let authority = authority(name, options);
    let credential = credential::open(&options.credential, &authority, &wires)?;
    let options = KeyClientOptions {
        client_options: ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(wires.to_vault(scope, endpoint)),
            ..Default::default()
        },
        // The only challenge that the SDK sees is our own.
        verify_challenge_resource: Some(false),
        ..Default::default()
    };
    KeyClient::new(&format!("https://{}", name.host), credential, Some(options))
        .map_err(|_| misconfigured(format!("{} is no host of Azure Key Vault", name.host)))
}

/// The parts of a key's name.
pub(super) struct Name<'a> {
    /// With its port, if it has one.
    pub(super) host: &'a str,
    pub(super) key: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn of(uri: &'a KeyUri) -> Result<Self, HolderError> {
        let parts = Some(uri).filter(|uri| uri.scheme() == Scheme::AzureKv);
        let parts = parts.and_then(|uri| uri.key_name().split_once("/keys/"));
        let (host, key) = parts.ok_or_else(|| {
            misconfigured(format!("{uri} does not name a key in Azure Key Vault"))
        })?;
        Ok(Self { host, key })
    }
}

/// For whom tokens are: what the caller says, else what the host says.
fn scope<'a>(name: &Name<'_>, options: &'a Options) -> Result<&'a str, HolderError> {
    let Some(scope) = &options.scope else {
        return cloud_of(name.host).map(|cloud| cloud.scope).ok_or_else(|| {
            misconfigured(format!(
                "{} is in none of the clouds that Azure names (as <vault>.vault.azure.net): say in \
                 the settings for which scope tokens are",
                name.host
            ))
        });
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte);
    match !scope.is_empty() && scope.bytes().all(allowed) {
        true => Ok(scope),
        false => Err(misconfigured("a scope is written as in https://vault.azure.net/.default")),
    }
}

/// Who gives tokens: what the caller says, else the environment, else the
/// host's cloud.
fn authority(name: &Name<'_>, options: &Options) -> String {
    options
        .authority
        .clone()
        .or_else(|| credential::variable("AZURE_AUTHORITY_HOST"))
        .unwrap_or_else(|| {
            let cloud = cloud_of(name.host);
            cloud.map_or("https://login.microsoftonline.com", |cloud| cloud.authority).to_owned()
        })
}

/// Refuses to send a share in the clear.
fn https(url: &str) -> Result<Url, HolderError> {
    let parsed = Url::parse(url).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        url.scheme() == "https" && plain && url.path() == "/" && url.query().is_none()
    });
    parsed.ok_or_else(|| {
        misconfigured("the endpoint of a vault is an https:// URL of a host, without a path")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_https_and_a_host() {
        assert!(https("https://localhost:8443").is_ok());
        for url in [
            "http://localhost:8443",
            "https://user@localhost",
            "https://localhost/vault",
            "https://localhost/?x",
            "localhost",
        ] {
            assert!(https(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_scope_is_named_where_the_host_has_none() {
        let scope_of = |host, options: &Options| {
            scope(&Name { host, key: "k" }, options).map(ToOwned::to_owned).ok()
        };
        let named = Options::new().scope("https://vault.example/.default");
        assert_eq!(scope_of("localhost:8443", &Options::new()), None);
        assert_eq!(
            scope_of("localhost", &named).as_deref(),
            Some("https://vault.example/.default")
        );
        assert_eq!(scope_of("localhost", &Options::new().scope("a\" b")), None);
        assert_eq!(scope_of("localhost", &Options::new().scope("")), None);
    }
}
