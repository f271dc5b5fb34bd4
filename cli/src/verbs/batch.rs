//! What `encrypt -r` and `decrypt -r` have in common: the files of a tree, one
//! after the other, into a mirror of it.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Runtime;
use twinlock::file::{OutputFile, folder_of};
use twinlock::{Decryptor, Envelope, PairLimits, UnwrapCache};

use crate::App;
use crate::exit::{Failure, Kind};
use crate::holders::{self, Opened};
use crate::input::Input;
use crate::output::Output;
use crate::report::{self, Outcome};
use crate::settings::Settings;
use crate::tree::{self, EntryKind};

/// What is done with each file.
pub(super) trait Work {
    /// The verb, and the same as something that was done.
    const VERB: [&'static str; 2];

    /// True if journals of rewraps are files as others are.
    const TAKES_JOURNALS: bool = false;

    /// Where the file goes that is at `relative` in the tree.
    fn output_name(&self, relative: &Path) -> Result<PathBuf, Failure>;

    fn file(&mut self, from: &Path, to: &Path) -> Result<Done, Failure>;

    /// True if no further file needs to be tried.
    fn is_stopped(&self) -> bool;
}

/// How a file was done; the length of its plaintext.
pub(super) enum Done {
    /// It is to be put at its place.
    Made(u64, Output),
    /// An output was there that needs no other.
    Kept(u64),
}

/// Does `work` with all files below the folder `from`.
pub(super) fn run<W: Work>(
    app: &App<'_>,
    from: &Path,
    to: &Path,
    work: &mut W,
) -> Result<Outcome, Failure> {
    let walk = tree::walk(from)?.taking_journals(W::TAKES_JOURNALS);
    let mirror = Mirror::new(from, to)?;
    let mut run = Run { app, work, mirror, made: Vec::new(), counts: Counts::default() };
    for entry in walk {
        run.entry(entry);
    }
    run.commit();
    Ok(run.end(from, to))
}

struct Run<'a, W> {
    app: &'a App<'a>,
    work: &'a mut W,
    mirror: Mirror,
    /// Files that wait for others: the disk is asked less often for all of them
    /// than for each.
    made: Vec<Made>,
    counts: Counts,
}

/// So many files, or bytes of plaintext, are put at their places together.
const GROUP_FILES: usize = 32;
const GROUP_BYTES: u64 = 16 << 20;

/// A file whose bytes are complete.
struct Made {
    from: PathBuf,
    to: PathBuf,
    len: u64,
    file: OutputFile,
}

#[derive(Default)]
struct Counts {
    files: Files,
    plaintext_len: u64,
    /// Why files were not done: the first one of each kind.
    reasons: Vec<Failure>,
}

#[derive(Default, Serialize)]
struct Files {
    done: u64,
    kept: u64,
    passed_over: u64,
    failed: u64,
    not_done: u64,
}

/// What `--json` says of one file.
#[derive(Serialize)]
struct Line<'a> {
    input: String,
    output: Option<String>,
    status: &'a str,
    plaintext_len: Option<u64>,
    /// What was passed over, in a word.
    what: Option<&'a str>,
    error: Option<report::Error<'a>>,
}

/// What it says at the end.
#[derive(Serialize)]
struct Summary<'a> {
    input: String,
    output: String,
    files: &'a Files,
    /// Of what was done now.
    plaintext_len: u64,
    error: Option<report::Error<'a>>,
}

