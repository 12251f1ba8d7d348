//! The sums, at dealer and parties. Matrices are used tile by tile of the load program. So no more than a tile of the mask of a
//! matrix is in memory, and it stays in the cache.

use std::{ops::Range, sync::Arc};

use zeroize::Zeroizing;

use super::{Factor, LOADED, Private, Term};
use crate::{
    BackendError, DealJob, EvalJob, Form, KeyBytes, Part, Party, SecretBytes, Seed, StagedPart, Tiles,
    layout::FieldId,
    load::{Kept, LoadId},
    ops::{
        Op,
        fields::{SharedFields, shares},
        host::{DealHost, EvalHost, Loops, Rows},
        round::{self, Share},
    },
    prg::MASK,
};

/// Chosen rows of a tile of a matrix.
struct Piece {
    tile: u32,
    /// The rows, counted within the tile.
    rows: Vec<Range<usize>>,
    /// The first of them among all that are chosen.
    first: usize,
}

impl Term {
    /// The tiles of a matrix that have chosen rows.
    fn pieces(&self, cut: Tiles) -> impl Iterator<Item = Piece> {
        let mut first = 0;
        (0..cut.count()).filter_map(move |tile| {
            let all = cut.rows(tile);
            let part = |range: &Range<u32>| {
                let (start, end) = (range.start.max(all.start), range.end.min(all.end));
                (start < end).then(|| (start - all.start) as usize..(end - all.start) as usize)
            };
            let rows: Vec<_> = self.rows.ranges().iter().filter_map(part).collect();
            let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
            let piece = Piece { tile, rows, first };
            first += count;
            (count > 0).then_some(piece)
        })
    }

    /// What is chosen of a tile.
    fn choose(&self, tile: &[u64], rows: &[Range<usize>]) -> Zeroizing<Vec<u64>> {
        let width = self.matrix.shape.cols() as usize;
        let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let mut chosen = Zeroizing::new(Vec::with_capacity(count * self.cols.count() as usize));
        for row in rows.iter().flat_map(Clone::clone) {
            let row = &tile[row * width..][..width];
            for cols in self.cols.ranges() {
                chosen.extend_from_slice(&row[cols.start as usize..cols.end as usize]);
            }
        }
        chosen
    }

    /// Adds to `out` what `x` makes of a piece's `chosen` elements.
    fn add(&self, loops: &dyn Loops, x: &[u64], first: usize, chosen: &[u64], out: &mut [u64]) {
        let cols = self.cols.count() as usize;
        match self.factor {
            Factor::Rows(_) => {
                let rows =
                    Rows { values: x, stride: self.width() as usize, first, count: chosen.len() / cols };
                loops.matrix(rows, chosen, out);
            }
            Factor::Elements(_) => {
                for (out, x) in out.chunks_exact_mut(cols).zip(x.chunks_exact(cols)) {
                    for (out, (x, factor)) in out.iter_mut().zip(x.iter().zip(chosen)) {
                        *out = out.wrapping_add(x.wrapping_mul(*factor));
                    }
                }
            }
            Factor::One => {
                for out in out.chunks_exact_mut(cols) {
                    out.iter_mut().zip(chosen).for_each(|(out, x)| *out = out.wrapping_add(*x));
                }
            }
        }
    }

    /// A wire's elements, or shares of its mask, with the scale of the sum.
    fn scale(&self, x: &mut [u64]) {
        let shift = self.left().map_or(0, |left| left.shift);
        x.iter_mut().for_each(|x| *x <<= shift);
    }

    /// The tiles of its matrix, if `load` has that.
    ///
    /// # Errors
    /// [`BackendError::Misuse`] if it has no such matrix.
    pub fn cut(&self, load: &LoadId) -> Result<Tiles, BackendError> {
        let node = load.program.get(self.matrix.input).filter(|node| node.is_input());
        let wire = node.and_then(|node| node.wire());
        let is_it = wire.is_some_and(|wire| {
            (wire.shape, wire.ring, wire.frac) == (self.matrix.shape, LOADED, self.matrix.frac)
                && wire.form == Form::Masked
        });
        let node = node.filter(|_| is_it);
        Ok(node.ok_or(BackendError::Misuse("a matrix that the load does not have"))?.cut())
    }

    /// The part of the load program that is a tile of its matrix.
    fn part(&self, tile: u32) -> Part {
        Part::new(self.matrix.input, tile)
    }
}

