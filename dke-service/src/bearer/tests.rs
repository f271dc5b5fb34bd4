//! Tokens of an issuer in this process: good ones, hostile ones, and an issuer
//! that is slow, down, or somebody else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::*;

const ORIGIN: &str = "https://dke.example.org";
const TENANT: &str = "11111111-2222-3333-4444-555555555555";

// === Good tokens ===

#[tokio::test]
async fn a_good_token_says_who_calls() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|_| {});
    let caller = bearer.verify(&issuer.token(|_| {})).await.unwrap();
    assert_eq!(caller.issuer(), issuer.name);
    assert_eq!(caller.user().as_deref(), Some("alice@example.org"));
    assert_eq!(caller.oid().as_deref(), Some("o-1"));
    assert_eq!(caller.tenant().as_deref(), Some(TENANT));
    assert_eq!(caller.client().as_deref(), Some("office"));
    assert_eq!(caller.claim("ver"), Some(&json!("1.0")));
    assert!(!format!("{caller:?}").contains("alice"), "{caller:?}");
}

#[tokio::test]
async fn what_is_tolerated_is_tolerated() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|settings| {
        settings.scopes = vec!["user_impersonation".to_owned()];
        settings.clients = vec!["office".to_owned()];
    });
    let now = seconds_from_now(0);
    for (what, change) in [
        ("aud with a slash", json!({"aud": format!("{ORIGIN}/")})),
        ("several audiences", json!({"aud": ["https://other.example", ORIGIN]})),
        ("just expired", json!({"exp": now - 200})),
        ("a fraction", json!({"exp": f64::from(u32::try_from(now).unwrap()) + 60.5})),
        ("nbf just ahead", json!({"nbf": now + 200})),
        ("several scopes", json!({"scp": "a user_impersonation b"})),
        ("scope of RFC 9068", json!({"scp": null, "scope": "user_impersonation"})),
        ("a list of scopes", json!({"scp": ["a", "user_impersonation"]})),
        ("azp of version 2", json!({"appid": null, "azp": "office"})),
    ] {
        let token = issuer.token(merge(change));
        assert!(bearer.verify(&token).await.is_ok(), "{what}");
    }
    let typed =
        sign(&RSA, &json!({"alg": "RS256", "kid": "k1", "typ": "at+jwt"}), &issuer.claims());
    assert!(bearer.verify(&typed).await.is_ok());
    let without = sign(&RSA, &json!({"alg": "RS256"}), &issuer.claims());
    assert!(bearer.verify(&without).await.is_ok(), "there is only one key that it can mean");
}

#[tokio::test]
async fn each_algorithm_that_is_configured_works_and_no_other() {
    let issuer = FakeIssuer::start().await;
    issuer.publish(json!([RSA.jwk("k1"), EC.jwk("k2")]));
    let tokens = [("RS256", "k1"), ("PS384", "k1"), ("ES256", "k2")].map(|(algorithm, kid)| {
        let key = if kid == "k1" { &*RSA } else { &*EC };
        (algorithm, sign(key, &json!({"alg": algorithm, "kid": kid}), &issuer.claims()))
    });
    for (configured, _) in &tokens {
        let bearer = issuer.bearer(|settings| settings.algorithms = vec![(*configured).to_owned()]);
        for (algorithm, token) in &tokens {
            let verified = bearer.verify(token).await;
            assert_eq!(verified.is_ok(), algorithm == configured, "{configured} {algorithm}");
        }
    }
}

// === Hostile tokens ===

