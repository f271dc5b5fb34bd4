//! New keyslots for an envelope, without its payload (format.md, "Rewrap").

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures_util::future::try_join_all;
use twinlock_format::limits::MAX_KEYSLOTS;
use twinlock_format::{
    Header, HeaderTooLarge, InvalidHeader, Keyslot, Padding, PairKeyslot, ShareSlot,
    UnverifiedHeader, escape_untrusted, schedule,
};
use twinlock_keys::{
    CustomerKey, HolderErrorKind, KeyHolder, KeyUri, KeyUriError, ProviderKey, Scheme, Side,
};

use crate::decrypt::{Decryptor, OpenError, OpenHeader};
use crate::encrypt::{PrepareError, check_uris};
use crate::limits::PairLimits;
use crate::random;
use crate::shares::{KeyslotFailure, NewPair, ShareFailure, open_keyslot};

mod shared;

use shared::SharedPairs;

/// What a rewrap is to change.
///
/// Rewrap is not revocation: an old copy of the header still opens the payload
/// with the old keys.
#[derive(Clone, Default)]
#[must_use = "a plan does nothing by itself"]
pub struct RewrapPlan {
    from: Option<KeySelector>,
    provider: Option<ProviderKey>,
    customer: Option<CustomerKey>,
    add: Vec<(ProviderKey, CustomerKey)>,
    remove: Vec<(KeyUri, KeyUri)>,
    remove_unopened: bool,
    shared: Option<Arc<SharedPairs>>,
}

impl RewrapPlan {
    /// A plan that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives new shares to the keyslots that name this key, of the keys that
    /// they have unless [`to_provider`](Self::to_provider) or
    /// [`to_customer`](Self::to_customer) names another.
    pub fn from_key(mut self, key: KeySelector) -> Self {
        self.from = Some(key);
        self
    }

    /// The new provider's key of the keyslots that
    /// [`from_key`](Self::from_key) selects, or of the only keyslot.
    pub fn to_provider(mut self, holder: ProviderKey) -> Self {
        self.provider = Some(holder);
        self
    }

    /// The new customer's key of the keyslots that
    /// [`from_key`](Self::from_key) selects, or of the only keyslot.
    pub fn to_customer(mut self, holder: CustomerKey) -> Self {
        self.customer = Some(holder);
        self
    }

    /// Adds a keyslot, unless there is one of these two keys that opens. Where
    /// one names them and a holder cannot be asked, the rewrap fails; of a holder
    /// that only wraps ([`KeyHolder::only_wraps`]) the name has to do.
    pub fn add_keyslot(mut self, provider: ProviderKey, customer: CustomerKey) -> Self {
        self.add.push((provider, customer));
        self
    }

    /// Removes the keyslots of these two keys. It must be possible to open
    /// them, and another that opens has to remain.
    pub fn remove_keyslot(mut self, provider: KeyUri, customer: KeyUri) -> Self {
        self.remove.push((provider, customer));
        self
    }

    /// Removes keyslots also when they do not open, because a key was lost, and
    /// even when none that remains was seen to open. Whoever cannot open a
    /// keyslot cannot know what is lost with it.
    pub fn remove_unopened(mut self) -> Self {
        self.remove_unopened = true;
        self
    }

    /// Gives the same new share pair to keyslots of many headers, if their keys
    /// and their encryption context are the same, within `limits` (of plaintext
    /// bytes none are counted: a rewrap sees none). This is for a tree of
    /// files: one wrap and one read-back at each holder. Read at
    /// [`Batch`](crate::Batch) what it costs.
    ///
    /// The pairs belong to this plan and to its clones.
    pub fn share_pairs(mut self, limits: PairLimits) -> Self {
        self.shared = Some(Arc::new(SharedPairs::new(limits)));
        self
    }
}

/// A key that keyslots name, `URI[@version]`: every version of it, or one.
///
/// The version is what the holder called it, as `inspect` shows it. Keys in
/// files have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySelector {
    uri: KeyUri,
    version: Option<String>,
}

