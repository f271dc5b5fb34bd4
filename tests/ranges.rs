//! Ranges: any of them, by many threads, and from inputs that do not do as they
//! should.

use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;
use twinlock::{
    Decryptor, Envelope, PayloadError, RangeReader, ReadAt, ReadAtCursor, read_detached_header,
    read_header,
};

use crate::entry_points::now;
use crate::people::{People, context};

const HEADER: usize = 2048;
/// Where the first segment stands.
const START: usize = HEADER + 74;
const SEGMENT: usize = 4096;
/// The plaintext of a full segment.
const FULL: usize = SEGMENT - 32;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_range_is_that_part_of_the_plaintext(
        size in size(),
        offset in 0..4 * FULL,
        len in size(),
        segment_len in prop::sample::select(vec![4096, 8192, 65536]),
    ) {
        let rig = Rig::new(size, segment_len);
        let reader = rig.reader(&rig.bytes);
        let expected = rig.part(offset, len);

        let mut buffer = vec![0xee; len];
        let whole = reader.read_exact_at(&mut buffer, offset as u64);
        prop_assert_eq!(whole.is_ok(), expected.len() == len);
        prop_assert!(buffer.starts_with(expected));

        prop_assert!(read_all(&reader, offset, len) == expected);

        let mut written = Vec::new();
        let end = (offset + len) as u64;
        let count = reader.write_range_to(offset as u64..end, &mut written).unwrap();
        prop_assert_eq!(count, expected.len() as u64);
        prop_assert!(written == expected);
        prop_assert_eq!(reader.verified_len().unwrap(), size as u64);
    }

    #[test]
    fn a_size_that_lies_gives_no_wrong_byte_and_no_wrong_end(
        size in size(),
        claimed in -3 * SEGMENT as i64..3 * SEGMENT as i64,
        has_what_it_claims in any::<bool>(),
        offset in 0..4 * FULL,
        len in 1..3 * FULL,
    ) {
        let rig = Rig::new(size, 4096);
        let claimed = rig.bytes.len().saturating_add_signed(isize::try_from(claimed).unwrap());
        let mut bytes = rig.bytes.clone();
        if has_what_it_claims {
            bytes.resize(claimed, 0);
        }
        let input = Claiming { bytes: &bytes, size: claimed as u64 };
        let Ok(reader) = rig.envelope.range_reader(input) else {
            prop_assert!(claimed != rig.bytes.len());
            return Ok(());
        };
        let ended = reader.verified_len();
        prop_assert_eq!(ended.is_ok(), claimed == rig.bytes.len());

        let mut buffer = vec![0; len];
        match reader.read_at(&mut buffer, offset as u64) {
            Ok(0) => prop_assert!(claimed == rig.bytes.len() && offset >= size),
            Ok(read) => prop_assert!(rig.part(offset, read) == &buffer[..read]),
            Err(_) => prop_assert!(claimed != rig.bytes.len()),
        }
        let whole = reader.write_range_to(.., &mut io::sink());
        prop_assert_eq!(whole.is_ok(), claimed == rig.bytes.len());
    }

    #[test]
    fn an_input_that_stutters_is_as_good_as_any(
        size in size(),
        offset in 0..3 * FULL,
        len in size(),
        piece in 1..2 * SEGMENT,
    ) {
        let rig = Rig::new(size, 4096);
        let reader = rig.reader(Stutter { bytes: &rig.bytes, piece, calls: AtomicUsize::new(0) });
        prop_assert!(read_all(&reader, offset, len) == rig.part(offset, len));
        prop_assert_eq!(reader.verified_len().unwrap(), size as u64);
    }
}

#[test]
fn many_threads_read_from_one_reader() {
    let rig = Rig::new(40 * FULL + 9, 4096);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), &rig.bytes).unwrap();
    let file = std::fs::File::open(folder.path().join("a")).unwrap();
    let reader = rig.reader(&file);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (reader, rig) = (&reader, &rig);
            scope.spawn(move || {
                for i in 0..200 {
                    let offset = (i * 7919 + thread * 31) % (41 * FULL);
                    let len = (i * 613) % (4 * FULL);
                    assert!(
                        read_all(reader, offset, len) == rig.part(offset, len),
                        "{offset} {len}"
                    );
                }
                assert_eq!(reader.verified_len().unwrap(), rig.plaintext.len() as u64);
            });
        }
    });
}

