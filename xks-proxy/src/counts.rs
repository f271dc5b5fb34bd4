//! How often each key has encrypted.
//!
//! AES-GCM with random IVs of 96 bits is good for 2^32 encryptions by one key
//! (NIST SP 800-38D section 8.3): at KMS's default of 1,800 requests a second
//! that is 28 days. So encryptions are counted for each generation, warned about
//! at half of that and refused beyond it.
//!
//! A count survives a restart without a write for each encryption: the file says
//! what *may* have been used, a block ahead of the count. After a crash the rest
//! of a block counts as used, which errs on the safe side.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many encryptions a key is good for, whoever of a fleet does them.
pub const LIMIT: u64 = 1 << 32;

/// So many are written down ahead: half a minute of KMS's default load.
const BLOCK: u64 = 1 << 16;

/// Longest file that is read: thousands of keys.
const MAX_FILE: u64 = 16 << 20;

/// The counts of all generations, and the file that keeps them.
pub struct Counts {
    file: Option<PathBuf>,
    limit: u64,
    /// Held for as long as this lives: two proxies would forget each other's.
    _lock: Option<File>,
    counts: Mutex<HashMap<String, Arc<Count>>>,
    /// What the file says, of generations that are not configured now, too.
    written: Mutex<BTreeMap<String, u64>>,
}

/// The count of one generation of one key.
#[derive(Debug)]
pub struct Count {
    used: AtomicU64,
    /// What the file says.
    reserved: AtomicU64,
    limit: u64,
    has_warned: AtomicBool,
}

/// A key has encrypted as often as is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this generation of the key has encrypted as often as is safe; add a new generation")]
pub struct UsedUp;

impl Counts {
    /// Reads the file of `directory`; without one, counts begin at nothing with
    /// each start. Each of `fleet_size` proxies may use its part of the limit.
    ///
    /// # Errors
    /// When there is a file that cannot be read or is not ours: starting from
    /// nothing would forget what was used.
    pub fn open(directory: Option<&Path>, fleet_size: NonZeroU32) -> io::Result<Self> {
        let file = directory.map(|directory| directory.join("encryptions.json"));
        let written = file.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Self {
            file,
            _lock: None,
            limit: LIMIT / u64::from(fleet_size.get()),
            counts: Mutex::default(),
            written: Mutex::new(written),
        })
    }

    /// The same, for a proxy that encrypts: the directory is nobody else's then.
    ///
    /// # Errors
    /// Also when another proxy has it.
    pub fn own(directory: Option<&Path>, fleet_size: NonZeroU32) -> io::Result<Self> {
        let _lock = directory.map(locked).transpose()?;
        let counts = Self::open(directory, fleet_size)?;
        if counts.file.as_ref().is_some_and(|file| !file.exists()) {
            tracing::warn!("no key has been counted here before: counts of encryptions begin at 0");
        }
        Ok(Self { _lock, ..counts })
    }

    /// The count of the generation of that name.
    pub fn of(&self, name: &str) -> Arc<Count> {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get(name) {
            return Arc::clone(count);
        }
        let used = lock(&self.written).get(name).copied().unwrap_or(0);
        let count = Arc::new(Count {
            used: AtomicU64::new(used),
            reserved: AtomicU64::new(used),
            limit: self.limit,
            has_warned: AtomicBool::new(false),
        });
        counts.insert(name.to_owned(), Arc::clone(&count));
        count
    }

    /// Writes down what will be used next, if that is not there yet. It blocks,
    /// and is called before anything is encrypted and then every few seconds.
    ///
    /// # Errors
    /// When the file cannot be written. Encryption goes on, and the next call
    /// tries again; a restart before that forgets some.
    pub fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let counts: Vec<_> = lock(&self.counts)
            .iter()
            .map(|(name, count)| (name.clone(), Arc::clone(count)))
            .collect();
        if counts.iter().all(|(_, count)| count.is_covered()) {
            return Ok(());
        }
        let mut written = lock(&self.written).clone();
        let ahead: Vec<_> =
            counts.iter().map(|(name, count)| (name, count, count.ahead())).collect();
        written.extend(ahead.iter().map(|(name, _, ahead)| ((*name).clone(), *ahead)));
        write(file, &written)?;
        for (_, count, ahead) in ahead {
            count.reserved.fetch_max(ahead, Ordering::Relaxed);
        }
        *lock(&self.written) = written;
        Ok(())
    }

    /// Writes down what was used, no more than that: nothing will be.
    ///
    /// # Errors
    /// As [`Counts::save`]. What was written before stays, which is more.
    pub fn close(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut written = lock(&self.written);
        let counts = lock(&self.counts);
        written.extend(counts.iter().map(|(name, count)| (name.clone(), count.used())));
        write(file, &written)
    }
}

impl Count {
    /// Counts an encryption that is about to be: as often as tokens may do it.
    ///
    /// # Errors
    /// When the limit is reached.
    pub fn take(&self, times: u64) -> Result<(), UsedUp> {
        // Some threads may pass the limit together; it is far from exact anyway.
        if self.used.load(Ordering::Relaxed) >= self.limit {
            return Err(UsedUp);
        }
        self.used.fetch_add(times, Ordering::Relaxed);
        Ok(())
    }