impl<W: Work> Run<'_, W> {
    fn entry(&mut self, entry: tree::Entry) {
        let tree::Entry { path, relative, kind } = entry;
        match kind {
            EntryKind::Folder => {
                if let Err(failure) = self.mirror.folder(&path, &relative) {
                    self.failed(&path, None, &failure);
                }
            }
            EntryKind::File => self.file(&path, &relative),
            EntryKind::Failed(failure) => self.failed(&path, None, &failure),
            EntryKind::Other(what) => {
                self.counts.files.passed_over += 1;
                tracing::info!("{} is a {what}, and passed over", path.display());
                self.report(Line { what: Some(what), ..Line::of(&path, None, "passed-over") });
            }
        }
    }

    fn file(&mut self, from: &Path, relative: &Path) {
        let to = self.work.output_name(relative).and_then(|name| self.mirror.place(&name));
        let to = match to {
            Ok(to) => to,
            Err(failure) => return self.failed(from, None, &failure.about(from.display())),
        };
        if self.work.is_stopped() {
            self.counts.files.not_done += 1;
            return self.report(Line::of(from, Some(&to), "not-done"));
        }
        match self.work.file(from, &to) {
            Ok(Done::Made(len, output)) => self.made(from, to, len, output),
            Ok(Done::Kept(len)) => {
                self.counts.files.kept += 1;
                let line = Line::of(from, Some(&to), "kept");
                self.report(Line { plaintext_len: Some(len), ..line });
            }
            Err(failure) if self.work.is_stopped() || is_of_a_holder(&failure) => {
                self.not_done(from, &to, failure);
            }
            Err(failure) => self.failed(from, Some(&to), &failure),
        }
    }

    fn made(&mut self, from: &Path, to: PathBuf, len: u64, output: Output) {
        let file = output.into_file().expect("a mirror has files only");
        self.made.push(Made { from: from.to_owned(), to, len, file });
        let bytes: u64 = self.made.iter().map(|made| made.len).sum();
        if self.made.len() >= GROUP_FILES || bytes >= GROUP_BYTES {
            self.commit();
        }
    }

    /// Puts what was made at its place, and only then says that it is done.
    fn commit(&mut self) {
        let (names, files): (Vec<_>, Vec<_>) =
            self.made.drain(..).map(|made| ((made.from, made.to, made.len), made.file)).unzip();
        for ((from, to, len), result) in names.into_iter().zip(OutputFile::commit_all(files)) {
            match result {
                Ok(()) => {
                    self.counts.files.done += 1;
                    self.counts.plaintext_len += len;
                    let line = Line::of(&from, Some(&to), "done");
                    self.report(Line { plaintext_len: Some(len), ..line });
                }
                Err(error) => self.failed(&from, Some(&to), &Failure::file(&to, &error)),
            }
        }
    }

    fn not_done(&mut self, from: &Path, to: &Path, failure: Failure) {
        self.counts.files.not_done += 1;
        let line = Line::of(from, Some(to), "not-done");
        self.report(Line { error: Some(report::Error::of(&failure)), ..line });
        // The others would say the same.
        if self.counts.reasons.iter().any(|reason| reason.kind == failure.kind) {
            return tracing::info!("{}", failure.message);
        }
        self.app.console.complain(&failure);
        self.counts.reasons.push(failure);
    }

    fn failed(&mut self, from: &Path, to: Option<&Path>, failure: &Failure) {
        self.counts.files.failed += 1;
        self.app.console.complain(failure);
        let line = Line::of(from, to, "failed");
        self.report(Line { error: Some(report::Error::of(failure)), ..line });
    }

    fn report(&self, line: Line<'_>) {
        let ok = !matches!(line.status, "failed" | "not-done");
        self.app.console.report(&report::document(W::VERB[0], ok, &line));
    }

    fn end(self, from: &Path, to: &Path) -> Outcome {
        let failure = self.counts.failure();
        if let Some(failure) = &failure {
            self.app.console.complain(failure);
        }
        let text = match self.app.console.quiet {
            true => String::new(),
            false => self.counts.files.text(from, to, W::VERB[1]),
        };
        let summary = Summary {
            input: from.display().to_string(),
            output: to.display().to_string(),
            files: &self.counts.files,
            plaintext_len: self.counts.plaintext_len,
            error: failure.as_ref().map(report::Error::of),
        };
        let kind = failure.as_ref().map(|failure| failure.kind);
        Outcome::judged(W::VERB[0], text, &summary, kind)
    }
}

/// A holder is down, busy or slow; that says nothing about the file.
pub(super) fn is_worth_a_retry(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Unavailable | Kind::TimedOut)
}

/// A holder is the reason, for now or for good; another one, or another day,
/// may do. That says nothing about the file.
pub(super) fn is_of_a_holder(failure: &Failure) -> bool {
    let says_no = matches!(
        failure.kind,
        Kind::Denied | Kind::KeyDisabled | Kind::KeyNotFound | Kind::Misconfigured
    );
    says_no || is_worth_a_retry(failure)
}

impl<'a> Line<'a> {
    fn of(from: &Path, to: Option<&Path>, status: &'a str) -> Self {
        let output = to.map(|to| to.display().to_string());
        let input = from.display().to_string();
        Self { input, output, status, plaintext_len: None, what: None, error: None }
    }
}

