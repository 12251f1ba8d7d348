//! `suf` on the processor, two parties against the reference of the specification.

mod specs;
mod suf_scalar;
mod two_party;

use specs::Random;
use suf_cpu::simd::Level;
use suf_gate::{Gate, Protocol, Shape, Side, TILE_ELEMS, catalog, spec::Spec};
use two_party::{GateBatch, Seeded, assert_uniform, run, run_at};

fn spec(gate: &Gate) -> &Spec {
    match gate.shape() {
        Shape::Suf(suf) => suf.spec(),
        _ => panic!("not a suf gate"),
    }
}

/// The built-in curves and the shipped specifications.
fn named() -> Vec<Gate> {
    let curves = catalog::builtin().filter(|gate| gate.protocol() == Protocol::Suf);
    let files = specs::shipped();
    let files = files.iter().map(|file| catalog::from_spec_file(file).expect("a gate"));
    curves.chain(files).collect()
}

fn check(gate: &Gate, salt: u8, elems: usize) {
    let inputs = specs::inputs(spec(gate), &mut Random(u64::from(salt) << 32 | elems as u64), elems);
    for (x, y) in inputs.iter().zip(run(gate, salt, &inputs)) {
        let allowed = gate.reference(*x);
        assert!(
            allowed.contains(&y),
            "{} at {x}: {y}, not one of {allowed:?}: {:?}",
            gate.name(),
            spec(gate)
        );
    }
}

#[test]
fn every_named_gate_at_awkward_sizes() {
    for gate in named() {
        for elems in [1, 9, 1001] {
            (0..4).for_each(|salt| check(&gate, salt, elems));
        }
    }
}

#[test]
fn several_tiles() {
    let gates = named();
    let gates = gates.iter().filter(|gate| ["gelu", "silu", "hard-swish-quadratic"].contains(&gate.name()));
    assert_eq!(gates.map(|gate| check(gate, 1, TILE_ELEMS + 1)).count(), 3);
}

#[test]
fn random_specifications() {
    let mut random = Random(1);
    for salt in 0..200 {
        let gate = specs::gate(specs::random(&mut random));
        check(&gate, salt, 300);
    }
}

/// One input under many masks: carries, borrows and wraps of every kind.
#[test]
fn the_smallest_domain_under_many_masks() {
    let mut random = Random(2);
    let gate = std::iter::repeat_with(|| specs::random(&mut random))
        .find(|spec| spec.parts().domain_bits == 8)
        .map(specs::gate)
        .expect("one in 33 has 8 bits");
    (0..8).for_each(|salt| check(&gate, salt, 5000));
}

#[test]
fn all_levels_send_the_same_bytes() {
    let mut random = Random(3);
    let others = (0..10).map(|_| specs::gate(specs::random(&mut random)));
    let gates: Vec<Gate> = named().into_iter().chain(others).collect();
    for gate in &gates {
        let inputs = specs::inputs(spec(gate), &mut Random(9), 300);
        let batch = GateBatch::new(gate, 5);
        for seeded in Seeded::BOTH {
            let expected = run_at(&batch, [Level::Portable; 3], seeded, &inputs);
            for level in Level::ALL.into_iter().filter(|level| level.supported()) {
                let found = run_at(&batch, [level, Level::Portable, level], seeded, &inputs);
                assert!(found.messages == expected.messages, "{} at {level}", gate.name());
            }
        }
    }
}

#[test]
fn what_is_sent_looks_random() {
    for gate in named().iter().filter(|gate| ["silu", "hard-swish-quadratic"].contains(&gate.name())) {
        let batch = GateBatch::new(gate, 6);
        let transcript = run_at(&batch, [Level::best(); 3], Seeded::P0, &vec![1 << 12; TILE_ELEMS]);
        for (step, messages) in transcript.messages[0].iter().zip(&transcript.messages[1]).enumerate() {
            let opened: Vec<u8> = messages.0.iter().zip(messages.1).map(|(a, b)| a ^ b).collect();
            assert_uniform(&opened, &format!("{} step {step}, opened bits", gate.name()));
            assert_uniform(messages.0, &format!("{} step {step}, party 0", gate.name()));
        }
    }
}

/// No key is longer or shorter for another mask, and either side gets what the compiler declared.
#[test]
fn keys_have_the_declared_length() {
    for gate in named() {
        let elems = 4096;
        for seeded in Seeded::BOTH {
            let run = GateBatch::new(&gate, 7).run(seeded, elems);
            let keys = run.parties.deal(&suf_cpu::CpuBackend::new(), run.part(0)).expect("a key");
            let declared = gate.declared();
            for (party, key) in [suf_gate::Party::P0, suf_gate::Party::P1].into_iter().zip(keys) {
                let bits = match run.parties.program().side(party, run.part(0)) {
                    Side::Seeded => declared.seeded_key_bits,
                    Side::Explicit => declared.explicit_key_bits,
                };
                assert_eq!(key.len() * 8, bits as usize * elems, "{} {party:?}", gate.name());
            }
        }
    }
}
