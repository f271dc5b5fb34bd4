//! The tokens, known by name.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use secrecy::SecretString;
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{AeadKey, LateToken, PinSource, Pkcs11Error, Token, TokenOptions};

use crate::config::HsmSettings;
use crate::health::HsmHealth;

/// How long opening may take; requests have deadlines of their own.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls that may wait for a session: what a second of KMS's default load needs.
const QUEUE: usize = 2048;

/// A token that keys are on.
pub struct Hsm {
    settings: HsmSettings,
    token: LateToken,
    health: ArcSwap<HsmHealth>,
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
            health: ArcSwap::from_pointee(HsmHealth::unknown()),
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

    /// How it was when it was last tried.
    #[must_use]
    pub fn health(&self) -> Arc<HsmHealth> {
        self.health.load_full()
    }

    pub(crate) fn set_health(&self, health: HsmHealth) {
        self.health.store(Arc::new(health));
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

    /// The AES key of that label.
    ///
    /// # Errors
    /// When the token cannot be opened, or there is no such key.
    pub async fn key(&self, object: &str) -> Result<AeadKey, Pkcs11Error> {
        let token = self.open().await?;
        let uri = Pkcs11Uri::of_key(token.facts().label.clone(), object);
        AeadKey::on(token, &uri).await
    }
}
