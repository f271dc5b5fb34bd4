//! Logs on stderr: warnings, and more on request.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::CommonArgs;
use crate::exit::Failure;

/// Starts logging. `TWINLOCK_LOG` goes before `-q` and `-v`.
pub(crate) fn start(common: &CommonArgs) -> Result<(), Failure> {
    let filter = match std::env::var("TWINLOCK_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(directives)
            .map_err(|error| Failure::usage(format!("TWINLOCK_LOG: {error}")))?,
        _ => EnvFilter::new(default_filter(common)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && !no_color())
        .with_writer(std::io::stderr)
        // It would tell stderr that stderr cannot be written to, and panic.
        .log_internal_errors(false)
        .event_format(Short)
        .init();
    Ok(())
}

/// Libraries of others are only heard with `-vvv`: their debug logs are long.
fn default_filter(common: &CommonArgs) -> &'static str {
    match (common.quiet, common.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => {
            "warn,twinlock=info,twinlock_keys=info,twinlock_pkcs11=info,twinlock_remote_keys=info"
        }
        (false, 2) => {
            "warn,twinlock=debug,twinlock_keys=debug,twinlock_pkcs11=debug,twinlock_remote_keys=debug"
        }
        (false, _) => "debug",
    }
}

/// <https://no-color.org>: set and not empty.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// `warning: a key in a file is for development key=file:///…`
struct Short;

impl<S, N> FormatEvent<S, N> for Short
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (word, color) = match *event.metadata().level() {
            Level::ERROR => ("error", 31),
            Level::WARN => ("warning", 33),
            Level::INFO => ("info", 32),
            Level::DEBUG => ("debug", 34),
            Level::TRACE => ("trace", 35),
        };
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[{color}m{word}:\x1b[0m ")?,
            false => write!(writer, "{word}: ")?,
        }
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(writer, "{}{{{fields}}}: ", span.name())?;
            }
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
