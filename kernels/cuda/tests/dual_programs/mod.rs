//! Programs of several nodes on the GPU and the CPU at once: the same bytes, and every node right.

use std::{collections::BTreeMap, sync::Arc};

use suf_cpu::CpuBackend;
use suf_cuda::CudaBackend;
use suf_gate::{
    Backend, Form, Gate, HostValue, NodeId, Part, Party, Program, Protocol, Ring, Shape, TensorShape,
    TwoParties, Value, catalog,
    gatefile::GateFile,
    ops::{Add, Entry, GateOp, Input, Op, Output},
    ring::{FRAC, WIRE},
};

use super::{
    blocks::{
        FULL, assert_right, assert_right_on, dpf, entered, feed_forward,
        layer::{Size, inputs, layer},
        mixed_inputs, mixed_operations, numbers, onehot, parties, private, shares,
        softmax::{rows_of, score_ring, softmax, widest},
    },
    dual, gpu, gpu_for_any_gate,
};

/// Fewest bits that are kept of an extended wire.
const LEAST_KEPT: u8 = 32;

/// Runs a program on the GPU alone, whose nodes take the values that others left there. Keys, messages and values are the CPU's.
fn assert_stays(gpu: &CudaBackend, parties: &TwoParties, inputs: &[[Vec<u64>; 2]]) {
    let cpu = CpuBackend::new();
    let expected = parties.run(&cpu, [&cpu, &cpu], inputs).expect("the processor computes");
    let program = parties.program();
    let mut values: BTreeMap<Part, [Arc<dyn Value>; 2]> = BTreeMap::new();
    let mut offsets = BTreeMap::new();
    let shares: BTreeMap<_, _> = program.inputs().zip(inputs).collect();
    for part in program.parts() {
        let node = program.node(part.node);
        let what = format!("{part} {}", node.op().def().name());
        let keys = parties.deal(gpu, part).expect("keys");
        for (party, key) in keys.iter().enumerate() {
            super::assert_bytes(expected.keys[&part][party].expose(), key.expose(), &what);
        }
        let taken = std::array::from_fn(|party| match shares.get(&part.node) {
            Some(shares) => {
                let start = *offsets.get(&part.node).unwrap_or(&0);
                vec![HostValue::shared(shares[party][start..][..program.elems(part)].to_vec())]
            }
            None => {
                let parts = program.taken(part).flat_map(|taken| taken.parts());
                parts.map(|tile| Arc::clone(&values[&tile][party])).collect()
            }
        });
        *offsets.entry(part.node).or_insert(0) += program.elems(part);
        let mut run = parties.begin([gpu, gpu], part, keys, taken).expect("inputs");
        for step in 0..node.exchanges() {
            let sent = run.exchange().expect("an exchange");
            for (sent, expected) in sent.iter().zip(&expected.messages[&(part, step)]) {
                super::assert_bytes(expected, sent, &what);
            }
        }
        let made = Party::BOTH.map(|party| run.finish_one(party).expect("a value"));
        for (made, expected) in made.iter().zip(&expected.values[&part]) {
            assert_eq!(&Arc::clone(made).words().expect("words"), expected, "{what}");
        }
        values.insert(part, made);
    }
}

/// Numbers in `0..2^bits`, less half of that.
fn around_zero(seed: u64, bits: u32, count: usize) -> Vec<i64> {
    let number = |number: u64| (number >> (64 - bits)).cast_signed() - (1 << (bits - 1));
    numbers(seed).map(number).take(count).collect()
}

