//! `onehot` on the GPU.

use suf_gate::{
    onehot::{BIT_MASKS, ENTRY_MASK, HOT_WINDOW, Onehot},
    ring::WIRE,
};

use super::{DEALT_MASKS, LINE, LOOKUP, Masks, Plan, Task, WORD, define_line, message};
use crate::header::Source;

/// The kernels of a gate, and the order in which they run.
pub(super) fn plan(gate: &Onehot) -> Plan {
    let curve = gate.curve();
    let mut source = Source::new();
    source.field("F_BIT_MASKS", BIT_MASKS);
    source.field("F_ENTRY_MASK", ENTRY_MASK);
    source.field("F_WINDOW", HOT_WINDOW);
    source.field("F_DIGIT_0", gate.hot_digit(0));
    if let Some((table, mask)) = gate.combine_table() {
        source.field("F_COMBINE", table);
        source.field("F_COMBINE_MASK", mask);
    }
    if let Some((table, masks)) = gate.select_table() {
        source.field("F_SELECT", table);
        source.field("F_CHOICE_MASKS", masks);
    }
    source.field("F_RING", gate.ring_elements());
    source.define("WINDOW_BITS", curve.window_bits);
    source.define("SHIFT", curve.shift);
    source.define("T_BITS", gate.t_bits());
    source.define("DIGITS", gate.digits().len());
    source.define("LOWER_DIGITS", gate.lower_digits());
    let digits = gate.digits().iter().rev().fold(0u32, |all, bits| all << 4 | u32::from(*bits));
    source.define("DIGIT_BITS", digits);
    // Seen from the public digit v, place k = r - v stands for t = (-k mod 2^L) - 2^(L-1).
    let size = curve.window_len();
    let entries: Vec<i32> = (0..size).map(|place| curve.residual[(size - place) % size]).collect();
    source.lookup("WINDOW", &entries);
    define_line(&mut source, curve);
    source.code(LOOKUP);
    source.code(LINE);
    source.code(include_str!("../../cu/onehot.cu"));

    let shape = gate.key_shape();
    let hot: Vec<_> = (0..gate.digits().len()).map(|i| gate.hot_digit(i)).chain([HOT_WINDOW]).collect();
    let own = [BIT_MASKS, ENTRY_MASK];
    let tables: Vec<_> =
        [gate.combine_table(), gate.select_table()].into_iter().flatten().map(|(id, _)| id).collect();
    let shared: Vec<_> = hot.iter().chain(&tables).chain([&gate.ring_elements()]).copied().collect();
    // Both parties' own fields are read; the shared ones are read and written.
    let dealt = [&own[..], &own, &shared, &shared].concat();
    let states = message(gate.bit_planes() as u8 + curve.mask_bits());
    let read = [&hot[..], &own].concat();
    let mut steps = vec![Task::new("onehot_states", &shape, &read, WORD + states)];
    steps.extend(
        gate.combine_table().map(|_| Task::new("onehot_combine", &shape, &[], 2.0 * states + 2.0 * WORD)),
    );
    steps.extend(gate.select_table().map(|_| Task::new("onehot_choice", &shape, &[], 2.0 * states + WORD)));
    let ring = 4.0 * message(WIRE.bits());
    steps.push(Task::new("onehot_output", &shape, &[], ring + 2.0 * WORD + message(WIRE.bits())));
    let deal = vec![Task::new("onehot_deal", &shape, &dealt, DEALT_MASKS)];
    Plan { source, deal, steps, dealer_streams: Vec::new(), masks: Masks::default() }
}
