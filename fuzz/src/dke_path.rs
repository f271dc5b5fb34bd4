use twinlock_dke::public_url::PublicUrl;
use twinlock_dke::route::{KeyId, KeyName, Route};

/// What can be configured is reached by its `kid`, and a path that is routed names
/// nothing else: the first line is a public URL, the next a path, then a key's name
/// and an id.
pub fn dke_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n').chain(std::iter::repeat(""));
    let mut line = || lines.next().unwrap_or_default();
    let (url, path, name, id) = (line(), line(), line(), line());
    let Ok(url) = PublicUrl::parse(url) else { return };
    check_url(&url);
    check_route(path, &url);
    if let (Ok(name), Ok(id)) = (KeyName::parse(name), KeyId::parse(id)) {
        check_kid(&url, &name, &id);
    }
}

fn check_url(url: &PublicUrl) {
    assert_eq!(PublicUrl::parse(&url.to_string()).as_ref(), Ok(url), "there is another spelling");
    assert!(url.to_string().bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'"'));
}

/// Slashes too many make no difference, and nothing else makes none.
fn check_route(path: &str, url: &PublicUrl) {
    let Some(route) = Route::parse(path, url.prefix()) else { return };
    let canonical = match route {
        Route::PublicKey { key } => format!("{}/{key}", url.prefix()),
        Route::Decrypt { key, id } => format!("{}/{key}/{id}/decrypt", url.prefix()),
    };
    assert_eq!(Route::parse(&canonical, url.prefix()), Some(route));
    let segments = |path: &str| -> Vec<String> {
        path.split('/').filter(|it| !it.is_empty()).map(str::to_owned).collect()
    };
    let (mut sent, mut ours) = (segments(path), segments(&canonical));
    if let Route::Decrypt { .. } = route {
        let (sent, ours) = (sent.pop(), ours.pop());
        assert!(sent.zip(ours).is_some_and(|(sent, ours)| sent.eq_ignore_ascii_case(&ours)));
    }
    assert_eq!(sent, ours);
}

fn check_kid(url: &PublicUrl, name: &KeyName, id: &KeyId) {
    let kid = url.kid(name, id);
    let path = format!("{}/decrypt", kid.strip_prefix(url.origin()).expect("it is the service's"));
    let expected = Route::Decrypt { key: name.as_str(), id: id.as_str() };
    assert_eq!(Route::parse(&path, url.prefix()), Some(expected));
}