impl KeySelector {
    /// Every version of a key.
    #[must_use]
    pub fn new(uri: KeyUri) -> Self {
        Self { uri, version: None }
    }

    /// One version of a key.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    fn matches(&self, decryptor: &Decryptor, slot: &ShareSlot) -> bool {
        let version = self.version.as_deref();
        decryptor.names(slot.uri(), &self.uri)
            && version.is_none_or(|version| slot.key_version() == Some(version))
    }
}

impl FromStr for KeySelector {
    type Err = KeyUriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((uri, version)) = text.rsplit_once('@')
            && is_key_version(version)
            && let Ok(uri) = KeyUri::parse(uri)
            && uri.scheme() != Scheme::File
        {
            return Ok(Self::new(uri).version(version));
        }
        KeyUri::parse(text).map(Self::new)
    }
}

impl fmt::Display for KeySelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.uri),
            None => self.uri.fmt(f),
        }
    }
}

/// Of format.md#R20.
fn is_key_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A header that replaces another.
pub struct RewrappedHeader {
    bytes: Vec<u8>,
    header: Header,
    changes: Vec<KeyslotChange>,
    fits: bool,
}

impl RewrappedHeader {
    /// The signed header, to be written in place of the old one.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What has changed.
    #[must_use]
    pub fn changes(&self) -> &[KeyslotChange] {
        &self.changes
    }

    /// True if it is as long as the old one, and can be written over it.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.fits
    }
}

/// What became of one keyslot: it was added, removed, or got new shares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyslotChange {
    /// The keys before; `None` for a keyslot that was added.
    pub before: Option<KeyslotKeys>,
    /// The keys now; `None` for a keyslot that was removed.
    pub after: Option<KeyslotKeys>,
}

/// The two keys of a keyslot, as headers name them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyslotKeys {
    /// The provider's key URI.
    pub provider: String,
    /// The customer's key URI.
    pub customer: String,
}

impl KeyslotKeys {
    fn of(keyslot: &PairKeyslot) -> Self {
        let pair = keyslot.pair();
        Self {
            provider: pair.provider().uri().to_owned(),
            customer: pair.customer().uri().to_owned(),
        }
    }

    fn of_holders((provider, customer): (&ProviderKey, &CustomerKey)) -> Self {
        Self {
            provider: provider.holder().uri().to_string(),
            customer: customer.holder().uri().to_string(),
        }
    }
}

impl fmt::Display for KeyslotKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", escape_untrusted(&self.provider), escape_untrusted(&self.customer))
    }
}

impl Decryptor {
    /// Makes the header that is to replace `header`: it opens `header`, has the
    /// holders wrap and read back a *new* share pair for each keyslot that
    /// changes, and keeps every other keyslot byte for byte. `None` when there
    /// is nothing to change.
    ///
    /// Nothing is written. [`file::rewrap_file`](crate::file::rewrap_file)
    /// does, in a way that survives being killed.
    ///
    /// # Errors
    /// When `header` does not open, a holder that is needed was not given or
    /// fails, or the header that remains would be one that nobody has seen to
    /// open.
    pub async fn rewrap(
        &self,
        header: UnverifiedHeader,
        plan: &RewrapPlan,
    ) -> Result<Option<RewrappedHeader>, RewrapError> {
        let open = self.open_header(header).await?;
        self.rewrap_open(&open, plan).await
    }

    pub(crate) async fn rewrap_open(
        &self,
        open: &OpenHeader,
        plan: &RewrapPlan,
    ) -> Result<Option<RewrappedHeader>, RewrapError> {
        let work = Work::find(self, open, plan).await?;
        match work.is_empty() {
            true => Ok(None),
            false => work.perform(open).await.map(Some),
        }
    }

    /// What [`Decryptor::rewrap_open`] would change.
    pub(crate) async fn preview_rewrap(
        &self,
        open: &OpenHeader,
        plan: &RewrapPlan,
    ) -> Result<Vec<KeyslotChange>, RewrapError> {
        Ok(Work::find(self, open, plan).await?.changes())
    }

