//! Where a verb writes its data: a file that appears when it is whole, or a
//! stream.

use std::fs::{File, Metadata};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use twinlock::file::{OutputFile, check_free_space, commit_detached, folder_of};

use crate::args::OutputArgs;
use crate::exit::{Failure, Kind};
use crate::input::{DASH, Input, widen};

/// Where the data goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A new file, or one that is replaced.
    File(PathBuf),
    /// A pipe or device with a name, written to as it is.
    Stream(PathBuf),
    /// Stdout.
    Stdout,
}

impl Destination {
    /// Where `-o` says, else at `default`.
    pub(crate) fn choose(args: &OutputArgs, default: Self) -> Self {
        match &args.output {
            None => default,
            Some(path) if is_stdout(path) => Self::Stdout,
            Some(path) if is_stream(path) => Self::Stream(path.clone()),
            Some(path) => Self::File(path.clone()),
        }
    }

    /// Refuses what is refused without looking at the data: a terminal that
    /// nobody asked for, a file that exists, the input itself.
    pub(crate) fn check(&self, args: &OutputArgs, input: &Input) -> Result<(), Failure> {
        match self {
            Self::Stdout => {
                if args.output.is_none() && io::stdout().is_terminal() {
                    return Err(Failure::usage("stdout is a terminal, and the data may be binary")
                        .hint("name a file with -o FILE, or insist with -o -"));
                }
                refuse_same(input, io::stdout().as_fd(), "stdout")
            }
            Self::Stream(_) => Ok(()),
            Self::File(path) => check_file(path, args.force, input),
        }
    }

    /// Begins to write. `len` bytes are expected, where that is known.
    ///
    /// A file gets the permissions and time of modification of `like`.
    pub(crate) fn open(
        &self,
        args: &OutputArgs,
        like: Option<&Metadata>,
        len: Option<u64>,
    ) -> Result<Output, Failure> {
        match self {
            Self::Stdout => {
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                widen(&file);
                Ok(Output {
                    name: "stdout".to_owned(),
                    sink: Sink::Stream(file),
                    written: 0,
                    waits_for_disk: true,
                })
            }
            Self::Stream(path) => {
                let failed = |error| Failure::file(path, &error);
                let file = File::options().write(true).open(path).map_err(failed)?;
                widen(&file);
                Ok(Output {
                    name: path.display().to_string(),
                    sink: Sink::Stream(file),
                    written: 0,
                    waits_for_disk: true,
                })
            }
            Self::File(path) => {
                let failed = |error| not_created(path, &error);
                if let Some(len) = len {
                    check_free_space(folder_of(path), len)?;
                }
                let file = match like {
                    Some(like) => OutputFile::create_like(path, args.force, like.clone()),
                    None => OutputFile::create(path, args.force),
                };
                Ok(Output::of_file(file.map_err(failed)?, path))
            }
        }
    }

    /// Its name in reports: `-` for stdout.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdout => DASH.to_owned(),
            Self::File(path) | Self::Stream(path) => path.display().to_string(),
        }
    }
}

/// An output that was begun. Unless it is [finished](Output::finish), a file
/// leaves nothing behind.
pub(crate) struct Output {
    name: String,
    sink: Sink,
    written: u64,
    waits_for_disk: bool,
}

enum Sink {
    File(Box<OutputFile>),
    Stream(File),
}

impl Output {
    /// Begins the new file `path`, where none is expected. One that is there all the
    /// same shows at the end.
    pub(crate) fn create_unseen(path: &Path, like: &Metadata) -> Result<Self, Failure> {
        let file = OutputFile::create_unseen(path, like.clone());
        let file = file.map_err(|error| not_created(path, &error))?;
        Ok(Self::of_file(file, path))
    }

    fn of_file(file: OutputFile, path: &Path) -> Self {
        Self {
            name: path.display().to_string(),
            sink: Sink::File(Box::new(file)),
            written: 0,
            waits_for_disk: true,
        }
    }

    /// How many bytes it has taken.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The file, if it is one, for whoever fills it without [`Write`] and says
    /// so with [`Output::filled`].
    pub(crate) fn file(&mut self) -> Option<&File> {
        match &mut self.sink {
            Sink::File(file) => Some(file.file()),
            Sink::Stream(_) => None,
        }
    }

    /// It has all that its file has.
    pub(crate) fn filled(&mut self) -> io::Result<()> {
        if let Some(file) = self.file() {
            self.written = file.metadata()?.len();
        }
        Ok(())
    }

    /// What writing failed with, by the name that the user knows.
    pub(crate) fn failed(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot write {}: {error}", self.name))
    }

