//! Which files a run is about, one after the other, and where their outputs go.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::vec;

use super::Request;
use super::mirror::Mirror;
use crate::exit::{Failure, Kind};
use crate::input::DASH;
use crate::list::List;
use crate::tree::filter::Filter;
use crate::tree::{self, EntryKind, Walk};

/// What is to be done. It is looked up as it is needed: of a tree only the names
/// on the way are held, and of each file that was named some bytes.
pub(super) struct Plan {
    named: Names,
    /// Names come from a list, and are paths in the mirror too.
    keeps_paths: bool,
    is_recursive: bool,
    filter: Filter,
    takes_journals: bool,
    tree: Option<Tree>,
    mirror: Option<Mirror>,
    taken: Taken,
}

/// The next thing to see to.
pub(super) enum Found {
    File(Job),
    PassedOver(PathBuf, &'static str),
    Failed(PathBuf, Failure),
}

/// A file, and where its output goes.
pub(in crate::verbs) struct Job {
    pub(in crate::verbs) from: PathBuf,
    pub(in crate::verbs) to: PathBuf,
    /// True if somebody named it, and may mean what a link leads to.
    pub(super) is_named: bool,
    /// True if the output's folder is new: nobody can have put anything there.
    pub(super) is_in_new_folder: bool,
}

/// What an output is called that is made of a file with this path.
type Naming<'a> = &'a dyn Fn(&Path) -> Result<PathBuf, Failure>;

enum Names {
    Args(vec::IntoIter<PathBuf>),
    List(List),
}

/// A folder that is walked.
struct Tree {
    walk: Walk,
    /// The folder of the mirror that gets it; empty for the mirror itself.
    prefix: PathBuf,
}

impl Plan {
    pub(super) fn new(request: &Request<'_>, takes_journals: bool) -> Result<Self, Failure> {
        refuse_streams(request)?;
        let files = request.files;
        let filter = Filter::new(&files.include, &files.exclude)?;
        let named = match &files.files_from {
            Some(path) => Names::List(List::read(path, files.null)?),
            None => Names::Args(Vec::from(request.inputs).into_iter()),
        };
        // That the only folder cannot be read is no matter of one file.
        let only = match request.inputs {
            [root] if files.recursive => Some(tree::walk(root)?),
            _ => None,
        };
        let output = request.output.output.as_deref();
        let mirror = output.map(|output| Mirror::new(&folders(request), output)).transpose()?;
        let taken = Taken::new(&named, request.output.force, mirror.as_ref());
        let mut plan = Self {
            named,
            keeps_paths: files.files_from.is_some(),
            is_recursive: files.recursive,
            filter,
            takes_journals,
            tree: None,
            mirror,
            taken,
        };
        if let Some(walk) = only {
            plan.named = Names::Args(Vec::new().into_iter());
            plan.enter(walk, PathBuf::new());
        }
        Ok(plan)
    }

    /// How many files there are, where that is known.
    pub(super) fn len(&self) -> Option<u64> {
        match &self.named {
            _ if self.is_recursive => None,
            Names::Args(names) => Some(names.len() as u64),
            Names::List(list) => Some(list.rewound().count() as u64),
        }
    }

    pub(super) fn next(&mut self, naming: Naming<'_>) -> Option<Found> {
        loop {
            let Some(tree) = &mut self.tree else {
                let name = self.named.next()?;
                match self.named(name, naming) {
                    Some(found) => return Some(found),
                    None => continue,
                }
            };
            match tree.walk.next() {
                None => self.tree = None,
                Some(entry) => {
                    if let Some(found) = self.entry(entry, naming) {
                        return Some(found);
                    }
                }
            }
        }
    }

    fn enter(&mut self, walk: Walk, prefix: PathBuf) {
        let walk = walk.taking_journals(self.takes_journals).filtered(self.filter.clone());
        self.tree = Some(Tree { walk, prefix });
    }

    /// A file that was named, or with `-r` a folder. `None` where there is nothing
    /// to see to yet.
    fn named(&mut self, from: PathBuf, naming: Naming<'_>) -> Option<Found> {
        let placed = match self.is_recursive && from.is_dir() {
            true => self.begin_tree(&from).map(|()| None),
            false => self.place(&from, naming),
        };
        match placed {
            Ok(Some(Placed::Twice)) => Some(Found::PassedOver(from, "file that was named before")),
            Ok(Some(Placed::At(to))) => {
                let job = Job { from, to, is_named: true, is_in_new_folder: false };
                Some(Found::File(job))
            }
            Ok(None) => None,
            Err(failure) => {
                let failure = failure.about(from.display());
                Some(Found::Failed(from, failure))
            }
        }
    }

