//! Which settings count, and where each came from: `twinlock config show`.

use serde_json::Value;
use toml_edit::{Document, Item};

use super::{Choice, ChosenProfile, Named, NamedKeys, variable};
use crate::args::{CommonArgs, KeyArgs};
use crate::config::{Environment, Place};
use crate::exit::Failure;
use crate::origin::Origin;
use crate::pins::uri_without_pin;

/// The settings that count.
pub(crate) struct Explained {
    /// The configuration file. `None` where there is no place for one.
    pub(crate) place: Option<Place>,
    /// The profile's name, and who chose it.
    pub(crate) profile: Option<(String, &'static str)>,
    pub(crate) settings: Vec<Setting>,
}

pub(crate) struct Setting {
    pub(crate) name: String,
    /// As it may be shown; `None` where others choose.
    pub(crate) value: Option<Value>,
    pub(crate) origin: Origin,
    /// Where it stands in the configuration file, from 1.
    pub(crate) line: Option<usize>,
}

/// What a verb with these words would go by.
pub(crate) fn explain(
    common: &CommonArgs,
    keys: &KeyArgs,
    environment: Environment<'_>,
) -> Result<Explained, Failure> {
    let profile = ChosenProfile::find(common, environment)?;
    let named = NamedKeys::collect(keys, environment, &profile)?;
    let text = profile.place.as_ref().map_or(Ok(String::new()), Place::text)?;
    let mut list = List::new(&profile, environment, &text);
    list.keys(&named);
    list.rest_of_profile();
    list.rest_of_environment()?;
    let settings = list.settings;
    let chosen = profile.name.clone().zip(chosen_by(profile.why));
    Ok(Explained { profile: chosen, place: profile.place, settings })
}

fn chosen_by(why: Choice) -> Option<&'static str> {
    match why {
        Choice::Flag => Some("--profile"),
        Choice::Variable => Some("TWINLOCK_PROFILE"),
        Choice::File => Some("the file's own choice"),
        Choice::OnlyOne => Some("the only one in the file"),
        Choice::Nobody => None,
    }
}

struct List<'a> {
    chosen: &'a ChosenProfile,
    environment: Environment<'a>,
    text: &'a str,
    /// The file with its places; `None` if it is none.
    document: Option<Document<&'a str>>,
    settings: Vec<Setting>,
}

impl<'a> List<'a> {
    fn new(chosen: &'a ChosenProfile, environment: Environment<'a>, text: &'a str) -> Self {
        let document = Document::parse(text).ok();
        Self { chosen, environment, text, document, settings: Vec::new() }
    }

    fn keys(&mut self, named: &NamedKeys) {
        self.key("provider", named.provider.as_ref(), "provider");
        self.key("customer", named.customer.as_ref(), "customer");
        for (index, (provider, customer)) in named.keyslots.iter().enumerate() {
            self.key(&format!("keyslot.{index}.provider"), Some(provider), "provider");
            self.key(&format!("keyslot.{index}.customer"), Some(customer), "customer");
        }
    }

    fn key(&mut self, name: &str, named: Option<&Named>, side: &str) {
        let value = named.map(|named| uri_without_pin(&named.uri).into());
        let origin = named.map_or(Origin::Default, |named| named.origin.clone());
        let line = match &origin {
            Origin::Profile { key, index: Some(index), .. } => self.line_in(key, *index, side),
            Origin::Profile { key, .. } => self.line(&[key]),
            _ => None,
        };
        self.settings.push(Setting { name: name.to_owned(), value, origin, line });
    }

