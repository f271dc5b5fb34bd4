//! The checksum that Cloud KMS wants to see and gives, in both directions.
//! It finds accidents on the way, not attackers: those meet TLS.

use crc::{CRC_32_ISCSI, Crc};

/// CRC-32C (Castagnoli), as Google has it in the integers of its API.
pub(super) fn crc32c(bytes: &[u8]) -> i64 {
    const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    i64::from(CASTAGNOLI.checksum(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 section B.4 has the first two, every catalogue of CRCs the last.
    #[test]
    fn it_is_the_polynomial_of_castagnoli() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
