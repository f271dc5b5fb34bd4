//! The library's streams, from memory to nowhere: what they add to the AES-GCM
//! of the yardsticks, which write nothing either.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _, Write};
use std::num::NonZeroUsize;

use futures_util::FutureExt as _;
use twinlock::testing::MemoryHolder;
use twinlock::{
    Backend, CustomerKey, Decryptor, EncryptionContext, Encryptor, Envelope, ProviderKey,
    UnverifiedHeader, read_header,
};

use crate::{Case, plaintext};

/// `Encryptor::encrypt` to nowhere on one thread, with the key step at holders in
/// memory.
#[must_use]
pub fn encrypt(backend: Backend, segment_len: u32, total: usize) -> Case {
    let (keys, input) = (Keys::new(), plaintext(total));
    Case::new(format!("stream encrypt/{backend}/{segment_len}"), total, move || {
        keys.encryptor_on(backend, segment_len, Some(NonZeroUsize::MIN))
            .encrypt(&input[..], Nowhere)
            .expect("memory takes everything");
    })
}

/// `DecryptReader::write_to` nowhere, without the key step.
#[must_use]
pub fn decrypt(backend: Backend, segment_len: u32, total: usize) -> Case {
    let (opened, bytes) = encrypted(backend, segment_len, total);
    let header_len = read_header(&mut &bytes[..]).expect("it has a header").as_bytes().len();
    Case::new(format!("stream decrypt/{backend}/{segment_len}"), total, move || {
        let mut reader = opened.reader(&bytes[header_len..]).expect("it was encrypted above");
        reader.write_to(&mut Nowhere).expect("it was encrypted above");
    })
}

/// An open envelope, and all of its bytes.
pub(crate) fn encrypted(backend: Backend, segment_len: u32, total: usize) -> (Envelope, Vec<u8>) {
    let keys = Keys::new();
    let bytes = keys
        .encryptor(backend, segment_len)
        .encrypt_slice(&plaintext(total))
        .expect("the system has random bytes");
    let header = read_header(&mut &bytes[..]).expect("it was encrypted above");
    (keys.open_by(backend, header), bytes)
}

/// An open envelope of `total` bytes, all of whose bytes are in `file` then.
pub(crate) fn encrypted_to(file: &File, segment_len: u32, total: u64) -> Envelope {
    let (keys, backend) = (Keys::new(), Backend::default());
    let encryptor = keys.encryptor(backend, segment_len);
    let header = read_header(&mut encryptor.header()).expect("an encryptor's own header");
    encryptor.encrypt(io::repeat(7).take(total), file).expect("there is room for it");
    keys.open_by(backend, header)
}

/// Takes everything, as `io::sink` does, but lets no work be left out for it.
struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two holders in memory: the key step costs nothing that shows.
pub struct Keys {
    provider: ProviderKey,
    customer: CustomerKey,
}

impl Keys {
    /// Two new ones.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each has other keys")]
    pub fn new() -> Self {
        let provider = ProviderKey::new(MemoryHolder::provider("kek"));
        let customer = CustomerKey::new(MemoryHolder::customer("kek"));
        Self {
            provider: provider.expect("a provider's URI"),
            customer: customer.expect("a customer's URI"),
        }
    }

    /// For one payload, on so many threads instead of all.
    #[must_use]
    pub fn encryptor_on(
        &self,
        backend: Backend,
        segment_len: u32,
        threads: Option<NonZeroUsize>,
    ) -> Encryptor {
        let builder = Encryptor::builder(self.provider.clone(), self.customer.clone())
            .segment_len(segment_len)
            .backend(backend);
        let builder = match threads {
            Some(threads) => builder.threads(threads),
            None => builder,
        };
        builder.prepare().now_or_never().expect("memory is ready").expect("the holders work")
    }

    /// Opens what these keys encrypted.
    #[must_use]
    pub fn open(&self, header: UnverifiedHeader) -> Envelope {
        self.open_by(Backend::default(), header)
    }

    fn open_by(&self, backend: Backend, header: UnverifiedHeader) -> Envelope {
        let decryptor = Decryptor::expecting(EncryptionContext::new())
            .provider(self.provider.clone())
            .customer(self.customer.clone())
            .backend(backend);
        let opened = decryptor.open(header).now_or_never().expect("memory is ready");
        opened.expect("these keys encrypted it")
    }

    fn encryptor(&self, backend: Backend, segment_len: u32) -> Encryptor {
        self.encryptor_on(backend, segment_len, None)
    }
}
