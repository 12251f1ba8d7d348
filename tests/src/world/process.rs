//! One party's process in the world, and its disk.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use suf_gate::load::Kept;
use suf_party::{BurnLog, Measured, NodeMeasured, Purpose, Record, Registration, Run, RunFailure, Summary};
use suf_wire::{BatchId, DataFrame, Digest, NodeId, Part, Party, Transcript};

use super::MOST_LANES;

#[derive(Default)]
pub(super) struct Process {
    /// What the client asked this party for.
    pub(super) registration: Option<Registration>,
    pub(super) run: Option<Run>,
    /// The load whose matrices the run takes.
    pub(super) load: Option<Arc<Kept>>,
    pub(super) end: Option<Result<Summary, RunFailure>>,
    pub(super) keys: HashMap<Part, Bytes>,
    pub(super) output: BTreeMap<Part, Vec<u64>>,
    pub(super) sent: Vec<DataFrame>,
    pub(super) counted: BTreeMap<NodeId, NodeMeasured>,
    pub(super) transcript: Option<Transcript>,
    /// Segments that this party said it is ready for, and those that the peer said.
    pub(super) said: HashSet<u16>,
    pub(super) heard: HashSet<u16>,
    /// Arrivals over a lane in this direction are not overtaken, unless a fault says so.
    pub(super) last_arrivals_us: [u64; MOST_LANES],
    pub(super) crashed: bool,
}

impl Process {
    /// `run`, with the matrices that it takes.
    pub(super) fn taking(&self, run: Run) -> Run {
        self.load.iter().cloned().fold(run, Run::taking)
    }

    /// Counts a frame as the link would, but independently of it.
    pub(super) fn count(&mut self, from: Party, frame: &DataFrame, sent: bool) {
        self.transcript.as_mut().expect("there from the start").absorb(from, frame);
        let node = frame.part.node;
        let counted = self.counted.entry(node).or_insert(NodeMeasured {
            node,
            depth: 0,
            bits_sent: 0,
            bits_received: 0,
        });
        counted.depth = counted.depth.max(frame.depth.depth());
        let total = if sent { &mut counted.bits_sent } else { &mut counted.bits_received };
        *total += frame.bits;
    }

    /// What was counted, as the meter would tell it.
    pub(super) fn measured(&self) -> Measured {
        let program = &self.registration.as_ref().expect("there from the start").program;
        let exchanges = || self.counted.values().filter(|node| !program.node(node.node).is_input());
        Measured {
            rounds: exchanges().map(|node| node.depth).max().unwrap_or(0),
            bits_sent: exchanges().map(|node| node.bits_sent).sum(),
            bits_received: exchanges().map(|node| node.bits_received).sum(),
            transcript: self.transcript.as_ref().expect("there from the start").digest(),
            nodes: self.counted.values().copied().collect(),
        }
    }
}

/// A log on a disk that survives crashes, and fails when it is told to.
#[derive(Default)]
pub(super) struct VirtualLog {
    pub(super) burnt: RefCell<HashSet<BatchId>>,
    /// Batches of loads, each with the digest that it is bound to.
    pub(super) loads: RefCell<HashMap<BatchId, Digest>>,
    pub(super) fails: RefCell<bool>,
}

/// A full or broken disk.
#[derive(Debug)]
pub(super) struct DiskFailure;

impl std::fmt::Display for DiskFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the virtual disk fails")
    }
}

impl std::error::Error for DiskFailure {}

impl BurnLog for &VirtualLog {
    type Error = DiskFailure;

    fn record(&self, batch: BatchId, purpose: Purpose) -> Result<Record, DiskFailure> {
        if *self.fails.borrow() {
            return Err(DiskFailure);
        }
        let (mut burnt, mut loads) = (self.burnt.borrow_mut(), self.loads.borrow_mut());
        if burnt.contains(&batch) {
            return Ok(Record::Burnt);
        }
        match purpose {
            Purpose::On { load, batch } if loads.get(&batch) != Some(&load) => return Ok(Record::Unbound),
            Purpose::Load(digest) => drop(loads.insert(batch, digest)),
            Purpose::Run | Purpose::On { .. } => {}
        }
        burnt.insert(batch);
        Ok(Record::New)
    }
}
