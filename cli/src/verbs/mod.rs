//! The verbs, a file each.

mod batch;
pub(crate) mod config;
pub(crate) mod decrypt;
pub(crate) mod doctor;
pub(crate) mod encrypt;
pub(crate) mod generate;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod prove;
pub(crate) mod reencrypt;
pub(crate) mod rewrap;
pub(crate) mod verify;

use std::path::Path;

use twinlock::{Decryptor, EncryptionContext};

use crate::args::values::ContextPair;
use crate::args::{ExpectedArgs, KeysVerb, Verb};
use crate::exit::Failure;
use crate::input::DASH;
use crate::output::Destination;

/// The verb as reports name it.
pub(crate) fn name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Init(_) => "init",
        Verb::Doctor(_) => "doctor",
        Verb::Login(_) => "login",
        Verb::Logout(_) => "logout",
        Verb::Config(_) => "config show",
        Verb::Keys(args) => match args.verb {
            KeysVerb::Create { .. } => "keys create",
            KeysVerb::ExportPublic { .. } => "keys export-public",
            KeysVerb::List { .. } => "keys list",
            KeysVerb::Check { .. } => "keys check",
        },
        Verb::Encrypt(_) => "encrypt",
        Verb::Decrypt(_) => "decrypt",
        Verb::Inspect(_) => "inspect",
        Verb::Verify(_) => "verify",
        Verb::Prove(_) => "prove",
        Verb::Rewrap(_) => "rewrap",
        Verb::Reencrypt(_) => "reencrypt",
        Verb::Completions(_) => "completions",
        Verb::Man(_) => "man",
    }
}

/// True if stdout is for data, so that a report has to go to stderr.
pub(crate) fn data_goes_to_stdout(verb: &Verb) -> bool {
    match verb {
        Verb::Encrypt(args) if args.files.are_many(&args.inputs) => false,
        Verb::Decrypt(args) if args.files.are_many(&args.inputs) => false,
        Verb::Encrypt(args) => encrypt::destination(args) == Destination::Stdout,
        Verb::Decrypt(args) => {
            decrypt::destination(args).is_ok_and(|destination| destination == Destination::Stdout)
        }
        Verb::Reencrypt(args) => reencrypt::destination(args) == Some(Destination::Stdout),
        Verb::Keys(args) => match &args.verb {
            KeysVerb::ExportPublic { output, .. } => {
                keys::destination(output) == Destination::Stdout
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_dash(path: &Path) -> bool {
    path == Path::new(DASH)
}

fn context_of(pairs: &[ContextPair]) -> Result<EncryptionContext, Failure> {
    let pairs = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str()));
    EncryptionContext::from_pairs(pairs).map_err(|error| Failure::from(error).about("--context"))
}

/// A decryptor, without holders yet, of what the flags expect.
fn expecting(args: &ExpectedArgs) -> Result<Decryptor, Failure> {
    let decryptor = match args.any_context {
        true => Decryptor::any_context(),
        false => Decryptor::expecting(context_of(&args.context)?),
    };
    Ok(decryptor.min_generation(args.min_generation))
}
