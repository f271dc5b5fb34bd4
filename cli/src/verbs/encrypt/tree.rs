//! `twinlock encrypt -r`

use std::fs;
use std::path::{Path, PathBuf};

use twinlock::{Batch, Decryptor, EncryptionContext, Encryptor, PairLimits};

use super::{encrypt_to, note_an_envelope, roughly_encrypted, warn_of_needed_keys};
use crate::App;
use crate::args::EncryptArgs;
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::input::{Input, with_suffix};
use crate::output::Destination;
use crate::report::Outcome;
use crate::settings::Settings;
use crate::verbs::batch::{self, Done, Keys, Work};
use crate::verbs::context_of;

pub(super) fn run(app: &App<'_>, args: &EncryptArgs) -> Result<Outcome, Failure> {
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    warn_of_needed_keys(&settings);
    let context = context_of(&args.context)?;
    let keys = Keys::new(settings, Decryptor::expecting(context.clone()))?;
    let mut work = Encrypting { app, args, context, batch: None, stopped: false, keys };
    let output = args.output.output.as_deref().expect("-r requires -o");
    batch::run(app, &args.input, output, &mut work)
}

struct Encrypting<'a> {
    app: &'a App<'a>,
    args: &'a EncryptArgs,
    context: EncryptionContext,
    /// `None` before the first file that is to be encrypted.
    batch: Option<Batch>,
    /// True if no share pair can be had: no further file would fare better.
    stopped: bool,
    keys: Keys,
}

impl Work for Encrypting<'_> {
    const VERB: [&'static str; 2] = ["encrypt", "encrypted"];

    const TAKES_JOURNALS: bool = true;

    fn output_name(&self, relative: &Path) -> Result<PathBuf, Failure> {
        Ok(with_suffix(relative))
    }

    fn file(&mut self, from: &Path, to: &Path) -> Result<Done, Failure> {
        let input = Input::open_in_tree(from)?;
        if !self.args.output.force && to.symlink_metadata().is_ok() {
            return self.check_existing(&input, to);
        }
        note_an_envelope(&input);
        let destination = Destination::File(to.to_owned());
        let len = input.len().map(roughly_encrypted);
        let output = destination.open(&self.args.output, input.metadata(), len)?;
        let encryptor = self.encryptor()?;
        let (len, output) = encrypt_to(self.app, encryptor, input, output)?;
        Ok(Done::Made(len, output))
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }
}

impl Encrypting<'_> {
    /// An encryptor of the pair that is in use, or of a new one.
    fn encryptor(&mut self) -> Result<Encryptor, Failure> {
        let encryptor = match &self.batch {
            Some(_) => Ok(()),
            None => self.begin(),
        }
        .and_then(|()| {
            let batch = self.batch.as_ref().expect("begun above");
            Ok(self.keys.runtime.block_on(batch.encryptor())?)
        });
        self.stopped = encryptor.is_err();
        encryptor
    }

    fn begin(&mut self) -> Result<(), Failure> {
        let Keys { settings, opened, runtime, .. } = &mut self.keys;
        let mut builder = runtime.block_on(holders::encryptor_of(settings, opened))?;
        builder = builder.context(self.context.clone());
        if self.args.no_read_back {
            builder = builder.without_read_back();
        }
        let limits = PairLimits::default().envelopes(self.args.batch_files.get());
        self.batch = Some(builder.batch(limits)?);
        Ok(())
    }

    /// Whether `to` is `input`, encrypted by an earlier run.
    fn check_existing(&mut self, input: &Input, to: &Path) -> Result<Done, Failure> {
        if !fs::symlink_metadata(to)?.is_file() {
            return Err(batch::in_the_way(to, "is no regular file"));
        }
        let is_older = |input: &Input| -> std::io::Result<bool> {
            let source = input.metadata().map(fs::Metadata::modified).transpose()?;
            Ok(Some(fs::symlink_metadata(to)?.modified()?) < source)
        };
        if is_older(input)? {
            return Err(batch::in_the_way(to, "is older than what it was made of"));
        }
        match self.verified_len(to) {
            Ok(len) if Some(len) == input.len() => Ok(Done::Kept(len)),
            Ok(_) => Err(batch::in_the_way(to, "is of another file")),
            Err(failure) if is_of_the_file(&failure) => {
                Err(batch::in_the_way(to, &format!("does not open ({})", failure.message)))
            }
            Err(failure) if batch::is_of_a_holder(&failure) => Err(unconfirmed(to, failure)),
            Err(failure) => Err(failure),
        }
    }

    /// The length of an envelope's plaintext, as its last segment proves it.
    fn verified_len(&mut self, path: &Path) -> Result<u64, Failure> {
        let mut input = Input::open_in_tree(path)?;
        let envelope = self.keys.open(&mut input)?;
        if *envelope.header().context() != self.context {
            return Err(Failure::new(Kind::WrongContext, "it has another encryption context"));
        }
        if !self.keys.are_those_of(&envelope)? {
            return Err(batch::in_the_way(path, "has other keyslots: rewrap it, or --force"));
        }
        Ok(envelope.seek_reader(input)?.verified_len()?)
    }
}

/// True if the envelope is not one that this run would make, whatever holders say.
fn is_of_the_file(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        Kind::NotAnEnvelope
            | Kind::Tampered
            | Kind::Truncated
            | Kind::WrongContext
            | Kind::NoKeyslot
    )
}

/// The envelope may well be sound: whoever may only wrap cannot tell.
fn unconfirmed(path: &Path, failure: Failure) -> Failure {
    let what = format!("{} exists already, and cannot be confirmed", path.display());
    let unconfirmed = Failure { message: format!("{what} ({})", failure.message), ..failure };
    match batch::is_worth_a_retry(&unconfirmed) {
        true => unconfirmed,
        false => unconfirmed.hint(
            "that takes both keys of a keyslot, and leave to unwrap; run it again where there is, \
             or make all outputs anew with --force",
        ),
    }
}
