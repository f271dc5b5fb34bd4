//! A folder and everything below it, for the verbs that take `-r`.
//!
//! Links are never followed: they lead to what nobody named, or in circles.

pub(crate) mod filter;

use std::ffi::OsStr;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use filter::Filter;

/// Walks the folder `root`: each folder before what is in it, names in the
/// order of their bytes. `root` itself is not an entry.
///
/// What this program leaves beside files (temporary files, journals of rewrap)
/// is no file here, and named as what it is.
pub(crate) fn walk(root: &Path) -> Result<Walk, Failure> {
    let failed = |error: io::Error| Failure::file(root, &error);
    if !fs::metadata(root).map_err(failed)?.is_dir() {
        return Err(Failure::usage(format!("{} is no folder, and -r takes one", root.display())));
    }
    let first = Level::read(root.to_owned(), PathBuf::new()).map_err(failed)?;
    Ok(Walk { levels: vec![first], filter: Filter::default(), takes_journals: false })
}

/// One thing that was found.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The same without the root: never empty, never absolute, without `..`.
    pub(crate) relative: PathBuf,
    pub(crate) kind: EntryKind,
}

#[derive(Debug)]
pub(crate) enum EntryKind {
    File,
    /// What is in it comes next.
    Folder,
    /// Neither, or left behind by this program; the word for it.
    Other(&'static str),
    /// It cannot be looked at, or is a folder that cannot be read.
    Failed(Failure),
}

/// The entries of a tree. It holds the names in the folders on the way to
/// where it is, and not those of the whole tree.
pub(crate) struct Walk {
    /// The innermost folder last.
    levels: Vec<Level>,
    filter: Filter,
    takes_journals: bool,
}

/// A folder, and what of it is still to come.
struct Level {
    path: PathBuf,
    relative: PathBuf,
    /// The next one last. A name is not yet a path: a folder may have many.
    ahead: Vec<(Box<OsStr>, Option<FileType>)>,
}

impl Walk {
    /// With `takes`, journals are files as others are: without its journal an
    /// envelope in the middle of a rewrap may not open.
    pub(crate) fn taking_journals(self, takes: bool) -> Self {
        Self { takes_journals: takes, ..self }
    }

    /// Only what `filter` lets through.
    pub(crate) fn filtered(self, filter: Filter) -> Self {
        Self { filter, ..self }
    }

    /// The next name, filter or not.
    fn step(&mut self) -> Option<Entry> {
        loop {
            let level = self.levels.last_mut()?;
            match level.ahead.pop() {
                Some((name, kind)) => return Some(Entry::of(level, &name, kind)),
                None => _ = self.levels.pop(),
            }
        }
    }

    fn lets_through(&self, entry: &Entry) -> bool {
        match entry.kind {
            EntryKind::Folder => !self.filter.excludes(&entry.relative),
            _ => self.filter.takes(&entry.relative),
        }
    }
}

impl Iterator for Walk {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let mut entry = self.step()?;
        while !self.lets_through(&entry) {
            entry = self.step()?;
        }
        if self.takes_journals && matches!(entry.kind, EntryKind::Other(JOURNAL)) {
            entry.kind = EntryKind::File;
        }
        if let EntryKind::Folder = entry.kind {
            match Level::read(entry.path.clone(), entry.relative.clone()) {
                Ok(level) => self.levels.push(level),
                Err(error) => entry.kind = EntryKind::Failed(Failure::file(&entry.path, &error)),
            }
        }
        Some(entry)
    }
}

impl Level {
    fn read(path: PathBuf, relative: PathBuf) -> io::Result<Self> {
        let found = fs::read_dir(&path)?.map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().into_boxed_os_str(), entry.file_type().ok()))
        });
        let mut ahead = found.collect::<io::Result<Vec<_>>>()?;
        ahead.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
        Ok(Self { path, relative, ahead })
    }
}

/// The word for what a rewrap needs that was cut short.
const JOURNAL: &str = "journal";

/// The word for what a run that was killed leaves: it belongs to another file,
/// or to none.
fn left_behind(name: &OsStr) -> Option<&'static str> {
    let name = name.as_encoded_bytes();
    let between =
        |start: &str, end: &str| name.strip_prefix(start.as_bytes())?.strip_suffix(end.as_bytes());
    let is_random = |name: &[u8]| name.len() == 16 && name.iter().all(u8::is_ascii_alphanumeric);
    if between(".twinlock-", ".tmp").is_some_and(is_random) {
        Some("temporary file")
    } else if between(".", ".twinlock-journal").is_some_and(|name| !name.is_empty()) {
        Some(JOURNAL)
    } else {
        None
    }
}

