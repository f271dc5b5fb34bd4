//! Where a setting came from.

use std::fmt;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The command line.
    Flag(&'static str),
    /// The environment.
    Variable(&'static str),
    /// A profile in the configuration file.
    Profile {
        /// Its name for the setting.
        key: &'static str,
        /// Which one, where there can be several.
        index: Option<usize>,
        /// The profile and its file, in words.
        profile: String,
    },
    /// Nobody said anything.
    Default,
}

/// In front of a complaint about it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::Profile { key, profile, .. } => write!(f, "{key}, {profile}"),
            Self::Default => f.write_str("default"),
        }
    }
}
