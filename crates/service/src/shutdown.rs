//! One signal for everybody that the service is to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether the service is to end. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    begun: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { begun: watch::Sender::new(false) }
    }
}

impl Shutdown {
    /// Begins on SIGTERM and SIGINT. A second such signal ends the process at
    /// once, for somebody does not want to wait.
    ///
    /// # Errors
    /// When the system lets nobody handle signals.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let begun = shutdown.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = terminate.recv() => (128 + 15, "SIGTERM"),
                    _ = interrupt.recv() => (128 + 2, "SIGINT"),
                }
            };
            let (_, name) = next().await;
            tracing::info!(signal = name, "shutting down");
            begun.begin();
            let (code, name) = next().await;
            tracing::warn!(signal = name, "shutting down without waiting for requests");
            std::process::exit(code);
        });
        Ok(shutdown)
    }

    /// Begins it.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        // The sender is ours, so it lives as long as this.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_it_before_and_after() {
        let shutdown = Shutdown::default();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.begun().await }
        });
        tokio::task::yield_now().await;
        assert!(!shutdown.has_begun() && !waiting.is_finished());
        shutdown.begin();
        waiting.await.unwrap();
        shutdown.begun().await;
        assert!(shutdown.has_begun());
    }

    #[tokio::test]
    async fn sigterm_begins_it() {
        use rustix::process::{Signal, getpid, kill_process};
        let shutdown = Shutdown::on_signals().unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        let begun = tokio::time::timeout(std::time::Duration::from_secs(30), shutdown.begun());
        begun.await.expect("SIGTERM begins the shutdown");
    }
}
