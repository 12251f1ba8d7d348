//! Masks of wires on the GPU: of a party its shares, of the dealer the sums of both parties' shares.

use std::collections::{BTreeMap, BTreeSet};

use suf_gate::{
    BackendError, Mask, NodeId, Part, Program, Seed, Taken,
    prg::{Domain, MASK},
};

use super::{lane::Lane, local, tasks::How};

/// The masks of a batch's wires, tile by tile, as far as `seeds` make them.
pub(super) struct Masks<'a> {
    program: &'a Program,
    /// Of any part of the batch.
    domain: Domain<'a>,
    seeds: Vec<&'a Seed>,
    known: BTreeMap<Part, u64>,
}

impl<'a> Masks<'a> {
    /// None is known yet.
    pub(super) fn new(program: &'a Program, domain: Domain<'a>, seeds: Vec<&'a Seed>) -> Self {
        Self { program, domain, seeds, known: BTreeMap::new() }
    }

    /// Queues the mask of what `part` makes; its address.
    pub(super) fn of(&mut self, lane: &mut Lane, part: Part) -> Result<u64, BackendError> {
        let mut fresh = BTreeSet::new();
        self.fresh(part, &mut BTreeSet::new(), &mut fresh);
        self.expand(lane, &fresh)?;
        self.derive(lane, part)
    }

    /// Queues the masks of some rows of a wire; the address of the first.
    pub(super) fn taken(&mut self, lane: &mut Lane, taken: &Taken) -> Result<u64, BackendError> {
        let parts: Vec<_> = taken.parts().collect();
        let tiles = parts.iter().map(|part| self.of(lane, *part)).collect::<Result<Vec<_>, _>>()?;
        gathered(lane, self.program, taken, &tiles)
    }

    /// The wires with fresh masks of which that of `part` is a function, unless it is known.
    fn fresh(&self, part: Part, seen: &mut BTreeSet<Part>, fresh: &mut BTreeSet<Part>) {
        if self.known.contains_key(&part) || !seen.insert(part) {
            return;
        }
        let node = self.program.node(part.node);
        if node.wire().is_some_and(|wire| wire.mask == Mask::Fresh) {
            fresh.insert(part);
        } else {
            node.inputs().iter().for_each(|input| self.fresh(Part { node: *input, ..part }, seen, fresh));
        }
    }

    /// Queues fresh masks: sums of the owners' streams.
    fn expand(&mut self, lane: &mut Lane, fresh: &BTreeSet<Part>) -> Result<(), BackendError> {
        let sizes = fresh.iter().map(|part| {
            let ring = self.program.node(part.node).ring().ok_or(NO_WIRE)?;
            Ok((*part, ring.bits(), ring.bits().next_multiple_of(8), self.program.elems(*part)))
        });
        let sizes = sizes.collect::<Result<Vec<_>, BackendError>>()?;
        let wanted = sizes.iter().flat_map(|(part, _, width, elems)| {
            let domain = Domain { part: *part, ..self.domain };
            let bytes = usize::from(*width) / 8 * elems;
            self.seeds.iter().map(move |seed| (domain.stream(seed, MASK), bytes))
        });
        let streams = lane.expand(&wanted.collect::<Vec<_>>())?;
        for ((part, ring, width, elems), streams) in sizes.into_iter().zip(streams.chunks(self.seeds.len())) {
            if let (64, [stream]) = (ring, streams) {
                // Its bytes are words.
                self.known.insert(part, *stream);
                continue;
            }
            let mask = lane.words(elems)?;
            for (stream, how) in streams.iter().zip([How::Set, How::Add]) {
                // SAFETY: a word for each element, and a stream of as many entries.
                unsafe { lane.unpack((mask, how), *stream, (width, ring), elems) }?;
            }
            self.known.insert(part, mask);
        }
        Ok(())
    }

    /// Queues the mask of what `part` makes, of fresh ones that are known.
    fn derive(&mut self, lane: &mut Lane, part: Part) -> Result<u64, BackendError> {
        if let Some(known) = self.known.get(&part) {
            return Ok(*known);
        }
        let inputs = self.program.node(part.node).inputs();
        let taken = inputs.iter().map(|input| self.derive(lane, Part { node: *input, ..part }));
        let taken = taken.collect::<Result<Vec<_>, _>>()?;
        let elems = self.program.elems(part);
        let mask = lane.words(elems)?;
        // SAFETY: the masks are those of the same tile of all wires, and there is room for as many elements.
        unsafe { local::apply(lane, self.program, part.node, &taken, (mask, elems), false) }?;
        self.known.insert(part, mask);
        Ok(mask)
    }
}

const NO_WIRE: BackendError = BackendError::Misuse("a mask of a node that makes no wire");

/// The rows that `taken` says, of tiles that stand at `tiles`: where they stand together.
pub(super) fn gathered(
    lane: &mut Lane,
    program: &Program,
    taken: &Taken,
    tiles: &[u64],
) -> Result<u64, BackendError> {
    let node = program.node(taken.wire);
    let row_bytes = 8 * node.shape().cols() as usize;
    let start_of = |tile: u32| node.cut().rows(tile).start;
    if let [only] = tiles {
        return Ok(only + ((taken.rows.start - start_of(taken.tiles.start)) as usize * row_bytes) as u64);
    }
    let to = lane.words(program.taken_elems(taken))?;
    let mut end = to;
    for (tile, from) in taken.tiles.clone().zip(tiles) {
        let rows = node.cut().rows(tile);
        let (first, last) = (rows.start.max(taken.rows.start), rows.end.min(taken.rows.end));
        let bytes = (last - first) as usize * row_bytes;
        // SAFETY: the rows are the tile's, and the room is for all of them, in order.
        unsafe { lane.copy(from + ((first - rows.start) as usize * row_bytes) as u64, end, bytes) }?;
        end += bytes as u64;
    }
    Ok(to)
}

/// The node whose wire is number `index` of those that `part` takes, and the same tile of it.
pub(super) fn taken_part(program: &Program, part: Part, index: usize) -> Part {
    let node: NodeId = program.node(part.node).inputs()[index];
    Part { node, ..part }
}
