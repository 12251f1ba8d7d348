//! The dealer's side: the correction words of given roots, points and payloads.

use zeroize::Zeroizing;

use super::{BLOCK_BYTES, Block, Payload, ROWS, TreeHash, bit, select};

/// Where the dealer puts the words of some rows.
#[derive(Debug)]
pub struct Dealt<'k> {
    /// Correction words of the nodes: for each row those of all levels.
    pub nodes: &'k mut [u8],
    /// Correction words of the payloads, likewise.
    pub payloads: &'k mut [u8],
}

/// Makes the words for the points r of some rows, which each have `words` words and `bits` bits, and for the payloads. `roots` are
/// those of party 0 and of party 1. No branch and no index depends on a point.
///
/// # Panics
/// If a length is not what the number of payloads demands.
pub fn deal<P: Payload>(
    hash: &dyn TreeHash,
    (levels, bits): (usize, usize),
    roots: [&[u8]; 2],
    points: &[u64],
    payloads: &[P],
    out: &mut Dealt<'_>,
) {
    let words = bits.div_ceil(64);
    assert_eq!(points.len(), words * payloads.len(), "a point for each row");
    assert!(roots.iter().all(|roots| roots.len() == BLOCK_BYTES * payloads.len()), "a root for each row");
    assert_eq!(out.nodes.len(), levels * BLOCK_BYTES * payloads.len(), "a word for each level");
    assert_eq!(out.payloads.len(), levels * P::BYTES * payloads.len(), "a word for each level");
    let mut paths = Zeroizing::new([[[0; BLOCK_BYTES]; ROWS]; 2]);
    let mut hashed = Zeroizing::new([[[0; BLOCK_BYTES]; ROWS]; 2]);
    for first in (0..payloads.len()).step_by(ROWS) {
        let rows = ROWS.min(payloads.len() - first);
        for (party, (path, roots)) in (0..).zip(paths.iter_mut().zip(roots)) {
            let roots = &roots.as_chunks::<BLOCK_BYTES>().0[first..];
            for (node, root) in path[..rows].iter_mut().zip(roots) {
                *node = (u128::from_le_bytes(*root) & !1 | party).to_le_bytes();
            }
        }
        for level in 0..levels {
            hash_all(&paths, &mut hashed, rows, |blocks| hash.nodes(blocks));
            for i in 0..rows {
                let row = first + i;
                let right = select(bit(&points[row * words..][..words], bits - 1 - level).into());
                let [nodes, hashes] =
                    [&paths, &hashed].map(|of| of.each_ref().map(|of| u128::from_le_bytes(of[i])));
                // The left children differ by delta if r goes left, and not at all if it goes right.
                let word = hashes[0] ^ hashes[1] ^ (!right & (nodes[0] ^ nodes[1]));
                let at = (row * levels + level) * BLOCK_BYTES;
                out.nodes[at..at + BLOCK_BYTES].copy_from_slice(&word.to_le_bytes());
                for (path, (node, hash)) in paths.iter_mut().zip(nodes.into_iter().zip(hashes)) {
                    path[i] = (hash ^ (select(node & 1) & word) ^ (right & node)).to_le_bytes();
                }
            }
            hash_all(&paths, &mut hashed, rows, |blocks| hash.leaves(blocks));
            for i in 0..rows {
                let [mine, theirs] = hashed.each_ref().map(|of| P::of_block(&of[i]));
                let word = payloads[first + i].plus(mine.negated()).plus(theirs);
                // Party 1 takes its payloads with a minus.
                let word = word.negated_where(u64::from(paths[1][i][0] & 1));
                let at = ((first + i) * levels + level) * P::BYTES;
                word.write(&mut out.payloads[at..at + P::BYTES]);
            }
        }
    }
}

/// Hashes of both parties' nodes of the first rows.
fn hash_all(
    paths: &[[Block; ROWS]; 2],
    hashed: &mut [[Block; ROWS]; 2],
    rows: usize,
    hash: impl Fn(&mut [Block]),
) {
    for (hashed, path) in hashed.iter_mut().zip(paths) {
        hashed[..rows].copy_from_slice(&path[..rows]);
        hash(&mut hashed[..rows]);
    }
}
