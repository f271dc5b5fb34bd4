//! From key URIs to holders, and the key step.

#[cfg_attr(not(feature = "aws-kms"), path = "holders/aws_kms_missing.rs")]
pub(crate) mod aws_kms;
#[cfg_attr(not(feature = "azure-kv"), path = "holders/azure_kv_missing.rs")]
pub(crate) mod azure_kv;
mod check;
#[cfg_attr(not(feature = "dke"), path = "holders/dke_missing.rs")]
pub(crate) mod dke;
#[cfg_attr(not(feature = "gcp-kms"), path = "holders/gcp_kms_missing.rs")]
pub(crate) mod gcp_kms;
#[cfg_attr(not(feature = "pkcs11"), path = "holders/pkcs11_missing.rs")]
pub(crate) mod pkcs11;
mod spared;
#[cfg_attr(not(feature = "vault"), path = "holders/vault_missing.rs")]
pub(crate) mod vault;

use std::sync::{Arc, PoisonError};

use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use twinlock::{
    BoxFuture, CustomerKey, Decryptor, Encryptor, EncryptorBuilder, Envelope, FileKek, Header,
    HolderError, KeyHolder, KeyUri, Keyslot, OpenError, ProviderKey, RewrapPlan, Share, Side,
    UnverifiedHeader, WrapContext, WrappedShare,
};

pub(crate) use check::check;
#[cfg(any(
    feature = "aws-kms",
    feature = "azure-kv",
    feature = "dke",
    feature = "gcp-kms",
    feature = "pkcs11",
    feature = "vault"
))]
use check::milliseconds;
#[cfg(any(
    feature = "aws-kms",
    feature = "azure-kv",
    feature = "dke",
    feature = "gcp-kms",
    feature = "vault"
))]
use check::round_trip;

use crate::exit::Failure;
use crate::input::{Candidate, HeaderFrom};
use crate::settings::{Access, KeyPair, KeySpec, Settings};
use spared::Spared;

/// The schemes that this build can use.
pub(crate) const BUILT_IN: &[&str] = &[
    "file",
    #[cfg(feature = "aws-kms")]
    "aws-kms",
    #[cfg(feature = "azure-kv")]
    "azure-kv",
    #[cfg(feature = "dke")]
    "dke+https",
    #[cfg(feature = "gcp-kms")]
    "gcp-kms",
    #[cfg(feature = "pkcs11")]
    "pkcs11",
    #[cfg(feature = "vault")]
    "vault",
];

/// Runs the key step. Holders stay usable as long as the runtime lives.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::from)
}

/// The public part of an RSA key.
pub(crate) struct PublicPart {
    pub(crate) pem: String,
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) bits: u64,
}

/// Opens the key that `spec` names.
pub(crate) async fn open(spec: &KeySpec, access: &Access) -> OpenResult {
    match spec {
        KeySpec::AwsKms(uri) => aws_kms::open(uri, access).await,
        KeySpec::AzureKv(uri) => azure_kv::open(uri, access).await,
        KeySpec::Dke(uri) => dke::open(uri, access).await,
        KeySpec::File(uri) => Ok(Arc::new(FileKek::open(uri)?)),
        KeySpec::GcpKms(uri) => gcp_kms::open(uri, access).await,
        KeySpec::Pkcs11(uri) => pkcs11::open(uri, access).await,
        KeySpec::Vault(uri) => vault::open(uri, access).await,
    }
}

#[cfg(feature = "pkcs11")]
fn no_public_part() -> HolderError {
    HolderError::new(
        twinlock::HolderErrorKind::Misconfigured,
        "it is an AES key, which has no public part; `twinlock keys create --type rsa-3072` \
         creates one that has",
    )
}

#[cfg(not(all(
    feature = "aws-kms",
    feature = "azure-kv",
    feature = "dke",
    feature = "gcp-kms",
    feature = "pkcs11",
    feature = "vault"
)))]
fn not_built_in(scheme: twinlock_keys::Scheme) -> HolderError {
    HolderError::new(
        twinlock::HolderErrorKind::Misconfigured,
        format!(
            "{scheme} keys are not built into this version: build it with `--features {}`",
            scheme.to_string().trim_end_matches("+https")
        ),
    )
}

