//! What a build without traces has in their place.

use std::time::Duration;

use serde::Serialize;

use super::{Span, TraceError, TraceSettings};

/// Spans of a service's requests. This build has none.
#[derive(Clone, Debug)]
pub enum Traces {}

impl Traces {
    /// Says what is wrong with the settings, or that there are no traces.
    ///
    /// # Errors
    /// Always.
    pub fn start(settings: &TraceSettings, _service: &'static str) -> Result<Self, TraceError> {
        settings.check()?;
        Err(TraceError::NotBuilt)
    }

    /// Has a request's span sent.
    pub fn send(&self, _span: &Span<'_, impl Serialize>) {
        match *self {}
    }

    /// Sends what is queued.
    pub fn close(&self, _patience: Duration) {
        match *self {}
    }
}
