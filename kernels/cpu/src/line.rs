//! The last exchange of the gates that compute a [`Curve`]: y = line(x) + w s D, where D = s residual[t] has been opened
//! under the mask a, and pos, the side of the line, and w, whether t lies in the window, under bit masks.
//!
//! With m' = m + 2^(k-2) mod 2^k and q its highest bit, y_hat = kappa[pos] x_hat + tau[w] (m' - 2^(k-2)) + C[pos] + B[w, q],
//! in which everything that the dealer knows is a shared ring element that public bits select. Where the tree or the
//! domain leaves no doubt about w, it is 1 and has no mask.

use suf_gate::{Curve, Party, layout::FieldId, ring::WIRE};
use zeroize::Zeroizing;

use crate::key::{KeyWriter, PACKED};

/// Ring elements with an opened w: kappa_0, tau_0, tau_1, C_0, C_1, B_01, B_10, B_11.
const WITH_W: usize = 8;
/// Ring elements without: kappa_0, s, C_0, C_1, B_1.
const WITHOUT_W: usize = 5;

/// a, the sum of both parties' masks of the entry, modulo 2^k.
pub(crate) fn entry_masks(key: &mut KeyWriter<'_>, id: FieldId, curve: &Curve) -> Zeroizing<Vec<u16>> {
    let [bytes_0, bytes_1] = key.own(id);
    let k_mask = u16::MAX >> (16 - curve.mask_bits());
    let pairs = bytes_0.as_chunks::<2>().0.iter().zip(bytes_1.as_chunks::<2>().0);
    let sum =
        |(a, b): (&[u8; 2], &[u8; 2])| u16::from_le_bytes(*a).wrapping_add(u16::from_le_bytes(*b)) & k_mask;
    Zeroizing::new(pairs.map(sum).collect())
}

/// What the dealer knows of one element when it makes its ring elements. Numbers are modulo 2^64.
pub(crate) struct Secrets {
    /// The masks of the wire.
    pub(crate) r_in: u64,
    /// See [`Secrets::r_in`].
    pub(crate) r_out: u64,
    /// a, k bits.
    pub(crate) entry_mask: u16,
    /// Whether party 0 holds the 1 at the hot place of the window, 0 or 1.
    pub(crate) by_p0: u64,
    /// Mask of w, 0 or 1; not read where w is 1.
    pub(crate) omega: u64,
    /// Mask of pos, 0 or 1.
    pub(crate) rho: u64,
}

/// The dealer's side: the constants of the ring elements.
pub(crate) struct DealtLine {
    opens_w: bool,
    /// Slope and intercept on the left, and by how much the right ones differ.
    left: [u64; 2],
    step: [u64; 2],
    entry_bits: u8,
}

impl DealtLine {
    /// Of `curve`; `opens_w` says whether w is opened.
    pub(crate) fn new(curve: &Curve, opens_w: bool) -> Self {
        let words = |slope: i64, intercept: i64| [slope.cast_unsigned(), intercept.cast_unsigned()];
        let Curve { left, right, .. } = curve;
        Self {
            opens_w,
            left: words(left.slope, left.intercept),
            step: words(right.slope - left.slope, right.intercept - left.intercept),
            entry_bits: curve.mask_bits(),
        }
    }

    /// Shares the ring elements in the field `id`.
    pub(crate) fn deal(&self, key: &mut KeyWriter<'_>, id: FieldId, secrets: impl Fn(usize) -> Secrets) {
        let count = if self.opens_w { WITH_W } else { WITHOUT_W };
        key.shared(id, |range, shares| {
            for (i, shares) in range.zip(shares.chunks_exact_mut(count * PACKED)) {
                subtract(&self.values(&secrets(i))[..count], shares);
            }
        });
    }

