//! A holder in a run of many files, which does not ask ten thousand times what
//! was answered already.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use twinlock::{
    BoxFuture, HolderError, HolderErrorKind, KeyHolder, KeyUri, Share, WrapContext, WrappedShare,
};

/// A holder that was unreachable so often in a row is not asked again.
const TRIES: u32 = 3;

/// At most so many refusals are kept.
const MAX_REFUSALS: usize = 10_000;

/// A holder that is left alone for the rest of the run once it is down, and
/// that is not asked again for a share that it denied.
pub(super) struct Spared {
    inner: Arc<dyn KeyHolder>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// How often in a row it could not be reached, and what it said last.
    down: Option<(u32, HolderError)>,
    /// By the share's label.
    refused: HashMap<String, HolderError>,
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
        context: &'a WrapContext,
        call: BoxFuture<'a, Result<T, HolderError>>,
    ) -> BoxFuture<'a, Result<T, HolderError>>
    where
        T: Send + 'a,
    {
        Box::pin(async move {
            if let Some(error) = self.seen().known(context) {
                return Err(error);
            }
            let answer = call.await;
            self.seen().note(context, answer.as_ref().err());
            answer
        })
    }
}

impl Seen {
    /// What it would say, as far as we know.
    fn known(&self, context: &WrapContext) -> Option<HolderError> {
        match &self.down {
            Some((TRIES.., error)) => Some(error.clone()),
            _ => self.refused.get(context.label()).cloned(),
        }
    }

    fn note(&mut self, context: &WrapContext, error: Option<&HolderError>) {
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
                    self.refused.insert(context.label().to_owned(), error.clone());
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
        self.ask(context, self.inner.wrap_key(share, context))
    }

    fn only_wraps(&self) -> bool {
        self.inner.only_wraps()
    }

    fn unwrap_key<'a>(
        &'a self,
        wrapped: &'a WrappedShare,
        context: &'a WrapContext,
    ) -> BoxFuture<'a, Result<Share, HolderError>> {
        self.ask(context, self.inner.unwrap_key(wrapped, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(label: &str) -> WrapContext {
        WrapContext::new(twinlock::Side::Provider, label.to_owned(), Vec::new(), Vec::new())
    }

    fn error(kind: HolderErrorKind) -> HolderError {
        HolderError::new(kind, "no")
    }

    #[test]
    fn a_holder_that_is_down_three_times_in_a_row_is_left_alone() {
        let (one, two) = (context("one"), context("two"));
        let mut seen = Seen::default();
        for failures in [2, 3] {
            for _ in 0..failures {
                assert!(seen.known(&one).is_none());
                seen.note(&one, Some(&error(HolderErrorKind::TimedOut)));
            }
            if failures == 2 {
                seen.note(&two, None);
            }
        }
        assert_eq!(seen.known(&two).unwrap().kind(), HolderErrorKind::TimedOut);
    }

    #[test]
    fn what_was_denied_for_one_pair_is_asked_for_another() {
        let mut seen = Seen::default();
        for (n, kind) in
            [HolderErrorKind::Denied, HolderErrorKind::Disabled, HolderErrorKind::NotFound]
                .into_iter()
                .enumerate()
        {
            let (one, two) = (context(&format!("{n} one")), context(&format!("{n} two")));
            seen.note(&one, Some(&error(kind)));
            assert_eq!(seen.known(&one).unwrap().kind(), kind);
            assert!(seen.known(&two).is_none());
        }
    }

    #[test]
    fn a_foreign_ciphertext_says_nothing_about_the_next() {
        let mut seen = Seen::default();
        for _ in 0..10 {
            seen.note(&context("one"), Some(&error(HolderErrorKind::InvalidCiphertext)));
            assert!(seen.known(&context("one")).is_none());
        }
    }
}
