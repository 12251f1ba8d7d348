//! Products with matrices of a loaded model. What was opened of the matrices stays on the GPU as long as the load. Their masks are
//! expanded for each part anew.

use std::{collections::HashMap, sync::Arc};

use suf_gate::{
    BackendError, DealJob, EvalJob, NodeId, Part, Party, Seed, Tiles,
    load::{Kept, LoadId},
    ops::{
        Private,
        private::{Factor, Term},
    },
    prg::MASK,
};

use super::{
    lane::Lane,
    tasks::{Columns, How, Matrix},
    value::DeviceValue,
};
use crate::backend::Shared;

const NO_LOAD: BackendError =
    BackendError::Misuse("a program without its load, or a load without its matrices");

/// The opened matrices of a load on one GPU.
struct Opened {
    shared: Arc<Shared>,
    matrices: HashMap<NodeId, DeviceValue>,
}

impl Opened {
    fn new(shared: &Arc<Shared>, kept: &Kept) -> Result<Self, BackendError> {
        let program = &kept.load().program;
        let mut lane = Lane::new(shared)?;
        let copy = |id: NodeId| {
            let matrix = kept.matrix(id).ok_or(NO_LOAD)?;
            let value = DeviceValue::room(shared, matrix.len(), false)?;
            // SAFETY: there is room for as many words.
            unsafe { lane.upload_words(matrix, value.address()) }?;
            lane.wait()?;
            Ok((id, value))
        };
        let matrices = program.inputs().map(copy).collect::<Result<_, BackendError>>()?;
        Ok(Self { shared: Arc::clone(shared), matrices })
    }
}

/// Queues a party's shares of the sum of all terms, modulo 2^64, to `out`. `products` are its shares of the products of masks, `taken`
/// what the part takes.
///
/// # Safety
/// The addresses are those of this part.
pub(super) unsafe fn share(
    lane: &mut Lane,
    job: &EvalJob,
    op: &Private,
    (out, products): (u64, u64),
    taken: &[u64],
) -> Result<(), BackendError> {
    let load = job.load.as_ref().filter(|load| load.load().program.digest() == op.load()).ok_or(NO_LOAD)?;
    let shared = Arc::clone(lane.shared());
    let opened = load
        .on_device(|opened: &Opened| Arc::ptr_eq(&opened.shared, &shared), || Opened::new(&shared, load))?;
    let elems = job.elems();
    // SAFETY: as many words of both.
    unsafe { lane.reduce(out, products, 64, elems) }?;
    let (wires, pads) = taken.split_at(taken.len() / 2);
    let mut factors = wires.iter().zip(pads);
    for term in op.terms() {
        let matrix = opened.matrices.get(&term.matrix.input).ok_or(NO_LOAD)?;
        let (x, r) = match term.left() {
            Some(_) => factors.next().map(|(x, r)| (*x, *r)).ok_or(NO_LOAD)?,
            None => (0, 0),
        };
        let mask = masks(lane, load.load(), term, &[load.seed()])?;
        let task = Matrix {
            x,
            r,
            opened: matrix.address(),
            is_first: u32::from(job.party == Party::P0),
            ..whole(lane, term, (out, elems), mask)?
        };
        // SAFETY: by the caller's promise; the matrix and its mask are whole, and so are the chosen rows and columns.
        unsafe { add(lane, term, task) }?;
    }
    lane.hold(opened);
    Ok(())
}

/// Queues the sum of the products of masks, to `out`. `masks_of_wires` are those of what the part takes.
///
/// # Safety
/// As for [`share`].
pub(super) unsafe fn products(
    lane: &mut Lane,
    job: &DealJob<'_>,
    op: &Private,
    out: u64,
    masks_of_wires: &[u64],
) -> Result<(), BackendError> {
    let load = job.load.filter(|load| load.load().program.digest() == op.load()).ok_or(NO_LOAD)?;
    let seeds = Party::BOTH.map(|party| load.seed(party));
    let elems = job.elems();
    // SAFETY: there are as many words.
    unsafe { lane.zero(out, elems) }?;
    let with_wires = op.terms().iter().filter(|term| term.left().is_some());
    for (term, r) in with_wires.zip(masks_of_wires) {
        let mask = masks(lane, load.load(), term, &seeds)?;
        let task = Matrix { x: *r, ..whole(lane, term, (out, elems), mask)? };
        // SAFETY: by the caller's promise; as in share.
        unsafe { add(lane, term, task) }?;
    }
    // SAFETY: as many words of both.
    unsafe { lane.reduce(out, out, op.to().bits(), elems) }
}

/// Queues the mask of the matrix of `term`, as far as `seeds` make it.
fn masks(lane: &mut Lane, load: &LoadId, term: &Term, seeds: &[&Seed]) -> Result<u64, BackendError> {
    let cut: Tiles = term.cut(load)?;
    let elems = term.matrix.shape.elems() as usize;
    let mask = lane.words(elems)?;
    let wanted: Vec<_> = (0..cut.count())
        .flat_map(|tile| seeds.iter().map(move |seed| (tile, *seed)))
        .map(|(tile, seed)| {
            let domain = load.domain(Part::new(term.matrix.input, tile));
            (domain.stream(seed, MASK), 8 * cut.elems(tile))
        })
        .collect();
    let streams = lane.expand(&wanted)?;
    let mut end = mask;
    for (tile, streams) in (0..cut.count()).zip(streams.chunks(seeds.len())) {
        let elems = cut.elems(tile);
        for (stream, how) in streams.iter().zip([How::Set, How::Add]) {
            // SAFETY: the tiles follow each other in room for all of them; entries of 64 bits are words.
            unsafe { lane.unpack((end, how), *stream, (64, 64), elems) }?;
        }
        end += 8 * elems as u64;
    }
    Ok(mask)
}

/// The product of `elems` elements with the masks of a matrix; what is chosen of it is uploaded.
fn whole(
    lane: &mut Lane,
    term: &Term,
    (out, elems): (u64, usize),
    masks: u64,
) -> Result<Matrix, BackendError> {
    let cols = term.cols.count();
    Ok(Matrix {
        out,
        x: 0,
        r: 0,
        opened: 0,
        masks,
        chosen_rows: lane.upload_indices(term.rows.each())?,
        chosen_cols: lane.upload_indices(term.cols.each())?,
        rows: elems as u32 / cols,
        inner: term.rows.count(),
        cols,
        stride: term.matrix.shape.cols(),
        shift: term.left().map_or(0, |left| left.shift.into()),
        is_first: 0,
        is_one: u32::from(matches!(term.factor, Factor::One)),
        padding: 0,
    })
}

/// Queues the product of a term.
///
/// # Safety
/// The task's addresses are the term's.
unsafe fn add(lane: &Lane, term: &Term, task: Matrix) -> Result<(), BackendError> {
    match term.factor {
        // SAFETY: by the caller's promise.
        Factor::Rows(_) => unsafe { lane.start(&task) },
        // SAFETY: as above.
        Factor::Elements(_) | Factor::One => unsafe { lane.start(&Columns(task)) },
    }
}
