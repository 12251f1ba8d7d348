//! A part of an operation on whole wires at one party.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use suf_gate::{
    Activity, BackendError, EvalJob, Form, KeyBytes, PartEval, Party, Ring, Source, Span, StagedPart, Value,
    Width, layout::FieldId, ops::Op, packing,
};

use super::{
    comparison::{self, LINE_BYTES, Table},
    lane::Lane,
    local,
    masks::{self, Masks},
    private, round, rows,
    tasks::How,
    value::DeviceValue,
};
use crate::backend::Shared;

/// A part whose key is on the GPU; none where the host evaluates it.
pub(crate) fn stage(
    shared: &Arc<Shared>,
    job: &EvalJob,
    key: &KeyBytes,
) -> Option<Result<Box<dyn StagedPart>, BackendError>> {
    // Its gate takes and makes values of the host's.
    if job.program.only_gate().is_some() {
        return None;
    }
    let staged = |part: Result<Part, BackendError>| part.map(|part| Box::new(part) as Box<dyn StagedPart>);
    let takes_keys = match job.node().op() {
        Op::Input(_) | Op::Output(_) => false,
        Op::Open(_)
        | Op::Pads(_)
        | Op::Product(_)
        | Op::Scale(_)
        | Op::SquareSum(_)
        | Op::Private(_)
        | Op::Exp2(_)
        | Op::Spline(_) => true,
        Op::RowExponent(op) => return Some(rows::stage(shared, job, op, key)),
        op if local::is_local(op) => false,
        _ => return None,
    };
    Some(staged(Part::new(shared, job, takes_keys.then_some(key))))
}

/// A part, from its key to its value.
struct Part {
    job: EvalJob,
    lane: Lane,
    /// Words of the key's fields.
    fields: Vec<u64>,
    /// Shares of the mask of what is made, or of what is taken by an output or by shares of a mask.
    mask: Option<u64>,
    /// Of a spline, shares of the mask of what it takes, and its public numbers.
    spline: Option<(u64, u64, Table)>,
    turn: Turn,
    spans: Vec<Span>,
}

/// What is due.
enum Turn {
    Inputs,
    /// The first message, or the value, which is queued.
    Made(DeviceValue),
    /// The peer's message.
    Sent(DeviceValue),
    Over,
}

pub(super) const OUT_OF_TURN: BackendError =
    BackendError::Misuse("a message out of turn or of another length than the operation's");

impl Part {
    /// Takes `key` to the GPU.
    fn new(shared: &Arc<Shared>, job: &EvalJob, key: Option<&KeyBytes>) -> Result<Self, BackendError> {
        let mut lane = Lane::new(shared)?;
        let fields = key.map_or_else(|| Ok(Vec::new()), |key| fields(&mut lane, job, key))?;
        let masked = match job.node().op() {
            Op::Output(_) => Some(masks::taken_part(&job.program, job.part, 0)),
            Op::Pads(op) if !op.is_dealt() => Some(masks::taken_part(&job.program, job.part, 0)),
            _ => job.opened().map(|_| job.part),
        };
        let mut all = Masks::new(&job.program, job.domain(), vec![&job.seed]);
        let mask = masked.map(|part| all.of(&mut lane, part)).transpose()?;
        let spline = match job.node().op() {
            Op::Spline(op) => {
                let table = Table::new(op);
                let taken = all.of(&mut lane, masks::taken_part(&job.program, job.part, 0))?;
                Some((taken, table.upload(&mut lane)?, table))
            }
            _ => None,
        };
        Ok(Self { job: job.clone(), lane, fields, mask, spline, turn: Turn::Inputs, spans: Vec::new() })
    }

