//! `onehot` on the processor against its definition.

mod two_party;

use suf_cpu::simd::Level;
use suf_gate::{Gate, Shape, curve::Curve, gatefile::GateFile, onehot::Onehot};
use two_party::{GateBatch, Seeded, run, run_at};

/// Shapes of the digits above the window: each number of digits, and the widths that are words of their own.
const SHAPES: [&[u8]; 7] = [&[], &[6], &[6, 6], &[7, 7, 7], &[7, 7, 6], &[3, 4, 5], &[5, 3]];

fn gate(curve: &Curve, digits: &[u8]) -> Gate {
    let shape = Onehot::new(curve.clone(), digits.to_vec()).expect("a supported shape");
    Gate::new(&curve.name, Shape::Onehot(shape)).expect("a gate")
}

fn builtin(name: &str) -> Curve {
    GateFile::builtin(name).expect("a built-in gate").curve
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

/// Inputs at every edge: the domain's, the window's, the digits' carries, and a neighbour on each side.
fn edges(gate: &Gate, curve: &Curve, digits: &[u8]) -> Vec<i64> {
    let (low, high) = gate.domain();
    let mut bits = curve.shift + curve.window_bits;
    let mut at = vec![0, low, high, 1 << curve.shift, 1 << (bits - 1)];
    for digit in digits {
        at.push(1 << bits);
        bits += digit;
    }
    let near = |x: i64| {
        let step = 1i64 << curve.shift;
        [-step, 1 - step, -1, 0, 1, step - 1, step].map(|d| x + d)
    };
    at.iter().flat_map(|x| [near(*x), near(-*x)]).flatten().filter(|x| (low..=high).contains(x)).collect()
}

/// `elems` inputs: the edges, then the whole domain, half of them near the window.
fn inputs(gate: &Gate, curve: &Curve, digits: &[u8], elems: usize) -> Vec<i64> {
    let (low, high) = gate.domain();
    let span = high.abs_diff(low) + 1;
    let window = 1u64 << (curve.window_bits + curve.shift + 1);
    let random = numbers(elems as u64).enumerate().map(|(i, number)| {
        if i % 2 == 0 {
            low + (number % span).cast_signed()
        } else {
            ((number % window).cast_signed() - (window / 2).cast_signed()).clamp(low, high)
        }
    });
    // A short batch starts somewhere in the list, so that not every one has the same inputs.
    let edges = edges(gate, curve, digits);
    let skip = if elems < edges.len() { elems % 7 } else { 0 };
    edges.into_iter().skip(skip).chain(random).take(elems).collect()
}

fn check(gate: &Gate, inputs: &[i64], outputs: &[i64]) {
    for (x, y) in inputs.iter().zip(outputs) {
        let allowed = gate.reference(*x);
        assert!(allowed.contains(y), "{} at {x}: {y}, not one of {allowed:?}", gate.name());
    }
}

#[test]
fn every_shape_at_awkward_sizes() {
    for name in ["gelu", "silu"] {
        let curve = builtin(name);
        for digits in SHAPES {
            let gate = gate(&curve, digits);
            for elems in [1, 9, 1001] {
                for salt in 0..4 {
                    let inputs = inputs(&gate, &curve, digits, elems);
                    check(&gate, &inputs, &run(&gate, salt, &inputs));
                }
            }
        }
    }
}

#[test]
fn several_tiles() {
    for (name, digits) in [("gelu", &[6u8, 6] as &[u8]), ("silu", &[7, 7, 6])] {
        let curve = builtin(name);
        let gate = gate(&curve, digits);
        let inputs = inputs(&gate, &curve, digits, 65537);
        check(&gate, &inputs, &run(&gate, 1, &inputs));
    }
}

#[test]
fn every_builtin_curve() {
    for name in GateFile::builtin_names() {
        let file = GateFile::builtin(name).expect("a built-in gate");
        for digits in file.onehot.values() {
            let gate = gate(&file.curve, digits);
            let inputs = inputs(&gate, &file.curve, digits, 2000);
            check(&gate, &inputs, &run(&gate, 2, &inputs));
        }
    }
}

/// Every window from the narrowest to the widest, with entries of either sign.
#[test]
fn every_window_width() {
    let gelu = builtin("gelu");
    for bits in 6..=12u8 {
        let residual = (0..1i32 << bits).map(|i| i * 37 % 801 - 400).collect();
        let curve = Curve { window_bits: bits, residual, ..gelu.clone() };
        for digits in [&[] as &[u8], &[6, 6]] {
            let gate = gate(&curve, digits);
            let inputs = inputs(&gate, &curve, digits, 3000);
            check(&gate, &inputs, &run(&gate, 3, &inputs));
        }
    }
}

#[test]
fn one_input_many_masks() {
    let curve = builtin("gelu");
    for digits in [&[] as &[u8], &[6, 6], &[7, 7, 7]] {
        let gate = gate(&curve, digits);
        for x in edges(&gate, &curve, digits) {
            let inputs = vec![x; 256];
            check(&gate, &inputs, &run(&gate, (x & 0xFF) as u8, &inputs));
        }
    }
}

#[test]
fn an_input_at_a_quarter_is_rounded_up_in_a_quarter_of_cases() {
    let curve = builtin("gelu");
    let gate = gate(&curve, &[6, 6]);
    // A quarter of the way between two grid points, where the table is steep.
    let x = -4096 + (1 << curve.shift) / 4;
    let [down, up] = gate.reference(x);
    assert_ne!(down, up);
    let outputs = run(&gate, 5, &vec![x; 40_000]);
    let ups = outputs.iter().filter(|y| **y == up).count();
    check(&gate, &vec![x; outputs.len()], &outputs);
    // 10000 expected, standard deviation 87.
    assert!((9_500..10_500).contains(&ups), "{ups} of 40000 rounded up");
}

#[test]
fn levels_agree_to_the_bit() {
    for (name, digits) in [("gelu", &[6u8, 6] as &[u8]), ("silu", &[7, 7, 6]), ("gelu", &[])] {
        let curve = builtin(name);
        let gate = gate(&curve, digits);
        let inputs = inputs(&gate, &curve, digits, 1001);
        let batch = GateBatch::new(&gate, 6);
        for seeded in Seeded::BOTH {
            let expected = run_at(&batch, [Level::Portable; 3], seeded, &inputs);
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                let run = run_at(&batch, [level; 3], seeded, &inputs);
                assert!(run.messages == expected.messages, "{name} {digits:?}, {level}");
                assert_eq!(run.outputs, expected.outputs);
            }
        }
    }
}