impl LoadId {
    /// Adds the share of the mask of a tile that the owner of `seed` has.
    fn add_mask(&self, loops: &dyn Loops, seed: &Seed, part: Part, out: &mut [u64]) {
        let stream = self.domain(part).stream(seed, MASK);
        let bytes = loops.stream(&stream, size_of_val(out));
        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *out = out.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }
}

impl Private {
    /// Both parties' keys of a part.
    pub(crate) fn deal(
        &self,
        job: &DealJob<'_>,
        host: &dyn DealHost,
    ) -> Result<[SecretBytes; 2], BackendError> {
        let load = job.load.filter(|load| load.load().program.digest() == &self.load);
        let load = load.ok_or(BackendError::Misuse("a program without its load"))?;
        let mut masks = job.masks(host, self.wires())?.into_iter();
        let loops = host.loops();
        let mut products = Zeroizing::new(vec![0; job.elems()]);
        for (term, _) in self.lefts() {
            let mut r = masks.next().expect("a mask of each wire");
            term.scale(&mut r);
            let cut = term.cut(load.load())?;
            for Piece { tile, rows, first } in term.pieces(cut) {
                let mut mask = Zeroizing::new(vec![0; cut.elems(tile)]);
                for party in Party::BOTH {
                    load.load().add_mask(&*loops, load.seed(party), term.part(tile), &mut mask);
                }
                term.add(&*loops, &r, first, &term.choose(&mask, &rows), &mut products);
            }
        }
        let ring = self.to;
        products.iter_mut().for_each(|product| *product = ring.reduce(*product));
        let mut key = SharedFields::new(job, host);
        key.share(products)?;
        Ok(key.finish())
    }
}

/// A part at one party.
pub(crate) fn stage(
    job: &EvalJob,
    key: &KeyBytes,
    host: &dyn EvalHost,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let Op::Private(op) = job.node().op() else { unreachable!("asked of private products alone") };
    let load = job.load.as_ref().filter(|load| load.load().program.digest() == &op.load);
    let load = Arc::clone(load.ok_or(BackendError::Misuse("a program without its load"))?);
    let cuts: Result<_, _> = op.terms.iter().map(|term| term.cut(load.load())).collect();
    if op.terms.iter().any(|term| load.matrix(term.matrix.input).is_none()) {
        return Err(BackendError::Misuse("a load without all of its matrices"));
    }
    let products = shares(job, key, host, FieldId(0))?;
    round::stage(job, host, Shares { op: op.clone(), cuts: cuts?, load, products, loops: host.loops() })
}

struct Shares {
    op: Private,
    /// The tiles of each term's matrix.
    cuts: Vec<Tiles>,
    load: Arc<Kept>,
    /// Shares of r R.
    products: Zeroizing<Vec<u64>>,
    loops: Arc<dyn Loops>,
}

impl Share for Shares {
    fn share(&self, job: &EvalJob, taken: Vec<Vec<u64>>) -> Vec<u64> {
        let is_first = u64::from(job.party == Party::P0);
        let mut sums = self.products.to_vec();
        let mut wires = taken;
        let mut pads = Zeroizing::new(wires.split_off(self.op.wires()));
        let mut factors = wires.iter_mut().zip(pads.iter_mut());
        for (term, cut) in self.op.terms.iter().zip(&self.cuts) {
            let (mut x_hat, mut r): (&[u64], &[u64]) = (&[], &[]);
            if term.left().is_some() {
                let (wire, pad) = factors.next().expect("a wire and shares of its mask");
                term.scale(wire);
                term.scale(pad);
                pad.iter_mut().for_each(|r| *r = r.wrapping_neg());
                (x_hat, r) = (wire, pad);
            }
            let matrix = self.load.matrix(term.matrix.input).expect("it is there, as its part was staged");
            let width = term.matrix.shape.cols() as usize;
            for Piece { tile, rows, first } in term.pieces(*cut) {
                let opened = &matrix[cut.rows(tile).start as usize * width..][..cut.elems(tile)];
                // x_hat (1[party 0] W_hat - R) - r W_hat.
                let mut mine = Zeroizing::new(vec![0; opened.len()]);
                self.load.load().add_mask(&*self.loops, self.load.seed(), term.part(tile), &mut mine);
                for (mine, opened) in mine.iter_mut().zip(opened) {
                    *mine = is_first.wrapping_mul(*opened).wrapping_sub(*mine);
                }
                term.add(&*self.loops, x_hat, first, &term.choose(&mine, &rows), &mut sums);
                if term.left().is_some() {
                    term.add(&*self.loops, r, first, &term.choose(opened, &rows), &mut sums);
                }
            }
        }
        sums
    }
}