    fn begin_tree(&mut self, root: &Path) -> Result<(), Failure> {
        let name = PathBuf::from(root.file_name().ok_or_else(no_name)?);
        let mirror = self.mirror.as_mut().expect("-r requires -o");
        if let Placed::Twice = self.taken.claim(&name, root)? {
            return Ok(());
        }
        mirror.folder(root, &name)?;
        let walk = tree::walk(root)?;
        self.enter(walk, name);
        Ok(())
    }

    fn place(&mut self, from: &Path, naming: Naming<'_>) -> Result<Option<Placed>, Failure> {
        let Some(mirror) = &mut self.mirror else {
            let to = naming(from)?;
            if let Placed::Twice = self.taken.claim(&to, from)? {
                return Ok(Some(Placed::Twice));
            }
            self.taken.refuse_inputs(&to)?;
            return Ok(Some(Placed::At(to)));
        };
        let relative = match self.keeps_paths {
            true => below(from)?,
            false => PathBuf::from(from.file_name().ok_or_else(no_name)?),
        };
        let output = naming(&relative)?;
        if let Placed::Twice = self.taken.claim(&output, from)? {
            return Ok(Some(Placed::Twice));
        }
        let to = mirror.place(&output)?;
        self.taken.refuse_inputs(&to)?;
        mirror.folders_of(from, &relative)?;
        Ok(Some(Placed::At(to)))
    }

    /// `None` for a folder, which was made.
    fn entry(&mut self, entry: tree::Entry, naming: Naming<'_>) -> Option<Found> {
        let tree::Entry { path, relative, kind } = entry;
        match kind {
            EntryKind::Folder if self.filter.is_selective() => None,
            EntryKind::Folder => {
                let relative = self.in_mirror(&relative);
                let made = self.mirror.as_mut().expect("-r requires -o").folder(&path, &relative);
                made.err().map(|failure| Found::Failed(path, failure))
            }
            EntryKind::File => Some(match self.place_in_tree(&path, &relative, naming) {
                Ok((to, is_in_new_folder)) => {
                    Found::File(Job { from: path, to, is_named: false, is_in_new_folder })
                }
                Err(failure) => {
                    let failure = failure.about(path.display());
                    Found::Failed(path, failure)
                }
            }),
            EntryKind::Failed(failure) => Some(Found::Failed(path, failure)),
            EntryKind::Other(what) => Some(Found::PassedOver(path, what)),
        }
    }

    /// Where the output goes, and whether its folder is new.
    fn place_in_tree(
        &mut self,
        from: &Path,
        relative: &Path,
        naming: Naming<'_>,
    ) -> Result<(PathBuf, bool), Failure> {
        let relative = self.in_mirror(relative);
        let output = naming(&relative)?;
        if self.taken.folds {
            self.taken.claim(&output, from)?;
        }
        let mirror = self.mirror.as_mut().expect("-r requires -o");
        if self.filter.is_selective() {
            mirror.folders_of_tree(from, &relative)?;
        }
        let to = mirror.place(&output)?;
        let is_in_new_folder = mirror.is_in_new_folder(&relative);
        self.taken.refuse_inputs(&to)?;
        Ok((to, is_in_new_folder))
    }

    fn in_mirror(&self, relative: &Path) -> PathBuf {
        let tree = self.tree.as_ref().expect("an entry is of a tree");
        tree.prefix.join(relative)
    }
}

fn refuse_streams(request: &Request<'_>) -> Result<(), Failure> {
    let mut names = request.inputs.iter().chain(&request.output.output);
    match names.any(|path| path == Path::new(DASH)) {
        false => Ok(()),
        true => Err(Failure::usage("stdin and stdout are for one file, and these are many")
            .hint("name the files, and a folder with -o; --files-from - reads names from stdin")),
    }
}

/// The folders that are to be walked.
fn folders<'a>(request: &Request<'a>) -> Vec<&'a Path> {
    let inputs = request.inputs.iter().filter(|_| request.files.recursive);
    inputs.map(PathBuf::as_path).filter(|path| path.is_dir()).collect()
}

impl Iterator for Names {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        match self {
            Self::Args(names) => names.next(),
            Self::List(list) => list.next(),
        }
    }
}

impl Names {
    fn each(&self) -> Box<dyn Iterator<Item = &Path> + '_> {
        match self {
            Self::Args(names) => Box::new(names.as_slice().iter().map(PathBuf::as_path)),
            Self::List(list) => Box::new(list.rewound()),
        }
    }
}

/// Where a named file goes in the mirror: its own path, from wherever it counts.
fn below(path: &Path) -> Result<PathBuf, Failure> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                let failure = Failure::usage("a name with .. has no place in the folder -o");
                return Err(failure.hint("name it from a folder above, or by its whole path"));
            }
        }
    }
    match path.file_name() {
        Some(_) => Ok(relative),
        None => Err(no_name()),
    }
}

