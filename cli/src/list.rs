//! Names of files, read from a file or stdin: `--files-from`.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::input::DASH;

/// More than this is no list of names, or too much to hold.
const MAX_LEN: u64 = 1 << 30;

/// Names as they were read; they need not be UTF-8.
pub(crate) struct List {
    bytes: Vec<u8>,
    at: usize,
    end: u8,
}

impl List {
    /// Reads all names of the file `path`, or of stdin for `-`: each ends with a
    /// NUL if `null` is set, else with a line feed.
    pub(crate) fn read(path: &Path, null: bool) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let read = match path == Path::new(DASH) {
            true => io::stdin().lock().take(MAX_LEN + 1).read_to_end(&mut bytes),
            false => std::fs::File::open(path)
                .and_then(|file| file.take(MAX_LEN + 1).read_to_end(&mut bytes)),
        };
        let name = if path == Path::new(DASH) { Path::new("stdin") } else { path };
        read.map_err(|error| Failure::file(name, &error))?;
        if bytes.len() as u64 > MAX_LEN {
            return Err(Failure::usage(format!("{} is too long for a list", name.display())));
        }
        let list = Self { bytes, at: 0, end: if null { 0 } else { b'\n' } };
        if !null && list.bytes.contains(&0) {
            return Err(Failure::usage(format!("{} has NUL bytes in its lines", name.display()))
                .hint("names that end with NUL are taken with --null"));
        }
        Ok(list)
    }

    /// From the first name again.
    pub(crate) fn rewound(&self) -> ListNames<'_> {
        ListNames { bytes: &self.bytes, end: self.end }
    }
}

impl Iterator for List {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        let mut names = ListNames { bytes: &self.bytes[self.at..], end: self.end };
        let name = names.next()?.to_owned();
        self.at = self.bytes.len() - names.bytes.len();
        Some(name)
    }
}

/// The names of a [`List`]. Empty ones are none.
pub(crate) struct ListNames<'a> {
    bytes: &'a [u8],
    end: u8,
}

impl<'a> Iterator for ListNames<'a> {
    type Item = &'a Path;

    fn next(&mut self) -> Option<&'a Path> {
        while !self.bytes.is_empty() {
            let end = self.bytes.iter().position(|byte| *byte == self.end);
            let (name, rest) = match end {
                Some(end) => (&self.bytes[..end], &self.bytes[end + 1..]),
                None => (self.bytes, &[][..]),
            };
            self.bytes = rest;
            match name {
                b"" => {}
                // Stdin only where a user writes it.
                b"-" => return Some(Path::new("./-")),
                _ => return Some(Path::new(OsStr::from_bytes(name))),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(bytes: &[u8], null: bool) -> Result<Vec<PathBuf>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        std::fs::write(&path, bytes).unwrap();
        let list = List::read(&path, null)?;
        let names: Vec<PathBuf> = list.rewound().map(Path::to_owned).collect();
        assert_eq!(list.collect::<Vec<_>>(), names);
        Ok(names)
    }

    #[test]
    fn lines_are_names_and_empty_ones_are_none() {
        let names = list(b"a\n\n b c\n\xff\nlast", false).unwrap();
        let odd = Path::new(OsStr::from_bytes(b"\xff"));
        assert_eq!(names, [Path::new("a"), Path::new(" b c"), odd, Path::new("last")]);
        assert_eq!(list(b"", false).unwrap(), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn with_nul_any_name_is_one() {
        let names = list(b"a\nb\0\0c\r\0", true).unwrap();
        assert_eq!(names, ["a\nb", "c\r"].map(PathBuf::from));
    }

    #[test]
    fn nul_in_lines_is_said() {
        let failure = list(b"a\0b\0", false).unwrap_err();
        assert!(failure.hint.unwrap().contains("--null"));
    }

    #[test]
    fn a_list_that_is_not_there_is_named() {
        let failure = List::read(Path::new("/nowhere/list"), false).err().unwrap();
        assert!(failure.message.contains("/nowhere/list"), "{}", failure.message);
    }
}