/// All of them have sent for their segment before the first gets an answer.
#[test]
fn no_thread_waits_for_what_another_reads() {
    let rig = Rig::new(9 * FULL, 4096);
    let meeting = std::sync::Barrier::new(8);
    let reader = rig.reader(Meeting { bytes: &rig.bytes, meeting: &meeting });
    thread::scope(|scope| {
        for index in 0..8 {
            let (reader, rig) = (&reader, &rig);
            scope.spawn(move || {
                assert!(read_all(reader, index * FULL, 9) == rig.part(index * FULL, 9));
            });
        }
    });
}

#[test]
fn an_altered_segment_fails_and_its_neighbours_do_not() {
    let rig = Rig::new(5 * FULL + 9, 4096);
    for altered in 0..6 {
        let mut bytes = rig.bytes.clone();
        bytes[START + altered * SEGMENT + 20] ^= 1;
        let reader = rig.reader(&bytes);
        for index in 0..6 {
            let read = reader.read_at(&mut [0; 9], (index * FULL) as u64);
            match index == altered {
                true => assert_eq!(blamed(&read.unwrap_err()), not_authentic(altered)),
                false => assert_eq!(read.unwrap(), 9, "{index}"),
            }
        }
        // The end is the last segment's matter alone.
        assert_eq!(reader.verified_len().is_ok(), altered != 5);

        let mut written = Vec::new();
        let error = reader.write_range_to(FULL as u64 / 2.., &mut written).unwrap_err();
        assert_eq!(blamed(&error), not_authentic(altered));
        assert!(written == rig.part(FULL / 2, (altered * FULL).saturating_sub(FULL / 2)));
    }
}

#[test]
fn a_long_read_gives_what_stands_before_an_altered_segment_and_then_the_error() {
    let rig = Rig::new(5 * FULL, 4096);
    let mut bytes = rig.bytes.clone();
    bytes[START + 2 * SEGMENT + 20] ^= 1;
    let reader = rig.reader(&bytes);
    let mut buffer = vec![0xee; 5 * FULL];
    assert_eq!(reader.read_at(&mut buffer, 7).unwrap(), 2 * FULL - 7);
    assert!(&buffer[..2 * FULL - 7] == rig.part(7, 2 * FULL - 7));
    let clean = |byte: &u8| [0xee, 0].contains(byte);
    assert!(buffer[2 * FULL - 7..].iter().all(clean), "unverified bytes came out");
    let error = reader.read_at(&mut buffer, 2 * FULL as u64).unwrap_err();
    assert_eq!(blamed(&error), not_authentic(2));
    assert_eq!(blamed(&reader.read_exact_at(&mut buffer, 7).unwrap_err()), not_authentic(2));
}

#[test]
fn swapped_segments_fail_both() {
    let rig = Rig::new(3 * FULL, 4096);
    let mut bytes = rig.bytes.clone();
    let (one, other) = bytes[START..].split_at_mut(SEGMENT);
    one.swap_with_slice(&mut other[..SEGMENT]);
    let reader = rig.reader(&bytes);
    for index in 0..2 {
        let error = reader.read_at(&mut [0; 9], (index * FULL) as u64).unwrap_err();
        assert_eq!(blamed(&error), not_authentic(index));
    }
    assert_eq!(reader.verified_len().unwrap(), 3 * FULL as u64);
}

#[test]
fn a_truncated_envelope_has_no_end_wherever_it_was_cut() {
    let rig = Rig::new(3 * FULL + 9, 4096);
    for len in HEADER..rig.bytes.len() {
        let Ok(reader) = rig.envelope.range_reader(&rig.bytes[..len]) else {
            // The end is too short for a segment: the size alone says so.
            let end = len.checked_sub(START).map(|payload| payload % SEGMENT);
            assert!(end.is_none_or(|end| end < 32), "{len}");
            continue;
        };
        assert!(reader.verified_len().is_err(), "{len}");
        assert!(reader.read_at(&mut [0; 9], u64::MAX - 9).is_err(), "{len}");
        // What is whole, and is not claimed to be the last, is as good as ever.
        let claimed_last = (len - START - 1) / SEGMENT;
        for index in 0..=claimed_last {
            let read = reader.read_at(&mut [0; 9], (index * FULL) as u64);
            assert_eq!(read.is_ok(), index < claimed_last, "{len} {index}");
        }
    }
}

