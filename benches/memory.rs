//! Whole envelopes in memory on several threads, and what the same bytes cost on
//! as many threads without Twinlock. All buffers are there before, and warm.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::thread;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use futures_util::FutureExt as _;
use twinlock::testing::MemoryHolder;
use twinlock::{CustomerKey, Decryptor, Encryptor, Envelope, ProviderKey, read_header};

use crate::{Case, plaintext};

/// `Encryptor::encrypt_into`, with the key step at holders in memory.
#[must_use]
pub fn encrypt(threads: usize, segment_len: u32, total: usize) -> Case {
    let (keys, input) = (Keys::new(), plaintext(total));
    let mut output = vec![1; total + total / 64 + (1 << 20)];
    Case::new(format!("memory encrypt/{threads}/{segment_len}"), total, move || {
        let encryptor = keys.encryptor(threads, segment_len);
        black_box(encryptor.encrypt_into(&input, &mut output).expect("the buffer is long enough"));
    })
}

/// `Envelope::decrypt_into`, without the key step.
#[must_use]
pub fn decrypt(threads: usize, segment_len: u32, total: usize) -> Case {
    let keys = Keys::new();
    let sealed = keys.encryptor(threads, segment_len).encrypt_slice(&plaintext(total));
    let envelope = sealed.expect("the system has random bytes");
    let opened = keys.open(threads, &envelope);
    let mut output = vec![1; total];
    Case::new(format!("memory decrypt/{threads}/{segment_len}"), total, move || {
        black_box(opened.decrypt_into(&envelope, &mut output).expect("it was encrypted above"));
    })
}

/// AES-256-GCM by AWS-LC from one buffer into another, an equal part of the
/// bytes on each thread.
#[must_use]
pub fn aws_lc(threads: usize, segment_len: u32, total: usize) -> Case {
    let (input, mut output) = (plaintext(total), vec![1; total]);
    let name = format!("aws-lc on threads/{threads}/{segment_len}");
    Case::new(name, total, move || {
        on_parts(threads, &input, &mut output, |input, output| {
            seal_pieces(segment_len as usize, input, output);
        });
    })
}

/// A copy, an equal part of the bytes on each thread.
#[must_use]
pub fn memcpy(threads: usize, total: usize) -> Case {
    let (input, mut output) = (plaintext(total), vec![1; total]);
    Case::new(format!("memcpy on threads/{threads}"), total, move || {
        on_parts(threads, &input, &mut output, |input, output| {
            black_box(output).copy_from_slice(input);
        });
    })
}

fn seal_pieces(len: usize, input: &[u8], output: &mut [u8]) {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("AES-256 takes 32 bytes");
    let key = LessSafeKey::new(key);
    for (from, into) in input.chunks(len).zip(output.chunks_mut(len)) {
        let nonce = Nonce::assume_unique_for_key([3; 12]); // nothing is secret here
        let mut tag = [0; 16];
        key.seal_out_of_place_scatter(nonce, Aad::from([9; 9]), from, into, &[], &mut tag)
            .expect("a piece is short");
        black_box(tag);
    }
}

/// The caller's thread does the first part.
fn on_parts(
    threads: usize,
    input: &[u8],
    output: &mut [u8],
    work: impl Fn(&[u8], &mut [u8]) + Copy + Send,
) {
    let part = input.len().div_ceil(threads);
    thread::scope(|scope| {
        let mut parts = input.chunks(part).zip(output.chunks_mut(part));
        let first = parts.next();
        for (input, output) in parts {
            scope.spawn(move || work(input, output));
        }
        if let Some((input, output)) = first {
            work(input, output);
        }
    });
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

    fn encryptor(&self, threads: usize, segment_len: u32) -> Encryptor {
        let prepared = Encryptor::builder(self.provider.clone(), self.customer.clone())
            .segment_len(segment_len)
            .threads(number(threads))
            .prepare()
            .now_or_never();
        prepared.expect("memory is ready").expect("the holders work")
    }

    fn open(&self, threads: usize, mut envelope: &[u8]) -> Envelope {
        let decryptor = Decryptor::any_context()
            .provider(self.provider.clone())
            .customer(self.customer.clone())
            .threads(number(threads));
        let header = read_header(&mut envelope).expect("it was encrypted above");
        let opened = decryptor.open(header).now_or_never();
        opened.expect("memory is ready").expect("it was encrypted above")
    }
}

fn number(threads: usize) -> NonZeroUsize {
    NonZeroUsize::new(threads).expect("at least one thread")
}
