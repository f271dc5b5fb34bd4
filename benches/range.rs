//! How long a range takes: of 4 KiB in memory by segment length, and of a file
//! beside reading as much of it without opening anything.
//!
//! The file has 4 GiB and is among the temporary ones (`TMPDIR`); it is read from
//! the page cache.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

mod ratio;

use criterion::{Criterion, criterion_group};
use ratio::{Ratio, compare};
use twinlock_benches::ranges::Stored;
use twinlock_benches::{SEGMENT_LENS, ranges, size};

const TOTAL: usize = 32 << 20;

const STORED: u64 = 4 << 30;
const STORED_SEGMENT_LEN: u32 = twinlock::DEFAULT_SEGMENT_LEN;

/// So many ranges take long enough to be timed.
const ROUNDS: usize = 32;

fn range(criterion: &mut Criterion) {
    for segment_len in SEGMENT_LENS {
        for mut case in
            [ranges::read(segment_len, TOTAL), ranges::open_and_read(segment_len, TOTAL)]
        {
            let name = case.name.clone();
            criterion.bench_function(&name, |bencher| bencher.iter(|| case.run()));
        }
    }
}

/// What ranges of a file take, as rows for `docs/benchmarks.md`.
fn print_ratios() {
    let stored = Stored::new(STORED_SEGMENT_LEN, STORED);
    println!(
        "| a range of | calls | segments (most) | time / `pread` of its segments | time / `pread` of as much |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for len in [4 << 10, 1 << 20] {
        let cost = stored.cost(len as usize, 1000);
        let against = |yardstick: fn(&Stored, usize, usize) -> _| -> Ratio {
            compare(stored.read(len as usize, ROUNDS), yardstick(&stored, len as usize, ROUNDS))
        };
        println!(
            "| {} | {:.2} | {:.2} ({}) | {} | {} |",
            size(len),
            cost.reads,
            cost.segments,
            cost.most_segments,
            against(Stored::pread_segments),
            against(Stored::pread),
        );
    }
}

criterion_group!(benches, range);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // As a test, which cargo also runs it for, it need not write gigabytes.
    if std::env::args().any(|arg| arg == "--bench") {
        print_ratios();
    }
}
