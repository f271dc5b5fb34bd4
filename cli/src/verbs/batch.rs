//! What `encrypt` and `decrypt` of many files have in common: workers that take
//! one file after the other, and put outputs at their places some at a time.
//!
//! Each worker does a file by itself, whatever its size: as many files are at
//! work as there are workers, so memory does not grow with sizes or numbers.

mod keys;
mod ledger;
mod mirror;
mod plan;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use twinlock::DEFAULT_SEGMENT_LEN;
use twinlock::file::OutputFile;
use zeroize::Zeroizing;

use crate::App;
use crate::args::{FilesArgs, OutputArgs};
use crate::exit::{Failure, Kind};
use crate::input::Input;
use crate::output::{Destination, Output};
use crate::report::Outcome;
pub(super) use keys::Keys;
use ledger::Ledger;
pub(super) use ledger::{counted, is_of_a_holder, is_worth_a_retry};
pub(super) use plan::Job;
use plan::{Found, Plan};

/// What is done with each file, by several workers at once.
pub(super) trait Work: Sync {
    /// The verb, and the same as something that was done.
    const VERB: [&'static str; 2];

    /// True if journals of rewraps are files as others are.
    const TAKES_JOURNALS: bool = false;

    /// What the output of the file `path` is called.
    fn output_name(&self, path: &Path) -> Result<PathBuf, Failure>;

    /// Does the file `input` of `job`. `buffers` are the worker's, for whatever they are good.
    fn file(&self, input: Input, job: &Job, buffers: &mut Buffers) -> Result<Done, Failure>;

    /// True if no further file needs to be tried.
    fn is_stopped(&self) -> bool;
}

/// Memory for a file that is read, and for one that is made of it, wiped at the
/// end: one of the two is plaintext.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) input: Zeroizing<Vec<u8>>,
    pub(super) output: Zeroizing<Vec<u8>>,
}

/// What is longer than this is not read, sealed or opened, and written in one
/// piece: a segment, with the largest header there is.
pub(super) const SMALL: u64 = DEFAULT_SEGMENT_LEN as u64 + (64 << 10);

/// How a file was done; the length of its plaintext.
pub(super) enum Done {
    /// It is to be put at its place.
    Made(u64, Output),
    /// An output was there that needs no other.
    Kept(u64),
}

/// What was asked for.
pub(super) struct Request<'a> {
    pub(super) inputs: &'a [PathBuf],
    pub(super) files: &'a FilesArgs,
    pub(super) output: &'a OutputArgs,
    pub(super) threads: Option<NonZeroUsize>,
}

/// For one file only: that it is no run of many.
pub(super) fn refuse_flags_of_many(
    files: &FilesArgs,
    batch_files: Option<NonZeroU64>,
) -> Result<(), Failure> {
    refuse_null_without_list(files)?;
    let given = [(files.resume, "--resume"), (batch_files.is_some(), "--batch-files")];
    let Some((_, flag)) = given.into_iter().find(|(is_given, _)| *is_given) else {
        return Ok(());
    };
    Err(Failure::usage(format!("{flag} is for many files: several FILEs, -r or --files-from")))
}

/// Clap lets it pass: the list that the flag needs excludes the FILE that is there.
fn refuse_null_without_list(files: &FilesArgs) -> Result<(), Failure> {
    match files.null && files.files_from.is_none() {
        true => Err(Failure::usage("--null says how the names of --files-from end")),
        false => Ok(()),
    }
}

/// Does `work` with all files of the request.
pub(super) fn run<W: Work>(
    app: &App<'_>,
    request: &Request<'_>,
    work: &W,
) -> Result<Outcome, Failure> {
    refuse_null_without_list(request.files)?;
    let plan = Plan::new(request, W::TAKES_JOURNALS)?;
    let available = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = request.threads.unwrap_or_else(available).get();
    let max_open = max_open();
    let workers = workers.min(max_open / OPEN_OF_WORKER).max(1);
    let run = Run {
        ledger: Ledger::new(app.console, W::VERB, plan.len()),
        plan: Mutex::new(plan),
        work,
        group: (max_open / workers).saturating_sub(OPEN_OF_WORKER).clamp(1, GROUP_FILES),
        syncs: !request.files.no_sync,
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            let spawned = thread::Builder::new().spawn_scoped(scope, || run.worker());
            if spawned.is_err() {
                break; // where the system allows no more threads, fewer do it
            }
        }
        run.worker();
    });
    Ok(run.ledger.end(&request.words(), request.output.output.as_deref()))
}

impl Request<'_> {
    /// What the run is about, for its summary.
    fn words(&self) -> String {
        match (self.inputs, &self.files.files_from) {
            (_, Some(list)) => list.display().to_string(),
            ([only], None) => only.display().to_string(),
            (inputs, None) => format!("{} names", inputs.len()),
        }
    }
}

