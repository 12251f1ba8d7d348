//! Where a tile's bytes stand on the GPU, and the parameters of the kernels.
//!
//! A delivered key has no padding between its fields. On the GPU every field starts at a multiple of [`ALIGN`], so that
//! it can be read in wide words. A full tile's fields are multiples of that anyway, and are copied in one piece.

use std::ops::Range;

use suf_gate::{
    KeyShape, Part, Party, Program, Segment, Side, Source,
    layout::FieldId,
    prg::{FixedKeys, StreamKey},
};

use crate::cipher::{self, RoundKeys};

/// Most fields of a gate's key.
pub(crate) const FIELDS: usize = 32;

/// Most numbers per element that an evaluation keeps from one exchange to the next.
pub(crate) const STATES: usize = 8;

/// Most segments of a message.
pub(crate) const SEGMENTS: usize = 32;

/// Most streams that a tile is expanded from: their round keys fit a block's shared memory beside the cipher's table.
pub(crate) const MAX_STREAMS: usize = 64;

/// So many streams stand in a kernel's parameter, and no table is copied to the GPU.
pub(crate) const FEW_STREAMS: usize = 8;

/// Alignment of everything on the GPU: a block of the cipher, and the widest access.
pub(crate) const ALIGN: usize = 16;

/// What a kernel works on: the parameter of every kernel but the expansion of streams. `cu/prelude.cuh` has the same
/// structure; addresses are the GPU's. No member needs padding before it.
#[repr(C)]
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Elements of the tile.
    pub(crate) elems: u32,
    /// Bytes of a plane of a key.
    pub(crate) plane_bytes: u32,
    /// The evaluating party.
    pub(crate) party: u32,
    /// The party that expands its side of the shared fields.
    pub(crate) seeded: u32,
    /// The exchange, counted from 0.
    pub(crate) exchange: u32,
    /// A bit for each segment of the message in the making: whether it is one of single bits.
    pub(crate) bits: u32,
    /// The parties' fields when dealing; in evaluation those of the evaluating party, in the first row.
    pub(crate) key: [[u64; FIELDS]; 2],
    /// The dealer's streams.
    pub(crate) dealer: [u64; FIELDS],
    /// Shares of the mask of the wire that the node takes: both parties' when dealing, else the evaluating party's, first.
    pub(crate) taken: [u64; 2],
    /// The same for the wire that it makes.
    pub(crate) made: [u64; 2],
    /// The field of an extended wire's wraps, which the gate's kernels have no number for: the explicit side's when dealing, else the
    /// evaluating party's. 0 if the wire is not extended.
    pub(crate) wrap: u64,
    /// The highest bit of the mask of each element of an extended wire, a byte each, when dealing.
    pub(crate) tops: u64,
    /// Bits that are kept of an extended wire.
    pub(crate) kept: u64,
    /// The tile's keys of the nodes of its trees.
    pub(crate) node_keys: RoundKeys,
    /// Those of the leaves.
    pub(crate) leaf_keys: RoundKeys,
    /// x_hat or a party's shares of x, a word for each element. Of an extended wire bit 63 says whether wraps count; bits from the
    /// ring's on mean nothing else.
    pub(crate) input: u64,
    /// What an evaluation keeps, a word for each element.
    pub(crate) state: [u64; STATES],
    /// Segments of the message in the making, in the slot.
    pub(crate) out: [u64; SEGMENTS],
    /// The same in the host's memory.
    pub(crate) sent: [u64; SEGMENTS],
    /// Those of this party's message of the exchange before.
    pub(crate) mine: [u64; SEGMENTS],
    /// Those of the peer's.
    pub(crate) theirs: [u64; SEGMENTS],
    /// Blocks of the exchange's kernel that have ended, in the slot; zero between kernels.
    pub(crate) ended: u64,
    /// What the kernel tells the host, [`crate::completion::Completion`], in the host's memory.
    pub(crate) completion: u64,
}

