//! From the SDK's errors to ours: whose fault, and what to do next.

use std::error::Error as StdError;
use std::time::Duration;

use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::rpc::{Code, Status, StatusDetails};
use google_cloud_kms_v1::Error;
use twinlock_keys::{HolderAnswer, HolderError, HolderErrorKind};

use super::call::{Call, Failed, Operation};
use super::client::misconfigured;
use crate::network::printable;

/// Longest wait that we pass on; a longer one is not a hint but a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

pub(super) fn explain(call: &Call<'_>, error: &Error) -> Failed {
    if let Some(status) = error.status() {
        return refused(call, error, status);
    }
    if let Some(http) = error.http_status_code() {
        return not_of_google(call, error, http).into();
    }
    if error.is_timeout() {
        return call.timed_out().into();
    }
    if error.is_deserialization() {
        // The SDK's own words would repeat the answer.
        return call.failed("the answer was not one of Google Cloud KMS").into();
    }
    not_sent(call, error).into()
}

/// Google said no.
fn refused(call: &Call<'_>, error: &Error, status: &Status) -> Failed {
    if is_checksum_refusal(status) {
        let failed = call.corrupted("what was sent arrived with a wrong checksum");
        return failed.with_answer(answer(status));
    }
    let kind = kind_of(call, error, status);
    let refusal = match kind {
        HolderErrorKind::InvalidCiphertext => call.invalid_ciphertext(),
        HolderErrorKind::TimedOut => call.timed_out(),
        _ => {
            let text = format!("{}{}", what_and_next(call, kind, status), quote(call, status));
            HolderError::new(kind, text)
        }
    };
    refusal.with_answer(answer(status)).into()
}

/// The codes of `google.rpc.Code`, as Cloud KMS uses them.
fn kind_of(call: &Call<'_>, error: &Error, status: &Status) -> HolderErrorKind {
    use HolderErrorKind as Kind;
    let unavailable = || Kind::Unavailable { retry_after: retry_after(error, Some(status)) };
    match status.code {
        Code::PermissionDenied | Code::Unauthenticated => Kind::Denied,
        Code::NotFound => Kind::NotFound,
        Code::FailedPrecondition if is_about_state(status) => Kind::Disabled,
        Code::InvalidArgument if call.operation == Operation::Decrypt => Kind::InvalidCiphertext,
        Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::OutOfRange
        | Code::Unimplemented => Kind::Misconfigured,
        Code::DeadlineExceeded => Kind::TimedOut,
        Code::Aborted | Code::Cancelled | Code::Internal | Code::ResourceExhausted => unavailable(),
        Code::Unavailable => unavailable(),
        _ if error.http_status_code().is_some_and(is_passing) => unavailable(),
        _ => Kind::Failed,
    }
}

