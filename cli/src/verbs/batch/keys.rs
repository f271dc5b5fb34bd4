//! The key step for many files.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Runtime;
use twinlock::{Decryptor, Envelope, PairLimits, UnwrapCache};

use crate::exit::Failure;
use crate::holders::{self, LastEquipped, Opened};
use crate::input::{Candidate, Input};
use crate::settings::Settings;

/// Shared by all workers: holders are opened once, and asked once for
/// each share.
pub(in crate::verbs) struct Keys {
    pub(in crate::verbs) settings: Settings,
    pub(in crate::verbs) opened: Opened,
    decryptor: Decryptor,
    last: LastEquipped,
    /// The last field: holders are used as long as it lives.
    pub(in crate::verbs) runtime: Runtime,
}

impl Keys {
    /// To open what `decryptor` expects.
    pub(in crate::verbs) fn new(settings: Settings, decryptor: Decryptor) -> Result<Self, Failure> {
        let cache = Arc::new(UnwrapCache::new(PairLimits::default()));
        // Workers have a file each.
        let decryptor = decryptor.cache(cache).threads(NonZeroUsize::MIN);
        let runtime = holders::runtime()?;
        let (opened, last) = (Opened::sparing(), LastEquipped::default());
        Ok(Self { settings, opened, decryptor, last, runtime })
    }

    pub(in crate::verbs) fn open(&self, input: &mut Input) -> Result<Envelope, Failure> {
        let headers = input.headers()?;
        self.open_one_of(headers, input)
    }

    /// The first of these headers of `input` that opens.
    pub(in crate::verbs) fn open_one_of(
        &self,
        headers: Vec<Candidate>,
        input: &Input,
    ) -> Result<Envelope, Failure> {
        let Self { settings, opened, decryptor, last, .. } = self;
        let opening = holders::open_envelope_of_many(headers, decryptor, settings, opened, last);
        self.wait(opening).map_err(|failure| failure.about(input.name()))
    }

    /// True if `envelope` has the keyslots that a new one would get.
    pub(in crate::verbs) fn are_those_of(&self, envelope: &Envelope) -> Result<bool, Failure> {
        let Self { settings, opened, runtime, .. } = self;
        runtime.block_on(holders::has_keyslots_of(envelope.header(), settings, opened))
    }

    /// Waits for a step with the holders. Most need not wait, since another file has
    /// asked: those do not take turns at the runtime either.
    pub(in crate::verbs) fn wait<F: Future>(&self, step: F) -> F::Output {
        let mut step = pin!(step);
        let first = {
            let _context = self.runtime.enter();
            step.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        match first {
            Poll::Ready(done) => done,
            // The first thing that it does is to ask again, with a waker that wakes.
            Poll::Pending => self.runtime.block_on(step),
        }
    }
}
