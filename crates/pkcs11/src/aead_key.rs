//! An AES-256 key on a token, for services.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cryptoki::object::ObjectHandle;
use subtle::ConstantTimeEq as _;
use twinlock_keys::Pkcs11Uri;
use zeroize::Zeroizing;

use crate::lookup::KeyName;
use crate::session::TokenSession;
use crate::workers::{Answer, Retry};
use crate::{ErrorKind, KeyFacts, Pkcs11Error, Sealed, Token, aead, oaep};

/// The longest data that a token is asked to encrypt or decrypt, in bytes.
pub const MAX_DATA_LEN: usize = 64 << 10;

/// The longest AAD, in bytes.
pub const MAX_AAD_LEN: usize = 128 << 10;

/// An AES-256 key on one token, for AEAD of small data (AES-256-GCM, tags of 16
/// bytes). Clones are cheap and share the token's sessions.
///
/// Encrypting costs the module two calls, decrypting too: the key is looked up
/// once per session, and IVs are fetched from the token's generator up to 64 at
/// a time, or made by the token where it insists.
///
/// ```no_run
/// use std::time::Duration;
///
/// use twinlock_keys::Pkcs11Uri;
/// use twinlock_pkcs11::{AeadKey, Token, TokenOptions};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let uri: Pkcs11Uri = "pkcs11:token=Twinlock;object=xks\
///     ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin".parse()?;
/// let token = Token::open(&uri, TokenOptions::default()).await?;
/// let key = AeadKey::on(&token, &uri).await?;
/// let within = Duration::from_millis(200);
/// let sealed = key.encrypt(b"data".to_vec().into(), b"aad".to_vec(), within).await.result?;
/// let data = key.decrypt(sealed, b"aad".to_vec(), within).await.result?;
/// assert_eq!(*data, b"data");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`Pkcs11Error::kind`] mean:
/// - [`ErrorKind::BadCiphertext`]: the tag is wrong, or the IV's length.
/// - [`ErrorKind::NotFound`]: the token is there, logged in, and has no such key
///   any more. A session, a login or a device that was lost is never told so.
/// - [`ErrorKind::TimedOut`]: no answer within the deadline, which is kept
///   whatever the module does.
/// - [`ErrorKind::Busy`]: the queue is full, or longer than the deadline, or the
///   breaker is open; answered at once.
/// - [`ErrorKind::Fatal`]: among others, what a token made does not decrypt.
/// - [`Pkcs11Error::is_forbidden_use`]: the key is not for this.
#[derive(Clone)]
pub struct AeadKey {
    token: Token,
    key: Arc<Key>,
}

struct Key {
    name: KeyName,
    allow_extractable: bool,
    facts: KeyFacts,
}

/// What came of a call, and where the time went.
#[derive(Debug)]
pub struct Done<T> {
    /// What came of it.
    pub result: Result<T, Pkcs11Error>,
    /// Which token answered: its place in the fleet, 0 for the first or only one.
    pub member: usize,
    /// The time until a session took the call.
    pub queued: Duration,
    /// The time in the session: the module's, for the greatest part.
    pub in_token: Duration,
}

impl AeadKey {
    /// The key that `uri` names, on a token that is open.
    ///
    /// It may be for encrypting or for decrypting only: see [`AeadKey::facts`].
    ///
    /// # Errors
    /// When there is no such key, more than one, or it is none for AES-256; or
    /// when it could leave the token, shows its bytes or is public, unless the
    /// token was opened with
    /// [`with_extractable_keys`](crate::TokenOptions::with_extractable_keys).
    pub async fn on(token: &Token, uri: &Pkcs11Uri) -> Result<Self, Pkcs11Error> {
        let name = KeyName::of_kek(uri)?;
        let allow_extractable = token.options().allows_extractable();
        let find = {
            let name = name.clone();
            move |token: &mut TokenSession| {
                token.find_key(&name, |key| key.check_aead(allow_extractable))
            }
        };
        let facts = token.call(Retry::Once, find).await?;
        let name = name.of_found(&facts);
        let key = Arc::new(Key { name, allow_extractable, facts });
        Ok(Self { token: token.clone(), key })
    }

    /// What the token said about the key when it was opened.
    #[must_use]
    pub fn facts(&self) -> &KeyFacts {
        &self.key.facts
    }

    /// The token that keeps it.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Encrypts up to [`MAX_DATA_LEN`] bytes and binds up to [`MAX_AAD_LEN`]
    /// bytes to them, with a random IV.
    pub async fn encrypt(
        &self,
        data: Zeroizing<Vec<u8>>,
        aad: Vec<u8>,
        within: Duration,
    ) -> Done<Sealed> {
        self.encrypt_shared(Input::new(data, aad), within).await
    }

