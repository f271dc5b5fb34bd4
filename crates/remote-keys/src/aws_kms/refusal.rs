//! From the SDK's errors to ours: whose fault, and what to do next.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use twinlock_keys::{HolderAnswer, HolderError, HolderErrorKind};

use super::call::{Call, Operation};
use super::client::PlainHttp;
use crate::network::printable;

/// Longest wait that we pass on; a longer one is not a hint but a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

pub(super) fn explain<E>(call: &Call<'_>, error: &SdkError<E, HttpResponse>) -> HolderError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(refusal) => refused(call, refusal.err(), refusal.raw()),
        SdkError::ResponseError(garbled) => {
            let answer = answer(None, garbled.raw());
            call.failed("the answer was not one of AWS KMS").with_answer(answer)
        }
        SdkError::TimeoutError(_) => call.timed_out(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => call.timed_out(),
        _ => not_sent(call, error),
    }
}

/// KMS said no.
fn refused(call: &Call<'_>, error: &impl ProvideErrorMetadata, raw: &HttpResponse) -> HolderError {
    let of_key_store = kind_of_key_store(error, raw);
    let kind = of_key_store.unwrap_or_else(|| kind_of(error.code(), raw));
    let message = match kind {
        HolderErrorKind::InvalidCiphertext => return invalid(call, error, raw),
        _ if of_key_store.is_some() => {
            let text = error.message().and_then(quotable).unwrap_or_default();
            format!("the external key store of {} did not serve {call}. AWS says: {text}", call.key)
        }
        _ => format!("{}{}", what_and_next(call, kind, error.code()), quote(call, kind, error)),
    };
    HolderError::new(kind, message).with_answer(answer(error.code(), raw))
}

fn invalid(call: &Call<'_>, error: &impl ProvideErrorMetadata, raw: &HttpResponse) -> HolderError {
    call.invalid_ciphertext().with_answer(answer(error.code(), raw))
}

/// The codes of the KMS API reference ("Errors" of each operation, and "Common
/// Errors").
fn kind_of(code: Option<&str>, raw: &HttpResponse) -> HolderErrorKind {
    use HolderErrorKind as Kind;
    match code.unwrap_or_default() {
        "AccessDenied"
        | "AccessDeniedException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidGrantTokenException"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "NotAuthorizedException"
        | "OptInRequired"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Kind::Denied,
        "DisabledException" | "KMSInvalidStateException" => Kind::Disabled,
        "IncorrectKeyException" | "InvalidCiphertextException" => Kind::InvalidCiphertext,
        "AlreadyExistsException"
        | "InvalidAliasNameException"
        | "InvalidArnException"
        | "InvalidKeyUsageException"
        | "LimitExceededException"
        | "UnsupportedOperationException"
        | "ValidationError"
        | "ValidationException" => Kind::Misconfigured,
        "NotFoundException" => Kind::NotFound,
        "DependencyTimeoutException"
        | "InternalFailure"
        | "KMSInternalException"
        | "KeyUnavailableException"
        | "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException" => Kind::Unavailable { retry_after: retry_after(raw) },
        _ if raw.status().is_server_error() || raw.status().as_u16() == 429 => {
            Kind::Unavailable { retry_after: retry_after(raw) }
        }
        _ => Kind::Failed,
    }
}

/// Whatever goes wrong with a key in an external key store has the code of a key
/// that is not ready, and only the sentence says what it was ("Troubleshooting
/// external key stores" in the KMS developer guide).
fn kind_of_key_store(
    error: &impl ProvideErrorMetadata,
    raw: &HttpResponse,
) -> Option<HolderErrorKind> {
    const PASSING: [&str; 4] =
        ["did not respond", "cannot communicate", "unhealthy state", "very high request rate"];
    let message = error.message().filter(|text| text.contains("external key store proxy"))?;
    if error.code() != Some("KMSInvalidStateException") {
        return None;
    }
    Some(match message {
        _ if PASSING.iter().any(|words| message.contains(words)) => {
            HolderErrorKind::Unavailable { retry_after: retry_after(raw) }
        }
        _ if message.contains("ciphertext") && message.contains("invalid") => {
            HolderErrorKind::InvalidCiphertext
        }
        _ if message.contains("denied access") => HolderErrorKind::Denied,
        _ if message.contains("could not find") => HolderErrorKind::NotFound,
        _ => HolderErrorKind::Disabled,
    })
}

fn what_and_next(call: &Call<'_>, kind: HolderErrorKind, code: Option<&str>) -> String {
    let (operation, key) = (call.operation.name(), call.key);
    match kind {
        HolderErrorKind::Denied if is_about_permission(code) => format!(
            "AWS KMS denied {call}: the caller needs kms:{operation} on this key, from its IAM \
             policy, the key policy or a grant"
        ),
        HolderErrorKind::Denied => format!(
            "AWS KMS did not accept the credentials for {call}: renew them (aws sso login, new \
             access keys), and check this machine's clock"
        ),
        HolderErrorKind::Disabled => format!(
            "{key} is disabled, pending deletion or not ready: see `aws kms describe-key`, then \
             `aws kms enable-key` or `aws kms cancel-key-deletion`"
        ),
        HolderErrorKind::NotFound => {
            format!("AWS KMS knows no {key}: check the region, the account and the spelling")
        }
        HolderErrorKind::Misconfigured => format!(
            "AWS KMS refused {call} as a mistake of ours: the key must be a symmetric encryption \
             key, and the encryption context at most 8 KiB"
        ),
        HolderErrorKind::Unavailable { .. } => {
            format!("AWS KMS is busy or throttles {call}: try again later")
        }
        _ => format!("AWS KMS answered {call} in an unexpected way: check the endpoint"),
    }
}

