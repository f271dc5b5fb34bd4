//! As whom we call: bearer tokens, and where they come from.

mod command;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use twinlock_keys::HolderError;
use zeroize::Zeroizing;

use super::call::Call;
use super::client::Http;
use super::oauth::{self, Grant, OauthClient};
use super::{Credential, login};

/// Where a bearer token comes from. What a service says about it is never asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TokenSource {
    /// The token itself, read again for each call, so that somebody else may keep
    /// it fresh.
    Bearer(Credential),
    /// What a program prints: its path or name, and its arguments. It runs without
    /// a shell, and once for as long as its token is accepted.
    Command(Vec<String>),
    /// The issuer's, for a program that has a secret of its own (RFC 6749 section
    /// 4.4).
    ClientCredentials {
        /// As which program.
        client: OauthClient,
        /// What proves it.
        secret: Credential,
    },
    /// The issuer's, for a workload that has a token of another issuer: that of a
    /// Kubernetes service account, for instance (RFC 7523 section 2.2).
    Federated {
        /// As which program.
        client: OauthClient,
        /// That other token.
        assertion: Credential,
    },
    /// That of a person who has logged in, see [`start_login`](super::start_login).
    Login {
        /// As which program the person did.
        client: OauthClient,
        /// Where the login is kept.
        file: PathBuf,
    },
}

/// The token in use, shared by all calls.
pub(super) struct Tokens {
    source: TokenSource,
    held: Mutex<Option<Token>>,
}

/// A token and what is known of its end.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Zeroizing<String>,
    renew_at: Option<Instant>,
}

impl Tokens {
    pub(super) fn new(source: TokenSource) -> Self {
        Self { source, held: Mutex::default() }
    }

    /// The token in use, obtained if there is none or its time is over. Those who
    /// come meanwhile wait for the same one.
    pub(super) async fn token(
        &self,
        http: &Http,
        call: &Call<'_>,
    ) -> Result<Zeroizing<String>, HolderError> {
        let mut held = self.held.lock().await;
        match held.as_ref().filter(|token| !token.is_over()) {
            Some(token) => Ok(token.text.clone()),
            None => self.obtain(&mut held, http, call, None).await,
        }
    }

    /// Another token than `refused`; `None` if there is no other.
    pub(super) async fn instead_of(
        &self,
        refused: &str,
        http: &Http,
        call: &Call<'_>,
    ) -> Result<Option<Zeroizing<String>>, HolderError> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.text.as_str() != refused) {
            return Ok(Some(token.text.clone()));
        }
        let token = self.obtain(&mut held, http, call, Some(refused)).await?;
        Ok((token.as_str() != refused).then_some(token))
    }

    async fn obtain(
        &self,
        held: &mut Option<Token>,
        http: &Http,
        call: &Call<'_>,
        refused: Option<&str>,
    ) -> Result<Zeroizing<String>, HolderError> {
        let token = match &self.source {
            // Not kept: the next call reads it again.
            TokenSource::Bearer(token) => return token.read("token"),
            TokenSource::Command(words) => Token::lasting(command::run(words).await?),
            TokenSource::ClientCredentials { client, secret } => {
                let secret = secret.read("client secret")?;
                oauth::token(http, call, client, Grant::Secret(&secret)).await?.into_token()
            }
            TokenSource::Federated { client, assertion } => {
                let assertion = assertion.read("token of the workload")?;
                oauth::token(http, call, client, Grant::Assertion(&assertion)).await?.into_token()
            }
            TokenSource::Login { client, file } => {
                login::token(http, call, client, file, refused).await?
            }
        };
        Ok(held.insert(token).text.clone())
    }
}

impl Token {
    /// One whose end is not known.
    pub(super) fn lasting(text: Zeroizing<String>) -> Self {
        Self { text, renew_at: None }
    }

    /// One that is good for this long, or for as long as it is accepted. The last
    /// tenth is left alone: a call has to arrive in time.
    pub(super) fn leased(text: Zeroizing<String>, lifetime: Option<Duration>) -> Self {
        let renew_at = lifetime.and_then(|span| Instant::now().checked_add(span / 10 * 9));
        Self { text, renew_at }
    }

    fn is_over(&self) -> bool {
        self.renew_at.is_some_and(|end| Instant::now() >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_with_an_end_is_renewed_before_it() {
        let token =
            |span| Token::leased(Zeroizing::new("t".to_owned()), Some(Duration::from_secs(span)));
        assert!(token(0).is_over());
        assert!(!token(3600).is_over() && !token(u64::MAX).is_over());
        assert!(token(100).renew_at.unwrap() < Instant::now() + Duration::from_secs(91));
        assert!(!Token::lasting(Zeroizing::new("t".to_owned())).is_over());
    }
}