    fn rest_of_profile(&mut self) {
        let profile = &self.chosen.profile;
        for (index, moved) in profile.moved.iter().enumerate() {
            for (end, uri) in [("from", &moved.from), ("to", &moved.to)] {
                let line = self.line_in("moved", index, end);
                let origin = self.chosen.origin("moved", Some(index));
                let (name, value) = (format!("moved.{index}.{end}"), uri_without_pin(uri));
                self.settings.push(Setting { name, value: Some(value.into()), origin, line });
            }
        }
        let extractable = Some(Value::from(profile.allow_extractable));
        self.of_profile("allow_extractable", &["allow_extractable"], extractable);
        let deadline = profile.deadline_seconds.map(|seconds| seconds.get().into());
        self.of_profile("deadline_seconds", &["deadline_seconds"], deadline);
        for provider in ["azure", "dke", "gcp", "vault"] {
            self.table_of_profile(provider);
        }
    }

    /// What a profile says about a provider. Secrets are in files that it names.
    fn table_of_profile(&mut self, table: &'static str) {
        let Some(items) = self.profile().and_then(|profile| profile.get(table)?.as_table_like())
        else {
            return;
        };
        let found: Vec<Setting> = items
            .iter()
            .map(|(key, item)| Setting {
                name: format!("{table}.{key}"),
                value: item.as_str().map(Value::from).or_else(|| words(item)),
                origin: self.chosen.origin(table, None),
                line: self.line_of(item),
            })
            .collect();
        self.settings.extend(found);
    }

    /// A setting that only a profile can have. One that does not stand there
    /// has its default.
    fn of_profile(&mut self, name: &'static str, path: &[&str], value: Option<Value>) {
        let line = self.line(path);
        let origin = match line {
            Some(_) => self.chosen.origin(name, None),
            None => Origin::Default,
        };
        self.settings.push(Setting { name: name.to_owned(), value, origin, line });
    }

    fn rest_of_environment(&mut self) -> Result<(), Failure> {
        let aws = &self.chosen.profile.aws;
        let aws = [
            ("aws.profile", "profile", &aws.profile, &["AWS_PROFILE"][..]),
            ("aws.region", "region", &aws.region, &["AWS_REGION", "AWS_DEFAULT_REGION"]),
            (
                "aws.endpoint",
                "endpoint",
                &aws.endpoint,
                &["AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"],
            ),
        ];
        for (name, key, value, variables) in aws {
            match value {
                Some(value) => {
                    self.of_profile(name, &["aws", key], Some(value.as_str().into()));
                }
                None => self.of_variables(name, variables, |value| value)?,
            }
        }
        let vault = &self.chosen.profile.vault;
        let vault = [
            ("vault.address", vault.address.is_some(), &["BAO_ADDR", "VAULT_ADDR"]),
            ("vault.ca_file", vault.ca_file.is_some(), &["BAO_CACERT", "VAULT_CACERT"]),
            ("vault.namespace", vault.namespace.is_some(), &["BAO_NAMESPACE", "VAULT_NAMESPACE"]),
        ];
        for (name, _, variables) in vault.into_iter().filter(|(_, in_profile, _)| !in_profile) {
            self.of_variables(name, variables, |value| value)?;
        }
        self.of_variables("pkcs11_module", &["TWINLOCK_PKCS11_MODULE"], |value| value)?;
        self.of_variables("pin", &["TWINLOCK_PIN"], |_| "…".to_owned())?;
        self.of_variables("pin_file", &["TWINLOCK_PIN_FILE"], |value| value)?;
        self.of_variables("aead", &["TWINLOCK_AEAD"], |value| value)?;
        self.of_variables("log", &["TWINLOCK_LOG"], |value| value)
    }

