//! The customer's KEK on a token.

use twinlock_keys::{
    BoxFuture, HolderAnswer, HolderError, KeyHolder, KeyUri, Pkcs11Uri, Share, ShareAlgorithm,
    WrapContext, WrappedShare,
};

use crate::lookup::{self, KeyName};
use crate::workers::Retry;
use crate::{ErrorKind, KeyFacts, Pkcs11Error, Token, TokenOptions, aead};

const SHARE_LEN: usize = 32;

/// A customer KEK: an AES-256 key that never leaves its token.
///
/// Each share is encrypted and decrypted inside the token with AES-GCM, bound
/// to its context as AAD. Wrapped, it is IV || ciphertext || tag: 60 bytes (64
/// where the token insists on an IV of 16).
#[derive(Debug)]
pub struct Pkcs11Key {
    uri: KeyUri,
    name: KeyName,
    token: Token,
    facts: KeyFacts,
}

impl Pkcs11Key {
    /// Opens the token and the key that `uri` names.
    ///
    /// # Errors
    /// When the module, the token, the PIN or the key is not there or not
    /// right: the key must be the only AES-256 key of its name, for encrypting
    /// and decrypting, sensitive, not extractable, and private where the token
    /// has a PIN (unless [`TokenOptions::with_extractable_keys`]).
    pub async fn open(uri: &Pkcs11Uri, options: TokenOptions) -> Result<Self, Pkcs11Error> {
        KeyName::of_secret_key(uri)?;
        Self::on(&Token::open(uri, options).await?, uri).await
    }

    /// The key that `uri` names on a token that is open already.
    ///
    /// # Errors
    /// As [`Pkcs11Key::open`].
    pub async fn on(token: &Token, uri: &Pkcs11Uri) -> Result<Self, Pkcs11Error> {
        let name = KeyName::of_secret_key(uri)?;
        let find = {
            let name = name.clone();
            move |token: &mut _| lookup::find(token, &name).map(|(_, facts)| facts)
        };
        let facts = token.call(Retry::Once, find).await?;
        facts.check_kek(token.options().allows_extractable())?;
        Ok(Self { uri: uri.key_uri(), name, token: token.clone(), facts })
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

    pub(crate) async fn wrap_share(
        &self,
        share: &Share,
        aad: &[u8],
    ) -> Result<WrappedShare, Pkcs11Error> {
        let (name, aad) = (self.name.clone(), aad.to_vec());
        let share = Share::copy_of(share.expose());
        let allow_extractable = self.token.options().allows_extractable();
        let encrypt = move |token: &mut crate::session::TokenSession| {
            token.with_key(
                &name,
                |key| key.check_kek(allow_extractable),
                |token, key| aead::encrypt(token, key, share.expose(), &aad),
            )
        };
        let bytes = self.token.call(Retry::Once, encrypt).await?;
        Ok(WrappedShare::new(ShareAlgorithm::HolderAead, bytes))
    }

    pub(crate) async fn unwrap_share(
        &self,
        wrapped: &WrappedShare,
        aad: &[u8],
    ) -> Result<Share, Pkcs11Error> {
        let well_formed = wrapped.algorithm() == ShareAlgorithm::HolderAead
            && aead::can_be_asked(wrapped.bytes().len());
        if !well_formed {
            return Err(refused());
        }
        let (name, aad, bytes) = (self.name.clone(), aad.to_vec(), wrapped.bytes().to_vec());
        let allow_extractable = self.token.options().allows_extractable();
        let decrypt = move |token: &mut crate::session::TokenSession| {
            token.with_key(
                &name,
                |key| key.check_kek(allow_extractable),
                |token, key| {
                    let share = aead::decrypt(token, key, &bytes, SHARE_LEN, &aad)?;
                    Share::try_copy_of(&share).ok_or_else(refused)
                },
            )
        };
        let share = self.token.call(Retry::Once, decrypt).await?;
        Ok(share.with_answer(HolderAnswer::code("CKR_OK")))
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

fn refused() -> Pkcs11Error {
    Pkcs11Error::new(ErrorKind::BadCiphertext, aead::REFUSED)
}
