//! What a caller is told when a request cannot be answered.
//!
//! The protocol has statuses and no error bodies. Ours are for whoever looks at
//! them: one line of JSON, a name and a sentence, none of which depends on data.

use axum::http::StatusCode;
use serde::Serialize;

/// What is wrong. The names are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorName {
    /// The service, the caller's part of it or the token has too much to do.
    Busy,
    /// The key is switched off.
    Disabled,
    /// Whoever it is may not decrypt with this key.
    Forbidden,
    /// The key does not decrypt this ciphertext: no more than that is said.
    InvalidCiphertext,
    /// The body is not a request to decrypt.
    InvalidRequest,
    /// The operation has another method.
    MethodNotAllowed,
    /// No operation has this path.
    NotFound,
    /// The body is longer than any request.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// No valid token.
    Unauthorized,
    /// A token, or who knows about callers, does not answer.
    Unavailable,
    /// There is no such key, or no such generation of it.
    UnknownKey,
    /// The body is not JSON, by its content type.
    UnsupportedMediaType,
}

impl ErrorName {
    /// Each of them once.
    pub const ALL: [Self; 13] = [
        Self::Busy,
        Self::Disabled,
        Self::Forbidden,
        Self::InvalidCiphertext,
        Self::InvalidRequest,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::TooLarge,
        Self::TooSlow,
        Self::Unauthorized,
        Self::Unavailable,
        Self::UnknownKey,
        Self::UnsupportedMediaType,
    ];

    /// The value of `error`, and the outcome in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The status of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Busy => (
                "busy",
                StatusCode::TOO_MANY_REQUESTS,
                "There is as much to do as can be done. Retry later.",
            ),
            Self::Disabled => (
                "key_disabled",
                StatusCode::FORBIDDEN,
                "The key is disabled in the service's configuration.",
            ),
            Self::Forbidden => (
                "forbidden",
                StatusCode::FORBIDDEN,
                "Who presents this token may not decrypt with this key. The service's log has \
                 the reason.",
            ),
            Self::InvalidCiphertext => (
                "invalid_ciphertext",
                StatusCode::BAD_REQUEST,
                "The key does not decrypt this value.",
            ),
            Self::InvalidRequest => (
                "invalid_request",
                StatusCode::BAD_REQUEST,
                "The body is not {\"alg\":\"RSA-OAEP-256\",\"value\":\"<base64>\"}.",
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "This path has another method.",
            ),
            Self::NotFound => {
                ("not_found", StatusCode::NOT_FOUND, "This service has nothing under this path.")
            }
            Self::TooLarge => {
                ("too_large", StatusCode::PAYLOAD_TOO_LARGE, "The body is longer than any request.")
            }
            Self::TooSlow => {
                ("too_slow", StatusCode::REQUEST_TIMEOUT, "The body did not come in time. Retry.")
            }
            Self::Unauthorized => (
                "unauthorized",
                StatusCode::UNAUTHORIZED,
                "Present a bearer token of an issuer that this service trusts.",
            ),
            Self::Unavailable => (
                "unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "What this service needs for an answer does not work. Retry; its log has the \
                 reason.",
            ),
            Self::UnknownKey => (
                "unknown_key",
                StatusCode::BAD_REQUEST,
                "This service has no such key, or no such generation of it.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Send the body as application/json.",
            ),
        }
    }

    /// The body of the response.
    #[must_use]
    pub fn body(self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body {
            error: &'static str,
            message: &'static str,
        }
        let body = Body { error: self.as_str(), message: self.message() };
        serde_json::to_vec(&body).expect("two strings become JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_json_and_never_an_internal_one() {
        for name in ErrorName::ALL {
            let body = name.body();
            assert!(!body.contains(&b'\n') && body.is_ascii());
            let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(read["error"], name.as_str());
            assert_eq!(read["message"], name.message());
            assert!(name.status().as_u16() != 500, "{name:?}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::HashSet<_> = ErrorName::ALL.map(ErrorName::as_str).into();
        assert_eq!(names.len(), ErrorName::ALL.len());
    }

    /// `docs/dke.md` has the same table.
    #[test]
    fn statuses_are_those_of_the_page() {
        let page = include_str!("../../docs/dke.md");
        for name in ErrorName::ALL {
            let row = format!("| `{}` | {} |", name.as_str(), name.status().as_u16());
            assert!(page.contains(&row), "{row}");
        }
    }
}
