//! The state machine of one run at one party. The parties agree, and each burns the batch once. The parts are evaluated
//! as [`crate::schedule`] counts. At last both parties compare what they measured.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::Arc,
};

use suf_gate::{
    HostValue, Node, PartEval,
    load::{Kept, LoadId},
};
use suf_wire::{Causal, DataFrame, Fault, Finished, Part, PeerMessage, Seed, Segments};

use crate::part::{Key, PartRun};
use crate::readiness::Readiness;
use crate::schedule::{Schedule, WINDOW};
use crate::{Action, Breach, BurntBatch, Event, Measured, Phase, Plan, RunFailure, Summary, Work, cost};

/// Bytes of key that no part has: the seed.
const SEED_BYTES: u64 = 32;

/// One run at one party.
pub struct Run {
    pub(crate) plan: Plan,
    initiator: bool,
    pub(crate) phase: Phase,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) schedule: Schedule,
    pub(crate) parts: Vec<PartRun>,
    /// The client's shares, until the batch is burnt.
    shares: BTreeMap<Part, Vec<u64>>,
    pub(crate) seed: Option<Seed>,
    /// The matrices of a loaded model, for a program that takes them.
    pub(crate) load: Option<Arc<Kept>>,
    /// What a load program keeps, until the run is over.
    pub(crate) kept: BTreeMap<Part, Vec<u64>>,
    pub(crate) readiness: Readiness,
    burnt: Option<BurntBatch>,
    /// Keys and computations that were asked for and are not there yet, wiping aside.
    pub(crate) busy: u32,
    /// Parts that are not over: of inputs, of outputs and what is kept, of all other nodes.
    pub(crate) unopened: usize,
    pub(crate) ungiven: usize,
    pub(crate) unmade: usize,
    /// Frames of the peer that are not here yet.
    missing: usize,
    /// Evaluations that are over. Wiping their keys takes as long as reading them did. So it waits until the peer needs
    /// nothing more of this party. At most [`Run::most_spent`] of them wait, to bound the memory.
    pub(crate) spent: VecDeque<Box<dyn PartEval>>,
    /// One window; none where keys are loaded from a disk because the memory has no room for them.
    pub(crate) most_spent: usize,
    /// Wipings under way. The run ends after them: then none of its keys is left.
    pub(crate) wiping: u32,
    pub(crate) measured: Option<Measured>,
    peer_finished: Option<Finished>,
}

impl Run {
    /// The initiator's run: its first action is the proposal.
    #[must_use]
    pub fn propose(plan: Plan) -> Self {
        let mut run = Self::new(plan, true);
        run.enter(Phase::Proposing);
        run.send(PeerMessage::Propose(run.plan.propose()), Causal::START);
        run
    }

    /// The other party's run, after its policy admitted the proposal.
    #[must_use]
    pub fn accept(plan: Plan) -> Self {
        let mut run = Self::new(plan, false);
        let accept = run.plan.accept();
        run.send(PeerMessage::Accept(accept), Causal::START);
        run.request_keys();
        run
    }

    /// The same run, for a program that takes the matrices of a loaded model. It holds them until its end.
    #[must_use]
    pub fn taking(self, load: Arc<Kept>) -> Self {
        Self { load: Some(load), ..self }
    }

    fn new(plan: Plan, initiator: bool) -> Self {
        let program = &plan.program;
        let (mut unopened, mut ungiven, mut unmade, mut missing) = (0, 0, 0, 0);
        let mut parts = Vec::new();
        for (_, node) in program.nodes() {
            let tiles = node.tiles() as usize;
            parts.extend((0..tiles).map(|_| PartRun::new(node.is_keyed())));
            missing += tiles * node.exchanges();
            match () {
                () if node.is_input() => unopened += tiles,
                () if node.is_result() => ungiven += tiles,
                () => unmade += tiles,
            }
        }
        Self {
            initiator,
            phase: Phase::Proposing,
            actions: VecDeque::new(),
            schedule: Schedule::new(program.clone()),
            parts,
            shares: BTreeMap::new(),
            seed: None,
            load: None,
            kept: BTreeMap::new(),
            readiness: Readiness::new(plan.batch, program.segments()),
            burnt: None,
            busy: 0,
            unopened,
            ungiven,
            unmade,
            missing,
            spent: VecDeque::new(),
            most_spent: WINDOW as usize,
            wiping: 0,
            measured: None,
            peer_finished: None,
            plan,
        }
    }

