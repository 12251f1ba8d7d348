//! What crosses the wire between daemons.

use suf_gate::{CHUNK_ELEMS, Gate, Party, Role, gate::MAX_ELEMS};
use suf_wire::{DealerMessage, Message, PeerMessage, decode_frame, limits};

/// Messages between the parties: what decodes encodes to the same bytes.
///
/// # Panics
/// When that does not hold.
pub fn peer(bytes: &[u8]) {
    // The receiver expects some length; here the one that comes, so that payloads are reached.
    wire::<PeerMessage>(bytes, 19);
}

/// Messages between the dealer and a party, the key container among them: what decodes encodes to the same bytes.
///
/// # Panics
/// When that does not hold.
pub fn keys(bytes: &[u8]) {
    wire::<DealerMessage>(bytes, 25);
}

fn wire<M: Message>(bytes: &[u8], head_bytes: usize) {
    let due = bytes.len().checked_sub(head_bytes);
    if let Ok(message) = decode_frame::<M>(bytes, |_| due) {
        let encoded = message.encode().expect("what was decoded keeps every limit");
        assert_eq!([&encoded.head[..], &encoded.payload[..]].concat(), bytes);
    }
}

/// Canonical descriptions of gates, which cross the wire in proposals: what decodes has one encoding, a layout and a cost that
/// can be computed for any number of elements, and messages and keys that fit the wire in a full chunk.
///
/// # Panics
/// When that does not hold.
pub fn gate(bytes: &[u8]) {
    if let Ok(gate) = Gate::decode(bytes) {
        assert_eq!(gate.encode(), bytes);
        assert_eq!(gate.exchanges().len(), usize::from(gate.declared().rounds));
        for role in [Role::Seeded, Role::Explicit] {
            let shape = gate.key_shape();
            let common: usize = shape.common_ranges(role, 9).map(|range| range.len()).sum();
            assert!(common <= shape.chunk_bytes(role, 9));
            assert!(shape.chunk_bytes(role, CHUNK_ELEMS) <= limits::MAX_KEY_CHUNK_BYTES);
        }
        for (step, segments) in gate.exchanges().iter().enumerate() {
            assert!(gate.message_bytes(step, CHUNK_ELEMS) <= limits::MAX_DATA_BYTES);
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
