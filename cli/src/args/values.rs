//! Values of flags that are more than a word.

use std::str::FromStr;

use clap::ValueEnum;

/// The type of a new key in a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum KekType {
    #[default]
    #[value(name = "aes-256")]
    Aes256,
    #[value(name = "rsa-2048")]
    Rsa2048,
    #[value(name = "rsa-3072")]
    Rsa3072,
    #[value(name = "rsa-4096")]
    Rsa4096,
}

/// `KEY=VALUE`. The value may hold further `=` and may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContextPair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for ContextPair {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some(("", _)) | None => Err("expected KEY=VALUE"),
            Some((key, value)) => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
        }
    }
}

/// `A..B`, half open; either may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) start: u64,
    /// Before which byte; the end of the file without it.
    pub(crate) end: Option<u64>,
}

impl FromStr for ByteRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected A..B, A.. or ..B, with A and B in bytes";
        let (start, end) = text.split_once("..").ok_or(EXPECTED)?;
        let start = offset(start).ok_or(EXPECTED)?.unwrap_or(0);
        let end = offset(end).ok_or(EXPECTED)?;
        match end {
            Some(end) if end < start => Err("the range ends before it begins"),
            _ => Ok(Self { start, end }),
        }
    }
}

/// A number, or nothing at all.
fn offset(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    // `parse` alone would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().map(Some)
}

/// `PROVIDER_URI,CUSTOMER_URI`. A `pkcs11` URI may hold commas itself, and a PIN:
/// so clap, which repeats what it cannot parse, does not parse it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyslotUris {
    pub(crate) provider: String,
    pub(crate) customer: String,
}

/// What a customer's URI begins with.
const CUSTOMER_SCHEMES: [&str; 3] = ["pkcs11:", "dke+https://", "file://"];

impl FromStr for KeyslotUris {
    type Err = &'static str;

    /// Splits at the first comma behind which a customer's URI begins.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.match_indices(',')
            .map(|(comma, _)| (&text[..comma], &text[comma + 1..]))
            .find(|(_, customer)| CUSTOMER_SCHEMES.iter().any(|s| customer.starts_with(s)))
            .map(|(provider, customer)| Self {
                provider: provider.to_owned(),
                customer: customer.to_owned(),
            })
            .ok_or("expected PROVIDER_URI,CUSTOMER_URI, for instance aws-kms://…,pkcs11:…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_pair_is_split_at_its_first_equals_sign() {
        let pair = |text: &str| text.parse::<ContextPair>().map(|p| (p.key, p.value));
        assert_eq!(pair("a=b"), Ok(("a".into(), "b".into())));
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err());
        assert!(pair("=b").is_err());
        assert!(pair("").is_err());
    }

    #[test]
    fn ranges_are_half_open_and_either_end_may_be_left_out() {
        let range = |text: &str| text.parse::<ByteRange>().map(|r| (r.start, r.end));
        assert_eq!(range("0..10"), Ok((0, Some(10))));
        assert_eq!(range("5.."), Ok((5, None)));
        assert_eq!(range("..7"), Ok((0, Some(7))));
        assert_eq!(range(".."), Ok((0, None)));
        assert_eq!(range("7..7"), Ok((7, Some(7))));
        assert_eq!(range("0..18446744073709551615"), Ok((0, Some(u64::MAX))));
    }

    #[test]
    fn odd_ranges_are_refused() {
        let odd = [
            "",
            "7",
            "7-9",
            "9..7",
            "+1..2",
            "-1..2",
            "1..=2",
            "1...2",
            "a..b",
            " 1..2",
            "1..2..3",
            "0..18446744073709551616",
        ];
        for text in odd {
            assert!(text.parse::<ByteRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_keyslot_is_split_before_the_customers_scheme() {
        let keyslot = |text: &str| text.parse::<KeyslotUris>().map(|k| (k.provider, k.customer));
        assert_eq!(
            keyslot("aws-kms://alias/a,pkcs11:token=x,y;object=k,file://z"),
            Ok(("aws-kms://alias/a".into(), "pkcs11:token=x,y;object=k,file://z".into()))
        );
        assert_eq!(
            keyslot("file:///a,b,file:///c,d"),
            Ok(("file:///a,b".into(), "file:///c,d".into()))
        );
        assert_eq!(
            keyslot("aws-kms://alias/a,dke+https://host/key"),
            Ok(("aws-kms://alias/a".into(), "dke+https://host/key".into()))
        );
        assert!(keyslot("aws-kms://alias/a").is_err());
        assert!(keyslot("aws-kms://alias/a,b").is_err());
        assert!(keyslot("pkcs11:token=t;object=o,aws-kms://alias/a").is_err());
    }
}
