//! `GetHealthStatus`: from what was found in the background. No policy is asked.

use zeroize::Zeroizing;

use super::{Answer, Call, Refusal, note};
use crate::error::ErrorName;
use crate::hsm::Hsm;
use crate::record::Record;
use crate::wire::{self, Ekm, EkmFleet, HealthResponse};

const VENDOR: &str = "Twinlock";
const MODEL: &str = concat!("twinlock-xks ", env!("CARGO_PKG_VERSION"));

pub(super) fn answer(call: &Call<'_>, record: &mut Record) -> Answer {
    note(&wire::health_metadata(call.body)?, record);
    let ekms = call.store.hsms.iter().map(|hsm| ekm(hsm)).collect();
    let fleet = EkmFleet::new(ekms).map_err(|error| {
        Refusal::new(ErrorName::Internal, "This key store has no HSM.").because(error.to_string())
    })?;
    let first = call.store.hsms.first().map(|hsm| hsm.health());
    let response = HealthResponse {
        xks_proxy_fleet_size: call.state.fleet_size,
        xks_proxy_vendor: VENDOR.to_owned(),
        xks_proxy_model: MODEL.to_owned(),
        ekm_vendor: first.map_or_else(|| "unknown".to_owned(), |health| health.vendor().to_owned()),
        ekm_fleet_details: fleet,
    };
    Ok(Zeroizing::new(response.body()))
}

fn ekm(hsm: &Hsm) -> Ekm {
    let health = hsm.health();
    Ekm {
        id: hsm.name().to_owned(),
        model: health.model().to_owned(),
        health_status: health.state(),
    }
}
