//! What storage may do to a payload. Every one of these must be an error.

use super::support::{Case, OPENS, READERS, message, segment_iv, unsealed};
use crate::{
    Backend, Header, OpenError, OpenKey, PLAINTEXT_OFFSET, SealError, SegmentError, Sequence,
};

const SEGMENT: usize = 64;

/// A payload of three full segments and one of 37 bytes.
fn payload(case: &Case) -> Vec<u8> {
    case.seal(Backend::default(), &message(3 * 32 + 5))
}

/// Its segments, cut apart.
fn segments(payload: &[u8]) -> Vec<Vec<u8>> {
    payload[Header::LEN..].chunks(SEGMENT).map(<[u8]>::to_vec).collect()
}

fn assert_refused(case: &Case, payload: &[u8], what: &str) {
    for &backend in Backend::available() {
        for open in READERS {
            assert!(open(case, backend, payload).is_err(), "{what}, {backend}");
        }
    }
}

/// The header of `payload` and other segments.
fn with_segments(payload: &[u8], segments: &[Vec<u8>]) -> Vec<u8> {
    [&payload[..Header::LEN], &segments.concat()].concat()
}

#[test]
fn the_untouched_payload_opens() {
    let case = Case::new(64);
    for &backend in Backend::available() {
        for open in READERS {
            assert_eq!(open(&case, backend, &payload(&case)).unwrap(), message(101));
        }
    }
}

#[test]
fn every_bit_flip_is_refused() {
    let case = Case::new(64);
    let good = payload(&case);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_refused(&case, &bad, &format!("bit {bit}"));
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let case = Case::new(64);
    let good = payload(&case);
    for len in 0..good.len() {
        assert_refused(&case, &good[..len], &format!("cut to {len}"));
    }
    for extra in 1..=2 * SEGMENT {
        let longer = [&good[..], &vec![0; extra]].concat();
        assert_refused(&case, &longer, &format!("{extra} more"));
    }
}

#[test]
fn swapped_repeated_and_missing_segments_are_refused() {
    let case = Case::new(64);
    let good = payload(&case);
    let parts = segments(&good);
    for i in 0..parts.len() {
        let mut missing = parts.clone();
        missing.remove(i);
        assert_refused(&case, &with_segments(&good, &missing), &format!("without {i}"));
        for j in 0..parts.len() {
            let mut repeated = parts.clone();
            repeated.insert(j, parts[i].clone());
            assert_refused(&case, &with_segments(&good, &repeated), &format!("{i} again at {j}"));
            let mut swapped = parts.clone();
            swapped.swap(i, j);
            if i != j {
                let what = format!("{i} and {j} swapped");
                assert_refused(&case, &with_segments(&good, &swapped), &what);
            }
        }
    }
}

#[test]
fn segments_of_another_payload_are_refused() {
    let case = Case::new(64);
    let other = Case { iv: [9; 32], ..case.clone() };
    let good = payload(&case);
    let foreign = segments(&payload(&other));
    for i in 0..foreign.len() {
        let mut spliced = segments(&good);
        spliced[i] = foreign[i].clone();
        assert_refused(&case, &with_segments(&good, &spliced), &format!("spliced {i}"));
    }
    assert_refused(&case, &with_segments(&payload(&other), &segments(&good)), "another header");
}

/// The length field is not covered by the tag itself: the AAD must catch this.
#[test]
fn finality_cannot_be_changed() {
    let case = Case::new(64);
    let good = case.seal(Backend::default(), &message(64));
    for &backend in Backend::available() {
        let mut opener = case.open_key(backend, &good).unwrap().opener();
        let mut ended = segments(&good)[0].clone();
        ended[..4].copy_from_slice(&64u32.to_be_bytes());
        for open in OPENS {
            let (refused, _) = open(&mut opener, Sequence::new().last(), &ended).unwrap_err();
            assert!(matches!(refused, SegmentError::NotAuthentic { .. }), "{refused}");
        }
        assert_refused(&case, &with_segments(&good, &[ended]), "ended early");
    }

    let one = case.seal(Backend::default(), &message(32));
    for &backend in Backend::available() {
        let mut opener = case.open_key(backend, &one).unwrap().opener();
        let mut goes_on = segments(&one)[0].clone();
        goes_on[..4].copy_from_slice(&[0xFF; 4]);
        for open in OPENS {
            let place = Sequence::new().next().unwrap();
            let (refused, _) = open(&mut opener, place, &goes_on).unwrap_err();
            assert!(matches!(refused, SegmentError::NotAuthentic { .. }), "{refused}");
        }
    }
}

#[test]
fn every_other_length_field_is_refused() {
    let case = Case::new(64);
    let good = payload(&case);
    let last = good.len() - 37;
    for at in [Header::LEN, last] {
        for field in (0..=130).chain([u32::MAX - 1, u32::MAX]) {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&field.to_be_bytes());
            if bad != good {
                assert_refused(&case, &bad, &format!("length field {field} at {at}"));
            }
        }
    }
}

