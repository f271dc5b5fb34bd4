//! From a key URI and options to the service, and the requests.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response, Url};
use twinlock_keys::{HolderAnswer, HolderError, KeyUri, Scheme};
use zeroize::Zeroizing;

use super::call::{Call, Deadline};
use super::token::Tokens;
use super::{Options, misconfigured, refusal};
use crate::https;
use crate::network::printable;

/// The longest answer that is read, in bytes. A key of 8192 bits and a token with
/// many groups are below 16 KiB.
const MAX_ANSWER_LEN: usize = 64 * 1024;

/// The first wait before another attempt; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Headers that services give a request's number in.
const REQUEST_IDS: [&str; 2] = ["x-request-id", "x-ms-request-id"];

/// The service as the holder of one key sees it.
pub(super) struct Service {
    http: Http,
    tokens: Tokens,
    /// `https://<host[:port]>/[prefix/]<name>`
    key: Url,
    deadline: Duration,
}

/// The connections.
pub(super) struct Http {
    client: reqwest::Client,
    /// For issuers on this machine, without TLS and without a proxy.
    plain: reqwest::Client,
    attempts: u32,
}

/// A request, which can be sent more than once.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// `Authorization`
    pub(super) authorization: Option<Zeroizing<String>>,
    /// Its type and bytes.
    pub(super) body: Option<(&'static str, &'a [u8])>,
}

/// An answer with any status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) request_id: Option<String>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Service {
    pub(super) fn open(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        if uri.scheme() != Scheme::Dke {
            return Err(misconfigured(format!("{uri} does not name a key of a DKE service")));
        }
        // Its characters were checked by the URI's parser.
        let key = Url::parse(&format!("https://{}", uri.key_name()))
            .map_err(|_| misconfigured(format!("{uri} names no host")))?;
        Ok(Self {
            http: Http::open(options)?,
            tokens: Tokens::new(options.token.clone()),
            key,
            deadline: options.deadline,
        })
    }

    /// The end of what begins now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::within(self.deadline)
    }

    pub(super) async fn read_key(&self, call: &Call<'_>) -> Result<Answer, HolderError> {
        self.http.send(call, &Ask::get(self.key.clone())).await
    }

    /// A token that is refused may be over, so another one is tried, once, if its
    /// source has one.
    pub(super) async fn decrypt(
        &self,
        call: &Call<'_>,
        version: &str,
        body: &[u8],
    ) -> Result<Answer, HolderError> {
        let mut url = self.key.clone();
        url.set_path(&format!("{}/{version}/decrypt", self.key.path()));
        let ask = |token: &str| Ask {
            method: Method::POST,
            url: url.clone(),
            authorization: Some(Zeroizing::new(format!("Bearer {token}"))),
            body: Some(("application/json", body)),
        };
        let token = self.tokens.token(&self.http, call).await?;
        let answer = self.http.send(call, &ask(&token)).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        match self.tokens.instead_of(&token, &self.http, call).await? {
            Some(newer) => self.http.send(call, &ask(&newer)).await,
            None => Ok(answer),
        }
    }
}

impl Http {
    pub(super) fn open(options: &Options) -> Result<Self, HolderError> {
        let builder = || {
            reqwest::Client::builder()
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(Duration::from_secs(3).min(options.deadline))
                .retry(reqwest::retry::never())
        };
        let mut client = builder().https_only(true);
        if let Some(path) = &options.ca_file {
            client = client.tls_certs_only(https::authorities(path)?);
        }
        let no_tls = |error| misconfigured(format!("cannot use TLS: {}", https::causes(&error)));
        Ok(Self {
            client: client.build().map_err(no_tls)?,
            plain: builder().no_proxy().build().map_err(no_tls)?,
            attempts: options.attempts,
        })
    }

    /// Sends a request, again and again while that can help and there is time.
    pub(super) async fn send(&self, call: &Call<'_>, ask: &Ask<'_>) -> Result<Answer, HolderError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..self.attempts {
            let result = self.send_once(call, ask).await;
            let retry_after = match &result {
                Ok(answer) if refusal::is_busy(answer.status) => answer.retry_after,
                Err(error) if error.kind().is_retryable() => None,
                _ => return result,
            };
            let longer = retry_after.unwrap_or(wait).max(wait);
            if !call.deadline.has_room_for(longer) {
                return result;
            }
            tokio::time::sleep(longer).await;
            wait *= 2;
        }
        self.send_once(call, ask).await
    }

    async fn send_once(&self, call: &Call<'_>, ask: &Ask<'_>) -> Result<Answer, HolderError> {
        let client = match ask.url.scheme() {
            "https" => &self.client,
            _ => &self.plain, // its address was seen to be this machine
        };
        let request = ask.fill(client.request(ask.method.clone(), ask.url.clone()))?;
        let response = request.send().await.map_err(|error| refusal::not_sent(call, &error))?;
        read(call, response).await
    }
}

impl Ask<'_> {
    pub(super) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, authorization: None, body: None }
    }

    fn fill(&self, mut request: RequestBuilder) -> Result<RequestBuilder, HolderError> {
        request = request.header("accept", "application/json");
        if let Some(text) = &self.authorization {
            request = request.header("authorization", https::secret_header(text)?);
        }
        if let Some((kind, body)) = self.body {
            request = request.header("content-type", kind).body(body.to_vec());
        }
        Ok(request)
    }
}

impl Answer {
    /// The service's own words, which are few.
    pub(super) fn evidence(&self) -> HolderAnswer {
        HolderAnswer { code: self.status.to_string(), request_id: self.request_id.clone() }
    }
}

async fn read(call: &Call<'_>, mut response: Response) -> Result<Answer, HolderError> {
    let status = response.status().as_u16();
    let retry_after = https::retry_after(response.headers());
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(printable);
    let request_id = REQUEST_IDS.into_iter().find_map(header);
    // As large as it may become, for what grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_LEN));
    while let Some(chunk) =
        response.chunk().await.map_err(|error| refusal::not_sent(call, &error))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_LEN {
            return Err(call.not_the_service());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, retry_after, request_id, body })
}
