//! What changes while it runs: files, signals, clients.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::proxy::{ID, PATH, Proxy, SECRET, eventually, metadata, names, xks_program};
use super::signed::Signer;
use crate::support::cli::run;
use crate::support::service::Stop;
use crate::support::softhsm::write_private;

/// Encrypts and decrypts all the time while `work` is done; none of it may fail.
pub(super) fn under_load(proxy: &Proxy, work: impl FnOnce()) {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let encrypted = proxy.encrypt(b"load").ok();
                    proxy.decrypt(&encrypted).ok();
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

fn reloads(proxy: &Proxy, result: &str) -> f64 {
    let name = format!("twinlock_xks_reloads_total{{result=\"{result}\"}}");
    proxy.metric(&name).unwrap_or(0.0)
}

#[test]
fn credentials_are_rotated_without_a_failed_request() {
    let proxy = Proxy::start();
    let (new_id, new_secret) = ("NEWCREDENTIALAAAAAAA", SECRET.to_uppercase().replace('_', "A"));
    write_private(&proxy.dir.home().join("new-secret"), &new_secret);
    let with_new = |config: String| {
        let secret = proxy.dir.home().join("new-secret");
        let added = format!(
            "[[key_store.credential]]\naccess_key_id = \"{new_id}\"\n\
             secret_access_key = {{ file = \"{}\" }}\n\n[[key_store.key]]",
            secret.display()
        );
        config.replacen("[[key_store.key]]", &added, 1)
    };
    let ask_as = |id: &str, secret: &str| {
        let body = json!({ "requestMetadata": metadata() }).to_string();
        let host = proxy.address.to_string();
        let signer = Signer::new(id, secret);
        proxy.send(&signer.post(&host, &format!("{PATH}/health"), body.as_bytes()))
    };
    assert_eq!(ask_as(new_id, &new_secret).status, 401);
    // No signal: the file itself is watched.
    under_load(&proxy, || {
        proxy.write_config(&with_new(proxy.config()));
        eventually("the new one is valid", || ask_as(new_id, &new_secret).status == 200);
    });
    assert_eq!(ask_as(ID, SECRET).status, 200, "and the old one still is");
    let without_old = with_new(proxy.config()).replacen(
        &format!("[[key_store.credential]]\naccess_key_id = \"{ID}\"\nsecret_access_key = {{ file = \"{}\" }}\n",
            proxy.dir.home().join("secret").display()),
        "",
        1,
    );
    proxy.write_config(&without_old);
    proxy.signal(rustix::process::Signal::HUP);
    eventually("the old one is not", || ask_as(ID, SECRET).status == 401);
    assert_eq!(ask_as(new_id, &new_secret).status, 200);
}

#[test]
fn a_broken_configuration_changes_nothing_and_says_so() {
    let proxy = Proxy::start();
    for (broken, reason) in [
        ("not toml".to_owned(), "service.toml:1"),
        (proxy.config() + "frobnicate = 1\n", "frobnicate"),
        (proxy.config().replace("hsms = [\"a\"]", "hsms = [\"b\"]"), "there is no hsm"),
        (proxy.config().replace("/secret\"", "/no-secret\""), "no-secret"),
        (proxy.config().replace("token=tests?", "token=tests?x=1&"), "x"),
    ] {
        let before = reloads(&proxy, "refused");
        under_load(&proxy, || {
            proxy.write_config(&broken);
            proxy.signal(rustix::process::Signal::HUP);
            eventually("it is refused", || reloads(&proxy, "refused") > before);
        });
        eventually("it says why", || proxy.said().contains(reason));
    }
}

#[test]
fn a_proxy_that_is_killed_under_load_starts_again_and_decrypts() {
    let mut proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"before").ok();
    let stop = AtomicBool::new(false);
    let address = proxy.address;
    thread::scope(|scope| {
        let request = proxy.post("keys/k/encrypt", &super::proxy::encrypt_request(b"x"));
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = crate::support::http::exchange(address, &request); // it dies
            }
        });
        let _stop = Stop(stop);
        proxy.kill();
        proxy.run();
        proxy.wait_until_ready();
    });
    proxy.decrypt(&encrypted).ok();
    assert!(names(&proxy.dir.home().join("state")).contains(&"encryptions.json".to_owned()));
}

