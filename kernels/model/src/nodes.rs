//! A program's nodes as they are put together, with their names and bounds. A node is refused if a ring cannot hold a bound.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use suf_gate::{
    NodeId, Program, ProgramError, TensorShape, Wire,
    ops::{Op, Weights},
};

/// Why a plan cannot be evaluated, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What is known of a node beside its operation.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// Which one, for people: `layer 3 scores`.
    pub name: String,
    /// Largest absolute value of the wire that it makes; none where its elements are no numbers of their own.
    pub bound: Option<f64>,
}

/// Nodes, in an order in which each comes after those whose wires it takes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    ops: Vec<(Op, Vec<NodeId>)>,
    wires: Vec<Option<Wire>>,
    about: Vec<About>,
    weights: Vec<Arc<Weights>>,
    shared: Arc<SharedWeights>,
}

/// A program, what is known of its nodes, and the weights that they name.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) program: Program,
    pub(crate) about: Vec<About>,
    pub(crate) weights: Vec<Arc<Weights>>,
}

/// Matrices that programs of a model have in common. However many programs name one, it is in memory once.
#[derive(Debug, Default)]
pub(crate) struct SharedWeights(Mutex<BTreeMap<[u8; 32], Weak<Weights>>>);

impl SharedWeights {
    /// These weights, or equal ones that a program names already.
    fn the_only(&self, weights: Weights) -> Arc<Weights> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, weights| weights.strong_count() > 0);
        if let Some(known) = known.get(weights.digest()).and_then(Weak::upgrade) {
            return known;
        }
        let weights = Arc::new(weights);
        known.insert(*weights.digest(), Arc::downgrade(&weights));
        weights
    }
}

impl Nodes {
    /// No nodes yet, with weights that are `shared` with other programs.
    pub(crate) fn sharing(shared: &Arc<SharedWeights>) -> Self {
        Self { shared: Arc::clone(shared), ..Self::default() }
    }

    /// Adds a node whose wire has absolute values up to `bound`.
    ///
    /// # Errors
    /// When the operation does not take such wires, or the ring cannot hold the bound.
    pub(crate) fn push(
        &mut self,
        name: &str,
        op: Op,
        takes: impl Into<Vec<NodeId>>,
        bound: f64,
    ) -> Result<NodeId, Refusal> {
        let id = self.push_free(name, op, takes)?;
        self.about[id.index()].bound = Some(bound);
        self.holds(id, 1, "beside the sign")?;
        Ok(id)
    }

    /// Adds a node whose wire counts modulo its ring, or holds shares of masks.
    ///
    /// # Errors
    /// When the operation does not take such wires.
    pub(crate) fn push_free(
        &mut self,
        name: &str,
        op: Op,
        takes: impl Into<Vec<NodeId>>,
    ) -> Result<NodeId, Refusal> {
        let takes = takes.into();
        let inputs: Vec<Wire> = takes.iter().filter_map(|id| self.wires[id.index()]).collect();
        let wire = op.def().wire(&inputs).map_err(|why| Refusal(format!("{name}: {why}")))?;
        self.ops.push((op, takes));
        self.wires.push(wire);
        self.about.push(About { name: name.to_owned(), bound: None });
        Ok(NodeId((self.ops.len() - 1) as u16))
    }

    /// Notes weights that a node names.
    pub(crate) fn weights(&mut self, weights: Weights) -> Arc<Weights> {
        let weights = self.shared.the_only(weights);
        self.weights.push(Arc::clone(&weights));
        weights
    }

    /// Checks that the wire of `id` may be extended: two bits of its ring must stay free.
    ///
    /// # Errors
    /// When its bound does not allow it.
    pub(crate) fn extends(&self, id: NodeId) -> Result<(), Refusal> {
        self.holds(id, 2, "where it is extended")
    }

    /// The wire of a node that makes one.
    pub(crate) fn wire(&self, id: NodeId) -> Wire {
        self.wires[id.index()].expect("asked of nodes that make a wire")
    }

    /// Its bound.
    pub(crate) fn bound(&self, id: NodeId) -> f64 {
        self.about[id.index()].bound.unwrap_or(f64::INFINITY)
    }

    /// The program of the nodes.
    pub(crate) fn finish(self) -> Result<Finished, ProgramError> {
        Ok(Finished { program: Program::new(self.ops)?, about: self.about, weights: self.weights })
    }

    fn holds(&self, id: NodeId, spare: u8, why: &str) -> Result<(), Refusal> {
        let (wire, about) = (self.wire(id), &self.about[id.index()]);
        let Some(bound) = about.bound else { return Ok(()) };
        let bits = bound.max(f64::MIN_POSITIVE).log2() + f64::from(wire.frac);
        let room = wire.ring.bits().saturating_sub(spare);
        if bits <= f64::from(room) {
            return Ok(());
        }
        Err(Refusal(format!(
            "{}: absolute values up to {bound} with {} fractional bits take {bits:.1} bits, and a ring of {} bits \
             holds {room} {why}",
            about.name,
            wire.frac,
            wire.ring.bits()
        )))
    }
}

/// A tensor's shape.
///
/// # Errors
/// When it is larger than a wire may be.
pub(crate) fn shape(name: &str, rows: u32, cols: u32) -> Result<TensorShape, Refusal> {
    TensorShape::new(rows, cols)
        .ok_or_else(|| Refusal(format!("{name}: {rows} x {cols} elements are more than a wire may have")))
}
