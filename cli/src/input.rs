//! What a verb reads: a regular file, or stdin.

use std::fs::{File, FileType, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;
use twinlock::file::{Headers, is_as_before};
use twinlock::{
    Inspection, Progress, ReadAt, ReadHeaderError, UnverifiedHeader, read_detached_header,
    read_header,
};
use zeroize::Zeroize as _;

use crate::exit::{Failure, Kind};

/// The name that means stdin and stdout.
pub(crate) const DASH: &str = "-";

/// A header to try. Nothing of it was verified.
pub(crate) struct Candidate {
    pub(crate) header: UnverifiedHeader,
    pub(crate) from: HeaderFrom,
}

/// Where a header stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HeaderFrom {
    /// In front of the payload.
    File,
    /// In the journal of a rewrap that was cut short.
    Journal,
    /// In a file of its own.
    Detached,
}

/// The headers of an envelope, to be tried one after the other; at least one.
/// They are in `input`, which is left behind them, or in the file `apart`.
pub(crate) fn headers(
    input: Option<&mut Input>,
    apart: Option<&Path>,
) -> Result<Vec<Candidate>, Failure> {
    match (input, apart) {
        (Some(input), Some(_)) if input.is_stdin() && apart == Some(Path::new(DASH)) => {
            Err(Failure::usage("stdin cannot be both the header and the payload"))
        }
        (_, Some(path)) => Ok(vec![header_apart(path)?]),
        (Some(input), None) => input.headers(),
        (None, None) => Err(Failure::usage("no file is given")),
    }
}

/// What reports call the envelope: by its payload, if that is here.
pub(crate) fn name_of(input: Option<&Input>, apart: Option<&Path>) -> String {
    match input {
        Some(input) => input.name().to_owned(),
        None => apart.map(|path| path.display().to_string()).unwrap_or_default(),
    }
}

fn header_apart(path: &Path) -> Result<Candidate, Failure> {
    let mut input = Input::open(path)?;
    let header = read_detached_header(&mut input);
    let header = header.map_err(|error| Failure::from(error).about(input.name()))?;
    Ok(Candidate { header, from: HeaderFrom::Detached })
}

/// Makes sure that `payload` is that of a header which is kept apart.
pub(crate) fn check_payload(payload: &mut Input, header: &UnverifiedHeader) -> Result<(), Failure> {
    let checked = Inspection::detached(header.clone(), payload, None);
    checked.map(drop).map_err(|error| Failure::from(error).about_content(payload.name()))
}

/// An open input.
pub(crate) struct Input {
    file: File,
    /// For messages.
    name: String,
    /// Empty for stdin.
    path: PathBuf,
    /// Of a file that was named; `None` for stdin.
    metadata: Option<Metadata>,
    read: u64,
    /// Of what is done with the bytes of stdin.
    progress: Option<Progress>,
}

