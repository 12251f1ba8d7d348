//! One party's evaluation of `suf`, exchange by exchange.

use super::{first, last, truth};
use crate::{
    key::{ChunkKey, PACKED},
    pack, planes,
};
use bytes::Bytes;
use suf_gate::{
    BackendError, ChunkEval, Shape,
    ring::WIRE,
    spec::{
        CompiledSpec,
        compile::{Gate, Part},
    },
};

/// A chunk in evaluation. What it holds besides the key has been opened, or goes to the peer.
pub(crate) struct SufEval {
    key: ChunkKey,
    spec: CompiledSpec,
    x_hat: Vec<u64>,
    /// The exchanges that this specification has.
    phases: Vec<Phase>,
    /// This party's message of the exchange before.
    sent: Vec<u8>,
    opened: Opened,
}

/// What an exchange opens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Comparisons, the table's entry, the active piece.
    Lookups,
    /// Helpers of several comparisons.
    Helpers,
    /// The output.
    Output,
}

/// What has been opened: bits in planes, numbers one per element.
#[derive(Default)]
pub(super) struct Opened {
    pub(super) comparisons: Vec<u8>,
    pub(super) entries: Vec<u32>,
    pub(super) sign: Vec<u8>,
    pub(super) coefficients: Vec<Vec<u64>>,
    pub(super) helpers: Vec<u8>,
}

impl SufEval {
    /// Starts on the opened input.
    pub(crate) fn new(key: ChunkKey, x_hat: Vec<u64>) -> Result<Self, BackendError> {
        let Shape::Suf(gate) = key.job().gate.shape() else {
            return Err(BackendError::Misuse("the gate is not a suf gate"));
        };
        if x_hat.len() != key.job().elems {
            return Err(BackendError::Misuse("an input of another length than the chunk's"));
        }
        let spec = gate.compiled().clone();
        let looks_up = !spec.comparisons().is_empty() || spec.table().is_some() || spec.pieces().is_some();
        let mut phases = Vec::new();
        phases.extend(looks_up.then_some(Phase::Lookups));
        phases.extend((spec.helper_count() > 0).then_some(Phase::Helpers));
        phases.push(Phase::Output);
        Ok(Self { key, spec, x_hat, phases, sent: Vec::new(), opened: Opened::default() })
    }

    /// Opens the first exchange.
    fn open_lookups(&mut self, incoming: &[u8]) {
        let elems = self.x_hat.len();
        let mut incoming = incoming.to_vec();
        let theirs = first::split(&self.spec, elems, &mut incoming);
        let [comparisons, entries, sign, coefficients] = first::split(&self.spec, elems, &mut self.sent);
        let [their_comparisons, their_entries, their_sign, their_coefficients] = theirs;
        let opened = &mut self.opened;
        opened.comparisons = opened_planes(comparisons, their_comparisons);
        opened.sign = opened_planes(sign, their_sign);
        if let Some(table) = self.spec.table() {
            let mut sums = vec![0; elems];
            pack::unpack_sum(table.mask_bits.into(), entries, their_entries, &mut sums);
            // At most 24 bits.
            opened.entries = sums.into_iter().map(|sum| sum as u32).collect();
        }
        let segments = coefficients.chunks_exact(elems * PACKED);
        for (mine, theirs) in segments.zip(their_coefficients.chunks_exact(elems * PACKED)) {
            opened.coefficients.push(opened_elements(mine, theirs, elems));
        }
    }

    /// This party's shares of the helpers: of each, the row of its table that the opened comparisons name.
    fn share_helpers(&self) -> Vec<u8> {
        let elems = self.x_hat.len();
        let plane_bytes = elems.div_ceil(8);
        let mut message = Vec::with_capacity(self.spec.helper_count() * plane_bytes);
        for (g, gate) in self.spec.gates().iter().enumerate() {
            let Gate::Helper { inputs, .. } = gate else { continue };
            let table = self.spec.field(Part::HelperTable(g)).expect("a helper has its table");
            let mut rows = self.key.field(table).whole();
            let inputs: Vec<&[u8]> = inputs
                .iter()
                .map(|input| &self.opened.comparisons[input * plane_bytes..][..plane_bytes])
                .collect();
            truth::select(&mut rows, &inputs);
            message.extend_from_slice(&rows[..plane_bytes]);
        }
        planes::clear_padding(&mut message, plane_bytes, elems);
        message
    }
}

impl ChunkEval for SufEval {
    fn step(&mut self, step: usize, incoming: &[u8]) -> Result<Bytes, BackendError> {
        let phase =
            *self.phases.get(step).ok_or(BackendError::Misuse("a step that the gate does not have"))?;
        self.key.check_turn(step, &self.sent, incoming)?;
        match step.checked_sub(1).map(|before| self.phases[before]) {
            None => {}
            Some(Phase::Lookups) => self.open_lookups(incoming),
            Some(Phase::Helpers) => self.opened.helpers = opened_planes(&self.sent, incoming),
            Some(Phase::Output) => unreachable!("nothing follows the output"),
        }
        let message = match phase {
            Phase::Lookups => first::share(&self.spec, &self.key, &self.x_hat),
            Phase::Helpers => self.share_helpers(),
            Phase::Output => last::share(&self.spec, &self.key, &self.x_hat, &self.opened),
        };
        self.sent.clone_from(&message);
        Ok(message.into())
    }

    fn finish(&mut self, incoming: &[u8]) -> Result<Vec<u64>, BackendError> {
        self.key.check_turn(self.phases.len(), &self.sent, incoming)?;
        Ok(opened_elements(&self.sent, incoming, self.x_hat.len()))
    }
}

fn opened_planes(mine: &[u8], theirs: &[u8]) -> Vec<u8> {
    let mut opened = mine.to_vec();
    pack::xor_into(&mut opened, theirs);
    opened
}

fn opened_elements(mine: &[u8], theirs: &[u8], elems: usize) -> Vec<u64> {
    let mut opened = vec![0; elems];
    pack::unpack_sum(WIRE.bits().into(), mine, theirs, &mut opened);
    opened
}
