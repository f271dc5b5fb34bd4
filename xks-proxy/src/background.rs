//! What goes on beside requests: looking at tokens, looking for keys, writing
//! counts down.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use twinlock_service::readiness::Condition;

use crate::counts::Counts;
use crate::health;
use crate::metrics::Metrics;
use crate::server::Server;
use crate::wire::HealthStatus;

/// Looks at every token again and again. The proxy is ready while one of them
/// works: it serves what it can.
pub async fn look_at_tokens(server: &Server, ready: &Condition) {
    let mut tick = ticks(health::INTERVAL);
    loop {
        tick.tick().await;
        let state = server.state();
        // Side by side, so that one that hangs does not make the others look stale.
        let found = join_all(state.hsms.iter().map(|hsm| health::check(hsm))).await;
        let works = found.iter().any(|found| found.state() != HealthStatus::Unavailable);
        let problem =
            || found.iter().filter_map(|found| found.problem()).collect::<Vec<_>>().join("; ");
        ready.set(if works { Ok(()) } else { Err(problem()) });
    }
}

/// Looks for one key after the other, and for those that a token lacks.
///
/// One in a second: on some tokens a search takes as long as there are keys.
pub async fn look_for_keys(server: &Server) {
    let mut tick = ticks(Duration::from_secs(1));
    for turn in 0_usize.. {
        tick.tick().await;
        let state = server.state();
        let count = state.generations().count().max(1);
        for (number, generation) in state.generations().enumerate() {
            let is_its_turn = number == turn % count;
            if !is_its_turn && !generation.is_incomplete() {
                continue;
            }
            if let Err(error) = generation.look_up().await
                && is_its_turn
            {
                tracing::warn!(key = &*generation.name, %error, "a token does not have the key");
            }
        }
    }
}

/// Writes down how often keys have encrypted.
pub async fn save_counts(counts: &Counts) {
    let mut tick = ticks(Duration::from_secs(2));
    loop {
        tick.tick().await;
        if let Err(error) = tokio::task::block_in_place(|| counts.save()) {
            tracing::error!(%error, "the counts of encryptions cannot be written; encryption goes on");
        }
    }
}

/// Shows in metrics what is served now, and how it is.
pub async fn show(server: &Server, metrics: &Metrics) {
    let mut tick = ticks(Duration::from_secs(2));
    loop {
        tick.tick().await;
        let state = server.state();
        metrics.in_flight(server.in_flight());
        for hsm in &state.hsms {
            metrics.health(hsm.name(), hsm.health().state());
            if let Some(token) = hsm.token() {
                metrics.sessions(hsm.name(), &token.state());
            }
        }
        for generation in state.generations() {
            metrics.encryptions(&generation.name, generation.count.used());
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
