//! AES-256-GCM of small data inside the token (PKCS#11 3.1 section 6.13.3).
//!
//! A 12-byte IV from the token's own generator, or from the token itself where
//! it insists; a 128-bit tag. The result is IV || ciphertext || tag.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::ObjectHandle;
use zeroize::Zeroizing;

use crate::session::TokenSession;
use crate::vendors::GcmIv;
use crate::{ErrorKind, Pkcs11Error};

const IV_LEN: usize = 12;
/// The IV of a token that appends one of its own.
const APPENDED_IV_LEN: usize = 16;
const TAG_LEN: usize = 16;

/// All that is said about a ciphertext that was not accepted.
pub(crate) const REFUSED: &str = "the token's key does not open this ciphertext";

/// Longest ciphertext that a token is asked to decrypt: what a header carries.
const MAX_LEN: usize = 6144;

/// True if `len` bytes can be IV || ciphertext || tag of something. Whether it
/// is one of ours is for the token to say: `prove` wants its own answer. (With
/// an IV of no bytes, which SoftHSM would take, no token is ever asked.)
pub(crate) fn can_be_asked(len: usize) -> bool {
    (IV_LEN + 1 + TAG_LEN..=MAX_LEN).contains(&len)
}

/// The IV's length in `len` bytes that [`encrypt`] may have made of `data_len`.
fn iv_len(len: usize, data_len: usize) -> usize {
    match len == APPENDED_IV_LEN + data_len + TAG_LEN {
        true => APPENDED_IV_LEN,
        false => IV_LEN,
    }
}

/// Encrypts `data` and binds `aad` to it.
pub(crate) fn encrypt(
    token: &TokenSession,
    key: ObjectHandle,
    data: &[u8],
    aad: &[u8],
) -> Result<Vec<u8>, Pkcs11Error> {
    let mut iv = first_iv(token)?;
    let output = {
        let mechanism = gcm(&mut iv, aad)?;
        let output = token.session.encrypt(&mechanism, key, data);
        output.map_err(|error| Pkcs11Error::of_call(error, "encrypt with the token's key"))?
    };
    // The IV is read back only now: some tokens have written theirs over it.
    assembled(&iv, &output, data.len(), token.vendor.gcm_iv)
}

/// Decrypts what [`encrypt`] made of `data_len` bytes; the caller has checked
/// the length with [`can_be_asked`].
pub(crate) fn decrypt(
    token: &TokenSession,
    key: ObjectHandle,
    encrypted: &[u8],
    data_len: usize,
    aad: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Pkcs11Error> {
    let (iv, encrypted) = encrypted.split_at(iv_len(encrypted.len(), data_len));
    let mut iv = iv.to_vec();
    let mechanism = gcm(&mut iv, aad)?;
    match token.session.decrypt(&mechanism, key, encrypted) {
        Ok(data) => Ok(Zeroizing::new(data)),
        Err(error) => {
            let error = Pkcs11Error::of_call(error, "decrypt with the token's key");
            Err(match token.vendor.is_bad_tag(&error) {
                true => error.into_bad_ciphertext(),
                false => error,
            })
        }
    }
}

fn first_iv(token: &TokenSession) -> Result<[u8; IV_LEN], Pkcs11Error> {
    let mut iv = [0; IV_LEN];
    if token.vendor.gcm_iv == GcmIv::Theirs {
        return Ok(iv);
    }
    token
        .session
        .generate_random_slice(&mut iv)
        .map_err(|error| Pkcs11Error::of_call(error, "get random bytes from the token"))?;
    Ok(iv)
}

fn gcm<'a>(iv: &'a mut [u8], aad: &'a [u8]) -> Result<Mechanism<'a>, Pkcs11Error> {
    let bits = u8::try_from(TAG_LEN * 8).expect("128 is less than 256");
    let parameters = GcmParams::new(iv, aad, std::ffi::c_ulong::from(bits).into())
        .map_err(|error| Pkcs11Error::of_call(error, "prepare AES-GCM"))?;
    Ok(Mechanism::AesGcm(parameters))
}

/// IV || ciphertext || tag, of what the token made from `data_len` bytes.
fn assembled(
    iv: &[u8],
    output: &[u8],
    data_len: usize,
    source: GcmIv,
) -> Result<Vec<u8>, Pkcs11Error> {
    let (iv, output) = match output.len().checked_sub(data_len + TAG_LEN) {
        Some(0) => (iv, output),
        Some(APPENDED_IV_LEN) if source == GcmIv::OursOrAppended => {
            let (output, iv) = output.split_at(output.len() - APPENDED_IV_LEN);
            (iv, output)
        }
        _ => return Err(wrong_length(output.len(), data_len)),
    };
    match iv.iter().all(|byte| *byte == 0) {
        true => Err(zero_iv()),
        false => Ok([iv, output].concat()),
    }
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
        let asked: Vec<usize> = (0..7000).filter(|len| can_be_asked(*len)).collect();
        assert_eq!((asked[0], asked[asked.len() - 1]), (29, 6144));
    }

    #[test]
    fn only_a_length_with_an_iv_of_16_bytes_has_one() {
        let appended: Vec<usize> = (29..200).filter(|len| iv_len(*len, 32) == 16).collect();
        assert_eq!(appended, [64]);
    }

    #[test]
    fn the_iv_comes_first_wherever_it_is_from() {
        for source in [GcmIv::Ours, GcmIv::Theirs, GcmIv::OursOrAppended] {
            let wrapped = assembled(&IV, &[1; 48], 32, source).unwrap();
            assert_eq!(wrapped, [&IV[..], &[1; 48]].concat());
        }
    }

    #[test]
    fn an_appended_iv_is_moved_to_the_front_where_tokens_append_one() {
        let output = [&[1; 48][..], &[9; 16]].concat();
        let wrapped = assembled(&IV, &output, 32, GcmIv::OursOrAppended).unwrap();
        assert_eq!(wrapped, [&[9; 16][..], &[1; 48]].concat());
        assert_eq!(iv_len(wrapped.len(), 32), 16);
        assert!(assembled(&IV, &output, 32, GcmIv::Ours).is_err());
    }

    #[test]
    fn a_token_that_does_not_tell_its_iv_is_refused() {
        let error = assembled(&[0; 12], &[1; 48], 32, GcmIv::Theirs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fatal);
        let output = [&[1; 48][..], &[0; 16]].concat();
        assert!(assembled(&IV, &output, 32, GcmIv::OursOrAppended).is_err());
    }

    #[test]
    fn an_output_of_another_length_is_refused() {
        for len in [0, 32, 47, 49, 60, 63, 65] {
            assert!(assembled(&IV, &vec![1; len], 32, GcmIv::OursOrAppended).is_err(), "{len}");
        }
    }
}