impl Job {
    /// For a part of `program`, whose trees have `keys`; no place is known yet.
    pub(crate) fn new(program: &Program, part: Part, keys: FixedKeys) -> Self {
        let elems = program.elems(part);
        let seeded = match program.side(Party::P0, part) {
            Side::Seeded => Party::P0,
            Side::Explicit => Party::P1,
        };
        Self {
            elems: elems as u32,
            plane_bytes: elems.div_ceil(8) as u32,
            party: 0,
            seeded: seeded.index() as u32,
            exchange: 0,
            bits: 0,
            key: Default::default(),
            dealer: Default::default(),
            taken: Default::default(),
            made: Default::default(),
            wrap: 0,
            tops: 0,
            kept: 0,
            node_keys: cipher::expand(keys.node),
            leaf_keys: cipher::expand(keys.leaf),
            input: 0,
            state: Default::default(),
            out: Default::default(),
            sent: Default::default(),
            mine: Default::default(),
            theirs: Default::default(),
            ended: 0,
            completion: 0,
        }
    }
}

/// One stream to be expanded: an element of the table that the kernel `streams` reads.
#[derive(Clone, Debug)]
pub(crate) struct Expansion {
    /// The cipher's key, and the nonce.
    pub(crate) key: StreamKey,
    /// Where the first block goes, from the start of the slot.
    pub(crate) to: usize,
    /// Bytes wanted; whole blocks are written.
    pub(crate) bytes: usize,
}

/// Bytes of an element of the table of streams: key, nonce, address, first span, blocks.
pub(crate) const STREAM_BYTES: usize = 48;

/// Bytes of the whole table.
pub(crate) const TABLE_BYTES: usize = STREAM_BYTES * MAX_STREAMS;

/// Bytes at the start of an evaluation's slot that are uploaded with the key: the table, and [`Job::ended`], which that sets
/// to zero. Whole lines of memory, so that the fields behind begin with one.
pub(crate) const HEAD_BYTES: usize = TABLE_BYTES + 256;

/// A field's places: in the slot, and in the packed key if it is delivered.
#[derive(Clone, Debug)]
pub(crate) struct FieldPlace {
    /// Which field.
    pub(crate) id: FieldId,
    /// In the slot.
    pub(crate) at: usize,
    /// Its length in bytes.
    pub(crate) bytes: usize,
    /// In the packed key.
    pub(crate) packed: Option<Range<usize>>,
}

/// Hands out consecutive aligned places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    end: usize,
}

impl Layout {
    /// From byte `start` on.
    pub(crate) fn from(start: usize) -> Self {
        Self { end: start.next_multiple_of(ALIGN) }
    }

    /// The next `bytes` bytes.
    pub(crate) fn take(&mut self, bytes: usize) -> usize {
        let at = self.end;
        self.end = (at + bytes).next_multiple_of(ALIGN);
        at
    }

    /// The end of everything handed out.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Places for the fields of one party: those delivered first, in the key's order, then the rest that it can expand.
    pub(crate) fn fields(
        &mut self,
        shape: &KeyShape,
        side: Side,
        elems: usize,
        seeded_too: bool,
    ) -> Vec<FieldPlace> {
        let mut places = Vec::with_capacity(shape.fields().len());
        for delivered in [true, false] {
            for (index, field) in shape.fields().iter().enumerate() {
                let id = FieldId(index as u16);
                let wanted = match field.source {
                    Source::Dealer | Source::Common => false,
                    Source::Own => true,
                    Source::Shared => seeded_too,
                };
                if shape.delivered(id, side) == delivered && (delivered || wanted) {
                    let bytes = field.width.bytes(elems);
                    places.push(FieldPlace {
                        id,
                        at: self.take(bytes),
                        bytes,
                        packed: shape.range(id, side, elems),
                    });
                }
            }
        }
        places
    }
}

/// Bytes that stand together on the GPU and in a packed key or message: where they start there, and their range here.
pub(crate) type Run = (usize, Range<usize>);

/// Neighbouring delivered fields joined where their places on the GPU follow each other as in the key.
pub(crate) fn runs(places: &[FieldPlace]) -> Vec<Run> {
    joined(places.iter().filter_map(|place| Some((place.at, place.packed.clone()?))))
}

fn joined(pieces: impl IntoIterator<Item = Run>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (at, range) in pieces {
        match runs.last_mut() {
            Some((start, run)) if run.end == range.start && *start + run.len() == at => run.end = range.end,
            _ => runs.push((at, range)),
        }
    }
    runs
}

