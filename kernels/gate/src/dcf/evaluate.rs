//! The parties' side: one number minus many thresholds, at every row, in one pass down the trees. All paths are public.

use std::{cmp::Ordering, ops::Range};

use suf_wire::Party;
use zeroize::{Zeroize, Zeroizing};

use super::{
    BLOCK_BYTES, Block, Payload, ROWS, TreeHash, select,
    tails::{Tail, Tails, Words},
};

/// What one party holds of the trees of some rows.
#[derive(Clone, Copy)]
pub struct Keys<'k> {
    /// Which party it is.
    pub party: Party,
    /// Levels of a tree.
    pub levels: usize,
    /// A root for each row, 16 bytes; bit 0 of each is ignored.
    pub roots: &'k [u8],
    /// Correction words of the nodes: for each row those of all levels.
    pub nodes: &'k [u8],
    /// Correction words of the payloads, likewise.
    pub payloads: &'k [u8],
}

impl std::fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} levels)", self.levels)
    }
}

/// What is compared with r: for each row a public v, and `v - t mod N` for the thresholds t.
pub trait Points {
    /// Bits of a number.
    fn bits(&self) -> usize;

    /// For each threshold, in ascending order, after how many levels its comparison ends; 1 at least.
    fn depths(&self) -> &[usize];

    /// Writes the points of a row in ascending order. First come `v - t mod N` for the thresholds `t <= v`, from the
    /// greatest to the least. Then comes v, then the points of the other thresholds in the same order. Returns how many
    /// thresholds are at most v.
    fn write(&self, row: usize, points: &mut [u64]) -> usize;
}

/// Which of a row's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// v itself.
    Value,
    /// v minus the threshold of this number.
    Threshold(usize),
}

/// A node in work, and what has been added up on the way to it.
#[derive(Clone, Copy)]
struct Node<P> {
    block: Block,
    sum: P,
    span: Span,
}

/// The points of a row that lie under a node: places in the row's ascending list.
#[derive(Clone, Copy)]
struct Span {
    row: u32,
    from: u32,
    to: u32,
    /// After how many levels the comparison of the only point ends; [`SEVERAL`] or [`VALUE`].
    due: u32,
}

/// There are several points.
const SEVERAL: u32 = u32::MAX;

/// The only point is v.
const VALUE: u32 = u32::MAX - 1;

impl<P: Payload> Zeroize for Node<P> {
    fn zeroize(&mut self) {
        self.block.zeroize();
        self.sum.zeroize();
    }
}

/// A right sibling whose payload is added to a node's sum.
#[derive(Clone, Copy, Default)]
struct Sibling {
    /// The node's place among the nodes.
    owner: u32,
    row: u32,
    /// The sibling's control bit.
    control: bool,
}

/// Gives `take` this party's shares of the payload times `1[y < r]` on the d highest bits. For each row and threshold y is the
/// threshold's point, and d the number of levels after which its comparison ends. For each such d there is one share with y = v.
///
/// # Panics
/// If a length is not what the number of rows demands.
pub fn evaluate<P: Payload>(
    hash: &dyn TreeHash,
    keys: &Keys<'_>,
    points: &impl Points,
    mut take: impl FnMut(usize, Point, usize, P),
) {
    let rows = keys.roots.len() / BLOCK_BYTES;
    assert_eq!(keys.nodes.len(), rows * keys.levels * BLOCK_BYTES, "a word for each level");
    assert_eq!(keys.payloads.len(), rows * keys.levels * P::BYTES, "a word for each level");
    assert!(points.depths().iter().all(|depth| (1..=keys.levels).contains(depth)), "the tree's levels");
    let mut walk = Walk::new(hash, keys, points);
    for first in (0..rows).step_by(ROWS) {
        walk.run(first..rows.min(first + ROWS), &mut take);
    }
}

