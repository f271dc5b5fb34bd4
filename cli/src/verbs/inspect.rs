//! `twinlock inspect`

use std::fmt::Write as _;

use serde::Serialize;
use twinlock::{Header, Inspection, Keyslot, escape_untrusted};

use crate::args::InspectArgs;
use crate::exit::Failure;
use crate::input::{self, Candidate, HeaderFrom, Input};
use crate::report::{self, Outcome};

/// What `--json` says. All of it but `input` and `file_len` is the word of
/// whoever stored the file.
#[derive(Serialize)]
struct Report {
    input: String,
    verified: bool,
    /// Where the header stands that is shown.
    header_from: HeaderFrom,
    /// Of the header in the journal of a rewrap that was cut short, if there is
    /// one and it is not the one that is shown.
    pending_generation: Option<u64>,
    version: u32,
    envelope_id: String,
    generation: u64,
    context: serde_json::Value,
    keyslots: Vec<KeyslotReport>,
    sizes: Sizes,
}

#[derive(Serialize)]
struct KeyslotReport {
    kind: u64,
    /// False if this version cannot open it.
    supported: bool,
    pair_id: Option<String>,
    provider: Option<ShareReport>,
    customer: Option<ShareReport>,
}

#[derive(Serialize)]
struct ShareReport {
    uri: String,
    key_version: Option<String>,
    algorithm: u64,
    wrapped_len: usize,
}

/// Lengths in bytes. `header` (unless it is kept apart), `payload_prefix` (only
/// then), `payload_header`, `segment_overhead` and `plaintext` add up to `file`.
#[derive(Serialize)]
struct Sizes {
    file: Option<u64>,
    header: usize,
    header_padding: usize,
    payload_prefix: Option<u64>,
    payload_header: Option<u64>,
    segment: Option<usize>,
    segments: Option<u64>,
    segment_overhead: Option<u64>,
    plaintext: Option<u64>,
}

pub(crate) fn run(args: &InspectArgs) -> Result<Outcome, Failure> {
    let mut input = args.input.as_deref().map(Input::open).transpose()?;
    let mut candidates = input::headers(input.as_mut(), args.header.as_deref())?.into_iter();
    let shown = candidates.next().expect("there is at least one header");
    let pending = candidates.next().map(|pending| pending.header.header().generation().0);

    let name = input::name_of(input.as_ref(), args.header.as_deref());
    let (from, len) = (shown.from, input.as_ref().and_then(Input::len));
    let inspection = inspect(shown, input, len).map_err(|failure| failure.about_content(&name))?;
    let report = Report::new(name, from, pending, &inspection, len);
    let text = table(&report, inspection.header());
    Ok(Outcome::new("inspect", text, &report))
}

fn inspect(
    Candidate { header, from }: Candidate,
    input: Option<Input>,
    len: Option<u64>,
) -> Result<Inspection, Failure> {
    Ok(match input {
        None => Inspection::of_header(header),
        Some(mut payload) if from == HeaderFrom::Detached => {
            Inspection::detached(header, &mut payload, len)?
        }
        Some(mut input) => Inspection::attached(header, &mut input, len)?,
    })
}

impl Report {
    fn new(
        input: String,
        header_from: HeaderFrom,
        pending_generation: Option<u64>,
        inspection: &Inspection,
        len: Option<u64>,
    ) -> Self {
        let header = inspection.header();
        Self {
            input,
            verified: false,
            header_from,
            pending_generation,
            version: 1,
            envelope_id: header.envelope_id().to_string(),
            generation: header.generation().0,
            context: report::context(header.context()),
            keyslots: header.keyslots().iter().map(KeyslotReport::new).collect(),
            sizes: Sizes::new(inspection, len),
        }
    }
}

impl KeyslotReport {
    fn new(keyslot: &Keyslot) -> Self {
        let shares = keyslot.as_pair().map(|keyslot| {
            let pair = keyslot.pair();
            [pair.provider(), pair.customer()].map(|share| ShareReport {
                uri: share.uri().to_owned(),
                key_version: share.key_version().map(str::to_owned),
                algorithm: share.algorithm().id(),
                wrapped_len: share.wrapped().len(),
            })
        });
        let (provider, customer) = shares.map_or((None, None), |[p, c]| (Some(p), Some(c)));
        Self {
            kind: keyslot.kind(),
            supported: keyslot.as_pair().is_some_and(|keyslot| keyslot.is_supported()),
            pair_id: keyslot.as_pair().map(|keyslot| keyslot.pair().pair_id().to_string()),
            provider,
            customer,
        }
    }
}

impl Sizes {
    fn new(inspection: &Inspection, len: Option<u64>) -> Self {
        let payload = inspection.payload();
        let sizes = payload.and_then(|payload| payload.sizes);
        Self {
            file: len,
            header: inspection.header_len(),
            header_padding: inspection.padding_len(),
            payload_prefix: payload.map(|payload| payload.prefix_len).filter(|len| *len > 0),
            payload_header: payload.map(|payload| payload.floe_header_len),
            segment: payload.map(|payload| payload.segment_len),
            segments: sizes.map(|sizes| sizes.segments),
            segment_overhead: sizes.map(|sizes| sizes.segments_len - sizes.plaintext_len),
            plaintext: sizes.map(|sizes| sizes.plaintext_len),
        }
    }
}

