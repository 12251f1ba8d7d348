//! One repeat of what a benchmark measures, checked against what is declared.

use suf_control::v1::{Batch, Fault, Figures};
use suf_gate::{Gate, Program};

use crate::{
    client::{Outcome, slower_party},
    critical::Waits,
    error::Error,
};

/// One repeat of a row.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Of both parties.
    pub(crate) figures: [Figures; 2],
    /// The dealer's.
    pub(crate) batch: Batch,
    /// The critical path of each party, node by node; empty where nobody told of it.
    pub(crate) paths: [Vec<Waits>; 2],
}

/// Bytes of key that no node has: the seed.
pub(crate) const SEED_BYTES: u64 = 32;

impl Sample {
    /// The figures of a run of one gate, checked: both parties measured the same, and what is declared.
    ///
    /// # Errors
    /// When they did not; that is a defect of this software.
    pub fn new(gate: &Gate, elements: u64, outcome: Outcome, batch: Batch) -> Result<Self, Error> {
        let declared = (u32::from(gate.declared().rounds), gate.batch_message_bits(elements));
        Self::agreed(outcome.figures, declared, batch)
    }

    /// The figures of a run of a whole program. They begin with the opening of the inputs, which is a round where there is
    /// something to open. Each node's bits and key bytes are what is declared.
    ///
    /// # Errors
    /// As [`Sample::new`].
    pub fn of_program(program: &Program, outcome: Outcome, batch: Batch) -> Result<Self, Error> {
        let opened: u64 = program.inputs().map(|input| program.node(input).message_bits()).sum();
        let opening = u16::from(opened > 0);
        let mut figures = outcome.figures;
        for (found, party) in figures.iter_mut().zip(suf_gate::Party::BOTH) {
            for node in &found.nodes {
                let id = suf_gate::NodeId(u16::try_from(node.node).unwrap_or(u16::MAX));
                let declared = program.get(id).map(|node| node.message_bits());
                let keys = program.node_key_bytes(party, id);
                if Some(node.bits_sent) != declared || node.key_bytes != keys {
                    return Err(defect(format!(
                        "node {} of {party} sent {} bits and took {} bytes of key, declared are {} and {keys}",
                        node.node,
                        node.bits_sent,
                        node.key_bytes,
                        declared.unwrap_or_default()
                    )));
                }
            }
            let keys: u64 = found.nodes.iter().map(|node| node.key_bytes).sum();
            if keys + SEED_BYTES != found.key_bytes {
                return Err(defect(format!(
                    "the nodes of {party} took {keys} bytes of key of {}",
                    found.key_bytes
                )));
            }
            found.rounds += u32::from(opening);
            found.declared_rounds += u32::from(opening);
            found.bits_sent += opened;
            found.bits_received += opened;
            found.declared_bits += opened;
            found.eval_ms = found.run_ms;
        }
        let declared = (u32::from(program.rounds() + opening), program.message_bits() + opened);
        Self::agreed(figures, declared, batch)
    }

    fn agreed(figures: [Figures; 2], declared: (u32, u64), batch: Batch) -> Result<Self, Error> {
        for (party, found) in figures.iter().enumerate() {
            if (found.rounds, found.bits_sent) != declared {
                return Err(defect(format!(
                    "party {party} measured {} rounds and {} bits sent, declared are {} and {}",
                    found.rounds, found.bits_sent, declared.0, declared.1
                )));
            }
        }
        if figures[0].transcript != figures[1].transcript {
            return Err(defect("the parties saw different messages".into()));
        }
        Ok(Self { figures, batch, paths: Default::default() })
    }

    /// The party whose evaluation took longer.
    pub(crate) fn slower(&self) -> &Figures {
        &self.figures[slower_party(&self.figures)]
    }

    /// The critical path of that party, node by node.
    pub(crate) fn path(&self) -> &[Waits] {
        &self.paths[slower_party(&self.figures)]
    }

    pub(crate) fn of_both(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        figure(&self.figures[0]).max(figure(&self.figures[1]))
    }

    /// Evaluation at the slower party, in milliseconds.
    #[must_use]
    pub fn eval_ms(&self) -> f64 {
        self.slower().eval_ms
    }
}

fn defect(what: String) -> Error {
    Error::here(Fault::Bug, what)
}

/// The sample whose evaluation took the median time, or the next longer.
pub(crate) fn middle(samples: &[Sample]) -> &Sample {
    let mut order: Vec<_> = samples.iter().collect();
    order.sort_by(|a, b| a.eval_ms().total_cmp(&b.eval_ms()));
    order[order.len() / 2]
}
