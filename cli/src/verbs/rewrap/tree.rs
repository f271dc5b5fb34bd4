//! `twinlock rewrap -r`

use std::fmt::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Runtime;
use twinlock::file::FileRewrap;
use twinlock::{Decryptor, PairLimits, RewrapPlan, UnwrapCache};

use super::{Facts, NOT_REVOKED, new_keys, plan, rewrap};
use crate::App;
use crate::args::RewrapArgs;
use crate::exit::{Failure, Kind};
use crate::holders::{self, Equipped, Opened};
use crate::input::{HeaderFrom, Input};
use crate::report::{self, Outcome};
use crate::settings::Settings;
use crate::tree::{self, Entry, EntryKind};
use crate::verbs::batch::{counted, is_worth_a_retry};
use crate::verbs::expecting;

pub(super) fn run(app: &App<'_>, args: &RewrapArgs) -> Result<Outcome, Failure> {
    let root = args.input.as_deref().expect("-r excludes --header, without which FILE is required");
    if args.from_key.is_none() && (args.to_provider.is_some() || args.to_customer.is_some()) {
        return Err(Failure::usage("which keys of these files are to be replaced?").hint(
            "name the old one with --from-key: what a first run has done is left alone by a second",
        ));
    }
    let entries = tree::walk(root)?;
    let mut run = Run::new(app, args)?;
    for entry in entries {
        run.entry(entry);
    }
    Ok(run.end(root))
}

/// Holders are opened once, and asked once for each share.
struct Run<'a> {
    app: &'a App<'a>,
    dry_run: bool,
    settings: Settings,
    decryptor: Decryptor,
    plan: RewrapPlan,
    opened: Opened,
    files: Files,
    /// Why the first file was not done of those that were not.
    reason: Option<Failure>,
    /// The last field: holders are used as long as it lives.
    runtime: Runtime,
}

#[derive(Default, Serialize)]
struct Files {
    /// In a dry run, those that would be.
    changed: u64,
    unchanged: u64,
    passed_over: u64,
    failed: u64,
    not_done: u64,
}

/// What `--json` says of one file.
#[derive(Serialize)]
struct Line<'a> {
    input: String,
    status: &'a str,
    /// What was passed over, in a word, or that it is a header alone.
    what: Option<&'a str>,
    #[serde(flatten)]
    facts: Option<Facts>,
    error: Option<report::Error<'a>>,
}

/// What it says at the end.
#[derive(Serialize)]
struct Summary<'a> {
    input: String,
    dry_run: bool,
    revokes: bool,
    files: &'a Files,
    error: Option<report::Error<'a>>,
}

/// What became of a file.
enum Done {
    Opened {
        done: Box<FileRewrap>,
        is_apart: bool,
    },
    /// Its header names none of the keys that are to change; no holder was asked.
    NotSelected,
    /// No envelope, in a word.
    PassedOver(&'static str),
}

impl<'a> Run<'a> {
    fn new(app: &'a App<'a>, args: &RewrapArgs) -> Result<Self, Failure> {
        let settings = Settings::resolve(app.common, &args.keys, app.environment)?;
        let (new_keys, plan) = (new_keys(args, &settings)?, plan(args)?);
        let cache = Arc::new(UnwrapCache::new(PairLimits::default()));
        let decryptor = expecting(&args.expected)?.cache(cache);
        let (runtime, opened) = (holders::runtime()?, Opened::sparing());
        let plan = runtime.block_on(new_keys.open(plan, &settings.access, &opened))?;
        Ok(Self {
            app,
            dry_run: args.dry_run,
            settings,
            decryptor,
            plan: plan.share_pairs(PairLimits::default().envelopes(args.batch_files.get())),
            opened,
            files: Files::default(),
            reason: None,
            runtime,
        })
    }

    fn entry(&mut self, Entry { path, kind, .. }: Entry) {
        match kind {
            EntryKind::Folder => {}
            EntryKind::File => {
                let done = self.file(&path);
                self.note(&path, done);
            }
            EntryKind::Other(what) => self.note(&path, Ok(Done::PassedOver(what))),
            EntryKind::Failed(failure) => self.note(&path, Err(failure)),
        }
    }

    fn file(&mut self, path: &Path) -> Result<Done, Failure> {
        let mut input = Input::open_in_tree(path)?;
        if let Some(what) = no_envelope(&input)? {
            return Ok(Done::PassedOver(what));
        }
        let len = input.len();
        let candidates = input.headers()?;
        let about = |failure: Failure| failure.about(path.display());
        let checked = candidates.iter().map(|candidate| self.decryptor.check(&candidate.header));
        checked.reduce(Result::or).unwrap_or(Ok(())).map_err(|error| about(error.into()))?;
        // Nothing else follows a header that is kept apart.
        let is_apart = len == Some(candidates[0].header.as_bytes().len() as u64);
        let is_pending = candidates.iter().any(|candidate| candidate.from == HeaderFrom::Journal);

        let headers: Vec<_> = candidates.iter().map(|c| c.header.header()).collect();
        let decryptor = self.decryptor.clone();
        let equipping = Equipped::of(decryptor, &headers, &self.settings, &self.opened);
        let Equipped { decryptor, .. } = self.runtime.block_on(equipping).map_err(about)?;
        if !is_pending && !self.plan.may_change(&decryptor, headers[0]) {
            return Ok(Done::NotSelected);
        }
        let done = rewrap(&decryptor, path, &self.plan, is_apart, self.dry_run);
        let done = self.runtime.block_on(done).map_err(|error| about(error.into()))?;
        Ok(Done::Opened { done: Box::new(done), is_apart })
    }

