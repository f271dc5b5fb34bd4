//! How a loop compares with its yardstick, in turns: a disturbance meets both.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use twinlock_benches::Case;

/// Odd, so that there is a median.
pub(crate) const PAIRS: usize = 61;

/// How a subject and its yardstick compare.
pub(crate) struct Ratio {
    /// Of the fast rounds of each: what the code takes when it is let alone.
    quiet: f64,
    /// The median of all pairs, on the machine as it was.
    median: f64,
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2})", self.quiet, self.median)
    }
}

/// By the CPU time of this thread.
pub(crate) fn compare(mut subject: Case, mut yardstick: Case) -> Ratio {
    compare_by(time, &mut subject, &mut yardstick)
}

/// By the time that `time` takes of a round.
pub(crate) fn compare_by(
    time: fn(&mut Case) -> f64,
    subject: &mut Case,
    yardstick: &mut Case,
) -> Ratio {
    subject.run(); // warm, and not counted
    yardstick.run();
    let pairs: Vec<[f64; 2]> = (0..PAIRS).map(|_| [time(subject), time(yardstick)]).collect();
    let of = |f: fn(&[f64; 2]) -> f64| pairs.iter().map(f).collect::<Vec<_>>();
    Ratio {
        quiet: first_tenth(of(|pair| pair[0])) / first_tenth(of(|pair| pair[1])),
        median: sorted(of(|pair| pair[0] / pair[1]))[PAIRS / 2],
    }
}

/// The time that a tenth of the rounds stays below.
pub(crate) fn first_tenth(times: Vec<f64>) -> f64 {
    sorted(times)[PAIRS / 10]
}

fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The CPU time of one round in seconds, which leaves out what others did
/// meanwhile.
pub(crate) fn time(case: &mut Case) -> f64 {
    let start = cpu_time();
    case.run();
    (cpu_time() - start).as_secs_f64()
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("CPU time is not negative")
}
