//! One party's evaluation of `suf`, exchange by exchange.

use super::{first, last, truth};
use crate::{
    eval::GateEval,
    key::{PACKED, PartKey},
    pack, planes,
};
use suf_gate::{
    ring::WIRE,
    spec::{
        CompiledSpec,
        compile::{Part, Switch},
    },
    suf::Suf,
};

/// What has been opened.
pub(crate) struct SufEval {
    spec: CompiledSpec,
    x_hat: Vec<u64>,
    /// The exchanges that this specification has.
    phases: Vec<SufExchange>,
    opened: Opened,
}

/// What an exchange opens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SufExchange {
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
    pub(crate) fn new(gate: &Suf, x_hat: Vec<u64>) -> Self {
        let spec = gate.compiled().clone();
        let looks_up = !spec.comparisons().is_empty() || spec.table().is_some() || spec.pieces().is_some();
        let mut phases = Vec::new();
        phases.extend(looks_up.then_some(SufExchange::Lookups));
        phases.extend((spec.helper_count() > 0).then_some(SufExchange::Helpers));
        phases.push(SufExchange::Output);
        Self { spec, x_hat, phases, opened: Opened::default() }
    }

    /// Opens the first exchange.
    fn open_lookups(&mut self, mine: &[u8], theirs: &[u8]) {
        let elems = self.x_hat.len();
        let mine = first::split(&self.spec, elems, mine);
        let theirs = first::split(&self.spec, elems, theirs);
        let ([comparisons, entries, sign, coefficients], opened) = (mine, &mut self.opened);
        let [their_comparisons, their_entries, their_sign, their_coefficients] = theirs;
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
            let mut coefficient = vec![0; elems];
            pack::unpack_sum(WIRE.bits().into(), mine, theirs, &mut coefficient);
            opened.coefficients.push(coefficient);
        }
    }

    /// This party's shares of the helpers: of each, the row of its table that the opened comparisons name.
    fn share_helpers(&self, key: &PartKey) -> Vec<u8> {
        let elems = self.x_hat.len();
        let plane_bytes = elems.div_ceil(8);
        let mut message = Vec::with_capacity(self.spec.helper_count() * plane_bytes);
        for (g, gate) in self.spec.gates().iter().enumerate() {
            let Switch::Helper { inputs, .. } = gate else { continue };
            let table = self.spec.field(Part::HelperTable(g)).expect("a helper has its table");
            let mut rows = key.field(table).whole();
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

impl GateEval for SufEval {
    fn share(&mut self, key: &PartKey, step: usize) -> Vec<u8> {
        match self.phases[step] {
            SufExchange::Lookups => first::share(&self.spec, key, &self.x_hat),
            SufExchange::Helpers => self.share_helpers(key),
            SufExchange::Output => last::share(&self.spec, key, &self.x_hat, &self.opened),
        }
    }

    fn open(&mut self, _: &PartKey, step: usize, mine: &[u8], theirs: &[u8]) {
        match self.phases[step] {
            SufExchange::Lookups => self.open_lookups(mine, theirs),
            SufExchange::Helpers => self.opened.helpers = opened_planes(mine, theirs),
            SufExchange::Output => unreachable!("the output is opened by itself"),
        }
    }
}

fn opened_planes(mine: &[u8], theirs: &[u8]) -> Vec<u8> {
    let mut opened = mine.to_vec();
    pack::xor_into(&mut opened, theirs);
    opened
}
