//! The folder that gets the outputs of many files, with the folders of the inputs.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use twinlock::file::folder_of;

use crate::exit::{Failure, Kind};

/// The folder that gets what is made of another, with the same folders in it.
pub(super) struct Mirror {
    root: PathBuf,
    /// The same without links.
    resolved: PathBuf,
    /// A folder of the tree that cannot be made, relative.
    blocked: Option<PathBuf>,
    /// The last one that is there, relative.
    made: PathBuf,
    /// Those that are new, relative, on the way to the last one: there is nothing in
    /// them but of this run.
    new: Vec<PathBuf>,
}

impl Mirror {
    /// Makes the folder `to`, unless it exists: like the only one of `trees`, else
    /// for nobody but us. None may lie in the other: what is made would be taken
    /// for what is to be done.
    pub(super) fn new(trees: &[&Path], to: &Path) -> Result<Self, Failure> {
        let resolved = |path: &Path| {
            let place = fs::canonicalize(path);
            place.map_err(|error| Failure::file(path, &error))
        };
        let place = match to.file_name() {
            Some(name) if fs::metadata(to).is_err() => resolved(folder_of(to))?.join(name),
            _ => resolved(to)?,
        };
        for from in trees {
            let tree = resolved(from)?;
            if lies_in(&place, &tree) || lies_in(&tree, &place) {
                let message = format!("{} and {} lie in one another", from.display(), to.display());
                return Err(Failure::usage(message).hint("name a folder beside it with -o"));
            }
        }
        let is_new = match fs::metadata(to) {
            Ok(metadata) if metadata.is_dir() => false,
            _ => make_folder(to, mode_of_root(trees)?)?,
        };
        let (root, made) = (to.to_owned(), PathBuf::new());
        let new = if is_new { vec![PathBuf::new()] } else { Vec::new() };
        Ok(Self { root, resolved: place, blocked: None, made, new })
    }

    /// True if the file system takes two names that differ in case for one.
    pub(super) fn folds_case(&self) -> bool {
        let mut random = [0; 8];
        if getrandom::fill(&mut random).is_err() {
            return false;
        }
        let name = format!(".twinlock-{}.tmp", crate::report::hex(&random));
        let probe = self.root.join(&name);
        if File::create_new(&probe).is_err() {
            return false; // the first output says why
        }
        let folds = self.root.join(name.to_uppercase()).symlink_metadata().is_ok();
        _ = fs::remove_file(probe);
        folds
    }

    /// Makes the folders that the output `relative` of the named file `from` lies
    /// in.
    pub(super) fn folders_of(&mut self, from: &Path, relative: &Path) -> Result<(), Failure> {
        for (from, relative) in self.missing(from, relative) {
            let like = fs::metadata(from).map_err(|error| Failure::file(from, &error))?;
            let is_new = make_folder(&self.root.join(relative), mode_like(&like))?;
            self.note(relative, is_new);
            self.made = relative.to_owned();
        }
        Ok(())
    }

    /// The same for a file of a tree, of which not all folders are wanted.
    pub(super) fn folders_of_tree(&mut self, from: &Path, relative: &Path) -> Result<(), Failure> {
        for (from, relative) in self.missing(from, relative) {
            self.folder(from, relative)?;
            self.made = relative.to_owned();
        }
        Ok(())
    }

