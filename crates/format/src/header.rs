//! The header: what it holds, how it is read, how it is written.

use crate::cbor::{self, Reader};
use crate::fields::{Fields, FieldsWriter, OddFields};
use crate::limits::{
    HEADER_TAG_LEN, MAX_BODY_LEN, MAX_HEADER_LEN, MAX_KEYSLOTS, MIN_STANDARD_PADDING, PADDING_STEP,
    PREFIX_LEN,
};
use crate::schedule::HeaderKey;
use crate::{
    EncryptionContext, EnvelopeId, Generation, HeaderError, HeaderTooLarge, InvalidHeader, Keyslot,
    PairKeyslot, PayloadSuite, TamperedHeader, WrappedPair,
};

pub(crate) const VERSION: u8 = 1;
const MAGIC: &[u8; 8] = b"TWINLOCK";

/// What a header says. Where it comes from decides whether to believe it: see
/// [`UnverifiedHeader`] and [`VerifiedHeader`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    envelope_id: EnvelopeId,
    payload_suite: PayloadSuite,
    generation: Generation,
    context: EncryptionContext,
    keyslots: Vec<Keyslot>,
    odd: OddFields,
}

impl Header {
    /// The first header of an envelope, of generation 0.
    ///
    /// # Errors
    /// When there is no keyslot, more than 16, or a share pair twice.
    pub fn new(
        envelope_id: EnvelopeId,
        context: EncryptionContext,
        keyslots: Vec<Keyslot>,
    ) -> Result<Self, InvalidHeader> {
        check_keyslots(&keyslots)?;
        Ok(Self {
            envelope_id,
            payload_suite: PayloadSuite::Floe,
            generation: Generation::default(),
            context,
            keyslots,
            odd: OddFields::default(),
        })
    }

    /// The header that replaces this one: other keyslots, the next generation,
    /// everything else as it was (format.md, "Rewrap").
    ///
    /// # Errors
    /// As [`Header::new`], and when the generation is the last one.
    pub fn rewrapped(&self, keyslots: Vec<Keyslot>) -> Result<Self, InvalidHeader> {
        check_keyslots(&keyslots)?;
        let generation = self.generation.next().ok_or(InvalidHeader::LastGeneration)?;
        Ok(Self { generation, keyslots, ..self.clone() })
    }

    /// The envelope's name.
    #[must_use]
    pub fn envelope_id(&self) -> EnvelopeId {
        self.envelope_id
    }

    /// How the payload is encrypted.
    #[must_use]
    pub fn payload_suite(&self) -> PayloadSuite {
        self.payload_suite
    }

    /// How often the header has been rewrapped.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The caller's pairs.
    #[must_use]
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// All 1 to 16 keyslots, in the header's order.
    #[must_use]
    pub fn keyslots(&self) -> &[Keyslot] {
        &self.keyslots
    }

    /// The keyslots that this version can open, in the header's order.
    pub fn supported_keyslots(&self) -> impl Iterator<Item = &PairKeyslot> {
        self.keyslots.iter().filter_map(Keyslot::as_pair).filter(|keyslot| keyslot.is_supported())
    }

    /// Encodes the header with `padding`, to be signed.
    ///
    /// # Errors
    /// When it does not fit into 65,536 bytes or the room that `padding` names.
    pub fn encode(&self, padding: Padding) -> Result<UnsignedHeader, HeaderTooLarge> {
        let mut body = self.encode_body();
        let unpadded = PREFIX_LEN + body.len() + HEADER_TAG_LEN;
        let len = padding.header_len(unpadded)?;
        body.resize(body.len() + len - unpadded, 0);

        let mut bytes = Vec::with_capacity(len);
        bytes.extend(Prefix { body_len: body.len() }.encode());
        bytes.extend(body);
        Ok(UnsignedHeader { bytes })
    }

    fn encode_body(&self) -> Vec<u8> {
        FieldsWriter::new(&self.odd)
            .bytes(0, self.envelope_id.as_bytes())
            .uint(2, self.payload_suite.id())
            .uint(4, self.generation.0)
            .encoded(6, &self.context.encoded())
            .encoded(8, &encode_keyslots(&self.keyslots))
            .finish()
    }

