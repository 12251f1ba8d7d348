//! A program: operations over wires, in an order in which each node comes after those whose wires it takes. Its
//! canonical encoding has a digest, which client, parties and dealer compare before anything secret moves.

mod cost;
mod encoding;
mod taken;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

pub use taken::Taken;

use crate::{
    Form, Gate, GateError, NodeId, Part, Party, Ring, Side, TensorShape, Wire,
    layout::Counts,
    limits::{MAX_DATA_BYTES, MAX_GATES, MAX_KEY_PART_BYTES, MAX_NODES, MAX_PROGRAM_BYTES},
    ops::{Entry, Input, Needed, Op, Output, Weights},
    ring::{FRAC, WIRE},
    wire::Tiles,
};

/// Bytes of both parties' keys that a segment has at least, unless it is the last one. This is a third of a layer of
/// BERT-base at 128 tokens. A fast link ships it in some milliseconds.
pub const SEGMENT_BYTES: u64 = 32 << 20;

/// A program, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    nodes: Vec<Node>,
    gates: Vec<Arc<Gate>>,
    /// Of each node, those that take its wire, and as which of their wires.
    takers: Vec<Vec<(NodeId, usize)>>,
    /// First node of each segment of keys.
    segments: Vec<NodeId>,
    /// Digest of the load program whose matrices it takes.
    load: Option<[u8; 32]>,
    encoded: Vec<u8>,
    digest: [u8; 32],
}

/// One node of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    op: Op,
    inputs: Vec<NodeId>,
    wire: Option<Wire>,
    /// The wire's, or, where the node makes none, that of the wire that it takes.
    shape: TensorShape,
    /// Rows of a full tile.
    tile_rows: u32,
    /// Entries of each extent in all its parts.
    counts: Counts,
    /// Number of nodes before this one that have keys.
    keyed_before: u32,
}

/// Why a program cannot be made or understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// A node that does not fit.
    #[error("node {node} ({op}): {reason}")]
    Node {
        /// Which node.
        node: usize,
        /// What it does.
        op: String,
        /// Why it does not fit.
        reason: String,
    },
    /// A gate in it.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// Weights that are not here.
    #[error("no weights with the digest {0} are here")]
    Weights(String),
    /// More than a limit, or too little.
    #[error("a program {0}")]
    Limit(String),
    /// A canonical encoding that is not one.
    #[error("program encoding: {0}")]
    Encoding(&'static str),
}

/// Weights by their digests: what a party or the dealer has loaded.
#[derive(Clone, Debug, Default)]
pub struct WeightStore(HashMap<[u8; 32], Arc<Weights>>);

impl WeightStore {
    /// Adds weights. Equal ones are kept once.
    pub fn add(&mut self, weights: Arc<Weights>) {
        self.0.insert(*weights.digest(), weights);
    }

    /// The weights with this digest.
    #[must_use]
    pub fn get(&self, digest: &[u8; 32]) -> Option<&Arc<Weights>> {
        self.0.get(digest)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Weights>> {
        self.0.values()
    }
}

impl Program {
    /// The program of `nodes`, each an operation and the nodes whose wires it takes.
    ///
    /// # Errors
    /// When a node takes a wire that is not there or does not suit it, there is no output, or a limit is exceeded.
    pub fn new(nodes: impl IntoIterator<Item = (Op, Vec<NodeId>)>) -> Result<Self, ProgramError> {
        let mut made = Self {
            nodes: Vec::new(),
            gates: Vec::new(),
            takers: Vec::new(),
            segments: Vec::new(),
            load: None,
            encoded: Vec::new(),
            digest: [0; 32],
        };
        let mut keyed_before = 0;
        for (op, inputs) in nodes {
            if made.nodes.len() == MAX_NODES {
                return Err(ProgramError::Limit(format!("has at most {MAX_NODES} nodes")));
            }
            let node = made.node_of(op, inputs, keyed_before)?;
            keyed_before += u32::from(node.is_keyed());
            for (index, input) in node.inputs.iter().enumerate() {
                made.takers[input.index()].push((NodeId(made.nodes.len() as u16), index));
            }
            made.nodes.push(node);
            made.takers.push(Vec::new());
        }
        made.check_results()?;
        made.align_tiles();
        made.check_sizes()?;
        made.segments = made.cut_into_segments();
        made.encoded = made.encode_nodes();
        if made.encoded.len() > MAX_PROGRAM_BYTES {
            let bytes = made.encoded.len();
            return Err(ProgramError::Limit(format!(
                "is described in {MAX_PROGRAM_BYTES} bytes at most, not {bytes}"
            )));
        }
        made.digest = *blake3::hash(&made.encoded).as_bytes();
        Ok(made)
    }