#[test]
fn what_is_appended_hides_the_end_and_nothing_before_it() {
    let rig = Rig::new(2 * FULL + 9, 4096);
    for tail in [1, 31, 32, SEGMENT - 41, SEGMENT, 3 * SEGMENT] {
        let bytes = [&*rig.bytes, &vec![0; tail]].concat();
        let Ok(reader) = rig.envelope.range_reader(&bytes) else { continue };
        assert!(read_all(&reader, 5, 2 * FULL - 5) == rig.part(5, 2 * FULL - 5));
        assert!(reader.verified_len().is_err(), "{tail}");
        assert!(reader.write_range_to(.., &mut io::sink()).is_err(), "{tail}");
    }
}

#[test]
fn an_object_that_shrinks_while_it_is_read_is_cut_short() {
    let rig = Rig::new(3 * FULL, 4096);
    let len = START + SEGMENT + 7;
    let reader = rig.reader(Claiming { bytes: &rig.bytes[..len], size: rig.bytes.len() as u64 });
    let mut buffer = vec![0; 3 * FULL];
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), FULL);
    let error = reader.read_at(&mut buffer, FULL as u64).unwrap_err();
    assert_eq!(blamed(&error), PayloadError::Truncated { offset: len as u64 });
    let error = reader.verified_len().unwrap_err();
    assert!(matches!(blamed(&error), PayloadError::Truncated { .. }), "{error}");
}

#[test]
fn an_object_that_is_replaced_while_it_is_read_gives_no_byte_of_the_other() {
    let rig = Rig::new(3 * FULL, 4096);
    let other = rig.people.envelope(&vec![7; 3 * FULL]);
    let input = Replaced { now: Mutex::new(&rig.bytes) };
    let reader = rig.reader(&input);
    reader.read_exact_at(&mut [0; 9], 5).unwrap();
    *input.now.lock().unwrap() = &other;
    assert_eq!(blamed(&reader.read_at(&mut [0; 9], FULL as u64).unwrap_err()), not_authentic(1));
    assert_eq!(blamed(&reader.verified_len().unwrap_err()), not_authentic(2));
    *input.now.lock().unwrap() = &rig.bytes;
    reader.read_exact_at(&mut [0; 9], FULL as u64).unwrap();
    assert_eq!(reader.verified_len().unwrap(), 3 * FULL as u64);
}

#[test]
fn an_input_that_fails_is_not_the_envelopes_fault() {
    let rig = Rig::new(3 * FULL, 4096);
    let input = Failing { bytes: &rig.bytes, healthy: AtomicUsize::new(usize::MAX) };
    let reader = rig.reader(&input);
    for (healthy, offset) in [(0, 0), (0, 2 * FULL), (0, 9 * FULL)] {
        input.healthy.store(healthy, Ordering::SeqCst);
        let error = reader.read_at(&mut [0; 9], offset as u64).unwrap_err();
        assert_eq!(
            (error.to_string(), error.kind()),
            ("the cable is out".into(), ErrorKind::Other)
        );
    }
    assert_eq!(reader.verified_len().unwrap_err().to_string(), "the cable is out");
    // Nobody is the worse for it.
    input.healthy.store(usize::MAX, Ordering::SeqCst);
    assert!(read_all(&reader, 9, 2 * FULL) == rig.part(9, 2 * FULL));
    assert_eq!(reader.verified_len().unwrap(), 3 * FULL as u64);

    for healthy in [0, 1] {
        input.healthy.store(healthy, Ordering::SeqCst);
        let error = rig.envelope.range_reader(&input).err().unwrap();
        assert_eq!(error.to_string(), "the cable is out");
    }
}

#[test]
fn an_input_that_claims_more_than_it_was_asked_for_is_refused() {
    let rig = Rig::new(FULL, 4096);
    let error = rig.envelope.range_reader(Boasting(&rig.bytes)).err().unwrap();
    assert!(error.to_string().contains("more than asked"), "{error}");
}