/// `input` to `output` by way of the operations of `docs/protocols/programs.md` and each of the built-in gates of gelu.
#[test]
fn mixed_operations_agree() {
    let Some(gpu) = gpu() else { return };
    let file = GateFile::builtin("gelu").expect("built in");
    let protocols = [Protocol::Sigma, Protocol::Suf, Protocol::Onehot, Protocol::Dpf];
    for protocol in protocols {
        let gate = catalog::gate(&file, protocol, None).expect("in the file");
        let program = mixed_operations(GateOp::new(Arc::new(gate)));
        for salt in 0..2 {
            assert_right(&dual(&gpu), &parties(program.clone(), salt), &mixed_inputs());
        }
    }
    println!("{} programs of mixed operations on {} agree with the CPU", protocols.len(), gpu.info().device);
}

/// Rings and numbers of dropped bits with which `gate` can be entered: extended, whole, and with one bit less than is whole.
fn entries(gate: &Gate) -> Vec<Entry> {
    let looked_at = match gate.shape() {
        Shape::Onehot(gate) => gate.input_bits(),
        Shape::Dpf(gate) => gate.t_bits() + gate.curve().shift,
        Shape::Sigma(_) | Shape::Suf(_) | Shape::SufLut(_) => WIRE.bits(),
    };
    let least = looked_at.max(LEAST_KEPT);
    let dropping = |ring: Ring, kept: u8| Entry { ring, drop: ring.bits() - kept };
    let takes_whole = !matches!(gate.shape(), Shape::Suf(_));
    let mut entries = vec![Entry { ring: FULL, drop: 0 }, Entry { ring: Ring::new(51), drop: 0 }];
    entries.extend(takes_whole.then_some(dropping(FULL, WIRE.bits())));
    if least < WIRE.bits() {
        entries.extend(
            [(FULL, least), (Ring::new(57), least + 1), (WIRE, least), (FULL, WIRE.bits() - 1)]
                .map(|(ring, kept)| dropping(ring, kept)),
        );
    }
    entries
}

/// The built-in gates of gelu on wires that enter them in every way.
#[test]
fn entered_gates_agree() {
    const ELEMS: usize = 1001;
    let Some(gpu) = gpu() else { return };
    let gates = catalog::builtin().filter(|gate| gate.name() == "gelu" && !gate.takes_shares());
    let mut extended = 0;
    for gate in gates {
        let gate = Arc::new(gate);
        for entry in entries(&gate) {
            extended += usize::from(entry.is_extended());
            let program = entered(Arc::clone(&gate), entry, ELEMS as u64);
            // Half of what the gate takes, and half of what the formula does.
            let (_, high) = gate.domain();
            let bits = (high.ilog2() + u32::from(entry.drop)).min(u32::from(entry.ring.bits()) - 2);
            let inputs = [shares(entry.ring, &around_zero(7, bits, ELEMS))];
            assert_right(&dual(&gpu), &parties(program, entry.drop), &inputs);
        }
    }
    assert!(extended >= 12, "{extended} extended wires");
    println!("{extended} gates on extended wires agree on {}", gpu.info().device);
}

/// Inputs at the ends of the domain, under many masks: with and without wraps.
#[test]
fn ends_of_extended_wires_agree() {
    const ELEMS: usize = 256;
    let Some(gpu) = gpu_for_any_gate() else { return };
    for (gate, ring, drop) in [(onehot(), FULL, 28), (dpf(), Ring::new(57), 25), (onehot(), FULL, 10)] {
        let program = entered(gate, Entry { ring, drop }, ELEMS as u64);
        let bound = (127i64 << (FRAC + drop)) - 1;
        for x in [0, -1, bound, -bound] {
            let inputs = [shares(ring, &[x; ELEMS])];
            assert_right(&dual(&gpu), &parties(program.clone(), 3), &inputs);
        }
    }
}

/// A feed-forward block of a transformer.
#[test]
fn feed_forward_blocks_agree() {
    let Some(gpu) = gpu_for_any_gate() else { return };
    for gate in [onehot(), dpf()] {
        let program = feed_forward(gate, 9, 24, 50);
        let inputs = [shares(FULL, &around_zero(5, 27, 9 * 24))];
        assert_right(&dual(&gpu), &parties(program, 2), &inputs);
    }
}

