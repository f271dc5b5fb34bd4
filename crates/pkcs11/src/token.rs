//! An open token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use twinlock_keys::Pkcs11Uri;

use crate::breaker::Trips;
use crate::login::{Credential, Login};
use crate::module::Module;
use crate::pin::Pin;
use crate::session::{Opener, TokenSession};
use crate::vendors::vendor_of;
use crate::workers::{Answer, Limits, Retry, Workers};
use crate::{ErrorKind, PinSource, Pkcs11Error, TokenFacts, oaep, slots};

/// The longest deadline.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A token with its workers: threads that each own a session.
///
/// Clones share them. When the last clone is dropped the sessions are closed;
/// that may take a second if the module is slow.
#[derive(Clone)]
pub struct Token {
    open: Arc<Open>,
}

struct Open {
    facts: TokenFacts,
    workers: Workers<TokenSession>,
    options: TokenOptions,
    rsa_keys: oaep::Memory,
}

/// What a token's sessions are at: for health checks and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenState {
    /// While the breaker is open: why, and with [`Pkcs11Error::retry_after`] the
    /// time until the next call is let through.
    pub resting: Option<Pkcs11Error>,
    /// Sessions that are open.
    pub sessions: usize,
    /// Calls that are in the token.
    pub busy: usize,
    /// Calls that wait for a session.
    pub waiting: usize,
    /// Calls that hang in the module and were given up.
    pub hung: usize,
}

/// How to use a token.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    deadline: Duration,
    workers: Option<usize>,
    warm: bool,
    queue: usize,
    hung_workers: usize,
    breaker: Trips,
    allow_extractable: bool,
    even_at_final_try: bool,
    pin: PinSource,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            workers: None,
            warm: false,
            queue: 256,
            hung_workers: 4,
            breaker: Trips { failures: 5, rest: Duration::from_secs(1) },
            allow_extractable: false,
            even_at_final_try: false,
            pin: PinSource::default(),
        }
    }
}

impl TokenOptions {
    /// How long a caller waits for each call, whatever the module does; 5
    /// seconds unless told otherwise, and at most a day. Opening a token takes
    /// two calls, and the time to read the PIN.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.min(LONGEST);
        self
    }

    /// Sessions that work side by side, at least 1. Unless told otherwise it
    /// is what the table of vendors says, and 1 for unknown tokens.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// Opens all sessions when the token is opened, as far as it has room for
    /// them, rather than each when there is a call for it: the first calls find
    /// them ready.
    #[must_use]
    pub fn with_warm_sessions(mut self) -> Self {
        self.warm = true;
        self
    }

    /// Calls that may wait for a worker, at least 1; 256 unless told
    /// otherwise. One more is answered with [`ErrorKind::Busy`] at once, and so is
    /// one that would wait beyond its deadline, going by what calls took of late.
    #[must_use]
    pub fn with_queue(mut self, calls: usize) -> Self {
        self.queue = calls.max(1);
        self
    }

    /// Workers that hang in the module and are replaced by others; 4 unless
    /// told otherwise. Beyond, the breaker opens (see
    /// [`TokenOptions::with_breaker`]) until one comes back.
    #[must_use]
    pub fn with_hung_workers(mut self, workers: usize) -> Self {
        self.hung_workers = workers;
        self
    }

    /// After how many failures of the device in a row, at least 1, calls are
    /// answered at once, with [`ErrorKind::Gone`] or [`ErrorKind::Busy`] and
    /// [`Pkcs11Error::retry_after`]; and after which time the first of them is
    /// let through to see whether it works again, at most an hour. The time
    /// doubles with each that fails, up to 32 times itself. 5 failures and a
    /// second unless told otherwise.
    ///
    /// Hung calls count and codes such as `CKR_DEVICE_REMOVED`. Bad ciphertext,
    /// a refusal or a missing key are answers: the device works.
    #[must_use]
    pub fn with_breaker(mut self, failures: u32, rest: Duration) -> Self {
        let rest = rest.min(Duration::from_secs(60 * 60));
        self.breaker = Trips { failures: failures.max(1), rest };
        self
    }

    /// Accepts keys that can leave the token, or whose bytes it shows, or that
    /// are public although the token has a PIN. Off unless told otherwise: such
    /// a key may have copies anywhere, and a public one may be anybody's.
    #[must_use]
    pub fn with_extractable_keys(mut self) -> Self {
        self.allow_extractable = true;
        self
    }

    /// Tries the PIN even when the token says that one more wrong PIN locks
    /// it. Off unless told otherwise, since a service that restarts with a
    /// wrong PIN would lock the token.
    #[must_use]
    pub fn with_final_pin_try(mut self) -> Self {
        self.even_at_final_try = true;
        self
    }

    /// Where the PIN is.
    #[must_use]
    pub fn with_pin(mut self, pin: PinSource) -> Self {
        self.pin = pin;
        self
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn allows_extractable(&self) -> bool {
        self.allow_extractable
    }
}

impl Token {
    /// Opens the token that `uri` names and logs in.
    ///
    /// # Errors
    /// When the module, the token or the PIN is not there or not right.
    pub async fn open(uri: &Pkcs11Uri, options: TokenOptions) -> Result<Self, Pkcs11Error> {
        Self::open_for(uri, options, false).await
    }

