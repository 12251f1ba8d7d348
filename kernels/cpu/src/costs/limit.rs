//! The least time that a core needs for a node of a program. It is what the node's definition asks for, at the processor's
//! rates. The rates are measured on loops that do nothing else.

use std::hint::black_box;

use suf_gate::{
    NodeId, Party, Program, Side, Source,
    layout::FieldId,
    ops::{
        Factors, Op, Product,
        private::{Factor, Term},
    },
    prg::StreamKey,
    wire::Mask,
};

use super::{calls::tree_calls, cpu_seconds, nanoseconds_per_call};
use crate::{
    prg::Stream,
    simd::{BLOCK_BYTES, Level, Simd, Vectorised},
};

/// Rows of public numbers for which the calls of a comparison are counted. Calls differ little from row to row.
const COUNTED_ROWS: usize = 64;

/// Numbers that are multiplied side by side: eight registers of 512 bits, more than a multiplication takes cycles.
const LANES: usize = 64;
const MULTIPLICATIONS: u32 = 1 << 14;

/// Bytes that are copied: less than a second-level cache, more than the first.
const COPIED_BYTES: usize = 1 << 18;
const COPIES: u32 = 64;

/// What this processor does at best, on one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Nanoseconds for a call of AES in a long stream.
    pub aes_ns: f64,
    /// Nanoseconds for a multiplication modulo 2^64, in registers.
    pub product_ns: f64,
    /// Nanoseconds to read or write a byte of the second-level cache.
    pub byte_ns: f64,
}

/// What one party does in a node, as the mean of both parties.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Calls of AES: streams of masks and keys, and trees.
    pub aes: f64,
    /// Multiplications modulo 2^64.
    pub products: f64,
    /// Bytes that are read or written once: wires, keys and messages.
    pub bytes: f64,
}

/// What a node waits for at the least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Milliseconds of one core.
    pub ms: f64,
    /// Which of the three: "aes", "products" or "memory".
    pub by: &'static str,
}

impl Rates {
    /// Measures them, each as the best of `samples`.
    #[must_use]
    pub fn measure(samples: usize) -> Self {
        let best =
            |once: &mut dyn FnMut() -> f64| (0..samples.max(1)).map(|_| once()).fold(f64::INFINITY, f64::min);
        let mut lanes = [3u64; LANES];
        let product_ns = best(&mut || {
            let start = cpu_seconds();
            Level::best().dispatch(Multiply(black_box(&mut lanes)));
            (cpu_seconds() - start) * 1e9 / (f64::from(MULTIPLICATIONS) * LANES as f64)
        });
        let (from, mut to) = (vec![1u8; COPIED_BYTES], vec![0u8; COPIED_BYTES]);
        let byte_ns = best(&mut || {
            let start = cpu_seconds();
            for _ in 0..COPIES {
                black_box(&mut to[..]).copy_from_slice(black_box(&from[..]));
            }
            (cpu_seconds() - start) * 1e9 / (2.0 * f64::from(COPIES) * COPIED_BYTES as f64)
        });
        Self { aes_ns: nanoseconds_per_call(samples), product_ns, byte_ns }
    }
}

/// Chains of multiplications, each of which needs the one before.
struct Multiply<'a>(&'a mut [u64; LANES]);

impl Vectorised for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut lanes = *self.0;
        for _ in 0..MULTIPLICATIONS {
            lanes.iter_mut().for_each(|lane| *lane = lane.wrapping_mul(*lane));
        }
        *self.0 = lanes;
    }
}

