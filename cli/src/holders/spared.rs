//! A holder in a run of many files, which does not ask ten thousand times what
//! was answered already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha384};
use twinlock::{
    BoxFuture, HolderError, HolderErrorKind, KeyHolder, KeyUri, Share, WrapContext, WrappedShare,
};

/// A holder that was unreachable so often in a row is not asked again.
const TRIES: u32 = 3;

/// At most so many refusals are kept.
const MAX_REFUSALS: usize = 10_000;

/// A holder that is left alone for the rest of the run once it is down, and
/// that is not asked again the very same that it denied.
pub(super) struct Spared {
    inner: Arc<dyn KeyHolder>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// How often in a row it could not be reached, and what it said last.
    down: Option<(u32, HolderError)>,
    refused: HashMap<Question, HolderError>,
}

/// All that the holder is asked with, as a hash. A share's label alone would not
/// do: a planted file can copy it, and must not decide for the files that have
/// it by right.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Question([u8; 48]);

impl Question {
    /// `wrapped` is the share that is to be unwrapped, if one is.
    fn new(context: &WrapContext, wrapped: Option<&WrappedShare>) -> Self {
        let mut hash = Sha384::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(context.side().to_string().as_bytes());
        add(context.label().as_bytes());
        add(context.aad());
        add(&(context.pairs().len() as u64).to_be_bytes());
        for (key, value) in context.pairs() {
            add(key.as_bytes());
            add(value.as_bytes());
        }
        if let Some(wrapped) = wrapped {
            add(format!("{:?}", (wrapped.algorithm(), wrapped.key_version())).as_bytes());
            add(wrapped.bytes());
        }
        Self(hash.finalize().into())
    }
}

impl Spared {
    pub(super) fn new(inner: Arc<dyn KeyHolder>) -> Self {
        Self { inner, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whoever panicked left it whole: each change is one call.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<'a, T>(
        &'a self,
        question: Question,
        call: BoxFuture<'a, Result<T, HolderError>>,
    ) -> BoxFuture<'a, Result<T, HolderError>>
    where
        T: Send + 'a,
    {
        Box::pin(async move {
            if let Some(error) = self.seen().known(question) {
                return Err(error);
            }
            let answer = call.await;
            self.seen().note(question, answer.as_ref().err());
            answer
        })
    }
}

impl Seen {
    /// What it would say, as far as we know.
    fn known(&self, question: Question) -> Option<HolderError> {
        match &self.down {
            Some((TRIES.., error)) => Some(error.clone()),
            _ => self.refused.get(&question).cloned(),
        }
    }

    fn note(&mut self, question: Question, error: Option<&HolderError>) {
        let Some(error) = error else {
            self.down = None;
            return;
        };
        match error.kind() {
            HolderErrorKind::TimedOut | HolderErrorKind::Unavailable { .. } => {
                let tries = self.down.take().map_or(0, |(tries, _)| tries);
                self.down = Some((tries + 1, error.clone()));
            }
            HolderErrorKind::Denied | HolderErrorKind::Disabled | HolderErrorKind::NotFound => {
                self.down = None;
                if self.refused.len() < MAX_REFUSALS {
                    self.refused.insert(question, error.clone());
                }
            }
            _ => self.down = None,
        }
    }
}

impl KeyHolder for Spared {
    fn uri(&self) -> &KeyUri {
        self.inner.uri()
    }

    fn wrap_key<'a>(
        &'a self,
        share: &'a Share,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<WrappedShare, HolderError>> {
        self.ask(Question::new(context, None), self.inner.wrap_key(share, context))
    }

    fn only_wraps(&self) -> bool {
        self.inner.only_wraps()
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        let question = Question::new(context, Some(wrapped));
        self.ask(question, self.inner.unwrap_key(wrapped, context))
    }
}

#[cfg(test)]
mod tests {
    use twinlock::{ShareAlgorithm, Side};

    use super::*;

    fn context(label: &str) -> WrapContext {
        WrapContext::new(Side::Provider, label.to_owned(), Vec::new(), Vec::new())
    }

    fn question(label: &str) -> Question {
        Question::new(&context(label), Some(&wrapped()))
    }

    fn wrapped() -> WrappedShare {
        WrappedShare::new(ShareAlgorithm::HolderAead, b"share".to_vec())
    }

    fn error(kind: HolderErrorKind) -> HolderError {
        HolderError::new(kind, "no")
    }

    #[test]
    fn a_holder_that_is_down_three_times_in_a_row_is_left_alone() {
        let (one, two) = (question("one"), question("two"));
        let mut seen = Seen::default();
        for failures in [2, 3] {
            for _ in 0..failures {
                assert!(seen.known(one).is_none());
                seen.note(one, Some(&error(HolderErrorKind::TimedOut)));
            }
            if failures == 2 {
                seen.note(two, None);
            }
        }
        assert_eq!(seen.known(two).unwrap().kind(), HolderErrorKind::TimedOut);
    }

    #[test]
    fn what_was_denied_for_one_pair_is_asked_for_another() {
        let mut seen = Seen::default();
        for (n, kind) in
            [HolderErrorKind::Denied, HolderErrorKind::Disabled, HolderErrorKind::NotFound]
                .into_iter()
                .enumerate()
        {
            let (one, two) = (question(&format!("{n} one")), question(&format!("{n} two")));
            seen.note(one, Some(&error(kind)));
            assert_eq!(seen.known(one).unwrap().kind(), kind);
            assert!(seen.known(two).is_none());
        }
    }

    #[test]
    fn a_foreign_ciphertext_says_nothing_about_the_next() {
        let mut seen = Seen::default();
        for _ in 0..10 {
            seen.note(question("one"), Some(&error(HolderErrorKind::InvalidCiphertext)));
            assert!(seen.known(question("one")).is_none());
        }
    }

    #[test]
    fn a_label_that_a_planted_file_has_copied_decides_nothing() {
        let pairs = |value: &str| vec![("k".to_owned(), value.to_owned())];
        let of = |aad: &[u8], pairs| {
            WrapContext::new(Side::Provider, "one".to_owned(), aad.to_vec(), pairs)
        };
        let (bytes, key) = (|b: &[u8]| b.to_vec(), ShareAlgorithm::HolderAead);
        let planted = [
            (context("one"), WrappedShare::new(key, bytes(b"planted"))),
            (context("one"), WrappedShare::new(key, Vec::new())),
            (context("one"), WrappedShare::new(ShareAlgorithm::AesKw, bytes(b"share"))),
            (context("one"), wrapped().with_key_version("2")),
            (of(b"aad", Vec::new()), wrapped()),
            (of(b"", pairs("v")), wrapped()),
            (of(b"", pairs("w")), wrapped()),
        ];
        let mut seen = Seen::default();
        for (context, wrapped) in planted {
            let question = Question::new(&context, Some(&wrapped));
            assert!(seen.known(question).is_none());
            seen.note(question, Some(&error(HolderErrorKind::Denied)));
            assert!(seen.known(question).is_some());
        }
        assert!(seen.known(question("one")).is_none());
        assert!(seen.known(Question::new(&context("one"), None)).is_none());
    }
}