    /// Encrypts as [`AeadKey::encrypt`] does, calls `between` with what came of
    /// it, then has the token decrypt that, and compares: in one session, with
    /// four calls of the module.
    ///
    /// If the session is lost on the way all is done once more, `between` too:
    /// what counts is what it makes of the result that is returned.
    pub async fn encrypt_checked<R: Send + 'static>(
        &self,
        data: Zeroizing<Vec<u8>>,
        aad: Vec<u8>,
        within: Duration,
        between: impl Fn(&Sealed) -> R + Send + 'static,
    ) -> Done<(Sealed, R)> {
        self.encrypt_checked_shared(Input::new(data, aad), within, between).await
    }

    /// Decrypts up to [`MAX_DATA_LEN`] bytes; the IV has 12 or 16.
    pub async fn decrypt(
        &self,
        sealed: Sealed,
        aad: Vec<u8>,
        within: Duration,
    ) -> Done<Zeroizing<Vec<u8>>> {
        self.decrypt_shared(Arc::new((sealed, aad)), within).await
    }

    pub(crate) async fn encrypt_shared(&self, input: Arc<Input>, within: Duration) -> Done<Sealed> {
        if let Err(error) = input.check() {
            return Done::refused(error);
        }
        let work =
            move |token: &mut TokenSession, key| aead::encrypt(token, key, &input.data, &input.aad);
        self.with_key(within, work).await
    }

    pub(crate) async fn encrypt_checked_shared<R: Send + 'static>(
        &self,
        input: Arc<Input>,
        within: Duration,
        between: impl Fn(&Sealed) -> R + Send + 'static,
    ) -> Done<(Sealed, R)> {
        if let Err(error) = input.check() {
            return Done::refused(error);
        }
        let work = move |token: &mut TokenSession, key| {
            let sealed = aead::encrypt(token, key, &input.data, &input.aad)?;
            let between = between(&sealed);
            let back = aead::decrypt(token, key, &sealed, &input.aad);
            match back.map_err(not_its_own)?.ct_eq(&input.data).into() {
                true => Ok((sealed, between)),
                false => Err(changed()),
            }
        };
        self.with_key(within, work).await
    }

    pub(crate) async fn decrypt_shared(
        &self,
        input: Arc<(Sealed, Vec<u8>)>,
        within: Duration,
    ) -> Done<Zeroizing<Vec<u8>>> {
        let (sealed, aad) = &*input;
        if !sealed.has_iv() || sealed.ciphertext.len() > MAX_DATA_LEN || aad.len() > MAX_AAD_LEN {
            return Done::refused(oaep::refused());
        }
        let work =
            move |token: &mut TokenSession, key| aead::decrypt(token, key, &input.0, &input.1);
        self.with_key(within, work).await
    }

    /// Does `work` with the key, on one of the token's sessions.
    async fn with_key<T: Send + 'static>(
        &self,
        within: Duration,
        work: impl Fn(&mut TokenSession, ObjectHandle) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Done<T> {
        // Not the token: a worker must not own what it belongs to.
        let key = Arc::clone(&self.key);
        let call = move |token: &mut TokenSession| {
            token.with_key(&key.name, |facts| facts.check_aead(key.allow_extractable), &work)
        };
        Done::from(self.token.timed_call(within, Retry::Once, call).await)
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey").field("facts", self.facts()).finish_non_exhaustive()
    }
}

/// What is to be encrypted, perhaps by several tokens.
pub(crate) struct Input {
    data: Zeroizing<Vec<u8>>,
    aad: Vec<u8>,
}

impl Input {
    pub(crate) fn new(data: Zeroizing<Vec<u8>>, aad: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { data, aad })
    }

    fn check(&self) -> Result<(), Pkcs11Error> {
        for (len, most, what) in
            [(self.data.len(), MAX_DATA_LEN, "data"), (self.aad.len(), MAX_AAD_LEN, "AAD")]
        {
            if len > most {
                return Err(Pkcs11Error::misconfigured(format!(
                    "a token encrypts small data: at most {most} bytes of {what}, not {len}"
                )));
            }
        }
        Ok(())
    }
}

impl<T> Done<T> {
    /// Without asking a token.
    fn refused(error: Pkcs11Error) -> Self {
        Self::from((Err(error), crate::workers::Times::default()))
    }

    /// The same with another result, if there is one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Done<U> {
        let Self { result, member, queued, in_token } = self;
        Done { result: result.map(change), member, queued, in_token }
    }

    pub(crate) fn by(self, member: usize) -> Self {
        Self { member, ..self }
    }
}

impl<T> From<Answer<T>> for Done<T> {
    fn from((result, times): Answer<T>) -> Self {
        Self { result, member: 0, queued: times.queued, in_token: times.in_token }
    }
}

/// The error of decrypting what the token itself has just made: bad ciphertext
/// is then no fault of the caller's.
fn not_its_own(error: Pkcs11Error) -> Pkcs11Error {
    match error.kind() {
        ErrorKind::BadCiphertext => Pkcs11Error::new(
            ErrorKind::Fatal,
            "the token does not decrypt what it has just encrypted; nothing was returned",
        ),
        _ => error,
    }
}

fn changed() -> Pkcs11Error {
    Pkcs11Error::new(
        ErrorKind::Fatal,
        "the token decrypts what it has just encrypted to something else; nothing was returned",
    )
}
