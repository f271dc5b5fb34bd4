//! Random bytes from the operating system.

use twinlock_floe::SegmentIv;
use twinlock_keys::RandomnessError;

/// `N` bytes that need not be kept secret: ids, nonces, IVs.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomnessError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// Fresh IVs for segments, asked for in batches: a system call for each would
/// cost as much as sealing a small segment.
pub(crate) struct SegmentIvs {
    batch: [u8; Self::BATCH * SegmentIv::LEN],
    used: usize,
}

impl SegmentIvs {
    const BATCH: usize = 64;

    pub(crate) fn new() -> Self {
        let batch = [0; Self::BATCH * SegmentIv::LEN];
        Self { used: batch.len(), batch }
    }

    pub(crate) fn next(&mut self) -> Result<SegmentIv, RandomnessError> {
        if self.used == self.batch.len() {
            getrandom::fill(&mut self.batch)?;
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
        let mut ivs = SegmentIvs::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10 * SegmentIvs::BATCH {
            assert!(seen.insert(format!("{:?}", ivs.next().unwrap())));
        }
    }
}
