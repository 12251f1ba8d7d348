//! A part's keys made on the GPU: its streams are expanded, and the gate's kernels turn them into both parties' keys.

use std::sync::Arc;

use suf_gate::{BackendError, DealJob, Party, SecretBytes, Source, layout::FieldId, prg::MASK};

use crate::{
    backend::{self, Kernels, Shared},
    driver,
    layout::{self, Expansion, Job, Layout, Run, TABLE_BYTES},
    masks,
    memory::Slot,
    opening::PACKED,
};

/// Both parties' keys of a part in the making.
pub(crate) struct Dealing {
    shared: Arc<Shared>,
    slot: Slot,
    /// After the slot, whose drop waits for what is queued of them.
    kernels: Arc<Kernels>,
    job: Job,
    lengths: Vec<usize>,
    /// For each party, where its delivered fields stand and where they go.
    runs: [Vec<Run>; 2],
    bytes: [usize; 2],
}

impl Dealing {
    /// Lays the tile out and uploads the table of its streams, and the masks that the host makes.
    pub(crate) fn prepare(shared: &Arc<Shared>, job: &DealJob<'_>) -> Result<Self, BackendError> {
        let node = job.node();
        let (Some(gate), [wire]) = (node.op().as_gate(), node.inputs()) else {
            return Err(BackendError::Misuse("kernels deal for gates alone"));
        };
        let (wire, entry) = (*wire, gate.entry());
        let kernels = shared.kernels(gate.gate())?;
        let (shape, elems, domain) = (job.key_shape(), job.elems(), job.domain());
        let mut layout = Layout::from(TABLE_BYTES);
        // The host uploads with the table the mask of the wire taken, as if party 0 had all of it, and its highest bits.
        let is_stream = job.program.node(wire).wire().is_some_and(|wire| masks::is_stream(wire, entry));
        let seeds = job.party_seeds.each_ref();
        let from_host = (!is_stream)
            .then(|| shared.mask(job.program, domain, wire, &seeds, Some(job.masks)))
            .transpose()?;
        let mask_bytes = if is_stream { 0 } else { PACKED * elems };
        let [mask_at, none_at] = [layout.take(mask_bytes), layout.take(mask_bytes)];
        let tops_at = layout.take(if entry.is_extended() { elems } else { 0 });
        let head = layout.end();
        let mut addresses = Job::new(job.program, job.part, domain.fixed_keys());
        let seeded = &job.party_seeds[addresses.seeded as usize];
        let mut streams = Vec::new();
        let mut runs = [Vec::new(), Vec::new()];
        for party in [Party::P0, Party::P1] {
            let (index, own) = (party.index(), &job.party_seeds[party.index()]);
            let mut places = layout.fields(shape, job.side(party), elems, false);
            for place in &mut places {
                let field = usize::from(place.id.0);
                let source = shape.field(place.id).source;
                // Correction words are made once.
                if source == Source::Common && party == Party::P1 {
                    place.at = addresses.key[0][field] as usize;
                }
                addresses.key[index][field] = place.at as u64;
                let seed = match source {
                    Source::Own => own,
                    // Both sides start as the seeded side's.
                    Source::Shared => seeded,
                    Source::Common | Source::Dealer => continue,
                };
                streams.push(Expansion {
                    key: domain.stream(seed, place.id),
                    to: place.at,
                    bytes: place.bytes,
                });
            }
            runs[index] = layout::runs(&places);
            let taken = is_stream.then_some((wire, &mut addresses.taken[index]));
            for (wire, mask) in taken.into_iter().chain([(job.part.node, &mut addresses.made[index])]) {
                let bytes = PACKED * elems;
                let to = layout.take(bytes);
                *mask = to as u64;
                streams.push(Expansion { key: job.mask_domain(wire).stream(own, MASK), to, bytes });
            }
        }
        let own = shape.fields().iter().enumerate().filter(|(_, field)| field.source == Source::Dealer);
        let own = own.map(|(id, field)| (FieldId(id as u16), field.width.bytes(elems)));
        let further = kernels.dealer_streams.iter().map(|(id, bytes)| (*id, bytes * elems));
        for (id, bytes) in own.chain(further) {
            let at = layout.take(bytes);
            addresses.dealer[usize::from(id.0)] = at as u64;
            streams.push(Expansion { key: domain.stream(job.dealer_seed, id), to: at, bytes });
        }

        let mut slot = shared.memory.slot(layout.end(), head)?;
        let base = slot.at(0);
        if let Some(wire_masks) = from_host {
            addresses.taken = [mask_at, none_at].map(|at| at as u64);
            masks::pack(entry, &wire_masks, &mut slot.pinned.bytes_mut()[mask_at..][..mask_bytes]);
            if let Some(wrap) = gate.wrap() {
                // What the kernels write is the explicit side's.
                addresses.wrap = addresses.key[1 - addresses.seeded as usize][usize::from(wrap.0)];
                addresses.tops = tops_at as u64;
                let tops = &mut slot.pinned.bytes_mut()[tops_at..][..elems];
                tops.iter_mut().zip(wire_masks.iter()).for_each(|(top, r)| *top = entry.top(*r) as u8);
            }
        }
        let Job { key, dealer, taken, made, wrap, tops, .. } = &mut addresses;
        let rows = key.iter_mut().flatten().chain(dealer).chain(taken).chain(made).chain([wrap, tops]);
        rows.filter(|at| **at != 0).for_each(|at| *at += base);
        backend::put_streams(base, slot.pinned.bytes_mut(), &streams)?;
        // SAFETY: these bytes are not written again.
        unsafe { slot.upload(0, 0, head) }?;
        Ok(Self {
            shared: shared.clone(),
            slot,
            kernels,
            job: addresses,
            lengths: streams.iter().map(|stream| stream.bytes).collect(),
            runs,
            bytes: [Party::P0, Party::P1].map(|party| job.program.key_bytes_of(party, job.part)),
        })
    }

