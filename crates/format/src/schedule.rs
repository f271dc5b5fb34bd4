//! The key schedule: what is derived from what (format.md, "Derivation").
//!
//! Every function is pure. Nonces, ids, DEKs and shares are drawn by the caller
//! from a cryptographic random source, never used for two purposes.

use std::ops::Deref;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha384};
use zeroize::{Zeroize as _, Zeroizing};

use crate::cbor;
use crate::limits::{
    DEK_NONCE_LEN, HEADER_KEY_LEN, HEADER_TAG_LEN, KEY_LEN, PAYLOAD_AAD_LEN, SHARE_AAD_LEN,
    SHARE_CHECK_LEN, WRAPPED_DEK_LEN,
};
use crate::{
    EncryptionContext, EnvelopeId, KekSuite, PairId, PayloadSuite, ShareSlot, Side, TamperedHeader,
    WrappedPair, WrongKek, WrongShare,
};

const PAYLOAD_KEY: &[u8] = b"twinlock/v1 payload";
const HEADER_KEY: &[u8] = b"twinlock/v1 header";
const PAYLOAD_AAD: &[u8] = b"twinlock/v1 payload aad\0";
const SHARE_AAD: &[u8] = b"twinlock/v1 share\0";
const SHARE_CHECK: &[u8] = b"twinlock/v1 share check\0";
const KEK: &[u8] = b"twinlock/v1 kek\0";
const DEK_AAD: &[u8] = b"twinlock/v1 dek\0";

/// The key of AWS's encryption context that binds a share, since AWS takes
/// pairs instead of an AAD. Its value is [`aws_share_label`].
pub const AWS_SHARE_KEY: &str = "twinlock:share";

type HmacSha384 = Hmac<Sha384>;

/// The bytes of a key. They lie on the heap, so that handing them on leaves no
/// copy behind on the stack, and are wiped when dropped.
pub struct KeyBytes<const N: usize>(Box<[u8; N]>);

impl<const N: usize> KeyBytes<N> {
    fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }
}

impl<const N: usize> Deref for KeyBytes<N> {
    type Target = [u8; N];

    fn deref(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for KeyBytes<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

// What the DEK gives.

/// FLOE's key for this envelope.
#[must_use]
pub fn payload_key(dek: &[u8; KEY_LEN], envelope_id: &EnvelopeId) -> KeyBytes<KEY_LEN> {
    without_traces(|| expand(&extract(envelope_id, dek), PAYLOAD_KEY))
}

/// The key that authenticates this envelope's header.
#[must_use]
pub fn header_key(dek: &[u8; KEY_LEN], envelope_id: &EnvelopeId) -> HeaderKey {
    HeaderKey(without_traces(|| expand(&extract(envelope_id, dek), HEADER_KEY)))
}

/// [`payload_key`] and [`header_key`], at less than the price of the two.
#[must_use]
pub fn payload_and_header_key(
    dek: &[u8; KEY_LEN],
    envelope_id: &EnvelopeId,
) -> (KeyBytes<KEY_LEN>, HeaderKey) {
    without_traces(|| {
        let prk = extract(envelope_id, dek);
        (expand(&prk, PAYLOAD_KEY), HeaderKey(expand(&prk, HEADER_KEY)))
    })
}

/// FLOE's AAD: the payload suite, the envelope and the context, and nothing
/// that a rewrap may change.
#[must_use]
pub fn payload_aad(
    suite: PayloadSuite,
    envelope_id: &EnvelopeId,
    context: &EncryptionContext,
) -> [u8; PAYLOAD_AAD_LEN] {
    let mut input = Vec::new();
    cbor::put_array(&mut input, 3);
    cbor::put_uint(&mut input, suite.id());
    cbor::put_bytes(&mut input, envelope_id.as_bytes());
    input.extend(context.encoded());
    labelled_hash(PAYLOAD_AAD, &input)
}

/// Authenticates a header. Wiped when dropped.
pub struct HeaderKey(KeyBytes<HEADER_KEY_LEN>);

impl HeaderKey {
    /// The key's bytes, for a second implementation to compare with.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; HEADER_KEY_LEN] {
        &self.0
    }

    pub(crate) fn tag(&self, signed: &[u8]) -> [u8; HEADER_TAG_LEN] {
        truncated(hmac(&*self.0, &[signed]))
    }

    pub(crate) fn verify(&self, signed: &[u8], tag: &[u8]) -> Result<(), TamperedHeader> {
        hmac(&*self.0, &[signed]).verify_truncated_left(tag).map_err(|_| TamperedHeader)
    }
}

// What binds a share to its side, its pair and its context.

/// A pair's two AADs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareBinding {
    provider: ShareAad,
    customer: ShareAad,
}

