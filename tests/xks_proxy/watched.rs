//! What operators watch it by: metrics, alerts, and systemd.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use super::proxy::{Proxy, encrypt_request, eventually};
use crate::ops::every_expression_has_what_it_asks_for;

#[test]
fn every_expression_of_alerts_and_dashboard_has_what_it_asks_for() {
    let proxy = Proxy::start();
    let encrypted = proxy.encrypt(b"x").ok();
    proxy.decrypt(&encrypted).ok();
    every_expression_has_what_it_asks_for("twinlock-xks", proxy.operations);
}

/// Prometheus sees no increase in a counter that begins with 1.
#[test]
fn what_alerts_count_is_counted_from_nothing() {
    let proxy = Proxy::start();
    for name in [
        "reloads_total{result=\"refused\"}",
        "connections_ended_total{reason=\"shed\"}",
        "log_dropped_total{log=\"requests\"}",
        "policy_denials_total{key_store=\"/tenant-a\",dry_run=\"false\"}",
    ] {
        assert_eq!(proxy.metric(&format!("twinlock_xks_{name}")), Some(0.0), "{name}");
    }
}

#[test]
fn the_clock_of_who_signs_is_watched() {
    let proxy = Proxy::start();
    let mut signer = proxy.signer();
    signer.now = SystemTime::now() + Duration::from_secs(200);
    let body = encrypt_request(b"x").to_string();
    let path = format!("{}/keys/k/encrypt", super::proxy::PATH);
    proxy.send(&signer.post(&proxy.address.to_string(), &path, body.as_bytes())).ok();
    let ahead = proxy.metric("twinlock_xks_clock_ahead_seconds").unwrap();
    assert!((80.0..=201.0).contains(&ahead), "{ahead}");
}

#[test]
fn an_hsm_that_is_not_configured_any_more_is_forgotten() {
    let proxy = Proxy::start();
    let health = |hsm| proxy.metric(&format!("twinlock_xks_hsm_health{{hsm=\"{hsm}\"}}"));
    eventually("its health is shown", || health("a") == Some(2.0));
    let renamed = proxy.config().replace("name = \"a\"", "name = \"b\"");
    proxy.write_config(&renamed.replace("hsms = [\"a\"]", "hsms = [\"b\"]"));
    eventually("the other is shown", || health("b") == Some(2.0));
    assert_eq!(health("a"), None);
}

/// `Type=notify`: without READY=1, systemd ends it.
#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_reloads() {
    let mut proxy = Proxy::prepared();
    let socket = proxy.dir.home().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    proxy.dir.set("NOTIFY_SOCKET", socket);
    proxy.write_config(&proxy.config());
    proxy.run();
    let told = || {
        let mut message = [0; 256];
        let len = systemd.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    };
    assert_eq!(told(), "READY=1");
    // It is heard from then on, and does not end the process.
    proxy.signal(Signal::HUP);
    assert!(told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(), "READY=1");
    assert_eq!(proxy.stop(), Some(0));
    assert_eq!(told(), "STOPPING=1");
}
