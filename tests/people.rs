//! Holders in memory and what is made with them.

use twinlock::testing::MemoryHolder;
use twinlock::{
    CustomerKey, Decryptor, EncryptionContext, Encryptor, EncryptorBuilder, ProviderKey,
};

use crate::entry_points::now;

/// A provider and a customer.
pub(crate) struct People {
    pub(crate) cloud: MemoryHolder,
    pub(crate) token: MemoryHolder,
}

impl People {
    pub(crate) fn new() -> Self {
        Self { cloud: MemoryHolder::provider("kek"), token: MemoryHolder::customer("kek") }
    }

    pub(crate) fn provider(&self) -> ProviderKey {
        ProviderKey::new(self.cloud.clone()).unwrap()
    }

    pub(crate) fn customer(&self) -> CustomerKey {
        CustomerKey::new(self.token.clone()).unwrap()
    }

    /// Segments of 4 KiB, and the context of [`context`].
    pub(crate) fn builder(&self) -> EncryptorBuilder {
        Encryptor::builder(self.provider(), self.customer()).segment_len(4096).context(context())
    }

    pub(crate) fn envelope(&self, plaintext: &[u8]) -> Vec<u8> {
        now(self.builder().prepare()).unwrap().encrypt_slice(plaintext).unwrap()
    }

    pub(crate) fn having_both(&self, decryptor: Decryptor) -> Decryptor {
        decryptor.provider(self.provider()).customer(self.customer())
    }

    /// How often either was asked to unwrap a share.
    pub(crate) fn unwrap_calls(&self) -> usize {
        self.cloud.unwrap_calls() + self.token.unwrap_calls()
    }
}

pub(crate) fn context() -> EncryptionContext {
    EncryptionContext::from_pairs([("object", "a")]).unwrap()
}
