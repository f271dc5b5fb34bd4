//! What a header holds, and its body's bytes.

use crate::cbor::{self, Reader};
use crate::fields::{Fields, FieldsWriter, OddFields};
use crate::limits::{HEADER_TAG_LEN, MAX_KEYSLOTS, PREFIX_LEN};
use crate::{
    EncryptionContext, EnvelopeId, Generation, HeaderError, HeaderTooLarge, InvalidHeader, Keyslot,
    Padding, PairKeyslot, PayloadSuite, Prefix, UnsignedHeader, WrappedPair,
};

/// What a header says. Where it comes from decides whether to believe it: see
/// [`UnverifiedHeader`](crate::UnverifiedHeader) and
/// [`VerifiedHeader`](crate::VerifiedHeader).
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
        let body = self.encode_body();
        let len = padding.header_len(PREFIX_LEN + body.len() + HEADER_TAG_LEN)?;
        let body_end = len - HEADER_TAG_LEN;

        let mut bytes = Vec::with_capacity(len);
        bytes.extend(Prefix::of_body(body_end - PREFIX_LEN).encode());
        bytes.extend(body);
        bytes.resize(body_end, 0);
        Ok(UnsignedHeader::new(bytes))
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
    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, HeaderError> {
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
