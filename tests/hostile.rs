//! What storage may do to a file: never a wrong byte out, and an error that
//! says where.

use std::{iter, thread};

use proptest::prelude::*;
use twinlock::{Backend, DecryptError, Decryptor, EncryptionContext, OpenError, PayloadError};

use crate::entry_points::{ENTRY_POINTS, EntryPoint, Outcome, Released};
use crate::people::{People, context};

/// The length of a header with standard padding and one small keyslot.
const HEADER: usize = 2048;
const FLOE_HEADER: usize = 74;
const SEGMENT: usize = 4096;
/// The plaintext of a full segment.
const FULL: usize = SEGMENT - 32;

#[test]
fn no_bit_of_an_envelope_can_be_flipped() {
    let target = Target::of(b"attack at dawn".to_vec());
    target.in_parallel(target.envelope.len() * 8, |bit| {
        let mut bytes = target.envelope.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        target.assert_refused(&bytes, &format!("bit {} of byte {}", bit % 8, bit / 8));
    });
}

#[test]
fn no_bit_of_a_payload_of_several_segments_can_be_flipped() {
    let target = Target::of(plaintext(2 * FULL + 9));
    let bits_behind_the_header = (target.envelope.len() - HEADER) * 8;
    // One bit of each byte, another in each byte, through all entry points.
    target.in_parallel(bits_behind_the_header / 8, |byte| {
        let mut bytes = target.envelope.clone();
        bytes[HEADER + byte] ^= 1 << (byte % 8);
        let outcomes = target.assert_refused(&bytes, &format!("byte {byte} of the payload"));
        let hit = byte.checked_sub(FLOE_HEADER).map(|offset| offset / SEGMENT);
        outcomes.iter().for_each(|outcome| assert_blames(outcome, hit));
    });
}

#[test]
fn no_end_can_be_cut_off() {
    let target = Target::of(plaintext(FULL + 9));
    target.in_parallel(target.envelope.len(), |len| {
        target.assert_refused(&target.envelope[..len], &format!("the first {len} bytes"));
    });
}

#[test]
fn nothing_can_be_appended() {
    let target = Target::of(plaintext(FULL + 9));
    let tails = (1..=70).map(|len| vec![0; len]).chain([
        vec![0; SEGMENT],
        target.envelope[target.envelope.len() - 41..].to_vec(),
        target.envelope[HEADER..].to_vec(),
        target.envelope.clone(),
    ]);
    for tail in tails {
        let bytes = [&*target.envelope, &tail].concat();
        target.assert_refused(&bytes, &format!("{} bytes appended", tail.len()));
    }
}

#[test]
fn segments_keep_their_order_and_their_number() {
    let target = Target::of(plaintext(3 * FULL + 9));
    let segments = target.segments();
    let mut arrangements = Vec::new();
    arrange(segments.len(), 5, &mut Vec::new(), &mut arrangements);
    for arrangement in arrangements {
        if arrangement == [0, 1, 2, 3] {
            continue;
        }
        let payload: Vec<u8> = arrangement.iter().flat_map(|&i| segments[i].clone()).collect();
        let bytes = [&target.envelope[..HEADER + FLOE_HEADER], &payload].concat();
        target.assert_refused(&bytes, &format!("segments {arrangement:?}"));
    }
}

/// More segments than one worker takes at a time, so that several have some.
#[test]
fn no_worker_takes_what_is_not_authentic() {
    let target = Target::of(plaintext(130 * FULL + 9));
    let segments = target.segments();
    let start = &target.envelope[..HEADER + FLOE_HEADER];
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut segments = segments.clone();
        change(&mut segments);
        [start, &segments.concat()].concat()
    };
    target.in_parallel(segments.len(), |i| {
        let next = (i + 1) % segments.len();
        let outcomes = target.assert_refused(&with(&|s| s[i][i % 41] ^= 1), "a flip");
        outcomes.iter().for_each(|outcome| assert_blames(outcome, Some(i)));
        target.assert_refused(&with(&|s| s.truncate(i)), "cut at a segment's end");
        target.assert_refused(
            &with(&|s| {
                s.truncate(i + 1);
                s[i].truncate(7);
            }),
            "cut in a segment",
        );
        target.assert_refused(&with(&|s| s.swap(i, next)), "two swapped");
        target.assert_refused(&with(&|s| s[next] = segments[i].clone()), "one repeated");
        target.assert_refused(&with(&|s| drop(s.remove(i))), "one left out");
        target.assert_refused(&with(&|s| s.insert(i, segments[i].clone())), "one more");
    });
}

