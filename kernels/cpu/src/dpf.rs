//! The gate `dpf` ([`suf_gate::dpf`]): dealing and evaluation.

mod deal;
mod eval;

pub(crate) use deal::deal;
pub(crate) use eval::DpfEval;

use suf_gate::dpf::Dpf;

use crate::tree::{Rule, TreeShape};

/// The gate's trees.
fn tree(gate: &Dpf) -> TreeShape {
    TreeShape { rule: Rule::HalfTree, levels: gate.levels().into() }
}
