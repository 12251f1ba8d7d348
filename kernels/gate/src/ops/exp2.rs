//! `exp2`: 2^(x - k) of scores x and an exponent k for each row, as softmax's second exponential. One round.
//!
//! The mask of x - k is known to the dealer, so that a rotation ([`crate::rotation`]) makes shares of the exponential modulo
//! 2^m - 1. They are so much larger than the exponential that they wrap exactly once. So each party truncates its own, and
//! opens the result under a fresh mask. Proof and bounds: `docs/protocols/exponential.md`.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    Op, OpDef,
    fields::{FieldBytes, field_bytes, seeded},
    host::{DealHost, EvalHost},
    row_exponent::{MODULI, exponent_bits, words},
};
use crate::{
    BackendError, Cost, Counts, DealJob, EvalJob, Field, Form, HostValue, KeyBytes, KeyShape, NodeCost, Part,
    PartEval, Party, Ring, SecretBytes, Segment, Source, Span, StagedPart, Value, Width, Wire,
    layout::FieldId,
    packing,
    rotation::{self, FRACTION, Half, Rotation, mantissa},
};

/// Shared: beta modulo 2^m - 1.
pub const BETA: FieldId = FieldId(0);

/// P of the mantissas.
pub const PRECISION: u32 = 15;

/// The mantissas of all fractions.
static MANTISSAS: LazyLock<Vec<u16>> = LazyLock::new(|| mantissa::table(PRECISION, FRACTION));

/// m bits less than these are the offset of an exponent: what is left above 2^(x - k) < 2^2.05 is 64 bits of slack.
const HEADROOM: u32 = 97;

/// 2^(x - k), truncated and opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exp2 {
    bits: u16,
    to: Ring,
    frac: u8,
    key_shape: KeyShape,
    exchanges: Vec<Vec<Segment>>,
}

impl Exp2 {
    /// With shares modulo 2^`bits` - 1, opened in the ring `to` with `frac` fractional bits.
    ///
    /// # Errors
    /// When there is no such modulus, or the ring does not hold numbers below 2^3, in words.
    pub fn new(bits: u16, to: Ring, frac: u8) -> Result<Self, String> {
        if !MODULI.contains(&bits) {
            return Err(format!("m is one of {MODULI:?}, not {bits}"));
        }
        if frac > 30 || to.bits() < frac + 4 {
            return Err(format!("{} bits do not hold 2^x below 8 with {frac} fractional bits", to.bits()));
        }
        let fields = [Field::new("beta", Source::Shared, Width::Bytes(bits / 8))];
        let exchanges = vec![vec![Segment::new("e_hat", to.bits())]];
        Ok(Self { bits, to, frac, key_shape: KeyShape::new(false, fields), exchanges })
    }

    /// m.
    #[must_use]
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// The ring of the wire that it makes.
    #[must_use]
    pub fn to(&self) -> Ring {
        self.to
    }

    /// Fractional bits of the wire that it makes.
    #[must_use]
    pub fn frac(&self) -> u8 {
        self.frac
    }

    /// How the exponential is made.
    #[must_use]
    pub fn rotation(&self) -> Rotation {
        let bits = u32::from(self.bits);
        Rotation { bits, fraction: FRACTION, precision: PRECISION, offset: bits - HEADROOM }
    }

    /// d, the bits that are dropped of the exponential.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.rotation().offset + 2 * PRECISION - u32::from(self.frac)
    }

    /// Both parties' keys of a tile.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let masks = taken_masks(job, |part| host.mask(part))?;
        let bytes = job.key_shape().field(BETA).bytes(job.counts());
        let mut shares = host.field(seeded(job), BETA, bytes)?;
        let rotation = self.rotation();
        words!(self.bits => L, rotation::deal::<u64, L>(&rotation, masks.iter().copied(), &mut shares));
        let explicit = SecretBytes::new(std::mem::take(&mut *shares));
        Ok(match seeded(job) {
            Party::P0 => [SecretBytes::default(), explicit],
            Party::P1 => [explicit, SecretBytes::default()],
        })
    }
}

/// The masks of x - k in units of 2^-12, from those of both wires. More bits than an exponent has do not count.
fn taken_masks(
    job: &DealJob<'_>,
    mask: impl Fn(Part) -> Result<Zeroizing<Vec<u64>>, BackendError>,
) -> Result<Zeroizing<Vec<u64>>, BackendError> {
    let [scores, exponents] = job.node().inputs() else { unreachable!("it takes two wires") };
    let scores_wire = job.program.node(*scores).wire().expect("it was checked");
    let mut masks = mask(Part { node: *scores, ..job.part })?;
    let exponents = mask(Part { node: *exponents, ..job.part })?;
    minus_exponents(&mut masks, &exponents, scores_wire);
    Ok(masks)
}

