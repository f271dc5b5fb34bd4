//! What operators watch it by: metrics and alerts.

use super::issuer::{ALICE, ISSUER, Token};
use super::service::{Dke, eventually, reloaded};
use crate::ops::every_expression_has_what_it_asks_for;

#[test]
fn every_expression_of_alerts_and_dashboard_has_what_it_asks_for() {
    let dke = Dke::start();
    let public = dke.public_key("Confidential");
    assert_eq!(dke.decrypt(&public, &public.encrypt(b"x")).plaintext(), b"x");
    eventually("the age of keys is shown", || age_of_keys(&dke, ISSUER).is_some());
    every_expression_has_what_it_asks_for("twinlock-dke", dke.operations);
}

/// Prometheus sees no increase in a counter that begins with 1.
#[test]
fn what_alerts_count_is_counted_from_nothing() {
    let dke = Dke::start();
    for name in [
        "reloads_total{result=\"refused\"}",
        "connections_ended_total{reason=\"shed\"}",
        "log_dropped_total{log=\"requests\"}",
        "tokens_total{outcome=\"invalid\"}",
        "tokens_total{outcome=\"unavailable\"}",
    ] {
        assert_eq!(dke.metric(&format!("twinlock_dke_{name}")), Some(0.0), "{name}");
    }
}

#[test]
fn tokens_are_counted_by_what_became_of_them() {
    let dke = Dke::start();
    let count = |outcome| {
        let name = format!("twinlock_dke_tokens_total{{outcome=\"{outcome}\"}}");
        dke.metric(&name).unwrap()
    };
    dke.try_token(&Token::of(ALICE).signed()).with(200);
    // Who may not is somebody all the same.
    dke.try_token(&Token::of("mallory@example.org").signed()).with(403);
    dke.try_token("a.b.c").with(401);
    dke.ask("POST", "/Confidential/x/decrypt").with(401);
    assert_eq!((count("good"), count("invalid"), count("unavailable")), (2.0, 1.0, 0.0));
}

#[test]
fn an_issuer_that_is_not_configured_any_more_is_forgotten() {
    let dke = Dke::start();
    eventually("its keys are known", || age_of_keys(&dke, ISSUER).is_some());
    let other = "https://sts.example.org/";
    reloaded(&dke, &dke.config().replace(ISSUER, other));
    eventually("it is forgotten", || age_of_keys(&dke, ISSUER).is_none());
}

fn age_of_keys(dke: &Dke, issuer: &str) -> Option<f64> {
    dke.metric(&format!("twinlock_dke_issuer_keys_age_seconds{{issuer=\"{issuer}\"}}"))
}
