//! The program `twinlock-dke`.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use twinlock_dke::import;

/// A key service for Microsoft Double Key Encryption: keys stay in your HSM.
#[derive(Parser)]
#[command(name = "twinlock-dke", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Makes a configuration of the settings file of Microsoft's sample.
    ///
    /// It goes to standard output, and what is left to do to standard error. No
    /// private key is printed.
    Import {
        /// The sample's appsettings.json.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let Verb::Import { file } = Arguments::parse().verb;
    import::run(&file).unwrap_or_else(|problem| {
        // Nobody is left to hear that stderr is closed.
        let _ = writeln!(std::io::stderr(), "twinlock-dke: {problem}");
        ExitCode::from(2)
    })
}
