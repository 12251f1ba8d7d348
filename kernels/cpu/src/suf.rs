//! The gate `suf` ([`suf_gate::suf`]): dealing and evaluation of compiled specifications.
//!
//! What a specification asks for is known at run time only. Each of its operations is applied to a whole strip before
//! the next one. So choosing an operation costs an element nothing. A strip is held in columns, one number per element.
//!
//! The meaning of every step, element by element, is [`suf_gate::spec::scalar`]; keys and messages agree with it to the
//! bit.

mod column;
mod deal;
mod eval;
mod first;
mod last;
mod trees;
mod truth;

pub(crate) use deal::deal;
pub(crate) use eval::SufEval;

use suf_gate::spec::{CompiledSpec, dpf};

use crate::tree::{Rule, TreeShape};

/// The tree at the low N - 1 bits of the rounded mask.
fn main_tree(spec: &CompiledSpec) -> TreeShape {
    TreeShape { rule: Rule::HalfTree, levels: dpf::levels(spec.domain_bits() - 1).into() }
}

/// The tree at the mask mod 2^f.
fn low_tree(spec: &CompiledSpec) -> TreeShape {
    TreeShape { rule: Rule::HalfTree, levels: dpf::levels(spec.low_bits()).into() }
}

/// The low bits of a number.
const fn low(v: u64, bits: u8) -> u64 {
    v & ((1 << bits) - 1)
}

/// The binomial coefficient of small numbers.
fn binomial(n: usize, k: usize) -> u64 {
    (0..k as u64).fold(1, |product, i| product * (n as u64 - i) / (i + 1))
}
