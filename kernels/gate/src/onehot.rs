//! `onehot`: one-time truth tables on short digits of the mask. No tree, and no block cipher on the critical path.
//!
//! The mask r, shifted like the input, is split from the bottom into a window digit of L bits and further digits. The
//! parties hold XOR shares of each digit's one-hot vector. Let t = (x_hat >> s) - (r >> s). All that a party needs of t
//! is an inner product of its share with a public vector. One-time truth tables are due to Ishai et al. (TCC 2013) and
//! TinyTable (Damgard et al., CRYPTO 2017). Signed recovery of a table entry from XOR shares of a one-hot vector is as
//! in Pika and SIGMA (PETS 2024). Formulas: `docs/protocols/onehot.md`.

use crate::{
    Cost, Curve, GateError, KeyShape, Segment,
    layout::{Field, FieldId, Source, Width},
    ring::WIRE,
};

/// Own randomness: masks of the bits opened in the first exchange, one plane each, in the exchange's order.
pub const BIT_MASKS: FieldId = FieldId(0);
/// Own randomness: the mask `a` of the table entry, its low k bits.
pub const ENTRY_MASK: FieldId = FieldId(1);
/// Shared: one-hot vector of the window digit, 2^L bits.
pub const HOT_WINDOW: FieldId = FieldId(2);

/// Most digits above the window.
pub const MAX_DIGITS: usize = 3;

/// Rows of the table that combines the states of two lower digits.
pub const COMBINE_ROWS: usize = 64;

/// A `onehot` gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onehot {
    curve: Curve,
    digits: Vec<u8>,
}

impl Onehot {
    /// The gate of `curve` with digits of the given bits above the window, lowest first; the last is the top digit.
    /// Without digits the domain is the window.
    ///
    /// # Errors
    /// When the shape is out of the supported range.
    pub fn new(curve: Curve, digits: Vec<u8>) -> Result<Self, GateError> {
        if !(6..=12).contains(&curve.window_bits) {
            return Err(GateError::Shape(format!(
                "onehot: a window of {} bits is not in 6..=12",
                curve.window_bits
            )));
        }
        if digits.len() > MAX_DIGITS {
            return Err(GateError::Shape(format!(
                "onehot: {} digits, at most {MAX_DIGITS} are supported",
                digits.len()
            )));
        }
        if let Some(bits) = digits.iter().find(|bits| !(3..=7).contains(*bits)) {
            return Err(GateError::Shape(format!("onehot: a digit of {bits} bits is not in 3..=7")));
        }
        if curve.mask_bits() > 16 {
            return Err(GateError::Shape("onehot: table entries need a mask of more than 16 bits".into()));
        }
        let gate = Self { curve, digits };
        if gate.input_bits() > WIRE.bits() - 2 {
            return Err(GateError::Shape(format!("onehot: {} input bits, at most 46", gate.input_bits())));
        }
        Ok(gate)
    }

    /// The function.
    #[must_use]
    pub fn curve(&self) -> &Curve {
        &self.curve
    }

    /// Bits of the digits above the window, the top digit last.
    #[must_use]
    pub fn digits(&self) -> &[u8] {
        &self.digits
    }

    /// Number of digits between the window and the top digit.
    #[must_use]
    pub fn lower_digits(&self) -> usize {
        self.digits.len().saturating_sub(1)
    }

    /// N, the bits of t.
    #[must_use]
    pub fn t_bits(&self) -> u8 {
        self.curve.window_bits + self.digits.iter().sum::<u8>()
    }

    /// B, the low bits of the wire that are looked at.
    #[must_use]
    pub fn input_bits(&self) -> u8 {
        self.t_bits() + self.curve.shift
    }

    /// Smallest and largest input for which the output is right.
    #[must_use]
    pub fn domain(&self) -> (i64, i64) {
        if self.digits.is_empty() {
            // The grid point above the last input still has to lie in the window.
            let half = 1i64 << (self.input_bits() - 1);
            return (-half, half - (1 << self.curve.shift));
        }
        let bound = 1i64 << (self.input_bits() - 2);
        (1 - bound, bound - 1)
    }

    /// Own bit planes of the first exchange: c, p, three per lower digit, two of the top digit; p alone without digits.
    #[must_use]
    pub fn bit_planes(&self) -> u16 {
        if self.digits.is_empty() { 1 } else { 4 + 3 * self.lower_digits() as u16 }
    }

    /// Shared: one-hot vector of digit `i`.
    #[must_use]
    pub fn hot_digit(&self, i: usize) -> FieldId {
        FieldId(HOT_WINDOW.0 + 1 + i as u16)
    }

    /// Shared: the table that combines two lower digits (three planes of 64 rows), and the dealer's mask of its result.
    #[must_use]
    pub fn combine_table(&self) -> Option<(FieldId, FieldId)> {
        let after = self.hot_digit(self.digits.len()).0;
        (self.lower_digits() == 2).then_some((FieldId(after), FieldId(after + 1)))
    }

