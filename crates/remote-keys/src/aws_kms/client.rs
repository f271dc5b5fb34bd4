//! From a key URI and options to a client of the SDK.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use twinlock_keys::{HolderError, HolderErrorKind, KeyUri, Scheme};

use super::Options;
use super::call::{Call, Operation};
use crate::plain_http::{self, is_private};

/// The profile that AWS's tools use when none is named.
const DEFAULT_PROFILE: &str = "default";

/// A client for the region of `uri`. Reads the environment and profiles;
/// credentials are resolved with the first call.
pub(super) async fn open(uri: &KeyUri, options: &Options) -> Result<Client, HolderError> {
    if uri.scheme() != Scheme::AwsKms {
        return Err(misconfigured(format!("{uri} does not name a key in AWS KMS")));
    }
    Call::new(Operation::LoadConfig, uri, options.deadline)
        .bounded(async {
            let region = region(uri, options).await?;
            let config = sdk_config(region, options).await;
            let config = aws_sdk_kms::config::Builder::from(&config).interceptor(NoPlainHttp);
            Ok(Client::from_conf(config.build()))
        })
        .await
}

async fn region(uri: &KeyUri, options: &Options) -> Result<Region, HolderError> {
    let given = region_of_arn(uri).or(options.region.as_deref());
    if let Some(name) = given {
        return Ok(Region::new(name.to_owned()));
    }
    let usual = loader(options).load().await;
    usual.region().cloned().ok_or_else(|| {
        misconfigured(format!(
            "{uri} does not say its region: set AWS_REGION or the profile's region, or write the \
             alias as aws-kms://arn:aws:kms:<region>:<account>:alias/<name>"
        ))
    })
}

/// `arn:<partition>:kms:<region>:…`
fn region_of_arn(uri: &KeyUri) -> Option<&str> {
    uri.key_name().strip_prefix("arn:")?.split(':').nth(2)
}

async fn sdk_config(region: Region, options: &Options) -> SdkConfig {
    let mut loader = loader(options)
        .region(region.clone())
        .retry_config(retries(options))
        .timeout_config(timeouts(options));
    if let Some(url) = &options.endpoint {
        loader = loader.endpoint_url(url);
    }
    if let Some(name) = named_profile(options) {
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&ProviderConfig::without_region().with_region(Some(region)))
            .profile_files(profile_files(options))
            .profile_name(name);
        loader = loader.credentials_provider(provider.build());
    }
    loader.load().await
}

fn loader(options: &Options) -> ConfigLoader {
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
    match named_profile(options) {
        Some(name) => loader.profile_files(profile_files(options)).profile_name(name),
        None => loader,
    }
}

fn named_profile(options: &Options) -> Option<&str> {
    let fallback = options.profile_file.is_some().then_some(DEFAULT_PROFILE);
    options.profile.as_deref().or(fallback)
}

fn profile_files(options: &Options) -> EnvConfigFiles {
    match &options.profile_file {
        Some(path) => EnvConfigFiles::builder().with_file(EnvConfigFileKind::Config, path).build(),
        None => EnvConfigFiles::default(),
    }
}

/// The waits between three attempts are at most three tenths of the deadline,
/// so that the last answer is heard rather than cut off.
fn retries(options: &Options) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(options.attempts)
        .with_initial_backoff(Duration::from_secs(1).min(options.deadline / 10))
}

fn timeouts(options: &Options) -> TimeoutConfig {
    let attempt = options.deadline / options.attempts.min(2);
    TimeoutConfig::builder()
        .connect_timeout(attempt.min(Duration::from_secs(3)))
        .operation_attempt_timeout(attempt)
        .operation_timeout(options.deadline)
        .build()
}

/// Refuses to send a share in the clear, wherever the endpoint came from.
#[derive(Debug)]
struct NoPlainHttp;

/// Why plain HTTP is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PlainHttp {
    ToAnotherMachine,
    /// To the proxy that this variable names.
    ToProxy(&'static str),
}

impl PlainHttp {
    /// What it is to send to `url` where `proxy` names a proxy for plain HTTP.
    fn check(url: &str, proxy: Option<&'static str>) -> Result<(), Self> {
        match proxy.filter(|_| !url.starts_with("https://")) {
            _ if !is_private(url) => Err(Self::ToAnotherMachine),
            Some(name) => Err(Self::ToProxy(name)),
            None => Ok(()),
        }
    }
}

impl Intercept for NoPlainHttp {
    fn name(&self) -> &'static str {
        "NoPlainHttp"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let proxy = plain_http::proxy(|name| std::env::var_os(name));
        Ok(PlainHttp::check(context.request().uri(), proxy)?)
    }
}

impl std::fmt::Display for PlainHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ToAnotherMachine => f.write_str("use an https:// endpoint"),
            Self::ToProxy(name) => write!(f, "unset {name}, which names a proxy"),
        }
    }
}

impl std::error::Error for PlainHttp {}

fn misconfigured(message: String) -> HolderError {
    HolderError::new(HolderErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_through_no_proxy() {
        let check = PlainHttp::check;
        let to_proxy = Err(PlainHttp::ToProxy("http_proxy"));
        assert_eq!(check("http://127.0.0.1:5000/", Some("http_proxy")), to_proxy);
        assert_eq!(check("https://kms.example/", Some("http_proxy")), Ok(()));
        assert_eq!(check("http://127.0.0.1:5000/", None), Ok(()));
        assert_eq!(check("http://kms.example/", None), Err(PlainHttp::ToAnotherMachine));
    }

    #[test]
    fn an_arn_says_its_region() {
        let region =
            |text: &str| region_of_arn(&KeyUri::parse(text).unwrap()).map(ToOwned::to_owned);
        let key = "aws-kms://arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-0a";
        assert_eq!(region(key).as_deref(), Some("cn-north-1"));
        let alias = "aws-kms://arn:aws:kms:eu-west-3:111122223333:alias/archive";
        assert_eq!(region(alias).as_deref(), Some("eu-west-3"));
        assert_eq!(region("aws-kms://alias/archive"), None);
    }
}
