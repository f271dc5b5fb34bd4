//! In place of `aws_kms.rs` where the feature `aws-kms` is off.

use std::sync::Arc;

use twinlock::{HolderError, KeyHolder, KeyUri};
use twinlock_keys::Scheme;

use super::not_built_in;
use crate::report::keys::{self, KeyCheck};
use crate::settings::Access;

pub(crate) async fn open(_: &KeyUri, _: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Err(not_built_in(Scheme::AwsKms))
}

pub(crate) async fn create(_: &KeyUri, _: &Access) -> Result<KeyUri, HolderError> {
    Err(not_built_in(Scheme::AwsKms))
}

pub(crate) async fn check(_: &KeyUri, _: &Access) -> Result<KeyCheck, HolderError> {
    Err(not_built_in(Scheme::AwsKms))
}

pub(crate) struct Examined {
    pub(crate) facts: Result<keys::AwsKmsKey, HolderError>,
    pub(crate) clock_ahead_seconds: Option<i64>,
}

pub(crate) async fn examine(_: &KeyUri, _: &Access) -> Examined {
    Examined { facts: Err(not_built_in(Scheme::AwsKms)), clock_ahead_seconds: None }
}
