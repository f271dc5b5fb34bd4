//! Making new keys and tokens.

use std::time::Duration;

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use secrecy::SecretString;
use twinlock_keys::Pkcs11Uri;

use crate::lookup::{self, KeyName};
use crate::module::Module;
use crate::private_key::RsaPrivateKey;
use crate::session::TokenSession;
use crate::workers::Retry;
use crate::{KeyFacts, Pkcs11Error, Token, TokenFacts, TokenOptions, facts, slots};

const KEK_LEN: u8 = 32;
/// Tokens may search for two primes for minutes.
const CREATE_RSA_DEADLINE: Duration = Duration::from_secs(300);
const ID_LEN: usize = 16;
/// `CK_TOKEN_INFO` has room for so many bytes of a label.
const TOKEN_LABEL_LEN: usize = 32;
/// Tokens may take their time to initialise themselves.
const CREATE_TOKEN_DEADLINE: Duration = Duration::from_secs(30);

/// Creates the customer KEK that `uri` names: AES-256, made by the token,
/// sensitive, not extractable, for encrypting and decrypting only. Without
/// `id=` it gets a random id.
///
/// # Errors
/// As [`Token::open`], and when a key of that label or id exists already. After
/// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) the key may exist or not.
pub async fn create_kek(uri: &Pkcs11Uri, options: TokenOptions) -> Result<KeyFacts, Pkcs11Error> {
    let deadline = options.deadline();
    create(uri, options, deadline, generate_aes).await
}

/// Creates the customer KEK that `uri` names: an RSA key pair of the exponent
/// 65537, made by the token, whose private part is sensitive, not extractable
/// and for decrypting only. The public part lies beside it, under the same label
/// and id. Without `id=` they get a random id.
///
/// Five minutes is the deadline for this, unless the `options` have a longer one:
/// tokens may take their time to find primes.
///
/// # Errors
/// As [`create_kek`].
pub async fn create_rsa_kek(
    uri: &Pkcs11Uri,
    size: RsaSize,
    options: TokenOptions,
) -> Result<KeyFacts, Pkcs11Error> {
    let deadline = options.deadline().max(CREATE_RSA_DEADLINE);
    let generate =
        move |token: &TokenSession, label: &str, id| generate_rsa(token, size, label, id);
    create(uri, options, deadline, generate).await
}

/// Puts a key pair that exists already on the token, under the name that `uri`
/// has: as [`create_rsa_kek`] otherwise. Whoever has a copy of the key elsewhere
/// needs no token to decrypt.
///
/// # Errors
/// As [`create_kek`], and when the token takes no keys that it has not made.
pub async fn import_rsa_kek(
    uri: &Pkcs11Uri,
    key: RsaPrivateKey,
    options: TokenOptions,
) -> Result<KeyFacts, Pkcs11Error> {
    let deadline = options.deadline();
    let import = move |token: &TokenSession, label: &str, id| import_rsa(token, &key, label, id);
    create(uri, options, deadline, import).await
}

/// How large a new RSA key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RsaSize {
    /// 2048 bits, of a strength of 112: what others' clients may be used to.
    Rsa2048,
    /// 3072 bits, of a strength of 128.
    Rsa3072,
    /// 4096 bits: larger and slower, for those who have to.
    Rsa4096,
}

impl RsaSize {
    fn bits(self) -> u16 {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }
}

/// Creates a key by `generate`, which is given the label and the id.
async fn create(
    uri: &Pkcs11Uri,
    options: TokenOptions,
    deadline: Duration,
    generate: impl Fn(&TokenSession, &str, Vec<u8>) -> Result<KeyFacts, Pkcs11Error> + Send + 'static,
) -> Result<KeyFacts, Pkcs11Error> {
    let name = KeyName::of_kek(uri)?;
    let Some(label) = name.label.clone() else {
        return Err(Pkcs11Error::misconfigured("a new key needs a label: add object=<label>"));
    };
    let token = Token::open_read_write(uri, options).await?;
    let create = move |token: &mut TokenSession| {
        refuse_existing(token, &name)?;
        let id = match &name.id {
            Some(id) => id.clone(),
            None => random_id(token)?,
        };
        generate(token, &label, id)
    };
    token.call_within(deadline, Retry::Never, create).await
}

