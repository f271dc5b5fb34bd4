//! Tokens from an issuer of OpenID Connect: discovery, and the requests to its
//! token endpoint.
//!
//! The issuer is the profile's. Where its endpoints are, the issuer itself says
//! (OpenID Connect Discovery 1.0 section 4), over TLS; nobody else is asked.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Method, Url};
use serde::{Deserialize, Deserializer};
use twinlock_keys::{HolderError, HolderErrorKind};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::call::Call;
use super::client::{Answer, Ask, Http};
use super::token::Token;
use super::{misconfigured, refusal};
use crate::credential;

const FORM: &str = "application/x-www-form-urlencoded";

/// The longest error code of OAuth that gets into an error of ours.
const MAX_CODE_LEN: usize = 64;

/// The issuer of tokens, and as which program to ask it for which.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OauthClient {
    /// The issuer's `https://` URL, exactly as its tokens have it.
    pub issuer: String,
    /// The program's registration there.
    pub client_id: String,
    /// What tokens are to be good for, with spaces between several. For a login
    /// that outlasts its first token, most issuers want `offline_access` too.
    pub scope: Option<String>,
    /// For which service tokens are to be, where the scope does not say it (RFC
    /// 8707).
    pub resource: Option<String>,
}

impl OauthClient {
    /// The program `client_id` at `issuer`.
    #[must_use]
    pub fn new(issuer: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), client_id: client_id.into(), scope: None, resource: None }
    }

    /// The same, asking for this scope.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The same, asking for tokens for this service.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }
}