    /// Reads the body's map and leaves `reader` behind it.
    fn parse(reader: &mut Reader<'_>) -> Result<Self, HeaderError> {
        let mut fields = Fields::read(reader, "the body's map")?;
        let suite = fields.required(2, "a payload suite (key 2)")?.uint()?;
        let payload_suite =
            PayloadSuite::from_id(suite).ok_or(HeaderError::UnsupportedPayloadSuite(suite))?;
        let envelope_id = fields.required(0, "an envelope id of 32 bytes (key 0)")?;
        let generation = fields.required(4, "a generation (key 4)")?;
        let context = fields.required(6, CONTEXT)?;
        let keyslots = fields.required(8, KEYSLOTS)?;
        Ok(Self {
            envelope_id: EnvelopeId(envelope_id.byte_array()?),
            payload_suite,
            generation: Generation(generation.uint()?),
            context: EncryptionContext::parse(context.into_reader(), CONTEXT)?,
            keyslots: parse_keyslots(keyslots.into_reader())?,
            odd: fields.rest()?,
        })
    }
}

const CONTEXT: &str = "an encryption context: a map of text to text (key 6)";
const KEYSLOTS: &str = "an array of 1 to 16 keyslots (key 8)";

fn parse_keyslots(mut reader: Reader<'_>) -> Result<Vec<Keyslot>, HeaderError> {
    let at = reader.position();
    let count = reader.array(KEYSLOTS)?;
    if !(1..=MAX_KEYSLOTS as u64).contains(&count) {
        return Err(HeaderError::malformed(at, KEYSLOTS));
    }
    let mut keyslots = Vec::new();
    for _ in 0..count {
        let at = reader.position();
        keyslots.push(Keyslot::parse(&mut reader)?);
        check_keyslots(&keyslots)
            .map_err(|_| HeaderError::malformed(at, "each share pair once"))?;
    }
    Ok(keyslots)
}

fn encode_keyslots(keyslots: &[Keyslot]) -> Vec<u8> {
    let mut out = Vec::new();
    cbor::put_array(&mut out, keyslots.len());
    keyslots.iter().for_each(|keyslot| keyslot.encode(&mut out));
    out
}

fn check_keyslots(keyslots: &[Keyslot]) -> Result<(), InvalidHeader> {
    if !(1..=MAX_KEYSLOTS).contains(&keyslots.len()) {
        return Err(InvalidHeader::KeyslotCount(keyslots.len()));
    }
    let pairs = keyslots.iter().filter_map(Keyslot::as_pair).map(PairKeyslot::pair);
    let mut ids: Vec<_> = pairs.map(WrappedPair::pair_id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(InvalidHeader::RepeatedPair(two[0])),
        None => Ok(()),
    }
}

/// A header's first 16 bytes, from which its length is known.
///
/// A reader of a stream takes these first, and allocates for the rest only
/// when they are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    body_len: usize,
}

impl Prefix {
    /// Reads the first 16 bytes of `bytes`; what follows is not looked at.
    ///
    /// # Errors
    /// [`HeaderError::NotTwinlock`] as soon as a byte differs from the magic,
    /// even when there are fewer than 16.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let magic_len = bytes.len().min(MAGIC.len());
        if bytes[..magic_len] != MAGIC[..magic_len] {
            return Err(HeaderError::NotTwinlock);
        }
        let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>() else {
            return Err(HeaderError::Truncated { have: bytes.len(), need: PREFIX_LEN });
        };
        let [.., version, r1, r2, r3, l1, l2, l3, l4] = *prefix;
        if version != VERSION {
            return Err(HeaderError::UnsupportedVersion(version));
        }
        if [r1, r2, r3] != [0; 3] {
            return Err(HeaderError::malformed(9, "three zero bytes"));
        }
        let body_len = u32::from_be_bytes([l1, l2, l3, l4]) as usize;
        if body_len > MAX_BODY_LEN {
            return Err(HeaderError::malformed(12, "a body of at most 65,488 bytes"));
        }
        Ok(Self { body_len })
    }

    /// Bytes of the body, padding included.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// Bytes of the whole header: this prefix, the body and the tag.
    #[must_use]
    pub fn header_len(&self) -> usize {
        PREFIX_LEN + self.body_len + HEADER_TAG_LEN
    }

    fn encode(self) -> [u8; PREFIX_LEN] {
        let body_len = u32::try_from(self.body_len).expect("a body has at most 65,488 bytes");
        let mut bytes = [0; PREFIX_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[12..].copy_from_slice(&body_len.to_be_bytes());
        bytes
    }
}

/// Zero bytes between a header's fields and its tag, so that a later rewrap
/// finds room to replace the header in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// See [`standard_header_len`].
    #[default]
    Standard,
    /// So many bytes of padding.
    Bytes(usize),
    /// As much padding as makes the whole header so many bytes long.
    FillTo(usize),
}

