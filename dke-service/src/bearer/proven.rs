//! Tokens whose signatures were found good before.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::token::Token;

/// The SHA-256 of a whole token: what is signed, and the signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(token: &Token<'_>) -> Self {
        let parts = [token.message, ".", token.signature];
        let digest = parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part));
        Self(digest.finalize().into())
    }
}

/// More than so many are forgotten all at once: they take 200 KiB.
const MOST: usize = 4096;

/// Tokens that keys of one set have signed: a client shows the same one for an hour,
/// for file after file, and verifying its signature takes as long as all else that is
/// done for a request. They are forgotten with the set of keys, and what they say is
/// looked at each time. Only what an issuer has signed gets in, so nobody else can
/// fill it.
#[derive(Default)]
pub(super) struct Proven(Mutex<HashSet<Digest>>);

impl Proven {
    pub(super) fn has(&self, token: &Digest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(token)
    }

    pub(super) fn add(&self, token: Digest) {
        let mut proven = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() >= MOST {
            proven.clear();
        }
        proven.insert(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_known_and_there_is_an_end_to_it() {
        let token = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            Digest(digest)
        };
        let proven = Proven::default();
        assert!(!proven.has(&token(0)));
        (0..MOST).for_each(|number| proven.add(token(number)));
        assert!(proven.has(&token(0)) && proven.has(&token(MOST - 1)));
        proven.add(token(MOST));
        assert!(proven.has(&token(MOST)));
        assert_eq!(proven.0.lock().unwrap().len(), 1);
    }
}
