//! A client of the protocol: TLS, HTTP, and OpenSSL for the cryptography.

use std::fs;
use std::io::{self, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::http::Message;
use crate::support::softhsm::write_private;

// === Certificates ===

/// Issues certificates that nobody trusts who was not given its own.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Tests of DKE");
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its own certificate.
    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate of that serial number for a host, which programs that look it
    /// up find as `localhost`, and its key.
    pub(super) fn issue(&self, host: &str, serial: u64) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let names = vec![host.to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        [certificate.pem(), key.serialize_pem()]
    }

    /// The same in the files of a service.
    pub(super) fn write(&self, folder: &Path, host: &str, serial: u64) {
        let [certificate, key] = self.issue(host, serial);
        // The key first: the pair is looked at when the certificate has changed.
        write_private(&folder.join("server.key"), &key);
        fs::write(folder.join("server.pem"), certificate).unwrap();
    }

    /// What a server in this process needs.
    pub(super) fn server(&self, host: &str) -> Arc<ServerConfig> {
        let [certificate, key] = self.issue(host, 1);
        let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key);
        Arc::new(config.unwrap())
    }

    /// A client that trusts it.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

// === HTTP over TLS ===

pub(super) type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A connection to `host`, which is at `address`.
pub(super) fn connect(
    address: SocketAddr,
    host: &str,
    trust: Arc<ClientConfig>,
) -> io::Result<Connection> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let session = ClientConnection::new(trust, name).map_err(io::Error::other)?;
    let socket = TcpStream::connect(address)?;
    // A body is not to wait until its head has been acknowledged.
    socket.set_nodelay(true)?;
    Ok(StreamOwned::new(session, socket))
}

/// One request, and its answer.
pub(super) fn exchange(connection: Connection, request: &Message) -> io::Result<Answer> {
    exchange_on(&mut BufReader::new(connection), request)
}

/// The same on a connection that is kept.
pub(super) fn exchange_on(
    connection: &mut BufReader<Connection>,
    request: &Message,
) -> io::Result<Answer> {
    request.write(connection.get_mut())?;
    let answer = Message::read(connection)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Answer::of(answer))
}

/// An answer, its body read as JSON where it is that.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) body: Value,
    pub(super) headers: Vec<(String, String)>,
}

impl Answer {
    fn of(message: Message) -> Self {
        let status = message.first_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let text = String::from_utf8_lossy(&message.body).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status: status.unwrap(), text, body, headers: message.headers }
    }

    #[track_caller]
    pub(super) fn ok(self) -> Self {
        self.with(200)
    }

    /// The same, with that status.
    #[track_caller]
    pub(super) fn with(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The same, refused with that status and the name of that error.
    #[track_caller]
    pub(super) fn refused(self, status: u16, error: &str) -> Self {
        assert_eq!((self.status, &self.body["error"]), (status, &Value::from(error)), "{self:?}");
        self
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What a Decrypt answered.
    #[track_caller]
    pub(super) fn plaintext(self) -> Vec<u8> {
        let body = self.ok().body;
        let fields: Vec<_> = body.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["value"]);
        BASE64_STANDARD.decode(body["value"].as_str().unwrap()).unwrap()
    }

    /// All that somebody could tell two answers apart by.
    pub(super) fn seen(&self) -> (u16, String, Vec<(String, String)>) {
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| name != "date");
        (self.status, self.text.clone(), headers)
    }
}

// === Encryption ===

/// A public key as the service publishes it, in OpenSSL's hands.
pub(super) struct PublicKey {
    /// The address under which it says that it decrypts.
    pub(super) id: String,
    /// Big-endian, without a leading zero.
    pub(super) modulus: Vec<u8>,
    folder: tempfile::TempDir,
}

/// How OpenSSL pads.
pub(super) const OAEP: &[&str] =
    &["rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256"];

impl PublicKey {
    /// Of the body of an answer to a GET, and of nothing else.
    pub(super) fn of(body: &Value) -> Self {
        let key = &body["key"];
        let modulus = BASE64_STANDARD.decode(key["n"].as_str().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // RFC 8017 appendix A.1.1, as OpenSSL spells ASN.1.
        let description = format!(
            "asn1 = SEQUENCE:spki\n[spki]\nalgorithm = SEQUENCE:rsa\nkey = BITWRAP,SEQUENCE:key\n\
             [rsa]\noid = OID:rsaEncryption\nparameters = NULL\n\
             [key]\nn = INTEGER:0x{}\ne = INTEGER:{}\n",
            hex::encode(&modulus),
            key["e"].as_u64().unwrap(),
        );
        fs::write(folder.path().join("key.asn1"), description).unwrap();
        let arguments = ["asn1parse", "-noout", "-genconf", "key.asn1", "-out", "key.der"];
        openssl(folder.path(), &arguments, b"");
        Self { id: key["kid"].as_str().unwrap().to_owned(), modulus, folder }
    }

    /// The SHA-256 of its SPKI.
    pub(super) fn pin(&self) -> String {
        hex::encode(Sha256::digest(fs::read(self.folder.path().join("key.der")).unwrap()))
    }

    /// With RSA-OAEP, SHA-256 and MGF1 with SHA-256.
    pub(super) fn encrypt(&self, plaintext: &[u8]) -> Vec<u8> {
        self.encrypt_with(OAEP, plaintext)
    }

    pub(super) fn encrypt_with(&self, options: &[&str], plaintext: &[u8]) -> Vec<u8> {
        let key = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "key.der"];
        let options = options.iter().flat_map(|option| ["-pkeyopt", option]);
        let arguments: Vec<_> = key.into_iter().chain(options).collect();
        openssl(self.folder.path(), &arguments, plaintext)
    }
}

/// What it prints.
pub(super) fn openssl(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl is installed by `scripts/test --setup`");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