/// `CryptoKeyVersionState` other than `ENABLED`.
fn is_about_state(status: &Status) -> bool {
    let said = ["is not enabled", "DISABLED", "DESTROY", "PENDING_", "IMPORT_FAILED"];
    let violated = status.details.iter().any(|detail| match detail {
        StatusDetails::PreconditionFailure(failure) => {
            failure.violations.iter().any(|violation| violation.r#type.starts_with("KEY_"))
        }
        _ => false,
    });
    violated || said.iter().any(|word| status.message.contains(word))
}

/// Google recomputes the checksums of what it receives.
fn is_checksum_refusal(status: &Status) -> bool {
    status.code == Code::InvalidArgument && status.message.to_lowercase().contains("crc32c")
}

fn what_and_next(call: &Call<'_>, kind: HolderErrorKind, status: &Status) -> String {
    let key = call.key;
    match kind {
        HolderErrorKind::Denied if status.code == Code::PermissionDenied => format!(
            "Google Cloud KMS denied {call}: the caller needs {} on this key, or the key does not \
             exist",
            call.operation.permission()
        ),
        HolderErrorKind::Denied => format!(
            "Google Cloud KMS did not accept the credentials for {call}: renew them (`gcloud auth \
             application-default login`, a new key file), and check this machine's clock"
        ),
        HolderErrorKind::Disabled => format!(
            "the version of {key} is disabled, destroyed or not ready: see `gcloud kms keys \
             versions list`, then enable or restore it"
        ),
        HolderErrorKind::NotFound => format!(
            "Google Cloud KMS knows no {key}: check the project, the location, the key ring and \
             the spelling"
        ),
        HolderErrorKind::Misconfigured if status.code == Code::AlreadyExists => {
            format!("{key} exists")
        }
        HolderErrorKind::Misconfigured => format!(
            "Google Cloud KMS refused {call}: the key's purpose must be ENCRYPT_DECRYPT, and the \
             API enabled in its project"
        ),
        HolderErrorKind::Unavailable { .. } => {
            format!("Google Cloud KMS is busy or throttles {call}: try again later")
        }
        _ => format!("Google Cloud KMS answered {call} in an unexpected way: check the endpoint"),
    }
}

/// Google's own sentence, which names the principal and the missing permission.
/// What follows a complaint about the input of `Encrypt` is left out, since
/// that input is a share.
fn quote(call: &Call<'_>, status: &Status) -> String {
    let wanted = match status.code {
        Code::FailedPrecondition
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated => true,
        Code::InvalidArgument => call.operation != Operation::Encrypt,
        _ => false,
    };
    match quotable(&status.message).filter(|text| wanted && !text.is_empty()) {
        Some(text) => format!(". Google says: {text}"),
        None => String::new(),
    }
}

fn answer(status: &Status) -> HolderAnswer {
    let request_id = status.details.iter().find_map(|detail| match detail {
        StatusDetails::RequestInfo(info) => Some(printable(&info.request_id)),
        _ => None,
    });
    HolderAnswer { code: status.code.name().to_owned(), request_id }
}

/// `google.rpc.RetryInfo`, else `retry-after` in seconds (RFC 9110 section
/// 10.2.3); its form as a date is not used by Google.
fn retry_after(error: &Error, status: Option<&Status>) -> Option<Duration> {
    let details = status.map_or(&[][..], |status| &status.details);
    let told = details.iter().find_map(|detail| match detail {
        StatusDetails::RetryInfo(info) => Duration::try_from(info.retry_delay?).ok(),
        _ => None,
    });
    let header = || {
        let value = error.http_headers()?.get("retry-after")?;
        Some(Duration::from_secs(value.to_str().ok()?.trim().parse().ok()?))
    };
    told.or_else(header).map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// An answer in another form than Google's: of a proxy, a load balancer, or
/// something else altogether.
fn not_of_google(call: &Call<'_>, error: &Error, http: u16) -> HolderError {
    let refusal = match is_passing(http) {
        true => HolderError::new(
            HolderErrorKind::Unavailable { retry_after: retry_after(error, None) },
            format!("what stands before Google Cloud KMS failed {call}: try again later"),
        ),
        false => call.failed("the answer was not one of Google Cloud KMS"),
    };
    refusal.with_answer(HolderAnswer::code(format!("HTTP {http}")))
}

/// True for what a server says when it cannot do it now.
fn is_passing(http: u16) -> bool {
    http == 429 || (500..600).contains(&http)
}

/// No request left this machine, or no answer came.
fn not_sent(call: &Call<'_>, error: &Error) -> HolderError {
    let causes = causes(error);
    if is_about_trust(&causes) {
        return misconfigured(format!(
            "refused {call}: the certificate of the endpoint is not trusted ({causes}). Check the \
             endpoint, and that this machine trusts its authority"
        ));
    }
    if error.is_connect() || error.is_io() {
        return unavailable(format!("could not reach Google Cloud KMS for {call}: {causes}"));
    }
    misconfigured(format!("could not make a request for {call}: check the endpoint ({causes})"))
}

/// No token. The SDK fetches it from Google, from whom the file of credentials
/// names, or from the metadata server of this machine.
pub(super) fn no_credentials(call: &Call<'_>, error: &CredentialsError) -> HolderError {
    let causes = causes(error);
    if is_about_trust(&causes) {
        return misconfigured(format!(
            "the certificate of whoever gives the Google credentials for {call} is not trusted: \
             {causes}"
        ));
    }
    if causes.contains("HTTP status client error") && !error.is_transient() {
        let message = format!(
            "the Google credentials for {call} were not accepted: renew them (`gcloud auth \
             application-default login`, a new key file), and check this machine's clock \
             ({causes})"
        );
        return HolderError::new(HolderErrorKind::Denied, message);
    }
    if error.is_transient() {
        return unavailable(format!(
            "could not get Google credentials for {call}: {causes}. Check the network, or run \
             `gcloud auth application-default login` if there are none"
        ));
    }
    misconfigured(format!(
        "found no usable Google credentials for {call}: run `gcloud auth application-default \
         login`, or name a file of credentials ({causes})"
    ))
}

/// rustls says so in words that its types do not carry through the layers
/// above it.
fn is_about_trust(causes: &str) -> bool {
    causes.contains("invalid peer certificate")
}

/// What the SDK says about it, from the outside in.
pub(super) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |&cause| cause.source()) {
        let text = quotable(&cause.to_string()).unwrap_or_default();
        // Many of them repeat what is below them.
        let repeated = texts.iter().any(|outer| outer.contains(&text));
        if !repeated {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// A text of the SDK's or Google's, unless a structure is printed in it, which
/// might be a request or an answer, body and all.
fn quotable(text: &str) -> Option<String> {
    (!text.contains(['{', '[', '"'])).then(|| printable(text))
}

fn unavailable(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Unavailable { retry_after: None }, message)
}
