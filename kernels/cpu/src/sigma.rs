//! The gate `sigma` ([`suf_gate::sigma`]): dealing and evaluation.

mod deal;
mod eval;

pub(crate) use deal::deal;
pub(crate) use eval::SigmaEval;

use suf_gate::sigma::COMPARE_LEVELS;

use crate::tree::{Rule, TreeShape};

/// Tree of the comparison.
fn compare_tree() -> TreeShape {
    TreeShape { rule: Rule::Bgi, levels: COMPARE_LEVELS.into() }
}