impl Work {
    /// That of a node of `program`.
    #[must_use]
    pub fn of(program: &Program, id: NodeId) -> Self {
        let node = program.node(id);
        let (counts, shape) = (node.counts(), node.op().def().key_shape());
        let elems = counts.elems as f64;
        // A call makes 16 bytes of a stream. Either party is the seeded one in half of the parts.
        let made: f64 = [Side::Seeded, Side::Explicit]
            .into_iter()
            .flat_map(|side| shape.fields().iter().enumerate().map(move |field| (side, field)))
            .filter(|(side, (at, field))| {
                matches!(field.source, Source::Own | Source::Shared)
                    && !shape.delivered(FieldId(*at as u16), *side)
            })
            .map(|(_, (_, field))| field.bytes(counts) as f64 / 2.0)
            .sum();
        let ring_bytes = node.ring().map_or(0.0, |ring| f64::from(ring.bits()) / 8.0);
        let mask = match node.wire() {
            Some(wire) if wire.mask == Mask::Fresh => elems * ring_bytes,
            _ => 0.0,
        };
        // What is kept of a matrix is read, and the share of its mask is made.
        let loaded = loaded(node.op()) * size_of::<u64>() as f64;
        let read: f64 = node
            .inputs()
            .iter()
            .map(|input| program.node(*input).shape().elems() as f64 * size_of::<u64>() as f64)
            .sum();
        let written = if node.wire().is_some() { elems * size_of::<u64>() as f64 } else { 0.0 };
        let keys: u64 = Party::BOTH.iter().map(|party| program.node_key_bytes(*party, id)).sum();
        let messages = 2.0 * node.message_bits() as f64 / 8.0;
        Self {
            aes: (made + mask + loaded) / 16.0 + trees(node.op(), elems),
            products: products(program, id),
            bytes: read + loaded + written + keys as f64 / 2.0 + messages,
        }
    }

    /// The least time at `rates`, if a core does all three side by side.
    #[must_use]
    pub fn limit(&self, rates: &Rates) -> Limit {
        let Self { aes, products, bytes } = *self;
        let parts = [
            (aes * rates.aes_ns, "aes"),
            (products * rates.product_ns, "products"),
            (bytes * rates.byte_ns, "memory"),
        ];
        let (ns, by) =
            parts.into_iter().max_by(|one, other| one.0.total_cmp(&other.0)).expect("there are three");
        Limit { ms: ns / 1e6, by }
    }
}

/// Calls of a node's trees, for `elems` elements.
fn trees(op: &Op, elems: f64) -> f64 {
    // Public numbers of a comparison are uniform.
    let numbers = |words: usize| -> Vec<u64> {
        let mut bytes = vec![0; COUNTED_ROWS * words * size_of::<u64>()];
        let key = StreamKey { key: [1; BLOCK_BYTES], nonce: [2; BLOCK_BYTES] };
        Stream::new(Level::best(), &key).fill(0, &mut bytes);
        bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
    };
    let of_row = |calls: u64| calls as f64 / COUNTED_ROWS as f64;
    elems
        * match op {
            Op::Gate(op) => tree_calls(op.gate()).map_or(0.0, |[_, eval]| eval.into()),
            Op::RowExponent(op) => of_row(op.tree_calls(numbers(op.scores().sum_bits() / 64))),
            Op::Spline(op) => of_row(op.tree_calls(&numbers(1))),
            _ => 0.0,
        }
}

/// Multiplications of a node at one party: those of public numbers with its shares.
fn products(program: &Program, id: NodeId) -> f64 {
    let node = program.node(id);
    let elems = node.counts().elems as f64;
    let taken = |at: usize| program.node(node.inputs()[at]).shape();
    elems
        * match node.op() {
            Op::Linear(op) => f64::from(op.weights().rows()),
            Op::Product(op) => 2.0 * terms(op, taken(1).cols()),
            Op::Private(op) => 2.0 * op.terms().iter().map(private_terms).sum::<f64>(),
            Op::Scale(_) => 4.0,
            Op::SquareSum(_) => 2.0 * f64::from(taken(0).cols()),
            Op::Exp2(op) => f64::from(op.bits()) / 64.0,
            Op::RowExponent(op) => (op.scores().sum_bits() / 64) as f64 * f64::from(taken(0).cols()),
            Op::Gain(_) => 1.0,
            _ => 0.0,
        }
}