#[tokio::test]
async fn claims_that_are_not_ours_are_refused() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|settings| {
        settings.tenant = Some(TENANT.to_owned());
        settings.scopes = vec!["user_impersonation".to_owned()];
        settings.clients = vec!["office".to_owned()];
    });
    let now = seconds_from_now(0);
    for (change, expected) in [
        (json!({"aud": "https://dke.example.org.evil.example"}), "another audience"),
        (json!({"aud": "https://dke.example.org//"}), "another audience"),
        (json!({"aud": "HTTPS://DKE.EXAMPLE.ORG"}), "another audience"),
        (json!({"aud": []}), "another audience"),
        (json!({"aud": [[ORIGIN]]}), "another audience"),
        (json!({"aud": {"0": ORIGIN}}), "another audience"),
        (json!({"aud": null}), "another audience"),
        (json!({"exp": now - 301}), "has expired"),
        (json!({"exp": 0}), "has expired"),
        (json!({"exp": -1}), "has expired"),
        (json!({"exp": null}), "does not expire"),
        (json!({"exp": "9999999999"}), "is malformed"),
        (json!({"nbf": now + 400}), "not valid yet"),
        (json!({"nbf": "0"}), "is malformed"),
        (json!({"tid": "other"}), "another tenant"),
        (json!({"tid": null}), "another tenant"),
        (json!({"tid": [TENANT]}), "another tenant"),
        (json!({"scp": "user_impersonation2"}), "lacks the scope"),
        (json!({"scp": "User_Impersonation"}), "lacks the scope"),
        (json!({"scp": null}), "lacks the scope"),
        (json!({"appid": "other"}), "another application"),
        (json!({"appid": "other", "azp": "office"}), "another application"),
        (json!({"appid": null}), "another application"),
        (json!({"iss": "https://sts.windows.net/x/"}), "not trusted"),
        (json!({"iss": [issuer.name]}), "malformed"),
        (json!({"iss": null}), "not trusted"),
        (json!({"iss": issuer.name.trim_end_matches('/')}), "not trusted"),
    ] {
        let told = refused(&bearer, &issuer.token(merge(change.clone()))).await;
        assert!(told.contains(expected), "{change}: {told}");
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn signatures_that_are_not_the_issuers_are_refused() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|_| {});
    let good = issuer.token(|_| {});
    let claims = issuer.claims();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let mut other = claims.clone();
    other["upn"] = json!("mallory@example.org");
    let (header, _) = head.split_once('.').unwrap();
    let modulus = RSA.jwk("k1")["n"].as_str().unwrap().to_owned();
    let hs256 = |secret: &[u8]| {
        let head = head_of(&json!({"alg": "HS256", "kid": "k1"}), &claims);
        let key = EncodingKey::from_secret(secret);
        let signature = crypto::sign(head.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{head}.{signature}")
    };
    let mut flipped = BASE64URL.decode(signature).unwrap();
    flipped[0] ^= 1;
    let none = head_of(&json!({"alg": "none", "kid": "k1"}), &claims);
    for (what, token) in [
        ("none", format!("{none}.")),
        ("none with a signature", format!("{none}.{signature}")),
        ("NoNe", format!("{}.", head_of(&json!({"alg": "NoNe"}), &claims))),
        ("HS256 with the modulus", hs256(&BASE64URL.decode(&modulus).unwrap())),
        ("HS256 with its text", hs256(modulus.as_bytes())),
        ("another algorithm", sign(&RSA, &json!({"alg": "RS384", "kid": "k1"}), &claims)),
        ("another one's claims", format!("{header}.{}.{signature}", encoded(&other))),
        ("a flipped bit", format!("{head}.{}", BASE64URL.encode(&flipped))),
        ("half a signature", format!("{head}.{}", &signature[..signature.len() / 2])),
        ("no signature", format!("{head}.")),
        (
            "another key of this id",
            sign(&OTHER_RSA, &json!({"alg": "RS256", "kid": "k1"}), &claims),
        ),
        (
            "a key of its own",
            sign(
                &OTHER_RSA,
                &json!({"alg": "RS256", "jwk": OTHER_RSA.jwk("k1"), "kid": "k1"}),
                &claims,
            ),
        ),
    ] {
        let told = refused(&bearer, &token).await;
        assert!(told.contains("algorithm") || told.contains("signature"), "{what}: {told}");
    }
    assert!(bearer.verify(&good).await.is_ok());
}

