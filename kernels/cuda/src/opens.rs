//! Openings of wires: the host computes them, on streams that the GPU expands.

use suf_gate::{
    BackendError, DealJob, EvalJob, KeyBytes, KeyShape, Party, SecretBytes, Seed, Side, Source, StagedPart,
    layout::FieldId, ops::open, prg::Domain,
};
use zeroize::Zeroizing;

use crate::backend::Shared;

/// Streams of a part, each after its field.
type Streams = Vec<(FieldId, Zeroizing<Vec<u8>>)>;

/// Both parties' keys of a tile of a masked wire.
pub(crate) fn deal(shared: &Shared, job: &DealJob<'_>) -> Result<[SecretBytes; 2], BackendError> {
    let [wire] = job.node().inputs() else {
        return Err(BackendError::Misuse("an opening takes one wire"));
    };
    let masks = shared.mask(job.program, job.domain(), *wire, &job.party_seeds.each_ref())?;
    let seeded = match job.side(Party::P0) {
        Side::Seeded => Party::P0,
        Side::Explicit => Party::P1,
    };
    let seed = &job.party_seeds[seeded.index()];
    let streams = expand(shared, job.key_shape(), Side::Seeded, job.elems(), job.domain(), seed)?;
    Ok(open::deal(job, &masks, &|id, bytes| first(&streams, id, bytes)))
}

/// A tile at one party. `mask` is its share of the mask of the wire that is made.
pub(crate) fn stage(
    shared: &Shared,
    job: &EvalJob,
    key: &KeyBytes,
    mut mask: Zeroizing<Vec<u64>>,
) -> Result<Box<dyn StagedPart>, BackendError> {
    let streams = expand(shared, job.key_shape(), job.side(), job.elems(), job.domain(), &job.seed)?;
    let mask = std::mem::take(&mut *mask);
    Ok(open::stage(job.clone(), key, &|id, bytes| first(&streams, id, bytes), mask))
}

/// The shared fields that `side` expands from its `seed`.
fn expand(
    shared: &Shared,
    shape: &KeyShape,
    side: Side,
    elems: usize,
    domain: Domain<'_>,
    seed: &Seed,
) -> Result<Streams, BackendError> {
    let fields = shape.fields().iter().enumerate().map(|(index, field)| (FieldId(index as u16), field));
    let expanded = fields.filter(|(id, field)| field.source == Source::Shared && !shape.delivered(*id, side));
    let (ids, wanted): (Vec<_>, Vec<_>) =
        expanded.map(|(id, field)| (id, (domain.stream(seed, id), field.width.bytes(elems)))).unzip();
    Ok(ids.into_iter().zip(shared.expand_to_host(&wanted)?).collect())
}

/// The first bytes of a stream, which was expanded for them.
fn first(streams: &Streams, id: FieldId, bytes: usize) -> Zeroizing<Vec<u8>> {
    let (_, stream) = streams.iter().find(|(field, _)| *field == id).expect("what the side does not receive");
    Zeroizing::new(stream[..bytes].to_vec())
}
