//! Security identifiers of Windows, as text (\[MS-DTYP\] section 2.4.2.1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A security identifier, as `S-1-5-21-1004336348-1177238915-682003330-512`, in
/// the one form that it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid(String);

/// What is no SID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SID is S-1-, an authority and 1 to 15 numbers, as in S-1-5-21-1-2-3-512")]
pub struct NoSid;

impl Sid {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sid {
    type Err = NoSid;

    fn from_str(text: &str) -> Result<Self, NoSid> {
        let mut parts = text.strip_prefix("S-1-").ok_or(NoSid)?.split('-');
        let authority = parts.next().is_some_and(is_authority);
        let numbers: Vec<_> = parts.map(|part| is_number(part, u32::MAX.into())).collect();
        let is_good = authority && (1..=15).contains(&numbers.len()) && !numbers.contains(&false);
        is_good.then(|| Self(text.to_owned())).ok_or(NoSid)
    }
}

/// Decimal below 2^32, and from there on hexadecimal.
fn is_authority(part: &str) -> bool {
    match part.strip_prefix("0x") {
        Some(hex) => {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
            hex.len() == 12 && hex.bytes().all(is_hex) && !hex.starts_with("0000")
        }
        None => is_number(part, u32::MAX.into()),
    }
}

fn is_number(part: &str, most: u64) -> bool {
    part.parse().is_ok_and(|number: u64| number <= most && number.to_string() == part)
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_form_is_a_sid() {
        for good in [
            "S-1-5-32-544",
            "S-1-1-0",
            "S-1-5-21-1004336348-1177238915-682003330-4294967295",
            "S-1-0x010000000000-1",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15",
        ] {
            assert_eq!(good.parse::<Sid>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "S",
            "S-1",
            "S-1-",
            "S-1-5",
            "S-1-5-",
            "s-1-5-32",
            "S-2-5-32",
            "S-1-5-4294967296",
            "S-1-5-032",
            "S-1-5-+3",
            "S-1-5--3",
            "S-1-5-32 ",
            " S-1-5-32",
            "S-1-5-32\n",
            "S-1-5-3\0",
            "S-1-5-*",
            "S-1-5-32)(objectSid=*",
            "S-1-5-32)(|(cn=*",
            "S-1-5-\u{663}",
            "S-1-0x1-1",
            "S-1-0x000000000005-1",
            "S-1-0x01000000000g-1",
            "S-1-5-1-2-3-4-5-6-7-8-9-10-11-12-13-14-15-16",
            "S-1-4294967296-1",
        ] {
            assert_eq!(bad.parse::<Sid>(), Err(NoSid), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_sid_never_has_what_a_filter_minds(text in "S-1-[0-9x()*\\\\\0a-f-]{0,20}|.{0,40}") {
            if let Ok(sid) = text.parse::<Sid>() {
                prop_assert!(sid.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
                prop_assert_eq!(sid.as_str(), text);
            }
        }
    }
}
