//! Which files of a tree are meant: `--include` and `--exclude`.

use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::exit::Failure;

/// Lets all through that is not excluded, and if anything is included, only
/// that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// `None` where all files are meant.
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self, Failure> {
        let only = (!include.is_empty()).then(|| set("--include", include)).transpose()?;
        Ok(Self { include: only, exclude: set("--exclude", exclude)? })
    }

    /// True if only some files are meant, so that a folder may have none.
    pub(crate) fn is_selective(&self) -> bool {
        self.include.is_some()
    }

    /// True if a file at `relative` is meant, and its folders are.
    pub(super) fn takes(&self, relative: &Path) -> bool {
        let included = self.include.as_ref().is_none_or(|set| set.is_match(relative));
        included && !self.excludes(relative)
    }

    /// True if neither the file or folder at `relative` is meant nor what is in it.
    pub(super) fn excludes(&self, relative: &Path) -> bool {
        self.exclude.is_match(relative)
    }
}

fn set(flag: &str, patterns: &[String]) -> Result<GlobSet, Failure> {
    let failed = |error: globset::Error| Failure::usage(format!("{flag}: {error}"));
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if pattern.trim_matches('/').is_empty() {
            // An empty variable of a script, more often than not.
            return Err(Failure::usage(format!("{flag} has an empty pattern")));
        }
        set.add(glob(pattern).map_err(failed)?);
    }
    set.build().map_err(failed)
}

/// A pattern without a slash is of a name, wherever it is; one with a slash of
/// the path from the top of the tree.
fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    let anchored = match pattern.trim_end_matches('/') {
        name if !name.contains('/') => format!("**/{name}"),
        path => path.trim_start_matches('/').to_owned(),
    };
    GlobBuilder::new(&anchored).literal_separator(true).backslash_escape(true).build()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned =
            |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
        Filter::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn a_name_is_found_anywhere_and_a_path_from_the_top() {
        let names = filter(&["*.pdf"], &[]);
        for (path, is_meant) in
            [("a.pdf", true), ("x/y/a.pdf", true), (".pdf", true), ("a.PDF", false), ("pdf", false)]
        {
            assert_eq!(names.takes(Path::new(path)), is_meant, "{path}");
        }
        let paths = filter(&["x/*.pdf", "/y.pdf", "deep/**/a?.{pdf,txt}"], &[]);
        for (path, is_meant) in [
            ("x/a.pdf", true),
            ("x/y/a.pdf", false),
            ("z/x/a.pdf", false),
            ("y.pdf", true),
            ("x/y.txt", false),
            ("deep/a1.txt", true),
            ("deep/er/a1.pdf", true),
        ] {
            assert_eq!(paths.takes(Path::new(path)), is_meant, "{path}");
        }
    }

    #[test]
    fn what_is_excluded_is_so_whatever_is_included() {
        let filter = filter(&["*.pdf"], &["cache/", "a*"]);
        assert!(filter.takes(Path::new("b.pdf")));
        assert!(!filter.takes(Path::new("a.pdf")));
        assert!(filter.excludes(Path::new("x/cache")));
        assert!(filter.is_selective());
    }

    #[test]
    fn without_patterns_all_is_meant_and_names_need_not_be_utf_8() {
        let odd = Path::new(OsStr::from_bytes(b"\xff\n"));
        assert!(Filter::default().takes(odd));
        assert!(filter(&["*"], &[]).takes(odd));
        assert!(!filter(&[], &["?*"]).takes(odd));
    }

    #[test]
    fn a_pattern_that_is_none_is_said_with_its_flag() {
        let failure = Filter::new(&[], &["a[".to_owned()]).unwrap_err();
        assert!(failure.message.starts_with("--exclude: "), "{}", failure.message);
        assert_eq!(failure.kind.code(), 2);
    }
}
