//! The state machine of one run at one party.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use suf_gate::{ChunkEval, EvalJob, Input, KeyBytes, Seed, layout};
use suf_wire::{Accept, Causal, DataFrame, Fault, Finished, PeerMessage, Segments};

use crate::chunk::Chunk;
use crate::{Action, BurntBatch, Done, Event, Failure, Measured, Phase, Plan, Summary, Work, work};

/// Chunks in flight. A message of one exchange of one chunk is some 200 KB (65536 elements of 25 bits), and the longest
/// fast link in mind holds 3.2 MB: 16 messages fill it, twice that keeps it full while both ends compute. Both parties
/// must use the same number, because each checks how far ahead the other may be.
pub const WINDOW: u32 = 32;

/// Bytes of key that are not in chunks: the seed.
const SEED_BYTES: u64 = 32;

/// One run at one party.
pub struct Run {
    plan: Plan,
    initiator: bool,
    phase: Phase,
    actions: VecDeque<Action>,
    chunks: Vec<Chunk>,
    seed: Option<Seed>,
    /// Hash of the common parts of this party's keys.
    common: Option<[u8; 32]>,
    burnt: Option<BurntBatch>,
    inputs: u32,
    opened: u32,
    /// Chunks whose key and input are where they will be computed on.
    loaded: u32,
    unmasked: u32,
    /// Evaluations that are over. Wiping their keys takes as long as reading them did, so it waits until the peer needs
    /// nothing more of this party: of [`Run::most_spent`] at most, for the memory's sake.
    spent: VecDeque<Box<dyn ChunkEval>>,
    /// One window; none where keys are loaded from a disk because the memory has no room for them.
    most_spent: usize,
    /// Wipings under way. The run ends after them: then none of its keys is left.
    wiping: u32,
    /// Lowest chunk whose y_hat is not known.
    lowest_open: u32,
    /// Lowest chunk of which this party has not sent all messages. The peer, which knows y_hat of all chunks below its own lowest
    /// open one, had all of this party's messages of those: so its window ends within one that begins here, in
    /// whichever order its frames arrive.
    lowest_sending: u32,
    /// Chunks of which all messages of the peer are here.
    received: u32,
    /// Hash of the common parts of the peer's keys: it is ready.
    peer_ready: Option<[u8; 32]>,
    measured: Option<Measured>,
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
        let accept = run.acceptance();
        run.send(PeerMessage::Accept(accept), Causal::START);
        run.request_keys();
        run
    }

    /// What the run is about.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether anything is still due from the peer. Once it has finished, and all of its frames are here, which may come later,
    /// its leaving is no failure.
    #[must_use]
    pub fn awaits_peer(&self) -> bool {
        self.phase != Phase::Ended
            && (self.peer_finished.is_none() || (self.received as usize) < self.chunks.len())
    }

    /// What is to be done next, in order.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Bytes of the frame that the peer may send for `step` of `chunk` now; an error if none may come. The link asks
    /// before it takes a payload in.
    ///
    /// # Errors
    /// When such a frame is out of order: the peer's fault.
    pub fn expected_frame(&self, step: u8, chunk: u32) -> Result<usize, Failure> {
        let Some(state) = self.chunks.get(chunk as usize) else {
            return Err(peer(format!("a frame for chunk {chunk} of {}", self.chunks.len())));
        };
        let elems = self.elems(chunk);
        if step == DataFrame::OPEN {
            // Over another lane than the peer's acceptance it may come before that.
            if self.plan.gate.takes_shares() || state.opened {
                return Err(peer(format!("an opening of chunk {chunk} out of order")));
            }
            return Ok(work::opening_bytes(elems));
        }
        let step = usize::from(step);
        let in_window = chunk < self.lowest_sending.saturating_add(WINDOW);
        if step != state.received || step > state.sent || step >= self.exchanges() || !in_window {
            return Err(peer(format!(
                "a frame of step {step} for chunk {chunk} out of order: step {} is due, {} were sent",
                state.received, state.sent
            )));
        }
        Ok(self.plan.gate.message_bytes(step, elems))
    }

    /// Takes in what happened. After the end of the run, nothing happens any more.
    pub fn handle(&mut self, event: Event) {
        if self.phase == Phase::Ended {
            return;
        }
        if let Err(failure) = self.try_handle(event) {
            self.fail(failure);
        }
    }

    fn new(plan: Plan, initiator: bool) -> Self {
        let chunks = layout::chunk_count(plan.elems);
        Self {
            initiator,
            phase: Phase::Proposing,
            actions: VecDeque::new(),
            chunks: (0..chunks).map(|_| Chunk::default()).collect(),
            seed: None,
            common: None,
            burnt: None,
            inputs: 0,
            opened: 0,
            loaded: 0,
            unmasked: 0,
            spent: VecDeque::new(),
            most_spent: WINDOW as usize,
            wiping: 0,
            lowest_open: 0,
            lowest_sending: 0,
            received: 0,
            peer_ready: None,
            measured: None,
            peer_finished: None,
            plan,
        }
    }

    fn try_handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Peer(message) => self.on_peer(message),
            Event::KeysStored { seed, common, on_disk } => {
                if on_disk {
                    self.most_spent = 0;
                }
                self.seed = Some(seed);
                self.common = Some(common);
                self.compare_common_parts()?;
                self.enter(Phase::AwaitingInput);
                self.burn_when_complete();
                Ok(())
            }
            Event::Input { chunk, shares } => self.on_input(chunk, shares),
            Event::Burnt(burnt) => self.on_burnt(burnt),
            Event::Key { chunk, key } => self.on_key(chunk, key),
            Event::Aligned if self.is_loaded() && self.peer_ready.is_some() => {
                self.begin_evaluation();
                Ok(())
            }
            Event::Aligned => Err(Failure::new(Fault::Bug, format!("aligned while {:?}", self.phase))),
            Event::Done(done) => self.on_done(done),
            Event::Measured(measured) => self.on_measured(measured),
            Event::Failed(failure) => Err(failure),
        }
    }

    fn on_peer(&mut self, message: PeerMessage) -> Result<(), Failure> {
        match message {
            PeerMessage::Accept(accept) if self.initiator && self.phase == Phase::Proposing => {
                let own = self.acceptance();
                if accept != own {
                    return Err(peer(format!("it accepted {accept:?}, but {own:?} was proposed")));
                }
                self.request_keys();
                Ok(())
            }
            PeerMessage::Refuse { run, fault, reason } if self.initiator && run == self.plan.run => {
                Err(Failure::new(fault, format!("the peer refused the run: {}", reason.as_str())))
            }
            PeerMessage::Ready { run, common } if run == self.plan.run && self.peer_ready.is_none() => {
                self.peer_ready = Some(common);
                self.compare_common_parts()?;
                if self.is_loaded() {
                    self.begin_evaluation();
                }
                Ok(())
            }
            PeerMessage::Frame(frame) => self.on_frame(frame),
            PeerMessage::Finished(finished) if self.peer_finished.is_none() => {
                self.peer_finished = Some(finished);
                self.close_when_complete()
            }
            PeerMessage::Abort { fault, reason, .. } => {
                self.end(Err(Failure::new(fault, format!("the peer ended the run: {}", reason.as_str()))));
                Ok(())
            }
            other => Err(peer(format!("{} while {:?}", other.name(), self.phase))),
        }
    }

    fn on_frame(&mut self, frame: DataFrame) -> Result<(), Failure> {
        let DataFrame { step, depth, chunk, bits, payload } = frame;
        let expected = self.expected_frame(step, chunk)?;
        if payload.len() != expected || bits != self.frame_bits(step, chunk) {
            return Err(peer(format!(
                "step {step} of chunk {chunk} has {} bytes and {bits} bits, {expected} and {} are due",
                payload.len(),
                self.frame_bits(step, chunk)
            )));
        }
        let elems = self.elems(chunk) as u32;
        let state = &mut self.chunks[chunk as usize];
        if step == DataFrame::OPEN {
            state.opened = true;
            state.opening = Some(payload);
            self.unite_when_complete(chunk);
            return Ok(());
        }
        let widths: Vec<u8> =
            self.plan.gate.exchanges()[usize::from(step)].iter().map(|segment| segment.bits).collect();
        Segments::new(&widths, elems)
            .and_then(|segments| segments.check(&payload))
            .map_err(|error| peer(format!("step {step} of chunk {chunk}: {error}")))?;
        state.received += 1;
        state.inbox.push_back((depth, payload));
        let all_here = state.received == self.plan.gate.exchanges().len();
        self.received += u32::from(all_here);
        self.advance(chunk);
        Ok(())
    }

    fn on_input(&mut self, chunk: u32, shares: Vec<u64>) -> Result<(), Failure> {
        let caller = |reason: String| Failure::new(Fault::Caller, reason);
        let chunks = self.chunks.len();
        let elems = if (chunk as usize) < chunks { self.elems(chunk) } else { 0 };
        if shares.len() != elems {
            return Err(caller(format!("input chunk {chunk} has {} shares, {elems} are due", shares.len())));
        }
        let state = &mut self.chunks[chunk as usize];
        if state.shares.is_some() || self.burnt.is_some() {
            return Err(caller(format!("input chunk {chunk} came twice")));
        }
        state.shares = Some(shares);
        self.inputs += 1;
        self.burn_when_complete();
        Ok(())
    }

    /// Nothing that depends on the keys leaves before this.
    fn on_burnt(&mut self, burnt: BurntBatch) -> Result<(), Failure> {
        if burnt.id() != self.plan.batch {
            return Err(Failure::new(
                Fault::Bug,
                format!("{} was burnt for {}", burnt.id(), self.plan.batch),
            ));
        }
        self.burnt = Some(burnt);
        for chunk in 0..self.window_end() {
            self.ask_key(chunk);
        }
        if self.plan.gate.takes_shares() {
            self.enter(Phase::AwaitingPeer);
            self.ready_when_loaded();
            return Ok(());
        }
        self.enter(Phase::Opening);
        for chunk in 0..self.chunks.len() as u32 {
            let shares = self.chunks[chunk as usize].shares.take().expect("burning waits for every input");
            let work = Work::Mask { job: self.job(chunk), shares };
            self.actions.push_back(Action::Compute(work));
        }
        Ok(())
    }

    fn on_key(&mut self, chunk: u32, key: KeyBytes) -> Result<(), Failure> {
        let due = self.plan.gate.key_shape().chunk_bytes(self.plan.party().role(chunk), self.elems(chunk));
        if key.len() != due {
            let reason = format!("the key of chunk {chunk} has {} bytes, {due} are due", key.len());
            return Err(Failure::new(Fault::Dealer, reason));
        }
        let work = Work::Stage { job: self.job(chunk), key };
        self.actions.push_back(Action::Compute(work));
        Ok(())
    }

    fn on_done(&mut self, done: Done) -> Result<(), Failure> {
        match done {
            Done::Masked { chunk, mine, message } => {
                self.chunks[chunk as usize].half = Some(mine);
                self.send_frame(DataFrame::OPEN, chunk, message);
                self.unite_when_complete(chunk);
            }
            Done::United { chunk, x_hat } => {
                self.chunks[chunk as usize].x_hat = Some(x_hat);
                self.load_when_complete(chunk);
                self.opened += 1;
                if self.opened as usize == self.chunks.len() {
                    self.enter(Phase::AwaitingPeer);
                    self.ready_when_loaded();
                }
            }
            Done::Staged { chunk, staged } => {
                self.chunks[chunk as usize].staged = Some(staged);
                self.load_when_complete(chunk);
            }
            Done::Loaded { chunk, eval } => {
                self.chunks[chunk as usize].eval = Some(eval);
                self.loaded += 1;
                if self.phase == Phase::Evaluating {
                    self.begin(chunk);
                } else {
                    self.ready_when_loaded();
                }
            }
            Done::Stepped { chunk, eval, message } => {
                let state = &mut self.chunks[chunk as usize];
                let step = state.sent;
                state.eval = Some(eval);
                state.sent += 1;
                let exchanges = self.exchanges();
                while self
                    .chunks
                    .get(self.lowest_sending as usize)
                    .is_some_and(|chunk| chunk.sent == exchanges)
                {
                    self.lowest_sending += 1;
                }
                self.send_frame(step as u8, chunk, message);
                self.advance(chunk);
            }
            Done::Finished { chunk, y_hat, spent } => {
                self.chunks[chunk as usize].y_hat = Some(y_hat);
                self.spent.push_back(spent);
                self.wipe_down_to(self.most_spent);
                let before = self.window_end();
                while self.chunks.get(self.lowest_open as usize).is_some_and(|chunk| chunk.y_hat.is_some()) {
                    self.lowest_open += 1;
                }
                for chunk in before..self.window_end() {
                    self.ask_key(chunk);
                }
                if self.lowest_open as usize == self.chunks.len() {
                    self.enter(Phase::Closing);
                    self.actions.push_back(Action::Measure);
                }
            }
            Done::Unmasked { chunk, shares } => {
                self.actions.push_back(Action::Output { chunk, shares });
                self.unmasked += 1;
                return self.close_when_complete();
            }
            Done::Wiped => {
                self.wiping -= 1;
                return self.close_when_complete();
            }
        }
        Ok(())
    }

    /// The cost is measured at the link; what differs from the declaration by one bit is a failure.
    fn on_measured(&mut self, measured: Measured) -> Result<(), Failure> {
        let bits = self.plan.gate.batch_message_bits(self.plan.elems);
        let declared = (self.plan.gate.declared().rounds, bits, bits);
        let found = (measured.rounds, measured.bits_sent, measured.bits_received);
        if found != declared {
            let reason = format!(
                "measured (rounds, bits sent, bits received) {found:?} differ from the declared {declared:?}"
            );
            return Err(Failure::new(Fault::Bug, reason));
        }
        self.measured = Some(measured);
        self.send(
            PeerMessage::Finished(Finished {
                run: self.plan.run,
                rounds: measured.rounds,
                bits_sent: measured.bits_sent,
                bits_received: measured.bits_received,
                transcript: measured.transcript,
            }),
            Causal::START,
        );
        for chunk in 0..self.chunks.len() as u32 {
            let y_hat = self.chunks[chunk as usize].y_hat.take().expect("every chunk is finished");
            let work = Work::Unmask { job: self.job(chunk), y_hat };
            self.actions.push_back(Action::Compute(work));
        }
        Ok(())
    }

    fn close_when_complete(&mut self) -> Result<(), Failure> {
        let (Some(measured), Some(theirs)) = (self.measured, self.peer_finished.as_ref()) else {
            return Ok(());
        };
        let expected = Finished {
            run: self.plan.run,
            rounds: measured.rounds,
            bits_sent: measured.bits_received,
            bits_received: measured.bits_sent,
            transcript: measured.transcript,
        };
        if *theirs != expected {
            return Err(peer(format!("it finished with {theirs:?}, this party with {expected:?}")));
        }
        self.wipe_down_to(0);
        if self.unmasked as usize == self.chunks.len() && self.wiping == 0 {
            let key_bytes = SEED_BYTES + self.plan.gate.batch_key_bytes(self.plan.party(), self.plan.elems);
            self.end(Ok(Summary { measured, key_bytes }));
        }
        Ok(())
    }

    /// Has the keys of the evaluations that ended first wiped, until no more than `kept` are left.
    fn wipe_down_to(&mut self, kept: usize) {
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
        if self.phase == Phase::AwaitingInput && self.inputs as usize == self.chunks.len() {
            self.actions.push_back(Action::Burn);
        }
    }

    fn unite_when_complete(&mut self, chunk: u32) {
        let state = &mut self.chunks[chunk as usize];
        if state.half.is_some() && state.opening.is_some() {
            let (mine, theirs) = (state.half.take(), state.opening.take());
            let work = Work::Unite { chunk, mine: mine.expect("looked"), theirs: theirs.expect("looked") };
            self.actions.push_back(Action::Compute(work));
        }
    }

    /// Says that x_hat and the keys of the first window are in place. If the peer said so before, it will learn of it half
    /// a round trip from now: this party waits as long, so that both begin at one time. Neither ends later for it, and the
    /// time of the gate is the time of its rounds, not of who happened to be ready first.
    fn ready_when_loaded(&mut self) {
        if self.is_loaded() {
            let common = self.common.expect("what is loaded was stored");
            self.send(PeerMessage::Ready { run: self.plan.run, common }, Causal::START);
            if self.peer_ready.is_some() {
                self.actions.push_back(Action::Align);
            }
        }
    }

    /// As soon as both hashes are here, hence before the first exchange: the peer's comes with its readiness, this party's own
    /// with its keys.
    fn compare_common_parts(&self) -> Result<(), Failure> {
        match (self.common, self.peer_ready) {
            (Some(ours), Some(theirs)) if ours != theirs => Err(Failure::new(
                Fault::Dealer,
                format!(
                    "the dealer gave the parties unequal public parts of the keys of batch {}",
                    self.plan.batch
                ),
            )),
            _ => Ok(()),
        }
    }

    fn begin_evaluation(&mut self) {
        self.enter(Phase::Evaluating);
        for chunk in 0..self.first_window() {
            self.begin(chunk);
        }
    }

    fn is_loaded(&self) -> bool {
        self.phase == Phase::AwaitingPeer && self.loaded >= self.first_window()
    }

    /// The input of a chunk joins its key.
    fn load_when_complete(&mut self, chunk: u32) {
        let takes_shares = self.plan.gate.takes_shares();
        let state = &mut self.chunks[chunk as usize];
        let input = if takes_shares { &mut state.shares } else { &mut state.x_hat };
        if input.is_none() || state.staged.is_none() {
            return;
        }
        let (input, staged) = (input.take().expect("looked"), state.staged.take().expect("looked"));
        let input = if takes_shares { Input::Shares(input) } else { Input::Wire(input) };
        self.actions.push_back(Action::Compute(Work::Load { chunk, staged, input }));
    }

    fn begin(&mut self, chunk: u32) {
        let eval = self.chunks[chunk as usize].eval.take().expect("a chunk begins when it is loaded");
        self.actions.push_back(Action::Compute(Work::Step { chunk, eval, step: 0, incoming: Bytes::new() }));
    }

    /// The next exchange of `chunk`, if the peer's message and the evaluation are both here.
    fn advance(&mut self, chunk: u32) {
        let exchanges = self.exchanges();
        let state = &mut self.chunks[chunk as usize];
        // Before its own first message, a chunk waits for the evaluation to begin.
        if state.sent == 0 || state.eval.is_none() || state.inbox.is_empty() {
            return;
        }
        let (eval, incoming) = (state.eval.take(), state.inbox.pop_front());
        let (eval, (depth, incoming)) = (eval.expect("looked"), incoming.expect("looked"));
        // What is sent next depends on this message, and not on one that merely arrived by now.
        state.causal = state.causal.join(depth);
        let work = if state.sent < exchanges {
            Work::Step { chunk, eval, step: state.sent, incoming }
        } else {
            Work::Finish { chunk, eval, incoming }
        };
        self.actions.push_back(Action::Compute(work));
    }

    fn ask_key(&mut self, chunk: u32) {
        let state = &mut self.chunks[chunk as usize];
        if !state.key_asked {
            state.key_asked = true;
            self.actions.push_back(Action::LoadKey(chunk));
        }
    }

    fn send_frame(&mut self, step: u8, chunk: u32, payload: Bytes) {
        let after = if step == DataFrame::OPEN { Causal::START } else { self.chunks[chunk as usize].causal };
        let frame = DataFrame::new(step, chunk, self.frame_bits(step, chunk), payload);
        self.send(PeerMessage::Frame(frame), after);
    }

    fn send(&mut self, message: PeerMessage, after: Causal) {
        self.actions.push_back(Action::Send(message, after));
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.actions.push_back(Action::Enter(phase));
    }

    fn fail(&mut self, failure: Failure) {
        let abort =
            PeerMessage::Abort { run: self.plan.run, fault: failure.fault, reason: failure.wire_reason() };
        self.actions.clear();
        self.send(abort, Causal::START);
        self.end(Err(failure));
    }

    fn end(&mut self, result: Result<Summary, Failure>) {
        self.chunks.clear();
        self.spent.clear();
        self.seed = None;
        self.enter(Phase::Ended);
        self.actions.push_back(Action::End(result));
    }

    fn acceptance(&self) -> Accept {
        Accept {
            run: self.plan.run,
            digest: self.plan.digest(),
            batch: self.plan.batch,
            elems: self.plan.elems,
        }
    }

    fn job(&self, chunk: u32) -> EvalJob {
        EvalJob {
            gate: Arc::clone(&self.plan.gate),
            batch: self.plan.batch.0,
            chunk,
            elems: self.elems(chunk),
            party: self.plan.party(),
            seed: self.seed.clone().expect("work starts after the keys are stored"),
        }
    }

    fn elems(&self, chunk: u32) -> usize {
        layout::chunk_elems(self.plan.elems, chunk)
    }

    fn exchanges(&self) -> usize {
        self.plan.gate.exchanges().len()
    }

    fn frame_bits(&self, step: u8, chunk: u32) -> u64 {
        let elems = self.elems(chunk) as u64;
        let width: u64 = if step == DataFrame::OPEN {
            suf_gate::ring::WIRE.bits().into()
        } else {
            self.plan.gate.exchanges()[usize::from(step)].iter().map(|segment| u64::from(segment.bits)).sum()
        };
        width * elems
    }

    fn first_window(&self) -> u32 {
        WINDOW.min(self.chunks.len() as u32)
    }

    /// One past the last chunk that may be in flight.
    fn window_end(&self) -> u32 {
        self.lowest_open.saturating_add(WINDOW).min(self.chunks.len() as u32)
    }
}

fn peer(reason: String) -> Failure {
    Failure::new(Fault::Peer, reason)
}
