//! What was encrypted comes back: every length, in pieces of every size, from
//! every place.

use std::io::{Cursor, Read, Seek as _, SeekFrom, Write as _};
use std::thread;

use proptest::prelude::*;
use proptest::sample::Index;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use twinlock::{Backend, Decryptor, Encryptor, read_header};

use crate::entry_points::{ENTRY_POINTS, Outcome, Released, now};
use crate::people::{People, context};
use crate::support::pages::Pages;

/// The plaintext of a full segment of 4 KiB.
const FULL: usize = 4064;

#[test]
fn every_length_at_a_segments_edge_comes_back_through_every_way() {
    let people = People::new();
    for len in [0, 1, FULL - 1, FULL, FULL + 1, 2 * FULL, 3 * FULL + 5] {
        let plaintext = plaintext(len);
        for (sealing, opening) in backends() {
            for (way, encrypt) in WAYS_IN {
                let envelope = encrypt(encryptor(&people, sealing), &plaintext);
                for (way_out, entry_point) in ENTRY_POINTS {
                    let outcome = entry_point(&decryptor(&people, opening), (&envelope).into());
                    let back = plaintext_of(outcome);
                    assert!(back == plaintext, "{len} bytes, {way}, {way_out}");
                }
            }
        }
    }
}

#[test]
fn the_length_of_an_envelope_is_known_before() {
    let people = People::new();
    for len in [0, 1, FULL - 1, FULL, FULL + 1, 3 * FULL] {
        for (way, encrypt) in WAYS_IN {
            let encryptor = encryptor(&people, Backend::default());
            let expected = encryptor.envelope_len(len as u64);
            let envelope = encrypt(encryptor, &plaintext(len));
            assert_eq!(Some(envelope.len() as u64), expected, "{len} bytes, {way}");
        }
    }
    assert_eq!(encryptor(&people, Backend::default()).envelope_len(u64::MAX), None);
}

#[test]
fn no_two_envelopes_of_one_plaintext_have_anything_in_common() {
    let people = People::new();
    let [one, other] = [(); 2].map(|()| people.envelope(&plaintext(FULL)));
    let alike = one[2048..].iter().zip(&other[2048..]).filter(|(a, b)| a == b).count();
    // Parameters, a length field, and one byte of 256 by chance.
    assert!(alike < 100, "{alike} bytes");
}

#[test]
fn five_gibibytes_stream_from_a_thread_that_encrypts_to_one_that_decrypts() {
    let len: u64 = 5 << 30;
    let people = People::new();
    let encryptor = now(people.builder().segment_len(256 << 10).prepare()).unwrap();
    let (input, output) = std::io::pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| encryptor.encrypt(Pages::up_to(len), output).unwrap());
        let decryptor = decryptor(&people, Backend::default());
        let mut reader = now(decryptor.reader(input)).unwrap();
        let mut expected = Pages::up_to(len);
        let (mut block, mut expected_block) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        loop {
            let read = reader.read(&mut block).unwrap();
            if read == 0 {
                break;
            }
            expected.read_exact(&mut expected_block[..read]).unwrap();
            assert!(
                block[..read] == expected_block[..read],
                "{} bytes before the end",
                expected.left
            );
        }
        assert_eq!(expected.left, 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pieces_of_any_size_make_one_plaintext(
        len in len(),
        segment_len in segment_len(),
        writes in pieces(),
        reads in pieces(),
        sealing in backend(),
        opening in backend(),
    ) {
        let people = People::new();
        let plaintext = plaintext(len);
        let encryptor = now(people.builder().segment_len(segment_len).backend(sealing).prepare()).unwrap();
        let mut writer = encryptor.writer(Vec::new()).unwrap();
        for piece in in_pieces(&plaintext, &writes) {
            writer.write_all(piece).unwrap();
            writer.flush().unwrap();
        }
        let envelope = writer.finish().unwrap();

        let decryptor = decryptor(&people, opening);
        let mut reader = now(decryptor.reader(&*envelope)).unwrap();
        let mut sizes = reads.iter().cycle();
        prop_assert!(read_all(|buffer| reader.read(buffer), &mut sizes) == plaintext);
    }

    #[test]
    fn pieces_of_any_size_make_one_plaintext_on_tokio(
        len in len(),
        segment_len in segment_len(),
        writes in pieces(),
        reads in pieces(),
    ) {
        let people = People::new();
        let plaintext = plaintext(len);
        let encryptor = now(people.builder().segment_len(segment_len).prepare()).unwrap();
        let envelope = now(async {
            let mut writer = encryptor.async_writer(Vec::new()).await.unwrap();
            for piece in in_pieces(&plaintext, &writes) {
                writer.write_all(piece).await.unwrap();
                writer.flush().await.unwrap();
            }
            writer.finish().await.unwrap()
        });

        let decryptor = decryptor(&people, Backend::default());
        let mut reader = now(decryptor.async_reader(&*envelope)).unwrap();
        let mut sizes = reads.iter().cycle();
        prop_assert!(read_all(|buffer| now(reader.read(buffer)), &mut sizes) == plaintext);
    }

    #[test]
    fn a_seeking_reader_is_like_a_cursor_over_the_plaintext(
        len in len(),
        segment_len in segment_len(),
        steps in prop::collection::vec((seek(), 0..3 * FULL), 1..20),
    ) {
        let people = People::new();
        let plaintext = plaintext(len);
        let encryptor = now(people.builder().segment_len(segment_len).prepare()).unwrap();
        let mut input = Cursor::new(encryptor.encrypt_slice(&plaintext).unwrap());
        let opened = now(decryptor(&people, Backend::default()).open(read_header(&mut input).unwrap()));
        let mut reader = opened.unwrap().seek_reader(input).unwrap();
        let mut cursor = Cursor::new(plaintext);
        for (seek, read) in steps {
            let to = seek.of(len);
            prop_assert_eq!(reader.seek(to).ok(), cursor.seek(to).ok());
            prop_assert_eq!(take(&mut reader, read), take(&mut cursor, read));
            prop_assert_eq!(reader.stream_position().unwrap(), cursor.position());
        }
        prop_assert_eq!(reader.verified_len().unwrap(), len as u64);
    }
}