/// An encryptor for all keyslots of `settings`.
pub(crate) async fn encryptor(settings: &Settings) -> Result<EncryptorBuilder, Failure> {
    encryptor_of(settings, &Opened::default()).await
}

/// As [`encryptor`], with the holders that are open already.
pub(crate) async fn encryptor_of(
    settings: &Settings,
    opened: &Opened,
) -> Result<EncryptorBuilder, Failure> {
    let mut builder: Option<EncryptorBuilder> = None;
    for pair in &settings.pairs {
        let provider = opened.get(&pair.provider, Side::Provider, &settings.access).await?;
        let customer = opened.get(&pair.customer, Side::Customer, &settings.access).await?;
        let (provider, customer) = (ProviderKey::shared(provider)?, CustomerKey::shared(customer)?);
        builder = Some(match builder {
            None => Encryptor::builder(provider, customer),
            Some(builder) => builder.keyslot(provider, customer),
        });
    }
    Ok(builder.expect("settings have at least one pair"))
}

/// Holders that are open already: a token asks for its PIN once. What did not
/// open is not tried again.
#[derive(Default)]
pub(crate) struct Opened {
    /// Locked while one is opened: who needs it too waits, and nobody is asked
    /// for a PIN twice.
    holders: Mutex<Vec<(KeySpec, OpenResult)>>,
    spares: bool,
}

type OpenResult = Result<Arc<dyn KeyHolder>, HolderError>;

impl Opened {
    /// For a run of many files: holders that fail are spared.
    pub(crate) fn sparing() -> Self {
        Self { holders: Mutex::default(), spares: true }
    }

    async fn get(
        &self,
        spec: &KeySpec,
        side: Side,
        access: &Access,
    ) -> Result<Arc<dyn KeyHolder>, Failure> {
        let holder = self.try_get(spec, access).await;
        holder.map_err(|error| Failure::from(error).about(format!("the {side} key {spec}")))
    }

    async fn try_get(&self, spec: &KeySpec, access: &Access) -> OpenResult {
        let mut holders = self.holders.lock().await;
        if let Some((_, holder)) = holders.iter().find(|(opened, _)| opened == spec) {
            return holder.clone();
        }
        let holder = open(spec, access).await;
        let holder = match self.spares {
            true => holder.map(|holder| Arc::new(Spared::new(holder)) as Arc<dyn KeyHolder>),
            false => holder,
        };
        holders.push((spec.clone(), holder.clone()));
        holder
    }

    /// What headers call a key: its holder has to resolve an alias, and only that.
    async fn uri_of(&self, spec: &KeySpec, side: Side, access: &Access) -> Result<KeyUri, Failure> {
        let uri = spec.key_uri();
        match uri.is_alias() {
            true => Ok(self.get(spec, side, access).await?.uri().clone()),
            false => Ok(uri),
        }
    }
}

/// True if the keyslots of `header` are those that `settings` would make: none
/// is missing, and none is there besides, of whatever kind.
pub(crate) async fn has_keyslots_of(
    header: &Header,
    settings: &Settings,
    opened: &Opened,
) -> Result<bool, Failure> {
    let mut pairs = Vec::new();
    for KeyPair { provider, customer } in &settings.pairs {
        let provider = opened.uri_of(provider, Side::Provider, &settings.access).await?;
        let customer = opened.uri_of(customer, Side::Customer, &settings.access).await?;
        pairs.push((provider, customer));
    }
    let is_of = |keyslot: &Keyslot, (provider, customer): &(KeyUri, KeyUri)| {
        keyslot.as_pair().filter(|keyslot| keyslot.is_supported()).is_some_and(|keyslot| {
            settings.is_named(keyslot.pair().provider().uri(), provider)
                && settings.is_named(keyslot.pair().customer().uri(), customer)
        })
    };
    let keyslots = header.keyslots();
    let none_is_missing =
        pairs.iter().all(|pair| keyslots.iter().any(|keyslot| is_of(keyslot, pair)));
    let none_is_more = keyslots.iter().all(|keyslot| pairs.iter().any(|pair| is_of(keyslot, pair)));
    Ok(none_is_missing && none_is_more)
}

