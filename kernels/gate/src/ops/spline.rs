//! `spline`: a piecewise linear function of one value or more in each row, on pieces that grow with the value. One round.
//!
//! Let x = x_hat - r. One comparison key ([`crate::dcf`]) has the payload (1, r). It gives shares of 1[x < a] and of
//! r 1[x < a] for all ends a of pieces. So the sum over the pieces of (slope x + offset) 1[x in the piece] is linear
//! in shares. It is opened under a fresh mask. Formulas: `docs/protocols/spline.md`. The payload is from Boyle et al.,
//! EUROCRYPT 2021.

mod evaluation;
mod pieces;
mod points;

use zeroize::Zeroizing;

pub(super) use evaluation::stage;
pub use pieces::{Function, Piece, PieceError, Pieces, cut_of};

use super::{OpDef, host::DealHost, only};
use crate::{
    BackendError, Counts, DealJob, Field, Form, KeyShape, NodeCost, Part, Party, Ring, SecretBytes, Segment,
    Source, Width, Wire,
    dcf::{self, BLOCK_BYTES, Dealt},
    layout::FieldId,
    wire::Mask,
};

/// Own: root of this party's tree, whose point is the part of r that is compared.
pub const ROOT: FieldId = FieldId(0);
/// Common: the tree's words, level after level.
pub const NODE_CW: FieldId = FieldId(1);
/// Common: the words of its payload (1, r), level after level.
pub const LINE_CW: FieldId = FieldId(2);

/// Bytes of a payload (1, r).
const PAYLOAD_BYTES: usize = 16;

/// A piecewise linear function of each element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spline {
    ring: Ring,
    frac: u8,
    to_frac: u8,
    pieces: Pieces,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

impl Spline {
    /// `function` of a wire of the ring `ring` with `frac` fractional bits, for numbers from `low` to less than `high` in units of
    /// 2^-`frac`. The result is in the same ring, with `to_frac` fractional bits.
    ///
    /// # Errors
    /// When the bounds are none, or the ring does not hold the function's values, in words.
    pub fn new(
        function: Function,
        ring: Ring,
        frac: u8,
        to_frac: u8,
        low: u64,
        high: u64,
    ) -> Result<Self, PieceError> {
        if frac >= ring.bits() || to_frac >= ring.bits() {
            return Err(PieceError("fewer bits than the ring's are fractional"));
        }
        let pieces = Pieces::new(function, ring, (frac, to_frac), low, high)?;
        let levels = pieces.compared_bits() as u16;
        let fields = [
            Field::new("root", Source::Own, Width::Bytes(BLOCK_BYTES as u16)),
            Field::new("node_cw", Source::Common, Width::Bytes(BLOCK_BYTES as u16 * levels)),
            Field::new("line_cw", Source::Common, Width::Bytes(PAYLOAD_BYTES as u16 * levels)),
        ];
        let exchanges = vec![vec![Segment::new("y_hat", ring.bits())]];
        Ok(Self { ring, frac, to_frac, pieces, key_shape: KeyShape::new(false, fields), exchanges })
    }

    /// The ring of both wires.
    #[must_use]
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// Fractional bits of the wire that it takes.
    #[must_use]
    pub fn frac(&self) -> u8 {
        self.frac
    }

    /// Fractional bits of the wire that it makes.
    #[must_use]
    pub fn to_frac(&self) -> u8 {
        self.to_frac
    }

    /// The function and its pieces.
    #[must_use]
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Calls of AES with which a party compares `values`, x_hat of some elements, with the ends of all pieces.
    #[must_use]
    pub fn tree_calls(&self, values: &[u64]) -> u64 {
        let ends = points::Ends::new(&self.pieces, values);
        dcf::calls::<[u64; 2]>(&ends, values.len(), self.pieces.compared_bits())
    }

    /// Both parties' keys of a tile.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let (shape, counts) = (job.key_shape(), job.counts());
        let masks = host.mask(Part { node: job.node().inputs()[0], ..job.part })?;
        let points = Zeroizing::new(masks.iter().map(|mask| self.pieces.compared(*mask)).collect::<Vec<_>>());
        let payloads = Zeroizing::new(masks.iter().map(|mask| [1, *mask]).collect::<Vec<_>>());
        let bytes = shape.field(ROOT).bytes(counts);
        let roots = [host.field(Party::P0, ROOT, bytes)?, host.field(Party::P1, ROOT, bytes)?];
        let mut key = SecretBytes::zeroed(shape.tile_bytes(job.side(Party::P0), counts));
        let (nodes, words) = key.expose_mut().split_at_mut(shape.field(NODE_CW).bytes(counts));
        let levels = self.pieces.compared_bits();
        dcf::deal(
            &*host.loops().tree_hash(&job.domain().fixed_keys()),
            (levels, levels),
            roots.each_ref().map(|roots| &roots[..]),
            &points,
            &payloads,
            &mut Dealt { nodes, payloads: words },
        );
        Ok([key.clone(), key])
    }
}

impl OpDef for Spline {
    fn name(&self) -> String {
        format!("spline {}", self.pieces.function())
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        if (wire.form, wire.ring, wire.frac) != (Form::Masked, self.ring, self.frac) {
            let (bits, frac) = (self.ring.bits(), self.frac);
            return Err(format!(
                "it takes a masked wire of {bits} bits, {frac} of them fractional, not {wire}"
            ));
        }
        if wire.mask == Mask::Dropped {
            return Err("it takes no wire whose mask the dealer alone knows: put `open` before it".into());
        }
        Ok(Some(Wire::fresh(wire.shape, self.ring, self.to_frac)))
    }

    fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let all = |bits: usize| (bits * size.elems) as u64;
        let key_bits = all(8 * (BLOCK_BYTES + PAYLOAD_BYTES) * self.pieces.compared_bits());
        NodeCost {
            rounds: 1,
            bits: all(self.ring.bits().into()),
            seeded_key_bits: key_bits,
            explicit_key_bits: key_bits,
        }
    }
}
