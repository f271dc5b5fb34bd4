//! From words to settings: flags before `TWINLOCK_*` variables before the
//! profile.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use twinlock::{KeyUri, Side};
use twinlock_keys::{Pkcs11Uri, Scheme};

use crate::args::values::KeyslotUris;
use crate::args::{CommonArgs, KeyArgs};
use crate::config::{Aws, Azure, Config, Dke, Environment, Gcp, Place, Profile, Vault};
use crate::exit::Failure;
use crate::origin::Origin;

pub(crate) mod explain;

/// Which keys to use, and how to reach them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Provider's and customer's key, a pair for each keyslot, at least one.
    pub(crate) pairs: Vec<KeyPair>,
    /// What headers call keys that are now elsewhere: from, to.
    pub(crate) moved: Vec<(KeyUri, KeyUri)>,
    pub(crate) access: Access,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPair {
    pub(crate) provider: KeySpec,
    pub(crate) customer: KeySpec,
}

/// How this machine reaches keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    #[cfg_attr(not(feature = "aws-kms"), allow(dead_code, reason = "for the AWS holder"))]
    pub(crate) aws: Aws,
    #[cfg_attr(not(feature = "azure-kv"), allow(dead_code, reason = "for the Azure holder"))]
    pub(crate) azure: Azure,
    #[cfg_attr(not(feature = "dke"), allow(dead_code, reason = "for the DKE holder"))]
    pub(crate) dke: Dke,
    /// The keys that `dke` was written for, if it says anything.
    dke_keys: Vec<KeySpec>,
    /// The folder that logins are kept in, if there is a home.
    #[cfg_attr(not(feature = "dke"), allow(dead_code, reason = "for the DKE holder"))]
    pub(crate) logins: Option<PathBuf>,
    #[cfg_attr(not(feature = "gcp-kms"), allow(dead_code, reason = "for the Google holder"))]
    pub(crate) gcp: Gcp,
    #[cfg_attr(not(feature = "vault"), allow(dead_code, reason = "for the Vault holder"))]
    pub(crate) vault: Vault,
    /// The keys that `vault` was written for, if it says anything.
    vault_keys: Vec<KeySpec>,
    #[cfg_attr(not(feature = "pkcs11"), allow(dead_code, reason = "for tokens"))]
    pub(crate) allow_extractable: bool,
    /// For each call to a holder; every holder has one of its own without it.
    #[cfg_attr(
        not(any(
            feature = "aws-kms",
            feature = "azure-kv",
            feature = "dke",
            feature = "gcp-kms",
            feature = "pkcs11",
            feature = "vault"
        )),
        allow(dead_code, reason = "for the holders that can take their time")
    )]
    pub(crate) deadline: Option<Duration>,
}

impl Access {
    /// To keys of a DKE service like this, and to all others as usual.
    pub(crate) fn to_dke(dke: Dke, logins: Option<PathBuf>) -> Self {
        Self { dke, logins, ..Self::default() }
    }

    /// Refuses keys in two Vaults or in two DKE services, those of the profile's
    /// settings included: there is one address, and one token or login. Either
    /// would get what is the other's, and a keyslot that looks like two Vaults
    /// would be in one.
    pub(crate) fn refuse_two_services<'a>(
        &'a self,
        keys: impl IntoIterator<Item = &'a KeySpec>,
    ) -> Result<(), Failure> {
        let keys: Vec<&KeySpec> = keys.into_iter().collect();
        self.refuse_two_vaults(keys.iter().copied())?;
        self.refuse_two_dke_services(keys)
    }

    fn refuse_two_dke_services<'a>(
        &'a self,
        keys: impl IntoIterator<Item = &'a KeySpec>,
    ) -> Result<(), Failure> {
        let keys = self.dke_keys.iter().chain(keys);
        let mut authorities = keys.filter_map(KeySpec::dke_authority);
        let Some(one) = authorities.next() else { return Ok(()) };
        match authorities.find(|other| *other != one) {
            None => Ok(()),
            Some(other) => Err(Failure::misconfigured(format!(
                "there are keys in two DKE services, {one} and {other}, and the token of only one"
            ))
            .hint(
                "use a profile for each; to move files from one to the other, rewrap them to a key \
                 elsewhere first",
            )),
        }
    }

    fn refuse_two_vaults<'a>(
        &'a self,
        keys: impl IntoIterator<Item = &'a KeySpec>,
    ) -> Result<(), Failure> {
        let keys = self.vault_keys.iter().chain(keys);
        let mut authorities = keys.filter_map(KeySpec::vault_authority);
        let Some(one) = authorities.next() else { return Ok(()) };
        match authorities.find(|other| *other != one) {
            None => Ok(()),
            Some(other) => Err(Failure::misconfigured(format!(
                "there are keys in two Vaults, {one} and {other}, and the address and token or \
                 login of only one"
            ))
            .hint(
                "use a profile for each, with keys in one Vault only; to move files from one to \
                 the other, rewrap them to a key elsewhere first",
            )),
        }
    }
}