    /// Shared: the table of w and pos (two planes of [`Onehot::select_rows`] rows), and the dealer's masks omega and rho.
    #[must_use]
    pub fn select_table(&self) -> Option<(FieldId, FieldId)> {
        let after = self.hot_digit(self.digits.len()).0 + if self.combine_table().is_some() { 2 } else { 0 };
        (!self.digits.is_empty()).then_some((FieldId(after), FieldId(after + 1)))
    }

    /// Rows of the table of w and pos: c, p, the lower state if there is one, the top state.
    #[must_use]
    pub fn select_rows(&self) -> usize {
        if self.lower_digits() == 0 { 16 } else { 128 }
    }

    /// Shared: the packed ring elements of the last exchange.
    #[must_use]
    pub fn ring_elements(&self) -> FieldId {
        match self.select_table() {
            Some((_, masks)) => FieldId(masks.0 + 1),
            None => FieldId(HOT_WINDOW.0 + 1),
        }
    }

    /// How many ring elements: kappa_0, tau_0, tau_1, C_0, C_1, B_01, B_10, B_11; without digits kappa_0, s, C_0, C_1, B_1.
    #[must_use]
    pub fn ring_count(&self) -> u16 {
        if self.digits.is_empty() { 5 } else { 8 }
    }

    /// The key's fields.
    #[must_use]
    pub fn key_shape(&self) -> KeyShape {
        let mut fields = vec![
            Field::new("bit_masks", Source::Own, Width::Planes(self.bit_planes())),
            Field::new("a", Source::Own, Width::Bytes(2)),
            Field::new("e_window", Source::Shared, Width::Bytes(1 << (self.curve.window_bits - 3))),
        ];
        for bits in &self.digits {
            fields.push(Field::new("e_digit", Source::Shared, Width::Bytes(1 << (bits - 3))));
        }
        if self.combine_table().is_some() {
            fields.push(Field::new("combine", Source::Shared, Width::Bytes(3 * COMBINE_ROWS as u16 / 8)));
            fields.push(Field::new("combine_mask", Source::Dealer, Width::Planes(3)));
        }
        if self.select_table().is_some() {
            fields.push(Field::new(
                "select",
                Source::Shared,
                Width::Bytes(2 * self.select_rows() as u16 / 8),
            ));
            fields.push(Field::new("omega_rho", Source::Dealer, Width::Planes(2)));
        }
        fields.push(Field::new("ring", Source::Shared, Width::Bytes(6 * self.ring_count())));
        KeyShape::new(false, fields)
    }

    /// The exchanges, in order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Vec<Segment>> {
        let entry = Segment::new("m", self.curve.mask_bits());
        let output = vec![Segment::new("y_hat", WIRE.bits())];
        if self.digits.is_empty() {
            return vec![vec![Segment::new("pos", 1), entry], output];
        }
        let mut first = vec![Segment::new("c", 1), Segment::new("p", 1)];
        for _ in 0..self.lower_digits() {
            first.extend(["lt", "eq", "q"].map(|name| Segment::new(name, 1)));
        }
        first.extend(["top_0", "top_1"].map(|name| Segment::new(name, 1)));
        first.push(entry);
        let mut all = vec![first];
        if self.combine_table().is_some() {
            all.push(["lt", "eq", "q"].map(|name| Segment::new(name, 1)).into());
        }
        all.push(["w", "pos"].map(|name| Segment::new(name, 1)).into());
        all.push(output);
        all
    }

    /// The cost, as formulas.
    #[must_use]
    pub fn declared(&self) -> Cost {
        let entry = u32::from(self.curve.mask_bits());
        let window = 1u32 << self.curve.window_bits;
        if self.digits.is_empty() {
            return Cost {
                rounds: 2,
                bits: 1 + entry + 48,
                seeded_key_bits: 0,
                explicit_key_bits: window + 5 * 48,
            };
        }
        let lower = self.lower_digits() as u32;
        let combines = lower.saturating_sub(1);
        let hot: u32 = self.digits.iter().map(|bits| 1u32 << bits).sum();
        let select = if lower == 0 { 2 * 16 } else { 2 * 128 };
        Cost {
            rounds: 3 + combines as u8,
            bits: 2 + 3 * lower + 2 + entry + 3 * combines + 2 + 48,
            seeded_key_bits: 0,
            explicit_key_bits: window + hot + 3 * 64 * combines + select + 8 * 48,
        }
    }
}

/// State of a lower digit against the mask's digit: v < r, v = r, and v - 1 = r modulo the digit's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowState {
    /// v < r.
    pub lt: bool,
    /// v = r.
    pub eq: bool,
    /// v - 1 = r, modulo the digit's size.
    pub q: bool,
}

impl LowState {
    /// Reads the three low bits: lt, eq, q.
    #[must_use]
    pub const fn from_bits(bits: usize) -> Self {
        Self { lt: bits & 1 != 0, eq: bits & 2 != 0, q: bits & 4 != 0 }
    }

    /// The inverse of [`LowState::from_bits`].
    #[must_use]
    pub const fn to_bits(self) -> usize {
        self.lt as usize | (self.eq as usize) << 1 | (self.q as usize) << 2
    }