    fn note(&mut self, path: &Path, done: Result<Done, Failure>) {
        let line = Line::of(path);
        match done {
            Ok(Done::Opened { done, is_apart }) => {
                let status = self.files.opened(&done, self.dry_run);
                // Kept apart, or all that is left of an envelope: who looks can tell.
                let what = is_apart.then_some("header alone");
                let behind = if is_apart { " (header alone)" } else { "" };
                tracing::info!("{}: {status}{behind}", path.display());
                let facts = Some(Facts::new(self.dry_run, &done));
                self.report(Line { status, what, facts, ..line });
            }
            Ok(Done::NotSelected) => {
                self.files.unchanged += 1;
                self.report(Line { status: "unchanged", ..line });
            }
            Ok(Done::PassedOver(what)) => {
                self.files.passed_over += 1;
                tracing::info!("{}: {what}, passed over", path.display());
                self.report(Line { status: "passed-over", what: Some(what), ..line });
            }
            Err(failure) if is_worth_a_retry(&failure) => {
                self.files.not_done += 1;
                let error = Some(report::Error::of(&failure));
                self.report(Line { status: "not-done", error, ..line });
                // The others would say the same.
                if self.reason.is_none() {
                    self.app.console.complain(&failure);
                    self.reason = Some(failure);
                }
            }
            Err(failure) => {
                self.files.failed += 1;
                self.app.console.complain(&failure);
                let error = Some(report::Error::of(&failure));
                self.report(Line { status: "failed", error, ..line });
            }
        }
    }

    fn report(&self, line: Line<'_>) {
        let document = report::document("rewrap", line.error.is_none(), &line);
        self.app.console.report(&document);
    }

    fn end(self, root: &Path) -> Outcome {
        let failure = self.failure();
        if let Some(failure) = &failure {
            self.app.console.complain(failure);
        }
        let text = match self.app.console.quiet {
            true => String::new(),
            false => self.files.text(root, self.dry_run),
        };
        let summary = Summary {
            input: root.display().to_string(),
            dry_run: self.dry_run,
            revokes: false,
            files: &self.files,
            error: failure.as_ref().map(report::Error::of),
        };
        let kind = failure.as_ref().map(|failure| failure.kind);
        Outcome::judged("rewrap", text, &summary, kind)
    }

    /// What the run comes down to, unless all went well.
    fn failure(&self) -> Option<Failure> {
        let Files { changed, unchanged, failed, not_done, .. } = self.files;
        if failed + not_done == 0 {
            return None;
        }
        let kind = match &self.reason {
            // Nothing could even be begun, and for one reason.
            Some(reason) if changed + unchanged + failed == 0 => reason.kind,
            _ => Kind::Partial,
        };
        let all = changed + unchanged + failed + not_done;
        let message = format!("{} of {all} files are not done", failed + not_done);
        Some(Failure::new(kind, message).hint(
            "they open with the keys that they had; run the same command again, which leaves alone \
             what is done",
        ))
    }
}

/// What the file is instead, if it does not begin as an envelope or a header.
fn no_envelope(input: &Input) -> Result<Option<&'static str>, Failure> {
    let mut start = [0; 8];
    match input.file().read_exact_at(&mut start, 0) {
        Ok(()) if start == *b"TWINLOCK" => Ok(None),
        Ok(()) if start == *b"TWINPAYL" => Ok(Some("payload")),
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            Err(Failure::from(error).about(input.name()))
        }
        _ => Ok(Some("no envelope")),
    }
}

impl Files {
    /// Counts a file that was opened, and says what became of it.
    fn opened(&mut self, done: &FileRewrap, dry_run: bool) -> &'static str {
        match (done.changes.is_empty() && !done.repaired, dry_run) {
            (true, _) => {
                self.unchanged += 1;
                "unchanged"
            }
            (false, dry_run) => {
                self.changed += 1;
                if dry_run { "would-change" } else { "changed" }
            }
        }
    }

    fn text(&self, root: &Path, dry_run: bool) -> String {
        let changed = if dry_run { "would change" } else { "changed" };
        let mut text = format!("{}: {} {changed}", root.display(), counted(self.changed, "file"));
        let more = [
            (self.unchanged, "unchanged"),
            (self.passed_over, "passed over (no envelopes)"),
            (self.failed, "failed"),
            (self.not_done, "not done"),
        ];
        for (number, what) in more.into_iter().filter(|(number, _)| *number > 0) {
            write!(text, ", {number} {what}").expect("a String takes all");
        }
        match self.changed {
            0 => text + "\n",
            _ => text + "\n" + NOT_REVOKED + "\n",
        }
    }
}

impl Line<'_> {
    fn of(path: &Path) -> Self {
        let input = path.display().to_string();
        Self { input, status: "", what: None, facts: None, error: None }
    }
}
