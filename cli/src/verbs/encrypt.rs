//! `twinlock encrypt`

mod many;

use std::fs::Metadata;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use twinlock::file::{Changed, InputFailed, OutputFile};
use twinlock::{DEFAULT_SEGMENT_LEN, EncryptionContext, Encryptor, EnvelopeId};

use super::{batch, context_of, is_dash};
use crate::App;
use crate::args::EncryptArgs;
use crate::exit::Failure;
use crate::holders;
use crate::input::{Input, with_suffix};
use crate::output::{Destination, Output};
use crate::progress;
use crate::report::{self, Outcome};
use crate::settings::{KeyPair, Settings};

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    input: String,
    output: String,
    /// The file of the header, if it is kept apart.
    header: Option<String>,
    plaintext_len: u64,
    envelope_len: u64,
    envelope_id: String,
    context: serde_json::Value,
    keyslots: Vec<Keyslot>,
    /// Keys that every keyslot needs: the loss of one is the loss of the file.
    needed_keys: Vec<String>,
}

#[derive(Serialize)]
struct Keyslot {
    provider: String,
    customer: String,
}

pub(crate) fn run(app: &App<'_>, args: &EncryptArgs) -> Result<Outcome, Failure> {
    if args.files.are_many(&args.inputs) {
        return many::run(app, args);
    }
    batch::refuse_flags_of_many(&args.files, args.batch_files)?;
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    let context = context_of(&args.context)?;
    let input = Input::open(args.input())?;
    let destination = destination(args);
    destination.check(&args.output, &input)?;
    let header = header_path(args, &destination)?;
    note_an_envelope(&input);
    warn_of_needed_keys(&settings);

    // Whether there is room, and a place at all, shows before any key is used.
    let len = input.len().map(roughly_encrypted);
    let output = destination.open(&args.output, input.metadata(), len)?;
    let output = output.waiting_for_disk(!args.files.no_sync);
    let new_header = header.as_deref().map(|path| begin_header(path, input.metadata()));
    let new_header = new_header.transpose()?;
    let mut encryptor = prepare(args, &settings, context.clone())?;
    if new_header.is_some() {
        encryptor = encryptor.detached();
    }
    let envelope_id = encryptor.envelope_id();
    if let Some(len) = input.len().and_then(|len| encryptor.envelope_len(len)) {
        output.check_room(&destination, len)?;
    }

    let name = input.name().to_owned();
    let (plaintext_len, envelope_len) = encrypt(app, encryptor, input, output, new_header)?;
    tracing::info!(bytes = plaintext_len, "encrypted {name} to {}", destination.name());
    let report = Report {
        input: name,
        output: destination.name(),
        header: header.map(|path| path.display().to_string()),
        plaintext_len,
        envelope_len,
        envelope_id: EnvelopeId::to_string(&envelope_id),
        context: report::context(&context),
        keyslots: settings.pairs.iter().map(Keyslot::of).collect(),
        needed_keys: settings.needed_keys().iter().map(ToString::to_string).collect(),
    };
    Ok(Outcome::new("encrypt", "", &report))
}

/// `FILE.twl` beside `FILE`, stdout for stdin, unless `-o` says otherwise.
pub(crate) fn destination(args: &EncryptArgs) -> Destination {
    let default = match is_dash(args.input()) {
        true => Destination::Stdout,
        false => Destination::File(with_suffix(args.input())),
    };
    Destination::choose(&args.output, default)
}

/// Where the header goes, if it is kept apart.
fn header_path(args: &EncryptArgs, payload: &Destination) -> Result<Option<PathBuf>, Failure> {
    if !args.detach {
        return Ok(None);
    }
    match (&args.header, payload) {
        (Some(path), _) if is_dash(path) => {
            Err(Failure::usage("the header goes to a file: --header cannot be stdout"))
        }
        (Some(path), _) => Ok(Some(path.clone())),
        (None, Destination::File(path)) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".header");
            Ok(Some(name.into()))
        }
        (None, _) => Err(Failure::usage("where is the header to go? The output has no name")
            .hint("name a file for it with --header")),
    }
}

/// An existing header is never replaced.
fn begin_header(path: &Path, like: Option<&Metadata>) -> Result<OutputFile, Failure> {
    let begun = match like {
        Some(like) => OutputFile::create_like(path, false, like.clone()),
        None => OutputFile::create(path, false),
    };
    begun.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::from(error)
            .hint("it may be the only way into another payload: name another one with --header"),
        _ => crate::output::not_created(path, &error),
    })
}

