//! What this crate's workers cost beside the module's own work: operations per
//! second of a bare session, called as C calls it, and of [`AeadKey`] with some
//! callers, in turns.
//!
//! ```text
//! softhsm2-util --init-token --free --label bench --so-pin 0000 --pin 1234
//! cargo run --release -p twinlock-pkcs11 --example throughput -- \
//!     'pkcs11:token=bench;object=bench?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-value=1234'
//! ```
//!
//! The key is created if it is not there. `ROUNDS=9`, `SECONDS=1`, `WORKERS=1`
//! and `THREADS=2` (of the callers' runtime) unless the environment says
//! otherwise. `BARE=1` leaves the callers out; with `RATE=1800` the bare session
//! does so many operations a second, and rests in between.
//!
//! Beside the rates stands the processor time of a call (Linux only): of the
//! thread that has the session, and of all threads. The former says what rate a
//! machine could reach that has nothing else to do. Rates are medians of all
//! rounds, times the least.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for measuring")]

use std::error::Error;
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki_sys::{CK_FUNCTION_LIST, CK_ULONG, CKR_OK};
use tokio::runtime::Runtime;
use twinlock_keys::Pkcs11Uri;
use twinlock_pkcs11::{AeadKey, ErrorKind, Sealed, Token, TokenOptions, create_kek};
use zeroize::Zeroizing;

/// What a cloud's KMS has wrapped most of the time: a data key with a context.
const DATA: [u8; 48] = [7; 48];
const AAD: [u8; 100] = [8; 100];

const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Encrypt,
    EncryptChecked,
    Decrypt,
}

/// The bare session has no callers.
type Subject = (Operation, Option<usize>);

const SUBJECTS: [Subject; 10] = [
    (Operation::Encrypt, None),
    (Operation::Encrypt, Some(1)),
    (Operation::Encrypt, Some(16)),
    (Operation::Encrypt, Some(64)),
    (Operation::EncryptChecked, None),
    (Operation::EncryptChecked, Some(16)),
    (Operation::Decrypt, None),
    (Operation::Decrypt, Some(1)),
    (Operation::Decrypt, Some(16)),
    (Operation::Decrypt, Some(64)),
];

fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).ok_or("which key? The head of this example has one")?;
    let uri = Pkcs11Uri::parse_any(&uri)?;
    let threads = number("THREADS", 2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build()?;
    let key = runtime.block_on(open(&uri))?;
    let sealed = runtime.block_on(key.encrypt(data(), AAD.to_vec(), DEADLINE)).result?;
    let raw = Raw::open(&uri)?; // logged in, as the process is
    let bare_only = number("BARE", 0) == 1;
    let is_wanted = |subject: &&Subject| subject.1.is_none() || !bare_only;
    let subjects: Vec<_> = SUBJECTS.iter().filter(is_wanted).copied().collect();
    let mut results = vec![Vec::new(); subjects.len()];
    for _ in 0..number("ROUNDS", 9) {
        for ((operation, callers), results) in subjects.iter().zip(&mut results) {
            results.push(match callers {
                None => timed("throughput", || raw.calls(*operation, &sealed)),
                Some(callers) => timed("pkcs11-0", || {
                    calls_of_all(&runtime, &key, &sealed, *operation, *callers)
                }),
            });
        }
    }
    report(&subjects, &results);
    Ok(())
}

/// What a round has come to.
#[derive(Clone, Copy)]
struct Round {
    calls_per_second: f64,
    /// Processor time of a call, in microseconds: of the thread with the session.
    session_time: f64,
    /// Of all threads.
    time: f64,
}

/// Does `calls`, in which the thread of that name has the session.
fn timed(thread: &str, calls: impl Fn() -> u32) -> Round {
    let before = (Instant::now(), time_of_threads(thread), time_of_threads(""));
    let calls = f64::from(calls());
    let session_time = (time_of_threads(thread) - before.1) / calls;
    let time = (time_of_threads("") - before.2) / calls;
    Round { calls_per_second: calls / before.0.elapsed().as_secs_f64(), session_time, time }
}

/// Processor time until now of the threads whose names begin so, in microseconds.
fn time_of_threads(name: &str) -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return f64::NAN };
    let times = threads.flatten().filter_map(|thread| {
        let read = |file| std::fs::read_to_string(thread.path().join(file)).ok();
        let is_meant = read("comm")?.starts_with(name);
        let nanoseconds: f64 = read("schedstat")?.split(' ').next()?.parse().ok()?;
        Some(if is_meant { nanoseconds / 1000.0 } else { 0.0 })
    });
    times.sum()
}

fn report(subjects: &[Subject], results: &[Vec<Round>]) {
    let mut bare = &results[0];
    let times = ["session us", "all us"];
    println!("{:34} {:>10} {:>10} {:>12} {:>10}", "", "calls/s", "of bare", times[0], times[1]);
    for ((operation, callers), rounds) in subjects.iter().zip(results) {
        let name = match operation {
            Operation::Encrypt => "encrypt",
            Operation::EncryptChecked => "encrypt and decrypt",
            Operation::Decrypt => "decrypt",
        };
        let who = match callers {
            None => "bare".to_owned(),
            Some(callers) => format!("{callers} callers"),
        };
        bare = if callers.is_none() { rounds } else { bare };
        let ratios = rounds.iter().zip(bare).map(|(o, b)| o.calls_per_second / b.calls_per_second);
        println!(
            "{name:20} {who:>13} {:10.0} {:9.0}% {:12.1} {:10.1}",
            median(rounds.iter().map(|round| round.calls_per_second)),
            median(ratios) * 100.0,
            least(rounds.iter().map(|round| round.session_time)),
            least(rounds.iter().map(|round| round.time))
        );
    }
}

