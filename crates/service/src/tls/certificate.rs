//! What a certificate says of itself, as far as a server has to know it: when it
//! is valid, and whose it is (RFC 5280). Nothing here verifies anything.
//!
//! A reader of the few DER elements on the way to them: definite lengths, each
//! element inside of the one around it.

use std::time::SystemTime;

use crate::calendar;

/// Facts of an X.509 certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// The subject's common names: often one, or none.
    pub(super) common_names: Vec<String>,
    /// The DNS names of the subject alternative names.
    pub(super) dns_names: Vec<String>,
}

impl Facts {
    /// The facts of a DER certificate, if it is one.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let mut certificate = Reader(Reader(der).expect(SEQUENCE)?);
        let mut to_be_signed = Reader(certificate.expect(SEQUENCE)?);
        to_be_signed.skip_if(CONTEXT_0)?; // version
        to_be_signed.expect(INTEGER)?; // serial number
        to_be_signed.expect(SEQUENCE)?; // signature algorithm
        to_be_signed.expect(SEQUENCE)?; // issuer
        let mut validity = Reader(to_be_signed.expect(SEQUENCE)?);
        let not_before = time(validity.next()?)?;
        let not_after = time(validity.next()?)?;
        let common_names = common_names(to_be_signed.expect(SEQUENCE)?)?;
        to_be_signed.expect(SEQUENCE)?; // public key
        let dns_names = dns_names(to_be_signed)?;
        Some(Self { not_before, not_after, common_names, dns_names })
    }

    /// Whose it is, by either kind of name.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.common_names.iter().chain(&self.dns_names)
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const DNS_NAME: u8 = 0x82;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_3: u8 = 0xa3;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03]; // 2.5.4.3
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11]; // 2.5.29.17

fn common_names(name: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut relative_names = Reader(name);
    while !relative_names.is_empty() {
        let mut attributes = Reader(relative_names.expect(SET)?);
        while !attributes.is_empty() {
            let mut attribute = Reader(attributes.expect(SEQUENCE)?);
            let kind = attribute.expect(OBJECT_IDENTIFIER)?;
            let (tag, value) = attribute.next()?;
            let is_text =
                matches!(tag, UTF8_STRING | PRINTABLE_STRING | TELETEX_STRING | IA5_STRING);
            if kind == COMMON_NAME && is_text {
                names.extend(text(value));
            }
        }
    }
    Some(names)
}

/// From what follows the public key.
fn dns_names(mut to_be_signed: Reader<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !to_be_signed.is_empty() {
        let (tag, content) = to_be_signed.next()?;
        if tag != CONTEXT_3 {
            continue;
        }
        let mut extensions = Reader(Reader(content).expect(SEQUENCE)?);
        while !extensions.is_empty() {
            let mut extension = Reader(extensions.expect(SEQUENCE)?);
            let kind = extension.expect(OBJECT_IDENTIFIER)?;
            extension.skip_if(BOOLEAN)?; // critical
            let value = extension.expect(OCTET_STRING)?;
            if kind == SUBJECT_ALT_NAME {
                names.extend(names_in(value)?);
            }
        }
    }
    Some(names)
}

fn names_in(value: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut alternatives = Reader(Reader(value).expect(SEQUENCE)?);
    while !alternatives.is_empty() {
        let (tag, content) = alternatives.next()?;
        if tag == DNS_NAME {
            names.extend(text(content));
        }
    }
    Some(names)
}

/// Printable ASCII only: nobody is called otherwise on purpose.
fn text(bytes: &[u8]) -> Option<String> {
    let printable = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    printable.then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// `YYMMDDHHMMSSZ`, or `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5).
fn time((tag, content): (u8, &[u8])) -> Option<SystemTime> {
    let digits = content.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (year + if year < 50 { 2000 } else { 1900 }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    // Roots made before 1970 are valid since 1970 for us.
    calendar::moment([year.max(1970), month, day, hour, minute, second])
}

/// Elements one after the other.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    /// Steps over the next element if it has this tag.
    fn skip_if(&mut self, tag: u8) -> Option<()> {
        if self.0.first() == Some(&tag) {
            self.next()?;
        }
        Some(())
    }

    /// Tag and content of the next element.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // No certificate is longer than three bytes of length can say.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn example() -> Vec<u8> {
        let mut params = CertificateParams::new(["a.example".into(), "b.example".into()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "kms.example");
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.not_before = date_time_ymd(2001, 9, 9);
        params.not_after = date_time_ymd(2051, 2, 3); // a GeneralizedTime
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn facts_of_a_certificate() {
        let facts = Facts::of(&example()).unwrap();
        assert_eq!(facts.common_names, ["kms.example"]);
        assert_eq!(facts.dns_names, ["a.example", "b.example"]);
        assert_eq!(facts.not_before, UNIX_EPOCH + Duration::from_secs(999_993_600));
        assert_eq!(facts.not_after, UNIX_EPOCH + Duration::from_secs(2_558_995_200));
    }

    #[test]
    fn no_cut_or_changed_certificate_panics() {
        let der = example();
        for len in 0..der.len() {
            assert_eq!(Facts::of(&der[..len]), None, "cut to {len}");
        }
        for at in 0..der.len() {
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[at] ^= 1 << bit;
                let _ = Facts::of(&changed); // any answer, but an answer
            }
        }
    }

    #[test]
    fn times_of_both_kinds() {
        let seconds = |text: &str, tag| {
            let time = time((tag, text.as_bytes()))?;
            time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
        };
        assert_eq!(seconds("010909014640Z", UTC_TIME), Some(1_000_000_000));
        assert_eq!(seconds("20010909014640Z", GENERALIZED_TIME), Some(1_000_000_000));
        assert_eq!(seconds("99991231235959Z", GENERALIZED_TIME), Some(253_402_300_799));
        assert_eq!(seconds("500101000000Z", UTC_TIME), Some(0));
        for bad in ["010909014640", "0109090146Z", "01090901464xZ", "011309014640Z", "", "Z"] {
            assert_eq!(seconds(bad, UTC_TIME), None, "{bad}");
        }
        assert_eq!(seconds("010909014640Z", GENERALIZED_TIME), None);
    }
}
