//! Tokens, through `twinlock-pkcs11`.

use std::sync::Arc;

use twinlock::{HolderError, KeyHolder, KeyUri, Side};
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{
    KeyFacts, PinSource, Pkcs11Key, Pkcs11PublicKey, RsaPrivateKey, RsaPublicKey, RsaSize,
    SecretString, TokenFacts, TokenOptions, check_key, create_kek, create_rsa_kek, create_token,
    describe_module, find_token, import_rsa_kek, list_keys, list_mechanisms, list_tokens,
};

use super::check::wraps;
use super::{PublicPart, milliseconds, no_public_part};
use crate::args::values::KekType;
use crate::report::hex;
use crate::report::keys::{KeyCheck, Token, TokenKey};
use crate::settings::Access;

pub(crate) async fn open(
    uri: &Pkcs11Uri,
    access: &Access,
) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Ok(match uri.public_key() {
        Some(_) => Arc::new(Pkcs11PublicKey::open(uri, options(access))?),
        None => Arc::new(Pkcs11Key::open(uri, options(access)).await?),
    })
}

/// Creates the key that `uri` names and returns its name as headers have it.
pub(crate) async fn create(
    uri: &Pkcs11Uri,
    kek_type: KekType,
    access: &Access,
) -> Result<KeyUri, HolderError> {
    let options = options(access);
    match kek_type {
        KekType::Aes256 => create_kek(uri, options).await?,
        KekType::Rsa2048 => create_rsa_kek(uri, RsaSize::Rsa2048, options).await?,
        KekType::Rsa3072 => create_rsa_kek(uri, RsaSize::Rsa3072, options).await?,
        KekType::Rsa4096 => create_rsa_kek(uri, RsaSize::Rsa4096, options).await?,
    };
    Ok(uri.key_uri())
}

/// Puts an RSA private key (DER) on the token, and returns its name as headers have
/// it.
pub(crate) async fn import(
    uri: &Pkcs11Uri,
    private_key: &[u8],
    access: &Access,
) -> Result<KeyUri, HolderError> {
    import_rsa_kek(uri, RsaPrivateKey::from_der(private_key)?, options(access)).await?;
    Ok(uri.key_uri())
}

/// The public part of the RSA key that `uri` names on its token, which was seen
/// to unwrap what it wraps.
pub(crate) async fn public_part(
    uri: &Pkcs11Uri,
    access: &Access,
) -> Result<PublicPart, HolderError> {
    let public = check_key(uri, options(access)).await?.public_key.ok_or_else(no_public_part)?;
    Ok(PublicPart { pem: public.to_pem(), spki_sha256: public.spki_sha256(), bits: public.bits() })
}

/// Initialises a token in software, with these PINs.
pub(crate) async fn create_software_token(
    uri: &Pkcs11Uri,
    so_pin: &str,
    user_pin: &str,
) -> Result<(), HolderError> {
    create_token(uri, &SecretString::from(so_pin), &SecretString::from(user_pin)).await?;
    Ok(())
}

/// The tokens that `uri` fits; if it names one, with that one's keys.
pub(crate) async fn list(uri: &Pkcs11Uri, access: &Access) -> Result<Vec<Token>, HolderError> {
    let tokens = list_tokens(uri, options(access)).await?;
    if uri.token().is_none() && uri.serial().is_none() {
        return Ok(tokens.into_iter().map(Token::from).collect());
    }
    let keys = list_keys(uri, options(access)).await?;
    let fits = |facts: &TokenFacts| {
        facts.initialized
            && uri.token().is_none_or(|label| label == facts.label)
            && uri.serial().is_none_or(|serial| serial == facts.serial)
            && uri.slot_id().is_none_or(|slot| slot == facts.slot_id)
    };
    let named = tokens.into_iter().find(fits).map(Token::from);
    let keys = keys.iter().map(|key| TokenKey::new(key, access)).collect();
    Ok(named.map(|token| Token { keys: Some(keys), ..token }).into_iter().collect())
}

pub(crate) async fn check(uri: &Pkcs11Uri, access: &Access) -> Result<KeyCheck, HolderError> {
    if uri.public_key().is_some() {
        let key = Pkcs11PublicKey::open(uri, options(access))?;
        if key.only_wraps() {
            let check = wraps(&key, Side::Customer).await?;
            return Ok(KeyCheck { spki_sha256: Some(pin_of(key.public_key())), ..check });
        }
    }
    let check = check_key(uri, options(access)).await?;
    Ok(KeyCheck {
        uri: uri.key_uri().to_string(),
        development: false,
        open_ms: milliseconds(check.open),
        find_ms: Some(milliseconds(check.find)),
        wrap_ms: milliseconds(check.wrap),
        unwrap_ms: Some(milliseconds(check.unwrap)),
        spki_sha256: check.public_key.as_ref().map(pin_of),
        key: Some(TokenKey::new(&check.key, access)),
        token: Some(Token::from(check.token)),
        aws_kms: None,
        azure_kv: None,
        dke: None,
        gcp_kms: None,
        vault: None,
    })
}

fn pin_of(public: &RsaPublicKey) -> String {
    hex(&public.spki_sha256())
}

/// A module, as it describes itself.
pub(crate) struct ModuleFacts {
    pub(crate) path: String,
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) cryptoki_version: String,
}

pub(crate) async fn module(uri: &Pkcs11Uri, access: &Access) -> Result<ModuleFacts, HolderError> {
    let facts = describe_module(uri, options(access)).await?;
    Ok(ModuleFacts {
        path: facts.path.display().to_string(),
        description: facts.description,
        version: facts.version,
        cryptoki_version: facts.cryptoki_version,
    })
}

/// The token that `uri` names. No PIN is tried.
pub(crate) async fn token(uri: &Pkcs11Uri, access: &Access) -> Result<Token, HolderError> {
    Ok(find_token(uri, options(access)).await?.into())
}

/// What that token can do: `CKM_AES_GCM` and so on.
pub(crate) async fn mechanisms(
    uri: &Pkcs11Uri,
    access: &Access,
) -> Result<Vec<String>, HolderError> {
    Ok(list_mechanisms(uri, options(access)).await?)
}

fn options(access: &Access) -> TokenOptions {
    let mut options = TokenOptions::default().with_pin(PinSource::default().with_prompt());
    if access.allow_extractable {
        options = options.with_extractable_keys();
    }
    if let Some(deadline) = access.deadline {
        options = options.with_deadline(deadline);
    }
    options
}

impl From<TokenFacts> for Token {
    fn from(facts: TokenFacts) -> Self {
        Self {
            label: facts.label,
            manufacturer: facts.manufacturer,
            model: facts.model,
            serial: facts.serial,
            slot_id: facts.slot_id,
            initialized: facts.initialized,
            login_required: facts.login_required,
            user_pin_count_low: facts.user_pin_count_low,
            user_pin_final_try: facts.user_pin_final_try,
            user_pin_locked: facts.user_pin_locked,
            free_sessions: facts.free_sessions,
            vendor: facts.vendor.to_owned(),
            keys: None,
        }
    }
}

impl TokenKey {
    fn new(facts: &KeyFacts, access: &Access) -> Self {
        Self {
            uri: facts.uri.as_ref().map(KeyUri::to_string),
            label: facts.label.clone(),
            id: hex(&facts.id),
            kind: facts.kind.to_string(),
            bits: facts.bits,
            sensitive: facts.sensitive,
            extractable: facts.extractable,
            local: facts.local,
            encrypt: facts.encrypt,
            decrypt: facts.decrypt,
            problem: facts.kek_problem(access.allow_extractable),
        }
    }
}
