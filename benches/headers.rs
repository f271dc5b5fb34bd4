//! A header's way from bytes to trust, and back.

use std::hint::black_box;

use twinlock_format::{
    EncryptionContext, EnvelopeId, Header, HeaderKey, Padding, PairId, PairKeyslot, ShareAlgorithm,
    ShareSlot, UnverifiedHeader, WrappedPair, schedule,
};

use crate::Case;

const DEK: [u8; 32] = [1; 32];
const ENVELOPE_ID: EnvelopeId = EnvelopeId([2; 32]);

/// Bytes to an unverified header.
#[must_use]
pub fn parse(keyslots: u8) -> Case {
    let bytes = signed(keyslots);
    Case::new(format!("header parse/{keyslots}"), bytes.len(), move || {
        black_box(UnverifiedHeader::parse(&bytes[..]).expect("it was encoded above"));
    })
}

/// Bytes to a verified header, by a header key that is there already.
#[must_use]
pub fn verify(keyslots: u8) -> Case {
    let (bytes, key) = (signed(keyslots), header_key());
    Case::new(format!("header verify/{keyslots}"), bytes.len(), move || {
        let unverified = UnverifiedHeader::parse(&bytes[..]).expect("it was encoded above");
        black_box(unverified.verify(&key).expect("it was signed above"));
    })
}

/// A header to bytes with their tag.
#[must_use]
pub fn encode(keyslots: u8) -> Case {
    let (header, key) = (header(keyslots), header_key());
    let len = signed(keyslots).len();
    Case::new(format!("header encode/{keyslots}"), len, move || {
        black_box(header.encode(Padding::Standard).expect("it is short").sign(&key));
    })
}

fn signed(keyslots: u8) -> Vec<u8> {
    header(keyslots).encode(Padding::Standard).expect("it is short").sign(&header_key())
}

fn header_key() -> HeaderKey {
    schedule::header_key(&DEK, &ENVELOPE_ID)
}

fn header(keyslots: u8) -> Header {
    let context = EncryptionContext::from_pairs([("object", "reports/2026.pdf")]);
    let keyslots = (0..keyslots).map(|number| keyslot(number).into()).collect();
    Header::new(ENVELOPE_ID, context.expect("a valid pair"), keyslots).expect("1 to 16 keyslots")
}

/// The sizes are those of AWS KMS and of AES-GCM in a token.
fn keyslot(number: u8) -> PairKeyslot {
    let aws =
        "aws-kms://arn:aws:kms:eu-west-1:111122223333:key/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f";
    let slot = |uri, wrapped_len| {
        ShareSlot::new(uri, ShareAlgorithm::HolderAead, vec![3; wrapped_len], [4; 32], None)
            .expect("a well-formed share")
    };
    let customer = slot("pkcs11:token=archive;object=kek", 60);
    let pair = WrappedPair::new(PairId([number; 32]), slot(aws, 184), customer);
    PairKeyslot::new(pair.expect("two holders"), [5; 60])
}