    /// True if this keyslot gives the DEK with holders that we have.
    async fn opens(&self, open: &OpenHeader, keyslot: &PairKeyslot) -> bool {
        if keyslot.pair().pair_id() == open.opened_with {
            return true;
        }
        let header = open.header.header();
        for attempt in self.attempts(header) {
            if attempt.keyslot == keyslot
                && opens_with(open, keyslot, attempt.provider, attempt.customer).await
            {
                return true;
            }
        }
        false
    }
}

async fn opens_with(
    open: &OpenHeader,
    keyslot: &PairKeyslot,
    provider: &dyn KeyHolder,
    customer: &dyn KeyHolder,
) -> bool {
    let header = open.header.header();
    let dek =
        open_keyslot(keyslot, provider, customer, &header.envelope_id(), header.context()).await;
    // Both are ours and never leave: there is nothing to time.
    dek.is_ok_and(|dek| dek.expose() == open.dek.expose())
}

/// True if this keyslot, which names both keys, is of these keys, as far as their
/// holders can tell: of one that only wraps, its name has to do.
async fn is_of(
    open: &OpenHeader,
    keyslot: &PairKeyslot,
    provider: &dyn KeyHolder,
    customer: &dyn KeyHolder,
) -> Result<bool, PrepareError> {
    let header = open.header.header();
    let opened =
        open_keyslot(keyslot, provider, customer, &header.envelope_id(), header.context()).await;
    let failures = match opened {
        Ok(dek) => return Ok(dek.expose() == open.dek.expose()),
        Err(KeyslotFailure::WrappedDek) => return Ok(false),
        Err(KeyslotFailure::Shares { provider: p, customer: c }) => {
            [(Side::Provider, provider, p), (Side::Customer, customer, c)]
        }
    };
    let mut unknown = None;
    for (side, holder, failure) in failures {
        match failure {
            None => {}
            Some(_) if holder.only_wraps() => {}
            Some(ShareFailure::WrongShare) => return Ok(false),
            Some(ShareFailure::Holder(error))
                if error.kind() == HolderErrorKind::InvalidCiphertext =>
            {
                return Ok(false);
            }
            Some(ShareFailure::Holder(source)) => {
                let uri = holder.uri().clone();
                unknown.get_or_insert(PrepareError::Holder { side, uri, source });
            }
        }
    }
    unknown.map_or(Ok(true), Err)
}

/// What a plan comes down to for one header.
struct Work<'a> {
    keyslots: Vec<(&'a Keyslot, Action<'a>)>,
    add: Vec<(&'a ProviderKey, &'a CustomerKey)>,
    shared: Option<&'a SharedPairs>,
}

enum Action<'a> {
    Keep,
    Remove,
    Renew(&'a ProviderKey, &'a CustomerKey),
}

impl<'a> Work<'a> {
    async fn find(
        decryptor: &'a Decryptor,
        open: &'a OpenHeader,
        plan: &'a RewrapPlan,
    ) -> Result<Self, RewrapError> {
        let header = open.header.header();
        let selected = plan.selected(decryptor, header)?;
        let action = |keyslot: &Keyslot| match keyslot.as_pair() {
            Some(pair) if plan.removes(decryptor, pair) => Ok(Action::Remove),
            Some(pair) if selected.contains(&pair) => plan.renewal(decryptor, pair),
            _ => Ok(Action::Keep),
        };
        let keyslots = header
            .keyslots()
            .iter()
            .map(|keyslot| Ok((keyslot, action(keyslot)?)))
            .collect::<Result<Vec<_>, RewrapError>>()?;
        let mut work = Self { keyslots, add: Vec::new(), shared: plan.shared.as_deref() };
        work.find_additions(decryptor, open, plan).await?;
        work.check_count()?;
        work.check_uris()?;
        work.check_what_remains(decryptor, open, plan).await?;
        Ok(work)
    }