    /// The program of one gate: input, gate, output.
    ///
    /// # Errors
    /// When there are no elements, or more than [`crate::limits::MAX_ELEMS`].
    pub fn of_gate(gate: Arc<Gate>, elems: u64) -> Result<Self, ProgramError> {
        let shape = TensorShape::flat(elems).ok_or_else(|| {
            ProgramError::Limit(format!("takes 1 to {} elements, not {elems}", crate::limits::MAX_ELEMS))
        })?;
        let form = if gate.takes_shares() { Form::Shared } else { Form::Masked };
        Self::new([
            (Op::Input(Input::new(shape, WIRE, FRAC, form)), vec![]),
            (Op::gate(gate), vec![NodeId(0)]),
            (Op::Output(Output), vec![NodeId(1)]),
        ])
    }

    fn node_of(&mut self, op: Op, inputs: Vec<NodeId>, keyed_before: u32) -> Result<Node, ProgramError> {
        let node = self.nodes.len();
        let refused = |reason: String| ProgramError::Node { node, op: op.def().name(), reason };
        let wires: Result<Vec<Wire>, _> = inputs
            .iter()
            .map(|input| {
                let made = self.nodes.get(input.index()).and_then(|node| node.wire);
                made.ok_or_else(|| refused(format!("{input} before it makes no wire")))
            })
            .collect();
        let wires = wires?;
        let wire = op.def().wire(&wires).map_err(refused)?;
        let shape = wire.or_else(|| wires.first().copied()).map(|wire| wire.shape);
        let shape = shape.ok_or_else(|| refused("it neither takes nor makes a wire".into()))?;
        for (index, taken) in wires.iter().enumerate() {
            let (read, rows) = (op.def().reads(index, 0..shape.rows()), taken.shape.rows());
            if read != (0..rows) {
                return Err(refused(format!("it reads {} rows of {taken}", read.end)));
            }
        }
        for Needed { pad, of, at } in op.def().pads() {
            let (of, made) = (inputs[of], self.node(inputs[at]));
            if !matches!(made.op(), Op::Pads(pads) if *pads.pad() == pad) || made.inputs() != [of] {
                return Err(refused(format!("{} is not {pad} of {of}", inputs[at])));
            }
        }
        if let Op::Private(op) = &op
            && self.load.get_or_insert(*op.load()) != op.load()
        {
            return Err(refused("its matrices are of another load than those before it".into()));
        }
        let gate = op.as_gate().map(|op| op.gate());
        if let Some(gate) = gate
            && !self.gates.contains(gate)
        {
            if self.gates.len() == MAX_GATES {
                return Err(ProgramError::Limit(format!("has at most {MAX_GATES} gates that differ")));
            }
            self.gates.push(Arc::clone(gate));
        }
        Ok(Node {
            op,
            inputs,
            wire,
            shape,
            tile_rows: shape.rows_per_tile(),
            counts: Counts::default(),
            keyed_before,
        })
    }

    /// A program has outputs. One that loads a model has none, and keeps each of its inputs once.
    fn check_results(&self) -> Result<(), ProgramError> {
        if self.results().next().is_none() {
            return Err(ProgramError::Limit("has an output".into()));
        }
        if !self.loads() {
            return Ok(());
        }
        let is_kept_once = |id: NodeId| matches!(&self.takers[id.index()][..], [_]);
        let is_alone = self.nodes().all(|(id, node)| match node.op {
            Op::Input(_) => is_kept_once(id),
            _ => node.is_kept(),
        });
        if is_alone {
            Ok(())
        } else {
            Err(ProgramError::Limit(
                "that keeps inputs keeps each of them once, and does nothing else".into(),
            ))
        }
    }