/// Readiness ends, what is in flight is answered, sessions are closed.
#[test]
fn on_sigterm_what_is_in_flight_is_answered() {
    let mut proxy = Proxy::start();
    proxy.encrypt(b"x").ok();
    proxy.faults("C_Encrypt delay 1500ms");
    let before = proxy.module.count("C_Encrypt");
    let answered = thread::scope(|scope| {
        let request = proxy.post("keys/k/encrypt", &super::proxy::encrypt_request(b"x"));
        let address = proxy.address;
        let asking = scope.spawn(move || crate::support::http::exchange(address, &request));
        eventually("it is in the token", || proxy.module.count("C_Encrypt") > before);
        assert_eq!(proxy.stop(), Some(0));
        asking.join().unwrap().unwrap()
    });
    assert!(answered.first_line.contains(" 200 "), "{}", answered.first_line);
    assert!(TcpStream::connect(proxy.address).is_err());
    assert!(proxy.module.count("C_CloseSession") >= 1);
}

#[test]
fn a_log_that_cannot_be_written_costs_no_request() {
    let proxy = Proxy::with(|config| {
        let from = config.find("requests = ").unwrap();
        let to = from + config[from..].find('\n').unwrap();
        format!("{}requests = \"/dev/full\"{}", &config[..from], &config[to..])
    });
    for _ in 0..20 {
        let encrypted = proxy.encrypt(b"x").ok();
        proxy.decrypt(&encrypted).ok();
    }
    let lost = "twinlock_xks_log_dropped_total{log=\"requests\"}";
    eventually("what is lost is counted", || proxy.metric(lost).is_some_and(|lost| lost > 0.0));
}

// === Hostile clients ===

/// Whatever is sent, whoever signs properly is served, and nothing grows.
#[test]
fn hostile_clients_get_nothing_and_others_are_served() {
    let mut proxy = Proxy::start();
    let host = proxy.address.to_string();
    let head = format!("POST {PATH}/health HTTP/1.1\r\nhost: {host}\r\n");
    let giant = format!("{head}content-length: 4000000000\r\n\r\n");
    let many = format!("{head}{}\r\n", "x-header: value\r\n".repeat(20_000));
    let long = format!("{head}x-header: {}\r\n\r\n", "x".repeat(1 << 20));
    let smuggled = format!(
        "{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    );
    let twice = format!("{head}content-length: 4\r\ncontent-length: 5\r\n\r\n{{}}{{}}");
    let attacks = [
        giant.into_bytes(),
        many.into_bytes(),
        long.into_bytes(),
        smuggled.into_bytes(),
        twice.into_bytes(),
        b"\x16\x03\x01\x02\x00".to_vec(),
        vec![0; 100_000],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage".to_vec(),
        b"POST /\xff\xfe HTTP/1.1\r\n\r\n".to_vec(),
    ];
    let half_open: Vec<_> = (0..200).map(|_| TcpStream::connect(proxy.address).unwrap()).collect();
    for attack in &attacks {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(attack); // it may be refused before its end
        let mut answer = Vec::new();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        proxy.encrypt(b"others").ok();
    }
    drop(half_open);
    assert!(proxy.is_running());
}

/// Heads that look as if KMS had sent them, from whoever knows the region, and then
/// nothing: they take nobody's place.
#[test]
fn forged_heads_without_bodies_keep_nobody_out() {
    let proxy = Proxy::start();
    let mut forged = proxy.post("health", &json!({ "requestMetadata": metadata() }));
    for (name, value) in &mut forged.headers {
        if name == "authorization" {
            let at = value.rfind('=').unwrap() + 1;
            value.replace_range(at.., &"0".repeat(64));
        }
    }
    let mut head = format!("{}\r\n", forged.first_line);
    for (name, value) in &forged.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "content-length: 100\r\n\r\n";
    let silent: Vec<_> = (0..600)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..50 {
        proxy.encrypt(b"x").ok();
    }
    drop(silent);
}

/// KMS gives up after a quarter of a second, and that must not be invisible.
#[test]
fn who_does_not_wait_for_the_answer_is_recorded_too() {
    let proxy = Proxy::start();
    proxy.encrypt(b"x").ok();
    proxy.faults("C_Encrypt delay 700ms");
    let before = proxy.module.count("C_Encrypt");
    let request = proxy.post("keys/k/encrypt", &super::proxy::encrypt_request(b"x"));
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    request.write(&mut stream).unwrap();
    eventually("it is in the token", || proxy.module.count("C_Encrypt") > before);
    drop(stream);
    eventually("it is recorded", || {
        proxy.records().iter().any(|record| record["outcome"] == "abandoned")
    });
}

/// Whoever writes to the disk waits for it, and nobody else.
#[test]
fn a_state_directory_that_hangs_stops_nobody() {
    let mut proxy = Proxy::start();
    proxy.encrypt(b"x").ok();
    let file = proxy.dir.home().join("state/encryptions.new");
    let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    // A new key has to be written down before it is used.
    proxy.write_config(&proxy.config().replace("object = \"key-1\"", "object = \"key-2\""));
    proxy.signal(rustix::process::Signal::HUP);
    thread::sleep(Duration::from_secs(5));
    for _ in 0..10 {
        proxy.encrypt(b"x").ok();
        assert!(proxy.get("/livez").unwrap().contains(" 200 "));
    }
    assert!(proxy.stop().is_some(), "it ends");
}

/// Nobody's body is read before somebody plausible signed its head.
#[test]
fn a_long_body_takes_no_memory() {
    let proxy = Proxy::start();
    let before = proxy.peak_memory();
    let piece = vec![b'x'; 1 << 20];
    for signed in [false, true] {
        let mut message = proxy.post("health", &json!({ "requestMetadata": metadata() }));
        if !signed {
            message.headers.retain(|(name, _)| name != "authorization");
        }
        let mut head = format!("{}\r\n", message.first_line);
        for (name, value) in &message.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        let _ = stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes());
        for _ in 0..200 {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece[..], b"\r\n"].concat();
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
    }
    let grown = proxy.peak_memory().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} bytes");
}

