//! What goes on beside requests: looking at tokens, looking for keys, fetching
//! issuers' keys.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use twinlock_service::readiness::Condition;

use crate::health;
use crate::key::Generation;
use crate::metrics::Metrics;
use crate::server::Server;

/// Looks at every token again and again. The service is ready while one of them
/// works: it serves what it can.
pub async fn look_at_tokens(server: &Server, ready: &Condition) {
    let mut tick = ticks(Duration::from_secs(10));
    loop {
        tick.tick().await;
        let state = server.state();
        // Side by side, so that one that hangs does not make the others look stale.
        join_all(state.hsms.iter().map(|hsm| health::check(hsm, &state))).await;
        let problems = || state.hsms.iter().filter_map(|hsm| (*hsm.problem()).clone());
        let works = problems().count() < state.hsms.len();
        let all = || problems().collect::<Vec<_>>().join("; ");
        ready.set(if works { Ok(()) } else { Err(all()) });
    }
}

/// Looks for one key after the other, and for those that a token lacks. Two keys
/// that turn out to be one are not served any more, nor is one that took another's
/// label. All others are, and the service is ready while there are any: otherwise
/// whoever may write to a token could stop all of it by a single key.
///
/// One in a second: on some tokens a search takes as long as there are keys.
pub async fn look_for_keys(server: &Server, ready: &Condition) {
    let mut tick = ticks(Duration::from_secs(1));
    let mut known = HashSet::new();
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
        for (generation, problem) in state.look_for_conflicts() {
            if known.insert(problem.clone()) {
                tracing::error!(key = &*generation.name, problem, "a key is not served");
            }
        }
        let is_served = state.generations().any(Generation::is_served);
        let why = || match &state.wrong_keys()[..] {
            [] => "no key was found".to_owned(),
            problems => problems.join("; "),
        };
        ready.set(if is_served { Ok(()) } else { Err(why()) });
    }
}

/// Fetches the keys of issuers when it is time. The service is ready while the
/// keys of one are known.
pub async fn ask_issuers(server: &Server, ready: &Condition) {
    let mut tick = ticks(Duration::from_secs(5));
    loop {
        tick.tick().await;
        let state = server.state();
        state.bearer.refresh().await;
        let problems = state.bearer.problems();
        let is_known = problems.len() < state.issuers;
        ready.set(if is_known { Ok(()) } else { Err(problems.join("; ")) });
    }
}

/// Shows in metrics what is served now, and how it is.
pub async fn show(server: &Server, metrics: &Metrics) {
    let mut tick = ticks(Duration::from_secs(2));
    loop {
        tick.tick().await;
        let state = server.state();
        metrics.in_flight(server.in_flight());
        metrics.issuer_problems(state.bearer.problems().len());
        for (issuer, age) in state.bearer.ages_of_keys() {
            metrics.issuer_keys_age(issuer, age);
        }
        let is_wrong = |it: &&Generation| it.problem().is_some() || it.is_lacking();
        metrics.key_problems(state.generations().filter(is_wrong).count());
        for hsm in &state.hsms {
            metrics.works(hsm.name(), hsm.problem().is_none());
            if let Some(token) = hsm.token() {
                metrics.sessions(hsm.name(), &token.state());
            }
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