/// How a kernel writes the message of an exchange: its segments aligned, as on the wire they are not.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Where each segment starts, from the message's start.
    pub(crate) segments: Vec<usize>,
    /// A bit for each segment: whether it is one of single bits.
    pub(crate) bits: u32,
    /// What stands together on the wire as well; all of a full tile's message does.
    pub(crate) runs: Vec<Run>,
    /// Bytes on the wire.
    pub(crate) bytes: usize,
    /// Bytes as written.
    pub(crate) room: usize,
}

impl Message {
    /// Of an exchange with these segments, of `elems` elements.
    pub(crate) fn new(segments: &[Segment], elems: usize) -> Self {
        let mut layout = Layout::from(0);
        let mut bytes = 0;
        let pieces = segments.iter().map(|segment| {
            let packed = bytes..bytes + segment.bytes(elems);
            bytes = packed.end;
            (layout.take(packed.len()), packed)
        });
        let pieces: Vec<Run> = pieces.collect();
        Self {
            segments: pieces.iter().map(|(at, _)| *at).collect(),
            bits: segments.iter().rev().fold(0, |bits, segment| bits << 1 | u32::from(segment.bits == 1)),
            runs: joined(pieces),
            bytes,
            room: layout.end(),
        }
    }

    /// Whether it is written as it stands on the wire.
    pub(crate) fn is_packed(&self) -> bool {
        self.runs.iter().all(|(at, range)| *at == range.start)
    }

    /// Moves what a kernel wrote to where it stands on the wire.
    pub(crate) fn pack(&self, written: &mut [u8]) {
        // Nothing moves up, hence nothing over what has not moved yet.
        for (at, range) in &self.runs {
            written.copy_within(*at..*at + range.len(), range.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::{TILE_ELEMS, catalog};

    use super::*;

    #[test]
    fn every_builtin_gate_fits() {
        for gate in catalog::builtin() {
            assert!(gate.key_shape().fields().len() <= FIELDS, "{}", gate.name());
            assert!(gate.exchanges().iter().all(|segments| segments.len() <= SEGMENTS), "{}", gate.name());
        }
    }

    #[test]
    fn a_full_tile_is_one_run() {
        for gate in catalog::builtin() {
            for side in [Side::Seeded, Side::Explicit] {
                let places = Layout::from(0).fields(gate.key_shape(), side, TILE_ELEMS, true);
                let bytes = gate.key_shape().tile_bytes(side, TILE_ELEMS);
                let whole: usize = runs(&places).iter().map(|(_, range)| range.len()).sum();
                assert_eq!(whole, bytes);
                assert!(runs(&places).len() <= 1, "{}", gate.name());
            }
            for (step, segments) in gate.exchanges().iter().enumerate() {
                let message = Message::new(segments, TILE_ELEMS);
                assert_eq!(message.runs, [(0, 0..message.bytes)], "{}, exchange {step}", gate.name());
                assert_eq!(message.bytes, gate.message_bytes(step, TILE_ELEMS));
                assert!(message.is_packed());
            }
        }
    }

    #[test]
    fn a_tails_message_is_packed() {
        for (gate, elems) in
            catalog::builtin().flat_map(|gate| [1, 9, 1001].map(|elems| (gate.clone(), elems)))
        {
            for (step, segments) in gate.exchanges().iter().enumerate() {
                let message = Message::new(segments, elems);
                let mut written = vec![0xFF; message.room];
                let mut packed = Vec::new();
                for (i, (segment, at)) in segments.iter().zip(&message.segments).enumerate() {
                    let bytes: Vec<u8> =
                        (0..segment.bytes(elems)).map(|byte| (31 * i + byte) as u8).collect();
                    written[*at..*at + bytes.len()].copy_from_slice(&bytes);
                    packed.extend(bytes);
                    assert_eq!(message.bits >> i & 1 == 1, segment.bits == 1);
                }
                assert_eq!(packed.len(), gate.message_bytes(step, elems));
                message.pack(&mut written);
                assert_eq!(written[..message.bytes], packed, "{}, exchange {step}", gate.name());
            }
        }
    }
}
