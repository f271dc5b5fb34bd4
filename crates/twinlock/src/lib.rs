//! Customer-held-key encryption: data that opens only with two keys, held by
//! two holders.
//!
//! The *provider* (a cloud's key manager) holds one key, the *customer* (a
//! token behind PKCS#11) the other. Each wraps a random *share*; the two
//! shares together make the key that opens a file. Neither holder ever sees the
//! other's share, nor the DEK, the random key of one file.
//!
//! # A file
//!
//! ```no_run
//! # async fn example(provider: twinlock::ProviderKey, customer: twinlock::CustomerKey)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use twinlock::{Decryptor, EncryptionContext, Encryptor, file};
//!
//! // The context is readable, but a file with another one does not open.
//! let context = EncryptionContext::from_pairs([("object", "reports/2026.pdf")])?;
//!
//! // One async step asks the holders; the bulk work that follows is synchronous.
//! let encryptor = Encryptor::builder(provider.clone(), customer.clone())
//!     .context(context.clone())
//!     .prepare()
//!     .await?;
//! file::encrypt_file(encryptor, Path::new("2026.pdf"), Path::new("2026.pdf.twl"), false)?;
//!
//! let decryptor = Decryptor::expecting(context).provider(provider).customer(customer);
//! file::decrypt_file(&decryptor, Path::new("2026.pdf.twl"), Path::new("back.pdf"), false).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`ProviderKey`] is made of a holder from `twinlock-remote-keys` (AWS KMS),
//! a [`CustomerKey`] of one from `twinlock-pkcs11`: the front pages of the two
//! show how. For development both can be a [`FileKek`].
//!
//! # A byte slice
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use twinlock::{CustomerKey, Decryptor, EncryptionContext, Encryptor, FileKek, KeyUri, ProviderKey};
//! # let folder = tempfile::tempdir()?;
//! # let kek = |name| KeyUri::parse(&format!("file://{}/{name}", folder.path().display()));
//! # let (ours, theirs) = (kek("provider.kek")?, kek("customer.kek")?);
//! # FileKek::create(&ours)?;
//! # FileKek::create(&theirs)?;
//! let provider = ProviderKey::new(FileKek::open(&ours)?)?;
//! let customer = CustomerKey::new(FileKek::open(&theirs)?)?;
//!
//! let encryptor = Encryptor::builder(provider.clone(), customer.clone()).prepare().await?;
//! let envelope = encryptor.encrypt_slice(b"attack at dawn")?;
//!
//! let decryptor = Decryptor::expecting(EncryptionContext::new()).provider(provider).customer(customer);
//! assert_eq!(decryptor.decrypt_slice(&envelope).await?, b"attack at dawn");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap().unwrap();
//! ```
//!
//! # A range
//!
//! ```no_run
//! # async fn example(decryptor: twinlock::Decryptor) -> Result<(), Box<dyn std::error::Error>> {
//! let mut input = std::fs::File::open("video.twl")?;
//! let envelope = decryptor.open(twinlock::read_header(&mut input)?).await?;
//! let video = envelope.range_reader(input)?; // for all threads
//!
//! let mut frame = vec![0; 4096];
//! video.read_exact_at(&mut frame, 1 << 30)?; // reads one or two segments, and verifies them
//! video.write_range_to(..1 << 20, &mut std::io::stdout())?; // in bounded memory
//! # Ok(())
//! # }
//! ```
//!
//! Anything that is read by position will do: implement [`ReadAt`] for an object
//! store. [`Envelope::seek_reader`] is for one thread and anything that is
//! [`Read`](std::io::Read) and [`Seek`](std::io::Seek).
//!
//! # Another key
//!
//! ```no_run
//! # async fn example(decryptor: twinlock::Decryptor, new: twinlock::CustomerKey)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use twinlock::{RewrapPlan, file};
//!
//! // Reads and writes the header alone; the file opens whenever this is killed.
//! let plan = RewrapPlan::new().to_customer(new);
//! file::rewrap_file(&decryptor, Path::new("2026.pdf.twl"), &plan).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Rewrap is not revocation: an old copy of the header still opens the payload
//! with the old keys. Only encrypting anew revokes
//! ([`file::reencrypt_file`]), and only what is not copied elsewhere.
//!
//! # A key holder of your own
//!
//! Implement [`KeyHolder`]; the front page of `twinlock_keys` has a complete
//! one. Feature `testing` has one in memory, with faults to inject.
//!
//! ```
//! use twinlock::{BoxFuture, CustomerKey, HolderError, HolderErrorKind, KeyHolder, KeyUri};
//! use twinlock::{Share, ShareAlgorithm, WrapContext, WrappedShare};
//!
//! # trait Api: Send + Sync {
//! #     fn seal(&self, data: &[u8], aad: &[u8]) -> Option<Vec<u8>>;
//! #     fn open(&self, data: &[u8], aad: &[u8]) -> Option<Vec<u8>>;
//! # }
//! struct Appliance {
//!     uri: KeyUri, // for instance pkcs11:token=appliance;object=kek
//!     api: Box<dyn Api>,
//! }
//!
//! impl KeyHolder for Appliance {
//!     fn uri(&self) -> &KeyUri {
//!         &self.uri
//!     }
//!
//!     fn wrap_key<'a>(
//!         &'a self,
//!         share: &'a Share,
//!         context: &'a WrapContext,
//!     ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
//!         Box::pin(async move {
//!             let wrapped = self.api.seal(share.expose(), context.aad()).ok_or_else(|| {
//!                 HolderError::new(HolderErrorKind::Denied, "the appliance says no")
//!             })?;
//!             Ok(WrappedShare::new(ShareAlgorithm::HolderAead, wrapped))
//!         })
//!     }
//!
//!     fn unwrap_key<'a>(
//!         &'a self,
//!         wrapped: &'a WrappedShare,
//!         context: &'a WrapContext,
//!     ) -> BoxFuture<'a, Result<Share, HolderError>> {
//!         Box::pin(async move {
//!             let share = self.api.open(wrapped.bytes(), context.aad());
//!             share
//!                 .and_then(|bytes| Share::try_copy_of(&bytes))
//!                 .ok_or_else(|| HolderError::invalid_ciphertext("not one of the appliance's shares"))
//!         })
//!     }
//! }
//! # fn takes(holder: Appliance) -> Result<CustomerKey, twinlock::WrongSide> { CustomerKey::new(holder) }
//! ```
//!
//! # Retry, ask for access, or raise an alarm
//!
//! Errors say whose fault it is, and what a service does next follows from that:
//!
//! ```
//! use twinlock::{DecryptError, OpenErrorKind, PayloadError, PrepareError};
//!
//! enum Next { Retry, AskForAccess, RaiseAlarm, Investigate }
//!
//! fn after_decrypt(error: &DecryptError) -> Next {
//!     match error {
//!         DecryptError::Open(error) => match error.kind() {
//!             OpenErrorKind::Unavailable => Next::Retry,
//!             OpenErrorKind::NoAccess => Next::AskForAccess,
//!             OpenErrorKind::NotAuthentic => Next::RaiseAlarm, // or another context
//!             _ => Next::Investigate,
//!         },
//!         // The transfer may have broken off.
//!         DecryptError::Payload(PayloadError::Truncated { .. }) => Next::Retry,
//!         DecryptError::Payload(_) => Next::RaiseAlarm,
//!         _ => Next::Investigate, // no file of ours, or reading failed
//!     }
//! }
//!
//! fn after_prepare(error: &PrepareError) -> Next {
//!     match error {
//!         PrepareError::Holder { source, .. } if source.kind().is_retryable() => Next::Retry,
//!         _ => Next::Investigate,
//!     }
//! }
//! ```
//!
//! Readers return a [`PayloadError`] inside a [`std::io::Error`], where
//! [`PayloadError::of`] finds it.
//!
//! # What is promised
//!
//! - No plaintext byte leaves before the segment that holds it is verified.
//! - Truncated, reordered, repeated, spliced, extended or altered files are
//!   errors, and so is a file of another encryption context.
//! - No share is trusted that its holder did not unwrap again.
//! - Only holders that the application named are ever contacted.
//! - Whoever reads a stream has a verified *prefix* until the last read returns
//!   0 bytes.
//!
//! What is not: `docs/threat-model.md` says it, above all that the machine that
//! encrypts or decrypts holds both shares while it does so.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `backend-aws-lc` | yes | the fast AES-GCM; needs a C compiler to build |
//! | `backend-rustcrypto` | yes | the pure-Rust AES-GCM |
//! | `blocking` | | the key step for callers without an async runtime |
//! | `tokio` | | `tokio::io` adaptors |
//! | `testing` | | in-memory holders with faults |
//!
//! Holders say themselves which runtime they need; the AWS one needs tokio.
#![forbid(unsafe_code)]

