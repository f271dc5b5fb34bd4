//! Many files in one run, however they are named: arguments, lists, patterns,
//! several folders; and runs that are cut short.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::trees::{documents, files, last_document, plant, text};
use crate::support::cli::{Dir, Ended, program, run, wait};

fn names(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_keys().collect()
}

fn paths(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

#[test]
fn several_files_go_beside_themselves_or_into_a_folder() {
    let dir = Dir::with_keys();
    fs::create_dir_all(dir.path("d/sub")).unwrap();
    for name in ["a", "d/b", "d/sub/c"] {
        dir.write(name, name);
    }
    symlink("a", dir.path("link")).unwrap();
    let ended = dir.run(["encrypt", "a", "d/b"]).ok();
    assert!(ended.text().contains("2 names: 2 files encrypted\n"), "{}", ended.text());
    assert!(dir.path("a.twl").exists() && dir.path("d/b.twl").exists());

    // What is named may be a link; a folder without -r is one that fails.
    let ended = dir.run(["encrypt", "a", "d/b", "link", "d/sub", "absent", "-o", "out"]).with(6);
    assert!(ended.stderr.contains("-r and -o FOLDER"), "{}", ended.stderr);
    assert_eq!(names(&dir.path("out")), paths(&["a.twl", "b.twl", "link.twl"]));
    fs::remove_file(dir.path("a")).unwrap();
    fs::remove_file(dir.path("d/b")).unwrap();
    dir.run(["decrypt", "a.twl", "d/b.twl"]).ok();
    assert_eq!((dir.read("a"), dir.read("d/b")), (b"a".to_vec(), b"d/b".to_vec()));
    dir.run(["decrypt", "out/link.twl", "out/b.twl", "-o", "back"]).ok();
    assert_eq!(dir.read("back/link"), b"a");
}

#[test]
fn what_is_for_one_file_is_refused_for_many_and_the_other_way_round() {
    let dir = Dir::with_keys();
    dir.write("a", "a");
    dir.write("b", "b");
    for args in [
        "encrypt a b -o -",
        "encrypt a -",
        "encrypt a b --detach",
        "encrypt a --resume",
        "encrypt a --batch-files 9",
        "encrypt a b --resume --force",
        "encrypt a --include x",
        "encrypt a --files-from a",
        "encrypt --files-from a --include x",
        "encrypt --files-from a --exclude x",
        "encrypt --files-from a --header h",
        "encrypt -r . -o /nowhere --header h",
        "encrypt -r . -o /nowhere --exclude=",
        "encrypt -r . -o /nowhere --include /",
        "encrypt a -0",
        "encrypt",
        "encrypt -r a b",
        "decrypt a b --range 1..",
        "decrypt a b --header a",
        "encrypt a b --threads 0",
    ] {
        dir.run(args.split(' ')).with(2);
    }
    assert_eq!(dir.names(), ["a", "b"]);
}

#[test]
fn a_dash_in_a_list_is_a_file_like_others() {
    let dir = Dir::with_keys();
    dir.write("-", "the file named dash");
    dir.write("list", "-\n");
    dir.run(["encrypt", "--files-from", "list", "-o", "out"]).with(0);
    assert_eq!(names(&dir.path("out")), [PathBuf::from("-.twl")]);
    dir.run(["decrypt", "out/-.twl", "-o", "back"]).with(0);
    assert_eq!(dir.read("back"), b"the file named dash");
    std::fs::remove_file(dir.path("-")).unwrap();
    dir.run(["encrypt", "--files-from", "list", "-o", "again"]).with(6);
    assert!(names(&dir.path("again")).is_empty());
}

#[test]
fn a_list_names_any_file_and_nothing_is_written_outside_the_folder() {
    let dir = Dir::with_keys();
    fs::create_dir_all(dir.path("in/d/e")).unwrap();
    for name in ["in/a", "in/d/b", "in/d/e/new\nline", "outside"] {
        dir.write(name, name);
    }
    let odd = dir.path("in").join(OsStr::from_bytes(b"\xff"));
    fs::write(odd, b"odd").unwrap();
    let list = b"a\0\0d/b\0./d//b\0absent\0../outside\0d/../a\0d/e/new\nline\0\xff\0d\0";
    dir.write("list", list);
    let mut command = dir.command();
    command.current_dir(dir.path("in"));
    command.args(["encrypt", "--files-from", "../list", "-0", "-o", "../out/", "--json"]);
    let ended = run(command, b"").with(6);
    let expected = [&b"a.twl"[..], b"d/b.twl", b"d/e/new\nline.twl", b"\xff.twl"];
    let made = names(&dir.path("out"));
    assert_eq!(made.len(), 4);
    assert!(expected.iter().all(|name| made.contains(&PathBuf::from(OsStr::from_bytes(name)))));
    assert!(!dir.path("outside.twl").exists());

    let documents = documents(&ended);
    let of = |input: &str| documents.iter().find(|it| it["input"] == input).expect("a line");
    assert_eq!(of("./d//b")["what"], "file that was named before");
    assert_eq!(of("absent")["error"]["kind"], "io");
    for name in ["../outside", "d/../a"] {
        assert_eq!(of(name)["error"]["kind"], "usage", "{name}");
    }
    assert_eq!(of("d")["status"], "failed");
    let odd = of("\u{fffd}");
    assert_eq!(
        (&odd["input_hex"], text(&odd["output_hex"])),
        (&"ff".into(), "2e2e2f6f75742fff2e74776c")
    );
    assert!(of("a").get("input_hex").is_none());
    let counts = &documents.last().unwrap()["files"];
    assert_eq!(
        (&counts["done"], &counts["passed_over"], &counts["failed"]),
        (&4.into(), &1.into(), &4.into())
    );
}

#[test]
fn absolute_names_go_below_the_folder_and_a_list_may_come_from_stdin() {
    let dir = Dir::with_keys();
    fs::create_dir(dir.path("in")).unwrap();
    dir.write("in/a", "a");
    let name = dir.path("in/a").display().to_string();
    let lines = format!("{name}\n\n");
    dir.run_with(["encrypt", "--files-from", "-", "-o", "out"], lines.as_bytes()).ok();
    assert_eq!(dir.names(), ["in", "out"]);
    assert_eq!(names(&dir.path("out")), [PathBuf::from(format!("{}.twl", &name[1..]))]);

    // Beside each file, where no folder is named; also a list without any name.
    dir.run_with(["encrypt", "--files-from", "-"], lines.as_bytes()).ok();
    assert!(dir.path("in/a.twl").exists());
    let ended = dir.run_with(["encrypt", "--files-from", "-"], b"").ok();
    assert!(ended.text().contains("0 files encrypted"), "{}", ended.text());
    dir.run_with(["encrypt", "--files-from", "-"], b"a\0b").with(2);
    dir.run(["encrypt", "--files-from", "absent"]).with(1);
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_written_through_for_a_list_either() {
    let dir = Dir::with_keys();
    for folder in ["d/e", "out", "elsewhere"] {
        fs::create_dir_all(dir.path(folder)).unwrap();
    }
    dir.write("d/e/a", "a");
    symlink("../elsewhere", dir.path("out/d")).unwrap();
    let ended = dir.run_with(["encrypt", "--files-from", "-", "-o", "out"], b"d/e/a\n").with(6);
    assert!(ended.stderr.contains("has to be a folder"), "{}", ended.stderr);
    assert_eq!(names(&dir.path("elsewhere")).len(), 0);
}

#[test]
fn patterns_choose_files_of_a_tree() {
    let dir = Dir::with_keys();
    for folder in ["data/keep/deep", "data/cache", "data/none"] {
        fs::create_dir_all(dir.path(folder)).unwrap();
    }
    for name in ["a.pdf", "b.txt", "keep/c.pdf", "keep/deep/d.pdf", "cache/e.pdf", "none/f"] {
        dir.write(&format!("data/{name}"), name);
    }
    dir.run(["encrypt", "-r", "data", "-o", "one", "--include", "*.pdf", "--exclude", "cache"])
        .ok();
    assert_eq!(
        names(&dir.path("one")),
        paths(&["a.pdf.twl", "keep/c.pdf.twl", "keep/deep/d.pdf.twl"])
    );
    assert!(!dir.path("one/none").exists(), "folders without such files are not made");
    dir.run(["encrypt", "-r", "data", "-o", "two", "--include", "keep/*", "--include", "b.*"]).ok();
    assert_eq!(names(&dir.path("two")), paths(&["b.txt.twl", "keep/c.pdf.twl"]));
    dir.run(["encrypt", "-r", "data", "-o", "three", "--include", "[x"]).with(2);
}

#[test]
fn several_folders_get_a_folder_each() {
    let dir = Dir::with_keys();
    for folder in ["x/one/sub", "y/two", "y/one"] {
        fs::create_dir_all(dir.path(folder)).unwrap();
    }
    for name in ["x/one/sub/a", "y/two/b", "y/one/c", "file"] {
        dir.write(name, name);
    }
    let ended =
        dir.run(["encrypt", "-r", "x/one", "y/two", "file", "y/one", "absent", "-o", "out"]);
    let ended = ended.with(6);
    assert!(ended.stderr.contains("y/one: another input of this run"), "{}", ended.stderr);
    assert_eq!(names(&dir.path("out")), paths(&["file.twl", "one/sub/a.twl", "two/b.twl"]));
    dir.run(["encrypt", "-r", "x", "y", "-o", "x/out"]).with(2);
    assert!(!dir.path("x/out").exists());
}

#[test]
fn two_inputs_never_become_one_output() {
    let dir = Dir::with_keys();
    for folder in ["x", "y"] {
        fs::create_dir(dir.path(folder)).unwrap();
        dir.write(&format!("{folder}/a"), folder);
    }
    for more in [&["--json"][..], &["--json", "--resume"], &["--json", "--force"]] {
        let args = ["encrypt", "x/a", "y/a", "-o", "out"];
        let ended = dir.run(args.iter().chain(more).copied()).with(6);
        let of_second = documents(&ended).into_iter().find(|it| it["input"] == "y/a").unwrap();
        assert_eq!(of_second["error"]["kind"], "output-exists");
        dir.run(["decrypt", "out/a.twl", "-o", "back", "--force"]).ok();
        assert_eq!(dir.read("back"), b"x");
    }
}

#[test]
fn an_output_never_replaces_an_input_of_the_run() {
    let dir = Dir::with_keys();
    dir.write("a", "plain");
    dir.write("a.twl", "precious");
    for more in [&[][..], &["--force"], &["--resume"]] {
        _ = fs::remove_file(dir.path("a.twl.twl"));
        dir.run(["encrypt", "a", "a.twl"].iter().chain(more).copied()).with(6);
        assert_eq!(dir.read("a.twl"), b"precious");
        dir.run(["decrypt", "a.twl.twl", "-o", "back", "--force"]).ok();
        assert_eq!(dir.read("back"), b"precious");
    }
}

#[test]
fn an_output_that_is_there_is_an_error_unless_something_is_said_of_it() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    let encrypt = |more: &[&'static str]| {
        dir.run(["encrypt", "-r", "data", "-o", "enc"].iter().chain(more).copied())
    };
    encrypt(&[]).ok();
    let before = files(&dir.path("enc"));
    let ended = encrypt(&[]).with(6);
    assert!(ended.stderr.contains("--resume leaves alone"), "{}", ended.stderr);
    assert!(ended.text().contains("0 files encrypted to enc, 3 failed"), "{}", ended.text());
    assert!(encrypt(&["--resume"]).ok().text().contains("3 done before"));
    assert_eq!(files(&dir.path("enc")), before);
    assert!(encrypt(&["--force"]).ok().text().contains("3 files encrypted to enc\n"));
    assert_ne!(files(&dir.path("enc")), before);
}

#[test]
fn however_many_threads_there_are_all_files_are_done() {
    let dir = Dir::with_keys();
    plant(&dir, 250);
    dir.write("data/big", vec![3; 3 << 20]);
    for threads in ["1", "3", "40"] {
        dir.run(["encrypt", "-r", "data", "-o", "enc", "--threads", threads]).ok();
        let args =
            ["decrypt", "-r", "enc", "-o", "back", "--threads", threads, "--no-sync", "--json"];
        let summary = last_document(&dir.run(args).ok());
        assert_eq!(summary["files"]["done"], 251);
        assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
        for folder in ["enc", "back"] {
            fs::remove_dir_all(dir.path(folder)).unwrap();
        }
    }
}

#[test]
fn a_killed_run_is_completed_with_resume() {
    let dir = Dir::with_keys();
    plant(&dir, 3000);
    let args = ["-r", "data", "-o", "enc", "--batch-files", "500"];
    for _ in 0..3 {
        let before = made(&dir.path("enc"));
        let mut child = begin(&dir, ["encrypt", "--resume"].iter().chain(&args));
        until(|| made(&dir.path("enc")) > before || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let summary =
        last_document(&dir.run(["encrypt", "--resume", "--json"].into_iter().chain(args)).ok());
    let (done, kept) = (&summary["files"]["done"], &summary["files"]["kept"]);
    assert_eq!(done.as_u64().unwrap() + kept.as_u64().unwrap(), 3000, "{summary}");
    assert_ne!(kept, 0, "{summary}");
    // What the kill left is no file of the tree.
    dir.run(["decrypt", "-r", "enc", "-o", "back"]).ok();
    assert_eq!(files(&dir.path("back")), files(&dir.path("data")));
}

#[test]
fn a_signal_ends_a_run_of_many_and_no_temporary_file_stays() {
    let dir = Dir::with_keys();
    plant(&dir, 3000);
    dir.run(["encrypt", "-r", "data", "-o", "all"]).ok();
    for (verb, from, to) in [("encrypt", "data", "enc"), ("decrypt", "all", "back")] {
        let child = begin(&dir, &[verb, "-r", from, "-o", to, "--threads", "4"]);
        until(|| made(&dir.path(to)) > 0);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        wait(child).with(130);
        let all = files(&dir.path(to));
        assert!(all.len() < 3000, "it was at work still");
        let left = all.keys().filter(|name| name.display().to_string().contains(".twinlock-"));
        assert_eq!(left.count(), 0);
    }
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_and_others_go_on() {
    let dir = Dir::with_keys();
    plant(&dir, 20);
    dir.write("data/small", vec![1; 200 << 10]);
    dir.write("data/big", vec![1; 2 << 20]);
    // Writes beyond 64 KiB fail, as on a disk that is full.
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 128; exec \"$@\"", "sh"]).arg(program());
    command.args(["encrypt", "-r", "data", "-o", "enc"]);
    command.env_clear().env("HOME", dir.home()).current_dir(dir.work());
    let ended = run(command, b"").with(6);
    assert!(ended.text().contains("20 files encrypted to enc, 2 failed"), "{}", ended.text());
    assert_eq!(files(&dir.path("enc")).len(), 20, "no part of a file is left");
    dir.run(["encrypt", "-r", "data", "-o", "enc", "--resume"]).ok();
}

#[test]
fn few_open_files_are_enough_for_many_threads() {
    let dir = Dir::with_keys();
    plant(&dir, 200);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(program());
    command.args(["encrypt", "-r", "data", "-o", "enc", "--threads", "100"]);
    command.env_clear().env("HOME", dir.home()).current_dir(dir.work());
    run(command, b"").ok();
    assert_eq!(files(&dir.path("enc")).len(), 200);
}

/// Files of the kernel have bytes, and say that they have none.
#[test]
fn a_file_that_is_longer_than_it_says_is_not_taken_for_empty() {
    let dir = Dir::with_keys();
    dir.write("a", "a");
    let ended = dir.run(["encrypt", "/proc/cpuinfo", "a", "-o", "out"]).with(6);
    assert!(ended.stderr.contains("/proc/cpuinfo changed while it was read"), "{}", ended.stderr);
    assert_eq!(names(&dir.path("out")), [PathBuf::from("a.twl")]);
    dir.run(["encrypt", "/proc/cpuinfo", "-o", "alone"]).with(1);
    assert!(!dir.path("alone").exists());
}

#[test]
fn what_cannot_be_read_and_what_is_no_file_do_not_keep_others_from_being_done() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    fs::create_dir(dir.path("data/locked")).unwrap();
    dir.write("data/secret", "x");
    for name in ["data/secret", "data/locked"] {
        fs::set_permissions(dir.path(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let pipe = dir.path("data/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let ended = without_rights(&dir, &["encrypt", "-r", "data", "-o", "enc", "--json"]).with(6);
    let what_of = |input: &str| {
        let documents = documents(&ended);
        let line = documents.into_iter().find(|it| it["input"] == input).expect("a line");
        [&line["status"], &line["what"], &line["error"]["kind"]].map(|it| text(it).to_owned())
    };
    assert_eq!(what_of("data/secret"), ["failed", "", "io"]);
    assert_eq!(what_of("data/locked"), ["failed", "", "io"]);
    assert_eq!(what_of("data/pipe"), ["passed-over", "pipe", ""]);
    assert_eq!(files(&dir.path("enc")).len(), 3);

    // A pipe that is named is a failure, and nobody waits for its writer.
    let ended = without_rights(&dir, &["encrypt", "data/pipe", "data/00/0", "-o", "named"]).with(6);
    assert!(ended.stderr.contains("is no regular file"), "{}", ended.stderr);
    assert_eq!(names(&dir.path("named")), paths(&["0.twl"]));
}

/// Root may read everything, unless that right is dropped.
fn without_rights(dir: &Dir, args: &[&str]) -> Ended {
    let own = dir.command();
    let mut command = match rustix::process::geteuid().is_root() {
        true => {
            let mut setpriv = Command::new("setpriv");
            setpriv.arg("--bounding-set=-dac_override,-dac_read_search");
            setpriv.arg("--inh-caps=-dac_override,-dac_read_search").arg(own.get_program());
            setpriv
        }
        false => Command::new(own.get_program()),
    };
    command.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(args).current_dir(dir.work());
    run(command, b"")
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error_of_that_file() {
    let dir = Dir::with_keys();
    plant(&dir, 3);
    // Long enough that a writer is at work while it is read.
    dir.write("data/log", vec![1; 64 << 20]);
    let file = fs::File::options().write(true).open(dir.path("data/log")).unwrap();
    let child = begin(&dir, &["encrypt", "-r", "data", "-o", "enc", "--json"]);
    let mut child = child;
    while child.try_wait().unwrap().is_none() {
        file.write_all_at(&[2], 5).unwrap();
    }
    let ended = wait(child).with(6);
    let failed = documents(&ended).into_iter().find(|it| it["input"] == "data/log").unwrap();
    assert!(text(&failed["error"]["message"]).contains("changed while it was read"), "{failed}");
    assert_eq!(names(&dir.path("enc")), paths(&["00/0.twl", "00/1.twl", "00/2.twl"]));
}

/// How many files have their names.
fn made(folder: &Path) -> usize {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries(folder).map(|entry| entry.path());
    let files = folders.flat_map(|folder| entries(&folder).collect::<Vec<_>>());
    files.filter(|entry| !entry.file_name().as_bytes().starts_with(b".")).count()
}

fn begin<'a>(dir: &Dir, args: impl IntoIterator<Item = &'a &'a str>) -> std::process::Child {
    let mut command = dir.command();
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come to this");
        thread::sleep(Duration::from_millis(1));
    }
}
