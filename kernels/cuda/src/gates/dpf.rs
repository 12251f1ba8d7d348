//! `dpf` on the GPU.

use suf_gate::{
    dpf::{Dpf, ENTRY_MASK, LEAF_CW, RING, ROOT, SEED_CW, SIGN_MASK},
    lookup::LEAF_BITS,
    ring::WIRE,
};

use super::{DEALT_MASKS, LINE, LOOKUP, Masks, Plan, TREE, Task, WINDOW, WORD, define_line, message};
use crate::header::Source;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &Dpf) -> Plan {
    let curve = gate.curve();
    let mut source = Source::new();
    let fields = [
        ("F_SIGN_MASK", SIGN_MASK),
        ("F_ENTRY_MASK", ENTRY_MASK),
        ("F_ROOT", ROOT),
        ("F_SEED_CW", SEED_CW),
        ("F_LEAF_CW", LEAF_CW),
        ("F_RING", RING),
    ];
    fields.into_iter().for_each(|(name, id)| source.field(name, id));
    source.define("SHIFT", curve.shift);
    source.define("TREE_BITS", gate.t_bits() - 1);
    source.define("WINDOW_BITS", gate.window_bits());
    // Seen from the window's first point, place k stands for t = k - 2^(bits - 1).
    let half = 1i64 << (gate.window_bits() - 1);
    // A residual fits its mask of 16 bits.
    let entries: Vec<i32> = (-half..half).map(|t| curve.residual_at(t) as i32).collect();
    source.lookup("WINDOW", &entries);
    define_line(&mut source, curve);
    source.code(TREE);
    source.code(LOOKUP);
    source.code(WINDOW);
    source.code(LINE);
    source.code(include_str!("../../cu/dpf.cu"));
    let shape = gate.key_shape();
    let own = [SIGN_MASK, ENTRY_MASK, ROOT];
    let dealt = [&own[..], &own, &[SEED_CW, LEAF_CW, RING, RING]].concat();
    let levels = u32::from(gate.levels());
    // One path, and the whole of the trees that hold the window.
    let blocks = 1 << (gate.window_bits() - LEAF_BITS);
    let deal = vec![Task::new("dpf_deal", &shape, &dealt, DEALT_MASKS).with_aes(2 * levels + 2)];
    let first = message(1 + curve.mask_bits());
    let window =
        Task::new("dpf_window", &shape, &[ROOT, SEED_CW, LEAF_CW, SIGN_MASK, ENTRY_MASK], WORD + first);
    let ring = 4.0 * message(WIRE.bits());
    let output = Task::new("dpf_output", &shape, &[], 2.0 * first + ring + WORD + message(WIRE.bits()));
    Plan {
        source,
        deal,
        steps: vec![window.with_aes(levels + 2 * blocks), output],
        dealer_streams: Vec::new(),
        masks: Masks::default(),
    }
}