#[test]
fn nothing_can_be_taken_from_another_file() {
    // The same holders, context and plaintext: only the secrets differ.
    let plaintext = plaintext(2 * FULL + 9);
    let target = Target::of(plaintext.clone());
    let other = target.people.envelope(&plaintext);
    let ends: Vec<usize> = [0, HEADER, HEADER + FLOE_HEADER]
        .into_iter()
        .chain((1..=2).map(|i| HEADER + FLOE_HEADER + i * SEGMENT))
        .chain([other.len()])
        .collect();
    // Every way to take some parts from the one and some from the other.
    for choice in 1..(1 << (ends.len() - 1)) - 1 {
        let part = |i: usize| {
            let from = if choice >> i & 1 == 0 { &target.envelope } else { &other };
            from[ends[i]..ends[i + 1]].to_vec()
        };
        let bytes: Vec<u8> = (0..ends.len() - 1).flat_map(part).collect();
        target.assert_refused(&bytes, &format!("parts {choice:05b} of another file"));
    }
}

#[test]
fn a_wrong_context_is_refused_before_any_holder_is_called() {
    let target = Target::of(b"secret".to_vec());
    let with = |pairs: &[(&'static str, &'static str)]| {
        Decryptor::expecting(EncryptionContext::from_pairs(pairs.iter().copied()).unwrap())
    };
    let calls = target.people.unwrap_calls();
    for expected in [
        with(&[]),
        with(&[("object", "b")]),
        with(&[("Object", "a")]),
        with(&[("object", "a"), ("more", "")]),
    ] {
        let decryptor = target.people.having_both(expected);
        for (name, entry_point) in ENTRY_POINTS {
            let outcome = entry_point(&decryptor, (&target.envelope).into());
            let refused = matches!(
                outcome.result,
                Err(DecryptError::Open(
                    OpenError::UnexpectedContext { .. } | OpenError::WrongContext { .. }
                ))
            );
            assert!(refused, "{name}");
        }
    }
    assert_eq!(target.people.unwrap_calls(), calls);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_mixture_of_edits_gives_a_wrong_byte(
        len in 0..3 * FULL,
        edits in prop::collection::vec(edit(), 1..5),
    ) {
        let target = Target::of(plaintext(len));
        let mut bytes = target.envelope.clone();
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        if bytes != target.envelope {
            target.assert_refused(&bytes, &format!("{edits:?}"));
        }
    }
}

/// Something that is done to a file. Places are parts of its length.
#[derive(Clone, Debug)]
enum Edit {
    Copy { from: f64, to: f64, len: usize },
    Insert { at: f64, bytes: Vec<u8> },
    Overwrite { at: f64, bytes: Vec<u8> },
    Remove { at: f64, len: usize },
    Swap { one: f64, other: f64, len: usize },
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = || 0.0..1.0f64;
    let len = || prop_oneof![1..40usize, Just(SEGMENT), Just(FLOE_HEADER)];
    let bytes = || prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        (place(), place(), len()).prop_map(|(from, to, len)| Edit::Copy { from, to, len }),
        (place(), bytes()).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        (place(), bytes()).prop_map(|(at, bytes)| Edit::Overwrite { at, bytes }),
        (place(), len()).prop_map(|(at, len)| Edit::Remove { at, len }),
        (place(), place(), len()).prop_map(|(one, other, len)| Edit::Swap { one, other, len }),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and positive"
        )]
        let place = |part: f64| (part * bytes.len() as f64) as usize;
        let range = |start: usize, len: usize| start..bytes.len().min(start + len);
        match self {
            Self::Copy { from, to, len } => {
                let (copied, to) = (bytes[range(place(*from), *len)].to_vec(), place(*to));
                bytes.splice(to..to, copied);
            }
            Self::Insert { at, bytes: inserted } => {
                let at = place(*at);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Self::Overwrite { at, bytes: new } => {
                let range = range(place(*at), new.len());
                bytes.splice(range, new.iter().copied());
            }
            Self::Remove { at, len } => {
                let range = range(place(*at), *len);
                bytes.drain(range);
            }
            Self::Swap { one, other, len } => {
                let (one, other) = (place(*one), place(*other));
                for i in 0..len.min(&(bytes.len() - one.max(other))).to_owned() {
                    bytes.swap(one + i, other + i);
                }
            }
        }
    }
}

