//! The program `twinlock-xks`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use twinlock_xks::uri_path::UriPathPrefix;
use twinlock_xks::{check, credentials, policy_test, serve};

/// A request is some dozens of small allocations, freed on other threads than the ones
/// that made them: a tenth of its processor time is saved over the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An External Key Store proxy for AWS KMS: keys stay in your HSM.
#[derive(Parser)]
#[command(name = "twinlock-xks", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Answers AWS KMS until it is told to stop (SIGTERM); SIGHUP reloads.
    Serve {
        #[command(flatten)]
        config: ConfigArgument,
    },
    /// Checks the configuration, logs in to each token and looks for each key.
    CheckConfig {
        #[command(flatten)]
        config: ConfigArgument,
    },
    /// Makes credentials for AWS KMS and this proxy.
    Credentials {
        #[command(subcommand)]
        verb: CredentialsVerb,
    },
    /// Tries a policy.
    Policy {
        #[command(subcommand)]
        verb: PolicyVerb,
    },
}

#[derive(clap::Args)]
struct ConfigArgument {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "TWINLOCK_XKS_CONFIG",
        default_value = "/etc/twinlock-xks/config.toml"
    )]
    config: PathBuf,
}

#[derive(Subcommand)]
enum CredentialsVerb {
    /// Prints new ones as the JSON that the AWS console takes. Keep it secret.
    Create {
        /// The path prefix of the key store, as its `path` says.
        #[arg(long, value_name = "PREFIX", default_value = "")]
        path: UriPathPrefix,
    },
}

#[derive(Subcommand)]
enum PolicyVerb {
    /// Asks a policy what it says of each case of a file.
    Test {
        /// The policy, in Rego.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// The cases, in TOML.
        #[arg(long, value_name = "FILE")]
        cases: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Serve { config } => serve::run(&config.config),
        Verb::CheckConfig { config } => check::run(&config.config),
        Verb::Credentials { verb: CredentialsVerb::Create { path } } => credentials::create(&path),
        Verb::Policy { verb: PolicyVerb::Test { policy, cases } } => {
            policy_test::run(&policy, &cases)
        }
    };
    done.unwrap_or_else(|failure| failure.tell())
}