    /// Queues the making of the keys.
    pub(crate) fn run(&self) -> Result<(), BackendError> {
        self.run_on(self.slot.stream())
    }

    /// The same on another stream, once the upload is done; it is waited for before the tile's own is used.
    pub(crate) fn run_on(&self, on: &driver::CudaStream) -> Result<(), BackendError> {
        self.expand(on)?;
        (0..self.kernels.deal.len()).try_for_each(|i| self.combine(i, on))
    }

    /// Queues the expansion of the streams.
    pub(crate) fn expand(&self, on: &driver::CudaStream) -> Result<(), BackendError> {
        self.shared.expand(self.slot.at(0), on, &self.lengths)
    }

    /// Queues the gate's kernel `i`.
    pub(crate) fn combine(&self, i: usize, on: &driver::CudaStream) -> Result<(), BackendError> {
        // SAFETY: prepare laid out every field that the gate's key has.
        unsafe { backend::start(on, self.kernels.deal[i].0, &self.job) }
    }

    /// Waits until the upload and everything queued on the tile's own stream is done.
    pub(crate) fn wait(&self) -> Result<(), BackendError> {
        self.slot.stream().wait()
    }

    /// Bytes that are expanded from streams.
    pub(crate) fn stream_bytes(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Copies the keys to the host, waits, and hands them over.
    pub(crate) fn fetch(self) -> Result<[SecretBytes; 2], BackendError> {
        let [mut key_0, mut key_1] =
            [self.shared.memory.pinned(self.bytes[0])?, self.shared.memory.pinned(self.bytes[1])?];
        let mut copied = Ok(());
        for (key, runs) in [&mut key_0, &mut key_1].into_iter().zip(&self.runs) {
            for (at, range) in runs {
                // SAFETY: the keys are not touched before the wait below, whatever fails.
                copied =
                    copied.and(unsafe { self.slot.download_to(*at, &mut key.bytes_mut()[range.clone()]) });
            }
        }
        let done = self.slot.stream().wait();
        copied.and(done)?;
        Ok([key_0, key_1].map(|key| SecretBytes::from_memory(Box::new(key))))
    }
}
