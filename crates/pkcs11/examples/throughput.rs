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
//! otherwise.
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
const SUBJECTS: [(Operation, Option<usize>); 10] = [
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
    let mut rates = vec![Vec::new(); SUBJECTS.len()];
    for _ in 0..number("ROUNDS", 9) {
        for ((operation, callers), rates) in SUBJECTS.iter().zip(&mut rates) {
            rates.push(match callers {
                None => raw.rate(*operation, &sealed),
                Some(callers) => rate(&runtime, &key, &sealed, *operation, *callers),
            });
        }
    }
    report(&rates);
    Ok(())
}

fn report(rates: &[Vec<f64>]) {
    let mut bare = &rates[0];
    println!("{:34} {:>10} {:>10}", "", "calls/s", "of bare");
    for ((operation, callers), rates) in SUBJECTS.iter().zip(rates) {
        let name = match operation {
            Operation::Encrypt => "encrypt",
            Operation::EncryptChecked => "encrypt and decrypt",
            Operation::Decrypt => "decrypt",
        };
        let who = match callers {
            None => "bare".to_owned(),
            Some(callers) => format!("{callers} callers"),
        };
        bare = if callers.is_none() { rates } else { bare };
        let ratios: Vec<f64> = rates.iter().zip(bare).map(|(rate, bare)| rate / bare).collect();
        let (rate, ratio) = (median(rates), median(&ratios) * 100.0);
        println!("{name:20} {who:>13} {rate:10.0} {ratio:9.0}%");
    }
}

/// Calls per second of that many callers, each of whom calls again at once.
fn rate(
    runtime: &Runtime,
    key: &AeadKey,
    sealed: &Sealed,
    operation: Operation,
    callers: usize,
) -> f64 {
    let (start, end) = (Instant::now(), Instant::now() + round());
    let caller = |_| runtime.spawn(calls(key.clone(), sealed.clone(), operation, end));
    let callers: Vec<_> = (0..callers).map(caller).collect();
    let calls: u32 = callers.into_iter().map(|caller| runtime.block_on(caller).unwrap()).sum();
    f64::from(calls) / start.elapsed().as_secs_f64()
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

    fn rate(&self, operation: Operation, sealed: &Sealed) -> f64 {
        let (start, mut calls) = (Instant::now(), 0_u32);
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
        }
        f64::from(calls) / start.elapsed().as_secs_f64()
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

fn number(variable: &str, usual: usize) -> usize {
    let text = std::env::var(variable);
    text.map_or(usual, |text| text.parse().expect("a number"))
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
