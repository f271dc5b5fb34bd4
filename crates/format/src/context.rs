//! The encryption context: the caller's pairs, readable but bound to the file.

use std::cmp::Ordering;
use std::fmt;

use crate::cbor::{self, Reader};
use crate::limits::MAX_CONTEXT_LEN;
use crate::text::escape_untrusted;
use crate::{ContextError, HeaderError};

/// What a caller's key may not begin with, in any ASCII case.
const RESERVED_PREFIXES: [&str; 2] = ["twinlock:", "aws:"];

/// The caller's key-value pairs (format.md, "Encryption context").
///
/// Both are compared byte for byte, without Unicode normalisation. The context
/// stands readable in the header and in the logs of key holders: it is no place
/// for secrets.
///
/// ```
/// use twinlock_format::EncryptionContext;
///
/// let context = EncryptionContext::from_pairs([("object", "invoices/1.pdf"), ("env", "prod")])?;
/// // In the order of the encoding: short keys first.
/// assert_eq!(context.iter().next(), Some(("env", "prod")));
/// # Ok::<(), twinlock_format::ContextError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct EncryptionContext {
    /// In canonical order.
    pairs: Vec<(String, String)>,
}

impl EncryptionContext {
    /// A context without pairs.
    #[must_use]
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// A context of these pairs, in any order.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, ContextError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let mut context = Self::new();
        for (key, value) in pairs {
            context.insert(key, value)?;
        }
        Ok(context)
    }

    /// Adds a pair.
    ///
    /// # Errors
    /// When the key is empty, reserved or already there, when the pair holds a
    /// control character, or when the context would be longer than 4096 bytes
    /// encoded (format.md#R16). The context is then as it was.
    pub fn insert(
        &mut self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), ContextError> {
        let (key, value) = (key.into(), value.into());
        check_pair(&key, &value)?;
        let Err(place) = self.find(&key) else {
            return Err(ContextError::DuplicateKey(key));
        };
        self.pairs.insert(place, (key, value));
        self.check_len().inspect_err(|_| drop(self.pairs.remove(place)))
    }

    /// The pairs in the order of the encoding: by length of the key, then by its bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let place = self.find(key).ok()?;
        Some(&self.pairs[place].1)
    }

    /// Number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether every pair of `expected` is here with the same value.
    #[must_use]
    pub fn contains_all(&self, expected: &Self) -> bool {
        expected.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    /// The deterministic CBOR map, as it stands in a header and is hashed.
    #[must_use]
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_len());
        cbor::put_map(&mut out, self.pairs.len());
        for (key, value) in &self.pairs {
            cbor::put_text(&mut out, key);
            cbor::put_text(&mut out, value);
        }
        out
    }

    /// Reads an item that [`Reader::item`] has passed over, so its keys ascend.
    pub(crate) fn parse(
        mut reader: Reader<'_>,
        expected: &'static str,
    ) -> Result<Self, HeaderError> {
        let at = reader.position();
        let count = reader.map(expected)?;
        let mut context = Self::new();
        for _ in 0..count {
            context.push(&mut reader, expected)?;
        }
        context.check_len().map_err(|e| HeaderError::malformed(at, e.expected()))?;
        Ok(context)
    }

    fn push(&mut self, reader: &mut Reader<'_>, expected: &'static str) -> Result<(), HeaderError> {
        let at = reader.position();
        let (key, value) = (reader.text(expected)?, reader.text(expected)?);
        check_pair(key, value).map_err(|e| HeaderError::malformed(at, e.expected()))?;
        self.pairs.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(have, _)| canonical_order(have, key))
    }

    fn check_len(&self) -> Result<(), ContextError> {
        match self.encoded_len() {
            ..=MAX_CONTEXT_LEN => Ok(()),
            len => Err(ContextError::TooLong(len)),
        }
    }

    fn encoded_len(&self) -> usize {
        let text_len = |text: &String| cbor::head_len(text.len()) + text.len();
        let pairs = self.pairs.iter().map(|(key, value)| text_len(key) + text_len(value));
        cbor::head_len(self.pairs.len()) + pairs.sum::<usize>()
    }
}

/// The order of the encoded keys. A text's head sorts by length, so this is not
/// the order of the texts themselves.
fn canonical_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn check_pair(key: &str, value: &str) -> Result<(), ContextError> {
    if key.is_empty() {
        return Err(ContextError::EmptyKey);
    }
    if RESERVED_PREFIXES.iter().any(|prefix| begins_with(key, prefix)) {
        return Err(ContextError::ReservedKey(key.to_owned()));
    }
    if key.chars().chain(value.chars()).any(char::is_control) {
        return Err(ContextError::ControlCharacter(key.to_owned()));
    }
    Ok(())
}

fn begins_with(key: &str, prefix: &str) -> bool {
    key.as_bytes()
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

impl fmt::Display for EncryptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{}={}", escape_untrusted(key), escape_untrusted(value))?;
        }
        Ok(())
    }
}

impl fmt::Debug for EncryptionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
