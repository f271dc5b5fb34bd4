//! Parse, verify and encode a header, with the fewest and the most keyslots.
#![forbid(unsafe_code)]

use criterion::{Criterion, criterion_group, criterion_main};
use twinlock_benches::headers;

fn header(criterion: &mut Criterion) {
    for keyslots in [1, 16] {
        for mut case in
            [headers::parse(keyslots), headers::verify(keyslots), headers::encode(keyslots)]
        {
            let name = case.name.clone();
            criterion.bench_function(&name, |bencher| bencher.iter(|| case.run()));
        }
    }
}

criterion_group!(benches, header);
criterion_main!(benches);
