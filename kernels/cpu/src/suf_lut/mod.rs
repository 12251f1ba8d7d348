//! The gate `suf-lut` ([`suf_gate::suf_lut`]): dealing and evaluation.
//!
//! The leaves of the two parties differ at one place, where the sums of table entries therefore differ by plus or minus
//! the entry. With n_b the number of leaves that party b sees set, n_0 - n_1 is the sign s, and the two low bits of both
//! numbers tell it: s = 1 exactly if bit 0 of n_0, bit 1 of n_0 and bit 1 of n_1 have an odd sum (SIGMA, PETS 2024,
//! section 4.2 uses the same bits). These are XOR shares of the sign, opened under a mask.

mod deal;
mod eval;

pub(crate) use deal::deal;
pub(crate) use eval::SufLutEval;

/// Bytes of one of the select's elements: 8, as in SIGMA, though only 48 bits count.
const ELEMENT: usize = 8;

#[cfg(test)]
mod tests {
    use suf_gate::Party;

    #[test]
    fn low_bits_of_the_counts_share_the_sign() {
        for count in 0..1024u16 {
            for (mine, theirs, plus) in [(count + 1, count, 1), (count, count + 1, 0)] {
                let shares =
                    super::eval::sign_share(Party::P0, mine) ^ super::eval::sign_share(Party::P1, theirs);
                assert_eq!(shares, plus, "{mine} and {theirs} leaves");
            }
        }
    }
}
