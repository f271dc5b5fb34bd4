//! What a person at a terminal sees of what takes a while.

use super::tokens::Rig;
use crate::support::cli::Dir;
use crate::support::terminal::OnTerminal;

#[test]
fn whoever_waits_sees_how_much_is_done() {
    for (more, is_shown) in [(None, true), (Some("--quiet"), false)] {
        let dir = Dir::with_keys();
        let mut command = dir.command();
        command.env("TERM", "xterm");
        command.args(["encrypt", "-", "-o", "a.twl"]).args(more);
        let mut on_terminal = OnTerminal::run(command);
        on_terminal.type_in("secret\n");
        match is_shown {
            true => on_terminal.wait_for("B/s"),
            false => std::thread::sleep(std::time::Duration::from_secs(2)),
        }
        on_terminal.type_in("\x04"); // the end of what is typed
        let ended = on_terminal.end().ok();
        assert_eq!(ended.stderr.contains("B/s"), is_shown, "{}", ended.stderr);
        assert_eq!(dir.run(["decrypt", "a.twl", "-o", "-"]).ok().stdout, b"secret\n");
    }
}

#[test]
fn whoever_waits_for_many_files_sees_how_many_are_done() {
    let (mut rig, _token) = Rig::counted();
    std::fs::create_dir(rig.dir.path("enc")).unwrap();
    // Of two runs, so that each needs the token, which takes its time.
    for name in ["a", "b"] {
        rig.dir.write(name, name);
        rig.dir.run(["encrypt", name, "-o", &format!("enc/{name}.twl")]).ok();
    }
    let faults = rig.dir.home().join("faults");
    std::fs::write(&faults, "C_Decrypt delay 1500ms").unwrap();
    rig.dir.set("P11_FAULT_CONTROL", faults);
    let mut command = rig.dir.command();
    command.env("TERM", "xterm");
    command.args(["decrypt", "-r", "enc", "-o", "out", "--threads", "1"]);
    let mut on_terminal = OnTerminal::run(command);
    on_terminal.wait_for("1 files");
    on_terminal.end().ok();
    assert_eq!(rig.dir.read("out/b"), b"b");
}
