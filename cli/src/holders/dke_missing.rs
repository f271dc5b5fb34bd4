//! In place of `dke.rs` where the feature `dke` is off.

use std::sync::Arc;

use twinlock::{HolderError, KeyHolder, KeyUri};
use twinlock_keys::Scheme;

use super::not_built_in;
use crate::report::keys::KeyCheck;
use crate::settings::Access;

/// What a service publishes about its key.
pub(crate) struct Published {
    pub(crate) pin: String,
    pub(crate) bits: u64,
    pub(crate) version: String,
    pub(crate) is_pinned: bool,
}

/// A login that waits for a person.
pub(crate) enum Login {}

pub(crate) async fn open(_: &KeyUri, _: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Err(not_built_in(Scheme::Dke))
}

pub(crate) async fn check(_: &KeyUri, _: &Access) -> Result<KeyCheck, HolderError> {
    Err(not_built_in(Scheme::Dke))
}

pub(crate) async fn published(_: &KeyUri, _: &Access) -> Result<Published, HolderError> {
    Err(not_built_in(Scheme::Dke))
}

pub(crate) async fn start_login(_: &Access) -> Result<Login, HolderError> {
    Err(not_built_in(Scheme::Dke))
}

pub(crate) async fn log_out(_: &Access) -> Result<bool, HolderError> {
    Err(not_built_in(Scheme::Dke))
}

pub(crate) fn canonical_pin(_: &str) -> Result<String, HolderError> {
    Err(not_built_in(Scheme::Dke))
}

pub(crate) fn awaits_login(_: &Access) -> bool {
    false
}

impl Login {
    pub(crate) fn message(&self) -> String {
        match *self {}
    }

    pub(crate) async fn finish(self) -> Result<(), HolderError> {
        match self {}
    }
}
