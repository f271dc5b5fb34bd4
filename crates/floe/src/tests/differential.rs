//! The same payloads through `floe-rs`, an implementation by others, and
//! through our own backends against each other.

use floe_rs::gcm::{FloeDecryptor, FloeEncryptor, FloeKey, Header as TheirHeader, Segment};
use proptest::prelude::*;

use super::support::{Case, OPENS, READERS, SEALS, message, segment_iv};
use crate::{Backend, Finality, Header, Layout, OpenKey, SEGMENT_OVERHEAD, SegmentLen};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn floe_rs_opens_ours(key: [u8; 32], iv: [u8; 32], aad: Vec<u8>, len in 0..700usize) {
        ours_to_theirs::<33>(key, iv, &aad, len % 8);
        ours_to_theirs::<64>(key, iv, &aad, len);
        ours_to_theirs::<173>(key, iv, &aad, len);
        ours_to_theirs::<4096>(key, iv, &aad, len * 20);
    }

    #[test]
    fn we_open_floe_rs(key: [u8; 32], aad: Vec<u8>, len in 0..700usize) {
        theirs_to_ours::<33>(key, &aad, len % 8);
        theirs_to_ours::<64>(key, &aad, len);
        theirs_to_ours::<173>(key, &aad, len);
        theirs_to_ours::<4096>(key, &aad, len * 20);
    }

    #[test]
    fn backends_write_the_same_bytes(
        key: [u8; 32],
        iv: [u8; 32],
        aad: Vec<u8>,
        segment_len in 33u32..5000,
        len in 0..20_000usize,
    ) {
        let len = len.min(segment_len as usize * 30);
        let case = Case { key, iv, aad, ..Case::new(segment_len) };
        let plaintext = message(len);
        let [first, others @ ..] = Backend::available() else { unreachable!() };
        let sealed = case.seal(*first, &plaintext);
        for &backend in others {
            prop_assert_eq!(&sealed, &case.seal(backend, &plaintext));
        }
        for &backend in Backend::available() {
            for open in READERS {
                prop_assert_eq!(&open(&case, backend, &sealed).unwrap(), &plaintext);
            }
        }
    }
}

#[test]
fn full_and_empty_last_segments_are_read_by_all() {
    let case = Case::new(64);
    let full = message(32);
    let writers: [&[&[u8]]; 4] = [&[b""], &[&full], &[&full, &full], &[&full, &full, b""]];
    for pieces in writers {
        let plaintext = pieces.concat();
        for &backend in Backend::available() {
            let payload = case.seal_pieces(backend, pieces);
            assert_eq!(payload.len(), Header::LEN + pieces.len() * 32 + plaintext.len());
            for open in READERS {
                assert_eq!(open(&case, backend, &payload).unwrap(), plaintext);
            }
            assert_eq!(decrypt_with_floe_rs::<64>(&case, &payload), plaintext);
        }
    }
}

/// The positions around the first change of key, and the last two of all.
#[test]
fn far_positions_agree_with_floe_rs() {
    let segment_len = SegmentLen::new(64).unwrap();
    let longest = Layout::of_plaintext(segment_len, 32 << 40).unwrap();
    assert_eq!(longest.segments(), 1 << 40);
    for index in [(1 << 20) - 1, 1 << 20, (1 << 40) - 2, (1 << 40) - 1] {
        for &backend in Backend::available() {
            floe_rs_opens_our_segment(&longest, index, backend);
            we_open_the_segment_of_floe_rs(&longest, index, backend);
        }
    }
}

fn floe_rs_opens_our_segment(layout: &Layout, index: u64, backend: Backend) {
    let case = Case::new(64);
    let (key, header) = case.seal_key(backend);
    let last = layout.place(index).unwrap().finality() == Finality::Last;
    for seal in SEALS {
        let place = layout.place(index).unwrap();
        let segment = seal(&mut key.sealer(), place, segment_iv(index), &message(32));
        let mut opened = [0; 32];
        their_decryptor::<64>(&case, &header)
            .decrypt_segment(&Segment::from_bytes(&segment).unwrap(), &mut opened, index, last)
            .unwrap();
        assert_eq!(opened[..], message(32), "{index}, {backend}");
    }
}

