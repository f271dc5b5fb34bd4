//! From a key URI and options to a client of the SDK.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use google_cloud_auth::credentials::Credentials;
use google_cloud_gax::client_builder::internal::with_follow_redirects;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_kms_v1::client::KeyManagementService;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri, Scheme};

use super::call::{Call, Failed, Operation};
use super::{Options, credentials, refusal};
use crate::plain_http::{self, is_private};

/// The domain of Google's public cloud.
pub(super) const PUBLIC_UNIVERSE: &str = "googleapis.com";

/// How old credentials have to be to be replaced because Google did not accept
/// them. The SDK keeps a task and a key for each until its token runs out.
const MIN_AGE: Duration = Duration::from_secs(30);

/// A client and its credentials, which the SDK renews in the background.
pub(super) struct Client {
    pub(super) kms: KeyManagementService,
    credentials: Credentials,
    quota_project: Option<String>,
    made: Instant,
}

/// The client in use. It is made anew when its credentials have failed for
/// good, which the SDK's own never recover from.
pub(super) struct Clients {
    current: Mutex<Option<Arc<Client>>>,
}

impl Client {
    /// Reads the credentials and the environment. No token is asked for yet.
    async fn open(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        if uri.scheme() != Scheme::GcpKms {
            return Err(misconfigured(format!("{uri} does not name a key in Google Cloud KMS")));
        }
        let universe = universe_domain(options);
        let credentials = credentials::of(options, &universe)?;
        let mut builder = KeyManagementService::builder()
            .with_credentials(credentials.clone())
            .with_universe_domain(&universe)
            .with_retry_policy(NeverRetry);
        if let Some(url) = &options.endpoint {
            refuse_plain_http(url, plain_http::proxy(|name| std::env::var_os(name)))?;
            builder = builder.with_endpoint(url);
        }
        // A redirect would carry the share to wherever it says, in the clear
        // if it says http. The setting is not of the SDK's public interface,
        // and there is no other.
        let kms = with_follow_redirects(builder, false).build().await.map_err(|error| {
            misconfigured(format!(
                "could not make a client for {uri}: {}. Check the endpoint, and the universe \
                 domain of the credentials",
                refusal::causes(&error)
            ))
        })?;
        let quota_project = options.quota_project.clone();
        Ok(Self { kms, credentials, quota_project, made: Instant::now() })
    }

    /// Makes sure that there is a token. The SDK would do so too, but its error
    /// would not tell who did not answer.
    pub(super) async fn sign_in(&self, call: &Call<'_>) -> Result<(), Failed> {
        match self.credentials.headers(Default::default()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(refusal::no_credentials(call, &error).into()),
        }
    }

    /// `request` with what the options say about every request.
    pub(super) fn prepared<R: RequestOptionsBuilder>(&self, request: R) -> R {
        match &self.quota_project {
            Some(project) => request.with_quota_project(project),
            None => request,
        }
    }
}

impl Clients {
    pub(super) async fn open(uri: &KeyUri, options: &Options) -> Result<Self, HolderError> {
        let client = Self::make(uri, options).await?;
        Ok(Self { current: Mutex::new(Some(client)) })
    }

    /// The current client, or a new one.
    pub(super) async fn client(
        &self,
        uri: &KeyUri,
        options: &Options,
    ) -> Result<Arc<Client>, HolderError> {
        let current = self.lock().clone();
        match current {
            Some(client) => Ok(client),
            None => {
                let client = Self::make(uri, options).await?;
                *self.lock() = Some(Arc::clone(&client));
                Ok(client)
            }
        }
    }

    /// Lets go of credentials that were not accepted.
    pub(super) fn forget_after(&self, error: &HolderError) {
        let mut current = self.lock();
        let age = current.as_ref().map(|client| client.made.elapsed());
        if age.is_some_and(|age| is_to_be_replaced(error, age)) {
            *current = None;
        }
    }

    async fn make(uri: &KeyUri, options: &Options) -> Result<Arc<Client>, HolderError> {
        Call::new(Operation::LoadConfig, uri, options)
            .bounded(async { Client::open(uri, options).await.map(Arc::new) })
            .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Client>>> {
        // Whoever panicked had either put a client there or not.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True if new credentials may do better than those which are `age` old: the
/// file may have changed, or the clock that a token was made by.
fn is_to_be_replaced(error: &HolderError, age: Duration) -> bool {
    let of_google = error.answer().map(|answer| answer.code.as_str());
    match error.kind() {
        HolderErrorKind::Denied | HolderErrorKind::Misconfigured if of_google.is_none() => true,
        HolderErrorKind::Denied => of_google == Some("UNAUTHENTICATED") && age >= MIN_AGE,
        _ => false,
    }
}

/// From the options and the environment, never from an answer: the metadata
/// server of a machine could otherwise send shares elsewhere.
fn universe_domain(options: &Options) -> String {
    let set = || std::env::var("GOOGLE_CLOUD_UNIVERSE_DOMAIN").ok();
    options.universe_domain.clone().or_else(set).unwrap_or_else(|| PUBLIC_UNIVERSE.to_owned())
}

/// `proxy` is the variable that names a proxy for plain HTTP, which the SDK
/// would send shares to, on whatever machine it is.
fn refuse_plain_http(url: &str, proxy: Option<&str>) -> Result<(), HolderError> {
    if !is_private(url) {
        return Err(misconfigured(
            "refused an endpoint that is not an https:// URL: over plain HTTP a share can be read",
        ));
    }
    match proxy.filter(|_| !url.starts_with("https://")) {
        None => Ok(()),
        Some(name) => Err(misconfigured(format!(
            "refused an http:// endpoint while {name} names a proxy, which would read shares: \
             unset {name}"
        ))),
    }
}

pub(super) fn misconfigured(message: impl Into<String>) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use twinlock_keys::HolderAnswer;

    use super::*;

    #[test]
    fn plain_http_goes_through_no_proxy() {
        let error = refuse_plain_http("http://127.0.0.1:5000", Some("all_proxy")).unwrap_err();
        assert_eq!(error.kind(), HolderErrorKind::Misconfigured);
        assert!(error.to_string().contains("unset all_proxy"), "{error}");
        assert!(refuse_plain_http("https://127.0.0.1:5000", Some("all_proxy")).is_ok());
        assert!(refuse_plain_http("http://127.0.0.1:5000", None).is_ok());
    }

    #[test]
    fn credentials_are_replaced_when_they_are_to_blame() {
        let error = |kind, code: Option<&str>| {
            let error = HolderError::new(kind, "");
            match code {
                Some(code) => error.with_answer(HolderAnswer::code(code)),
                None => error,
            }
        };
        let (young, old) = (Duration::ZERO, MIN_AGE);
        let denied = HolderErrorKind::Denied;
        assert!(is_to_be_replaced(&error(denied, None), young));
        assert!(is_to_be_replaced(&error(denied, Some("UNAUTHENTICATED")), old));
        assert!(!is_to_be_replaced(&error(denied, Some("UNAUTHENTICATED")), young));
        assert!(!is_to_be_replaced(&error(denied, Some("PERMISSION_DENIED")), old));
        assert!(!is_to_be_replaced(&error(HolderErrorKind::TimedOut, None), old));
    }
}