mod batch;
#[cfg(feature = "blocking")]
mod blocking;
mod bulk;
mod cache;
mod decrypt;
mod encrypt;
pub mod file;
mod flight;
mod inspect;
mod limits;
mod payload;
mod prove;
mod random;
mod read_at;
mod rewrap;
mod shares;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use batch::Batch;
#[cfg(feature = "blocking")]
pub use blocking::RuntimeError;
pub use bulk::memory::{DecryptSliceError, EncryptSliceError, PARALLEL_FROM};
pub use cache::UnwrapCache;
#[cfg(feature = "tokio")]
pub use decrypt::read_header_async;
pub use decrypt::{
    DecryptError, Decryptor, Envelope, FailedAttempt, OpenError, OpenErrorKind, ReadHeaderError,
    read_detached_header, read_header,
};
pub use encrypt::{DEFAULT_SEGMENT_LEN, Encryptor, EncryptorBuilder, PrepareError};
pub use inspect::{Inspection, PayloadFacts, PayloadSizes, inspect};
pub use limits::PairLimits;
#[cfg(feature = "tokio")]
pub use payload::{AsyncDecryptReader, AsyncEncryptWriter};
pub use payload::{DecryptReader, EncryptWriter, PayloadError, Progress, RangeReader, SeekReader};
pub use prove::{Call, CallOutcome, Holders, Proof, ProofAttempt};
pub use read_at::{ReadAt, ReadAtCursor};
pub use rewrap::{
    KeySelector, KeyslotChange, KeyslotKeys, RewrapError, RewrapPlan, RewrappedHeader,
};
pub use shares::{KeyslotFailure, ShareFailure};

// The vocabulary of the crates below, so that callers need only this one.
pub use twinlock_floe::{Backend, BackendError};
pub use twinlock_format::{
    ContextError, DetachedPrefixError, EncryptionContext, EnvelopeId, Header, HeaderError,
    HeaderTooLarge, InvalidHeader, InvalidShareSlot, Keyslot, UnverifiedHeader, escape_untrusted,
};
pub use twinlock_keys::{
    BoxFuture, CreateFileKekError, CustomerKey, FileKek, HolderAnswer, HolderError,
    HolderErrorKind, KeyHolder, KeyUri, KeyUriError, Pkcs11Uri, ProviderKey, RandomnessError,
    Share, ShareAlgorithm, Side, WrapContext, WrappedShare, WrongSide,
};