/// The AAD of one share, the same for every holder that takes one: 66 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareAad([u8; SHARE_AAD_LEN]);

impl ShareBinding {
    /// Of the pair with this id, in envelopes with this context.
    #[must_use]
    pub fn new(pair_id: &PairId, context: &EncryptionContext) -> Self {
        let context = context.encoded();
        Self {
            provider: ShareAad::new(Side::Provider, pair_id, &context),
            customer: ShareAad::new(Side::Customer, pair_id, &context),
        }
    }

    /// The provider share's.
    #[must_use]
    pub fn provider(&self) -> &ShareAad {
        &self.provider
    }

    /// The customer share's.
    #[must_use]
    pub fn customer(&self) -> &ShareAad {
        &self.customer
    }

    /// The share's of this side.
    #[must_use]
    pub fn aad(&self, side: Side) -> &ShareAad {
        match side {
            Side::Provider => &self.provider,
            Side::Customer => &self.customer,
        }
    }
}

impl ShareAad {
    fn new(side: Side, pair_id: &PairId, context: &[u8]) -> Self {
        let mut input = Vec::new();
        cbor::put_array(&mut input, 3);
        cbor::put_uint(&mut input, side.id());
        cbor::put_bytes(&mut input, pair_id.as_bytes());
        input.extend(context);
        Self(labelled_hash(SHARE_AAD, &input))
    }

    /// The bytes to give to the holder.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SHARE_AAD_LEN] {
        &self.0
    }

    /// `H` of the specification: the hash behind the label.
    fn hash(&self) -> &[u8] {
        &self.0[SHARE_AAD.len()..]
    }
}

/// What the keyslot keeps of a share, to know it again when it is unwrapped.
#[must_use]
pub fn share_check(share: &[u8; KEY_LEN], aad: &ShareAad) -> [u8; SHARE_CHECK_LEN] {
    truncated(hmac(share, &[SHARE_CHECK, aad.hash()]))
}

/// Whether an unwrapped share is the one that `check` was made of, for this
/// side, pair and context; in constant time.
///
/// # Errors
/// When it is not. The share must then not be used (format.md#R23).
pub fn verify_share_check(
    share: &[u8; KEY_LEN],
    aad: &ShareAad,
    check: &[u8; SHARE_CHECK_LEN],
) -> Result<(), WrongShare> {
    hmac(share, &[SHARE_CHECK, aad.hash()]).verify_truncated_left(check).map_err(|_| WrongShare)
}

/// The value of [`AWS_SHARE_KEY`]: `v1/<side>/<pair id in lower-case hex>`.
#[must_use]
pub fn aws_share_label(side: Side, pair_id: &PairId) -> String {
    format!("v1/{side}/{pair_id}")
}

// What the two shares give.

/// The KEK of suite 1: of both shares, the envelope, and the wrapped pair as
/// the header has it. For [supported](crate::PairKeyslot::is_supported)
/// keyslots only.
#[must_use]
pub fn kek(
    provider_share: &[u8; KEY_LEN],
    customer_share: &[u8; KEY_LEN],
    envelope_id: &EnvelopeId,
    pair: &WrappedPair,
) -> KeyBytes<KEY_LEN> {
    KekInfo::of(pair).kek(provider_share, customer_share, envelope_id)
}

/// What of a wrapped pair goes into a KEK: the same for all envelopes of the
/// pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekInfo(Vec<u8>);

impl KekInfo {
    /// Of the pair as the header has it.
    #[must_use]
    pub fn of(pair: &WrappedPair) -> Self {
        let wrapped_hash = |share: &ShareSlot| Sha384::digest(share.wrapped());
        let mut info = KEK.to_vec();
        cbor::put_array(&mut info, 6);
        cbor::put_uint(&mut info, KekSuite::HkdfSha384Aes256Gcm.id());
        cbor::put_bytes(&mut info, pair.pair_id().as_bytes());
        cbor::put_text(&mut info, pair.provider().uri());
        cbor::put_text(&mut info, pair.customer().uri());
        cbor::put_bytes(&mut info, &wrapped_hash(pair.provider()));
        cbor::put_bytes(&mut info, &wrapped_hash(pair.customer()));
        Self(info)
    }

    /// As [`kek`], for one envelope of the pair.
    #[must_use]
    pub fn kek(
        &self,
        provider_share: &[u8; KEY_LEN],
        customer_share: &[u8; KEY_LEN],
        envelope_id: &EnvelopeId,
    ) -> KeyBytes<KEY_LEN> {
        let mut shares = Zeroizing::new([0; 2 * KEY_LEN]);
        shares[..KEY_LEN].copy_from_slice(provider_share);
        shares[KEY_LEN..].copy_from_slice(customer_share);
        without_traces(|| expand(&extract(envelope_id, &*shares), &self.0))
    }
}

