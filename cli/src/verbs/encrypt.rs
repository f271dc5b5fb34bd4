//! `twinlock encrypt`

mod tree;

use std::os::unix::fs::FileExt as _;

use serde::Serialize;
use twinlock::{DEFAULT_SEGMENT_LEN, EncryptionContext, Encryptor, EnvelopeId};

use super::{context_of, is_dash};
use crate::App;
use crate::args::EncryptArgs;
use crate::exit::Failure;
use crate::holders;
use crate::input::{Input, with_suffix};
use crate::output::{Destination, Output};
use crate::progress::Tracked;
use crate::report::{self, Outcome};
use crate::settings::{KeyPair, Settings};

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    input: String,
    output: String,
    plaintext_len: u64,
    envelope_len: u64,
    envelope_id: String,
    context: serde_json::Value,
    keyslots: Vec<Keyslot>,
}

#[derive(Serialize)]
struct Keyslot {
    provider: String,
    customer: String,
}

pub(crate) fn run(app: &App<'_>, args: &EncryptArgs) -> Result<Outcome, Failure> {
    if args.recursive {
        return tree::run(app, args);
    }
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    let context = context_of(&args.context)?;
    let input = Input::open(&args.input)?;
    let destination = destination(args);
    destination.check(&args.output, &input)?;
    note_an_envelope(&input);

    // Whether there is room, and a place at all, shows before any key is used.
    let len = input.len().map(roughly_encrypted);
    let output = destination.open(&args.output, input.metadata(), len)?;
    let encryptor = prepare(args, &settings, context.clone())?;
    let envelope_id = encryptor.envelope_id();
    if let Some(len) = input.len().and_then(|len| encryptor.envelope_len(len)) {
        output.check_room(&destination, len)?;
    }

    let name = input.name().to_owned();
    let (plaintext_len, envelope_len) = encrypt(app, encryptor, input, output)?;
    tracing::info!(bytes = plaintext_len, "encrypted {name} to {}", destination.name());
    let report = Report {
        input: name,
        output: destination.name(),
        plaintext_len,
        envelope_len,
        envelope_id: EnvelopeId::to_string(&envelope_id),
        context: report::context(&context),
        keyslots: settings.pairs.iter().map(Keyslot::of).collect(),
    };
    Ok(Outcome::new("encrypt", "", &report))
}

/// `FILE.twl` beside `FILE`, stdout for stdin, unless `-o` says otherwise.
pub(crate) fn destination(args: &EncryptArgs) -> Destination {
    let default = match is_dash(&args.input) {
        true => Destination::Stdout,
        false => Destination::File(with_suffix(&args.input)),
    };
    Destination::choose(&args.output, default)
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
        Ok(builder.prepare().await?)
    })
}

/// Returns the lengths of plaintext and envelope.
fn encrypt(
    app: &App<'_>,
    encryptor: Encryptor,
    input: Input,
    output: Output,
) -> Result<(u64, u64), Failure> {
    let (len, output) = encrypt_to(app, encryptor, input, output)?;
    let envelope_len = output.written();
    output.finish()?;
    Ok((len, envelope_len))
}

/// Returns the length of the plaintext, and the output, not yet finished.
fn encrypt_to(
    app: &App<'_>,
    encryptor: Encryptor,
    input: Input,
    output: Output,
) -> Result<(u64, Output), Failure> {
    let total = input.len();
    let mut input = Tracked::new(input, total, app.hides_progress());
    let mut writer = encryptor.writer(output)?;
    let len = writer.read_from(&mut input)?;
    let output = writer.finish()?;
    input.inner().check_unchanged()?;
    Ok((len, output))
}

/// An upper bound for one keyslot: the overhead of each segment, and the
/// largest header there is.
fn roughly_encrypted(len: u64) -> u64 {
    const SEGMENT_OVERHEAD: u64 = 32;
    const HEADERS: u64 = 16 << 10;
    let segments = len / (u64::from(DEFAULT_SEGMENT_LEN) - SEGMENT_OVERHEAD) + 1;
    len.saturating_add(segments * SEGMENT_OVERHEAD).saturating_add(HEADERS)
}

/// Encrypting twice is allowed, and seldom meant.
fn note_an_envelope(input: &Input) {
    let mut start = [0; 8];
    let is_envelope = input.metadata().is_some()
        && input.file().read_exact_at(&mut start, 0).is_ok()
        && start == *b"TWINLOCK";
    if is_envelope {
        tracing::warn!("{} is encrypted already; encrypting it once more", input.name());
    }
}

impl Keyslot {
    fn of(pair: &KeyPair) -> Self {
        Self { provider: pair.provider.to_string(), customer: pair.customer.to_string() }
    }
}
