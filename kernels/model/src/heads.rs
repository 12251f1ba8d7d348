//! The exponential of scores is a rotation modulo 2^m - 1. m is a power of two, chosen for each head: a wider range of scores takes a
//! larger m. Heads with equal m are evaluated together.

use suf_gate::ops::Scores;

use crate::{nodes::Refusal, ranges::Span};

/// What m may be.
const SIZES: [u16; 4] = [128, 256, 512, 1024];

/// Least distance, in bits, of a masked score below all others, beside the logarithm of the row's length.
const MASK_BITS: i32 = 20;

/// Heads that are evaluated together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The modulus, and bounds of scores: of those of padding with their mask.
    pub scores: Scores,
    /// The heads, in order.
    pub heads: Vec<usize>,
    /// What is added to the scores of padding, in whole bits; none without padding.
    pub mask: Option<i16>,
}

/// The groups of heads whose `scores` are within these bounds, in rows of `cols` or fewer, `masked` or not.
///
/// # Errors
/// When no m suffices for a head.
pub fn groups(scores: &[Span], cols: u32, masked: bool) -> Result<Vec<Group>, Refusal> {
    let group = |m, heads: &[usize]| Group::new(m, heads, scores, cols, masked);
    let mut due: Vec<usize> = (0..scores.len()).collect();
    let mut groups = Vec::new();
    for m in SIZES {
        let mut heads: Vec<usize> = due.iter().copied().filter(|head| group(m, &[*head]).is_ok()).collect();
        // Heads whose scores lie far apart cannot share an offset and a mask. So the head with the largest scores takes the next m.
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
    fn new(m: u16, heads: &[usize], scores: &[Span], cols: u32, masked: bool) -> Result<Self, String> {
        let own = || heads.iter().map(|head| scores[*head]);
        let union = own().fold(Span::NONE, Span::join);
        // A bound that does not fit into 32 bits stays beyond every m.
        let (row_low, high) = (union.min.floor() as i32, union.max.ceil() as i32);
        let width = own().map(|scores| scores.width().ceil() as i32).fold(0, i32::max);
        let depth = if masked { width.saturating_add(MASK_BITS + row_bits(cols)) } else { 0 };
        let low = row_low.saturating_sub(depth);
        let bound =
            |bits: i32| i16::try_from(bits).map_err(|_| format!("{bits} bits are beyond every modulus"));
        let scores = Scores { bits: m, cols, low: bound(low)?, high: bound(high)?, row_low: bound(row_low)? };
        scores.check()?;
        let mask = if masked { Some(bound(-depth)?) } else { None };
        Ok(Self { scores, heads: heads.to_vec(), mask })
    }
}

/// log2 of a row's length, rounded up.
pub(crate) fn row_bits(cols: u32) -> i32 {
    cols.next_power_of_two().ilog2().cast_signed()
}