/// Wraps the DEK: `nonce (12) || ciphertext (32) || tag (16)`.
///
/// The nonce is random. A KEK wraps one DEK, once.
#[must_use]
pub fn wrap_dek(
    kek: &[u8; KEY_LEN],
    envelope_id: &EnvelopeId,
    nonce: &[u8; DEK_NONCE_LEN],
    dek: &[u8; KEY_LEN],
) -> [u8; WRAPPED_DEK_LEN] {
    let mut wrapped = [0; WRAPPED_DEK_LEN];
    let (head, tag) = wrapped.split_at_mut(DEK_NONCE_LEN + KEY_LEN);
    let (head, ciphertext) = head.split_at_mut(DEK_NONCE_LEN);
    head.copy_from_slice(nonce);
    ciphertext.copy_from_slice(dek);
    let aad = dek_aad(envelope_id);
    let seal =
        || Aes256Gcm::new(kek.into()).encrypt_inout_detached(nonce.into(), &aad, ciphertext.into());
    let sealed = without_traces(seal).expect("32 bytes are within what GCM takes");
    tag.copy_from_slice(&sealed);
    wrapped
}

/// Unwraps the DEK.
///
/// # Errors
/// When the tag does not verify: wrong shares, another envelope's wrapped DEK,
/// or a keyslot that was changed (format.md#R24).
pub fn unwrap_dek(
    kek: &[u8; KEY_LEN],
    envelope_id: &EnvelopeId,
    wrapped: &[u8; WRAPPED_DEK_LEN],
) -> Result<KeyBytes<KEY_LEN>, WrongKek> {
    const LENGTHS: &str = "60 bytes are 12 and 32 and 16";
    let (nonce, rest) = wrapped.split_first_chunk::<DEK_NONCE_LEN>().expect(LENGTHS);
    let (ciphertext, tag) = rest.split_first_chunk::<KEY_LEN>().expect(LENGTHS);
    let tag: &[u8; 16] = tag.try_into().expect(LENGTHS);
    let mut dek = KeyBytes::zeroed();
    dek.0.copy_from_slice(ciphertext);
    let (aad, bytes) = (dek_aad(envelope_id), dek.0.as_mut_slice().into());
    let open =
        || Aes256Gcm::new(kek.into()).decrypt_inout_detached(nonce.into(), &aad, bytes, tag.into());
    without_traces(open).map_err(|_| WrongKek)?;
    Ok(dek)
}

fn dek_aad(envelope_id: &EnvelopeId) -> Vec<u8> {
    [DEK_AAD, envelope_id.as_bytes()].concat()
}

/// Does `work`, and overwrites the part of the stack that it used. What it
/// handed on by value is wiped where it came to lie, not where it had been (the
/// schedule of an AES key begins with the key), and would be in a core dump.
fn without_traces<T>(work: impl FnOnce() -> T) -> T {
    let result = out_of_line(work);
    overwrite_stack();
    result
}

#[inline(never)]
fn out_of_line<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite_stack() {
    const MORE_THAN_IS_USED: usize = 16 * 1024;
    std::hint::black_box(&mut [0u8; MORE_THAN_IS_USED]);
}

// The primitives.

/// HKDF-Extract-SHA-384 with the envelope id as salt.
fn extract(envelope_id: &EnvelopeId, ikm: &[u8]) -> Hkdf<Sha384> {
    Hkdf::new(Some(envelope_id.as_bytes()), ikm)
}

/// HKDF-Expand-SHA-384 to `N` bytes.
fn expand<const N: usize>(prk: &Hkdf<Sha384>, info: &[u8]) -> KeyBytes<N> {
    let mut key = KeyBytes::zeroed();
    prk.expand(info, key.0.as_mut_slice())
        .expect("at most 48 bytes are asked for, HKDF gives 12,240");
    key
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> HmacSha384 {
    let mut hmac =
        <HmacSha384 as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| hmac.update(part));
    hmac
}

/// The first 32 of HMAC-SHA-384's 48 bytes.
fn truncated(hmac: HmacSha384) -> [u8; 32] {
    *hmac.finalize().into_bytes().first_chunk().expect("48 bytes have 32 first ones")
}

/// `label || SHA-384(input)`; the label ends with its zero byte.
fn labelled_hash<const N: usize>(label: &[u8], input: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let (head, hash) = out.split_at_mut(label.len());
    head.copy_from_slice(label);
    hash.copy_from_slice(&Sha384::digest(input));
    out
}