/// Elements of loaded matrices that a node takes.
fn loaded(op: &Op) -> f64 {
    let Op::Private(op) = op else { return 0.0 };
    op.terms().iter().map(|term| f64::from(term.rows.count()) * f64::from(term.cols.count())).sum()
}

/// Products of a term for an element.
fn private_terms(term: &Term) -> f64 {
    match term.factor {
        Factor::Rows(_) => term.rows.count().into(),
        Factor::Elements(_) => 1.0,
        Factor::One => 0.0,
    }
}

/// Products that are added up for an element; `cols` are those of the second factor.
fn terms(op: &Product, cols: u32) -> f64 {
    match op.factors() {
        Factors::Elements => 1.0,
        Factors::Scores(heads) => f64::from(cols / heads.heads),
        Factors::Mix(heads) => f64::from(heads.tokens),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use suf_gate::{
        Form, Gate, Protocol, Ring, TensorShape, catalog,
        gatefile::GateFile,
        ops::{Input, Linear, Output, Weights},
    };

    use super::*;
    use crate::costs::Calls;

    #[test]
    fn a_gate_asks_for_the_calls_that_its_definition_counts() {
        let file = GateFile::builtin("gelu").expect("built in");
        for protocol in [Protocol::Sigma, Protocol::Dpf, Protocol::Onehot] {
            let gate: Arc<Gate> = Arc::new(catalog::gate(&file, protocol, None).expect("in the file"));
            let program = Program::of_gate(Arc::clone(&gate), 1 << 16).expect("a tile");
            let work = Work::of(&program, NodeId(1));
            let calls = Calls::of(&gate).expect("counted");
            let counted = f64::from(calls.seeded + calls.explicit) / 2.0 * 65536.0;
            // The mask of the wire that is made is counted here too, and a call for each element is rounded there.
            let more = work.aes - counted;
            assert!((0.0..=2.0 * 65536.0).contains(&more), "{protocol}: {} of {counted}", work.aes);
        }
    }

    #[test]
    fn a_product_with_weights_asks_for_its_multiplications_and_reads_its_wires_once() {
        let weights = Weights::new(32, 48, vec![1; 32 * 48], Vec::new()).expect("a matrix");
        let shape = TensorShape::new(8, 32).expect("a tensor");
        let program = Program::new([
            (Op::Input(Input::new(shape, Ring::new(64), 0, Form::Masked)), vec![]),
            (Op::Linear(Linear::new(Arc::new(weights), 0)), vec![NodeId(0)]),
            (Op::Output(Output), vec![NodeId(1)]),
        ]);
        let program = program.expect("a program");
        let expected =
            Work { aes: 0.0, products: (8 * 32 * 48) as f64, bytes: ((8 * 32 + 8 * 48) * 8) as f64 };
        assert_eq!(Work::of(&program, NodeId(1)), expected);
        // The input's mask, of 8 bytes an element, and its message there and back.
        let input = Work::of(&program, NodeId(0));
        assert_eq!((input.aes, input.products), (8.0 * 32.0 / 2.0, 0.0));
    }

    #[test]
    fn the_limit_is_the_longest_of_the_three() {
        let rates = Rates { aes_ns: 2.0, product_ns: 1.0, byte_ns: 0.5 };
        let work = Work { aes: 3e6, products: 4e6, bytes: 5e6 };
        assert_eq!(work.limit(&rates), Limit { ms: 6.0, by: "aes" });
        assert_eq!(Work { products: 7e6, ..work }.limit(&rates), Limit { ms: 7.0, by: "products" });
        assert_eq!(Work { bytes: 2e7, ..work }.limit(&rates), Limit { ms: 10.0, by: "memory" });
        let measured = Rates::measure(2);
        assert!(
            [measured.aes_ns, measured.product_ns, measured.byte_ns].iter().all(|ns| *ns > 0.0),
            "{measured:?}"
        );
    }
}
