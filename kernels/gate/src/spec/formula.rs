//! Boolean formulas over comparisons, their text, and their value region by region.

use std::collections::{BTreeSet, HashMap};

/// Words that are no helper's name.
pub const RESERVED: [&str; 6] = ["x", "low", "and", "or", "xor", "not"];

/// Most nodes of one formula: a bound on text and recursion, far above what a truth table of 8 inputs can tell apart.
pub const MAX_NODES: usize = 256;

/// A Boolean formula over comparisons of x, in units of 2^-frac, and of x mod 2^f.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula {
    /// x < bound.
    Below(i64),
    /// (x mod 2^f) < bound.
    LowBelow(u64),
    /// Negation.
    Not(Box<Formula>),
    /// Conjunction.
    And(Box<Formula>, Box<Formula>),
    /// Disjunction.
    Or(Box<Formula>, Box<Formula>),
    /// Exclusive or.
    Xor(Box<Formula>, Box<Formula>),
}

impl Formula {
    /// The negation.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "reads as the formula does, beside and, or, xor")]
    pub fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// The conjunction.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }

    /// The disjunction.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }

    /// The exclusive or.
    #[must_use]
    pub fn xor(self, other: Self) -> Self {
        Self::Xor(Box::new(self), Box::new(other))
    }

    /// Value for an input x on the grid and the low bits of the exact input.
    #[must_use]
    pub fn eval(&self, x: i64, low: u64) -> bool {
        match self {
            Self::Below(bound) => x < *bound,
            Self::LowBelow(bound) => low < *bound,
            Self::Not(a) => !a.eval(x, low),
            Self::And(a, b) => a.eval(x, low) & b.eval(x, low),
            Self::Or(a, b) => a.eval(x, low) | b.eval(x, low),
            Self::Xor(a, b) => a.eval(x, low) ^ b.eval(x, low),
        }
    }

    /// Number of operators and comparisons.
    #[must_use]
    pub fn nodes(&self) -> usize {
        1 + match self {
            Self::Below(_) | Self::LowBelow(_) => 0,
            Self::Not(a) => a.nodes(),
            Self::And(a, b) | Self::Or(a, b) | Self::Xor(a, b) => a.nodes() + b.nodes(),
        }
    }

    /// The thresholds of x, increasing, each once.
    #[must_use]
    pub fn thresholds(&self) -> Vec<i64> {
        let mut out = BTreeSet::new();
        self.visit(&mut |leaf| {
            if let Self::Below(bound) = leaf {
                out.insert(*bound);
            }
        });
        out.into_iter().collect()
    }

    /// The bounds of x mod 2^f, increasing, each once.
    #[must_use]
    pub fn low_bounds(&self) -> Vec<u64> {
        let mut out = BTreeSet::new();
        self.visit(&mut |leaf| {
            if let Self::LowBelow(bound) = leaf {
                out.insert(*bound);
            }
        });
        out.into_iter().collect()
    }

    fn visit(&self, leaf: &mut impl FnMut(&Self)) {
        match self {
            Self::Below(_) | Self::LowBelow(_) => leaf(self),
            Self::Not(a) => a.visit(leaf),
            Self::And(a, b) | Self::Or(a, b) | Self::Xor(a, b) => {
                a.visit(leaf);
                b.visit(leaf);
            }
        }
    }
}

/// The rectangles that a formula's thresholds cut: a row for each region of x, a bit for each region of the low bits.
struct Grid {
    thresholds: Vec<i64>,
    lows: Vec<u64>,
    /// Words of a row.
    words: usize,
}

