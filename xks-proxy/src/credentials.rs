//! `credentials create`: the JSON file that AWS's console takes.

use std::io::Write as _;
use std::process::ExitCode;

use crate::failure::Failure;
use crate::sigv4::Credential;
use crate::uri_path::UriPathPrefix;

/// Makes credentials and prints them.
///
/// # Errors
/// When the system has no random bytes, or nobody takes the output.
pub fn create(path: &UriPathPrefix) -> Result<ExitCode, Failure> {
    let credential = Credential::generate().map_err(Failure::unavailable)?;
    let mut output = std::io::stdout().lock();
    let written = output.write_all(credential.console_json(path).as_bytes());
    let written = written.and_then(|()| output.flush());
    written.map_err(|error| Failure::unavailable(format!("cannot write them: {error}")))?;
    Ok(ExitCode::SUCCESS)
}
