//! How long a range of 4 KiB takes, by segment length.
#![forbid(unsafe_code)]

use criterion::{Criterion, criterion_group, criterion_main};
use twinlock_benches::{SEGMENT_LENS, ranges};

const TOTAL: usize = 32 << 20;

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

criterion_group!(benches, range);
criterion_main!(benches);
