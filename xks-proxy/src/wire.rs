//! The bodies of requests and responses (section "API operations").
//!
//! Reading is strict about what the specification says and lets pass what it
//! may say one day: unknown fields, any `kmsOperation`, an absent optional field
//! (or `null`, which is the same). A body is UTF-8 and one JSON object; a known
//! field stands in it once; base64 is the standard alphabet with padding and has
//! one spelling.

mod request;
mod response;

pub use request::{
    DecryptRequest, EncryptRequest, MAX_DATA_LEN, RequestMetadata, health_metadata, key_metadata,
    request_id,
};
pub use response::{
    DecryptResponse, Ekm, EkmFleet, EkmFleetError, EncryptResponse, HealthResponse, HealthStatus,
    KeyMetadataResponse, MAX_EKMS,
};

/// The most bytes of a body that are worth reading. The largest request that
/// the specification knows has about 21 KiB; the rest is for fields that it does
/// not know yet.
pub const MAX_BODY_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests;
