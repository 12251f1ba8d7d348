use std::collections::BTreeSet;

use suf_wire::Party;

use super::*;
use crate::prg::FixedKeys;

/// v of all rows, and thresholds, modulo any N below 2^64.
struct Small {
    bits: usize,
    modulus: u128,
    values: Vec<u64>,
    thresholds: Vec<u64>,
    depths: Vec<usize>,
}

impl Points for Small {
    fn bits(&self) -> usize {
        self.bits
    }

    fn depths(&self) -> &[usize] {
        &self.depths
    }

    fn write(&self, row: usize, points: &mut [u64]) -> usize {
        let v = self.values[row];
        let below = self.thresholds.iter().filter(|t| **t <= v).count();
        let (low, high) = self.thresholds.split_at(below);
        let minus = |t: &u64| ((u128::from(v) + self.modulus - u128::from(*t)) % self.modulus) as u64;
        let all = low.iter().rev().map(minus).chain([v]).chain(high.iter().rev().map(minus));
        points.iter_mut().zip(all).for_each(|(point, value)| *point = value);
        assert!(points.is_sorted());
        below
    }
}

fn random(seed: &str, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut out);
    out
}

fn hash() -> LibraryHash {
    LibraryHash::new(&FixedKeys { node: [4; 16], leaf: [5; 16] })
}

/// What both parties' shares of each comparison add up to, from one row for each value: for each row the thresholds' and v's.
fn compare<P: Payload>(
    points: &Small,
    r: &[u64],
    payloads: &[P],
    levels: usize,
) -> Vec<Vec<(Point, usize, P)>> {
    let rows = r.len();
    let roots = ["root 0", "root 1"].map(|seed| random(seed, rows * BLOCK_BYTES));
    let (mut nodes, mut words) = (vec![0; rows * levels * BLOCK_BYTES], vec![0; rows * levels * P::BYTES]);
    let mut out = Dealt { nodes: &mut nodes, payloads: &mut words };
    deal(&hash(), (levels, points.bits), [&roots[0], &roots[1]], r, payloads, &mut out);
    let mut sums: Vec<Vec<(Point, usize, P)>> = vec![Vec::new(); rows];
    for party in [Party::P0, Party::P1] {
        let roots = &roots[party.index()];
        let keys = Keys { party, levels, roots, nodes: &nodes, payloads: &words };
        evaluate(&hash(), &keys, points, |row, point, depth, share: P| {
            let known = sums[row].iter_mut().find(|(other, at, _)| (*other, *at) == (point, depth));
            match known {
                Some((.., sum)) => *sum = sum.plus(share),
                None => {
                    assert_eq!(party, Party::P0, "both parties compare alike");
                    sums[row].push((point, depth, share));
                }
            }
        });
    }
    sums
}

/// For all v and r of a small ring and all thresholds; the comparison with the i-th one ends after `depth_of(i)` levels.
fn all_of_a_ring(bits: usize, modulus: u64, depth_of: impl Fn(usize) -> usize) {
    let thresholds: Vec<u64> = (1..modulus).collect();
    let depths: Vec<usize> = (0..thresholds.len()).map(depth_of).collect();
    // v is compared at each depth at which a threshold ends.
    let count = thresholds.len() + depths.iter().collect::<BTreeSet<_>>().len();
    let rows = (0..modulus).flat_map(|v| (0..modulus).map(move |r| (v, r)));
    let (values, points): (Vec<u64>, Vec<u64>) = rows.unzip();
    let small = Small { bits, modulus: modulus.into(), values, thresholds, depths };
    let payloads: Vec<[u64; 2]> = points.iter().map(|r| [1, r * 1_000_003]).collect();
    let sums = compare(&small, &points, &payloads, bits);
    for ((row, sums), r) in sums.iter().enumerate().zip(&points) {
        assert_eq!(sums.len(), count);
        let v = small.values[row];
        for (point, depth, [is_below, times_r]) in sums {
            let y = match point {
                Point::Value => v,
                Point::Threshold(i) => {
                    assert_eq!(*depth, small.depths[*i]);
                    (v + modulus - small.thresholds[*i]) % modulus
                }
            };
            let cut = bits - depth;
            let expected = u64::from(y >> cut < r >> cut);
            assert_eq!(*is_below, expected, "{y} < {r} on {depth} bits");
            assert_eq!(*times_r, expected * r * 1_000_003);
        }
    }
}

