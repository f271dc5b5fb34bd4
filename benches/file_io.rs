//! Ways to move a file, without encryption: what the defaults of the bulk path
//! follow (docs/adr/0009-file-io.md).
//!
//!     cargo bench -p twinlock-benches --bench file_io -- FOLDER [MIB [ROUNDS [FILTER]]]
//!
//! Prints wall time over that of the first way, in turns, into a fresh file each
//! time: of the fastest round of each, and in parentheses of the medians.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

use twinlock_benches::copies::{Advise, Copying, Layout, Order, Room};
use twinlock_benches::scratch::Scratch;

const KIB: usize = 1 << 10;

fn main() -> io::Result<()> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let Some(folder) = args.first() else {
        println!("file_io: name a folder, `cargo bench ... --bench file_io -- /dev/shm`");
        return Ok(());
    };
    let number =
        |at: usize, default: u64| args.get(at).and_then(|n| n.parse().ok()).unwrap_or(default);
    let (mebibytes, rounds) = (number(1, 512), number(2, 9));
    let filter = args.get(3).map_or("", String::as_str);
    let bench = Bench { scratch: Scratch::new(Path::new(folder), mebibytes)? };
    let mut ways = ways();
    ways.retain(|(name, _)| name.contains(filter));
    bench.compare(&ways, usize::try_from(rounds).expect("there is time for few"))
}

fn ways() -> Vec<(&'static str, Copying)> {
    let base = Copying { pieces_per_call: 1, ..Copying::POSITIONAL };
    let piece = |kib, pieces_per_call| Copying { piece: kib * KIB, pieces_per_call, ..base };
    let pipeline =
        |kib, pieces_per_call| Copying { order: Order::Pipeline, ..piece(kib, pieces_per_call) };
    let one =
        |kib, pieces_per_call| Copying { order: Order::Next(1), ..piece(kib, pieces_per_call) };
    vec![
        ("two workers, next piece, 256 KiB", base),
        ("two workers, next piece, 64 KiB", piece(64, 1)),
        ("two workers, next piece, 128 KiB", piece(128, 1)),
        ("two workers, next piece, 512 KiB", piece(512, 1)),
        ("two workers, next piece, 1 MiB", piece(1024, 1)),
        ("two workers, next piece, 4 MiB", piece(4096, 1)),
        ("two workers, 16 x 64 KiB a call", piece(64, 16)),
        ("two workers, 4 x 256 KiB a call", piece(256, 4)),
        ("two workers, 16 x 256 KiB a call", piece(256, 16)),
        ("two workers, own half, 256 KiB", Copying { order: Order::Ranges(2), ..base }),
        ("four workers, next piece, 256 KiB", Copying { order: Order::Next(4), ..base }),
        ("two workers, plain layout, 256 KiB", Copying { layout: Layout::Plain, ..base }),
        ("two workers, set_len", Copying { room: Room::SetLen, ..base }),
        ("two workers, fallocate", Copying { room: Room::Allocate, ..base }),
        ("two workers, fallocate keeping size", Copying { room: Room::AllocateKeepSize, ..base }),
        ("two workers, SEQUENTIAL", Copying { advice: Advise::Sequential, ..base }),
        ("two workers, DONTNEED", Copying { advice: Advise::DontNeed, ..base }),
        ("one worker, 64 KiB", one(64, 1)),
        ("one worker, 256 KiB", one(256, 1)),
        ("one worker, 1 MiB", one(1024, 1)),
        ("one worker, 4 x 256 KiB a call", one(256, 4)),
        ("pipeline, 64 KiB", pipeline(64, 1)),
        ("pipeline, 256 KiB", pipeline(256, 1)),
        ("pipeline, 1 MiB", pipeline(1024, 1)),
        ("pipeline, 4 x 256 KiB a call", pipeline(256, 4)),
        ("pipeline, fallocate", Copying { room: Room::Allocate, ..pipeline(256, 1) }),
        ("sealing: two workers, 256 KiB", Copying { seal: true, ..base }),
        ("sealing: two workers, 4 x 256 KiB a call", Copying { seal: true, ..piece(256, 4) }),
        ("sealing: two workers, 1 MiB", Copying { seal: true, ..piece(1024, 1) }),
        ("sealing: one worker, 256 KiB", Copying { seal: true, ..one(256, 1) }),
        ("sealing: pipeline, 256 KiB", Copying { seal: true, ..pipeline(256, 1) }),
        ("sealing: pipeline, 4 x 256 KiB a call", Copying { seal: true, ..pipeline(256, 4) }),
    ]
}

struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn compare(&self, ways: &[(&str, Copying)], rounds: usize) -> io::Result<()> {
        let mut times = vec![Vec::new(); ways.len()];
        for (_, way) in ways.iter().chain(ways).take(8) {
            self.time(*way)?; // warm, and not counted
        }
        for round in 0..rounds {
            // Another one comes first each time, for what came before one leaves traces.
            for at in (0..ways.len()).map(|at| (at + round * 7) % ways.len()) {
                times[at].push(self.time(ways[at].1)?);
            }
        }
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let (quiet, median) = (times[0][0], times[0][rounds / 2]);
        let speed = |seconds: f64| self.scratch.len as f64 / 1e9 / seconds;
        println!("{:.2} ({:.2}) GB/s: {}", speed(quiet), speed(median), ways[0].0);
        println!("| way | wall time / that of the first |\n| --- | --- |");
        for ((name, _), times) in ways.iter().zip(&times) {
            println!("| {name} | {:.2} ({:.2}) |", times[0] / quiet, times[rounds / 2] / median);
        }
        Ok(())
    }

    /// Seconds for one copy to a fresh file, which is removed again untimed.
    fn time(&self, way: Copying) -> io::Result<f64> {
        let path = self.scratch.path("output");
        let input = File::open(self.scratch.input())?;
        let start = Instant::now();
        let output = File::create_new(&path)?;
        way.copy(&input, &output)?;
        let time = start.elapsed().as_secs_f64();
        assert!(output.metadata()?.len() >= self.scratch.len, "{way:?} lost bytes");
        fs::remove_file(path)?;
        Ok(time)
    }
}
