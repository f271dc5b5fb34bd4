//! Whether a load balancer should send requests here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shutdown::Shutdown;

/// Named conditions that all have to be met, and no shutdown. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    shutdown: Shutdown,
    conditions: Arc<Mutex<Vec<State>>>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// Why not, where it is not met.
    problem: Option<String>,
}

impl Readiness {
    /// Readiness that ends as soon as `shutdown` begins.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, conditions: Arc::default() }
    }

    /// Adds a condition, which is not met yet.
    #[must_use]
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let mut conditions = self.conditions();
        conditions.push(State { name: name.into(), problem: Some("not checked yet".to_owned()) });
        Condition { of: self.clone(), index: conditions.len() - 1 }
    }

    /// Why it is not ready, a sentence each; none if it is.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let ending = self.shutdown.has_begun().then(|| "shutting down".to_owned());
        let conditions = self.conditions();
        let unmet = conditions.iter().filter_map(|state| {
            state.problem.as_ref().map(|problem| format!("{}: {problem}", state.name))
        });
        ending.into_iter().chain(unmet).collect()
    }

    fn conditions(&self) -> MutexGuard<'_, Vec<State>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One condition of a [`Readiness`].
#[derive(Debug)]
pub struct Condition {
    of: Readiness,
    index: usize,
}

impl Condition {
    /// Says that it is met, or why not: shown to whoever asks, so no secrets.
    pub fn set(&self, state: Result<(), String>) {
        self.of.conditions()[self.index].problem = state.err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_are_met_and_nothing_ends() {
        let shutdown = Shutdown::default();
        let readiness = Readiness::new(shutdown.clone());
        assert_eq!(readiness.problems(), [""; 0]);
        let (hsm, policy) = (readiness.condition("hsm"), readiness.condition("policy"));
        assert_eq!(readiness.problems(), ["hsm: not checked yet", "policy: not checked yet"]);
        hsm.set(Ok(()));
        policy.set(Err("line 3".to_owned()));
        assert_eq!(readiness.problems(), ["policy: line 3"]);
        policy.set(Ok(()));
        assert_eq!(readiness.problems(), [""; 0]);
        shutdown.begin();
        assert_eq!(readiness.problems(), ["shutting down"]);
    }
}