/// A key as a profile or flag names it: with what is local to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySpec {
    AwsKms(KeyUri),
    AzureKv(KeyUri),
    Dke(KeyUri),
    File(KeyUri),
    GcpKms(KeyUri),
    Pkcs11(Box<Pkcs11Uri>),
    Vault(KeyUri),
}

impl KeySpec {
    /// Reads a URI of any side.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with("pkcs11:") {
            return Ok(Self::Pkcs11(Box::new(Pkcs11Uri::parse(text)?)));
        }
        let uri = KeyUri::parse(text).map_err(|error| with_scheme(text, error.into()))?;
        match uri.scheme() {
            Scheme::AwsKms => Ok(Self::AwsKms(uri)),
            Scheme::AzureKv => Ok(Self::AzureKv(uri)),
            Scheme::Dke => Ok(Self::Dke(uri)),
            Scheme::File => Ok(Self::File(uri)),
            Scheme::GcpKms => Ok(Self::GcpKms(uri)),
            Scheme::Vault => Ok(Self::Vault(uri)),
            scheme => Err(not_built_in(scheme)),
        }
    }

    /// Reads the URI of a flag as the key of this side.
    pub(crate) fn of_flag(side: Side, uri: &str, flag: &'static str) -> Result<Self, Failure> {
        Self::parse_for(side, &Named::new(uri, Origin::Flag(flag)))
    }

    fn parse_for(side: Side, named: &Named) -> Result<Self, Failure> {
        let spec = Self::parse(&named.uri).map_err(|failure| failure.about(&named.origin))?;
        let scheme = spec.key_uri().scheme();
        match scheme.fits(side) {
            true => Ok(spec),
            false => Err(Failure::usage(format!(
                "{}: {scheme} keys cannot be the {side} key",
                named.origin
            ))
            .hint(format!("name it with --{}", other(side)))),
        }
    }

    /// True if both name the same key, as far as names tell.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.key_uri().same_key(&other.key_uri())
    }

    /// The server of a key in Vault; 443 is its port if it has none.
    fn vault_authority(&self) -> Option<String> {
        let Self::Vault(uri) = self else { return None };
        let authority = uri.key_name().split('/').next()?;
        Some(authority.strip_suffix(":443").unwrap_or(authority).to_owned())
    }

    /// The host and port of a DKE service.
    fn dke_authority(&self) -> Option<String> {
        let Self::Dke(uri) = self else { return None };
        uri.key_name().split('/').next().map(ToOwned::to_owned)
    }

    /// The key's name as headers have it, unless it is an alias.
    pub(crate) fn key_uri(&self) -> KeyUri {
        match self {
            Self::AwsKms(uri)
            | Self::AzureKv(uri)
            | Self::Dke(uri)
            | Self::File(uri)
            | Self::GcpKms(uri)
            | Self::Vault(uri) => uri.clone(),
            Self::Pkcs11(uri) => uri.key_uri(),
        }
    }
}

impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key_uri().fmt(f)
    }
}

/// AWS shows names without a scheme, so that is what gets pasted.
fn with_scheme(text: &str, failure: Failure) -> Failure {
    match text.starts_with("arn:") || text.starts_with("alias/") {
        true => failure.hint("write aws-kms:// before an ARN or alias of AWS KMS"),
        false => failure,
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Provider => Side::Customer,
        Side::Customer => Side::Provider,
    }
}

pub(crate) fn not_built_in(scheme: Scheme) -> Failure {
    Failure::misconfigured(format!("{scheme} keys are not built into this version"))
        .hint(format!("it has {}", crate::holders::BUILT_IN.join(", ")))
}

impl KeyPair {
    /// Reads the value of a flag, `PROVIDER_URI,CUSTOMER_URI`.
    pub(crate) fn of_flag(text: &str, flag: &'static str) -> Result<Self, Failure> {
        let (provider, customer) = named_pair(text, flag)?;
        pair(&provider, &customer)
    }
}

