//! `import`: a configuration for this service from the settings file of
//! Microsoft's sample, `appsettings.json`.
//!
//! The configuration goes to standard output, and what a person still has to do
//! to standard error. Nothing of a private key is printed: it is moved into the
//! HSM by hand, and how is told.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

mod appsettings;
mod comments;
mod configuration;

pub use appsettings::{AppSettings, NotImported};

/// The longest settings file that is read, in bytes.
const MAX_SETTINGS: u64 = 4 * 1024 * 1024;

/// What comes of a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// TOML, for this service.
    pub configuration: String,
    /// What is left to do, a paragraph each.
    pub left: Vec<String>,
}

/// Reads the file and prints what comes of it.
///
/// # Errors
/// When it is no settings file of the sample, or one that contradicts itself.
pub fn run(file: &Path) -> Result<ExitCode, NotImported> {
    let name = file.display();
    let because = |problem: &dyn std::fmt::Display| NotImported::of(format!("{name}: {problem}"));
    let mut text = String::new();
    let bounded = File::open(file).map(|file| file.take(MAX_SETTINGS));
    bounded.and_then(|mut file| file.read_to_string(&mut text)).map_err(|error| because(&error))?;
    let Imported { configuration, left } = import(&text).map_err(|error| because(&error))?;
    // Nobody may be listening.
    let _ = write!(std::io::stdout().lock(), "{configuration}");
    let mut told = std::io::stderr().lock();
    let _ = writeln!(told, "The configuration went to standard output. What is left to do:");
    for (number, step) in left.iter().enumerate() {
        let _ = writeln!(told, "\n{}. {step}", number + 1);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a configuration of the text of a settings file.
///
/// # Errors
/// When it is no settings file of the sample, or one that contradicts itself.
pub fn import(text: &str) -> Result<Imported, NotImported> {
    let settings = AppSettings::parse(text)?;
    Ok(configuration::of(&settings))
}

#[cfg(test)]
mod tests;
