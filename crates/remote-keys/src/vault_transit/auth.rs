//! As whom we call: tokens, and where they come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Mutex;
use twinlock_keys::{HolderError, HolderErrorKind};
use zeroize::Zeroizing;

use super::body::LoggedIn;
use super::call::{Call, Operation};
use super::client::{Http, variable};
use super::misconfigured;
use crate::credential::{self, Credential};

/// How old the token of a login has to be to be replaced because the server
/// refused it: a younger one is hardly over, and a login may be one of few.
const MIN_AGE: Duration = Duration::from_secs(30);

/// As whom to call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Auth {
    /// As the command line does: the token in `BAO_TOKEN` or `VAULT_TOKEN`,
    /// else the one in `~/.vault-token`.
    Usual,
    /// With this token.
    Token(Credential),
    /// As an AppRole.
    AppRole {
        /// Where the method is mounted, as in `approle`.
        mount: String,
        /// Which role.
        role_id: String,
        /// What proves it.
        secret_id: Credential,
    },
    /// As a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted, as in `kubernetes`.
        mount: String,
        /// Which role of the server's to take.
        role: String,
        /// The service account's JWT.
        jwt: Credential,
    },
}

impl Auth {
    /// As the AppRole `role_id`, with the method mounted at `approle`.
    #[must_use]
    pub fn app_role(role_id: impl Into<String>, secret_id: Credential) -> Self {
        Self::AppRole { mount: "approle".to_owned(), role_id: role_id.into(), secret_id }
    }

    /// As the service account of this pod in `role`, with the method mounted at
    /// `kubernetes`.
    #[must_use]
    pub fn kubernetes(role: impl Into<String>) -> Self {
        Self::Kubernetes {
            mount: "kubernetes".to_owned(),
            role: role.into(),
            jwt: Credential::service_account(),
        }
    }

    /// The token, or what a login proves itself with.
    fn secret(&self) -> Result<Zeroizing<String>, HolderError> {
        match self {
            Self::Usual => usual_token(),
            Self::Token(token) => token.read("token"),
            Self::AppRole { secret_id, .. } => secret_id.read("secret id"),
            Self::Kubernetes { jwt, .. } => jwt.read("service account's JWT"),
        }
    }

    /// The mount of a login, if there is a login.
    pub(super) fn mount(&self) -> Option<&str> {
        match self {
            Self::AppRole { mount, .. } | Self::Kubernetes { mount, .. } => Some(mount),
            Self::Token(_) | Self::Usual => None,
        }
    }
}

/// The token in use, shared by all calls.
pub(super) struct Tokens {
    auth: Auth,
    held: Mutex<Held>,
}

/// What the last login gave.
#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// A secret that the server did not accept, and what it said. It is not
    /// sent again: logins are counted, and too many lock a role.
    refused: Option<(Zeroizing<String>, HolderError)>,
}

/// A token and what is known of its end.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Arc<Zeroizing<String>>,
    made: Instant,
    renew_at: Option<Instant>,
    /// How many requests it is good for, if not for any number.
    max_uses: Option<u64>,
    uses: Arc<AtomicU64>,
}

impl Tokens {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth, held: Mutex::default() }
    }

    /// The token in use, obtained if there is none or its time is over. Those
    /// who come meanwhile wait for the same one.
    pub(super) async fn token(&self, http: &Http, call: &Call<'_>) -> Result<Token, HolderError> {
        let mut held = self.held.lock().await;
        match held.token.as_ref().filter(|token| !token.is_over()) {
            Some(token) => Ok(token.clone()),
            None => self.obtain(&mut held, http, call).await,
        }
    }

    /// Another token than `refused`; `None` if there is none to be had, and if
    /// it is so young that it is the policy that refuses, and not the token.
    pub(super) async fn instead_of(
        &self,
        refused: &Token,
        http: &Http,
        call: &Call<'_>,
    ) -> Option<Token> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.token.as_ref().filter(|token| token.text != refused.text) {
            return Some(token.clone());
        }
        if self.auth.mount().is_some() && !refused.may_be_over() {
            return None;
        }
        // Why it was refused says more than why there is no other.
        let token = self.obtain(&mut held, http, call).await.ok()?;
        (token.text != refused.text).then_some(token)
    }

    async fn obtain(
        &self,
        held: &mut Held,
        http: &Http,
        call: &Call<'_>,
    ) -> Result<Token, HolderError> {
        let secret = self.auth.secret()?;
        let token = match &self.auth {
            Auth::Usual | Auth::Token(_) => Token::lasting(secret),
            Auth::AppRole { mount, role_id, .. } => {
                let login = AppRoleLogin { role_id, secret_id: &secret };
                held.log_in(http, call, mount, &secret, &login).await?
            }
            Auth::Kubernetes { mount, role, .. } => {
                let login = KubernetesLogin { role, jwt: &secret };
                held.log_in(http, call, mount, &secret, &login).await?
            }
        };
        Ok(held.token.insert(token).clone())
    }
}