fn no_name() -> Failure {
    Failure::usage("it has no name that could stand in the folder -o")
        .hint("with -r, give it alone, or by the name that it has in the folder above")
}

/// Which outputs belong to which inputs, so that no two inputs go to one output,
/// and no output replaces an input of the same run. A few bytes for each file
/// that was named.
struct Taken {
    /// Hashes of the outputs' paths, and of the inputs'.
    outputs: HashMap<u64, u64>,
    /// The file system takes names for the same that differ in case.
    folds: bool,
    /// The named inputs, where outputs may replace files.
    inputs: HashSet<(u64, u64)>,
    hasher: RandomState,
}

enum Placed {
    At(PathBuf),
    /// The very same file was named before.
    Twice,
}

impl Taken {
    fn new(named: &Names, replaces: bool, mirror: Option<&Mirror>) -> Self {
        let inputs = match replaces {
            true => {
                named.each().filter_map(|path| Some(identity(&fs::metadata(path).ok()?))).collect()
            }
            false => HashSet::new(),
        };
        let folds = mirror.is_some_and(Mirror::folds_case);
        Self { outputs: HashMap::new(), folds, inputs, hasher: RandomState::new() }
    }

    /// Takes the output for the input `from`, and returns whether that had it.
    fn claim(&mut self, output: &Path, from: &Path) -> Result<Placed, Failure> {
        let key = match self.folds {
            true => self.hasher.hash_one(output.to_string_lossy().to_lowercase()),
            false => self.hasher.hash_one(plain(output)),
        };
        let input = self.hasher.hash_one(plain(from));
        match self.outputs.insert(key, input) {
            None => Ok(Placed::At(PathBuf::new())),
            Some(before) if before == input => Ok(Placed::Twice),
            Some(before) => {
                self.outputs.insert(key, before);
                let output = output.display();
                let message =
                    format!("another input of this run goes to the same output, {output}");
                Err(Failure::new(Kind::OutputExists, message)
                    .hint("do it in a run of its own, into another folder"))
            }
        }
    }

    /// Fails if the output would replace an input.
    fn refuse_inputs(&self, output: &Path) -> Result<(), Failure> {
        let is_input = !self.inputs.is_empty()
            && output.symlink_metadata().is_ok_and(|it| self.inputs.contains(&identity(&it)));
        match is_input {
            false => Ok(()),
            true => {
                let message = format!("its output, {}, is an input of this run", output.display());
                Err(Failure::new(Kind::OutputExists, message).hint("name a folder with -o"))
            }
        }
    }
}

/// `./a` and `a` are one.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(folds: bool) -> Taken {
        let hasher = RandomState::new();
        Taken { outputs: HashMap::new(), folds, inputs: HashSet::new(), hasher }
    }

    #[test]
    fn names_of_a_list_never_leave_the_mirror() {
        for (name, place) in
            [("a", "a"), ("./a/./b", "a/b"), ("/etc/passwd", "etc/passwd"), ("//a//b", "a/b")]
        {
            assert_eq!(below(Path::new(name)).unwrap(), Path::new(place), "{name}");
        }
        for name in ["..", "../a", "a/../../b", "a/../b", "/..", "/", ".", "a/.."] {
            assert!(below(Path::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn an_output_is_of_one_input() {
        let mut taken = taken(false);
        let mut claim = |output: &str, from: &str| taken.claim(Path::new(output), Path::new(from));
        assert!(matches!(claim("a.twl", "x/a"), Ok(Placed::At(_))));
        assert!(matches!(claim("a.twl", "./x//a"), Ok(Placed::Twice)));
        assert!(matches!(claim("A.twl", "x/A"), Ok(Placed::At(_))));
        for _ in 0..2 {
            let failure = claim("a.twl", "y/a").err().unwrap();
            assert!(failure.message.contains("same output, a.twl"), "{}", failure.message);
        }
        assert!(matches!(claim("a.twl", "x/a"), Ok(Placed::Twice)));
    }

    #[test]
    fn where_case_does_not_count_names_that_differ_in_it_collide() {
        let mut taken = taken(true);
        taken.claim(Path::new("Ä/a.twl"), Path::new("Ä/a")).unwrap();
        assert!(taken.claim(Path::new("ä/A.twl"), Path::new("ä/A")).is_err());
        let folder = tempfile::tempdir().unwrap();
        let mirror = Mirror::new(&[], folder.path()).unwrap();
        let differs = folder.path().join("a");
        fs::write(&differs, b"").unwrap();
        assert_eq!(mirror.folds_case(), folder.path().join("A").exists());
    }
}