    /// Queues the work on `inputs`, which makes words at `out`.
    fn make(&mut self, inputs: &[Arc<dyn Value>], out: u64) -> Result<(), BackendError> {
        let Self { job, lane, fields, mask, spline, .. } = self;
        let elems = job.elems();
        let ring = job.node().ring().or_else(|| job.program.node(job.node().inputs()[0]).ring());
        let bits = ring.ok_or(BackendError::Misuse("a part without a wire"))?.bits();
        match (job.node().op(), *mask) {
            (Op::Pads(_), _) => {
                let source = mask.or_else(|| fields.first().copied()).ok_or(OUT_OF_TURN)?;
                // SAFETY: the shares are as many words as the value has.
                unsafe { lane.reduce(out, source, bits, elems) }?;
            }
            (Op::Input(_), _) => {
                // SAFETY: the client's shares are as many as the value has elements.
                unsafe { place(lane, &inputs[0], out) }?;
            }
            (Op::Output(_), Some(mask)) => {
                let taken = addresses(lane, job, inputs)?;
                let x_hat = if job.party == Party::P0 { taken[0] } else { 0 };
                // SAFETY: as many words of each.
                unsafe { lane.minus(out, x_hat, mask, bits, elems) }?;
            }
            (Op::Open(open), _) if open.form() != Form::Masked => {
                let taken = addresses(lane, job, inputs)?;
                // SAFETY: the value has as many words as the wire that is opened.
                unsafe { lane.reduce(out, taken[0], bits, elems) }?;
            }
            (Op::Private(op), _) => {
                let taken = addresses(lane, job, inputs)?;
                let [products] = &fields[..] else { return Err(OUT_OF_TURN) };
                // SAFETY: the addresses are those of what the part takes, and as many words as it makes.
                unsafe { private::share(lane, job, op, (out, *products), &taken) }?;
            }
            (Op::Exp2(op), _) => {
                let taken = addresses(lane, job, inputs)?;
                let ([scores, exponents], [shares]) = (&taken[..], &fields[..]) else {
                    return Err(OUT_OF_TURN);
                };
                // SAFETY: the addresses are those of what the part takes, and of its key.
                unsafe {
                    comparison::share_exponentials(lane, job, op, out, [*scores, *exponents, *shares])
                }?;
            }
            (Op::Spline(op), _) => {
                let taken = addresses(lane, job, inputs)?;
                let (Some((mask, table, lines)), [root, nodes, payloads]) = (spline, &fields[..]) else {
                    return Err(OUT_OF_TURN);
                };
                let pieces = op.pieces();
                let keys = job.domain().fixed_keys();
                let size = (pieces.compared_bits(), LINE_BYTES);
                let trees = comparison::trees(&keys, [*root, 0], [*nodes, *payloads], size);
                let task = lines.lines(job, trees, [out, taken[0], *mask, *table], pieces.cut());
                // SAFETY: as above.
                unsafe { lane.start(&task) }?;
            }
            (op, _) => {
                let taken = addresses(lane, job, inputs)?;
                if local::is_local(op) {
                    let with_bias = form(job) == Form::Masked || job.party == Party::P0;
                    let place = (out, elems);
                    // SAFETY: the addresses are those of what the part takes.
                    unsafe { local::apply(lane, &job.program, job.part.node, &taken, place, with_bias) }?;
                } else {
                    // SAFETY: the same, and the fields are those of its key.
                    unsafe { round::share(lane, job, out, &taken, fields) }?;
                }
            }
        }
        if let (Some(ring), Some(mask)) = (job.opened(), *mask) {
            // SAFETY: as many words of each.
            unsafe { lane.plus(out, mask, ring.bits(), elems) }?;
        }
        Ok(())
    }

    /// Waits for what is queued, since `begun`.
    fn wait(&mut self, begun: Instant) -> Result<(), BackendError> {
        self.lane.wait()?;
        self.spans.push(Span { activity: Activity::Kernel, start: begun, end: Instant::now() });
        Ok(())
    }
}

impl StagedPart for Part {
    fn begin(mut self: Box<Self>, inputs: Vec<Arc<dyn Value>>) -> Result<Box<dyn PartEval>, BackendError> {
        self.lane.shared().device.bind()?;
        self.job.check_inputs(&inputs)?;
        let value = DeviceValue::room(self.lane.shared(), self.job.elems(), form(&self.job) != Form::Masked)?;
        let made = self.make(&inputs, value.address());
        if made.is_err() {
            // What was queued may use the value until then.
            let _ = self.lane.wait();
        }
        made?;
        self.turn = Turn::Made(value);
        Ok(self)
    }
}

impl PartEval for Part {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        let (Some(ring), 0, []) = (self.job.opened(), step, incoming) else { return Err(OUT_OF_TURN) };
        let Turn::Made(value) = std::mem::replace(&mut self.turn, Turn::Over) else {
            return Err(OUT_OF_TURN);
        };
        self.lane.shared().device.bind()?;
        let (begun, elems) = (Instant::now(), self.job.elems());
        // SAFETY: the value has as many words.
        let message = unsafe { self.lane.pack(value.address(), ring.bits(), elems) }?;
        self.wait(begun)?;
        self.turn = Turn::Sent(value);
        Ok(message.share(packing::packed_bytes(ring, elems)))
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Arc<dyn Value>, BackendError> {
        let elems = self.job.elems();
        self.lane.shared().device.bind()?;
        let value = match (std::mem::replace(&mut self.turn, Turn::Over), self.job.opened()) {
            (Turn::Made(value), None) if incoming.is_empty() => value,
            (Turn::Sent(value), Some(ring)) if incoming.len() == packing::packed_bytes(ring, elems) => {
                let theirs = self.lane.upload(incoming)?;
                let bits = (ring.bits(), ring.bits());
                // SAFETY: the message has as many entries as the value words.
                unsafe { self.lane.unpack((value.address(), How::Add), theirs, bits, elems) }?;
                value
            }
            (turn, _) => {
                self.turn = turn;
                return Err(OUT_OF_TURN);
            }
        };
        // Whoever takes the value waits for this point: it is the GPU that waits.
        Ok(value.made(self.lane.point()?))
    }