/// Opens the first of `candidates` that opens, with the holders of `settings` that
/// it names, of which some may be open already. `decryptor` says what to expect of
/// it, which is checked before any
/// holder is asked for anything. The failure is that of the first.
pub(crate) async fn open_envelope(
    candidates: Vec<Candidate>,
    decryptor: Decryptor,
    settings: &Settings,
    opened: &Opened,
) -> Result<Envelope, Failure> {
    open_envelope_of_many(candidates, &decryptor, settings, opened, &LastEquipped::default()).await
}

/// As [`open_envelope`], one of many: `last` is what the one before was opened
/// with, by the same decryptor and settings.
pub(crate) async fn open_envelope_of_many(
    candidates: Vec<Candidate>,
    decryptor: &Decryptor,
    settings: &Settings,
    opened: &Opened,
    last: &LastEquipped,
) -> Result<Envelope, Failure> {
    let mut first_failure = None;
    for Candidate { header, from } in candidates {
        match open_with_header(header, decryptor, settings, opened, last).await {
            Ok(envelope) if from == HeaderFrom::Detached => return Ok(envelope.detached()),
            Ok(envelope) => return Ok(envelope),
            Err(failure) => _ = first_failure.get_or_insert(failure),
        }
    }
    Err(first_failure.expect("an input has a header"))
}

async fn open_with_header(
    header: UnverifiedHeader,
    decryptor: &Decryptor,
    settings: &Settings,
    opened: &Opened,
    last: &LastEquipped,
) -> Result<Envelope, Failure> {
    decryptor.check(&header)?;
    let equipped = match last.of(header.header()) {
        Some(equipped) => equipped,
        None => {
            let decryptor = decryptor.clone();
            let equipped = Equipped::of(decryptor, &[header.header()], settings, opened).await?;
            last.set(header.header(), equipped)
        }
    };
    let Equipped { decryptor, unresolved } = &*equipped;
    decryptor.open(header).await.map_err(|error| match (error, unresolved) {
        // The alias that could not be resolved may be the key that is missing.
        (OpenError::NoKeyslot { .. }, Some(failure)) => failure.clone(),
        (error, _) => Failure::from(error),
    })
}

/// What the header before was opened with: the next one of a tree nearly always
/// names the same keys, which need not be parsed and looked up again.
#[derive(Default)]
pub(crate) struct LastEquipped(std::sync::Mutex<Option<(KeyNames, Arc<Equipped>)>>);

/// What the keyslots of a header call their keys, one after the other.
type KeyNames = Vec<(String, String)>;

impl LastEquipped {
    fn of(&self, header: &Header) -> Option<Arc<Equipped>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (names, equipped) = last.as_ref()?;
        let names = names.iter().map(|(provider, customer)| (&**provider, &**customer));
        names.eq(key_names(header)).then(|| Arc::clone(equipped))
    }

    fn set(&self, header: &Header, equipped: Equipped) -> Arc<Equipped> {
        let owned = |(provider, customer): (&str, &str)| (provider.to_owned(), customer.to_owned());
        let names = key_names(header).map(owned).collect();
        let equipped = Arc::new(equipped);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((names, Arc::clone(&equipped)));
        equipped
    }
}

fn key_names(header: &Header) -> impl Iterator<Item = (&str, &str)> {
    header.supported_keyslots().map(|keyslot| {
        let pair = keyslot.pair();
        (pair.provider().uri(), pair.customer().uri())
    })
}

/// The keys that a rewrap brings in.
#[derive(Default)]
pub(crate) struct NewKeys {
    pub(crate) provider: Option<KeySpec>,
    pub(crate) customer: Option<KeySpec>,
    pub(crate) keyslots: Vec<KeyPair>,
}

