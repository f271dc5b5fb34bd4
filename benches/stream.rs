//! The library's streams, from memory to nowhere: what they add to the AES-GCM
//! of the yardsticks, which write nothing either.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _, Write};

use futures_util::FutureExt as _;
use twinlock::testing::MemoryHolder;
use twinlock::{
    Backend, CustomerKey, Decryptor, EncryptionContext, Encryptor, Envelope, ProviderKey,
    read_header,
};

use crate::{Case, plaintext};

/// `Encryptor::encrypt` to nowhere, with the key step at holders in memory.
#[must_use]
pub fn encrypt(backend: Backend, segment_len: u32, total: usize) -> Case {
    let (keys, input) = (Keys::new(), plaintext(total));
    Case::new(format!("stream encrypt/{backend}/{segment_len}"), total, move || {
        keys.encryptor(backend, segment_len)
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
    let opened = keys.decryptor(backend).open(header).now_or_never().expect("memory is ready");
    (opened.expect("it was encrypted above"), bytes)
}

/// An open envelope of `total` bytes, all of whose bytes are in `file` then.
pub(crate) fn encrypted_to(file: &File, segment_len: u32, total: u64) -> Envelope {
    let (keys, backend) = (Keys::new(), Backend::default());
    let encryptor = keys.encryptor(backend, segment_len);
    let header = read_header(&mut encryptor.header()).expect("an encryptor's own header");
    encryptor.encrypt(io::repeat(7).take(total), file).expect("there is room for it");
    let opened = keys.decryptor(backend).open(header).now_or_never().expect("memory is ready");
    opened.expect("its holders are those of the header")
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

/// Two holders in memory.
struct Keys {
    provider: ProviderKey,
    customer: CustomerKey,
}

impl Keys {
    fn new() -> Self {
        let provider = ProviderKey::new(MemoryHolder::provider("kek"));
        let customer = CustomerKey::new(MemoryHolder::customer("kek"));
        Self {
            provider: provider.expect("a provider's URI"),
            customer: customer.expect("a customer's URI"),
        }
    }

    fn encryptor(&self, backend: Backend, segment_len: u32) -> Encryptor {
        Encryptor::builder(self.provider.clone(), self.customer.clone())
            .segment_len(segment_len)
            .backend(backend)
            .prepare()
            .now_or_never()
            .expect("memory is ready")
            .expect("the holders work")
    }

    fn decryptor(&self, backend: Backend) -> Decryptor {
        Decryptor::expecting(EncryptionContext::new())
            .provider(self.provider.clone())
            .customer(self.customer.clone())
            .backend(backend)
    }
}
