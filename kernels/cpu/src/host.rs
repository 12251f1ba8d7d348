//! What the processor gives to the operations of [`suf_gate::ops::host`].

use std::sync::Arc;

use suf_gate::{
    DealJob, EvalJob, Part, Party,
    layout::FieldId,
    ops::host::{DealHost, EvalHost, Loops, MaskTile, StreamBytes},
    prg::{Domain, StreamKey},
};
use zeroize::Zeroizing;

use crate::{loops::LevelLoops, masks, prg::Stream, simd::Level};

/// For the dealer of a part.
pub(crate) struct Dealer<'a> {
    pub(crate) job: &'a DealJob<'a>,
    pub(crate) level: Level,
}

/// For a party that evaluates a part.
pub(crate) struct Evaluator<'a> {
    pub(crate) job: &'a EvalJob,
    pub(crate) level: Level,
}

impl DealHost for Dealer<'_> {
    fn field(&self, party: Party, id: FieldId, bytes: usize) -> StreamBytes {
        let seed = &self.job.party_seeds[party.index()];
        Ok(expand(self.level, &self.job.domain().stream(seed, id), bytes))
    }

    fn mask(&self, part: Part) -> MaskTile {
        let domain = Domain { part, ..self.job.domain() };
        Ok(masks::of_dealer(self.job, domain, self.level))
    }

    fn loops(&self) -> Arc<dyn Loops> {
        Arc::new(LevelLoops(self.level))
    }
}

impl EvalHost for Evaluator<'_> {
    fn field(&self, id: FieldId, bytes: usize) -> StreamBytes {
        Ok(expand(self.level, &self.job.domain().stream(&self.job.seed, id), bytes))
    }

    fn mask(&self, part: Part) -> MaskTile {
        let domain = Domain { part, ..self.job.domain() };
        Ok(masks::of_wire(&self.job.program, domain, self.level, &[&self.job.seed], None))
    }

    fn loops(&self) -> Arc<dyn Loops> {
        Arc::new(LevelLoops(self.level))
    }
}

fn expand(level: Level, key: &StreamKey, len: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    Stream::new(level, key).fill(0, &mut bytes);
    bytes
}
