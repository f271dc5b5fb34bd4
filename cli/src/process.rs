//! What concerns the process as a whole: core dumps, and signals.

use std::io;
use std::task::Poll;
use std::thread;

use rustix::termios::{OptionalActions, Termios};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Kind;

/// Keeps shares, the DEK and plaintext out of core dumps, and debuggers of the
/// same user away. Where the system does not let us, we go on.
pub(crate) fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "core dumps could not be switched off");
    }
    // A limit of 0 is for files; a handler behind a pipe ignores it (core(5)).
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::debug!(%error, "the process could not be made undumpable");
        }
    }
}

/// On SIGINT, SIGTERM and SIGHUP: removes what is half written, and exits.
///
/// A hang-up that this process was told to ignore (`nohup`) stays ignored.
pub(crate) fn handle_signals() {
    if let Err(error) = start_signal_thread() {
        tracing::debug!(%error, "signals are not handled");
    }
}

fn start_signal_thread() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // Here and not in the thread: a signal that comes right now counts too.
    let mut signals = {
        let _guard = runtime.enter();
        signals()?
    };
    let terminal = terminal_settings();
    let wait = move || {
        let received = std::future::poll_fn(|context| {
            let received = signals
                .iter_mut()
                .find_map(|(signal, kind)| signal.poll_recv(context).is_ready().then_some(*kind));
            received.map_or(Poll::Pending, Poll::Ready)
        });
        let kind = runtime.block_on(received);
        twinlock::file::remove_unfinished();
        restore_terminal(terminal.as_ref());
        std::process::exit(i32::from(kind.code()));
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

fn signals() -> io::Result<Vec<(Signal, Kind)>> {
    let mut signals = vec![
        (signal(SignalKind::interrupt())?, Kind::Interrupted),
        (signal(SignalKind::terminate())?, Kind::Terminated),
    ];
    if !is_hang_up_ignored() {
        signals.push((signal(SignalKind::hangup())?, Kind::HungUp));
    }
    // Handled, it does not end the process: writing fails, and what was begun is
    // removed.
    drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
    Ok(signals)
}

/// What Linux says; other systems are taken to ignore nothing.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0) // SIGHUP is signal 1
}

/// How the terminal is set now: a prompt for a PIN switches its echo off, and
/// a signal there would leave it so.
fn terminal_settings() -> Option<Termios> {
    rustix::termios::tcgetattr(io::stderr()).ok()
}

fn restore_terminal(settings: Option<&Termios>) {
    if let Some(settings) = settings {
        // There is nobody left to tell.
        let _ = rustix::termios::tcsetattr(io::stderr(), OptionalActions::Now, settings);
    }
}
