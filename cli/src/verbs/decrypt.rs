//! `twinlock decrypt`

mod many;

use std::io;
use std::num::NonZeroUsize;

use serde::Serialize;
use twinlock::file::InputFailed;
use twinlock::{Envelope, PayloadError, RangeReader};

use super::{batch, expecting, is_dash};
use crate::App;
use crate::args::values::ByteRange;
use crate::args::{DecryptArgs, ExpectedArgs, KeyArgs};
use crate::exit::Failure;
use crate::holders::{self, Opened};
use crate::input::{self, Candidate, Input, without_suffix};
use crate::output::{Destination, Output};
use crate::progress;
use crate::report::{self, Outcome};
use crate::settings::Settings;

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    input: String,
    output: String,
    /// Of what was written: all of the plaintext, or a range of it.
    plaintext_len: u64,
    range: Option<Range>,
    envelope_id: String,
    generation: u64,
    context: serde_json::Value,
}

#[derive(Serialize)]
struct Range {
    start: u64,
    end: u64,
}

pub(crate) fn run(app: &App<'_>, args: &DecryptArgs) -> Result<Outcome, Failure> {
    if args.files.are_many(&args.inputs) {
        return many::run(app, args);
    }
    batch::refuse_flags_of_many(&args.files, None)?;
    let destination = destination(args)?;
    let plan = Plan::new(app, &args.expected, &args.keys)?.threads(args.threads);
    let mut input = Input::open(args.input())?;
    destination.check(&args.output, &input)?;
    let headers = input::headers(Some(&mut input), args.header.as_deref())?;
    plan.check(&headers).map_err(|failure| failure.about(input.name()))?;

    let like = input.metadata().filter(|_| args.range.is_none());
    let output = destination.open(&args.output, like, expected_len(&input, args.range))?;
    let output = output.waiting_for_disk(!args.files.no_sync);
    let mut envelope = plan.open(headers).map_err(|failure| failure.about(input.name()))?;
    let name = input.name().to_owned();
    let len = match args.range {
        None => decrypt(app, &mut envelope, input, output),
        Some(range) => decrypt_range(&envelope, input, output, range),
    }
    .map_err(|failure| failure.about_content(&name))?;

    tracing::info!(bytes = len, "decrypted {name} to {}", destination.name());
    let facts = envelope.header();
    let report = Report {
        input: name,
        output: destination.name(),
        plaintext_len: len,
        range: args.range.map(|range| Range { start: range.start, end: range.start + len }),
        envelope_id: facts.envelope_id().to_string(),
        generation: facts.generation().0,
        context: report::context(facts.context()),
    };
    Ok(Outcome::new("decrypt", "", &report))
}

/// `FILE` beside `FILE.twl`, stdout for stdin and for a range, unless `-o` says
/// otherwise.
pub(crate) fn destination(args: &DecryptArgs) -> Result<Destination, Failure> {
    if args.range.is_some() && is_dash(args.input()) {
        return Err(Failure::usage("--range needs a file to seek in, and stdin is a stream")
            .hint("name the file, or decrypt the whole stream"));
    }
    let default = match (is_dash(args.input()) || args.range.is_some(), &args.output.output) {
        (true, _) | (_, Some(_)) => Destination::Stdout,
        (false, None) => Destination::File(without_suffix(args.input()).ok_or_else(|| {
            Failure::usage(format!("{} does not end in .twl", args.input().display()))
                .hint("name the output with -o FILE")
        })?),
    };
    Ok(Destination::choose(&args.output, default))
}

/// What is expected of a file, and the keys to open it with.
pub(super) struct Plan {
    settings: Settings,
    decryptor: twinlock::Decryptor,
}

impl Plan {
    pub(super) fn new(
        app: &App<'_>,
        expected: &ExpectedArgs,
        keys: &KeyArgs,
    ) -> Result<Self, Failure> {
        let settings = Settings::resolve(app.common, keys, app.environment)?;
        Ok(Self { settings, decryptor: expecting(expected)? })
    }

    fn threads(mut self, threads: Option<NonZeroUsize>) -> Self {
        if let Some(threads) = threads {
            self.decryptor = self.decryptor.threads(threads);
        }
        self
    }

    /// Whether one of the headers is what is expected; no holder is asked.
    pub(super) fn check(&self, headers: &[Candidate]) -> Result<(), Failure> {
        let checked = headers.iter().map(|candidate| self.decryptor.check(&candidate.header));
        Ok(checked.reduce(Result::or).unwrap_or(Ok(()))?)
    }

    /// The key step.
    pub(super) fn open(self, headers: Vec<Candidate>) -> Result<Envelope, Failure> {
        let opened = Opened::default();
        let opening = holders::open_envelope(headers, self.decryptor, &self.settings, &opened);
        holders::runtime()?.block_on(opening)
    }
}

/// A plaintext is shorter than its envelope.
fn expected_len(input: &Input, range: Option<ByteRange>) -> Option<u64> {
    let len = input.len();
    match range.and_then(|range| range.end.map(|end| end - range.start)) {
        Some(wanted) => Some(len.map_or(wanted, |len| len.min(wanted))),
        None => len,
    }
}

fn decrypt(
    app: &App<'_>,
    envelope: &mut Envelope,
    input: Input,
    output: Output,
) -> Result<u64, Failure> {
    let (written, output) = decrypt_to(app, envelope, input, output)?;
    output.finish()?;
    Ok(written)
}

/// Returns the length of the plaintext, and the output, not yet finished.
fn decrypt_to(
    app: &App<'_>,
    envelope: &mut Envelope,
    mut input: Input,
    mut output: Output,
) -> Result<(u64, Output), Failure> {
    let (progress, total) = (envelope.progress(), input.len());
    input.heed(&progress);
    let len = progress::watch(progress, total, app.hides_progress(), || match output.file() {
        Some(file) if input.metadata().is_some() => {
            let len = envelope.decrypt_file(input.file(), file);
            len.map_err(|error| why_not_decrypted(error, &input, &output))
        }
        _ => envelope.decrypt(&mut input, &mut output),
    })?;
    output.filled()?;
    Ok((len, output))
}

/// From one file to the other.
fn why_not_decrypted(error: io::Error, input: &Input, output: &Output) -> io::Error {
    match error.get_ref() {
        Some(inner) if inner.is::<InputFailed>() => input.failed(&error),
        Some(inner) if inner.is::<PayloadError>() => error,
        _ => output.failed(&error),
    }
}

fn decrypt_range(
    envelope: &Envelope,
    input: Input,
    mut output: Output,
    range: ByteRange,
) -> Result<u64, Failure> {
    let reader = envelope.range_reader(input)?;
    let wanted = range.start..range.end.unwrap_or(u64::MAX);
    let written = reader.write_range_to(wanted, &mut output)?;
    if written == 0 {
        refuse_start_beyond_end(&reader, range)?;
    }
    output.finish()?;
    Ok(written)
}

fn refuse_start_beyond_end(reader: &RangeReader<Input>, range: ByteRange) -> Result<(), Failure> {
    let len = reader.verified_len()?;
    match range.start > len {
        true => Err(Failure::usage(format!(
            "the range begins at byte {}, and the plaintext has {len}",
            range.start
        ))),
        false => Ok(()),
    }
}
