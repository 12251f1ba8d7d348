//! The parameters of products of masked wires.

use super::{Cursor, PADS, PRODUCT, SCALE, SLICE, SQUARE_SUM, ring_of};
use crate::{
    ProgramError,
    ops::{Extended, Factors, Heads, Op, Pad, PadOf, Pads, Product, Scale, Slice, SquareSum},
};

const ELEMENTS: u8 = 0;
const SCORES: u8 = 1;
const MASKED_SCORES: u8 = 2;
const MIX: u8 = 3;

/// Writes the parameters of `op`, which is one of [`Cursor::product`].
pub(super) fn put(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Slice(Slice { first, count }) => {
            out.extend(first.to_le_bytes());
            out.extend(count.to_le_bytes());
        }
        Op::Pads(op) => {
            let Pad { of, from, to } = op.pad();
            let of = match of {
                PadOf::Quotient => 0,
                PadOf::Top => 1,
                PadOf::TopQuotient => 2,
            };
            out.extend([of, from.ring.bits(), from.drop, to.bits(), u8::from(op.is_dealt())]);
        }
        Op::Product(op) => {
            let (kind, heads) = match op.factors() {
                Factors::Elements => (ELEMENTS, None),
                Factors::Scores(heads) => (if op.is_added() { MASKED_SCORES } else { SCORES }, Some(heads)),
                Factors::Mix(heads) => (MIX, Some(heads)),
            };
            out.push(kind);
            put_heads(out, heads);
            out.extend(op.from().map(|ring| ring.bits()));
            out.push(op.to().bits());
        }
        Op::Scale(op) => {
            put_heads(out, op.heads());
            op.factors().into_iter().for_each(|factor| put_extended(out, factor));
            out.push(op.to().bits());
        }
        Op::SquareSum(op) => {
            put_extended(out, op.factor());
            out.push(op.to().bits());
        }
        _ => {}
    }
}

/// None are written as 0 heads of 0 tokens.
fn put_heads(out: &mut Vec<u8>, heads: Option<Heads>) {
    let Heads { heads, tokens } = heads.unwrap_or(Heads { heads: 0, tokens: 0 });
    out.extend(heads.to_le_bytes());
    out.extend(tokens.to_le_bytes());
}

fn put_extended(out: &mut Vec<u8>, Extended { ring, drop }: Extended) {
    out.extend([ring.bits(), drop]);
}

impl Cursor<'_> {
    /// A slice, shares of masks or a product.
    pub(super) fn product(&mut self, code: u8) -> Result<Op, ProgramError> {
        let refused = |_| ProgramError::Encoding("parameters of a product that cannot be");
        Ok(match code {
            SLICE => Op::Slice(Slice { first: self.u32()?, count: self.u32()? }),
            PADS => Op::Pads(self.pads()?),
            PRODUCT => {
                let [kind] = self.array()?;
                let heads = self.heads()?;
                let [x, y, to] = self.array()?;
                let (from, to) = ([ring_of(x)?, ring_of(y)?], ring_of(to)?);
                let made = match (kind, heads) {
                    (ELEMENTS, None) => Product::new(Factors::Elements, from, to),
                    (SCORES, Some(heads)) => Product::new(Factors::Scores(heads), from, to),
                    (MASKED_SCORES, Some(heads)) => Product::masked_scores(heads, from, to),
                    (MIX, Some(heads)) => Product::new(Factors::Mix(heads), from, to),
                    _ => return Err(ProgramError::Encoding("unknown product")),
                };
                Op::Product(made.map_err(refused)?)
            }
            SCALE => {
                let (heads, matrix, values) = (self.heads()?, self.extended()?, self.extended()?);
                let [to] = self.array()?;
                Op::Scale(Scale::new(matrix, values, heads, ring_of(to)?).map_err(refused)?)
            }
            SQUARE_SUM => {
                let matrix = self.extended()?;
                let [to] = self.array()?;
                Op::SquareSum(SquareSum::new(matrix, ring_of(to)?).map_err(refused)?)
            }
            _ => return Err(ProgramError::Encoding("unknown operation")),
        })
    }

    fn pads(&mut self) -> Result<Pads, ProgramError> {
        let [of] = self.array()?;
        let of = match of {
            0 => PadOf::Quotient,
            1 => PadOf::Top,
            2 => PadOf::TopQuotient,
            _ => return Err(ProgramError::Encoding("unknown shares of masks")),
        };
        let from = self.extended()?;
        let [to, is_dealt] = self.array()?;
        let to = ring_of(to)?;
        let whole = Pad::whole(from.ring, to);
        match is_dealt {
            1 => Ok(Pads::dealt(Pad { of, from, to })),
            0 if whole == (Pad { of, from, to }) => {
                Pads::own(from.ring, to).map_err(|_| ProgramError::Encoding("shares that are none"))
            }
            _ => Err(ProgramError::Encoding("shares that a party does not have")),
        }
    }

    fn heads(&mut self) -> Result<Option<Heads>, ProgramError> {
        match (self.u32()?, self.u32()?) {
            (0, 0) => Ok(None),
            (heads, tokens) => Ok(Some(Heads { heads, tokens })),
        }
    }

    fn extended(&mut self) -> Result<Extended, ProgramError> {
        let [bits, drop] = self.array()?;
        Extended::new(ring_of(bits)?, drop)
            .map_err(|_| ProgramError::Encoding("fewer than two bits are left of a wire"))
    }
}