    fn take_spans(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.spans)
    }

    fn is_prompt(&self) -> bool {
        true
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What is queued may still write to it.
        if let Turn::Made(value) | Turn::Sent(value) = std::mem::replace(&mut self.turn, Turn::Over) {
            self.lane.hold(Arc::new(value));
        }
    }
}

/// How the parties hold what the part makes; shares for the client are shares.
fn form(job: &EvalJob) -> Form {
    job.node().wire().map_or(Form::Shared, |wire| wire.form)
}

/// What a part opens.
trait Opens {
    /// The ring in which it opens what it makes; none if it sends nothing.
    fn opened(&self) -> Option<Ring>;
}

impl Opens for EvalJob {
    fn opened(&self) -> Option<Ring> {
        let node = self.node();
        let wire = node.wire().filter(|wire| wire.form == Form::Masked)?;
        (!node.op().def().exchanges().is_empty() || node.is_input()).then_some(wire.ring)
    }
}

/// Takes the fields of `key` to the GPU: numbers as words, others as they are.
pub(super) fn fields(lane: &mut Lane, job: &EvalJob, key: &KeyBytes) -> Result<Vec<u64>, BackendError> {
    let (shape, counts) = (job.key_shape(), job.counts());
    let mut streams = Vec::new();
    let mut places = Vec::with_capacity(shape.fields().len());
    for (id, field) in (0..).map(FieldId).zip(shape.fields()) {
        let bits = match (field.source, field.width) {
            (Source::Shared, Width::Packed(bits)) => Some(bits),
            _ => None,
        };
        let delivered = shape.range(id, job.side(), counts);
        let at = delivered.map(|range| lane.upload(&key.expose()[range])).transpose()?;
        if at.is_none() {
            streams.push((job.domain().stream(&job.seed, id), field.bytes(counts)));
        }
        places.push((at, bits, field.entries(counts)));
    }
    let mut expanded = lane.expand(&streams)?.into_iter();
    let words = places.into_iter().map(|(at, bits, entries)| {
        let from = at.or_else(|| expanded.next()).ok_or(BackendError::Misuse("a field without bytes"))?;
        let Some(bits) = bits else { return Ok(from) };
        let words = lane.words(entries)?;
        // SAFETY: a word for each entry of the field.
        unsafe { lane.unpack((words, How::Set), from, (bits, bits), entries) }?;
        Ok(words)
    });
    words.collect()
}

/// Where what the part takes of each wire stands on the GPU.
pub(super) fn addresses(
    lane: &mut Lane,
    job: &EvalJob,
    inputs: &[Arc<dyn Value>],
) -> Result<Vec<u64>, BackendError> {
    let mut inputs = inputs.iter();
    let taken: Vec<_> = job.program.taken(job.part).collect();
    let of = |taken: &suf_gate::Taken| {
        let tiles = inputs.by_ref().take(taken.parts().len()).map(|tile| {
            if let Some(value) = DeviceValue::of(tile, lane.shared()) {
                return lane.take(&value);
            }
            let to = lane.words(tile.elems())?;
            // SAFETY: there is room for all its elements.
            unsafe { place(lane, tile, to) }?;
            Ok(to)
        });
        let tiles = tiles.collect::<Result<Vec<_>, BackendError>>()?;
        masks::gathered(lane, &job.program, taken, &tiles)
    };
    taken.iter().map(of).collect()
}

/// Queues a copy of `value` to the device address `to`.
///
/// # Safety
/// There is room for its elements.
unsafe fn place(lane: &mut Lane, value: &Arc<dyn Value>, to: u64) -> Result<(), BackendError> {
    if let Some(value) = DeviceValue::of(value, lane.shared()) {
        let from = lane.take(&value)?;
        // SAFETY: by the caller's promise.
        return unsafe { lane.copy(from, to, 8 * value.elems()) };
    }
    match value.view() {
        // SAFETY: by the caller's promise.
        Some(words) => unsafe { lane.upload_words(words, to) },
        // SAFETY: as above.
        None => unsafe { lane.upload_words(&Arc::clone(value).words()?, to) },
    }
}
