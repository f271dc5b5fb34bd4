//! Which clients' certificates are good: signed by one of our CAs, and of one of
//! our subjects.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificate::Facts;

/// Verifies the chain as rustls does, and whose it is.
///
/// Whatever is wrong, the client gets the alert `handshake_failure`: which of
/// chain and subject it was is for our log and not for strangers. A client that
/// has no certificate at all gets rustls' `certificate_required`.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    subjects: Vec<String>,
}

impl ClientVerifier {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, subjects: &[String]) -> Self {
        Self { chain, subjects: subjects.to_vec() }
    }
}

/// Which of these subjects a certificate is of: its common name, or one of its
/// DNS names.
pub(super) fn subject_of(certificate: &[u8], subjects: &[String]) -> Option<String> {
    let facts = Facts::of(certificate)?;
    facts.names().find(|name| is_one_of(name, subjects)).cloned()
}

fn is_one_of(name: &str, subjects: &[String]) -> bool {
    subjects.iter().any(|subject| !subject.is_empty() && subject.eq_ignore_ascii_case(name))
}

impl ClientCertVerifier for ClientVerifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)
            // Of this kind, for rustls sends `handshake_failure` for it.
            .map_err(|error| Error::General(format!("the client's certificate: {error}")))?;
        let facts = Facts::of(end_entity)
            .ok_or_else(|| Error::General("the client's certificate is malformed".to_owned()))?;
        match facts.names().any(|name| is_one_of(name, &self.subjects)) {
            true => Ok(verified),
            false => Err(Error::General(format!(
                "the client's certificate is of {:?} and {:?}, not of a configured subject",
                facts.common_names, facts.dns_names
            ))),
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