    /// What the run is about.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether the parties wait for each other after the inputs are open. They do in a program of one operation: its time is measured
    /// from then on. The time of a longer program begins with the opening, and waiting would add a delay to it.
    #[must_use]
    pub fn aligns(&self) -> bool {
        let nodes = self.plan.program.nodes();
        nodes.filter(|(_, node)| !node.is_input() && !node.is_output()).count() <= 1
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether anything is still due from the peer. Its frames may arrive after its last message. Once both are here, it may
    /// leave without failing the run.
    #[must_use]
    pub fn awaits_peer(&self) -> bool {
        self.phase != Phase::Ended && (self.peer_finished.is_none() || self.missing > 0)
    }

    /// What is to be done next, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Bytes of the frame that the peer may send for `step` of `part` now; an error if none may come. The link asks
    /// this before it reads a payload.
    ///
    /// # Errors
    /// When such a frame is out of order: the peer's fault.
    pub fn expected_frame(&self, part: Part, step: u8) -> Result<usize, RunFailure> {
        let program = &self.plan.program;
        let Some(bytes) = program.message_bytes(part, step.into()).filter(|_| self.phase != Phase::Ended)
        else {
            return Err(Breach::NoSuchFrame { part, step }.into());
        };
        let state = &self.parts[self.schedule.index(part)];
        // A frame of an input may come from the start: it may overtake the peer's acceptance on another lane. All other
        // frames come after this party's readiness for their segment, yet maybe before the peer's.
        let is_open = program.node(part.node).is_input()
            || self.readiness.is_said(program.segment_of(part.node)) && self.schedule.is_open_to_peer(part);
        let is_due = usize::from(step) == state.received && usize::from(step) <= state.sent;
        if is_open && is_due {
            return Ok(bytes);
        }
        Err(Breach::Frame { part, step, received: state.received, sent: state.sent }.into())
    }

    /// Handles an event. After the end of the run, events are ignored.
    pub fn handle(&mut self, event: Event) {
        if self.phase == Phase::Ended {
            return;
        }
        if let Err(failure) = self.try_handle(event) {
            self.fail(failure);
        }
    }

    fn try_handle(&mut self, event: Event) -> Result<(), RunFailure> {
        match event {
            Event::Peer(message) => self.on_peer(message),
            Event::KeysStored { segment, seed, common, on_disk } => {
                self.seed.get_or_insert(seed);
                self.on_stored(segment, common, on_disk)
            }
            Event::Input { part, shares } => self.on_input(part, shares),
            Event::Burnt(burnt) => self.on_burnt(burnt),
            Event::Key { part, key } => self.on_key(part, key),
            Event::Aligned if self.phase == Phase::AwaitingPeer && self.readiness.is_agreed(0) => {
                self.begin_evaluation();
                Ok(())
            }
            Event::Aligned => Err(bug(format!("aligned while {:?}", self.phase))),
            Event::Done(done) => self.on_done(done),
            Event::Measured(measured) => self.on_measured(measured),
            Event::Failed(failure) => Err(failure),
        }
    }

    fn on_peer(&mut self, message: PeerMessage) -> Result<(), RunFailure> {
        let unasked = Breach::Message { message: message.name(), phase: self.phase };
        match message {
            PeerMessage::Accept(accept) if self.initiator && self.phase == Phase::Proposing => {
                let own = self.plan.accept();
                if accept != own {
                    return Err(peer(format!("it accepted {accept:?}, but {own:?} was proposed")));
                }
                self.request_keys();
            }
            PeerMessage::Refuse { run, fault, reason } if self.initiator && run == self.plan.run => {
                return Err(RunFailure::new(fault, format!("the peer refused the run: {}", reason.as_str())));
            }
            PeerMessage::Ready { run, segment, common } if run == self.plan.run => {
                if !self.readiness.hear(segment, common)? {
                    return Err(unasked.into());
                }
                // Nothing begins before this party is ready for the first segment. After that, either party may be the first.
                if self.phase == Phase::AwaitingPeer && segment == 0 && self.readiness.is_agreed(0) {
                    self.begin_evaluation();
                } else {
                    self.begin_loaded();
                }
            }
            PeerMessage::Frame(frame) => return self.on_frame(frame),
            PeerMessage::Finished(finished) if self.peer_finished.is_none() => {
                self.peer_finished = Some(finished);
                return self.close_when_complete();
            }
            PeerMessage::Abort { fault, reason, .. } => {
                self.end(Err(RunFailure::new(fault, format!("the peer ended the run: {}", reason.as_str()))));
            }
            _ => return Err(unasked.into()),
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: DataFrame) -> Result<(), RunFailure> {
        let DataFrame { part, step, depth, bits, payload } = frame;
        let expected = self.expected_frame(part, step)?;
        let exchange = usize::from(step);
        let program = &self.plan.program;
        let refused = |problem| RunFailure::from(Breach::Payload { part, step, problem });
        let due = program.frame_bits(part, exchange).unwrap_or_default();
        if payload.len() != expected || bits != due {
            return Err(refused(format!(
                "{} bytes and {bits} bits, {expected} and {due} are due",
                payload.len()
            )));
        }
        let segments = &program.node(part.node).op().def().exchanges()[exchange];
        let counts = program.counts(part);
        let shapes: Vec<_> =
            segments.iter().map(|segment| (segment.bits, segment.entries(counts) as u32)).collect();
        Segments::new(&shapes)
            .and_then(|segments| segments.check(&payload))
            .map_err(|error| refused(error.to_string()))?;
        let state = self.part(part);
        state.received += 1;
        state.inbox.push_back((depth, payload));
        self.missing -= 1;
        self.advance(part);
        Ok(())
    }

    fn on_stored(&mut self, segment: u16, common: [u8; 32], on_disk: bool) -> Result<(), RunFailure> {
        if !self.readiness.store(segment, common)? {
            return Err(bug(format!("the keys of segment {segment} are stored out of order")));
        }
        if on_disk {
            self.most_spent = 0;
        }
        if segment == 0 {
            self.enter(Phase::AwaitingInput);
            self.burn_when_complete();
        } else if self.burnt.is_some() {
            self.ask_keys();
            if self.readiness.is_said(0) {
                self.say_ready();
                self.begin_loaded();
            }
        }
        Ok(())
    }

    fn on_input(&mut self, part: Part, shares: Vec<u64>) -> Result<(), RunFailure> {
        let caller = |reason: String| RunFailure::new(Fault::Caller, reason);
        let program = &self.plan.program;
        let is_input = program.get(part.node).is_some_and(Node::is_input);
        let due = if is_input { program.elems(part) } else { 0 };
        if shares.len() != due {
            return Err(caller(format!("the input for {part} has {} shares, {due} are due", shares.len())));
        }
        if due == 0 {
            return Err(caller(format!("{part} takes no input")));
        }
        if self.burnt.is_some() || self.shares.insert(part, shares).is_some() {
            return Err(caller(format!("the input for {part} came twice")));
        }
        self.burn_when_complete();
        Ok(())
    }

    /// Nothing that depends on the keys leaves before this.
    fn on_burnt(&mut self, burnt: BurntBatch) -> Result<(), RunFailure> {
        if burnt.id() != self.plan.batch {
            return Err(bug(format!("{} was burnt for {}", burnt.id(), self.plan.batch)));
        }
        self.burnt = Some(burnt);
        self.ask_keys();
        let program = &self.plan.program;
        let opens = program.inputs().any(|input| program.node(input).exchanges() > 0);
        self.enter(if opens { Phase::Opening } else { Phase::AwaitingPeer });
        if !self.aligns() {
            self.say_ready();
        }
        for (part, shares) in mem::take(&mut self.shares) {
            if self.part(part).take_key().is_some() {
                self.begin(part, Key::None, vec![HostValue::shared(shares)])?;
            }
        }
        Ok(())
    }

    fn on_measured(&mut self, measured: Measured) -> Result<(), RunFailure> {
        cost::check(&self.plan.program, &measured)?;
        let finished = self.finished(measured.bits_sent, measured.bits_received, &measured);
        self.measured = Some(measured);
        self.send(PeerMessage::Finished(finished), Causal::START);
        let program = self.plan.program.clone();
        for part in program
            .results()
            .flat_map(|id| (0..program.node(id).tiles()).map(move |tile| Part::new(id, tile)))
        {
            self.load_when_complete(part)?;
        }
        Ok(())
    }

    fn finished(&self, bits_sent: u64, bits_received: u64, measured: &Measured) -> Finished {
        let Measured { rounds, transcript, .. } = *measured;
        Finished { run: self.plan.run, rounds, bits_sent, bits_received, transcript }
    }

    pub(crate) fn close_when_complete(&mut self) -> Result<(), RunFailure> {
        let (Some(measured), Some(theirs)) = (&self.measured, &self.peer_finished) else {
            return Ok(());
        };
        let expected = self.finished(measured.bits_received, measured.bits_sent, measured);
        if *theirs != expected {
            let (theirs, ours) = (format!("{theirs:?}"), format!("{expected:?}"));
            return Err(Breach::OtherEnd { theirs, ours }.into());
        }
        let measured = measured.clone();
        self.wipe_down_to(0);
        if self.ungiven == 0 && self.wiping == 0 {
            let key_bytes = SEED_BYTES + self.plan.program.key_bytes(self.plan.me);
            self.keep()?;
            self.end(Ok(Summary { measured, key_bytes }));
        }
        Ok(())
    }

    /// Hands on what a load program keeps, when both parties have found that they did the same.
    fn keep(&mut self) -> Result<(), RunFailure> {
        let program = &self.plan.program;
        if !program.loads() {
            return Ok(());
        }
        let mut kept = BTreeMap::<_, Vec<_>>::new();
        for (part, tile) in mem::take(&mut self.kept) {
            kept.entry(part.node).or_default().push(tile);
        }
        let load = LoadId { program: Arc::clone(program), batch: self.plan.batch.0 };
        let kept = Kept::new(load, self.seed()?, kept);
        self.actions.push_back(Action::Keep(kept));
        Ok(())
    }

    /// Wipes the keys of the evaluations that ended first, until at most `kept` are left.
    pub(crate) fn wipe_down_to(&mut self, kept: usize) {
        let surplus = self.spent.len().saturating_sub(kept);
        for spent in self.spent.drain(..surplus) {
            self.wiping += 1;
            self.actions.push_back(Action::Compute(Work::Wipe(spent)));
        }
    }

    fn request_keys(&mut self) {
        self.enter(Phase::Dealing);
        self.actions.push_back(Action::RequestKeys(self.plan.key_request()));
    }

    fn burn_when_complete(&mut self) {
        if self.phase == Phase::AwaitingInput && self.shares.len() == self.unopened {
            self.actions.push_back(Action::Burn);
        }
    }

    pub(crate) fn send(&mut self, message: PeerMessage, after: Causal) {
        self.actions.push_back(Action::Send(message, after));
    }

    pub(crate) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.actions.push_back(Action::Enter(phase));
    }

    fn fail(&mut self, failure: RunFailure) {
        let abort =
            PeerMessage::Abort { run: self.plan.run, fault: failure.fault, reason: failure.wire_reason() };
        self.actions.clear();
        self.send(abort, Causal::START);
        self.end(Err(failure));
    }

    fn end(&mut self, result: Result<Summary, RunFailure>) {
        self.parts.clear();
        self.shares.clear();
        self.spent.clear();
        self.seed = None;
        self.load = None;
        self.kept.clear();
        self.enter(Phase::Ended);
        self.actions.push_back(Action::End(result));
    }
}

fn peer(reason: String) -> RunFailure {
    RunFailure::new(Fault::Peer, reason)
}

pub(crate) fn bug(reason: String) -> RunFailure {
    RunFailure::new(Fault::Bug, reason)
}
