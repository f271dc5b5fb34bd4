//! How many bare RSA decryptions a second one session does, and what one of them
//! takes of a processor.
//!
//! ```text
//! PIN=1234 cargo run --release -p twinlock-pkcs11 --example rsa_throughput -- \
//!     'pkcs11:token=bench;object=bench?module-path=/usr/lib/softhsm/libsofthsm2.so'
//! ```
//!
//! The key is a private RSA key that is there. `SECONDS=1` unless the environment
//! says otherwise. The processor time is that of this one thread (Linux only).
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for measuring")]

use std::error::Error;
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use twinlock_keys::Pkcs11Uri;

fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).ok_or("which key? The head of this example has one")?;
    let uri = Pkcs11Uri::parse_any(&uri)?;
    let module = Pkcs11::new(uri.module_path().ok_or("the URI names no module")?)?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let mut slots = module.get_slots_with_initialized_token()?.into_iter();
    let is_ours =
        |slot| module.get_token_info(slot).is_ok_and(|it| Some(it.label()) == uri.token());
    let session = module.open_ro_session(slots.find(|slot| is_ours(*slot)).ok_or("no token")?)?;
    session.login(UserType::User, Some(&AuthPin::new(std::env::var("PIN")?.into())))?;
    let label = Attribute::Label(uri.object().unwrap_or_default().into());
    let keys = session.find_objects(&[label, Attribute::Class(ObjectClass::PRIVATE_KEY)])?;
    let key = *keys.first().ok_or("the key is gone")?;

    let input = [1; 256]; // less than each modulus of 2048 bits
    let seconds = std::env::var("SECONDS").map_or(1, |it| it.parse().expect("a number"));
    let (start, before, mut calls) = (Instant::now(), processor_time(), 0.0);
    while start.elapsed() < Duration::from_secs(seconds) {
        session.decrypt(&Mechanism::RsaX509, key, &input)?;
        calls += 1.0;
    }
    let per_second = calls / start.elapsed().as_secs_f64();
    let microseconds = (processor_time() - before) / calls;
    // The columns of the example `throughput`.
    println!("{:34} {:>10} {:>10} {:>12} {:>10}", "", "calls/s", "of bare", "session us", "all us");
    println!(
        "{:20} {:>13} {per_second:10.1} {:9.0}% {microseconds:12.1} {microseconds:10.1}",
        "decrypt", "bare", 100.0
    );
    Ok(())
}

/// Of this thread until now, in microseconds.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|it| it.parse::<f64>().ok()).map_or(f64::NAN, |it| it / 1e3)
}
