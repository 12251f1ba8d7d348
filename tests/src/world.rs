//! Dealer and both parties in one thread, in virtual time, from one seed: no sockets, no clock, no files.
//!
//! Messages travel as the bytes of the wire, with random delays that keep the order within a direction; computing, burning
//! and dealing take random times too. Two worlds of one seed do exactly the same.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashSet},
    convert::Infallible,
    sync::Arc,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_cpu::CpuBackend;
use suf_deal::{Batch, Desk, Entropy, Standing};
use suf_gate::{Gate, KeyBytes, Seed, layout};
use suf_party::{Action, BurnLog, Event, Failure, Ledger, Measured, Plan, Policy, Run, Summary};
use suf_wire::{
    BatchId, DataFrame, Fault, KeyRequest, PartyId, PeerMessage, RunId, Transcript, decode_frame,
};

/// Longest delay of anything, in virtual microseconds.
const LONGEST_US: u64 = 5_000;

/// What both parties ended with.
#[derive(Debug)]
pub struct Outcome {
    /// How the run ended at each party.
    pub ends: [Result<Summary, Failure>; 2],
    /// Output shares of each party.
    pub outputs: [Vec<u64>; 2],
    /// Every payload that each party sent, in order: what its peer saw.
    pub sent: [Vec<DataFrame>; 2],
    /// Virtual microseconds until the end.
    pub elapsed_us: u64,
}

/// The simulated world.
pub struct World {
    rng: StdRng,
    now_us: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    nodes: [Node; 2],
    desk: Desk,
    backend: CpuBackend,
}

enum Happening {
    /// Bytes arrive at a party.
    Arrival(PartyId, Bytes),
    /// Something local happened at a party.
    Local(PartyId, Event),
    /// A request arrives at the dealer.
    Request(KeyRequest),
}

#[derive(Default)]
struct Node {
    run: Option<Run>,
    end: Option<Result<Summary, Failure>>,
    ledger: Option<Ledger<VirtualLog>>,
    keys: Vec<Option<Bytes>>,
    output: BTreeMap<u32, Vec<u64>>,
    sent: Vec<DataFrame>,
    counted: Counted,
    transcript: Option<Transcript>,
    /// Arrivals in this direction are never overtaken.
    last_arrival_us: u64,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    sent: u64,
    received: u64,
    rounds: u8,
}

/// A log on a disk that never fails.
#[derive(Default)]
struct VirtualLog(RefCell<HashSet<BatchId>>);

impl BurnLog for VirtualLog {
    type Error = Infallible;

    fn record(&self, batch: BatchId) -> Result<bool, Infallible> {
        Ok(self.0.borrow_mut().insert(batch))
    }
}

