//! A customer key in a service of the Double Key Encryption protocol: Twinlock's
//! own (`twinlock-dke`), or another vendor's.
//!
//! ```no_run
//! use twinlock_keys::{CustomerKey, KeyUri};
//! use twinlock_remote_keys::dke::{Credential, DkeKey, Options, TokenSource};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri: KeyUri = "dke+https://dke.example.org/Archive".parse()?;
//! let options = Options::new()
//!     .pin("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".parse()?)
//!     .token(TokenSource::Bearer(Credential::File("/run/secrets/dke-token".into())));
//! let customer = CustomerKey::new(DkeKey::connect(&uri, &options)?)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is sent
//!
//! To wrap, nothing: the service's public key is fetched (`GET <key>`, without a
//! token) and shares are wrapped here, by RSA-OAEP with SHA-256. The key is kept
//! for as long as the service says (`cache.exp`), and not at all if it says
//! nothing. To unwrap, one `POST <key>/<version>/decrypt` with the wrapped share
//! and a bearer token.
//!
//! **RSA-OAEP has no additional data.** The service can neither enforce nor log
//! an encryption context: the check of each share (`docs/format.md`, shares)
//! keeps *our reader* from using one of another context, and nobody else. And
//! since anybody can wrap with a public key, a wrapped share says nothing about
//! who made it.
//!
//! # Which public key
//!
//! An impostor's public key would work as well, for the impostor: it is used only
//! if the SHA-256 of its `SubjectPublicKeyInfo` is one of [`Options::pin`]. Two
//! pins are for the days in which a key is rotated. Unwrapping needs none, for
//! every share carries its check.
//!
//! # Where
//!
//! The URI's host and path by HTTPS, and nowhere else: redirects are not
//! followed, and of what the service calls its key (`kid`) only the last part is
//! taken, as the key's version. Neither the service's challenge
//! (`WWW-Authenticate`) nor its answers choose where a token comes from or what it
//! is good for: [`TokenSource`] does.
//!
//! # Runtime
//!
//! The futures need a tokio runtime with time and I/O enabled, and the same one
//! for the life of the holder, as its pooled connections live there.
//!
//! # Secrets
//!
//! Shares, tokens and client secrets are wiped where this crate owns them. The
//! HTTP and TLS libraries keep copies that they free without wiping. Their
//! logging is off inside our calls; each leaves one DEBUG line of our own
//! instead, with the operation, the key and the request id, if there is one.

mod call;
mod client;
mod login;
mod oauth;
mod options;
mod pin;
mod published;
mod refusal;
mod token;
mod wire;

use tokio::sync::Mutex;
use twinlock_keys::{
    BoxFuture, HolderError, HolderErrorKind, KeyHolder, KeyUri, Share, ShareAlgorithm, WrapContext,
    WrappedShare,
};

pub use crate::credential::Credential;
pub use login::{PendingLogin, forget_login, start_login};
pub use oauth::OauthClient;
pub use options::Options;
pub use pin::{Pin, PinError};
pub use secrecy::SecretString;
pub use token::TokenSource;

use call::{Call, Deadline, Operation};
use client::{Answer, Service};
use published::{Cache, Published};

/// The lengths of ciphertexts of keys of 2048 to 8192 bits.
const CIPHERTEXT_LENS: std::ops::RangeInclusive<usize> = 256..=1024;

/// An RSA key in a service of the Double Key Encryption protocol.
pub struct DkeKey {
    uri: KeyUri,
    service: Service,
    pins: Vec<Pin>,
    published: Mutex<Cache>,
}

/// What a service publishes about its key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyFacts {
    /// The version that wraps.
    pub version: String,
    /// The size of its modulus.
    pub bits: u64,
    /// The SHA-256 of its `SubjectPublicKeyInfo`.
    pub pin: Pin,
}

impl DkeKey {
    /// Makes a holder for the key that `uri` names. No call is made: whether the
    /// key exists and may be used shows when it is used.
    ///
    /// # Errors
    /// When `uri` is not of the scheme `dke+https`, and when an option cannot be.
    pub fn connect(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        Ok(Self {
            uri: uri.clone(),
            service: Service::open(uri, options)?,
            pins: options.pins.clone(),
            published: Mutex::default(),
        })
    }