fn we_open_the_segment_of_floe_rs(layout: &Layout, index: u64, backend: Backend) {
    let case = Case::new(64);
    let theirs = FloeEncryptor::<64>::new(&their_key(&case.key), &case.aad);
    let last = layout.place(index).unwrap().finality() == Finality::Last;
    let mut segment = [0; 64];
    theirs.encrypt_segment(&message(32), &mut segment, index, last).unwrap();

    let header = header_bytes(theirs.header());
    let key = OpenKey::open(&case.key, &case.aad, &header, backend).unwrap();
    for open in OPENS {
        let opened = open(&mut key.opener(), layout.place(index).unwrap(), &segment).unwrap();
        assert_eq!(opened, message(32), "{index}, {backend}");
    }
}

fn ours_to_theirs<const S: u32>(key: [u8; 32], iv: [u8; 32], aad: &[u8], len: usize) {
    let case = Case { key, iv, aad: aad.to_vec(), ..Case::new(S) };
    let plaintext = message(len);
    for &backend in Backend::available() {
        let payload = case.seal(backend, &plaintext);
        assert_eq!(decrypt_with_floe_rs::<S>(&case, &payload), plaintext, "{backend}");
    }
}

/// Also seals again with their IVs: the bytes must be theirs.
fn theirs_to_ours<const S: u32>(key: [u8; 32], aad: &[u8], len: usize) {
    let mut case = Case { key, aad: aad.to_vec(), ..Case::new(S) };
    let plaintext = message(len);
    let payload = encrypt_with_floe_rs::<S>(&case, &plaintext);
    case.iv = *Header::parse(payload.first_chunk().unwrap()).unwrap().iv();
    for &backend in Backend::available() {
        for open in READERS {
            assert_eq!(open(&case, backend, &payload).unwrap(), plaintext, "{backend}");
        }
        assert_eq!(case.seal_like(backend, &plaintext, &payload), payload, "{backend}");
    }
}

pub(super) fn decrypt_with_floe_rs<const S: u32>(case: &Case, payload: &[u8]) -> Vec<u8> {
    let (header, segments) = payload.split_first_chunk().unwrap();
    let theirs = their_decryptor::<S>(case, header);
    let segments: Vec<_> = segments.chunks(S as usize).collect();
    let mut plaintext = Vec::new();
    for (index, bytes) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        let mut opened = vec![0; bytes.len() - SEGMENT_OVERHEAD];
        let segment = Segment::from_bytes(bytes).unwrap();
        theirs.decrypt_segment(&segment, &mut opened, index as u64, last).unwrap();
        plaintext.extend(opened);
    }
    plaintext
}

fn encrypt_with_floe_rs<const S: u32>(case: &Case, plaintext: &[u8]) -> Vec<u8> {
    let theirs = FloeEncryptor::<S>::new(&their_key(&case.key), &case.aad);
    let mut payload = header_bytes(theirs.header()).to_vec();
    let chunks: Vec<_> = match plaintext {
        [] => vec![plaintext],
        _ => plaintext.chunks(S as usize - SEGMENT_OVERHEAD).collect(),
    };
    for (index, chunk) in chunks.iter().enumerate() {
        let last = index + 1 == chunks.len();
        let mut segment = vec![0; chunk.len() + SEGMENT_OVERHEAD];
        theirs.encrypt_segment(chunk, &mut segment, index as u64, last).unwrap();
        payload.extend(segment);
    }
    payload
}

fn their_decryptor<'a, const S: u32>(case: &'a Case, header: &[u8; 74]) -> FloeDecryptor<'a, S> {
    let header = TheirHeader::from_bytes(header).unwrap();
    FloeDecryptor::new(&their_key(&case.key), &case.aad, &header).unwrap()
}

fn their_key(key: &[u8; 32]) -> FloeKey {
    FloeKey::from(*key)
}

/// `floe-rs` gives a header's parts, but not its bytes.
fn header_bytes(header: &TheirHeader) -> [u8; Header::LEN] {
    let params = header.parameters();
    let bytes = [
        &[params.aead_id(), params.kdf_id()][..],
        &params.segment_length().to_be_bytes(),
        &params.floe_iv_size().to_be_bytes(),
        header.iv().as_array(),
        header.tag().as_array(),
    ];
    bytes.concat().try_into().unwrap()
}