#[test]
fn another_key_or_aad_opens_no_header() {
    let case = Case::new(64);
    let good = payload(&case);
    let header = good.first_chunk().unwrap();
    let mut aad = case.aad.clone();
    aad.push(0);
    for &backend in Backend::available() {
        for (key, aad) in [([3; 32], &case.aad), (case.key, &aad), (case.key, &Vec::new())] {
            let opened = OpenKey::open(&key, aad, header, backend);
            assert_eq!(opened.unwrap_err(), OpenError::NotAuthentic);
        }
    }
}

/// The header tag binds the parameters: a segment length that parses is refused.
#[test]
fn another_segment_length_opens_no_header() {
    let case = Case::new(64);
    let mut header = *payload(&case).first_chunk().unwrap();
    header[2..6].copy_from_slice(&4096u32.to_be_bytes());
    for &backend in Backend::available() {
        let opened = OpenKey::open(&case.key, &case.aad, &header, backend);
        assert_eq!(opened.unwrap_err(), OpenError::NotAuthentic);
    }
}

#[test]
fn errors_name_the_position() {
    let case = Case::new(64);
    let mut good = payload(&case);
    good[Header::LEN + 2 * SEGMENT + 20] ^= 1;
    let error = case.open_stream(Backend::default(), &good).unwrap_err();
    assert_eq!(error.to_string(), "segment 2 is not authentic");
}

#[test]
fn a_failure_leaves_no_plaintext() {
    let case = Case::new(4096);
    let secret = vec![0x5A; 4064];
    let good = case.seal(Backend::default(), &secret);
    for &backend in Backend::available() {
        let mut opener = case.open_key(backend, &good).unwrap().opener();
        for byte in [4, PLAINTEXT_OFFSET, 2000, 4095] {
            let mut segment = good[Header::LEN..].to_vec();
            segment[byte] ^= 1;
            for open in OPENS {
                let (_, left) = open(&mut opener, Sequence::new().last(), &segment).unwrap_err();
                assert_eq!(left, vec![0; 4064], "{backend}");
            }
        }
    }
}

#[test]
fn buffers_of_the_wrong_length_are_refused_and_left_alone() {
    let case = Case::new(64);
    for &backend in Backend::available() {
        let (key, header) = case.seal_key(backend);
        let mut sealer = key.sealer();
        let mut opener = case.open_key(backend, &header).unwrap().opener();
        for len in (0..32).chain([63, 65, 128]) {
            let before = vec![0xEE; len];
            let mut buf = before.clone();
            let place = |long: bool| match long {
                true => Sequence::new().next().unwrap(),
                false => Sequence::new().last(),
            };
            let iv = segment_iv(0);
            let long = len == 63;
            let sealed = sealer.seal(place(long), iv, &mut buf).unwrap_err();
            assert!(matches!(sealed, SealError::Len { len: was, .. } if was == len));
            let sealed = sealer.seal_from(place(long), iv, &message(32), &mut buf).unwrap_err();
            assert!(matches!(sealed, SealError::Len { len: was, .. } if was == len));
            let opened = opener.open(place(long), &mut buf).unwrap_err();
            assert!(matches!(opened, SegmentError::Len { len: was, .. } if was == len));
            let opened = opener.open_into(place(long), &before, &mut buf).unwrap_err();
            assert!(matches!(opened, SegmentError::Len { len: was, .. } if was == len));
            assert_eq!(buf, before);
        }
        let mut segment = unsealed(&message(32));
        sealer.seal(Sequence::new().last(), segment_iv(0), &mut segment).unwrap();
    }
}

#[test]
fn plaintexts_that_do_not_fit_the_segment_are_refused() {
    let case = Case::new(64);
    let good = case.seal(Backend::default(), &message(20));
    for &backend in Backend::available() {
        let mut sealer = case.seal_key(backend).0.sealer();
        let mut opener = case.open_key(backend, &good).unwrap().opener();
        for len in (0..20).chain(21..70) {
            let (last, iv) = (|| Sequence::new().last(), segment_iv(0));
            let mut segment = [0xEE; 52];
            let refused = sealer.seal_from(last(), iv, &message(len), &mut segment).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("segment 0 takes 20 bytes of plaintext, not {len}")
            );
            assert_eq!(segment, [0xEE; 52]);

            let mut plaintext = vec![0xEE; len];
            let refused = opener.open_into(last(), &good[Header::LEN..], &mut plaintext);
            let expected = format!("segment 0 has 20 bytes of plaintext, not {len}");
            assert_eq!(refused.unwrap_err().to_string(), expected);
            assert_eq!(plaintext, vec![0xEE; len]);
        }
    }
}
