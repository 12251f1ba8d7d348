//! Dealer and both parties in one thread, in virtual time, from one seed: no sockets, no clock, no files.
//!
//! Messages travel as the bytes of the wire, with random delays that keep the order within a lane of a direction.
//! Computing, burning and dealing take random times too. Two worlds of one seed do exactly the same. With [`Faults`],
//! messages are lost, changed, cut, doubled, overtaken and held up. Processes crash, disks fail and keys are damaged. A
//! world remembers across its runs what was burnt and sent, so it sees a key that is used twice.

mod dealing;
mod faults;
mod process;
mod strikes;
mod witness;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_cpu::CpuBackend;
use suf_deal::Pairing;
use suf_gate::{
    BackendError, KeyBytes, Program, Seed, WeightStore,
    load::{Dealt, Kept},
};
use suf_party::{Action, Event, Ledger, Registration, Run, RunFailure, Summary, Work};
use suf_wire::{
    BatchId, DataFrame, Fault, KeyRequest, LoadName, Part, Party, PeerMessage, RunId, Transcript,
    decode_frame,
};

pub use faults::{Faults, How, Strike};
use process::{Process, VirtualLog};
pub use strikes::{Strikes, operation};

/// Longest delay of anything, in virtual microseconds.
const LONGEST_US: u64 = 5_000;

/// Virtual microseconds after which a run is given up: for the agreement and for each node of its program.
const DEADLINE_US: u64 = 1_000_000;
const NODE_DEADLINE_US: u64 = 10 * LONGEST_US;

/// Lanes of a connection, at most.
const MOST_LANES: usize = 4;

/// What both parties ended with.
#[derive(Debug)]
pub struct Outcome {
    /// How the run ended at each party.
    pub ends: [Result<Summary, RunFailure>; 2],
    /// Output shares of each node `output`, in order: of party 0 and of party 1.
    pub outputs: Vec<[Vec<u64>; 2]>,
    /// Every payload that each party sent, in order: what its peer saw.
    pub sent: [Vec<DataFrame>; 2],
    /// Virtual microseconds until the end.
    pub elapsed_us: u64,
    /// The seeds of party 0, of party 1 and of the dealer alone, if keys were dealt.
    pub seeds: Option<[Seed; 3]>,
    /// The segment of which the dealer gave the parties unequal public parts, if it did.
    pub unequal: Option<u16>,
}

/// The simulated world.
pub struct World {
    rng: StdRng,
    now_us: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    processes: [Process; 2],
    logs: [VirtualLog; 2],
    pairing: Pairing,
    backend: CpuBackend,
    faults: Faults,
    /// In which run each party first sent something that depends on a batch.
    spent: HashMap<(Party, BatchId), RunId>,
    /// Every exchange that each party sent.
    said: HashSet<(Party, RunId, Part, u8)>,
    /// The segment of which the dealer of this run gave unequal public parts.
    unequal: Option<u16>,
    /// The seeds of this run's keys, once they are dealt.
    seeds: Option<[Seed; 3]>,
    /// The matrices that this run's program names.
    weights: WeightStore,
    /// What the dealer keeps of loads. A restart loses it.
    dealt: HashMap<BatchId, Arc<Dealt>>,
    /// What each party keeps of loads. A crash loses it.
    kept: [HashMap<BatchId, Arc<Kept>>; 2],
    /// Virtual microseconds after which this run is given up.
    deadline_us: u64,
    /// Lanes of this run's connection.
    lanes: usize,
    /// Breaches of the rule of one-time keys, in words.
    breaches: Vec<String>,
    /// Operations in which runs were struck.
    strikes: Strikes,
}

enum Happening {
    /// Bytes arrive at a party.
    Arrival(Party, Bytes),
    /// Something local happened at a party.
    Local(Party, Event),
    /// A request arrives at the dealer.
    Request(KeyRequest),
}

