//! Secrets: wiped on drop, locked in memory and left out of core dumps where the
//! system allows, never printable.

use std::sync::{Mutex, Once, PoisonError};

use memmap2::MmapMut;
use zeroize::Zeroize;

use crate::HolderAnswer;

/// Why the operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct RandomnessError(#[from] getrandom::Error);

/// A share: 32 random bytes that one holder wraps.
///
/// An unwrapped one can carry what its holder answered, as evidence.
pub struct Share {
    bytes: Secret<32>,
    answer: Option<HolderAnswer>,
}

impl Share {
    /// A fresh random share.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random() -> Result<Self, RandomnessError> {
        Secret::random().map(Self::from)
    }

    /// A copy of `bytes`; the caller still has to wipe its own.
    #[must_use]
    pub fn copy_of(bytes: &[u8; 32]) -> Self {
        Self::from(Secret::copy_of(bytes))
    }

    /// A copy of `bytes` if there are exactly 32 of them.
    #[must_use]
    pub fn try_copy_of(bytes: &[u8]) -> Option<Self> {
        Secret::try_copy_of(bytes).map(Self::from)
    }

    /// The same share with the holder's own words about the call.
    #[must_use]
    pub fn with_answer(mut self, answer: HolderAnswer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// The bytes. The name is long on purpose: each use is worth a look.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.bytes.expose()
    }

    /// What the holder said when it unwrapped this share, if it said anything.
    #[must_use]
    pub fn answer(&self) -> Option<&HolderAnswer> {
        self.answer.as_ref()
    }
}

impl From<Secret<32>> for Share {
    fn from(bytes: Secret<32>) -> Self {
        Self { bytes, answer: None }
    }
}

/// `N` secret bytes (at most 64) in memory that is locked against swapping and
/// left out of core dumps where the system allows it, and wiped when dropped.
///
/// It has no `Debug`, `Display`, `Clone` or `Serialize`, so it cannot end in a
/// log by accident:
///
/// ```compile_fail
/// let share = twinlock_keys::Share::random().unwrap();
/// println!("{share:?}");
/// ```
///
/// ```
/// use twinlock_keys::Share;
/// let share = Share::random()?;
/// assert_eq!(share.expose().len(), 32);
/// # Ok::<(), twinlock_keys::RandomnessError>(())
/// ```
pub struct Secret<const N: usize> {
    slot: Option<&'static mut Slot>,
}

impl<const N: usize> Secret<N> {
    /// Fresh random bytes from the operating system.
    ///
    /// # Errors
    /// When the operating system has none to give.
    pub fn random() -> Result<Self, RandomnessError> {
        let mut secret = Self::zeroed();
        getrandom::fill(secret.expose_mut())?;
        Ok(secret)
    }

    /// A copy of `bytes`; the caller still has to wipe its own.
    #[must_use]
    pub fn copy_of(bytes: &[u8; N]) -> Self {
        let mut secret = Self::zeroed();
        secret.expose_mut().copy_from_slice(bytes);
        secret
    }

    /// A copy of `bytes` if there are exactly `N` of them.
    #[must_use]
    pub fn try_copy_of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::copy_of)
    }

    /// The bytes. The name is long on purpose: each use is worth a look.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        let slot = self.slot.as_deref().expect("taken only by drop");
        slot.first_chunk().expect("N was checked against the slot when it was made")
    }

    fn expose_mut(&mut self) -> &mut [u8; N] {
        let slot = self.slot.as_deref_mut().expect("taken only by drop");
        slot.first_chunk_mut().expect("N was checked against the slot when it was made")
    }

    fn zeroed() -> Self {
        const { assert!(N <= SLOT_LEN, "a Secret holds at most 64 bytes") };
        Self { slot: Some(take_slot()) }
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.zeroize();
            free_slots().push(slot);
        }
    }
}

// The pool behind all secrets: whole pages, locked once and never given back,
// cut into slots. Locking each secret by itself would be wrong, for unlocking
// is by the page and takes the neighbours with it.

const SLOT_LEN: usize = 64;
const PAGE_LEN: usize = 4096;

type Slot = [u8; SLOT_LEN];

static FREE_SLOTS: Mutex<Vec<&'static mut Slot>> = Mutex::new(Vec::new());

fn free_slots() -> std::sync::MutexGuard<'static, Vec<&'static mut Slot>> {
    // A poisoned list is still a list of free slots.
    FREE_SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_slot() -> &'static mut Slot {
    let mut free = free_slots();
    if free.is_empty() {
        free.extend(page().as_chunks_mut().0);
    }
    free.pop().expect("a page was added above")
}

/// A page of its own mapping: what is asked of it concerns no neighbour.
fn page() -> &'static mut [u8] {
    match MmapMut::map_anon(PAGE_LEN) {
        Ok(page) => {
            protect(&page);
            &mut Box::leak(Box::new(page))[..] // as long as the process lives
        }
        Err(error) => {
            warn_unlocked(&error);
            Box::leak(Box::new([0; PAGE_LEN]))
        }
    }
}

fn protect(page: &MmapMut) {
    if let Err(error) = page.lock() {
        warn_unlocked(&error);
    }
    #[cfg(target_os = "linux")]
    if let Err(error) = page.advise(memmap2::Advice::DontDump) {
        tracing::warn!(%error, "secrets could not be kept out of core dumps");
    }
}

fn warn_unlocked(error: &std::io::Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            %error,
            "secrets could not be locked in memory and might be swapped to disk; \
             raise the locked-memory limit (ulimit -l, LimitMEMLOCK=) to prevent it"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_secret_leaves_no_bytes_in_its_slot() {
        let secret = Secret::<32>::copy_of(&[7; 32]);
        drop(secret);
        assert!(free_slots().iter().all(|slot| **slot == [0; SLOT_LEN]));
    }

    #[test]
    fn more_secrets_than_a_page_holds_do_not_share_bytes() {
        let secrets: Vec<_> = (0..=200u8).map(|n| Secret::<64>::copy_of(&[n; 64])).collect();
        for (n, secret) in (0u8..).zip(&secrets) {
            assert_eq!(secret.expose(), &[n; 64]);
        }
    }

    #[test]
    fn only_the_exact_length_is_taken() {
        assert!(Share::try_copy_of(&[0; 31]).is_none());
        assert!(Share::try_copy_of(&[0; 33]).is_none());
        assert!(Share::try_copy_of(&[0; 32]).is_some());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_page_of_a_secret_is_locked_and_in_no_core_dump() {
        let secret = Share::random().expect("randomness");
        let mapping = mapping_of(std::ptr::from_ref(secret.expose()) as usize);
        let line = |name| mapping.lines().find(|line| line.starts_with(name)).expect("in smaps");
        assert!(!line("Locked:").contains(" 0 kB"), "{mapping}");
        assert!(line("VmFlags:").contains(" dd"), "{mapping}");
    }

    /// What Linux says about the mapping that holds `address` (proc(5)).
    #[cfg(target_os = "linux")]
    fn mapping_of(address: usize) -> String {
        let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux has it");
        let holds = |line: &str| {
            let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
            bounds.is_some_and(|(from, to)| {
                let parse = |hex| usize::from_str_radix(hex, 16);
                matches!((parse(from), parse(to)), (Ok(from), Ok(to)) if (from..to).contains(&address))
            })
        };
        let mut lines = smaps.lines().skip_while(|line| !holds(line));
        let mut mapping = String::new();
        for line in &mut lines {
            mapping += line;
            mapping.push('\n');
            if line.starts_with("VmFlags:") {
                break;
            }
        }
        mapping
    }
}
