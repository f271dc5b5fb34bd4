//! What these tests share.

use std::time::Duration;

use serde_json::json;
use twinlock_keys::{
    HolderError, HolderErrorKind, KeyHolder as _, KeyUri, Share, Side, WrapContext, WrappedShare,
};
use twinlock_remote_keys::vault_transit::{Auth, Credential, Options, VaultTransitKey};

use crate::providers::vault::operation;
use crate::support::openbao::{ROOT, openbao};
use crate::support::proxy::Proxy;

/// A proxy before OpenBao that counts, and a key of its own.
pub(super) struct Rig {
    pub(super) proxy: Proxy,
    pub(super) name: String,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with_key(&json!({}))
    }

    /// With `more` of what `transit/keys/<name>` takes.
    pub(super) fn with_key(more: &serde_json::Value) -> Self {
        let proxy = Proxy::before(openbao().address, operation);
        Self { proxy, name: openbao().create_key(more) }
    }

    pub(super) fn uri(&self) -> KeyUri {
        uri(&self.name)
    }

    pub(super) fn options(&self) -> Options {
        Options::new()
            .address(self.proxy.url())
            .auth(token(ROOT))
            .attempts(1)
            .deadline(Duration::from_secs(60))
    }

    pub(super) fn key(&self) -> VaultTransitKey {
        self.key_with(&self.options())
    }

    pub(super) fn key_with(&self, options: &Options) -> VaultTransitKey {
        VaultTransitKey::connect(&self.uri(), options).unwrap()
    }

    /// Changes the key's settings.
    pub(super) fn configure(&self, settings: &serde_json::Value) {
        openbao().call("POST", &format!("transit/keys/{}/config", self.name), settings);
    }

    pub(super) fn rotate(&self) {
        openbao().call("POST", &format!("transit/keys/{}/rotate", self.name), &json!({}));
    }

    /// A policy to wrap and unwrap with the key, and no more.
    pub(super) fn policy(&self) -> String {
        let rule = |what| {
            format!("path \"transit/{what}/{}\" {{ capabilities = [\"update\"] }}\n", self.name)
        };
        rule("encrypt") + &rule("decrypt")
    }
}

pub(super) fn uri(name: &str) -> KeyUri {
    KeyUri::parse(&format!("vault://vault.example:8200/transit/keys/{name}")).unwrap()
}

pub(super) fn token(text: &str) -> Auth {
    Auth::Token(Credential::Value(text.into()))
}

/// A share that `key` wrapped, and what it was.
pub(super) async fn wrapped(key: &VaultTransitKey) -> (Share, WrappedShare) {
    let share = Share::random().unwrap();
    let wrapped = key.wrap_key(&share, &context()).await.unwrap();
    (share, wrapped)
}

pub(super) async fn assert_opens(key: &VaultTransitKey, share: &Share, wrapped: &WrappedShare) {
    let opened = key.unwrap_key(wrapped, &context()).await.unwrap();
    assert_eq!(opened.expose(), share.expose());
}

pub(super) fn context() -> WrapContext {
    context_with(b"twinlock/v1 share\0 of some pair and context")
}

pub(super) fn context_with(aad: &[u8]) -> WrapContext {
    WrapContext::new(Side::Provider, "v1/provider/00112233".to_owned(), aad.to_vec(), Vec::new())
}

/// The error of a result whose success cannot be printed.
#[track_caller]
pub(super) fn refusal<T>(result: Result<T, HolderError>) -> HolderError {
    result.err().expect("it is refused")
}

#[track_caller]
pub(super) fn kind<T>(result: Result<T, HolderError>) -> HolderErrorKind {
    refusal(result).kind()
}