    /// Puts a file at its place.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.finish_after(None)
    }

    /// With `waits` false, a power cut may take away what was finished.
    pub(crate) fn waiting_for_disk(self, waits: bool) -> Self {
        Self { waits_for_disk: waits, ..self }
    }

    /// Puts a file at its place, and its header before it, if that is kept
    /// apart.
    pub(crate) fn finish_after(self, header: Option<OutputFile>) -> Result<(), Failure> {
        let done = match (self.sink, header) {
            (Sink::File(file), Some(header)) => commit_detached(header, *file),
            (Sink::File(file), None) if self.waits_for_disk => file.commit(),
            (Sink::File(file), None) => file.commit_without_sync(),
            (Sink::Stream(_), _) => Ok(()),
        };
        done.map_err(|error| Failure::from(error).about(&self.name))
    }

    /// True if what was written cannot be taken back.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.sink, Sink::Stream(_))
    }

    /// The file, if it is one, to be put at its place by whoever takes it.
    pub(crate) fn into_file(self) -> Option<OutputFile> {
        match self.sink {
            Sink::File(file) => Some(*file),
            Sink::Stream(_) => None,
        }
    }

    /// Makes sure again that there is room, now that `len` is known.
    pub(crate) fn check_room(&self, destination: &Destination, len: u64) -> Result<(), Failure> {
        match destination {
            Destination::File(path) => Ok(check_free_space(folder_of(path), len)?),
            _ => Ok(()),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = match &mut self.sink {
            // Not through `OutputFile`, whose errors name the temporary file.
            Sink::File(file) => file.file().write(bytes),
            Sink::Stream(file) => file.write(bytes),
        };
        match result {
            Ok(len) => {
                self.written += len as u64;
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is kept back
    }
}

/// `/dev/stdout` is a link that a rename would replace.
fn is_stdout(path: &Path) -> bool {
    [DASH, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// A pipe, socket or device, or what is open already: to rename a file over one
/// would destroy it.
fn is_stream(path: &Path) -> bool {
    let is_open = path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd");
    is_open
        || path.metadata().is_ok_and(|metadata| {
            let kind = metadata.file_type();
            kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
        })
}

fn check_file(path: &Path, force: bool, input: &Input) -> Result<(), Failure> {
    if path.is_dir() {
        return Err(Failure::usage(format!("{} is a folder; name a file in it", path.display())));
    }
    if let Ok(existing) = File::open(path) {
        refuse_same(input, existing.as_fd(), &path.display().to_string())?;
    }
    if !force && path.symlink_metadata().is_ok() {
        let exists = io::Error::new(io::ErrorKind::AlreadyExists, "it exists already");
        return Err(Failure::file(path, &exists));
    }
    Ok(())
}

/// Refuses to read from and write to one regular file.
fn refuse_same(input: &Input, output: BorrowedFd<'_>, name: &str) -> Result<(), Failure> {
    let (Ok(from), Ok(to)) = (rustix::fs::fstat(input.file()), rustix::fs::fstat(output)) else {
        return Ok(());
    };
    let regular = rustix::fs::FileType::from_raw_mode(from.st_mode).is_file();
    if regular && (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino) {
        return Err(Failure::usage(format!("{} and {name} are the same file", input.name()))
            .hint("write to another one with -o"));
    }
    Ok(())
}

/// The name that it grows under is nobody's business.
pub(crate) fn not_created(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::file(path, error),
        io::ErrorKind::NotFound => {
            Failure::new(Kind::Io, format!("there is no folder {}", folder_of(path).display()))
        }
        kind => Failure::from(io::Error::from(kind))
            .about(format!("cannot create a file in the folder {}", folder_of(path).display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(output: &str) -> OutputArgs {
        OutputArgs { output: Some(PathBuf::from(output)), force: false }
    }

    #[test]
    fn a_dash_and_the_other_names_of_stdout_are_stdout() {
        for name in ["-", "/dev/stdout", "/dev/fd/1"] {
            let chosen = Destination::choose(&args(name), Destination::File("x".into()));
            assert_eq!(chosen, Destination::Stdout, "{name}");
        }
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let chosen = Destination::choose(&args("/dev/null"), Destination::Stdout);
        assert_eq!(chosen, Destination::Stream("/dev/null".into()));
    }

    #[test]
    fn the_default_counts_without_a_flag() {
        let chosen = Destination::choose(&OutputArgs::default(), Destination::File("x".into()));
        assert_eq!(chosen, Destination::File("x".into()));
    }

    #[test]
    fn the_input_is_never_the_output_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&path, b"x").unwrap();
        std::fs::hard_link(&path, &link).unwrap();
        let input = Input::open(&path).unwrap();
        for name in [path, link] {
            let args = OutputArgs { output: Some(name.clone()), force: true };
            let failure = Destination::File(name).check(&args, &input).unwrap_err();
            assert!(failure.message.ends_with("are the same file"), "{}", failure.message);
        }
    }
}
