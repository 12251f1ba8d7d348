//! Pieces of a function, whose ends are powers of two and 15 numbers between each two of them.
//!
//! They are made with operations that round alike on every machine: of floating-point numbers sums, products, quotients and
//! square roots alone. What a program says is the function and its bounds, and a hash of the pieces that follow.

use std::fmt;

use crate::{Ring, rotation::mantissa::mantissa};

/// log2 of the pieces between two powers of two.
const PIECE_BITS: u32 = 4;

/// Bits of a piece's length that are compared. So a comparison may be right up to a twelfth of a piece too early. With one bit
/// less the next piece's line would be further from the function there than 2^-11.
const EXTRA_BITS: u32 = 4;

/// Bits of an end that are compared, after the first one.
const END_BITS: u32 = PIECE_BITS + EXTRA_BITS;

/// Points of a piece at which its error is looked at.
const SAMPLES: u32 = 32;

/// A function of a positive number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// 1 / x.
    Reciprocal,
    /// 1 / sqrt(x / of).
    InverseSqrt {
        /// What x is divided by, such as the number of squares whose sum it is.
        of: u32,
    },
}

/// On a piece from `from` on the function is `slope x + offset`, all in units of the wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The least x.
    pub from: u64,
    /// In units of the output for each unit of the input.
    pub slope: i64,
    /// In units of the output.
    pub offset: i64,
}

/// Why there are no such pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PieceError(pub &'static str);

/// A function on pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces {
    function: Function,
    low: u64,
    high: u64,
    /// Bits of x that no comparison looks at.
    cut: u32,
    /// Bits that are compared.
    compared: u32,
    pieces: Vec<Piece>,
}

impl Function {
    /// The value at x units of 2^-`frac`, in units of 2^-`to_frac`.
    fn value(self, x: f64, frac: u8, to_frac: u8) -> f64 {
        let unit = |bits: u8| (1u128 << bits) as f64;
        match self {
            Self::Reciprocal => unit(to_frac) * unit(frac) / x,
            Self::InverseSqrt { of } => unit(to_frac) * (f64::from(of) * unit(frac) / x).sqrt(),
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reciprocal => f.write_str("1/x"),
            Self::InverseSqrt { of } => write!(f, "1/sqrt(x/{of})"),
        }
    }
}

impl Pieces {
    pub(super) fn new(
        function: Function,
        ring: Ring,
        (frac, to_frac): (u8, u8),
        low: u64,
        high: u64,
    ) -> Result<Self, PieceError> {
        if low < 1 << END_BITS || high <= low {
            return Err(PieceError("bounds must be at least 2^8 units, the lower one first"));
        }
        if function == (Function::InverseSqrt { of: 0 }) {
            return Err(PieceError("nothing is divided by zero"));
        }
        let (cut, ends) = (cut_of(low), ends(low, high));
        // One unit of the comparison more than the greatest x.
        let compared = u64::BITS - (high.saturating_add(1 << cut_of(high)) - 1).leading_zeros() - cut;
        if cut + compared >= ring.bits().into() {
            return Err(PieceError("the ring does not hold the bounds"));
        }
        let value = |x: f64| function.value(x, frac, to_frac);
        // Of a falling function, the first value is the greatest.
        if value(low as f64) >= (1u64 << (ring.bits() - 2)) as f64 {
            return Err(PieceError("the ring does not hold the function's values"));
        }
        let pieces = ends.windows(2).map(|ends| piece(&value, ends[0], ends[1])).collect();
        Ok(Self { function, low, high, cut, compared, pieces })
    }

    /// The function.
    #[must_use]
    pub fn function(&self) -> Function {
        self.function
    }

    /// The least x.
    #[must_use]
    pub fn low(&self) -> u64 {
        self.low
    }

    /// x is less.
    #[must_use]
    pub fn high(&self) -> u64 {
        self.high
    }

    /// The pieces.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The ends that x is compared with: where the pieces after the first begin.
    pub fn ends(&self) -> impl ExactSizeIterator<Item = u64> + Clone {
        self.pieces[1..].iter().map(|piece| piece.from)
    }

    /// After how many levels of a tree the comparison with an end is over.
    #[must_use]
    pub fn depth(&self, end: u64) -> usize {
        (self.compared - (cut_of(end) - self.cut)) as usize
    }

    /// Bits that are compared.
    #[must_use]
    pub fn compared_bits(&self) -> usize {
        self.compared as usize
    }

    /// Bits of a number that no comparison looks at.
    #[must_use]
    pub fn cut(&self) -> u32 {
        self.cut
    }

    /// The bits of a number that are compared.
    #[must_use]
    #[inline(always)]
    pub fn compared(&self, number: u64) -> u64 {
        number >> self.cut & ((1 << self.compared) - 1)
    }

