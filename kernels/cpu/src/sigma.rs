//! The gate `sigma` ([`suf_gate::sigma`]): dealing and evaluation.

mod deal;
mod eval;

pub(crate) use deal::deal;
pub(crate) use eval::SigmaEval;

use suf_gate::sigma::COMPARE_LEVELS;

use crate::{
    simd::Level,
    tree::{Rule, Tree},
};

/// Tree of the comparison.
fn compare_tree(level: Level) -> Tree {
    Tree::at(level, Rule::Bgi, COMPARE_LEVELS.into())
}
