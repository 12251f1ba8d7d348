//! `row exponent`: of each row of scores x a number k near log2 of the sum of 2^(x / 2), times two. Softmax takes it in place
//! of the row's maximum. Two rounds.
//!
//! A rotation ([`crate::rotation`]) of x / 2 makes shares of the exponentials modulo M = 2^(m/2) - 1. The parties open their
//! sum v under a mask r that is uniform modulo M. They compare v_hat = v + r with powers of two by one comparison key
//! ([`crate::dcf`]). The number of powers that v reaches is opened under a fresh mask. Bounds and proof:
//! `docs/protocols/exponential.md#row-exponent`.

mod evaluation;
pub mod powers;
mod scores;

pub(super) use evaluation::stage;
pub use scores::Scores;

use zeroize::Zeroizing;

use super::{OpDef, exp2::check_scores, fields::seeded, host::DealHost, only};
use crate::{
    BackendError, Counts, DealJob, Field, KeyShape, NodeCost, Part, Party, Ring, SecretBytes, Segment, Side,
    Source, TensorShape, Width, Wire,
    dcf::{self, BLOCK_BYTES, Dealt, Payload},
    layout::{Extent, FieldId},
    rotation::{self, FRACTION, Rotation, mersenne::Number},
};

/// Shared: beta modulo M, for each score.
pub const BETA: FieldId = FieldId(0);
/// Own: share of r, the mask of a row's sum.
pub const SUM_MASK: FieldId = FieldId(1);
/// Own: root of this party's tree, whose point is r.
pub const ROOT: FieldId = FieldId(2);
/// Common: the tree's words, level after level.
pub const NODE_CW: FieldId = FieldId(3);
/// Common: the words of its payload 1, level after level.
pub const COUNT_CW: FieldId = FieldId(4);

/// The m that there are.
pub const MODULI: [u16; 4] = [128, 256, 512, 1024];

/// P of the mantissas.
pub const PRECISION: u32 = 6;

/// Bits of the exponent's wire for m: it counts modulo m / 2.
pub(super) const fn exponent_bits(bits: u16) -> u8 {
    bits.trailing_zeros() as u8 - 1
}

/// Runs `$body` with the number of words of a number of `$bits` bits as a constant.
macro_rules! words {
    ($bits:expr => $words:ident, $body:expr) => {
        match $bits {
            64 => {
                const $words: usize = 1;
                $body
            }
            128 => {
                const $words: usize = 2;
                $body
            }
            256 => {
                const $words: usize = 4;
                $body
            }
            512 => {
                const $words: usize = 8;
                $body
            }
            1024 => {
                const $words: usize = 16;
                $body
            }
            _ => unreachable!("no other number of bits was taken"),
        }
    };
}
pub(super) use words;

/// k of each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowExponent {
    scores: Scores,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

impl RowExponent {
    /// For `scores`.
    ///
    /// # Errors
    /// When numbers modulo 2^m - 1 do not hold them, in words.
    pub fn new(scores: Scores) -> Result<Self, String> {
        scores.check()?;
        let (sum_bytes, levels) = ((scores.sum_bits() / 8) as u16, scores.levels() as u16);
        let of_row = |name, source, width| Field::new(name, source, Width::Bytes(width));
        let fields = [
            of_row("beta", Source::Shared, sum_bytes).over(Extent::Taken),
            of_row("sum_mask", Source::Own, sum_bytes),
            of_row("root", Source::Own, BLOCK_BYTES as u16),
            of_row("node_cw", Source::Common, BLOCK_BYTES as u16 * levels),
            of_row("count_cw", Source::Common, scores.count_bytes() as u16 * levels),
        ];
        let sum = vec![Segment::new("sum_hat", 64); scores.sum_bits() / 64];
        let exponent = vec![Segment::new("k_hat", exponent_bits(scores.bits))];
        Ok(Self { scores, key_shape: KeyShape::new(false, fields), exchanges: vec![sum, exponent] })
    }

    /// What is known of the scores.
    #[must_use]
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// How the exponentials are made.
    #[must_use]
    pub fn rotation(&self) -> Rotation {
        let bits = self.scores.sum_bits() as u32;
        Rotation { bits, fraction: FRACTION, precision: PRECISION, offset: self.scores.offset() }
    }

    /// The ring of the wire that it makes.
    #[must_use]
    pub fn to(&self) -> Ring {
        Ring::new(exponent_bits(self.scores.bits))
    }

