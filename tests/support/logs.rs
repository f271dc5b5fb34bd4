//! What is logged, kept for a look.

use std::io;
use std::sync::{Arc, Mutex};

/// A writer for a subscriber of `tracing`; its clones write to the same place.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Everything that this thread logs, at any level, until the second part is
/// dropped. For a test in a process of its own: `tracing` loses a place for good
/// that a thread of another test comes to first at the moment when this begins.
///
/// While there is one dispatcher in the process, `tracing` asks only the thread
/// that comes first to a place whether anybody listens there, and believes it
/// for all: a server's thread would silence this one. So there are two.
pub(crate) fn recorded() -> (Log, impl Sized) {
    let second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    (log, (tracing::subscriber::set_default(subscriber), second))
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
