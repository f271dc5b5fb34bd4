//! `twinlock config show`

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::App;
use crate::args::{ConfigArgs, ConfigVerb};
use crate::exit::Failure;
use crate::origin::Origin;
use crate::report::Outcome;
use crate::settings::explain::{Explained, Setting, explain};

/// What `--json` says.
#[derive(Serialize)]
struct Report {
    /// `null` where there is no place for one.
    config: Option<File>,
    /// `null` when none is used.
    profile: Option<Profile>,
    settings: Vec<Shown>,
}

#[derive(Serialize)]
struct File {
    path: String,
    exists: bool,
    /// Who named it.
    origin: Source,
}

#[derive(Serialize)]
struct Profile {
    name: String,
    /// Why it is this one.
    chosen_by: &'static str,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    /// `null` where the holder, or another tool's settings, decide.
    value: Option<Value>,
    origin: Source,
}

/// Where a value came from.
#[derive(Serialize)]
struct Source {
    /// `flag`, `variable`, `profile` or `default`
    kind: &'static str,
    /// Of the flag or variable.
    name: Option<&'static str>,
    /// Of the configuration file, from 1.
    line: Option<usize>,
}

pub(crate) fn run(app: &App<'_>, args: &ConfigArgs) -> Result<Outcome, Failure> {
    let ConfigVerb::Show { origin, keys } = &args.verb;
    let report = Report::of(explain(app.common, keys, app.environment)?);
    Ok(Outcome::new("config show", report.text(*origin), &report))
}

impl Report {
    fn of(explained: Explained) -> Self {
        Self {
            config: explained.place.map(|place| File {
                exists: place.path.exists(),
                path: place.path.display().to_string(),
                origin: Source::of(&place.origin, None),
            }),
            profile: explained.profile.map(|(name, chosen_by)| Profile { name, chosen_by }),
            settings: explained.settings.into_iter().map(Shown::of).collect(),
        }
    }

    fn text(&self, with_origin: bool) -> String {
        let path = self.config.as_ref().map(|file| file.path.as_str());
        let mut out = match &self.config {
            Some(file) => {
                let missing = if file.exists { "" } else { ", which does not exist" };
                row("configuration", &format!("{}{missing}", file.path), file.origin.words(None))
            }
            None => row("configuration", "-", None),
        };
        out += &match &self.profile {
            Some(profile) => row("profile", &profile.name, Some(profile.chosen_by.to_owned())),
            None => row("profile", "-", None),
        };
        for shown in &self.settings {
            let value = match &shown.value {
                None => "-".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
            };
            let origin = shown.origin.words(path).filter(|_| with_origin);
            out += &row(&shown.name, &value, origin);
        }
        out
    }
}

fn row(name: &str, value: &str, origin: Option<String>) -> String {
    let origin = origin.map(|origin| format!("  ({origin})")).unwrap_or_default();
    format!("{name:<20} {value}{origin}\n")
}

impl Shown {
    fn of(setting: Setting) -> Self {
        let origin = Source::of(&setting.origin, setting.line);
        Self { name: setting.name, value: setting.value, origin }
    }
}

impl Source {
    fn of(origin: &Origin, line: Option<usize>) -> Self {
        let (kind, name) = match origin {
            Origin::Flag(name) => ("flag", Some(*name)),
            Origin::Variable(name) => ("variable", Some(*name)),
            Origin::Profile { .. } => ("profile", None),
            Origin::Default => ("default", None),
        };
        Self { kind, name, line }
    }

    /// For people.
    fn words(&self, config: Option<&str>) -> Option<String> {
        Some(match (self.name, self.line, config) {
            (Some(name), ..) => name.to_owned(),
            (None, Some(line), Some(path)) => {
                let name = Path::new(path).file_name().unwrap_or_default();
                format!("{}:{line}", name.display())
            }
            _ => self.kind.to_owned(),
        })
    }
}
