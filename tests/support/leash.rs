//! Servers as processes that end with this one, however it ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A server. When this is dropped it gets a SIGTERM and is waited for.
pub(crate) struct Leashed {
    shell: Child,
    output: BufReader<ChildStdout>,
}

impl Leashed {
    /// Starts `command` with its variables; `log` gets what it says on stderr.
    pub(crate) fn start(command: &Command, log: &Path) -> Self {
        // Standard input closes when this process ends.
        const SCRIPT: &str = r#"exec 3<&0; "$@" 3<&- & server=$!; exec 1>&-
            { cat <&3 >/dev/null; kill $server; } 2>/dev/null & wait $server"#;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(SCRIPT).arg("sh").arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log).unwrap());
        let mut shell = shell.spawn().expect("there is a shell");
        let output = BufReader::new(shell.stdout.take().expect("it was piped"));
        Self { shell, output }
    }

    /// The next line of its output; empty when it has ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_some()
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().ok();
    }
}