impl Entry {
    fn of(folder: &Level, name: &OsStr, kind: Option<FileType>) -> Self {
        let path = folder.path.join(name);
        let kind = match kind.map_or_else(|| file_type(&path), Ok) {
            Ok(kind) if kind.is_file() => {
                left_behind(name).map_or(EntryKind::File, EntryKind::Other)
            }
            Ok(kind) if kind.is_dir() => EntryKind::Folder,
            Ok(kind) => EntryKind::Other(word_for(kind)),
            Err(error) => EntryKind::Failed(Failure::file(&path, &error)),
        };
        Self { relative: folder.relative.join(name), path, kind }
    }
}

fn file_type(path: &Path) -> io::Result<FileType> {
    Ok(path.symlink_metadata()?.file_type())
}

fn word_for(kind: FileType) -> &'static str {
    if kind.is_symlink() {
        "link"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use twinlock::file::OutputFile;

    use super::*;

    fn found(root: &Path) -> Vec<(String, String)> {
        let word = |kind: &EntryKind| match kind {
            EntryKind::File => "file".to_owned(),
            EntryKind::Folder => "folder".to_owned(),
            EntryKind::Other(word) => (*word).to_owned(),
            EntryKind::Failed(failure) => failure.message.clone(),
        };
        let pair = |entry: Entry| {
            assert_eq!(entry.path, root.join(&entry.relative));
            (entry.relative.display().to_string(), word(&entry.kind))
        };
        walk(root).unwrap().map(pair).collect()
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_names_in_order() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["b", "b/empty", "a.d"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        for file in ["z", "b/2", "b/1", "a", "B"] {
            fs::write(root.path().join(file), b"").unwrap();
        }
        let names: Vec<String> = found(root.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["B", "a", "a.d", "b", "b/1", "b/2", "b/empty", "z"]);
    }

    #[test]
    fn links_and_sockets_are_named_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        symlink(root.path(), root.path().join("circle")).unwrap();
        symlink("/nowhere", root.path().join("dangling")).unwrap();
        let _socket = UnixListener::bind(root.path().join("socket")).unwrap();
        let kinds: Vec<String> = found(root.path()).into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, ["link", "link", "socket"]);
    }

    #[test]
    fn what_a_killed_run_left_is_named_and_what_looks_like_it_is_a_file() {
        let root = tempfile::tempdir().unwrap();
        let left = [
            (".a.twl.twinlock-journal", "journal"),
            (".twinlock-0123456789abcDEF.tmp", "temporary file"),
        ];
        let others = [
            "..twinlock-journal",
            ".hidden",
            ".twinlock-.tmp",
            ".twinlock-0123.tmp",
            ".twinlock-0123456789abcde-.tmp",
            ".twinlock-0123456789abcdef0.tmp",
            ".twinlock-journal",
            "a.tmp",
            "a.twinlock-journal",
        ];
        let expected = left.into_iter().chain(others.map(|name| (name, "file")));
        let mut expected: Vec<_> =
            expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        expected.sort();
        for (name, _) in &expected {
            fs::write(root.path().join(name), b"").unwrap();
        }
        assert_eq!(found(root.path()), expected);
    }

    #[test]
    fn journals_are_files_where_all_files_are_wanted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        for name in [".a.twinlock-journal", "b/.c.twinlock-journal"] {
            fs::write(root.path().join(name), b"").unwrap();
        }
        let files = |takes| {
            let walk = walk(root.path()).unwrap().taking_journals(takes);
            walk.filter(|entry| matches!(entry.kind, EntryKind::File)).count()
        };
        assert_eq!((files(false), files(true)), (0, 2));
    }

    #[test]
    fn the_names_of_temporary_files_are_those_that_the_library_makes() {
        let root = tempfile::tempdir().unwrap();
        // What may replace a file has a name while it grows, wherever that is.
        let _output = OutputFile::create(&root.path().join("a"), true).unwrap();
        let kinds: Vec<String> = found(root.path()).into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, ["temporary file"]);
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let root = tempfile::tempdir().unwrap();
        let odd = OsStr::from_bytes(b"\xff\xfe\n");
        fs::write(root.path().join(odd), b"").unwrap();
        let entries: Vec<Entry> = walk(root.path()).unwrap().collect();
        assert_eq!(entries[0].relative, Path::new(odd));
    }

    #[test]
    fn a_folder_that_vanishes_is_one_failure_and_the_rest_goes_on() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("b"), b"").unwrap();
        let walk = walk(root.path()).unwrap();
        fs::remove_dir(root.path().join("a")).unwrap();
        let entries: Vec<Entry> = walk.collect();
        let [Entry { kind: EntryKind::Failed(failure), .. }, Entry { kind: EntryKind::File, .. }] =
            entries.as_slice()
        else {
            panic!("{entries:?}")
        };
        assert!(failure.message.contains("a: "), "{}", failure.message);
    }

    #[test]
    fn a_root_that_is_no_folder_is_said() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        assert_eq!(walk(&file).err().unwrap().kind.code(), 2);
        assert_eq!(walk(&root.path().join("absent")).err().unwrap().kind.code(), 1);
    }
}
