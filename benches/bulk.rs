//! The bulk path and its yardsticks: bytes per second by segment length.
#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use twinlock_benches::{Case, SEGMENT_LENS, floe, memory, stream, yardstick};
use twinlock_floe::Backend;

/// Larger than the caches that a core has for itself.
const TOTAL: usize = 32 << 20;

fn bulk(criterion: &mut Criterion) {
    for segment_len in SEGMENT_LENS {
        measure(criterion, yardstick::memcpy(segment_len, TOTAL));
        measure(criterion, yardstick::aws_lc_seal(segment_len, TOTAL));
        measure(criterion, yardstick::aws_lc_open(segment_len, TOTAL));
        measure(criterion, yardstick::aes_gcm_seal(segment_len, TOTAL));
        measure(criterion, yardstick::aes_gcm_open(segment_len, TOTAL));
        for &backend in Backend::available() {
            measure(criterion, floe::seal(backend, segment_len, TOTAL));
            measure(criterion, floe::open(backend, segment_len, TOTAL));
            measure(criterion, floe::seal_from(backend, segment_len, TOTAL));
            measure(criterion, floe::open_into(backend, segment_len, TOTAL));
            measure(criterion, stream::encrypt(backend, segment_len, TOTAL));
            measure(criterion, stream::decrypt(backend, segment_len, TOTAL));
        }
    }
    for threads in [1, 2] {
        measure(criterion, memory::aws_lc(threads, 256 << 10, TOTAL));
        measure(criterion, memory::encrypt(threads, 256 << 10, TOTAL));
        measure(criterion, memory::decrypt(threads, 256 << 10, TOTAL));
    }
}

fn measure(criterion: &mut Criterion, mut case: Case) {
    let (group, variant) = case.name.split_once('/').expect("a name is group/variant");
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Bytes(case.bytes as u64));
    group.bench_function(variant.to_owned(), |bencher| bencher.iter(|| case.run()));
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = bulk
}
criterion_main!(benches);
