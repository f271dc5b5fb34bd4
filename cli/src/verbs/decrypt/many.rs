//! `twinlock decrypt` of many files

use std::fs;
use std::path::{Path, PathBuf};

use twinlock::Envelope;

use super::decrypt_to;
use crate::App;
use crate::args::DecryptArgs;
use crate::exit::{Failure, Kind};
use crate::input::{Input, without_suffix};
use crate::output::Destination;
use crate::report::Outcome;
use crate::settings::Settings;
use crate::verbs::batch::{self, Buffer, Done, Keys, Request, Work};
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

/// Whether there is room for less than this shows when it is written.
const SMALL: u64 = 1 << 20;

impl Work for Decrypting<'_> {
    const VERB: [&'static str; 2] = ["decrypt", "decrypted"];

    fn output_name(&self, path: &Path) -> Result<PathBuf, Failure> {
        without_suffix(path)
            .ok_or_else(|| Failure::new(Kind::NotAnEnvelope, "it does not end in .twl"))
    }

    fn file(&self, mut input: Input, to: &Path, _: &mut Buffer) -> Result<Done, Failure> {
        let exists = !self.args.output.force && to.symlink_metadata().is_ok();
        if exists && !self.args.files.resume {
            return Err(batch::exists(to));
        }
        let mut envelope = self.keys.open(&mut input)?;
        if exists {
            return check_existing(&envelope, input, to);
        }
        let destination = Destination::File(to.to_owned());
        let large = input.len().filter(|len| *len > SMALL);
        let output = destination.open(&self.args.output, input.metadata(), large)?;
        let name = input.name().to_owned();
        decrypt_to(self.app, &mut envelope, input, output)
            .map(|(len, output)| Done::Made(len, output))
            .map_err(|failure| failure.about_content(&name))
    }

    /// A holder that is down is spared; other files may not need it, or what it
    /// said of their pair is known.
    fn is_stopped(&self) -> bool {
        false
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