    /// BLAKE3 of all pieces.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for Piece { from, slope, offset } in &self.pieces {
            hash.update(&from.to_le_bytes()).update(&slope.to_le_bytes()).update(&offset.to_le_bytes());
        }
        *hash.finalize().as_bytes()
    }
}

/// Bits of x that the comparison with `end` does not look at. All ends are multiples of 2 to that power, the bounds aside.
#[must_use]
pub const fn cut_of(end: u64) -> u32 {
    end.ilog2() - END_BITS
}

/// `low`, the ends of pieces between the bounds, and `high`.
fn ends(low: u64, high: u64) -> Vec<u64> {
    let inner = (low.ilog2()..=high.ilog2()).flat_map(|octave| {
        (0..1 << PIECE_BITS).map(move |i| mantissa(END_BITS, i, PIECE_BITS) << (octave - END_BITS))
    });
    [low].into_iter().chain(inner.filter(|end| (low + 1..high).contains(end))).chain([high]).collect()
}

/// The chord from `from` to `to`, moved so that its errors on both sides are equal.
fn piece(value: &impl Fn(f64) -> f64, from: u64, to: u64) -> Piece {
    let (first, last) = (from as f64, to as f64);
    let slope = ((value(last) - value(first)) / (last - first)).round_ties_even();
    let errors = (0..=SAMPLES).map(|i| {
        let x = first + (last - first) * f64::from(i) / f64::from(SAMPLES);
        value(x) - slope * x
    });
    let (least, most) = errors
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), error| (least.min(error), most.max(error)));
    Piece { from, slope: slope as i64, offset: f64::midpoint(least, most).round_ties_even() as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(function: Function, bits: u8, frac: (u8, u8), low: u64, high: u64) -> Pieces {
        Pieces::new(function, Ring::new(bits), frac, low, high).expect("they fit")
    }

    fn reciprocal() -> Pieces {
        of(Function::Reciprocal, 48, (24, 36), (1 << 17) - (1 << 13), 33 << 21)
    }

    #[test]
    fn pieces_are_near_the_function_even_where_a_comparison_errs() {
        let g = 384.0 * 16_777_216.0;
        let sqrt = Function::InverseSqrt { of: 384 };
        let inverse_sqrt = of(sqrt, 64, (24, 52), (0.025 * g) as u64, (520.0 * g) as u64);
        let cases = [(reciprocal(), 24, 36), (inverse_sqrt, 24, 52)];
        for (pieces, frac, to_frac) in cases {
            let all = pieces.pieces();
            assert!(all.is_sorted_by_key(|piece| piece.from));
            assert!(pieces.ends().all(|end| end % (1 << cut_of(end)) == 0));
            for (i, piece) in all.iter().enumerate() {
                let end = all.get(i + 1).map_or(pieces.high(), |next| next.from);
                // One unit of the comparison before the piece, too.
                for x in
                    [piece.from - (1 << cut_of(piece.from)), piece.from, piece.from.midpoint(end), end - 1]
                {
                    let y = (i128::from(piece.slope) * i128::from(x) + i128::from(piece.offset)) as f64;
                    let real = pieces.function().value(x as f64, frac, to_frac);
                    assert!((y / real - 1.0).abs() < 1.0 / 2048.0, "{} at {x}", pieces.function());
                }
            }
        }
    }

    #[test]
    fn few_bits_are_compared() {
        let pieces = reciprocal();
        assert_eq!((pieces.cut, pieces.compared_bits(), pieces.pieces().len()), (8, 19, 147));
        let depths: Vec<usize> = pieces.ends().map(|end| pieces.depth(end)).collect();
        assert_eq!((depths[0], depths[145]), (19, 9));
        assert_eq!(pieces.compared(u64::MAX), (1 << 19) - 1);
    }

    #[test]
    fn bounds_that_are_none_are_refused() {
        let new = |bits, to_frac, low, high| {
            Pieces::new(Function::Reciprocal, Ring::new(bits), (24, to_frac), low, high)
        };
        assert!(new(48, 36, 1 << 16, 1 << 26).is_ok());
        assert!(new(48, 36, 255, 1 << 26).is_err() && new(48, 36, 1 << 16, 1 << 16).is_err());
        assert!(new(48, 36, 1 << 16, 1 << 48).is_err(), "beyond the ring");
        assert!(new(48, 36, 1 << 16, u64::MAX).is_err());
        assert!(new(48, 40, 1 << 13, 1 << 26).is_err(), "values beyond the ring");
        let none = Function::InverseSqrt { of: 0 };
        assert!(Pieces::new(none, Ring::new(64), (24, 52), 1 << 16, 1 << 26).is_err());
    }

    #[test]
    fn another_output_scale_changes_the_digest() {
        let low = (1 << 17) - (1 << 13);
        let other = of(Function::Reciprocal, 48, (24, 35), low, 33 << 21);
        assert_ne!(reciprocal().digest(), other.digest());
        assert_eq!(reciprocal().digest(), reciprocal().digest());
    }
}
