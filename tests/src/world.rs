//! Dealer and both parties in one thread, in virtual time, from one seed: no sockets, no clock, no files.
//!
//! Messages travel as the bytes of the wire, with random delays that keep the order within a lane of a direction; computing,
//! burning and dealing take random times too. Two worlds of one seed do exactly the same. With [`Faults`], messages are lost,
//! changed, cut, doubled, overtaken and held up, processes crash, disks fail and keys are damaged; what was burnt and what was
//! sent is remembered across the runs of a world, so that a key used twice is seen.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_cpu::CpuBackend;
use suf_deal::{Batch, Desk, Entropy, KeyChunk, Order, Standing};
use suf_gate::{BackendError, Gate, KeyBytes, Party, Seed, layout};
use suf_party::{Action, BurnLog, Event, Failure, Ledger, Measured, Registration, Run, Summary, Work};
use suf_wire::{
    BatchId, CommonParts, DataFrame, Digest, Fault, KeyRequest, PartyId, PeerMessage, RunId, Transcript,
    decode_frame,
};

/// Longest delay of anything, in virtual microseconds.
const LONGEST_US: u64 = 5_000;

/// Virtual microseconds after which a run is given up.
const DEADLINE_US: u64 = 1_000_000;

/// Lanes of a connection, at most.
const MOST_LANES: usize = 4;

/// How often what goes wrong: each is a probability, per message, per event or per run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A message is lost, and the connection with it.
    pub lose: f64,
    /// One byte of a message is changed.
    pub change: f64,
    /// A message is cut short.
    pub cut: f64,
    /// A message arrives twice.
    pub double: f64,
    /// A message overtakes others.
    pub overtake: f64,
    /// A message is held up beyond the deadline.
    pub hold: f64,
    /// A party crashes, at each of its events.
    pub crash: f64,
    /// The ledger's disk fails.
    pub disk: f64,
    /// A byte of a key chunk is changed on its way.
    pub damage: f64,
    /// The dealer does not answer.
    pub silence: f64,
    /// The dealer gives the parties unequal public parts, under good tags; per batch, of gates that have public parts.
    pub unequal: f64,
    /// A party's device is lost, at each of its computations.
    pub device: f64,
}

impl Faults {
    /// Everything goes wrong now and then.
    pub const ALL: Self = Self {
        lose: 0.01,
        change: 0.01,
        cut: 0.01,
        double: 0.01,
        overtake: 0.02,
        hold: 0.01,
        crash: 0.01,
        disk: 0.03,
        damage: 0.03,
        silence: 0.03,
        unequal: 0.03,
        device: 0.005,
    };
}

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
    /// Whether the dealer gave the parties unequal public parts.
    pub unequal: bool,
}

/// The simulated world.
pub struct World {
    rng: StdRng,
    now_us: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    nodes: [Node; 2],
    logs: [VirtualLog; 2],
    desk: Desk,
    backend: CpuBackend,
    faults: Faults,
    /// In which run each party first sent something that depends on a batch.
    spent: HashMap<(PartyId, BatchId), RunId>,
    /// Every exchange that each party sent.
    said: HashSet<(PartyId, RunId, u8, u32)>,
    /// Whether the dealer of this run gave unequal public parts.
    unequal: bool,
    /// Lanes of this run's connection.
    lanes: usize,
    /// Breaches of the rule of one-time keys, in words.
    breaches: Vec<String>,
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
    /// What the client asked this party for.
    registration: Option<Registration>,
    run: Option<Run>,
    end: Option<Result<Summary, Failure>>,
    keys: Vec<Option<Bytes>>,
    output: BTreeMap<u32, Vec<u64>>,
    sent: Vec<DataFrame>,
    counted: Counted,
    transcript: Option<Transcript>,
    /// Arrivals over a lane in this direction are not overtaken, unless a fault says so.
    last_arrivals_us: [u64; MOST_LANES],
    crashed: bool,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    sent: u64,
    received: u64,
    rounds: u8,
}

/// A log on a disk that survives crashes, and fails when it is told to.
#[derive(Default)]
struct VirtualLog {
    burnt: RefCell<HashSet<BatchId>>,
    fails: RefCell<bool>,
}

/// A full or broken disk.
#[derive(Debug)]
struct DiskFailure;

