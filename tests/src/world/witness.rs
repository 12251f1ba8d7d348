//! The rule of one-time keys, held against every message that a party of the world sends.

use suf_wire::{DataFrame, Party};

use super::World;

impl World {
    /// Holds what is sent against all that was sent before.
    pub(super) fn witness(&mut self, me: Party, frame: &DataFrame) {
        let process = &self.processes[me.index()];
        let plan = process.run.as_ref().expect("it sends").plan();
        let (run, batch, node) = (plan.run, plan.batch, frame.part.node);
        let segment = plan.program.segment_of(node);
        let agreed = process.said.contains(&segment) && process.heard.contains(&segment);
        if !plan.program.node(node).is_input() && !agreed {
            self.breaches.push(format!("{me} sent a frame of {node} before both were ready for it"));
        }
        self.witness_burnt(me, "a frame");
        if *self.spent.entry((me, batch)).or_insert(run) != run {
            self.breaches.push(format!("{me} used batch {batch} in two runs"));
        }
        if !self.said.insert((me, run, frame.part, frame.step)) {
            self.breaches.push(format!("{me} sent step {} of {} twice", frame.step, frame.part));
        }
    }

    /// Nothing that depends on keys, not even their hash, leaves before the batch is burnt.
    pub(super) fn witness_burnt(&mut self, me: Party, what: &str) {
        let batch = self.processes[me.index()].run.as_ref().expect("it sends").plan().batch;
        if !self.has_burnt(me, batch) {
            self.breaches.push(format!("{me} sent {what} before batch {batch} was burnt"));
        }
    }
}
