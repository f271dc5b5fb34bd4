//! FLOE, "Fast Lightweight Online Encryption": authenticated encryption of a
//! long payload in segments, each of which can be sealed and opened alone, in
//! any order and on any thread.
//!
//! This is the C2SP construction with AES-256-GCM, HKDF-Expand-SHA-384 and a
//! 32-byte IV (analysed in ePrint 2025/2275). The crate does no I/O, starts no
//! threads and draws no random numbers: IVs are arguments, and every one must
//! be fresh from a random number generator.
//!
//! # From end to end
//!
//! ```
//! use twinlock_floe::{
//!     Backend, Layout, OpenKey, SEGMENT_OVERHEAD, PLAINTEXT_OFFSET, SealKey, SegmentIv, SegmentLen,
//! };
//!
//! # fn random<const N: usize>() -> [u8; N] { [7; N] } // a real caller asks the OS
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = random::<32>(); // used for one payload only
//! let segment_len = SegmentLen::new(4096)?;
//! let message = vec![b'm'; 10_000];
//!
//! // Seal: a buffer holds one whole segment, the plaintext lies at its offset.
//! let (seal_key, header) =
//!     SealKey::create(&key, random::<32>(), b"aad", segment_len, Backend::default());
//! let layout = Layout::of_plaintext(segment_len, message.len() as u64)?;
//! let mut sealer = seal_key.sealer();
//! let mut segments = Vec::new();
//! for (index, plain) in message.chunks(segment_len.plaintext()).enumerate() {
//!     let mut segment = vec![0; plain.len() + SEGMENT_OVERHEAD];
//!     segment[PLAINTEXT_OFFSET..][..plain.len()].copy_from_slice(plain);
//!     let place = layout.place(index as u64).expect("one chunk for each segment");
//!     sealer.seal(place, SegmentIv::new(random::<12>()), &mut segment)?;
//!     segments.extend(segment);
//! }
//!
//! // Open the last segment alone.
//! let open_key = OpenKey::open(&key, b"aad", &header, Backend::default())?;
//! let layout = Layout::of_ciphertext(open_key.segment_len(), segments.len() as u64)?;
//! let last = layout.segments() - 1;
//! let range = layout.ciphertext_range(last).expect("it exists");
//! let segment = &mut segments[range.start as usize..range.end as usize];
//! let place = layout.place(last).expect("it exists");
//! assert_eq!(open_key.opener().open(place, segment)?.len(), 10_000 - 2 * 4064);
//! # Ok(())
//! # }
//! ```
//!
//! # The bytes
//!
//! A FLOE ciphertext is a header of [`Header::LEN`] bytes, then the segments:
//!
//! ```text
//! segment = length field (4) || AEAD IV (12) || ciphertext || tag (16)
//! ```
//!
//! The length field is `FF FF FF FF` in every segment but the last, and there
//! the segment's own total length, big-endian. A segment is bound to its
//! position and to whether it is the last: [`Place`] is the pair of the two,
//! and can only come from a [`Sequence`] (a stream) or a [`Layout`] (random
//! access), never from loose numbers.
//!
//! # What it promises, and what it does not
//!
//! - Reordered, duplicated, dropped, truncated, appended, altered or spliced
//!   segments do not open, nor does anything under another key or AAD.
//! - A failed [`Opener::open`] or [`Opener::open_into`] leaves no plaintext
//!   behind in the buffer.
//! - One header is for one payload. A place sealed twice gives two authentic
//!   segments, and storage may then choose between them; [`Sequence`] gives
//!   each place once, while with [`Layout`] this is the caller's duty.
//! - Whoever reads segment by segment gets a verified *prefix* until the last
//!   segment is opened: only then is the payload known to be whole.
//!
//! # Features
//!
//! `backend-aws-lc` and `backend-rustcrypto` (both on) are two independent
//! AES-256-GCM implementations; [`Backend`] chooses between them at run time.
#![forbid(unsafe_code)]

mod backend;
mod header;
mod kdf;
mod key;
mod layout;
mod open;
mod params;
mod place;
mod seal;
mod segment;
#[cfg(test)]
mod tests;

pub use backend::{Backend, BackendError};
pub use header::{Header, HeaderError};
pub use key::{OpenError, OpenKey, SealKey};
pub use layout::{Layout, LayoutError};
pub use open::{Opener, SegmentError};
pub use params::{ParamsError, SegmentLen};
pub use place::{Finality, Place, Position, Run, Sequence, TooManySegments};
pub use seal::{SealError, Sealer};
pub use segment::{HeadError, PLAINTEXT_OFFSET, SEGMENT_OVERHEAD, SegmentHead, SegmentIv, TAG_LEN};

#[cfg(not(any(feature = "backend-aws-lc", feature = "backend-rustcrypto")))]
compile_error!("enable a feature: `backend-aws-lc`, `backend-rustcrypto` or both");