impl Settings {
    pub(crate) fn resolve(
        common: &CommonArgs,
        keys: &KeyArgs,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        let profile = ChosenProfile::find(common, environment)?;
        let named = NamedKeys::collect(keys, environment, &profile)?;
        let settings = Self {
            pairs: named.pairs(&profile)?,
            moved: profile.moved()?,
            access: profile.access(),
        };
        let keys = settings.pairs.iter().flat_map(|pair| [&pair.provider, &pair.customer]);
        settings.access.refuse_two_services(keys)?;
        Ok(settings)
    }

    /// The keys that all keyslots need: whoever loses one of them has lost
    /// what was encrypted, and no other keyslot helps.
    pub(crate) fn needed_keys(&self) -> Vec<&KeySpec> {
        let is_needed = |key: &KeySpec| {
            let of_pair = |pair: &KeyPair| pair.provider.is(key) || pair.customer.is(key);
            self.pairs.iter().all(of_pair)
        };
        self.keys().into_iter().map(|(_, key)| key).filter(|key| is_needed(key)).collect()
    }

    /// True if headers call the key `key` by the name `uri`, now or before it moved.
    pub(crate) fn is_named(&self, uri: &str, key: &KeyUri) -> bool {
        let Ok(uri) = KeyUri::parse(uri) else { return false };
        let moved = self.moved.iter().filter(|(from, _)| from.same_key(&uri)).map(|(_, to)| to);
        moved.chain([&uri]).any(|uri| uri.same_key(key))
    }

    /// Every key once, in order.
    pub(crate) fn keys(&self) -> Vec<(Side, &KeySpec)> {
        let providers = self.pairs.iter().map(|pair| (Side::Provider, &pair.provider));
        let customers = self.pairs.iter().map(|pair| (Side::Customer, &pair.customer));
        let mut keys = Vec::new();
        for key in providers.chain(customers) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

/// How to reach keys that are named on the command line rather than by a
/// profile.
pub(crate) fn access(common: &CommonArgs, environment: Environment<'_>) -> Result<Access, Failure> {
    Ok(ChosenProfile::find(common, environment)?.access())
}

/// The same, and the words for the profile that it is of.
pub(crate) fn described_access(
    common: &CommonArgs,
    environment: Environment<'_>,
) -> Result<(Access, String), Failure> {
    let chosen = ChosenProfile::find(common, environment)?;
    let profile = chosen.described().ok_or_else(|| {
        Failure::usage("no profile is chosen, which says where to log in").hint(
            "choose one with --profile, or write one with `twinlock init --customer dke+https://…`",
        )
    })?;
    Ok((chosen.access(), profile))
}

/// The same for one key.
pub(crate) fn access_to(
    key: &KeySpec,
    common: &CommonArgs,
    environment: Environment<'_>,
) -> Result<Access, Failure> {
    let access = access(common, environment)?;
    access.refuse_two_services([key])?;
    Ok(access)
}

/// A variable that is set, empty counting as not.
pub(crate) fn variable(
    environment: Environment<'_>,
    name: &str,
) -> Result<Option<String>, Failure> {
    match environment(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => value
            .into_string()
            .map(Some)
            .map_err(|_| Failure::usage(format!("the variable {name} is not UTF-8"))),
    }
}

/// The profile to use; an empty one when none is named and there is none.
struct ChosenProfile {
    profile: Profile,
    name: Option<String>,
    /// Who chose it.
    why: Choice,
    /// Where the configuration is. `None` without a home.
    place: Option<Place>,
    /// The names of all there are.
    known: Vec<String>,
    /// The folder that logins are kept in.
    logins: Option<PathBuf>,
}

/// Who chose a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Flag,
    Variable,
    /// The configuration file.
    File,
    /// There is no other one.
    OnlyOne,
    /// There is none to use.
    Nobody,
}

impl ChosenProfile {
    fn find(common: &CommonArgs, environment: Environment<'_>) -> Result<Self, Failure> {
        let chosen = Self::find_profile(common, environment)?;
        Ok(Self { logins: logins(environment), ..chosen })
    }

