//! `twinlock login` and `twinlock logout`

use serde::Serialize;

use crate::App;
use crate::exit::Failure;
use crate::holders;
use crate::report::Outcome;
use crate::settings;

/// What `--json` says for `login`.
#[derive(Serialize)]
struct LoggedIn {
    issuer: Option<String>,
}

/// What `--json` says for `logout`.
#[derive(Serialize)]
struct LoggedOut {
    issuer: Option<String>,
    /// False if nobody was logged in.
    removed: bool,
}

pub(crate) fn log_in(app: &App<'_>) -> Result<Outcome, Failure> {
    let (access, profile) = settings::described_access(app.common, app.environment)?;
    let work = async {
        let login = holders::dke::start_login(&access).await?;
        app.console.tell(&login.message());
        login.finish().await
    };
    let result = holders::runtime()?.block_on(work);
    result.map_err(|error| Failure::from(error).about(profile))?;
    let issuer = access.dke.issuer;
    let text = format!("logged in with {}\n", issuer.as_deref().unwrap_or_default());
    Ok(Outcome::new("login", text, &LoggedIn { issuer }))
}

pub(crate) fn log_out(app: &App<'_>) -> Result<Outcome, Failure> {
    let (access, profile) = settings::described_access(app.common, app.environment)?;
    let removed = holders::runtime()?.block_on(holders::dke::log_out(&access));
    let removed = removed.map_err(|error| Failure::from(error).about(profile))?;
    let issuer = access.dke.issuer;
    let with = issuer.as_deref().unwrap_or_default();
    let text = match removed {
        true => format!("logged out; tokens of {with} in copies stay good until they end\n"),
        false => format!("nobody was logged in with {with}\n"),
    };
    Ok(Outcome::new("logout", text, &LoggedOut { issuer, removed }))
}
