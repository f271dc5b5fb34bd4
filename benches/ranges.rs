//! A few bytes out of a large envelope.

use std::io::{Cursor, Read, Seek, SeekFrom};

use twinlock::Backend;

use crate::Case;
use crate::stream::encrypted;

/// How much is read each time, in bytes.
pub const RANGE_LEN: usize = 4096;

/// One reader, and a range somewhere else each time: opens the one or two
/// segments that hold it.
#[must_use]
pub fn read(segment_len: u32, total: usize) -> Case {
    let (opened, envelope) = encrypted(Backend::default(), segment_len, total);
    let mut reader = opened.seek_reader(Cursor::new(envelope)).expect("it was encrypted above");
    let mut offsets = offsets(total);
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
    let mut offsets = offsets(total);
    let mut range = vec![0; RANGE_LEN];
    Case::new(format!("range open and read/{segment_len}"), RANGE_LEN, move || {
        let mut reader =
            opened.seek_reader(Cursor::new(&envelope[..])).expect("it was encrypted above");
        reader.seek(SeekFrom::Start(offsets())).expect("a seek alone reads nothing");
        reader.read_exact(&mut range).expect("it was encrypted above");
    })
}

/// Offsets that jump about, the same in every run.
fn offsets(total: usize) -> impl FnMut() -> u64 {
    let end = (total - RANGE_LEN) as u64;
    let mut state = 1u64;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    }
}
