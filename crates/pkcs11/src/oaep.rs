//! RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017 section 7.1.2): decryption
//! with a token's key.
//!
//! Some tokens do all of it. SoftHSM knows OAEP with SHA-1 only, as other tokens
//! of its age do: they do the arithmetic with the private key, and the padding
//! comes off here. What a token's list of mechanisms says about it is no more
//! than a hint, so each token is tried once.

mod unpad;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use twinlock_keys::Share;
use zeroize::Zeroizing;

use self::unpad::{left_padded, unpad};
use crate::session::TokenSession;
use crate::{ErrorKind, Pkcs11Error, RsaPublicKey, TokenFacts, aead};

/// Who takes the padding off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpadding {
    /// The token does OAEP (`CKM_RSA_PKCS_OAEP`).
    ByToken,
    /// We do; the token decrypts without (`CKM_RSA_X_509`).
    ByUs,
}

/// What was found out about a token, shared by whoever opens it.
pub(crate) type Memory = Arc<OnceLock<Unpadding>>;

/// What this process knows of `token`, of the module at `module`.
pub(crate) fn memory_of(module: &Path, token: &TokenFacts) -> Memory {
    type Name = (PathBuf, String, String);
    static TOKENS: LazyLock<Mutex<HashMap<Name, Memory>>> = LazyLock::new(Mutex::default);
    let mut tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    let name = (module.to_owned(), token.serial.clone(), token.label.clone());
    Arc::clone(tokens.entry(name).or_default())
}

/// Decrypts `ciphertext`. Whatever is wrong with it, the error is the same, the
/// token's code included: there is none. And so is the time, as far as the token's
/// own is: in the place of what it cannot be asked it is asked for something else.
pub(crate) fn decrypt(
    token: &TokenSession,
    key: ObjectHandle,
    public: &RsaPublicKey,
    unpadding: Unpadding,
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
    let can_be_asked = public.can_be_asked(ciphertext);
    let stand_in = stand_in(public.modulus_len());
    let asked = if can_be_asked { ciphertext } else { &stand_in };
    match attempt(token, key, public, unpadding, asked) {
        Ok(message) => message.filter(|_| can_be_asked).ok_or_else(refused),
        Err(error) if token.vendor.is_bad_oaep(&error) => Err(refused()),
        Err(error) => Err(error),
    }
}

/// A ciphertext of nothing: the number 2, whose root no one knows.
fn stand_in(len: usize) -> Vec<u8> {
    let mut ciphertext = vec![0; len];
    ciphertext.last_mut().into_iter().for_each(|last| *last = 2);
    ciphertext
}

/// As [`decrypt`], of what has to be a share.
pub(crate) fn decrypt_share(
    token: &TokenSession,
    key: ObjectHandle,
    public: &RsaPublicKey,
    unpadding: Unpadding,
    wrapped: &[u8],
) -> Result<Share, Pkcs11Error> {
    let share = decrypt(token, key, public, unpadding, wrapped)?;
    Share::try_copy_of(&share).ok_or_else(refused)
}

/// All that is said about a ciphertext that does not decrypt.
pub(crate) fn refused() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::BadCiphertext, aead::REFUSED)
}

/// Finds out what a token can, with `wrapped`, which is `share` under its key.
/// A token that fails says nothing about that: its error is returned, and the
/// question stays open.
pub(crate) fn probe(
    token: &TokenSession,
    key: ObjectHandle,
    public: &RsaPublicKey,
    share: &Share,
    wrapped: &[u8],
) -> Result<Unpadding, Pkcs11Error> {
    for unpadding in [Unpadding::ByToken, Unpadding::ByUs] {
        match attempt(token, key, public, unpadding, wrapped) {
            Ok(Some(decrypted)) if *decrypted == share.expose() => return Ok(unpadding),
            Ok(_) => {} // it took the parameters, and did something else
            Err(error) if is_no(&error) => {
                tracing::debug!(%error, ?unpadding, "not what this token can");
            }
            Err(error) => return Err(error),
        }
    }
    let label = &token.token.label;
    Err(Pkcs11Error::misconfigured(format!(
        "the token {label:?} decrypts with this RSA key neither by OAEP with SHA-256 nor without \
         padding (CKM_RSA_X_509); create another key with `twinlock keys create --type rsa-3072`, \
         or use an AES key"
    )))
}

/// True if the token is in its right mind and will not do it.
fn is_no(error: &Pkcs11Error) -> bool {
    matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::BadCiphertext)
}

/// The message in `ciphertext`, or nothing if there is none.
fn attempt(
    token: &TokenSession,
    key: ObjectHandle,
    public: &RsaPublicKey,
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
        Unpadding::ByUs => left_padded(&decrypted, public.modulus_len()).and_then(unpad),
    })
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
