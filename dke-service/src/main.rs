//! The program `twinlock-dke`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use twinlock_dke::failure::Failure;
use twinlock_dke::{check, import, serve};

/// A request is some dozens of small allocations, freed on other threads than the ones
/// that made them, which the C library's is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A key service for Microsoft Double Key Encryption: keys stay in your HSM.
#[derive(Parser)]
#[command(name = "twinlock-dke", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answers clients until it is told to stop (SIGTERM); SIGHUP reloads.
    Serve {
        #[command(flatten)]
        config: ConfigArgument,
    },
    /// Checks the configuration, logs in to each token, looks for each key and
    /// asks each issuer.
    CheckConfig {
        #[command(flatten)]
        config: ConfigArgument,
    },
    /// Makes a configuration of the settings file of Microsoft's sample.
    ///
    /// It goes to standard output, and what is left to do to standard error. No
    /// private key is in either.
    Import {
        /// The sample's appsettings.json.
        file: PathBuf,
        /// Writes a private key into a pipe instead, in DER: that of this entry of
        /// TestKeys, from 0 on.
        #[arg(long, value_name = "ENTRY")]
        private_key: Option<usize>,
    },
}

#[derive(clap::Args)]
struct ConfigArgument {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "TWINLOCK_DKE_CONFIG",
        default_value = "/etc/twinlock-dke/config.toml"
    )]
    config: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Serve { config } => serve::run(&config.config),
        Verb::CheckConfig { config } => check::run(&config.config),
        Verb::Import { file, private_key: None } => {
            import::run(&file).map_err(Failure::misconfigured)
        }
        Verb::Import { file, private_key: Some(entry) } => {
            import::write_private_key(&file, entry).map_err(Failure::misconfigured)
        }
    };
    done.unwrap_or_else(|failure| failure.tell())
}
