//! In place of `pkcs11.rs` where the feature `pkcs11` is off.

use std::sync::Arc;

use twinlock::{HolderError, KeyHolder, KeyUri};
use twinlock_keys::{Pkcs11Uri, Scheme};

use super::{PublicPart, not_built_in};
use crate::args::values::KekType;
use crate::report::keys::{KeyCheck, Token};
use crate::settings::Access;

pub(crate) async fn open(_: &Pkcs11Uri, _: &Access) -> Result<Arc<dyn KeyHolder>, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn create(_: &Pkcs11Uri, _: KekType, _: &Access) -> Result<KeyUri, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn import(_: &Pkcs11Uri, _: &[u8], _: &Access) -> Result<KeyUri, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn public_part(_: &Pkcs11Uri, _: &Access) -> Result<PublicPart, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn create_software_token(
    _: &Pkcs11Uri,
    _: &str,
    _: &str,
) -> Result<(), HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn list(_: &Pkcs11Uri, _: &Access) -> Result<Vec<Token>, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn check(_: &Pkcs11Uri, _: &Access) -> Result<KeyCheck, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) struct ModuleFacts {
    pub(crate) path: String,
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) cryptoki_version: String,
}

pub(crate) async fn module(_: &Pkcs11Uri, _: &Access) -> Result<ModuleFacts, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn token(_: &Pkcs11Uri, _: &Access) -> Result<Token, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}

pub(crate) async fn mechanisms(_: &Pkcs11Uri, _: &Access) -> Result<Vec<String>, HolderError> {
    Err(not_built_in(Scheme::Pkcs11))
}
