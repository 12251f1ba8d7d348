//! `sigma` on the GPU.

use suf_gate::{
    lookup::{ELEMENT_BYTES, LEAF_BITS},
    ring::WIRE,
    sigma::{
        BIT_MASKS, COMPARE_LEAF_CW, COMPARE_LEVELS, COMPARE_RIGHT_BITS, COMPARE_ROOT, COMPARE_SEED_CW,
        LOOKUP, LOW_MASK, LOW_TABLE, MUX, RELU, SHIFT, Sigma, T_BITS, TRUNCATION,
    },
};

use super::{
    DEALT_MASKS, Masks, Plan, TREE, Task, WORD, dealt_aes, define_tree_lookup, lookup_tasks, message, opening,
};
use crate::header::Source;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &Sigma) -> Plan {
    let mut source = Source::new();
    let fields = [
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
    let shape = gate.key_shape();
    let comparison = [COMPARE_SEED_CW, COMPARE_LEAF_CW, COMPARE_RIGHT_BITS];
    let lookup = [LOOKUP.root, LOOKUP.root, LOOKUP.seed_cw, LOOKUP.leaf_cw, LOOKUP.right_bits];
    let own = [LOW_MASK, BIT_MASKS, LOOKUP.sign_mask];
    let shared = [LOW_TABLE, TRUNCATION, MUX, LOOKUP.select, RELU];
    let levels = u32::from(COMPARE_LEVELS);
    let deal = vec![
        Task::new("sigma_deal_comparison", &shape, &[&comparison[..], &[COMPARE_ROOT; 2]].concat(), WORD)
            .with_aes(4 * levels + 2),
        Task::new("sigma_deal_lookup", &shape, &lookup, WORD).with_aes(dealt_aes(gate.clip())),
        Task::new(
            "sigma_deal_elements",
            &shape,
            &[&own[..], &own, &shared, &shared].concat(),
            2.0 * WORD + DEALT_MASKS,
        ),
    ];
    let (wire, clip) = (WIRE.bits(), gate.clip());
    let compared = [&comparison[..], &[COMPARE_ROOT, BIT_MASKS]].concat();
    // Three walks part at the level where one leaf block of the table's width is left, at the highest.
    let walks = levels + 2 * u32::from(clip - LEAF_BITS + 1) + 3;
    let [sign, value] = lookup_tasks("sigma_sign", &shape, LOOKUP, clip);
    let steps = vec![
        Task::new("sigma_low", &shape, &[LOW_TABLE, LOW_MASK], WORD + message(1)),
        Task::new("sigma_truncation", &shape, &[TRUNCATION], opening(1) + WORD + message(T_BITS)),
        Task::new("sigma_bits", &shape, &compared, opening(T_BITS) + WORD + message(2)).with_aes(walks),
        Task::new("sigma_index", &shape, &[], opening(2) + 2.0 * WORD + 2.0 + message(clip)),
        sign,
        value,
        Task::new("sigma_output", &shape, &[], opening(wire) + 8.0 * WORD + message(wire)),
    ];
    Plan {
        source,
        deal,
        steps,
        dealer_streams: vec![(TRUNCATION, ELEMENT_BYTES), (LOOKUP.select, ELEMENT_BYTES)],
        masks: Masks::default(),
    }
}