    /// Bits that are dropped of a score of `frac` fractional bits: then its 12 lowest are the fraction of its half.
    #[must_use]
    pub fn dropped(frac: u8) -> u32 {
        u32::from(frac) - FRACTION + 1
    }

    /// Calls of AES with which a party compares `sums` with the powers of two: [`Number`]s of canonical words, one after another.
    #[must_use]
    pub fn tree_calls(&self, sums: Vec<u64>) -> u64 {
        let bits = self.scores.sum_bits();
        let rows = sums.len() / (bits / 64);
        let powers = powers::Powers::new(bits, sums, self.scores.thresholds());
        match self.scores.count_bytes() {
            1 => dcf::calls::<u8>(&powers, rows, self.scores.levels()),
            _ => dcf::calls::<u16>(&powers, rows, self.scores.levels()),
        }
    }

    /// Both parties' keys of a tile.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        words!(self.scores.sum_bits() => L, match self.scores.count_bytes() {
            1 => self.deal_in::<L, u8>(job, host, 1),
            _ => self.deal_in::<L, u16>(job, host, 1),
        })
    }

    fn deal_in<const L: usize, C: Payload>(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
        one: C,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let (shape, counts) = (job.key_shape(), job.counts());
        let wire = job.node().inputs()[0];
        let frac = job.program.node(wire).wire().expect("it was checked").frac;
        let masks = host.mask(Part { node: wire, ..job.part })?;
        let mut beta = host.field(seeded(job), BETA, shape.field(BETA).bytes(counts))?;
        let dropped = masks.iter().map(|mask| mask >> Self::dropped(frac));
        rotation::deal::<u64, L>(&self.rotation(), dropped, &mut beta);

        let own = |id: FieldId| {
            let bytes = shape.field(id).bytes(counts);
            Ok::<_, BackendError>([host.field(Party::P0, id, bytes)?, host.field(Party::P1, id, bytes)?])
        };
        let [mine, theirs] = own(SUM_MASK)?;
        let mut points = Zeroizing::new(Vec::with_capacity(L * counts.elems));
        let of_row = Number::<u64, L>::BYTES;
        for (mine, theirs) in mine.chunks_exact(of_row).zip(theirs.chunks_exact(of_row)) {
            let sum = Number::<u64, L>::read(mine).plus(Number::read(theirs)).canonical();
            points.extend_from_slice(&sum.0);
        }
        let roots = own(ROOT)?;

        let mut explicit = SecretBytes::zeroed(shape.tile_bytes(Side::Explicit, counts));
        let (shares, words) = explicit.expose_mut().split_at_mut(beta.len());
        shares.copy_from_slice(&beta);
        let (nodes, payloads) = words.split_at_mut(shape.field(NODE_CW).bytes(counts));
        dcf::deal(
            &*host.loops().tree_hash(&job.domain().fixed_keys()),
            (self.scores.levels(), self.scores.sum_bits()),
            roots.each_ref().map(|roots| &roots[..]),
            &points,
            &vec![one; counts.elems],
            &mut Dealt { nodes, payloads },
        );
        let common = SecretBytes::new(explicit.expose()[beta.len()..].to_vec());
        Ok(match seeded(job) {
            Party::P0 => [common, explicit],
            Party::P1 => [explicit, common],
        })
    }
}

impl OpDef for RowExponent {
    fn name(&self) -> String {
        format!("row exponent {}", self.scores.bits)
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let wire = only(inputs)?;
        check_scores(&wire, self.scores.bits)?;
        if wire.shape.cols() != self.scores.cols {
            return Err(format!("it takes rows of {} scores, not {wire}", self.scores.cols));
        }
        let half = 1i64 << (wire.ring.bits() - wire.frac - 1).min(32);
        if i64::from(self.scores.low) < -half || i64::from(self.scores.high) >= half {
            return Err(format!("{wire} does not hold {} to {}", self.scores.low, self.scores.high));
        }
        Ok(TensorShape::new(wire.shape.rows(), 1).map(|shape| Wire::fresh(shape, self.to(), 0)))
    }

    fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let (rows, sum_bits) = (size.elems as u64, self.scores.sum_bits() as u64);
        let of_level = 8 * (BLOCK_BYTES + self.scores.count_bytes()) as u64;
        let seeded_key_bits = rows * of_level * self.scores.levels() as u64;
        NodeCost {
            rounds: 2,
            bits: rows * (sum_bits + u64::from(self.to().bits())),
            seeded_key_bits,
            explicit_key_bits: seeded_key_bits + sum_bits * size.taken as u64,
        }
    }
}
