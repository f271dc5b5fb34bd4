//! From a key URI and options to the server, and the requests.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, Url};
use serde::Serialize;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri, Scheme};
use zeroize::Zeroizing;

use super::auth::{Token, Tokens};
use super::body::Answer;
use super::call::{Call, Deadline, Operation};
use super::{Options, misconfigured, refusal};
use crate::https;

/// The longest answer that is read, in bytes: a key with some thousand versions
/// fits.
const MAX_ANSWER_LEN: usize = 256 * 1024;

/// The first wait before another attempt; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The server as the holder of one key sees it.
pub(super) struct Client {
    http: Http,
    tokens: Tokens,
    mount: String,
    name: String,
    deadline: Duration,
}

/// The connections.
pub(super) struct Http {
    client: reqwest::Client,
    /// Ends in `/v1/`.
    base: Url,
    attempts: u32,
}

impl Client {
    pub(super) fn open(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        let (authority, mount, name) = parts_of(uri)?;
        if options.auth.mount().is_some_and(|mount| !is_path(mount)) {
            return Err(misconfigured(
                "the mount of a login is letters, digits, '-', '_', '.' and '/'".to_owned(),
            ));
        }
        Ok(Self {
            http: Http::open(authority, options)?,
            tokens: Tokens::new(options.auth.clone()),
            mount: mount.to_owned(),
            name: name.to_owned(),
            deadline: options.deadline,
        })
    }

    /// The end of what begins now.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::within(self.deadline)
    }

    /// Makes sure that there is a token.
    pub(super) async fn log_in(&self, call: &Call<'_>) -> Result<(), HolderError> {
        call.bounded(self.tokens.token(&self.http, call)).await.map(drop)
    }

    pub(super) async fn get(&self, call: &Call<'_>) -> Result<Answer, HolderError> {
        call.run(self.authorized(call, Method::GET, None)).await
    }

    pub(super) async fn post(
        &self,
        call: &Call<'_>,
        request: &impl Serialize,
    ) -> Result<Answer, HolderError> {
        let body = json(request);
        call.run(self.authorized(call, Method::POST, Some(&body))).await
    }

    /// A token that is refused may have been revoked or used up before its
    /// time, so another one is tried, once, if there is one.
    async fn authorized(
        &self,
        call: &Call<'_>,
        method: Method,
        body: Option<&[u8]>,
    ) -> Result<Answer, HolderError> {
        let path = self.path(call.operation);
        let token = self.tokens.token(&self.http, call).await?;
        let send = |token| self.http.send(call, token, method.clone(), &path, body);
        match send(Some(token.clone())).await {
            Err(error) if error.kind() == HolderErrorKind::Denied => {
                match self.tokens.instead_of(&token, &self.http, call).await {
                    Some(newer) => send(Some(newer)).await,
                    None => Err(error),
                }
            }
            result => result,
        }
    }

    fn path(&self, operation: Operation) -> String {
        let what = match operation {
            Operation::Decrypt => "decrypt",
            Operation::Encrypt => "encrypt",
            Operation::CreateKey | Operation::LogIn | Operation::ReadKey => "keys",
        };
        format!("{}/{what}/{}", self.mount, self.name)
    }
}

impl Http {
    fn open(authority: &str, options: &Options) -> Result<Self, HolderError> {
        let base = base(authority, options)?;
        let mut builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .default_headers(headers(options)?)
            .connect_timeout(Duration::from_secs(3).min(options.deadline))
            .retry(reqwest::retry::never());
        if base.scheme() == "http" {
            builder = builder.no_proxy(); // which would see shares
        }
        if let Some(path) = ca_file(options)? {
            builder = builder.tls_certs_only(https::authorities(&path)?);
        }
        let client = builder
            .build()
            .map_err(|error| misconfigured(format!("cannot use TLS: {}", https::causes(&error))))?;
        Ok(Self { client, base, attempts: options.attempts })
    }

    pub(super) async fn post(
        &self,
        call: &Call<'_>,
        token: Option<Token>,
        path: &str,
        request: &impl Serialize,
    ) -> Result<Answer, HolderError> {
        self.send(call, token, Method::POST, path, Some(&json(request))).await
    }

    /// Sends a request, again and again while that can help and there is time.
    async fn send(
        &self,
        call: &Call<'_>,
        token: Option<Token>,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, HolderError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..self.attempts {
            let result = self.send_once(call, token.as_ref(), method.clone(), path, body).await;
            let Err(error) = &result else { return result };
            let HolderErrorKind::Unavailable { retry_after } = error.kind() else { return result };
            let longer = retry_after.unwrap_or(wait).max(wait);
            if !call.deadline.has_room_for(longer) {
                return result;
            }
            tokio::time::sleep(longer).await;
            wait *= 2;
        }
        self.send_once(call, token.as_ref(), method, path, body).await
    }

    async fn send_once(
        &self,
        call: &Call<'_>,
        token: Option<&Token>,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, HolderError> {
        let url = self.base.join(path).map_err(|_| misconfigured(format!("{path} is no path")))?;
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            token.note_use();
            request = request.header("x-vault-token", https::secret_header(&token.text)?);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_vec());
        }
        let response = request.send().await.map_err(|error| refusal::not_sent(call, &error))?;
        read(call, response).await
    }
}

