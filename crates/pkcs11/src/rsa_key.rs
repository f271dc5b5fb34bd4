//! An RSA key on a token, for services.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use twinlock_keys::Pkcs11Uri;
use zeroize::Zeroizing;

use crate::lookup::KeyName;
use crate::oaep::{Known, Oaep};
use crate::session::TokenSession;
use crate::workers::Retry;
use crate::{Done, KeyFacts, Pkcs11Error, RsaPublicKey, Token};

/// The private part of an RSA key on one token, which decrypts what others
/// encrypted under its public part by RSA-OAEP with SHA-256, MGF1-SHA-256 and no
/// label (RFC 8017 section 7.1). Clones are cheap and share the token's sessions.
///
/// The token does all of it, or the arithmetic only, and the padding is taken off
/// here in constant time: which of both is found out when the key is first opened,
/// never for a call.
///
/// ```no_run
/// use std::time::Duration;
///
/// use twinlock_keys::Pkcs11Uri;
/// use twinlock_pkcs11::{RsaKey, Token, TokenOptions};
///
/// # async fn example(ciphertext: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
/// let uri: Pkcs11Uri = "pkcs11:token=Twinlock;object=dke\
///     ?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin".parse()?;
/// let token = Token::open(&uri, TokenOptions::default()).await?;
/// let key = RsaKey::on(&token, &uri).await?;
/// println!("{}", key.public_key().to_pem());
/// let message = key.decrypt(ciphertext, Duration::from_secs(1)).await.result?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`AeadKey`](crate::AeadKey), where bad ciphertext is whatever is not
/// of this key and padding: of another length, another key, another padding, hash
/// or label, or altered. All of it has one error, without the token's code, and
/// takes the token the same time: a ciphertext that it cannot be asked is not
/// answered sooner. Whoever could tell one from the other could decrypt.
#[derive(Clone)]
pub struct RsaKey {
    token: Token,
    key: Arc<Key>,
}

struct Key {
    name: KeyName,
    allow_extractable: bool,
    facts: KeyFacts,
    oaep: Arc<Oaep>,
}

impl RsaKey {
    /// The key that `uri` names, on a token that is open.
    ///
    /// # Errors
    /// When there is no such key, more than one, or it is none for RSA of 2048 to
    /// 8192 bits and the exponent 65537, for decrypting and not for signing (a
    /// signature without padding is a decryption); when it could leave the token,
    /// shows its bytes or is public, unless the token was opened with
    /// [`with_extractable_keys`](crate::TokenOptions::with_extractable_keys); or
    /// when the token does not decrypt with it.
    pub async fn on(token: &Token, uri: &Pkcs11Uri) -> Result<Self, Pkcs11Error> {
        let name = KeyName::of_kek(uri)?;
        let allow_extractable = token.options().allows_extractable();
        let find = {
            let name = name.clone();
            move |token: &mut TokenSession| {
                token.find_key(&name, |key| key.check_rsa(allow_extractable))
            }
        };
        let facts = token.call(Retry::Once, find).await?;
        let name = name.of_found(&facts);
        let oaep = oaep_of(token, &name, facts.public_key()?, KeyFacts::check_rsa).await?;
        let key = Arc::new(Key { name, allow_extractable, facts, oaep });
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

    /// The part that encrypts, as the token showed it when the key was opened. A
    /// pair that took its place on the token is not used.
    #[must_use]
    pub fn public_key(&self) -> &RsaPublicKey {
        self.key.oaep.public()
    }

    /// True if the token takes the padding off; false if that is done here.
    #[must_use]
    pub fn is_unpadded_by_token(&self) -> bool {
        self.key.oaep.is_by_token()
    }

    /// Decrypts a message of any length: 66 bytes fewer than the modulus at most.
    pub async fn decrypt(&self, ciphertext: Vec<u8>, within: Duration) -> Done<Zeroizing<Vec<u8>>> {
        self.decrypt_shared(Arc::new(ciphertext), within).await
    }

    pub(crate) async fn decrypt_shared(
        &self,
        ciphertext: Arc<Vec<u8>>,
        within: Duration,
    ) -> Done<Zeroizing<Vec<u8>>> {
        // Not the token: a worker must not own what it belongs to.
        let key = Arc::clone(&self.key);
        let call = move |token: &mut TokenSession| {
            let check = |facts: &KeyFacts| {
                facts.check_rsa(key.allow_extractable)?;
                check_same(facts, key.oaep.public())
            };
            let decrypt =
                |token: &mut TokenSession, handle| key.oaep.decrypt(token, handle, &ciphertext);
            token.with_key(&key.name, check, decrypt)
        };
        Done::from(self.token.timed_call(within, Retry::Once, call).await)
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RsaKey").field("facts", self.facts()).finish_non_exhaustive()
    }
}

/// How the token decrypts with the key of that name, `public`'s private part. If
/// that is not known, it is tried now, if the key passes `check` (which is told
/// whether keys may be extractable).
pub(crate) async fn oaep_of(
    token: &Token,
    name: &KeyName,
    public: RsaPublicKey,
    check: fn(&KeyFacts, bool) -> Result<(), Pkcs11Error>,
) -> Result<Arc<Oaep>, Pkcs11Error> {
    if let Some(oaep) = token.rsa_keys().of(name) {
        return Ok(oaep);
    }
    let (known, name) = (Arc::new(Known::new(public)?), name.clone());
    let (found, allow_extractable) = (name.clone(), token.options().allows_extractable());
    let probe = move |token: &mut TokenSession| {
        let check = |facts: &KeyFacts| {
            check(facts, allow_extractable)?;
            check_same(facts, known.public())
        };
        let probe = |token: &mut TokenSession, key| Oaep::probe(token, key, &known);
        token.with_key(&found, check, probe)
    };
    let oaep = Arc::new(token.call(Retry::Once, probe).await?);
    token.rsa_keys().keep(name, &oaep);
    Ok(oaep)
}

/// Refuses a key that is not `public`'s private part: it would not open what that
/// encrypted.
pub(crate) fn check_same(key: &KeyFacts, public: &RsaPublicKey) -> Result<(), Pkcs11Error> {
    match key.public_key()? == *public {
        true => Ok(()),
        false => Err(Pkcs11Error::misconfigured(format!(
            "the RSA key {:?} is another one than when it was opened; start again to use the new \
             one",
            key.label
        ))),
    }
}
