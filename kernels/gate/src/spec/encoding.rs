//! Canonical bytes of a specification, little endian. Counts are 16 bits; every limit is checked by [`Spec::new`] after reading.

use super::{Formula, Helper, Pieces, Spec, SpecError, SpecParts, Table, Term, Value, formula};

/// First byte of an encoded specification.
const VERSION: u8 = 1;

/// "No helper" in a term.
const ALWAYS: u16 = u16::MAX;

pub(super) fn encode(parts: &SpecParts) -> Vec<u8> {
    let mut out = vec![VERSION, parts.domain_bits, parts.grid, parts.low_bits, parts.output_shift];
    put_count(&mut out, parts.helpers.len());
    for helper in &parts.helpers {
        put_count(&mut out, helper.name.len());
        out.extend(helper.name.as_bytes());
        put_formula(&mut out, &helper.formula);
    }
    out.push(u8::from(parts.pieces.is_some()));
    if let Some(pieces) = &parts.pieces {
        put_numbers(&mut out, &pieces.cuts);
        put_count(&mut out, pieces.polynomials.len());
        pieces.polynomials.iter().for_each(|polynomial| put_numbers(&mut out, polynomial));
    }
    out.push(u8::from(parts.table.is_some()));
    if let Some(table) = &parts.table {
        out.extend(table.start.to_le_bytes());
        put_count(&mut out, table.values.len());
        out.extend(table.values.iter().flat_map(|v| v.to_le_bytes()));
    }
    put_count(&mut out, parts.terms.len());
    for term in &parts.terms {
        // A helper's index is below MAX_HELPERS.
        out.extend(term.when.map_or(ALWAYS, |h| h as u16).to_le_bytes());
        match &term.value {
            Value::Fixed(polynomial) => {
                out.push(0);
                put_numbers(&mut out, polynomial);
            }
            Value::Pieces(factor) => {
                out.push(1);
                out.extend(factor.to_le_bytes());
            }
            Value::Table(factor) => {
                out.push(2);
                out.extend(factor.to_le_bytes());
            }
        }
    }
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Spec, SpecError> {
    let mut reader = Reader { bytes };
    let [version, domain_bits, grid, low_bits, output_shift] = reader.array()?;
    if version != VERSION {
        return Err(fail("unknown version"));
    }
    let helpers = (0..reader.count()?).map(|_| reader.helper()).collect::<Result<_, _>>()?;
    let pieces = if reader.flag()? { Some(reader.pieces()?) } else { None };
    let table = if reader.flag()? { Some(reader.table()?) } else { None };
    let terms = (0..reader.count()?).map(|_| reader.term()).collect::<Result<_, _>>()?;
    if !reader.bytes.is_empty() {
        return Err(fail("bytes are left over"));
    }
    Spec::new(SpecParts { domain_bits, grid, low_bits, output_shift, helpers, pieces, table, terms })
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    // Every list of a specification is limited far below 2^16.
    out.extend((count as u16).to_le_bytes());
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[i64]) {
    put_count(out, numbers.len());
    out.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
}

/// Operator first, then its operands.
fn put_formula(out: &mut Vec<u8>, formula: &Formula) {
    match formula {
        Formula::Below(bound) => {
            out.push(0);
            out.extend(bound.to_le_bytes());
        }
        Formula::LowBelow(bound) => {
            out.push(1);
            out.extend(bound.to_le_bytes());
        }
        Formula::Not(a) => {
            out.push(2);
            put_formula(out, a);
        }
        Formula::And(a, b) | Formula::Or(a, b) | Formula::Xor(a, b) => {
            out.push(match formula {
                Formula::And(..) => 3,
                Formula::Or(..) => 4,
                _ => 5,
            });
            put_formula(out, a);
            put_formula(out, b);
        }
    }
}

fn fail(reason: &'static str) -> SpecError {
    SpecError::Encoding { reason }
}

/// Takes values from the front of a slice.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], SpecError> {
        let (head, rest) = self.bytes.split_at_checked(len).ok_or_else(|| fail("it ends early"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SpecError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(N)?);
        Ok(out)
    }

    fn count(&mut self) -> Result<usize, SpecError> {
        self.array().map(|bytes| usize::from(u16::from_le_bytes(bytes)))
    }

    fn number(&mut self) -> Result<i64, SpecError> {
        self.array().map(i64::from_le_bytes)
    }

    fn numbers(&mut self) -> Result<Vec<i64>, SpecError> {
        (0..self.count()?).map(|_| self.number()).collect()
    }

    fn flag(&mut self) -> Result<bool, SpecError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(fail("a flag is neither 0 nor 1")),
        }
    }

    fn helper(&mut self) -> Result<Helper, SpecError> {
        let len = self.count()?;
        let name = str::from_utf8(self.slice(len)?).map_err(|_| fail("a name is not UTF-8"))?.to_owned();
        let mut nodes = 0;
        Ok(Helper { name, formula: self.formula(&mut nodes)? })
    }

    fn formula(&mut self, nodes: &mut usize) -> Result<Formula, SpecError> {
        // Bounds the recursion before the validation of the whole.
        *nodes += 1;
        if *nodes > formula::MAX_NODES {
            return Err(fail("a formula is too long"));
        }
        let [operator] = self.array()?;
        let mut operand = |reader: &mut Self| reader.formula(nodes);
        Ok(match operator {
            0 => Formula::Below(self.number()?),
            1 => Formula::LowBelow(u64::from_le_bytes(self.array()?)),
            2 => operand(self)?.not(),
            3 => operand(self)?.and(operand(self)?),
            4 => operand(self)?.or(operand(self)?),
            5 => operand(self)?.xor(operand(self)?),
            _ => return Err(fail("an unknown operator")),
        })
    }

    fn pieces(&mut self) -> Result<Pieces, SpecError> {
        let cuts = self.numbers()?;
        let polynomials = (0..self.count()?).map(|_| self.numbers()).collect::<Result<_, _>>()?;
        Ok(Pieces { cuts, polynomials })
    }

    fn table(&mut self) -> Result<Table, SpecError> {
        let start = self.number()?;
        let values =
            (0..self.count()?).map(|_| self.array().map(i32::from_le_bytes)).collect::<Result<_, _>>()?;
        Ok(Table { start, values })
    }

    fn term(&mut self) -> Result<Term, SpecError> {
        let when = match self.count()? {
            h if h == usize::from(ALWAYS) => None,
            h => Some(h),
        };
        let value = match self.array()? {
            [0] => Value::Fixed(self.numbers()?),
            [1] => Value::Pieces(self.number()?),
            [2] => Value::Table(self.number()?),
            _ => return Err(fail("an unknown kind of term")),
        };
        Ok(Term { when, value })
    }
}
