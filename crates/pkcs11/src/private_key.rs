//! An RSA private key that is not in a token yet.

use std::fmt;

use aws_lc_rs::rsa::KeyPair;
use cryptoki::object::Attribute;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Pkcs11Error, RsaPublicKey};

/// Tags of DER (X.690 section 8).
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;

/// An RSA private key as bytes, to be put into a token: of 2048 to 8192 bits, with
/// the exponent 65537. It is wiped when it is dropped, and shown to nobody.
pub struct RsaPrivateKey {
    /// The eight numbers of RFC 8017 section 3.2, without leading zeros: modulus,
    /// public and private exponent, two primes, two exponents, coefficient.
    numbers: [Zeroizing<Vec<u8>>; 8],
}

impl RsaPrivateKey {
    /// Reads an `RSAPrivateKey` (RFC 8017 appendix A.1.2, "PKCS #1") in DER.
    ///
    /// # Errors
    /// When it is none, when its numbers do not belong together, or when it cannot
    /// be a KEK.
    pub fn from_der(der: &[u8]) -> Result<Self, Pkcs11Error> {
        // This looks at what the numbers are to each other.
        let is_sound = KeyPair::from_der(der).is_ok();
        let numbers = numbers_of(der).filter(|_| is_sound).ok_or_else(|| {
            Pkcs11Error::misconfigured(
                "this is no RSA private key of at least 2048 bits in DER (PKCS #1, as `openssl rsa \
                 -in KEY.pem -traditional -outform DER` writes it)",
            )
        })?;
        RsaPublicKey::new(&numbers[0], &numbers[1])?;
        Ok(Self { numbers })
    }

    /// What its public part is made of on a token.
    pub(crate) fn public_attributes(&self) -> [Attribute; 2] {
        let [n, e, ..] = &self.numbers;
        [Attribute::Modulus(n.to_vec()), Attribute::PublicExponent(e.to_vec())]
    }

    /// Calls `create` with `others` and all that the private part is made of, and
    /// wipes that.
    pub(crate) fn with_attributes<T>(
        &self,
        others: Vec<Attribute>,
        create: impl FnOnce(&[Attribute]) -> T,
    ) -> T {
        let [n, e, d, p, q, dp, dq, coefficient] = &self.numbers;
        let mut attributes = others;
        attributes.extend([
            Attribute::Modulus(n.to_vec()),
            Attribute::PublicExponent(e.to_vec()),
            Attribute::PrivateExponent(d.to_vec()),
            Attribute::Prime1(p.to_vec()),
            Attribute::Prime2(q.to_vec()),
            Attribute::Exponent1(dp.to_vec()),
            Attribute::Exponent2(dq.to_vec()),
            Attribute::Coefficient(coefficient.to_vec()),
        ]);
        let created = create(&attributes);
        attributes.iter_mut().for_each(wipe);
        created
    }
}

impl fmt::Debug for RsaPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RsaPrivateKey")
    }
}

fn wipe(attribute: &mut Attribute) {
    match attribute {
        Attribute::PrivateExponent(bytes)
        | Attribute::Prime1(bytes)
        | Attribute::Prime2(bytes)
        | Attribute::Exponent1(bytes)
        | Attribute::Exponent2(bytes)
        | Attribute::Coefficient(bytes) => bytes.zeroize(),
        _ => {} // public
    }
}

/// Its numbers, if it is a key of two primes and nothing else.
fn numbers_of(der: &[u8]) -> Option<[Zeroizing<Vec<u8>>; 8]> {
    let mut whole = Der(der);
    let mut key = Der(whole.next(SEQUENCE)?);
    let version = key.next(INTEGER)?;
    let mut numbers: [Zeroizing<Vec<u8>>; 8] = Default::default();
    for number in &mut numbers {
        let bytes = key.next(INTEGER)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        number.extend_from_slice(&bytes[zeros..]);
    }
    let is_all = whole.0.is_empty() && key.0.is_empty() && version == [0];
    is_all.then_some(numbers)
}

/// What is left of values in DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next value, if it has that tag.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&len, rest) = rest.split_first()?;
        let (len, rest) = match len {
            ..=0x7f => (usize::from(len), rest),
            0x81 | 0x82 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(len - 0x80))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None, // longer than any key
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        (found == tag).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rsa::KeySize;

    use super::*;

    fn some_key(size: KeySize) -> Vec<u8> {
        let pkcs8 = KeyPair::generate(size).unwrap().as_der().unwrap();
        // RFC 5208 section 5: version and algorithm, and the key in an OCTET STRING.
        let mut info = Der(Der(pkcs8.as_ref()).next(SEQUENCE).unwrap());
        info.next(INTEGER).unwrap();
        info.next(SEQUENCE).unwrap();
        info.next(0x04).unwrap().to_vec()
    }

    #[test]
    fn a_key_is_read_with_all_its_numbers() {
        for size in [KeySize::Rsa2048, KeySize::Rsa3072] {
            let key = RsaPrivateKey::from_der(&some_key(size)).unwrap();
            let lengths = key.numbers.each_ref().map(|number| number.len());
            let (whole, half) = (size.len(), size.len() / 2);
            assert_eq!((lengths[0], lengths[1]), (whole, 3));
            assert!(lengths[2] <= whole && lengths[3..].iter().all(|len| *len <= half));
            assert!(key.numbers.iter().all(|number| number[0] != 0));
            assert_eq!(format!("{key:?}"), "RsaPrivateKey");
        }
    }

    #[test]
    fn what_is_no_sound_key_is_refused() {
        let good = some_key(KeySize::Rsa2048);
        let changed = |at: usize| {
            let mut der = good.clone();
            der[at] ^= 1;
            der
        };
        let with_tail = [&good[..], &[0]].concat();
        let mut others = vec![Vec::new(), vec![SEQUENCE], good[..700].to_vec(), with_tail];
        others.push(b"-----BEGIN RSA PRIVATE KEY-----".to_vec());
        // Its type, its length, its version, its modulus, what comes last.
        others.extend([0, 1, 3, 6, 100, good.len() - 1].map(changed));
        for (at, der) in others.iter().enumerate() {
            let error = RsaPrivateKey::from_der(der).unwrap_err();
            assert!(error.to_string().contains("no RSA private key"), "{at}: {error}");
        }
    }

    #[test]
    fn a_length_that_is_none_is_no_key() {
        for length in [&[0x80][..], &[0x81], &[0x82, 1], &[0x83, 1, 0, 0], &[0x84], &[0xff]] {
            let der = [&[SEQUENCE], length].concat();
            assert!(numbers_of(&der).is_none(), "{der:?}");
        }
    }
}
