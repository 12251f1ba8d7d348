//! What each gate runs on the GPU: its source, and its kernels in order.

mod dpf;
mod onehot;
mod sigma;
mod suf;
mod suf_lut;

use suf_gate::{
    BackendError, Curve, Gate, KeyShape, Shape,
    layout::FieldId,
    lookup::{LEAF_BITS, LookupIds},
    ring::WIRE,
};

use crate::{
    header::Source,
    layout::{FIELDS, SEGMENTS},
    opening::PACKED,
};

const TREE: &str = include_str!("../../cu/tree.cuh");
const LOOKUP: &str = include_str!("../../cu/lookup.cuh");
const WHOLE: &str = include_str!("../../cu/whole.cuh");
const WINDOW: &str = include_str!("../../cu/window.cuh");
const LINE: &str = include_str!("../../cu/line.cuh");

/// A gate's kernels.
pub(crate) struct Plan {
    /// The source of all of them.
    pub(crate) source: Source,
    /// Those that make a tile's keys, after its streams are expanded.
    pub(crate) deal: Vec<Task>,
    /// The one of each exchange.
    pub(crate) steps: Vec<Task>,
    /// Streams of the dealer besides those of its own fields: the field, and the bytes of an element.
    pub(crate) dealer_streams: Vec<(FieldId, usize)>,
    /// What the evaluation reads of the masks of wires.
    pub(crate) masks: Masks,
}

/// Which of its shares of masks a party reads while it evaluates. The dealer reads all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Masks {
    /// That of the wire that the node takes.
    pub(crate) taken: bool,
    /// That of the wire that it makes.
    pub(crate) made: bool,
}

/// A kernel and, for one element, the least that it has to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// The kernel.
    pub(crate) name: &'static str,
    /// Bytes read and written in the GPU's memory.
    pub(crate) bytes: f64,
    /// Calls of the cipher.
    pub(crate) aes: f64,
}

impl Task {
    /// A kernel that reads or writes each of `fields` once, and `other` bytes besides.
    fn new(name: &'static str, shape: &KeyShape, fields: &[FieldId], other: f64) -> Self {
        let bits: u32 = fields.iter().map(|id| shape.field(*id).width.bits()).sum();
        Self { name, bytes: f64::from(bits) / 8.0 + other, aes: 0.0 }
    }

    /// The same with `calls` of the cipher.
    fn with_aes(self, calls: u32) -> Self {
        Self { aes: calls.into(), ..self }
    }
}

/// Bytes of the opened value of `bits` bits: both parties' messages are read.
fn opening(bits: u8) -> f64 {
    2.0 * f64::from(bits) / 8.0
}

/// Bytes of a number of `bits` bits in a message.
fn message(bits: u8) -> f64 {
    f64::from(bits) / 8.0
}

/// Bytes of a number that is kept between exchanges, or of an input.
const WORD: f64 = 8.0;

/// Bytes of a share of a wire's mask.
const MASK: f64 = PACKED as f64;

/// What a dealer reads of the masks of two wires.
const DEALT_MASKS: f64 = 4.0 * MASK;

impl Plan {
    /// Of `gate`.
    pub(crate) fn of(gate: &Gate) -> Result<Self, BackendError> {
        let segments = gate.exchanges().iter().map(Vec::len).max().unwrap_or(0);
        if gate.key_shape().fields().len() > FIELDS || segments > SEGMENTS {
            return Err(BackendError::Unavailable(format!(
                "{} needs more than the {FIELDS} key fields or {SEGMENTS} opened values that a GPU's kernels take",
                gate.name()
            )));
        }
        match gate.shape() {
            Shape::Sigma(gate) => Ok(sigma::plan(gate)),
            Shape::SufLut(gate) => Ok(suf_lut::plan(gate)),
            Shape::Onehot(gate) => Ok(onehot::plan(gate)),
            Shape::Dpf(gate) => Ok(dpf::plan(gate)),
            Shape::Suf(gate) => suf::plan(gate),
        }
    }
}

