//! A few bytes out of a large envelope.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use twinlock::{Backend, Envelope, ReadAt};

use crate::Case;
use crate::stream::{encrypted, encrypted_to};

/// How much is read each time, in bytes.
pub const RANGE_LEN: usize = 4096;

/// One reader, and a range somewhere else each time: opens the one or two
/// segments that hold it.
#[must_use]
pub fn read(segment_len: u32, total: usize) -> Case {
    let (opened, envelope) = encrypted(Backend::default(), segment_len, total);
    let mut reader = opened.seek_reader(Cursor::new(envelope)).expect("it was encrypted above");
    let mut offsets = offsets((total - RANGE_LEN) as u64);
    let mut range = vec![0; RANGE_LEN];
    Case::new(format!("range read/{segment_len}"), RANGE_LEN, move || {
        reader.seek(SeekFrom::Start(offsets())).expect("a seek alone reads nothing");
        reader.read_exact(&mut range).expect("it was encrypted above");
    })
}

/// The same with a new reader each time, as a server of ranges does it: makes
/// the payload's keys and a buffer, too.
#[must_use]
pub fn open_and_read(segment_len: u32, total: usize) -> Case {
    let (opened, envelope) = encrypted(Backend::default(), segment_len, total);
    let mut offsets = offsets((total - RANGE_LEN) as u64);
    let mut range = vec![0; RANGE_LEN];
    Case::new(format!("range open and read/{segment_len}"), RANGE_LEN, move || {
        let mut reader =
            opened.seek_reader(Cursor::new(&envelope[..])).expect("it was encrypted above");
        reader.seek(SeekFrom::Start(offsets())).expect("a seek alone reads nothing");
        reader.read_exact(&mut range).expect("it was encrypted above");
    })
}

/// An envelope in a file, opened.
pub struct Stored {
    file: Arc<File>,
    opened: Envelope,
    segment_len: u32,
    total: u64,
}

/// What ranges took, on average: calls of the input, and segments.
pub struct Cost {
    /// How many calls a range took.
    pub reads: f64,
    /// How many segments it took.
    pub segments: f64,
    /// How many the dearest one took.
    pub most_segments: u64,
}

impl Stored {
    /// Of `total` bytes, in a file among the temporary ones, which has no name:
    /// the system removes it when it is closed.
    ///
    /// # Panics
    /// Where there is no room for it.
    #[must_use]
    pub fn new(segment_len: u32, total: u64) -> Self {
        let file = Arc::new(nameless_file().expect("temporary files can be written"));
        let opened = encrypted_to(&file, segment_len, total);
        Self { file, opened, segment_len, total }
    }

    /// Ranges of `len` bytes through one `RangeReader`, `rounds` of them.
    #[must_use]
    pub fn read(&self, len: usize, rounds: usize) -> Case {
        let reader = self.opened.range_reader(Arc::clone(&self.file)).expect("it is in the file");
        let mut offsets = far_offsets(self.total - len as u64);
        let mut range = vec![0; len];
        Case::new(format!("range file/{len}"), len * rounds, move || {
            for _ in 0..rounds {
                reader.read_exact_at(&mut range, offsets()).expect("it was encrypted above");
            }
        })
    }

    /// The same ranges of the file itself, as if nothing were encrypted.
    #[must_use]
    pub fn pread(&self, len: usize, rounds: usize) -> Case {
        let (file, mut offsets) = (Arc::clone(&self.file), far_offsets(self.total - len as u64));
        let mut range = vec![0; len];
        Case::new(format!("range pread/{len}"), len * rounds, move || {
            for _ in 0..rounds {
                file.read_exact_at(&mut range, offsets()).expect("the file is longer");
            }
        })
    }

    /// The segments of the same ranges, which have to be fetched and are not
    /// opened.
    #[must_use]
    pub fn pread_segments(&self, len: usize, rounds: usize) -> Case {
        let (file, mut offsets) = (Arc::clone(&self.file), far_offsets(self.total - len as u64));
        let (whole, plaintext) = (u64::from(self.segment_len), u64::from(self.segment_len - 32));
        let mut buffer = vec![0; len + 2 * self.segment_len as usize];
        Case::new(format!("range pread segments/{len}"), len * rounds, move || {
            for _ in 0..rounds {
                let offset = offsets();
                let (first, last) = (offset / plaintext, (offset + len as u64 - 1) / plaintext);
                let fetched = usize::try_from((last - first + 1) * whole).expect("a short range");
                let segments = &mut buffer[..fetched];
                // Up to the file's end, where the last segment is a short one.
                file.read_at(segments, first * whole).expect("the file is as long");
            }
        })
    }

    /// What so many ranges of `len` bytes cost, by count and not by time.
    ///
    /// # Panics
    /// Never, for a file that is as it was written.
    #[must_use]
    pub fn cost(&self, len: usize, ranges: u64) -> Cost {
        let counted = Counted { file: &self.file, reads: 0.into(), bytes: 0.into() };
        let reader = self.opened.range_reader(&counted).expect("it is in the file");
        let (mut offsets, mut range) = (far_offsets(self.total - len as u64), vec![0; len]);
        let segments = |bytes: u64| bytes.div_ceil(u64::from(self.segment_len));
        let (front_reads, front_bytes) = counted.so_far();
        let mut most_segments = 0;
        for _ in 0..ranges {
            let before = counted.so_far().1;
            reader.read_exact_at(&mut range, offsets()).expect("it was encrypted above");
            most_segments = most_segments.max(segments(counted.so_far().1 - before));
        }
        let (reads, bytes) = counted.so_far();
        Cost {
            reads: (reads - front_reads) as f64 / ranges as f64,
            segments: segments(bytes - front_bytes) as f64 / ranges as f64,
            most_segments,
        }
    }
}

/// Counts what it is asked for.
struct Counted<'a> {
    file: &'a File,
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl Counted<'_> {
    fn so_far(&self) -> (u64, u64) {
        (self.reads.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

impl ReadAt for Counted<'_> {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = FileExt::read_at(self.file, buffer, offset)?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

fn nameless_file() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("twinlock-ranges-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Offsets below `end`, of 31 bits at most, that jump about: the same in every
/// run.
fn offsets(end: u64) -> impl FnMut() -> u64 {
    let mut state = 1u64;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    }
}

/// The same without that bound.
fn far_offsets(end: u64) -> impl FnMut() -> u64 {
    let mut next = offsets(1 << 31);
    move || (next() << 31 | next()) % end
}