struct Run<'a, W> {
    plan: Mutex<Plan>,
    work: &'a W,
    ledger: Ledger,
    /// So many files of one worker are put at their places together.
    group: usize,
    syncs: bool,
}

/// So many files, or bytes of plaintext, are put at their places together: the
/// disk is asked less often for all of them than for each.
const GROUP_FILES: usize = 32;
const GROUP_BYTES: u64 = 16 << 20;

/// So many files may be open that are outputs or inputs: half of what this
/// process may have, which is as much as it can get.
fn max_open() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(allowed / 2).unwrap_or(usize::MAX)
}

/// What a worker has open beside the outputs that wait for others.
const OPEN_OF_WORKER: usize = 4;

/// A file whose bytes are complete.
struct Made {
    job: Job,
    len: u64,
    file: OutputFile,
}

impl<W: Work> Run<'_, W> {
    fn worker(&self) {
        let mut made = Vec::new();
        let mut buffers = Buffers::default();
        while let Some(found) = self.next() {
            match found {
                Found::File(job) => made.extend(self.file(job, &mut buffers)),
                Found::PassedOver(path, what) => self.ledger.passed_over(&path, what),
                Found::Failed(path, failure) => self.ledger.failed(&path, None, &failure),
            }
            let bytes: u64 = made.iter().map(|made: &Made| made.len).sum();
            if made.len() >= self.group || bytes >= GROUP_BYTES {
                self.commit(&mut made);
            }
        }
        self.commit(&mut made);
    }

    fn next(&self) -> Option<Found> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.next(&|path| self.work.output_name(path))
    }

    fn file(&self, job: Job, buffers: &mut Buffers) -> Option<Made> {
        let Job { from, to, is_named, .. } = &job;
        if self.work.is_stopped() {
            self.ledger.not_done(from, to, None);
            return None;
        }
        let input = match is_named {
            true => Input::open(from),
            false => Input::open_in_tree(from),
        };
        match input.and_then(|input| self.work.file(input, &job, buffers)) {
            Ok(Done::Made(len, output)) => {
                let file = output.into_file().expect("outputs of many are files");
                return Some(Made { job, len, file });
            }
            Ok(Done::Kept(len)) => self.ledger.kept(from, to, len),
            Err(failure) if self.work.is_stopped() || is_of_a_holder(&failure) => {
                self.ledger.not_done(from, to, Some(failure));
            }
            Err(failure) => self.ledger.failed(from, Some(to), &failure),
        }
        None
    }

    /// Puts what was made at its place, and only then says that it is done.
    fn commit(&self, made: &mut Vec<Made>) {
        let (jobs, files): (Vec<_>, Vec<_>) =
            made.drain(..).map(|made| ((made.job, made.len), made.file)).unzip();
        let placed = match self.syncs {
            true => OutputFile::commit_all(files),
            false => files.into_iter().map(OutputFile::commit_without_sync).collect(),
        };
        for ((Job { from, to, .. }, len), placed) in jobs.into_iter().zip(placed) {
            match placed {
                Ok(()) => self.ledger.done(&from, &to, len),
                Err(error) => {
                    let failure = explained(&to, Failure::file(&to, &error));
                    self.ledger.failed(&from, Some(&to), &failure);
                }
            }
        }
    }
}

/// Begins the output of `job`. `len` bytes of room are made sure of, if that is given.
pub(super) fn begin_output(
    job: &Job,
    args: &OutputArgs,
    input: &Input,
    len: Option<u64>,
) -> Result<Output, Failure> {
    match input.metadata() {
        Some(like) if job.is_in_new_folder && !args.force && len.is_none() => {
            Output::create_unseen(&job.to, like)
        }
        like => Destination::File(job.to.clone())
            .open(args, like, len)
            .map_err(|failure| explained(&job.to, failure)),
    }
}

/// With what to do about an output that is there, where nothing was said of such.
fn explained(path: &Path, failure: Failure) -> Failure {
    match failure.kind {
        Kind::OutputExists => exists(path),
        _ => failure,
    }
}

/// An output that is there, where nothing was said of such.
fn exists(path: &Path) -> Failure {
    let message = format!("{} exists already", path.display());
    Failure::new(Kind::OutputExists, message)
        .hint("--resume leaves alone what an earlier run has done, --force makes all outputs anew")
}

/// An output that is there, and not what this run would make.
pub(super) fn in_the_way(path: &Path, why: &str) -> Failure {
    let message = format!("{} exists already, and {why}", path.display());
    Failure::new(Kind::OutputExists, message)
        .hint("look at it, and remove it, or replace all outputs with --force")
}
