//! Envelopes made of fixed bytes, so that the same input does the same in
//! every run. The library itself draws them at random.

use twinlock::{
    BoxFuture, EncryptionContext, EnvelopeId, Header, HolderError, KeyHolder, KeyUri, Share,
    WrapContext, WrappedShare,
};
use twinlock_floe::{Backend, SegmentLen};
use twinlock_format::{
    Padding, PairId, PairKeyslot, ShareAlgorithm, ShareSlot, WrappedPair, schedule,
};

use crate::{counting_from, message, segment};

pub(super) const PROVIDER: &str = "vault://fuzz.invalid/transit/keys/kek";
pub(super) const CUSTOMER: &str = "pkcs11:token=fuzz;object=kek";

const PLAINTEXT_LEN: usize = 10_000;
const SEGMENT_LEN: u32 = 4096;

/// An envelope of three segments.
pub(crate) struct Original {
    /// The header, the payload's own header, each segment.
    pub(crate) pieces: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Original {
    /// Its DEK and its id begin with `first`.
    pub(crate) fn new(first: u8) -> Self {
        let (dek, envelope_id) = (counting_from(first), EnvelopeId(counting_from(first + 1)));
        let context = EncryptionContext::from_pairs([("object", "fuzz")]).expect("a valid pair");
        let keyslot = keyslot(&dek, &envelope_id, &context);
        let header = Header::new(envelope_id, context, vec![keyslot.into()]).expect("one keyslot");
        let encoded = header.encode(Padding::Bytes(100)).expect("a short header");
        let aad = schedule::payload_aad(header.payload_suite(), &envelope_id, header.context());
        let mut pieces = vec![encoded.sign(&schedule::header_key(&dek, &envelope_id))];
        pieces.extend(segment::seal(
            &schedule::payload_key(&dek, &envelope_id),
            &aad,
            &segment::Shape {
                backend: Backend::default(),
                segment_len: SegmentLen::new(SEGMENT_LEN).expect("a length that envelopes have"),
                iv: counting_from(first + 2),
                plaintext_len: PLAINTEXT_LEN,
            },
        ));
        Self { bytes: pieces.concat(), pieces }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn plaintext(&self) -> Vec<u8> {
        message(PLAINTEXT_LEN)
    }
}

fn keyslot(dek: &[u8; 32], envelope_id: &EnvelopeId, context: &EncryptionContext) -> PairKeyslot {
    let (provider, customer) = (counting_from(0), counting_from(1));
    let pair_id = PairId(counting_from(2));
    let binding = schedule::ShareBinding::new(&pair_id, context);
    let slot = |uri, share: &[u8; 32], aad| {
        let check = schedule::share_check(share, aad);
        ShareSlot::new(uri, ShareAlgorithm::HolderAead, share.to_vec(), check, None)
            .expect("a well-formed share")
    };
    let pair = WrappedPair::new(
        pair_id,
        slot(PROVIDER, &provider, binding.provider()),
        slot(CUSTOMER, &customer, binding.customer()),
    )
    .expect("two holders");
    let kek = schedule::kek(&provider, &customer, envelope_id, &pair);
    let wrapped_dek = schedule::wrap_dek(&kek, envelope_id, &[7; 12], dek);
    PairKeyslot::new(pair, wrapped_dek)
}

/// Wraps a share by leaving it as it is: the worst holder there can be. The
/// checks that remain are the library's own.
pub(super) struct TransparentHolder {
    uri: KeyUri,
}

impl TransparentHolder {
    pub(super) fn new(uri: &str) -> Self {
        Self { uri: KeyUri::parse(uri).expect("a key URI") }
    }
}

impl KeyHolder for TransparentHolder {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        _context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        let wrapped =
            WrappedShare::new(twinlock::ShareAlgorithm::HolderAead, share.expose().to_vec());
        Box::pin(async move { Ok(wrapped) })
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        _context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async move {
            Share::try_copy_of(wrapped.bytes())
                .ok_or_else(|| HolderError::invalid_ciphertext("not 32 bytes"))
        })
    }
}
