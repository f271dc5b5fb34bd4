//! Plain HTTP, over which a share can be read: only inside this machine.

use std::ffi::OsString;
use std::net::IpAddr;

/// True for HTTPS, and for HTTP that does not leave this machine.
pub(crate) fn is_private(url: &str) -> bool {
    if url.starts_with("https://") {
        return true;
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false; // what stands before it is a name or password, and no host
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The first variable that names a proxy for plain HTTP, which the SDKs use and
/// which would read shares. What `NO_PROXY` excepts is not asked: where an SDK
/// reads it otherwise than we do, shares would go out.
pub(crate) fn proxy(variable: impl Fn(&str) -> Option<OsString>) -> Option<&'static str> {
    let names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    names.into_iter().find(|name| variable(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        let private = ["https://kms.eu-central-1.amazonaws.com/", "http://127.0.0.1:5000/"];
        let more = ["http://[::1]:5000/", "http://localhost:4566"];
        let public = ["http://kms.example/", "http://10.0.0.1:5000/", "ftp://localhost/"];
        let names = ["http://127.0.0.1.evil.example/", "http://localhost.evil.example/"];
        let passwords = [
            "http://127.0.0.1@evil.example/",
            "http://127.0.0.1:1@evil.example/",
            "http://localhost:80@evil.example/",
            "http://[::1]@evil.example/",
        ];
        assert!(private.into_iter().chain(more).all(is_private));
        assert!(!public.into_iter().chain(names).chain(passwords).any(is_private));
    }

    #[test]
    fn a_proxy_for_plain_http_is_found_under_each_name() {
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            let found = |value: &str| proxy(|asked| (asked == name).then(|| value.into()));
            assert_eq!(found("http://proxy.example:3128"), Some(name));
            assert_eq!(found(""), None);
        }
        let for_tls = |asked: &str| (asked == "https_proxy").then(|| "http://p".into());
        assert_eq!(proxy(for_tls), None, "TLS goes through proxies unread");
    }
}
