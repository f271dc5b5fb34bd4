//! What concerns the process as a whole.

/// Keeps PINs and plaintext out of core dumps, and debuggers of the same user
/// away. Where the system does not let us, we go on.
pub fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
    // A limit of 0 is for files; a handler behind a pipe ignores it (core(5)).
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "the process could not be made undumpable");
        }
    }
}

/// Lets this process have as many open files, and so connections, as it may.
/// The limit that is set is mostly 1024, for the sake of old programs.
pub fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// Where a service's tasks run: on half of the processors, at least on one.
///
/// The threads that wait for PKCS#11 modules, which work in this process if the
/// token is software, need the others: with a thread of tasks for each processor
/// two processors answer a sixth fewer requests. A task takes some microseconds.
///
/// # Errors
/// When the system gives no thread or no poll.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.div_ceil(2))
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, getrlimit};

    use super::*;

    #[test]
    fn limits_are_set() {
        forbid_core_dumps();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        allow_many_files();
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, files.maximum);
    }
}
