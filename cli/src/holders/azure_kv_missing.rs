//! In place of `azure_kv.rs` where the feature `azure-kv` is off.

use std::sync::Arc;

use twinlock::{HolderError, KeyHolder, KeyUri};
use twinlock_keys::Scheme;

use super::not_built_in;
use crate::report::keys::KeyCheck;
use crate::settings::Access;

pub(crate) async fn open(_: &KeyUri, _: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Err(not_built_in(Scheme::AzureKv))
}

pub(crate) async fn create(_: &KeyUri, _: &Access) -> Result<KeyUri, HolderError> {
    Err(not_built_in(Scheme::AzureKv))
}

pub(crate) async fn check(_: &KeyUri, _: &Access) -> Result<KeyCheck, HolderError> {
    Err(not_built_in(Scheme::AzureKv))
}
