//! From answers that are none to errors: whose fault, and what to do next.

use std::time::Duration;

use twinlock_keys::{HolderError, HolderErrorKind};

use super::body::Answer;
use super::call::{Call, Operation};
use super::misconfigured;
use crate::https::{causes, is_about_tls};
use crate::network::printable;

/// The server said no, or something else answered.
pub(super) fn refused(
    call: &Call<'_>,
    answer: &Answer,
    retry_after: Option<Duration>,
) -> HolderError {
    let errors = answer.errors();
    let kind = match kind_of(call.operation, answer.status, errors.as_deref()) {
        HolderErrorKind::Unavailable { .. } => HolderErrorKind::Unavailable { retry_after },
        kind => kind,
    };
    let error = match kind {
        HolderErrorKind::InvalidCiphertext => call.invalid_ciphertext(),
        HolderErrorKind::Failed => call.failed(&what_else(answer.status)),
        _ => {
            let words = quote(call, kind, errors.as_deref());
            HolderError::new(kind, format!("{}{words}", what_and_next(call, kind)))
        }
    };
    error.with_answer(answer.evidence())
}

/// Of the status, and of the text where the interface has nothing else. The
/// texts are those of `builtin/logical/transit` and `sdk/helper/keysutil`, the
/// same in Vault and in OpenBao but for the last.
fn kind_of(operation: Operation, status: u16, errors: Option<&str>) -> HolderErrorKind {
    use HolderErrorKind as Kind;
    // Sealed (503), standby or lagging nodes (472, 473, 412), quotas (429).
    if matches!(status, 412 | 429 | 472 | 473 | 500..) {
        return Kind::Unavailable { retry_after: None };
    }
    let Some(errors) = errors else { return Kind::Failed };
    let says = |words: &[&str]| words.iter().any(|word| errors.contains(word));
    match (status, operation) {
        (400 | 404, Operation::LogIn) if says(&["no handler for route"]) => Kind::Misconfigured,
        (400..=403, Operation::LogIn) | (401 | 403, _) => Kind::Denied,
        (404, _) => Kind::NotFound,
        (400, _) if says(&["key not found"]) => Kind::NotFound,
        (400, _) if says(&["disallowed by policy", "soft-deleted"]) => Kind::Disabled,
        (400, Operation::Decrypt)
            if says(&["message authentication failed", "invalid ciphertext"]) =>
        {
            Kind::InvalidCiphertext
        }
        (400, _) => Kind::Misconfigured,
        _ => Kind::Failed,
    }
}

fn what_and_next(call: &Call<'_>, kind: HolderErrorKind) -> String {
    let key = call.key;
    match kind {
        HolderErrorKind::Denied if call.operation == Operation::LogIn => format!(
            "Vault did not accept the login for {key}: check the role, its secret id or JWT, and \
             this machine's clock"
        ),
        HolderErrorKind::Denied => format!(
            "Vault denied {call}: log in again if the token is over, else its policy lacks a \
             capability on this path"
        ),
        HolderErrorKind::Disabled => format!(
            "{key} is switched off, or the version that wrapped this is: see `bao read` of it, \
             soft_deleted and min_decryption_version"
        ),
        HolderErrorKind::NotFound => format!(
            "Vault knows no {key}: check the mount, the name and the namespace, or make one with \
             `twinlock keys create`"
        ),
        HolderErrorKind::Misconfigured if call.operation == Operation::LogIn => {
            format!("Vault has no such way to log in for {key}: check where it is mounted")
        }
        HolderErrorKind::Misconfigured => format!(
            "Vault refused {call} as a mistake of ours: the key must be of the type aes256-gcm96 \
             or chacha20-poly1305"
        ),
        _ => format!("Vault is sealed, busy or throttles {call}: try again later"),
    }
}

fn what_else(status: u16) -> String {
    match status {
        300..=399 => {
            format!(
                "the server sent us elsewhere (status {status}), and redirects are not followed"
            )
        }
        _ => format!("an unexpected answer with status {status}"),
    }
}

/// The server's own sentence, unless it could repeat what we sent: that is a
/// share or a credential.
fn quote(call: &Call<'_>, kind: HolderErrorKind, errors: Option<&str>) -> String {
    let wanted = match call.operation {
        Operation::Encrypt => kind == HolderErrorKind::Denied,
        Operation::LogIn => false,
        _ => true,
    };
    match errors.filter(|text| wanted && !text.is_empty() && !text.contains(['{', '[', '"'])) {
        Some(text) => format!(". It says: {}", printable(text)),
        None => String::new(),
    }
}

/// No request left this machine, or no whole answer came.
pub(super) fn not_sent(call: &Call<'_>, error: &reqwest::Error) -> HolderError {
    if error.is_timeout() {
        return call.timed_out();
    }
    if error.is_builder() {
        return misconfigured(format!("could not make a request for {call}: check the address"));
    }
    if is_about_tls(error) {
        return misconfigured(format!(
            "the server for {call} is not trusted, or speaks no TLS: check the address, and name \
             the authority's certificate in VAULT_CACERT or the profile's ca_file ({})",
            causes(error)
        ));
    }
    let message = format!("could not reach Vault for {call}: {}", causes(error));
    HolderError::new(HolderErrorKind::Unavailable { retry_after: None }, message)
}
