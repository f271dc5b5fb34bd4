//! Looking at tokens and keys.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use twinlock_keys::{Pkcs11Uri, Share, WrappedShare};

use crate::module::Module;
use crate::workers::Retry;
use crate::{
    ErrorKind, KeyFacts, Pkcs11Error, Pkcs11Key, RsaPublicKey, Token, TokenFacts, TokenOptions,
    lookup, slots,
};

/// Every token of the module that `uri` names, initialised or not. Needs no
/// PIN.
///
/// # Errors
/// When there is no module, or it does not answer within the deadline.
pub async fn list_tokens(
    uri: &Pkcs11Uri,
    options: TokenOptions,
) -> Result<Vec<TokenFacts>, Pkcs11Error> {
    let list = |module: &mut Pkcs11| {
        Ok(slots::tokens(module)?.into_iter().map(|(_, facts)| facts).collect())
    };
    Module::of(uri)?.workers().call(options.deadline(), Retry::Once, list).await
}

/// What a PKCS#11 module says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleFacts {
    /// The file that was loaded, links resolved.
    pub path: PathBuf,
    /// What it is.
    pub description: String,
    /// Its maker.
    pub manufacturer: String,
    /// Its own version.
    pub version: String,
    /// The version of PKCS#11 that it speaks.
    pub cryptoki_version: String,
}

/// Loads the module that `uri` names, and asks what it is.
///
/// # Errors
/// When there is no such module, or it does not answer within the deadline.
pub async fn describe_module(
    uri: &Pkcs11Uri,
    options: TokenOptions,
) -> Result<ModuleFacts, Pkcs11Error> {
    let module = Module::of(uri)?;
    let ask = |module: &mut Pkcs11| {
        let info = module.get_library_info();
        info.map_err(|error| Pkcs11Error::of_call(error, "ask the module what it is"))
    };
    let info = module.workers().call(options.deadline(), Retry::Once, ask).await?;
    Ok(ModuleFacts {
        path: module.path().to_owned(),
        description: info.library_description().to_owned(),
        manufacturer: info.manufacturer_id().to_owned(),
        version: info.library_version().to_string(),
        cryptoki_version: info.cryptoki_version().to_string(),
    })
}

/// The one token that `uri` names. Needs no PIN, and tries none.
///
/// # Errors
/// When there is no such token, or several, or the module does not answer.
pub async fn find_token(uri: &Pkcs11Uri, options: TokenOptions) -> Result<TokenFacts, Pkcs11Error> {
    let wanted = uri.clone();
    let find = move |module: &mut Pkcs11| slots::find(module, &wanted).map(|(_, facts)| facts);
    Module::of(uri)?.workers().call(options.deadline(), Retry::Once, find).await
}

/// What the one token that `uri` names can do: `CKM_AES_GCM` and so on. Needs no
/// PIN, and tries none.
///
/// # Errors
/// As [`find_token`].
pub async fn list_mechanisms(
    uri: &Pkcs11Uri,
    options: TokenOptions,
) -> Result<Vec<String>, Pkcs11Error> {
    let wanted = uri.clone();
    let list = move |module: &mut Pkcs11| {
        let (slot, _) = slots::find(module, &wanted)?;
        let mechanisms = module.get_mechanism_list(slot);
        mechanisms.map_err(|error| Pkcs11Error::of_call(error, "list the token's mechanisms"))
    };
    let list = Module::of(uri)?.workers().call(options.deadline(), Retry::Once, list).await?;
    Ok(list.iter().map(ToString::to_string).collect())
}

/// Every secret and private key on the token that `uri` names; a URI without
/// any attribute will do if there is but one token.
///
/// # Errors
/// As [`Token::open`].
pub async fn list_keys(
    uri: &Pkcs11Uri,
    options: TokenOptions,
) -> Result<Vec<KeyFacts>, Pkcs11Error> {
    let token = Token::open(uri, options).await?;
    token.call(Retry::Once, |token| lookup::list(token)).await
}

/// A key that was found, checked and tried.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyCheck {
    /// The token.
    pub token: TokenFacts,
    /// The key.
    pub key: KeyFacts,
    /// The public part of an RSA key.
    pub public_key: Option<RsaPublicKey>,
    /// How long it took to open the token and log in.
    pub open: Duration,
    /// How long it took to find the key.
    pub find: Duration,
    /// How long it took to wrap a random share.
    pub wrap: Duration,
    /// How long it took to unwrap it.
    pub unwrap: Duration,
}

/// Opens the KEK that `uri` names as [`Pkcs11Key::open`] does, wraps a random
/// share, unwraps it, and makes sure that an altered one is refused: of another
/// context, or with RSA, which binds none, of another ciphertext.
///
/// # Errors
/// As [`Pkcs11Key::open`], and when the token does not do AES-GCM or RSA-OAEP as
/// it should.
pub async fn check_key(uri: &Pkcs11Uri, options: TokenOptions) -> Result<KeyCheck, Pkcs11Error> {
    let start = Instant::now();
    let token = Token::open(uri, options).await?;
    let open = start.elapsed();
    let start = Instant::now();
    let key = Pkcs11Key::on(&token, uri).await?;
    let find = start.elapsed();
    let share = random_share()?;
    let start = Instant::now();
    let wrapped = key.wrap_share(&share, b"twinlock self-test").await?;
    let wrap = start.elapsed();
    let start = Instant::now();
    let unwrapped = key.unwrap_share(&wrapped, b"twinlock self-test").await?;
    let unwrap = start.elapsed();
    if unwrapped.expose() != share.expose() {
        return Err(failed_self_test("what it decrypts is not what was encrypted"));
    }
    let (altered, problem) = match key.public_key() {
        None => (wrapped, "it decrypts although the AAD is another"),
        Some(_) => (with_last_bit_flipped(&wrapped), "it decrypts an altered ciphertext"),
    };
    match key.unwrap_share(&altered, b"twinlock self-test, another").await {
        Err(error) if error.kind() == ErrorKind::BadCiphertext => {}
        Err(error) => return Err(error),
        Ok(_) => return Err(failed_self_test(problem)),
    }
    let (token, public_key) = (token.facts().clone(), key.public_key().cloned());
    Ok(KeyCheck { token, key: key.facts().clone(), public_key, open, find, wrap, unwrap })
}

pub(crate) fn random_share() -> Result<Share, Pkcs11Error> {
    Share::random().map_err(|error| Pkcs11Error::new(ErrorKind::Fatal, error.to_string()))
}

fn with_last_bit_flipped(wrapped: &WrappedShare) -> WrappedShare {
    let mut bytes = wrapped.bytes().to_vec();
    bytes.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
    WrappedShare::new(wrapped.algorithm(), bytes)
}

fn failed_self_test(problem: &str) -> Pkcs11Error {
    let message = format!("the token's encryption is not to be trusted: {problem}");
    Pkcs11Error::new(ErrorKind::Fatal, message)
}