impl std::fmt::Display for DiskFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the virtual disk fails")
    }
}

impl std::error::Error for DiskFailure {}

impl BurnLog for &VirtualLog {
    type Error = DiskFailure;

    fn record(&self, batch: BatchId) -> Result<bool, DiskFailure> {
        if *self.fails.borrow() { Err(DiskFailure) } else { Ok(self.burnt.borrow_mut().insert(batch)) }
    }
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
            nodes: Default::default(),
            logs: Default::default(),
            desk: Desk::default(),
            backend: CpuBackend::new(),
            faults,
            spent: HashMap::new(),
            said: HashSet::new(),
            unequal: false,
            lanes: 1,
            breaches: Vec::new(),
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

    /// Whether `party` has burnt `batch`.
    #[must_use]
    pub fn has_burnt(&self, party: PartyId, batch: BatchId) -> bool {
        self.logs[party.index()].burnt.borrow().contains(&batch)
    }

    /// Runs `gate` on the given shares with the keys of `batch`; party 0 proposes.
    ///
    /// # Panics
    /// When the world comes to rest before both parties ended: a hang.
    pub fn run(&mut self, gate: Gate, batch: BatchId, shares: [Vec<u64>; 2]) -> Outcome {
        let begun_us = self.now_us;
        let registration = Registration {
            run: RunId(self.rng.random()),
            elems: shares[0].len() as u64,
            gate: Arc::new(gate),
            deadline_ms: 1,
            me: PartyId::P0,
        };
        let plan = registration.with_batch(batch);
        for log in &self.logs {
            let fails = self.rng.random_bool(self.faults.disk);
            *log.fails.borrow_mut() = fails;
        }
        self.lanes = self.rng.random_range(1..=MOST_LANES);
        for me in PartyId::BOTH {
            self.nodes[me.index()] = Node {
                registration: Some(Registration { me, ..registration.clone() }),
                transcript: Some(Transcript::new(plan.run, plan.digest())),
                run: (me == plan.me).then(|| Run::propose(plan.clone())),
                last_arrivals_us: [self.now_us; MOST_LANES],
                ..Node::default()
            };
        }
        self.limit(PartyId::P0);
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
        self.desk = Desk::default();
        let elapsed_us = self.now_us - begun_us;
        let [first, second] = std::mem::take(&mut self.nodes);
        let sent = [first.sent, second.sent];
        let ends = [(first.end, first.run), (second.end, second.run)].map(|(end, run)| match (end, run) {
            (Some(end), _) => end,
            (None, Some(run)) => panic!("a run hangs while {:?}", run.phase()),
            (None, None) => Err(Failure::new(Fault::Peer, "never heard of the run")),
        });
        let outputs = [first.output, second.output].map(|output| output.into_values().flatten().collect());
        Outcome { ends, outputs, sent, elapsed_us, unequal: std::mem::take(&mut self.unequal) }
    }

    /// The run that `me` has now ends by its deadline.
    fn limit(&mut self, me: PartyId) {
        let late = Failure::new(Fault::Peer, "the deadline passed");
        self.at(self.now_us + DEADLINE_US, Happening::Local(me, Event::Failed(late)));
    }

    fn feed(&mut self, me: PartyId, event: Event) {
        if self.nodes[me.index()].run.is_some() && self.rng.random_bool(self.faults.crash) {
            self.crash(me);
            return;
        }
        if let Some(run) = &mut self.nodes[me.index()].run {
            run.handle(event);
        }
        self.drain(me);
    }

    /// The process dies: everything but the disk is lost, and the other side hears of it.
    fn crash(&mut self, me: PartyId) {
        let node = &mut self.nodes[me.index()];
        if node.end.is_none() {
            node.end = Some(Err(Failure::new(Fault::Device, "the process crashed")));
        }
        node.run = None;
        node.crashed = true;
        self.disconnect(me.other());
    }

