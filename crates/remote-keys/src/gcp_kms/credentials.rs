//! As whom we call.

use std::path::Path;

use google_cloud_auth::build_errors::Error;
use google_cloud_auth::credentials::{
    Builder, Credentials, external_account, impersonated, service_account, user_account,
};
use serde_json::Value;
use twinlock_keys::HolderError;
use zeroize::Zeroizing;

use super::Options;
use super::client::{PUBLIC_UNIVERSE, misconfigured};
use super::refusal;

/// The longest file of credentials that is read, in bytes.
const MAX_FILE_LEN: u64 = 1 << 20;

/// What the options name, or the application default credentials. Has to be
/// called in a tokio runtime, where the SDK renews tokens.
pub(super) fn of(options: &Options, universe: &str) -> Result<Credentials, HolderError> {
    let source = match &options.credentials_file {
        Some(path) => of_file(path, universe)?,
        None => Builder::default()
            .with_universe_domain(universe)
            .build()
            .map_err(|error| unusable("the application default credentials", &error))?,
    };
    match &options.impersonate {
        Some(account) => impersonated::Builder::from_source_credentials(source)
            .with_target_principal(account)
            .with_universe_domain(universe)
            .build()
            .map_err(|error| unusable("an impersonation", &error)),
        None => Ok(source),
    }
}

fn of_file(path: &Path, universe: &str) -> Result<Credentials, HolderError> {
    let name = format!("the credentials in {}", path.display());
    let json = read(path).map_err(|problem| misconfigured(format!("{name}: {problem}")))?;
    refuse_other_universe(&name, &json, universe)?;
    let kind = json["type"].as_str().unwrap_or_default().to_owned();
    let built = match kind.as_str() {
        "authorized_user" => user_account::Builder::new(json).build(),
        "external_account" => {
            external_account::Builder::new(json).with_universe_domain(universe).build()
        }
        "impersonated_service_account" => {
            impersonated::Builder::new(json).with_universe_domain(universe).build()
        }
        "service_account" => {
            service_account::Builder::new(json).with_universe_domain(universe).build()
        }
        _ => {
            return Err(misconfigured(format!(
                "{name} are of no type that can be used: it is authorized_user, \
                 external_account, impersonated_service_account or service_account"
            )));
        }
    };
    built.map_err(|error| unusable(&name, &error))
}

fn read(path: &Path) -> Result<Value, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_LEN {
        return Err("it is no regular file, or much too long".to_owned());
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| error.to_string())?);
    // What does not parse may be a key: it is not repeated.
    serde_json::from_slice(&bytes).map_err(|_| "it is not JSON".to_owned())
}

/// A file for another cloud would fail with a denial that explains nothing.
fn refuse_other_universe(name: &str, json: &Value, universe: &str) -> Result<(), HolderError> {
    let theirs = json["universe_domain"].as_str().unwrap_or(PUBLIC_UNIVERSE);
    if theirs == universe {
        return Ok(());
    }
    Err(misconfigured(format!(
        "{name} are for another universe domain than {universe}: name it in the settings if \
         that is the cloud to use"
    )))
}

fn unusable(what: &str, error: &Error) -> HolderError {
    // The SDK's words about a field may repeat its value, which may be a key.
    let problem = match error.is_parsing() {
        true => "a field is missing or of a wrong form".to_owned(),
        false => refusal::causes(error),
    };
    misconfigured(format!(
        "could not use {what}: {problem}. Make new ones with `gcloud auth application-default \
         login`, or name a file of credentials"
    ))
}
