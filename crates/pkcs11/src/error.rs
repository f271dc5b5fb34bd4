//! What a token says when it does not do what it was asked.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use cryptoki::error::{Error, RvError};
use twinlock_keys::{HolderAnswer, HolderError, HolderErrorKind, RsaKeyError};

use crate::ckr;

/// Why an operation on a token failed.
///
/// The text says what happened and what to do next, and ends with the module's
/// own code where it gave one. It never holds a PIN, a key or a plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Error {
    kind: ErrorKind,
    message: String,
    answer: Option<Answer>,
    retry_after: Option<Duration>,
}

/// Whose fault it is, and whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The ciphertext or its AAD is not what this key made.
    BadCiphertext,
    /// The token or our queue has no room now: worth a retry.
    Busy,
    /// The token says no: a wrong PIN, a locked PIN, a forbidden use.
    Denied,
    /// Neither a retry nor a setting mends it.
    Fatal,
    /// The token, its session or its login went away: worth a retry.
    Gone,
    /// A setting is wrong: a module, a mechanism, a key's attributes.
    Misconfigured,
    /// There is no such token or key.
    NotFound,
    /// No answer within the deadline.
    TimedOut,
}

/// What the module returned, and from which of its functions.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    code: RvError,
    function: String,
}

impl Pkcs11Error {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The module's return code by its name in the specification, for
    /// instance `CKR_PIN_LOCKED`.
    #[must_use]
    pub fn code(&self) -> Option<Cow<'static, str>> {
        self.answer.as_ref().map(|answer| ckr::name(answer.code))
    }

    /// How long the token is left alone, so that a retry before is in vain:
    /// it failed too often in a row.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// True if the token says that the key is not for what it was to do: it may
    /// only encrypt, for instance (`CKR_KEY_FUNCTION_NOT_PERMITTED`).
    #[must_use]
    pub fn is_forbidden_use(&self) -> bool {
        self.raw_code() == Some(RvError::KeyFunctionNotPermitted)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), answer: None, retry_after: None }
    }

    pub(crate) fn with_retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    pub(crate) fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Misconfigured, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The error of a call that was to do `what`, for instance "find the key".
    pub(crate) fn of_call(error: Error, what: &str) -> Self {
        match error {
            Error::Pkcs11(code, function) => {
                let kind = ckr::kind(code, function);
                let message = format!("cannot {what}: {}", ckr::explanation(code, kind));
                let answer = Some(Answer { code, function: format!("C_{function:?}") });
                Self { kind, message, answer, retry_after: None }
            }
            Error::NullFunctionPointer | Error::MissingSymbol(_) | Error::NotSupported => {
                Self::misconfigured(format!("cannot {what}: the module lacks a function ({error})"))
            }
            other => Self::new(ErrorKind::Fatal, format!("cannot {what}: {other}")),
        }
    }

    /// The same answer of the module, taken as bad ciphertext. One sentence
    /// for all causes: a failed tag says nothing more than that it failed.
    pub(crate) fn into_bad_ciphertext(mut self) -> Self {
        self.kind = ErrorKind::BadCiphertext;
        self.message = crate::aead::REFUSED.to_owned();
        self
    }

    /// The same of a thing that was there before.
    pub(crate) fn missing_into_gone(mut self) -> Self {
        if self.kind == ErrorKind::NotFound {
            self.kind = ErrorKind::Gone;
        }
        self
    }

    /// The same answer of the module, taken as a refusal of the PIN, which it
    /// may be.
    pub(crate) fn into_refused_pin(mut self, token: &str) -> Self {
        if self.kind != ErrorKind::Denied {
            self.kind = ErrorKind::Denied;
            self.message = format!(
                "cannot log in to {token:?}: its answer leaves open whether the PIN is wrong, so \
                 this process does not try it again; make sure of the PIN and start again"
            );
        }
        self
    }

    /// True if doing the same again, with a new session, may help. A login that
    /// failed is not made again at once: that may cost another try of the PIN.
    pub(crate) fn wants_new_session(&self) -> bool {
        self.kind == ErrorKind::Gone && !self.may_have_cost_a_try()
    }

    /// True if the token may have counted a wrong PIN.
    pub(crate) fn may_have_cost_a_try(&self) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| {
            answer.function == "C_Login" && ckr::may_have_cost_a_try(answer.code)
        })
    }

    /// True if the device failed, rather than what was asked of it.
    pub(crate) fn blames_device(&self) -> bool {
        match &self.answer {
            Some(answer) => ckr::blames_device(answer.code, &answer.function),
            None => self.kind == ErrorKind::Gone,
        }
    }

    /// True if the token refused to be logged in to, rather than to do what it was
    /// asked.
    pub(crate) fn is_about_login(&self) -> bool {
        self.kind == ErrorKind::Denied && (self.answer.is_none() || self.is_from("C_Login"))
    }

    /// True if there was no session left, or whatever a worker needs. (Other
    /// functions are busy in ways that asking again would make worse: a login
    /// on a PIN pad, cancelled by the person at it.)
    pub(crate) fn is_full(&self) -> bool {
        let is_opening = self.answer.is_none() || self.is_from("C_OpenSession");
        self.kind == ErrorKind::Busy && is_opening
    }

    /// True if it is what `function` of the module returned.
    pub(crate) fn is_from(&self, function: &str) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.function == function)
    }

    /// The module's return code as cryptoki has it.
    pub(crate) fn raw_code(&self) -> Option<RvError> {
        self.answer.as_ref().map(|answer| answer.code)
    }
}

