//! `twinlock verify`

use std::io;

use serde::Serialize;
use twinlock::Envelope;

use super::decrypt::Plan;
use crate::App;
use crate::args::VerifyArgs;
use crate::exit::Failure;
use crate::input::{self, Input};
use crate::progress;
use crate::report::{self, Outcome};

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    input: String,
    plaintext_len: u64,
    envelope_id: String,
    generation: u64,
    context: serde_json::Value,
}

pub(crate) fn run(app: &App<'_>, args: &VerifyArgs) -> Result<Outcome, Failure> {
    let plan = Plan::new(app, &args.expected, &args.keys)?;
    let mut input = Input::open(&args.input)?;
    let name = input.name().to_owned();
    let about = |failure: Failure| failure.about(&name);
    let headers = input::headers(Some(&mut input), args.header.as_deref())?;
    plan.check(&headers).map_err(about)?;
    let mut envelope = plan.open(headers).map_err(about)?;
    let plaintext_len =
        verify(app, &mut envelope, input).map_err(|failure| failure.about_content(&name))?;

    let facts = envelope.header();
    let text = match app.console.quiet {
        true => String::new(),
        false => format!("{name}: authentic, {plaintext_len} bytes of plaintext\n"),
    };
    let report = Report {
        input: name,
        plaintext_len,
        envelope_id: facts.envelope_id().to_string(),
        generation: facts.generation().0,
        context: report::context(facts.context()),
    };
    Ok(Outcome::new("verify", text, &report))
}

fn verify(app: &App<'_>, envelope: &mut Envelope, mut input: Input) -> Result<u64, Failure> {
    let (progress, total) = (envelope.progress(), input.len());
    input.heed(&progress);
    let verified = progress::watch(progress, total, app.hides_progress(), || {
        envelope.decrypt(input, io::sink())
    });
    Ok(verified?)
}
