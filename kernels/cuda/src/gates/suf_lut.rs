//! `suf-lut` on the GPU.

use suf_gate::{
    layout::{R_IN, R_OUT},
    lookup::ELEMENT_BYTES,
    suf_lut::{LOOKUP, SufLut},
};

use super::{Plan, TREE, define_tree_lookup};
use crate::header::Source;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &SufLut) -> Plan {
    let mut source = Source::new();
    source.field("F_R_IN", R_IN);
    source.field("F_R_OUT", R_OUT);
    source.code(TREE);
    define_tree_lookup(&mut source, LOOKUP, gate.bits(), gate.table());
    source.code(include_str!("../../cu/suf_lut.cu"));
    Plan {
        source,
        deal: vec!["suf_lut_deal"],
        steps: vec!["suf_lut_low", "suf_lut_sign", "lookup_value", "suf_lut_output"],
        dealer_streams: vec![(LOOKUP.select, ELEMENT_BYTES)],
    }
}
