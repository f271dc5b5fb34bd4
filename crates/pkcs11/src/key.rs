//! The customer's KEK on a token.

use std::fmt;
use std::sync::Arc;

use cryptoki::object::ObjectHandle;
use twinlock_keys::{
    BoxFuture, HolderAnswer, HolderError, KeyHolder, KeyUri, Pkcs11Uri, Share, ShareAlgorithm,
    WrapContext, WrappedShare,
};

use crate::lookup::KeyName;
use crate::oaep::{self, Oaep};
use crate::session::TokenSession;
use crate::workers::Retry;
use crate::{
    KeyFacts, KeyKind, Pkcs11Error, RsaPublicKey, Sealed, Token, TokenOptions, aead, rsa_key,
};

const SHARE_LEN: usize = 32;

/// A customer KEK that never leaves its token: an AES-256 key, or the private
/// part of an RSA key of 2048 bits or more.
///
/// With AES each share is encrypted and decrypted inside the token with AES-GCM,
/// bound to its context as AAD. Wrapped, it is IV || ciphertext || tag: 60 bytes
/// (64 where the token insists on an IV of 16).
///
/// With RSA each share is encrypted in this process by RSA-OAEP with SHA-256,
/// under the public key that the token showed when it was opened, and decrypted
/// inside the token. Wrapped, it is as long as the modulus. RSA binds no context:
/// a share of another one is found out by its check, after it was unwrapped.
pub struct Pkcs11Key {
    uri: KeyUri,
    name: KeyName,
    token: Token,
    facts: KeyFacts,
    kek: Kek,
}

/// What kind of KEK it is, and what follows from that.
enum Kek {
    Aes,
    Rsa(Arc<Oaep>),
}

impl Pkcs11Key {
    /// Opens the token and the key that `uri` names.
    ///
    /// # Errors
    /// When the module, the token, the PIN or the key is not there or not
    /// right: the key must be the only AES or RSA key of its name, AES-256 for
    /// encrypting and decrypting or RSA (2048 to 8192 bits, exponent 65537) for
    /// decrypting, sensitive, not extractable, and private where the token has a
    /// PIN (unless [`TokenOptions::with_extractable_keys`]). If the URI has a
    /// `spki-sha256`, it must be that RSA key.
    pub async fn open(uri: &Pkcs11Uri, options: TokenOptions) -> Result<Self, Pkcs11Error> {
        KeyName::of_kek(uri)?;
        Self::on(&Token::open(uri, options).await?, uri).await
    }

    /// The key that `uri` names on a token that is open already.
    ///
    /// # Errors
    /// As [`Pkcs11Key::open`].
    pub async fn on(token: &Token, uri: &Pkcs11Uri) -> Result<Self, Pkcs11Error> {
        let name = KeyName::of_kek(uri)?;
        let allow_extractable = token.options().allows_extractable();
        let find = {
            let name = name.clone();
            move |token: &mut TokenSession| {
                token.find_key(&name, |key| key.check_kek(allow_extractable))
            }
        };
        let facts = token.call(Retry::Once, find).await?;
        let name = name.of_found(&facts);
        let kek = match public_key(&facts, uri)? {
            Some(public) => {
                Kek::Rsa(rsa_key::oaep_of(token, &name, public, KeyFacts::check_kek).await?)
            }
            None => Kek::Aes,
        };
        Ok(Self { uri: uri.key_uri(), name, token: token.clone(), facts, kek })
    }

    /// What the token said about the key when it was opened.
    #[must_use]
    pub fn facts(&self) -> &KeyFacts {
        &self.facts
    }

    /// The token that keeps it.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// The public part of an RSA key.
    #[must_use]
    pub fn public_key(&self) -> Option<&RsaPublicKey> {
        match &self.kek {
            Kek::Aes => None,
            Kek::Rsa(oaep) => Some(oaep.public()),
        }
    }

