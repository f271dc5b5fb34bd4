//! Real handshakes: who may connect, with what, and what a reload changes.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, ServerConnection,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::*;

/// A CA of its own and files that it made.
pub(crate) struct Ca {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = Self { folder: tempfile::tempdir().unwrap(), issuer };
        ca.write("ca.pem", &ca.issuer.pem());
        ca
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Certificate and key for these DNS names and this common name, as files
    /// that begin with `file`.
    pub(crate) fn issue(&self, file: &str, dns: &[&str], common_name: Option<&str>) -> TlsSettings {
        let key = KeyPair::generate().unwrap();
        self.issue_with(file, dns, common_name, &key, |_| {})
    }

    fn issue_with(
        &self,
        file: &str,
        dns: &[&str],
        common_name: Option<&str>,
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> TlsSettings {
        let names: Vec<String> = dns.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        TlsSettings {
            certificate: self.write(&format!("{file}.pem"), &certificate.pem()),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
            client: None,
        }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn clients(&self, subjects: &[&str]) -> Option<ClientSettings> {
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        Some(ClientSettings { ca: self.ca(), subjects })
    }

    /// A client that trusts this CA, and shows this certificate.
    pub(crate) fn client(&self, shows: Option<&TlsSettings>) -> ClientConfig {
        self.client_with(shows, aws_lc_rs::default_provider(), rustls::ALL_VERSIONS)
    }

    fn client_with(
        &self,
        shows: Option<&TlsSettings>,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let Some(shows) = shows else { return builder.with_no_client_auth() };
        let chain = certificates(&shows.certificate).unwrap();
        builder.with_client_auth_cert(chain, private_key(&shows.key).unwrap()).unwrap()
    }
}

/// A handshake in memory: what the client sees of its end.
fn handshake(server: &Tls, client: ClientConfig) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from("xks.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server.config()).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut from = bytes.as_slice();
        while !from.is_empty() {
            server.read_tls(&mut from).unwrap();
            // Its failure reaches the client as an alert.
            let _ = server.process_new_packets();
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut from = bytes.as_slice();
        while !from.is_empty() {
            client.read_tls(&mut from).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(client)
}

fn alert(result: Result<ClientConnection, rustls::Error>) -> AlertDescription {
    match result.map(drop) {
        Err(rustls::Error::AlertReceived(alert)) => alert,
        other => panic!("no alert: {other:?}"),
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn the_suites_of_the_specification_and_no_others() {
    let ca = Ca::new();
    let elliptic = Tls::load(&ca.issue("ec", &["xks.example"], None)).unwrap();
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = ca.issue_with("rsa", &["xks.example"], None, &rsa, |_| {});
    let rsa = Tls::load(&rsa).unwrap();
    let mut taken = Vec::new();
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        for server in [&elliptic, &rsa] {
            let provider =
                CryptoProvider { cipher_suites: vec![*suite], ..aws_lc_rs::default_provider() };
            let client = ca.client_with(None, provider, &[suite.version()]);
            if handshake(server, client).is_ok() {
                taken.push(suite.suite());
            }
        }
    }
    taken.dedup();
    assert_eq!(
        taken,
        [
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ]
    );
}

#[test]
fn http_2_goes_before_http_1() {
    let ca = Ca::new();
    let server = Tls::load(&ca.issue("a", &["xks.example"], None)).unwrap();
    for (offered, chosen) in
        [(&["http/1.1", "h2"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let mut client = ca.client(None);
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(handshake(&server, client).unwrap().alpn_protocol(), chosen.map(str::as_bytes));
    }
}

#[test]
fn a_client_is_asked_for_a_certificate_only_where_clients_are_configured() {
    let ca = Ca::new();
    let mut settings = ca.issue("a", &["xks.example"], None);
    let shown = ca.issue("client", &[], Some("anybody"));
    let open = Tls::load(&settings).unwrap();
    for client in [ca.client(None), ca.client(Some(&shown))] {
        assert!(handshake(&open, client).is_ok());
    }
    settings.client = ca.clients(&["cks.kms.eu-central-1.amazonaws.com"]);
    let closed = Tls::load(&settings).unwrap();
    assert!(closed.asks_for_clients() && !open.asks_for_clients());
    for version in VERSIONS {
        let client = ca.client_with(None, aws_lc_rs::default_provider(), &[version]);
        assert_eq!(alert(handshake(&closed, client)), AlertDescription::CertificateRequired);
    }
}

#[test]
fn a_subject_is_a_common_name_or_a_dns_name_and_equal() {
    let ca = Ca::new();
    let mut settings = ca.issue("a", &["xks.example"], None);
    settings.client = ca.clients(&["cks.kms.eu-central-1.amazonaws.com", "cks.kms.example"]);
    let server = Tls::load(&settings).unwrap();
    let good: [(&[&str], Option<&str>); 4] = [
        (&[], Some("cks.kms.example")),
        (&["cks.kms.example"], None),
        (&["other.example", "CKS.kms.eu-central-1.amazonaws.com"], Some("other")),
        (&["other.example"], Some("cks.kms.example")),
    ];
    let bad: [(&[&str], Option<&str>); 6] = [
        (&[], None),
        (&["other.example"], Some("other")),
        (&["*.kms.example"], None),
        (&["cks.kms.example.evil.example"], None),
        (&[], Some("cks.kms.example\0.evil.example")),
        (&["kms.example"], Some("")),
    ];
    for version in VERSIONS {
        let connect = |(dns, common_name): &(&[&str], Option<&str>)| {
            let shown = ca.issue("client", dns, *common_name);
            let provider = aws_lc_rs::default_provider();
            handshake(&server, ca.client_with(Some(&shown), provider, &[version]))
        };
        for names in &good {
            assert!(connect(names).is_ok(), "{names:?}");
        }
        for names in &bad {
            assert_eq!(alert(connect(names)), AlertDescription::HandshakeFailure, "{names:?}");
        }
    }
}

#[test]
fn a_foreign_or_expired_client_gets_handshake_failure() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let mut settings = ca.issue("a", &["xks.example"], None);
    settings.client = ca.clients(&["kms.example"]);
    let server = Tls::load(&settings).unwrap();
    let foreign = foreign.issue("client", &["kms.example"], None);
    let key = KeyPair::generate().unwrap();
    let expired = ca.issue_with("old", &["kms.example"], None, &key, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    for shown in [foreign, expired] {
        for version in VERSIONS {
            let provider = aws_lc_rs::default_provider();
            let client = ca.client_with(Some(&shown), provider, &[version]);
            assert_eq!(alert(handshake(&server, client)), AlertDescription::HandshakeFailure);
        }
    }
}

#[test]
fn a_reload_is_for_connections_from_now_on_and_a_bad_file_changes_nothing() {
    let (ca, next) = (Ca::new(), Ca::new());
    let settings = ca.issue("a", &["xks.example"], None);
    let tls = Tls::load(&settings).unwrap();
    let before = tls.config();
    let renewed = next.issue("a", &["xks.example"], None);
    fs::copy(&renewed.certificate, &settings.certificate).unwrap();
    let told = tls.reload().unwrap_err().to_string(); // the key has not come yet
    assert!(told.contains("does not belong to the first certificate"), "{told}");
    assert!(Arc::ptr_eq(&before, &tls.config()));
    assert!(handshake(&tls, ca.client(None)).is_ok());
    fs::copy(&renewed.key, &settings.key).unwrap();
    tls.reload().unwrap();
    assert!(handshake(&tls, next.client(None)).is_ok());
    assert!(handshake(&tls, ca.client(None)).is_err());
}

#[test]
fn keys_of_all_forms() {
    let ca = Ca::new();
    for (algorithm, form) in
        [(&rcgen::PKCS_ECDSA_P384_SHA384, "EC"), (&rcgen::PKCS_RSA_SHA256, "RSA")]
    {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let settings = ca.issue_with("form", &["xks.example"], None, &key, |_| {});
        assert!(handshake(&Tls::load(&settings).unwrap(), ca.client(None)).is_ok(), "PKCS#8");
        ca.write("form.key", &traditional(&key, form));
        assert!(handshake(&Tls::load(&settings).unwrap(), ca.client(None)).is_ok(), "{form}");
    }
}

/// SEC1 and PKCS#1 are what PKCS#8 wraps: version, algorithm, key.
fn traditional(key: &KeyPair, form: &str) -> String {
    let mut wrapped =
        certificate::Reader(certificate::Reader(key.serialized_der()).next().unwrap().1);
    let inner = [(); 3].map(|()| wrapped.next().unwrap().1)[2];
    let text = base64::engine::general_purpose::STANDARD.encode(inner);
    format!("-----BEGIN {form} PRIVATE KEY-----\n{text}\n-----END {form} PRIVATE KEY-----\n")
}

#[test]
fn what_cannot_be_served_is_said() {
    let ca = Ca::new();
    let good = ca.issue("a", &["xks.example"], None);
    let told = |settings: &TlsSettings| Tls::load(settings).unwrap_err().to_string();
    let empty = ca.write("empty.pem", "");
    let torn =
        ca.write("torn.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for certificate in [empty.clone(), torn, good.key.clone()] {
        let settings = TlsSettings { certificate, ..good.clone() };
        assert!(told(&settings).contains("is not a PEM file of X.509"), "{}", told(&settings));
    }
    let settings = TlsSettings { certificate: "/nonexistent".into(), ..good.clone() };
    assert!(told(&settings).starts_with("cannot read the certificates /nonexistent"));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for key in [empty, ca.write("encrypted.key", encrypted)] {
        let settings = TlsSettings { key, ..good.clone() };
        assert!(told(&settings).contains("has no private key that is not encrypted"));
    }
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(told(&good).contains("everybody may read"), "{}", told(&good));
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o640)).unwrap();
    let nobody = TlsSettings { client: ca.clients(&[""]), ..good.clone() };
    assert!(told(&nobody).contains("tls.client.subjects is empty"));
    assert!(Tls::load(&good).is_ok());
}

#[test]
fn validity_is_that_of_the_whole_chain_and_its_end_is_announced() {
    let ca = Ca::new();
    let key = KeyPair::generate().unwrap();
    let years = |from, to| {
        move |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        }
    };
    let own = ca.issue_with("own", &["xks.example"], None, &key, years(2020, 2040));
    let above = ca.issue_with("above", &["ca.example"], None, &key, years(2022, 2030));
    let chain = fs::read_to_string(&own.certificate).unwrap()
        + &fs::read_to_string(&above.certificate).unwrap();
    let settings = TlsSettings { certificate: ca.write("chain.pem", &chain), ..own };
    let tls = Tls::load(&settings).unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let end = SystemTime::UNIX_EPOCH + 21_915 * day; // 2030-01-01
    assert_eq!(tls.expires(), end);
    assert_eq!(tls.concerns(end - 11 * day), [""; 0]);
    assert!(
        tls.concerns(end - 9 * day)[0].ends_with("expires on 2030-01-01T00:00:00.000Z: renew it")
    );
    assert!(tls.concerns(end + day)[0].contains("has expired"));
    assert!(tls.concerns(end - 9 * 365 * day)[0].contains("is not valid before 2022-01-01"));
}
