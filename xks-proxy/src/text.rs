//! Checked types from the texts of configurations and command lines.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::sigv4::{AccessKeyId, CredentialError, Region, RegionError};
use crate::uri_path::{ExternalKeyId, ExternalKeyIdError, PrefixError, UriPathPrefix};

macro_rules! from_text {
    ($($type:ident: $error:ident;)*) => {$(
        impl FromStr for $type {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

from_text! {
    AccessKeyId: CredentialError;
    ExternalKeyId: ExternalKeyIdError;
    Region: RegionError;
    UriPathPrefix: PrefixError;
}
