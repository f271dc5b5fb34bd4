//! What the host of a key says about its cloud: for whom tokens are, and who
//! gives them. Nothing that comes over the network has a say in it.

/// One service in one of Azure's clouds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    suffix: &'static str,
    pub(super) service: Service,
    pub(super) scope: &'static str,
    pub(super) authority: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    KeyVault,
    ManagedHsm,
}

/// The DNS suffixes and resource ids that Azure documents for its clouds.
const CLOUDS: [Cloud; 6] = [
    Cloud {
        suffix: ".vault.azure.net",
        service: Service::KeyVault,
        scope: "https://vault.azure.net/.default",
        authority: "https://login.microsoftonline.com",
    },
    Cloud {
        suffix: ".managedhsm.azure.net",
        service: Service::ManagedHsm,
        scope: "https://managedhsm.azure.net/.default",
        authority: "https://login.microsoftonline.com",
    },
    Cloud {
        suffix: ".vault.azure.cn",
        service: Service::KeyVault,
        scope: "https://vault.azure.cn/.default",
        authority: "https://login.chinacloudapi.cn",
    },
    Cloud {
        suffix: ".managedhsm.azure.cn",
        service: Service::ManagedHsm,
        scope: "https://managedhsm.azure.cn/.default",
        authority: "https://login.chinacloudapi.cn",
    },
    Cloud {
        suffix: ".vault.usgovcloudapi.net",
        service: Service::KeyVault,
        scope: "https://vault.usgovcloudapi.net/.default",
        authority: "https://login.microsoftonline.us",
    },
    Cloud {
        suffix: ".managedhsm.usgovcloudapi.net",
        service: Service::ManagedHsm,
        scope: "https://managedhsm.usgovcloudapi.net/.default",
        authority: "https://login.microsoftonline.us",
    },
];

/// The cloud of `host`, which is one label before a suffix and has no port:
/// Azure serves vaults nowhere else.
pub(super) fn cloud_of(host: &str) -> Option<&'static Cloud> {
    CLOUDS.iter().find(|cloud| {
        let vault = host.strip_suffix(cloud.suffix);
        vault.is_some_and(|vault| !vault.is_empty() && !vault.contains(['.', ':']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_decides() {
        let scope = |host| cloud_of(host).map(|cloud| cloud.scope);
        assert_eq!(scope("archive.vault.azure.net"), Some("https://vault.azure.net/.default"));
        assert_eq!(
            scope("archive.managedhsm.azure.net"),
            Some("https://managedhsm.azure.net/.default")
        );
        assert_eq!(scope("archive.vault.azure.cn"), Some("https://vault.azure.cn/.default"));
        let government = cloud_of("archive.vault.usgovcloudapi.net").unwrap();
        assert_eq!(government.authority, "https://login.microsoftonline.us");
        assert_eq!(government.service, Service::KeyVault);
    }

    #[test]
    fn what_only_looks_like_a_vault_has_no_cloud() {
        for host in [
            "vault.azure.net",
            ".vault.azure.net",
            "archive.vault.azure.net:8443",
            "archive.vault.azure.net.evil.example",
            "archivevault.azure.net",
            "a.b.vault.azure.net",
            "localhost",
            "",
        ] {
            assert_eq!(cloud_of(host), None, "{host}");
        }
    }
}