impl Held {
    /// Logs in with `secret`, unless the server has refused it before.
    async fn log_in(
        &mut self,
        http: &Http,
        call: &Call<'_>,
        mount: &str,
        secret: &Zeroizing<String>,
        login: &impl Serialize,
    ) -> Result<Token, HolderError> {
        if let Some((_, error)) = self.refused.as_ref().filter(|(refused, _)| refused == secret) {
            return Err(error.clone());
        }
        let result = log_in(http, call, mount, login).await;
        self.refused = match &result {
            Err(error) if error.kind() == HolderErrorKind::Denied => {
                Some((secret.clone(), error.clone()))
            }
            _ => None,
        };
        result
    }
}

#[derive(Serialize)]
struct AppRoleLogin<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct KubernetesLogin<'a> {
    role: &'a str,
    jwt: &'a str,
}

async fn log_in(
    http: &Http,
    for_call: &Call<'_>,
    mount: &str,
    request: &impl Serialize,
) -> Result<Token, HolderError> {
    let call = Call::new(Operation::LogIn, for_call.key, for_call.deadline);
    let answer = http.post(&call, None, &format!("auth/{mount}/login"), request).await?;
    let LoggedIn { auth } = answer.parse(&call)?;
    credential::check(&auth.client_token)
        .ok_or_else(|| call.failed("the login gave no usable token"))?;
    Ok(Token::leased(auth.client_token.clone(), auth.lease_duration).good_for(auth.num_uses))
}

impl Token {
    /// One whose end is not known.
    fn lasting(text: Zeroizing<String>) -> Self {
        Self {
            text: Arc::new(text),
            made: Instant::now(),
            renew_at: None,
            max_uses: None,
            uses: Arc::default(),
        }
    }

    /// One that is good for this many seconds, or for ever with 0. The last
    /// tenth is left alone: a call has to arrive in time.
    fn leased(text: String, seconds: u64) -> Self {
        let lease = Duration::from_secs(seconds) / 10 * 9;
        let lasting = Self::lasting(Zeroizing::new(text));
        let renew_at = lasting.made.checked_add(lease).filter(|_| seconds > 0);
        Self { renew_at, ..lasting }
    }

    /// The same, good for this many requests, or for any number with 0.
    fn good_for(self, uses: u64) -> Self {
        Self { max_uses: Some(uses).filter(|uses| *uses > 0), ..self }
    }

    /// Counts a request that it goes with.
    pub(super) fn note_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.renew_at.is_some_and(|end| Instant::now() >= end)
            || self.max_uses.is_some_and(|max| self.uses.load(Ordering::Relaxed) >= max)
    }

    /// True if that may be why the server refused it.
    fn may_be_over(&self) -> bool {
        self.is_over() || self.made.elapsed() >= MIN_AGE
    }
}

fn usual_token() -> Result<Zeroizing<String>, HolderError> {
    if let Some(text) = variable("TOKEN")?.map(Zeroizing::new) {
        return credential::usable(&text, "token", "VAULT_TOKEN");
    }
    let path = std::env::home_dir().map(|home| home.join(".vault-token"));
    match path.filter(|path| path.exists()) {
        Some(path) => credential::read_file(&path, "token"),
        None => Err(misconfigured(
            "found no token for Vault: run `bao login` or `vault login`, set VAULT_TOKEN, or \
             choose a way to log in"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn a_credential_is_in_no_debug_output() {
        let secret = Credential::Value(SecretString::from("hvs.secret"));
        let auth = Auth::app_role("role", secret);
        assert!(!format!("{auth:?}").contains("hvs.secret"));
    }

    #[test]
    fn an_old_token_may_be_over_whatever_was_said() {
        let young = Token::leased("t".to_owned(), 3600);
        assert!(!young.may_be_over());
        let made = young.made.checked_sub(MIN_AGE).unwrap();
        assert!(Token { made, ..young }.may_be_over());
    }

    #[test]
    fn a_token_of_a_login_ends_before_its_time_and_with_its_uses() {
        assert!(!Token::leased("t".to_owned(), 0).is_over());
        assert!(!Token::leased("t".to_owned(), 3600).is_over());
        assert!(!Token::leased("t".to_owned(), u64::MAX).is_over());
        let twice = Token::leased("t".to_owned(), 3600).good_for(2);
        let copy = twice.clone();
        copy.note_use();
        assert!(!twice.is_over() && !twice.may_be_over());
        copy.note_use();
        assert!(twice.is_over() && twice.may_be_over());
        assert!(!Token::leased("t".to_owned(), 3600).good_for(0).is_over());
        let short = Token::leased("t".to_owned(), 10);
        assert!(short.renew_at.unwrap() < Instant::now() + Duration::from_secs(10));
    }
}