/// What that many callers get done, each of whom calls again at once.
fn calls_of_all(
    runtime: &Runtime,
    key: &AeadKey,
    sealed: &Sealed,
    operation: Operation,
    callers: usize,
) -> u32 {
    let end = Instant::now() + round();
    let caller = |_| runtime.spawn(calls(key.clone(), sealed.clone(), operation, end));
    let callers: Vec<_> = (0..callers).map(caller).collect();
    callers.into_iter().map(|caller| runtime.block_on(caller).unwrap()).sum()
}

async fn calls(key: AeadKey, sealed: Sealed, operation: Operation, end: Instant) -> u32 {
    let mut calls = 0;
    while Instant::now() < end {
        let aad = AAD.to_vec();
        match operation {
            Operation::Encrypt => drop(key.encrypt(data(), aad, DEADLINE).await.result.unwrap()),
            Operation::EncryptChecked => {
                key.encrypt_checked(data(), aad, DEADLINE, |_| ()).await.result.unwrap();
            }
            Operation::Decrypt => {
                drop(key.decrypt(sealed.clone(), aad, DEADLINE).await.result.unwrap());
            }
        }
        calls += 1;
    }
    calls
}

async fn open(uri: &Pkcs11Uri) -> Result<AeadKey, Box<dyn Error>> {
    let options = TokenOptions::default().with_workers(number("WORKERS", 1)).with_warm_sessions();
    let token = Token::open(uri, options.clone()).await?;
    match AeadKey::on(&token, uri).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_kek(uri, options).await?;
            Ok(AeadKey::on(&token, uri).await?)
        }
        key => Ok(key?),
    }
}

/// A session and nothing around it.
struct Raw {
    session: Session,
    key: ObjectHandle,
    functions: CK_FUNCTION_LIST,
}

impl Raw {
    fn open(uri: &Pkcs11Uri) -> Result<Self, Box<dyn Error>> {
        let path = uri.module_path().ok_or("the URI names no module")?;
        let module = Pkcs11::new(path)?;
        let mut slots = module.get_slots_with_initialized_token()?.into_iter();
        let is_ours = |slot| {
            module.get_token_info(slot).is_ok_and(|token| Some(token.label()) == uri.token())
        };
        let slot = slots.find(|slot| is_ours(*slot)).ok_or("the token is gone")?;
        let session = module.open_ro_session(slot)?;
        let label = Attribute::Label(uri.object().unwrap_or_default().into());
        let keys = session.find_objects(&[label, Attribute::Class(ObjectClass::SECRET_KEY)])?;
        let key = *keys.first().ok_or("the key is gone")?;
        let mut list = std::ptr::null_mut();
        // SAFETY: a module that is loaded already; `list` may be written to, and
        // points to its list if that was well.
        let functions = unsafe {
            let module = Box::leak(Box::new(cryptoki_sys::Pkcs11::new(path)?));
            assert_eq!(module.C_GetFunctionList(&raw mut list), CKR_OK);
            *list
        };
        Ok(Self { session, key, functions })
    }

    fn calls(&self, operation: Operation, sealed: &Sealed) -> u32 {
        let (start, mut calls) = (Instant::now(), 0_u32);
        let every = pace();
        let mut input = [&sealed.ciphertext[..], &sealed.tag].concat();
        let mut output = [0; 256];
        while start.elapsed() < round() {
            if operation != Operation::Decrypt {
                let mut iv = [1; 12];
                iv[..4].copy_from_slice(&calls.to_ne_bytes());
                self.session.encrypt_init(&gcm(&mut iv), self.key).unwrap();
                self.crypt(self.functions.C_Encrypt, &mut DATA.clone(), &mut output);
            }
            if operation != Operation::Encrypt {
                self.session.decrypt_init(&gcm(&mut sealed.iv.clone()), self.key).unwrap();
                self.crypt(self.functions.C_Decrypt, &mut input, &mut output);
            }
            calls += 1;
            if let Some(every) = every {
                std::thread::sleep((every * calls).saturating_sub(start.elapsed()));
            }
        }
        calls
    }

    fn crypt(&self, function: cryptoki_sys::CK_C_Encrypt, input: &mut [u8], output: &mut [u8]) {
        let (input_len, mut output_len) = (length(input), length(output));
        let (session, function) = (self.session.handle(), function.unwrap());
        let (input, output) = (input.as_mut_ptr(), output.as_mut_ptr());
        // SAFETY: buffers as long as it is told, which outlive the call.
        let code = unsafe { function(session, input, input_len, output, &raw mut output_len) };
        assert_eq!(code, CKR_OK);
    }
}

fn gcm(iv: &mut [u8]) -> Mechanism<'_> {
    Mechanism::AesGcm(GcmParams::new(iv, &AAD, 128.into()).unwrap())
}

fn length(bytes: &[u8]) -> CK_ULONG {
    CK_ULONG::try_from(bytes.len()).unwrap()
}

fn data() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(DATA.to_vec())
}

fn round() -> Duration {
    Duration::from_secs(number("SECONDS", 1) as u64)
}

/// The time from one operation of the bare session to the next, if it rests.
fn pace() -> Option<Duration> {
    let rate = u32::try_from(number("RATE", 0)).unwrap();
    (rate > 0).then(|| Duration::from_secs(1) / rate)
}

fn number(variable: &str, usual: usize) -> usize {
    let text = std::env::var(variable);
    text.map_or(usual, |text| text.parse().expect("a number"))
}

/// What others on the machine add is never less than nothing.
fn least(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(f64::INFINITY, f64::min)
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
