//! The parameters of products with matrices of a loaded model.

use super::{Cursor, put_u16, ring_of};
use crate::{
    NodeId, ProgramError, TensorShape,
    ops::private::{Chosen, Factor, Left, MAX_TERMS, Matrix, Private, Term},
};

const ROWS: u8 = 0;
const ELEMENTS: u8 = 1;
const ONE: u8 = 2;

/// Writes the parameters of `op`.
pub(super) fn put(out: &mut Vec<u8>, op: &Private) {
    out.extend(op.load());
    out.extend([op.to().bits(), op.frac(), op.terms().len() as u8]);
    for Term { matrix, rows, cols, factor } in op.terms() {
        let Matrix { input, shape, frac } = matrix;
        put_u16(out, input.index());
        out.extend(shape.rows().to_le_bytes());
        out.extend(shape.cols().to_le_bytes());
        out.push(*frac);
        put_chosen(out, rows);
        put_chosen(out, cols);
        match factor {
            Factor::Rows(Left { ring, shift }) => out.extend([ROWS, ring.bits(), *shift]),
            Factor::Elements(Left { ring, shift }) => out.extend([ELEMENTS, ring.bits(), *shift]),
            Factor::One => out.push(ONE),
        }
    }
}

fn put_chosen(out: &mut Vec<u8>, chosen: &Chosen) {
    // Ranges lie apart in at most 2^16 columns or rows of a matrix.
    put_u16(out, chosen.ranges().len());
    for range in chosen.ranges() {
        out.extend(range.start.to_le_bytes());
        out.extend(range.end.to_le_bytes());
    }
}

impl Cursor<'_> {
    /// A product with matrices of a loaded model.
    pub(super) fn private(&mut self) -> Result<Private, ProgramError> {
        let load = self.array()?;
        let [to, frac, count] = self.array()?;
        let to = ring_of(to)?;
        if usize::from(count) > MAX_TERMS {
            return Err(ProgramError::Encoding("too many terms of a sum"));
        }
        let terms = (0..count).map(|_| self.term()).collect::<Result<Vec<_>, _>>()?;
        Private::new(load, terms, to, frac).map_err(|_| ProgramError::Encoding("a sum that cannot be"))
    }

    fn term(&mut self) -> Result<Term, ProgramError> {
        let input = NodeId(self.u16()?);
        let (rows, cols) = (self.u32()?, self.u32()?);
        let [frac] = self.array()?;
        let shape = TensorShape::new(rows, cols)
            .ok_or(ProgramError::Encoding("a matrix is empty or larger than a tensor may be"))?;
        let matrix = Matrix { input, shape, frac };
        let (rows, cols) = (self.chosen()?, self.chosen()?);
        let factor = match self.array()? {
            [ROWS] => Factor::Rows(self.left()?),
            [ELEMENTS] => Factor::Elements(self.left()?),
            [ONE] => Factor::One,
            _ => return Err(ProgramError::Encoding("unknown factor of a matrix")),
        };
        Ok(Term { matrix, rows, cols, factor })
    }

    fn left(&mut self) -> Result<Left, ProgramError> {
        let [bits, shift] = self.array()?;
        if shift >= 64 {
            return Err(ProgramError::Encoding("a wire is shifted by fewer bits than 64"));
        }
        Ok(Left { ring: ring_of(bits)?, shift })
    }

    fn chosen(&mut self) -> Result<Chosen, ProgramError> {
        let count = self.u16()?;
        let ranges =
            (0..count).map(|_| Ok(self.u32()?..self.u32()?)).collect::<Result<Vec<_>, ProgramError>>()?;
        Chosen::new(ranges).map_err(|_| ProgramError::Encoding("ranges that do not follow each other"))
    }
}
