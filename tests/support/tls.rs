//! Certificates of servers under test, and the authorities that issue them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use super::python;

/// `openssl s_client` at a server that `name` is the name of, trusting the
/// certificates in `ca`. It has no certificate of its own.
pub(crate) fn s_client(server: SocketAddr, name: &str, ca: &Path) -> Command {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &server.to_string(), "-servername", name]);
    openssl.arg("-CAfile").arg(ca).args(["-verify_hostname", name]);
    openssl.stdin(Stdio::null());
    openssl
}

/// The messages of a handshake with it in that version (`-tls1_2`, `-tls1_3`), as the
/// client sees them, whatever comes of it.
pub(crate) fn handshake(mut s_client: Command, version: &str) -> String {
    let output = s_client.args([version, "-msg"]).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(seen.contains("ServerHello"), "{seen}{}", String::from_utf8_lossy(&output.stderr));
    seen
}

/// The name of proxies of external keys.
pub(crate) const XKS_PROXY: &str = "xks.example.com";

/// An authority and a certificate of its for `localhost`, [`XKS_PROXY`] and
/// 127.0.0.1. No machine trusts it by itself.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    /// The one whose certificate those get who are to trust the servers.
    pub(crate) fn trusted() -> &'static Self {
        static TRUSTED: OnceLock<Authority> = OnceLock::new();
        TRUSTED.get_or_init(Self::new)
    }

    /// One that nobody has heard of.
    pub(crate) fn unknown() -> &'static Self {
        static UNKNOWN: OnceLock<Authority> = OnceLock::new();
        UNKNOWN.get_or_init(Self::new)
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/make_certificates.py");
        let mut python = Command::new(python());
        python.arg("-B").arg(script).arg(folder.path()).arg(XKS_PROXY);
        let output = python.output().expect("Python is installed by `scripts/test --setup`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { folder }
    }

    /// Its own certificate, in PEM.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The server's certificate, in PEM.
    pub(crate) fn server_certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    /// The server's private key, in PEM.
    pub(crate) fn server_key(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// What a server in this process needs.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::from_pem_file(self.server_certificate()).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.server_key()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key);
        Arc::new(config.unwrap())
    }
}
