//! Envelopes in memory that are long enough for several threads. Short ones go
//! through all entry points, these among them, in `hostile` and `roundtrip`.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use twinlock::{
    Backend, DecryptSliceError, Decryptor, EncryptSliceError, Encryptor, Envelope, PARALLEL_FROM,
    PayloadError, read_detached_header, read_header,
};

use crate::entry_points::now;
use crate::people::{People, context};

/// The length of a header with standard padding and one small keyslot, and of
/// FLOE's.
const START: usize = 2048 + 74;
const SEGMENT: usize = 4096;
/// The plaintext of a full segment.
const FULL: usize = SEGMENT - 32;
/// Enough for several threads, the last segment not full.
const LEN: usize = PARALLEL_FROM + 5;

type Encrypt = fn(Encryptor, &[u8]) -> Vec<u8>;

const ENCRYPTS: [Encrypt; 3] = [
    |encryptor, plaintext| encryptor.encrypt_slice(plaintext).unwrap(),
    |encryptor, plaintext| {
        let mut buffer = Vec::with_capacity(plaintext.len() * 2 + START);
        buffer.extend_from_slice(plaintext);
        encryptor.encrypt_in_place(&mut buffer).unwrap();
        buffer
    },
    |encryptor, plaintext| {
        let mut envelope = Vec::new();
        encryptor.encrypt(plaintext, &mut envelope).unwrap();
        envelope
    },
];

/// Without an error the plaintext, with one what is in the buffer then.
type Decrypt = fn(&Envelope, &[u8]) -> Result<Vec<u8>, (PayloadError, Vec<u8>)>;

const DECRYPTS: [Decrypt; 2] = [
    |envelope, bytes| {
        let mut plaintext = vec![0xEE; bytes.len()];
        match envelope.decrypt_into(bytes, &mut plaintext) {
            Ok(len) => Ok(plaintext[..len].to_vec()),
            Err(DecryptSliceError::Payload(error)) => {
                let len = envelope.plaintext_len(bytes).unwrap_or_default();
                Err((error, plaintext[..len].to_vec()))
            }
            Err(error) => panic!("the buffer is long enough: {error}"),
        }
    },
    |envelope, bytes| {
        let mut buffer = bytes.to_vec();
        let error = match envelope.decrypt_in_place(&mut buffer) {
            Ok(plaintext) => return Ok(plaintext.to_vec()),
            Err(error) => error,
        };
        let is_untouched = buffer == bytes;
        Err((error, if is_untouched { Vec::new() } else { buffer }))
    },
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_length_comes_back_on_any_number_of_threads(
        segments in 0..2usize,
        around in 0..5usize,
        segment_len in prop::sample::select(vec![4096u32, 64 << 10, 1 << 20]),
        threads in (1..=4usize, 1..=4usize),
        backends in (backend(), backend()),
    ) {
        let text = segment_len as usize - 32;
        let whole = (segments * PARALLEL_FROM).div_ceil(text) * text + text;
        let plaintext = plaintext(whole + around - 2);
        let people = People::new();
        for encrypt in ENCRYPTS {
            let builder = people.builder().segment_len(segment_len).backend(backends.0);
            let encryptor = now(builder.threads(number(threads.0)).prepare()).unwrap();
            let bytes = encrypt(encryptor, &plaintext);
            let envelope = open(&people, &bytes, threads.1, backends.1);
            for decrypt in DECRYPTS {
                prop_assert!(decrypt(&envelope, &bytes).unwrap() == plaintext);
            }
            let mut streamed = Vec::new();
            envelope.decrypt(&bytes[2048..], &mut streamed).unwrap();
            prop_assert!(streamed == plaintext);
        }
    }
}

/// Every segment, so every thread's share.
#[test]
fn nothing_that_is_not_authentic_leaves_a_trace() {
    let (people, good) = envelope(LEN);
    for threads in [1, 3] {
        let envelope = open(&people, &good, threads, Backend::default());
        let step = if threads == 1 { 50 } else { 1 };
        for index in (0..LEN.div_ceil(FULL)).step_by(step) {
            let mut bad = good.clone();
            let start = START + index * SEGMENT;
            bad[start + 4 + index % 28] ^= 1;
            let offset = start as u64;
            let expected = PayloadError::Segment { segment: index as u64, offset };
            assert_refused(&envelope, &bad, Some(expected), &format!("segment {index}"));
        }
    }
}

#[test]
fn of_several_broken_segments_the_first_is_named() {
    let (people, good) = envelope(LEN);
    let envelope = open(&people, &good, 2, Backend::default());
    let mut bad = good.clone();
    for index in [70, 71, 200, 257] {
        bad[START + index * SEGMENT + 100] ^= 1;
    }
    let offset = (START + 70 * SEGMENT) as u64;
    for _ in 0..20 {
        let expected = PayloadError::Segment { segment: 70, offset };
        assert_refused(&envelope, &bad, Some(expected), "four segments");
    }
}

