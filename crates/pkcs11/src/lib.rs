//! The customer's side of Twinlock: KEKs on PKCS#11 tokens.
//!
//! [`Pkcs11Key`] is a [`KeyHolder`](twinlock_keys::KeyHolder) whose AES-256 or
//! RSA key stays in an HSM, a smart card or a token in software. A URI (RFC
//! 7512) says where it is:
//!
//! ```no_run
//! use twinlock_keys::{CustomerKey, Pkcs11Uri};
//! use twinlock_pkcs11::{Pkcs11Key, TokenOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri: Pkcs11Uri = "pkcs11:token=Twinlock;object=archive\
//!     ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin".parse()?;
//! let customer = CustomerKey::new(Pkcs11Key::open(&uri, TokenOptions::default()).await?)?;
//! # Ok(())
//! # }
//! ```
//!
//! Services have an [`AeadKey`] for small data or an [`RsaKey`] for what others
//! encrypted under its public part, or a [`Fleet`] of several tokens with the same
//! key.
//!
//! With an RSA key, machines without the token can wrap, too: see
//! [`Pkcs11PublicKey`].
//!
//! # What to rely on
//!
//! - **Deadlines.** PKCS#11 functions block and cannot be interrupted. They run
//!   on threads of this crate, never on the caller's; each call ends at its
//!   deadline ([`TokenOptions::with_deadline`]) even when the module hangs. The
//!   futures run on any executor and need no runtime.
//! - **One module, one context.** A module is loaded and initialised once per
//!   process, with its own locks on (`CKF_OS_LOCKING_OK`), and never finalised.
//!   Do not fork after opening a token.
//! - **Login.** A process is logged in to a token as a whole. A PIN that the
//!   token refused is not tried again by this process, whoever asks, and no PIN
//!   is tried when one more wrong one would lock the token. Where PINs come from
//!   is [`PinSource`]'s matter.
//! - **Sessions and keys come and go.** A session that is gone is opened again
//!   and a key that was replaced is found again, once per call. While the token
//!   has no session left, a call waits for one, within its deadline.
//! - **Tokens fail.** A call that hangs costs its caller the deadline and one
//!   thread, which is replaced up to a bound. After some failures in a row calls
//!   are answered at once and tell when to come back
//!   ([`TokenOptions::with_breaker`]); work resumes by itself, without a restart.
//!   Bad ciphertext is not a failure of the token.
//! - **Closing is quick.** Dropping the last clone of a token waits a quarter of a
//!   second for the sessions, and for no call; [`Token::close`] waits for both, as
//!   long as it is told.
//! - **Tokens differ.** Their quirks (who makes the IV, which code means a bad
//!   tag) are rows of a table, chosen by what the token says about itself.
//!   Whether one does OAEP with SHA-256 is tried, once for each key; for one
//!   that does not, the padding is taken off here, in constant time.
//!
//! The module to use when a URI has no `module-path` is named by the
//! environment variable `TWINLOCK_PKCS11_MODULE`.
// But for one module: see there.
#![deny(unsafe_code)]

mod aead;
mod aead_key;
mod breaker;
mod ckr;
mod create;
mod deadline;
mod error;
mod facts;
mod fleet;
mod ivs;
mod key;
mod late;
mod login;
mod look;
mod lookup;
mod module;
mod oaep;
#[allow(unsafe_code, reason = "cryptoki has no such calls")]
mod one_shot;
mod pin;
mod private_key;
mod rsa_key;
mod session;
mod slots;
mod token;
mod vendors;
mod workers;
mod wrap_only;

pub use aead::Sealed;
pub use aead_key::{AeadKey, Done, MAX_AAD_LEN, MAX_DATA_LEN};
pub use create::{RsaSize, create_kek, create_rsa_kek, create_token, import_rsa_kek};
pub use error::{ErrorKind, Pkcs11Error};
pub use facts::{KeyFacts, KeyKind};
pub use fleet::{Fleet, FleetOptions};
pub use key::Pkcs11Key;
pub use late::LateToken;
pub use look::{
    KeyCheck, ModuleFacts, check_key, describe_module, find_token, list_keys, list_mechanisms,
    list_tokens,
};
pub use pin::PinSource;
pub use private_key::RsaPrivateKey;
pub use rsa_key::RsaKey;
pub use secrecy::SecretString;
pub use slots::TokenFacts;
pub use token::{Token, TokenOptions, TokenState};
pub use twinlock_keys::RsaPublicKey;
pub use wrap_only::Pkcs11PublicKey;
