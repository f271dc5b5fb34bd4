//! This machine: does it keep secrets in memory, and is it fast?

use rustix::process::{Resource, getrlimit};
use twinlock::{Backend, Share};

use super::Check;
use crate::exit::{Failure, Kind};

pub(super) fn checks() -> Vec<Check> {
    let (memory, is_locked) = memory_lock();
    vec![memory, swap(is_locked), core_dumps(), aes()]
}

/// Whether a secret can be locked in memory, tried with one.
fn memory_lock() -> (Check, bool) {
    const NAME: &str = "memory lock";
    let _secret = match Share::random() {
        Ok(share) => share,
        Err(error) => {
            let failure = Failure::new(Kind::Failed, error.to_string());
            return (Check::failed(NAME, &failure), false);
        }
    };
    let limit = match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("limit {} KiB", bytes / 1024),
        None => "no limit".to_owned(),
    };
    match locked_kib() {
        Some(0) => {
            let advice = "raise the limit for locked memory (ulimit -l, LimitMEMLOCK=), so that \
                          secrets are not swapped to disk";
            (Check::warn(NAME, format!("no memory could be locked ({limit})"), advice), false)
        }
        Some(kib) => (Check::ok(NAME, format!("{kib} KiB in use, {limit}")), true),
        None => (Check::ok(NAME, format!("{limit}; this system does not tell more")), true),
    }
}

/// Of this process, as Linux says (proc(5)).
fn locked_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn swap(is_locked: bool) -> Check {
    const NAME: &str = "swap";
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let areas = swaps.lines().skip(1).count(); // behind a line of titles
    match (areas, is_locked) {
        (0, _) => Check::ok(NAME, "off"),
        (_, true) => Check::ok(NAME, "on; keys are locked in memory, plaintext in work is not"),
        (_, false) => {
            Check::warn(NAME, "on, and keys cannot be locked", "encrypt the swap, or see above")
        }
    }
}

/// [`crate::process`] has switched them off before.
fn core_dumps() -> Check {
    const NAME: &str = "core dumps";
    let by_limit = getrlimit(Resource::Core).current == Some(0);
    match (by_limit, is_dumpable()) {
        (true, Some(false)) => Check::ok(NAME, "off"),
        (true, None) => Check::ok(NAME, "off, by their limit"),
        _ => Check::warn(
            NAME,
            "could not be switched off",
            "switch them off for this user (ulimit -c 0, LimitCORE=0): keys are left out of them, \
             plaintext is not",
        ),
    }
}

#[cfg(target_os = "linux")]
fn is_dumpable() -> Option<bool> {
    use rustix::process::{DumpableBehavior, dumpable_behavior};
    dumpable_behavior().ok().map(|behavior| behavior == DumpableBehavior::Dumpable)
}

#[cfg(not(target_os = "linux"))]
fn is_dumpable() -> Option<bool> {
    None
}

/// Which implementation of AES-GCM, and whether the processor helps.
fn aes() -> Check {
    const NAME: &str = "AES-256-GCM";
    let chosen = std::env::var("TWINLOCK_AEAD").ok().filter(|name| !name.is_empty());
    let backend = chosen.unwrap_or_else(|| Backend::default().to_string());
    if Backend::available().iter().all(|known| known.name() != backend) {
        let failure =
            Failure::misconfigured(format!("TWINLOCK_AEAD: there is no backend {backend:?} here"))
                .hint("`twinlock --version` says which there are");
        return Check::failed(NAME, &failure);
    }
    match has_aes_instructions() {
        Some(false) => Check::warn(
            NAME,
            format!("{backend}, on a processor without AES instructions"),
            "expect a tenth of the usual speed; another machine is faster",
        ),
        Some(true) => Check::ok(NAME, format!("{backend}, with the processor's AES instructions")),
        None => Check::ok(NAME, backend),
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> Option<bool> {
    use std::arch::is_x86_feature_detected;
    Some(is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq"))
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> Option<bool> {
    use std::arch::is_aarch64_feature_detected;
    Some(is_aarch64_feature_detected!("aes") && is_aarch64_feature_detected!("pmull"))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> Option<bool> {
    None
}