// === Verbs ===

#[test]
fn check_config_looks_at_everything_and_serves_nothing() {
    let proxy = Proxy::prepared();
    proxy.write_config(&proxy.config());
    let checked = run(proxy.command("check-config"), b"").ok();
    assert!(checked.text().contains("ok       hsm a") && checked.text().contains("/tenant-a:k:1"));
    for (change, to, reason) in [
        ("\"key-1\"", "\"key-9\"", "key-9"),
        ("\"health\"", "\"no-health\"", "no-health"),
        ("token=tests", "token=other", "other"),
    ] {
        proxy.write_config(&proxy.config().replace(change, to));
        let checked = run(proxy.command("check-config"), b"").with(1);
        assert!(
            checked.text().contains("PROBLEM") && checked.text().contains(reason),
            "{}",
            checked.text()
        );
    }
    proxy.write_config(&(proxy.config() + "frobnicate = 1"));
    let checked = run(proxy.command("check-config"), b"").with(2);
    assert!(checked.stderr.contains("frobnicate"), "{}", checked.stderr);
}

#[test]
fn credentials_have_the_form_that_aws_takes() {
    let create = || {
        let mut command = std::process::Command::new(xks_program());
        command.args(["credentials", "create", "--path", "/tenant-a"]);
        let ended = run(command, b"").ok();
        serde_json::from_slice::<serde_json::Value>(&ended.stdout).unwrap()
    };
    let (one, other) = (create(), create());
    assert_eq!(one["XksProxyUriPath"], PATH);
    let credential = &one["XksProxyAuthenticationCredential"];
    let id = credential["AccessKeyId"].as_str().unwrap();
    let secret = credential["RawSecretAccessKey"].as_str().unwrap();
    assert!((20..=30).contains(&id.len()) && (43..=64).contains(&secret.len()));
    assert_ne!(one, other);
}

#[test]
fn a_policy_is_tried_on_cases() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, cases) = (folder.path().join("p.rego"), folder.path().join("cases.toml"));
    fs::write(&policy, "package twinlock.xks\n\nallow if input.operation == \"Encrypt\"\n")
        .unwrap();
    let case = |name: &str, operation: &str, expect: &str| {
        format!(
            "[[case]]\nname = \"{name}\"\ninput = {{ operation = \"{operation}\" }}\nexpect = \"{expect}\"\n"
        )
    };
    let test = |text: String| {
        fs::write(&cases, text).unwrap();
        let mut command = std::process::Command::new(xks_program());
        command.args(["policy", "test", "--policy"]).arg(&policy).arg("--cases").arg(&cases);
        run(command, b"")
    };
    let good = case("one", "Encrypt", "allow") + &case("other", "Decrypt", "deny");
    assert!(test(good).ok().text().contains("other: denied"));
    let bad = test(case("wrong", "Decrypt", "allow")).with(1);
    assert!(
        bad.text().contains("FAILED  wrong") && bad.stderr.contains("1 of 1"),
        "{}",
        bad.stderr
    );
}
