//! The joint between Twinlock and whoever keeps a key.
//!
//! A [`KeyHolder`] wraps and unwraps [`Share`]s: 32 random bytes, one per side.
//! Two shares, one from each [`Side`], make the key that opens a file, so a
//! holder never sees enough to open anything. Every place where keys live (a
//! PKCS#11 token, a cloud's key manager, a file for development) is one
//! implementation of that trait, named by a [`KeyUri`].
//!
//! Most applications never implement the trait: they take a holder from
//! `twinlock-pkcs11` or `twinlock-remote-keys` and hand it to the library as
//! the [`ProviderKey`] or the [`CustomerKey`]. To keep keys somewhere else,
//! implement two methods:
//!
//! ```
//! use twinlock_keys::{
//!     BoxFuture, HolderError, KeyHolder, KeyUri, Share, ShareAlgorithm, WrapContext, WrappedShare,
//! };
//!
//! /// A holder for a demonstration: it "wraps" by remembering.
//! struct Drawer {
//!     uri: KeyUri,
//!     kept: std::sync::Mutex<Vec<Share>>,
//! }
//!
//! impl KeyHolder for Drawer {
//!     fn uri(&self) -> &KeyUri {
//!         &self.uri
//!     }
//!
//!     fn wrap_key<'a>(
//!         &'a self,
//!         share: &'a Share,
//!         _context: &'a WrapContext,
//!     ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
//!         Box::pin(async move {
//!             let mut kept = self.kept.lock().expect("no holder of the lock panics");
//!             kept.push(Share::copy_of(share.expose()));
//!             let number = u8::try_from(kept.len()).expect("a small drawer");
//!             Ok(WrappedShare::new(ShareAlgorithm::HolderAead, vec![number]))
//!         })
//!     }
//!
//!     fn unwrap_key<'a>(
//!         &'a self,
//!         wrapped: &'a WrappedShare,
//!         _context: &'a WrapContext,
//!     ) -> BoxFuture<'a, Result<Share, HolderError>> {
//!         Box::pin(async move {
//!             let kept = self.kept.lock().expect("no holder of the lock panics");
//!             let number = usize::from(*wrapped.bytes().first().unwrap_or(&0));
//!             kept.get(number.wrapping_sub(1))
//!                 .map(|share| Share::copy_of(share.expose()))
//!                 .ok_or_else(|| HolderError::invalid_ciphertext("no such share in the drawer"))
//!         })
//!     }
//! }
//! ```
#![forbid(unsafe_code)]

mod error;
mod file;
mod holder;
#[cfg(feature = "rsa")]
mod rsa;
mod secret;
mod side;
mod uri;

pub use error::{HolderAnswer, HolderError, HolderErrorKind};
pub use file::{CreateFileKekError, FileKek};
pub use holder::{BoxFuture, KeyHolder, ShareAlgorithm, WrapContext, WrappedShare};
#[cfg(feature = "rsa")]
pub use rsa::{RsaKeyError, RsaPublicKey};
pub use secret::{RandomnessError, Secret, Share};
pub use side::{CustomerKey, ProviderKey, Side, WrongSide};
pub use uri::{KeyUri, KeyUriError, Pkcs11Uri, Scheme};
