//! A token that a program prints.

use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use twinlock_keys::{HolderError, HolderErrorKind};
use zeroize::Zeroizing;

use super::super::misconfigured;
use crate::credential::{Flaw, MAX_CREDENTIAL_LEN, line_of};

/// Runs the program of these words and returns what it prints, a line of at most
/// 16 KiB. The caller's deadline ends it. It sees our stderr, for what it has to
/// say to people, and our environment but for [what is not for it](SECRETS).
pub(super) async fn run(words: &[String]) -> Result<Zeroizing<String>, HolderError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(misconfigured("the command for a token has no words"));
    };
    let cannot = |error: std::io::Error| {
        misconfigured(format!("cannot run the command for a token, {program}: {error}"))
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for secret in SECRETS {
        command.env_remove(secret);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(cannot)?;
    let pipe = child.stdout.take().expect("it was asked for above");
    // As large as it may become, for what grows leaves copies behind.
    let mut printed = Zeroizing::new(Vec::with_capacity(MAX_CREDENTIAL_LEN + 3));
    pipe.take(MAX_CREDENTIAL_LEN as u64 + 3).read_to_end(&mut printed).await.map_err(cannot)?;
    if printed.len() <= MAX_CREDENTIAL_LEN + 2 {
        let status = child.wait().await.map_err(cannot)?;
        if !status.success() {
            return Err(HolderError::new(
                HolderErrorKind::Denied,
                format!("the command for a token, {program}, failed ({status}): {RUN_IT}"),
            ));
        }
    }
    line_of(&printed).map_err(|flaw| {
        let printed = match flaw {
            Flaw::Empty => "nothing".to_owned(),
            Flaw::NotAscii => "something else than one line of visible ASCII text".to_owned(),
            Flaw::TooLong => format!("more than {MAX_CREDENTIAL_LEN} bytes"),
        };
        misconfigured(format!("the command for a token, {program}, printed {printed}: {RUN_IT}"))
    })
}

/// The PIN of a token of PKCS#11, and secrets of other ways to get a token.
const SECRETS: [&str; 3] = ["TWINLOCK_PIN", "TWINLOCK_DKE_CLIENT_SECRET", "TWINLOCK_DKE_TOKEN"];

/// Its words are not repeated: they may have secrets in them.
const RUN_IT: &str = "run it by hand, as token_command in the profile's [dke] has it";

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn shell(script: &str) -> Result<String, HolderError> {
        let words = ["sh", "-c", script].map(str::to_owned);
        run(&words).await.map(|text| text.to_string())
    }

    fn in_runtime<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn a_line_is_taken() {
        in_runtime(async {
            assert_eq!(shell("echo abc.def").await.unwrap(), "abc.def");
            assert_eq!(shell("printf abc").await.unwrap(), "abc");
        });
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        in_runtime(async {
            for (script, printed) in [
                ("true", "nothing"),
                ("echo", "nothing"),
                ("echo secret; echo b", "something else"),
                ("printf 'secret\\377'", "something else"),
                ("yes secret | tr -d '\\n'", "more than 16384 bytes"),
            ] {
                let error = shell(script).await.unwrap_err();
                assert_eq!(error.kind(), HolderErrorKind::Misconfigured, "{script}: {error}");
                let text = error.to_string();
                assert!(text.contains(&format!("sh, printed {printed}")), "{script}: {text}");
                assert!(text.contains("run it by hand") && !text.contains("secret"), "{text}");
            }
        });
    }

    #[test]
    fn a_program_that_fails_or_is_not_there_is_named() {
        in_runtime(async {
            let error = shell("echo abc; exit 3").await.unwrap_err();
            assert_eq!(error.kind(), HolderErrorKind::Denied, "{error}");
            assert!(error.to_string().contains("exit status: 3"), "{error}");
            let error = run(&["/nowhere/at/all".to_owned()]).await.unwrap_err();
            assert_eq!(error.kind(), HolderErrorKind::Misconfigured, "{error}");
            assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
            assert_eq!(run(&[]).await.unwrap_err().kind(), HolderErrorKind::Misconfigured);
        });
    }

    #[test]
    fn one_that_hangs_ends_with_whoever_waits_for_it() {
        in_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("pid");
            let script = format!("echo $$ > {}; exec sleep 600", file.display());
            let hanging = tokio::time::timeout(Duration::from_secs(2), shell(&script)).await;
            assert!(hanging.is_err(), "it was given up");
            let pid = std::fs::read_to_string(&file).unwrap();
            let status = format!("/proc/{}/status", pid.trim());
            // Killed at once, and reaped when the runtime gets to it.
            let is_alive =
                || std::fs::read_to_string(&status).is_ok_and(|text| !text.contains("(zombie)"));
            for _ in 0..600 {
                if !is_alive() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("the program outlives its caller");
        });
    }
}
