//! Where the keys of an issuer come from: OpenID Connect Discovery 1.0.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::IssuerSettings;
use super::key_set::{Algorithm, KeySet};

/// The longest document that is read, in bytes. The keys of all of Entra ID's
/// tenants together have thirty thousand.
const MAX_DOCUMENT: usize = 256 * 1024;

/// What Entra ID has in the place of the tenant, where a document is for all.
const TENANT_TEMPLATE: &str = "{tenantid}";

/// The place of an issuer's discovery document.
pub(super) struct Source {
    client: Client,
    metadata: Url,
    issuer: String,
    tenant: Option<String>,
    ca: Option<PathBuf>,
}

/// The discovery document, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// What is behind `jwks_uri` (RFC 7517 section 5).
#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

impl Source {
    pub(super) fn new(settings: &IssuerSettings, timeout: Duration) -> Result<Self, String> {
        let IssuerSettings { issuer, metadata, tenant, ca, .. } = settings;
        private(issuer)?;
        let metadata = match metadata {
            Some(metadata) => private(metadata)?,
            None => private(&usual_metadata(issuer))?,
        };
        let client = client(&metadata, ca.as_deref(), timeout)?;
        let (issuer, tenant, ca) = (issuer.clone(), tenant.clone(), ca.clone());
        Ok(Self { client, metadata, issuer, tenant, ca })
    }

    pub(super) fn is_that_of(&self, other: &Self) -> bool {
        let of = |source: &Self| {
            let Self { client: _, metadata, issuer, tenant, ca } = source;
            (metadata.clone(), issuer.clone(), tenant.clone(), ca.clone())
        };
        of(self) == of(other)
    }

    /// The keys as they are published now; at least one that can be used.
    pub(super) async fn fetch(&self, algorithms: &[Algorithm]) -> Result<KeySet, String> {
        let metadata: Metadata = self.document(&self.metadata).await?;
        if !self.is_ours(&metadata.issuer) {
            return Err(self.of_another(&metadata.issuer));
        }
        let jwks_uri = private(&metadata.jwks_uri)?;
        if self.metadata.scheme() == "https" && jwks_uri.scheme() != "https" {
            return Err("its jwks_uri is not https://".to_owned());
        }
        let Jwks { keys } = self.document(&jwks_uri).await?;
        KeySet::of(keys, algorithms, |issuer| self.is_ours(issuer))
    }

    /// Whether this text names the configured issuer, itself or as the template of
    /// which it is our tenant's.
    fn is_ours(&self, issuer: &str) -> bool {
        let ours = self.tenant.as_ref().map(|tenant| issuer.replace(TENANT_TEMPLATE, tenant));
        issuer == self.issuer || ours.is_some_and(|ours| ours == self.issuer)
    }

    fn of_another(&self, found: &str) -> String {
        let hint = match (found.contains(TENANT_TEMPLATE), &self.tenant) {
            (true, None) => "; set `tenant`, which takes the place of {tenantid}",
            _ => {
                "; set `issuer` to what its tokens have, and `metadata` to a document of that issuer"
            }
        };
        let found: String = found.chars().take(200).flat_map(char::escape_debug).collect();
        format!("{} is of the issuer \"{found}\"{hint}", self.metadata)
    }

    async fn document<T: DeserializeOwned>(&self, url: &Url) -> Result<T, String> {
        let bytes = self.bytes(url).await.map_err(|problem| format!("{url}: {problem}"))?;
        serde_json::from_slice(&bytes).map_err(|_| format!("{url} is not what it should be"))
    }

    async fn bytes(&self, url: &Url) -> Result<Vec<u8>, String> {
        let request = self.client.get(url.clone()).header(ACCEPT, "application/json");
        let mut response = request.send().await.map_err(causes)?;
        if response.status() != StatusCode::OK {
            return Err(format!("answers with status {}", response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(causes)? {
            if bytes.len() + chunk.len() > MAX_DOCUMENT {
                return Err(format!("is longer than {MAX_DOCUMENT} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// OpenID Connect Discovery 1.0 section 4.1.
fn usual_metadata(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// A URL that nobody on the way can answer in the place of its host.
fn private(text: &str) -> Result<Url, String> {
    let shown = || text.chars().take(200).flat_map(char::escape_debug).collect::<String>();
    let url = Url::parse(text).map_err(|_| format!("\"{}\" is no URL", shown()))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("\"{}\" has a name, password or fragment", shown()));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_this_machine(&url) => Ok(url),
        _ => Err(format!("\"{}\" is not https://", shown())),
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn client(metadata: &Url, ca: Option<&Path>, timeout: Duration) -> Result<Client, String> {
    let mut builder = Client::builder()
        // A redirect could lead to another host, and issuers have none here.
        .redirect(Policy::none())
        .referer(false)
        .timeout(timeout)
        .connect_timeout(timeout)
        .retry(reqwest::retry::never());
    if metadata.scheme() == "http" {
        builder = builder.no_proxy();
    }
    if let Some(path) = ca {
        builder = builder.tls_certs_only(authorities(path)?);
    }
    builder.build().map_err(|error| format!("cannot use TLS: {}", causes(error)))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let place = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("cannot read {place}: {error}"))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{place} holds no certificates in PEM")),
    }
}

/// An error with all that led to it, without the URL, which whoever calls has.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
