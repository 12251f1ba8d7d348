//! The evaluation of a run: what happens to its parts between the burning of the batch and the last exchange.

use std::sync::Arc;

use bytes::Bytes;
use suf_gate::{EvalJob, KeyBytes, PartEval, Value};
use suf_wire::{Causal, DataFrame, Fault, Part, PeerMessage, Seed};

use crate::part::{Key, Made, PartRun, State};
use crate::run::{Run, bug};
use crate::{Action, Done, Phase, RunFailure, Start, Work};

impl Run {
    pub(crate) fn on_key(&mut self, part: Part, key: KeyBytes) -> Result<(), RunFailure> {
        let due = self.plan.program.key_bytes_of(self.plan.me, part);
        if key.len() != due {
            let reason = format!("the key of {part} has {} bytes, {due} are due", key.len());
            return Err(RunFailure::new(Fault::Dealer, reason));
        }
        let state = &mut self.part(part).state;
        if !matches!(state, State::Waiting(Key::Asked)) {
            return Err(bug(format!("a key of {part} that nobody asked for")));
        }
        *state = State::Computing;
        self.busy -= 1;
        let job = self.job(part)?;
        self.compute(Work::Stage { job, key });
        Ok(())
    }

    pub(crate) fn on_done(&mut self, done: Done) -> Result<(), RunFailure> {
        if matches!(done, Done::Wiped) {
            self.wiping -= 1;
            return self.close_when_complete();
        }
        self.busy -= 1;
        match done {
            Done::Staged { part, staged } => {
                self.part(part).state = State::Waiting(Key::Staged(staged));
                self.load_when_complete(part)?;
            }
            Done::Begun { part, eval } if self.exchanges(part) == 0 => {
                self.compute(Work::Finish { part, eval, incoming: Bytes::new() });
            }
            Done::Begun { part, eval } => {
                self.part(part).state = State::Loaded(eval);
                self.begin_when_allowed(part);
            }
            Done::Stepped { part, eval, message } => {
                let state = self.part(part);
                let (step, causal) = (state.sent, state.causal);
                state.state = State::AwaitingPeer(eval);
                state.sent += 1;
                if state.sent == self.exchanges(part) {
                    self.schedule.pass_sent(part);
                }
                let bits = self.plan.program.frame_bits(part, step).unwrap_or_default();
                let frame = DataFrame::new(part, step as u8, bits, message);
                self.send(PeerMessage::Frame(frame), causal);
                self.advance(part);
            }
            Done::Finished { part, value, spent } => return self.on_finished(part, value, spent),
            Done::Wiped => {}
        }
        self.ready_when_loaded();
        Ok(())
    }

    fn on_finished(
        &mut self,
        part: Part,
        value: Arc<dyn Value>,
        spent: Box<dyn PartEval>,
    ) -> Result<(), RunFailure> {
        let node = self.plan.program.node(part.node);
        let (is_input, is_result, is_kept) = (node.is_input(), node.is_result(), node.is_kept());
        if node.is_keyed() {
            self.spent.push_back(spent);
            self.wipe_down_to(self.most_spent);
        }
        self.part(part).state = State::Done;
        if is_result {
            let words = value.words()?;
            if is_kept {
                self.kept.insert(part, words);
            } else {
                self.actions.push_back(Action::Output { part, shares: words });
            }
            self.ungiven -= 1;
            return self.close_when_complete();
        }
        // Parts that depend on inputs alone count their rounds from the start.
        let causal = if is_input { Causal::START } else { self.part(part).causal };
        let takers = self.schedule.takers(part);
        self.part(part).made = Some(Made::new(value, takers.len(), causal));
        for taker in takers {
            self.load_when_complete(taker)?;
        }
        if is_input {
            self.unopened -= 1;
            if self.unopened == 0 && self.phase == Phase::Opening {
                self.enter(Phase::AwaitingPeer);
            }
        } else {
            self.unmade -= 1;
            let opened = self.schedule.pass_over(part);
            if !opened.is_empty() {
                self.ask_keys();
            }
            for position in opened {
                self.load_when_complete(self.schedule.at(position))?;
            }
        }
        self.ready_when_loaded();
        self.measure_when_complete();
        Ok(())
    }

    /// Begins when the inputs are open, if the parties do not wait for each other: they were ready before the opening.
    ///
    /// Else it says that the inputs are open, and that nothing more can be done before the first exchange. Keys and inputs of
    /// the first window are in place then. If the peer said so before, this party waits half a round trip. The peer
    /// learns of it after that time, so both begin at the same time. Neither party ends later because of the wait. The
    /// measured time is then that of the rounds, and does not depend on who was ready first.
    fn ready_when_loaded(&mut self) {
        let is_open = self.phase == Phase::AwaitingPeer && self.unopened == 0;
        if is_open && !self.aligns() {
            if self.readiness.is_agreed(0) {
                self.begin_evaluation();
            }
        } else if is_open && self.busy == 0 && !self.readiness.is_said(0) {
            self.say_ready();
            if self.readiness.is_heard(0) {
                self.actions.push_back(Action::Align);
            }
        }
    }

