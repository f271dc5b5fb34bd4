//! The key step for callers without an async runtime (feature `blocking`).

/// No async runtime could be started.
#[derive(Debug, thiserror::Error)]
#[error("no async runtime could be started for the key step: {0}")]
pub struct RuntimeError(#[from] std::io::Error);

/// Runs `work` to its end on a runtime of its own.
pub(crate) fn wait_for<T>(work: impl Future<Output = T>) -> Result<T, RuntimeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}
