//! A fixed-point function with linear ends and a window: the function that `suf`, `onehot` and `dpf` compute
//! (`docs/protocols.md#the-function`).
//!
//! `y = line(x) + residual[t]`. Here `t` is the input rounded to a grid, up or down with a probability equal to the
//! fraction, hence unbiased. `line` is the right one for `t >= 0` and the left one below. `residual` is zero outside a
//! window round 0. A curve is integers only. It travels between machines as bytes, so that two of them never differ by
//! a rounding.

mod accuracy;
mod encoding;

use crate::activation::Activation;
pub use accuracy::Accuracy;

/// Narrowest window, in bits of `t`: a 64-bit word of one-hot bits.
pub const MIN_WINDOW_BITS: u8 = 6;
/// Widest window, in bits of `t`: one-hot keys grow with 2^L, and half a kilobyte per element is the end of what is useful.
pub const MAX_WINDOW_BITS: u8 = 12;
/// Largest number of fractional bits: leaves 24 integer bits of the 48-bit ring.
pub const MAX_FRAC: u8 = 24;
/// Most bits of the mask that hides a residual on the wire.
pub const MAX_MASK_BITS: u8 = 16;
/// Largest magnitude of a slope: a line must not leave the ring for inputs of SIGMA's domain (2^35 * 2^8 < 2^47).
pub const MAX_SLOPE: i64 = 1 << 8;
/// Largest magnitude of an intercept, in units of 2^-frac.
pub const MAX_INTERCEPT: i64 = 1 << 40;
/// Longest name, in bytes: fits one length byte and one line of a report.
pub const MAX_NAME_BYTES: usize = 32;

/// Where the ends of an activation are taken to be reached, as a real number. There e^-512 is 0 in fixed point, and
/// e^512 is still far from overflow. So formulas with exponentials have values there.
const FAR: f64 = 512.0;

/// Why a function is not a curve, or bytes are not one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CurveError {
    /// The name has characters other than a-z, 0-9 and `-`, or a bad length.
    #[error("`{name}` is not a gate name: 1 to {MAX_NAME_BYTES} characters of a-z, 0-9 and `-`")]
    Name {
        /// The name as given.
        name: String,
    },
    /// A parameter is out of its range.
    #[error("{what} = {value} is outside {min}..={max}")]
    Range {
        /// Which parameter.
        what: &'static str,
        /// Its value.
        value: i64,
        /// Least value allowed.
        min: i64,
        /// Greatest value allowed.
        max: i64,
    },
    /// The function has no finite value somewhere it is needed.
    #[error("the function is not finite at x = {x}")]
    NotFinite {
        /// The real input.
        x: f64,
    },
    /// The function does not become a line, or the line's slope is not an integer.
    #[error("the function has no linear end with an integer slope towards {end}: its slope there is {slope}")]
    NoLine {
        /// `+infinity` or `-infinity`.
        end: &'static str,
        /// Mean slope measured there.
        slope: f64,
    },
    /// A residual is too large to be masked.
    #[error("at x = {x} the function is {residual} units from its line; a window holds less than {limit}")]
    ResidualTooLarge {
        /// The real input.
        x: f64,
        /// The residual, in units of 2^-frac.
        residual: f64,
        /// The bound, in the same units.
        limit: i64,
    },
    /// Even the widest window leaves more error outside than the grid makes inside.
    #[error(
        "no window up to 2^{MAX_WINDOW_BITS} grid points is enough: {outside:e} is left outside, the grid's own error is {inside:e}"
    )]
    NoWindow {
        /// Largest error outside the widest window.
        outside: f64,
        /// Largest error inside it.
        inside: f64,
    },
    /// Bytes that are not the canonical encoding of a curve.
    #[error("not an encoded curve: {reason}")]
    Encoding {
        /// What is wrong.
        reason: &'static str,
    },
}

/// `y = slope * x + intercept` in fixed point: x, y and the intercept in units of 2^-frac.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Line {
    /// An integer, so that no truncation is needed.
    pub slope: i64,
    /// In units of 2^-frac.
    pub intercept: i64,
}

impl Line {
    /// The constant 0.
    pub const ZERO: Self = Self { slope: 0, intercept: 0 };
    /// y = x.
    pub const IDENTITY: Self = Self { slope: 1, intercept: 0 };

