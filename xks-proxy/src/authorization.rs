//! Who may do what, beyond what AWS decided: a policy in Rego for a key store.
//!
//! Off unless configured, never asked for health (specification:
//! "GetHealthStatus"), and "no" unless it says yes.

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use twinlock_service::policy::{Decision, Policy};

use crate::config::PolicySettings;
use crate::wire::RequestMetadata;

/// The package that a policy's `allow` is in.
pub const PACKAGE: &str = "twinlock.xks";

/// A key store's policy.
pub struct Authorization {
    policy: Policy,
    dry_run: bool,
}

/// What a policy sees as `input`.
#[derive(Clone, Debug, Serialize)]
pub struct Input<'a> {
    /// `GetKeyMetadata`, `Encrypt` or `Decrypt`.
    pub operation: &'static str,
    /// The path of the key store.
    pub key_store: &'a str,
    /// The external key's name.
    pub key: &'a str,
    /// Seconds since 1970.
    pub time: u64,
    /// What KMS says of whoever asked it.
    #[serde(flatten)]
    pub request: Request<'a>,
}

/// What KMS says of a request. What it does not say is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct Request<'a> {
    /// An ARN, a service principal or `AWS Internal`.
    pub principal: Option<&'a str>,
    /// What KMS was asked for.
    pub kms_operation: &'a str,
    /// The KMS key.
    pub kms_key_arn: Option<&'a str>,
    /// The VPC that the request came from.
    pub source_vpc: Option<&'a str>,
    /// The VPC endpoint that it came through.
    pub source_vpce: Option<&'a str>,
    /// The service of AWS that it came through.
    pub via_service: Option<&'a str>,
}

/// What came of asking, and which rule said so.
pub(crate) enum Verdict {
    Allowed,
    Denied(Option<String>),
    /// It could not decide, which is no verdict on the request.
    Failed(String),
    /// A policy that is tried out would have denied it.
    WouldBeDenied(Option<String>),
}

impl Authorization {
    /// Reads the policy.
    ///
    /// # Errors
    /// When it cannot be read or is no Rego.
    pub fn load(settings: &PolicySettings) -> Result<Self, Unreadable> {
        Ok(Self { policy: load(&settings.file)?, dry_run: settings.dry_run })
    }

    pub(crate) fn ask(&self, input: &Input<'_>) -> Verdict {
        let Decision { allow, rule, error } = self.policy.decide(input);
        if let Some(error) = error.filter(|_| !self.dry_run) {
            return Verdict::Failed(error);
        }
        match (allow, self.dry_run) {
            (true, _) => Verdict::Allowed,
            (false, true) => Verdict::WouldBeDenied(rule),
            (false, false) => Verdict::Denied(rule),
        }
    }
}

/// Reads the policy of that file.
///
/// # Errors
/// When it cannot be read or is no Rego.
pub fn load(file: &Path) -> Result<Policy, Unreadable> {
    Policy::read(file, PACKAGE).map_err(|error| Unreadable(error.to_string()))
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl<'a> Input<'a> {
    pub(crate) fn new(
        operation: &'static str,
        key_store: &'a str,
        key: &'a str,
        metadata: &'a RequestMetadata<'_>,
    ) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let request = Request {
            principal: metadata.aws_principal_arn.as_deref(),
            kms_operation: &metadata.kms_operation,
            kms_key_arn: metadata.kms_key_arn.as_deref(),
            source_vpc: metadata.aws_source_vpc.as_deref(),
            source_vpce: metadata.aws_source_vpce.as_deref(),
            via_service: metadata.kms_via_service.as_deref(),
        };
        Self { operation, key_store, key, time: now.as_secs(), request }
    }
}