/// An envelope, what is in it, and readers that would open it.
struct Target {
    people: People,
    plaintext: Vec<u8>,
    envelope: Vec<u8>,
    /// Whoever expects a context has one check more: the other expects none.
    decryptors: Vec<Decryptor>,
}

impl Target {
    fn of(plaintext: Vec<u8>) -> Self {
        let people = People::new();
        let envelope = people.envelope(&plaintext);
        let backends = Backend::available().iter().copied();
        let expected = [Decryptor::expecting(context()), Decryptor::any_context()];
        let decryptors = expected.into_iter().zip(backends.cycle());
        let decryptors = decryptors
            .map(|(expected, backend)| people.having_both(expected).backend(backend))
            .collect();
        let target = Self { people, plaintext, envelope, decryptors };
        target.assert_opens();
        target
    }

    fn assert_opens(&self) {
        for (_, entry_point, decryptor) in self.ways() {
            let outcome = entry_point(decryptor, (&self.envelope).into());
            outcome.result.unwrap();
        }
    }

    /// No way in opens `bytes`, or releases a byte that was not encrypted.
    fn assert_refused(&self, bytes: &[u8], what: &str) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (name, entry_point, decryptor) in self.ways() {
            let outcome = entry_point(decryptor, bytes.into());
            let error = outcome.result.as_ref().expect_err(what);
            assert!(says_where(error), "{what}, {name}: {error}");
            let fits = match &outcome.released {
                Released::AtOnce(released) => released.is_empty(),
                Released::BySeeking(released) | Released::Streaming(released) => {
                    self.plaintext.starts_with(released)
                }
                Released::InPlaces(released) => {
                    let known = self.plaintext.iter().map(Some).chain(iter::repeat(None));
                    released
                        .iter()
                        .zip(known)
                        .all(|(byte, known)| *byte == 0 || known == Some(byte))
                }
            };
            assert!(fits, "{what}, {name}: a wrong byte came out");
            outcomes.push(outcome);
        }
        outcomes
    }

    /// All entry points but the one of whole files, which is the stream's and
    /// spends its time on the disk.
    fn ways(&self) -> impl Iterator<Item = (&str, EntryPoint, &Decryptor)> {
        let entry_points = ENTRY_POINTS.iter().filter(|(name, _)| *name != "file");
        let ways = entry_points.zip(self.decryptors.iter().cycle());
        ways.map(|((name, entry_point), decryptor)| (*name, *entry_point, decryptor))
    }

    fn segments(&self) -> Vec<Vec<u8>> {
        self.envelope[HEADER + FLOE_HEADER..].chunks(SEGMENT).map(<[u8]>::to_vec).collect()
    }

    /// Runs `test` for all numbers below `count`, on all processors.
    fn in_parallel(&self, count: usize, test: impl Fn(usize) + Sync) {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for worker in 0..workers {
                let test = &test;
                scope.spawn(move || (worker..count).step_by(workers).for_each(test));
            }
        });
    }
}

/// Whether an error tells what part of the file is at fault.
fn says_where(error: &DecryptError) -> bool {
    let text = error.to_string();
    ["header", "byte ", "key", "context", "not a Twinlock file", "version", "suite"]
        .iter()
        .any(|place| text.contains(place))
}

/// A flip in one segment is reported for that segment; `None` is the payload's
/// header.
#[track_caller]
fn assert_blames(outcome: &Outcome, hit: Option<usize>) {
    let Err(DecryptError::Payload(error)) = &outcome.result else {
        panic!("not the payload's fault: {:?}", outcome.result.as_ref().err());
    };
    let start = (HEADER + hit.map_or(0, |hit| FLOE_HEADER + hit * SEGMENT)) as u64;
    match (error, hit) {
        (PayloadError::Header { offset }, None) => assert_eq!(*offset, start),
        (PayloadError::Segment { segment, offset }, Some(hit)) => {
            assert_eq!((*segment, *offset), (hit as u64, start));
        }
        // A length field that was altered may claim more or less than is there.
        (PayloadError::Trailing { offset } | PayloadError::Truncated { offset }, Some(_)) => {
            assert!(*offset > start, "{error}");
        }
        _ => panic!("{hit:?}: {error}"),
    }
}

/// All arrangements of at most `len` of `count` things, with repetitions.
fn arrange(count: usize, len: usize, so_far: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    all.push(so_far.clone());
    if so_far.len() < len {
        for next in 0..count {
            so_far.push(next);
            arrange(count, len, so_far, all);
            so_far.pop();
        }
    }
}

/// No two segments are alike.
fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect()
}