impl Grid {
    /// The formula's value on every rectangle, row after row. Bits beyond the last region mean nothing.
    fn eval(&self, formula: &Formula, work: &mut u64) -> Vec<u64> {
        let rows = self.thresholds.len() + 1;
        *work += (rows * self.words) as u64;
        let mut combine = |a: &Formula, b: &Formula, operator: fn(u64, u64) -> u64| {
            let (mut a, b) = (self.eval(a, work), self.eval(b, work));
            a.iter_mut().zip(b).for_each(|(a, b)| *a = operator(*a, b));
            a
        };
        match formula {
            // Region i lies below thresholds i, i + 1, ...
            Formula::Below(bound) => {
                let below = self.thresholds.partition_point(|threshold| threshold < bound) + 1;
                let mut values = vec![u64::MAX; below * self.words];
                values.resize(rows * self.words, 0);
                values
            }
            Formula::LowBelow(bound) => {
                let below = self.lows.partition_point(|low| low < bound) + 1;
                let word = |i: usize| u64::MAX.checked_shr((64 * (i + 1)).saturating_sub(below) as u32);
                let row: Vec<u64> = (0..self.words).map(|i| word(i).unwrap_or(0)).collect();
                row.repeat(rows)
            }
            Formula::Not(a) => {
                let mut values = self.eval(a, work);
                values.iter_mut().for_each(|value| *value = !*value);
                values
            }
            Formula::And(a, b) => combine(a, b, |a, b| a & b),
            Formula::Or(a, b) => combine(a, b, |a, b| a | b),
            Formula::Xor(a, b) => combine(a, b, |a, b| a ^ b),
        }
    }
}

/// A formula's value on the rectangles that its thresholds cut: all that a formula means. Two formulas with the same
/// minimal regions are the same bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Regions {
    /// Thresholds of x, increasing; region i lies below threshold i and not below i - 1.
    pub(super) thresholds: Vec<i64>,
    /// Bounds of the low bits, likewise.
    pub(super) lows: Vec<u64>,
    /// Value by region of x, then of the low bits.
    pub(super) values: Vec<Vec<bool>>,
}

impl Regions {
    /// The regions of `formula`. All rows are evaluated at once, 64 low regions to a word; `work` grows by the words that were
    /// computed.
    pub(super) fn of(formula: &Formula, work: &mut u64) -> Self {
        let (thresholds, lows) = (formula.thresholds(), formula.low_bounds());
        let grid = Grid { words: (lows.len() + 1).div_ceil(64), thresholds, lows };
        let values = grid.eval(formula, work);
        let row = |words: &[u64]| (0..=grid.lows.len()).map(|j| words[j / 64] >> (j % 64) & 1 == 1).collect();
        let values = values.chunks_exact(grid.words).map(row).collect();
        Self { thresholds: grid.thresholds, lows: grid.lows, values }.minimal()
    }

    /// The regions of `x < bound`.
    pub(super) fn below(bound: i64) -> Self {
        Self { thresholds: vec![bound], lows: Vec::new(), values: vec![vec![true], vec![false]] }
    }

    /// Drops every threshold across which nothing changes.
    fn minimal(mut self) -> Self {
        for i in (0..self.thresholds.len()).rev() {
            if self.values[i] == self.values[i + 1] {
                self.thresholds.remove(i);
                self.values.remove(i + 1);
            }
        }
        for j in (0..self.lows.len()).rev() {
            if self.values.iter().all(|row| row[j] == row[j + 1]) {
                self.lows.remove(j);
                for row in &mut self.values {
                    row.remove(j + 1);
                }
            }
        }
        self
    }

    pub(super) fn inputs(&self) -> usize {
        self.thresholds.len() + self.lows.len()
    }

    /// The value where every comparison is false.
    pub(super) fn last(&self) -> bool {
        self.values[self.thresholds.len()][self.lows.len()]
    }

    pub(super) fn complement(mut self) -> Self {
        for value in self.values.iter_mut().flatten() {
            *value = !*value;
        }
        self
    }

    /// The one value on all of first <= x < end, whatever the low bits; none if it varies.
    pub(super) fn constant_on(&self, first: i64, end: i64) -> Option<bool> {
        let region = |x: i64| self.thresholds.iter().filter(|&&threshold| x >= threshold).count();
        let mut values = self.values[region(first)..=region(end - 1)].iter().flatten().copied();
        let value = values.next()?;
        values.all(|v| v == value).then_some(value)
    }

    /// Value for every combination of comparison results, thresholds first, comparison i in bit i of the index. Combinations
    /// that no input has get the value of some input.
    pub(super) fn truth_table(&self) -> Vec<bool> {
        let n = self.thresholds.len();
        (0..1_usize << self.inputs())
            .map(|row| {
                let false_below = n - (row & ((1 << n) - 1)).count_ones() as usize;
                let false_low = self.lows.len() - (row >> n).count_ones() as usize;
                self.values[false_below][false_low]
            })
            .collect()
    }
}