    async fn find_additions(
        &mut self,
        decryptor: &Decryptor,
        open: &OpenHeader,
        plan: &'a RewrapPlan,
    ) -> Result<(), RewrapError> {
        for (provider, customer) in &plan.add {
            if !self.has(decryptor, open, provider, customer).await? {
                self.add.push((provider, customer));
            }
        }
        Ok(())
    }

    /// True if a keyslot that stays is one of these keys. Who could not be asked
    /// has not said no: a keyslot more with each try would fill the header.
    async fn has(
        &self,
        decryptor: &Decryptor,
        open: &OpenHeader,
        provider: &ProviderKey,
        customer: &CustomerKey,
    ) -> Result<bool, RewrapError> {
        let (ours, theirs) = (provider.holder(), customer.holder());
        let mut unknown = None;
        for keyslot in self.kept().filter(|keyslot| keyslot.is_supported()) {
            let pair = keyslot.pair();
            let is_named = decryptor.names(pair.provider().uri(), ours.uri())
                && decryptor.names(pair.customer().uri(), theirs.uri());
            if !is_named {
                continue;
            }
            match is_of(open, keyslot, ours, theirs).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => _ = unknown.get_or_insert(error),
            }
        }
        unknown.map_or(Ok(false), |error| Err(error.into()))
    }

    /// Before any holder wraps in vain.
    fn check_count(&self) -> Result<(), RewrapError> {
        let stays = |(_, action): &&(&Keyslot, Action<'_>)| !matches!(action, Action::Remove);
        let count = self.keyslots.iter().filter(stays).count() + self.add.len();
        match count > MAX_KEYSLOTS {
            true => Err(InvalidHeader::KeyslotCount(count).into()),
            false => Ok(()),
        }
    }

    fn check_uris(&self) -> Result<(), RewrapError> {
        for (provider, customer) in self.new_pairs() {
            check_uris(provider.holder().uri(), customer.holder().uri())?;
        }
        Ok(())
    }

    /// That no way in is lost that somebody may still need.
    async fn check_what_remains(
        &self,
        decryptor: &Decryptor,
        open: &OpenHeader,
        plan: &RewrapPlan,
    ) -> Result<(), RewrapError> {
        let has_new = self.new_pairs().next().is_some();
        if !has_new && !self.kept().any(PairKeyslot::is_supported) {
            return Err(RewrapError::LastKeyslot);
        }
        if plan.remove_unopened || !self.actions().any(|(_, a)| matches!(a, Action::Remove)) {
            return Ok(());
        }
        for (keyslot, _) in self.actions().filter(|(_, a)| matches!(a, Action::Remove)) {
            if !decryptor.opens(open, keyslot).await {
                return Err(RewrapError::Unopened { keys: KeyslotKeys::of(keyslot) });
            }
        }
        if has_new {
            return Ok(());
        }
        for keyslot in self.kept() {
            if decryptor.opens(open, keyslot).await {
                return Ok(());
            }
        }
        Err(RewrapError::NoneOpens)
    }

    async fn perform(self, open: &OpenHeader) -> Result<RewrappedHeader, RewrapError> {
        let header = open.header.header();
        let pairs = self.make_pairs(header).await?;
        let mut fresh = pairs
            .into_iter()
            .map(|pair| {
                let nonce = random::bytes()?;
                Ok(pair.keyslot(&header.envelope_id(), &nonce, &open.dek).into())
            })
            .collect::<Result<Vec<Keyslot>, PrepareError>>()?
            .into_iter();
        let mut keyslots = Vec::new();
        for (keyslot, action) in &self.keyslots {
            match action {
                Action::Keep => keyslots.push((*keyslot).clone()),
                Action::Remove => {}
                Action::Renew(..) => keyslots.extend(fresh.next()),
            }
        }
        keyslots.extend(fresh);
        self.signed(open, header.rewrapped(keyslots)?)
    }

    /// For each of `new_pairs` one that this header never had.
    async fn make_pairs(&self, header: &Header) -> Result<Vec<Arc<NewPair>>, PrepareError> {
        let context = header.context();
        let Some(shared) = self.shared else {
            let make = |(provider, customer)| NewPair::make(provider, customer, context, true);
            let pairs = try_join_all(self.new_pairs().map(make)).await?;
            return Ok(pairs.into_iter().map(Arc::new).collect());
        };
        let mut taken: Vec<_> = self.actions().map(|(slot, _)| slot.pair().pair_id()).collect();
        let mut pairs = Vec::new();
        for (provider, customer) in self.new_pairs() {
            let pair = shared.pair(provider, customer, context, &taken).await?;
            taken.push(pair.pair_id());
            pairs.push(pair);
        }
        Ok(pairs)
    }

    fn signed(&self, open: &OpenHeader, header: Header) -> Result<RewrappedHeader, RewrapError> {
        let old_len = open.header.as_bytes().len();
        let (unsigned, fits) = match header.encode(Padding::FillTo(old_len)) {
            Ok(unsigned) => (unsigned, true),
            Err(_) => (header.encode(Padding::Standard)?, false),
        };
        let key = schedule::header_key(open.dek.expose(), &header.envelope_id());
        Ok(RewrappedHeader { bytes: unsigned.sign(&key), header, changes: self.changes(), fits })
    }

    fn changes(&self) -> Vec<KeyslotChange> {
        let changed = self.actions().filter_map(|(keyslot, action)| {
            let before = Some(KeyslotKeys::of(keyslot));
            match action {
                Action::Keep => None,
                Action::Remove => Some(KeyslotChange { before, after: None }),
                Action::Renew(provider, customer) => {
                    let after = Some(KeyslotKeys::of_holders((provider, customer)));
                    Some(KeyslotChange { before, after })
                }
            }
        });
        let added = self.add.iter().map(|keys| KeyslotChange {
            before: None,
            after: Some(KeyslotKeys::of_holders(*keys)),
        });
        changed.chain(added).collect()
    }

    fn is_empty(&self) -> bool {
        self.add.is_empty() && self.keyslots.iter().all(|(_, a)| matches!(a, Action::Keep))
    }

    fn actions(&self) -> impl Iterator<Item = (&'a PairKeyslot, &Action<'a>)> {
        self.keyslots
            .iter()
            .filter_map(|(keyslot, action)| keyslot.as_pair().map(|keyslot| (keyslot, action)))
    }

    fn kept(&self) -> impl Iterator<Item = &'a PairKeyslot> {
        self.actions().filter(|(_, a)| matches!(a, Action::Keep)).map(|(keyslot, _)| keyslot)
    }

    /// Of the keyslots that get new shares, in the header's order, and then of
    /// those that are added.
    fn new_pairs(&self) -> impl Iterator<Item = (&'a ProviderKey, &'a CustomerKey)> {
        let renewed = self.keyslots.iter().filter_map(|(_, action)| match action {
            Action::Renew(provider, customer) => Some((*provider, *customer)),
            _ => None,
        });
        renewed.chain(self.add.iter().copied())
    }
}

