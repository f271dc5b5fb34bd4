//! The tokens: opened when they can be, and known by name.
//!
//! A token that was opened once recovers by itself from whatever it recovers
//! from; that is `twinlock-pkcs11`'s matter. Here is only the time before: a
//! service that starts while its HSM restarts waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use secrecy::SecretString;
use tokio::sync::Mutex;
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{ErrorKind, PinSource, Pkcs11Error, RsaKey, Token, TokenOptions};

use crate::config::HsmSettings;

/// How long opening may take; requests have deadlines of their own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls that may wait for a session: some seconds of a token of many sessions.
const QUEUE: usize = 1024;

/// A token that keys are on.
pub struct Hsm {
    settings: HsmSettings,
    pin: Option<SecretString>,
    token: ArcSwapOption<Token>,
    /// Held by whoever opens it: one at a time.
    opening: Mutex<Pause>,
    /// What was wrong when it was last looked at.
    problem: ArcSwap<Option<String>>,
}

/// Until when a token that could not be opened is left alone.
#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
    error: Option<Pkcs11Error>,
}

impl Hsm {
    /// It opens nothing yet.
    #[must_use]
    pub fn new(settings: HsmSettings, pin: Option<SecretString>) -> Self {
        Self {
            settings,
            pin,
            token: ArcSwapOption::empty(),
            opening: Mutex::default(),
            problem: ArcSwap::from_pointee(Some("not looked at yet".to_owned())),
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What the configuration says of it.
    #[must_use]
    pub fn settings(&self) -> &HsmSettings {
        &self.settings
    }

    /// Why it did not work when it was last looked at, if it did not.
    #[must_use]
    pub fn problem(&self) -> Arc<Option<String>> {
        self.problem.load_full()
    }

    pub(crate) fn set_problem(&self, problem: Option<String>) {
        self.problem.store(Arc::new(problem));
    }

    /// The token, if it was opened.
    #[must_use]
    pub fn token(&self) -> Option<Arc<Token>> {
        self.token.load_full()
    }

    /// The token, opened now if it was not. After a failure it is left alone for
    /// a while, and for ever if its PIN is refused.
    ///
    /// # Errors
    /// Why it cannot be opened, or could not a moment ago.
    pub async fn open(&self) -> Result<Arc<Token>, Pkcs11Error> {
        if let Some(token) = self.token() {
            return Ok(token);
        }
        let mut pause = self.opening.lock().await;
        if let Some(token) = self.token() {
            return Ok(token); // whoever had the lock opened it
        }
        if let Some(error) = pause.error.as_ref().filter(|_| pause.is_on()) {
            return Err(error.clone());
        }
        match self.try_open().await {
            Ok(token) => {
                tracing::info!(hsm = self.name(), token = token.facts().label, "opened the token");
                let token = Arc::new(token);
                self.token.store(Some(Arc::clone(&token)));
                Ok(token)
            }
            Err(error) => {
                tracing::warn!(hsm = self.name(), %error, "the token cannot be opened");
                pause.begin(&error);
                Err(error)
            }
        }
    }

    async fn try_open(&self) -> Result<Token, Pkcs11Error> {
        let HsmSettings { token, sessions, allow_extractable, .. } = &self.settings;
        let mut options = TokenOptions::default().with_deadline(PATIENCE).with_queue(QUEUE);
        if let Some(sessions) = sessions {
            options = options.with_workers(*sessions).with_hung_workers(*sessions);
        }
        if *allow_extractable {
            options = options.with_extractable_keys();
        }
        if let Some(pin) = &self.pin {
            options = options.with_pin(PinSource::given(pin.clone()));
        }
        Token::open(token, options).await
    }

    /// The RSA key of that label.
    ///
    /// # Errors
    /// When the token cannot be opened, or there is no such key that can be
    /// used.
    pub async fn key(&self, object: &str) -> Result<RsaKey, Pkcs11Error> {
        let token = self.open().await?;
        let uri = Pkcs11Uri::of_key(token.facts().label.clone(), object);
        RsaKey::on(&token, &uri).await
    }
}

impl Pause {
    const LONGEST: Duration = Duration::from_secs(30);

    fn is_on(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    fn begin(&mut self, error: &Pkcs11Error) {
        self.length = (self.length * 2).clamp(Duration::from_secs(1), Self::LONGEST);
        // A refused PIN stays refused until somebody changes something.
        let is_final = error.kind() == ErrorKind::Denied;
        self.until = (!is_final).then(|| Instant::now() + self.length);
        self.error = Some(error.clone());
    }
}