    pub(crate) async fn wrap_share(
        &self,
        share: &Share,
        aad: &[u8],
    ) -> Result<WrappedShare, Pkcs11Error> {
        if let Some(public) = self.public_key() {
            return Ok(public.wrap(share)?);
        }
        let (aad, share) = (aad.to_vec(), Share::copy_of(share.expose()));
        let encrypt =
            move |token: &mut TokenSession, key| aead::encrypt(token, key, share.expose(), &aad);
        let sealed = self.with_key(encrypt).await?;
        Ok(WrappedShare::new(ShareAlgorithm::HolderAead, sealed.joined()))
    }

    pub(crate) async fn unwrap_share(
        &self,
        wrapped: &WrappedShare,
        aad: &[u8],
    ) -> Result<Share, Pkcs11Error> {
        let bytes = wrapped.bytes();
        let share = match (&self.kek, wrapped.algorithm()) {
            (Kek::Aes, ShareAlgorithm::HolderAead) => {
                let sealed = Sealed::split(bytes, SHARE_LEN).ok_or_else(oaep::refused)?;
                let aad = aad.to_vec();
                self.with_key(move |token, key| {
                    let share = aead::decrypt(token, key, &sealed, &aad)?;
                    Share::try_copy_of(&share).ok_or_else(oaep::refused)
                })
                .await?
            }
            (Kek::Rsa(oaep), ShareAlgorithm::RsaOaepSha256)
                if oaep.public().can_be_asked(bytes) =>
            {
                let (oaep, bytes) = (Arc::clone(oaep), bytes.to_vec());
                self.with_key(move |token, key| oaep.decrypt_share(token, key, &bytes)).await?
            }
            _ => return Err(oaep::refused()),
        };
        Ok(share.with_answer(HolderAnswer::code("CKR_OK")))
    }

    /// Does `work` with the key, on one of the token's sessions.
    async fn with_key<T: Send + 'static>(
        &self,
        work: impl Fn(&mut TokenSession, ObjectHandle) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Result<T, Pkcs11Error> {
        let public = self.public_key().cloned();
        with_key(&self.token, &self.name, public, work).await
    }
}

/// The public part of an RSA key that `uri` names; nothing for other keys.
fn public_key(facts: &KeyFacts, uri: &Pkcs11Uri) -> Result<Option<RsaPublicKey>, Pkcs11Error> {
    match (facts.kind, uri.spki_sha256()) {
        (KeyKind::RsaPrivate, pin) => {
            let public = facts.public_key()?;
            pin.map_or(Ok(()), |pin| public.check_pin(&pin, "on the token"))?;
            Ok(Some(public))
        }
        (_, None) => Ok(None),
        (_, Some(_)) => Err(Pkcs11Error::misconfigured(format!(
            "the key {:?} is no RSA key, so it cannot be the one that spki-sha256 names",
            facts.label
        ))),
    }
}

/// Does `work` with the key of that name, if it is fit for it, and the RSA key
/// `public` if that is given: an exchanged one would not open what that wrapped.
async fn with_key<T: Send + 'static>(
    token: &Token,
    name: &KeyName,
    public: Option<RsaPublicKey>,
    work: impl Fn(&mut TokenSession, ObjectHandle) -> Result<T, Pkcs11Error> + Send + 'static,
) -> Result<T, Pkcs11Error> {
    let name = name.clone();
    let allow_extractable = token.options().allows_extractable();
    let check = move |key: &KeyFacts| {
        key.check_kek(allow_extractable)?;
        match &public {
            Some(public) => rsa_key::check_same(key, public),
            None => Ok(()),
        }
    };
    let call = move |token: &mut TokenSession| token.with_key(&name, &check, &work);
    token.call(Retry::Once, call).await
}

impl fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Key").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl KeyHolder for Pkcs11Key {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async move { Ok(self.wrap_share(share, context.aad()).await?) })
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async move { Ok(self.unwrap_share(wrapped, context.aad()).await?) })
    }
}
