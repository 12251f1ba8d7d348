//! Masks of wires in the host's memory, and the streams that they and openings are made of. The GPU expands the streams; what
//! is computed from them for operations without kernels of their own is the host's.

use std::collections::{BTreeMap, BTreeSet};

use suf_gate::{
    BackendError, Mask, NodeId, Part, Program, Ring, Seed, Wire,
    ops::{self, Entry, MaskCache, host::Plain},
    prg::{Domain, MASK, StreamKey},
    ring::WIRE,
};
use zeroize::Zeroizing;

use crate::{
    backend::{Shared, put_streams},
    layout::{Expansion, Layout, MAX_STREAMS, TABLE_BYTES},
    opening::PACKED,
};

/// Whether the mask of a gate's wire is just what its streams expand to, [`PACKED`] bytes for each element.
pub(crate) fn is_stream(wire: &Wire, entry: Entry) -> bool {
    wire.mask == Mask::Fresh && wire.ring == WIRE && entry == Entry::WHOLE
}

/// Writes the mask of each element as a gate takes it.
pub(crate) fn pack(entry: Entry, masks: &[u64], to: &mut [u8]) {
    for (to, mask) in to.chunks_exact_mut(PACKED).zip(masks) {
        to.copy_from_slice(&entry.mask(*mask).to_le_bytes()[..PACKED]);
    }
}

impl Shared {
    /// The first bytes of streams: of each, as many as stand beside it.
    pub(crate) fn expand_to_host(
        &self,
        wanted: &[(StreamKey, usize)],
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, BackendError> {
        let mut expanded = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(MAX_STREAMS) {
            let mut layout = Layout::from(TABLE_BYTES);
            let streams = wanted.iter().map(|(key, bytes)| Expansion {
                key: key.clone(),
                to: layout.take(*bytes),
                bytes: *bytes,
            });
            let streams: Vec<_> = streams.collect();
            let lengths: Vec<_> = streams.iter().map(|stream| stream.bytes).collect();
            let mut slot = self.memory.slot(layout.end(), layout.end())?;
            put_streams(slot.at(0), slot.pinned.bytes_mut(), &streams)?;
            // SAFETY: the table is not written again, and the streams' places are read after the wait.
            unsafe {
                slot.upload(0, 0, TABLE_BYTES)?;
                self.expand(slot.at(0), slot.stream(), &lengths)?;
                slot.download(TABLE_BYTES, TABLE_BYTES, layout.end() - TABLE_BYTES)?;
            }
            slot.stream().wait()?;
            let bytes =
                |stream: &Expansion| slot.pinned.bytes()[stream.to..stream.to + stream.bytes].to_vec();
            expanded.extend(streams.iter().map(bytes).map(Zeroizing::new));
        }
        Ok(expanded)
    }

    /// A tile of the mask of `wire`, as far as `seeds` make it: the sum of their owners' shares. `domain` is that of any part with
    /// this tile. The masks of `cache` are of the same seeds.
    pub(crate) fn mask(
        &self,
        program: &Program,
        domain: Domain<'_>,
        wire: NodeId,
        seeds: &[&Seed],
        cache: Option<&MaskCache>,
    ) -> Result<Zeroizing<Vec<u64>>, BackendError> {
        let mut sources = BTreeSet::new();
        fresh_masks(program, wire, &mut BTreeSet::new(), &mut sources);
        let mut wanted = Vec::with_capacity(sources.len() * seeds.len());
        for source in &sources {
            let part = Part { node: *source, ..domain.part };
            let bytes = width(ring(program, *source)) * program.elems(part);
            let stream = |seed: &&Seed| (Domain { part, ..domain }.stream(seed, MASK), bytes);
            wanted.extend(seeds.iter().map(stream));
        }
        let streams = self.expand_to_host(&wanted)?;
        let sums = sources.into_iter().zip(streams.chunks(seeds.len())).map(|(source, shares)| {
            let ring = ring(program, source);
            let elems = shares.first().map_or(0, |share| share.len() / width(ring));
            let mut sums = Zeroizing::new(vec![0; elems]);
            for share in shares {
                let words = share.chunks_exact(width(ring)).map(number);
                sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = ring.add(*sum, word));
            }
            (source, sums)
        });
        let sums: BTreeMap<_, _> = sums.collect();
        let part = Part { node: wire, ..domain.part };
        Ok(Zeroizing::new(ops::mask(program, part, &Plain, cache, &|source| sums[&source].to_vec())))
    }
}

/// The wires with fresh masks of which the mask of `wire` is a function.
fn fresh_masks(program: &Program, wire: NodeId, seen: &mut BTreeSet<NodeId>, fresh: &mut BTreeSet<NodeId>) {
    if !seen.insert(wire) {
        return;
    }
    let node = program.node(wire);
    if node.wire().is_some_and(|wire| wire.mask == Mask::Fresh) {
        fresh.insert(wire);
    } else {
        node.inputs().iter().for_each(|input| fresh_masks(program, *input, seen, fresh));
    }
}

fn ring(program: &Program, wire: NodeId) -> Ring {
    program.node(wire).ring().expect("a wire with a mask has a ring")
}

/// Bytes of an element of a fresh mask in its stream.
fn width(ring: Ring) -> usize {
    usize::from(ring.bits().div_ceil(8))
}

/// A number of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
