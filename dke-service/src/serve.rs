//! `serve`: from the configuration to the last answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use twinlock_service::listen::Listener;
use twinlock_service::log::Logs;
use twinlock_service::readiness::Readiness;
use twinlock_service::reload::{self, ReloadStatus};
use twinlock_service::shutdown::Shutdown;
use twinlock_service::tls::Tls;
use twinlock_service::traces::Traces;
use twinlock_service::{ops, process, systemd};

use crate::background;
use crate::config::Config;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::record::Record;
use crate::server::Server;
use crate::state::State;

/// What the name of every metric begins with.
const PREFIX: &str = "twinlock_dke";

/// Serves until it is told to stop.
///
/// # Errors
/// When the configuration cannot be served. An HSM or an issuer that does not
/// answer is no such thing: it is waited for.
pub fn run(file: &Path) -> Result<ExitCode, Failure> {
    process::forbid_core_dumps();
    process::allow_many_files();
    let config = Config::read(file)?;
    let logs = Arc::new(Logs::start(&config.log).map_err(Failure::misconfigured)?);
    let traces = config.traces.as_ref().map(|settings| Traces::start(settings, "twinlock-dke"));
    let traces = traces.transpose().map_err(Failure::misconfigured)?;
    let runtime = process::runtime().map_err(Failure::unavailable)?;
    let served = runtime.block_on(serve(file, config, &logs, traces.clone()));
    // Whatever hangs in a module must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(250));
    if let Some(traces) = traces {
        traces.close(Duration::from_secs(2));
    }
    served
}

async fn serve(
    file: &Path,
    config: Config,
    logs: &Arc<Logs<Record>>,
    traces: Option<Traces>,
) -> Result<ExitCode, Failure> {
    let shutdown = Shutdown::on_signals().map_err(Failure::unavailable)?;
    let state = State::new(&config, None).map_err(Failure::misconfigured)?;
    state.open(None).await.map_err(Failure::misconfigured)?;
    let listener = Listener::bind(&config.listen).map_err(Failure::misconfigured)?;
    let operations = ops::bind(&config.operations).map_err(Failure::misconfigured)?;

    let mut registry = Registry::default();
    let metrics = Metrics::new(registry.sub_registry_with_prefix(PREFIX));
    let ours = registry.sub_registry_with_prefix(PREFIX);
    logs.register(ours);
    listener.counts().register(ours);
    let readiness = Readiness::new(shutdown.clone());
    let body_timeout = config.listen.limits.body();
    let server =
        Arc::new(Server::new(state, metrics.clone(), logs.requests(), traces, body_timeout));
    let service = Service { file: file.to_owned(), server, metrics, tls: listener.tls() };
    let service = Arc::new(service);
    service.note();
    tracing::info!(
        address = %address(&listener), operations = %address(&operations), "serving"
    );
    service.spawn_background(&readiness);

    let router = ops::router(readiness, Arc::new(registry));
    // Each is a task of its own: a disk that hangs stops whoever writes to it, and
    // nobody else.
    // Load balancers hear until the end that it is not ready any more.
    tokio::spawn(async move { operations.serve(router, &Shutdown::default()).await });
    let served = tokio::spawn({
        let (server, shutdown) = (Arc::clone(&service.server), shutdown.clone());
        async move { listener.serve_each(move |peer| server.connected(peer), &shutdown).await }
    });
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            shutdown.begun().await;
            systemd::stopping();
        }
    });
    let reloading = tokio::spawn({
        // Not held: who ends last writes what was logged.
        let (service, logs) = (Arc::clone(&service), Arc::downgrade(logs));
        async move { service.reload_again_and_again(&logs, config.files()).await }
    });
    let drained = tokio::select! {
        drained = served => drained.map_err(Failure::unavailable)?,
        failure = reloading => return Err(failure.unwrap_or_else(Failure::unavailable)),
    };
    if drained.cut > 0 {
        tracing::warn!(requests = drained.cut, "some requests were not answered any more");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What the tasks beside the listeners need.
struct Service {
    file: PathBuf,
    server: Arc<Server>,
    metrics: Metrics,
    tls: Option<Arc<Tls>>,
}

impl Service {
    /// Starts what goes on until the process ends.
    fn spawn_background(self: &Arc<Self>, readiness: &Readiness) {
        let (service, ready) = (Arc::clone(self), readiness.condition("hsm"));
        tokio::spawn(async move { background::look_at_tokens(&service.server, &ready).await });
        let (service, ready) = (Arc::clone(self), readiness.condition("key"));
        tokio::spawn(async move { background::look_for_keys(&service.server, &ready).await });
        let (service, ready) = (Arc::clone(self), readiness.condition("issuer"));
        tokio::spawn(async move { background::ask_issuers(&service.server, &ready).await });
        let service = Arc::clone(self);
        tokio::spawn(async move { background::show(&service.server, &service.metrics).await });
        tokio::spawn(systemd::keep_watchdog_calm());
    }

    /// Runs until it is dropped; it ends only if it cannot begin.
    async fn reload_again_and_again(
        &self,
        logs: &Weak<Logs<Record>>,
        files: Vec<PathBuf>,
    ) -> Failure {
        let reload = async || {
            if let Some(logs) = logs.upgrade() {
                logs.reopen();
            }
            let reloaded = self.reload().await;
            self.metrics.reload(reloaded.is_ok());
            reloaded
        };
        let status = ReloadStatus::default();
        match reload::run(self.watched(files), reload::EVERY, &status, reload).await {
            Ok(()) => Failure::unavailable("the configuration is not watched any more"),
            Err(error) => Failure::unavailable(error),
        }
    }

    /// Takes over what the configuration says now, all of it or nothing.
    async fn reload(&self) -> Result<Vec<PathBuf>, String> {
        // Reading files may take its time. This task alone waits for it.
        let before = self.server.state();
        let (config, state) = tokio::task::block_in_place(|| {
            let config = Config::read(&self.file).map_err(|failure| failure.to_string())?;
            let state = State::new(&config, Some(&before));
            Ok::<_, String>((config, state.map_err(|error| error.to_string())?))
        })?;
        state.open(Some(&before)).await.map_err(|error| error.to_string())?;
        match (&self.tls, &config.listen.tls) {
            (Some(tls), Some(settings)) => {
                tls.reload_with(settings).map_err(|error| error.to_string())?
            }
            (None, None) => {}
            _ => return Err("listen.tls cannot come or go while the service runs".to_owned()),
        }
        self.server.replace(state);
        self.metrics.forget();
        self.note();
        Ok(self.watched(config.files()))
    }

    fn watched(&self, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
        files.push(self.file.clone());
        files
    }

    /// What changes with the configuration only.
    fn note(&self) {
        if let Some(tls) = &self.tls {
            let expires = tls.expires().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            self.metrics.certificate_expires.set(i64::try_from(expires).unwrap_or(i64::MAX));
            tls.concerns(SystemTime::now()).iter().for_each(|concern| tracing::warn!("{concern}"));
        }
    }
}

fn address(listener: &Listener) -> String {
    listener.address().map_or_else(|error| error.to_string(), |address| address.to_string())
}
