//! Inputs that look for trouble: window edges, domain edges, digit carries, and random values in between.

use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_gate::{Gate, Ring, ring::WIRE};

/// `elems` inputs within the gate's domain; the first are its edges.
#[must_use]
pub fn awkward(gate: &Gate, elems: usize, seed: u64) -> Vec<i64> {
    let (low, high) = gate.domain();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut edges = vec![0, -1, 1, low, high, low + 1, high - 1];
    for bit in 0..48 {
        let power = 1i64 << bit;
        edges.extend([-power - 1, -power, -power + 1, power - 1, power, power + 1]);
    }
    edges.retain(|x| (low..=high).contains(x));
    let random = std::iter::repeat_with(|| {
        // Every magnitude is as likely as any other.
        let bits = rng.random_range(1..=62);
        let x = rng.random::<i64>() >> (63 - bits);
        x.clamp(low, high)
    });
    edges.into_iter().chain(random).take(elems).collect()
}

/// Additive shares of `x` in Z_2^48.
#[must_use]
pub fn share(x: &[i64], seed: u64) -> [Vec<u64>; 2] {
    share_in(WIRE, x, seed)
}

/// Additive shares of `x` in `ring`.
#[must_use]
pub fn share_in(ring: Ring, x: &[i64], seed: u64) -> [Vec<u64>; 2] {
    let mut rng = StdRng::seed_from_u64(seed);
    let first: Vec<u64> = x.iter().map(|_| ring.reduce(rng.random())).collect();
    let second = x.iter().zip(&first).map(|(x, share)| ring.sub(ring.encode(*x), *share)).collect();
    [first, second]
}

/// The sum of output shares in Z_2^48, signed.
#[must_use]
pub fn unite(shares: &[Vec<u64>; 2]) -> Vec<i64> {
    unite_in(WIRE, shares)
}

/// The sum of output shares in `ring`, signed.
#[must_use]
pub fn unite_in(ring: Ring, shares: &[Vec<u64>; 2]) -> Vec<i64> {
    shares[0].iter().zip(&shares[1]).map(|(a, b)| ring.decode(ring.add(*a, *b))).collect()
}