/// Initialises the first empty slot of the module that `uri` names as a token
/// with `uri`'s token label, and sets its user PIN: for tokens in software, as
/// developers use them. An HSM's own tools do it better.
///
/// # Errors
/// When there is a token of that label, or no empty slot, or the token refuses
/// the PINs.
pub async fn create_token(
    uri: &Pkcs11Uri,
    so_pin: &SecretString,
    user_pin: &SecretString,
) -> Result<TokenFacts, Pkcs11Error> {
    let plan = NewToken {
        label: new_token_label(uri)?,
        slot_id: uri.slot_id(),
        so_pin: so_pin.clone(),
        user_pin: user_pin.clone(),
    };
    let create = move |module: &mut Pkcs11| plan.create(module);
    Module::of(uri)?.workers().call(CREATE_TOKEN_DEADLINE, Retry::Never, create).await
}

fn refuse_existing(token: &TokenSession, name: &KeyName) -> Result<(), Pkcs11Error> {
    let by_label = KeyName { class: None, id: None, ..name.clone() };
    let by_id = KeyName { class: None, label: None, ..name.clone() };
    let names = [Some(by_label), name.id.is_some().then_some(by_id)];
    for name in names.into_iter().flatten() {
        if !lookup::find_all(token, &name)?.is_empty() {
            let token = &token.token.label;
            return Err(Pkcs11Error::misconfigured(format!(
                "there is a key {name} on {token:?} already; choose another name"
            )));
        }
    }
    Ok(())
}

fn random_id(token: &TokenSession) -> Result<Vec<u8>, Pkcs11Error> {
    let mut id = vec![0; ID_LEN];
    token
        .session
        .generate_random_slice(&mut id)
        .map_err(|error| Pkcs11Error::of_call(error, "get random bytes from the token"))?;
    Ok(id)
}

fn generate_aes(token: &TokenSession, label: &str, id: Vec<u8>) -> Result<KeyFacts, Pkcs11Error> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Derive(false),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(std::ffi::c_ulong::from(KEK_LEN).into()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id),
    ];
    if token.vendor.allowed_mechanisms {
        template.push(Attribute::AllowedMechanisms(vec![MechanismType::AES_GCM]));
    }
    let key = token
        .session
        .generate_key(&Mechanism::AesKeyGen, &template)
        .map_err(|error| Pkcs11Error::of_call(error, "create the key"))?;
    // What the token made of it, not what it was asked for.
    let facts = facts::read(token, key)?;
    facts.check_kek(false)?;
    Ok(facts)
}

fn generate_rsa(
    token: &TokenSession,
    size: RsaSize,
    label: &str,
    id: Vec<u8>,
) -> Result<KeyFacts, Pkcs11Error> {
    let (mut public, private) = pair_templates(token, label, &id);
    let bits = std::ffi::c_ulong::from(size.bits());
    public.push(Attribute::ModulusBits(bits.into()));
    public.push(Attribute::PublicExponent(vec![1, 0, 1]));
    let (_, private) = token
        .session
        .generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)
        .map_err(|error| Pkcs11Error::of_call(error, "create the key pair"))?;
    // What the token made of it, not what it was asked for.
    let facts = facts::read(token, private)?;
    facts.check_kek(false)?;
    Ok(facts)
}

fn import_rsa(
    token: &TokenSession,
    key: &RsaPrivateKey,
    label: &str,
    id: Vec<u8>,
) -> Result<KeyFacts, Pkcs11Error> {
    let (mut public, mut private) = pair_templates(token, label, &id);
    public.extend([Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::KeyType(KeyType::RSA)]);
    public.extend(key.public_attributes());
    private.extend([Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::RSA)]);
    let put = |template: &[Attribute]| {
        let object = token.session.create_object(template);
        object.map_err(|error| Pkcs11Error::of_call(error, "put the key on the token"))
    };
    let facts = facts::read(token, key.with_attributes(private, put)?)?;
    facts.check_kek(false)?;
    put(&public)?;
    Ok(facts)
}

