//! AES-256-GCM of small data inside the token (PKCS#11 3.1 section 6.13.3).
//!
//! A 12-byte IV from the token's own generator, or from the token itself where
//! it insists; a 128-bit tag. Two calls of the module each: the beginning, and
//! all of the data.

use std::fmt;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::ObjectHandle;
use zeroize::Zeroizing;

use crate::ivs::IV_LEN;
use crate::session::TokenSession;
use crate::vendors::GcmIv;
use crate::{ErrorKind, Pkcs11Error};

/// The IV of a token that appends one of its own.
const APPENDED_IV_LEN: usize = 16;
const TAG_LEN: usize = 16;

/// All that is said about a ciphertext that was not accepted.
pub(crate) const REFUSED: &str = "the token's key does not open this ciphertext";

/// Longest wrapped share that a token is asked to decrypt: what a header carries.
const MAX_JOINED_LEN: usize = 6144;

/// Data encrypted with AES-256-GCM.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// 12 bytes, or 16 of a token that insists on its own.
    pub iv: Vec<u8>,
    /// As long as the data.
    pub ciphertext: Vec<u8>,
    /// All of it.
    pub tag: [u8; TAG_LEN],
}

impl Sealed {
    /// IV || ciphertext || tag.
    pub(crate) fn joined(&self) -> Vec<u8> {
        [&self.iv[..], &self.ciphertext, &self.tag].concat()
    }

    /// What [`Sealed::joined`] may have made of `data_len` bytes; nothing if it
    /// cannot have made that of anything. Whether it is one of ours is for the
    /// token to say: `prove` wants its own answer.
    pub(crate) fn split(joined: &[u8], data_len: usize) -> Option<Self> {
        if !(IV_LEN + 1 + TAG_LEN..=MAX_JOINED_LEN).contains(&joined.len()) {
            return None;
        }
        let iv_len = match joined.len() == APPENDED_IV_LEN + data_len + TAG_LEN {
            true => APPENDED_IV_LEN,
            false => IV_LEN,
        };
        let (iv, rest) = joined.split_at_checked(iv_len)?;
        let (ciphertext, tag) = rest.split_last_chunk()?;
        Some(Self { iv: iv.to_vec(), ciphertext: ciphertext.to_vec(), tag: *tag })
    }

    /// True if it can be decrypted: with an IV of no bytes, which SoftHSM would
    /// take, no token is ever asked.
    pub(crate) fn has_iv(&self) -> bool {
        matches!(self.iv.len(), IV_LEN | APPENDED_IV_LEN)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (iv, len) = (self.iv.len(), self.ciphertext.len());
        write!(f, "Sealed({len} bytes, with an IV of {iv})")
    }
}

/// Encrypts `data` and binds `aad` to it.
pub(crate) fn encrypt(
    token: &mut TokenSession,
    key: ObjectHandle,
    data: &[u8],
    aad: &[u8],
) -> Result<Sealed, Pkcs11Error> {
    let mut iv = first_iv(token)?;
    let output = {
        let mechanism = gcm(&mut iv, aad)?;
        let room = data.len() + TAG_LEN + APPENDED_IV_LEN;
        let begun = token.session.encrypt_init(&mechanism, key);
        let output = begun.and_then(|()| token.one_shot.encrypt(&token.session, data, room));
        output.map_err(|error| Pkcs11Error::of_call(error, "encrypt with the token's key"))?
    };
    // The IV is read back only now: some tokens have written theirs over it.
    taken_apart(&iv, output, data.len(), token.vendor.gcm_iv)
}

/// Decrypts what [`encrypt`] made of the same `aad`.
pub(crate) fn decrypt(
    token: &mut TokenSession,
    key: ObjectHandle,
    sealed: &Sealed,
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
    let mut iv = sealed.iv.clone();
    let mechanism = gcm(&mut iv, aad)?;
    let encrypted = [&sealed.ciphertext[..], &sealed.tag].concat();
    let begun = token.session.decrypt_init(&mechanism, key);
    let data = begun.and_then(|()| token.one_shot.decrypt(&token.session, &encrypted));
    let data = data.map_err(|error| {
        let error = Pkcs11Error::of_call(error, "decrypt with the token's key");
        match token.vendor.is_bad_tag(&error) {
            true => error.into_bad_ciphertext(),
            false => error,
        }
    })?;
    match data.len() == sealed.ciphertext.len() {
        true => Ok(data),
        false => Err(wrong_length(data.len(), encrypted.len())),
    }
}

fn first_iv(token: &mut TokenSession) -> Result<[u8; IV_LEN], Pkcs11Error> {
    if token.vendor.gcm_iv == GcmIv::Theirs {
        return Ok([0; IV_LEN]);
    }
    let session = &token.session;
    token.ivs.take(|bytes| {
        session
            .generate_random_slice(bytes)
            .map_err(|error| Pkcs11Error::of_call(error, "get random bytes from the token"))
    })
}