#[test]
fn all_numbers_of_small_rings_compare() {
    for (bits, modulus) in [(4, 16), (4, 15), (3, 5)] {
        for depth in 1..=bits {
            all_of_a_ring(bits, modulus, |_| depth);
        }
        all_of_a_ring(bits, modulus, |i| bits - i * bits / modulus as usize);
        all_of_a_ring(bits, modulus, |i| 1 + i * bits / modulus as usize);
        all_of_a_ring(bits, modulus, |i| 1 + i % bits);
    }
}

/// 1[x < t] for x = v - r mod N as the difference of two comparisons that end early. Row exponents and splines build on it.
#[test]
fn differences_compare_the_value_rounded_by_the_carry() {
    for (bits, modulus) in [(7, 127u64), (7, 128)] {
        let cut = |i: usize| i.saturating_sub(2);
        let thresholds: Vec<u64> = (1..bits).map(|i| 1 << i).collect();
        let depths: Vec<usize> = (1..bits).map(|i| bits - cut(i)).collect();
        let rows = (0..modulus).flat_map(|v| (0..modulus).map(move |r| (v, r)));
        let (values, points): (Vec<u64>, Vec<u64>) = rows.unzip();
        let payloads = vec![1u8; points.len()];
        let small = Small { bits, modulus: modulus.into(), values, thresholds, depths };
        let sums = compare(&small, &points, &payloads, bits);
        for ((row, sums), r) in sums.iter().enumerate().zip(&points) {
            let v = small.values[row];
            let x = (v + modulus - r) % modulus;
            // Close to N a comparison that ends early errs.
            if x >= modulus - (1 << cut(bits - 1)) {
                continue;
            }
            let share = |wanted: Point, depth: usize| {
                sums.iter().find(|(point, at, _)| (*point, *at) == (wanted, depth)).expect("it was made").2
            };
            for i in 1..bits {
                let (c, depth) = (cut(i), bits - cut(i));
                let difference =
                    share(Point::Threshold(i - 1), depth).wrapping_sub(share(Point::Value, depth));
                let made = difference.wrapping_add(u8::from(v < 1 << i));
                let carry = (x % (1 << c) + r % (1 << c)) >> c;
                assert_eq!(
                    made,
                    u8::from((x >> c) + carry < 1 << (i - c)),
                    "{x} + {r}, 2^{i}, N = {modulus}"
                );
            }
        }
    }
}

#[test]
fn points_of_several_words_compare_as_one_word_does() {
    struct Wide(Vec<[u64; 2]>);
    impl Points for Wide {
        fn bits(&self) -> usize {
            128
        }
        fn depths(&self) -> &[usize] {
            &[128]
        }
        fn write(&self, row: usize, points: &mut [u64]) -> usize {
            let [low, high] = self.0[row];
            let value = u128::from(low) | u128::from(high) << 64;
            let minus = value - 1;
            points.copy_from_slice(&[minus as u64, (minus >> 64) as u64, low, high]);
            1
        }
    }
    let rows = 200;
    let words = |seed: &str| -> Vec<[u64; 2]> {
        random(seed, rows * 16).as_chunks::<16>().0.iter().map(<[u64; 2]>::read_block).collect()
    };
    let (values, points) = (words("values"), words("points"));
    let roots = ["root 0", "root 1"].map(|seed| random(seed, rows * BLOCK_BYTES));
    let (mut nodes, mut payloads) = (vec![0; rows * 128 * BLOCK_BYTES], vec![0; rows * 128 * 2]);
    let mut out = Dealt { nodes: &mut nodes, payloads: &mut payloads };
    deal(&hash(), (128, 128), [&roots[0], &roots[1]], points.as_flattened(), &vec![1u16; rows], &mut out);
    let mut sums = vec![[0u16; 2]; rows];
    for party in [Party::P0, Party::P1] {
        let roots = &roots[party.index()];
        let keys = Keys { party, levels: 128, roots, nodes: &nodes, payloads: &payloads };
        evaluate(&hash(), &keys, &Wide(values.clone()), |row, point, _, share: u16| {
            let sum = &mut sums[row][usize::from(point == Point::Value)];
            *sum = sum.wrapping_add(share);
        });
    }
    for ((sums, value), point) in sums.iter().zip(&values).zip(&points) {
        let number = |[low, high]: [u64; 2]| u128::from(low) | u128::from(high) << 64;
        let (value, point) = (number(*value), number(*point));
        assert_eq!(*sums, [u16::from(value - 1 < point), u16::from(value < point)]);
    }
}

