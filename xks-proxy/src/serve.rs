//! `serve`: from the configuration to the last answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use twinlock_service::listen::Listener;
use twinlock_service::log::Logs;
use twinlock_service::readiness::{Condition, Readiness};
use twinlock_service::reload::{self, ReloadStatus};
use twinlock_service::shutdown::Shutdown;
use twinlock_service::tls::Tls;
use twinlock_service::{ops, process, systemd};

use crate::background;
use crate::config::Config;
use crate::counts::Counts;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::record::Record;
use crate::server::Server;
use crate::state::State;

/// What the name of every metric begins with.
const PREFIX: &str = "twinlock_xks";

/// Serves until it is told to stop.
///
/// # Errors
/// When the configuration cannot be served. An HSM that does not answer is no
/// such thing: it is waited for.
pub fn run(file: &Path) -> Result<ExitCode, Failure> {
    process::forbid_core_dumps();
    let config = Config::read(file)?;
    let logs = Logs::start(&config.log).map_err(Failure::misconfigured)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::unavailable)?;
    let served = runtime.block_on(serve(file, config, &logs));
    // Whatever hangs in a module must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(250));
    served
}

async fn serve(file: &Path, config: Config, logs: &Logs<Record>) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::on_signals().map_err(Failure::unavailable)?;
    let counts = Counts::open(config.state_directory.as_deref(), config.fleet_size);
    let counts =
        counts.map_err(|error| Failure::misconfigured(format!("state_directory: {error}")))?;
    let state = State::new(&config, None, &counts).map_err(Failure::misconfigured)?;
    state.open().await.map_err(Failure::misconfigured)?;
    counts.save().map_err(|error| Failure::misconfigured(format!("state_directory: {error}")))?;
    if config.state_directory.is_none() {
        tracing::warn!(
            "without a state_directory, counts of encryptions begin anew with each start"
        );
    }
    let listener = Listener::bind(&config.listen).map_err(Failure::misconfigured)?;
    let operations = ops::bind(&config.operations).map_err(Failure::misconfigured)?;

    let mut registry = Registry::default();
    let metrics = Metrics::new(registry.sub_registry_with_prefix(PREFIX));
    let ours = registry.sub_registry_with_prefix(PREFIX);
    logs.register(ours);
    listener.counts().register(ours);
    let reloads = ReloadStatus::default();
    let readiness = Readiness::new(shutdown.clone());
    let hsms = readiness.condition("hsm");
    let body_timeout = config.listen.limits.body();
    let server = Arc::new(Server::new(state, metrics.clone(), logs.requests(), body_timeout));
    let service = Service { file: file.to_owned(), server, counts, metrics, tls: listener.tls() };
    service.note(&config);
    tracing::info!(
        address = %address(&listener), operations = %address(&operations), "serving"
    );

    let router = ops::router(readiness, Arc::new(registry));
    let operations = operations.serve(router, &shutdown);
    let served = {
        let server = Arc::clone(&service.server);
        listener.serve_each(move |peer| server.connected(peer), &shutdown)
    };
    let background = service.background(&hsms, &reloads, logs, config.files());
    let drained = tokio::select! {
        (drained, _) = async { tokio::join!(served, operations) } => drained,
        failure = background => return Err(failure),
    };
    systemd::stopping();
    if drained.cut > 0 {
        tracing::warn!(requests = drained.cut, "some requests were not answered any more");
    }
    if let Err(error) = service.counts.close() {
        tracing::error!(%error, "the counts of encryptions cannot be written");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What the tasks beside the listeners need.
struct Service {
    file: PathBuf,
    server: Arc<Server>,
    counts: Counts,
    metrics: Metrics,
    tls: Option<Arc<Tls>>,
}

impl Service {
    /// Runs until it is dropped; it ends only if it cannot begin.
    async fn background(
        &self,
        hsms: &Condition,
        reloads: &ReloadStatus,
        logs: &Logs<Record>,
        files: Vec<PathBuf>,
    ) -> Failure {
        let watched = self.watched(files);
        let reload = async || {
            logs.reopen();
            let reloaded = self.reload().await;
            self.metrics.reload(reloaded.is_ok());
            reloaded
        };
        let reloading = reload::run(watched, reload::EVERY, reloads, reload);
        let looking = background::look_at_tokens(&self.server, hsms);
        let showing = background::show(&self.server, &self.metrics);
        let calming = async {
            systemd::keep_watchdog_calm().await; // it ends where there is no watchdog
            std::future::pending::<()>().await;
        };
        let saving = background::save_counts(&self.counts);
        let sweeping = background::look_for_keys(&self.server);
        let error = tokio::select! {
            result = reloading => result.err(),
            () = looking => None,
            () = saving => None,
            () = showing => None,
            () = sweeping => None,
            () = calming => None,
        };
        Failure::unavailable(
            error.map_or_else(|| "a task ended".to_owned(), |error| error.to_string()),
        )
    }

    /// Takes over what the configuration says now, all of it or nothing.
    async fn reload(&self) -> Result<Vec<PathBuf>, String> {
        let config = Config::read(&self.file).map_err(|failure| failure.to_string())?;
        let state = State::new(&config, Some(&self.server.state()), &self.counts);
        let state = state.map_err(|error| error.to_string())?;
        state.open().await.map_err(|error| error.to_string())?;
        match (&self.tls, &config.listen.tls) {
            (Some(tls), Some(settings)) => {
                tls.reload_with(settings).map_err(|error| error.to_string())?
            }
            (None, None) => {}
            _ => return Err("listen.tls cannot come or go while the proxy runs".to_owned()),
        }
        self.server.replace(state);
        self.note(&config);
        Ok(self.watched(config.files()))
    }

    fn watched(&self, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        files.push(self.file.clone());
        files
    }

    /// What changes with the configuration only.
    fn note(&self, config: &Config) {
        if let Some(tls) = &self.tls {
            self.metrics.certificate_expires.set(seconds(tls.expires()));
            tls.concerns(SystemTime::now()).iter().for_each(|concern| tracing::warn!("{concern}"));
        }
        self.metrics.note(config);
    }
}

fn address(listener: &Listener) -> String {
    listener.address().map_or_else(|error| error.to_string(), |address| address.to_string())
}

/// As metrics have it.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