fn gcm<'a>(iv: &'a mut [u8], aad: &'a [u8]) -> Result<Mechanism<'a>, Pkcs11Error> {
    let bits = u8::try_from(TAG_LEN * 8).expect("128 is less than 256");
    let parameters = GcmParams::new(iv, aad, std::ffi::c_ulong::from(bits).into())
        .map_err(|error| Pkcs11Error::of_call(error, "prepare AES-GCM"))?;
    Ok(Mechanism::AesGcm(parameters))
}

/// The parts of what the token made from `data_len` bytes with the IV `iv`, if
/// it used that.
fn taken_apart(
    iv: &[u8],
    mut output: Vec<u8>,
    data_len: usize,
    source: GcmIv,
) -> Result<Sealed, Pkcs11Error> {
    let len = output.len();
    let appended = match len.checked_sub(data_len + TAG_LEN) {
        Some(0) => None,
        Some(APPENDED_IV_LEN) if source == GcmIv::OursOrAppended => {
            Some(output.split_off(data_len + TAG_LEN))
        }
        _ => return Err(wrong_length(len, data_len)),
    };
    let iv = appended.unwrap_or_else(|| iv.to_vec());
    if iv.iter().all(|byte| *byte == 0) {
        return Err(zero_iv());
    }
    let tag = *output.last_chunk().expect("the length was checked above");
    output.truncate(data_len);
    Ok(Sealed { iv, ciphertext: output, tag })
}

fn wrong_length(len: usize, data_len: usize) -> Pkcs11Error {
    Pkcs11Error::new(
        ErrorKind::Fatal,
        format!("the token made {len} bytes of {data_len} with AES-GCM, which cannot be right"),
    )
}

fn zero_iv() -> Pkcs11Error {
    Pkcs11Error::new(
        ErrorKind::Fatal,
        "the token used an IV of zeros, or did not say which; its key is not safe to use",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const IV: [u8; 12] = [7; 12];

    #[test]
    fn what_cannot_hold_an_iv_and_a_tag_reaches_no_token() {
        let is_asked = |len: &usize| Sealed::split(&vec![1; *len], 32).is_some();
        let asked: Vec<usize> = (0..7000).filter(is_asked).collect();
        assert_eq!((asked[0], asked[asked.len() - 1], asked.len()), (29, 6144, 6144 - 28));
    }

    #[test]
    fn only_a_length_with_an_iv_of_16_bytes_has_one() {
        let iv_len = |len| Sealed::split(&vec![1; len], 32).unwrap().iv.len();
        let appended: Vec<usize> = (29..200).filter(|len| iv_len(*len) == 16).collect();
        assert_eq!(appended, [64]);
    }

    #[test]
    fn the_iv_comes_first_and_the_tag_last_wherever_the_iv_is_from() {
        for source in [GcmIv::Ours, GcmIv::Theirs, GcmIv::OursOrAppended] {
            let output = [[1; 32].as_slice(), &[2; 16]].concat();
            let sealed = taken_apart(&IV, output, 32, source).unwrap();
            assert_eq!((&*sealed.iv, &*sealed.ciphertext), (&IV[..], &[1; 32][..]));
            assert_eq!(sealed.joined(), [&IV[..], &[1; 32], &[2; 16]].concat());
            assert_eq!(Sealed::split(&sealed.joined(), 32), Some(sealed));
        }
    }

    #[test]
    fn an_appended_iv_is_taken_where_tokens_append_one() {
        let output = [&[1; 32][..], &[2; 16], &[9; 16]].concat();
        let sealed = taken_apart(&IV, output.clone(), 32, GcmIv::OursOrAppended).unwrap();
        assert_eq!(sealed.joined(), [&[9; 16][..], &[1; 32], &[2; 16]].concat());
        assert_eq!(Sealed::split(&sealed.joined(), 32), Some(sealed));
        assert!(taken_apart(&IV, output, 32, GcmIv::Ours).is_err());
    }

    #[test]
    fn no_data_is_data_too() {
        let sealed = taken_apart(&IV, vec![2; 16], 0, GcmIv::Ours).unwrap();
        assert_eq!((sealed.ciphertext, sealed.tag), (Vec::new(), [2; 16]));
    }

    #[test]
    fn a_token_that_does_not_tell_its_iv_is_refused() {
        let error = taken_apart(&[0; 12], vec![1; 48], 32, GcmIv::Theirs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal);
        let output = [&[1; 48][..], &[0; 16]].concat();
        assert!(taken_apart(&IV, output, 32, GcmIv::OursOrAppended).is_err());
    }

    #[test]
    fn an_output_of_another_length_is_refused() {
        for len in [0, 32, 47, 49, 60, 63, 65] {
            assert!(taken_apart(&IV, vec![1; len], 32, GcmIv::OursOrAppended).is_err(), "{len}");
        }
    }

    #[test]
    fn nothing_of_it_is_shown() {
        let sealed = Sealed { iv: vec![7; 12], ciphertext: vec![8; 9], tag: [9; 16] };
        assert_eq!(format!("{sealed:?}"), "Sealed(9 bytes, with an IV of 12)");
    }
}
