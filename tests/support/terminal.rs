//! A terminal with a program on it, and somebody who types.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::cli::{Ended, wait};

/// A program whose stdin and stderr are a terminal, and whose stdout is not.
pub(crate) struct OnTerminal {
    child: Child,
    person: File,
    seen: String,
}

impl OnTerminal {
    pub(crate) fn run(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        // Not that of whoever runs the tests, whatever session they are in.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        command.stdin(terminal.try_clone().unwrap()).stderr(terminal).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        drop(command); // the program alone has the terminal now
        Self { child, person: person.into(), seen: String::new() }
    }

    /// Reads until these words stand there.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, words: &str) {
        while !self.seen.contains(words) {
            assert!(self.read(), "the program ended without {words:?}: {}", self.seen);
        }
    }

    pub(crate) fn type_in(&mut self, text: &str) {
        self.person.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the program's end: `stderr` is all that stood there, with what was
    /// typed.
    pub(crate) fn end(mut self) -> Ended {
        while self.read() {}
        Ended { stderr: self.seen, ..wait(self.child) }
    }

    /// False when nobody has the terminal any more.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let len = self.person.read(&mut bytes).unwrap_or(0); // Linux: an error
        self.seen += &String::from_utf8_lossy(&bytes[..len]);
        len > 0
    }
}
