//! What all holders over a network do alike.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;
use twinlock_keys::{HolderError, HolderErrorKind};

/// The longest text of a server's own that gets into an error, in characters.
const MAX_QUOTE: usize = 400;

/// Runs `work` until `end`, and with the libraries' logging off, which filters
/// and environment variables can make print shares. `holder` is the sort of key
/// that asks.
pub(crate) async fn bounded<T>(
    holder: &str,
    end: Instant,
    work: impl Future<Output = Result<T, HolderError>>,
    timed_out: impl FnOnce() -> HolderError,
) -> Result<T, HolderError> {
    if Handle::try_current().is_err() {
        return Err(HolderError::new(
            HolderErrorKind::Misconfigured,
            format!("{holder} keys need a tokio runtime: await this call inside one"),
        ));
    }
    let work = work.with_subscriber(Dispatch::none());
    timeout_at(end, work).await.unwrap_or_else(|_| Err(timed_out()))
}

/// When something that begins now and may take `span` has to be over.
pub(crate) fn end_of(span: Duration) -> Instant {
    // One that never ends is far enough away when it is a year.
    Instant::now() + span.min(Duration::from_secs(365 * 24 * 3600))
}

/// Text that came over the network, made fit for a terminal and a log.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_QUOTE)
        .map(|character| match character {
            ' '..='~' => character,
            '\n' | '\r' | '\t' => ' ',
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_without_end_can_be_added_up() {
        assert!(end_of(Duration::MAX) > Instant::now());
    }

    #[test]
    fn what_a_server_says_moves_no_cursor_and_has_an_end() {
        assert_eq!(printable("a\nb\u{1b}[2J\u{202e}ß~"), "a b?[2J??~");
        assert_eq!(printable(&"x".repeat(1_000)).len(), MAX_QUOTE);
    }
}