#[test]
fn segments_keep_their_order_and_their_number() {
    let (people, good) = envelope(LEN);
    let envelope = open(&people, &good, 2, Backend::default());
    let segments: Vec<_> = good[START..].chunks(SEGMENT).map(<[u8]>::to_vec).collect();
    let last = segments.len() - 1;
    let refused = |arrange: &dyn Fn(&mut Vec<Vec<u8>>), what: &str| {
        let mut segments = segments.clone();
        arrange(&mut segments);
        let bad = [&good[..START], &segments.concat()].concat();
        assert_refused(&envelope, &bad, None, what);
    };
    for index in [0, 1, 63, 64, 128, 130, last - 1] {
        refused(&|s| s.swap(index, index + 1), "swapped");
        refused(&|s| s.swap(index, last), "swapped with the last");
        refused(&|s| s[index + 1] = s[index].clone(), "repeated");
        refused(&|s| drop(s.remove(index)), "left out");
        refused(&|s| s.insert(index, segments[index].clone()), "one more");
        refused(&|s| s.truncate(index), "cut at a segment's end");
    }
    for end in [0, 1, 7, 8, 2047, 2048, START - 1, START, START + 31, good.len() - 1] {
        assert_refused(&envelope, &good[..end], None, &format!("the first {end} bytes"));
    }
    for extra in [1, 31, 32, SEGMENT] {
        let bad = [&good[..], &vec![0; extra]].concat();
        assert_refused(&envelope, &bad, None, &format!("{extra} bytes more"));
    }
}

#[test]
fn buffers_that_are_too_short_are_refused_and_left_alone() {
    let people = People::new();
    for len in [0, 1, FULL, FULL + 1] {
        let encryptor = || now(people.builder().prepare()).unwrap();
        let needed = usize::try_from(encryptor().envelope_len(len as u64).unwrap()).unwrap();
        for short in [0, 1, len, needed - 1] {
            let mut buffer = vec![0xEE; short];
            let error = encryptor().encrypt_into(&plaintext(len), &mut buffer).unwrap_err();
            let says = matches!(error, EncryptSliceError::BufferTooShort { needed: n, len } if (n, len) == (needed, short));
            assert!(says, "{error}");
            assert_eq!(buffer, vec![0xEE; short]);
        }
        let bytes = people.envelope(&plaintext(len));
        let envelope = open(&people, &bytes, 1, Backend::default());
        assert_eq!(envelope.plaintext_len(&bytes).unwrap(), len);
        for short in [0, len / 2, len.saturating_sub(1)] {
            if short == len {
                continue;
            }
            let mut buffer = vec![0xEE; short];
            let error = envelope.decrypt_into(&bytes, &mut buffer).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the plaintext has {len} bytes and its buffer only {short}")
            );
            assert_eq!(buffer, vec![0xEE; short]);
        }
    }
}

#[test]
fn payloads_whose_header_is_kept_apart_come_back() {
    let people = People::new();
    for len in [0, FULL, LEN] {
        for encrypt in ENCRYPTS {
            let encryptor = now(people.builder().prepare()).unwrap().detached();
            let header = encryptor.header().to_vec();
            let payload = encrypt(encryptor, &plaintext(len));
            let header = read_detached_header(&mut &header[..]).unwrap();
            let envelope = now(decryptor(&people).open(header)).unwrap().detached();
            for decrypt in DECRYPTS {
                assert!(decrypt(&envelope, &payload).unwrap() == plaintext(len));
                let mut foreign = payload.clone();
                foreign[20] ^= 1;
                let (error, _) = decrypt(&envelope, &foreign).unwrap_err();
                assert!(matches!(error, PayloadError::OtherEnvelope { .. }), "{error}");
            }
        }
    }
}

/// A writer of another kind may end with an empty segment after full ones; ours
/// never does. The bytes of its plaintext's buffer are all there is then.
#[test]
fn no_plaintext_needs_no_buffer() {
    let people = People::new();
    let bytes = people.envelope(b"");
    let envelope = open(&people, &bytes, 4, Backend::default());
    assert_eq!(envelope.decrypt_into(&bytes, &mut []).unwrap(), 0);
    assert!(envelope.decrypt_in_place(&mut bytes.clone()).unwrap().is_empty());
}

/// Refused by every way, and of the plaintext nothing is left.
#[track_caller]
fn assert_refused(envelope: &Envelope, bad: &[u8], expected: Option<PayloadError>, what: &str) {
    for decrypt in DECRYPTS {
        let (error, left) = decrypt(envelope, bad).expect_err(what);
        if let Some(expected) = expected {
            assert_eq!(error, expected, "{what}");
        }
        let is_untouched = left.iter().all(|&byte| byte == 0xEE);
        assert!(is_untouched || left.iter().all(|&byte| byte == 0), "{what}: something is left");
    }
}

fn envelope(len: usize) -> (People, Vec<u8>) {
    let people = People::new();
    let bytes = people.envelope(&plaintext(len));
    (people, bytes)
}

fn open(people: &People, mut bytes: &[u8], threads: usize, backend: Backend) -> Envelope {
    let decryptor = decryptor(people).threads(number(threads)).backend(backend);
    now(decryptor.open(read_header(&mut bytes).unwrap())).unwrap()
}

fn decryptor(people: &People) -> Decryptor {
    people.having_both(Decryptor::expecting(context()))
}

fn number(threads: usize) -> NonZeroUsize {
    NonZeroUsize::new(threads).unwrap()
}

fn backend() -> impl Strategy<Value = Backend> {
    prop::sample::select(Backend::available())
}

/// No two segments are alike, and no byte is 0 or 0xEE by rule.
fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| 1 + (i % 233).to_le_bytes()[0]).collect()
}