#[test]
fn an_output_that_fails_got_a_verified_part_and_harms_nobody() {
    let rig = Rig::new(3 * FULL, 4096);
    let reader = rig.reader(&rig.bytes);
    let mut output = Limited { room: FULL + 9, written: Vec::new() };
    let error = reader.write_range_to(5.., &mut output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(output.written == rig.part(5, FULL + 9));
    assert!(read_all(&reader, 0, 3 * FULL) == rig.plaintext);
}

#[test]
fn what_is_beyond_the_end_is_said_to_be() {
    let rig = Rig::new(FULL + 9, 4096);
    let reader = rig.reader(&rig.bytes);
    let error = reader.read_exact_at(&mut [0; 10], FULL as u64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    let expected = "10 bytes from byte 4064 on were asked for, and the plaintext has 4073";
    assert_eq!(error.to_string(), expected);
    assert_eq!(reader.read_at(&mut [0; 10], u64::MAX).unwrap(), 0);
    let error = reader.read_exact_at(&mut [0; 10], u64::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn ranges_are_given_in_every_form() {
    let rig = Rig::new(14, 4096);
    let reader = rig.reader(&rig.bytes);
    let write = |write: &dyn Fn(&mut Vec<u8>) -> io::Result<u64>| {
        let mut written = Vec::new();
        assert_eq!(write(&mut written).unwrap(), written.len() as u64);
        written
    };
    assert_eq!(write(&|out| reader.write_range_to(.., out)), rig.plaintext);
    assert_eq!(write(&|out| reader.write_range_to(3.., out)), &rig.plaintext[3..]);
    assert_eq!(write(&|out| reader.write_range_to(..3, out)), &rig.plaintext[..3]);
    assert_eq!(write(&|out| reader.write_range_to(..=3, out)), &rig.plaintext[..=3]);
    assert_eq!(write(&|out| reader.write_range_to(2..=3, out)), &rig.plaintext[2..=3]);
    assert_eq!(write(&|out| reader.write_range_to(0..=u64::MAX, out)), rig.plaintext);
    assert_eq!(write(&|out| reader.write_range_to(99.., out)), b"");
}

#[test]
fn a_payload_whose_header_is_kept_apart_has_ranges_too() {
    let people = People::new();
    let plaintext = plaintext(2 * FULL + 9);
    let encryptor = now(people.builder().prepare()).unwrap().detached();
    let header = encryptor.header().to_vec();
    let payload = encryptor.encrypt_slice(&plaintext).unwrap();

    let decryptor = people.having_both(Decryptor::expecting(context()));
    let opened =
        now(decryptor.open(read_detached_header(&mut &*header).unwrap())).unwrap().detached();
    let reader = opened.range_reader(&payload).unwrap();
    assert!(read_all(&reader, FULL - 5, 10) == plaintext[FULL - 5..FULL + 5]);
    assert_eq!(reader.verified_len().unwrap(), plaintext.len() as u64);
    let whole = people.envelope(&plaintext);
    for wrong in [&whole[..], &payload[1..], &payload[..50], b""] {
        assert!(PayloadError::of(&opened.range_reader(wrong).err().unwrap()).is_some());
    }
}

#[test]
fn a_plaintext_is_read_as_an_object_and_as_a_stream() {
    let rig = Rig::new(3 * FULL + 9, 4096);
    let object: Box<dyn ReadAt> = Box::new(rig.bytes.clone());
    let plaintext: Box<dyn ReadAt> = Box::new(rig.reader(object));
    assert_eq!(plaintext.size().unwrap(), rig.plaintext.len() as u64);
    let mut cursor = ReadAtCursor::new(&plaintext);
    let mut back = Vec::new();
    cursor.read_to_end(&mut back).unwrap();
    assert!(back == rig.plaintext);
    assert_eq!(cursor.seek(SeekFrom::End(-9)).unwrap(), 3 * FULL as u64);
    assert_eq!(cursor.seek(SeekFrom::Current(-1)).unwrap(), 3 * FULL as u64 - 1);
    assert_eq!(
        cursor.seek(SeekFrom::Current(i64::MIN)).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    back.clear();
    cursor.read_to_end(&mut back).unwrap();
    assert!(back == rig.part(3 * FULL - 1, 10));

    // The header, too, is read through it.
    let header = read_header(&mut ReadAtCursor::new(&rig.bytes)).unwrap();
    assert_eq!(header.as_bytes(), &rig.bytes[..HEADER]);
}

#[test]
fn objects_in_memory_and_in_files_are_read_alike() {
    let bytes = plaintext(100);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), &bytes).unwrap();
    let file = std::fs::File::open(folder.path().join("a")).unwrap();
    let objects: [&dyn ReadAt; 4] =
        [&&bytes[..], &bytes, &std::sync::Arc::new(bytes.clone()), &file];
    for object in objects {
        assert_eq!(object.size().unwrap(), 100);
        for (offset, expected) in [
            (0, &bytes[..9]),
            (95, &bytes[95..]),
            (100, &[]),
            (101, &[]),
            (i64::MAX as u64 - 1, &[]),
            (u64::MAX, &[]),
        ] {
            let mut buffer = [0; 9];
            let len = object.read_at(&mut buffer, offset).unwrap();
            assert_eq!(&buffer[..len], expected, "{offset}");
        }
        assert_eq!(object.read_at(&mut [], 0).unwrap(), 0);
    }
}

/// An envelope, what is in it, and the same opened.
struct Rig {
    people: People,
    plaintext: Vec<u8>,
    bytes: Vec<u8>,
    envelope: Envelope,
}

impl Rig {
    fn new(size: usize, segment_len: u32) -> Self {
        let people = People::new();
        let plaintext = plaintext(size);
        let encryptor = now(people.builder().segment_len(segment_len).prepare()).unwrap();
        let bytes = encryptor.encrypt_slice(&plaintext).unwrap();
        let decryptor = people.having_both(Decryptor::expecting(context()));
        let envelope = now(decryptor.open(read_header(&mut &*bytes).unwrap())).unwrap();
        Self { people, plaintext, bytes, envelope }
    }

    fn reader<R: ReadAt>(&self, input: R) -> RangeReader<R> {
        self.envelope.range_reader(input).unwrap()
    }

    /// What there is of a part of the plaintext.
    fn part(&self, offset: usize, len: usize) -> &[u8] {
        let end = self.plaintext.len();
        &self.plaintext[offset.min(end)..(offset + len).min(end)]
    }
}

/// By as many reads as it takes; fewer bytes only at the end.
fn read_all(reader: &RangeReader<impl ReadAt>, offset: usize, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    let mut read = 0;
    while read < len {
        match reader.read_at(&mut buffer[read..], (offset + read) as u64).unwrap() {
            0 => break,
            more => read += more,
        }
    }
    buffer.truncate(read);
    buffer
}

#[track_caller]
fn blamed(error: &io::Error) -> PayloadError {
    *PayloadError::of(error).unwrap_or_else(|| panic!("not the payload's fault: {error}"))
}

fn not_authentic(index: usize) -> PayloadError {
    PayloadError::Segment { segment: index as u64, offset: (START + index * SEGMENT) as u64 }
}

fn size() -> impl Strategy<Value = usize> {
    let edges = vec![0, 1, FULL - 1, FULL, FULL + 1, 2 * FULL, 3 * FULL];
    prop_oneof![prop::sample::select(edges), 0..4 * FULL]
}

/// No two segments are alike.
fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect()
}

/// Says that it has another size than it has.
struct Claiming<'a> {
    bytes: &'a [u8],
    size: u64,
}

impl ReadAt for Claiming<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.bytes.read_at(buffer, offset)
    }
}

