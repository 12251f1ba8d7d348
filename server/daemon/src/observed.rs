//! What is counted of runs when they are over: nothing is counted while one is at work.

use std::sync::Arc;

use suf_admin::{
    Registry, Unit,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
};
use suf_control::v1;

use crate::{entry::Entry, host::Host};

/// Sums over all runs since the start.
#[derive(Debug)]
pub(crate) struct Observed {
    /// By outcome and fault.
    ended: Family<Vec<(&'static str, String)>, Counter>,
    run: Histogram,
    keys: Histogram,
    elements: Counter,
    rounds: Counter,
    message_bytes: Counter,
    key_bytes: Counter,
}

/// Buckets of times: from a millisecond to an hour, each four times the one before.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            run: seconds(),
            keys: seconds(),
            elements: Counter::default(),
            rounds: Counter::default(),
            message_bytes: Counter::default(),
            key_bytes: Counter::default(),
        }
    }
}

impl Observed {
    /// Puts the sums into `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "runs",
            "Runs that ended, by outcome and by whose fault it was",
            self.ended.clone(),
        );
        let seconds = || Unit::Seconds;
        let run = "From the opening of the inputs to the end, of runs that ended well";
        registry.register_with_unit("run", run, seconds(), self.run.clone());
        let keys = "From the first byte of the keys to the last, of runs that ended well";
        registry.register_with_unit("run_keys", keys, seconds(), self.keys.clone());
        registry.register(
            "run_elements",
            "Elements of inputs, of runs that ended well",
            self.elements.clone(),
        );
        registry.register("run_rounds", "Rounds, of runs that ended well", self.rounds.clone());
        let messages = "Bytes that this party sent to its peer in runs that ended well";
        registry.register_with_unit("run_message", messages, Unit::Bytes, self.message_bytes.clone());
        let keys = "Bytes of the keys that runs used which ended well";
        registry.register_with_unit("run_key", keys, Unit::Bytes, self.key_bytes.clone());
    }

    /// Counts a run by its last state.
    fn count(&self, last: &v1::Run) {
        let outcome = match last.state() {
            v1::RunState::Done => "done",
            v1::RunState::Cancelled => "cancelled",
            _ => "failed",
        };
        let fault = last.failure.as_ref().map_or("none".to_owned(), |failure| {
            failure.fault().as_str_name().trim_start_matches("FAULT_").to_lowercase()
        });
        self.ended.get_or_create(&vec![("outcome", outcome.to_owned()), ("fault", fault)]).inc();
        let Some(figures) = last.figures.as_ref().filter(|_| last.state() == v1::RunState::Done) else {
            return;
        };
        self.run.observe(figures.run_ms / 1e3);
        self.keys.observe(figures.ship_ms / 1e3);
        self.elements.inc_by(last.elements);
        self.rounds.inc_by(figures.rounds.into());
        self.message_bytes.inc_by(figures.wire_bytes_sent);
        self.key_bytes.inc_by(figures.key_bytes);
    }
}

/// Counts `entry` when it is over.
pub(crate) fn count_when_over(host: &Arc<Host>, entry: &Arc<Entry>) {
    let (host, entry) = (Arc::clone(host), Arc::clone(entry));
    host.clone().runtime().spawn(async move { host.observed().count(&entry.ended().await) });
}

#[cfg(test)]
mod tests {
    use suf_admin::encode;
    use suf_control::failure::CallFailure;

    use super::*;

    #[test]
    fn a_run_is_counted_once_by_its_outcome_and_its_figures() {
        let observed = Observed::default();
        let figures = v1::Figures { run_ms: 20.0, rounds: 7, key_bytes: 100, ..v1::Figures::default() };
        let done = v1::Run { elements: 9, figures: Some(figures), ..v1::Run::default() };
        observed.count(&v1::Run { state: v1::RunState::Done.into(), ..done.clone() });
        let failure = Some(CallFailure::new(v1::Fault::Peer, "gone").at_step("opening"));
        observed.count(&v1::Run { state: v1::RunState::Failed.into(), failure, ..done });
        let mut registry = Registry::with_prefix("suf");
        observed.register(&mut registry);
        let text = encode(&registry);
        for line in [
            "suf_runs_total{outcome=\"done\",fault=\"none\"} 1\n",
            "suf_runs_total{outcome=\"failed\",fault=\"peer\"} 1\n",
            "suf_run_seconds_count 1\n",
            "suf_run_elements_total 9\n",
            "suf_run_rounds_total 7\n",
            "suf_run_key_bytes_total 100\n",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
