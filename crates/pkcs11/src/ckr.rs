//! Every `CKR_*` code: its name, its kind and, where it helps, what to do.
//!
//! Names and meanings are those of PKCS#11 3.1, section 5.1.6, and 3.2. Which
//! kind a code is depends on the function only where a token is known to be
//! ambiguous; codes of a failed GCM tag are a matter of the vendor's row
//! ([`crate::vendors`]).

use std::borrow::Cow;

use cryptoki::context::Function;
use cryptoki::error::RvError;

use crate::ErrorKind;

/// The code's name in the specification.
pub(crate) fn name(code: RvError) -> Cow<'static, str> {
    match code {
        RvError::VendorDefined(number) => format!("CKR_VENDOR_DEFINED {number:#x}").into(),
        RvError::UnknownErrorCode(number) => match newer(number) {
            Some((name, _)) => name.into(),
            None => format!("unknown CKR {number:#x}").into(),
        },
        // cryptoki's variants are the specification's names in camel case,
        // which the tests compare with the specification's numbers.
        named => screaming_snake(&format!("{named:?}")).into(),
    }
}

/// Whose fault `code` is when `function` returns it.
pub(crate) fn kind(code: RvError, function: Function) -> ErrorKind {
    use RvError as Rv;
    match (function, code) {
        // What a module says about its own configuration: NSS softokn answers
        // plain arguments with ARGUMENTS_BAD, SoftHSM an unreadable
        // configuration file with GENERAL_ERROR.
        (Function::Initialize, Rv::GeneralError | Rv::FunctionFailed | Rv::DeviceError) => {
            ErrorKind::Misconfigured
        }
        _ => usual_kind(code),
    }
}

/// True if `code` means that the device failed. Handles that are stale and
/// logins that were lost are nobody's failure.
///
/// What `C_Decrypt` says of a ciphertext is not: tokens answer a bad one with
/// all sorts of codes, and whoever sends bad ciphertext must not be able to
/// have the token declared dead.
pub(crate) fn blames_device(code: RvError, function: &str) -> bool {
    use RvError as Rv;
    match code {
        Rv::DeviceRemoved | Rv::TokenNotPresent | Rv::CryptokiNotInitialized => true,
        Rv::DeviceError
        | Rv::FipsSelfTestFailed
        | Rv::FunctionFailed
        | Rv::GeneralError
        | Rv::SessionClosed
        | Rv::SessionHandleInvalid
        | Rv::SlotIdInvalid
        | Rv::TokenNotRecognized => function != "C_Decrypt",
        _ => false,
    }
}

/// True if `C_Login` may have compared a PIN before it answered `code`, and the
/// token counted it as a wrong one. Only codes about something else say that it
/// did not: tokens have been seen to answer a wrong PIN with a general error.
pub(crate) fn may_have_cost_a_try(code: RvError) -> bool {
    use RvError as Rv;
    !matches!(
        code,
        Rv::ArgumentsBad
            | Rv::CryptokiNotInitialized
            | Rv::DeviceMemory
            | Rv::DeviceRemoved
            | Rv::FunctionCanceled
            | Rv::FunctionNotSupported
            | Rv::HostMemory
            | Rv::OperationActive
            | Rv::OperationNotInitialized
            | Rv::SessionClosed
            | Rv::SessionHandleInvalid
            | Rv::SessionReadOnlyExists
            | Rv::SlotIdInvalid
            | Rv::TokenNotPresent
            | Rv::UserAlreadyLoggedIn
            | Rv::UserAnotherAlreadyLoggedIn
            | Rv::UserPinNotInitialized
            | Rv::UserTooManyTypes
            | Rv::UserTypeInvalid
    )
}

