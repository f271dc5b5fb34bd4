//! A plaintext of any length.

use std::io::{self, Read};

/// Pages of 4 KiB, each with its number: a plaintext of any length that is
/// nowhere kept.
pub(crate) struct Pages {
    next: u64,
    pub(crate) left: u64,
    block: Vec<u8>,
    used: usize,
}

impl Pages {
    pub(crate) fn up_to(len: u64) -> Self {
        Self { next: 0, left: len, block: vec![0; 1 << 16], used: 1 << 16 }
    }

    fn refill(&mut self) {
        for page in self.block.chunks_exact_mut(4096) {
            page[..8].copy_from_slice(&self.next.to_le_bytes());
            self.next += 1;
        }
        self.used = 0;
    }
}

impl Read for Pages {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.block.len() {
            self.refill();
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = buffer.len().min(self.block.len() - self.used).min(left);
        buffer[..len].copy_from_slice(&self.block[self.used..][..len]);
        self.used += len;
        self.left -= len as u64;
        Ok(len)
    }
}
