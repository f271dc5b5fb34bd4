//! TLS for servers: certificate and key from files, renewed while connections
//! run, and client certificates where they are asked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde::Deserialize;

use crate::calendar::Timestamp;
use crate::config::read_private_file;

mod certificate;
mod client;

/// What the configuration says of TLS.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM: the server's certificate, then those between it and the CA's own.
    pub certificate: PathBuf,
    /// PEM: the private key of that certificate, as PKCS#8, SEC1 or PKCS#1. Not
    /// everybody may read the file.
    pub key: PathBuf,
    /// Whose certificate a client has to show. Without this, none is asked for.
    pub client: Option<ClientSettings>,
}

/// Which clients may connect.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// PEM: certificates of the CAs that may have signed a client's.
    pub ca: PathBuf,
    /// The client's common name, or one of its DNS names, is one of these: not a
    /// pattern, in any case of letters.
    pub subjects: Vec<String>,
}

impl TlsSettings {
    /// The files that it is made of, to watch them for changes.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let ca = self.client.as_ref().map(|client| client.ca.clone());
        [self.certificate.clone(), self.key.clone()].into_iter().chain(ca).collect()
    }
}

/// A server's side of TLS 1.2 and 1.3. Connections that are open keep what they
/// began with when it is reloaded.
#[derive(Debug)]
pub struct Tls {
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    settings: TlsSettings,
    config: Arc<ServerConfig>,
    validity: (SystemTime, SystemTime),
}

impl Tls {
    /// Reads certificates and key, and checks that they belong together. A
    /// certificate that is not valid now is taken; [`concerns`](Self::concerns)
    /// says so.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit the others.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        Ok(Self { current: ArcSwap::from_pointee(Loaded::read(settings)?) })
    }

    /// Reads the same files again, for connections from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); then nothing changes.
    pub fn reload(&self) -> Result<(), TlsError> {
        let settings = self.current.load().settings.clone();
        self.reload_with(&settings)
    }

    /// Reads other files, for connections from now on.
    ///
    /// # Errors
    /// As [`load`](Self::load); then nothing changes.
    pub fn reload_with(&self, settings: &TlsSettings) -> Result<(), TlsError> {
        self.current.store(Arc::new(Loaded::read(settings)?));
        Ok(())
    }

    /// What a new connection begins with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// Whether clients have to show a certificate.
    #[must_use]
    pub fn asks_for_clients(&self) -> bool {
        self.current.load().settings.client.is_some()
    }

    /// Which of the configured subjects a client's certificate is of.
    pub(crate) fn subject_of(&self, certificate: &[u8]) -> Option<String> {
        let loaded = self.current.load();
        client::subject_of(certificate, &loaded.settings.client.as_ref()?.subjects)
    }

    /// When the first certificate of the chain expires.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.current.load().validity.1
    }

    /// What an operator should do something about, a sentence each: a chain that
    /// is not valid yet or any more, or has less than ten days to live.
    #[must_use]
    pub fn concerns(&self, now: SystemTime) -> Vec<String> {
        let loaded = self.current.load();
        let file = loaded.settings.certificate.display();
        let (begins, ends) = (Timestamp(loaded.validity.0), Timestamp(loaded.validity.1));
        let mut concerns = Vec::new();
        if now < begins.0 {
            concerns.push(format!(
                "the certificate {file} is not valid before {begins}: clients will refuse it; is \
                 the clock right?"
            ));
        }
        if now > ends.0 {
            concerns.push(format!("the certificate {file} has expired on {ends}: renew it now"));
        } else if now + EXPIRES_SOON > ends.0 {
            concerns.push(format!("the certificate {file} expires on {ends}: renew it"));
        }
        concerns
    }
}

/// AWS's advice for external key stores is an alarm at ten days.
const EXPIRES_SOON: Duration = Duration::from_secs(10 * 24 * 60 * 60);

impl Loaded {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let chain = certificates(&settings.certificate)?;
        let validity = validity_of(&chain, &settings.certificate)?;
        let key = private_key(&settings.key)?;
        let provider = Arc::new(provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rustls)?;
        let builder = match &settings.client {
            None => builder.with_no_client_auth(),
            Some(client) => builder.with_client_cert_verifier(client_verifier(client, provider)?),
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| mismatch(settings, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if settings.client.is_some() {
            // A resumed session would not show its certificate again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { settings: settings.clone(), config: Arc::new(config), validity })
    }
}

/// The suites that the External Key Store API specification lists, and no
/// others (v1.0.3, "Network connectivity").
fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite::{
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites = vec![
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ];
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}

const MAX_PEM_BYTES: u64 = 1024 * 1024;
const MAX_KEY_BYTES: usize = 64 * 1024;

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut pem = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MAX_PEM_BYTES), &mut pem)
        .map_err(unreadable)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NoCertificate(path.to_owned())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read_private_file(path, MAX_KEY_BYTES).map_err(|problem| TlsError::NotPrivate {
        path: path.to_owned(),
        problem: problem.to_string(),
    })?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(path.to_owned()))
}

/// When all certificates of a chain are valid.
fn validity_of(
    chain: &[CertificateDer<'_>],
    path: &Path,
) -> Result<(SystemTime, SystemTime), TlsError> {
    let mut validity = (SystemTime::UNIX_EPOCH, None);
    for certificate in chain {
        let facts = certificate::Facts::of(certificate)
            .ok_or_else(|| TlsError::NoCertificate(path.to_owned()))?;
        validity.0 = validity.0.max(facts.not_before);
        validity.1 =
            Some(validity.1.map_or(facts.not_after, |end: SystemTime| end.min(facts.not_after)));
    }
    let end = validity.1.ok_or_else(|| TlsError::NoCertificate(path.to_owned()))?;
    Ok((validity.0, end))
}

fn mismatch(settings: &TlsSettings, error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch {
            certificate: settings.certificate.clone(),
            key: settings.key.clone(),
        },
        error => TlsError::Rustls(error),
    }
}

fn client_verifier(
    settings: &ClientSettings,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<client::ClientVerifier>, TlsError> {
    if settings.subjects.iter().all(String::is_empty) {
        return Err(TlsError::NoSubjects);
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&settings.ca)? {
        roots.add(certificate).map_err(|_| TlsError::NoCertificate(settings.ca.clone()))?;
    }
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| TlsError::Clients(error.to_string()))?;
    Ok(Arc::new(client::ClientVerifier::new(chain, &settings.subjects)))
}

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate file is missing, or this user may not read it.
    #[error("cannot read the certificates {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is none, or not only whole ones.
    #[error("{} is not a PEM file of X.509 certificates", .0.display())]
    NoCertificate(PathBuf),
    /// The key file cannot be read, or too many can.
    #[error("cannot read the private key {}: {problem}", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No PEM, or an encrypted key.
    #[error(
        "{} has no private key that is not encrypted, in PEM as PKCS#8, SEC1 or PKCS#1",
        .0.display()
    )]
    NoKey(PathBuf),
    /// They are of two different pairs.
    #[error(
        "the key {} does not belong to the first certificate in {}: is the chain in order, the \
         server's own first?",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The file of the chain.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// Any client of the CA would do, and that is never meant.
    #[error("tls.client.subjects is empty: name the clients' common names or DNS names")]
    NoSubjects,
    /// The CA's certificates cannot be used.
    #[error("cannot verify clients: {0}")]
    Clients(String),
    /// A key of an unknown kind, and the like.
    #[error("the certificate or key cannot be used: {0}")]
    Rustls(rustls::Error),
}

#[cfg(test)]
pub(crate) mod tests;
