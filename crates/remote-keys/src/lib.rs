//! Key holders over a network: a module and a feature for each.
//!
//! | feature | module | key URIs |
//! |---|---|---|
//! | `aws-kms` (default) | [`aws_kms`] | `aws-kms://<key ARN>`, `aws-kms://alias/<name>` |
//! | `azure-kv` | `azure_key_vault` | `azure-kv://<host>/keys/<name>` |
//! | `dke` | `dke` | `dke+https://<host[:port]>/[prefix/]<name>` |
//! | `gcp-kms` | `gcp_kms` | `gcp-kms://projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>` |
//! | `vault` | `vault_transit` | `vault://<host[:port]>/<mount>/keys/<name>` |
//!
//! A holder is made once by its `connect`, which finds credentials the way the
//! cloud's own tools do, and is then used through
//! [`KeyHolder`](twinlock_keys::KeyHolder). What a holder sends is a share: 32
//! random bytes that open nothing without the other side's.
#![forbid(unsafe_code)]

#[cfg(feature = "aws-kms")]
pub mod aws_kms;
#[cfg(feature = "azure-kv")]
pub mod azure_key_vault;
#[cfg(any(feature = "dke", feature = "vault"))]
mod credential;
#[cfg(feature = "dke")]
pub mod dke;
#[cfg(feature = "gcp-kms")]
pub mod gcp_kms;
#[cfg(any(feature = "dke", feature = "vault"))]
mod https;
#[cfg(any(
    feature = "aws-kms",
    feature = "azure-kv",
    feature = "dke",
    feature = "gcp-kms",
    feature = "vault"
))]
mod network;
#[cfg(any(feature = "aws-kms", feature = "gcp-kms"))]
mod plain_http;
#[cfg(feature = "vault")]
pub mod vault_transit;