/// The key step. Holders and runtime are gone when the bulk work begins.
fn prepare(
    args: &EncryptArgs,
    settings: &Settings,
    context: EncryptionContext,
) -> Result<Encryptor, Failure> {
    holders::runtime()?.block_on(async {
        let mut builder = holders::encryptor(settings).await?.context(context);
        if args.no_read_back {
            builder = builder.without_read_back();
        }
        if let Some(threads) = args.threads {
            builder = builder.threads(threads);
        }
        Ok(builder.prepare().await?)
    })
}

/// Returns the lengths of plaintext and envelope.
fn encrypt(
    app: &App<'_>,
    encryptor: Encryptor,
    input: Input,
    output: Output,
    mut header: Option<OutputFile>,
) -> Result<(u64, u64), Failure> {
    if let Some(header) = &mut header {
        header.write_all(encryptor.header())?;
    }
    // A stream cannot be called back: whoever gets it has to find the header.
    if let Some(header) = header.take_if(|_| output.is_stream()) {
        header.commit()?;
    }
    let (len, output) = encrypt_to(app, encryptor, input, output)?;
    let envelope_len = output.written();
    output.finish_after(header)?;
    Ok((len, envelope_len))
}

/// Returns the length of the plaintext, and the output, not yet finished.
fn encrypt_to(
    app: &App<'_>,
    mut encryptor: Encryptor,
    mut input: Input,
    mut output: Output,
) -> Result<(u64, Output), Failure> {
    let (progress, total) = (encryptor.progress(), input.len());
    input.heed(&progress);
    let len = progress::watch(progress, total, app.hides_progress(), || match output.file() {
        Some(file) if input.metadata().is_some() => {
            let len = encryptor.encrypt_file(input.file(), file);
            len.map_err(|error| why_not_encrypted(error, &input, &output))
        }
        _ => {
            let len = encryptor.encrypt(&mut input, &mut output)?;
            input.check_unchanged()?;
            Ok(len)
        }
    })?;
    output.filled()?;
    Ok((len, output))
}

/// From one file to the other.
fn why_not_encrypted(error: io::Error, input: &Input, output: &Output) -> Failure {
    match error.get_ref() {
        Some(inner) if inner.is::<Changed>() => input.changed(),
        Some(inner) if inner.is::<InputFailed>() => input.failed(&error).into(),
        _ => output.failed(&error).into(),
    }
}

/// An upper bound for one keyslot: the overhead of each segment, and the
/// largest header there is.
fn roughly_encrypted(len: u64) -> u64 {
    const SEGMENT_OVERHEAD: u64 = 32;
    const HEADERS: u64 = 16 << 10;
    let segments = len / (u64::from(DEFAULT_SEGMENT_LEN) - SEGMENT_OVERHEAD) + 1;
    len.saturating_add(segments * SEGMENT_OVERHEAD).saturating_add(HEADERS)
}

/// Once for each run that encrypts.
pub(super) fn warn_of_needed_keys(settings: &Settings) {
    let keys: Vec<String> = settings.needed_keys().iter().map(ToString::to_string).collect();
    if keys.is_empty() {
        return;
    }
    let why = match settings.pairs.len() {
        1 => "one keyslot only",
        _ => "every keyslot needs the same",
    };
    tracing::warn!(
        "{why}: if {} is lost, so is what is encrypted now; `twinlock init --recovery-customer \
         URI --recovery-provider URI` adds a keyslot to the profile, `twinlock rewrap \
         --add-keyslot` to a file",
        keys.join(" or ")
    );
}

/// Encrypting twice is allowed, and seldom meant.
fn note_an_envelope(input: &Input) {
    let mut start = [0; 8];
    if input.metadata().is_some() && input.file().read_exact_at(&mut start, 0).is_ok() {
        note_if_envelope(input, &start);
    }
}

/// The same, of an input that begins with `start`.
fn note_if_envelope(input: &Input, start: &[u8]) {
    if start.starts_with(b"TWINLOCK") {
        tracing::warn!("{} is encrypted already; encrypting it once more", input.name());
    }
}

impl Keyslot {
    fn of(pair: &KeyPair) -> Self {
        Self { provider: pair.provider.to_string(), customer: pair.customer.to_string() }
    }
}
