//! The way to the network: all that the SDK sends and gets passes here.
//!
//! Left alone, the SDK's first request to a vault goes out without a token, and
//! the vault's challenge says what token to get. Here that challenge is made on
//! this machine, from the vault's host, and the challenges of the network are
//! taken away: nothing that a server says chooses where our credential goes.

use std::fmt;
use std::future::poll_fn;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::headers::{AUTHORIZATION, Headers, WWW_AUTHENTICATE};
use azure_core::http::{
    AsyncRawResponse, AsyncResponseBody, HttpClient, Request, StatusCode, Transport, Url,
};
use azure_core::{Bytes, Error};
use futures_core::Stream as _;
use twinlock_keys::HolderError;

use super::{Options, misconfigured, refusal};

/// The longest answer that is read, in bytes. A key with all its parts is
/// below 8 KiB.
const MAX_ANSWER_LEN: usize = 64 * 1024;

/// Connections to the vault and to whoever gives tokens.
pub(super) struct Wires {
    https: reqwest::Client,
    /// Without a proxy, and with plain HTTP.
    direct: reqwest::Client,
}

impl Wires {
    pub(super) fn new(options: &Options) -> Result<Self, HolderError> {
        Ok(Self {
            https: client(options)?.https_only(true).build().map_err(no_tls)?,
            direct: client(options)?.no_proxy().build().map_err(no_tls)?,
        })
    }

    pub(super) fn to_vault(&self, scope: &str, endpoint: Option<Url>) -> Transport {
        let challenge = Some(format!("Bearer scope=\"{scope}\""));
        wire(Wire { client: self.https.clone(), endpoint, challenge })
    }

    pub(super) fn to_entra(&self) -> Transport {
        wire(Wire { client: self.https.clone(), endpoint: None, challenge: None })
    }

    /// To the address that gives managed identities their tokens, which is
    /// plain HTTP by design and inside the machine or its host.
    pub(super) fn to_this_machine(&self) -> Transport {
        wire(Wire { client: self.direct.clone(), endpoint: None, challenge: None })
    }
}

fn wire(wire: Wire) -> Transport {
    Transport::new(Arc::new(wire))
}

fn client(options: &Options) -> Result<reqwest::ClientBuilder, HolderError> {
    let builder = reqwest::Client::builder()
        .connect_timeout((options.deadline / 2).min(Duration::from_secs(3)))
        .redirect(reqwest::redirect::Policy::none());
    match &options.ca_file {
        Some(path) => Ok(builder.tls_certs_merge(certificates(path)?)),
        None => Ok(builder),
    }
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, HolderError> {
    let bad = |problem: &str| {
        misconfigured(format!("cannot use the certificates in {}: {problem}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| bad(&error.to_string()))?;
    match reqwest::Certificate::from_pem_bundle(&pem) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(bad("it has no certificate in PEM")),
    }
}

fn no_tls(error: reqwest::Error) -> HolderError {
    misconfigured(format!("cannot set up TLS: {}", refusal::causes(&error)))
}

#[derive(Debug)]
struct Wire {
    client: reqwest::Client,
    /// Where requests really go.
    endpoint: Option<Url>,
    /// What a request without a token is answered with, on this machine. `None`
    /// for those who give tokens.
    challenge: Option<String>,
}

impl HttpClient for Wire {
    fn execute_request<'a, 'b, 'c>(
        &'a self,
        request: &'b Request,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AsyncRawResponse>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(self.execute(request))
    }
}

impl Wire {
    async fn execute(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let has_token = request.headers().get_optional_str(&AUTHORIZATION).is_some();
        match &self.challenge {
            Some(challenge) if !has_token => Ok(challenged(challenge)),
            _ => self.send(request).await,
        }
    }

    async fn send(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let answer = match &self.endpoint {
            Some(endpoint) => self.client.execute_request(&at(endpoint, request)).await?,
            None => self.client.execute_request(request).await?,
        };
        let (status, mut headers, body) = answer.deconstruct();
        headers.remove(WWW_AUTHENTICATE);
        let gives_tokens = self.challenge.is_none();
        if gives_tokens && (status.is_server_error() || status == StatusCode::TooManyRequests) {
            let busy = Busy { status, retry_after: refusal::retry_after(&headers) };
            return Err(Error::new(ErrorKind::Io, busy));
        }
        Ok(AsyncRawResponse::from_bytes(status, headers, collected(body).await?))
    }
}

fn challenged(challenge: &str) -> AsyncRawResponse {
    let mut headers = Headers::new();
    headers.insert(WWW_AUTHENTICATE, challenge.to_owned());
    AsyncRawResponse::from_bytes(StatusCode::Unauthorized, headers, Bytes::new())
}

fn at(endpoint: &Url, request: &Request) -> Request {
    let mut request = request.clone();
    let mut url = endpoint.clone();
    url.set_path(request.url().path());
    url.set_query(request.url().query());
    *request.url_mut() = url;
    request
}

async fn collected(body: AsyncResponseBody) -> azure_core::Result<Vec<u8>> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(piece) = poll_fn(|context| body.as_mut().poll_next(context)).await {
        let piece = piece?;
        if bytes.len() + piece.len() > MAX_ANSWER_LEN {
            return Err(Error::with_message(ErrorKind::DataConversion, "the answer is too long"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Whoever gives tokens fails or throttles.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", u16::from(self.status))
    }
}

impl std::error::Error for Busy {}
