//! Nodes and their parts: what messages and keys are about.

use std::fmt;

use crate::codec::{Cursor, Decode, Encode, WireError, below};
use crate::limits::{MAX_NODES, MAX_TILES};

/// Names a node of a program, and the wire that the node makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u16);

impl NodeId {
    /// Its place in the list of nodes.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

/// One tile of one node: the unit of dealing, of evaluation, and of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The node.
    pub node: NodeId,
    /// The tile of the node's wire.
    pub tile: u32,
}

impl Part {
    /// A part.
    #[must_use]
    pub const fn new(node: NodeId, tile: u32) -> Self {
        Self { node, tile }
    }

    /// The lane, of so many, that the part's frames go over: nobody else decides it. The frames of a part share one, on which
    /// they keep their order. So do those of the parts that follow it from node to node.
    #[must_use]
    pub const fn lane(self, lanes: usize) -> usize {
        self.tile as usize % lanes
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile {} of {}", self.tile, self.node)
    }
}

impl Encode for NodeId {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.extend_from_slice(&below("node", self.0, MAX_NODES as u64)?.to_le_bytes());
        Ok(())
    }
}

impl Decode for NodeId {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self(below("node", cursor.u16("node")?, MAX_NODES as u64)?))
    }
}

/// A tile is one of a wire of the largest size. Whether the wire has it is for whoever knows the program.
pub(crate) fn check_tile(tile: u32) -> Result<u32, WireError> {
    below("tile", tile, MAX_TILES.into())
}
