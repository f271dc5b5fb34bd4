use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use futures_util::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use twinlock::{Backend, CustomerKey, DecryptError, Decryptor, ProviderKey, read_header};

use self::original::{Original, TransparentHolder};
use crate::edit::{Edit, edited};

pub(crate) mod original;

/// All ways to decrypt agree about all bytes, and none releases a byte that
/// was not encrypted: for the bytes as they are, and for what a program of
/// edits makes of an envelope.
pub fn envelope(bytes: &[u8]) {
    check(bytes);
    if let Ok(edits) = Vec::<Edit>::arbitrary(&mut Unstructured::new(bytes)) {
        check(&edited(&ORIGINALS[0].pieces, &ORIGINALS[1].pieces, &edits));
    }
}

/// Two envelopes of the same holders and context.
pub(crate) static ORIGINALS: LazyLock<[Original; 2]> =
    LazyLock::new(|| [Original::new(0x40), Original::new(0x60)]);

fn check(envelope: &[u8]) {
    let _ = twinlock::inspect(&mut &*envelope, Some(envelope.len() as u64));
    let original = ORIGINALS.iter().find(|original| original.bytes() == envelope);
    let expected = original.map(Original::plaintext);
    assert_eq!(decrypt_slice(envelope).ok(), expected, "only an original opens");
    assert_eq!(read_slowly(envelope), expected);
    assert_eq!(read_async(envelope), expected);
    assert_eq!(read_by_seeking(envelope), expected);
    assert_eq!(read_in_ranges(envelope), expected);
}

fn decrypt_slice(envelope: &[u8]) -> Result<Vec<u8>, DecryptError> {
    at_once(decryptor(Backend::default()).decrypt_slice(envelope))
}

/// As a pipe gives it, a few bytes at a time; what comes before an error was
/// encrypted too.
fn read_slowly(envelope: &[u8]) -> Option<Vec<u8>> {
    let input = Dripping(envelope);
    let mut reader = at_once(decryptor(second_opinion()).reader(input)).ok()?;
    let mut plaintext = Vec::new();
    let result = reader.read_to_end(&mut plaintext);
    check_prefix(&plaintext);
    if result.is_err() {
        assert!(reader.read(&mut [0]).is_err(), "an error is final");
    }
    result.is_ok().then_some(plaintext)
}

fn read_async(envelope: &[u8]) -> Option<Vec<u8>> {
    let mut reader = at_once(decryptor(Backend::default()).async_reader(envelope)).ok()?;
    let mut plaintext = Vec::new();
    let result = at_once(reader.read_to_end(&mut plaintext));
    check_prefix(&plaintext);
    result.is_ok().then_some(plaintext)
}

/// From the end to the beginning, in steps that cross segments. What a broken
/// envelope gives on the way was encrypted too.
fn read_by_seeking(envelope: &[u8]) -> Option<Vec<u8>> {
    let header = read_header(&mut &*envelope).ok()?;
    let opened = at_once(decryptor(second_opinion()).open(header)).ok()?;
    let mut reader = opened.seek_reader(Cursor::new(envelope)).ok()?;
    let len = reader.seek(SeekFrom::End(0)).ok();
    let plaintext = ORIGINALS[0].plaintext();
    let mut whole = len == Some(plaintext.len() as u64);
    for (i, expected) in plaintext.chunks(SEEK_STEP).enumerate().rev() {
        let mut piece = vec![0; expected.len()];
        reader.seek(SeekFrom::Start((i * SEEK_STEP) as u64)).expect("a seek alone reads nothing");
        match reader.read_exact(&mut piece) {
            Ok(()) => assert_eq!(piece, expected, "a forged byte was released"),
            Err(_) => whole = false,
        }
    }
    whole.then_some(plaintext)
}

const SEEK_STEP: usize = 3000;

/// In pieces that cross segments, then all at once; both tell the same.
fn read_in_ranges(envelope: &[u8]) -> Option<Vec<u8>> {
    let header = read_header(&mut &*envelope).ok()?;
    let opened = at_once(decryptor(Backend::default()).open(header)).ok()?;
    let reader = opened.range_reader(envelope).ok()?;
    let plaintext = ORIGINALS[0].plaintext();
    for (i, expected) in plaintext.chunks(SEEK_STEP).enumerate() {
        let mut piece = vec![0; expected.len()];
        if let Ok(len) = reader.read_at(&mut piece, (i * SEEK_STEP) as u64) {
            assert_eq!(piece[..len], expected[..len], "a forged byte was released");
        }
    }
    let mut whole = Vec::new();
    let written = reader.write_range_to(.., &mut whole).ok();
    check_prefix(&whole);
    assert_eq!(written, reader.verified_len().ok().filter(|len| *len == whole.len() as u64));
    written.map(|_| whole)
}

fn check_prefix(released: &[u8]) {
    let was_encrypted = |original: &Original| original.plaintext().starts_with(released);
    assert!(ORIGINALS.iter().any(was_encrypted), "a forged byte was released");
}

pub(crate) fn decryptor(backend: Backend) -> Decryptor {
    let provider = TransparentHolder::new(original::PROVIDER);
    let customer = TransparentHolder::new(original::CUSTOMER);
    Decryptor::any_context()
        .provider(ProviderKey::new(provider).expect("a provider's URI"))
        .customer(CustomerKey::new(customer).expect("a customer's URI"))
        .backend(backend)
}

fn second_opinion() -> Backend {
    *Backend::available().last().expect("a build has a backend")
}

/// Nothing here waits: memory is always ready.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory is always ready")
}

/// Gives at most seven hundred bytes at a time.
struct Dripping<'a>(&'a [u8]);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(700);
        Read::read(&mut self.0, &mut buffer[..len])
    }
}
