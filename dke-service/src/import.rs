//! `import`: a configuration for this service from the settings file of
//! Microsoft's sample, `appsettings.json`.
//!
//! The configuration goes to standard output, and what a person still has to do
//! to standard error. Nothing of a private key is printed there: each is moved into
//! the HSM by hand, through a pipe, and how is told.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use zeroize::Zeroizing;

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
    let Imported { configuration, left } = of_file(file, import)?;
    // Nobody may be listening.
    let _ = write!(std::io::stdout().lock(), "{configuration}");
    let mut told = std::io::stderr().lock();
    let _ = writeln!(told, "The configuration went to standard output. What is left to do:");
    for (number, step) in left.iter().enumerate() {
        let _ = writeln!(told, "\n{}. {step}", number + 1);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the private key of an entry of `TestKeys`, from 0 on, to a pipe: DER, as
/// `twinlock keys create --from -` takes it.
///
/// # Errors
/// When there is none, or standard output is a terminal.
pub fn write_private_key(file: &Path, entry: usize) -> Result<ExitCode, NotImported> {
    let mut output = std::io::stdout().lock();
    if output.is_terminal() {
        return Err(NotImported::of("a private key goes into a pipe, and not to a terminal"));
    }
    let key = of_file(file, |text| appsettings::private_key(text, entry))?;
    let written = output.write_all(&key).and_then(|()| output.flush());
    written.map_err(|error| NotImported::of(format!("the private key is not written: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// What `read` makes of the file's text, with its name in errors.
fn of_file<T>(
    file: &Path,
    read: impl FnOnce(&str) -> Result<T, NotImported>,
) -> Result<T, NotImported> {
    let name = file.display();
    let because = |problem: &dyn std::fmt::Display| NotImported::of(format!("{name}: {problem}"));
    let mut text = Zeroizing::new(String::new());
    let bounded = File::open(file).map(|file| file.take(MAX_SETTINGS));
    bounded.and_then(|mut file| file.read_to_string(&mut text)).map_err(|error| because(&error))?;
    read(&text).map_err(|error| because(&error))
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
