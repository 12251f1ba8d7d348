//! The exponential of scores is a rotation modulo 2^m - 1. m is a power of two, chosen for each head: a wider range of scores takes a
//! larger m. Heads with equal m are evaluated together.

use crate::{ranges::Span, steps::Refusal};

/// What m may be.
pub const SIZES: [u16; 4] = [128, 256, 512, 1024];

/// Bits of both mantissas of the first exponential, and two bits below the modulus.
const FIRST_BITS: f64 = 14.0;

/// What the second exponential keeps free of m: 64 bits of slack, its mantissas, and its rounding.
const SECOND_BITS: f64 = 98.0;

/// Least distance, in bits, of a masked score below all others, beside the logarithm of the row's length.
const MASK_BITS: f64 = 20.0;

/// Heads that are evaluated together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The exponent m of the modulus.
    pub m: u16,
    /// The heads, in order.
    pub heads: Vec<usize>,
    /// Their scores, with the mask where there is one.
    pub scores: Span,
    /// What is added to half a score in the first exponential.
    pub offset: u16,
    /// What the mask adds to the scores of padding, in whole bits; none without padding.
    pub mask: Option<i32>,
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
    fn new(m: u16, heads: &[usize], scores: &[Span], row: f64, masked: bool) -> Result<Self, String> {
        let own = || heads.iter().map(|head| scores[*head]);
        let width = own().map(Span::width).fold(0.0, f64::max);
        let depth = if masked { (width + MASK_BITS + row).ceil() } else { 0.0 };
        let union = own().fold(Span::NONE, Span::join);
        let union = Span { min: union.min - depth, max: union.max };
        let most = f64::from(m) - SECOND_BITS - 2.0 * row;
        if width + depth > most {
            return Err(format!("they spread over {} bits, and m = {m} holds {most}", width + depth));
        }
        let offset = offset(union, m, row).ok_or_else(|| {
            format!("they lie between {} and {}, which m = {m} does not hold", union.min, union.max)
        })?;
        let mask = masked.then_some(-(depth as i32));
        Ok(Self { m, heads: heads.to_vec(), scores: union, offset, mask })
    }
}

/// log2 of a row's length, rounded up.
pub(crate) fn row_bits(tokens: u32) -> f64 {
    f64::from(tokens.next_power_of_two().ilog2())
}

/// What to add to half a score, so that the first exponential's sums are within its modulus; none if nothing does.
fn offset(scores: Span, m: u16, row: f64) -> Option<u16> {
    let least = (1.0 - scores.min / 2.0).ceil().max(0.0);
    let most = (f64::from(m / 2) - FIRST_BITS - row - scores.max / 2.0).floor();
    (least <= most).then(|| f64::midpoint(least, most).floor() as u16)
}