/// What entitles us to a token.
#[derive(Clone, Copy)]
pub(super) enum Grant<'a> {
    /// A person has confirmed this device code.
    Device(&'a str),
    /// The program's secret.
    Secret(&'a str),
    /// A token of another issuer.
    Assertion(&'a str),
    /// What an earlier login gave.
    Refresh(&'a str),
}

/// What an issuer says about itself.
#[derive(Clone)]
pub(super) struct Endpoints {
    token: Url,
    pub(super) device: Option<Url>,
    /// The secret goes into the form, and not into a header.
    secret_in_form: bool,
}

/// What a token endpoint gives.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Granted {
    pub(super) access_token: String,
    /// In seconds.
    #[serde(default, deserialize_with = "number_or_text")]
    pub(super) expires_in: Option<u64>,
    pub(super) refresh_token: Option<String>,
    token_type: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// RFC 6749 section 5.2
#[derive(Deserialize)]
struct OauthError {
    error: String,
}

/// Why there is no token.
pub(super) enum NotGranted {
    /// The issuer's code, for instance `authorization_pending`.
    Code(String, HolderError),
    Other(HolderError),
}

/// A token of the issuer, asked for anew.
pub(super) async fn token(
    http: &Http,
    call: &Call<'_>,
    client: &OauthClient,
    grant: Grant<'_>,
) -> Result<Granted, HolderError> {
    let call = Call::to_issuer(&client.issuer, call.deadline);
    let endpoints = discover(http, &call, client).await?;
    grant_of(http, &call, client, &endpoints, grant).await.map_err(HolderError::from)
}

/// Where the issuer's endpoints are.
pub(super) async fn discover(
    http: &Http,
    call: &Call<'_>,
    client: &OauthClient,
) -> Result<Endpoints, HolderError> {
    let issuer = client.issuer.trim_end_matches('/');
    let url = private_url(&format!("{issuer}/.well-known/openid-configuration"));
    let url = url.filter(|_| !issuer.contains(['?', '#', '@'])).ok_or_else(|| {
        misconfigured("the issuer of tokens is an https:// URL without a query: see `issuer`")
    })?;
    let answer = call.run(http.send(call, &Ask::get(url))).await?;
    let metadata = match answer.status {
        200 => serde_json::from_slice::<Metadata>(&answer.body).ok(),
        status if refusal::is_busy(status) => return Err(refusal::refused(call, &answer)),
        _ => None,
    };
    // OpenID Connect Discovery 1.0 section 4.3: it MUST be the one asked for. A
    // slash at its end is a matter of taste.
    metadata
        .filter(|metadata| metadata.issuer.trim_end_matches('/') == issuer)
        .and_then(Endpoints::of)
        .ok_or_else(|| call.not_the_service().with_answer(answer.evidence()))
}

/// Asks the token endpoint, once.
pub(super) async fn grant_of(
    http: &Http,
    call: &Call<'_>,
    client: &OauthClient,
    endpoints: &Endpoints,
    grant: Grant<'_>,
) -> Result<Granted, NotGranted> {
    let mut form = Form::new();
    let mut authorization = None;
    match grant {
        Grant::Device(code) => {
            form.add("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
            form.add("device_code", code);
            // RFC 8707 section 2.2: without it, some issuers give a token that is for
            // themselves. The scope is the one that the person has seen.
            form.add_resource(client);
        }
        Grant::Secret(secret) => {
            form.add("grant_type", "client_credentials");
            match endpoints.secret_in_form {
                true => form.add("client_secret", secret),
                false => authorization = Some(basic(&client.client_id, secret)),
            }
        }
        Grant::Assertion(token) => {
            form.add("grant_type", "client_credentials");
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            form.add("client_assertion_type", kind);
            form.add("client_assertion", token);
        }
        Grant::Refresh(token) => {
            form.add("grant_type", "refresh_token");
            form.add("refresh_token", token);
        }
    }
    if authorization.is_none() {
        form.add("client_id", &client.client_id);
    }
    if !matches!(grant, Grant::Device(_)) {
        form.add_what_for(client);
    }
    let ask = Ask {
        method: Method::POST,
        url: endpoints.token.clone(),
        authorization,
        body: Some((FORM, form.text().as_bytes())),
    };
    let answer = call.run(http.send(call, &ask)).await?;
    read(call, &answer)
}

fn read(call: &Call<'_>, answer: &Answer) -> Result<Granted, NotGranted> {
    let is_bearer = |granted: &Granted| {
        let kind = granted.token_type.as_deref().unwrap_or("Bearer");
        kind.eq_ignore_ascii_case("bearer") && credential::check(&granted.access_token).is_some()
    };
    match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .ok()
            .filter(is_bearer)
            .ok_or_else(|| call.not_the_service().with_answer(answer.evidence()).into()),
        400..=403 => Err(refused(call, answer)),
        _ => Err(refusal::refused(call, answer).into()),
    }
}

/// RFC 6749 section 5.2. Its description is not shown: it may repeat what we sent.
pub(super) fn refused(call: &Call<'_>, answer: &Answer) -> NotGranted {
    let Ok(OauthError { error: code }) = serde_json::from_slice(&answer.body) else {
        return call.not_the_service().with_answer(answer.evidence()).into();
    };
    let is_code = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if code.len() > MAX_CODE_LEN || !code.bytes().all(is_code) {
        return call.not_the_service().with_answer(answer.evidence()).into();
    }
    let (kind, advice) = match code.as_str() {
        "invalid_scope" | "invalid_target" | "invalid_request" | "unsupported_grant_type" => (
            HolderErrorKind::Misconfigured,
            "check client_id, scope and resource in the profile's [dke], and what the client is \
             registered for",
        ),
        "temporarily_unavailable" => {
            let retry_after = answer.retry_after;
            (HolderErrorKind::Unavailable { retry_after }, "try again later")
        }
        _ => (
            HolderErrorKind::Denied,
            "check client_id and what proves it, or log in again (`twinlock login`)",
        ),
    };
    let message = format!("{} gives no token ({code}): {advice}", call.subject);
    let error = HolderError::new(kind, message).with_answer(answer.evidence());
    NotGranted::Code(code, error)
}

impl Endpoints {
    fn of(metadata: Metadata) -> Option<Self> {
        let device = match metadata.device_authorization_endpoint {
            Some(url) => Some(private_url(&url)?),
            None => None,
        };
        // OpenID Connect Discovery 1.0 section 3: without a list, it is the header.
        let methods = metadata.token_endpoint_auth_methods_supported.unwrap_or_default();
        let secret_in_form = methods.iter().any(|method| method == "client_secret_post");
        Some(Self { token: private_url(&metadata.token_endpoint)?, device, secret_in_form })
    }
}

impl Granted {
    pub(super) fn into_token(self) -> Token {
        let lifetime = self.expires_in.map(Duration::from_secs);
        Token::leased(Zeroizing::new(self.access_token.clone()), lifetime)
    }
}

impl From<HolderError> for NotGranted {
    fn from(error: HolderError) -> Self {
        Self::Other(error)
    }
}

impl From<NotGranted> for HolderError {
    fn from(not: NotGranted) -> Self {
        match not {
            NotGranted::Code(_, error) | NotGranted::Other(error) => error,
        }
    }
}

/// An `https://` URL, or an `http://` one that does not leave this machine.
pub(super) fn private_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    let is_here =
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let is_private = url.scheme() == "https" || (url.scheme() == "http" && is_here);
    let has_user = !url.username().is_empty() || url.password().is_some();
    (is_private && !has_user && url.fragment().is_none()).then_some(url)
}

/// Some issuers write seconds as a text.
fn number_or_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Text(String),
    }
    Ok(match Option::<Seconds>::deserialize(from)? {
        Some(Seconds::Number(number)) => Some(number),
        Some(Seconds::Text(text)) => text.parse().ok(),
        None => None,
    })
}

/// RFC 6749 section 2.3.1: both are encoded as in a form first.
fn basic(id: &str, secret: &str) -> Zeroizing<String> {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    encode(id, &mut pair);
    pair.push(':');
    encode(secret, &mut pair);
    Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())))
}

/// The body of a request, which may hold secrets.
pub(super) struct Form(Zeroizing<String>);

impl Form {
    pub(super) fn new() -> Self {
        // As large as it may become, for what grows leaves copies behind.
        Self(Zeroizing::new(String::with_capacity(4 * credential::MAX_CREDENTIAL_LEN)))
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        encode(value, &mut self.0);
    }

    /// What the token is to be good for.
    pub(super) fn add_what_for(&mut self, client: &OauthClient) {
        client.scope.iter().for_each(|scope| self.add("scope", scope));
        self.add_resource(client);
    }

    fn add_resource(&mut self, client: &OauthClient) {
        client.resource.iter().for_each(|resource| self.add("resource", resource));
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

fn encode(text: &str, out: &mut String) {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

/// For messages: which issuer.
impl fmt::Display for OauthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.issuer)
    }
}

#[cfg(test)]
mod tests;
