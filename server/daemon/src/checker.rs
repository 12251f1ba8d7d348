//! What a checker gets of each run that ends well: the seed of this party's masks, and what it made of each part. A benchmark
//! or a test that starts both parties puts that together, and compares every node with its integer function.
//!
//! It goes to the standard output that the party inherits from the process that started it, which asks for it on the command
//! line. No configuration, role or call can.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde::Serialize;
use suf_gate::Value;
use suf_party::{Done, Event, Plan, Start, Work};
use suf_process::output;
use suf_wire::{Part, PeerMessage, Seed};

use crate::timing::{Timing, shared_us};

/// The way to the checker.
#[derive(Debug, Default)]
pub struct Checker {
    /// Reports do not mix.
    turn: Mutex<()>,
}

impl Checker {
    /// Over this process's standard output.
    ///
    /// # Errors
    /// When that is no pipe: then no process that started this one reads it.
    pub fn of_standard_output() -> Result<Self, String> {
        if output::is_pipe() {
            return Ok(Self::default());
        }
        Err("what a checker gets goes to a pipe, and standard output is none: leave --tell-checker out"
            .into())
    }

    /// Tells it of a run.
    ///
    /// # Errors
    /// When a device does not give its values out, or the pipe takes no more.
    pub(crate) fn tell(&self, report: &Report) -> Result<(), String> {
        let mut words = Vec::new();
        let mut parts = Vec::new();
        for (part, value) in &report.made {
            let made = Arc::clone(value).words().map_err(|error| error.to_string())?;
            parts.push([part.node.0.into(), u64::from(part.tile), made.len() as u64]);
            words.extend(made.iter().flat_map(|word| word.to_le_bytes()));
        }
        let head = Head {
            run: &report.run,
            batch: &report.batch,
            seed: report.seed.as_ref().map(|seed| &seed.expose()[..]).unwrap_or_default(),
            parts,
            spans: &report.spans,
            arrivals: &report.arrivals,
        };
        let mut head = serde_json::to_vec(&head).map_err(|error| error.to_string())?;
        head.push(b'\n');
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let written = output::raw(&head).and_then(|_| output::raw(&words));
        written.map(drop).map_err(|error| output::unwritten(&error))
    }
}

/// The line before the values, which follow as little-endian words of 64 bits.
#[derive(Serialize)]
struct Head<'a> {
    run: &'a [u8],
    batch: &'a [u8],
    seed: &'a [u8],
    /// Node, tile and number of words of each part, in the order of the values.
    parts: Vec<[u64; 3]>,
    /// Node, tile, first and last microsecond of each work, by the machine's monotonic clock.
    spans: &'a [[u64; 4]],
    /// Node, tile and exchange of each message of the peer, and the microsecond in which it was there.
    arrivals: &'a [[u64; 4]],
}

/// What is noted of a run while it is at work.
#[derive(Default)]
pub(crate) struct Notes {
    seed: Option<Seed>,
    made: BTreeMap<Part, Arc<dyn Value>>,
    arrivals: Vec<(Part, u8, Instant)>,
}

impl Notes {
    /// Before the run is told of `event`.
    pub(crate) fn event(&mut self, event: &Event) {
        if let Event::Peer(PeerMessage::Frame(frame)) = event {
            self.arrivals.push((frame.part, frame.step, Instant::now()));
        }
    }

    /// Before a work.
    pub(crate) fn before(&mut self, work: &Work) {
        if let Work::Stage { job, .. } | Work::Begin { start: Start::Keyless(job), .. } = work {
            self.seed.get_or_insert_with(|| job.seed.clone());
        }
    }

    /// After a work.
    pub(crate) fn after(&mut self, done: &Done) {
        if let Done::Finished { part, value, .. } = done {
            self.made.insert(*part, Arc::clone(value));
        }
    }

    /// All of a run that is over.
    pub(crate) fn report(self, plan: &Plan, timing: &Timing) -> Report {
        let at = shared_us();
        let arrived = |(part, step, when): (Part, u8, Instant)| {
            [part.node.0.into(), part.tile.into(), step.into(), at(when)]
        };
        Report {
            run: plan.run.public_hash().0,
            batch: plan.batch.0,
            seed: self.seed,
            made: self.made,
            spans: timing.spans_us(),
            arrivals: self.arrivals.into_iter().map(arrived).collect(),
        }
    }
}

/// All that a checker gets of a run.
pub(crate) struct Report {
    run: [u8; 16],
    batch: [u8; 16],
    seed: Option<Seed>,
    made: BTreeMap<Part, Arc<dyn Value>>,
    spans: Vec<[u64; 4]>,
    arrivals: Vec<[u64; 4]>,
}
