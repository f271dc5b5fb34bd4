//! From answers that are none to errors: whose fault, and what to do next.

use twinlock_keys::{HolderError, HolderErrorKind};

use super::call::{Call, Operation};
use super::client::Answer;
use super::{misconfigured, wire};
use crate::https::{causes, is_about_tls};

/// What `twinlock-dke` calls a key that is switched off, and a caller who is not
/// among those who may. The protocol has no word for either.
const DISABLED: &str = "key_disabled";
const FORBIDDEN: &str = "forbidden";

/// True for a service that is throttling, starting, broken, or that lost one
/// that it needs.
pub(super) fn is_busy(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// The service said no, or something else answered. The body is never quoted: it
/// may repeat what we sent, and some services put their exceptions into it.
pub(super) fn refused(call: &Call<'_>, answer: &Answer) -> HolderError {
    let Answer { status, retry_after, .. } = *answer;
    let subject = call.subject;
    let error = match (status, call.operation) {
        (status, _) if is_busy(status) => HolderError::new(
            HolderErrorKind::Unavailable { retry_after },
            format!("the service of {subject} is busy or fails: try again later"),
        ),
        (401, Operation::Decrypt) => denied(format!(
            "the service of {subject} did not accept the token: log in again (`twinlock login`) or \
             get a new one, and check that it is for this service (its audience) and that this \
             machine's clock is right"
        )),
        (403, Operation::Decrypt) if wire::is_error(&answer.body, DISABLED) => HolderError::new(
            HolderErrorKind::Disabled,
            format!("{subject} is switched off: ask whoever keeps it"),
        ),
        (403, Operation::Decrypt) if wire::is_error(&answer.body, FORBIDDEN) => denied(format!(
            "the service says that you may not decrypt with {subject}: ask whoever keeps it, or \
             log in as somebody who may"
        )),
        (403, Operation::Decrypt) => denied(format!(
            "the service says that you may not decrypt with {subject}, or the key is switched off: \
             ask whoever keeps it"
        )),
        (401 | 403, _) => denied(format!("not allowed to {call}: ask whoever keeps the key")),
        (400 | 404, _) => HolderError::new(
            HolderErrorKind::NotFound,
            format!(
                "the service knows no {subject}, or it is switched off: check host, prefix and \
                 name, in which upper and lower case differ, or ask whoever keeps it"
            ),
        ),
        (300..=399, _) => call.failed(&format!(
            "the service sent us elsewhere (status {status}), and redirects are not followed: \
             correct the key's host and prefix"
        )),
        _ => call.failed(&format!("an unexpected answer with status {status}")),
    };
    error.with_answer(answer.evidence())
}

fn denied(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Denied, message)
}

/// No request left this machine, or no whole answer came.
pub(super) fn not_sent(call: &Call<'_>, error: &reqwest::Error) -> HolderError {
    if error.is_timeout() {
        return call.timed_out();
    }
    if error.is_builder() {
        return misconfigured(format!("could not make a request to {call}: check the address"));
    }
    if is_about_tls(error) {
        return misconfigured(format!(
            "the server is not trusted, or speaks no TLS ({call}): check the host, and name the \
             authority's certificate as ca_file in the profile's [dke] ({})",
            causes(error)
        ));
    }
    let message = format!("could not reach the service to {call}: {}", causes(error));
    HolderError::new(HolderErrorKind::Unavailable { retry_after: None }, message)
}
