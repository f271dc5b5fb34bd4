//! `twinlock decrypt` of many files

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use twinlock::{DecryptSliceError, Envelope};

use super::decrypt_to;
use crate::App;
use crate::args::DecryptArgs;
use crate::exit::{Failure, Kind};
use crate::input::{Input, room, without_suffix};
use crate::output::Output;
use crate::report::Outcome;
use crate::settings::Settings;
use crate::verbs::batch::{self, Buffers, Done, Job, Keys, Request, Work};
use crate::verbs::expecting;

pub(super) fn run(app: &App<'_>, args: &DecryptArgs) -> Result<Outcome, Failure> {
    if args.range.is_some() || args.header.is_some() {
        return Err(Failure::usage("--range and --header are for one file, and these are many"));
    }
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    let keys = Keys::new(settings, expecting(&args.expected)?)?;
    let request = Request {
        inputs: &args.inputs,
        files: &args.files,
        output: &args.output,
        threads: args.threads,
    };
    batch::run(app, &request, &Decrypting { app: &app.without_progress(), args, keys })
}

struct Decrypting<'a> {
    app: &'a App<'a>,
    args: &'a DecryptArgs,
    keys: Keys,
}

impl Work for Decrypting<'_> {
    const VERB: [&'static str; 2] = ["decrypt", "decrypted"];

    fn output_name(&self, path: &Path) -> Result<PathBuf, Failure> {
        without_suffix(path)
            .ok_or_else(|| Failure::new(Kind::NotAnEnvelope, "it does not end in .twl"))
    }

    fn file(&self, mut input: Input, job: &Job, buffers: &mut Buffers) -> Result<Done, Failure> {
        let Self { app, args, keys } = self;
        if args.files.resume && !args.output.force && job.to.symlink_metadata().is_ok() {
            return check_existing(&keys.open(&mut input)?, input, &job.to);
        }
        // Whether there is room for a small file shows when it is written.
        let large = input.len().filter(|len| *len > batch::SMALL);
        let output = batch::begin_output(job, &args.output, &input, large)?;
        let (len, output) = match large {
            None => decrypt_small(keys, input, output, buffers)?,
            Some(_) => {
                let mut envelope = keys.open(&mut input)?;
                let name = input.name().to_owned();
                decrypt_to(app, &mut envelope, input, output)
                    .map_err(|failure| failure.about_content(&name))?
            }
        };
        Ok(Done::Made(len, output))
    }

    /// A holder that is down is spared; other files may not need it, or what it
    /// said of their pair is known.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// Reads, opens and writes once.
fn decrypt_small(
    keys: &Keys,
    mut input: Input,
    mut output: Output,
    buffers: &mut Buffers,
) -> Result<(u64, Output), Failure> {
    let bytes = input.read_whole(&mut buffers.input)?;
    let envelope = keys.open_one_of(input.headers_before(bytes)?, &input)?;
    let plaintext = room(&mut buffers.output, bytes.len()); // which is longer
    let len = envelope
        .decrypt_into(bytes, plaintext)
        .map_err(|error| why_not_opened(error).about_content(input.name()))?;
    output.write_all(&plaintext[..len])?;
    Ok((len as u64, output))
}

fn why_not_opened(error: DecryptSliceError) -> Failure {
    match error {
        DecryptSliceError::Payload(error) => Failure::from(error),
        error => Failure::from(io::Error::other(error)),
    }
}

/// Whether `to` is as long as the plaintext of `envelope`, as the last segment
/// of `input` proves it, and has the time that an output gets from `input`.
fn check_existing(envelope: &Envelope, input: Input, to: &Path) -> Result<Done, Failure> {
    let name = input.name().to_owned();
    let modified = input.metadata().map(fs::Metadata::modified).transpose()?;
    let verified_len = envelope.seek_reader(input).and_then(|mut reader| reader.verified_len());
    let len = verified_len.map_err(|error| Failure::from(error).about_content(&name))?;
    match to.symlink_metadata() {
        Ok(existing) if !existing.is_file() || existing.len() != len => {
            Err(batch::in_the_way(to, "is something else"))
        }
        Ok(existing) if Some(existing.modified()?) != modified => {
            Err(batch::in_the_way(to, "has another time of modification than what it is made of"))
        }
        Ok(_) => Ok(Done::Kept(len)),
        Err(error) => Err(Failure::file(to, &error)),
    }
}