    /// Encryptions by now, or a little more.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How many there may be.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// True once: when half of the limit is used.
    pub fn wants_warning(&self) -> bool {
        self.used() >= self.limit / 2 && !self.has_warned.swap(true, Ordering::Relaxed)
    }

    /// True if what comes next is written down already.
    fn is_covered(&self) -> bool {
        self.used() + BLOCK / 2 <= self.reserved.load(Ordering::Relaxed)
    }

    fn ahead(&self) -> u64 {
        self.used() + BLOCK
    }
}

fn locked(directory: &Path) -> io::Result<File> {
    let file = File::create(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other("another proxy uses this directory; each needs its own"))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read(file: &Path) -> io::Result<BTreeMap<String, u64>> {
    let text = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        opened => {
            let mut text = String::new();
            io::Read::read_to_string(&mut io::Read::take(opened?, MAX_FILE), &mut text)?;
            text
        }
    };
    serde_json::from_str(&text).map_err(io::Error::other)
}

/// Replaces the file as a whole, so that a crash leaves the old one or the new.
fn write(file: &Path, counts: &BTreeMap<String, u64>) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut output = File::create(&new)?;
    serde_json::to_writer_pretty(&mut output, counts)?;
    output.write_all(b"\n")?;
    output.sync_all()?;
    std::fs::rename(&new, file)?;
    // The name is on the disk when the folder is.
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir) -> io::Result<Counts> {
        Counts::open(Some(folder.path()), NonZeroU32::MIN)
    }

    fn take(count: &Count, times: u64) {
        (0..times).for_each(|_| count.take(1).unwrap());
    }

    #[test]
    fn counts_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let counts = open(&folder).unwrap();
        take(&counts.of("a"), 5);
        counts.close().unwrap();
        let counts = open(&folder).unwrap();
        assert_eq!((counts.of("a").used(), counts.of("b").used()), (5, 0));
    }

    #[test]
    fn after_a_crash_a_count_is_never_too_small() {
        let folder = tempfile::tempdir().unwrap();
        let counts = open(&folder).unwrap();
        take(&counts.of("a"), 5);
        counts.save().unwrap();
        take(&counts.of("a"), BLOCK / 2);
        drop(counts);
        let used = open(&folder).unwrap().of("a").used();
        assert!((5 + BLOCK / 2..=5 + BLOCK).contains(&used), "{used}");
    }

    #[test]
    fn a_count_that_is_covered_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let counts = open(&folder).unwrap();
        take(&counts.of("a"), 5);
        counts.save().unwrap();
        let file = folder.path().join("encryptions.json");
        std::fs::remove_file(&file).unwrap();
        take(&counts.of("a"), 100);
        counts.save().unwrap();
        assert!(!file.exists());
        take(&counts.of("a"), BLOCK / 2);
        counts.save().unwrap();
        assert!(file.exists());
    }

    #[test]
    fn generations_that_are_not_configured_now_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let counts = open(&folder).unwrap();
        take(&counts.of("old"), 3);
        counts.close().unwrap();
        let counts = open(&folder).unwrap();
        take(&counts.of("new"), 1);
        counts.close().unwrap();
        assert_eq!(open(&folder).unwrap().of("old").used(), 3);
    }

    #[test]
    fn at_the_limit_no_more_is_encrypted_and_at_half_of_it_there_is_one_warning() {
        let count = Count {
            used: AtomicU64::new((LIMIT / 2) - 1),
            reserved: AtomicU64::new(0),
            limit: LIMIT,
            has_warned: AtomicBool::new(false),
        };
        assert!(!count.wants_warning());
        count.take(1).unwrap();
        assert_eq!([count.wants_warning(), count.wants_warning()], [true, false]);
        count.used.store(LIMIT, Ordering::Relaxed);
        assert_eq!(count.take(1), Err(UsedUp));
    }

    #[test]
    fn proxies_of_a_fleet_share_the_limit() {
        assert_eq!(
            Counts::open(None, NonZeroU32::new(4).unwrap()).unwrap().of("a").limit(),
            LIMIT / 4
        );
    }

    #[test]
    fn a_directory_is_of_one_proxy() {
        let folder = tempfile::tempdir().unwrap();
        let own = || Counts::own(Some(folder.path()), NonZeroU32::MIN);
        let first = own().unwrap();
        assert!(own().is_err_and(|error| error.to_string().contains("another proxy")));
        assert!(open(&folder).is_ok(), "to look at");
        drop(first);
        assert!(own().is_ok());
    }

    #[test]
    fn a_file_that_is_not_ours_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "[]", "{\"a\":-1}", "{\"a\":1} x"] {
            std::fs::write(folder.path().join("encryptions.json"), text).unwrap();
            assert!(open(&folder).is_err(), "{text}");
        }
    }
}