impl Counts {
    /// What the run comes down to, unless all went well.
    fn failure(&self) -> Option<Failure> {
        let Files { done, kept, failed, not_done, .. } = self.files;
        if failed + not_done == 0 {
            return None;
        }
        let all = done + kept + failed + not_done;
        let kind = match self.reasons.as_slice() {
            // Nothing could even be begun, and a script can treat it as one reason.
            [first, others @ ..]
                if done + kept + failed == 0
                    && others.iter().all(|other| other.kind.code() == first.kind.code()) =>
            {
                first.kind
            }
            _ => Kind::Partial,
        };
        let failure =
            Failure::new(kind, format!("{} of {all} files are not done", failed + not_done));
        Some(failure.hint(match failed {
            0 => "run the same command again: it leaves alone what is done",
            _ => "mend what is said above, and run the same command again: it leaves alone what is done",
        }))
    }
}

impl Files {
    fn text(&self, from: &Path, to: &Path, verb_done: &str) -> String {
        let mut text = format!(
            "{}: {} {verb_done} to {}",
            from.display(),
            counted(self.done, "file"),
            to.display()
        );
        let more = [
            (self.kept, "done before"),
            (self.passed_over, "passed over (links, devices and the like)"),
            (self.failed, "failed"),
            (self.not_done, "not done"),
        ];
        for (number, what) in more.into_iter().filter(|(number, _)| *number > 0) {
            write!(text, ", {number} {what}").expect("a String takes all");
        }
        text + "\n"
    }
}

pub(super) fn counted(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// The folder that gets what is made of another, with the same folders in it.
struct Mirror {
    root: PathBuf,
    /// The same without links.
    resolved: PathBuf,
    /// A folder of the tree that cannot be made, relative.
    blocked: Option<PathBuf>,
}

impl Mirror {
    /// Makes the folder `to`, unless it exists. Neither may lie in the other:
    /// what is made would be taken for what is to be done.
    fn new(from: &Path, to: &Path) -> Result<Self, Failure> {
        let resolved = |path: &Path| {
            let place = fs::canonicalize(path);
            place.map_err(|error| Failure::file(path, &error))
        };
        let tree = resolved(from)?;
        let place = match to.file_name() {
            Some(name) if fs::metadata(to).is_err() => resolved(folder_of(to))?.join(name),
            _ => resolved(to)?,
        };
        if lies_in(&place, &tree) || lies_in(&tree, &place) {
            let message = format!("{} and {} lie in one another", from.display(), to.display());
            return Err(Failure::usage(message).hint("name a folder beside it with -o"));
        }
        let like = fs::metadata(from).map_err(|error| Failure::file(from, &error))?;
        if !fs::metadata(to).is_ok_and(|metadata| metadata.is_dir()) {
            make_folder(to, &like)?;
        }
        Ok(Self { root: to.to_owned(), resolved: place, blocked: None })
    }

    /// Makes the folder for what is in `from`.
    fn folder(&mut self, from: &Path, relative: &Path) -> Result<(), Failure> {
        let named = |failure: Failure| failure.about(from.display());
        let made = self.place(relative).map_err(named).and_then(|place| {
            let like = fs::metadata(from).map_err(|error| Failure::file(from, &error))?;
            // A second mount of what is in the tree may have led here.
            let gets_outputs = || named(Failure::new(Kind::Io, "outputs would go to this folder"));
            if lies_in(&self.resolved, from) {
                return Err(gets_outputs());
            }
            make_folder(&place, &like)?;
            match is_same_folder(&place, &like) {
                true => Err(gets_outputs()),
                false => Ok(()),
            }
        });
        if made.is_err() && !self.is_blocked(relative) {
            self.blocked = Some(relative.to_owned());
        }
        made
    }

    /// Where `relative` is in the mirror.
    fn place(&self, relative: &Path) -> Result<PathBuf, Failure> {
        match self.is_blocked(relative) {
            true => Err(Failure::new(Kind::Io, "there is no folder for it")),
            false => Ok(self.root.join(relative)),
        }
    }

    /// True for what is in a folder that could not be made: a link to
    /// elsewhere may be in its place.
    fn is_blocked(&self, relative: &Path) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| relative.starts_with(blocked))
    }
}

