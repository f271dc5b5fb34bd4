//! The ciphertext data integrity value, CDIV (specification, Appendix C).

use sha2::{Digest, Sha256};

use crate::aad::Aad;
use crate::ciphertext_metadata::CiphertextMetadata;

/// SHA-256 over what Encrypt was given and what it returns, in this order and
/// without lengths: what is absent is empty.
///
/// To KMS it is the promise that these fields decrypt to the plaintext. So it is
/// computed from what the HSM returned, before the HSM is asked to decrypt it
/// again, and sent only when that gave the plaintext.
#[must_use]
pub fn integrity_value(
    aad: &Aad,
    metadata: &CiphertextMetadata,
    iv: &[u8],
    ciphertext: &[u8],
    tag: &[u8; 16],
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [aad.as_bytes(), metadata.as_bytes(), iv, ciphertext, tag] {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    use super::*;

    /// The example of the sections "Encrypt" and Appendix C.
    #[test]
    fn the_example_of_the_specification() {
        let decoded = |text| BASE64_STANDARD.decode(text).unwrap();
        let aad = Aad::new(decoded("cHJvamVjdD1uaWxlLGRlcGFydG1lbnQ9bWFya2V0aW5n")).unwrap();
        let metadata = CiphertextMetadata::parse(&decoded("a2V5X3ZlcnNpb249MQ==")).unwrap();
        let value = integrity_value(
            &aad,
            &metadata,
            &decoded("HMrlRw85cAJUd5Ax"),
            &decoded("ghxkK1txeDNn3q8Y"),
            &decoded("vBxN2ncH1oEkR8WVXpmyYQ==").try_into().unwrap(),
        );
        let expected = "qHA/ImC9h5HsLRXqCyPmWgYx7tzyoTplzILbP0fPXsc=";
        assert_eq!(BASE64_STANDARD.encode(value), expected);
    }

    /// FIPS 180-4's two-block message, cut into the five parts.
    #[test]
    fn parts_stand_in_order_without_lengths() {
        let aad = Aad::new(b"abcdbcde".to_vec()).unwrap();
        let metadata = CiphertextMetadata::parse(b"cdefdefg").unwrap();
        let value =
            integrity_value(&aad, &metadata, b"efghfghighij", b"hijkijkljklm", b"klmnlmnomnopnopq");
        let expected = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
        assert_eq!(hex::encode(value), expected);
    }

    #[test]
    fn what_is_absent_is_empty() {
        let empty = Aad::new(Vec::new()).unwrap();
        let none = CiphertextMetadata::default();
        let tag = [3; 16];
        assert_eq!(
            integrity_value(&Aad::absent(), &none, &[1; 12], &[2; 9], &tag),
            integrity_value(&empty, &none, &[1; 12], &[2; 9], &tag)
        );
    }
}
