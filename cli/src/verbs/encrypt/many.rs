//! `twinlock encrypt` of many files

use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use twinlock::{Batch, Decryptor, EncryptionContext, Encryptor, PairLimits};

use super::{
    encrypt_to, note_an_envelope, note_if_envelope, roughly_encrypted, warn_of_needed_keys,
};
use crate::App;
use crate::args::EncryptArgs;
use crate::exit::{Failure, Kind};
use crate::holders;
use crate::input::{Input, room, with_suffix};
use crate::output::Output;
use crate::report::Outcome;
use crate::settings::Settings;
use crate::verbs::batch::{self, Buffers, Done, Job, Keys, Request, Work};
use crate::verbs::context_of;

pub(super) fn run(app: &App<'_>, args: &EncryptArgs) -> Result<Outcome, Failure> {
    if args.detach {
        return Err(Failure::usage("--detach is for one file, and these are many"));
    }
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    warn_of_needed_keys(&settings);
    let context = context_of(&args.context)?;
    let keys = Keys::new(settings, Decryptor::expecting(context.clone()))?;
    let (batch, stopped) = (Mutex::default(), AtomicBool::new(false));
    let work = Encrypting { app: &app.without_progress(), args, context, batch, stopped, keys };
    let request = Request {
        inputs: &args.inputs,
        files: &args.files,
        output: &args.output,
        threads: args.threads,
    };
    batch::run(app, &request, &work)
}

struct Encrypting<'a> {
    app: &'a App<'a>,
    args: &'a EncryptArgs,
    context: EncryptionContext,
    /// `None` before the first file that is to be encrypted.
    batch: Mutex<Option<Arc<Batch>>>,
    /// True if no share pair can be had: no further file would fare better.
    stopped: AtomicBool,
    keys: Keys,
}

impl Work for Encrypting<'_> {
    const VERB: [&'static str; 2] = ["encrypt", "encrypted"];

    const TAKES_JOURNALS: bool = true;

    fn output_name(&self, path: &Path) -> Result<PathBuf, Failure> {
        Ok(with_suffix(path))
    }

    fn file(&self, input: Input, job: &Job, buffers: &mut Buffers) -> Result<Done, Failure> {
        if self.args.files.resume && job.to.symlink_metadata().is_ok() {
            return self.check_existing(&input, &job.to);
        }
        // Whether there is room for a small file shows when it is written.
        let large = input.len().filter(|len| *len > batch::SMALL).map(roughly_encrypted);
        let output = batch::begin_output(job, &self.args.output, &input, large)?;
        let encryptor = self.encryptor()?;
        let (len, output) = match large {
            None => encrypt_small(encryptor, input, output, buffers)?,
            Some(_) => {
                note_an_envelope(&input);
                encrypt_to(self.app, encryptor, input, output)?
            }
        };
        Ok(Done::Made(len, output))
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Reads, seals and writes once.
fn encrypt_small(
    encryptor: Encryptor,
    mut input: Input,
    mut output: Output,
    buffers: &mut Buffers,
) -> Result<(u64, Output), Failure> {
    let plaintext = input.read_whole(&mut buffers.input)?;
    note_if_envelope(&input, plaintext);
    let len = encryptor.envelope_len(plaintext.len() as u64);
    let len = len.and_then(|len| usize::try_from(len).ok()).expect("it is not much longer");
    let envelope = room(&mut buffers.output, len);
    encryptor.encrypt_into(plaintext, envelope).map_err(io::Error::other)?;
    input.check_unchanged()?;
    output.write_all(envelope)?;
    Ok((plaintext.len() as u64, output))
}

impl Encrypting<'_> {
    /// An encryptor of the pair that is in use, or of a new one.
    fn encryptor(&self) -> Result<Encryptor, Failure> {
        let encryptor = self.batch().and_then(|batch| Ok(self.keys.wait(batch.encryptor())?));
        if encryptor.is_err() {
            self.stopped.store(true, Ordering::Relaxed);
        }
        encryptor
    }

    /// Begun with the first file. Who needs it meanwhile waits.
    fn batch(&self) -> Result<Arc<Batch>, Failure> {
        let mut begun = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batch) = &*begun {
            return Ok(Arc::clone(batch));
        }
        let Keys { settings, opened, runtime, .. } = &self.keys;
        let mut builder = runtime.block_on(holders::encryptor_of(settings, opened))?;
        // Workers have a file each.
        builder = builder.context(self.context.clone()).threads(NonZeroUsize::MIN);
        if self.args.no_read_back {
            builder = builder.without_read_back();
        }
        let mut limits = PairLimits::default();
        if let Some(files) = self.args.batch_files {
            limits = limits.envelopes(files.get());
        }
        Ok(Arc::clone(begun.insert(Arc::new(builder.batch(limits)?))))
    }

    /// Whether `to` is `input`, encrypted by an earlier run.
    fn check_existing(&self, input: &Input, to: &Path) -> Result<Done, Failure> {
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
    fn verified_len(&self, path: &Path) -> Result<u64, Failure> {
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