/// A layer of a transformer without its softmax: products of masked wires in every form.
#[test]
fn layers_agree() {
    let Some(gpu) = gpu() else { return };
    let size = Size { batch: 2, heads: 2, dim: 4, tokens: 7, wide: 9 };
    for is_masked in [false, true] {
        let parties = parties(layer(size, is_masked), 6);
        assert_right(&dual(&gpu), &parties, &inputs(size, is_masked));
    }
}

/// Values that stay on the GPU from node to node, of several tiles too.
#[test]
fn values_stay_on_the_gpu() {
    let Some(gpu) = gpu_for_any_gate() else { return };
    let size = Size { batch: 2, heads: 2, dim: 4, tokens: 7, wide: 9 };
    assert_stays(&gpu, &parties(layer(size, true), 3), &inputs(size, true));
    for gate in [onehot(), dpf()] {
        let wide = [shares(FULL, &around_zero(5, 27, 90 * 24))];
        assert_stays(&gpu, &parties(feed_forward(gate, 90, 24, 900), 5), &wide);
    }
    for bits in [128, 256, 512, 1024] {
        let scores = widest(bits, 9);
        let wide = [shares(score_ring(bits), &rows_of(7, &scores))];
        assert_stays(&gpu, &parties(softmax(7, scores), 4), &wide);
    }
    let file = GateFile::builtin("gelu").expect("built in");
    for protocol in [Protocol::Sigma, Protocol::Suf, Protocol::Onehot, Protocol::Dpf] {
        let gate = GateOp::new(Arc::new(catalog::gate(&file, protocol, None).expect("in the file")));
        assert_stays(&gpu, &parties(mixed_operations(gate), 1), &mixed_inputs());
    }
    for size in &private::SIZES[..3] {
        let values = private::values(*size, 50);
        let load = private::load(&CpuBackend::new(), *size, 1, &values);
        assert_stays(&gpu, &private::run(*size, 54, load), &private::inputs(*size));
    }
}

/// The sum of two inputs into each of the built-in gates of gelu that takes a masked wire: its mask is a sum too.
#[test]
fn gates_of_sums_agree() {
    const ELEMS: usize = 1001;
    let Some(gpu) = gpu() else { return };
    for gate in catalog::builtin().filter(|gate| gate.name() == "gelu" && !gate.takes_shares()) {
        let shape = TensorShape::flat(ELEMS as u64).expect("few elements");
        let input = || (Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), vec![]);
        let bits = gate.domain().1.ilog2();
        let program = Program::new([
            input(),
            input(),
            (Op::Add(Add), vec![NodeId(0), NodeId(1)]),
            (Op::gate(Arc::new(gate)), vec![NodeId(2)]),
            (Op::Output(Output), vec![NodeId(3)]),
        ]);
        let inputs = [1, 2].map(|seed| shares(WIRE, &around_zero(seed, bits, ELEMS)));
        assert_right(&dual(&gpu), &parties(program.expect("a program"), 4), &inputs);
    }
}

/// Row exponents, exponentials and splines, which the host computes from the GPU's streams.
#[test]
fn softmax_agrees() {
    let Some(gpu) = gpu_for_any_gate() else { return };
    for bits in [128, 512] {
        let scores = widest(bits, 9);
        let inputs = [shares(score_ring(bits), &rows_of(20, &scores))];
        assert_right(&dual(&gpu), &parties(softmax(20, scores), 2), &inputs);
    }
}

/// Loading matrices, and sums of products with them: the host computes them from the GPU's streams.
#[test]
fn private_weights_agree() {
    let Some(gpu) = gpu() else { return };
    for size in &private::SIZES[..3] {
        let values = private::values(*size, 50);
        let load = private::load(&dual(&gpu), *size, 1, &values);
        let parties = private::run(*size, 54, load);
        assert_right_on(&values, &dual(&gpu), &parties, &private::inputs(*size));
    }
}
