//! In-memory key holders and their faults, so that an application's tests need
//! no HSM and no cloud (feature `testing`).
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use twinlock::testing::MemoryHolder;
//! use twinlock::{CustomerKey, Decryptor, EncryptionContext, Encryptor, HolderErrorKind, ProviderKey};
//!
//! let (cloud, token) = (MemoryHolder::provider("kek"), MemoryHolder::customer("kek"));
//! let provider = ProviderKey::new(cloud.clone())?;
//! let customer = CustomerKey::new(token.clone())?;
//! let encryptor = Encryptor::builder(provider.clone(), customer.clone()).prepare().await?;
//! let envelope = encryptor.encrypt_slice(b"attack at dawn")?;
//!
//! // What does the application do when the token is gone?
//! token.fail_with(Some(HolderErrorKind::TimedOut));
//! let decryptor =
//!     Decryptor::expecting(EncryptionContext::new()).provider(provider).customer(customer);
//! assert!(decryptor.decrypt_slice(&envelope).await.is_err());
//!
//! token.fail_with(None);
//! assert_eq!(decryptor.decrypt_slice(&envelope).await?, b"attack at dawn");
//! assert_eq!(token.unwrap_calls(), 3); // one was the read-back of the encryptor
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap().unwrap();
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use twinlock_keys::{
    BoxFuture, HolderAnswer, HolderError, HolderErrorKind, KeyHolder, KeyUri, Share,
    ShareAlgorithm, WrapContext, WrappedShare,
};

use crate::random;

/// A holder that lives in the test's memory. Clones are the same holder.
///
/// What it returns as a wrapped share is a random ticket; it opens for the
/// same holder and context only.
#[derive(Clone)]
pub struct MemoryHolder(Arc<Inner>);

struct Inner {
    uri: KeyUri,
    shares: Mutex<HashMap<Vec<u8>, (Share, WrapContext)>>,
    fault: Mutex<Option<HolderErrorKind>>,
    wrap_calls: AtomicUsize,
    unwrap_calls: AtomicUsize,
}

impl MemoryHolder {
    /// A provider's holder with the URI
    /// `vault://memory.invalid/transit/keys/<name>`.
    ///
    /// # Panics
    /// When `name` cannot stand in a URI: letters, digits, `-`, `_`, `.`.
    #[must_use]
    pub fn provider(name: &str) -> Self {
        Self::new(&format!("vault://memory.invalid/transit/keys/{name}"))
    }

    /// A customer's holder with the URI `pkcs11:token=memory;object=<name>`.
    ///
    /// # Panics
    /// When `name` cannot stand in a URI: letters, digits, `-`, `_`, `.`.
    #[must_use]
    pub fn customer(name: &str) -> Self {
        Self::new(&format!("pkcs11:token=memory;object={name}"))
    }

    /// From now on every call fails in this way, or none does.
    pub fn fail_with(&self, fault: Option<HolderErrorKind>) {
        *lock(&self.0.fault) = fault;
    }

    /// How often it was asked to wrap a share, failures included.
    #[must_use]
    pub fn wrap_calls(&self) -> usize {
        self.0.wrap_calls.load(Ordering::SeqCst)
    }

    /// How often it was asked to unwrap a share, failures included.
    #[must_use]
    pub fn unwrap_calls(&self) -> usize {
        self.0.unwrap_calls.load(Ordering::SeqCst)
    }

    fn new(uri: &str) -> Self {
        Self(Arc::new(Inner {
            uri: KeyUri::parse(uri).expect("a name that can stand in a URI"),
            shares: Mutex::default(),
            fault: Mutex::default(),
            wrap_calls: AtomicUsize::new(0),
            unwrap_calls: AtomicUsize::new(0),
        }))
    }

    fn check_fault(&self) -> Result<(), HolderError> {
        match *lock(&self.0.fault) {
            Some(kind) => Err(HolderError::new(kind, "the fault that the test asked for")),
            None => Ok(()),
        }
    }
}

impl KeyHolder for MemoryHolder {
    fn uri(&self) -> &KeyUri {
        &self.0.uri
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        Box::pin(async move {
            self.0.wrap_calls.fetch_add(1, Ordering::SeqCst);
            self.check_fault()?;
            let ticket = random::bytes::<32>()
                .map_err(|error| HolderError::new(HolderErrorKind::Failed, error.to_string()))?;
            let kept = (Share::copy_of(share.expose()), context.clone());
            lock(&self.0.shares).insert(ticket.to_vec(), kept);
            Ok(WrappedShare::new(ShareAlgorithm::HolderAead, ticket.to_vec()))
        })
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        Box::pin(async move {
            self.0.unwrap_calls.fetch_add(1, Ordering::SeqCst);
            self.check_fault()?;
            match lock(&self.0.shares).get(wrapped.bytes()) {
                Some((share, bound)) if bound == context => {
                    Ok(Share::copy_of(share.expose()).with_answer(HolderAnswer::code("OK")))
                }
                _ => Err(HolderError::invalid_ciphertext("not a share of this holder and context")
                    .with_answer(HolderAnswer::code("INVALID"))),
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere is no reason to hide its own message.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
