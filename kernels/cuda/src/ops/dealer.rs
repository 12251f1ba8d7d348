//! Keys of operations on whole wires, made on the GPU: shares of functions of masks.

use std::sync::Arc;

use suf_gate::{
    BackendError, DealJob, Party, SecretBytes, Side, Source, Taken, Width,
    layout::FieldId,
    ops::{self, Op},
};

use super::{
    dealt_rows,
    lane::Lane,
    masks::Masks,
    private, round,
    tasks::{How, Pad, PadOf, ScaleMasks},
};
use crate::{backend::Shared, memory::Pinned};

/// Both parties' keys of a part; none where the host makes them.
pub(crate) fn deal(
    shared: &Arc<Shared>,
    job: &DealJob<'_>,
) -> Option<Result<[SecretBytes; 2], BackendError>> {
    if matches!(job.node().op(), Op::Exp2(_) | Op::RowExponent(_) | Op::Spline(_)) {
        return Some(dealt_rows::deal(shared, job));
    }
    let is_dealt = match job.node().op() {
        Op::Open(_) | Op::Pads(_) => job.node().is_keyed(),
        Op::Product(_) | Op::Scale(_) | Op::SquareSum(_) | Op::Private(_) => true,
        _ => false,
    };
    is_dealt.then(|| {
        let mut dealing = Dealing { lane: Lane::new(shared)?, job, made: Vec::new() };
        let values = dealing.values()?;
        dealing.share(&values)?;
        dealing.finish()
    })
}

struct Dealing<'a> {
    lane: Lane,
    job: &'a DealJob<'a>,
    /// The explicit side's fields, whole after a wait, and their bytes.
    made: Vec<(Pinned, usize)>,
}