fn is_about_permission(code: Option<&str>) -> bool {
    matches!(
        code,
        Some("AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "NotAuthorizedException")
    )
}

/// AWS's own sentence, which names the principal and the missing permission.
/// What follows a complaint about the input of `Encrypt` is left out, since
/// that input is a share.
fn quote(call: &Call<'_>, kind: HolderErrorKind, error: &impl ProvideErrorMetadata) -> String {
    let wanted = match kind {
        HolderErrorKind::Denied | HolderErrorKind::Disabled | HolderErrorKind::NotFound => true,
        HolderErrorKind::Misconfigured => call.operation != Operation::Encrypt,
        _ => false,
    };
    match error.message().filter(|_| wanted).and_then(quotable) {
        Some(text) => format!(". AWS says: {text}"),
        None => String::new(),
    }
}

fn answer(code: Option<&str>, raw: &HttpResponse) -> HolderAnswer {
    let status = || format!("HTTP {}", raw.status().as_u16());
    HolderAnswer {
        code: code.map_or_else(status, printable),
        request_id: raw.headers().get("x-amzn-requestid").map(printable),
    }
}

/// `x-amz-retry-after` is in milliseconds, `retry-after` (RFC 9110 section
/// 10.2.3) in seconds; its form as a date is not used by AWS.
fn retry_after(raw: &HttpResponse) -> Option<Duration> {
    let number = |name| raw.headers().get(name)?.trim().parse::<u64>().ok();
    let millis = number("x-amz-retry-after").map(Duration::from_millis);
    let wait = millis.or_else(|| number("retry-after").map(Duration::from_secs))?;
    Some(wait.min(MAX_RETRY_AFTER))
}

/// No request left this machine, or no answer came.
fn not_sent<E>(call: &Call<'_>, error: &SdkError<E, HttpResponse>) -> HolderError
where
    E: Error + 'static,
{
    if let Some(next) = find::<PlainHttp>(error) {
        return misconfigured(format!(
            "refused to send {call} over plain HTTP, where a share can be read: {next}"
        ));
    }
    if let Some(credentials) = find::<CredentialsError>(error) {
        return no_credentials(call, credentials);
    }
    if is_about_tls(error) {
        return misconfigured(format!(
            "the server for {call} is not trusted, or speaks no TLS: check the endpoint and this \
             machine's root certificates ({})",
            causes(error)
        ));
    }
    match find::<ConnectorError>(error).filter(|failure| is_passing(failure)) {
        Some(failure) => {
            unavailable(format!("could not reach AWS KMS for {call}: {}", causes(failure)))
        }
        None => misconfigured(format!(
            "could not make a request for {call}, or what answered does not speak HTTP: check the \
             region and the endpoint (AWS_ENDPOINT_URL_KMS, the profile's endpoint_url)"
        )),
    }
}

fn no_credentials(call: &Call<'_>, error: &CredentialsError) -> HolderError {
    let timed_out = matches!(error, CredentialsError::ProviderTimedOut(_));
    if timed_out || find::<ConnectorError>(error).is_some_and(is_passing) {
        return unavailable(format!(
            "could not reach whoever gives the AWS credentials for {call}: {}",
            causes(error)
        ));
    }
    misconfigured(format!(
        "found no AWS credentials for {call}: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY, or run `aws sso login` ({})",
        causes(error)
    ))
}

/// True for what the network does to a request, false for one that could not
/// be made.
fn is_passing(failure: &ConnectorError) -> bool {
    failure.is_io() || failure.is_timeout() || failure.as_other().is_some()
}

/// True if a connection was made, and the handshake on it refused: rustls gives
/// what is wrong with the other side's messages as invalid data.
fn is_about_tls(error: &(dyn Error + 'static)) -> bool {
    fn refused(cause: &(dyn Error + 'static)) -> bool {
        let Some(cause) = cause.downcast_ref::<std::io::Error>() else { return false };
        let wrapped = cause.get_ref().map(|inner| inner as &(dyn Error + 'static));
        cause.kind() == std::io::ErrorKind::InvalidData || wrapped.is_some_and(refused)
    }
    chain(error).any(refused)
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// What the SDK says about it, from the outside in.
fn causes(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> =
        chain(error).filter_map(|cause| quotable(&cause.to_string())).collect();
    texts.join(": ")
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// A text of the SDK's or AWS's, unless a structure is printed in it: some of
/// the SDK's messages hold a whole request, body and all.
fn quotable(text: &str) -> Option<String> {
    (!text.contains(['{', '[', '"'])).then(|| printable(text))
}

fn unavailable(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Unavailable { retry_after: None }, message)
}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}
