//! Which tiles of other wires a part is made of, and which parts a tile goes to.

use std::ops::{Deref, Range};

use super::{Node, Program};
use crate::{NodeId, Part, layout::Counts};

/// What a part takes of one wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The node that makes the wire.
    pub wire: NodeId,
    /// The tiles that hold the rows, in order.
    pub tiles: Range<u32>,
    /// The rows.
    pub rows: Range<u32>,
}

impl Taken {
    /// The parts that make the tiles, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = Part> + use<> {
        let wire = self.wire;
        self.tiles.clone().map(move |tile| Part::new(wire, tile))
    }
}

impl Program {
    /// What `part` takes of each wire, in the order of the node's wires.
    pub fn taken(&self, part: Part) -> impl ExactSizeIterator<Item = Taken> + use<'_> {
        let node = self.node(part.node);
        let rows = node.cut().rows(part.tile);
        node.inputs().iter().enumerate().map(move |(index, wire)| {
            let rows = node.op().def().reads(index, rows.clone());
            Taken { wire: *wire, tiles: self.node(*wire).cut().tiles_with(&rows), rows }
        })
    }

    /// What `part` makes, as if another part took all of it.
    #[must_use]
    pub fn made(&self, part: Part) -> Taken {
        let Part { node, tile } = part;
        Taken { wire: node, tiles: tile..tile + 1, rows: self.node(node).cut().rows(tile) }
    }

    /// The parts that take the value of `part`, as often as they do.
    #[must_use]
    pub fn takers(&self, part: Part) -> Vec<Part> {
        let rows = self.node(part.node).cut().rows(part.tile);
        let takers = self.takers[part.node.index()].iter();
        takers.flat_map(|(taker, index)| self.node(*taker).tiles_reading(*taker, *index, &rows)).collect()
    }

    /// Elements that `part` takes of `taken`.
    #[must_use]
    pub fn taken_elems(&self, taken: &Taken) -> usize {
        taken.rows.len() * self.node(taken.wire).shape().cols() as usize
    }

    /// The elements of `taken` from the tiles that hold them, which `tile` gives.
    ///
    /// # Errors
    /// What `tile` says.
    pub fn gather<T, E>(
        &self,
        taken: &Taken,
        mut tile: impl FnMut(Part) -> Result<T, E>,
    ) -> Result<Vec<u64>, E>
    where
        T: Deref,
        T::Target: AsRef<[u64]>,
    {
        let node = self.node(taken.wire);
        let cols = node.shape().cols() as usize;
        let mut elements = Vec::with_capacity(self.taken_elems(taken));
        for part in taken.parts() {
            let rows = node.cut().rows(part.tile);
            let place = |row: u32| (row.clamp(rows.start, rows.end) - rows.start) as usize * cols;
            let tile = tile(part)?;
            elements.extend_from_slice(&tile.as_ref()[place(taken.rows.start)..place(taken.rows.end)]);
        }
        Ok(elements)
    }

    /// Whether `taken` is all that one part makes.
    #[must_use]
    pub fn is_whole_part(&self, taken: &Taken) -> bool {
        taken.parts().next().is_some_and(|part| self.made(part) == *taken)
    }

    /// Entries of each extent in `part`.
    #[must_use]
    pub fn counts(&self, part: Part) -> Counts {
        let node = self.node(part.node);
        let rows = node.cut().rows(part.tile);
        let elems = rows.len() * node.shape().cols() as usize;
        let taken = node.inputs().first().map_or(0, |wire| {
            node.op().def().reads(0, rows.clone()).len() * self.node(*wire).shape().cols() as usize
        });
        Counts { elems, rows: rows.len(), taken }
    }

    /// Entries of each extent in all parts of a node.
    #[must_use]
    pub fn node_counts(&self, id: NodeId) -> Counts {
        let parts = (0..self.node(id).tiles()).map(|tile| self.counts(Part::new(id, tile)));
        parts.fold(Counts::default(), Counts::and)
    }
}

impl Node {
    /// The parts of this node, which is `id`, that read some of `rows` of its wire number `input`.
    fn tiles_reading(
        &self,
        id: NodeId,
        input: usize,
        rows: &Range<u32>,
    ) -> impl Iterator<Item = Part> + use<> {
        // What tiles read begins and ends later with each tile.
        let (cut, op) = (self.cut(), self.op.def());
        let first = first_tile(cut.count(), |tile| op.reads(input, cut.rows(tile)).end > rows.start);
        let end = first_tile(cut.count(), |tile| op.reads(input, cut.rows(tile)).start >= rows.end);
        (first..end).map(move |tile| Part::new(id, tile))
    }
}

/// The first of `count` tiles of which `is_past` is true, and hence of all after it; `count` if there is none.
fn first_tile(count: u32, is_past: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if is_past(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}
