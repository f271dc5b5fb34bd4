//! What the length of a segment changes, on both backends: the table of
//! docs/adr/0006-segment-length.md.
//!
//!     cargo bench -p twinlock-benches --bench segments -- [FOLDER [MIB [ROUNDS]]]
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

use twinlock::Backend;
use twinlock_benches::scratch::{Scratch, between_cats};
use twinlock_benches::stream::Keys;
use twinlock_benches::{Case, SEGMENT_LENS, ranges, size, stream};

/// What is read in ranges and sealed in memory, in bytes.
const IN_MEMORY: usize = 32 << 20;

/// Ranges that are timed together.
const RANGES: u32 = 100;

fn main() -> io::Result<()> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, default| args.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let folder = args.first().map_or("/dev/shm", String::as_str);
    let scratch = Scratch::new(Path::new(folder), number(1, 512))?;
    let rounds = usize::try_from(number(2, 7)).expect("there is time for few");

    print_row("", &SEGMENT_LENS.map(size));
    print_row("---", &SEGMENT_LENS.map(|_| "---".to_owned()));
    for backend in [Backend::AwsLc, Backend::RustCrypto] {
        for (name, way) in WAYS {
            print_speeds(name, backend, rounds, |len| way(&scratch, backend, len))?;
        }
    }
    let mut cases = SEGMENT_LENS.map(|len| ranges::read(len, IN_MEMORY));
    let latency = medians(rounds, |at| Ok(time_ranges(&mut cases[at])))?;
    print_row("a range of 4 KiB, µs", &latency.map(|seconds| format!("{:.0}", seconds * 1e6)));
    print_row("overhead, %", &SEGMENT_LENS.map(overhead));
    Ok(())
}

/// Moves all bytes once. Returns how many, and the seconds.
type Way = fn(&Scratch, Backend, u32) -> io::Result<(u64, f64)>;

const WAYS: [(&str, Way); 3] =
    [("in memory", in_memory), ("file to fresh file", to_file), ("between pipes", to_pipe)];

fn in_memory(_: &Scratch, backend: Backend, segment_len: u32) -> io::Result<(u64, f64)> {
    let mut case = stream::encrypt(backend, segment_len, IN_MEMORY);
    case.run();
    let start = Instant::now();
    case.run();
    Ok((case.bytes as u64, start.elapsed().as_secs_f64()))
}

fn to_file(scratch: &Scratch, backend: Backend, segment_len: u32) -> io::Result<(u64, f64)> {
    let encryptor = Keys::new().encryptor_on(backend, segment_len, None);
    let (path, input) = (scratch.path("output"), File::open(scratch.input())?);
    let start = Instant::now();
    let len = encryptor.encrypt_file(&input, &File::create_new(&path)?)?;
    let time = start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok((len, time))
}

fn to_pipe(scratch: &Scratch, backend: Backend, segment_len: u32) -> io::Result<(u64, f64)> {
    let encryptor = Keys::new().encryptor_on(backend, segment_len, None);
    let start = Instant::now();
    between_cats(&scratch.input(), |from, to| encryptor.encrypt(from, to).map(|_| ()))?;
    Ok((scratch.len, start.elapsed().as_secs_f64()))
}

fn time_ranges(case: &mut Case) -> f64 {
    let start = Instant::now();
    (0..RANGES).for_each(|_| case.run());
    start.elapsed().as_secs_f64() / f64::from(RANGES)
}

/// Prints the throughput of each length over that of 256 KiB, whose own is in
/// the name.
fn print_speeds(
    name: &str,
    backend: Backend,
    rounds: usize,
    run: impl Fn(u32) -> io::Result<(u64, f64)>,
) -> io::Result<()> {
    let pace = medians(rounds, |at| run(SEGMENT_LENS[at]).map(|(len, time)| time / len as f64))?;
    let at_default = SEGMENT_LENS.iter().position(|len| *len == 256 << 10).expect("a candidate");
    let name = format!("{backend}, {name} ({:.1} GB/s)", 1e-9 / pace[at_default]);
    print_row(&name, &pace.map(|one| format!("{:.2}", pace[at_default] / one)));
    Ok(())
}

/// Of each segment length, in turns.
fn medians(
    rounds: usize,
    mut run: impl FnMut(usize) -> io::Result<f64>,
) -> io::Result<[f64; SEGMENT_LENS.len()]> {
    let mut found = SEGMENT_LENS.map(|_| Vec::new());
    for round in 0..=rounds {
        // Another one comes first each time, for what came before leaves traces.
        for at in (0..SEGMENT_LENS.len()).map(|at| (at + round) % SEGMENT_LENS.len()) {
            let value = run(at)?;
            if round > 0 {
                found[at].push(value); // the first round warms
            }
        }
    }
    Ok(found.map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[rounds / 2]
    }))
}

fn overhead(segment_len: u32) -> String {
    let overhead = twinlock_floe::SEGMENT_OVERHEAD as f64;
    format!("{:.3}", 100.0 * overhead / (f64::from(segment_len) - overhead))
}

fn print_row(name: &str, cells: &[String]) {
    println!("| {name} | {} |", cells.join(" | "));
}