struct Walk<'a, T, P: Payload> {
    hash: &'a dyn TreeHash,
    keys: &'a Keys<'a>,
    points: &'a T,
    depths: &'a [usize],
    /// Whether comparisons with greater thresholds end no later.
    is_descending: bool,
    /// For each depth, the thresholds that end there: ranges of neighbours.
    ends: Vec<Vec<Range<u32>>>,
    bits: usize,
    /// Words of a number, and numbers of a row.
    words: usize,
    count: usize,
    values: Vec<u64>,
    /// For each row, how many thresholds are at most v: the place of v in its list.
    below: Vec<u32>,
    /// The nodes of one level, and those of the next.
    now: Zeroizing<Vec<Node<P>>>,
    next: Zeroizing<Vec<Node<P>>>,
    /// Which of the next nodes have v alone or several points, and which end there: their places, in ascending order.
    watched: Vec<u32>,
    ended: Vec<u32>,
    hashed: Zeroizing<Vec<Block>>,
    siblings: Zeroizing<Vec<Block>>,
    owners: Vec<Sibling>,
    /// How many of the siblings are in use.
    added: usize,
    /// Thresholds that have parted from all others.
    tails: Tails<P>,
}

impl<'a, T: Points, P: Payload> Walk<'a, T, P> {
    fn new(hash: &'a dyn TreeHash, keys: &'a Keys<'a>, points: &'a T) -> Self {
        let depths = points.depths();
        let mut ends = vec![Vec::<Range<u32>>::new(); keys.levels + 1];
        for (threshold, depth) in (0..).zip(depths) {
            match ends[*depth].last_mut() {
                Some(range) if range.end == threshold => range.end += 1,
                _ => ends[*depth].push(threshold..threshold + 1),
            }
        }
        let bits = points.bits();
        let (words, count) = (bits.div_ceil(64), depths.len() + 1);
        Self {
            hash,
            keys,
            points,
            depths,
            is_descending: depths.is_sorted_by(|one, next| one >= next),
            ends,
            bits,
            words,
            count,
            values: vec![0; ROWS * count * words],
            below: vec![0; ROWS],
            now: Zeroizing::default(),
            next: Zeroizing::default(),
            watched: Vec::new(),
            ended: Vec::new(),
            hashed: Zeroizing::default(),
            siblings: Zeroizing::default(),
            owners: Vec::new(),
            added: 0,
            tails: Tails::new(keys.levels),
        }
    }

    fn run(&mut self, rows: Range<usize>, take: &mut impl FnMut(usize, Point, usize, P)) {
        let first = rows.start;
        self.now.clear();
        let roots = &self.keys.roots.as_chunks::<BLOCK_BYTES>().0[rows];
        for (row, root) in roots.iter().enumerate() {
            let values = &mut self.values[row * self.count * self.words..][..self.count * self.words];
            self.below[row] = self.points.write(first + row, values) as u32;
            let block = (u128::from_le_bytes(*root) & !1 | self.keys.party.index() as u128).to_le_bytes();
            let span = self.span(row as u32, 0, self.count as u32);
            self.now.push(Node { block, sum: P::default(), span });
        }
        for level in 0..self.keys.levels {
            let words = self.words_of(first, level);
            self.tails.step(self.hash, words, &self.values, self.bits - 1 - level);
            self.step(first, level);
            self.add_payloads(first, level);
            if !self.ends[level + 1].is_empty() {
                self.emit(first, level + 1, take);
            }
            self.part(level + 1);
            std::mem::swap(&mut self.now, &mut self.next);
        }
    }