    /// Asks the service for its public key, pinned or not, without a token. It is
    /// for people to compare with what the key's owner says.
    ///
    /// # Errors
    /// When the service refuses or fails, and with
    /// [`Misconfigured`](HolderErrorKind::Misconfigured) when the key is not one
    /// to wrap with.
    pub async fn describe(uri: &KeyUri, options: &Options) -> Result<KeyFacts, HolderError> {
        let key = Self::connect(uri, options)?;
        let published = key.fetch(key.service.deadline()).await?;
        Ok(published.facts())
    }

    async fn wrap(&self, share: &Share) -> Result<WrappedShare, HolderError> {
        let deadline = self.service.deadline();
        let call = Call::new(Operation::ReadKey, &self.uri, deadline);
        let published = call.bounded(self.published(deadline)).await?;
        self.check_pin(&published)?;
        let wrapped = published.key.wrap(share)?;
        Ok(wrapped.with_key_version(&published.version))
    }

    /// The key that the service publishes, asked for again when it says so. Those
    /// who come meanwhile wait for the same one.
    async fn published(&self, deadline: Deadline) -> Result<Published, HolderError> {
        let mut cache = self.published.lock().await;
        if let Some(published) = cache.get() {
            return Ok(published.clone());
        }
        let published = self.fetch(deadline).await?;
        cache.put(&published);
        Ok(published)
    }

    async fn fetch(&self, deadline: Deadline) -> Result<Published, HolderError> {
        let call = Call::new(Operation::ReadKey, &self.uri, deadline);
        let answer = call.run(self.service.read_key(&call)).await?;
        match answer.status {
            200 => Published::read(&call, &answer),
            _ => Err(refusal::refused(&call, &answer)),
        }
    }

    fn check_pin(&self, published: &Published) -> Result<(), HolderError> {
        let KeyFacts { pin, version, .. } = published.facts();
        let key = &self.uri;
        match self.pins.as_slice() {
            pins if pins.contains(&pin) => Ok(()),
            [] => Err(misconfigured(format!(
                "{key} is not pinned, and an impostor's key would wrap as well: ask its owner for \
                 the SHA-256 of its public key, and if that is {pin}, which the service shows, add \
                 it to the profile's [dke] as pins = [\"{pin}\"] (twinlock init does)"
            ))),
            _ => Err(misconfigured(format!(
                "{key} now has another public key (version {version}, {pin}) than those that are \
                 pinned: if its owner says that it was rotated, add that pin; otherwise somebody \
                 has exchanged it, and nothing was wrapped"
            ))),
        }
    }

    async fn unwrap(&self, wrapped: &WrappedShare) -> Result<Share, HolderError> {
        let call = Call::new(Operation::Decrypt, &self.uri, self.service.deadline());
        let version = wrapped
            .key_version()
            .filter(|version| wire::is_version(version))
            .filter(|_| wrapped.algorithm() == ShareAlgorithm::RsaOaepSha256)
            .filter(|_| CIPHERTEXT_LENS.contains(&wrapped.bytes().len()))
            .ok_or_else(|| call.invalid_ciphertext())?;
        let body = wire::decrypt_request(wrapped.bytes());
        let answer = call.run(self.service.decrypt(&call, version, &body)).await?;
        match answer.status {
            200 => unwrapped(&call, &answer),
            400 | 404 => Err(self.which_is_wrong(&call, &answer).await),
            _ => Err(refusal::refused(&call, &answer)),
        }
    }

    /// Whether there is no such key, or this is not a ciphertext of it: services
    /// answer either with either status. Whether there is one, they say.
    async fn which_is_wrong(&self, call: &Call<'_>, answer: &Answer) -> HolderError {
        match self.fetch(call.deadline).await {
            Ok(_) => call.invalid_ciphertext().with_answer(answer.evidence()),
            Err(error) if error.kind() == HolderErrorKind::NotFound => error,
            Err(_) => refusal::refused(call, answer),
        }
    }
}

fn unwrapped(call: &Call<'_>, answer: &Answer) -> Result<Share, HolderError> {
    let plaintext = wire::plaintext(&answer.body)
        .ok_or_else(|| call.not_the_service().with_answer(answer.evidence()))?;
    match Share::try_copy_of(&plaintext) {
        Some(share) => Ok(share.with_answer(answer.evidence())),
        // It was never a share: a label's key, for instance.
        None => Err(call.invalid_ciphertext().with_answer(answer.evidence())),
    }
}

impl KeyHolder for DkeKey {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(self.wrap(share))
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(self.unwrap(wrapped))
    }
}

fn misconfigured(message: impl Into<String>) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}
