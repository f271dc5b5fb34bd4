//! The Twinlock envelope: header bytes to types and back, the key schedule, and
//! every limit, as `docs/format.md` states them. Rules are cited by number, as
//! in `format.md#R8`.
//!
//! This crate opens no file, calls no key holder and draws no random bytes:
//! they are arguments. Applications use the `twinlock` crate, which stands on
//! this one.
//!
//! # Writing and reading a header
//!
//! ```
//! use twinlock_format::{
//!     EncryptionContext, EnvelopeId, Header, Padding, PairId, PairKeyslot, Prefix,
//!     ShareAlgorithm, ShareSlot, UnverifiedHeader, WrappedPair, limits, schedule,
//! };
//!
//! // All of these are random in earnest.
//! let (dek, envelope_id) = ([1; 32], EnvelopeId([2; 32]));
//! let (pair_id, provider_share, customer_share) = (PairId([3; 32]), [4; 32], [5; 32]);
//! let context = EncryptionContext::from_pairs([("object", "invoices/1.pdf")])?;
//!
//! // Each holder wraps its share, bound to an AAD.
//! let binding = schedule::ShareBinding::new(&pair_id, &context);
//! let slot = |uri, share, aad| {
//!     let wrapped = b"as the holder returned it".to_vec();
//!     let check = schedule::share_check(share, aad);
//!     ShareSlot::new(uri, ShareAlgorithm::HolderAead, wrapped, check, None)
//! };
//! let pair = WrappedPair::new(
//!     pair_id,
//!     slot("aws-kms://arn:aws:kms:eu-west-1:111122223333:key/1", &provider_share, binding.provider())?,
//!     slot("pkcs11:token=hsm;object=kek", &customer_share, binding.customer())?,
//! )?;
//!
//! // Both shares make the KEK, the KEK wraps the DEK, the DEK signs the header.
//! let kek = schedule::kek(&provider_share, &customer_share, &envelope_id, &pair);
//! let wrapped_dek = schedule::wrap_dek(&kek, &envelope_id, &[6; 12], &dek);
//! let header = Header::new(envelope_id, context, vec![PairKeyslot::new(pair, wrapped_dek).into()])?;
//! let bytes = header.encode(Padding::Standard)?.sign(&schedule::header_key(&dek, &envelope_id));
//!
//! // A reader learns the length from 16 bytes, and believes nothing yet.
//! let prefix = Prefix::parse(&bytes[..limits::PREFIX_LEN])?;
//! let unverified = UnverifiedHeader::parse(&bytes[..prefix.header_len()])?;
//!
//! // With both shares unwrapped and checked, the DEK proves the header.
//! let keyslot = unverified.header().supported_keyslots().next().expect("it has one");
//! schedule::verify_share_check(&provider_share, binding.provider(), keyslot.pair().provider().check())?;
//! schedule::verify_share_check(&customer_share, binding.customer(), keyslot.pair().customer().check())?;
//! let kek = schedule::kek(&provider_share, &customer_share, &envelope_id, keyslot.pair());
//! let dek = schedule::unwrap_dek(&kek, &envelope_id, keyslot.wrapped_dek())?;
//! let verified = unverified.verify(&schedule::header_key(&dek, &envelope_id))?;
//! assert_eq!(verified.header().context().get("object"), Some("invoices/1.pdf"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod limits;
pub mod schedule;

mod cbor;
mod context;
mod detached;
mod error;
mod fields;
mod header;
mod ids;
mod keyslot;
mod padding;
mod prefix;
mod signed;
mod suites;
mod text;

pub use context::EncryptionContext;
pub use detached::DetachedPrefix;
pub use error::{
    ContextError, DetachedPrefixError, HeaderError, HeaderTooLarge, InvalidHeader,
    InvalidShareSlot, SameKey, TamperedHeader, WrongKek, WrongShare,
};
pub use header::Header;
pub use ids::{EnvelopeId, Generation, PairId, Side};
pub use keyslot::{Keyslot, PairKeyslot, ShareSlot, UnknownKeyslot, WrappedPair};
pub use padding::{Padding, standard_header_len};
pub use prefix::Prefix;
pub use schedule::HeaderKey;
pub use signed::{UnsignedHeader, UnverifiedHeader, VerifiedHeader};
pub use suites::{KekSuite, PayloadSuite, ShareAlgorithm};
pub use text::escape_untrusted;
