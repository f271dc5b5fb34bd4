//! Why an envelope did not open.

use std::io;

use twinlock_floe::BackendError;
use twinlock_format::{EncryptionContext, Header, HeaderError, PairKeyslot, escape_untrusted};
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri, Side};

use crate::payload::PayloadError;
use crate::shares::{KeyslotFailure, ShareFailure};

/// Why no header could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadHeaderError {
    /// The bytes are no header of ours.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A header that is kept apart goes on behind its end.
    #[error(
        "the header ends at byte {offset}, but more bytes follow: it is a whole envelope, or not \
         what was written"
    )]
    Trailing {
        /// The first byte that should not be there.
        offset: usize,
    },
}

/// Why an envelope did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// `TWINLOCK_AEAD` names no backend of this build.
    #[error("TWINLOCK_AEAD: {0}")]
    Backend(#[from] BackendError),
    /// There were keyslots that we have both holders for, and none opened.
    #[error("{}", describe_failures(.failures))]
    Keyslots {
        /// What became of each, in the order in which they were tried.
        failures: Vec<FailedAttempt>,
    },
    /// No keyslot names a provider and a customer that the caller gave.
    #[error("no keyslot names both a provider and a customer key that were given; the file wants {}", describe_uris(.uris))]
    NoKeyslot {
        /// Provider and customer of each keyslot, as the unverified header has
        /// them.
        uris: Vec<(String, String)>,
    },
    /// The header is of an earlier generation than the caller accepts.
    #[error(
        "the header is of generation {actual}, and at least {expected} is expected: it was rolled back, or not yet rewrapped"
    )]
    OldGeneration {
        /// The header's.
        actual: u64,
        /// The least that the caller accepts.
        expected: u64,
    },
    /// No async runtime could be started for a blocking call.
    #[cfg(feature = "blocking")]
    #[error(transparent)]
    Runtime(#[from] crate::blocking::RuntimeError),
    /// The keys are right and the header is not what was written with them.
    #[error("the header was tampered with")]
    Tampered,
    /// The envelope has an encryption context and the caller expects none.
    #[error("the file has an encryption context that was not expected: {}", describe_context(.actual))]
    UnexpectedContext {
        /// The header's, unverified.
        actual: EncryptionContext,
    },
    /// A pair of the expected encryption context is missing or different.
    #[error("{}", describe_wrong_context(.key, .actual.as_deref()))]
    WrongContext {
        /// The expected pair's key.
        key: String,
        /// What the header has for it, unverified.
        actual: Option<String>,
    },
}

/// A keyslot that was tried and did not open.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// The provider's key that was asked.
    pub provider: KeyUri,
    /// The customer's key that was asked.
    pub customer: KeyUri,
    /// What became of it.
    pub failure: KeyslotFailure,
}

impl FailedAttempt {
    /// What each holder said, if it is holders that failed.
    pub fn holder_errors(&self) -> impl Iterator<Item = (Side, &KeyUri, &HolderError)> {
        self.share_failures().filter_map(|(side, uri, failure)| match failure {
            ShareFailure::Holder(error) => Some((side, uri, error)),
            ShareFailure::WrongShare => None,
        })
    }

    fn share_failures(&self) -> impl Iterator<Item = (Side, &KeyUri, &ShareFailure)> {
        let (provider, customer) = match &self.failure {
            KeyslotFailure::Shares { provider, customer } => (provider.as_ref(), customer.as_ref()),
            KeyslotFailure::WrappedDek => (None, None),
        };
        let provider = provider.map(|failure| (Side::Provider, &self.provider, failure));
        let customer = customer.map(|failure| (Side::Customer, &self.customer, failure));
        provider.into_iter().chain(customer)
    }

    fn describe(&self) -> String {
        let said: Vec<String> = self
            .share_failures()
            .map(|(side, uri, failure)| format!("the {side} key {uri}: {failure}"))
            .collect();
        match said.is_empty() {
            true => format!(
                "the wrapped DEK does not open with the shares of {} and {}: the header was tampered with",
                self.provider, self.customer
            ),
            false => said.join("; "),
        }
    }
}

