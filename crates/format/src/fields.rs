//! Maps with numbered fields: even ones must be understood, odd ones may be
//! passed over but are kept (format.md, "Fields").

use std::ops::{Range, RangeInclusive};

use crate::HeaderError;
use crate::cbor::{self, Reader};
use crate::limits::MAX_DEPTH;

/// Fields that this version gives no meaning to, as they were read, in ascending
/// order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OddFields(Vec<(u64, Vec<u8>)>);

/// The fields of one map that have not been asked for yet.
pub(crate) struct Fields<'a> {
    reader: Reader<'a>,
    at: usize,
    /// In ascending order.
    found: Vec<Found>,
}

struct Found {
    key: u64,
    key_at: usize,
    value: Range<usize>,
    is_taken: bool,
}

impl<'a> Fields<'a> {
    /// Reads a map and leaves `reader` behind it. Every value has been checked
    /// to be deterministic CBOR; its type has not.
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        expected: &'static str,
    ) -> Result<Self, HeaderError> {
        let at = reader.position();
        let count = reader.map(expected)?;
        let mut found: Vec<Found> = Vec::new();
        for _ in 0..count {
            let key_at = reader.position();
            let key = reader.uint("an unsigned integer as map key")?;
            if found.last().is_some_and(|last| key <= last.key) {
                return Err(HeaderError::malformed(
                    key_at,
                    "map keys in ascending order, none twice",
                ));
            }
            let value = reader.item(MAX_DEPTH - 1)?;
            found.push(Found { key, key_at, value, is_taken: false });
        }
        Ok(Self { reader: reader.clone(), at, found })
    }

    /// The field `key`, which must be there. `expected` describes it in errors.
    pub(crate) fn required(
        &mut self,
        key: u64,
        expected: &'static str,
    ) -> Result<Value<'a>, HeaderError> {
        self.optional(key, expected).ok_or(HeaderError::malformed(self.at, expected))
    }

    pub(crate) fn optional(&mut self, key: u64, expected: &'static str) -> Option<Value<'a>> {
        let place = self.found.binary_search_by_key(&key, |found| found.key).ok()?;
        let found = &mut self.found[place];
        found.is_taken = true;
        Some(Value { reader: self.reader.within(found.value.clone()), expected })
    }

    /// The fields nobody asked for: refused when even, kept when odd.
    pub(crate) fn rest(self) -> Result<OddFields, HeaderError> {
        let mut odd = Vec::new();
        for Found { key, key_at, value, .. } in self.found.into_iter().filter(|it| !it.is_taken) {
            if key % 2 == 0 {
                return Err(HeaderError::UnknownField { offset: key_at, key });
            }
            odd.push((key, self.reader.slice(value).to_vec()));
        }
        Ok(OddFields(odd))
    }
}

/// One field's value, read as the type that its field has.
pub(crate) struct Value<'a> {
    reader: Reader<'a>,
    expected: &'static str,
}

impl<'a> Value<'a> {
    pub(crate) fn uint(mut self) -> Result<u64, HeaderError> {
        self.reader.uint(self.expected)
    }

    pub(crate) fn byte_array<const N: usize>(self) -> Result<[u8; N], HeaderError> {
        let malformed = self.malformed();
        let bytes = self.bytes(N..=N)?;
        bytes.try_into().map_err(|_| malformed)
    }

    pub(crate) fn bytes(mut self, len: RangeInclusive<usize>) -> Result<&'a [u8], HeaderError> {
        let malformed = self.malformed();
        let content = self.reader.bytes(self.expected)?;
        len.contains(&content.len()).then(|| self.reader.slice(content)).ok_or(malformed)
    }

    /// Text that `is_valid` accepts.
    pub(crate) fn text(mut self, is_valid: fn(&str) -> bool) -> Result<&'a str, HeaderError> {
        let malformed = self.malformed();
        let text = self.reader.text(self.expected)?;
        is_valid(text).then_some(text).ok_or(malformed)
    }

    /// The encoded item, to be read further.
    pub(crate) fn into_reader(self) -> Reader<'a> {
        self.reader
    }

    fn malformed(&self) -> HeaderError {
        HeaderError::malformed(self.reader.position(), self.expected)
    }
}

/// Builds a map; fields may be added in any order.
pub(crate) struct FieldsWriter {
    /// The values, one behind the other.
    values: Vec<u8>,
    /// Which field is where.
    fields: Vec<(u64, Range<usize>)>,
}

impl FieldsWriter {
    pub(crate) fn new(odd: &OddFields) -> Self {
        let writer = Self { values: Vec::with_capacity(512), fields: Vec::with_capacity(8) };
        odd.0.iter().fold(writer, |writer, (key, value)| writer.encoded(*key, value))
    }

    pub(crate) fn uint(self, key: u64, n: u64) -> Self {
        self.put(key, |out| cbor::put_uint(out, n))
    }

    pub(crate) fn bytes(self, key: u64, bytes: &[u8]) -> Self {
        self.put(key, |out| cbor::put_bytes(out, bytes))
    }

    pub(crate) fn text(self, key: u64, text: &str) -> Self {
        self.put(key, |out| cbor::put_text(out, text))
    }

    /// A value that is encoded already.
    pub(crate) fn encoded(self, key: u64, value: &[u8]) -> Self {
        self.put(key, |out| out.extend_from_slice(value))
    }

    /// The map. The order of unsigned integers is the order of their encodings.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.fields.sort_unstable_by_key(|(key, _)| *key);
        let mut out = Vec::with_capacity(self.values.len() + 2 * self.fields.len() + 2);
        cbor::put_map(&mut out, self.fields.len());
        for (key, value) in self.fields {
            cbor::put_uint(&mut out, key);
            out.extend_from_slice(&self.values[value]);
        }
        out
    }

    fn put(mut self, key: u64, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let start = self.values.len();
        write(&mut self.values);
        self.fields.push((key, start..self.values.len()));
        self
    }
}
