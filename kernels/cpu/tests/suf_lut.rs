//! `suf-lut` on the processor against its definition.

mod two_party;

use suf_cpu::simd::Level;
use suf_gate::{
    Gate, Shape,
    activation::{Activation, Builtin},
    suf_lut::SufLut,
};
use two_party::{GateBatch, Seeded, run, run_at};

fn gates() -> [Gate; 3] {
    [(Builtin::Gelu, 8), (Builtin::Silu, 9), (Builtin::Silu, 10)].map(|(function, bits)| {
        let shape = SufLut::of(&Activation::Builtin(function), bits).expect("bits in range");
        Gate::new(function.name(), Shape::SufLut(shape)).expect("a gate")
    })
}

/// Every value of the low bits, the ends of the ring, and whatever lies between.
fn inputs(elems: usize) -> Vec<i64> {
    let far = |i: i64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15u64.cast_signed()) >> 17;
    let edges = [0, -1, 1, -(1 << 47), (1 << 47) - 1, 127, 128, -128, -129, 511, 512, -512];
    edges.into_iter().chain(-600..600).chain((1..).map(far)).take(elems).collect()
}

#[test]
fn every_output_is_the_tables_entry() {
    for gate in gates() {
        for elems in [1, 9, 1001, 65537] {
            let inputs = inputs(elems);
            for (x, y) in inputs.iter().zip(run(&gate, 1, &inputs)) {
                assert_eq!(y, gate.reference(*x)[0], "{} at {x}", gate.name());
            }
        }
    }
}

#[test]
fn levels_agree_to_the_bit() {
    let inputs = inputs(1001);
    for gate in gates() {
        let batch = GateBatch::new(&gate, 2);
        for seeded in Seeded::BOTH {
            let expected = run_at(&batch, [Level::Portable; 3], seeded, &inputs);
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                let run = run_at(&batch, [level; 3], seeded, &inputs);
                assert!(run.messages == expected.messages, "{}, {level}", gate.name());
            }
        }
    }
}

/// For one input, the opened low bits, sign and V are uniform: so are both parties' messages.
#[test]
fn messages_of_a_constant_input_are_uniform() {
    let gate = &gates()[0];
    let elems = 65536;
    let transcript = run_at(&GateBatch::new(gate, 3), [Level::best(); 3], Seeded::P0, &vec![77; elems]);
    let [mine, theirs] = &transcript.messages;
    for (step, (mine, theirs)) in mine.iter().zip(theirs).enumerate() {
        for bytes in [mine, theirs] {
            two_party::assert_uniform(bytes, &format!("exchange {step}"));
        }
    }
}
