//! Proxies of the environment, which the SDKs use.

use std::ffi::OsString;

/// The first variable that names a proxy for plain HTTP, which would read
/// shares. What `NO_PROXY` excepts is not asked: where an SDK reads it otherwise
/// than we do, shares would go out.
pub(crate) fn for_plain_http(variable: impl Fn(&str) -> Option<OsString>) -> Option<&'static str> {
    let names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    names.into_iter().find(|name| variable(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_for_plain_http_is_found_under_each_name() {
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            let found = |value: &str| for_plain_http(|asked| (asked == name).then(|| value.into()));
            assert_eq!(found("http://proxy.example:3128"), Some(name));
            assert_eq!(found(""), None);
        }
        let for_tls = |asked: &str| (asked == "https_proxy").then(|| "http://p".into());
        assert_eq!(for_plain_http(for_tls), None, "TLS goes through proxies unread");
    }
}
