//! What people and scripts get to see. The rules:
//!
//! - stdout has the data, or else the report; everything else goes to stderr;
//! - a success says nothing unless it was asked something;
//! - an error says what happened, to what, and what to do next;
//! - with `--json` there is one document, on stdout, or on stderr when the data
//!   goes to stdout; an error stands in it and nowhere else;
//! - nothing but this module prints.
#![expect(clippy::print_stderr, reason = "the one module that prints")]

use std::io::{self, Write as _};

use crate::exit::{Failure, Kind};
use crate::report::{self, Outcome};

/// How the user wants to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// True if stdout has the data, and no room for reports.
    pub(crate) data_on_stdout: bool,
}

impl Console {
    /// Says how `verb` ended and returns the exit code.
    pub(crate) fn end(self, verb: &str, result: Result<Outcome, Failure>) -> u8 {
        let (text, kind) = match result {
            Ok(outcome) if self.json => (outcome.json + "\n", outcome.kind),
            Ok(outcome) => (outcome.text, outcome.kind),
            Err(failure) if failure.kind == Kind::BrokenPipe => return Kind::BrokenPipe.code(),
            Err(failure) if self.json => {
                (report::failure(verb, &failure) + "\n", Some(failure.kind))
            }
            Err(failure) => {
                complain(&failure);
                return failure.kind.code();
            }
        };
        match self.print(&text) {
            Ok(()) => kind.map_or(0, Kind::code),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => kind.map_or(0, Kind::code),
            Err(error) => {
                complain(&Failure::from(error).about("stdout"));
                Kind::Io.code()
            }
        }
    }

    fn print(self, text: &str) -> io::Result<()> {
        match self.data_on_stdout {
            true => io::stderr().write_all(text.as_bytes()),
            false => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()
            }
        }
    }

    /// Says something on the way, for instance what a prompt is about.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Asks on stderr and reads a line from stdin. `None` at its end.
    pub(crate) fn ask(self, question: &str) -> io::Result<Option<String>> {
        eprint!("{question} ");
        let mut line = String::new();
        let len = io::stdin().read_line(&mut line)?;
        Ok((len > 0).then(|| line.trim().to_owned()))
    }
}

fn complain(failure: &Failure) {
    eprintln!("error: {}", failure.message);
    if let Some(hint) = &failure.hint {
        eprintln!("hint: {hint}");
    }
}

/// Says what clap has to say: help, the version, or what is wrong with the
/// command line. Returns the exit code.
pub(crate) fn end_of_bad_args(error: &clap::Error) -> u8 {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if !(wants_json && error.use_stderr()) {
        // Whoever closed stderr does not want to know.
        let _ = error.print();
        return if error.use_stderr() { Kind::Usage.code() } else { 0 };
    }
    let text = error.to_string();
    let message: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let message = message.join(" ");
    let console = Console { json: true, quiet: false, data_on_stdout: false };
    let verb = std::env::args().nth(1).unwrap_or_default();
    console.end(
        &verb,
        Err(Failure::usage(message.trim_start_matches("error: "))
            .hint("`twinlock --help` explains")),
    )
}
