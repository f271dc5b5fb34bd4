//! Clients that mean no good, and what a handshake shows.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::client;
use super::issuer::{ALICE, ISSUER, Token};
use super::service::{
    Dke, HOST, NEW, confidential, decrypt_body, decrypt_request, eventually, path_of,
};
use crate::support::http::Message;
use crate::support::proxy::Fault;
use crate::support::tls::{self, Authority, handshake};
use crate::xks_proxy::proxy::Proxy;

/// Some builds of Office break the connection when they are asked for a
/// certificate, even for one that they need not have.
#[test]
fn no_client_is_asked_for_a_certificate() {
    let dke = Dke::start();
    for version in ["-tls1_2", "-tls1_3"] {
        let seen = handshake(s_client(&dke), version);
        assert!(seen.contains("Finished") && seen.contains("(ok)"), "{seen}");
        assert!(!seen.contains("CertificateRequest"), "{seen}");
    }
}

/// The same look at a service of ours that does ask: there it is seen.
#[test]
fn a_request_for_a_certificate_would_be_seen() {
    let ca = Authority::trusted().certificate();
    let proxy = Proxy::asking_for_certificates();
    for version in ["-tls1_2", "-tls1_3"] {
        let seen = handshake(tls::s_client(proxy.address, "localhost", &ca), version);
        assert!(seen.contains("CertificateRequest"), "{seen}");
    }
}

/// Entrust's note: clients without it exist.
#[test]
fn tls_1_2_without_an_extended_master_secret_is_served() {
    let dke = Dke::start();
    let folder = tempfile::tempdir().unwrap();
    let config = "openssl_conf = c\n[c]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\n\
                  Options = -ExtendedMasterSecret\n";
    std::fs::write(folder.path().join("openssl.cnf"), config).unwrap();
    let mut openssl = s_client(&dke);
    openssl.arg("-tls1_2").env("OPENSSL_CONF", folder.path().join("openssl.cnf"));
    let output = openssl.output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout);
    assert!(seen.contains("Extended master secret: no"), "{seen}");
    assert!(seen.contains("Verify return code: 0 (ok)"), "{seen}");
}

#[test]
fn old_versions_of_tls_are_refused() {
    let dke = Dke::start();
    for version in ["-tls1", "-tls1_1"] {
        let mut openssl = s_client(&dke);
        openssl.args([version, "-cipher", "ALL:@SECLEVEL=0"]);
        let output = openssl.output().unwrap();
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

fn s_client(dke: &Dke) -> Command {
    tls::s_client(dke.address, HOST, &dke.dir.home().join("ca.pem"))
}

/// Bodies of any size from whoever has no token: they are not read.
#[test]
fn a_long_body_without_a_token_takes_no_memory_and_no_token() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    dke.decrypt(&public, &public.encrypt(b"x")).ok();
    let (memory, decryptions) = (dke.peak_memory(), dke.decryptions());
    let piece = vec![b'x'; 1 << 20];
    let authorizations = [
        String::new(),
        "authorization: Bearer garbage\r\n".to_owned(),
        {
            let mallory = Token::of("mallory@example.org").signed();
            format!("authorization: Bearer {mallory}\r\n")
        },
        {
            let alice = Token::of(ALICE).signed();
            format!("authorization: Bearer {alice}\r\n")
        },
    ];
    for authorization in &authorizations {
        for length in ["transfer-encoding: chunked", "content-length: 4000000000"] {
            let mut connection =
                client::connect(dke.address, HOST, dke.authority.client()).unwrap();
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n\
                 {authorization}{length}\r\n\r\n",
                confidential(NEW)
            );
            let _ = connection.write_all(head.as_bytes());
            for _ in 0..50 {
                let size = format!("{:x}\r\n", piece.len());
                let chunk = match length.starts_with("transfer") {
                    true => [size.as_bytes(), &piece[..], b"\r\n"].concat(),
                    false => piece.clone(),
                };
                if connection.write_all(&chunk).is_err() {
                    break;
                }
            }
        }
    }
    let grown = dke.peak_memory().saturating_sub(memory);
    assert!(grown < 20 << 20, "{grown} bytes");
    assert_eq!(dke.decryptions(), decryptions);
}

