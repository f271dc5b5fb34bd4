//! Holders that do wrong on purpose: the suite has to find each of them out.

use std::sync::Arc;

use twinlock::testing::MemoryHolder;
use twinlock_keys::{
    BoxFuture, HolderError, HolderErrorKind as Kind, KeyHolder, KeyUri, Share, Side, WrapContext,
    WrappedShare,
};

use super::bench::{Bench, Holder, Trouble};
use super::suite;

#[tokio::test]
#[should_panic(expected = "an AEAD binds")]
async fn one_that_binds_nothing_is_found_out() {
    suite::another_context_is_refused::<Planted>().await;
}

#[tokio::test]
#[should_panic(expected = "unwrapping is not refused")]
async fn one_that_does_what_it_must_not_is_found_out() {
    suite::disabled::<Planted>().await;
}

#[tokio::test]
#[should_panic(expected = "left: Failed")]
async fn one_that_calls_trouble_by_another_name_is_found_out() {
    suite::denied::<Planted>().await;
}

#[tokio::test]
#[should_panic(expected = "the service's own words")]
async fn one_without_evidence_is_found_out() {
    suite::not_found::<Planted>().await;
}

#[tokio::test]
#[should_panic(expected = "it works again when nothing is wrong")]
async fn one_that_does_not_recover_is_found_out() {
    suite::slow::<Planted>().await;
}

struct Planted {
    key: MemoryHolder,
}

impl Bench for Planted {
    const NEVER: &'static [(Trouble, &'static str)] = &[];

    async fn new() -> Self {
        Self { key: MemoryHolder::provider("planted") }
    }

    async fn holder(&self) -> Holder {
        Arc::new(Deaf(self.key.clone()))
    }

    async fn stranger(&self) -> Holder {
        Arc::new(MemoryHolder::provider("other"))
    }

    async fn in_trouble(&self, trouble: Trouble) -> Result<Holder, HolderError> {
        self.key.fail_with(match trouble {
            Trouble::Denied => Some(Kind::Failed),
            Trouble::NotFound => Some(Kind::NotFound),
            Trouble::Slow => Some(Kind::TimedOut),
            _ => None,
        });
        Ok(self.holder().await)
    }

    fn heal(&self) {}
}

/// Pays no attention to the context.
struct Deaf(MemoryHolder);

impl Deaf {
    async fn unwrap(&self, wrapped: &WrappedShare) -> Result<Share, HolderError> {
        self.0.unwrap_key(wrapped, &no_context()).await
    }
}

impl KeyHolder for Deaf {
    fn uri(&self) -> &KeyUri {
        self.0.uri()
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async { self.0.wrap_key(share, &no_context()).await })
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        _: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(self.unwrap(wrapped))
    }
}

fn no_context() -> WrapContext {
    WrapContext::new(Side::Provider, String::new(), Vec::new(), Vec::new())
}
