//! What a holder says when it does not do what it was asked.

use std::fmt;
use std::time::Duration;

/// Why a holder refused or failed.
///
/// The text says what happened and what to do next; [`HolderError::kind`] is
/// for programs. Neither holds secrets or plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderError {
    kind: HolderErrorKind,
    message: String,
    answer: Option<HolderAnswer>,
}

/// Whose fault it is, and whether a retry can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HolderErrorKind {
    /// The holder knows the caller and says no, or refuses its credentials.
    Denied,
    /// The key exists but is switched off or about to be deleted.
    Disabled,
    /// The holder failed in a way that neither a retry nor a setting mends.
    Failed,
    /// The ciphertext, its context or its key is not the right one. Nothing
    /// more is said.
    InvalidCiphertext,
    /// A setting is wrong on our side: an address, a module, a mechanism.
    Misconfigured,
    /// There is no such key or token.
    NotFound,
    /// No answer within the deadline.
    TimedOut,
    /// The holder is busy, throttled, gone or unreachable: worth a retry.
    Unavailable {
        /// How long the holder asked us to wait, if it said so.
        retry_after: Option<Duration>,
    },
}

impl HolderErrorKind {
    /// True if the same call may succeed later without anybody changing
    /// anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::TimedOut | Self::Unavailable { .. })
    }
}

/// The holder's own words, kept as evidence: its error or result code, and the
/// number under which its log has the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderAnswer {
    /// For instance `CKR_GENERAL_ERROR` or `InvalidCiphertextException`.
    pub code: String,
    /// For instance the value of `x-amzn-requestid`.
    pub request_id: Option<String>,
}

impl HolderError {
    /// An error of `kind`, explained by `message`.
    #[must_use]
    pub fn new(kind: HolderErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), answer: None }
    }

    /// Shorthand for the kind that implementations need most.
    #[must_use]
    pub fn invalid_ciphertext(message: impl Into<String>) -> Self {
        Self::new(HolderErrorKind::InvalidCiphertext, message)
    }

    /// The same error with the holder's own words.
    #[must_use]
    pub fn with_answer(mut self, answer: HolderAnswer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> HolderErrorKind {
        self.kind
    }

    /// The holder's own words, where it gave any.
    #[must_use]
    pub fn answer(&self) -> Option<&HolderAnswer> {
        self.answer.as_ref()
    }
}

impl std::error::Error for HolderError {}

impl fmt::Display for HolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.answer {
            Some(answer) => write!(f, " ({answer})"),
            None => Ok(()),
        }
    }
}

impl HolderAnswer {
    /// An answer that is only a code.
    #[must_use]
    pub fn code(code: impl Into<String>) -> Self {
        Self { code: code.into(), request_id: None }
    }

    /// The same with the number of the request in the holder's log.
    #[must_use]
    pub fn with_request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }
}

impl fmt::Display for HolderAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request_id {
            Some(id) => write!(f, "{}, request {id}", self.code),
            None => f.write_str(&self.code),
        }
    }
}
