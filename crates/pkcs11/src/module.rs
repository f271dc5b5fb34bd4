//! PKCS#11 modules: each loaded and initialised once per process, never
//! finalised.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use twinlock_keys::Pkcs11Uri;

use crate::Pkcs11Error;
use crate::breaker::Trips;
use crate::one_shot::OneShot;
use crate::workers::{Limits, Workers};

/// The module to use for URIs that name none.
pub(crate) const MODULE_VARIABLE: &str = "TWINLOCK_PKCS11_MODULE";

/// One context per module and process: `C_Initialize` is for the whole
/// process, and two contexts of one module have crashed programs before.
/// `C_Finalize` is never called, since a call might hang in the module.
pub(crate) struct Module {
    path: PathBuf,
    workers: Workers<Pkcs11>,
    context: Arc<Mutex<Option<Pkcs11>>>,
    one_shot: OnceLock<OneShot>,
}

impl Module {
    /// The module that `uri` names, or else the environment.
    pub(crate) fn of(uri: &Pkcs11Uri) -> Result<Arc<Self>, Pkcs11Error> {
        let path = match uri.module_path() {
            Some(path) => PathBuf::from(path),
            None => default_path()?,
        };
        Ok(Self::at(resolved(&path)?))
    }

    fn at(path: PathBuf) -> Arc<Self> {
        static MODULES: LazyLock<Mutex<HashMap<PathBuf, Arc<Module>>>> =
            LazyLock::new(Mutex::default);
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(modules.entry(path).or_insert_with_key(|path| Arc::new(Self::new(path))))
    }

    fn new(path: &Path) -> Self {
        let context = Arc::default();
        // One broken token must not hide the module's others, so only calls
        // that hang, all of them, open the breaker.
        let trips = Trips { failures: u32::MAX, rest: Duration::from_secs(1) };
        let workers = Workers::new(Limits { workers: 1, queue: 64, hung: 2, trips }, {
            let path = path.to_owned();
            let context = Arc::clone(&context);
            move || initialised(&path, &context)
        });
        Self { path: path.to_owned(), workers, context, one_shot: OnceLock::new() }
    }

    /// The file that was loaded, links resolved.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Threads for calls that need no session: slots and tokens.
    pub(crate) fn workers(&self) -> &Workers<Pkcs11> {
        &self.workers
    }

    /// The context. It may block for as long as the module likes.
    pub(crate) fn context(&self) -> Result<Pkcs11, Pkcs11Error> {
        initialised(&self.path, &self.context)
    }

    /// What cryptoki has no functions for, of the module once it is loaded.
    pub(crate) fn one_shot(&self) -> Result<OneShot, Pkcs11Error> {
        if let Some(known) = self.one_shot.get() {
            return Ok(*known);
        }
        let found = OneShot::of(&self.path).map_err(|error| cannot_load(&self.path, error))?;
        Ok(*self.one_shot.get_or_init(|| found))
    }
}

fn default_path() -> Result<PathBuf, Pkcs11Error> {
    let path = std::env::var_os(MODULE_VARIABLE).filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or_else(|| {
        Pkcs11Error::misconfigured(format!(
            "no PKCS#11 module is named: add ?module-path=<file> to the URI, for instance \
             /usr/lib/softhsm/libsofthsm2.so, or set {MODULE_VARIABLE}"
        ))
    })
}

/// One spelling per file. A name without a folder is the loader's to find, and
/// never a file of the current folder.
fn resolved(path: &Path) -> Result<PathBuf, Pkcs11Error> {
    if path.components().count() == 1 && !path.is_absolute() {
        return Ok(path.to_owned());
    }
    path.canonicalize().map_err(|error| {
        Pkcs11Error::misconfigured(format!(
            "the PKCS#11 module {} cannot be used: {error}; install it or correct module-path",
            path.display()
        ))
    })
}

fn initialised(path: &Path, context: &Mutex<Option<Pkcs11>>) -> Result<Pkcs11, Pkcs11Error> {
    // Asked outside the lock: a call that hangs costs one thread, not all.
    let known = context.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(known) = known.filter(|known| !is_finalised(known)) {
        return Ok(known);
    }
    let mut context = context.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = match &*context {
        Some(context) => context.clone(),
        None => Pkcs11::new(path).map_err(|error| cannot_load(path, error))?,
    };
    initialise(&loaded).map_err(|error| cannot_initialise(path, error))?;
    Ok(context.insert(loaded).clone())
}

/// Initialises the module if it is not.
pub(crate) fn initialise(module: &Pkcs11) -> Result<(), Error> {
    // PKCS#11 leaves open what two at a time would do.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Without this flag SoftHSM switches all of its locks off.
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// True if some other part of the program finalised the module.
fn is_finalised(context: &Pkcs11) -> bool {
    matches!(context.get_library_info(), Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)))
}

fn cannot_load(path: &Path, error: Error) -> Pkcs11Error {
    Pkcs11Error::misconfigured(format!(
        "the PKCS#11 module {} cannot be loaded: {error}",
        path.display()
    ))
}

fn cannot_initialise(path: &Path, error: Error) -> Pkcs11Error {
    let what = format!(
        "initialise the PKCS#11 module {} (is its own configuration in place? SoftHSM reads the \
         file that SOFTHSM2_CONF names)",
        path.display()
    );
    Pkcs11Error::of_call(error, &what)
}