impl World {
    /// A world in which `seed` decides every delay and every secret.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            now_us: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            nodes: Default::default(),
            desk: Desk::default(),
            backend: CpuBackend::new(),
        }
    }

    /// Runs `gate` on the given shares; party 0 proposes.
    ///
    /// # Panics
    /// When the world comes to rest before both parties ended.
    pub fn run(mut self, gate: Gate, shares: [Vec<u64>; 2]) -> Outcome {
        let plan = Plan {
            run: RunId(self.rng.random()),
            batch: BatchId(self.rng.random()),
            elems: shares[0].len() as u64,
            gate: Arc::new(gate),
            deadline_ms: 1,
            me: PartyId::P0,
        };
        for (node, me) in self.nodes.iter_mut().zip(PartyId::BOTH) {
            node.transcript = Some(Transcript::new(plan.run, plan.digest()));
            node.ledger = Some(Ledger::new(VirtualLog::default()));
            node.run = (me == plan.me).then(|| Run::propose(plan.clone()));
        }
        for (me, shares) in PartyId::BOTH.into_iter().zip(&shares) {
            for (chunk, shares) in shares.chunks(layout::CHUNK_ELEMS).enumerate() {
                let event = Event::Input { chunk: chunk as u32, shares: shares.to_vec() };
                // Long after the proposal: a client submits to a party that knows the run.
                self.local_after(2 * LONGEST_US, me, event);
            }
        }
        self.drain(PartyId::P0);
        while let Some(Reverse((at_us, sequence))) = self.queue.pop() {
            self.now_us = at_us;
            match self.happenings.remove(&sequence).expect("queued together") {
                Happening::Arrival(me, bytes) => self.arrive(me, &bytes),
                Happening::Local(me, event) => self.feed(me, event),
                Happening::Request(request) => self.deal(request),
            }
        }
        let elapsed_us = self.now_us;
        let [first, second] = self.nodes;
        let sent = [first.sent, second.sent];
        let outputs = [first.output, second.output].map(|output| output.into_values().flatten().collect());
        let ends = [first.end, second.end].map(|end| end.expect("the world rested before a party ended"));
        Outcome { ends, outputs, sent, elapsed_us }
    }

    fn feed(&mut self, me: PartyId, event: Event) {
        if let Some(run) = &mut self.nodes[me.index()].run {
            run.handle(event);
        }
        self.drain(me);
    }

    fn drain(&mut self, me: PartyId) {
        while let Some(action) = self.nodes[me.index()].run.as_mut().and_then(Run::next_action) {
            self.act(me, action);
        }
    }

    fn act(&mut self, me: PartyId, action: Action) {
        let node = &mut self.nodes[me.index()];
        match action {
            Action::Send(message, after) => {
                let message = match message {
                    PeerMessage::Frame(mut frame) => {
                        frame.depth = after.next().expect("no gate is that deep");
                        node.count(me, &frame, true);
                        node.sent.push(frame.clone());
                        PeerMessage::Frame(frame)
                    }
                    other => other,
                };
                let encoded = suf_wire::Message::encode(&message).expect("own messages encode");
                let bytes = [encoded.head, encoded.payload].concat().into();
                let peer = me.other();
                let delay = self.delay();
                let due = (self.now_us + delay).max(self.nodes[peer.index()].last_arrival_us + 1);
                self.nodes[peer.index()].last_arrival_us = due;
                self.at(due, Happening::Arrival(peer, bytes));
            }
            Action::RequestKeys(request) => {
                let delay = self.delay();
                self.at(self.now_us + delay, Happening::Request(request));
            }
            Action::Burn => {
                let batch = node.run.as_ref().expect("it acts").plan().batch;
                let burnt = node.ledger.as_ref().expect("there from the start").burn(batch);
                let event = match burnt {
                    Ok(burnt) => Event::Burnt(burnt),
                    Err(error) => Event::Failed(Failure::new(Fault::Device, error.to_string())),
                };
                self.local(me, event);
            }
            Action::LoadKey(chunk) => {
                let key = node.keys[chunk as usize].take().expect("a key is loaded once");
                self.local(me, Event::Key { chunk, key: KeyBytes::new(key) });
            }
            Action::Compute(work) => {
                let event = work.run(&self.backend).map_or_else(Event::Failed, Event::Done);
                self.local(me, event);
            }
            Action::Output { chunk, shares } => {
                node.output.insert(chunk, shares);
            }
            Action::Measure => {
                let transcript = node.transcript.as_ref().expect("there from the start").digest();
                let Counted { sent, received, rounds } = node.counted;
                let measured = Measured { rounds, bits_sent: sent, bits_received: received, transcript };
                self.local(me, Event::Measured(measured));
            }
            Action::Enter(_) => {}
            Action::End(result) => node.end = Some(result),
        }
    }

    fn arrive(&mut self, me: PartyId, bytes: &[u8]) {
        let node = &mut self.nodes[me.index()];
        let run = node.run.as_ref();
        let message = decode_frame::<PeerMessage>(bytes, |head| {
            run.and_then(|run| run.expected_frame(head.step, head.chunk).ok())
        });
        let message = message.expect("an undisturbed world carries messages whole and in order");
        match (message, &node.run) {
            (PeerMessage::Propose(propose), None) => {
                let policy = Policy {
                    max_elems: suf_gate::gate::MAX_ELEMS,
                    protocols: suf_gate::Protocol::ALL.into(),
                };
                let plan = policy.admit(&propose, me).expect("the policy takes everything");
                node.run = Some(Run::accept(plan));
                self.drain(me);
            }
            (message, _) => {
                if let PeerMessage::Frame(frame) = &message {
                    node.count(me.other(), frame, false);
                }
                self.feed(me, Event::Peer(message));
            }
        }
    }

    fn deal(&mut self, request: KeyRequest) {
        let batch = request.batch;
        let Standing::Agreed { gate, elems } = self.desk.request(request).expect("both ask for the same")
        else {
            return;
        };
        let mut seed = || Seed::new(self.rng.random());
        let entropy = Entropy { parties: [seed(), seed()], dealer: seed() };
        let batch = Batch::new(batch, Arc::new(*gate), elems, entropy);
        for index in 0..batch.chunks() {
            let pair = batch.chunk(index, &self.backend).expect("the CPU does not fail");
            for (node, chunk) in self.nodes.iter_mut().zip(pair) {
                node.keys.push(Some(chunk.bytes));
            }
        }
        for me in PartyId::BOTH {
            let seed = Seed::new(*batch.header(me).seed.expose());
            self.local(me, Event::KeysStored(seed));
        }
    }

    fn local(&mut self, me: PartyId, event: Event) {
        self.local_after(0, me, event);
    }

    fn local_after(&mut self, least_us: u64, me: PartyId, event: Event) {
        let delay = self.delay();
        self.at(self.now_us + least_us + delay, Happening::Local(me, event));
    }

    fn at(&mut self, at_us: u64, happening: Happening) {
        self.happenings.insert(self.sequence, happening);
        self.queue.push(Reverse((at_us, self.sequence)));
        self.sequence += 1;
    }

    fn delay(&mut self) -> u64 {
        self.rng.random_range(0..LONGEST_US)
    }
}

impl Node {
    /// Counts a frame as the link would, but independently of it.
    fn count(&mut self, from: PartyId, frame: &DataFrame, sent: bool) {
        self.transcript.as_mut().expect("there from the start").absorb(from, frame);
        if frame.step == DataFrame::OPEN {
            return;
        }
        let total = if sent { &mut self.counted.sent } else { &mut self.counted.received };
        *total += frame.bits;
        self.counted.rounds = self.counted.rounds.max(frame.depth.depth());
    }
}