#[tokio::test]
async fn what_is_no_token_is_refused_before_anything_is_fetched() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|_| {});
    let good = issuer.token(|_| {});
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    let with_header = |text: &[u8]| format!("{}.{claims}.{signature}", BASE64URL.encode(text));
    let with_claims = |text: &[u8]| format!("{header}.{}.{signature}", BASE64URL.encode(text));
    for (what, token) in [
        ("empty", String::new()),
        ("dots", "..".to_owned()),
        ("many dots", ".".repeat(10_000)),
        ("two parts", head.to_owned()),
        ("four parts", format!("{good}.a")),
        ("encrypted", format!("{good}.a.b")),
        ("oversized", format!("{head}.{}", "A".repeat(20_000))),
        ("spaces", format!(" {good}")),
        ("padding", format!("{header}=.{claims}.{signature}")),
        ("other alphabet", format!("{header}.{claims}+/.{signature}")),
        ("not ASCII", format!("{header}.{claims}é.{signature}")),
        ("not UTF-8 inside", with_claims(b"{\"iss\":\"\xff\"}")),
        ("no JSON", with_claims(b"iss")),
        ("a list", with_claims(b"[]")),
        (
            "twice an issuer",
            with_claims(format!("{{\"iss\":\"{0}\",\"iss\":\"{0}\"}}", issuer.name).as_bytes()),
        ),
        (
            "twice an issuer, once escaped",
            with_claims(
                format!("{{\"iss\":\"{0}\",\"\\u0069ss\":\"{0}\"}}", issuer.name).as_bytes(),
            ),
        ),
        ("twice an algorithm", with_header(br#"{"alg":"none","alg":"RS256"}"#)),
        ("no algorithm", with_header(br#"{"kid":"k1"}"#)),
        ("a list of algorithms", with_header(br#"{"alg":["RS256"]}"#)),
        ("critical", with_header(br#"{"alg":"RS256","kid":"k1","crit":["b64"],"b64":false}"#)),
        ("nothing critical", with_header(br#"{"alg":"RS256","kid":"k1","crit":[]}"#)),
        ("another type", with_header(br#"{"alg":"RS256","kid":"k1","typ":"logout+jwt"}"#)),
        ("a key id that is a number", with_header(br#"{"alg":"RS256","kid":1}"#)),
    ] {
        refused(&bearer, &token).await;
        assert_eq!(issuer.fetches(), 0, "{what}");
    }
}

/// Even of a token that the issuer has signed.
#[tokio::test]
async fn claims_that_are_there_twice_are_refused() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|_| {});
    let header = json!({"alg": "RS256", "kid": "k1"});
    let signed = |claims: &str| {
        let head = format!("{}.{}", encoded(&header), BASE64URL.encode(claims));
        let signature = crypto::sign(head.as_bytes(), &RSA.signs, Algorithm::RS256).unwrap();
        format!("{head}.{signature}")
    };
    let good = issuer.claims().to_string();
    assert!(bearer.verify(&signed(&good)).await.is_ok());
    let with = |more: &str| signed(&format!("{},{more}}}", good.strip_suffix('}').unwrap()));
    for more in [r#""upn":"mallory""#, r#""\u0075pn":"mallory""#, r#""a":{"b":1,"b":2}"#] {
        let told = refused(&bearer, &with(more)).await;
        assert!(told.contains("malformed"), "{more}: {told}");
    }
    let deep = format!(r#""a":{}{}"#, "[".repeat(1000), "]".repeat(1000));
    assert!(refused(&bearer, &with(&deep)).await.contains("malformed"));
}

#[tokio::test]
async fn no_reason_can_break_a_header() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|settings| settings.tenant = Some(TENANT.to_owned()));
    for token in ["", "a.b.c", "a.b.c.d.e", &issuer.token(merge(json!({"tid": "\",\r\n"})))] {
        let told = refused(&bearer, token).await;
        assert!(told.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{told}");
        assert!(!told.contains([',', '"', '\\']), "{told}");
    }
}

proptest! {
    #[test]
    fn no_text_is_taken_for_a_token_or_harms(text in "[A-Za-z0-9_.=+/ -]{0,200}|.{0,100}") {
        prop_assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn a_token_is_cut_where_it_was_signed(claims in ".{0,30}", signature in "[A-Za-z0-9_-]{0,50}") {
        let head = head_of(&json!({"alg": "RS256"}), &json!({"iss": claims}));
        let token = format!("{head}.{signature}");
        let parsed = Token::parse(&token).unwrap();
        prop_assert_eq!(parsed.message, head);
        prop_assert_eq!(parsed.signature, signature);
        prop_assert_eq!(parsed.issuer.as_deref(), Some(claims.as_str()));
        prop_assert_eq!(&parsed.claims().unwrap()["iss"], claims.as_str());
    }
}

// === Keys that change ===

#[tokio::test]
async fn a_key_that_is_rotated_in_is_found() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer_with(|_| {}, Timing { gap: Duration::ZERO, ..Timing::default() });
    let rotated = sign(&OTHER_RSA, &json!({"alg": "RS256", "kid": "k2"}), &issuer.claims());
    assert!(refused(&bearer, &rotated).await.contains("does not publish"));
    issuer.publish(json!([RSA.jwk("k1"), OTHER_RSA.jwk("k2")]));
    assert!(bearer.verify(&rotated).await.is_ok());
    let before = issuer.fetches();
    let old = issuer.token(|_| {});
    assert!(bearer.verify(&old).await.is_ok());
    assert_eq!(issuer.fetches(), before, "a known key is fetched for nobody");
    issuer.publish(json!([OTHER_RSA.jwk("k2")]));
    assert!(bearer.verify(&old).await.is_ok(), "until they are fetched again");
    assert!(refused(&bearer, &named("k3", &issuer)).await.contains("does not publish"));
    assert!(refused(&bearer, &old).await.contains("does not publish"), "it was withdrawn");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_fetch() {
    let issuer = FakeIssuer::start().await;
    let bearer = Arc::new(issuer.bearer(|_| {}));
    issuer.answer(|answers| answers.delay = Duration::from_millis(200));
    let flood: Vec<_> = (0..500)
        .map(|number| {
            let (bearer, token) = (Arc::clone(&bearer), named(&format!("k-{number}"), &issuer));
            tokio::spawn(async move { bearer.verify(&token).await })
        })
        .collect();
    for request in flood {
        let verified = request.await.unwrap();
        assert!(matches!(verified, Err(Unverified::Invalid(_))), "{verified:?}");
    }
    for number in 0..500 {
        refused(&bearer, &named(&format!("l-{number}"), &issuer)).await;
    }
    assert_eq!(issuer.fetches(), 1);
    assert!(bearer.verify(&issuer.token(|_| {})).await.is_ok());
}

#[tokio::test]
async fn whoever_hangs_up_stops_no_fetch() {
    let issuer = FakeIssuer::start().await;
    let bearer = issuer.bearer(|_| {});
    issuer.answer(|answers| answers.delay = Duration::from_millis(100));
    let token = issuer.token(|_| {});
    let impatient = tokio::time::timeout(Duration::from_millis(1), bearer.verify(&token)).await;
    assert!(impatient.is_err(), "the issuer takes longer");
    assert!(bearer.verify(&token).await.is_ok(), "another waits for the same fetch");
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn one_of_several_keys_has_to_be_named() {
    let issuer = FakeIssuer::start().await;
    issuer.publish(json!([RSA.jwk("k1"), OTHER_RSA.jwk("k2")]));
    let bearer = issuer.bearer(|_| {});
    let nameless = sign(&RSA, &json!({"alg": "RS256"}), &issuer.claims());
    assert!(refused(&bearer, &nameless).await.contains("names no key"));
    issuer.publish(json!([RSA.jwk("k1"), OTHER_RSA.jwk("k1")]));
    let bearer = issuer.bearer(|_| {});
    assert!(bearer.verify(&issuer.token(|_| {})).await.is_ok(), "either may have signed");
}

#[tokio::test]
async fn keys_that_are_not_for_this_verify_nothing() {
    let mut short = OTHER_RSA.jwk("k1");
    short["n"] = json!(BASE64URL.encode([0xff; 128]));
    let changed = |member: &str, value: Value| {
        let mut jwk = RSA.jwk("k1");
        jwk[member] = value;
        jwk
    };
    for (what, jwk) in [
        ("1024 bits", short),
        ("for encryption", changed("use", json!("enc"))),
        ("for wrapping", changed("key_ops", json!(["wrapKey"]))),
        ("for another algorithm", changed("alg", json!("RS512"))),
        ("for a shared secret", changed("kty", json!("oct"))),
        ("another tenant's", changed("issuer", json!("https://login.example/other/"))),
        ("exponent 1", changed("e", json!("AQ"))),
        ("an even exponent", changed("e", json!("Ag"))),
        ("no exponent", changed("e", Value::Null)),
        ("not base64url", changed("n", json!("++//"))),
        ("a number", changed("n", json!(7))),
        ("no object", json!(7)),
    ] {
        let issuer = FakeIssuer::start().await;
        issuer.publish(json!([jwk]));
        let bearer = issuer.bearer(|_| {});
        let verified = bearer.verify(&issuer.token(|_| {})).await.map(drop);
        let told = unavailable(verified);
        assert!(told.contains("no key that can be used"), "{what}: {told}");
        issuer.publish(json!([jwk, RSA.jwk("k1")]));
        let bearer = issuer.bearer(|_| {});
        assert!(bearer.verify(&issuer.token(|_| {})).await.is_ok(), "{what} beside a good one");
    }
}

// === Issuers that are down, slow or others ===

#[tokio::test]
async fn the_last_good_keys_outlast_an_outage() {
    let issuer = FakeIssuer::start().await;
    let timing = Timing { gap: Duration::ZERO, refresh: Duration::ZERO, ..Timing::default() };
    let bearer = issuer.bearer_with(|_| {}, timing);
    assert!(bearer.problems()[0].contains("not fetched yet"));
    bearer.refresh().await;
    assert_eq!(bearer.problems(), [""; 0]);
    issuer.answer(|answers| answers.status = 503);
    bearer.refresh().await;
    assert!(bearer.problems()[0].contains("status 503"), "{:?}", bearer.problems());
    assert!(bearer.verify(&issuer.token(|_| {})).await.is_ok());
    refused(&bearer, &named("k9", &issuer)).await;
    issuer.answer(|answers| answers.status = 200);
    bearer.refresh().await;
    assert_eq!(bearer.problems(), [""; 0]);
}

#[tokio::test]
async fn keys_do_not_outlast_their_day() {
    let issuer = FakeIssuer::start().await;
    let timing = Timing { keep: Duration::ZERO, ..Timing::default() };
    let bearer = issuer.bearer_with(|_| {}, timing);
    bearer.refresh().await;
    unavailable(bearer.verify(&issuer.token(|_| {})).await.map(drop));
}

#[tokio::test]
async fn without_keys_nobody_is_called_invalid() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let name = format!("http://{closed}/");
    let bearer = Bearer::new(&[settings(&name)], ORIGIN).unwrap();
    bearer.refresh().await;
    let claims = json!({"iss": name, "exp": seconds_from_now(60), "aud": ORIGIN});
    let token = sign(&RSA, &json!({"alg": "RS256", "kid": "k1"}), &claims);
    let told = unavailable(bearer.verify(&token).await.map(drop));
    assert!(told.contains(&name), "{told}");
    assert_eq!(bearer.problems().len(), 1);
}

#[tokio::test]
async fn a_slow_issuer_is_given_up() {
    let issuer = FakeIssuer::start().await;
    issuer.answer(|answers| answers.delay = Duration::from_secs(600));
    let timing = Timing { timeout: Duration::from_millis(100), ..Timing::default() };
    let bearer = issuer.bearer_with(|_| {}, timing);
    unavailable(bearer.verify(&issuer.token(|_| {})).await.map(drop));
}

#[tokio::test]
async fn documents_that_are_not_the_issuers_are_refused() {
    let issuer = FakeIssuer::start().await;
    let other = FakeIssuer::start().await;
    let name = &issuer.name;
    let jwks = format!("{name}keys");
    for (what, discovery, expected) in [
        ("another issuer", json!({"issuer": other.name, "jwks_uri": jwks}), "is of the issuer"),
        (
            "no slash",
            json!({"issuer": name.trim_end_matches('/'), "jwks_uri": jwks}),
            "is of the issuer",
        ),
        ("no issuer", json!({"jwks_uri": jwks}), "not what it should be"),
        ("no keys", json!({"issuer": name}), "not what it should be"),
        ("a list", json!([name]), "not what it should be"),
        (
            "too long",
            json!({"issuer": name, "jwks_uri": jwks, "x": "x".repeat(300_000)}),
            "longer than",
        ),
        (
            "over plain HTTP",
            json!({"issuer": name, "jwks_uri": "http://keys.example/"}),
            "is not https://",
        ),
        ("a file", json!({"issuer": name, "jwks_uri": "file:///etc/passwd"}), "is not https://"),
        (
            "with a password",
            json!({"issuer": name, "jwks_uri": "https://a:b@keys.example/"}),
            "password",
        ),
    ] {
        issuer.answer(|answers| answers.discovery = Some(discovery.clone()));
        let verified = issuer.bearer(|_| {}).verify(&issuer.token(|_| {})).await;
        let told = unavailable(verified.map(drop));
        assert!(told.contains(expected), "{what}: {told}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let issuer = FakeIssuer::start().await;
    let other = FakeIssuer::start().await;
    issuer.answer(|answers| {
        answers.status = 302;
        answers.location = Some(format!("{}.well-known/openid-configuration", other.name));
    });
    let told = unavailable(issuer.bearer(|_| {}).verify(&issuer.token(|_| {})).await.map(drop));
    assert!(told.contains("status 302"), "{told}");
    assert_eq!(other.fetches(), 0);
}

#[tokio::test]
async fn the_template_of_entra_id_stands_for_our_tenant() {
    let server = FakeIssuer::start().await;
    let ours = format!("https://sts.windows.net/{TENANT}/");
    let template = "https://sts.windows.net/{tenantid}/";
    let entra = |tenant: Option<&str>, discovery: &str, key: &str| {
        let mut jwk = RSA.jwk("k1");
        jwk["issuer"] = json!(key);
        server.publish(json!([jwk]));
        let discovery = json!({"issuer": discovery, "jwks_uri": format!("{}keys", server.name)});
        server.answer(|answers| answers.discovery = Some(discovery));
        let metadata = format!("{}.well-known/openid-configuration", server.name);
        let tenant = tenant.map(str::to_owned);
        let settings = IssuerSettings { metadata: Some(metadata), tenant, ..settings(&ours) };
        Bearer::new(&[settings], ORIGIN).unwrap()
    };
    let mut claims = server.claims();
    claims["iss"] = json!(ours);
    let token = sign(&RSA, &json!({"alg": "RS256", "kid": "k1"}), &claims);
    for (discovery, key) in [(template, template), (&*ours, template), (&*ours, &*ours)] {
        let bearer = entra(Some(TENANT), discovery, key);
        assert!(bearer.verify(&token).await.is_ok(), "{discovery} {key}");
    }
    for (tenant, discovery, key, expected) in [
        (None, template, template, "set `tenant`"),
        (Some("other"), template, template, "is of the issuer"),
        (
            Some(TENANT),
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            template,
            "is of the issuer",
        ),
        (Some(TENANT), template, "https://sts.windows.net/other/", "no key that can be used"),
    ] {
        let told = unavailable(entra(tenant, discovery, key).verify(&token).await.map(drop));
        assert!(told.contains(expected), "{told}");
    }
}

#[tokio::test]
async fn issuers_are_kept_apart() {
    let (first, second) = (FakeIssuer::start().await, FakeIssuer::start().await);
    second.publish(json!([OTHER_RSA.jwk("k1")]));
    let settings = [settings(&first.name), settings(&second.name)];
    let bearer = Bearer::new(&settings, ORIGIN).unwrap();
    let header = json!({"alg": "RS256", "kid": "k1"});
    assert!(bearer.verify(&sign(&RSA, &header, &first.claims())).await.is_ok());
    assert!(bearer.verify(&sign(&OTHER_RSA, &header, &second.claims())).await.is_ok());
    assert!(refused(&bearer, &sign(&RSA, &header, &second.claims())).await.contains("signature"));
}

#[tokio::test]
async fn keys_are_inherited_from_the_same_place_alone() {
    let issuer = FakeIssuer::start().await;
    let before = issuer.bearer(|_| {});
    before.refresh().await;
    let after = issuer.bearer(|settings| settings.scopes = vec!["other".to_owned()]);
    after.inherit(&before);
    assert!(refused(&after, &issuer.token(|_| {})).await.contains("scope"));
    assert_eq!(issuer.fetches(), 1);
    let moved = issuer.bearer(|settings| settings.tenant = Some(TENANT.to_owned()));
    moved.inherit(&before);
    assert!(moved.verify(&issuer.token(|_| {})).await.is_ok());
    assert_eq!(issuer.fetches(), 2);
    // Keys of the other kind were left out when they were fetched.
    let other = issuer.bearer(|settings| settings.algorithms = vec!["PS256".to_owned()]);
    other.inherit(&before);
    other.refresh().await;
    assert_eq!(issuer.fetches(), 3);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let good = || settings("https://issuer.example/");
    assert!(Bearer::new(&[], ORIGIN).is_err());
    assert!(Bearer::new(&[good(), good()], ORIGIN).is_err());
    type Change = fn(&mut IssuerSettings);
    let changes: [(Change, &str); 9] = [
        (|it| it.issuer = "http://issuer.example/".to_owned(), "https://"),
        (|it| it.issuer = "issuer.example".to_owned(), "no URL"),
        (|it| it.metadata = Some("http://localhost.evil.example/".to_owned()), "https://"),
        (|it| it.algorithms = vec!["none".to_owned()], "none of RS256"),
        (|it| it.algorithms = vec!["HS256".to_owned()], "none of RS256"),
        (|it| it.algorithms = vec![], "empty"),
        (|it| it.audiences = vec![String::new()], "an empty text"),
        (|it| it.tenant = Some(" ".to_owned()), "an empty text"),
        (|it| it.ca = Some("/nowhere".into()), "/nowhere"),
    ];
    for (change, expected) in changes {
        let mut settings = good();
        change(&mut settings);
        let told = Bearer::new(&[settings], ORIGIN).err().expect("it is wrong");
        assert!(told.contains(expected), "{told}");
    }
    let text = r#"{"issuer": "https://issuer.example/", "audience": "x"}"#;
    assert!(serde_json::from_str::<IssuerSettings>(text).is_err(), "unknown fields");
    let read: IssuerSettings =
        serde_json::from_str(r#"{"issuer": "https://issuer.example/"}"#).unwrap();
    assert_eq!(read, good());
}

// === The issuer ===

struct FakeIssuer {
    name: String,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Mutex<Answers>,
    fetches: AtomicUsize,
}

struct Answers {
    status: u16,
    location: Option<String>,
    delay: Duration,
    discovery: Option<Value>,
    keys: Value,
}

impl FakeIssuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("http://{}/", listener.local_addr().unwrap());
        let answers = Answers {
            status: 200,
            location: None,
            delay: Duration::ZERO,
            discovery: Some(json!({"issuer": name, "jwks_uri": format!("{name}keys")})),
            keys: json!([RSA.jwk("k1")]),
        };
        let shared =
            Arc::new(Shared { answers: Mutex::new(answers), fetches: AtomicUsize::new(0) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { name, shared }
    }

    fn answer(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.shared.answers.lock().unwrap());
    }

    fn publish(&self, keys: Value) {
        self.answer(|answers| answers.keys = keys);
    }

    /// How often the discovery document was fetched.
    fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    fn bearer(&self, change: impl FnOnce(&mut IssuerSettings)) -> Bearer {
        self.bearer_with(change, Timing::default())
    }

    fn bearer_with(&self, change: impl FnOnce(&mut IssuerSettings), timing: Timing) -> Bearer {
        let mut settings = settings(&self.name);
        change(&mut settings);
        Bearer::with_timing(&[settings], ORIGIN, &timing).unwrap()
    }

    fn claims(&self) -> Value {
        json!({
            "aud": ORIGIN, "iss": self.name, "iat": seconds_from_now(-60), "nbf": seconds_from_now(-60),
            "exp": seconds_from_now(3600), "ver": "1.0", "tid": TENANT, "oid": "o-1",
            "upn": "alice@example.org", "appid": "office", "scp": "user_impersonation",
        })
    }

    /// A token that is good but for this change.
    fn token(&self, change: impl FnOnce(&mut Map<String, Value>)) -> String {
        let mut claims = self.claims();
        change(claims.as_object_mut().unwrap());
        sign(&RSA, &json!({"alg": "RS256", "kid": "k1", "typ": "JWT"}), &claims)
    }
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Response {
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    respond(&shared, |answers| answers.discovery.clone().unwrap()).await
}

async fn keys(State(shared): State<Arc<Shared>>) -> Response {
    respond(&shared, |answers| json!({"keys": answers.keys})).await
}

async fn respond(shared: &Shared, body: impl FnOnce(&Answers) -> Value) -> Response {
    let (delay, response) = {
        let answers = shared.answers.lock().unwrap();
        let mut response = Response::builder().status(answers.status);
        if let Some(location) = &answers.location {
            response = response.header("location", location);
        }
        (answers.delay, response.body(Body::from(body(&answers).to_string())).unwrap())
    };
    tokio::time::sleep(delay).await;
    response
}

fn settings(issuer: &str) -> IssuerSettings {
    IssuerSettings {
        issuer: issuer.to_owned(),
        metadata: None,
        audiences: Vec::new(),
        tenant: None,
        scopes: Vec::new(),
        clients: Vec::new(),
        algorithms: rs256(),
        ca: None,
    }
}

/// Sets these claims, and takes away those that are null.
fn merge(change: Value) -> impl FnOnce(&mut Map<String, Value>) {
    move |claims| {
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.remove(name)),
                value => drop(claims.insert(name.clone(), value.clone())),
            }
        }
    }
}

/// A token whose header names this key.
fn named(kid: &str, issuer: &FakeIssuer) -> String {
    let head = head_of(&json!({"alg": "RS256", "kid": kid}), &issuer.claims());
    format!("{head}.{}", BASE64URL.encode([7; 256]))
}

async fn refused(bearer: &Bearer, token: &str) -> &'static str {
    match bearer.verify(token).await {
        Err(Unverified::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

fn unavailable(verified: Result<(), Unverified>) -> String {
    match verified {
        Err(Unverified::Unavailable(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

// === Signing ===

static RSA: LazyLock<TestKey> = LazyLock::new(TestKey::rsa);
static OTHER_RSA: LazyLock<TestKey> = LazyLock::new(TestKey::rsa);
static EC: LazyLock<TestKey> = LazyLock::new(TestKey::ec);

struct TestKey {
    signs: EncodingKey,
    public: Value,
}

impl TestKey {
    fn rsa() -> Self {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        // RFC 5958: what stands behind the algorithm is the key as PKCS#1 has it.
        let pkcs1 = &der.as_ref()[26..];
        Self::of(EncodingKey::from_rsa_der(pkcs1), Algorithm::RS256)
    }

    fn ec() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self::of(EncodingKey::from_ec_der(&pair.serialize_der()), Algorithm::ES256)
    }

    fn of(signs: EncodingKey, algorithm: Algorithm) -> Self {
        let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&signs, algorithm).unwrap();
        jwk.common.key_algorithm = None;
        Self { signs, public: serde_json::to_value(&jwk).unwrap() }
    }

    fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.public.clone();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk
    }
}

fn sign(key: &TestKey, header: &Value, claims: &Value) -> String {
    let algorithm: Algorithm = header["alg"].as_str().unwrap().parse().unwrap();
    let head = head_of(header, claims);
    let signature = crypto::sign(head.as_bytes(), &key.signs, algorithm).unwrap();
    format!("{head}.{signature}")
}

fn head_of(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encoded(header), encoded(claims))
}

fn encoded(value: &Value) -> String {
    BASE64URL.encode(value.to_string())
}