impl RewrapPlan {
    /// True if `header` may have something to change, as far as that can be said
    /// before it is opened: for a selection among many files that asks no holder.
    /// Nothing of `header` was verified.
    #[must_use]
    pub fn may_change(&self, decryptor: &Decryptor, header: &Header) -> bool {
        let selects = |keyslot: &PairKeyslot| match &self.from {
            Some(key) => {
                let pair = keyslot.pair();
                key.matches(decryptor, pair.provider()) || key.matches(decryptor, pair.customer())
            }
            None => self.provider.is_some() || self.customer.is_some(),
        };
        let changes = |keyslot| selects(keyslot) || self.removes(decryptor, keyslot);
        !self.add.is_empty() || header.supported_keyslots().any(changes)
    }

    /// The keyslots that get new shares.
    fn selected<'h>(
        &self,
        decryptor: &Decryptor,
        header: &'h Header,
    ) -> Result<Vec<&'h PairKeyslot>, RewrapError> {
        let mut candidates: Vec<_> = header
            .supported_keyslots()
            .filter(|keyslot| !self.removes(decryptor, keyslot))
            .collect();
        match (&self.from, candidates.len()) {
            (Some(key), _) => candidates.retain(|keyslot| {
                let pair = keyslot.pair();
                key.matches(decryptor, pair.provider()) || key.matches(decryptor, pair.customer())
            }),
            (None, _) if self.provider.is_none() && self.customer.is_none() => candidates.clear(),
            (None, 0 | 1) => {}
            (None, _) => {
                let keyslots = candidates.into_iter().map(KeyslotKeys::of).collect();
                return Err(RewrapError::Ambiguous { keyslots });
            }
        }
        Ok(candidates)
    }

    fn removes(&self, decryptor: &Decryptor, keyslot: &PairKeyslot) -> bool {
        let pair = keyslot.pair();
        self.remove.iter().any(|(provider, customer)| {
            decryptor.names(pair.provider().uri(), provider)
                && decryptor.names(pair.customer().uri(), customer)
        })
    }

    fn renewal<'a>(
        &'a self,
        decryptor: &'a Decryptor,
        keyslot: &PairKeyslot,
    ) -> Result<Action<'a>, RewrapError> {
        let (provider, customer) = (keyslot.pair().provider(), keyslot.pair().customer());
        let missing =
            |side, slot: &ShareSlot| RewrapError::NoHolder { side, uri: slot.uri().to_owned() };
        let kept = || decryptor.provider_of(provider.uri());
        let provider = self.provider.as_ref().or_else(kept);
        let provider =
            provider.ok_or_else(|| missing(Side::Provider, keyslot.pair().provider()))?;
        let kept = || decryptor.customer_of(customer.uri());
        let customer = self.customer.as_ref().or_else(kept);
        let customer =
            customer.ok_or_else(|| missing(Side::Customer, keyslot.pair().customer()))?;
        Ok(Action::Renew(provider, customer))
    }
}

