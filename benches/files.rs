//! Files and pipes beside the same bytes moved without encryption, in turns.
//!
//!     cargo bench -p twinlock-benches --bench files -- [FOLDER [MIB [ROUNDS]]]
//!
//! Prints the rows of `docs/benchmarks.md`: what must be true, the ratio of the
//! median wall times, and whether it is. `FOLDER` is /dev/shm unless named.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use twinlock::{Backend, Encryptor, read_header};
use twinlock_benches::copies::Copying;
use twinlock_benches::scratch::{self, Scratch};
use twinlock_benches::stream::Keys;

/// The default segment length, in bytes.
const SEGMENT_LEN: u32 = 256 << 10;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let folder = args.first().map_or("/dev/shm", String::as_str);
    let number =
        |at: usize, default: u64| args.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let bench = Bench::new(Path::new(folder), number(1, 4096))?;
    let medians = bench.medians(usize::try_from(number(2, 5))?)?;
    println!("| {} | ratio | must be | |\n| --- | --- | --- | --- |", bench.place());
    for row in ROWS.iter().filter(|row| row.applies(&bench)) {
        println!("{}", row.text(&medians));
    }
    Ok(())
}

/// What is timed. Each makes one output, fresh and removed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Encrypt,
    EncryptOneThread,
    Decrypt,
    /// The same loop without encryption.
    PlainCopy,
    Cp,
    PipeEncrypt,
    PipeDecrypt,
    PipeCat,
}

use Subject::{
    Cp, Decrypt, Encrypt, EncryptOneThread, PipeCat, PipeDecrypt, PipeEncrypt, PlainCopy,
};

const SUBJECTS: [Subject; 8] =
    [Encrypt, EncryptOneThread, Decrypt, PlainCopy, Cp, PipeEncrypt, PipeDecrypt, PipeCat];

/// A requirement: of a subject's wall time, by that of its yardstick.
struct Row {
    name: &'static str,
    subject: Subject,
    yardstick: Subject,
    most: f64,
    storage: Storage,
}

/// Where a requirement holds.
#[derive(PartialEq, Eq)]
enum Storage {
    Any,
    Memory,
    Disk,
}

/// 0.90 of the throughput or more, as wall time.
const NINE_TENTHS: f64 = 1.0 / 0.9;

const ROWS: [Row; 9] = [
    row(
        "encrypt a file / the same loop without encryption",
        Encrypt,
        PlainCopy,
        NINE_TENTHS,
        Storage::Memory,
    ),
    row(
        "decrypt a file / the same loop without encryption",
        Decrypt,
        PlainCopy,
        NINE_TENTHS,
        Storage::Memory,
    ),
    row("encrypt a file / `cp`", Encrypt, Cp, 0.8, Storage::Memory),
    row("encrypt a file / `cp`", Encrypt, Cp, 1.0, Storage::Disk),
    row("decrypt a file / `cp`", Decrypt, Cp, 0.8, Storage::Memory),
    row("decrypt a file / `cp`", Decrypt, Cp, 1.0, Storage::Disk),
    row("encrypt a file, one thread / `cp`", EncryptOneThread, Cp, 1.25, Storage::Any),
    row("encrypt between pipes / `cat` in its place", PipeEncrypt, PipeCat, 1.05, Storage::Any),
    row("decrypt between pipes / `cat` in its place", PipeDecrypt, PipeCat, 1.05, Storage::Any),
];

const fn row(
    name: &'static str,
    subject: Subject,
    yardstick: Subject,
    most: f64,
    storage: Storage,
) -> Row {
    Row { name, subject, yardstick, most, storage }
}

impl Row {
    fn applies(&self, bench: &Bench) -> bool {
        match self.storage {
            Storage::Any => true,
            Storage::Memory => bench.scratch.in_memory,
            Storage::Disk => !bench.scratch.in_memory,
        }
    }

    fn text(&self, medians: &[(Subject, f64)]) -> String {
        let of = |wanted| {
            let found = medians.iter().find(|(subject, _)| *subject == wanted);
            found.expect("every subject was timed").1
        };
        let ratio = of(self.subject) / of(self.yardstick);
        let verdict = if ratio <= self.most { "met" } else { "not met" };
        format!("| {} | {ratio:.2} | {:.2} or less | {verdict} |", self.name, self.most)
    }
}