impl NewKeys {
    /// `plan` with these keys, which are opened for it.
    pub(crate) async fn open(
        &self,
        mut plan: RewrapPlan,
        access: &Access,
        opened: &Opened,
    ) -> Result<RewrapPlan, Failure> {
        if let Some(spec) = &self.provider {
            let holder = opened.get(spec, Side::Provider, access).await?;
            plan = plan.to_provider(ProviderKey::shared(holder)?);
        }
        if let Some(spec) = &self.customer {
            let holder = opened.get(spec, Side::Customer, access).await?;
            plan = plan.to_customer(CustomerKey::shared(holder)?);
        }
        for KeyPair { provider, customer } in &self.keyslots {
            let provider = opened.get(provider, Side::Provider, access).await?;
            let customer = opened.get(customer, Side::Customer, access).await?;
            plan = plan.add_keyslot(ProviderKey::shared(provider)?, CustomerKey::shared(customer)?);
        }
        Ok(plan)
    }
}

/// A decryptor with those holders of some settings that a header names.
pub(crate) struct Equipped {
    pub(crate) decryptor: Decryptor,
    /// Why an alias could not be resolved.
    pub(crate) unresolved: Option<Failure>,
}

impl Equipped {
    /// Opens only what one of `headers` names: nobody is asked for the PIN of a token
    /// that cannot help. A holder that does not open takes part as one that
    /// fails, since another keyslot may do.
    pub(crate) async fn new(
        decryptor: Decryptor,
        headers: &[&Header],
        settings: &Settings,
    ) -> Result<Self, Failure> {
        Self::of(decryptor, headers, settings, &Opened::default()).await
    }

    /// As [`Equipped::new`], with the holders that are open already.
    pub(crate) async fn of(
        mut decryptor: Decryptor,
        headers: &[&Header],
        settings: &Settings,
        opened: &Opened,
    ) -> Result<Self, Failure> {
        for (from, to) in &settings.moved {
            decryptor = decryptor.moved(from.clone(), to.clone());
        }
        let mut equipped = Self { decryptor, unresolved: None };
        for (side, spec) in settings.keys() {
            if headers.iter().any(|header| may_be_named(header, side, spec, settings)) {
                equipped = equipped.with(side, spec, &settings.access, opened).await?;
            }
        }
        Ok(equipped)
    }

    async fn with(
        mut self,
        side: Side,
        spec: &KeySpec,
        access: &Access,
        opened: &Opened,
    ) -> Result<Self, Failure> {
        let holder = match opened.try_get(spec, access).await {
            Ok(holder) => holder,
            Err(error) if spec.key_uri().is_alias() => {
                let failure = Failure::from(error).about(format!("the {side} key {spec}"));
                self.unresolved.get_or_insert(failure);
                return Ok(self);
            }
            Err(error) => Arc::new(NotOpened { uri: spec.key_uri(), error }),
        };
        self.decryptor = match side {
            Side::Provider => self.decryptor.provider(ProviderKey::shared(holder)?),
            Side::Customer => self.decryptor.customer(CustomerKey::shared(holder)?),
        };
        Ok(self)
    }
}

/// True if a keyslot names this key, or may: an alias has to be resolved first.
fn may_be_named(header: &Header, side: Side, spec: &KeySpec, settings: &Settings) -> bool {
    let ours = spec.key_uri();
    if ours.is_alias() {
        return true;
    }
    let moved_from = settings.moved.iter().filter(|(_, to)| to.same_key(&ours));
    let names: Vec<&KeyUri> = moved_from.map(|(from, _)| from).chain([&ours]).collect();
    header.supported_keyslots().any(|keyslot| {
        let pair = keyslot.pair();
        let share = match side {
            Side::Provider => pair.provider(),
            Side::Customer => pair.customer(),
        };
        // Nearly always it is our own spelling.
        share.uri() == ours.as_str()
            || KeyUri::parse(share.uri())
                .is_ok_and(|uri| names.iter().any(|name| name.same_key(&uri)))
    })
}

/// A key that could not be opened.
struct NotOpened {
    uri: KeyUri,
    error: HolderError,
}

impl KeyHolder for NotOpened {
    fn uri(&self) -> &KeyUri {
        &self.uri
    }

    fn wrap_key<'a>(
        &'a self,
        _: &'a Share,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async { Err(self.error.clone()) })
    }

    fn unwrap_key<'a>(
        &'a self,
        _: &'a WrappedShare,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async { Err(self.error.clone()) })
    }
}