/// Turns scores into x - k in units of 2^-12: values of the wires or their masks.
fn minus_exponents(scores: &mut [u64], exponents: &[u64], wire: &Wire) {
    let drop = u32::from(wire.frac) - FRACTION;
    for (row, exponent) in scores.chunks_exact_mut(wire.shape.cols() as usize).zip(exponents) {
        // The wire holds k / 2.
        let k = exponent << (FRACTION + 1);
        row.iter_mut().for_each(|x| *x = (*x >> drop).wrapping_sub(k));
    }
}

impl OpDef for Exp2 {
    fn name(&self) -> String {
        format!("exp2 {}", self.bits)
    }

    fn wire(&self, inputs: &[Wire]) -> Result<Option<Wire>, String> {
        let [scores, exponent] = inputs else {
            return Err(format!("it takes scores and their rows' exponents, not {} wires", inputs.len()));
        };
        check_scores(scores, self.bits)?;
        let due = (scores.shape.rows(), 1, exponent_bits(self.bits), 0);
        let is = (exponent.shape.rows(), exponent.shape.cols(), exponent.ring.bits(), exponent.frac);
        if exponent.form != Form::Masked || is != due {
            return Err(format!("it takes a masked exponent of {} bits for each row, not {exponent}", due.2));
        }
        Ok(Some(Wire::fresh(scores.shape, self.to, self.frac)))
    }

    fn key_shape(&self) -> &KeyShape {
        &self.key_shape
    }

    fn exchanges(&self) -> &[Vec<Segment>] {
        &self.exchanges
    }

    fn declared(&self, size: Counts) -> NodeCost {
        let bits = self.to.bits().into();
        Cost { rounds: 1, bits, seeded_key_bits: 0, explicit_key_bits: self.bits.into() }.times(size.elems)
    }
}

/// Whether a wire holds scores for exponentials modulo 2^`bits` - 1.
pub(super) fn check_scores(wire: &Wire, bits: u16) -> Result<(), String> {
    let most = wire.ring.bits().checked_sub(exponent_bits(bits) + 1);
    if wire.form == Form::Masked && most.is_some_and(|most| (FRACTION as u8 + 1..=most).contains(&wire.frac))
    {
        return Ok(());
    }
    Err(format!(
        "it takes a masked wire of at least {} fractional bits and {} more, not {wire}",
        FRACTION + 1,
        exponent_bits(bits) + 1
    ))
}

/// A tile at one party.
pub(super) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::Exp2(op) = job.node().op() else { unreachable!("asked of exponentials alone") };
    let (beta, mask) = (field_bytes(job, key, host, BETA)?, host.mask(job.part)?);
    Ok(Box::new(Evaluation { op: op.clone(), job: job.clone(), beta, mask, exponents: None }))
}

struct Evaluation {
    op: Exp2,
    job: EvalJob,
    beta: FieldBytes,
    /// This party's share of the mask of E, then of E under it.
    mask: Zeroizing<Vec<u64>>,
    /// x_hat - k_hat in units of 2^-12, until the message is made.
    exponents: Option<Vec<u64>>,
}

impl StagedPart for Evaluation {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        let Ok([mut scores, exponents]) = <[_; 2]>::try_from(self.job.inputs(inputs)?) else {
            return Err(BackendError::Misuse("another number of inputs than two"));
        };
        let wire = self.job.program.node(self.job.node().inputs()[0]).wire().expect("it was checked");
        minus_exponents(&mut scores, &exponents, wire);
        self.exponents = Some(scores);
        Ok(self)
    }
}

impl PartEval for Evaluation {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        let exponents = self.exponents.take().filter(|_| step == 0 && incoming.is_empty());
        let exponents = exponents.ok_or(BackendError::Misuse("exponentials are opened once"))?;
        let Self { op, job, beta, mask, .. } = self;
        let (rotation, dropped, ring) = (op.rotation(), op.dropped(), op.to);
        let half = match job.party {
            Party::P0 => Half::Upper,
            Party::P1 => Half::Lower,
        };
        let width = usize::from(op.bits / 8);
        let elements = beta.expose().chunks_exact(width).zip(exponents).zip(mask.iter_mut());
        words!(op.bits => L, elements.for_each(|((share, x_hat), sum)| {
            let e = rotation::truncated::<u64, L>(&rotation, &MANTISSAS, dropped, half, share, x_hat);
            *sum = ring.add(*sum, e);
        }));
        Ok(packing::pack(ring, mask).into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let ring = self.op.to;
        let due = packing::packed_bytes(ring, self.mask.len());
        if self.exponents.is_some() || self.mask.is_empty() || incoming.len() != due {
            return Err(BackendError::Misuse(
                "a message out of turn or of another length than the opening's",
            ));
        }
        // Opened, they are no secret any more.
        let mut opened = std::mem::take(&mut *self.mask);
        packing::add_packed(ring, incoming, &mut opened);
        Ok(HostValue::shared(opened))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        Vec::new()
    }

    fn is_prompt(&self) -> bool {
        false
    }
}