/// Why there is no new header. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewrapError {
    /// A new key was given, and not for which of several keyslots.
    #[error("the file has {} keyslots, and it was not said which to change: {}", .keyslots.len(), describe_keyslots(.keyslots))]
    Ambiguous {
        /// Their keys, as the header names them.
        keyslots: Vec<KeyslotKeys>,
    },
    /// The new header would not be one of this format.
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    /// Too many keyslots, or too large ones, for the header's 64 KiB.
    #[error(transparent)]
    HeaderTooLarge(#[from] HeaderTooLarge),
    /// No keyslot would remain that this version could open.
    #[error("the last keyslot cannot be removed: nobody could open the file again")]
    LastKeyslot,
    /// A keyslot is to get new shares, one of them of a key that it has already,
    /// and the holder of that was not given.
    #[error("the keyslot needs a new share of its {side} key, which was not given: {}", escape_untrusted(.uri))]
    NoHolder {
        /// Whose key.
        side: Side,
        /// Its name in the header.
        uri: String,
    },
    /// None of the keyslots that would remain opens with the holders given.
    #[error("none of the keyslots that would remain opens with the keys given")]
    NoneOpens,
    /// The old header did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A holder made no new share, or one that cannot be used.
    #[error(transparent)]
    Prepare(Box<PrepareError>),
    /// A keyslot that is to be removed does not open with the holders given.
    #[error("the keyslot of {keys} does not open with the keys given, and could not be made again")]
    Unopened {
        /// Its keys.
        keys: KeyslotKeys,
    },
}

impl From<PrepareError> for RewrapError {
    fn from(error: PrepareError) -> Self {
        Self::Prepare(Box::new(error))
    }
}

fn describe_keyslots(keyslots: &[KeyslotKeys]) -> String {
    keyslots.iter().map(KeyslotKeys::to_string).collect::<Vec<_>>().join(", or ")
}

#[cfg(test)]
mod tests;