/// What an [`OpenError`] comes down to, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// A holder denies, has no such key or has switched it off, or no keyslot
    /// names holders that we have.
    NoAccess,
    /// The file was tampered with, or is not the expected one.
    NotAuthentic,
    /// A holder did not answer, or asks to be asked later. Worth a retry.
    Unavailable,
    /// A setting on our side is wrong.
    Misconfigured,
    /// A holder failed in a way that none of the others describes.
    Failed,
}

impl OpenError {
    /// What this comes down to. Of several failed keyslots the one counts that
    /// leaves the most hope.
    #[must_use]
    pub fn kind(&self) -> OpenErrorKind {
        match self {
            Self::Backend(_) => OpenErrorKind::Misconfigured,
            Self::NoKeyslot { .. } => OpenErrorKind::NoAccess,
            Self::OldGeneration { .. }
            | Self::Tampered
            | Self::UnexpectedContext { .. }
            | Self::WrongContext { .. } => OpenErrorKind::NotAuthentic,
            #[cfg(feature = "blocking")]
            Self::Runtime(_) => OpenErrorKind::Failed,
            Self::Keyslots { failures } => kind_of_failures(failures),
        }
    }
}

fn kind_of_failures(failures: &[FailedAttempt]) -> OpenErrorKind {
    let kinds: Vec<OpenErrorKind> = failures
        .iter()
        .flat_map(FailedAttempt::holder_errors)
        .map(|(_, _, error)| kind_of_holder_error(error.kind()))
        .collect();
    let by_hope = [
        OpenErrorKind::Unavailable,
        OpenErrorKind::NoAccess,
        OpenErrorKind::Misconfigured,
        OpenErrorKind::Failed,
    ];
    let hope = by_hope.into_iter().find(|kind| kinds.contains(kind));
    hope.unwrap_or(OpenErrorKind::NotAuthentic)
}

fn kind_of_holder_error(kind: HolderErrorKind) -> OpenErrorKind {
    match kind {
        HolderErrorKind::Denied | HolderErrorKind::Disabled | HolderErrorKind::NotFound => {
            OpenErrorKind::NoAccess
        }
        HolderErrorKind::InvalidCiphertext => OpenErrorKind::NotAuthentic,
        HolderErrorKind::Misconfigured => OpenErrorKind::Misconfigured,
        HolderErrorKind::TimedOut | HolderErrorKind::Unavailable { .. } => {
            OpenErrorKind::Unavailable
        }
        _ => OpenErrorKind::Failed,
    }
}

/// Why an envelope was not decrypted: any step of the three.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecryptError {
    /// No header could be read.
    #[error(transparent)]
    Header(#[from] ReadHeaderError),
    /// Reading failed.
    #[error(transparent)]
    Io(io::Error),
    /// The envelope did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The payload is not what was encrypted.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

impl From<io::Error> for DecryptError {
    fn from(error: io::Error) -> Self {
        match PayloadError::of(&error) {
            Some(&payload) => Self::Payload(payload),
            None => Self::Io(error),
        }
    }
}

fn describe_failures(failures: &[FailedAttempt]) -> String {
    let said: Vec<String> = failures.iter().map(FailedAttempt::describe).collect();
    match said.as_slice() {
        [one] => one.clone(),
        many => format!("none of {} keyslots opens: {}", many.len(), many.join(" | ")),
    }
}

pub(super) fn uri_pairs(header: &Header) -> Vec<(String, String)> {
    let uris = |keyslot: &PairKeyslot| {
        let pair = keyslot.pair();
        (pair.provider().uri().to_owned(), pair.customer().uri().to_owned())
    };
    header.supported_keyslots().map(uris).collect()
}

fn describe_uris(uris: &[(String, String)]) -> String {
    if uris.is_empty() {
        return "a newer version of Twinlock".to_owned();
    }
    let pair = |(provider, customer): &(String, String)| {
        format!("{} and {}", escape_untrusted(provider), escape_untrusted(customer))
    };
    uris.iter().map(pair).collect::<Vec<_>>().join(", or ")
}

fn describe_context(context: &EncryptionContext) -> String {
    let pair = |(key, value)| format!("{}={}", escape_untrusted(key), escape_untrusted(value));
    context.iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn describe_wrong_context(key: &str, actual: Option<&str>) -> String {
    let key = escape_untrusted(key);
    match actual {
        Some(actual) => format!(
            "the file's encryption context has another value for {key}: {}",
            escape_untrusted(actual)
        ),
        None => format!("the file's encryption context has no {key}"),
    }
}
