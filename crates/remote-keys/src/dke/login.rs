//! A person's login by the device flow (RFC 8628), and the file that keeps it.

mod kept;

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Deserialize;
use twinlock_keys::{HolderError, HolderErrorKind};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::call::{Call, Deadline};
use super::client::{Ask, Http};
use super::oauth::{self, Endpoints, Form, Grant, Granted, NotGranted, OauthClient};
use super::token::Token;
use super::{Options, misconfigured};
use crate::network::printable;

pub use kept::forget_login;

use kept::{Kept, Lock};

/// RFC 8628 section 3.2: between two questions, unless the issuer says otherwise.
const USUAL_INTERVAL: Duration = Duration::from_secs(5);

/// RFC 8628 section 3.5: how much longer after a `slow_down`.
const SLOWER: Duration = Duration::from_secs(5);

/// Between two questions at most, whatever the issuer says: who has confirmed the
/// login does not wait longer than that.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// The longest that a person gets, whatever the issuer says.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// A login that waits for a person.
pub struct PendingLogin {
    http: Http,
    client: OauthClient,
    endpoints: Endpoints,
    code: DeviceCode,
    span: Duration,
    started: Instant,
}

/// RFC 8628 section 3.2
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct DeviceCode {
    device_code: String,
    user_code: String,
    #[serde(alias = "verification_url")]
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// Begins a login with the issuer of `client`, which shows to whoever reads
/// [`PendingLogin::user_code`] what is being asked for. Of `options`, the
/// certificates and the time for each call count.
///
/// # Errors
/// When the issuer refuses, fails or knows no device flow.
pub async fn start_login(
    client: &OauthClient,
    options: &Options,
) -> Result<PendingLogin, HolderError> {
    let http = Http::open(options)?;
    let call = Call::to_issuer(&client.issuer, Deadline::within(options.deadline));
    let endpoints = oauth::discover(&http, &call, client).await?;
    let Some(url) = endpoints.device.clone() else {
        return Err(misconfigured(format!(
            "{client} has no device flow to log in by: name a token by token_file or \
             token_command in the profile's [dke]"
        )));
    };
    let mut form = Form::new();
    form.add("client_id", &client.client_id);
    form.add_what_for(client);
    let body = Some(("application/x-www-form-urlencoded", form.text().as_bytes()));
    let ask = Ask { method: Method::POST, url, authorization: None, body };
    let answer = call.run(http.send(&call, &ask)).await?;
    if answer.status != 200 {
        return Err(oauth::refused(&call, &answer).into());
    }
    let code = serde_json::from_slice::<DeviceCode>(&answer.body).ok();
    let code = code
        .filter(|code| oauth::private_url(&code.verification_uri).is_some())
        .ok_or_else(|| call.not_the_service().with_answer(answer.evidence()))?;
    let (client, span) = (client.clone(), options.deadline);
    Ok(PendingLogin { http, client, endpoints, code, span, started: Instant::now() })
}

impl PendingLogin {
    /// What the person types there.
    #[must_use]
    pub fn user_code(&self) -> String {
        printable(&self.code.user_code)
    }

    /// Where the person goes.
    #[must_use]
    pub fn verification_uri(&self) -> String {
        printable(&self.code.verification_uri)
    }

    /// The same with the code in it, if the issuer has that.
    #[must_use]
    pub fn verification_uri_complete(&self) -> Option<String> {
        let url = self.code.verification_uri_complete.as_deref()?;
        oauth::private_url(url).map(|_| printable(url))
    }

    /// Waits until the person has confirmed it, and keeps the login in `file`,
    /// which only its owner can read.
    ///
    /// # Errors
    /// When the person says no or does nothing until the code is over, and when
    /// the file cannot be written.
    pub async fn finish(self, file: &Path) -> Result<(), HolderError> {
        let granted = self.granted().await?;
        let lock = Lock::take(file, Deadline::within(self.span)).await?;
        Kept::new(&self.client, &granted).write(file)?;
        drop(lock);
        Ok(())
    }

    async fn granted(&self) -> Result<Granted, HolderError> {
        let end = Duration::from_secs(self.code.expires_in).min(MAX_WAIT);
        let mut interval = first_interval(self.code.interval);
        while self.started.elapsed() + interval < end {
            tokio::time::sleep(interval).await;
            match self.ask().await {
                Ok(granted) => return Ok(granted),
                Err(NotGranted::Code(code, _)) if code == "authorization_pending" => {}
                Err(NotGranted::Code(code, _)) if code == "slow_down" => {
                    interval = (interval + SLOWER).min(LONGEST_INTERVAL);
                }
                Err(NotGranted::Code(code, _)) if code == "access_denied" => {
                    return Err(denied(format!("the login with {} was declined", self.client)));
                }
                // RFC 8628 section 3.5: a connection that breaks is no answer.
                Err(NotGranted::Other(error)) if error.kind().is_retryable() => {
                    interval = (interval * 2).min(LONGEST_INTERVAL);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let issuer = &self.client;
        Err(denied(format!("nobody confirmed the login with {issuer} in time: start it again")))
    }

    async fn ask(&self) -> Result<Granted, NotGranted> {
        let call = Call::to_issuer(&self.client.issuer, Deadline::within(self.span));
        let grant = Grant::Device(&self.code.device_code);
        oauth::grant_of(&self.http, &call, &self.client, &self.endpoints, grant).await
    }
}

/// What the issuer says, in seconds, if it makes sense.
fn first_interval(said: Option<u64>) -> Duration {
    let said = said.map_or(USUAL_INTERVAL, Duration::from_secs);
    said.clamp(Duration::from_secs(1), LONGEST_INTERVAL)
}

/// The token of the login that `file` keeps, renewed if it is over or if it is
/// `refused`. Several processes renew it one after the other: some issuers take a
/// refresh token once only.
pub(super) async fn token(
    http: &Http,
    call: &Call<'_>,
    client: &OauthClient,
    file: &Path,
    refused: Option<&str>,
) -> Result<Token, HolderError> {
    let kept = Kept::read(file, client)?;
    if let Some(token) = kept.token(refused) {
        return Ok(token);
    }
    let lock = Lock::take(file, call.deadline).await?;
    // Another process may have renewed it meanwhile, or logged out.
    let kept = Kept::read(file, client)?;
    if let Some(token) = kept.token(refused) {
        return Ok(token);
    }
    let Some(refresh_token) = kept.refresh_token() else { return Err(over(client)) };
    let granted = match oauth::token(http, call, client, Grant::Refresh(refresh_token)).await {
        Err(error) if error.kind() == HolderErrorKind::Denied => return Err(over(client)),
        result => result?,
    };
    kept.renewed(&granted).write(file)?;
    drop(lock);
    Ok(granted.into_token())
}

fn over(client: &OauthClient) -> HolderError {
    denied(format!("the login with {client} is over: log in again with `twinlock login`"))
}

fn denied(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Denied, message)
}

/// Wiped, as all that is only passed on.
fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_issuers_where_that_makes_sense() {
        for (said, seconds) in [
            (None, 5),
            (Some(0), 1),
            (Some(1), 1),
            (Some(30), 30),
            (Some(61), 60),
            (Some(u64::MAX), 60),
        ] {
            assert_eq!(first_interval(said), Duration::from_secs(seconds), "{said:?}");
        }
    }
}
