//! The hot loops, each as a [`Case`]: criterion times them, `ratios` compares
//! them pair by pair, and `hot_loop` runs them for callgrind to count.
#![forbid(unsafe_code)]

pub mod copies;
pub mod floe;
pub mod headers;
pub mod load;
pub mod memory;
pub mod ranges;
pub mod scratch;
pub mod stream;
pub mod yardstick;

/// The candidates for the segment length, and 4 KiB, the least that readers
/// of envelopes take. In bytes.
pub const SEGMENT_LENS: [u32; 6] = [4 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20];

/// One round of work, ready to be repeated.
pub struct Case {
    /// What it is, as `group/variant/size`.
    pub name: String,
    /// How many bytes of plaintext one round handles.
    pub bytes: usize,
    round: Box<dyn FnMut()>,
}

impl Case {
    /// Does one round.
    pub fn run(&mut self) {
        (self.round)();
    }

    fn new(name: String, bytes: usize, round: impl FnMut() + 'static) -> Self {
        Self { name, bytes, round: Box::new(round) }
    }
}

/// `4 KiB`, `1 MiB`.
#[must_use]
pub fn size(bytes: u32) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// Bytes that are no special case for anything.
fn plaintext(len: usize) -> Vec<u8> {
    (0..251u8).map(|i| i.wrapping_mul(31)).cycle().take(len).collect()
}