    /// The ring elements; without w the last three are not used. The products with secret bits stand in for selections.
    #[inline(always)]
    fn values(&self, secrets: &Secrets) -> [u64; WITH_W] {
        let Secrets { r_in, r_out, entry_mask, by_p0, omega, rho } = *secrets;
        let sign = (2 * by_p0).wrapping_sub(1);
        // An opened pos of h stands for pos = h xor rho.
        let at = |constants: usize, pos: u64| {
            self.left[constants].wrapping_add(pos.wrapping_mul(self.step[constants]))
        };
        let kappa = [at(0, rho), at(0, rho ^ 1)];
        let constant = [at(1, rho), at(1, rho ^ 1)];

        // D = m' - 2^(k-2) + shift[q].
        let mask = u64::from(entry_mask);
        let carry = mask >> (self.entry_bits - 1) << self.entry_bits;
        let shift = [carry.wrapping_sub(mask), mask.wrapping_neg()];
        // An opened w of h stands for w = h xor omega.
        let tau =
            if self.opens_w { [omega.wrapping_mul(sign), (omega ^ 1).wrapping_mul(sign)] } else { [sign; 2] };
        let b = |w: usize, q: usize| tau[w].wrapping_mul(shift[q]);
        let c = |h: usize| {
            constant[h].wrapping_sub(kappa[h].wrapping_mul(r_in)).wrapping_add(r_out).wrapping_add(b(0, 0))
        };
        let past = |w: usize, q: usize| b(w, q).wrapping_sub(b(0, 0));
        if self.opens_w {
            [kappa[0], tau[0], tau[1], c(0), c(1), past(0, 1), past(1, 0), past(1, 1)]
        } else {
            [kappa[0], tau[0], c(0), c(1), past(0, 1), 0, 0, 0]
        }
    }
}

/// Turns one side's shares of packed ring elements into the other's.
fn subtract(values: &[u64], shares: &mut [u8]) {
    for (share, value) in shares.as_chunks_mut::<PACKED>().0.iter_mut().zip(values) {
        let mut word = [0; 8];
        word[..PACKED].copy_from_slice(share);
        let difference = value.wrapping_sub(u64::from_le_bytes(word));
        share.copy_from_slice(&difference.to_le_bytes()[..PACKED]);
    }
}

/// A party's side: a linear function of an element's ring elements whose coefficients are public.
pub(crate) struct OutputLine {
    opens_w: bool,
    /// kappa_0 + kappa_1, of which P0 takes the public part.
    slopes: u64,
    entry_bits: u8,
}

impl OutputLine {
    /// As [`DealtLine::new`], at `party`.
    pub(crate) fn new(curve: &Curve, opens_w: bool, party: Party) -> Self {
        let slopes = match party {
            Party::P0 => WIRE.encode(curve.left.slope + curve.right.slope),
            Party::P1 => 0,
        };
        Self { opens_w, slopes, entry_bits: curve.mask_bits() }
    }

    /// The share of y_hat, modulo 2^64, from an element's ring elements, its opened m, and in `choice` its opened w (bit 0)
    /// and pos (bit 1).
    #[inline(always)]
    pub(crate) fn share(&self, shares: &[u8], x_hat: u64, entry: u16, choice: u16) -> u64 {
        let element = |i: usize| {
            let mut word = [0; 8];
            word[..PACKED].copy_from_slice(&shares[PACKED * i..][..PACKED]);
            u64::from_le_bytes(word)
        };
        let (w, pos) = (usize::from(choice & 1), usize::from(choice >> 1));
        let quarter = 1u64 << (self.entry_bits - 2);
        let moved = (u64::from(entry) + quarter) & ((4 * quarter) - 1);
        let q = (moved / (2 * quarter)) as usize;

        let kappa_0 = element(0);
        let kappa = if pos == 0 { kappa_0 } else { self.slopes.wrapping_sub(kappa_0) };
        // B stands for [w, q] with w = q = 0 left out; without w for [q] with q = 0 left out.
        let (taus, tau, row) = if self.opens_w { (2, element(1 + w), 2 * w + q) } else { (1, element(1), q) };
        let c = element(1 + taus + pos);
        let b = if row == 0 { 0 } else { element(2 + taus + row) };
        kappa
            .wrapping_mul(x_hat)
            .wrapping_add(tau.wrapping_mul(moved.wrapping_sub(quarter)))
            .wrapping_add(c)
            .wrapping_add(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_values_stay_in_the_ring_when_packed() {
        let mut shares = [0xFF; PACKED];
        subtract(&[7], &mut shares);
        let mut word = [0; 8];
        word[..PACKED].copy_from_slice(&shares);
        // 7 - (2^48 - 1) = 8.
        assert_eq!(WIRE.reduce(u64::from_le_bytes(word)), 8);
    }
}
