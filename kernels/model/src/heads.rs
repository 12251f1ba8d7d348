//! The exponential of scores is a rotation modulo 2^m - 1. m is a power of two, chosen for each head: a wider range of scores takes a
//! larger m. Heads with equal m are evaluated together.

use crate::{ranges::Span, steps::Refusal};

/// What m may be.
pub const SIZES: [u16; 4] = [128, 256, 512, 1024];

/// What the first exponential keeps free of m / 2: its mantissas, and the ends of the range.
const FIRST_BITS: i32 = 15;

/// What the second exponential keeps free of m: 64 bits of slack, its mantissas, and its rounding.
const SECOND_BITS: i32 = 98;

/// Least distance, in bits, of a masked score below all others, beside the logarithm of the row's length.
const MASK_BITS: i32 = 20;

/// Heads that are evaluated together. Bounds are in bits: powers of two of the exponential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The exponent m of the modulus.
    pub m: u16,
    /// The heads, in order.
    pub heads: Vec<usize>,
    /// Below all scores, those of padding with their mask.
    pub low: i16,
    /// Above all scores.
    pub high: i16,
    /// Below the scores that have no mask: each row has one of them.
    pub row_low: i16,
    /// What is added to the scores of padding; none without padding.
    pub mask: Option<i16>,
}

/// The groups of heads whose `scores` are within these bounds, in rows of `tokens`, `masked` or not.
///
/// # Errors
/// When no m suffices for a head.
pub fn groups(scores: &[Span], tokens: u32, masked: bool) -> Result<Vec<Group>, Refusal> {
    let row = row_bits(tokens);
    let group = |m, heads: &[usize]| Group::new(m, heads, scores, row, masked);
    let mut due: Vec<usize> = (0..scores.len()).collect();
    let mut groups = Vec::new();
    for m in SIZES {
        let mut heads: Vec<usize> = due.iter().copied().filter(|head| group(m, &[*head]).is_ok()).collect();
        // Heads whose scores lie apart share no offset and no mask: the one that asks for most takes the next m.
        let made = loop {
            if heads.is_empty() {
                break None;
            }
            if let Ok(made) = group(m, &heads) {
                break Some(made);
            }
            let asks = |head: usize| scores[head].magnitude();
            let most = (0..heads.len()).max_by(|a, b| asks(heads[*a]).total_cmp(&asks(heads[*b])));
            most.map(|most| heads.remove(most));
        };
        due.retain(|head| !heads.contains(head));
        groups.extend(made);
    }
    match due.first() {
        None => Ok(groups),
        Some(head) => {
            let [_, .., largest] = SIZES;
            let why = group(largest, &[*head])
                .err()
                .unwrap_or_else(|| "the heads' scores lie too far apart".into());
            Err(Refusal(format!("scores of head {head}: {why}")))
        }
    }
}

impl Group {
    /// These heads under one modulus.
    fn new(m: u16, heads: &[usize], scores: &[Span], row: i32, masked: bool) -> Result<Self, String> {
        let own = || heads.iter().map(|head| scores[*head]);
        let union = own().fold(Span::NONE, Span::join);
        // Bounds that do not fit into 32 bits stay beyond every m.
        let (row_low, high) = (union.min.floor() as i32, union.max.ceil() as i32);
        let width = own().map(|scores| scores.width().ceil() as i32).fold(0, i32::max);
        let depth = if masked { width.saturating_add(MASK_BITS + row) } else { 0 };
        let low = row_low.saturating_sub(depth);
        let width = high.saturating_sub(low);
        let bits = i32::from(m);
        let most = (bits - SECOND_BITS - 2 * row).min(bits - 2 * (FIRST_BITS + row));
        if width > most {
            return Err(format!("they lie between {low} and {high}, and m = {m} holds {most} bits"));
        }
        // Within m of each other; their distance from 0 is to fit, too.
        let [low, high, row_low, depth] =
            [low, high, row_low, -depth].map(|bits| i16::try_from(bits).map_err(|_| format!("{bits} bits")));
        let mask = if masked { Some(depth?) } else { None };
        Ok(Self { m, heads: heads.to_vec(), low: low?, high: high?, row_low: row_low?, mask })
    }

    /// Largest absolute score.
    #[must_use]
    pub fn magnitude(&self) -> f64 {
        f64::from(self.low.unsigned_abs().max(self.high.unsigned_abs()))
    }
}

/// log2 of a row's length, rounded up.
pub(crate) fn row_bits(tokens: u32) -> i32 {
    tokens.next_power_of_two().ilog2().cast_signed()
}
