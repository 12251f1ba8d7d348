//! The terms of a specification sorted by the bit that switches them: the first half of the compiler.

use super::compile::{Comparison, MAX_HELPER_INPUTS, Output};
use super::formula::Regions;
use super::{MAX_DEGREE, MAX_WORK, SpecError, SpecParts, Value};
use crate::ring::WIRE;

/// The terms behind one gate, added up; coefficients mod 2^48, signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sum {
    fixed: [i64; MAX_DEGREE + 1],
    pieces: i64,
    table: i64,
}

impl Sum {
    fn add(&mut self, value: &Value, sign: i64) {
        let add =
            |to: &mut i64, v: i64| *to = WIRE.decode(WIRE.encode(to.wrapping_add(v.wrapping_mul(sign))));
        match value {
            Value::Fixed(polynomial) => self.fixed.iter_mut().zip(polynomial).for_each(|(to, &c)| add(to, c)),
            Value::Pieces(factor) => add(&mut self.pieces, *factor),
            Value::Table(factor) => add(&mut self.table, *factor),
        }
    }

    pub(super) fn output(&self, gate: Option<usize>) -> Output {
        let len = self.fixed.iter().rposition(|&c| c != 0).map_or(0, |last| last + 1);
        Output { gate, fixed: self.fixed[..len].to_vec(), pieces: self.pieces, table: self.table }
    }
}

/// All terms by the bit that switches them. Every bit is false where all comparisons are, depends on at least one of
/// them, and is there once.
#[derive(Debug, Clone)]
pub(super) struct Sums {
    pub(super) always: Sum,
    pub(super) gated: Vec<(Regions, Sum)>,
    /// What evaluating the helpers took: see [`MAX_WORK`].
    pub(super) work: u64,
}

impl Sums {
    pub(super) fn of(parts: &SpecParts) -> Result<Self, SpecError> {
        let mut sums = Self { always: Sum::default(), gated: Vec::new(), work: 0 };
        // A helper is evaluated once, however many terms it switches.
        let mut known: Vec<Option<Regions>> = vec![None; parts.helpers.len()];
        for term in &parts.terms {
            let Some(h) = term.when else {
                sums.always.add(&term.value, 1);
                continue;
            };
            let regions = match &known[h] {
                Some(regions) => regions.clone(),
                None => {
                    let regions = Regions::of(&parts.helpers[h].formula, &mut sums.work);
                    if sums.work > MAX_WORK {
                        return Err(SpecError::TooMuchWork { name: parts.helpers[h].name.clone() });
                    }
                    known[h].insert(regions).clone()
                }
            };
            if let (Value::Table(_), Some(table)) = (&term.value, &parts.table) {
                let end = table.start + ((table.values.len() as i64) << parts.grid);
                // Outside the window the entry is 0: only the helper's value inside it matters.
                match regions.constant_on(table.start, end) {
                    Some(true) => sums.always.add(&term.value, 1),
                    Some(false) => {}
                    None => sums.gate(regions, &term.value, parts, h)?,
                }
                continue;
            }
            if regions.inputs() == 0 {
                if regions.last() {
                    sums.always.add(&term.value, 1);
                }
                continue;
            }
            sums.gate(regions, &term.value, parts, h)?;
        }
        sums.gated.retain(|(_, sum)| *sum != Sum::default());
        Ok(sums)
    }

    fn gate(
        &mut self,
        regions: Regions,
        value: &Value,
        parts: &SpecParts,
        helper: usize,
    ) -> Result<(), SpecError> {
        if regions.inputs() > MAX_HELPER_INPUTS {
            let name = parts.helpers[helper].name.clone();
            return Err(SpecError::TooManyInputs { name, inputs: regions.inputs() });
        }
        self.add(regions, value);
        Ok(())
    }

    fn add(&mut self, regions: Regions, value: &Value) {
        // not b * v = v - b * v.
        let (regions, sign) = if regions.last() {
            self.always.add(value, 1);
            (regions.complement(), -1)
        } else {
            (regions, 1)
        };
        match self.gated.iter_mut().find(|(other, _)| *other == regions) {
            Some((_, sum)) => sum.add(value, sign),
            None => {
                let mut sum = Sum::default();
                sum.add(value, sign);
                self.gated.push((regions, sum));
            }
        }
    }

    /// Replaces the pieces, where no helper gates them, by the last piece and, for every cut, what changes below it.
    pub(super) fn pieces_as_gates(&self, parts: &SpecParts) -> Option<Self> {
        let pieces = parts.pieces.as_ref()?;
        if self.always.pieces == 0 || self.gated.iter().any(|(_, sum)| sum.pieces != 0) {
            return None;
        }
        let mut sums = self.clone();
        let factor = std::mem::take(&mut sums.always.pieces);
        let scaled = |polynomial: &[i64], factor: i64| {
            Value::Fixed(polynomial.iter().map(|c| c.wrapping_mul(factor)).collect())
        };
        let last = pieces.polynomials.last()?;
        sums.always.add(&scaled(last, factor), 1);
        for (&cut, pair) in pieces.cuts.iter().zip(pieces.polynomials.windows(2)) {
            let regions = Regions::below(cut);
            sums.add(regions.clone(), &scaled(&pair[0], factor));
            sums.add(regions, &scaled(&pair[1], factor.wrapping_neg()));
        }
        sums.gated.retain(|(_, sum)| *sum != Sum::default());
        Some(sums)
    }

    pub(super) fn comparisons(&self, grid: u8) -> Vec<Comparison> {
        let regions = || self.gated.iter().map(|(regions, _)| regions);
        let mut thresholds: Vec<i64> = regions().flat_map(|r| &r.thresholds).map(|x| x >> grid).collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        let mut lows: Vec<u64> = regions().flat_map(|r| &r.lows).copied().collect();
        lows.sort_unstable();
        lows.dedup();
        thresholds
            .into_iter()
            .map(Comparison::Below)
            .chain(lows.into_iter().map(Comparison::LowBelow))
            .collect()
    }
}