    /// Nodes of equally many rows are cut alike, by the widest of them. So a tile is made of the same tile of each wire
    /// taken, unless the operation reads other rows.
    fn align_tiles(&mut self) {
        let mut tile_rows = BTreeMap::new();
        for node in &self.nodes {
            let least = tile_rows.entry(node.shape.rows()).or_insert(node.tile_rows);
            *least = node.tile_rows.min(*least);
        }
        for node in &mut self.nodes {
            node.tile_rows = tile_rows[&node.shape.rows()];
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].counts = self.node_counts(NodeId(index as u16));
        }
    }

    /// Keys and messages of a part fit into the messages that carry them.
    fn check_sizes(&self) -> Result<(), ProgramError> {
        for part in self.parts() {
            let node = self.node(part.node);
            let refused = |what: &str, bytes: usize, most: usize| ProgramError::Node {
                node: part.node.index(),
                op: node.op.def().name(),
                reason: format!("{what} of tile {} has {bytes} bytes, and {most} at most fit", part.tile),
            };
            for side in [Side::Seeded, Side::Explicit] {
                let bytes = node.op.def().key_shape().tile_bytes(side, self.counts(part));
                if bytes > MAX_KEY_PART_BYTES {
                    return Err(refused("the key", bytes, MAX_KEY_PART_BYTES));
                }
            }
            for step in 0..node.exchanges() {
                let bytes = self.message_bytes(part, step).unwrap_or(0);
                if bytes > MAX_DATA_BYTES {
                    return Err(refused("a message", bytes, MAX_DATA_BYTES));
                }
            }
        }
        Ok(())
    }