/// What the public and the private part have in common with those of every RSA
/// KEK: their uses, and the names that they are given.
fn pair_templates(
    token: &TokenSession,
    label: &str,
    id: &[u8],
) -> (Vec<Attribute>, Vec<Attribute>) {
    let (mut public, mut private) = (uses_of_public_key(), uses_of_private_key());
    if !token.vendor.rsa_mechanisms.is_empty() {
        private.push(Attribute::AllowedMechanisms(token.vendor.rsa_mechanisms.to_vec()));
    }
    for template in [&mut public, &mut private] {
        template.push(Attribute::Label(label.as_bytes().to_vec()));
        template.push(Attribute::Id(id.to_vec()));
    }
    (public, private)
}

fn uses_of_public_key() -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Encrypt(true),
        Attribute::Verify(false),
        Attribute::Wrap(false),
    ]
}

fn uses_of_private_key() -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(true),
        Attribute::Unwrap(false),
        Attribute::Sign(false),
        Attribute::Derive(false),
    ]
}

fn new_token_label(uri: &Pkcs11Uri) -> Result<String, Pkcs11Error> {
    match uri.token() {
        None => Err(Pkcs11Error::misconfigured("a new token needs a label: add token=<label>")),
        Some(label) if label.len() > TOKEN_LABEL_LEN => Err(Pkcs11Error::misconfigured(format!(
            "a token's label has at most {TOKEN_LABEL_LEN} bytes, this one has {}",
            label.len()
        ))),
        Some(label) => Ok(label.to_owned()),
    }
}

struct NewToken {
    label: String,
    slot_id: Option<u64>,
    so_pin: SecretString,
    user_pin: SecretString,
}

impl NewToken {
    fn create(&self, module: &Pkcs11) -> Result<TokenFacts, Pkcs11Error> {
        let slot = self.empty_slot(module)?;
        module
            .init_token(slot, &self.so_pin, &self.label)
            .map_err(|error| Pkcs11Error::of_call(error, "initialise the token"))?;
        // SoftHSM gives an initialised token another slot.
        let slot = self.find(module)?.0;
        self.set_user_pin(module, slot)?;
        Ok(self.find(module)?.1)
    }

    fn empty_slot(&self, module: &Pkcs11) -> Result<Slot, Pkcs11Error> {
        let tokens = slots::tokens(module)?;
        if tokens.iter().any(|(_, token)| token.initialized && token.label == self.label) {
            let label = &self.label;
            return Err(Pkcs11Error::misconfigured(format!(
                "there is a token {label:?} already; choose another label"
            )));
        }
        let wanted = |id: u64| self.slot_id.is_none_or(|wanted| wanted == id);
        let empty = tokens.iter().find(|(slot, token)| !token.initialized && wanted(slot.id()));
        empty
            .map(|(slot, _)| *slot)
            .ok_or_else(|| Pkcs11Error::not_found("the module has no empty slot for a new token"))
    }

    fn find(&self, module: &Pkcs11) -> Result<(Slot, TokenFacts), Pkcs11Error> {
        let tokens = slots::tokens(module)?;
        tokens
            .into_iter()
            .find(|(_, token)| token.initialized && token.label == self.label)
            .ok_or_else(|| Pkcs11Error::not_found("the new token does not show up"))
    }

    /// The session ends with this function, and the security officer's login
    /// with it.
    fn set_user_pin(&self, module: &Pkcs11, slot: Slot) -> Result<(), Pkcs11Error> {
        let session = module
            .open_rw_session(slot)
            .map_err(|error| Pkcs11Error::of_call(error, "open a session with the new token"))?;
        session
            .login(UserType::So, Some(&self.so_pin))
            .map_err(|error| Pkcs11Error::of_call(error, "log in as security officer"))?;
        session
            .init_pin(&self.user_pin)
            .map_err(|error| Pkcs11Error::of_call(error, "set the user PIN"))
    }
}
