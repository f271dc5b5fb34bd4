//! Random bytes from the operating system.

use twinlock_floe::SegmentIv;
use twinlock_keys::RandomnessError;

/// `N` bytes that need not be kept secret: ids, nonces, IVs.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomnessError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Random bytes that need not be kept secret, asked for at once and handed out one
/// after the other, each once.
pub(crate) struct Drawn {
    bytes: [u8; Self::MAX_LEN],
    taken: usize,
    len: usize,
}

impl Drawn {
    /// What Linux gives in one piece.
    pub(crate) const MAX_LEN: usize = 256;

    /// `len` bytes, at most [`Drawn::MAX_LEN`].
    pub(crate) fn new(len: usize) -> Result<Self, RandomnessError> {
        let mut bytes = [0; Self::MAX_LEN];
        getrandom::fill(&mut bytes[..len])?;
        Ok(Self { bytes, taken: 0, len })
    }

    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let left = &self.bytes[self.taken..self.len];
        self.taken += N;
        *left.first_chunk().expect("no more than was drawn is asked for")
    }
}

/// Fresh IVs for segments, asked for in batches: a system call for each would
/// cost as much as sealing a small segment.
pub(crate) struct SegmentIvs {
    batch: [u8; Self::BATCH * SegmentIv::LEN],
    /// How much of it is asked for at a time.
    len: usize,
    used: usize,
}

impl SegmentIvs {
    const BATCH: usize = 64;

    pub(crate) fn new() -> Self {
        Self::of_segments(usize::MAX)
    }

    /// For at most so many segments: no more is asked for.
    pub(crate) fn of_segments(number: usize) -> Self {
        let len = number.clamp(1, Self::BATCH) * SegmentIv::LEN;
        Self { batch: [0; Self::BATCH * SegmentIv::LEN], len, used: len }
    }

    pub(crate) fn next(&mut self) -> Result<SegmentIv, RandomnessError> {
        if self.used == self.len {
            getrandom::fill(&mut self.batch[..self.len])?;
            self.used = 0;
        }
        let iv = self.batch[self.used..].first_chunk().expect("the batch is a whole number of IVs");
        self.used += SegmentIv::LEN;
        Ok(SegmentIv::new(*iv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_iv_comes_twice() {
        for segments in [0, 1, 3, SegmentIvs::BATCH, usize::MAX] {
            let mut ivs = SegmentIvs::of_segments(segments);
            let mut seen = std::collections::HashSet::new();
            for _ in 0..10 * SegmentIvs::BATCH {
                assert!(seen.insert(format!("{:?}", ivs.next().unwrap())));
            }
        }
    }

    #[test]
    fn what_is_drawn_is_handed_out_once() {
        let mut drawn = Drawn::new(32 + 2 * 12).unwrap();
        let all = drawn.bytes;
        assert_eq!(drawn.take::<32>(), all[..32]);
        assert_eq!(drawn.take::<12>(), all[32..44]);
        assert_eq!(drawn.take::<12>(), all[44..56]);
        assert_ne!(all[..56], Drawn::new(56).unwrap().bytes[..56]);
    }

    #[test]
    #[should_panic(expected = "no more than was drawn")]
    fn no_more_is_handed_out_than_was_drawn() {
        Drawn::new(43).unwrap().take::<44>();
    }
}
