use twinlock_xks::uri_path::{ExternalKeyId, Route, UriPathPrefix};

/// A path that is routed has one spelling, and its parts are those that a
/// configuration may have.
pub fn xks_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check_route(text);
    check_prefix(text);
    check_id(text);
}

fn check_route(path: &str) {
    let Ok(route) = Route::parse(path) else { return };
    assert_eq!(route.to_string(), path, "there is another spelling");
    assert!(path.len() <= 128 + "/keys/".len() + 128 + "/metadata".len());
    let prefix = UriPathPrefix::parse(route.prefix).expect("a prefix that can be configured");
    assert_eq!(prefix.as_str(), route.prefix);
    if let Some(id) = route.operation.key() {
        assert_eq!(ExternalKeyId::parse(id.as_str()).as_ref(), Ok(id));
    }
}

fn check_prefix(text: &str) {
    let Ok(prefix) = UriPathPrefix::parse(text) else { return };
    assert!(prefix.uri_path().len() <= 128);
    let path = format!("{text}/kms/xks/v1/health");
    let route = Route::parse(&path).expect("what is configured is reached");
    assert_eq!(route.prefix, text);
}

fn check_id(text: &str) {
    let Ok(id) = ExternalKeyId::parse(text) else { return };
    let path = format!("/p/kms/xks/v1/keys/{text}/encrypt");
    let route = Route::parse(&path).expect("what is configured is reached");
    assert_eq!((route.prefix, route.operation.key()), ("/p", Some(&id)));
}
