//! What a step costs: exchanges, bits per direction, key bytes.

use crate::ranges::Span;
use crate::steps::{Kind, Step, StepId, Steps};

/// What one step costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Exchanges, one after another.
    pub rounds: u32,
    /// Bits that each party sends.
    pub bits: f64,
    /// Bytes of one party's keys, the mean of both.
    pub key_bytes: f64,
}

/// Bits for each element, and key bytes.
struct Each {
    rounds: u32,
    bits: f64,
    /// Bytes that one party gets; they alternate.
    explicit: f64,
    /// Bytes that both get.
    common: f64,
}

impl Steps {
    /// The cost of a step.
    #[must_use]
    pub fn cost(&self, step: &Step) -> Cost {
        let taken = |at: usize| self.get(step.takes[at]);
        let ring = f64::from(step.made.ring);
        let per = |elems: u64, each: Each| Cost {
            rounds: each.rounds,
            bits: each.bits * elems as f64,
            key_bytes: (each.explicit / 2.0 + each.common) * elems as f64,
        };
        let made = step.made.elems();
        let opened = |explicit: f64| Each { rounds: 1, bits: ring, explicit, common: 0.0 };
        match &step.kind {
            Kind::Input => per(made, opened(0.0)),
            Kind::Open(drop) => {
                let kept = f64::from(taken(0).made.ring - drop);
                per(made, opened((2.0 * ring - kept) / 8.0))
            }
            Kind::Scores(_) => {
                // Shares of both factors' masks, from which bits were dropped.
                let masks = (taken(0).made.elems() + taken(1).made.elems()) as f64;
                let products = per(made, opened(ring / 8.0));
                Cost { key_bytes: products.key_bytes + masks * ring / 16.0, ..products }
            }
            Kind::Attend(_) => per(made, opened(ring / 8.0)),
            Kind::RowExponent(group) => {
                let m = f64::from(group.m);
                let rows =
                    Each { rounds: 2, bits: m / 2.0 + m.log2() - 1.0, explicit: 0.0, common: 9.0 * m + 16.0 };
                let elems = Each { rounds: 0, bits: 0.0, explicit: m / 16.0, common: 0.0 };
                let [rows, elems] = [per(made, rows), per(taken(0).made.elems(), elems)];
                Cost { key_bytes: rows.key_bytes + elems.key_bytes, ..rows }
            }
            Kind::Exponential(group) => per(made, opened(f64::from(group.m) / 8.0)),
            Kind::Reciprocal(span) | Kind::InverseRoot(span) => per(made, spline(ring, *span)),
            Kind::Scale(drop, row_drop) => {
                let [a, b] = [taken(0).made.ring - drop, taken(1).made.ring - row_drop].map(f64::from);
                let wraps = (64.0 - a) * 2.0 + (64.0 - b) + (64.0 - a - b).max(0.0);
                per(made, opened(16.0 + wraps / 8.0))
            }
            Kind::SquareSum(drop) => {
                let a = f64::from(taken(0).made.ring - drop);
                let elems = Each { rounds: 0, bits: 0.0, explicit: (63.0 - a) / 8.0, common: 0.0 };
                let [rows, elems] = [per(made, opened(8.0)), per(taken(0).made.elems(), elems)];
                Cost { key_bytes: rows.key_bytes + elems.key_bytes, ..rows }
            }
            Kind::Gate(gate, _) => {
                let declared = gate.declared();
                // The sign's and the wrap's shares: the linear part is on an extended value.
                let more = Each {
                    rounds: declared.rounds.into(),
                    bits: declared.bits.into(),
                    explicit: 12.0,
                    common: 0.0,
                };
                let cost = per(made, more);
                Cost { key_bytes: cost.key_bytes + declared.mean_key_bytes() * made as f64, ..cost }
            }
            Kind::Mask
            | Kind::Linear(..)
            | Kind::Gain(..)
            | Kind::Bias(_)
            | Kind::SubtractColumn
            | Kind::Add
            | Kind::Drop(_)
            | Kind::Output => Cost::default(),
        }
    }

    /// Sums of all steps' bits and key bytes, and the rounds of the longest way through them.
    #[must_use]
    pub fn total(&self) -> Cost {
        let mut total = Cost::default();
        let mut depths: Vec<u32> = Vec::new();
        for (_, step) in self.iter() {
            let cost = self.cost(step);
            let before = step.takes.iter().map(|StepId(at)| depths[*at]).max().unwrap_or(0);
            depths.push(before + cost.rounds);
            total.rounds = total.rounds.max(before + cost.rounds);
            total.bits += cost.bits;
            total.key_bytes += cost.key_bytes;
        }
        total
    }
}

/// A spline on this span: a level of its tree for each bit that tells its pieces apart, 16 in each octave.
fn spline(ring: f64, span: Span) -> Each {
    let bits = (span.max / span.min).log2().ceil() + 10.0;
    Each { rounds: 1, bits: ring, explicit: 0.0, common: 32.0 * bits }
}
