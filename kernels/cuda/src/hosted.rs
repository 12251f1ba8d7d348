//! Operations that the host computes, on streams that the GPU expands: loads, and the input and output of a gate alone.

use std::sync::Arc;

use suf_gate::{
    DealJob, EvalJob, Part, Party,
    layout::FieldId,
    ops::host::{DealHost, EvalHost, Loops, MaskTile, Plain, StreamBytes},
    prg::{Domain, StreamKey},
};
use zeroize::Zeroizing;

use crate::backend::Shared;

/// For the dealer of a part.
pub(crate) struct Dealer<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) job: &'a DealJob<'a>,
}

/// For a party that evaluates a part.
pub(crate) struct Evaluator<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) job: &'a EvalJob,
}

impl DealHost for Dealer<'_> {
    fn field(&self, party: Party, id: FieldId, bytes: usize) -> StreamBytes {
        let seed = &self.job.party_seeds[party.index()];
        expand(self.shared, self.job.domain().stream(seed, id), bytes)
    }

    fn mask(&self, part: Part) -> MaskTile {
        let domain = Domain { part, ..self.job.domain() };
        self.shared.mask(
            self.job.program,
            domain,
            part.node,
            &self.job.party_seeds.each_ref(),
            Some(self.job.masks),
        )
    }

    fn loops(&self) -> Arc<dyn Loops> {
        Arc::new(Plain)
    }
}

impl EvalHost for Evaluator<'_> {
    fn field(&self, id: FieldId, bytes: usize) -> StreamBytes {
        expand(self.shared, self.job.domain().stream(&self.job.seed, id), bytes)
    }

    fn mask(&self, part: Part) -> MaskTile {
        let domain = Domain { part, ..self.job.domain() };
        self.shared.mask(&self.job.program, domain, part.node, &[&self.job.seed], None)
    }

    fn loops(&self) -> Arc<dyn Loops> {
        Arc::new(Plain)
    }
}

fn expand(shared: &Shared, key: StreamKey, bytes: usize) -> StreamBytes {
    let expanded = shared.expand_to_host(&[(key, bytes)])?;
    Ok(expanded.into_iter().next().unwrap_or_else(|| Zeroizing::new(Vec::new())))
}