    /// The first of some variables that is set.
    fn of_variables(
        &mut self,
        name: &str,
        variables: &[&'static str],
        shown: impl Fn(String) -> String,
    ) -> Result<(), Failure> {
        let mut setting =
            Setting { name: name.to_owned(), value: None, origin: Origin::Default, line: None };
        for &variable_name in variables {
            if let Some(value) = variable(self.environment, variable_name)? {
                setting.value = Some(shown(value).into());
                setting.origin = Origin::Variable(variable_name);
                break;
            }
        }
        self.settings.push(setting);
        Ok(())
    }

    /// The line of what the profile has at `path`.
    fn line(&self, path: &[&str]) -> Option<usize> {
        let item = path.iter().try_fold(self.profile()?, |item, key| item.get(key))?;
        self.line_of(item)
    }

    /// The line of `key` in the profile's table number `index` of that name.
    fn line_in(&self, name: &str, index: usize, key: &str) -> Option<usize> {
        self.line_of(self.profile()?.get(name)?.get(index)?.get(key)?)
    }

    fn profile(&self) -> Option<&Item> {
        self.document.as_ref()?.get("profiles")?.get(self.chosen.name.as_ref()?)
    }

    fn line_of(&self, item: &Item) -> Option<usize> {
        let before = self.text.get(..item.span()?.start)?;
        Some(before.matches('\n').count() + 1)
    }
}

/// A list of texts.
fn words(item: &Item) -> Option<Value> {
    let words = item.as_array()?.iter().map(|word| word.as_str().map(Value::from));
    words.collect::<Option<Vec<_>>>().map(Value::from)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    const CONFIG: &str = "\
[profiles.a]
provider = 'file:///p'
customer = 'pkcs11:token=t;object=o?pin-value=8642&module-path=/m'
deadline_seconds = 3

[[profiles.a.keyslot]]
customer = 'file:///c2'
provider = 'file:///p2'

[profiles.a.aws]
region = 'eu-west-3'

[profiles.a.vault]
namespace = 'team'
";

    fn explained(keys: &KeyArgs, variables: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, CONFIG).unwrap();
        let common = CommonArgs {
            json: false,
            quiet: false,
            verbose: 0,
            config: Some(config),
            profile: None,
        };
        let environment = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let explained = explain(&common, keys, &environment).unwrap();
        assert_eq!(explained.profile.unwrap(), ("a".to_owned(), "the only one in the file"));
        let line = |setting: Setting| {
            let origin = match (setting.line, setting.origin) {
                (Some(line), _) => line.to_string(),
                (None, origin) => origin.to_string(),
            };
            setting.value.map(|value| format!("{} {value} {origin}", setting.name))
        };
        explained.settings.into_iter().filter_map(line).collect()
    }

    #[test]
    fn each_value_has_the_line_that_it_stands_on() {
        let expected = [
            r#"provider "file:///p" 2"#,
            r#"customer "pkcs11:token=t;object=o?pin-value=…&module-path=/m" 3"#,
            r#"keyslot.0.provider "file:///p2" 8"#,
            r#"keyslot.0.customer "file:///c2" 7"#,
            "allow_extractable false default",
            "deadline_seconds 3 4",
            r#"vault.namespace "team" 14"#,
            r#"aws.region "eu-west-3" 11"#,
        ];
        assert_eq!(explained(&KeyArgs::default(), &[]), expected);
    }

    #[test]
    fn flags_and_variables_are_named_and_a_pin_is_not_shown() {
        let keys = KeyArgs { provider: Some("file:///f".to_owned()), ..KeyArgs::default() };
        let variables = [
            ("TWINLOCK_CUSTOMER", "file:///v"),
            ("TWINLOCK_PIN", "8642"),
            ("TWINLOCK_PIN_FILE", "/run/pin"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ENDPOINT_URL", "https://kms"),
            ("VAULT_ADDR", "https://vault"),
            ("VAULT_NAMESPACE", "other"),
        ];
        let expected = [
            r#"provider "file:///f" --provider"#,
            r#"customer "file:///v" TWINLOCK_CUSTOMER"#,
            "allow_extractable false default",
            "deadline_seconds 3 4",
            r#"vault.namespace "team" 14"#,
            r#"aws.region "eu-west-3" 11"#,
            r#"aws.endpoint "https://kms" AWS_ENDPOINT_URL"#,
            r#"vault.address "https://vault" VAULT_ADDR"#,
            r#"pin "…" TWINLOCK_PIN"#,
            r#"pin_file "/run/pin" TWINLOCK_PIN_FILE"#,
        ];
        assert_eq!(explained(&keys, &variables), expected);
    }
}
