//! Pins of public keys.

use std::fmt;
use std::str::FromStr;

/// The SHA-256 of a public key's `SubjectPublicKeyInfo` (DER), which is what
/// `openssl pkey -pubin -outform DER | sha256sum` prints.
///
/// Its text is `sha256:` and 64 hexadecimal digits; the digits alone are read
/// too.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

/// A text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinError;

impl Pin {
    pub(super) fn of(spki_sha256: [u8; 32]) -> Self {
        Self(spki_sha256)
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| PinError)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pin is sha256: and 64 hexadecimal digits")
    }
}

impl std::error::Error for PinError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_has_one_text_and_two_that_are_read() {
        let digits = "0123456789abcdef".repeat(4);
        let pin: Pin = digits.parse().unwrap();
        assert_eq!(pin.to_string(), format!("sha256:{digits}"));
        assert_eq!(format!("sha256:{}", digits.to_uppercase()).parse(), Ok(pin));
        assert_eq!(pin.bytes()[..2], [0x01, 0x23]);
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        let (short, long) = ("0".repeat(63), "0".repeat(65));
        let other = format!("sha512:{}", "0".repeat(64));
        let (spaces, odd) = (format!(" {}", "0".repeat(64)), "g".repeat(64));
        for text in ["", "sha256:", &short, &long, &other, &spaces, &odd] {
            assert_eq!(text.parse::<Pin>(), Err(PinError), "{text}");
        }
    }
}
