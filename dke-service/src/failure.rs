//! Why the program ends, and with which exit code.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

/// What went wrong, for whoever called the program.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// It worked, and what it looked at is not as it should be.
    pub fn found(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    /// A setting is wrong.
    pub fn misconfigured(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 2 }
    }

    /// The system or a token does not do what it was asked.
    pub fn unavailable(message: impl ToString) -> Self {
        Self { message: message.to_string(), code: 5 }
    }

    /// Tells it on stderr, whatever becomes of logs.
    #[must_use]
    pub fn tell(self) -> ExitCode {
        // Nobody is left to hear that stderr is closed.
        let _ = writeln!(std::io::stderr(), "twinlock-dke: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