/// Interrupted on every other call, and a few bytes on the others.
struct Stutter<'a> {
    bytes: &'a [u8],
    piece: usize,
    calls: AtomicUsize,
}

impl ReadAt for Stutter<'_> {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.calls.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            return Err(ErrorKind::Interrupted.into());
        }
        let len = buffer.len().min(self.piece);
        self.bytes.read_at(&mut buffer[..len], offset)
    }
}

/// Answers when all have asked; what stands before the segments, at once.
struct Meeting<'a> {
    bytes: &'a [u8],
    meeting: &'a std::sync::Barrier,
}

impl ReadAt for Meeting<'_> {
    fn size(&self) -> io::Result<u64> {
        self.bytes.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= START as u64 {
            self.meeting.wait();
        }
        self.bytes.read_at(buffer, offset)
    }
}

/// Is replaced by another object, of the same size.
struct Replaced<'a> {
    now: Mutex<&'a [u8]>,
}

impl ReadAt for Replaced<'_> {
    fn size(&self) -> io::Result<u64> {
        self.now.lock().unwrap().size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.now.lock().unwrap().read_at(buffer, offset)
    }
}

/// Answers so many times, and then no more.
struct Failing<'a> {
    bytes: &'a [u8],
    healthy: AtomicUsize,
}

impl Failing<'_> {
    fn check(&self) -> io::Result<()> {
        let left = |left: usize| left.checked_sub(1);
        let checked = self.healthy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        checked.map(drop).map_err(|_| io::Error::other("the cable is out"))
    }
}

impl ReadAt for Failing<'_> {
    fn size(&self) -> io::Result<u64> {
        self.check()?;
        self.bytes.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check()?;
        self.bytes.read_at(buffer, offset)
    }
}

/// Says that it read more than it was asked for.
struct Boasting<'a>(&'a [u8]);

impl ReadAt for Boasting<'_> {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.0.read_at(buffer, offset)? + 1)
    }
}

/// Has room for so many bytes.
struct Limited {
    room: usize,
    written: Vec<u8>,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.room - self.written.len());
        if len == 0 {
            return Err(ErrorKind::StorageFull.into());
        }
        self.written.extend(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
