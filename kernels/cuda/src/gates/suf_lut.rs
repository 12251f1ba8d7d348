//! `suf-lut` on the GPU.

use suf_gate::{
    layout::{R_IN, R_OUT},
    lookup::ELEMENT_BYTES,
    ring::WIRE,
    suf_lut::{LOOKUP, SufLut},
};

use super::{Plan, TREE, Task, WORD, dealt_aes, define_tree_lookup, lookup_tasks, message, opening};
use crate::header::Source;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &SufLut) -> Plan {
    let mut source = Source::new();
    source.field("F_R_IN", R_IN);
    source.field("F_R_OUT", R_OUT);
    source.code(TREE);
    define_tree_lookup(&mut source, LOOKUP, gate.bits(), gate.table());
    source.code(include_str!("../../cu/suf_lut.cu"));
    let shape = gate.key_shape();
    let own = [R_IN, R_OUT, LOOKUP.root, LOOKUP.sign_mask];
    let common = [LOOKUP.seed_cw, LOOKUP.leaf_cw, LOOKUP.right_bits];
    let dealt = [&own[..], &own, &common, &[LOOKUP.select, LOOKUP.select]].concat();
    let [sign, value] = lookup_tasks("suf_lut_sign", &shape, LOOKUP, gate.bits());
    let low = Task::new("suf_lut_low", &shape, &[R_IN], WORD + message(gate.bits()));
    let wire = WIRE.bits();
    let output = Task::new("suf_lut_output", &shape, &[], opening(wire) + 3.0 * WORD + message(wire));
    Plan {
        source,
        deal: vec![Task::new("suf_lut_deal", &shape, &dealt, WORD).with_aes(dealt_aes(gate.bits()))],
        steps: vec![low, sign, value, output],
        dealer_streams: vec![(LOOKUP.select, ELEMENT_BYTES)],
    }
}
