//! Keyslots: each is one way in (format.md, "Keyslots").

use crate::cbor::{self, Reader};
use crate::fields::{Fields, FieldsWriter, OddFields, Value};
use crate::limits::{
    MAX_KEY_VERSION_LEN, MAX_URI_LEN, MAX_WRAPPED_SHARE_LEN, SHARE_CHECK_LEN, WRAPPED_DEK_LEN,
};
use crate::{HeaderError, InvalidShareSlot, KekSuite, PairId, SameKey, ShareAlgorithm, Side};

/// The kind of keyslot that this version opens.
const PAIR: u64 = 1;

/// One way in. Any keyslot of a header opens its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keyslot {
    /// Kind 1: a provider share, a customer share and the wrapped DEK.
    Pair(Box<PairKeyslot>),
    /// A kind without a meaning here: skipped by readers, kept by rewrap.
    Unknown(UnknownKeyslot),
}

/// A keyslot of a kind that this version does not know. Only parsing makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKeyslot {
    kind: u64,
    content: Vec<u8>,
}

/// A keyslot of kind 1: both holders are needed to open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairKeyslot {
    kek_suite: KekSuite,
    pair: WrappedPair,
    wrapped_dek: [u8; WRAPPED_DEK_LEN],
    odd: OddFields,
}

/// A share pair, each share wrapped by its holder.
///
/// One wrapped pair may stand in several headers that have an identical
/// encryption context; the wrapped DEK differs in each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedPair {
    pair_id: PairId,
    provider: ShareSlot,
    customer: ShareSlot,
}

/// One wrapped share and what its reader needs to have it unwrapped.
///
/// From a parsed header all of this is the word of whoever stored the file,
/// until the header tag is verified. Show its text with
/// [`escape_untrusted`](crate::escape_untrusted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSlot {
    uri: String,
    algorithm: ShareAlgorithm,
    wrapped: Vec<u8>,
    check: [u8; SHARE_CHECK_LEN],
    key_version: Option<String>,
    odd: OddFields,
}

impl Keyslot {
    /// The number in the header.
    #[must_use]
    pub fn kind(&self) -> u64 {
        match self {
            Self::Pair(_) => PAIR,
            Self::Unknown(unknown) => unknown.kind,
        }
    }