impl World {
    /// A world without faults, in which `seed` decides every delay and every secret.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::default())
    }

    /// A world in which `seed` also decides what goes wrong.
    #[must_use]
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            now_us: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            processes: Default::default(),
            logs: Default::default(),
            pairing: Pairing::default(),
            backend: CpuBackend::new(),
            faults,
            spent: HashMap::new(),
            said: HashSet::new(),
            unequal: None,
            seeds: None,
            weights: WeightStore::default(),
            dealt: HashMap::new(),
            kept: Default::default(),
            deadline_us: DEADLINE_US,
            lanes: 1,
            breaches: Vec::new(),
            strikes: Strikes::new(),
        }
    }

    /// What goes wrong from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// A batch id nobody has used.
    pub fn fresh_batch(&mut self) -> BatchId {
        BatchId(self.rng.random())
    }

    /// Breaches of the rule of one-time keys so far; there must be none.
    #[must_use]
    pub fn breaches(&self) -> &[String] {
        &self.breaches
    }

    /// In which operations devices were lost and processes crashed so far.
    #[must_use]
    pub fn strikes(&self) -> &Strikes {
        &self.strikes
    }

    /// Whether `party` has burnt `batch`.
    #[must_use]
    pub fn has_burnt(&self, party: Party, batch: BatchId) -> bool {
        self.logs[party.index()].burnt.borrow().contains(&batch)
    }

    /// Runs `program` with the keys of `batch` on both parties' shares of each node `input`; party 0 proposes.
    ///
    /// # Panics
    /// When the world comes to rest before both parties ended: a hang.
    pub fn run(&mut self, program: &Arc<Program>, batch: BatchId, inputs: &[[Vec<u64>; 2]]) -> Outcome {
        self.run_with(program, None, batch, inputs)
    }

    /// The same for a program that makes `load`, or takes its matrices.
    ///
    /// # Panics
    /// As [`World::run`].
    pub fn run_with(
        &mut self,
        program: &Arc<Program>,
        load: Option<LoadName>,
        batch: BatchId,
        inputs: &[[Vec<u64>; 2]],
    ) -> Outcome {
        if self.rng.random_bool(self.faults.forget) {
            self.dealt.clear();
        }
        let begun_us = self.now_us;
        self.weights = dealing::weights_of(program);
        self.deadline_us = DEADLINE_US + NODE_DEADLINE_US * program.nodes().count() as u64;
        let registration = Registration {
            run: RunId(self.rng.random()),
            program: Arc::clone(program),
            deadline_ms: 1,
            me: Party::P0,
            load,
        };
        let plan = registration.with_batch(batch);
        for log in &self.logs {
            let fails = self.rng.random_bool(self.faults.disk);
            *log.fails.borrow_mut() = fails;
        }
        self.lanes = self.rng.random_range(1..=MOST_LANES);
        for me in Party::BOTH {
            let load =
                load.and_then(|load| load.batch).map(|batch| self.kept[me.index()].get(&batch).cloned());
            let process = &mut self.processes[me.index()];
            *process = Process { last_arrivals_us: [self.now_us; MOST_LANES], ..Process::default() };
            if let Some(None) = load {
                process.end = Some(Err(RunFailure::new(Fault::Caller, "no such load")));
                continue;
            }
            process.load = load.flatten();
            process.registration = Some(Registration { me, ..registration.clone() });
            process.transcript = Some(Transcript::new(plan.run, plan.digest()));
            process.run = (me == plan.me).then(|| process.taking(Run::propose(plan.clone())));
        }
        self.limit(Party::P0);
        for (node, input) in program.inputs().zip(inputs) {
            for (me, shares) in Party::BOTH.into_iter().zip(input) {
                let mut rest = &shares[..];
                for tile in 0..program.node(node).tiles() {
                    let part = Part::new(node, tile);
                    let (shares, after) = rest.split_at(program.elems(part));
                    rest = after;
                    // Long after the proposal: a client submits to a party that knows the run.
                    self.local_after(2 * LONGEST_US, me, Event::Input { part, shares: shares.to_vec() });
                }
            }
        }
        self.drain(Party::P0);
        while let Some(Reverse((at_us, sequence))) = self.queue.pop() {
            self.now_us = at_us;
            match self.happenings.remove(&sequence).expect("queued together") {
                Happening::Arrival(me, bytes) => self.arrive(me, &bytes),
                Happening::Local(me, event) => self.feed(me, event),
                Happening::Request(request) => self.deal(&request),
            }
        }
        self.pairing = Pairing::default();
        let elapsed_us = self.now_us - begun_us;
        let [first, second] = std::mem::take(&mut self.processes);
        let sent = [first.sent, second.sent];
        let ends = [(first.end, first.run), (second.end, second.run)].map(|(end, run)| match (end, run) {
            (Some(end), _) => end,
            (None, Some(run)) => panic!("a run hangs while {:?}", run.phase()),
            (None, None) => Err(RunFailure::new(Fault::Peer, "never heard of the run")),
        });
        let output = |of: &BTreeMap<Part, Vec<u64>>, node| {
            of.iter().filter(|(part, _)| part.node == node).flat_map(|(_, shares)| shares).copied().collect()
        };
        let outputs = program
            .outputs()
            .map(|node| [output(&first.output, node), output(&second.output, node)])
            .collect();
        Outcome { ends, outputs, sent, elapsed_us, seeds: self.seeds.take(), unequal: self.unequal.take() }
    }

    /// The run that `me` has now ends by its deadline.
    fn limit(&mut self, me: Party) {
        let late = RunFailure::new(Fault::Peer, "the deadline passed");
        self.at(self.now_us + self.deadline_us, Happening::Local(me, Event::Failed(late)));
    }

    fn feed(&mut self, me: Party, event: Event) {
        if self.processes[me.index()].run.is_some() {
            let computed = strikes::computed(&event);
            if self.is_struck(me, computed, How::Crash) || self.rng.random_bool(self.faults.crash) {
                self.note_strike(me, computed);
                self.crash(me);
                return;
            }
        }
        if let Some(run) = &mut self.processes[me.index()].run {
            run.handle(event);
        }
        self.drain(me);
    }

    /// The process dies: everything but the disk is lost, and the other side hears of it.
    fn crash(&mut self, me: Party) {
        let process = &mut self.processes[me.index()];
        if process.end.is_none() {
            process.end = Some(Err(RunFailure::new(Fault::Device, "the process crashed")));
        }
        process.run = None;
        process.crashed = true;
        self.kept[me.index()].clear();
        self.disconnect(me.other());
    }

    /// `me` learns that the connection is lost.
    fn disconnect(&mut self, me: Party) {
        let lost = RunFailure::new(Fault::Peer, "connection lost");
        // What arrived before is handled before.
        let last_us = self.processes[me.index()].last_arrivals_us.into_iter().max().expect("there are lanes");
        let due = last_us.max(self.now_us) + 1;
        if self.processes[me.index()].run.as_ref().is_some_and(Run::awaits_peer) {
            self.at(due, Happening::Local(me, Event::Failed(lost)));
        }
    }

    fn drain(&mut self, me: Party) {
        while let Some(action) = self.processes[me.index()].run.as_mut().and_then(Run::next_action) {
            self.act(me, action);
        }
    }

    fn act(&mut self, me: Party, action: Action) {
        let process = &mut self.processes[me.index()];
        match action {
            Action::Send(message, after) => {
                let message = match message {
                    PeerMessage::Frame(mut frame) => {
                        frame.depth = after.next().expect("no program is that deep");
                        process.count(me, &frame, true);
                        process.sent.push(frame.clone());
                        self.witness(me, &frame);
                        PeerMessage::Frame(frame)
                    }
                    PeerMessage::Ready { segment, .. } => {
                        process.said.insert(segment);
                        self.witness_burnt(me, "its readiness");
                        message
                    }
                    other => other,
                };
                self.send(me.other(), &message);
            }
            Action::RequestKeys(request) => {
                if !self.rng.random_bool(self.faults.silence) {
                    let delay = self.delay();
                    self.at(self.now_us + delay, Happening::Request(request));
                }
            }
            Action::Burn => {
                let plan = process.run.as_ref().expect("it acts").plan();
                let event = match Ledger::new(&self.logs[me.index()]).burn(plan.batch, plan.purpose()) {
                    Ok(burnt) => Event::Burnt(burnt),
                    Err(error) => Event::Failed(RunFailure::new(Fault::Device, error.to_string())),
                };
                self.local(me, event);
            }
            Action::LoadKey(part) => {
                let key = process.keys.remove(&part).expect("a key is loaded once, after it is stored");
                self.local(me, Event::Key { part, key: KeyBytes::new(key) });
            }
            Action::Align => self.local(me, Event::Aligned),
            Action::Compute(work) => {
                // To wipe what is left of a part takes no device.
                let part = work.evaluates();
                let lost = !matches!(work, Work::Wipe(_))
                    && (self.is_struck(me, part, How::Device) || self.rng.random_bool(self.faults.device));
                if lost {
                    self.note_strike(me, part);
                }
                let done = match lost {
                    true => Err(BackendError::Failed("it fell off the bus".into()).into()),
                    false => work.run(&self.backend),
                };
                self.local(me, done.map_or_else(Event::Failed, Event::Done));
            }
            Action::Output { part, shares } => {
                process.output.insert(part, shares);
            }
            Action::Measure => {
                let measured = process.measured();
                self.local(me, Event::Measured(measured));
            }
            Action::Keep(kept) => {
                self.kept[me.index()].insert(BatchId(kept.load().batch), Arc::new(kept));
            }
            Action::Enter(_) => {}
            Action::End(result) => process.end = Some(result),
        }
    }

    /// Puts a message on its way, or lets happen to it what happens to messages.
    fn send(&mut self, to: Party, message: &PeerMessage) {
        let encoded = suf_wire::Message::encode(message).expect("own messages encode");
        let mut bytes = [encoded.head, encoded.payload].concat();
        let Faults { lose, change, cut, double, overtake, hold, .. } = self.faults;
        let part = match message {
            PeerMessage::Frame(frame) => Some(frame.part),
            _ => None,
        };
        if self.is_struck(to.other(), part, How::Link) || self.rng.random_bool(lose) {
            self.note_strike(to.other(), part);
            self.disconnect(to);
            self.disconnect(to.other());
            return;
        }
        if self.rng.random_bool(change) {
            let at = self.rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << self.rng.random_range(0..8);
        }
        if self.rng.random_bool(cut) {
            bytes.truncate(self.rng.random_range(0..bytes.len()));
        }
        let bytes = Bytes::from(bytes);
        let held = if self.rng.random_bool(hold) { 2 * self.deadline_us } else { 0 };
        let mut due = self.now_us + self.delay() + held;
        if !self.rng.random_bool(overtake) {
            let lane = message.lane(self.lanes);
            let last_us = &mut self.processes[to.index()].last_arrivals_us[lane];
            due = due.max(*last_us + 1);
            *last_us = due;
        }
        if self.rng.random_bool(double) {
            self.at(due + 1, Happening::Arrival(to, bytes.clone()));
        }
        self.at(due, Happening::Arrival(to, bytes));
    }

    fn arrive(&mut self, me: Party, bytes: &[u8]) {
        let process = &mut self.processes[me.index()];
        if process.crashed {
            return;
        }
        let run = process.run.as_ref();
        let message = decode_frame::<PeerMessage>(bytes, |head| {
            run.and_then(|run| run.expected_frame(head.part, head.step).ok())
        });
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                // As the link does: a bad message ends the connection.
                self.feed(me, Event::Failed(RunFailure::new(Fault::Peer, error.to_string())));
                self.disconnect(me.other());
                return;
            }
        };
        match (message, &process.run) {
            (PeerMessage::Propose(propose), None) => {
                let unknown = || RunFailure::new(Fault::Caller, "no client has registered the run");
                let registration = process.registration.as_ref().ok_or_else(unknown);
                match registration.and_then(|registration| registration.agree(&propose)) {
                    Ok(plan) => {
                        process.run = Some(process.taking(Run::accept(plan)));
                        self.limit(me);
                        self.drain(me);
                    }
                    Err(failure) => {
                        let (fault, reason) = (failure.fault, failure.wire_reason());
                        process.end.get_or_insert(Err(failure));
                        self.send(me.other(), &PeerMessage::Refuse { run: propose.run, fault, reason });
                    }
                }
            }
            (_, None) => {}
            (message, Some(_)) => {
                match &message {
                    PeerMessage::Frame(frame) => process.count(me.other(), frame, false),
                    PeerMessage::Ready { segment, .. } => _ = process.heard.insert(*segment),
                    _ => {}
                }
                self.feed(me, Event::Peer(message));
            }
        }
    }

    fn local(&mut self, me: Party, event: Event) {
        self.local_after(0, me, event);
    }

    fn local_after(&mut self, least_us: u64, me: Party, event: Event) {
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
