//! The tokens, known by name.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use secrecy::SecretString;
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{LateToken, PinSource, Pkcs11Error, RsaKey, Token, TokenOptions};

use crate::config::HsmSettings;

/// How long opening may take; requests have deadlines of their own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls that may wait for a session: some seconds of a token of many sessions.
const QUEUE: usize = 1024;

/// A token that keys are on.
pub struct Hsm {
    settings: HsmSettings,
    token: LateToken,
    /// What was wrong when it was last looked at.
    problem: ArcSwap<Option<String>>,
}

impl Hsm {
    /// It opens nothing yet.
    #[must_use]
    pub fn new(settings: HsmSettings, pin: Option<SecretString>) -> Self {
        let HsmSettings { name, token, sessions, allow_extractable, .. } = &settings;
        let mut options = TokenOptions::default().with_deadline(PATIENCE).with_queue(QUEUE);
        if let Some(sessions) = sessions {
            options = options.with_workers(*sessions).with_hung_workers(*sessions);
        }
        if *allow_extractable {
            options = options.with_extractable_keys();
        }
        if let Some(pin) = pin {
            options = options.with_pin(PinSource::given(pin));
        }
        Self {
            token: LateToken::new(name, token.clone(), options),
            settings,
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
    pub fn token(&self) -> Option<&Token> {
        self.token.token()
    }

    /// The token, opened now if it was not: see [`LateToken::open`].
    ///
    /// # Errors
    /// Why it cannot be opened, or could not a moment ago.
    pub async fn open(&self) -> Result<&Token, Pkcs11Error> {
        self.token.open().await
    }

    /// The RSA key of that label.
    ///
    /// # Errors
    /// When the token cannot be opened, or there is no such key that can be
    /// used.
    pub async fn key(&self, object: &str) -> Result<RsaKey, Pkcs11Error> {
        let token = self.open().await?;
        let uri = Pkcs11Uri::of_key(token.facts().label.clone(), object);
        RsaKey::on(token, &uri).await
    }
}