    /// The keyslot, if this version knows its kind.
    #[must_use]
    pub fn as_pair(&self) -> Option<&PairKeyslot> {
        match self {
            Self::Pair(keyslot) => Some(keyslot),
            Self::Unknown(_) => None,
        }
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, HeaderError> {
        const EXPECTED: &str = "a keyslot: an array of its kind and a byte string";
        let at = reader.position();
        if reader.array(EXPECTED)? != 2 {
            return Err(HeaderError::malformed(at, EXPECTED));
        }
        let kind = reader.uint(EXPECTED)?;
        let content = reader.bytes(EXPECTED)?;
        match kind {
            PAIR => PairKeyslot::parse(reader.within(content)).map(Self::from),
            kind => {
                Ok(Self::Unknown(UnknownKeyslot { kind, content: reader.slice(content).to_vec() }))
            }
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        cbor::put_array(out, 2);
        cbor::put_uint(out, self.kind());
        match self {
            Self::Pair(keyslot) => cbor::put_bytes(out, &keyslot.encode()),
            Self::Unknown(unknown) => cbor::put_bytes(out, &unknown.content),
        }
    }
}

impl From<PairKeyslot> for Keyslot {
    fn from(keyslot: PairKeyslot) -> Self {
        Self::Pair(Box::new(keyslot))
    }
}

impl UnknownKeyslot {
    /// The number in the header; never 1.
    #[must_use]
    pub fn kind(&self) -> u64 {
        self.kind
    }

    /// The keyslot's content as it stands in the header.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }
}

impl PairKeyslot {
    /// The keyslot of a wrapped pair and the DEK wrapped under its KEK
    /// (see [`schedule::kek`](crate::schedule::kek)).
    #[must_use]
    pub fn new(pair: WrappedPair, wrapped_dek: [u8; WRAPPED_DEK_LEN]) -> Self {
        Self {
            kek_suite: KekSuite::HkdfSha384Aes256Gcm,
            pair,
            wrapped_dek,
            odd: OddFields::default(),
        }
    }

    /// Whether this version knows the KEK suite and both share algorithms. If
    /// not, the keyslot can only be kept.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        let knows = |slot: &ShareSlot| !matches!(slot.algorithm, ShareAlgorithm::Unsupported(_));
        self.kek_suite == KekSuite::HkdfSha384Aes256Gcm
            && knows(&self.pair.provider)
            && knows(&self.pair.customer)
    }

    /// How the KEK is derived and wraps the DEK.
    #[must_use]
    pub fn kek_suite(&self) -> KekSuite {
        self.kek_suite
    }

    /// The wrapped share pair.
    #[must_use]
    pub fn pair(&self) -> &WrappedPair {
        &self.pair
    }

    /// Nonce (12) || ciphertext (32) || tag (16).
    #[must_use]
    pub fn wrapped_dek(&self) -> &[u8; WRAPPED_DEK_LEN] {
        &self.wrapped_dek
    }

    fn parse(mut reader: Reader<'_>) -> Result<Self, HeaderError> {
        let at = reader.position();
        let mut fields = Fields::read(&mut reader, "a keyslot's map")?;
        if !reader.is_at_end() {
            return Err(HeaderError::malformed(reader.position(), "the end of the keyslot"));
        }
        let pair_id = fields.required(0, "a pair id of 32 bytes (key 0)")?.byte_array()?;
        let kek_suite = fields.required(2, "a KEK suite (key 2)")?.uint()?;
        let provider = fields.required(4, "a provider share's map (key 4)")?;
        let customer = fields.required(6, "a customer share's map (key 6)")?;
        let wrapped_dek = fields.required(8, "a wrapped DEK of 60 bytes (key 8)")?.byte_array()?;
        let pair = WrappedPair::new(
            PairId(pair_id),
            ShareSlot::parse(provider, "a provider share's map (key 4)")?,
            ShareSlot::parse(customer, "a customer share's map (key 6)")?,
        )
        .map_err(|SameKey| HeaderError::malformed(at, "two shares of different keys"))?;
        Ok(Self { kek_suite: KekSuite::from_id(kek_suite), pair, wrapped_dek, odd: fields.rest()? })
    }

    fn encode(&self) -> Vec<u8> {
        FieldsWriter::new(&self.odd)
            .bytes(0, self.pair.pair_id.as_bytes())
            .uint(2, self.kek_suite.id())
            .encoded(4, &self.pair.provider.encode())
            .encoded(6, &self.pair.customer.encode())
            .bytes(8, &self.wrapped_dek)
            .finish()
    }
}

impl WrappedPair {
    /// The pair of a wrapped provider share and a wrapped customer share.
    ///
    /// # Errors
    /// When both name the same URI (format.md#R21). Two spellings of one key
    /// are the caller's to find: this crate knows no URI schemes.
    pub fn new(pair_id: PairId, provider: ShareSlot, customer: ShareSlot) -> Result<Self, SameKey> {
        if provider.uri == customer.uri {
            return Err(SameKey);
        }
        Ok(Self { pair_id, provider, customer })
    }

    /// The pair's name.
    #[must_use]
    pub fn pair_id(&self) -> PairId {
        self.pair_id
    }

    /// The share that the provider wrapped.
    #[must_use]
    pub fn provider(&self) -> &ShareSlot {
        &self.provider
    }

    /// The share that the customer wrapped.
    #[must_use]
    pub fn customer(&self) -> &ShareSlot {
        &self.customer
    }

