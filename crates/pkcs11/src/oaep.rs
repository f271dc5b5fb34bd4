//! RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017 section 7.1.2): decryption
//! with a token's key.
//!
//! Some tokens do all of it. SoftHSM knows OAEP with SHA-1 only, as other tokens
//! of its age do: they do the arithmetic with the private key, and the padding
//! comes off here. What a token's list of mechanisms says about it is no more
//! than a hint, and keys may be bound to a mechanism, so each key is tried once for
//! each time that its token is opened.
//!
//! Tokens that do all of it say in many ways that a ciphertext is bad: with codes
//! for that, with codes that mean a broken device elsewhere, and perhaps with one
//! code for one kind of bad padding and another for another. No table of codes is
//! ever complete, and a token that answers in two ways would decrypt for whoever
//! can tell them apart. So a failed decryption is always followed by that of a
//! ciphertext which is known to be good: if that fails too, it is the token.

mod unpad;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use twinlock_keys::{Share, WrappedShare};
use zeroize::Zeroizing;

use self::unpad::{left_padded, unpad};
use crate::lookup::KeyName;
use crate::session::TokenSession;
use crate::{ErrorKind, Pkcs11Error, RsaPublicKey, aead, look};

/// Who takes the padding off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unpadding {
    /// The token does OAEP (`CKM_RSA_PKCS_OAEP`).
    ByToken,
    /// We do; the token decrypts without (`CKM_RSA_X_509`).
    ByUs,
}

/// A key's decryption by OAEP, as its token was found to do it.
pub(crate) struct Oaep {
    known: Arc<Known>,
    unpadding: Unpadding,
}

/// What was found out about a token's keys, by the names that they were found under.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<KeyName, Arc<Oaep>>>);

impl Memory {
    pub(crate) fn of(&self, name: &KeyName) -> Option<Arc<Oaep>> {
        self.lock().get(name).cloned()
    }

