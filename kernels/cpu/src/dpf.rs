//! The gate `dpf` ([`suf_gate::dpf`]): dealing and evaluation.

mod deal;
mod eval;

pub(crate) use deal::deal;
pub(crate) use eval::DpfEval;

use suf_gate::dpf::Dpf;

use crate::{
    simd::Level,
    tree::{Rule, Tree},
};

/// The gate's trees.
fn tree(level: Level, gate: &Dpf) -> Tree {
    Tree::at(level, Rule::HalfTree, gate.levels().into())
}
