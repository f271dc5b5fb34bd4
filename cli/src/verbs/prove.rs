//! `twinlock prove`

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha384};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use twinlock::{
    Call, CallOutcome, Decryptor, Holders, KeyUri, Proof, ProofAttempt, Side, UnverifiedHeader,
    escape_untrusted,
};
use twinlock_keys::Scheme;

use crate::App;
use crate::args::ProveArgs;
use crate::exit::{Failure, Kind};
use crate::holders::{self, Equipped};
use crate::input::{self, Candidate, HeaderFrom, Input};
use crate::report::{self, Outcome};
use crate::settings::Settings;

/// The evidence, as it can be filed.
#[derive(Serialize)]
struct Evidence {
    /// True if every outcome is the expected one, all keys are kept by holders,
    /// and every keyslot was tried.
    proves: bool,
    verdict: String,
    /// When the attempts began, RFC 3339 in UTC.
    time: String,
    /// Of the `twinlock` that made the calls.
    version: &'static str,
    input: String,
    /// Where the header stands that was tried.
    header_from: HeaderFrom,
    header_len: usize,
    header_sha384: String,
    envelope_id: String,
    generation: u64,
    context: serde_json::Value,
    keyslots: Vec<KeyslotEvidence>,
    /// Ways in that the keys given do not serve.
    keyslots_not_tried: usize,
}

#[derive(Serialize)]
struct KeyslotEvidence {
    /// Its place in the header, counted from 0.
    index: usize,
    pair_id: String,
    provider: ShareEvidence,
    customer: ShareEvidence,
    attempts: Vec<AttemptEvidence>,
}

#[derive(Serialize)]
struct ShareEvidence {
    uri: String,
    wrapped_len: usize,
    wrapped_sha384: String,
}

#[derive(Serialize)]
struct AttemptEvidence {
    holders: &'static str,
    calls: Vec<CallEvidence>,
    keks_tried: usize,
    opened: bool,
    as_expected: bool,
}

#[derive(Serialize)]
struct CallEvidence {
    holder: String,
    uri: String,
    /// Whose wrapped share it was asked to unwrap.
    share: String,
    outcome: &'static str,
    /// The holder's own code, for instance `CKR_OK` or
    /// `InvalidCiphertextException`.
    code: Option<String>,
    /// The number under which the holder's log has the call.
    request_id: Option<String>,
    message: Option<String>,
}

pub(crate) fn run(app: &App<'_>, args: &ProveArgs) -> Result<Outcome, Failure> {
    let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
    let mut input = args.input.as_deref().map(Input::open).transpose()?;
    let candidates = input::headers(input.as_mut(), args.header.as_deref())?;
    if let (Some(payload), Some(_)) = (&mut input, &args.header) {
        input::check_payload(payload, &candidates[0].header)?;
    }
    let name = input::name_of(input.as_ref(), args.header.as_deref());
    let time = now();
    let (candidate, proofs) = holders::runtime()?
        .block_on(prove_one(candidates, &settings))
        .map_err(|failure| failure.about(&name))?;

    let evidence = Evidence::new(name, time, &candidate, &proofs);
    let text = evidence.text();
    match proofs.iter().all(Proof::is_as_expected) {
        true => Ok(Outcome::new("prove", text, &evidence)),
        false => Ok(Outcome::judged("prove", text, &evidence, Some(Kind::Unproven))),
    }
}

/// Tries the file's own header, and that of its journal if nothing opened the
/// first: it was torn by a rewrap that was cut short, or wants older keys. What
/// is said of the first, if neither opens.
async fn prove_one(
    candidates: Vec<Candidate>,
    settings: &Settings,
) -> Result<(Candidate, Vec<Proof>), Failure> {
    let mut first = None;
    for candidate in candidates {
        let proven = prove(&candidate.header, settings).await;
        let opens = |proof: &Proof| proof.attempts.iter().any(|attempt| attempt.opened);
        match proven {
            Ok(proofs) if proofs.iter().any(opens) => return Ok((candidate, proofs)),
            other => _ = first.get_or_insert(other.map(|proofs| (candidate, proofs))),
        }
    }
    first.expect("an input has a header")
}

/// Tries every keyslot that a provider and a customer of ours serve: at least
/// one.
async fn prove(header: &UnverifiedHeader, settings: &Settings) -> Result<Vec<Proof>, Failure> {
    let Equipped { decryptor, unresolved } =
        Equipped::new(Decryptor::any_context(), &[header.header()], settings).await?;
    let proofs = decryptor.prove(header).await;
    if !proofs.is_empty() {
        return Ok(proofs);
    }
    let nothing = "no keyslot names both a provider and a customer key that were given";
    Err(unresolved.unwrap_or_else(|| {
        Failure::new(Kind::NoKeyslot, nothing)
            .hint("`twinlock inspect` shows which keys the file wants")
    }))
}

/// RFC 3339, in UTC, as the logs of services have it.
fn now() -> String {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("a string takes everything");
    text
}

impl Evidence {
    fn new(input: String, time: String, tried: &Candidate, proofs: &[Proof]) -> Self {
        let header = &tried.header;
        let facts = header.header();
        let not_tried = facts.keyslots().len() - proofs.len();
        let verdict = Verdict::of(proofs, not_tried);
        Self {
            proves: verdict == Verdict::Proven,
            verdict: verdict.sentence(),
            time,
            version: env!("CARGO_PKG_VERSION"),
            input,
            header_from: tried.from,
            header_len: header.as_bytes().len(),
            header_sha384: sha384(header.as_bytes()),
            envelope_id: facts.envelope_id().to_string(),
            generation: facts.generation().0,
            context: report::context(facts.context()),
            keyslots: proofs.iter().map(|proof| KeyslotEvidence::new(header, proof)).collect(),
            keyslots_not_tried: not_tried,
        }
    }