    /// Value at `x`, both in units of 2^-frac; wraps at 2^64, of which the ring's 2^48 is a divisor.
    #[must_use]
    pub fn at(self, x: i64) -> i64 {
        self.slope.wrapping_mul(x).wrapping_add(self.intercept)
    }

    /// Value at a real `x`, as a real number.
    fn real(self, x: f64, frac: u8) -> f64 {
        self.slope as f64 * x + self.intercept as f64 / unit(frac)
    }
}

/// A function with linear ends and a windowed residual; see the module's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// Name for people and for the gate's digest.
    pub name: String,
    /// f: fractional bits of x and y.
    pub frac: u8,
    /// Bits dropped from x to reach the grid, whose step is 2^-(frac - shift).
    pub shift: u8,
    /// L: the window is -2^(L-1) <= t < 2^(L-1).
    pub window_bits: u8,
    /// The line for t < 0.
    pub left: Line,
    /// The line for t >= 0.
    pub right: Line,
    /// 2^L corrections in units of 2^-frac; entry i belongs to t = i - 2^(L-1).
    pub residual: Vec<i32>,
}

impl Curve {
    /// Tabulates `activation` against two given lines in a given window. The name starts as the built-in's, or `custom`.
    ///
    /// # Errors
    /// A parameter out of range, a value that is not finite, a residual that cannot be masked in [`MAX_MASK_BITS`].
    pub fn build(
        activation: &Activation,
        frac: u8,
        shift: u8,
        window_bits: u8,
        left: Line,
        right: Line,
    ) -> Result<Self, CurveError> {
        check_parameters(frac, shift, window_bits, left, right)?;
        let limit = 1_i64 << (MAX_MASK_BITS - 2);
        let half = 1_i64 << (window_bits - 1);
        let grid = unit(frac - shift);
        let residual = (-half..half)
            .map(|t| {
                let x = t as f64 / grid;
                let line = if t >= 0 { right } else { left };
                let units = (unit(frac) * (finite(activation, x)? - line.real(x, frac))).round_ties_even();
                if units.abs() >= limit as f64 {
                    return Err(CurveError::ResidualTooLarge { x, residual: units, limit });
                }
                Ok(units as i32)
            })
            .collect::<Result<_, _>>()?;
        let name = match activation {
            Activation::Builtin(function) => function.name(),
            Activation::Expression(_) | Activation::Samples(_) => "custom",
        };
        Ok(Self { name: name.to_owned(), frac, shift, window_bits, left, right, residual })
    }

    /// Like [`Self::build`], but finds what is not given. Lines come from the limits at both ends. The window is the
    /// smallest one outside which the error is no larger than the grid makes it inside.
    ///
    /// # Errors
    /// Those of [`Self::build`]; [`CurveError::NoLine`] and [`CurveError::NoWindow`] when there is nothing to find.
    pub fn fit(
        activation: &Activation,
        frac: u8,
        shift: u8,
        window_bits: Option<u8>,
        left: Option<Line>,
        right: Option<Line>,
    ) -> Result<Self, CurveError> {
        check_parameters(frac, shift, window_bits.unwrap_or(MIN_WINDOW_BITS), Line::ZERO, Line::ZERO)?;
        let left = left.map_or_else(|| end_line(activation, frac, -FAR), Ok)?;
        let right = right.map_or_else(|| end_line(activation, frac, FAR), Ok)?;
        if let Some(bits) = window_bits {
            return Self::build(activation, frac, shift, bits, left, right);
        }
        let mut failure = None;
        for bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS {
            let curve = Self::build(activation, frac, shift, bits, left, right)?;
            let (inside, outside) =
                (curve.max_error_inside(activation)?, curve.max_error_outside(activation)?);
            if outside <= inside {
                return Ok(curve);
            }
            failure = Some(CurveError::NoWindow { outside, inside });
        }
        // The range of widths is not empty, so a failure was recorded.
        Err(failure.unwrap_or(CurveError::NoWindow { outside: f64::NAN, inside: f64::NAN }))
    }

    /// The same curve under another name.
    ///
    /// # Errors
    /// [`CurveError::Name`].
    pub fn named(mut self, name: &str) -> Result<Self, CurveError> {
        check_name(name)?;
        name.clone_into(&mut self.name);
        Ok(self)
    }

