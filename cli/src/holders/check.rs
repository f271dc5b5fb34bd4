//! Trying a key.

use std::time::{Duration, Instant};

use twinlock::{FileKek, HolderError, HolderErrorKind, KeyHolder, Share, Side, WrapContext};
use twinlock_keys::{Scheme, ShareAlgorithm};

use super::{aws_kms, azure_kv, dke, gcp_kms, pkcs11, vault};
use crate::report::keys::KeyCheck;
use crate::settings::{Access, KeySpec};

/// Finds the key that `spec` names, has it wrap and unwrap a random share, and
/// makes sure that it refuses another context, if it can know contexts.
pub(crate) async fn check(spec: &KeySpec, access: &Access) -> Result<KeyCheck, HolderError> {
    match spec {
        KeySpec::AwsKms(uri) => aws_kms::check(uri, access).await,
        KeySpec::AzureKv(uri) => azure_kv::check(uri, access).await,
        KeySpec::Dke(uri) => dke::check(uri, access).await,
        KeySpec::File(uri) => {
            let start = Instant::now();
            let key = FileKek::open(uri)?;
            let open_ms = milliseconds(start.elapsed());
            Ok(KeyCheck { open_ms, ..round_trip(&key, Side::Provider).await? })
        }
        KeySpec::GcpKms(uri) => gcp_kms::check(uri, access).await,
        KeySpec::Pkcs11(uri) => pkcs11::check(uri, access).await,
        KeySpec::Vault(uri) => vault::check(uri, access).await,
    }
}

/// The caller knows what it took to open `holder`.
pub(crate) async fn round_trip(
    holder: &dyn KeyHolder,
    side: Side,
) -> Result<KeyCheck, HolderError> {
    let share = Share::random().map_err(|error| failed(&error.to_string()))?;
    let start = Instant::now();
    let wrapped = holder.wrap_key(&share, &context(side, 1)).await?;
    let wrap = start.elapsed();
    let start = Instant::now();
    let back = holder.unwrap_key(&wrapped, &context(side, 1)).await?;
    let unwrap = start.elapsed();
    if back.expose() != share.expose() {
        return Err(failed("the key does not give back what it wrapped"));
    }
    match holder.unwrap_key(&wrapped, &context(side, 2)).await {
        Err(error) if error.kind() == HolderErrorKind::InvalidCiphertext => {}
        Err(error) => return Err(error),
        // What has no AAD leaves contexts to the check that every share carries.
        Ok(_) if wrapped.algorithm() != ShareAlgorithm::HolderAead => {}
        Ok(_) => return Err(failed("the key unwraps although the context is another")),
    }
    Ok(KeyCheck { unwrap_ms: Some(milliseconds(unwrap)), ..wrapped_in(wrap, holder) })
}

/// The same for a holder that can only wrap.
#[cfg(feature = "pkcs11")]
pub(crate) async fn wraps(holder: &dyn KeyHolder, side: Side) -> Result<KeyCheck, HolderError> {
    let share = Share::random().map_err(|error| failed(&error.to_string()))?;
    let start = Instant::now();
    holder.wrap_key(&share, &context(side, 1)).await?;
    Ok(wrapped_in(start.elapsed(), holder))
}

fn wrapped_in(time: Duration, holder: &dyn KeyHolder) -> KeyCheck {
    KeyCheck {
        uri: holder.uri().to_string(),
        development: holder.uri().scheme() == Scheme::File,
        open_ms: 0.0,
        find_ms: None,
        wrap_ms: milliseconds(time),
        unwrap_ms: None,
        spki_sha256: None,
        token: None,
        key: None,
        aws_kms: None,
        azure_kv: None,
        dke: None,
        gcp_kms: None,
        vault: None,
    }
}

/// Like that of a real share, since policies may look at it.
fn context(side: Side, number: u8) -> WrapContext {
    let label = format!("v1/{side}/{}", format!("{number:02x}").repeat(32));
    let aad = label.clone().into_bytes();
    WrapContext::new(side, label, aad, Vec::new())
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn failed(problem: &str) -> HolderError {
    HolderError::new(HolderErrorKind::Failed, problem)
}
