//! The declared cost of a program: of each node, and in all.

use super::{Node, Program};
use crate::{Counts, NodeCost, NodeId, Part, Party};

impl Program {
    /// Causal depth of the exchanges after the inputs are open: a node begins at the depth of the deepest wire that it takes.
    #[must_use]
    pub fn rounds(&self) -> u16 {
        let mut depths: Vec<u16> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let taken = node.inputs.iter().map(|input| depths[input.index()]).max().unwrap_or(0);
            depths.push(taken.saturating_add(node.rounds()));
        }
        depths.into_iter().max().unwrap_or(0)
    }

    /// Payload bits that one party sends after the inputs are open; padding to bytes is not counted.
    #[must_use]
    pub fn message_bits(&self) -> u64 {
        self.nodes.iter().filter(|node| !node.is_input()).map(Node::message_bits).sum()
    }

    /// Bytes of exchange `step`'s message of `part`; none if there is no such exchange.
    #[must_use]
    pub fn message_bytes(&self, part: Part, step: usize) -> Option<usize> {
        let segments = self.get(part.node)?.op.def().exchanges().get(step)?;
        let counts = self.counts(part);
        (counts.elems > 0).then(|| segments.iter().map(|segment| segment.bytes(counts)).sum())
    }

    /// Payload bits of the same message.
    #[must_use]
    pub fn frame_bits(&self, part: Part, step: usize) -> Option<u64> {
        let segments = self.get(part.node)?.op.def().exchanges().get(step)?;
        let counts = self.counts(part);
        Some(segments.iter().map(|segment| u64::from(segment.bits) * segment.entries(counts) as u64).sum())
    }

    /// Bytes of the key of `part` for `party`.
    #[must_use]
    pub fn key_bytes_of(&self, party: Party, part: Part) -> usize {
        let shape = self.node(part.node).op.def().key_shape();
        shape.tile_bytes(self.side(party, part), self.counts(part))
    }

    /// Bytes of the keys of a node for `party`.
    #[must_use]
    pub fn node_key_bytes(&self, party: Party, id: NodeId) -> u64 {
        let tiles = 0..self.node(id).tiles();
        tiles.map(|tile| self.key_bytes_of(party, Part::new(id, tile)) as u64).sum()
    }

    /// Bytes of key, without seed and framing, that `party` receives.
    #[must_use]
    pub fn key_bytes(&self, party: Party) -> u64 {
        self.nodes().map(|(id, _)| self.node_key_bytes(party, id)).sum()
    }
}

impl Node {
    /// Rounds that count: those of an input come before.
    #[must_use]
    pub fn rounds(&self) -> u16 {
        if self.is_input() { 0 } else { self.declared().rounds.into() }
    }

    /// Entries of each extent in all parts of the node.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Payload bits that one party sends.
    #[must_use]
    pub fn message_bits(&self) -> u64 {
        self.declared().bits
    }

    /// What it costs as its operation declares it.
    #[must_use]
    pub fn declared(&self) -> NodeCost {
        self.op.def().declared(self.counts)
    }
}
