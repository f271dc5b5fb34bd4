//! What changes while it runs: files, signals; and its other verbs.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::client;
use super::issuer::{ALICE, Token};
use super::service::{Dke, HOST, ONLY, eventually, key, reloaded, reloads};
use crate::support::cli::run;
use crate::support::kind::Kind;
use crate::support::service::Stop;
use crate::support::softhsm::{TOKEN, module};

/// Decrypts all the time while `work` is done; none of it may fail.
fn under_load(dke: &Dke, work: impl FnOnce()) {
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"load");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"load");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let enough = |more: usize| {
            let goal = answered.load(Ordering::Relaxed) + more;
            eventually("requests are answered", || answered.load(Ordering::Relaxed) >= goal);
        };
        let _stop = Stop(&stop);
        enough(10);
        work();
        enough(10);
    });
}

#[test]
fn a_certificate_is_replaced_without_a_failed_request() {
    let dke = Dke::start();
    assert_eq!(serial(&dke), [1]);
    under_load(&dke, || {
        dke.authority.write(&dke.dir.home(), HOST, 2);
        eventually("the new one is shown", || serial(&dke) == [2]);
    });
}

/// Of the certificate that a new connection is shown.
fn serial(dke: &Dke) -> Vec<u8> {
    let mut connection = client::connect(dke.address, HOST, dke.authority.client()).unwrap();
    while connection.conn.is_handshaking() {
        connection.conn.complete_io(&mut connection.sock).unwrap();
    }
    let certificate = connection.conn.peer_certificates().unwrap()[0].to_vec();
    // RFC 5280 section 4.1: the version, and then the serial number.
    let version = [0xa0, 3, 2, 1, 2, 2];
    let at = certificate.windows(6).position(|bytes| bytes == version).unwrap() + version.len();
    certificate[at + 1..][..usize::from(certificate[at])].to_vec()
}

#[test]
fn a_broken_configuration_changes_nothing_and_says_so() {
    let dke = Dke::start();
    let good = dke.config();
    for (broken, reason) in [
        ("not toml".to_owned(), "service.toml:1"),
        (good.clone() + "frobnicate = 1\n", "frobnicate"),
        (good.replace("hsms = [\"a\"]", "hsms = [\"b\"]"), "there is no hsm"),
        (good.clone() + &key("Open", "spare", ""), "Open"),
    ] {
        let before = reloads(&dke, "refused");
        under_load(&dke, || {
            dke.write_config(&broken);
            dke.signal(Signal::HUP);
            eventually("it is refused", || reloads(&dke, "refused") > before);
        });
        eventually("it says why", || dke.said().contains(reason));
    }
    reloaded(&dke, &good);
}

/// What would let too many in, or give one key two purposes.
#[test]
fn a_configuration_that_is_not_safe_does_not_start() {
    let dke = Dke::prepared();
    let good = dke.config();
    let client = format!(
        "key = \"{0}/server.key\", client = {{ ca = \"{0}/ca.pem\", subjects = [\"x\"] }} }}",
        dke.dir.home().display()
    );
    let server_key = format!("key = \"{}/server.key\" }}", dke.dir.home().display());
    let two_numbers = good.replace("number = 2", "number = 1");
    for (what, config) in [
        ("a key without an authorizer", good.clone() + &key("Open", "spare", "")),
        ("a key with empty lists", good.clone() + &key("Open", "spare", "users = []")),
        ("one name twice", good.clone() + &key("Other", "spare", "users = [\"*\"]")),
        ("one object for two keys", good.clone() + &key("Second", "other", "users = [\"x\"]")),
        ("an object with two purposes", {
            let shares = key("Second", "other", "users = [\"x\"]");
            good.clone() + &shares.replace("microsoft-label", "shares")
        }),
        ("one number twice", two_numbers),
        ("no issuer", good.replace("[[issuer]]", "[[issuers]]")),
        (
            "a name that clients cannot ask for",
            good.clone() + &key("a/b", "spare", "users = [\"x\"]"),
        ),
        (
            "no generation",
            good.replace(&format!("[{{ number = 1, id = \"{ONLY}\", object = \"other\" }}]"), "[]"),
        ),
        (
            "a public address without TLS",
            good.replace("https://dke.test\"\n\n[listen]", "http://dke.test\"\n\n[listen]"),
        ),
        ("certificates of clients", good.replace(&server_key, &client)),
        ("HMAC as an algorithm", good.replacen("ca = ", "algorithms = [\"HS256\"]\nca = ", 1)),
        ("no algorithm", good.replacen("ca = ", "algorithms = [\"none\"]\nca = ", 1)),
    ] {
        assert_ne!(config, good, "{what}");
        dke.write_config(&config);
        let ended = run(dke.command("check-config"), b"");
        assert_ne!(ended.code, Some(0), "{what}: {}", ended.text());
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        let said = ended.text() + &ended.stderr;
        assert!(said.len() > 20, "{what}: {said}");
    }
    dke.write_config(&good);
    run(dke.command("check-config"), b"").ok();
}

#[test]
fn check_config_looks_at_everything_and_serves_nothing() {
    let dke = Dke::prepared();
    dke.write_config(&dke.config());
    let checked = run(dke.command("check-config"), b"").ok();
    assert!(checked.text().contains("Confidential"), "{}", checked.text());
    let token = format!("hsm a: {}, logged in", Kind::of_this_run().model());
    assert!(checked.text().contains(&token), "{}", checked.text());
    for (change, to, reason) in
        [("\"dke-2025\"", "\"dke-1999\"", "dke-1999"), ("token=tests", "token=other", "other")]
    {
        dke.write_config(&dke.config().replace(change, to));
        let checked = run(dke.command("check-config"), b"").with(1);
        assert!(checked.text().contains(reason), "{}", checked.text());
    }
}

