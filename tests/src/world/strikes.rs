//! In which operations runs of a world came to grief: a fault that never strikes an operation shows nothing about it.

use std::collections::BTreeMap;

use suf_gate::{NodeId, Program};
use suf_party::{Done, Event};
use suf_wire::{Part, Party};

use super::{How, Strike, World};

/// Operations, and how often a fault struck a party in them: a lost device, a crashed process, a lost message.
pub type Strikes = BTreeMap<String, u64>;

/// What a node does, without the sizes.
#[must_use]
pub fn operation(program: &Program, node: NodeId) -> String {
    let name = program.node(node).op().def().name();
    name.split_whitespace().next().unwrap_or_default().to_owned()
}

/// The part that a device has just computed, if that is the event.
pub(super) fn computed(event: &Event) -> Option<Part> {
    match event {
        Event::Done(Done::Begun { part, .. } | Done::Stepped { part, .. } | Done::Finished { part, .. }) => {
            Some(*part)
        }
        _ => None,
    }
}

impl World {
    /// Whether the chosen fault `how` strikes `me` in `part`. It strikes once.
    pub(super) fn is_struck(&mut self, me: Party, part: Option<Part>, how: How) -> bool {
        let Some(Strike { party, node, how: chosen }) = self.faults.strike else { return false };
        let hit = (party, Some(node), chosen) == (me, part.map(|part| part.node), how);
        if hit {
            self.faults.strike = None;
        }
        hit
    }

    /// Notes that `me` is struck while it works on `part`.
    pub(super) fn note_strike(&mut self, me: Party, part: Option<Part>) {
        let registration = self.processes[me.index()].registration.as_ref();
        if let (Some(part), Some(registration)) = (part, registration) {
            *self.strikes.entry(operation(&registration.program, part.node)).or_default() += 1;
        }
    }
}
