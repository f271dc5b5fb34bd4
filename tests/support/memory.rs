//! How much memory a program takes.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::python;

/// The most memory that a command had resident, as the system counts it.
///
/// What `wait4` says of a child is never less than what its parent had when it
/// started it. So another process starts it, which is smaller than any of ours.
pub(crate) struct Peak(NamedTempFile);

const START_AND_WAIT: &str = "
import os, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
open(sys.argv[1], 'w').write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
";

impl Peak {
    /// A command that does the same as `command`, and whose peak will be told.
    pub(crate) fn of(command: &Command) -> (Command, Self) {
        let peak = NamedTempFile::new().unwrap();
        let mut outer = Command::new(python());
        outer.args(["-I", "-S", "-c", START_AND_WAIT]).arg(peak.path());
        outer.arg(command.get_program()).args(command.get_args()).env_clear();
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer.current_dir(command.get_current_dir().expect("the folder of a `Dir`"));
        (outer, Self(peak))
    }

    /// In bytes, once it has ended.
    pub(crate) fn bytes(self) -> u64 {
        let kib = fs::read_to_string(self.0.path()).unwrap();
        kib.parse::<u64>().expect("it has ended, and left its peak") << 10
    }
}

/// The most memory that `child` had resident, in bytes, watched until it ends:
/// for what takes longer than some milliseconds.
pub(crate) fn peak_memory(child: &Child) -> u64 {
    let mut peak = 0;
    while let Some(now) = high_water_mark(child) {
        peak = peak.max(now);
        thread::sleep(Duration::from_millis(1));
    }
    assert!(peak > 0, "it was seen running");
    peak
}

/// The same up to now; a process that has ended has none.
pub(crate) fn high_water_mark(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}