    /// `me` learns that the connection is lost.
    fn disconnect(&mut self, me: PartyId) {
        let lost = Failure::new(Fault::Peer, "connection lost");
        // What arrived before is handled before.
        let last_us = self.nodes[me.index()].last_arrivals_us.into_iter().max().expect("there are lanes");
        let due = last_us.max(self.now_us) + 1;
        if self.nodes[me.index()].run.as_ref().is_some_and(Run::awaits_peer) {
            self.at(due, Happening::Local(me, Event::Failed(lost)));
        }
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
                        self.witness(me, &frame);
                        PeerMessage::Frame(frame)
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
                let batch = node.run.as_ref().expect("it acts").plan().batch;
                let event = match Ledger::new(&self.logs[me.index()]).burn(batch) {
                    Ok(burnt) => Event::Burnt(burnt),
                    Err(error) => Event::Failed(Failure::new(Fault::Device, error.to_string())),
                };
                self.local(me, event);
            }
            Action::LoadKey(chunk) => {
                let key = node.keys[chunk as usize].take().expect("a key is loaded once");
                self.local(me, Event::Key { chunk, key: KeyBytes::new(key) });
            }
            Action::Align => self.local(me, Event::Aligned),
            Action::Compute(work) => {
                // To wipe what is left of a chunk takes no device.
                let lost = !matches!(work, Work::Wipe(_)) && self.rng.random_bool(self.faults.device);
                let done = match lost {
                    true => Err(BackendError::Failed("it fell off the bus".into()).into()),
                    false => work.run(&self.backend),
                };
                self.local(me, done.map_or_else(Event::Failed, Event::Done));
            }
            Action::Output { chunk, shares } => {
                node.output.insert(chunk, shares);
            }
            Action::Measure => {
                let transcript = node.transcript.as_mut().expect("there from the start").digest();
                let Counted { sent, received, rounds } = node.counted;
                let measured = Measured { rounds, bits_sent: sent, bits_received: received, transcript };
                self.local(me, Event::Measured(measured));
            }
            Action::Enter(_) => {}
            Action::End(result) => node.end = Some(result),
        }
    }

    /// Puts a message on its way, or lets happen to it what happens to messages.
    fn send(&mut self, to: PartyId, message: &PeerMessage) {
        let encoded = suf_wire::Message::encode(message).expect("own messages encode");
        let mut bytes = [encoded.head, encoded.payload].concat();
        let Faults { lose, change, cut, double, overtake, hold, .. } = self.faults;
        if self.rng.random_bool(lose) {
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
        let held = if self.rng.random_bool(hold) { 2 * DEADLINE_US } else { 0 };
        let mut due = self.now_us + self.delay() + held;
        if !self.rng.random_bool(overtake) {
            let lane = message.lane(self.lanes);
            let last_us = &mut self.nodes[to.index()].last_arrivals_us[lane];
            due = due.max(*last_us + 1);
            *last_us = due;
        }
        if self.rng.random_bool(double) {
            self.at(due + 1, Happening::Arrival(to, bytes.clone()));
        }
        self.at(due, Happening::Arrival(to, bytes));
    }

    /// Holds what is sent against all that was sent before.
    fn witness(&mut self, me: PartyId, frame: &DataFrame) {
        let plan = self.nodes[me.index()].run.as_ref().expect("it sends").plan();
        let (run, batch) = (plan.run, plan.batch);
        if !self.has_burnt(me, batch) {
            self.breaches.push(format!("{me} sent a frame before batch {batch} was burnt"));
        }
        if *self.spent.entry((me, batch)).or_insert(run) != run {
            self.breaches.push(format!("{me} used batch {batch} in two runs"));
        }
        if !self.said.insert((me, run, frame.step, frame.chunk)) {
            self.breaches.push(format!("{me} sent step {} of chunk {} twice", frame.step, frame.chunk));
        }
    }

    fn arrive(&mut self, me: PartyId, bytes: &[u8]) {
        let node = &mut self.nodes[me.index()];
        if node.crashed {
            return;
        }
        let run = node.run.as_ref();
        let message = decode_frame::<PeerMessage>(bytes, |head| {
            run.and_then(|run| run.expected_frame(head.step, head.chunk).ok())
        });
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                // As the link does: a bad message ends the connection.
                self.feed(me, Event::Failed(Failure::new(Fault::Peer, error.to_string())));
                self.disconnect(me.other());
                return;
            }
        };
        match (message, &node.run) {
            (PeerMessage::Propose(propose), None) => {
                let registration = node.registration.as_ref().expect("the client asked both parties");
                match registration.agree(&propose) {
                    Ok(plan) => {
                        node.run = Some(Run::accept(plan));
                        self.limit(me);
                        self.drain(me);
                    }
                    Err(failure) => {
                        let (fault, reason) = (failure.fault, failure.wire_reason());
                        node.end = Some(Err(failure));
                        self.send(me.other(), &PeerMessage::Refuse { run: propose.run, fault, reason });
                    }
                }
            }
            (_, None) => {}
            (message, Some(_)) => {
                if let PeerMessage::Frame(frame) = &message {
                    node.count(me.other(), frame, false);
                }
                self.feed(me, Event::Peer(message));
            }
        }
    }

    fn deal(&mut self, request: KeyRequest) {
        let id = request.batch;
        let gate = Gate::decode(&request.gate).map(Arc::new);
        let order = Order::new(&request, gate);
        let (gate, elems) = match order.and_then(|order| self.desk.request(order)) {
            Ok(Standing::Agreed { gate, elems }) => (gate, elems),
            Ok(Standing::Waiting) => return,
            Err(refusal) => {
                for me in PartyId::BOTH {
                    let event = Event::Failed(Failure::new(Fault::Peer, refusal.to_string()));
                    self.local(me, event);
                }
                return;
            }
        };
        let mut seed = || Seed::new(self.rng.random());
        let entropy = Entropy { parties: [seed(), seed()], dealer: seed() };
        let batch = Batch::new(id, gate, elems, entropy);
        let mut intact = [true; 2];
        let mut common =
            PartyId::BOTH.map(|_| CommonParts::new(id, Digest(*batch.gate().digest()), batch.elems()));
        let unequal = self.rng.random_bool(self.faults.unequal);
        for index in 0..batch.chunks() {
            let mut pair = batch.chunk(index, &self.backend).expect("the CPU does not fail");
            if unequal && index + 1 == batch.chunks() {
                self.make_unequal(&batch, &mut pair);
            }
            for (chunk, me) in pair.into_iter().zip(PartyId::BOTH) {
                let chunk = self.ship(chunk);
                intact[me.index()] &= chunk.is_intact(id, me);
                let ranges = common_ranges(&batch, index, me);
                common[me.index()].absorb(index, ranges.iter().map(|range| &chunk.bytes[range.clone()]));
                self.nodes[me.index()].keys.push(Some(chunk.bytes));
            }
        }
        for me in PartyId::BOTH {
            let event = if intact[me.index()] {
                Event::KeysStored {
                    seed: Seed::new(*batch.header(me).seed.expose()),
                    common: common[me.index()].digest(),
                    // Either is right, whatever the other party does.
                    on_disk: self.rng.random(),
                }
            } else {
                Event::Failed(Failure::new(Fault::Dealer, "the integrity tag of a key chunk does not fit"))
            };
            self.local(me, event);
        }
    }

    /// Changes a bit of the public parts of one party's chunk and tags it anew, as a lying dealer would.
    fn make_unequal(&mut self, batch: &Batch, pair: &mut [KeyChunk; 2]) {
        let victim = PartyId::BOTH[self.rng.random_range(0..2)];
        let KeyChunk { index, bytes, .. } = pair[victim.index()].clone();
        let ranges = common_ranges(batch, index, victim);
        if ranges.is_empty() {
            return;
        }
        let range = ranges[self.rng.random_range(0..ranges.len())].clone();
        let mut bytes = bytes.to_vec();
        bytes[self.rng.random_range(range)] ^= 1 << self.rng.random_range(0..8);
        pair[victim.index()] = KeyChunk::new(batch.id(), victim, index, bytes.into());
        self.unequal = true;
    }

    fn ship(&mut self, mut chunk: KeyChunk) -> KeyChunk {
        if !chunk.bytes.is_empty() && self.rng.random_bool(self.faults.damage) {
            let mut bytes = chunk.bytes.to_vec();
            let at = self.rng.random_range(0..bytes.len());
            bytes[at] ^= 1;
            chunk.bytes = bytes.into();
        }
        chunk
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

/// Where the public parts stand in `party`'s chunk `index`.
fn common_ranges(batch: &Batch, index: u32, party: PartyId) -> Vec<Range<usize>> {
    let party = [Party::P0, Party::P1][party.index()];
    let elems = layout::chunk_elems(batch.elems(), index);
    batch.gate().key_shape().common_ranges(party.role(index), elems).collect()
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
