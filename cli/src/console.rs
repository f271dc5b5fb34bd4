//! What people and scripts get to see. The rules:
//!
//! - stdout has the data, or else the report; everything else goes to stderr;
//! - a success says nothing unless it was asked something;
//! - an error says what happened, to what, and what to do next;
//! - with `--json` there is one document (and with `-r` one before it for each
//!   file), on stdout, or on stderr when the data
//!   goes to stdout; an error stands in it and nowhere else;
//! - nothing but this module prints;
//! - names of files and tokens may be anybody's: no character gets out that a
//!   terminal obeys or that hides, but for line feeds and tabs;
//! - whoever closes stderr does not change how a run ends.

use std::borrow::Cow;
use std::io::{self, Write as _};

use clap::CommandFactory as _;

use crate::args::Args;
use crate::exit::{Failure, Kind};
use crate::pins::without_pins;
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
            Ok(outcome) if self.json => (json_line(&outcome.json), outcome.kind),
            Ok(outcome) => (visible(&outcome.text).into_owned(), outcome.kind),
            Err(failure) if failure.kind == Kind::BrokenPipe => return Kind::BrokenPipe.code(),
            Err(failure) if self.json => {
                (json_line(&report::failure(verb, &failure)), Some(failure.kind))
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

    /// Reports on one of many, with `--json`.
    pub(crate) fn report(self, document: &str) {
        if self.json {
            // Whoever does not read it does not keep the rest from being done.
            let _ = self.print(&json_line(document));
        }
    }

    /// Says that one of many failed; with `--json` its report does.
    pub(crate) fn complain(self, failure: &Failure) {
        if !self.json {
            complain(failure);
        }
    }

    /// Says something on the way, for instance what a prompt is about.
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            to_stderr(&format!("{text}\n"));
        }
    }

    /// Says what somebody has to know, quiet or not.
    pub(crate) fn tell(self, text: &str) {
        to_stderr(&format!("{text}\n"));
    }

    /// Asks on stderr and reads a line from stdin. `None` at its end.
    pub(crate) fn ask(self, question: &str) -> io::Result<Option<String>> {
        to_stderr(&format!("{question} "));
        let mut line = String::new();
        let len = io::stdin().read_line(&mut line)?;
        Ok((len > 0).then(|| line.trim().to_owned()))
    }
}

fn complain(failure: &Failure) {
    to_stderr(&format!("error: {}\n", failure.message));
    if let Some(hint) = &failure.hint {
        to_stderr(&format!("hint: {hint}\n"));
    }
}

fn to_stderr(text: &str) {
    // `eprint!` would panic if nobody reads it.
    let _ = io::stderr().write_all(visible(text).as_bytes());
}

/// `text` with `\u{1b}` in place of such characters.
fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.escape_unicode().to_string())
}

/// A document with `\u001b` in place of such characters: the same to whoever
/// parses it, and fit for a terminal.
fn json_line(document: &str) -> String {
    let escape = |c: char| {
        let mut units = [0; 2];
        let units = c.encode_utf16(&mut units).iter();
        units.map(|unit| format!("\\u{unit:04x}")).collect::<String>()
    };
    escaped(document, escape).into_owned() + "\n"
}

fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    match text.chars().any(is_unsafe) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.chars().fold(String::new(), |mut out, c| {
            match is_unsafe(c) {
                true => out += &escape(c),
                false => out.push(c),
            }
            out
        })),
    }
}

/// What [`twinlock::escape_untrusted`] escapes, but for what makes lines and
/// columns, and for the backslash, which is escaped where it matters.
fn is_unsafe(c: char) -> bool {
    let plain = matches!(c, '\n' | '\t' | '\\' | ' '..='~');
    !plain && twinlock::escape_untrusted(c.encode_utf8(&mut [0; 4])).to_string() != c.to_string()
}

/// Says what clap has to say: help, the version, or what is wrong with the
/// command line. Returns the exit code.
pub(crate) fn end_of_bad_args(error: &clap::Error) -> u8 {
    let text = error.to_string();
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if wants_json && error.use_stderr() {
        return bad_args_document(&without_pins(&text));
    }
    match without_pins(&text) {
        // clap repeats words that it does not understand.
        masked if masked != text => to_stderr(&masked),
        // Whoever closed stderr does not want to know.
        _ => _ = error.print(),
    }
    if error.use_stderr() { Kind::Usage.code() } else { 0 }
}

fn bad_args_document(text: &str) -> u8 {
    let message: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let message = message.join(" ");
    let console = Console { json: true, quiet: false, data_on_stdout: false };
    console.end(
        &typed_verb().unwrap_or_default(),
        Err(Failure::usage(message.trim_start_matches("error: "))
            .hint("`twinlock --help` explains")),
    )
}

/// The first word that is a verb; the words that follow it are not looked at.
fn typed_verb() -> Option<String> {
    let program = Args::command();
    let mut words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    words.find(|word| program.find_subcommand(word).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_lines_are_kept() {
        let text = "a\x1b[31m\u{9b}0m \u{202e}b\\c\n\tü ✓\n";
        assert_eq!(visible(text), "a\\u{1b}[31m\\u{9b}0m \\u{202e}b\\c\n\tü ✓\n");
    }

    #[test]
    fn a_document_means_the_same_afterwards() {
        let text = "\u{9b}\u{202e}\u{e0001}\u{1b}\\ü\"";
        let document = serde_json::to_string(text).unwrap();
        let line = json_line(&document);
        assert!(!line.trim_end().chars().any(is_unsafe), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }
}
