//! What goes wrong in a world, and how often.

use suf_wire::{NodeId, Party};

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
    /// A byte of a part's key is changed on its way.
    pub damage: f64,
    /// The dealer does not answer.
    pub silence: f64,
    /// The dealer gives the parties unequal public parts, under good tags; per batch, of programs whose keys have public parts.
    pub unequal: f64,
    /// A party's device is lost, at each of its computations.
    pub device: f64,
    /// The dealer is restarted before a run, and keeps no load any more.
    pub forget: f64,
    /// What goes wrong for certain, unless the run has ended before.
    pub strike: Option<Strike>,
}

/// A fault at a chosen place of a program.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// At which party.
    pub party: Party,
    /// While it works on which node.
    pub node: NodeId,
    /// What happens.
    pub how: How,
}

/// What happens at a chosen place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The device is lost when it is told to compute.
    Device,
    /// The process crashes when its device has computed.
    Crash,
    /// The connection is lost with the node's message. Nodes without a message are as for [`How::Crash`].
    Link,
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
        forget: 0.05,
        strike: None,
    };

    /// The same for runs of so many times as many steps: what strikes at each message, event or computation is rarer.
    #[must_use]
    pub fn over(self, times: f64) -> Self {
        let Self { lose, change, cut, double, overtake, hold, crash, device, .. } = self;
        let [lose, change, cut, double] = [lose, change, cut, double].map(|often| often / times);
        let [overtake, hold, crash, device] = [overtake, hold, crash, device].map(|often| often / times);
        Self { lose, change, cut, double, overtake, hold, crash, device, ..self }
    }
}