/// A formula's text does not parse: what is wrong and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParseError {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Parses `not`, `and`, `xor`, `or` (binding in that order) and parentheses. Operands are `x < n`, `x >= n`, `low < n`,
/// `low >= n`, and names of earlier helpers.
pub(super) fn parse(text: &str, helpers: &HashMap<&str, &Formula>) -> Result<Formula, ParseError> {
    let mut parser = Parser { text, position: 0, nodes: 0, helpers };
    let formula = parser.binary(0)?;
    match parser.peek() {
        "" => Ok(formula),
        token => Err(parser.error(format!("`{token}` after the end of the formula"))),
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    nodes: usize,
    helpers: &'a HashMap<&'a str, &'a Formula>,
}

type Combine = fn(Formula, Formula) -> Formula;

/// Infix operators, loosest first.
const OPERATORS: [(&str, Combine); 3] = [("or", Formula::or), ("xor", Formula::xor), ("and", Formula::and)];

impl<'a> Parser<'a> {
    fn binary(&mut self, level: usize) -> Result<Formula, ParseError> {
        let Some(&(word, combine)) = OPERATORS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while self.peek() == word {
            self.next();
            left = combine(left, self.binary(level + 1)?);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Formula, ParseError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.error(format!("more than {MAX_NODES} operators")));
        }
        match self.peek() {
            "not" => {
                self.next();
                Ok(self.unary()?.not())
            }
            "(" => {
                self.next();
                let inner = self.binary(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            "x" => {
                self.next();
                self.comparison(|parser| parser.number().map(Formula::Below))
            }
            "low" => {
                self.next();
                self.comparison(|parser| {
                    let at = parser.position;
                    let bound = u64::try_from(parser.number()?);
                    bound.map(Formula::LowBelow).map_err(|_| ParseError {
                        offset: at,
                        message: "x mod 2^f is never negative".to_owned(),
                    })
                })
            }
            name => match self.helpers.get(name) {
                Some(&formula) => {
                    self.next();
                    Ok(formula.clone())
                }
                None => Err(self.error(match name {
                    "" => "the formula ends too early".to_owned(),
                    name => format!("`{name}` is neither `x`, `low`, `not`, `(` nor a helper above"),
                })),
            },
        }
    }

    fn comparison(
        &mut self,
        bound: impl Fn(&mut Self) -> Result<Formula, ParseError>,
    ) -> Result<Formula, ParseError> {
        match self.peek() {
            "<" => {
                self.next();
                bound(self)
            }
            ">=" => {
                self.next();
                Ok(bound(self)?.not())
            }
            token => Err(self.error(format!("`<` or `>=` expected, not `{token}`"))),
        }
    }

    fn number(&mut self) -> Result<i64, ParseError> {
        let token = self.peek();
        let number = token.parse().map_err(|_| self.error(format!("an integer expected, not `{token}`")))?;
        self.next();
        Ok(number)
    }

    fn expect(&mut self, token: &str) -> Result<(), ParseError> {
        let found = self.peek();
        if found != token {
            return Err(self.error(format!("`{token}` expected, not `{found}`")));
        }
        self.next();
        Ok(())
    }

    /// The token at the position: a word, a number with its sign, `<`, `>=` or one other character; empty at the end.
    fn peek(&mut self) -> &'a str {
        let rest = &self.text[self.position..];
        let trimmed = rest.trim_start();
        self.position += rest.len() - trimmed.len();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut chars = trimmed.chars();
        let len = match chars.next() {
            None => 0,
            Some('>') if chars.next() == Some('=') => 2,
            Some(c) if is_word(c) || c == '-' => {
                let tail = &trimmed[1..];
                1 + tail.find(|c| !is_word(c)).unwrap_or(tail.len())
            }
            Some(c) => c.len_utf8(),
        };
        &trimmed[..len]
    }

    fn next(&mut self) {
        self.position += self.peek().len();
    }

    fn error(&self, message: String) -> ParseError {
        ParseError { offset: self.position, message }
    }
}