/// The table itself. No arm is a wildcard, so a new code does not compile
/// until somebody has thought about it.
fn usual_kind(code: RvError) -> ErrorKind {
    use RvError as Rv;
    match code {
        Rv::EncryptedDataInvalid
        | Rv::EncryptedDataLenRange
        | Rv::SignatureInvalid
        | Rv::SignatureLenRange
        | Rv::WrappedKeyInvalid
        | Rv::WrappedKeyLenRange => ErrorKind::BadCiphertext,

        Rv::Cancel
        | Rv::DeviceMemory
        | Rv::FunctionCanceled
        | Rv::HostMemory
        | Rv::NoEvent
        | Rv::SessionCount
        | Rv::SessionExists
        | Rv::SessionReadOnlyExists
        | Rv::SessionReadWriteSoExists => ErrorKind::Busy,

        Rv::ActionProhibited
        | Rv::AttributeSensitive
        | Rv::FunctionRejected
        | Rv::InformationSensitive
        | Rv::KeyNotWrappable
        | Rv::KeyUnextractable
        | Rv::PinExpired
        | Rv::PinIncorrect
        | Rv::PinInvalid
        | Rv::PinLenRange
        | Rv::PinLocked
        | Rv::PinTooWeak
        | Rv::TokenWriteProtected => ErrorKind::Denied,

        // Handles and sessions that were good once, and the states that a new
        // session leaves behind.
        Rv::CryptokiNotInitialized
        | Rv::DeviceError
        | Rv::DeviceRemoved
        | Rv::FunctionFailed
        | Rv::KeyHandleInvalid
        | Rv::ObjectHandleInvalid
        | Rv::OperationActive
        | Rv::OperationNotInitialized
        | Rv::SessionClosed
        | Rv::SessionHandleInvalid
        | Rv::SlotIdInvalid
        | Rv::TokenNotPresent
        | Rv::UnwrappingKeyHandleInvalid
        | Rv::UserNotLoggedIn
        | Rv::WrappingKeyHandleInvalid => ErrorKind::Gone,

        Rv::ArgumentsBad
        | Rv::AttributeReadOnly
        | Rv::AttributeTypeInvalid
        | Rv::AttributeValueInvalid
        | Rv::CantLock
        | Rv::CurveNotSupported
        | Rv::DomainParamsInvalid
        | Rv::FunctionNotSupported
        | Rv::KeyFunctionNotPermitted
        | Rv::KeySizeRange
        | Rv::KeyTypeInconsistent
        | Rv::LibraryLoadFailed
        | Rv::MechanismInvalid
        | Rv::MechanismParamInvalid
        | Rv::NeedToCreateThreads
        | Rv::NewPinMode
        | Rv::NextOtp
        | Rv::PublicKeyInvalid
        | Rv::RandomNoRng
        | Rv::RandomSeedNotSupported
        | Rv::TemplateIncomplete
        | Rv::TemplateInconsistent
        | Rv::TokenNotRecognized
        | Rv::UnwrappingKeySizeRange
        | Rv::UnwrappingKeyTypeInconsistent
        | Rv::UserAnotherAlreadyLoggedIn
        | Rv::UserPinNotInitialized
        | Rv::UserTooManyTypes
        | Rv::UserTypeInvalid
        | Rv::WrappingKeySizeRange
        | Rv::WrappingKeyTypeInconsistent => ErrorKind::Misconfigured,

        Rv::BufferTooSmall
        | Rv::CryptokiAlreadyInitialized
        | Rv::DataInvalid
        | Rv::DataLenRange
        | Rv::ExceededMaxIterations
        | Rv::FipsSelfTestFailed
        | Rv::FunctionNotParallel
        | Rv::GeneralError
        | Rv::KeyChanged
        | Rv::KeyIndigestible
        | Rv::KeyNeeded
        | Rv::KeyNotNeeded
        | Rv::MutexBad
        | Rv::MutexNotLocked
        | Rv::SavedStateInvalid
        | Rv::SessionParallelNotSupported
        | Rv::SessionReadOnly
        | Rv::StateUnsaveable
        | Rv::UserAlreadyLoggedIn
        | Rv::VendorDefined(_) => ErrorKind::Fatal,

        Rv::UnknownErrorCode(number) => newer(number).map_or(ErrorKind::Fatal, |(_, kind)| kind),
    }
}

/// Codes of PKCS#11 3.0 and 3.2 that cryptoki has no names for.
fn newer(number: std::ffi::c_ulong) -> Option<(&'static str, ErrorKind)> {
    Some(match number {
        0x042 => ("CKR_AEAD_DECRYPT_FAILED", ErrorKind::BadCiphertext),
        0x201 => ("CKR_TOKEN_RESOURCE_EXCEEDED", ErrorKind::Busy),
        0x202 => ("CKR_OPERATION_CANCEL_FAILED", ErrorKind::Gone),
        0x203 => ("CKR_KEY_EXHAUSTED", ErrorKind::Denied),
        0x204 => ("CKR_PENDING", ErrorKind::Busy),
        0x205 => ("CKR_SESSION_ASYNC_NOT_SUPPORTED", ErrorKind::Misconfigured),
        0x206 => ("CKR_SEED_RANDOM_REQUIRED", ErrorKind::Misconfigured),
        0x207 => ("CKR_OPERATION_NOT_VALIDATED", ErrorKind::Misconfigured),
        0x208 => ("CKR_TOKEN_NOT_INITIALIZED", ErrorKind::Misconfigured),
        0x209 => ("CKR_PARAMETER_SET_NOT_SUPPORTED", ErrorKind::Misconfigured),
        _ => return None,
    })
}

/// What happened and what to do next, without the code itself.
pub(crate) fn explanation(code: RvError, kind: ErrorKind) -> &'static str {
    match code {
        RvError::PinIncorrect => {
            "the PIN is wrong; this process does not try it again, so that the token does not \
             lock; correct the PIN's source and start again"
        }
        RvError::PinLenRange => "the PIN is too short or too long for this token",
        RvError::PinLocked => {
            "the token has locked the user PIN after too many wrong tries; its security officer \
             has to set a new one"
        }
        RvError::PinExpired => "the PIN has expired; set a new one with the token's own tool",
        RvError::UserPinNotInitialized => "the token has no user PIN yet; set one (C_InitPIN)",
        RvError::MechanismInvalid => "the token does not have this mechanism, or not for this key",
        RvError::KeyFunctionNotPermitted => "the key was not created for this use",
        RvError::SessionCount => "the token has no session left; close other programs or retry",
        RvError::RandomNoRng => "the token has no random number generator",
        RvError::CantLock => "the module cannot be used by several threads",
        RvError::TokenWriteProtected => "the token is write-protected",
        _ => usual_explanation(kind),
    }
}

fn usual_explanation(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadCiphertext => crate::aead::REFUSED,
        ErrorKind::Busy => "the token is busy; retry later",
        ErrorKind::Denied => "the token refuses it",
        ErrorKind::Fatal => "the token failed; see its own log",
        ErrorKind::Gone => "the token or its session went away; retry",
        ErrorKind::Misconfigured => "the module or the token does not accept how it is used",
        ErrorKind::NotFound => "there is no such thing on the token",
        ErrorKind::TimedOut => "no answer in time",
    }
}

fn screaming_snake(camel: &str) -> String {
    let mut name = String::from("CKR");
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests;
