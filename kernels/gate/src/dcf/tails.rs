//! The lower ends of paths, each of one threshold alone: most of a walk's nodes. They lie in arrays, by the level at which they end.
//! Every level is the same few operations on each, without a branch.

use zeroize::{Zeroize, Zeroizing};

use super::{BLOCK_BYTES, Block, Payload, TreeHash, select};

/// A path below the node at which its threshold parts from all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// The row among those in work.
    pub(super) row: u32,
    /// The threshold's number.
    pub(super) threshold: u32,
    /// Where the point's words begin among the points of all rows.
    pub(super) words: u32,
}

/// The correction words of one level: those of row r begin at r times the stride.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) stride: usize,
}

impl<'a> Words<'a> {
    #[inline(always)]
    fn of(self, row: u32, bytes: usize) -> &'a [u8] {
        &self.bytes[row as usize * self.stride..][..bytes]
    }
}

/// A right sibling whose payload is added to a tail's sum.
#[derive(Clone, Copy, Default)]
struct Sibling {
    tail: u32,
    /// Its control bit.
    control: u32,
}

/// The tails in work.
pub(super) struct Tails<P: Payload> {
    /// For each depth, the tails that end there.
    groups: Vec<Group<P>>,
    hashed: Zeroizing<Vec<Block>>,
    siblings: Zeroizing<Vec<Block>>,
    owners: Vec<Sibling>,
}

/// Tails that end after the same number of levels.
struct Group<P: Payload> {
    tails: Vec<Tail>,
    blocks: Zeroizing<Vec<Block>>,
    sums: Zeroizing<Vec<P>>,
}

impl<P: Payload> Tails<P> {
    /// None, in trees of so many levels.
    pub(super) fn new(levels: usize) -> Self {
        let group = |_| Group { tails: Vec::new(), blocks: Zeroizing::default(), sums: Zeroizing::default() };
        Self {
            groups: (0..=levels).map(group).collect(),
            hashed: Zeroizing::default(),
            siblings: Zeroizing::default(),
            owners: Vec::new(),
        }
    }

    /// Takes in a node that ends after `due` levels, with what was added up on the way to it.
    #[inline(always)]
    pub(super) fn push(&mut self, due: u32, tail: Tail, block: Block, sum: P) {
        let Group { tails, blocks, sums } = &mut self.groups[due as usize];
        tails.push(tail);
        blocks.push(block);
        sums.push(sum);
    }

    /// Goes down a level by bit `index` of the `points`.
    pub(super) fn step(
        &mut self,
        hash: &dyn TreeHash,
        words: (Words<'_>, Words<'_>),
        points: &[u64],
        index: usize,
    ) {
        let Self { groups, hashed, siblings, owners } = self;
        for group in groups.iter_mut().filter(|group| !group.tails.is_empty()) {
            hashed.clear();
            hashed.extend_from_slice(&group.blocks);
            hash.nodes(hashed);
            if siblings.len() < hashed.len() {
                siblings.resize(hashed.len(), Block::default());
                owners.resize(hashed.len(), Sibling::default());
            }
            let added = group.step(hashed, words.0, (points, index), siblings, owners);
            let siblings = &mut siblings[..added];
            hash.leaves(siblings);
            group.add(words.1, &owners[..added], siblings);
        }
    }

    /// Gives out the sums of the tails that end after `depth` levels, and drops these tails.
    #[inline(always)]
    pub(super) fn end(&mut self, depth: usize, mut take: impl FnMut(Tail, P)) {
        let Group { tails, blocks, sums } = &mut self.groups[depth];
        tails.iter().zip(sums.iter()).for_each(|(tail, sum)| take(*tail, *sum));
        tails.clear();
        // Wiped here, since vectors wipe nothing when they are cleared.
        blocks.zeroize();
        sums.zeroize();
    }
}

impl<P: Payload> Group<P> {
    /// Replaces the nodes by their children. Writes the right siblings of left children, and whose they are; their number.
    #[inline(always)]
    fn step(
        &mut self,
        hashed: &[Block],
        words: Words<'_>,
        (points, index): (&[u64], usize),
        siblings: &mut [Block],
        owners: &mut [Sibling],
    ) -> usize {
        let (word, shift) = (index / 64, index % 64);
        let mut added = 0;
        let nodes = self.blocks.iter_mut().zip(hashed);
        for (at, (tail, (block, hashed))) in (0..).zip(self.tails.iter().zip(nodes)) {
            let correction = words.of(tail.row, BLOCK_BYTES).first_chunk().expect("a word for each level");
            let node = u128::from_le_bytes(*block);
            let left = u128::from_le_bytes(*hashed) ^ (select(node & 1) & u128::from_le_bytes(*correction));
            let right = points[tail.words as usize + word] >> shift & 1;
            let sibling = left ^ node;
            siblings[added] = sibling.to_le_bytes();
            owners[added] = Sibling { tail: at, control: sibling as u32 & 1 };
            // Half of the points go right: no branch foresees which.
            added += 1 - right as usize;
            *block = (left ^ (select(right.into()) & node)).to_le_bytes();
        }
        added
    }

    /// Adds the payloads of right siblings, which are hashed.
    #[inline(always)]
    fn add(&mut self, words: Words<'_>, owners: &[Sibling], siblings: &[Block]) {
        for (owner, block) in owners.iter().zip(siblings) {
            let at = owner.tail as usize;
            let word = P::read(words.of(self.tails[at].row, P::BYTES));
            self.sums[at] =
                self.sums[at].plus(P::of_block(block)).plus(word.only_where(owner.control.into()));
        }
    }
}
