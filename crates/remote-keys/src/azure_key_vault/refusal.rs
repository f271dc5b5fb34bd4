//! From the SDK's errors to ours: whose fault, and what to do next.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use azure_core::Error;
use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::{RawResponse, StatusCode};
use serde::Deserialize;
use twinlock_keys::{HolderAnswer, HolderError, HolderErrorKind};

use super::call::{Call, Operation, request_id};
use super::misconfigured;
use super::wire::Busy;
use crate::network::printable;

/// Longest wait that we pass on; a longer one is not a hint but a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

pub(super) fn explain(call: &Call<'_>, error: &Error) -> HolderError {
    match error.kind() {
        ErrorKind::HttpResponse { status, raw_response, .. } => {
            refused(call, *status, raw_response.as_deref())
        }
        ErrorKind::Credential => no_token(call, error),
        ErrorKind::Connection | ErrorKind::Io => unreachable(call, "Azure Key Vault", error),
        ErrorKind::DataConversion => call.failed("the answer was not one of Azure Key Vault"),
        ErrorKind::Other => misconfigured(format!(
            "could not make a request for {call}: check the host and the endpoint"
        )),
    }
}

/// What a vault says when it says no: the API reference has `code` and
/// `message`; the inner code tells the kinds of `Forbidden` apart.
#[derive(Default, Deserialize)]
struct Refusal {
    error: Inner,
}

#[derive(Default, Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(alias = "innerError")]
    innererror: Option<Box<Inner>>,
}

impl Inner {
    /// The most exact code.
    fn code(&self) -> &str {
        let inner = self.innererror.as_ref().map(|inner| inner.code());
        inner.filter(|code| !code.is_empty()).unwrap_or(&self.code)
    }
}

/// The vault said no.
fn refused(call: &Call<'_>, status: StatusCode, raw: Option<&RawResponse>) -> HolderError {
    let body = raw.map_or(&[][..], |raw| raw.body().as_ref());
    let refusal = serde_json::from_slice::<Refusal>(body).unwrap_or_default().error;
    let headers = raw.map(RawResponse::headers);
    let answer = HolderAnswer {
        code: match refusal.code() {
            "" => format!("HTTP {}", u16::from(status)),
            code => printable(code),
        },
        request_id: headers.and_then(request_id),
    };
    let kind = kind_of(call.operation, status, refusal.code(), headers);
    let error = match kind {
        HolderErrorKind::InvalidCiphertext => call.invalid_ciphertext(),
        _ => {
            let quote = quote(call, kind, &refusal.message);
            HolderError::new(kind, format!("{}{quote}", what_and_next(call, kind, status)))
        }
    };
    error.with_answer(answer)
}

/// By status, as the API documents it ("Azure Key Vault REST API error
/// codes"), and by code for what a vault calls `Forbidden`. A status without a
/// code is not a vault's.
fn kind_of(
    operation: Operation,
    status: StatusCode,
    code: &str,
    headers: Option<&Headers>,
) -> HolderErrorKind {
    use HolderErrorKind as Kind;
    match u16::from(status) {
        401 => Kind::Denied,
        408 | 429 | 500.. => Kind::Unavailable { retry_after: headers.and_then(retry_after) },
        _ if code.is_empty() => Kind::Failed,
        400 if operation == Operation::UnwrapKey => Kind::InvalidCiphertext,
        400 | 409 => Kind::Misconfigured,
        403 if is_about_state(code) => Kind::Disabled,
        403 => Kind::Denied,
        404 => Kind::NotFound,
        _ => Kind::Failed,
    }
}

fn is_about_state(code: &str) -> bool {
    matches!(code, "KeyDisabled" | "KeyExpired" | "KeyNotYetValid" | "KeyNotYetValidOrExpired")
}

fn what_and_next(call: &Call<'_>, kind: HolderErrorKind, status: StatusCode) -> String {
    let key = call.key;
    match kind {
        HolderErrorKind::Denied if status == StatusCode::Unauthorized => format!(
            "Azure Key Vault did not accept the credential for {call}: it must be of the vault's \
             tenant and not expired (az login, a new client secret); check this machine's clock"
        ),
        HolderErrorKind::Denied => format!(
            "Azure Key Vault denied {call}: the caller needs {} on this key, from a role as \
             `Key Vault Crypto User` or an access policy, and the vault's firewall must let it in",
            call.operation.permission()
        ),
        HolderErrorKind::Disabled => format!(
            "{key} is disabled, expired or not yet valid: see `az keyvault key show`, then `az \
             keyvault key set-attributes --enabled true`"
        ),
        HolderErrorKind::NotFound => format!(
            "Azure Key Vault knows no {key}: check the vault and the spelling, and `az keyvault \
             key list-deleted`"
        ),
        HolderErrorKind::Misconfigured => format!(
            "Azure Key Vault refused {call} as a mistake of ours: the key must be an RSA key or an \
             AES-256 key of a Managed HSM, and allow wrapKey and unwrapKey"
        ),
        HolderErrorKind::Unavailable { .. } => {
            format!("Azure Key Vault is busy or throttles {call}: try again later")
        }
        _ => format!("Azure Key Vault answered {call} in an unexpected way: check the host"),
    }
}