/// True if `path` is `folder` or lies in it, told by what they are: a folder that
/// is mounted twice has two names.
fn lies_in(path: &Path, folder: &Path) -> bool {
    // What is still to be made has nothing in it.
    let Ok(folder) = fs::metadata(folder) else { return false };
    path.ancestors().any(|above| is_same_folder(above, &folder))
}

fn is_same_folder(path: &Path, folder: &Metadata) -> bool {
    fs::metadata(path).is_ok_and(|path| is_same(&path, folder))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Makes the folder `path`, if there is none, which nobody can enter who cannot
/// enter `like`.
fn make_folder(path: &Path, like: &Metadata) -> Result<(), Failure> {
    let mode = like.permissions().mode() & 0o777 | 0o700;
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // Not every file system lets a folder be synced.
            _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                true => Ok(()),
                false => Err(Failure::new(
                    Kind::Io,
                    format!("{} has to be a folder, and is something else", path.display()),
                )),
            }
        }
        Err(error) => Err(Failure::file(path, &error)),
    }
}

/// The key step for many files: holders are opened once, and asked once for
/// each share.
pub(super) struct Keys {
    pub(super) settings: Settings,
    pub(super) opened: Opened,
    decryptor: Decryptor,
    /// The last field: holders are used as long as it lives.
    pub(super) runtime: Runtime,
}

impl Keys {
    /// To open what `decryptor` expects.
    pub(super) fn new(settings: Settings, decryptor: Decryptor) -> Result<Self, Failure> {
        let cache = Arc::new(UnwrapCache::new(PairLimits::default()));
        let decryptor = decryptor.cache(cache);
        let runtime = holders::runtime()?;
        Ok(Self { settings, opened: Opened::sparing(), decryptor, runtime })
    }

    pub(super) fn open(&mut self, input: &mut Input) -> Result<Envelope, Failure> {
        let headers = input.headers()?;
        let decryptor = self.decryptor.clone();
        let opening = holders::open_envelope(headers, decryptor, &self.settings, &mut self.opened);
        self.runtime.block_on(opening).map_err(|failure| failure.about(input.name()))
    }

    /// True if `envelope` has the keyslots that a new one would get.
    pub(super) fn are_those_of(&mut self, envelope: &Envelope) -> Result<bool, Failure> {
        let Self { settings, opened, runtime, .. } = self;
        runtime.block_on(holders::has_keyslots_of(envelope.header(), settings, opened))
    }
}

/// An output that is there, and not what this run would make.
pub(super) fn in_the_way(path: &Path, why: &str) -> Failure {
    let message = format!("{} exists already, and {why}", path.display());
    Failure::new(Kind::OutputExists, message)
        .hint("look at it, and remove it, or replace all outputs with --force")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A link that is not resolved is as good as a second mount.
    #[test]
    fn a_folder_with_two_names_lies_in_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("tree/sub")).unwrap();
        fs::create_dir(path("beside")).unwrap();
        symlink("tree", path("mount")).unwrap();
        for inside in ["mount", "mount/new", "mount/sub", "mount/sub/new", "tree", "tree/new"] {
            assert!(lies_in(&path(inside), &path("tree")), "{inside}");
        }
        for outside in ["beside", "beside/new", "new", "tree2", "."] {
            assert!(!lies_in(&path(outside), &path("tree")), "{outside}");
        }
        assert!(lies_in(&path("tree/sub"), &path("mount")));
        assert!(!lies_in(&path("tree"), &path("new")));
    }

    #[test]
    fn neither_tree_may_be_the_other_by_another_name_further_down() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("tree/sub")).unwrap();
        fs::create_dir_all(path("mirror/sub")).unwrap();
        let mut mirror = Mirror { root: path("mirror"), resolved: path("mirror"), blocked: None };
        mirror.folder(&path("tree/sub"), Path::new("sub")).unwrap();
        for (from, relative) in [("mirror", "mounted"), ("", "above"), ("mirror/sub", "sub")] {
            let failure = mirror.folder(&path(from), Path::new(relative)).unwrap_err();
            assert!(failure.message.contains("outputs would go to"), "{failure:?}");
            assert!(mirror.place(&Path::new(relative).join("file")).is_err());
        }
    }
}