trait ReadBlock {
    fn read_block(block: &[u8; 16]) -> Self;
}

impl ReadBlock for [u64; 2] {
    fn read_block(block: &[u8; 16]) -> Self {
        <Self as Payload>::read(block)
    }
}

#[test]
fn a_changed_word_changes_what_is_compared() {
    let small = Small { bits: 5, modulus: 32, values: vec![20], thresholds: vec![7], depths: vec![5] };
    let roots = ["root 0", "root 1"].map(|seed| random(seed, BLOCK_BYTES));
    let (mut nodes, mut payloads) = (vec![0; 5 * BLOCK_BYTES], vec![0; 5 * 8]);
    let mut out = Dealt { nodes: &mut nodes, payloads: &mut payloads };
    // 20 goes left where r = 31 goes right at the second bit.
    deal(&hash(), (5, 5), [&roots[0], &roots[1]], &[31], &[1u64], &mut out);
    let sum = |nodes: &[u8], payloads: &[u8]| {
        let mut sum = 0u64;
        for party in [Party::P0, Party::P1] {
            let keys = Keys { party, levels: 5, roots: &roots[party.index()], nodes, payloads };
            evaluate(&hash(), &keys, &small, |_, point, _, share: u64| {
                if point == Point::Value {
                    sum = sum.wrapping_add(share);
                }
            });
        }
        sum
    };
    assert_eq!(sum(&nodes, &payloads), 1);
    let mut changed = payloads.clone();
    changed[8] ^= 1;
    assert_ne!(sum(&nodes, &changed), 1);
    nodes[16] ^= 2;
    assert_ne!(sum(&nodes, &payloads), 1);
}

#[test]
fn the_library_hashes_as_the_definition_does() {
    use aes::cipher::{BlockCipherEncrypt, KeyInit};
    let key = aes::Aes128::new(&[4; 16].into());
    let blocks: Vec<Block> = random("blocks", 16 * 11).as_chunks::<16>().0.to_vec();
    let mut made = blocks.clone();
    hash().nodes(&mut made);
    for (made, block) in made.iter().zip(&blocks) {
        let x = u128::from_le_bytes(*block);
        let moved = ((x >> 64) ^ (x & u128::from(u64::MAX))) << 64 | x >> 64;
        let mut sealed = moved.to_le_bytes().into();
        key.encrypt_block(&mut sealed);
        assert_eq!(u128::from_le_bytes(*made), u128::from_le_bytes(sealed.0) ^ moved);
    }
}

#[test]
fn a_comparison_with_one_threshold_calls_aes_once_for_each_node_and_each_right_sibling() {
    // Points 6 = 110 and 1 = 001 part at the root. The paths have 1 + 2 + 2 inner nodes; 110 goes left once, 001 twice.
    let points = Small { bits: 3, modulus: 8, values: vec![6], thresholds: vec![5], depths: vec![3] };
    assert_eq!(calls::<u8>(&points, 1, 3), 5 + 3);
    // v - 0 = v: one path, of three nodes.
    let same = Small { thresholds: vec![0], ..points };
    assert_eq!(calls::<u8>(&same, 1, 3), 3 + 1);
}
