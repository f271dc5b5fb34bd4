//! The two sides, as types: `encrypt` cannot be handed the same one twice.

use std::fmt;
use std::sync::Arc;

use crate::{KeyHolder, KeyUri};

/// Who keeps a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The cloud provider: AWS KMS, Azure Key Vault, Google Cloud KMS, Vault.
    Provider,
    /// The customer: a token behind PKCS#11, or a key service of their own.
    Customer,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Provider => "provider",
            Side::Customer => "customer",
        })
    }
}

/// A key URI of the one side was given where the other side's belongs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{uri} cannot be the {side} key: {scheme} keys belong to the other side", scheme = .uri.scheme())]
pub struct WrongSide {
    uri: KeyUri,
    side: Side,
}

/// A holder on the provider's side.
#[derive(Clone)]
pub struct ProviderKey(Arc<dyn KeyHolder>);

/// A holder on the customer's side.
#[derive(Clone)]
pub struct CustomerKey(Arc<dyn KeyHolder>);

impl ProviderKey {
    /// Takes `holder` as the provider's.
    ///
    /// # Errors
    /// When its URI is of a scheme that only a customer can keep.
    pub fn new(holder: impl KeyHolder + 'static) -> Result<Self, WrongSide> {
        Self::shared(Arc::new(holder))
    }

    /// As [`ProviderKey::new`], for a holder that is used elsewhere too.
    ///
    /// # Errors
    /// When its URI is of a scheme that only a customer can keep.
    pub fn shared(holder: Arc<dyn KeyHolder>) -> Result<Self, WrongSide> {
        on_side(holder, Side::Provider).map(Self)
    }

    /// The holder itself.
    #[must_use]
    pub fn holder(&self) -> &dyn KeyHolder {
        &*self.0
    }
}

impl CustomerKey {
    /// Takes `holder` as the customer's.
    ///
    /// # Errors
    /// When its URI is of a scheme that only a provider can keep.
    pub fn new(holder: impl KeyHolder + 'static) -> Result<Self, WrongSide> {
        Self::shared(Arc::new(holder))
    }

    /// As [`CustomerKey::new`], for a holder that is used elsewhere too.
    ///
    /// # Errors
    /// When its URI is of a scheme that only a provider can keep.
    pub fn shared(holder: Arc<dyn KeyHolder>) -> Result<Self, WrongSide> {
        on_side(holder, Side::Customer).map(Self)
    }

    /// The holder itself.
    #[must_use]
    pub fn holder(&self) -> &dyn KeyHolder {
        &*self.0
    }
}

fn on_side(holder: Arc<dyn KeyHolder>, side: Side) -> Result<Arc<dyn KeyHolder>, WrongSide> {
    if holder.uri().scheme().fits(side) {
        Ok(holder)
    } else {
        Err(WrongSide { uri: holder.uri().clone(), side })
    }
}
