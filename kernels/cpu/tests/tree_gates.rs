//! `sigma` and `dpf` on the processor against their definitions.

mod two_party;

use suf_cpu::simd::Level;
use suf_gate::{
    Curve, Gate, Protocol, Shape, TILE_ELEMS, catalog, dpf::Dpf, gatefile::GateFile, sigma::Sigma,
};
use two_party::{GateBatch, Seeded, assert_uniform, run, run_at};

/// The built-in gates of both protocols.
fn builtin() -> Vec<Gate> {
    let of_trees = |gate: &Gate| matches!(gate.protocol(), Protocol::Sigma | Protocol::Dpf);
    catalog::builtin().filter(of_trees).collect()
}

fn gelu() -> Curve {
    GateFile::builtin("gelu").expect("a built-in gate").curve
}

fn dpf(curve: &Curve, t_bits: u8) -> Gate {
    let shape = Dpf::new(curve.clone(), t_bits).expect("a supported shape");
    Gate::new(&curve.name, Shape::Dpf(shape)).expect("a gate")
}

/// Numbers that look random (splitmix64).
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    })
}

/// Powers of two of either sign with their neighbours, on and off the grid. The ends of windows, of clips and of the
/// domain are among them.
fn edges(gate: &Gate) -> Vec<i64> {
    let (low, high) = gate.domain();
    let powers = (0..47).flat_map(|bit| [1i64 << bit, -(1i64 << bit)]);
    let near = |x: i64| [-65, -64, -63, -1, 0, 1, 63, 64, 65].map(|d| x + d);
    powers.chain([0, low, high]).flat_map(near).filter(|x| (low..=high).contains(x)).collect()
}

/// `elems` inputs: the edges, then the whole domain, half of them where the tables are.
fn inputs(gate: &Gate, elems: usize) -> Vec<i64> {
    let (low, high) = gate.domain();
    let random = numbers(elems as u64).enumerate().map(|(i, number)| {
        let span = if i % 2 == 0 { low.abs_diff(high) } else { low.abs_diff(high).min(1 << 18) };
        (number % span).cast_signed() - (span / 2).cast_signed()
    });
    let edges = edges(gate);
    // A short batch starts somewhere in the list, so that not every one has the same inputs.
    let skip = if elems < edges.len() { elems % 7 } else { 0 };
    edges.into_iter().skip(skip).chain(random).take(elems).collect()
}

fn check(gate: &Gate, inputs: &[i64], outputs: &[i64]) {
    for (x, y) in inputs.iter().zip(outputs) {
        let allowed = gate.reference(*x);
        assert!(
            allowed.contains(y),
            "{} {} at {x}: {y}, not one of {allowed:?}",
            gate.protocol(),
            gate.name()
        );
    }
}

#[test]
fn every_builtin_gate_at_awkward_sizes() {
    for gate in builtin() {
        for elems in [1, 9, 1001] {
            for salt in 0..4 {
                let inputs = inputs(&gate, elems);
                check(&gate, &inputs, &run(&gate, salt, &inputs));
            }
        }
    }
}

#[test]
fn several_tiles() {
    for gate in builtin().iter().filter(|gate| ["gelu", "silu"].contains(&gate.name())) {
        let inputs = inputs(gate, TILE_ELEMS + 1);
        check(gate, &inputs, &run(gate, 1, &inputs));
    }
}

/// One input under many masks: carries, borrows and wraps of every kind.
#[test]
fn edges_under_many_masks() {
    for gate in builtin().iter().filter(|gate| ["gelu", "silu"].contains(&gate.name())) {
        let inputs: Vec<i64> = edges(gate).into_iter().flat_map(|x| [x; 64]).collect();
        check(gate, &inputs, &run(gate, 2, &inputs));
    }
}

#[test]
fn every_clip_of_sigma_with_entries_of_either_sign() {
    for clip in 8..=10 {
        let table = (0..1i32 << clip).map(|i| i * 37 % 801 - 400).collect();
        let shape = Sigma::new(clip, table).expect("a supported clip");
        let gate = Gate::new("mixed", Shape::Sigma(shape)).expect("a gate");
        let inputs = inputs(&gate, 5000);
        check(&gate, &inputs, &run(&gate, 3, &inputs));
    }
}

/// Every window from the narrowest to the widest, with entries of either sign, in the smallest, a usual and the largest domain.
#[test]
fn every_window_of_dpf() {
    for bits in 6..=12u8 {
        let residual = (0..1i32 << bits).map(|i| i * 37 % 801 - 400).collect();
        let curve = Curve { window_bits: bits, residual, ..gelu() };
        for t_bits in [bits.max(8) + 2, 22, 48 - curve.shift] {
            let gate = dpf(&curve, t_bits);
            let inputs = inputs(&gate, 3000);
            check(&gate, &inputs, &run(&gate, 4, &inputs));
        }
    }
}

#[test]
fn dpf_rounds_an_input_at_a_quarter_up_in_a_quarter_of_cases() {
    let gate = dpf(&gelu(), 30);
    // A quarter of the way between two grid points, where the table is steep.
    let x = -4096 + 16;
    let [down, up] = gate.reference(x);
    assert_ne!(down, up);
    let outputs = run(&gate, 5, &vec![x; 40_000]);
    let ups = outputs.iter().filter(|y| **y == up).count();
    // 10000 expected, standard deviation 87.
    assert!((9_500..10_500).contains(&ups), "{ups} of 40000 rounded up");
}

#[test]
fn levels_agree_to_the_bit() {
    for gate in builtin().iter().filter(|gate| ["gelu", "silu"].contains(&gate.name())) {
        let inputs = inputs(gate, 1001);
        let batch = GateBatch::new(gate, 6);
        for seeded in Seeded::BOTH {
            let expected = run_at(&batch, [Level::Portable; 3], seeded, &inputs);
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                let run = run_at(&batch, [level; 3], seeded, &inputs);
                assert!(run.messages == expected.messages, "{} {}, {level}", gate.protocol(), gate.name());
                assert_eq!(run.outputs, expected.outputs);
            }
        }
    }
}

/// For one input, every message is uniform, each segment apart.
#[test]
fn messages_of_a_constant_input_are_uniform() {
    for gate in builtin().iter().filter(|gate| gate.name() == "gelu") {
        for x in [0, 3000, -70_000] {
            let transcript =
                run_at(&GateBatch::new(gate, 9), [Level::best(); 3], Seeded::P0, &vec![x; TILE_ELEMS]);
            for messages in &transcript.messages {
                for (step, message) in messages.iter().enumerate() {
                    let mut from = 0;
                    for segment in &gate.exchanges()[step] {
                        let bytes = &message[from..from + segment.bytes(TILE_ELEMS)];
                        from += bytes.len();
                        assert_uniform(bytes, &format!("{} at {x}, exchange {step}", gate.protocol()));
                    }
                }
            }
        }
    }
}