    /// The folders of a file and of its output, the outermost first; none if the
    /// last one was the same.
    fn missing<'a>(&self, from: &'a Path, relative: &'a Path) -> Vec<(&'a Path, &'a Path)> {
        if relative.parent() == Some(self.made.as_path()) {
            return Vec::new();
        }
        let mut folders: Vec<_> = from.ancestors().zip(relative.ancestors()).skip(1).collect();
        folders.retain(|(_, relative)| !relative.as_os_str().is_empty());
        folders.reverse();
        folders
    }

    /// Makes the folder for what is in `from`.
    pub(super) fn folder(&mut self, from: &Path, relative: &Path) -> Result<(), Failure> {
        let named = |failure: Failure| failure.about(from.display());
        let made = self.place(relative).map_err(named).and_then(|place| {
            let like = fs::metadata(from).map_err(|error| Failure::file(from, &error))?;
            // A second mount of what is in the tree may have led here.
            let gets_outputs = || named(Failure::new(Kind::Io, "outputs would go to this folder"));
            if lies_in(&self.resolved, from) {
                return Err(gets_outputs());
            }
            let is_new = make_folder(&place, mode_like(&like))?;
            if is_same_folder(&place, &like) {
                return Err(gets_outputs());
            }
            self.note(relative, is_new);
            Ok(())
        });
        if made.is_err() && !self.is_blocked(relative) {
            self.blocked = Some(relative.to_owned());
        }
        made
    }

    /// True if `relative` lies in a folder that this run has made.
    pub(super) fn is_in_new_folder(&self, relative: &Path) -> bool {
        relative.parent().is_some_and(|folder| self.new.iter().any(|new| new == folder))
    }

    fn note(&mut self, folder: &Path, is_new: bool) {
        self.new.retain(|above| folder.starts_with(above) && above != folder);
        if is_new {
            self.new.push(folder.to_owned());
        }
    }

    /// Where `relative` is in the mirror.
    pub(super) fn place(&self, relative: &Path) -> Result<PathBuf, Failure> {
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

fn mode_of_root(trees: &[&Path]) -> Result<u32, Failure> {
    match trees {
        [tree] => {
            let like = fs::metadata(tree).map_err(|error| Failure::file(tree, &error))?;
            Ok(mode_like(&like))
        }
        _ => Ok(0o700),
    }
}

/// Nobody can enter who cannot enter `like`.
fn mode_like(like: &Metadata) -> u32 {
    like.permissions().mode() & 0o777 | 0o700
}

/// Makes the folder `path`, if there is none. True if there was none.
fn make_folder(path: &Path, mode: u32) -> Result<bool, Failure> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // Not every file system lets a folder be synced.
            _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                true => Ok(false),
                false => Err(Failure::new(
                    Kind::Io,
                    format!("{} has to be a folder, and is something else", path.display()),
                )),
            }
        }
        Err(error) => Err(Failure::file(path, &error)),
    }
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
        let (root, resolved) = (path("mirror"), path("mirror"));
        let mut mirror =
            Mirror { root, resolved, blocked: None, made: PathBuf::new(), new: Vec::new() };
        mirror.folder(&path("tree/sub"), Path::new("sub")).unwrap();
        for (from, relative) in [("mirror", "mounted"), ("", "above"), ("mirror/sub", "sub")] {
            let failure = mirror.folder(&path(from), Path::new(relative)).unwrap_err();
            assert!(failure.message.contains("outputs would go to"), "{failure:?}");
            assert!(mirror.place(&Path::new(relative).join("file")).is_err());
        }
    }

    #[test]
    fn a_folder_is_new_if_this_run_has_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["tree/a/b", "tree/c", "mirror/c"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        let mut mirror = Mirror::new(&[], &path("mirror")).unwrap();
        let mut enter = |name: &str| {
            mirror.folder(&path("tree").join(name), Path::new(name)).unwrap();
            ["file", "a/file", "a/b/file", "c/file"]
                .map(|file| mirror.is_in_new_folder(Path::new(file)))
        };
        assert_eq!(enter("a"), [false, true, false, false]);
        assert_eq!(enter("a/b"), [false, true, true, false]);
        assert_eq!(enter("c"), [false; 4], "what was left behind is not kept in mind");
        let new = Mirror::new(&[], &path("new")).unwrap();
        assert!(new.is_in_new_folder(Path::new("file")));
        assert!(!new.is_in_new_folder(Path::new("a/file")));
    }
}
