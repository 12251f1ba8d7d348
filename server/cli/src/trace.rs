//! What both parties worked on, on one time line, in the Chrome trace format: for Perfetto or `chrome://tracing`.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use suf_wire::Part;

use crate::{error::Error, observed::Worked};

/// The events of a trace.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    events: Vec<Value>,
    exchanges: u64,
}

impl Trace {
    /// Adds a run: what each party worked on, and what its nodes are called. `run` says which one it is.
    pub(crate) fn add(&mut self, run: &str, works: [&[Worked]; 2], name: impl Fn(Part) -> String) {
        for (party, works) in works.into_iter().enumerate() {
            let mut works = works.to_vec();
            works.sort_by_key(|work| work.from_us);
            // A thread is at one work at a time; which one it was does not matter.
            let mut free = Vec::<u64>::new();
            let mut last = BTreeMap::<Part, u64>::new();
            for Worked { part, from_us, to_us } in works {
                let thread = free.iter().position(|free| *free <= from_us).unwrap_or(free.len());
                if thread == free.len() {
                    free.push(0);
                }
                free[thread] = to_us;
                let name = name(part);
                if let Some(since) = last.insert(part, to_us) {
                    self.exchange(run, party, &name, [since, from_us]);
                }
                self.events.push(json!({ "ph": "X", "name": name, "cat": run, "pid": party, "tid": thread,
                    "ts": from_us, "dur": to_us.saturating_sub(from_us),
                    "args": { "run": run, "node": part.node.0, "tile": part.tile } }));
            }
        }
    }

    /// Between two works on a part, its messages were on the link, or it waited.
    fn exchange(&mut self, run: &str, party: usize, name: &str, [from, to]: [u64; 2]) {
        self.exchanges += 1;
        for (phase, at) in [("b", from), ("e", to)] {
            self.events
                .push(json!({ "ph": phase, "name": format!("{name}: messages"), "cat": run, "pid": party,
                "tid": 0, "id": self.exchanges, "ts": at }));
        }
    }

    /// Writes the trace.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(mut self, path: &Path) -> Result<(), Error> {
        for party in [0, 1] {
            self.events.push(json!({ "ph": "M", "name": "process_name", "pid": party,
                "args": { "name": format!("party {party}") } }));
        }
        let text = json!({ "displayTimeUnit": "ms", "traceEvents": self.events }).to_string();
        suf_files::write(path, text.as_bytes()).map_err(|error| Error::write(path, error))
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::NodeId;

    use super::*;

    #[test]
    fn works_that_overlap_have_threads_of_their_own_and_gaps_are_messages() {
        let work = |node, from_us, to_us| Worked { part: Part::new(NodeId(node), 0), from_us, to_us };
        let mut trace = Trace::default();
        trace.add("run", [&[work(1, 0, 10), work(2, 5, 8), work(1, 30, 35)], &[]], |part| {
            part.node.to_string()
        });
        let of = |phase: &str| {
            let events = trace.events.iter().filter(|event| event["ph"] == phase);
            events.map(|event| [&event["tid"], &event["ts"]].map(|value| value.as_u64().unwrap())).collect()
        };
        let works: Vec<[u64; 2]> = of("X");
        assert_eq!(works, [[0, 0], [1, 5], [0, 30]]);
        let [begun, ended]: [Vec<[u64; 2]>; 2] = ["b", "e"].map(of);
        assert_eq!((begun, ended), (vec![[0, 10]], vec![[0, 30]]));
    }
}