    /// The state of a digit `v` against `r`, both below 2^`bits`.
    #[must_use]
    pub const fn of(v: u64, r: u64, bits: u8) -> Self {
        let size = 1u64 << bits;
        Self { lt: v < r, eq: v == r, q: (v + size - 1) % size == r }
    }

    /// The state of the two-digit number whose high digit has state `self` and whose low digit has state `low`.
    #[must_use]
    pub const fn over(self, low: Self) -> Self {
        Self {
            lt: self.lt || (self.eq && low.lt),
            eq: self.eq && low.eq,
            // v - 1 borrows from the high digit exactly when the low digit is 0; then q and lt hold together.
            q: low.q && (if low.lt { self.q } else { self.eq }),
        }
    }
}

/// State of the top digit. `near`: v = r or v - 1 = r. `high`: v - 1 = r, or v - r lies in the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopState {
    /// v = r or v - 1 = r.
    pub near: bool,
    /// v - 1 = r, or v - r in the upper half.
    pub high: bool,
}

impl TopState {
    /// Reads the two low bits: near, high.
    #[must_use]
    pub const fn from_bits(bits: usize) -> Self {
        Self { near: bits & 1 != 0, high: bits & 2 != 0 }
    }

    /// The inverse of [`TopState::from_bits`].
    #[must_use]
    pub const fn to_bits(self) -> usize {
        self.near as usize | (self.high as usize) << 1
    }

    /// The state of a digit `v` against `r`, both below 2^`bits`.
    #[must_use]
    pub const fn of(v: u64, r: u64, bits: u8) -> Self {
        let size = 1u64 << bits;
        let difference = (v + size - r) % size;
        Self { near: difference <= 1, high: difference == 1 || difference >= size / 2 }
    }
}

/// w and pos for a row of the select table. Bit 0 is c and bit 1 is p. Then come the lower state (if `has_lower`) and
/// the top state.
#[must_use]
pub const fn select(row: usize, has_lower: bool) -> (bool, bool) {
    let c = row & 1 != 0;
    let p = row & 2 != 0;
    // Without lower digits the empty number equals itself.
    let (low, top) = if has_lower {
        (LowState::from_bits(row >> 2), TopState::from_bits(row >> 5))
    } else {
        (LowState { lt: false, eq: true, q: false }, TopState::from_bits(row >> 2))
    };
    let equal = top.near && !top.high;
    let one_above = top.near && top.high;
    let negative = !top.near && top.high;
    let borrow = low.lt || (low.eq && c);
    let low_zero = if has_lower { (low.eq && !c) || (c && low.q) } else { true };
    let inside = if has_lower {
        low_zero && (if borrow { one_above } else { equal })
    } else if c {
        one_above
    } else {
        equal
    };
    let below = negative || (borrow && equal);
    (inside, !(below || (inside && !p)))
}

/// The combine table: row bits 0..3 are the low digit's state, 3..6 the high digit's.
#[must_use]
pub const fn combine(row: usize) -> LowState {
    LowState::from_bits(row >> 3).over(LowState::from_bits(row & 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combining_digits_agrees_with_the_two_digit_number() {
        let bits = 3;
        for v in 0..64u64 {
            for r in 0..64u64 {
                let low = LowState::of(v % 8, r % 8, bits);
                let high = LowState::of(v / 8, r / 8, bits);
                assert_eq!(high.over(low), LowState::of(v, r, 6), "v = {v}, r = {r}");
                assert_eq!(combine(low.to_bits() | high.to_bits() << 3), high.over(low));
            }
        }
    }

    /// Every v, r of a small shape: window 3 bits, one lower digit of 3, top digit of 3 (and without the lower one).
    #[test]
    fn select_agrees_with_arithmetic() {
        for lower in [0u8, 3] {
            let bits = 3 + lower + 3;
            let size = 1i64 << bits;
            for v in 0..size {
                for r in 0..size {
                    let u = (v - r).rem_euclid(size);
                    let signed = if u >= size / 2 { u - size } else { u };
                    // Half of the domain is slack: the top digit's sign may be off by a borrow beyond it.
                    if !(-size / 4..size / 4).contains(&signed) {
                        continue;
                    }
                    let window = |x: i64| (x % 8).cast_unsigned();
                    let c = window(v) < window(r);
                    let p = (window(v) + 8 - window(r)) % 8 >= 4;
                    let (v_up, r_up) = ((v >> 3).cast_unsigned(), (r >> 3).cast_unsigned());
                    let low_size = 1u64 << lower;
                    let top = TopState::of(v_up / low_size, r_up / low_size, 3);
                    let row = if lower == 0 {
                        top.to_bits() << 2
                    } else {
                        LowState::of(v_up % low_size, r_up % low_size, lower).to_bits() << 2
                            | top.to_bits() << 5
                    } | usize::from(c)
                        | usize::from(p) << 1;
                    let inside = (0..8).contains(&signed);
                    let positive = signed >= 4;
                    assert_eq!(
                        select(row, lower != 0),
                        (inside, positive),
                        "v = {v}, r = {r}, lower {lower}"
                    );
                }
            }
        }
    }
}
