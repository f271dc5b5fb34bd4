//! Who else can change a file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How others than its user and root could change what `path` says: by the file,
/// or by a folder above it. Links count by where they lie and where they lead.
pub(super) fn open_to_others(path: &Path) -> Option<String> {
    let lies_in = path.parent().map(|folder| match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder.to_owned(),
    });
    let leads_to = path.canonicalize().ok();
    let chains = lies_in.and_then(|folder| folder.canonicalize().ok()).into_iter().chain(leads_to);
    let mut places =
        chains.flat_map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<_>>());
    places.find_map(|place| {
        let problem = problem_of(&place.metadata().ok()?)?;
        Some(format!("{} {problem}", place.display()))
    })
}

fn problem_of(facts: &Metadata) -> Option<String> {
    const STICKY: u32 = 0o1000; // in such a folder, nobody renames what is another's
    let mode = facts.mode();
    if facts.is_dir() && mode & STICKY != 0 {
        return None;
    }
    // Where each user has a group of their own, its number is the user's.
    let by_group = mode & 0o020 != 0 && facts.gid() != facts.uid();
    let us = rustix::process::geteuid().as_raw();
    match mode & 0o002 != 0 || by_group {
        true => Some(format!("can be written by others (mode {:03o})", mode & 0o777)),
        false if ![0, us].contains(&facts.uid()) => {
            Some(format!("belongs to another user ({})", facts.uid()))
        }
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_as_safe_as_each_folder_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, other) = (folder.path().join("inner"), folder.path().join("other"));
        fs::create_dir(&inner).unwrap();
        fs::create_dir(&other).unwrap();
        let (file, link) = (inner.join("file"), other.join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let set =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(open_to_others(&link), None);

        for place in [&file, &inner, &other] {
            let mode = place.metadata().unwrap().permissions().mode();
            set(place, mode | 0o002);
            let problem = open_to_others(&link).unwrap();
            assert!(problem.contains(&format!("{} can be written", place.display())), "{problem}");
            set(place, mode);
        }
        set(&inner, 0o1777);
        assert_eq!(open_to_others(&file), None, "as /tmp is");
    }
}