    /// The share that the holder of this side wrapped.
    #[must_use]
    pub fn share(&self, side: Side) -> &ShareSlot {
        match side {
            Side::Provider => &self.provider,
            Side::Customer => &self.customer,
        }
    }
}

impl ShareSlot {
    /// A share that the key `uri` wrapped. `check` is
    /// [`schedule::share_check`](crate::schedule::share_check) of the share.
    ///
    /// # Errors
    /// When a field is outside the format's limits (format.md#R18 to R20) or
    /// the algorithm is [`ShareAlgorithm::Unsupported`].
    pub fn new(
        uri: impl Into<String>,
        algorithm: ShareAlgorithm,
        wrapped: Vec<u8>,
        check: [u8; SHARE_CHECK_LEN],
        key_version: Option<String>,
    ) -> Result<Self, InvalidShareSlot> {
        let uri = uri.into();
        if !is_header_uri(&uri) {
            return Err(InvalidShareSlot::Uri);
        }
        if let ShareAlgorithm::Unsupported(id) = algorithm {
            return Err(InvalidShareSlot::UnsupportedAlgorithm(id));
        }
        if !(1..=MAX_WRAPPED_SHARE_LEN).contains(&wrapped.len()) {
            return Err(InvalidShareSlot::WrappedLength(wrapped.len()));
        }
        if !key_version.as_deref().is_none_or(is_key_version) {
            return Err(InvalidShareSlot::KeyVersion);
        }
        Ok(Self { uri, algorithm, wrapped, check, key_version, odd: OddFields::default() })
    }

    /// The key that wrapped the share: 1 to 1024 printable ASCII characters.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// How the holder wrapped the share.
    #[must_use]
    pub fn algorithm(&self) -> ShareAlgorithm {
        self.algorithm
    }

    /// The wrapped share: 1 to 6144 bytes.
    #[must_use]
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }

    /// What the share must hash to when it is unwrapped.
    #[must_use]
    pub fn check(&self) -> &[u8; SHARE_CHECK_LEN] {
        &self.check
    }

    /// The version of the key, if the holder named one.
    #[must_use]
    pub fn key_version(&self) -> Option<&str> {
        self.key_version.as_deref()
    }

    fn parse(value: Value<'_>, expected: &'static str) -> Result<Self, HeaderError> {
        let mut fields = Fields::read(&mut value.into_reader(), expected)?;
        let uri = fields.required(0, URI)?.text(is_header_uri)?;
        let algorithm = fields.required(2, "a share algorithm (key 2)")?.uint()?;
        let wrapped = fields.required(4, WRAPPED)?.bytes(1..=MAX_WRAPPED_SHARE_LEN)?;
        let check = fields.required(6, "a check of 32 bytes (key 6)")?.byte_array()?;
        let key_version = match fields.optional(8, KEY_VERSION) {
            Some(value) => Some(value.text(is_key_version)?.to_owned()),
            None => None,
        };
        Ok(Self {
            uri: uri.to_owned(),
            algorithm: ShareAlgorithm::from_id(algorithm),
            wrapped: wrapped.to_vec(),
            check,
            key_version,
            odd: fields.rest()?,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let fields = FieldsWriter::new(&self.odd)
            .text(0, &self.uri)
            .uint(2, self.algorithm.id())
            .bytes(4, &self.wrapped)
            .bytes(6, &self.check);
        match &self.key_version {
            Some(version) => fields.text(8, version).finish(),
            None => fields.finish(),
        }
    }
}

const URI: &str = "a key URI of 1 to 1024 printable ASCII characters (key 0)";
const WRAPPED: &str = "a wrapped share of 1 to 6144 bytes (key 4)";
const KEY_VERSION: &str = "a key version of 1 to 64 letters, digits and hyphens (key 8)";

fn is_header_uri(uri: &str) -> bool {
    (1..=MAX_URI_LEN).contains(&uri.len()) && uri.bytes().all(|b| b.is_ascii_graphic())
}

fn is_key_version(version: &str) -> bool {
    (1..=MAX_KEY_VERSION_LEN).contains(&version.len())
        && version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