    /// For people: a few lines for each keyslot.
    fn text(&self) -> String {
        let mut out = String::new();
        for keyslot in &self.keyslots {
            keyslot.describe(&self.input, &mut out).expect("a string takes everything");
        }
        out.push_str(&self.verdict);
        out.push('\n');
        out
    }
}

/// What the outcomes come down to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Proven,
    /// As expected, with so many keyslots left out.
    InPart(usize),
    /// As expected, with keys that no holder keeps.
    Development,
    Unexpected,
}

impl Verdict {
    fn of(proofs: &[Proof], not_tried: usize) -> Self {
        let is_file = |uri: &KeyUri| uri.scheme() == Scheme::File;
        let mut calls = proofs.iter().flat_map(|p| &p.attempts).flat_map(|a| &a.calls);
        match proofs.iter().all(Proof::is_as_expected) {
            false => Self::Unexpected,
            true if calls.any(|call| is_file(&call.uri)) => Self::Development,
            true if not_tried > 0 => Self::InPart(not_tried),
            true => Self::Proven,
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::Proven => "Neither key alone opens this file; both together do.".to_owned(),
            Self::InPart(1) => {
                "As expected, but one more keyslot opens this file too, and was not tried: \
                 its keys were not given, or only wrap here."
                    .to_owned()
            }
            Self::InPart(others) => format!(
                "As expected, but {others} more keyslots open this file too, and were not tried: \
                 their keys were not given, or only wrap here."
            ),
            Self::Development => {
                "As expected, but it proves nothing: a key in a file has no holder, whoever reads \
                 that file has the key."
                    .to_owned()
            }
            Self::Unexpected => {
                "NOT as expected: an outcome above is not what two keys with two holders promise."
                    .to_owned()
            }
        }
    }
}

impl KeyslotEvidence {
    fn new(header: &UnverifiedHeader, proof: &Proof) -> Self {
        let keyslot = header.header().keyslots()[proof.keyslot].as_pair();
        let pair = keyslot.expect("a keyslot was tried that has a pair of shares").pair();
        let [provider, customer] = [pair.provider(), pair.customer()].map(|share| ShareEvidence {
            uri: share.uri().to_owned(),
            wrapped_len: share.wrapped().len(),
            wrapped_sha384: sha384(share.wrapped()),
        });
        Self {
            index: proof.keyslot,
            pair_id: pair.pair_id().to_string(),
            provider,
            customer,
            attempts: proof.attempts.iter().map(AttemptEvidence::new).collect(),
        }
    }

    fn describe(&self, input: &str, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{input}, keyslot {}", self.index)?;
        writeln!(out, "  provider  {}", escape_untrusted(&self.provider.uri))?;
        writeln!(out, "  customer  {}\n", escape_untrusted(&self.customer.uri))?;
        for attempt in &self.attempts {
            attempt.describe(out)?;
        }
        writeln!(out)
    }
}

impl AttemptEvidence {
    fn new(attempt: &ProofAttempt) -> Self {
        Self {
            holders: match attempt.holders {
                Holders::ProviderAlone => "provider-alone",
                Holders::CustomerAlone => "customer-alone",
                Holders::Both => "both",
            },
            calls: attempt.calls.iter().map(CallEvidence::new).collect(),
            keks_tried: attempt.keks_tried,
            opened: attempt.opened,
            as_expected: attempt.is_as_expected(),
        }
    }

    fn describe(&self, out: &mut String) -> std::fmt::Result {
        let mark = if self.as_expected { "ok" } else { "UNEXPECTED" };
        let opened = if self.opened { "opened" } else { "stays closed" };
        let holders = self.holders.replace('-', " ");
        writeln!(out, "{holders}: {opened}, {} KEKs tried  [{mark}]", self.keks_tried)?;
        for call in &self.calls {
            let answer = match (&call.code, &call.request_id) {
                (Some(code), Some(id)) => format!(" ({code}, request {id})"),
                (Some(code), None) => format!(" ({code})"),
                (None, _) => String::new(),
            };
            let (holder, share, outcome) = (&call.holder, &call.share, call.outcome);
            writeln!(
                out,
                "  the {holder}'s key, asked for the {share}'s share: {outcome}{answer}"
            )?;
        }
        Ok(())
    }
}

impl CallEvidence {
    fn new(call: &Call) -> Self {
        let (outcome, message) = match &call.outcome {
            CallOutcome::Unwrapped => ("unwrapped", None),
            CallOutcome::Refused { kind, message } => (outcome_word(*kind), Some(message.clone())),
            _ => ("unknown", None),
        };
        let word = |side: Side| side.to_string();
        Self {
            holder: word(call.holder),
            uri: call.uri.to_string(),
            share: word(call.share),
            outcome,
            code: call.answer.as_ref().map(|answer| answer.code.clone()),
            request_id: call.answer.as_ref().and_then(|answer| answer.request_id.clone()),
            message,
        }
    }
}

/// `refused` is the answer that is expected for the other holder's share; any
/// other failure proves nothing.
fn outcome_word(kind: twinlock::HolderErrorKind) -> &'static str {
    use twinlock::HolderErrorKind as K;
    match kind {
        K::InvalidCiphertext => "refused",
        K::Denied => "denied",
        K::Disabled => "disabled",
        K::Misconfigured => "misconfigured",
        K::NotFound => "not-found",
        K::TimedOut => "timed-out",
        K::Unavailable { .. } => "unavailable",
        _ => "failed",
    }
}

fn sha384(bytes: &[u8]) -> String {
    report::hex(&Sha384::digest(bytes))
}
