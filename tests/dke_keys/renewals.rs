//! One login and several processes: what renews a token is good once, as issuers
//! that rotate it have it.

use std::collections::HashSet;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::rig::{NAME, Rig};
use crate::support::cli::{Dir, wait};
use crate::support::key_service::{CLIENT, RsaKey, SCOPE, token_number};
use crate::support::proxy::Fault;
use crate::support::service::eventually;
use crate::support::tls::Authority;

const PROCESSES: usize = 5;

/// A service whose issuer takes its time, and a home with a login and an
/// encrypted file.
struct Desk {
    rig: Rig,
    dir: Dir,
}

impl Desk {
    fn new() -> Self {
        let rig = Rig::new();
        rig.service.change(NAME, |key| key.tokens.extend((1..100).map(token_number)));
        let dir = Dir::new();
        let (uri, pin, issuer) = (rig.uri(), RsaKey::of(1).pin, rig.proxy.url());
        let ca = Authority::trusted().certificate();
        let mut args = vec!["init", "--dev-provider", "--customer", &uri, "--pin", &pin];
        args.extend(["--ca-file", ca.to_str().unwrap(), "--issuer", &issuer]);
        args.extend(["--client-id", CLIENT, "--scope", SCOPE]);
        dir.run(args).ok();
        Self { rig, dir }
    }

    fn log_in(&self) {
        self.dir.run(["login"]).ok();
        self.dir.write("a", "secret");
        self.dir.run(["encrypt", "a", "--force"]).ok();
    }

    fn start_decrypting(&self) -> Child {
        let mut command = self.dir.command();
        command.args(["decrypt", "a.twl", "-o", "-"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn decrypt_side_by_side(&self) {
        let running: Vec<_> = (0..PROCESSES).map(|_| self.start_decrypting()).collect();
        for child in running {
            assert_eq!(wait(child).ok().stdout, b"secret");
        }
    }

    fn issuer_takes(&self, time: Duration) {
        self.rig.proxy.inject("token", Fault::Delay(time));
    }

    /// What the issuer got to renew tokens with, in order.
    fn refresh_tokens(&self) -> Vec<String> {
        let of = |body: &[u8]| {
            let form: Vec<_> = url::form_urlencoded::parse(body).into_owned().collect();
            form.into_iter().find(|(name, _)| name == "refresh_token").map(|(_, value)| value)
        };
        let calls = self.rig.proxy.calls();
        calls.iter().filter_map(|(_, request)| of(&request.body)).collect()
    }
}

#[test]
fn a_token_that_is_refused_is_renewed_once_for_all_processes() {
    let desk = Desk::new();
    desk.log_in();
    desk.issuer_takes(Duration::from_millis(500));
    // Its time is not over, as far as the file says, but the service refuses it.
    desk.rig.service.end_tokens();
    desk.rig.service.change(NAME, |key| _ = key.tokens.remove(&token_number(1)));
    desk.decrypt_side_by_side();
    assert_eq!(desk.refresh_tokens(), ["refresh-1"], "the others waited for it");
    desk.decrypt_side_by_side();
    assert_eq!(desk.refresh_tokens().len(), 1);
}

#[test]
fn processes_that_each_renew_a_login_hand_it_on() {
    let desk = Desk::new();
    desk.rig.service.give_for(0); // over as soon as it is given
    desk.log_in();
    desk.issuer_takes(Duration::from_millis(50));
    for _ in 0..3 {
        desk.decrypt_side_by_side();
    }
    let used = desk.refresh_tokens();
    assert!(used.len() >= 3 * PROCESSES, "{used:?}");
    let different: HashSet<_> = used.iter().collect();
    assert_eq!(different.len(), used.len(), "each was used once: {used:?}");
}

#[test]
fn a_login_that_is_being_renewed_stays_forgotten_after_a_logout() {
    let desk = Desk::new();
    desk.rig.service.give_for(0);
    desk.log_in();
    desk.issuer_takes(Duration::from_secs(1));
    let before = desk.refresh_tokens().len();
    let renewing = desk.start_decrypting();
    eventually("the renewal has begun", || desk.refresh_tokens().len() > before);
    assert_eq!(desk.dir.run(["--json", "logout"]).ok().json()["removed"], true);
    assert_eq!(wait(renewing).ok().stdout, b"secret");
    let ended = desk.dir.run(["decrypt", "a.twl", "-o", "-"]).with(2);
    assert!(ended.stderr.contains("nobody is logged in"), "{}", ended.stderr);
}

#[test]
fn a_process_that_is_killed_while_it_renews_leaves_a_login_to_renew() {
    let desk = Desk::new();
    desk.rig.service.give_for(0);
    desk.log_in();
    // Killed before the issuer has heard of it.
    desk.rig.proxy.inject("metadata", Fault::Delay(Duration::from_secs(60)));
    let before = desk.rig.proxy.count("metadata");
    let mut killed = desk.start_decrypting();
    eventually("the renewal has begun", || desk.rig.proxy.count("metadata") > before);
    killed.kill().unwrap();
    killed.wait().unwrap();
    desk.rig.proxy.heal();
    desk.decrypt_side_by_side();
}