/// For one input, every bit of every message but the last is uniform, as is each byte of the last.
#[test]
fn messages_of_a_constant_input_are_uniform() {
    let curve = builtin("gelu");
    for digits in [&[] as &[u8], &[6, 6], &[7, 7, 7]] {
        let gate = gate(&curve, digits);
        for x in [0, 3000, -70_000] {
            if !(gate.domain().0..=gate.domain().1).contains(&x) {
                continue;
            }
            let elems = 65536;
            let transcript =
                run_at(&GateBatch::new(&gate, 9), [Level::best(); 3], Seeded::P0, &vec![x; elems]);
            for messages in &transcript.messages {
                for (step, message) in messages.iter().enumerate() {
                    let mut from = 0;
                    for segment in &gate.exchanges()[step] {
                        let bytes = &message[from..from + segment.bytes(elems)];
                        from += bytes.len();
                        two_party::assert_uniform(bytes, &format!("{digits:?} {x} {step} {}", segment.name));
                    }
                }
            }
        }
    }
}

#[test]
fn masks_of_elements_wires_tiles_and_batches_differ() {
    let gate = gate(&builtin("gelu"), &[6, 6]);
    let mut all = std::collections::HashSet::new();
    for salt in [0, 1] {
        let run = GateBatch::new(&gate, salt).run(Seeded::P0, 65536 + 1000);
        for tile in [0, 1] {
            for made in [false, true] {
                all.extend(run.mask(made, tile).into_iter().take(1000));
            }
        }
    }
    assert_eq!(all.len(), 8000);
}