/// Azure's own sentence, which names the caller and what is missing. What
/// follows a complaint about the input of `wrapKey` is left out, since that
/// input is a share.
fn quote(call: &Call<'_>, kind: HolderErrorKind, message: &str) -> String {
    let wanted = match kind {
        HolderErrorKind::Denied | HolderErrorKind::Disabled | HolderErrorKind::NotFound => true,
        HolderErrorKind::Misconfigured => call.operation != Operation::WrapKey,
        _ => false,
    };
    match quotable(message).filter(|text| wanted && !text.is_empty()) {
        Some(text) => format!(". Azure says: {}", text.trim_end()),
        None => String::new(),
    }
}

/// `retry-after-ms` and `x-ms-retry-after-ms` are in milliseconds,
/// `retry-after` (RFC 9110 section 10.2.3) in seconds; its form as a date is
/// not used by Azure.
pub(super) fn retry_after(headers: &Headers) -> Option<Duration> {
    let number = |name| {
        let value = headers.get_optional_str(&HeaderName::from_static(name))?;
        value.trim().parse::<u64>().ok()
    };
    let millis = number("retry-after-ms").or_else(|| number("x-ms-retry-after-ms"));
    let wait = millis
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))?;
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Whoever gives tokens gave none.
fn no_token(call: &Call<'_>, error: &Error) -> HolderError {
    if let Some(busy) = find::<Busy>(error) {
        let kind = HolderErrorKind::Unavailable { retry_after: busy.retry_after };
        let message = format!(
            "whoever gives the Azure token for {call} is busy or throttles ({busy}): try again \
             later"
        );
        return HolderError::new(kind, message);
    }
    let refusal = chain(error).find_map(|cause| match cause.downcast_ref::<Error>()?.kind() {
        ErrorKind::HttpResponse { status, error_code, .. } => Some((*status, error_code)),
        _ => None,
    });
    if let Some((status, codes)) = refusal {
        return token_refused(call, status, codes.as_deref());
    }
    if find::<reqwest::Error>(error).is_some() {
        return unreachable(call, "whoever gives the Azure token", error);
    }
    if is_garbled(error) {
        return HolderError::new(
            HolderErrorKind::Failed,
            format!(
                "whoever gives the Azure token for {call} answered in an unexpected way: check the \
                 authority (AZURE_AUTHORITY_HOST)"
            ),
        );
    }
    misconfigured(format!(
        "found no Azure credential for {call}: set AZURE_TENANT_ID, AZURE_CLIENT_ID and \
         AZURE_CLIENT_SECRET, or run `az login` ({})",
        causes(error)
    ))
}

fn is_garbled(error: &Error) -> bool {
    chain(error)
        .filter_map(|cause| cause.downcast_ref::<Error>())
        .any(|cause| *cause.kind() == ErrorKind::DataConversion)
}

/// Entra ID's codes are numbers that Microsoft documents as `AADSTS…`. Its
/// sentences may repeat what was sent, which was a secret.
fn token_refused(call: &Call<'_>, status: StatusCode, codes: Option<&str>) -> HolderError {
    let is_number = |codes: &&str| codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
    let code = match codes.filter(is_number).and_then(|codes| codes.split(',').next()) {
        Some(code) => printable(&format!("AADSTS{code}")),
        None => format!("HTTP {}", u16::from(status)),
    };
    let message = format!(
        "Entra ID gave no token for {call}: check tenant, client id and client secret or \
         federated token, and this machine's clock"
    );
    HolderError::new(HolderErrorKind::Denied, message).with_answer(HolderAnswer::code(code))
}

/// No request left this machine, or no answer came.
fn unreachable(call: &Call<'_>, whom: &str, error: &Error) -> HolderError {
    if is_about_tls(error) {
        return misconfigured(format!(
            "does not trust {whom} for {call}: {}. Check the host, this machine's clock, and its \
             certificates",
            causes(error)
        ));
    }
    HolderError::new(
        HolderErrorKind::Unavailable { retry_after: None },
        format!("could not reach {whom} for {call}: {}", causes(error)),
    )
}

/// What rustls finds wrong with the other side arrives as invalid data, often
/// inside another I/O error; what the network does to a connection has other
/// kinds.
fn is_about_tls(error: &Error) -> bool {
    let is_invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
    find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_connect)
        && chain(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .flat_map(|outer| std::iter::successors(Some(outer), |error| inner(error)))
            .any(is_invalid)
}

/// The I/O error that one was made of: `source` skips it.
fn inner(error: &io::Error) -> Option<&io::Error> {
    error.get_ref()?.downcast_ref()
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

/// What the libraries say about it, from the outside in.
pub(super) fn causes(error: &(dyn StdError + 'static)) -> String {
    let texts: Vec<String> =
        chain(error).filter_map(|cause| quotable(&cause.to_string())).collect();
    texts.join(": ")
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// A text of the SDK's or Azure's, unless a structure is printed in it.
fn quotable(text: &str) -> Option<String> {
    (!text.contains(['{', '[', '"'])).then(|| printable(text))
}