    fn find_profile(common: &CommonArgs, environment: Environment<'_>) -> Result<Self, Failure> {
        let wanted = match &common.profile {
            Some(name) => Some((name.clone(), Choice::Flag)),
            None => {
                let name = variable(environment, "TWINLOCK_PROFILE")?;
                name.map(|name| (name, Choice::Variable))
            }
        };
        let place = match Place::find(common.config.as_deref(), environment) {
            Ok(place) => place,
            // Without a home there is no file to look into, and nobody asked.
            Err(_) if wanted.is_none() => return Ok(Self::none()),
            Err(failure) => return Err(failure),
        };
        let mut config = place.read()?;
        let of_file = || config.profile.clone().map(|name| (name, Choice::File));
        let Some((name, why)) = wanted.or_else(of_file).or_else(|| only_one(&config)) else {
            return Ok(Self { known: names(&config), place: Some(place), ..Self::none() });
        };
        match config.profiles.remove(&name) {
            Some(profile) => {
                let (name, place) = (Some(name), Some(place));
                Ok(Self { profile, name, why, place, ..Self::none() })
            }
            None => Err(no_such_profile(&name, &config, &place)),
        }
    }

    fn none() -> Self {
        Self {
            profile: Profile::default(),
            name: None,
            why: Choice::Nobody,
            place: None,
            known: Vec::new(),
            logins: None,
        }
    }

    /// The profile and its file, in words.
    fn described(&self) -> Option<String> {
        let (name, place) = (self.name.as_ref()?, self.place.as_ref()?);
        Some(format!("profile {name:?} in {}", place.path.display()))
    }

    /// Where what it calls `key` came from.
    fn origin(&self, key: &'static str, index: Option<usize>) -> Origin {
        let profile = self.described().unwrap_or_else(|| "no profile".to_owned());
        Origin::Profile { key, index, profile }
    }

    fn moved(&self) -> Result<Vec<(KeyUri, KeyUri)>, Failure> {
        let parse = |text: &str| {
            let uri = KeyUri::parse(text).map_err(|error| {
                Failure::misconfigured(error.to_string()).about(self.origin("moved", None))
            })?;
            match uri.is_alias() {
                true => Err(Failure::misconfigured(format!(
                    "{uri} is an alias; headers have the key's ARN"
                ))
                .about(self.origin("moved", None))),
                false => Ok(uri),
            }
        };
        self.profile
            .moved
            .iter()
            .map(|moved| Ok((parse(&moved.from)?, parse(&moved.to)?)))
            .collect()
    }

    /// The keys that the settings for Vault were written for.
    fn vault_keys(&self) -> Vec<KeySpec> {
        if self.profile.vault == Vault::default() {
            return Vec::new();
        }
        let further = self.profile.keyslots.iter().map(|keyslot| &keyslot.provider);
        let uris = self.profile.provider.iter().chain(further);
        // What is no URI is an error where it is used, and not here.
        uris.filter_map(|uri| KeySpec::parse(uri).ok())
            .filter(|key| matches!(key, KeySpec::Vault(_)))
            .collect()
    }

    /// The keys that the settings for a DKE service were written for.
    fn dke_keys(&self) -> Vec<KeySpec> {
        if self.profile.dke == Dke::default() {
            return Vec::new();
        }
        let further = self.profile.keyslots.iter().map(|keyslot| &keyslot.customer);
        let uris = self.profile.customer.iter().chain(further);
        // What is no URI is an error where it is used, and not here.
        uris.filter_map(|uri| KeySpec::parse(uri).ok())
            .filter(|key| matches!(key, KeySpec::Dke(_)))
            .collect()
    }

    fn access(&self) -> Access {
        Access {
            aws: self.profile.aws.clone(),
            azure: self.profile.azure.clone(),
            dke: self.profile.dke.clone(),
            dke_keys: self.dke_keys(),
            gcp: self.profile.gcp.clone(),
            logins: self.logins.clone(),
            vault: self.profile.vault.clone(),
            vault_keys: self.vault_keys(),
            allow_extractable: self.profile.allow_extractable,
            deadline: self.profile.deadline_seconds.map(|s| Duration::from_secs(s.get())),
        }
    }
}

/// The folder that logins are kept in. XDG Base Directory Specification: relative
/// paths are invalid and ignored.
pub(crate) fn logins(environment: Environment<'_>) -> Option<PathBuf> {
    let set = |name| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("twinlock/logins"))
}

fn no_such_profile(name: &str, config: &Config, place: &Place) -> Failure {
    let known = names(config);
    let failure =
        Failure::misconfigured(format!("there is no profile {name:?} in {}", place.path.display()));
    match known.is_empty() {
        true => failure.hint("`twinlock init` writes one"),
        false => failure.hint(format!("there are: {}", known.join(", "))),
    }
}

/// Where there is but one profile, nobody has to say which.
fn only_one(config: &Config) -> Option<(String, Choice)> {
    let name = config.profiles.keys().next().filter(|_| config.profiles.len() == 1)?;
    tracing::info!("using {name:?}, the only profile");
    Some((name.clone(), Choice::OnlyOne))
}

