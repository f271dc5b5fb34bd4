//! What hostile storage can do to a file, as a program that the fuzzer writes.

use arbitrary::Arbitrary;

/// Numbers are taken modulo what there is, so that most programs do something.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Edit {
    /// Leave a piece out.
    Drop { piece: u8 },
    /// Add bytes behind the end.
    Extend { bytes: [u8; 4], len: u8 },
    /// Turn one bit around.
    Flip { piece: u8, byte: u16, bit: u8 },
    /// Say a piece twice.
    Repeat { piece: u8 },
    /// Exchange two pieces.
    Swap { one: u8, other: u8 },
    /// Put a piece of a sibling, sealed under the same keys, over one of ours.
    Transplant { from: u8, to: u8 },
    /// End inside a piece.
    Truncate { piece: u8, len: u16 },
}

/// No file needs more to go wrong.
const MAX_EDITS: usize = 12;

/// A file after `edits`. The pieces are its headers and its segments.
pub(crate) fn edited(pieces: &[Vec<u8>], sibling: &[Vec<u8>], edits: &[Edit]) -> Vec<u8> {
    let mut pieces = pieces.to_vec();
    for edit in edits.iter().take(MAX_EDITS) {
        edit.apply(&mut pieces, sibling);
    }
    pieces.concat()
}

impl Edit {
    fn apply(&self, pieces: &mut Vec<Vec<u8>>, sibling: &[Vec<u8>]) {
        let count = pieces.len();
        if count == 0 {
            return;
        }
        let at = |piece: u8| usize::from(piece) % count;
        match *self {
            Self::Drop { piece } => drop(pieces.remove(at(piece))),
            Self::Extend { bytes, len } => pieces.push(bytes[..usize::from(len) % 5].to_vec()),
            Self::Flip { piece, byte, bit } => flip(&mut pieces[at(piece)], byte, bit),
            Self::Repeat { piece } => pieces.insert(at(piece), pieces[at(piece)].clone()),
            Self::Swap { one, other } => pieces.swap(at(one), at(other)),
            Self::Transplant { from, to } => {
                pieces[at(to)] = sibling[usize::from(from) % sibling.len()].clone();
            }
            Self::Truncate { piece, len } => {
                pieces.truncate(at(piece) + 1);
                let last = &mut pieces[at(piece)];
                last.truncate(usize::from(len) % (last.len() + 1));
            }
        }
    }
}

fn flip(piece: &mut [u8], byte: u16, bit: u8) {
    if let Some(byte) = usize::from(byte).checked_rem(piece.len()) {
        piece[byte] ^= 1 << (bit % 8);
    }
}