/// A token is made of whatever its maker likes. While the keys of its issuer are
/// waited for it takes no more than its own length.
#[test]
fn made_up_tokens_that_wait_for_keys_take_no_memory() {
    const AT_A_TIME: u64 = 200;
    let mut dke = Dke::prepared();
    dke.write_config(&dke.config());
    dke.issuer.fail(&Fault::Delay(Duration::from_secs(60)));
    dke.run();
    eventually("it listens", || TcpStream::connect(dke.address).is_ok());
    let connect = |_| client::connect(dke.address, HOST, dke.authority.client()).unwrap();
    let mut connections: Vec<_> = (0..AT_A_TIME).map(connect).collect();
    let memory = dke.peak_memory();
    // Objects of one member each, a hundred times as long in memory. Nobody signed it.
    let claims = format!("{{\"iss\":\"{ISSUER}\",\"a\":[{}{{}}]}}", "{\"\":0},".repeat(1400));
    let good = Token::of(ALICE).signed();
    let (header, _) = good.split_once('.').unwrap();
    let token = format!("{header}.{}.AAAA", BASE64_URL_SAFE_NO_PAD.encode(claims));
    assert!((12 << 10..16 << 10).contains(&token.len()), "{}", token.len());
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\ncontent-length: 0\r\n\r\n",
        confidential(NEW)
    );
    connections.iter_mut().for_each(|it| it.write_all(head.as_bytes()).unwrap());
    for mut connection in connections {
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 503"), "{}", String::from_utf8_lossy(&answer));
    }
    let each = dke.peak_memory().saturating_sub(memory) / AT_A_TIME;
    assert!(each < 150 << 10, "{each} bytes each, with the buffers of a connection");
}

/// Whatever comes, and however much of it: the token is asked for those who may,
/// and for nobody else.
#[test]
fn load_without_a_good_token_never_reaches_the_hsm() {
    let dke = Dke::with(|config| config.replace("sessions = 2", "sessions = 1"));
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    dke.decrypt(&public, &ciphertext).ok();
    let calls = || ["C_DecryptInit", "C_Decrypt"].map(|function| dke.module.count(function));
    let before = calls();
    let path = path_of(&public.id);
    let requests: Vec<_> = [
        "garbage".to_owned(),
        Token::of(ALICE).unsigned(),
        Token::of(ALICE).with("aud", "x").signed(),
        Token::of("mallory@example.org").signed(),
    ]
    .iter()
    .map(|token| decrypt_request(token, &path, &ciphertext))
    .chain([Message::new(
        &format!("POST {path} HTTP/1.1"),
        &[("host", HOST), ("content-type", "application/json")],
        decrypt_body(&ciphertext).to_string().as_bytes(),
    )])
    .chain([Message::new("GET /Confidential HTTP/1.1", &[("host", HOST)], b"")])
    .collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    for request in &requests {
                        let _ = dke.send(request);
                    }
                }
            });
        }
    });
    assert_eq!(calls(), before);
    assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
    assert_ne!(calls(), before, "it is counted");
}

/// Whatever is sent, whoever has a token is served, and nothing grows.
#[test]
fn hostile_clients_get_nothing_and_others_are_served() {
    let mut dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    let head = format!("POST {} HTTP/1.1\r\nhost: {HOST}\r\n", confidential(NEW));
    let attacks = [
        format!("{head}content-length: 4000000000\r\n\r\n").into_bytes(),
        format!("{head}{}\r\n", "x-header: value\r\n".repeat(20_000)).into_bytes(),
        format!("{head}authorization: Bearer {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
        format!("{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n").into_bytes(),
        format!("{head}content-length: 4\r\ncontent-length: 5\r\n\r\n{{}}{{}}").into_bytes(),
        format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "x".repeat(100_000)).into_bytes(),
        format!("GET /%00%ff%2e%2e HTTP/1.1\r\nhost: {HOST}\r\n\r\n").into_bytes(),
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage".to_vec(),
        vec![0; 100_000],
    ];
    let half_open: Vec<_> = (0..200).map(|_| TcpStream::connect(dke.address).unwrap()).collect();
    for attack in &attacks {
        // Inside TLS, and in its place.
        let mut connection = client::connect(dke.address, HOST, dke.authority.client()).unwrap();
        connection.sock.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = connection.write_all(attack); // it may be refused before its end
        connection.conn.send_close_notify();
        let _ = connection.flush();
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{}", String::from_utf8_lossy(&answer));
        let mut plain = TcpStream::connect(dke.address).unwrap();
        let _ = plain.write_all(attack);
        let _ = plain.shutdown(Shutdown::Write);
        let _ = plain.read_to_end(&mut Vec::new());
        assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
    }
    drop(half_open);
    assert!(dke.is_running());
    assert!(!dke.said().contains("panicked"), "{}", dke.said());
}

/// Heads with a good token and no body: they take nobody's place.
#[test]
fn heads_without_bodies_keep_nobody_out() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    let ciphertext = public.encrypt(b"x");
    let head = |token: &str| {
        format!(
            "POST {} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n\
             authorization: Bearer {token}\r\ncontent-length: 1000\r\n\r\n",
            confidential(NEW)
        )
    };
    let heads = [head("garbage"), head(&Token::of(ALICE).signed())];
    let silent: Vec<_> = (0..200)
        .map(|number| {
            let mut connection =
                client::connect(dke.address, HOST, dke.authority.client()).unwrap();
            connection.write_all(heads[number % 2].as_bytes()).unwrap();
            connection
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(dke.decrypt(&public, &ciphertext).plaintext(), b"x");
    }
    drop(silent);
}
