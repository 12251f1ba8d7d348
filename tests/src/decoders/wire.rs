//! What crosses the wire between daemons.

use std::sync::Arc;

use suf_gate::{Gate, Program, Side, TILE_ELEMS, WeightStore, ops::Weights};
use suf_wire::{
    DataHead, DealerMessage, KeyPartHead, Message, PREFIX_BYTES, Part, Party, PeerMessage, decode_frame,
    limits::{self, MAX_ELEMS},
};

/// Messages between the parties: what decodes encodes to the same bytes.
///
/// # Panics
/// When that does not hold.
pub fn peer(bytes: &[u8]) {
    // The receiver expects some length; here the one that comes, so that payloads are reached.
    wire::<PeerMessage>(bytes, DataHead::BYTES);
}

/// Messages between the dealer and a party, keys among them: what decodes encodes to the same bytes.
///
/// # Panics
/// When that does not hold.
pub fn keys(bytes: &[u8]) {
    wire::<DealerMessage>(bytes, KeyPartHead::BYTES);
}

fn wire<M: Message>(bytes: &[u8], head_bytes: usize) {
    let due = bytes.len().checked_sub(PREFIX_BYTES + head_bytes);
    if let Ok(message) = decode_frame::<M>(bytes, |_| due) {
        let encoded = message.encode().expect("what was decoded keeps every limit");
        assert_eq!([&encoded.head[..], &encoded.payload[..]].concat(), bytes);
    }
}

/// Canonical descriptions of gates, which cross the wire in programs. What decodes has one encoding. Its layout and
/// cost can be computed for any number of elements. Its messages and keys fit the wire in a full tile.
///
/// # Panics
/// When that does not hold.
pub fn gate(bytes: &[u8]) {
    if let Ok(gate) = Gate::decode(bytes) {
        assert_eq!(gate.encode(), bytes);
        assert_eq!(gate.exchanges().len(), usize::from(gate.declared().rounds));
        for side in [Side::Seeded, Side::Explicit] {
            let shape = gate.key_shape();
            let common: usize = shape.common_ranges(side, 9).map(|range| range.len()).sum();
            assert!(common <= shape.tile_bytes(side, 9));
            assert!(shape.tile_bytes(side, TILE_ELEMS) <= limits::MAX_KEY_PART_BYTES);
        }
        for (step, segments) in gate.exchanges().iter().enumerate() {
            assert!(gate.message_bytes(step, TILE_ELEMS) <= limits::MAX_DATA_BYTES);
            assert!(segments.len() <= limits::MAX_SEGMENTS);
        }
        for [fewer, more] in [[1, MAX_ELEMS], [MAX_ELEMS, u64::MAX]] {
            for party in [Party::P0, Party::P1] {
                assert!(gate.batch_key_bytes(party, fewer) <= gate.batch_key_bytes(party, more));
            }
            assert!(gate.batch_message_bits(fewer) < gate.batch_message_bits(more));
        }
    }
}

/// The weights that a decoder of programs has loaded: what the seeds name.
///
/// # Panics
/// Never: they fit.
#[must_use]
pub fn loaded() -> WeightStore {
    let mut store = WeightStore::default();
    for (rows, cols) in [(1, 4), (4, 1)] {
        let values = (0..rows * cols).map(|i| i as i32 - 7).collect();
        let weights = Weights::new(rows, cols, values, vec![3; cols as usize]);
        store.add(Arc::new(weights.expect("they fit")));
    }
    store
}

/// Canonical programs, which cross the wire in proposals and requests. What decodes has one encoding. Its parts, keys
/// and messages fit the wire, and its cost is the sum of its nodes'.
///
/// # Panics
/// When that does not hold.
pub fn program(bytes: &[u8]) {
    let Ok(program) = Program::decode(bytes, &loaded()) else { return };
    assert_eq!(program.encoded(), bytes);
    assert!((1..=limits::MAX_NODES).contains(&usize::from(program.segments())));
    let mut bits = 0;
    for (id, node) in program.nodes() {
        assert!((1..=limits::MAX_TILES).contains(&node.tiles()));
        assert!(node.inputs().iter().all(|input| *input < id));
        assert!(program.segment_of(id) < program.segments());
        bits += if node.is_input() { 0 } else { node.message_bits() };
        // The first and the last tile are the largest and the smallest.
        for tile in [0, node.tiles() - 1] {
            let part = Part::new(id, tile);
            assert!((1..=TILE_ELEMS).contains(&program.elems(part)));
            for party in Party::BOTH {
                assert!(program.key_bytes_of(party, part) <= limits::MAX_KEY_PART_BYTES);
            }
            for step in 0..node.exchanges() {
                let bytes = program.message_bytes(part, step).expect("an exchange has a message");
                let bits = program.frame_bits(part, step).expect("an exchange has a message");
                assert!(bytes <= limits::MAX_DATA_BYTES && bits.div_ceil(8) <= bytes as u64);
            }
        }
        assert!(!program.has(Part::new(id, node.tiles())));
        assert_eq!(program.message_bytes(Part::new(id, 0), node.exchanges()), None);
    }
    assert_eq!(program.message_bits(), bits);
    let keys = |party| program.nodes().map(|(id, _)| program.node_key_bytes(party, id)).sum::<u64>();
    for party in Party::BOTH {
        assert_eq!(program.key_bytes(party), keys(party));
    }
}