impl Input {
    /// Opens the regular file `path`, or stdin for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new(DASH) {
            let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            widen(&file);
            let (name, path) = ("stdin".to_owned(), PathBuf::new());
            return Ok(Self { file, name, path, metadata: None, read: 0, progress: None });
        }
        let failed = |error: io::Error| Failure::file(path, &error);
        // Asked before it is opened: to open a pipe waits for its writer.
        refuse_irregular(path, std::fs::metadata(path).map_err(failed)?.file_type())?;
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        refuse_irregular(path, metadata.file_type())?;
        Ok(Self::of(file, path, metadata))
    }

    /// Opens the regular file `path` of a tree: not what a link leads to that
    /// has taken its place since it was found.
    pub(crate) fn open_in_tree(path: &Path) -> Result<Self, Failure> {
        use rustix::fs::{Mode, OFlags};
        let failed = |error: io::Error| Failure::file(path, &error);
        // To open a pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let file = File::from(file);
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Failure::new(Kind::Io, format!("{} is no regular file", path.display())));
        }
        Ok(Self::of(file, path, metadata))
    }

    /// A regular file.
    fn of(file: File, path: &Path, metadata: Metadata) -> Self {
        Self {
            file,
            name: path.display().to_string(),
            path: path.to_owned(),
            metadata: Some(metadata),
            read: 0,
            progress: None,
        }
    }

    /// The headers to try, one after the other: the input's own, and that of
    /// the journal of a rewrap that was cut short. Leaves the input behind them.
    pub(crate) fn headers(&mut self) -> Result<Vec<Candidate>, Failure> {
        let headers = match self.metadata {
            None => {
                read_header(self).map(|header| vec![Candidate { header, from: HeaderFrom::File }])
            }
            Some(_) => Headers::read(&self.file, &self.path).and_then(|headers| {
                self.seek(SeekFrom::Start(headers.header_len() as u64))?;
                candidates(headers)
            }),
        };
        headers.map_err(|error| Failure::from(error).about(&self.name))
    }

    /// The same of a file that begins with `bytes`, all of which was read.
    pub(crate) fn headers_before(&self, bytes: &[u8]) -> Result<Vec<Candidate>, Failure> {
        let headers = Headers::read_behind(bytes, &self.file, &self.path).and_then(candidates);
        headers.map_err(|error| Failure::from(error).about(&self.name))
    }

    /// Reads the whole of a file that is not long, and a byte behind its end if
    /// there is one: then [`Input::check_unchanged`] says that it is another.
    pub(crate) fn read_whole<'a>(&mut self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let len = self.len().and_then(|len| usize::try_from(len).ok());
        let wanted = len.ok_or_else(|| io::Error::other("no file of a known length"))? + 1;
        let buffer = room(buffer, wanted);
        let mut filled = 0;
        // It ends where less was read than there was room for.
        while filled < (wanted - 1).max(1) {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&buffer[..filled])
    }

    /// Waits for more of stdin only as long as what is done with it has not
    /// failed.
    pub(crate) fn heed(&mut self, progress: &Progress) {
        self.progress = Some(progress.clone());
    }

    /// Waits until there is something to read.
    fn wait(&self) -> io::Result<()> {
        let Some(progress) = &self.progress else { return Ok(()) };
        let mut files = [PollFd::new(&self.file, PollFlags::IN)];
        let step = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        // What cannot be polled has its end in sight.
        while rustix::event::poll(&mut files, Some(&step)) == Ok(0) {
            if progress.has_failed() {
                return Err(io::Error::other("nobody needs more of it"));
            }
        }
        Ok(())
    }

    fn is_stdin(&self) -> bool {
        self.metadata.is_none()
    }

    /// What it is called in messages and reports.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Of a file that was named; `None` for stdin.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Its length in bytes, where it is known.
    pub(crate) fn len(&self) -> Option<u64> {
        self.metadata.as_ref().map(Metadata::len)
    }

    /// The file behind it, whatever it is.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Fails if as many bytes were not read as the file had when it was
    /// opened, or if its length or times are others now: somebody wrote to it
    /// meanwhile, or may have.
    pub(crate) fn check_unchanged(&self) -> Result<(), Failure> {
        let Some(before) = &self.metadata else { return Ok(()) };
        let now = self.file.metadata().map_err(|error| Failure::from(error).about(&self.name))?;
        match self.read == before.len() && is_as_before(before, &now) {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    pub(crate) fn changed(&self) -> Failure {
        let message = format!("{} changed while it was read; nothing was written", self.name);
        Failure::new(Kind::Failed, message)
            .hint("try again when its writer is done, or encrypt a copy or a snapshot of it")
    }

    pub(crate) fn failed(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot read {}: {error}", self.name))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.metadata.is_none() {
            self.wait()?;
        }
        match self.file.read(buffer) {
            Ok(len) => {
                self.read += len as u64;
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.failed(&error)),
        }
    }
}

impl ReadAt for Input {
    fn size(&self) -> io::Result<u64> {
        self.file.size().map_err(|error| self.failed(&error))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.file.read_at(buffer, offset) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(self.failed(&error)),
            result => result,
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to).map_err(|error| self.failed(&error))
    }
}

/// The first `len` bytes of a buffer, which grows if need be. Nothing is copied
/// then to memory that is not wiped: plaintext of other files is in the old one.
pub(crate) fn room(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.zeroize();
        buffer.resize(len.next_power_of_two(), 0);
    }
    &mut buffer[..len]
}

fn candidates(headers: Headers) -> Result<Vec<Candidate>, ReadHeaderError> {
    let own_is_torn = headers.own().is_err();
    let places = [HeaderFrom::File, HeaderFrom::Journal].into_iter().skip(usize::from(own_is_torn));
    let candidates = headers.candidates()?.into_iter().zip(places);
    Ok(candidates.map(|(header, from)| Candidate { header, from }).collect())
}

