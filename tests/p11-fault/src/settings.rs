//! The module's variables, which a copy of it can have in a file of its own.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The variable `name`: of the file beside this copy of the module, or else of
/// the process.
pub(crate) fn get(name: &str) -> Option<OsString> {
    static OWN: OnceLock<String> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let file = own_path().map(|path| beside(&path));
        file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default()
    });
    in_text(own, name).map(OsString::from).or_else(|| std::env::var_os(name))
}

fn beside(module: &Path) -> PathBuf {
    let mut name = module.as_os_str().to_owned();
    name.push(".settings");
    name.into()
}

fn in_text<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let settings = text.lines().filter_map(|line| line.split_once('='));
    settings.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

/// Where this code was loaded from: the file that is mapped where it lies.
fn own_path() -> Option<PathBuf> {
    let here = own_path as fn() -> Option<PathBuf> as usize;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| path_if_around(line, here))
}

/// The path in a line of `/proc/self/maps`, if the mapping has `address` in it.
fn path_if_around(line: &str, address: usize) -> Option<PathBuf> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |hex| usize::from_str_radix(hex, 16).ok();
    let is_around = (number(start)?..number(end)?).contains(&address);
    let path = rest.find('/').map(|begin| PathBuf::from(&rest[begin..]));
    path.filter(|_| is_around)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_that_of_the_mapping_around_an_address() {
        let line = "7f00a000-7f00c000 r-xp 00002000 fe:00 123    /tmp/with space/a.so";
        let path = Some(PathBuf::from("/tmp/with space/a.so"));
        assert_eq!(path_if_around(line, 0x7f00_a000), path);
        assert_eq!(path_if_around(line, 0x7f00_bfff), path);
        assert_eq!(path_if_around(line, 0x7f00_c000), None);
        assert_eq!(path_if_around("7f00a000-7f00c000 rw-p 00000000 00:00 0 ", 0x7f00_a000), None);
    }

    #[test]
    fn this_code_knows_where_it_is() {
        assert_eq!(own_path(), std::env::current_exe().ok());
    }

    #[test]
    fn a_setting_is_a_line_of_the_file() {
        let text = "P11_FAULT_MODULE=/usr/lib/a=b.so\nP11_FAULT_ALONE=C_Login C_Logout\n";
        assert_eq!(in_text(text, "P11_FAULT_MODULE"), Some("/usr/lib/a=b.so"));
        assert_eq!(in_text(text, "P11_FAULT_ALONE"), Some("C_Login C_Logout"));
        assert_eq!(in_text(text, "P11_FAULT"), None);
    }
}