/// Defines what `line.cuh` wants.
fn define_line(source: &mut Source, curve: &Curve) {
    source.define("ENTRY_BITS", curve.mask_bits());
    source.number("LEFT_SLOPE", curve.left.slope);
    source.number("LEFT_INTERCEPT", curve.left.intercept);
    source.number("STEP_SLOPE", curve.right.slope - curve.left.slope);
    source.number("STEP_INTERCEPT", curve.right.intercept - curve.left.intercept);
    let slopes = WIRE.encode(curve.left.slope + curve.right.slope);
    source.define("SLOPES", format_args!("{slopes:#x}ULL"));
}

/// Defines what `tree_lookup.cuh` wants, and includes it: the look-up of `table` by an index of `bits` bits.
fn define_tree_lookup(source: &mut Source, ids: LookupIds, bits: u8, table: &[i32]) {
    let fields = [
        ("F_ROOT", ids.root),
        ("F_SEED_CW", ids.seed_cw),
        ("F_LEAF_CW", ids.leaf_cw),
        ("F_RIGHT_BITS", ids.right_bits),
        ("F_SIGN_MASK", ids.sign_mask),
        ("F_SELECT", ids.select),
    ];
    fields.into_iter().for_each(|(name, id)| source.field(name, id));
    source.define("INDEX_BITS", bits);
    // Hot at r, seen from v = i + r: the entry for k = r - v is that of i = -k.
    let entries: Vec<i32> =
        (0..table.len()).map(|place| table[(table.len() - place) % table.len()]).collect();
    source.lookup("LOOKUP", &entries);
    source.code(LOOKUP);
    source.code(WHOLE);
    source.code(include_str!("../../cu/tree_lookup.cuh"));
}

/// The kernels of a look-up's second and third message.
fn lookup_tasks(sign: &'static str, shape: &KeyShape, ids: LookupIds, bits: u8) -> [Task; 2] {
    let blocks = 1u32 << (bits - LEAF_BITS);
    let read = [ids.root, ids.seed_cw, ids.leaf_cw, ids.right_bits, ids.sign_mask];
    // Both children of every inner node, and every leaf block.
    let sign = Task::new(sign, shape, &read, opening(bits) + WORD + message(1)).with_aes(3 * blocks - 2);
    [sign, Task::new("lookup_value", shape, &[], opening(1) + 3.0 * WORD + message(WIRE.bits()))]
}

/// Calls of the cipher that dealing a look-up's tree takes: both children of both parties at every level.
fn dealt_aes(bits: u8) -> u32 {
    4 * u32::from(bits - LEAF_BITS) + 2
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use suf_gate::catalog;
    use suf_skip::{Need, skip};

    use super::*;
    use crate::{backend::base_source, nvrtc::Compiler, ops};

    /// Every kernel of every built-in gate, for every architecture; registers that spill to memory are a failure.
    #[test]
    fn every_kernel_compiles_without_spills() {
        let compiler = match Compiler::find() {
            Ok(compiler) => compiler,
            Err(reason) => return skip(Need::Nvrtc, format!("no kernel was compiled: {reason}")),
        };
        let mut sources = vec![("base".to_owned(), base_source()), ("operations".to_owned(), ops::source())];
        for gate in catalog::builtin() {
            if let Ok(plan) = Plan::of(&gate) {
                sources.push((
                    format!("{} {} {:?}", gate.protocol(), gate.name(), gate.declared()),
                    plan.source,
                ));
            }
        }
        let jobs: Vec<_> = sources.iter().flat_map(|source| [80, 90, 100].map(|sm| (source, sm))).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(((name, source), sm)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let compiled =
                    compiler.compile(source.text(), *sm).unwrap_or_else(|error| panic!("{name}: {error}"));
                for usage in compiled.usage {
                    println!("{name}, sm_{sm}: {usage:?}");
                    assert_eq!(usage.spill_bytes, 0, "{name}, sm_{sm}: {usage:?}");
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(work);
            }
        });
        println!("{} sources compiled for three architectures, without spills", sources.len());
    }
}
