use proptest::prelude::*;

use super::*;

#[test]
fn endpoints_are_reached_by_tls_or_on_this_machine() {
    for url in [
        "https://issuer.example/token?x=y",
        "http://127.0.0.1:1/t",
        "http://[::1]/",
        "http://localhost:8080",
    ] {
        assert!(private_url(url).is_some(), "{url}");
    }
    for url in [
        "",
        "issuer.example",
        "http://issuer.example/",
        "http://localhost.evil.example/",
        "http://127.0.0.1@evil.example/",
        "https://user@issuer.example/",
        "https://issuer.example/#x",
        "ftp://localhost/",
        "file:///etc/passwd",
    ] {
        assert!(private_url(url).is_none(), "{url}");
    }
}

fn endpoints(json: &str) -> Option<Endpoints> {
    Endpoints::of(serde_json::from_str(json).unwrap())
}

#[test]
fn an_issuer_says_how_a_secret_is_sent() {
    let with = |methods: &str| {
        let token = "https://i.example/token";
        let json =
            format!(r#"{{"issuer":"https://i.example","token_endpoint":"{token}"{methods}}}"#);
        endpoints(&json).unwrap().secret_in_form
    };
    assert!(!with(""));
    assert!(!with(r#","token_endpoint_auth_methods_supported":["client_secret_basic"]"#));
    let both =
        r#","token_endpoint_auth_methods_supported":["client_secret_basic","client_secret_post"]"#;
    assert!(with(both));
}

#[test]
fn an_endpoint_in_the_clear_is_refused() {
    let bad = r#"{"issuer":"https://i.example","token_endpoint":"http://i.example/token"}"#;
    assert!(endpoints(bad).is_none());
    let bad = r#"{"issuer":"https://i.example","token_endpoint":"https://i.example/token",
        "device_authorization_endpoint":"http://i.example/device"}"#;
    assert!(endpoints(bad).is_none());
}

#[test]
fn seconds_may_be_a_number_or_a_text() {
    let seconds = |text: &str| {
        let json = format!(r#"{{"access_token":"t","expires_in":{text}}}"#);
        serde_json::from_str::<Granted>(&json).unwrap().expires_in
    };
    assert_eq!(seconds("3599"), Some(3599));
    assert_eq!(seconds("\"3599\""), Some(3599));
    assert_eq!(seconds("\"soon\""), None);
    assert_eq!(seconds("null"), None);
    assert_eq!(
        serde_json::from_str::<Granted>(r#"{"access_token":"t"}"#).unwrap().expires_in,
        None
    );
}

#[test]
fn a_secret_in_a_header_is_encoded_first() {
    let decoded = BASE64.decode(basic("a b", "p:w%").strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(decoded, b"a%20b:p%3Aw%25");
}

proptest! {
    #[test]
    fn a_form_is_read_as_it_was_meant(name in "[a-z_]{1,8}", value in "\\PC{0,40}", other in ".{0,40}") {
        let mut form = Form::new();
        form.add(&name, &value);
        form.add("other", &other);
        let url = Url::parse(&format!("https://h/?{}", form.text())).unwrap();
        let pairs: Vec<(String, String)> =
            url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        prop_assert_eq!(pairs, [(name, value), ("other".to_owned(), other)]);
    }
}