    /// Announces to the peer all segments whose keys are stored.
    pub(crate) fn say_ready(&mut self) {
        let run = self.plan.run;
        while let Some((segment, common)) = self.readiness.say() {
            self.send(PeerMessage::Ready { run, segment, common }, Causal::START);
        }
    }

    pub(crate) fn begin_evaluation(&mut self) {
        self.enter(Phase::Evaluating);
        self.begin_loaded();
    }

    /// Begins the loaded parts that may begin now. Other parts begin when they are loaded.
    pub(crate) fn begin_loaded(&mut self) {
        for position in self.schedule.window() {
            self.begin_when_allowed(self.schedule.at(position));
        }
        self.measure_when_complete();
    }

    /// Starts the first exchange of `part`, if it is loaded and both parties hold equal keys of its segment.
    fn begin_when_allowed(&mut self, part: Part) {
        let program = &self.plan.program;
        let is_allowed = program.node(part.node).is_input()
            || self.phase == Phase::Evaluating && self.readiness.is_agreed(program.segment_of(part.node));
        if is_allowed && let Some(eval) = self.part(part).take_loaded() {
            self.compute(Work::Step { part, eval, step: 0, incoming: Bytes::new() });
        }
    }

    /// Starts the next exchange of `part`, if the peer's message and the evaluation are both here.
    pub(crate) fn advance(&mut self, part: Part) {
        let exchanges = self.exchanges(part);
        let state = self.part(part);
        let step = state.sent;
        if let Some((eval, incoming)) = state.take_answered() {
            self.compute(if step < exchanges {
                Work::Step { part, eval, step, incoming }
            } else {
                Work::Finish { part, eval, incoming }
            });
        }
    }

    /// Asks for the keys of the window, as far as they are stored.
    pub(crate) fn ask_keys(&mut self) {
        for position in self.schedule.window() {
            let part = self.schedule.at(position);
            let is_stored = self.readiness.is_stored(self.plan.program.segment_of(part.node));
            if is_stored && self.part(part).ask_key() {
                self.busy += 1;
                self.actions.push_back(Action::LoadKey(part));
            }
        }
    }

    /// Moves the inputs of a part to its key, as soon as both are here and the part is in the window.
    pub(crate) fn load_when_complete(&mut self, part: Part) -> Result<(), RunFailure> {
        let node = self.plan.program.node(part.node);
        // Results are made when the measures are known, and inputs begin with the client's shares.
        let has_turn = if node.is_result() { self.measured.is_some() } else { self.schedule.is_open(part) };
        let taken: Vec<usize> = self.schedule.taken(part).map(|part| self.schedule.index(part)).collect();
        let is_made = taken.iter().all(|taken| self.parts[*taken].made.is_some());
        if node.is_input() || !has_turn || !is_made {
            return Ok(());
        }
        let Some(key) = self.part(part).take_key() else { return Ok(()) };
        let (mut inputs, mut causal) = (Vec::with_capacity(taken.len()), Causal::START);
        for taken in taken {
            let made = self.parts[taken].made.as_mut();
            let value = made.and_then(|made| {
                causal = causal.join(made.causal);
                made.take()
            });
            inputs.push(
                value.ok_or_else(|| bug(format!("{part} takes a value that all its takers have taken")))?,
            );
        }
        self.part(part).causal = causal;
        self.begin(part, key, inputs)
    }

    /// Takes `inputs` to where the key is.
    pub(crate) fn begin(
        &mut self,
        part: Part,
        key: Key,
        inputs: Vec<Arc<dyn Value>>,
    ) -> Result<(), RunFailure> {
        let start = match key {
            Key::Staged(staged) => Start::Staged(staged),
            Key::None | Key::Unasked | Key::Asked => Start::Keyless(self.job(part)?),
        };
        self.compute(Work::Begin { part, start, inputs });
        Ok(())
    }

    /// Asks for the link's figures after the last wire is made and the last segment's keys are compared.
    fn measure_when_complete(&mut self) {
        if self.phase == Phase::Evaluating && self.unmade == 0 && self.readiness.is_complete() {
            self.enter(Phase::Closing);
            self.actions.push_back(Action::Measure);
        }
    }

    fn compute(&mut self, work: Work) {
        self.busy += 1;
        self.actions.push_back(Action::Compute(work));
    }

    fn exchanges(&self, part: Part) -> usize {
        self.plan.program.node(part.node).exchanges()
    }

    pub(crate) fn part(&mut self, part: Part) -> &mut PartRun {
        &mut self.parts[self.schedule.index(part)]
    }

    fn job(&self, part: Part) -> Result<EvalJob, RunFailure> {
        Ok(self.plan.job(part, self.seed()?, self.load.clone()))
    }

    pub(crate) fn seed(&self) -> Result<Seed, RunFailure> {
        self.seed.clone().ok_or_else(|| bug("work before the keys are stored".into()))
    }
}