fn names(config: &Config) -> Vec<String> {
    config.profiles.keys().cloned().collect()
}

/// A URI and where it stands, for messages: the URI itself may hold a PIN.
#[derive(Clone)]
struct Named {
    uri: String,
    origin: Origin,
}

impl Named {
    fn new(uri: &str, origin: Origin) -> Self {
        Self { uri: uri.to_owned(), origin }
    }
}

/// All keys that were named, as text.
struct NamedKeys {
    provider: Option<Named>,
    customer: Option<Named>,
    keyslots: Vec<(Named, Named)>,
}

impl NamedKeys {
    fn collect(
        keys: &KeyArgs,
        environment: Environment<'_>,
        chosen: &ChosenProfile,
    ) -> Result<Self, Failure> {
        let profile = &chosen.profile;
        let typed = |flag: &Option<String>, name, variable_name| match flag {
            Some(uri) => Ok(Some(Named::new(uri, Origin::Flag(name)))),
            None => {
                let set = variable(environment, variable_name)?;
                let origin = Origin::Variable(variable_name);
                Ok::<_, Failure>(set.map(|uri| Named::new(&uri, origin)))
            }
        };
        let of_profile = |uri: &Option<String>, key| {
            uri.as_ref().map(|uri| Named::new(uri, chosen.origin(key, None)))
        };
        let provider = typed(&keys.provider, "--provider", "TWINLOCK_PROVIDER")?;
        let customer = typed(&keys.customer, "--customer", "TWINLOCK_CUSTOMER")?;

        // A profile's further keyslots belong to its own pair: whoever names
        // another key does not want them as well.
        let keyslots = match (keys.keyslots.is_empty(), &provider, &customer) {
            (false, ..) => keyslots_of_flags(keys)?,
            (true, None, None) => keyslots_of_profile(chosen),
            (true, ..) => Vec::new(),
        };
        Ok(Self {
            provider: provider.or_else(|| of_profile(&profile.provider, "provider")),
            customer: customer.or_else(|| of_profile(&profile.customer, "customer")),
            keyslots,
        })
    }

    fn pairs(&self, chosen: &ChosenProfile) -> Result<Vec<KeyPair>, Failure> {
        let first = match (&self.provider, &self.customer) {
            (Some(provider), Some(customer)) => Some(pair(provider, customer)?),
            (None, None) if !self.keyslots.is_empty() => None,
            (Some(_), None) => return Err(missing(Side::Customer, chosen)),
            (None, _) => return Err(missing(Side::Provider, chosen)),
        };
        let further = self.keyslots.iter().map(|(provider, customer)| pair(provider, customer));
        first.into_iter().map(Ok).chain(further).collect()
    }
}

fn keyslots_of_flags(keys: &KeyArgs) -> Result<Vec<(Named, Named)>, Failure> {
    keys.keyslots.iter().map(|text| named_pair(text, "--keyslot")).collect()
}

fn named_pair(text: &str, flag: &'static str) -> Result<(Named, Named), Failure> {
    let uris: KeyslotUris =
        text.parse().map_err(|problem: &str| Failure::usage(problem).about(flag))?;
    let named = |uri: &str| Named::new(uri, Origin::Flag(flag));
    Ok((named(&uris.provider), named(&uris.customer)))
}

fn keyslots_of_profile(chosen: &ChosenProfile) -> Vec<(Named, Named)> {
    let named = |uri: &str, index| Named::new(uri, chosen.origin("keyslot", Some(index)));
    let keyslots = chosen.profile.keyslots.iter().enumerate();
    keyslots.map(|(i, slot)| (named(&slot.provider, i), named(&slot.customer, i))).collect()
}

fn pair(provider: &Named, customer: &Named) -> Result<KeyPair, Failure> {
    Ok(KeyPair {
        provider: KeySpec::parse_for(Side::Provider, provider)?,
        customer: KeySpec::parse_for(Side::Customer, customer)?,
    })
}

fn missing(side: Side, chosen: &ChosenProfile) -> Failure {
    if let Some(origin) = chosen.described() {
        return Failure::usage(format!("no {side} key is given, and {origin} has none"))
            .hint(format!("name one with --{side}, or add it to the profile"));
    }
    let failure = Failure::usage(format!("no {side} key is given"));
    match chosen.known.is_empty() {
        true => {
            failure.hint(format!("name one with --{side}, or write a profile with `twinlock init`"))
        }
        false => failure.hint(format!(
            "name one with --{side}, or choose a profile with --profile; there are: {}",
            chosen.known.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests;
