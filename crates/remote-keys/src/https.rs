//! What holders do alike that speak HTTPS without a cloud's SDK.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;
use reqwest::header::{HeaderMap, HeaderValue};
use twinlock_keys::{HolderError, HolderErrorKind};

use crate::network::printable;

/// Longest wait that we pass on; a longer one is not a hint but a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The certificates in a file of them in PEM.
pub(crate) fn authorities(path: &Path) -> Result<Vec<Certificate>, HolderError> {
    let place = path.display();
    let pem = std::fs::read(path).map_err(|error| {
        misconfigured(format!("cannot read the certificates in {place}: {error}"))
    })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(misconfigured(format!("{place} holds no certificates in PEM"))),
    }
}

/// A header that holds a token.
pub(crate) fn secret_header(text: &str) -> Result<HeaderValue, HolderError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| misconfigured("the token cannot be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3), as quotas give it.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// True if a connection was made, and the handshake on it refused: rustls gives
/// what is wrong with the other side's messages as invalid data.
pub(crate) fn is_about_tls(error: &(dyn Error + 'static)) -> bool {
    fn refused(cause: &(dyn Error + 'static)) -> bool {
        let Some(cause) = cause.downcast_ref::<io::Error>() else { return false };
        let wrapped = cause.get_ref().map(|inner| inner as &(dyn Error + 'static));
        cause.kind() == io::ErrorKind::InvalidData || wrapped.is_some_and(refused)
    }
    chain(error).any(refused)
}

/// What the libraries say about it, from the outside in.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = chain(error).map(|cause| printable(&cause.to_string())).collect();
    texts.join(": ")
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}
