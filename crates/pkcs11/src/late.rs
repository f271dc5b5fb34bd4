//! A token that is opened as soon as it can be.
//!
//! One that was opened once recovers by itself from whatever it recovers from.
//! Here is only the time before: a service that starts while its HSM restarts
//! waits for it.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use twinlock_keys::Pkcs11Uri;

use crate::{ErrorKind, Pkcs11Error, Token, TokenOptions};

/// A token of a service, opened by whoever needs it first. One that cannot be
/// opened is left alone for a while, so that callers who come back at once cost
/// its driver nothing.
///
/// ```no_run
/// use twinlock_keys::Pkcs11Uri;
/// use twinlock_pkcs11::{LateToken, TokenOptions};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let uri: Pkcs11Uri = "pkcs11:token=Twinlock?module-path=/usr/lib/vendor/libpkcs11.so".parse()?;
/// let hsm = LateToken::new("a", uri, TokenOptions::default());
/// assert!(hsm.token().is_none(), "nothing was opened yet");
/// println!("{}", hsm.open().await?.facts().label);
/// # Ok(())
/// # }
/// ```
pub struct LateToken {
    name: String,
    uri: Pkcs11Uri,
    options: TokenOptions,
    token: OnceLock<Token>,
    /// Held by whoever opens it: one at a time.
    opening: Mutex<Pause>,
}

/// Until when a token that could not be opened is left alone.
#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
    error: Option<Pkcs11Error>,
}

impl LateToken {
    /// The token of that URI. The name is for logs.
    #[must_use]
    pub fn new(name: &str, uri: Pkcs11Uri, options: TokenOptions) -> Self {
        Self {
            name: name.to_owned(),
            uri,
            options,
            token: OnceLock::new(),
            opening: Mutex::default(),
        }
    }

    /// The token, if it was opened.
    #[must_use]
    pub fn token(&self) -> Option<&Token> {
        self.token.get()
    }

    /// The token, opened now if it was not. After a failure it is left alone for
    /// a second, and longer each time, up to half a minute; and for ever if its PIN
    /// is refused.
    ///
    /// # Errors
    /// Why it cannot be opened, or could not a moment ago.
    pub async fn open(&self) -> Result<&Token, Pkcs11Error> {
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
        match Token::open(&self.uri, self.options.clone()).await {
            Ok(token) => {
                tracing::info!(hsm = self.name, token = token.facts().label, "opened the token");
                Ok(self.token.get_or_init(|| token))
            }
            Err(error) => {
                tracing::warn!(hsm = self.name, %error, "the token cannot be opened");
                pause.begin(&error);
                Err(error)
            }
        }
    }
}

impl fmt::Debug for LateToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut token = f.debug_struct("LateToken");
        token.field("name", &self.name).field("token", &self.token()).finish_non_exhaustive()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_become_longer_and_end_but_for_a_refused_pin() {
        let failed = |kind| Pkcs11Error::new(kind, "");
        let mut pause = Pause::default();
        let lengths: Vec<_> = (0..7)
            .map(|_| {
                pause.begin(&failed(ErrorKind::Gone));
                assert!(pause.is_on() && pause.until.is_some());
                pause.length.as_secs()
            })
            .collect();
        assert_eq!(lengths, [1, 2, 4, 8, 16, 30, 30]);
        pause.until = Some(Instant::now());
        assert!(!pause.is_on());
        pause.begin(&failed(ErrorKind::Denied));
        assert!(pause.is_on() && pause.until.is_none());
    }
}
