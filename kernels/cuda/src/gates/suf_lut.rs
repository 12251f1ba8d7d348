//! `suf-lut` on the GPU.

use suf_gate::{
    lookup::ELEMENT_BYTES,
    ring::WIRE,
    suf_lut::{LOOKUP, SufLut},
};

use super::{
    DEALT_MASKS, MASK, Masks, Plan, TREE, Task, WORD, dealt_aes, define_tree_lookup, lookup_tasks, message,
    opening,
};
use crate::header::Source;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &SufLut) -> Plan {
    let mut source = Source::new();
    source.code(TREE);
    define_tree_lookup(&mut source, LOOKUP, gate.bits(), gate.table());
    source.code(include_str!("../../cu/suf_lut.cu"));
    let shape = gate.key_shape();
    let own = [LOOKUP.root, LOOKUP.sign_mask];
    let common = [LOOKUP.seed_cw, LOOKUP.leaf_cw, LOOKUP.right_bits];
    let dealt = [&own[..], &own, &common, &[LOOKUP.select, LOOKUP.select]].concat();
    let [sign, value] = lookup_tasks("suf_lut_sign", &shape, LOOKUP, gate.bits());
    let low = Task::new("suf_lut_low", &shape, &[], MASK + WORD + message(gate.bits()));
    let wire = WIRE.bits();
    let output = Task::new("suf_lut_output", &shape, &[], opening(wire) + 3.0 * WORD + message(wire));
    Plan {
        source,
        deal: vec![
            Task::new("suf_lut_deal", &shape, &dealt, WORD + DEALT_MASKS).with_aes(dealt_aes(gate.bits())),
        ],
        steps: vec![low, sign, value, output],
        dealer_streams: vec![(LOOKUP.select, ELEMENT_BYTES)],
        // Its input is shared, and its low bits are opened under the wire's mask.
        masks: Masks { taken: true, made: false },
    }
}
