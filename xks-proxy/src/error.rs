//! What KMS is told when a request cannot be answered (section "Error codes").

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use serde::Serialize;

/// The longest `errorMessage`, in characters: "less than 512".
pub const MAX_MESSAGE_LEN: usize = 511;

/// The names that the specification has for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorName {
    /// The policy denies the request. Never for health.
    AccessDenied,
    /// No valid SigV4 signature of a credential of this key store.
    AuthenticationFailed,
    /// The HSM did not answer in time.
    DependencyTimeout,
    /// The HSM, or something else behind the proxy, failed.
    Internal,
    /// Decrypt only: ciphertext, metadata, IV, tag or AAD are not what Encrypt
    /// returned or was given.
    InvalidCiphertext,
    /// Encrypt and Decrypt only: the key may not be used for this operation.
    InvalidKeyUsage,
    /// The external key or its key store is switched off.
    InvalidState,
    /// No operation is served under this path.
    InvalidUriPath,
    /// There is no such external key in this key store. Never for health.
    KeyNotFound,
    /// The proxy has too much to do, or this key store used up its quota.
    Throttling,
    /// A value is larger than this proxy takes.
    UnsupportedOperation,
    /// A parameter is missing or wrong.
    Validation,
}

impl ErrorName {
    /// Each of them once.
    pub const ALL: [Self; 12] = [
        Self::AccessDenied,
        Self::AuthenticationFailed,
        Self::DependencyTimeout,
        Self::Internal,
        Self::InvalidCiphertext,
        Self::InvalidKeyUsage,
        Self::InvalidState,
        Self::InvalidUriPath,
        Self::KeyNotFound,
        Self::Throttling,
        Self::UnsupportedOperation,
        Self::Validation,
    ];

    /// The value of `errorName`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The status of the HTTP response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// The specification's table.
    fn row(self) -> (&'static str, StatusCode) {
        match self {
            Self::AccessDenied => ("AccessDeniedException", StatusCode::FORBIDDEN),
            Self::AuthenticationFailed => {
                ("AuthenticationFailedException", StatusCode::UNAUTHORIZED)
            }
            Self::DependencyTimeout => {
                ("DependencyTimeoutException", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Internal => ("InternalException", StatusCode::INTERNAL_SERVER_ERROR),
            Self::InvalidCiphertext => ("InvalidCiphertextException", StatusCode::BAD_REQUEST),
            Self::InvalidKeyUsage => ("InvalidKeyUsageException", StatusCode::BAD_REQUEST),
            Self::InvalidState => ("InvalidStateException", StatusCode::BAD_REQUEST),
            Self::InvalidUriPath => ("InvalidUriPathException", StatusCode::NOT_FOUND),
            Self::KeyNotFound => ("KeyNotFoundException", StatusCode::NOT_FOUND),
            Self::Throttling => ("ThrottlingException", StatusCode::TOO_MANY_REQUESTS),
            Self::UnsupportedOperation => {
                ("UnsupportedOperationException", StatusCode::NOT_IMPLEMENTED)
            }
            Self::Validation => ("ValidationException", StatusCode::BAD_REQUEST),
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An answer that is an error: a name for KMS and a sentence for people.
///
/// KMS writes the sentence to the log of the calling account, so it helps there
/// and holds neither secrets nor data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct XksError {
    name: ErrorName,
    message: Cow<'static, str>,
}

impl XksError {
    /// An error with a sentence. What the specification does not let through
    /// becomes a question mark, and what is too long is cut.
    #[must_use]
    pub fn new(name: ErrorName, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        let message = if is_sendable(&message) { message } else { sendable(&message).into() };
        Self { name, message }
    }

    /// What it is to KMS.
    #[must_use]
    pub fn name(&self) -> ErrorName {
        self.name
    }

    /// The status of the HTTP response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.name.status()
    }

    /// The sentence for people: printable ASCII, less than 512 characters.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body of the response: one line of JSON, without which KMS only says
    /// that it cannot interpret the answer.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let body = Body { error_name: self.name.as_str(), error_message: &self.message };
        serde_json::to_vec(&body).expect("two strings become JSON")
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    error_name: &'static str,
    error_message: &'a str,
}

fn is_sendable(message: &str) -> bool {
    message.len() <= MAX_MESSAGE_LEN && message.chars().all(is_printable)
}

fn sendable(message: &str) -> String {
    let printable = message.chars().map(|it| if is_printable(it) { it } else { '?' });
    printable.take(MAX_MESSAGE_LEN).collect()
}

fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Section "Error codes": the table.
    #[test]
    fn names_and_statuses_are_those_of_the_specification() {
        let table = ErrorName::ALL.map(|name| (name.as_str(), name.status().as_u16()));
        let expected = [
            ("AccessDeniedException", 403),
            ("AuthenticationFailedException", 401),
            ("DependencyTimeoutException", 503),
            ("InternalException", 500),
            ("InvalidCiphertextException", 400),
            ("InvalidKeyUsageException", 400),
            ("InvalidStateException", 400),
            ("InvalidUriPathException", 404),
            ("KeyNotFoundException", 404),
            ("ThrottlingException", 429),
            ("UnsupportedOperationException", 501),
            ("ValidationException", 400),
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn an_error_is_one_line_of_json() {
        let error = XksError::new(ErrorName::KeyNotFound, "There is no key \"a\\b\".");
        assert_eq!(
            String::from_utf8(error.body()).unwrap(),
            r#"{"errorName":"KeyNotFoundException","errorMessage":"There is no key \"a\\b\"."}"#
        );
        assert_eq!(error.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn what_may_not_be_sent_is_replaced_and_cut() {
        let error = XksError::new(ErrorName::Internal, "a\nb\u{7f}c\u{e9}d\0");
        assert_eq!(error.message(), "a?b?c?d?");
        let long = XksError::new(ErrorName::Internal, "x".repeat(512));
        assert_eq!(long.message(), "x".repeat(511));
        let fits = XksError::new(ErrorName::Internal, "x".repeat(511));
        assert_eq!(fits.message().len(), 511);
    }

    proptest! {
        #[test]
        fn every_message_is_printable_ascii_below_512_characters(text in any::<String>(), times in 1..300usize) {
            let error = XksError::new(ErrorName::Validation, text.repeat(times));
            prop_assert!(error.message().len() < 512);
            prop_assert!(error.message().bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
            let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
            prop_assert_eq!(body["errorMessage"].as_str(), Some(error.message()));
            prop_assert!(!error.body().contains(&b'\n'));
        }
    }
}
