//! As whom to call Azure.

use std::fmt;
use std::sync::Arc;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, RetryOptions};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use twinlock_keys::HolderError;
use zeroize::Zeroizing;

use super::misconfigured;
use super::wire::Wires;
use crate::network;

/// As whom to call. `Debug` shows no secret.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Credential {
    /// The first of these for which the environment has what it takes:
    /// [`Environment`](Self::Environment) (`AZURE_CLIENT_SECRET`),
    /// [`WorkloadIdentity`](Self::WorkloadIdentity)
    /// (`AZURE_FEDERATED_TOKEN_FILE`),
    /// [`ManagedIdentity`](Self::ManagedIdentity) of an application service
    /// (`IDENTITY_ENDPOINT`), and otherwise [`AzureCli`](Self::AzureCli).
    ///
    /// The managed identity of a virtual machine has to be asked for by name,
    /// since its address answers on any network that wants it to.
    #[default]
    Usual,
    /// Whoever is signed in with `az login`.
    AzureCli,
    /// A service principal with a client secret.
    ClientSecret {
        /// The directory (tenant) that it is registered in.
        tenant_id: String,
        /// Its application id.
        client_id: String,
        /// The secret itself.
        client_secret: Zeroizing<String>,
    },
    /// The service principal in `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
    /// `AZURE_CLIENT_SECRET`.
    Environment,
    /// The identity that Azure gave to this machine or application service.
    ManagedIdentity {
        /// Which one, if Azure gave it more than its own.
        client_id: Option<String>,
    },
    /// The federated identity in `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
    /// `AZURE_FEDERATED_TOKEN_FILE`, as in Kubernetes.
    WorkloadIdentity,
}

impl Credential {
    fn name(&self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::AzureCli => "azure-cli",
            Self::ClientSecret { .. } => "client-secret",
            Self::Environment => "environment",
            Self::ManagedIdentity { .. } => "managed-identity",
            Self::WorkloadIdentity => "workload-identity",
        }
    }

    /// What [`Credential::Usual`] means in this environment.
    fn resolved(&self, environment: Environment<'_>) -> Self {
        match self {
            Self::Usual if environment("AZURE_CLIENT_SECRET").is_some() => Self::Environment,
            Self::Usual if environment("AZURE_FEDERATED_TOKEN_FILE").is_some() => {
                Self::WorkloadIdentity
            }
            Self::Usual if environment("IDENTITY_ENDPOINT").is_some() => {
                Self::ManagedIdentity { client_id: environment("AZURE_CLIENT_ID") }
            }
            Self::Usual => Self::AzureCli,
            chosen => chosen.clone(),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The environment, as an argument so that tests need not set any.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable that is set, empty counting as not.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Makes the SDK's credential. It asks nobody yet.
pub(super) fn open(
    credential: &Credential,
    authority: &str,
    wires: &Wires,
) -> Result<Arc<dyn TokenCredential>, HolderError> {
    let chosen = credential.resolved(&variable);
    let made = match &chosen {
        Credential::ClientSecret { tenant_id, client_id, client_secret } => {
            client_secret_credential(tenant_id, client_id, client_secret, authority, wires)
        }
        Credential::Environment => return of_environment(authority, wires),
        Credential::ManagedIdentity { client_id } => managed_identity(client_id.clone(), wires),
        Credential::WorkloadIdentity => workload_identity(authority, wires),
        Credential::AzureCli | Credential::Usual => {
            AzureCliCredential::new(None).map(|made| made as Arc<dyn TokenCredential>)
        }
    };
    made.map_err(|error| {
        misconfigured(format!(
            "cannot use the Azure credential {chosen:?}: {}",
            network::printable(&error.to_string())
        ))
    })
}

fn of_environment(authority: &str, wires: &Wires) -> Result<Arc<dyn TokenCredential>, HolderError> {
    let needed = |name| {
        variable(name).ok_or_else(|| {
            misconfigured(format!(
                "the Azure credential {:?} needs the variable {name}",
                Credential::Environment
            ))
        })
    };
    let named = Credential::ClientSecret {
        tenant_id: needed("AZURE_TENANT_ID")?,
        client_id: needed("AZURE_CLIENT_ID")?,
        client_secret: Zeroizing::new(needed("AZURE_CLIENT_SECRET")?),
    };
    open(&named, authority, wires)
}

type Made = azure_core::Result<Arc<dyn TokenCredential>>;

fn client_secret_credential(
    tenant_id: &str,
    client_id: &str,
    client_secret: &Zeroizing<String>,
    authority: &str,
    wires: &Wires,
) -> Made {
    let secret = Secret::new(String::clone(client_secret));
    let options = ClientSecretCredentialOptions { client_options: to_entra(authority, wires) };
    Ok(ClientSecretCredential::new(tenant_id, client_id.to_owned(), secret, Some(options))?)
}

fn workload_identity(authority: &str, wires: &Wires) -> Made {
    let options = WorkloadIdentityCredentialOptions {
        credential_options: ClientAssertionCredentialOptions {
            client_options: to_entra(authority, wires),
        },
        ..Default::default()
    };
    Ok(WorkloadIdentityCredential::new(Some(options))?)
}

fn managed_identity(client_id: Option<String>, wires: &Wires) -> Made {
    let options = ManagedIdentityCredentialOptions {
        user_assigned_id: client_id.map(UserAssignedId::ClientId),
        client_options: ClientOptions {
            transport: Some(wires.to_this_machine()),
            retry: RetryOptions::none(),
            ..Default::default()
        },
    };
    Ok(ManagedIdentityCredential::new(Some(options))?)
}

fn to_entra(authority: &str, wires: &Wires) -> ClientOptions {
    let mut cloud = CustomConfiguration::default();
    authority.clone_into(&mut cloud.authority_host);
    ClientOptions {
        cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
        transport: Some(wires.to_entra()),
        retry: RetryOptions::none(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_chooses_the_usual_one() {
        let usual = |set: &[&str]| {
            let environment =
                |name: &str| set.contains(&name).then(|| "00000000-0000-0000".to_owned());
            Credential::Usual.resolved(&environment).name()
        };
        assert_eq!(usual(&["AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"]), "environment");
        assert_eq!(usual(&["AZURE_FEDERATED_TOKEN_FILE"]), "workload-identity");
        assert_eq!(usual(&["IDENTITY_ENDPOINT"]), "managed-identity");
        assert_eq!(usual(&["AZURE_CLIENT_ID"]), "azure-cli");
    }

    #[test]
    fn a_chosen_one_stays() {
        let everything = |_: &str| Some("set".to_owned());
        assert_eq!(Credential::AzureCli.resolved(&everything).name(), "azure-cli");
    }

    #[test]
    fn debug_shows_no_secret() {
        let credential = Credential::ClientSecret {
            tenant_id: "tenant".to_owned(),
            client_id: "client".to_owned(),
            client_secret: Zeroizing::new("hunter2".to_owned()),
        };
        assert_eq!(format!("{credential:?}"), "client-secret");
    }
}
