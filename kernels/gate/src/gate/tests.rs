//! Declared and published costs, sizes of batches, and encodings.

use super::*;
use crate::{
    activation::{Activation, Builtin},
    catalog,
};

fn gates() -> Vec<Gate> {
    catalog::builtin().collect()
}

#[test]
fn declared_cost_is_what_the_layout_and_the_exchanges_say() {
    use crate::layout::Side;
    for gate in gates() {
        let declared = gate.declared();
        let key = gate.key_shape();
        assert_eq!(declared.seeded_key_bits, key.bits_per_elem(Side::Seeded), "{}", gate.name());
        assert_eq!(declared.explicit_key_bits, key.bits_per_elem(Side::Explicit), "{}", gate.name());
        let bits: u32 = gate.exchanges().iter().flatten().map(|segment| u32::from(segment.bits)).sum();
        assert_eq!(declared.bits, bits, "{}", gate.name());
        assert_eq!(usize::from(declared.rounds), gate.exchanges().len(), "{}", gate.name());
    }
}

#[test]
fn published_costs_are_met() {
    let lut = |activation: Activation, bits| SufLut::of(&activation, bits).expect("bits in range").declared();
    let gelu = lut(Builtin::Gelu.into(), 8);
    assert!((gelu.mean_key_bytes() - 92.125).abs() < f64::EPSILON);
    assert!((gelu.eval_bytes() - 26.25).abs() < f64::EPSILON);
    let silu = lut(Builtin::Silu.into(), 10);
    assert!((silu.mean_key_bytes() - 124.125).abs() < f64::EPSILON);
    assert!((silu.eval_bytes() - 26.75).abs() < f64::EPSILON);
}

#[test]
fn costs_of_a_batch_are_those_of_its_tiles_added_up() {
    use crate::{TILE_ELEMS, limits::MAX_ELEMS};
    let full = TILE_ELEMS as u64;
    let edges = (0..6).flat_map(|tiles| [0, 1, 7, 8, 9, full - 1].map(|rest| tiles * full + rest));
    let sizes: Vec<u64> =
        edges.chain([1_409_024, MAX_ELEMS - 1, MAX_ELEMS, MAX_ELEMS + 1]).chain([1 << 32]).collect();
    let tiles = |elems: u64| {
        (0..elems.div_ceil(full) as u32).map(move |i| (i, full.min(elems - u64::from(i) * full)))
    };
    for gate in gates() {
        for &elems in sizes.iter().filter(|elems| **elems < 1 << 30 || gate.name() == "gelu") {
            for party in [Party::P0, Party::P1] {
                let of = |(i, elems)| gate.key_shape.tile_bytes(Side::of(party, i), elems as usize) as u64;
                let sum: u64 = tiles(elems).map(of).sum();
                assert_eq!(gate.batch_key_bytes(party, elems), sum, "{}: {elems} elements", gate.name());
            }
            let bits: u64 = tiles(elems).map(|(_, elems)| elems * u64::from(gate.declared().bits)).sum();
            assert_eq!(gate.batch_message_bits(elems), bits, "{}: {elems} elements", gate.name());
        }
        assert_eq!(gate.batch_message_bits(u64::MAX), u64::MAX);
    }
}

#[test]
fn encodings_round_trip_and_are_strict() {
    for gate in gates() {
        let bytes = gate.encode();
        assert_eq!(Gate::decode(&bytes).expect("own encoding"), gate);
        for len in 0..bytes.len() {
            assert!(Gate::decode(&bytes[..len]).is_err(), "{} cut at {len}", gate.name());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Gate::decode(&longer).is_err(), "{} with a byte too many", gate.name());
    }
}