/// Where to seek, for a plaintext whose length is not known yet.
#[derive(Clone, Debug)]
enum To {
    Start(Index),
    Current(i64),
    End(i64),
}

impl To {
    fn of(&self, len: usize) -> SeekFrom {
        match self {
            Self::Start(index) => SeekFrom::Start(index.index(len + 2 * FULL) as u64),
            Self::Current(delta) => SeekFrom::Current(*delta),
            Self::End(delta) => SeekFrom::End(*delta),
        }
    }
}

fn seek() -> impl Strategy<Value = To> {
    let delta = -3 * FULL as i64..3 * FULL as i64;
    prop_oneof![
        any::<Index>().prop_map(To::Start),
        delta.clone().prop_map(To::Current),
        delta.prop_map(To::End),
    ]
}

fn len() -> impl Strategy<Value = usize> {
    let edges = vec![0, 1, FULL - 1, FULL, FULL + 1, 2 * FULL, 8160, 8161];
    prop_oneof![prop::sample::select(edges), 0..5 * FULL]
}

fn segment_len() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![4096, 8192, 65536])
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..10usize, 1..2 * FULL, Just(FULL)], 1..8)
}

fn backend() -> impl Strategy<Value = Backend> {
    prop::sample::select(Backend::available())
}

type WayIn = fn(Encryptor, &[u8]) -> Vec<u8>;

const WAYS_IN: &[(&str, WayIn)] = &[
    ("slice", |encryptor, plaintext| encryptor.encrypt_slice(plaintext).unwrap()),
    ("into a slice", |encryptor, plaintext| {
        let len = usize::try_from(encryptor.envelope_len(plaintext.len() as u64).unwrap()).unwrap();
        let mut buffer = vec![0xEE; len + 3];
        assert_eq!(encryptor.encrypt_into(plaintext, &mut buffer).unwrap(), len);
        assert_eq!(buffer.split_off(len), [0xEE; 3]);
        buffer
    }),
    ("in place", |encryptor, plaintext| {
        let mut buffer = plaintext.to_vec();
        buffer.shrink_to_fit();
        encryptor.encrypt_in_place(&mut buffer).unwrap();
        buffer
    }),
    ("in place, with room", |encryptor, plaintext| {
        let len = usize::try_from(encryptor.envelope_len(plaintext.len() as u64).unwrap()).unwrap();
        let mut buffer = Vec::with_capacity(len);
        buffer.extend_from_slice(plaintext);
        let place = buffer.as_ptr();
        encryptor.encrypt_in_place(&mut buffer).unwrap();
        assert_eq!((buffer.len(), buffer.as_ptr()), (len, place), "it stays where it is");
        buffer
    }),
    ("stream", |encryptor, plaintext| {
        let mut envelope = Vec::new();
        let len = encryptor.encrypt(plaintext, &mut envelope).unwrap();
        assert_eq!(len, plaintext.len() as u64);
        envelope
    }),
    ("writer", |encryptor, plaintext| {
        let mut writer = encryptor.writer(Vec::new()).unwrap();
        writer.write_all(plaintext).unwrap();
        writer.finish().unwrap()
    }),
    ("tokio writer", |encryptor, plaintext| {
        let mut envelope = Vec::new();
        now(async {
            let mut writer = encryptor.async_writer(&mut envelope).await.unwrap();
            writer.write_all(plaintext).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        envelope
    }),
];

fn backends() -> impl Iterator<Item = (Backend, Backend)> {
    let all = Backend::available();
    all.iter().flat_map(move |&sealing| all.iter().map(move |&opening| (sealing, opening)))
}

fn encryptor(people: &People, backend: Backend) -> Encryptor {
    now(people.builder().backend(backend).prepare()).unwrap()
}

fn decryptor(people: &People, backend: Backend) -> Decryptor {
    people.having_both(Decryptor::expecting(context())).backend(backend)
}

fn plaintext_of(outcome: Outcome) -> Vec<u8> {
    outcome.result.unwrap();
    match outcome.released {
        Released::AtOnce(bytes)
        | Released::BySeeking(bytes)
        | Released::Streaming(bytes)
        | Released::InPlaces(bytes) => bytes,
    }
}

fn in_pieces<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn read_all<'a>(
    mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    sizes: &mut impl Iterator<Item = &'a usize>,
) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut buffer = vec![0; *sizes.next().unwrap()];
        match read(&mut buffer).unwrap() {
            0 => return all,
            len => all.extend(&buffer[..len]),
        }
    }
}

/// Up to `len` bytes: fewer only at the end.
fn take(from: &mut impl Read, len: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    from.take(len as u64).read_to_end(&mut taken).unwrap();
    taken
}

/// No two segments are alike.
fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect()
}