/// The report for people: text from the header escaped, sizes that add up.
fn table(report: &Report, header: &Header) -> String {
    let mut out = format!(
        "{}: Twinlock envelope, version {}\n\
         Unverified: whoever stored the file could have changed all of this.\n\n",
        report.input, report.version
    );
    let mut row = |name: &str, value: &str| writeln!(out, "{name:<14}{value}").expect(INFALLIBLE);
    row("envelope id", &report.envelope_id);
    row("generation", &report.generation.to_string());
    match header.context().is_empty() {
        true => row("context", "none"),
        false => header.context().iter().enumerate().for_each(|(i, (key, value))| {
            let pair = format!("{}={}", escape_untrusted(key), escape_untrusted(value));
            row(if i == 0 { "context" } else { "" }, &pair);
        }),
    }
    for (number, keyslot) in report.keyslots.iter().enumerate() {
        row(&format!("keyslot {number}"), &keyslot.describe());
        row("  provider", &ShareReport::describe(keyslot.provider.as_ref()));
        row("  customer", &ShareReport::describe(keyslot.customer.as_ref()));
    }
    out.push_str(&report.sizes.table());
    out.push_str(&report.about_header());
    out
}

impl Report {
    /// What is special about where the header stands.
    fn about_header(&self) -> String {
        let finish = "`twinlock rewrap` finishes it";
        match (self.header_from, self.pending_generation) {
            (HeaderFrom::File, None) => String::new(),
            (HeaderFrom::File, Some(generation)) => format!(
                "\nA rewrap was cut short: its journal has a header of generation {generation}, \
                 which opens the file too. {finish}.\n"
            ),
            (HeaderFrom::Journal, _) => format!(
                "\nA rewrap was cut short, and the file's own header cannot be read: this is the \
                 one in its journal. {finish}.\n"
            ),
            (HeaderFrom::Detached, _) => "\nThe header is kept apart.\n".to_owned(),
        }
    }
}

/// Of writing to a string.
const INFALLIBLE: &str = "a string takes everything";

impl KeyslotReport {
    fn describe(&self) -> String {
        match (&self.pair_id, self.supported) {
            (Some(id), true) => format!("share pair {id}"),
            (Some(id), false) => format!("share pair {id}, of a newer version"),
            (None, _) => format!("of kind {}, of a newer version", self.kind),
        }
    }
}

impl ShareReport {
    fn describe(share: Option<&Self>) -> String {
        let Some(share) = share else { return "unknown".to_owned() };
        let algorithm = match share.algorithm {
            1 => "holder's AEAD".to_owned(),
            2 => "RSA-OAEP-SHA-256".to_owned(),
            3 => "AES key wrap".to_owned(),
            other => format!("algorithm {other}"),
        };
        let version = share.key_version.as_deref();
        let version = version.map(|version| format!(", key version {version}")).unwrap_or_default();
        format!(
            "{} ({algorithm}, {} bytes{version})",
            escape_untrusted(&share.uri),
            share.wrapped_len
        )
    }
}

impl Sizes {
    fn table(&self) -> String {
        let mut out = "\nbytes\n".to_owned();
        let mut row = |name: &str, bytes: Option<u64>, note: &str| {
            let bytes = bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
            let line = format!("  {name:<18}{bytes:>16}  {note}");
            writeln!(out, "{}", line.trim_end()).expect(INFALLIBLE);
        };
        let segments = match (self.segments, self.segment) {
            (Some(1), Some(len)) => format!("1 segment of at most {len}"),
            (Some(segments), Some(len)) => format!("{segments} segments of at most {len}"),
            (None, Some(len)) => format!("segments of at most {len}"),
            _ => "no readable payload: cut short, or altered".to_owned(),
        };
        let padding = format!("{} of them padding", self.header_padding);
        row("header", Some(self.header as u64), &padding);
        if self.payload_prefix.is_some() {
            row("payload prefix", self.payload_prefix, "");
        }
        row("payload header", self.payload_header, "");
        row("segments' own", self.segment_overhead, &segments);
        row("plaintext", self.plaintext, "");
        row("file", self.file, "");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_add_up() {
        let sizes = Sizes {
            file: Some(2048 + 74 + 64 + 262_144),
            header: 2048,
            header_padding: 1000,
            payload_prefix: None,
            payload_header: Some(74),
            segment: Some(262_144),
            segments: Some(2),
            segment_overhead: Some(64),
            plaintext: Some(262_144),
        };
        let table = sizes.table();
        let numbers: Vec<u64> = table
            .lines()
            .filter_map(|line| line.get(20..)?.split_whitespace().next()?.parse().ok())
            .collect();
        let (file, parts) = numbers.split_last().unwrap();
        assert_eq!(parts.iter().sum::<u64>(), *file, "{table}");
    }
}