    /// Number of grid points in the window, 2^L.
    #[must_use]
    pub fn window_len(&self) -> usize {
        1 << self.window_bits
    }

    /// k: the least width with every `|residual| < 2^(k-2)`. A residual of either sign, masked mod 2^k, is then
    /// recovered with one bit of slack for the carry. See `docs/protocols/building-blocks.md#masked-table-entry`.
    #[must_use]
    pub fn mask_bits(&self) -> u8 {
        let largest = self.residual.iter().map(|r| r.unsigned_abs()).max().unwrap_or(0);
        // 2^(k-2) > largest: k - 2 is the bit length.
        (u32::BITS - largest.leading_zeros()) as u8 + 2
    }

    /// The line that holds at grid point `t`.
    #[must_use]
    pub fn line(&self, t: i64) -> Line {
        if t >= 0 { self.right } else { self.left }
    }

    /// The correction at grid point `t`, in units of 2^-frac: 0 outside the window.
    #[must_use]
    pub fn residual_at(&self, t: i64) -> i64 {
        let half = 1_i64 << (self.window_bits - 1);
        // The range check precedes the index, so i is in 0..2^L.
        if (-half..half).contains(&t) { i64::from(self.residual[(t + half) as usize]) } else { 0 }
    }

    /// Value for input `x` rounded to grid point `t`; x and the value in units of 2^-frac.
    #[must_use]
    pub fn value(&self, x: i64, t: i64) -> i64 {
        self.line(t).at(x).wrapping_add(self.residual_at(t))
    }

    /// The two outputs that unbiased rounding allows: at floor(x / 2^shift) and one above; both the same on the grid.
    #[must_use]
    pub fn reference(&self, x: i64) -> [i64; 2] {
        let t = x >> self.shift;
        let up = if x & ((1 << self.shift) - 1) == 0 { t } else { t + 1 };
        [self.value(x, t), self.value(x, up)]
    }
}

/// 2^bits as a real number.
fn unit(bits: u8) -> f64 {
    (1_u64 << bits) as f64
}

fn finite(activation: &Activation, x: f64) -> Result<f64, CurveError> {
    let y = activation.eval(x);
    if y.is_finite() { Ok(y) } else { Err(CurveError::NotFinite { x }) }
}

/// The line that `activation` follows at `far`, +[`FAR`] or -[`FAR`].
fn end_line(activation: &Activation, frac: u8, far: f64) -> Result<Line, CurveError> {
    let (near, value) = (finite(activation, far / 2.0)?, finite(activation, far)?);
    let measured = (value - near) / (far / 2.0);
    let slope = measured.round_ties_even();
    let intercept = (unit(frac) * (value - slope * far)).round_ties_even();
    // A slope off by 2^-10 is off by half a unit over FAR: anything that really becomes a line is far closer.
    if (measured - slope).abs() > 1.0 / 1024.0
        || slope.abs() > MAX_SLOPE as f64
        || intercept.abs() > MAX_INTERCEPT as f64
    {
        let end = if far > 0.0 { "+infinity" } else { "-infinity" };
        return Err(CurveError::NoLine { end, slope: measured });
    }
    Ok(Line { slope: slope as i64, intercept: intercept as i64 })
}

fn check_name(name: &str) -> Result<(), CurveError> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(CurveError::Name { name: name.to_owned() })
    }
}

fn check_parameters(frac: u8, shift: u8, window_bits: u8, left: Line, right: Line) -> Result<(), CurveError> {
    let check = |what, value, min, max| {
        if (min..=max).contains(&value) { Ok(()) } else { Err(CurveError::Range { what, value, min, max }) }
    };
    check("frac", i64::from(frac), 1, i64::from(MAX_FRAC))?;
    check("shift", i64::from(shift), 0, i64::from(frac))?;
    check("window_bits", i64::from(window_bits), i64::from(MIN_WINDOW_BITS), i64::from(MAX_WINDOW_BITS))?;
    for line in [left, right] {
        check("slope", line.slope, -MAX_SLOPE, MAX_SLOPE)?;
        check("intercept", line.intercept, -MAX_INTERCEPT, MAX_INTERCEPT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
