//! `twinlock completions` and `twinlock man`: made from the definitions in
//! `args`, so that they cannot say anything else.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use serde::Serialize;

use crate::args::{Args, CompletionsArgs, ManArgs};
use crate::exit::Failure;
use crate::report::Outcome;

/// What `--json` says: the text, or the files that were written.
#[derive(Default, Serialize)]
struct Report {
    text: Option<String>,
    files: Vec<String>,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "twinlock", &mut script);
    printed("completions", script)
}

pub(crate) fn man(args: &ManArgs) -> Result<Outcome, Failure> {
    // There is no page for `twinlock help`.
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.dir else {
        return printed("man", page(&command)?);
    };
    let mut report = Report::default();
    write_pages(&command, folder, &mut report.files)?;
    Ok(Outcome::new("man", "", &report))
}

fn printed(verb: &str, text: Vec<u8>) -> Result<Outcome, Failure> {
    let text = String::from_utf8(text).expect("made of the UTF-8 of the definitions");
    let report = Report { text: Some(text.clone()), ..Report::default() };
    Ok(Outcome::new(verb, text, &report))
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(with_examples_as_they_are(page))
}

/// The last section has lines that somebody pastes into a shell: `.nf` keeps
/// troff from filling and hyphenating them.
fn with_examples_as_they_are(page: Vec<u8>) -> Vec<u8> {
    let page = String::from_utf8(page).expect("made of the UTF-8 of the definitions");
    page.replacen("\n.SH EXTRA\n", "\n.SH NOTES\n.nf\n", 1).into_bytes()
}

/// The page of `command` and, named `twinlock-keys-list.1` and so on, of those
/// below it.
fn write_pages(command: &Command, folder: &Path, files: &mut Vec<String>) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = folder.join(format!("{name}.1"));
    std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    std::fs::write(&path, page(command)?).map_err(|error| Failure::file(&path, &error))?;
    files.push(path.display().to_string());
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    below.into_iter().try_for_each(|below| write_pages(below, folder, files))
}