/// Has a pipe hold a segment and more. The ends then wait for each other a
/// quarter as often; without leave to, it works as well.
pub(crate) fn widen(stream: &File) {
    const PIPE_LEN: usize = 1 << 20;
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(stream).is_ok_and(|len| len < PIPE_LEN) {
        _ = rustix::pipe::fcntl_setpipe_size(stream, PIPE_LEN);
    }
}

fn refuse_irregular(path: &Path, kind: FileType) -> Result<(), Failure> {
    if kind.is_file() {
        return Ok(());
    }
    let name = path.display();
    match kind.is_dir() {
        true => Err(Failure::usage(format!("{name} is a folder; give one file")).hint(format!(
            "encrypt and decrypt take all its files with -r and -o FOLDER, rewrap with -r; or pack it \
             on the way: tar c {name} | twinlock encrypt - -o {}.tar.twl",
            packed_name(path).display()
        ))),
        false => Err(Failure::usage(format!("{name} is no regular file"))
            .hint(format!("to read it anyway, use a pipe: twinlock … - < {name}"))),
    }
}

/// What to call a folder's archive: `.` and `/` have no name of their own.
fn packed_name(folder: &Path) -> PathBuf {
    match folder.file_name() {
        Some(name) => folder.with_file_name(name),
        None => PathBuf::from("folder"),
    }
}

/// `path` with `.twl` behind it.
pub(crate) fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SUFFIX);
    PathBuf::from(name)
}

/// `path` without `.twl`; `None` if it does not end so, or nothing would be
/// left.
pub(crate) fn without_suffix(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_encoded_bytes();
    let is_name = |stem: &&[u8]| ![&b""[..], b".", b".."].contains(stem);
    let stem = name.strip_suffix(SUFFIX.as_bytes()).filter(is_name)?;
    // The suffix is ASCII, so what stands before it is whole characters.
    let stem = path.as_os_str().as_encoded_bytes().len() - name.len() + stem.len();
    Some(PathBuf::from(prefix_of(path, stem)))
}

const SUFFIX: &str = ".twl";

#[cfg(unix)]
fn prefix_of(path: &Path, len: usize) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::OsStr::from_bytes(&path.as_os_str().as_bytes()[..len]).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_file_that_is_written_in_place_while_it_is_read_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for sets_time_back in [false, true] {
            std::fs::write(&path, b"before").unwrap();
            let before = path.metadata().unwrap();
            let mut input = Input::open(&path).unwrap();
            io::copy(&mut input, &mut io::sink()).unwrap();
            input.check_unchanged().unwrap();

            // Clocks of file systems go in steps: write until one is seen.
            while is_as_before(&before, &path.metadata().unwrap()) {
                let mut file = File::options().write(true).open(&path).unwrap();
                io::Write::write_all(&mut file, b"BEFORE").unwrap();
                if sets_time_back {
                    file.set_modified(before.modified().unwrap()).unwrap();
                }
            }
            let failure = input.check_unchanged().unwrap_err();
            assert!(failure.message.contains("changed while it was read"), "{failure:?}");
            assert!(failure.hint.unwrap().contains("try again"));
        }
    }

    #[test]
    fn the_suffix_comes_and_goes() {
        let there_and_back = |name: &str| without_suffix(&with_suffix(Path::new(name)));
        for name in ["foo", "foo.tar", "a/b c", "/x/foo.twl", ".hidden", "ü"] {
            assert_eq!(there_and_back(name), Some(PathBuf::from(name)), "{name}");
        }
        assert_eq!(with_suffix(Path::new("foo")), Path::new("foo.twl"));
    }

    #[test]
    fn names_without_the_suffix_or_with_nothing_else_have_no_other_name() {
        let empty = [".twl", "a/.twl", "..twl", "a/...twl"];
        for name in ["foo", "foo.TWL", "foo.twl.gz", "/", "..", "footwl"].into_iter().chain(empty) {
            assert_eq!(without_suffix(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn a_folder_s_archive_has_a_name() {
        for (folder, name) in
            [("data", "data"), ("a/data/", "a/data"), (".", "folder"), ("..", "folder")]
        {
            assert_eq!(packed_name(Path::new(folder)), Path::new(name), "{folder}");
        }
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"a/\xff\xfe"));
        assert_eq!(without_suffix(&with_suffix(odd)).as_deref(), Some(odd));
    }
}