/// The answer, if it is a good one.
async fn read(call: &Call<'_>, mut response: Response) -> Result<Answer, HolderError> {
    let status = response.status().as_u16();
    let retry_after = https::retry_after(response.headers());
    // As large as it may become, for what grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_LEN));
    while let Some(chunk) =
        response.chunk().await.map_err(|error| refusal::not_sent(call, &error))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_LEN {
            return Err(call.failed("the answer is longer than any of Vault's"));
        }
        body.extend_from_slice(&chunk);
    }
    let answer = Answer { status, body };
    match status {
        200 | 204 => Ok(answer),
        _ => Err(refusal::refused(call, &answer, retry_after)),
    }
}

/// A request's body, which may hold a share.
fn json(request: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(64 * 1024));
    serde_json::to_writer(&mut *body, request).expect("texts become JSON");
    body
}

/// Authority, mount and name of `<host[:port]>/<mount>/keys/<name>`, whose
/// characters the URI's parser has checked.
fn parts_of(uri: &KeyUri) -> Result<(&str, &str, &str), HolderError> {
    let parts = || {
        let (authority, path) = uri.key_name().split_once('/')?;
        let (mount, name) = path.rsplit_once("/keys/")?;
        Some((authority, mount, name))
    };
    match parts().filter(|_| uri.scheme() == Scheme::Vault) {
        Some(parts) => Ok(parts),
        None => Err(misconfigured(format!("{uri} does not name a key in Vault"))),
    }
}

fn base(authority: &str, options: &Options) -> Result<Url, HolderError> {
    let address = match &options.address {
        Some(address) => address.clone(),
        None => usual_address(authority)?,
    };
    let url = Url::parse(&address).ok().filter(is_plain);
    let mut url = url.ok_or_else(|| {
        misconfigured("Vault's address is http:// or https://, a host and maybe a port".to_owned())
    })?;
    if url.scheme() == "http" && !is_this_machine(&url) {
        return Err(misconfigured(format!(
            "refused to use {address}: a share could be read on its way; use https://"
        )));
    }
    url.set_path("/v1/");
    Ok(url)
}

/// What the URI says, unless the environment says that this very place speaks
/// plain HTTP.
fn usual_address(authority: &str) -> Result<String, HolderError> {
    let plain = format!("http://{authority}");
    let said = variable("ADDR")?.is_some_and(|said| said.trim_end_matches('/') == plain);
    Ok(if said { plain } else { format!("https://{authority}") })
}

/// True for a URL of nothing but scheme, host and port.
fn is_plain(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn headers(options: &Options) -> Result<HeaderMap, HolderError> {
    let mut headers = HeaderMap::new();
    // Agents can demand it, against requests that a browser was tricked into.
    headers.insert("x-vault-request", HeaderValue::from_static("true"));
    if let Some(namespace) = namespace(options)? {
        if !is_path(namespace.trim_end_matches('/')) {
            return Err(misconfigured(
                "a namespace is letters, digits, '-', '_', '.' and '/'".to_owned(),
            ));
        }
        let value = HeaderValue::from_str(&namespace).expect("these can be in a header");
        headers.insert(HeaderName::from_static("x-vault-namespace"), value);
    }
    Ok(headers)
}

fn namespace(options: &Options) -> Result<Option<String>, HolderError> {
    match &options.namespace {
        Some(name) => Ok(Some(name.clone())),
        None => variable("NAMESPACE"),
    }
}

fn ca_file(options: &Options) -> Result<Option<PathBuf>, HolderError> {
    match &options.ca_file {
        Some(path) => Ok(Some(path.clone())),
        None => Ok(variable("CACERT")?.map(PathBuf::from)),
    }
}

fn is_path(text: &str) -> bool {
    let part = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(fits)
    };
    text.len() <= 512 && text.split('/').all(part)
}

/// What is set for OpenBao or, if nothing is, for Vault.
pub(super) fn variable(name: &str) -> Result<Option<String>, HolderError> {
    for name in [format!("BAO_{name}"), format!("VAULT_{name}")] {
        match std::env::var_os(&name)
            .filter(|value| !value.is_empty())
            .map(|value| value.into_string())
        {
            None => {}
            Some(Ok(value)) => return Ok(Some(value)),
            Some(Err(_)) => return Err(misconfigured(format!("the variable {name} is not UTF-8"))),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_of(address: &str) -> Option<String> {
        base("vault.example:8200", &Options::new().address(address)).ok().map(|url| url.to_string())
    }

    #[test]
    fn an_address_is_scheme_host_and_port() {
        assert_eq!(base_of("https://other.example").as_deref(), Some("https://other.example/v1/"));
        assert_eq!(base_of("http://127.0.0.1:8100/").as_deref(), Some("http://127.0.0.1:8100/v1/"));
        let odd = [
            "",
            "vault.example",
            "ftp://localhost",
            "https://user@vault.example",
            "https://vault.example/v1",
            "https://vault.example?x",
            "https://vault.example#x",
        ];
        for address in odd {
            assert_eq!(base_of(address), None, "{address}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for private in ["http://localhost:1", "http://127.0.0.1", "http://[::1]:8200"] {
            assert!(base_of(private).is_some(), "{private}");
        }
        let public = [
            "http://vault.example",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1@evil.example",
        ];
        for public in public {
            assert_eq!(base_of(public), None, "{public}");
        }
    }

    #[test]
    fn a_mount_or_namespace_stays_in_its_place() {
        for good in ["approle", "team/blue", "a-b_c.d"] {
            assert!(is_path(good), "{good}");
        }
        for bad in ["", "/", "a//b", "../sys", "a/..", "a?b", "a b", "a\r\nb", "%2e%2e"] {
            assert!(!is_path(bad), "{bad}");
        }
    }
}