/// Whoever may ask Entra ID for a token of this audience gets one for any application.
#[test]
fn check_config_warns_of_an_issuer_whose_tokens_any_application_may_have() {
    let dke = Dke::prepared();
    let warns = |config: &str| {
        dke.write_config(config);
        let said = run(dke.command("check-config"), b"").ok().text();
        said.lines().any(|line| line.starts_with("warning") && line.contains("any application"))
    };
    let scopes = "scopes = [\"user_impersonation\"]\n";
    assert!(!warns(&dke.config()));
    assert!(warns(&dke.config().replace(scopes, "")));
    assert!(!warns(&dke.config().replace(scopes, "clients = [\"some-application\"]\n")));
}

#[test]
fn check_config_sees_that_two_hsms_are_one_token() {
    let dke = Dke::prepared();
    let again = format!("token={TOKEN};model={}?", Kind::of_this_run().model().replace(' ', "%20"));
    let second = format!(
        "[[hsm]]\nname = \"b\"\ntoken = \"pkcs11:{again}module-path={}\"\n\
         pin = {{ file = \"{}/pin\" }}\nsessions = 2\n\n[[key]]",
        module().display(),
        dke.dir.home().display()
    );
    dke.write_config(&dke.config().replacen("[[key]]", &second, 1));
    let checked = run(dke.command("check-config"), b"").with(1);
    assert!(checked.text().contains("hsms a and b are one token"), "{}", checked.text());
}

/// Nobody has to tell it.
#[test]
fn a_changed_file_that_the_configuration_names_is_read_again() {
    let dke = Dke::start();
    let file = dke.dir.home().join("policy.rego");
    let policy = |decision: &str| format!("package twinlock.dke\n\ndefault allow := {decision}\n");
    fs::write(&file, policy("true")).unwrap();
    let access = format!("users = [\"{ALICE}\"], policy = \"{}\"", file.display());
    reloaded(&dke, &(dke.config() + &key("Ruled", "spare", &access)));
    let public = dke.public_key("Ruled");
    let ciphertext = public.encrypt(b"x");
    assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
    fs::write(&file, policy("false")).unwrap();
    eventually("the new policy decides", || dke.decrypt(&public, &ciphertext).status == 403);
}

#[test]
fn a_user_is_taken_off_the_list_while_it_runs() {
    let dke = Dke::start();
    let public = dke.public_key("Other");
    let ciphertext = public.encrypt(b"x");
    let bob = Token::of("bob@example.org");
    dke.decrypt_with(&bob, &public, &ciphertext).with(403);
    let with_bob =
        dke.config().replace(&format!("users = [\"{ALICE}\"]"), "users = [\"bob@example.org\"]");
    reloaded(&dke, &with_bob);
    assert_eq!(dke.decrypt_with(&bob, &public, &ciphertext).plaintext(), b"x");
    dke.decrypt(&public, &ciphertext).with(403);
}

/// Readiness ends, what is in flight is answered, sessions are closed.
#[test]
fn on_sigterm_what_is_in_flight_is_answered() {
    let mut dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    dke.decrypt(&public, &ciphertext).ok();
    dke.faults("C_Decrypt delay 1500ms");
    let before = dke.module.count("C_Decrypt");
    let (address, trust) = (dke.address, dke.authority.client());
    let token = Token::of(ALICE).signed();
    let request =
        super::service::decrypt_request(&token, &super::service::path_of(&public.id), &ciphertext);
    let answer = thread::scope(|scope| {
        let asking = scope.spawn(move || {
            client::exchange(client::connect(address, HOST, trust).unwrap(), &request)
        });
        eventually("it is in the token", || dke.module.count("C_Decrypt") > before);
        assert_eq!(dke.stop(), Some(0));
        asking.join().unwrap().unwrap()
    });
    assert_eq!(answer.plaintext(), b"x");
    assert!(std::net::TcpStream::connect(dke.address).is_err());
    assert!(dke.module.count("C_CloseSession") >= 1);
}

#[test]
fn one_that_is_killed_under_load_starts_again_and_decrypts() {
    let mut dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    let stop = AtomicBool::new(false);
    let (address, trust) = (dke.address, dke.authority.client());
    let token = Token::of(ALICE).signed();
    let path = super::service::path_of(&public.id);
    let request = super::service::decrypt_request(&token, &path, &ciphertext);
    thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let connection = client::connect(address, HOST, trust.clone());
                let _ = connection.and_then(|it| client::exchange(it, &request)); // it dies
            }
        });
        let _stop = Stop(stop);
        dke.kill();
        dke.run();
        dke.wait_until_ready();
    });
    assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
}

#[test]
fn a_log_that_cannot_be_written_costs_no_request() {
    let dke = Dke::with(|config| {
        let from = config.find("requests = ").unwrap();
        let to = from + config[from..].find('\n').unwrap();
        format!("{}requests = \"/dev/full\"{}", &config[..from], &config[to..])
    });
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    for _ in 0..20 {
        assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
    }
    let lost = "twinlock_dke_log_dropped_total{log=\"requests\"}";
    eventually("what is lost is counted", || dke.metric(lost).is_some_and(|lost| lost > 0.0));
}

/// `Type=notify`: without READY=1, systemd ends it.
#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_reloads() {
    let mut dke = Dke::prepared();
    let socket = dke.dir.home().join("notify");
    let systemd = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    dke.dir.set("NOTIFY_SOCKET", socket);
    dke.write_config(&dke.config());
    dke.run();
    let told = || {
        let mut message = [0; 256];
        let len = systemd.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    };
    assert_eq!(told(), "READY=1");
    dke.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(), "READY=1");
    assert_eq!(dke.stop(), Some(0));
    assert_eq!(told(), "STOPPING=1");
}
