//! Specification files: TOML, explained key by key in `config/specs/hard-swish-quadratic.toml`.

use std::collections::HashMap;
use std::ops::Range;

use serde::Deserialize;
use suf_toml::MAX_FILE_BYTES;
use toml::Spanned;

use crate::activation::{Activation, Builtin, Expression};
use crate::text::{FileError, Text};

use super::{Formula, Helper, Pieces, Spec, SpecError, SpecParts, Table, Term, Value, formula};

/// Where every key is explained.
const EXPLAINED: &str = "config/specs/hard-swish-quadratic.toml";

/// A parsed specification file.
#[derive(Debug, Clone)]
pub struct SpecFile {
    /// Name of the gate.
    pub name: String,
    /// Fractional bits of inputs, and of outputs after the output shift.
    pub frac: u8,
    /// What is computed.
    pub spec: Spec,
    /// The real function that it approximates, for error figures alone.
    pub activation: Option<Activation>,
}

/// Whether `text` is meant as a specification file rather than a gate file. A specification has terms, or pieces, or
/// helpers, and no `onehot`, which every gate file has. What does not parse as TOML is judged by the heads of its
/// tables.
#[must_use]
pub fn is_spec_file(text: &str) -> bool {
    if text.len() > MAX_FILE_BYTES {
        return false;
    }
    let has = |name: &str| text.lines().any(|line| line.trim().trim_matches(['[', ']']).trim() == name);
    let table = text.parse::<toml::Table>().ok();
    let says = |name: &str| table.as_ref().map_or_else(|| has(name), |table| table.contains_key(name));
    ["term", "piece", "helper"].into_iter().any(says) && !says("onehot")
}

impl SpecFile {
    /// Parses the text of a specification file; `file` names it in errors.
    ///
    /// # Errors
    /// [`FileError`] with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        let source = Text { file, text };
        source.parse::<Document>(EXPLAINED)?.check(&source)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    function: Option<Spanned<String>>,
    expression: Option<Spanned<String>>,
    frac: Spanned<u8>,
    domain_bits: Spanned<u8>,
    grid: u8,
    #[serde(default)]
    low_bits: u8,
    #[serde(default)]
    output_shift: u8,
    #[serde(default, rename = "helper")]
    helpers: Vec<Spanned<HelperTable>>,
    #[serde(default, rename = "piece")]
    pieces: Vec<Spanned<PieceTable>>,
    table: Option<Spanned<WindowTable>>,
    #[serde(rename = "term")]
    terms: Vec<Spanned<TermTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HelperTable {
    name: String,
    formula: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceTable {
    until: Option<i64>,
    polynomial: Vec<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowTable {
    start: i64,
    values: Vec<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermTable {
    when: Option<Spanned<String>>,
    polynomial: Option<Vec<i64>>,
    pieces: Option<i64>,
    table: Option<i64>,
}

impl Document {
    /// Validates the head alone. Then adds one item of the file at a time and validates everything up to it. So
    /// whatever is wrong is the fault of the item just added.
    fn check(self, source: &Text<'_>) -> Result<SpecFile, FileError> {
        if self.frac.get_ref() > &crate::curve::MAX_FRAC {
            let message = format!("frac = {} is outside 0..={}", self.frac.get_ref(), crate::curve::MAX_FRAC);
            return Err(source.error(self.frac.span().start, message));
        }
        let mut parts = SpecParts {
            domain_bits: *self.domain_bits.get_ref(),
            grid: self.grid,
            low_bits: self.low_bits,
            output_shift: self.output_shift,
            helpers: Vec::new(),
            pieces: None,
            table: None,
            terms: Vec::new(),
        };
        valid(source, &parts, &self.domain_bits.span())?;
        for table in &self.helpers {
            parts.helpers.push(helper(table.get_ref(), &parts.helpers, source)?);
            valid(source, &parts, &table.span())?;
        }
        for (i, table) in self.pieces.iter().enumerate() {
            let PieceTable { until, polynomial } = table.get_ref();
            let last = i + 1 == self.pieces.len();
            if until.is_some() == last {
                let message = "every piece but the last has `until`, where the next begins";
                return Err(source.error(table.span().start, message));
            }
            let pieces =
                parts.pieces.get_or_insert_with(|| Pieces { cuts: Vec::new(), polynomials: Vec::new() });
            // The cut of a piece is added with the next one, so that the counts fit at every step.
            let before = i.checked_sub(1).and_then(|i| self.pieces[i].get_ref().until);
            pieces.cuts.extend(before);
            pieces.polynomials.push(polynomial.clone());
            valid(source, &parts, &table.span())?;
        }
        if let Some(table) = self.table {
            let span = table.span();
            let WindowTable { start, values } = table.into_inner();
            parts.table = Some(Table { start, values });
            valid(source, &parts, &span)?;
        }
        for table in &self.terms {
            parts.terms.push(term(table, &parts.helpers, source)?);
            valid(source, &parts, &table.span())?;
        }
        let spec = Spec::new(parts).map_err(|e| source.error(0, e.to_string()))?;
        let activation = match (&self.function, &self.expression) {
            (None, None) => None,
            (Some(name), None) => {
                let function: Builtin = name.get_ref().parse().map_err(|e| source.at(name, e))?;
                Some(function.into())
            }
            (None, Some(text)) => {
                let expression = Expression::parse(text.get_ref()).map_err(|e| source.at(text, e))?;
                Some(Activation::Expression(expression))
            }
            (Some(_), Some(text)) => {
                return Err(source.at(text, "give `function` or `expression`, not both"));
            }
        };
        Ok(SpecFile { name: self.name, frac: *self.frac.get_ref(), spec, activation })
    }
}

fn helper(table: &HelperTable, known: &[Helper], source: &Text<'_>) -> Result<Helper, FileError> {
    let known: HashMap<&str, &Formula> = known.iter().map(|h| (h.name.as_str(), &h.formula)).collect();
    let formula = formula::parse(table.formula.get_ref(), &known).map_err(|e| {
        // One quote precedes the text; an escape in it would shift the column, and no formula needs one.
        source.error(table.formula.span().start + 1 + e.offset, e.message)
    })?;
    Ok(Helper { name: table.name.clone(), formula })
}

fn term(table: &Spanned<TermTable>, helpers: &[Helper], source: &Text<'_>) -> Result<Term, FileError> {
    let TermTable { when, polynomial, pieces, table: entry } = table.get_ref();
    let when = when.as_ref().map(|name| {
        helpers.iter().position(|helper| helper.name == *name.get_ref()).ok_or_else(|| {
            let error = SpecError::Helper { name: name.get_ref().clone(), problem: "is not there" };
            source.error(name.span().start, error.to_string())
        })
    });
    let value = match (polynomial, pieces, entry) {
        (Some(polynomial), None, None) => Value::Fixed(polynomial.clone()),
        (None, Some(factor), None) => Value::Pieces(*factor),
        (None, None, Some(factor)) => Value::Table(*factor),
        _ => {
            let message = "a term has exactly one of `polynomial`, `pieces` and `table`";
            return Err(source.error(table.span().start, message));
        }
    };
    Ok(Term { when: when.transpose()?, value })
}

/// Whether `parts` can be evaluated; what is wrong with them is at `span`.
fn valid(source: &Text<'_>, parts: &SpecParts, span: &Range<usize>) -> Result<(), FileError> {
    super::validate(parts).map_err(|e| source.error(span.start, e.to_string()))
}