    pub(crate) fn keep(&self, name: KeyName, oaep: &Arc<Oaep>) {
        self.lock().insert(name, Arc::clone(oaep));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyName, Arc<Oaep>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The public part of a key, and what it is known to decrypt.
pub(crate) struct Known {
    public: RsaPublicKey,
    /// Of nothing; kept for [`Known::is_opened`] alone.
    share: Share,
    wrapped: WrappedShare,
}

impl Known {
    /// # Errors
    /// When there are no random bytes.
    pub(crate) fn new(public: RsaPublicKey) -> Result<Self, Pkcs11Error> {
        let share = look::random_share()?;
        let wrapped = public.wrap(&share)?;
        Ok(Self { public, share, wrapped })
    }

    pub(crate) fn public(&self) -> &RsaPublicKey {
        &self.public
    }

    /// True if the token decrypts what it has to; false if it does something else.
    fn is_opened(
        &self,
        token: &TokenSession,
        key: ObjectHandle,
        unpadding: Unpadding,
    ) -> Result<bool, Pkcs11Error> {
        let message = self.attempt(token, key, unpadding, self.wrapped.bytes())?;
        Ok(message.is_some_and(|message| *message == self.share.expose()))
    }

    /// The message in `ciphertext`, or nothing if there is none.
    fn attempt(
        &self,
        token: &TokenSession,
        key: ObjectHandle,
        unpadding: Unpadding,
        ciphertext: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Pkcs11Error> {
        let mechanism = match unpadding {
            Unpadding::ByToken => oaep_sha256(),
            Unpadding::ByUs => Mechanism::RsaX509,
        };
        let begun = token.session.decrypt_init(&mechanism, key);
        let decrypted = begun.and_then(|()| token.one_shot.decrypt(&token.session, ciphertext));
        let decrypted = decrypted
            .map_err(|error| Pkcs11Error::of_call(error, "decrypt with the token's RSA key"))?;
        Ok(match unpadding {
            Unpadding::ByToken => Some(decrypted),
            Unpadding::ByUs => left_padded(&decrypted, self.public.modulus_len()).and_then(unpad),
        })
    }
}

impl Oaep {
    /// Finds out how `token` decrypts with `key`, the private part of what is
    /// known.
    ///
    /// # Errors
    /// When it does not; and its own error when it fails, which says nothing
    /// about that.
    pub(crate) fn probe(
        token: &TokenSession,
        key: ObjectHandle,
        known: &Arc<Known>,
    ) -> Result<Self, Pkcs11Error> {
        let mut failed = None;
        for unpadding in [Unpadding::ByToken, Unpadding::ByUs] {
            match known.is_opened(token, key, unpadding) {
                Ok(true) => {
                    tracing::debug!(?unpadding, token = token.token.label, "RSA-OAEP with SHA-256");
                    return Ok(Self { known: Arc::clone(known), unpadding });
                }
                Ok(false) => {} // it took the parameters, and did something else
                Err(error) if is_no(&error) => {
                    tracing::debug!(%error, ?unpadding, "not what this token can");
                }
                // It began, so the token is there.
                Err(error) if error.is_from("C_Decrypt") => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let label = &token.token.label;
        Err(Pkcs11Error::misconfigured(format!(
            "the token {label:?} decrypts with this RSA key neither by OAEP with SHA-256 nor \
             without padding (CKM_RSA_X_509); create another key with `twinlock keys create --type \
             rsa-3072`, or use an AES key"
        )))
    }

    pub(crate) fn public(&self) -> &RsaPublicKey {
        &self.known.public
    }

    pub(crate) fn is_by_token(&self) -> bool {
        self.unpadding == Unpadding::ByToken
    }

    /// Decrypts `ciphertext`. Whatever is wrong with it, the error is the same, the
    /// token's code included: there is none. And so is the time, as far as the
    /// token's own is: in the place of what it cannot be asked it is asked for
    /// something else.
    pub(crate) fn decrypt(
        &self,
        token: &TokenSession,
        key: ObjectHandle,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
        let can_be_asked = self.public().can_be_asked(ciphertext);
        let stand_in = stand_in(self.public().modulus_len());
        let asked = if can_be_asked { ciphertext } else { &stand_in };
        let message = self.message(token, key, asked)?;
        message.filter(|_| can_be_asked).ok_or_else(refused)
    }

    /// As [`Oaep::decrypt`], of what has to be a share.
    pub(crate) fn decrypt_share(
        &self,
        token: &TokenSession,
        key: ObjectHandle,
        wrapped: &[u8],
    ) -> Result<Share, Pkcs11Error> {
        let share = self.decrypt(token, key, wrapped)?;
        Share::try_copy_of(&share).ok_or_else(refused)
    }

    /// The message in `ciphertext`, or nothing if there is none.
    fn message(
        &self,
        token: &TokenSession,
        key: ObjectHandle,
        ciphertext: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Pkcs11Error> {
        let attempt = || self.known.attempt(token, key, self.unpadding, ciphertext);
        let is_of_ciphertext = |error: &Pkcs11Error| error.is_from("C_Decrypt");
        let first = attempt();
        if !first.as_ref().is_err_and(is_of_ciphertext) {
            return first;
        }
        self.check(token, key)?;
        // Once more: the token may have been out of sorts for a moment.
        match attempt() {
            Err(error) if is_of_ciphertext(&error) => Ok(None),
            result => result,
        }
    }

    /// Fails if the token does not decrypt what it has to. What it says of that is
    /// the error, since what it said of a ciphertext depends on whoever sent it.
    fn check(&self, token: &TokenSession, key: ObjectHandle) -> Result<(), Pkcs11Error> {
        let broken = |how: &dyn fmt::Display| {
            let message = format!("the token fails at what it could decrypt before: {how}");
            Err(Pkcs11Error::new(ErrorKind::Gone, message))
        };
        match self.known.is_opened(token, key, self.unpadding) {
            Ok(true) => Ok(()),
            Ok(false) => broken(&"the message is another one"),
            // Its code says what it likes: of a good ciphertext it is no answer.
            Err(error) if is_about_ciphertext(token, &error) => broken(&error),
            Err(error) => Err(error),
        }
    }
}

/// True if it says of a good ciphertext what tokens say of bad ones.
fn is_about_ciphertext(token: &TokenSession, error: &Pkcs11Error) -> bool {
    let kind = error.kind();
    let is_one = matches!(kind, ErrorKind::BadCiphertext | ErrorKind::Fatal | ErrorKind::Gone);
    is_one && error.is_from("C_Decrypt") && !token.vendor.is_stale_handle(error)
}

/// A ciphertext of nothing: the number 2, whose root no one knows.
fn stand_in(len: usize) -> Vec<u8> {
    let mut ciphertext = vec![0; len];
    ciphertext.last_mut().into_iter().for_each(|last| *last = 2);
    ciphertext
}

/// All that is said about a ciphertext that does not decrypt.
pub(crate) fn refused() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::BadCiphertext, aead::REFUSED)
}

/// True if the token is in its right mind and will not do it.
fn is_no(error: &Pkcs11Error) -> bool {
    match error.kind() {
        ErrorKind::Misconfigured | ErrorKind::BadCiphertext => true,
        ErrorKind::Denied => !error.is_about_login(),
        _ => false,
    }
}

fn oaep_sha256() -> Mechanism<'static> {
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(
        MechanismType::SHA256,
        PkcsMgfType::MGF1_SHA256,
        PkcsOaepSource::empty(),
    ))
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;
    use cryptoki::error::{Error, RvError};

    use super::*;

    #[test]
    fn only_an_answer_about_the_mechanism_is_a_no() {
        let error =
            |code| Pkcs11Error::of_call(Error::Pkcs11(code, Function::DecryptInit), "decrypt");
        for no in [
            RvError::ActionProhibited,
            RvError::ArgumentsBad, // SoftHSM 2.6.1
            RvError::FunctionNotSupported,
            RvError::KeyFunctionNotPermitted,
            RvError::MechanismInvalid,
            RvError::MechanismParamInvalid,
        ] {
            assert!(is_no(&error(no)), "{no:?}");
        }
        for failure in [
            RvError::DeviceError,
            RvError::DeviceRemoved,
            RvError::FunctionFailed,
            RvError::GeneralError,
            RvError::HostMemory,
            RvError::KeyHandleInvalid,
            RvError::SessionClosed,
            RvError::UserNotLoggedIn,
        ] {
            assert!(!is_no(&error(failure)), "{failure:?}");
        }
    }
}
