//! Every number of `docs/format.md`, section "Limits". Lengths are in bytes.

/// Magic, version, reserved bytes and body length.
pub const PREFIX_LEN: usize = 16;
/// The header tag.
pub const HEADER_TAG_LEN: usize = 32;
/// A whole header: prefix, body (with its padding) and tag.
pub const MAX_HEADER_LEN: usize = 65_536;
/// A body, with its padding.
pub const MAX_BODY_LEN: usize = MAX_HEADER_LEN - PREFIX_LEN - HEADER_TAG_LEN;
/// A detached payload's prefix: magic, version, reserved bytes, envelope id.
pub const DETACHED_PREFIX_LEN: usize = 44;

/// An encryption context, encoded.
pub const MAX_CONTEXT_LEN: usize = 4096;
/// Keyslots in a header; there is at least one.
pub const MAX_KEYSLOTS: usize = 16;
/// A key URI; there is at least one character.
pub const MAX_URI_LEN: usize = 1024;
/// A wrapped share; there is at least one byte.
pub const MAX_WRAPPED_SHARE_LEN: usize = 6144;
/// A key version; there is at least one character.
pub const MAX_KEY_VERSION_LEN: usize = 64;
/// Arrays and maps inside each other in one CBOR item.
pub const MAX_DEPTH: usize = 4;

/// A DEK, a share, a KEK and a payload key.
pub const KEY_LEN: usize = 32;
/// A header key.
pub const HEADER_KEY_LEN: usize = 48;
/// Nonce, ciphertext and tag of a wrapped DEK.
pub const WRAPPED_DEK_LEN: usize = 60;
/// The nonce a DEK is wrapped with.
pub const DEK_NONCE_LEN: usize = 12;
/// The AAD of a wrapped share.
pub const SHARE_AAD_LEN: usize = 66;
/// A share's check.
pub const SHARE_CHECK_LEN: usize = 32;
/// The AAD given to FLOE.
pub const PAYLOAD_AAD_LEN: usize = 72;

/// The standard padding makes a header's length a multiple of this.
pub const PADDING_STEP: usize = 2048;
/// The standard padding is at least this long, unless the header is at its limit.
pub const MIN_STANDARD_PADDING: usize = 512;

/// The shortest FLOE segment length a reader of envelopes accepts; only powers of two.
pub const MIN_SEGMENT_LEN: u32 = 4 << 10;
/// The longest FLOE segment length a reader of envelopes accepts.
pub const MAX_SEGMENT_LEN: u32 = 16 << 20;