    /// BLAKE3 of the canonical encoding.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The canonical encoding.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The nodes, with their ids.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index as u16), node))
    }

    /// The node `id`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The same; none if there is no such node.
    #[must_use]
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// The gates, each once.
    #[must_use]
    pub fn gates(&self) -> &[Arc<Gate>] {
        &self.gates
    }

    /// Nodes that take the client's shares, in order.
    pub fn inputs(&self) -> impl Iterator<Item = NodeId> {
        self.nodes().filter(|(_, node)| node.is_input()).map(|(id, _)| id)
    }

    /// Nodes that give the client its output, in order.
    pub fn outputs(&self) -> impl Iterator<Item = NodeId> {
        self.nodes().filter(|(_, node)| node.is_output()).map(|(id, _)| id)
    }

    /// Nodes that run after all exchanges, in order: those of outputs, and those that are kept.
    pub fn results(&self) -> impl Iterator<Item = NodeId> {
        self.nodes().filter(|(_, node)| node.is_result()).map(|(id, _)| id)
    }

    /// Whether it loads a model: the parties keep its inputs, and nobody receives an output.
    #[must_use]
    pub fn loads(&self) -> bool {
        self.nodes.iter().any(Node::is_kept)
    }

    /// Digest of the load program whose matrices it takes; none if it takes none.
    #[must_use]
    pub fn load(&self) -> Option<&[u8; 32]> {
        self.load.as_ref()
    }

    /// Elements of all inputs.
    #[must_use]
    pub fn input_elems(&self) -> u64 {
        self.inputs().map(|id| self.node(id).shape().elems()).sum()
    }

    /// The gate of a program that [`Program::of_gate`] makes; none for other programs.
    #[must_use]
    pub fn only_gate(&self) -> Option<&Arc<Gate>> {
        match &self.nodes[..] {
            [Node { op: Op::Input(_), shape, .. }, Node { op: Op::Gate(op), .. }, output]
                if op.entry() == Entry::WHOLE
                    && shape.cols() == 1
                    && output.is_output()
                    && output.inputs == [NodeId(1)] =>
            {
                Some(op.gate())
            }
            _ => None,
        }
    }

    /// All parts, node by node and tile by tile.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.nodes().flat_map(|(id, node)| (0..node.tiles()).map(move |tile| Part::new(id, tile)))
    }

    /// The parts that have keys, in the order in which the keys are dealt.
    pub fn keyed_parts(&self) -> impl Iterator<Item = Part> {
        self.parts().filter(|part| self.node(part.node).is_keyed())
    }

    /// Number of segments: see [`Program::segment_of`].
    #[must_use]
    pub fn segments(&self) -> u16 {
        self.segments.len() as u16
    }

    /// The segment of a node's keys. Keys are delivered segment by segment, in the order of the nodes. Each segment is
    /// checked and announced by itself, so that evaluation may begin while later keys are on their way.
    #[must_use]
    pub fn segment_of(&self, id: NodeId) -> u16 {
        // The first segment begins with the first node.
        (self.segments.partition_point(|first| *first <= id) - 1) as u16
    }

    /// The parts with keys of segment `segment`, in the order in which the keys are dealt.
    pub fn segment_parts(&self, segment: u16) -> impl Iterator<Item = Part> {
        self.keyed_parts().filter(move |part| self.segment_of(part.node) == segment)
    }

    /// A segment ends behind the node with which its keys, both parties' together, reach [`SEGMENT_BYTES`], if keys follow.
    fn cut_into_segments(&self) -> Vec<NodeId> {
        let (mut segments, mut bytes) = (vec![NodeId(0)], 0);
        for (id, node) in self.nodes() {
            if node.is_keyed() && bytes >= SEGMENT_BYTES {
                segments.push(id);
                bytes = 0;
            }
            bytes += self.node_key_bytes(Party::P0, id) + self.node_key_bytes(Party::P1, id);
        }
        segments
    }

    /// Whether there is such a part.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        self.get(part.node).is_some_and(|node| part.tile < node.tiles())
    }

    /// Elements of a part; 0 for one that there is not.
    #[must_use]
    pub fn elems(&self, part: Part) -> usize {
        self.get(part.node).map_or(0, |node| node.cut().elems(part.tile))
    }

    /// The side of `party` in a part's keys: see [`Side::of`].
    #[must_use]
    pub fn side(&self, party: Party, part: Part) -> Side {
        Side::of(party, self.node(part.node).keyed_before.wrapping_add(part.tile))
    }
}

impl Node {
    /// What it does.
    #[must_use]
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// The nodes whose wires it takes.
    #[must_use]
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The wire that it makes.
    #[must_use]
    pub fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    /// The shape of what it makes, or of what it takes if it makes nothing.
    #[must_use]
    pub fn shape(&self) -> TensorShape {
        self.shape
    }

    /// The tiles that it works on.
    #[must_use]
    pub fn cut(&self) -> Tiles {
        self.shape.tiles_of(self.tile_rows)
    }

    /// Number of tiles.
    #[must_use]
    pub fn tiles(&self) -> u32 {
        self.cut().count()
    }

    /// Whether the dealer makes keys for it.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        !self.op.def().key_shape().fields().is_empty()
    }

    /// Whether it takes the client's shares.
    #[must_use]
    pub fn is_input(&self) -> bool {
        matches!(self.op, Op::Input(_))
    }

    /// Whether it gives the client its output.
    #[must_use]
    pub fn is_output(&self) -> bool {
        matches!(self.op, Op::Output(_))
    }

    /// Whether the parties keep what it takes.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self.op, Op::Keep(_))
    }

    /// Whether it runs after all exchanges.
    #[must_use]
    pub fn is_result(&self) -> bool {
        self.is_output() || self.is_kept()
    }

    /// Number of exchanges.
    #[must_use]
    pub fn exchanges(&self) -> usize {
        self.op.def().exchanges().len()
    }

    /// The ring of the wire that it makes.
    #[must_use]
    pub fn ring(&self) -> Option<Ring> {
        self.wire.map(|wire| wire.ring)
    }
}

#[cfg(test)]
mod tests;
