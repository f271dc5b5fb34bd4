//! The KEKs of the vectors, and a reader that has them.

use tempfile::TempDir;
use twinlock::{CustomerKey, Decryptor, EncryptionContext, FileKek, KeyUri, ProviderKey};

use super::Vector;
use super::writer::{self, URIS};
use crate::support::softhsm::write_private;

/// A folder with both KEKs, where only their owner can read them.
pub(crate) struct Keys {
    folder: TempDir,
}

impl Keys {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in writer::kek_files() {
            write_private(&folder.path().join(name), &text);
        }
        Self { folder }
    }

    /// Where a KEK lies here, of `provider.kek` and `customer.kek`.
    fn uri(&self, name: &str) -> KeyUri {
        KeyUri::parse(&format!("file://{}/{name}", self.folder.path().display())).unwrap()
    }

    /// A configuration of the program with them.
    pub(crate) fn profile(&self) -> String {
        let [provider, customer] = ["provider.kek", "customer.kek"].map(|name| self.uri(name));
        let moved =
            |from, to| format!("[[profiles.default.moved]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
        format!(
            "profile = \"default\"\n[profiles.default]\nprovider = \"{provider}\"\ncustomer = \"{customer}\"\n{}{}",
            moved(URIS[0], &provider),
            moved(URIS[1], &customer)
        )
    }

    pub(super) fn decryptor(&self, vector: &Vector) -> Decryptor {
        let (provider, customer) = (self.uri("provider.kek"), self.uri("customer.kek"));
        let [was_provider, was_customer] = URIS.map(|uri| KeyUri::parse(uri).unwrap());
        Decryptor::expecting(EncryptionContext::from_pairs(vector.context.clone()).unwrap())
            .provider(ProviderKey::new(FileKek::open(&provider).unwrap()).unwrap())
            .customer(CustomerKey::new(FileKek::open(&customer).unwrap()).unwrap())
            .moved(was_provider, provider)
            .moved(was_customer, customer)
            .min_generation(vector.min_generation)
    }
}
