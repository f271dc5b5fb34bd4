//! A KEK by its exported public key: wraps on machines that have no token.

use std::fs::File;
use std::io::Read as _;

use tokio::sync::OnceCell;
use twinlock_keys::{
    BoxFuture, HolderError, KeyHolder, KeyUri, Pkcs11Uri, Share, WrapContext, WrappedShare,
};

use crate::{Pkcs11Error, Pkcs11Key, RsaPublicKey, TokenOptions, pin};

/// No PEM of a key that can be used is longer.
const MAX_FILE_LEN: usize = 8 << 10;

/// An RSA customer KEK whose public part is in a file (`?public-key=` and
/// `&spki-sha256=` of the URI, as `twinlock keys export-public` prints them).
///
/// It wraps with the file alone, whether the token is there or not, and on
/// machines that have no PKCS#11 module at all. It unwraps only if the URI has a
/// `module-path` too: then the token is opened when it is first needed. Without
/// one it [only wraps](KeyHolder::only_wraps), and what it wraps is not read
/// back.
///
/// ```no_run
/// use twinlock_keys::{CustomerKey, KeyHolder as _, Pkcs11Uri};
/// use twinlock_pkcs11::{Pkcs11PublicKey, TokenOptions};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let uri: Pkcs11Uri = "pkcs11:token=Twinlock;object=archive?public-key=file:/etc/archive.pem\
///     &spki-sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".parse()?;
/// let key = Pkcs11PublicKey::open(&uri, TokenOptions::default())?;
/// assert!(key.only_wraps());
/// let customer = CustomerKey::new(key)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Pkcs11PublicKey {
    uri: KeyUri,
    public: RsaPublicKey,
    token: Option<Unopened>,
}

/// The same key on its token.
#[derive(Debug)]
struct Unopened {
    uri: Pkcs11Uri,
    options: TokenOptions,
    key: OnceCell<Pkcs11Key>,
}

impl Pkcs11PublicKey {
    /// Reads the file that `uri` names and compares the key with its pin. No
    /// token is needed for that, nor looked for.
    ///
    /// # Errors
    /// When the URI has no `public-key` or no pin, the file cannot be read, or
    /// it holds something else.
    pub fn open(uri: &Pkcs11Uri, options: TokenOptions) -> Result<Self, Pkcs11Error> {
        let Some(source) = uri.public_key() else {
            return Err(Pkcs11Error::misconfigured(
                "the URI names no public key: add ?public-key=file:<path>&spki-sha256=<hex>",
            ));
        };
        let pin = uri.spki_sha256().ok_or_else(no_pin)?;
        let public = read(source)?;
        public.check_pin(&pin, &format!("in {source:?}"))?;
        let token =
            uri.module_path().map(|_| Unopened { uri: uri.clone(), options, key: OnceCell::new() });
        Ok(Self { uri: uri.key_uri(), public, token })
    }

    /// The key.
    #[must_use]
    pub fn public_key(&self) -> &RsaPublicKey {
        &self.public
    }

    async fn opened(&self) -> Result<&Pkcs11Key, Pkcs11Error> {
        let Some(token) = &self.token else { return Err(no_token(&self.uri)) };
        token.key.get_or_try_init(|| Pkcs11Key::open(&token.uri, token.options.clone())).await
    }
}

impl KeyHolder for Pkcs11PublicKey {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async move { Ok(self.public.wrap(share)?) })
    }

    fn only_wraps(&self) -> bool {
        self.token.is_none()
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async move { self.opened().await?.unwrap_key(wrapped, context).await })
    }
}

fn read(source: &str) -> Result<RsaPublicKey, Pkcs11Error> {
    let path = pin::path_of("public-key", source)?;
    let unreadable = |error: &dyn std::fmt::Display| {
        let path = path.display();
        Pkcs11Error::misconfigured(format!("the public key {path} cannot be read: {error}"))
    };
    let file = File::open(&path).map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    let room = MAX_FILE_LEN as u64 + 1;
    file.take(room).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() > MAX_FILE_LEN {
        return Err(unreadable(&"it is too long for one"));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not text"))?;
    RsaPublicKey::from_pem(&text)
        .map_err(|error| Pkcs11Error::misconfigured(format!("{}: {error}", path.display())))
}

fn no_pin() -> Pkcs11Error {
    Pkcs11Error::misconfigured(
        "a public key in a file needs its pin, since an impostor's would work as well: add \
         &spki-sha256=<hex> to the URI, as `twinlock keys export-public` prints it where the token \
         is",
    )
}

fn no_token(uri: &KeyUri) -> Pkcs11Error {
    Pkcs11Error::misconfigured(format!(
        "only the public key of {uri} is here, which wraps and cannot unwrap; decrypt where its \
         token is, or add module-path= to the URI if that is here"
    ))
}
