//! `sigma` on the GPU.

use suf_gate::{
    layout::{R_IN, R_OUT},
    lookup::ELEMENT_BYTES,
    sigma::{
        BIT_MASKS, COMPARE_LEAF_CW, COMPARE_RIGHT_BITS, COMPARE_ROOT, COMPARE_SEED_CW, LOOKUP, LOW_MASK, LOW_TABLE, MUX,
        RELU, SHIFT, Sigma, T_BITS, TRUNCATION,
    },
};

use super::{Plan, TREE, define_tree_lookup};
use crate::header::Source;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &Sigma) -> Plan {
    let mut source = Source::new();
    let fields = [
        ("F_R_IN", R_IN),
        ("F_R_OUT", R_OUT),
        ("F_LOW_TABLE", LOW_TABLE),
        ("F_LOW_MASK", LOW_MASK),
        ("F_TRUNCATION", TRUNCATION),
        ("F_COMPARE_ROOT", COMPARE_ROOT),
        ("F_COMPARE_SEED_CW", COMPARE_SEED_CW),
        ("F_COMPARE_LEAF_CW", COMPARE_LEAF_CW),
        ("F_COMPARE_RIGHT_BITS", COMPARE_RIGHT_BITS),
        ("F_BIT_MASKS", BIT_MASKS),
        ("F_MUX", MUX),
        ("F_RELU", RELU),
    ];
    fields.into_iter().for_each(|(name, id)| source.field(name, id));
    source.define("SHIFT", SHIFT);
    source.define("T_BITS", T_BITS);
    source.code(TREE);
    define_tree_lookup(&mut source, LOOKUP, gate.clip(), gate.table());
    source.code(include_str!("../../cu/sigma.cu"));
    Plan {
        source,
        deal: vec!["sigma_deal_comparison", "sigma_deal_lookup", "sigma_deal_elements"],
        steps: vec![
            "sigma_low",
            "sigma_truncation",
            "sigma_bits",
            "sigma_index",
            "sigma_sign",
            "lookup_value",
            "sigma_output",
        ],
        dealer_streams: vec![(TRUNCATION, ELEMENT_BYTES), (LOOKUP.select, ELEMENT_BYTES)],
    }
}