impl Padding {
    fn header_len(self, unpadded: usize) -> Result<usize, HeaderTooLarge> {
        let (needed, room) = match self {
            Self::Standard => (standard_header_len(unpadded), MAX_HEADER_LEN),
            Self::Bytes(padding) => (unpadded.saturating_add(padding), MAX_HEADER_LEN),
            Self::FillTo(len) => (unpadded.max(len), len.min(MAX_HEADER_LEN)),
        };
        if needed > room {
            return Err(HeaderTooLarge { needed, room });
        }
        Ok(needed)
    }
}

/// The length our writer gives a header that takes `unpadded` bytes with its
/// prefix and its tag: at least 512 bytes more, rounded up to a multiple of
/// 2048, but never more than 65,536 because of the padding.
#[must_use]
pub const fn standard_header_len(unpadded: usize) -> usize {
    if unpadded > MAX_HEADER_LEN {
        return unpadded;
    }
    let padded = (unpadded + MIN_STANDARD_PADDING).next_multiple_of(PADDING_STEP);
    if padded > MAX_HEADER_LEN {
        return MAX_HEADER_LEN;
    }
    padded
}

/// A header's bytes, all but the tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedHeader {
    bytes: Vec<u8>,
}

impl UnsignedHeader {
    /// Bytes of the whole header, with the tag that it still lacks.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.bytes.len() + HEADER_TAG_LEN
    }

    /// The bytes that the tag is computed over.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole header, ready to be written.
    #[must_use]
    pub fn sign(self, key: &HeaderKey) -> Vec<u8> {
        let mut bytes = self.bytes;
        let tag = key.tag(&bytes);
        bytes.extend(tag);
        bytes
    }
}

/// A header that is well formed and may still be a forgery.
///
/// Everything in it is the word of whoever stored the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedHeader {
    bytes: Vec<u8>,
    header: Header,
    padding_len: usize,
}

impl UnverifiedHeader {
    /// Reads a whole header and nothing behind it; see [`Prefix::header_len`].
    ///
    /// Whatever parses is canonical: [`Header::encode`] with the same padding
    /// gives the same bytes again.
    ///
    /// # Errors
    /// What is wrong with the bytes, and where.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, HeaderError> {
        let bytes = bytes.into();
        let header_len = Prefix::parse(&bytes)?.header_len();
        if bytes.len() < header_len {
            return Err(HeaderError::Truncated { have: bytes.len(), need: header_len });
        }
        if bytes.len() > header_len {
            return Err(HeaderError::malformed(header_len, "the end of the header"));
        }
        let body_end = header_len - HEADER_TAG_LEN;
        let mut reader = Reader::new(&bytes, PREFIX_LEN..body_end);
        let header = Header::parse(&mut reader)?;
        let padding = reader.position()..body_end;
        check_padding(&bytes[padding.clone()], padding.start)?;
        Ok(Self { header, padding_len: padding.len(), bytes })
    }

    /// What the header claims.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of padding.
    #[must_use]
    pub fn padding_len(&self) -> usize {
        self.padding_len
    }

    /// The bytes that were parsed, with the tag.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks the header tag over the bytes that were parsed, in constant time.
    ///
    /// # Errors
    /// When the tag is of another header or another key (format.md#R25).
    pub fn verify(self, key: &HeaderKey) -> Result<VerifiedHeader, TamperedHeader> {
        let (signed, tag) = self.bytes.split_at(self.bytes.len() - HEADER_TAG_LEN);
        key.verify(signed, tag)?;
        Ok(VerifiedHeader(self))
    }
}

fn check_padding(padding: &[u8], start: usize) -> Result<(), HeaderError> {
    match padding.iter().position(|byte| *byte != 0) {
        Some(i) => Err(HeaderError::malformed(start + i, "a zero byte of padding")),
        None => Ok(()),
    }
}

/// A header whose tag was made with its DEK.
///
/// It was written by someone who could open the envelope. That may be anyone
/// who ever could, and the header may be an old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedHeader(UnverifiedHeader);

impl VerifiedHeader {
    /// What the header says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// What the header says, without its bytes.
    #[must_use]
    pub fn into_header(self) -> Header {
        self.0.header
    }

    /// Bytes of padding.
    #[must_use]
    pub fn padding_len(&self) -> usize {
        self.0.padding_len
    }

    /// The header's bytes, with the tag.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.bytes
    }
}
