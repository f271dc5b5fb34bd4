//! What these tests share: a service behind TLS with one key, and holders of it.

use std::time::Duration;

use twinlock_keys::{HolderError, KeyHolder as _, KeyUri, Share, Side, WrapContext, WrappedShare};
use twinlock_remote_keys::dke::{Credential, DkeKey, Options, TokenSource};

use crate::support::key_service::{self, KeyService, RsaKey, ServedKey};
use crate::support::proxy::Proxy;
use crate::support::tls::Authority;

/// That of somebody who may decrypt.
pub(super) const LISTED: &str = "token-of-a-listed-user";
/// That of somebody who may not.
pub(super) const UNLISTED: &str = "token-of-somebody-else";

pub(super) const NAME: &str = "keys/Archive";

pub(super) struct Rig {
    pub(super) service: KeyService,
    pub(super) proxy: Proxy,
}

impl Rig {
    pub(super) fn new() -> Self {
        let service = KeyService::start();
        service.serve(NAME, ServedKey::new("0a1b", RsaKey::of(1)).for_token(LISTED));
        service.know(UNLISTED);
        let tls = Authority::trusted().server();
        let proxy = Proxy::with_tls(service.address(), key_service::operation, tls);
        Self { service, proxy }
    }

    pub(super) fn uri(&self) -> String {
        format!("dke+https://{}/{NAME}", self.proxy.address())
    }

    pub(super) fn key(&self, options: &Options) -> DkeKey {
        DkeKey::connect(&KeyUri::parse(&self.uri()).unwrap(), options).unwrap()
    }

    /// Whoever has `token`, trusting the service's first key.
    pub(super) fn options(&self, token: &str) -> Options {
        self.unpinned(token).pin(RsaKey::of(1).pin.parse().unwrap())
    }

    pub(super) fn unpinned(&self, token: &str) -> Options {
        Options::new()
            .ca_file(Authority::trusted().certificate())
            .token(TokenSource::Bearer(Credential::Value(token.into())))
            .attempts(1)
            .deadline(Duration::from_secs(30))
    }

    pub(super) fn listed(&self) -> DkeKey {
        self.key(&self.options(LISTED))
    }
}

pub(super) fn context() -> WrapContext {
    WrapContext::new(Side::Customer, "v1/customer/00".into(), vec![1; 66], Vec::new())
}

pub(super) async fn wrap(key: &DkeKey) -> Result<WrappedShare, HolderError> {
    key.wrap_key(&Share::copy_of(&[7; 32]), &context()).await
}

pub(super) async fn unwrap(key: &DkeKey, wrapped: &WrappedShare) -> Result<[u8; 32], HolderError> {
    key.unwrap_key(wrapped, &context()).await.map(|share| *share.expose())
}

pub(super) fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}