    /// The words of `level`, for rows from `first` on.
    fn words_of(&self, first: usize, level: usize) -> (Words<'a>, Words<'a>) {
        let of = |bytes: &'a [u8], width: usize| {
            let stride = self.keys.levels * width;
            Words { bytes: &bytes[first * stride + level * width..], stride }
        };
        (of(self.keys.nodes, BLOCK_BYTES), of(self.keys.payloads, P::BYTES))
    }

    /// Moves the next nodes, after `depth` levels, that have one threshold alone to the tails. Drops those whose comparisons are over.
    fn part(&mut self, depth: usize) {
        let mut kept = 0;
        for at in 0..self.next.len() {
            let node = self.next[at];
            if self.last_due(&node.span) <= depth {
                continue;
            }
            let Span { row, from: place, due, .. } = node.span;
            if due >= VALUE {
                self.next[kept] = node;
                kept += 1;
            } else {
                let Point::Threshold(threshold) = self.places(row).point(place) else {
                    unreachable!("v stays in the trunk")
                };
                let words = (row as usize * self.count + place as usize) * self.words;
                let tail = Tail { row, threshold: threshold as u32, words: words as u32 };
                self.tails.push(due, tail, node.block, node.sum);
            }
        }
        self.next.truncate(kept);
    }

    /// After how many levels the last comparison of a node's points ends, or a number that is not less.
    fn last_due(&self, span: &Span) -> usize {
        let Span { row, from, to, .. } = *span;
        let places = self.places(row);
        match self.is_descending && !(from..to).contains(&places.value) {
            // The last place has the least threshold, on either side of v.
            true => match places.point(to - 1) {
                Point::Threshold(threshold) => self.depths[threshold],
                Point::Value => unreachable!("v is not among them"),
            },
            false => match span.due {
                due if due < VALUE => due as usize,
                _ => usize::MAX,
            },
        }
    }

    fn span(&self, row: u32, from: u32, to: u32) -> Span {
        let due = if to - from > 1 {
            SEVERAL
        } else {
            match self.places(row).point(from) {
                Point::Value => VALUE,
                Point::Threshold(threshold) => self.depths[threshold] as u32,
            }
        };
        Span { row, from, to, due }
    }

    fn places(&self, row: u32) -> Places {
        Places { value: self.below[row as usize], last: self.depths.len() as u32 }
    }

    /// Makes of the nodes of `now`, at `level`, those of `next`.
    fn step(&mut self, first: usize, level: usize) {
        self.watched.clear();
        self.ended.clear();
        self.next.clear();
        self.hashed.clear();
        self.hashed.extend(self.now.iter().map(|node| node.block));
        self.hash.nodes(&mut self.hashed);
        // A node has one left child at most. Places that are not taken are written over.
        let room = (self.now.len() + 1).max(self.owners.len());
        self.siblings.resize(room, Block::default());
        self.owners.resize(room, Sibling::default());
        self.added = 0;
        let index = self.bits - 1 - level;
        let stride = self.keys.levels * BLOCK_BYTES;
        let words = &self.keys.nodes[first * stride + level * BLOCK_BYTES..];
        let (now, hashed) = (std::mem::take(&mut self.now), std::mem::take(&mut self.hashed));
        for (Node { block, sum, span }, hashed) in now.iter().zip(hashed.iter()) {
            let word = words[span.row as usize * stride..].first_chunk().expect("a word for each level");
            let node = u128::from_le_bytes(*block);
            let left = u128::from_le_bytes(*hashed) ^ (select(node & 1) & u128::from_le_bytes(*word));
            if span.due == SEVERAL {
                let middle = self.split(span, index);
                if span.from < middle {
                    self.add(left ^ node, span.row, true);
                    self.push(left, *sum, self.span(span.row, span.from, middle), level + 1);
                }
                if middle < span.to {
                    self.push(left ^ node, *sum, self.span(span.row, middle, span.to), level + 1);
                }
            } else {
                // Half of the points go right: no branch foresees which.
                let right = self.bit(span.row, span.from, index);
                self.add(left ^ node, span.row, right == 0);
                self.push(left ^ (select(right.into()) & node), *sum, *span, level + 1);
            }
        }
        (self.now, self.hashed) = (now, hashed);
    }

    /// Keeps a right sibling for the next node, where there is a left child.
    #[inline(always)]
    fn add(&mut self, block: u128, row: u32, is_left: bool) {
        let owner = self.next.len() as u32;
        self.siblings[self.added] = block.to_le_bytes();
        self.owners[self.added] = Sibling { owner, row, control: block & 1 == 1 };
        self.added += usize::from(is_left);
    }

    #[inline(always)]
    fn push(&mut self, block: u128, sum: P, span: Span, depth: usize) {
        let place = self.next.len() as u32;
        if span.due >= VALUE {
            self.watched.push(place);
        } else if span.due == depth as u32 {
            self.ended.push(place);
        }
        self.next.push(Node { block: block.to_le_bytes(), sum, span });
    }

    /// Adds the payloads of right siblings.
    fn add_payloads(&mut self, first: usize, level: usize) {
        let siblings = &mut self.siblings[..self.added];
        self.hash.leaves(siblings);
        let stride = self.keys.levels * P::BYTES;
        let words = &self.keys.payloads[first * stride + level * P::BYTES..];
        for (sibling, block) in self.owners.iter().zip(siblings) {
            let word = P::read(&words[sibling.row as usize * stride..][..P::BYTES]);
            let sum = &mut self.next[sibling.owner as usize].sum;
            *sum = sum.plus(P::of_block(block)).plus(word.only_where(sibling.control.into()));
        }
    }

    /// The first of a row's points under a node that goes right by bit `index`: they ascend, and above the bit they are equal.
    fn split(&self, span: &Span, index: usize) -> u32 {
        let (mut from, mut to) = (span.from, span.to);
        while from < to {
            let middle = from.midpoint(to);
            if self.bit(span.row, middle, index) == 1 { to = middle } else { from = middle + 1 }
        }
        from
    }

    #[inline(always)]
    fn bit(&self, row: u32, place: u32, index: usize) -> u64 {
        let at = (row as usize * self.count + place as usize) * self.words;
        self.values[at + index / 64] >> (index % 64) & 1
    }

    /// Hands out the sums of the next nodes that end at `depth`, and takes nodes out of work whose only comparison ends.
    fn emit(&mut self, first: usize, depth: usize, take: &mut impl FnMut(usize, Point, usize, P)) {
        // Party 1 takes its payloads with a minus.
        let minus = self.keys.party.index() as u64;
        let ends = &self.ends[depth];
        for node in self.watched.iter().map(|place| &self.next[*place as usize]) {
            let Span { row, from, to, .. } = node.span;
            let places = self.places(row);
            let (row, sum) = (first + row as usize, node.sum.negated_where(minus));
            if (from..to).contains(&places.value) {
                take(row, Point::Value, depth, sum);
            }
            for range in ends.iter().flat_map(|range| places.of(range)) {
                for place in range.start.max(from)..range.end.min(to) {
                    take(row, places.point(place), depth, sum);
                }
            }
        }
        // From the last on, so that what takes a node's place is not one of them.
        for place in self.ended.iter().rev() {
            let Node { sum, span, .. } = self.next.swap_remove(*place as usize);
            let point = self.places(span.row).point(span.from);
            take(first + span.row as usize, point, depth, sum.negated_where(minus));
        }
        self.tails.end(depth, |tail, sum| {
            let point = Point::Threshold(tail.threshold as usize);
            take(first + tail.row as usize, point, depth, sum.negated_where(minus));
        });
    }
}

/// Where a row's points stand in its ascending list.
#[derive(Clone, Copy)]
struct Places {
    /// The place of v.
    value: u32,
    /// The last place.
    last: u32,
}

impl Places {
    /// The point at a place.
    fn point(self, place: u32) -> Point {
        match place.cmp(&self.value) {
            Ordering::Less => Point::Threshold((self.value - 1 - place) as usize),
            Ordering::Equal => Point::Value,
            Ordering::Greater => Point::Threshold((self.last + self.value - place) as usize),
        }
    }

    /// The places of neighbouring thresholds: of those that are at most v, and of the others.
    fn of(self, thresholds: &Range<u32>) -> [Range<u32>; 2] {
        let Range { start, end } = *thresholds;
        let places = |sum: u32, start: u32, end: u32| if start < end { sum - end..sum - start } else { 0..0 };
        let middle = self.value.clamp(start, end);
        [places(self.value, start, middle), places(self.last + self.value + 1, middle, end)]
    }
}
