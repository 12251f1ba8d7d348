//! A part's keys made on the GPU: its streams are expanded, and the gate's kernels turn them into both parties' keys.

use std::sync::Arc;

use suf_gate::{BackendError, DealJob, Party, SecretBytes, Source, layout::FieldId, ops::Op, prg::MASK};

use crate::{
    backend::{self, Kernels, Shared},
    driver,
    layout::{self, Job, Layout, Run, Stream, TABLE_BYTES},
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
    /// Lays the tile out and uploads the table of its streams.
    pub(crate) fn prepare(shared: &Arc<Shared>, job: &DealJob<'_>) -> Result<Self, BackendError> {
        if !job.program.has(job.part) {
            return Err(BackendError::Misuse("a part that the program does not have"));
        }
        let node = job.node();
        let (Op::Gate(gate), [wire]) = (node.op(), node.inputs()) else {
            return Err(BackendError::Misuse("keys are dealt for gates alone"));
        };
        let kernels = shared.kernels(gate.gate())?;
        let (shape, elems, domain) = (job.key_shape(), job.elems(), job.domain());
        let mut layout = Layout::from(TABLE_BYTES);
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
                streams.push(Stream { key: domain.stream(seed, place.id), to: place.at, bytes: place.bytes });
            }
            runs[index] = layout::runs(&places);
            for (wire, mask) in
                [(*wire, &mut addresses.taken[index]), (job.part.node, &mut addresses.made[index])]
            {
                let bytes = PACKED * elems;
                let to = layout.take(bytes);
                *mask = to as u64;
                streams.push(Stream { key: job.mask_domain(wire).stream(own, MASK), to, bytes });
            }
        }
        let own = shape.fields().iter().enumerate().filter(|(_, field)| field.source == Source::Dealer);
        let own = own.map(|(id, field)| (FieldId(id as u16), field.width.bytes(elems)));
        let further = kernels.dealer_streams.iter().map(|(id, bytes)| (*id, bytes * elems));
        for (id, bytes) in own.chain(further) {
            let at = layout.take(bytes);
            addresses.dealer[usize::from(id.0)] = at as u64;
            streams.push(Stream { key: domain.stream(job.dealer_seed, id), to: at, bytes });
        }

        let mut slot = shared.memory.slot(layout.end(), TABLE_BYTES)?;
        let base = slot.at(0);
        let Job { key, dealer, taken, made, .. } = &mut addresses;
        let rows = key.iter_mut().flatten().chain(dealer).chain(taken).chain(made);
        rows.filter(|at| **at != 0).for_each(|at| *at += base);
        backend::put_streams(base, slot.pinned.bytes_mut(), &streams)?;
        // SAFETY: the table is not written again.
        unsafe { slot.upload(0, 0, TABLE_BYTES) }?;
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
    pub(crate) fn run_on(&self, on: &driver::Stream) -> Result<(), BackendError> {
        self.expand(on)?;
        (0..self.kernels.deal.len()).try_for_each(|i| self.combine(i, on))
    }

    /// Queues the expansion of the streams.
    pub(crate) fn expand(&self, on: &driver::Stream) -> Result<(), BackendError> {
        self.shared.expand(&self.slot, on, &self.lengths)
    }

    /// Queues the gate's kernel `i`.
    pub(crate) fn combine(&self, i: usize, on: &driver::Stream) -> Result<(), BackendError> {
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
