//! A folder and everything below it, for the verbs that take `-r`.
//!
//! Links are never followed: they lead to what nobody named, or in circles.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

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
    let first = entries(root, Path::new("")).map_err(failed)?;
    Ok(Walk { ahead: first, takes_journals: false })
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

/// The entries of a tree. It holds the names of the folders on the way to
/// where it is, and not of the whole tree.
pub(crate) struct Walk {
    /// What is still to come, the next last.
    ahead: Vec<Entry>,
    takes_journals: bool,
}

impl Walk {
    /// With `takes`, journals are files as others are: without its journal an
    /// envelope in the middle of a rewrap may not open.
    pub(crate) fn taking_journals(self, takes: bool) -> Self {
        Self { takes_journals: takes, ..self }
    }
}

impl Iterator for Walk {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let mut entry = self.ahead.pop()?;
        if self.takes_journals && matches!(entry.kind, EntryKind::Other(JOURNAL)) {
            entry.kind = EntryKind::File;
        }
        if let EntryKind::Folder = entry.kind {
            match entries(&entry.path, &entry.relative) {
                Ok(below) => self.ahead.extend(below),
                Err(error) => entry.kind = EntryKind::Failed(Failure::file(&entry.path, &error)),
            }
        }
        Some(entry)
    }
}

/// What is in one folder, the first last.
fn entries(folder: &Path, relative: &Path) -> io::Result<Vec<Entry>> {
    let mut found = fs::read_dir(folder)?.collect::<io::Result<Vec<DirEntry>>>()?;
    found.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
    Ok(found.iter().map(|entry| Entry::of(entry, relative)).collect())
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
    fn of(found: &DirEntry, folder: &Path) -> Self {
        let path = found.path();
        let kind = match found.file_type() {
            Ok(kind) if kind.is_file() => {
                left_behind(&found.file_name()).map_or(EntryKind::File, EntryKind::Other)
            }
            Ok(kind) if kind.is_dir() => EntryKind::Folder,
            Ok(kind) => EntryKind::Other(word_for(kind)),
            Err(error) => EntryKind::Failed(Failure::file(&path, &error)),
        };
        Self { path, relative: folder.join(found.file_name()), kind }
    }
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
        let _output = OutputFile::create(&root.path().join("a"), false).unwrap();
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