impl std::error::Error for Pkcs11Error {}

impl fmt::Display for Pkcs11Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.answer {
            Some(answer) => write!(f, " ({} from {})", ckr::name(answer.code), answer.function),
            None => Ok(()),
        }
    }
}

impl From<RsaKeyError> for Pkcs11Error {
    fn from(error: RsaKeyError) -> Self {
        let kind = match error {
            RsaKeyError::Wrap => ErrorKind::Fatal,
            _ => ErrorKind::Misconfigured,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ErrorKind> for HolderErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::BadCiphertext => Self::InvalidCiphertext,
            ErrorKind::Busy | ErrorKind::Gone => Self::Unavailable { retry_after: None },
            ErrorKind::Denied => Self::Denied,
            ErrorKind::Fatal => Self::Failed,
            ErrorKind::Misconfigured => Self::Misconfigured,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::TimedOut => Self::TimedOut,
        }
    }
}

impl From<Pkcs11Error> for HolderError {
    fn from(error: Pkcs11Error) -> Self {
        let code = error.code();
        let kind = match HolderErrorKind::from(error.kind) {
            HolderErrorKind::Unavailable { .. } => {
                HolderErrorKind::Unavailable { retry_after: error.retry_after }
            }
            kind => kind,
        };
        let holder_error = Self::new(kind, error.message);
        match code {
            Some(code) => holder_error.with_answer(HolderAnswer::code(code)),
            None => holder_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn the_code_and_its_function_stand_at_the_end_of_the_text() {
        let error = Error::Pkcs11(RvError::PinLocked, Function::Login);
        let error = Pkcs11Error::of_call(error, "log in");
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.code().as_deref(), Some("CKR_PIN_LOCKED"));
        assert!(error.to_string().ends_with("(CKR_PIN_LOCKED from C_Login)"), "{error}");
    }

    #[test]
    fn a_holder_error_keeps_the_kind_and_the_code() {
        let error = Error::Pkcs11(RvError::DeviceRemoved, Function::Decrypt);
        let error = HolderError::from(Pkcs11Error::of_call(error, "decrypt"));
        assert_eq!(error.kind(), HolderErrorKind::Unavailable { retry_after: None });
        assert_eq!(error.answer(), Some(&HolderAnswer::code("CKR_DEVICE_REMOVED")));
    }

    #[test]
    fn a_holder_error_says_when_to_come_back() {
        let retry_after = Some(Duration::from_secs(2));
        let error = Pkcs11Error::new(ErrorKind::Gone, "").with_retry_after(Duration::from_secs(2));
        assert_eq!(HolderError::from(error).kind(), HolderErrorKind::Unavailable { retry_after });
    }
}