/// The folder with an input and its envelope.
struct Bench {
    scratch: Scratch,
    keys: Keys,
}

impl Bench {
    fn new(folder: &Path, mebibytes: u64) -> Outcome<Self> {
        let bench = Self { scratch: Scratch::new(folder, mebibytes)?, keys: Keys::new() };
        let (input, envelope) =
            (File::open(bench.scratch.input())?, File::create(bench.envelope())?);
        bench.encryptor(None).encrypt_file(&input, &envelope)?;
        envelope.sync_all()?;
        Ok(bench)
    }

    fn place(&self) -> String {
        let in_memory = self.scratch.in_memory;
        let place = if in_memory { "memory-backed storage" } else { "a disk's page cache" };
        format!("{} MiB in {place}: wall time / wall time", self.scratch.len >> 20)
    }

    fn envelope(&self) -> PathBuf {
        self.scratch.path("envelope")
    }

    fn medians(&self, rounds: usize) -> Outcome<Vec<(Subject, f64)>> {
        let mut times = SUBJECTS.map(|_| Vec::new());
        for round in 0..=rounds {
            // Another one comes first each time, for what came before leaves traces.
            for at in (0..SUBJECTS.len()).map(|at| (at + round) % SUBJECTS.len()) {
                let time = self.time(SUBJECTS[at])?;
                if round > 0 {
                    times[at].push(time); // the first round warms
                }
            }
        }
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        Ok(SUBJECTS.into_iter().zip(times.map(|times| times[rounds / 2])).collect())
    }

    /// Has memory for an output that was touched a moment ago: a hypervisor takes
    /// back what was free for some seconds, and giving it again takes longer than
    /// anything that is measured here.
    fn warm(&self) -> Outcome<()> {
        let (from, to) = (self.scratch.input(), self.scratch.path("output"));
        if self.scratch.in_memory {
            Copying::POSITIONAL.copy(&File::open(from)?, &File::create_new(&to)?)?;
            fs::remove_file(to)?;
        }
        Ok(())
    }

    /// Seconds, the removal of the output left out.
    fn time(&self, subject: Subject) -> Outcome<f64> {
        self.warm()?;
        let (from, to) = (self.scratch.input(), self.scratch.path("output"));
        let start = Instant::now();
        match subject {
            Encrypt => self.encrypt(None, &from, &to)?,
            EncryptOneThread => self.encrypt(Some(NonZeroUsize::MIN), &from, &to)?,
            Decrypt => self.decrypt(&to)?,
            PlainCopy => Copying::POSITIONAL.copy(&File::open(&from)?, &File::create_new(&to)?)?,
            Cp => scratch::cp(&from, &to)?,
            PipeEncrypt => scratch::between_cats(&from, |from, to| {
                self.encryptor(None).encrypt(from, to).map(|_| ())
            })?,
            PipeDecrypt => scratch::between_cats(&self.envelope(), |mut from, to| {
                let header = read_header(&mut from).map_err(io::Error::other)?;
                self.keys.open(header).decrypt(from, to).map(|_| ())
            })?,
            PipeCat => scratch::three_cats(&from)?,
        }
        let time = start.elapsed().as_secs_f64();
        if let Ok(output) = fs::metadata(&to) {
            assert!(output.len() >= self.scratch.len, "{subject:?} lost bytes");
            fs::remove_file(to)?;
        }
        Ok(time)
    }

    fn encrypt(&self, threads: Option<NonZeroUsize>, from: &Path, to: &Path) -> io::Result<()> {
        let (input, output) = (File::open(from)?, File::create_new(to)?);
        self.encryptor(threads).encrypt_file(&input, &output).map(|_| ())
    }

    fn decrypt(&self, to: &Path) -> Outcome<()> {
        let (mut input, output) = (File::open(self.envelope())?, File::create_new(to)?);
        let header = read_header(&mut input)?;
        self.keys.open(header).decrypt_file(&input, &output)?;
        Ok(())
    }

    fn encryptor(&self, threads: Option<NonZeroUsize>) -> Encryptor {
        self.keys.encryptor_on(Backend::default(), SEGMENT_LEN, threads)
    }
}
