//! Random IVs for AES-GCM, fetched from the token's generator before they are
//! needed.

use zeroize::{Zeroize as _, Zeroizing};

use crate::Pkcs11Error;

/// What NIST SP 800-38D section 8.2.2 calls a random field, in bytes.
pub(crate) const IV_LEN: usize = 12;

/// IVs fetched at a time, at most. It begins with one and doubles, for whoever
/// encrypts once, with a token that is slow.
const BATCH: usize = 64;

/// A session's IVs. Each is given out once, whatever comes of its use, and
/// wiped here.
#[derive(Default)]
pub(crate) struct Ivs {
    batch: Zeroizing<Vec<u8>>,
    /// Bytes of the batch that were given out.
    taken: usize,
}

impl Ivs {
    /// An IV that nobody had, after `fill` has made more if there are none.
    pub(crate) fn take(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Pkcs11Error>,
    ) -> Result<[u8; IV_LEN], Pkcs11Error> {
        if self.taken == self.batch.len() {
            let count = (self.batch.len() / IV_LEN * 2).clamp(1, BATCH);
            let mut batch = Zeroizing::new(vec![0; count * IV_LEN]);
            fill(&mut batch)?; // half a batch is none
            (self.batch, self.taken) = (batch, 0);
        }
        let ours = &mut self.batch[self.taken..self.taken + IV_LEN];
        let mut iv = [0; IV_LEN];
        iv.copy_from_slice(ours);
        ours.zeroize();
        self.taken += IV_LEN;
        Ok(iv)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ErrorKind;

    /// A generator that counts, and remembers how much it was asked for.
    #[derive(Default)]
    struct Generator {
        next: u8,
        asked: Vec<usize>,
    }

    impl Generator {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Pkcs11Error> {
            self.asked.push(bytes.len() / IV_LEN);
            for iv in bytes.chunks_mut(IV_LEN) {
                self.next += 1;
                iv.fill(self.next);
            }
            Ok(())
        }
    }

    #[test]
    fn no_iv_is_given_out_twice_and_batches_grow_to_their_bound() {
        let (mut ivs, mut generator) = (Ivs::default(), Generator::default());
        let taken: HashSet<_> =
            (0..191).map(|_| ivs.take(|bytes| generator.fill(bytes)).unwrap()).collect();
        assert_eq!(taken.len(), 191);
        assert_eq!(generator.asked, [1, 2, 4, 8, 16, 32, 64, 64]);
    }

    #[test]
    fn a_batch_that_failed_half_way_is_not_used() {
        let mut ivs = Ivs::default();
        let broken = |bytes: &mut [u8]| {
            bytes.fill(9);
            Err(Pkcs11Error::new(ErrorKind::Gone, "it broke"))
        };
        assert_eq!(ivs.take(broken).unwrap_err().kind(), ErrorKind::Gone);
        let mut generator = Generator::default();
        assert_eq!(ivs.take(|bytes| generator.fill(bytes)).unwrap(), [1; IV_LEN]);
    }

    #[test]
    fn what_was_taken_is_wiped() {
        let (mut ivs, mut generator) = (Ivs::default(), Generator::default());
        for _ in 0..5 {
            ivs.take(|bytes| generator.fill(bytes)).unwrap();
        }
        assert_eq!(ivs.batch[..2 * IV_LEN], [0; 2 * IV_LEN]);
        assert_eq!(ivs.batch[2 * IV_LEN..], [[6; IV_LEN], [7; IV_LEN]].concat());
    }
}