    /// As [`Token::open`], with sessions that may create objects.
    pub(crate) async fn open_read_write(
        uri: &Pkcs11Uri,
        options: TokenOptions,
    ) -> Result<Self, Pkcs11Error> {
        Self::open_for(uri, options, true).await
    }

    async fn open_for(
        uri: &Pkcs11Uri,
        options: TokenOptions,
        read_write: bool,
    ) -> Result<Self, Pkcs11Error> {
        let module = Module::of(uri)?;
        let facts = look_up(&module, uri, options.deadline).await?;
        let credential = credential(&facts, uri, &options.pin).await?;
        let login = Login::new(module.path(), &facts, credential, options.even_at_final_try);
        let limits = Limits {
            workers: options
                .workers
                .unwrap_or_else(|| vendor_of(&facts.manufacturer, &facts.model).workers),
            queue: options.queue,
            hung: options.hung_workers,
            trips: options.breaker,
        };
        let opener = Opener { module, uri: uri.clone(), login: Arc::new(login), read_write };
        let workers = Workers::new(limits, move || opener.open());
        let rsa_keys = oaep::Memory::default();
        let token = Self { open: Arc::new(Open { facts, workers, options, rsa_keys }) };
        token.call(Retry::Once, |_| Ok(())).await?; // a first session: the PIN is right
        if token.open.options.warm {
            token.open.workers.warm_up(token.open.options.deadline).await;
        }
        Ok(token)
    }

    /// What the token said about itself when it was opened.
    #[must_use]
    pub fn facts(&self) -> &TokenFacts {
        &self.open.facts
    }

    /// How its sessions are now.
    #[must_use]
    pub fn state(&self) -> TokenState {
        let state = self.open.workers.state();
        TokenState {
            resting: state.resting,
            sessions: state.sessions,
            busy: state.busy,
            waiting: state.waiting,
            hung: state.hung,
        }
    }

    /// Closes it for all of its clones: no more calls are taken, those that wait
    /// are answered with [`ErrorKind::Gone`], those in the token are let finish,
    /// and the sessions are closed, for which it waits `within` at most. The
    /// token ends the login with its last session (PKCS#11 3.1 section 5.6.2).
    pub async fn close(&self, within: Duration) {
        self.open.workers.close(within.min(LONGEST)).await;
    }

    /// False while it is left alone because it failed, or is being tried again.
    pub(crate) fn is_trusted(&self) -> bool {
        self.open.workers.is_trusted()
    }

    pub(crate) fn options(&self) -> &TokenOptions {
        &self.open.options
    }

    /// Runs `work` with one of the sessions, within the deadline.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        retry: Retry,
        work: impl FnMut(&mut TokenSession) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Result<T, Pkcs11Error> {
        self.call_within(self.open.options.deadline, retry, work).await
    }

    /// As [`Token::call`], within another deadline.
    pub(crate) async fn call_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        retry: Retry,
        work: impl FnMut(&mut TokenSession) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Result<T, Pkcs11Error> {
        self.timed_call(deadline, retry, work).await.0
    }

    /// As [`Token::call_within`], and says where the time went.
    pub(crate) async fn timed_call<T: Send + 'static>(
        &self,
        deadline: Duration,
        retry: Retry,
        work: impl FnMut(&mut TokenSession) -> Result<T, Pkcs11Error> + Send + 'static,
    ) -> Answer<T> {
        self.open.workers.timed_call(deadline.min(LONGEST), retry, work).await
    }

    /// How it decrypts with its RSA keys, as far as that was found out.
    pub(crate) fn rsa_keys(&self) -> &oaep::Memory {
        &self.open.rsa_keys
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("facts", self.facts()).finish_non_exhaustive()
    }
}

async fn look_up(
    module: &Module,
    uri: &Pkcs11Uri,
    deadline: Duration,
) -> Result<TokenFacts, Pkcs11Error> {
    let uri = uri.clone();
    let find = move |module: &mut _| slots::find(module, &uri).map(|(_, facts)| facts);
    module.workers().call(deadline, Retry::Once, find).await
}

async fn credential(
    facts: &TokenFacts,
    uri: &Pkcs11Uri,
    source: &PinSource,
) -> Result<Credential, Pkcs11Error> {
    if !facts.login_required {
        return Ok(Credential::None);
    }
    if !facts.user_pin_set {
        return Err(Pkcs11Error::misconfigured(format!(
            "the token {:?} has no user PIN yet; its security officer has to set one",
            facts.label
        )));
    }
    if facts.pin_pad {
        return Ok(Credential::PinPad);
    }
    // On a thread of its own: it reads files, and may ask a person.
    let (sender, answer) = oneshot::channel();
    let (uri, source) = (uri.clone(), source.clone());
    std::thread::Builder::new()
        .name("pkcs11-pin".to_owned())
        .spawn(move || sender.send(source.read(&uri)))
        .map_err(|error| Pkcs11Error::new(ErrorKind::Busy, format!("no thread: {error}")))?;
    let pin = answer
        .await
        .unwrap_or_else(|_| Err(Pkcs11Error::new(ErrorKind::Fatal, "the PIN was not read")))?;
    Ok(Credential::Pin(Pin::copy_of(&pin)))
}