impl Dealing<'_> {
    /// Queues the numbers that are shared, field by field: where they stand, as words.
    fn values(&mut self) -> Result<Vec<u64>, BackendError> {
        let Self { lane, job, .. } = self;
        let (program, elems) = (job.program, job.elems());
        let seeds = job.party_seeds.iter().collect();
        let mut masks = Masks::new(program, job.domain(), seeds);
        let taken: Vec<Taken> = program.taken(job.part).collect();
        let first_row = job.node().cut().rows(job.part.tile).start;
        let cols = job.node().shape().cols();
        let mut mask = |lane: &mut Lane, index: usize| masks.taken(lane, &taken[index]);
        let values = match job.node().op() {
            Op::Open(op) => {
                let r = mask(lane, 0)?;
                let from = ops::Extended { ring: op.from(), drop: op.dropped() };
                let mut pads = vec![(PadOf::Quotient, op.to().bits())];
                if op.has_wrap() {
                    pads.push((PadOf::Top, op.to().bits() - op.kept()));
                }
                let of = |lane: &mut Lane, (of, to)| pad(lane, (r, elems), of, from, to);
                pads.into_iter().map(|wanted| of(lane, wanted)).collect::<Result<_, _>>()?
            }
            Op::Pads(op) => {
                let r = mask(lane, 0)?;
                let ops::Pad { of, from, to } = *op.pad();
                vec![pad(lane, (r, elems), of.into(), from, to.bits())?]
            }
            Op::Product(op) => {
                let factors = [mask(lane, 0)?, mask(lane, 1)?];
                let out = lane.words(elems)?;
                let width = program.node(job.node().inputs()[1]).shape().cols();
                let task = round::product(op, out, factors, (elems as u32, cols, width, first_row));
                // SAFETY: the masks are those of what the part reads, and there is room for what it makes.
                unsafe { lane.start(&task) }?;
                vec![out]
            }
            Op::Private(op) => {
                let wires = op.terms().iter().filter(|term| term.left().is_some()).count();
                let factors = (0..wires).map(|wire| mask(lane, wire)).collect::<Result<Vec<_>, _>>()?;
                let out = lane.words(elems)?;
                // SAFETY: as above.
                unsafe { private::products(lane, job, op, out, &factors) }?;
                vec![out]
            }
            Op::Scale(op) => {
                let factors = [mask(lane, 0)?, mask(lane, 1)?];
                let mut made = Vec::new();
                for (what, field) in (0..).zip(op_fields(job)) {
                    let out = lane.words(elems)?;
                    let mut task = round::scale(op, out, factors, (elems as u32, cols, first_row));
                    (task.what, task.ring) = (what, field.into());
                    // SAFETY: as above.
                    unsafe { lane.start(&ScaleMasks(task)) }?;
                    made.push(out);
                }
                made
            }
            Op::SquareSum(op) => {
                let r = mask(lane, 0)?;
                let out = lane.words(elems)?;
                let cols = program.node(job.node().inputs()[0]).shape().cols();
                // SAFETY: as above; a word for each row.
                unsafe { lane.start(&round::squares(op, out, r, (elems as u32, cols))) }?;
                vec![out]
            }
            _ => return Err(BackendError::Misuse("keys that the host makes")),
        };
        Ok(values)
    }

    /// Queues the explicit side's shares of the numbers at `values`, field by field, and their packing.
    fn share(&mut self, values: &[u64]) -> Result<(), BackendError> {
        let Self { lane, job, made } = self;
        let seed = &job.party_seeds[seeded(job).index()];
        let fields = job.key_shape().fields();
        if fields.len() != values.len() {
            return Err(BackendError::Misuse("another number of fields than the key's"));
        }
        let sizes: Vec<_> =
            fields.iter().map(|field| (field.entries(job.counts()), field.bytes(job.counts()))).collect();
        let wanted =
            (0..).zip(&sizes).map(|(id, (_, bytes))| (job.domain().stream(seed, FieldId(id)), *bytes));
        let streams = lane.expand(&wanted.collect::<Vec<_>>())?;
        for (((value, stream), bits), (entries, bytes)) in
            values.iter().zip(streams).zip(op_fields(job)).zip(sizes)
        {
            // SAFETY: a word for each entry, and a stream of as many.
            unsafe {
                lane.unpack((*value, How::Subtract), stream, (bits, bits), entries)?;
                made.push((lane.pack(*value, bits, entries)?, bytes));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<[SecretBytes; 2], BackendError> {
        let Self { mut lane, job, made } = self;
        lane.wait()?;
        let mut explicit = SecretBytes::zeroed(job.key_shape().tile_bytes(Side::Explicit, job.counts()));
        let mut rest = explicit.expose_mut();
        for (field, bytes) in &made {
            let (place, after) = rest.split_at_mut(*bytes);
            place.copy_from_slice(&field.bytes()[..*bytes]);
            rest = after;
        }
        Ok(match seeded(job) {
            Party::P0 => [SecretBytes::default(), explicit],
            Party::P1 => [explicit, SecretBytes::default()],
        })
    }
}

/// Queues a function of masks.
fn pad(
    lane: &mut Lane,
    (r, elems): (u64, usize),
    of: PadOf,
    from: ops::Extended,
    to: u8,
) -> Result<u64, BackendError> {
    let out = lane.words(elems)?;
    // SAFETY: as many masks, and room for as many words.
    unsafe { lane.start(&Pad { out, r, elems: elems as u32, of, from: from.into(), to: to.into() }) }?;
    Ok(out)
}

/// Bits of an entry of each field.
fn op_fields<'a>(job: &'a DealJob<'_>) -> impl Iterator<Item = u8> + use<'a> {
    job.key_shape().fields().iter().map(|field| match (field.source, field.width) {
        (Source::Shared, Width::Packed(bits)) => bits,
        _ => unreachable!("numbers are shared and packed"),
    })
}

/// The party that expands its side of the shared fields.
pub(super) fn seeded(job: &DealJob<'_>) -> Party {
    match job.side(Party::P0) {
        Side::Seeded => Party::P0,
        Side::Explicit => Party::P1,
    }
}
