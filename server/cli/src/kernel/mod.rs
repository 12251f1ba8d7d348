//! `suf bench kernel`: what computing costs on one core, with nothing sent. One record per gate, protocol and shape, in
//! `kernel.jsonl`; and the published second table, whose SUF is a kernel and no protocol.

mod one_mask;
pub mod second;

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use suf_cpu::costs::{self, Calls, Times};
use suf_gate::{Backend, Gate, TILE_ELEMS};

use crate::{error::Error, jsonl, out, provenance, records::shape_name};

/// Name of the file of records.
pub const FILE: &str = "kernel.jsonl";

/// What one gate costs on one core. Times are nanoseconds per element: medians over full tiles of the time that the
/// measuring thread spent on a processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelRecord {
    /// Processor and its instruction level.
    pub hardware: String,
    /// The machine of this record: processor, cores, memory, system.
    pub machine: String,
    /// Nanoseconds of a call of AES in a long stream: the fastest that this processor does them.
    pub aes_ns: f64,
    /// Protocol.
    pub protocol: String,
    /// Name of the function.
    pub gate: String,
    /// Shape of the protocol, where it has several: the digits of `onehot`.
    pub shape: String,
    /// Key bytes per element and party as declared beside the gate: the mean of both.
    pub key_bytes_per_elem: f64,
    /// Elements of each sample.
    pub elems: usize,
    /// Samples of each figure.
    pub samples: usize,
    /// The dealer: both parties' keys.
    pub deal_ns: f64,
    /// Evaluation by the side whose shares come out of its seed, all steps.
    pub eval_ns_seeded: f64,
    /// Evaluation by the side that is sent bytes.
    pub eval_ns_explicit: f64,
    /// Calls of AES that the definition asks for.
    pub aes_calls: Option<AesCalls>,
    /// The evaluation's parts, in order.
    pub steps: Vec<Step>,
    /// Each sample's `deal_ns`, in order.
    pub deal_ns_samples: Vec<f64>,
    /// Each sample's `eval_ns_seeded`.
    pub eval_ns_seeded_samples: Vec<f64>,
    /// Each sample's `eval_ns_explicit`.
    pub eval_ns_explicit_samples: Vec<f64>,
    /// Load average over the last minute, before the first sample.
    pub load: f64,
    /// Version and commit.
    pub version: String,
    /// When the record was made, in seconds since the Unix epoch.
    pub unix_s: u64,
}

/// Calls of AES per element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AesCalls {
    /// To deal both parties' keys.
    pub deal: u32,
    /// To evaluate, at the seeded side.
    pub eval_seeded: u32,
    /// At the explicit side.
    pub eval_explicit: u32,
}

/// One part of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What the step's message opens; `finish` after the last exchange.
    pub opens: String,
    /// Nanoseconds per element at the seeded side.
    pub ns_seeded: f64,
    /// At the explicit side.
    pub ns_explicit: f64,
}

impl KernelRecord {
    /// Measures `gate` over `samples` full tiles; `aes_ns` is the processor's rate, of [`costs::nanoseconds_per_call`].
    ///
    /// # Errors
    /// When the backend fails.
    pub fn measure(
        backend: &dyn Backend,
        gate: &Arc<Gate>,
        samples: usize,
        aes_ns: f64,
    ) -> Result<Self, Error> {
        let load = provenance::load();
        let costs = costs::measure(backend, gate, samples)
            .map_err(|error| Error::here(suf_control::v1::Fault::Device, error.to_string()))?;
        let opened = gate
            .exchanges()
            .iter()
            .map(|exchange| exchange.iter().map(|segment| segment.name).collect::<Vec<_>>().join(" + "));
        let parts = costs.seeded.steps.iter().zip(&costs.explicit.steps);
        let steps = opened.chain(["finish".to_owned()]).zip(parts).map(|(opens, (seeded, explicit))| Step {
            opens,
            ns_seeded: seeded.median(),
            ns_explicit: explicit.median(),
        });
        let samples_of = |times: &Times| times.samples().to_vec();
        Ok(Self {
            hardware: backend.info().device,
            machine: provenance::machine(),
            aes_ns,
            protocol: gate.protocol().name().to_owned(),
            gate: gate.name().to_owned(),
            shape: shape_name(gate),
            key_bytes_per_elem: gate.declared().mean_key_bytes(),
            elems: TILE_ELEMS,
            samples,
            deal_ns: costs.deal.median(),
            eval_ns_seeded: costs.seeded.eval.median(),
            eval_ns_explicit: costs.explicit.eval.median(),
            aes_calls: Calls::of(gate).map(|calls| AesCalls {
                deal: calls.deal,
                eval_seeded: calls.seeded,
                eval_explicit: calls.explicit,
            }),
            steps: steps.collect(),
            deal_ns_samples: samples_of(&costs.deal),
            eval_ns_seeded_samples: samples_of(&costs.seeded.eval),
            eval_ns_explicit_samples: samples_of(&costs.explicit.eval),
            load,
            version: provenance::version().to_owned(),
            unix_s: provenance::unix_s(),
        })
    }

    /// Nanoseconds per element of evaluation: the mean of both sides, for every party is either as often.
    #[must_use]
    pub fn eval_ns(&self) -> f64 {
        f64::midpoint(self.eval_ns_seeded, self.eval_ns_explicit)
    }

    /// The dealer's calls of AES at the processor's rate, in nanoseconds per element; none where they are not counted.
    #[must_use]
    pub fn deal_limit_ns(&self) -> Option<f64> {
        self.aes_calls.map(|calls| f64::from(calls.deal) * self.aes_ns)
    }

    /// The same of the evaluation, as the mean of both sides.
    #[must_use]
    pub fn eval_limit_ns(&self) -> Option<f64> {
        self.aes_calls.map(|calls| f64::from(calls.eval_seeded + calls.eval_explicit) / 2.0 * self.aes_ns)
    }
}

/// Writes the records to `path`, one JSON object per line; the file is made anew.
///
/// # Errors
/// When it cannot be written; what stood there is then as it was.
pub fn write(path: &Path, records: &[KernelRecord]) -> Result<(), Error> {
    jsonl::write(path, records)
}

/// The records in `folder`, or none where it has no file of them. Reports have them beside other figures, so a damaged
/// file is only a warning. The file is left as it is.
#[must_use]
pub fn beside(folder: &Path) -> Vec<KernelRecord> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Vec::new();
    }
    match jsonl::read(&path) {
        Ok(lines) => lines.warned(),
        Err(error) => {
            out::note(format_args!("warning: {error}; the report is made without it"));
            Vec::new()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use suf_cpu::CpuBackend;
    use suf_gate::Protocol;

    use super::*;
    use crate::gates;

    /// A record with figures of no machine.
    pub(crate) fn example(gate: &str, protocol: Protocol) -> KernelRecord {
        let gate = gates::gate(&gates::file(gate).unwrap(), protocol, None).unwrap();
        let mut record = KernelRecord::measure(&CpuBackend::new(), &Arc::new(gate), 1, 0.5).unwrap();
        for step in &mut record.steps {
            (step.ns_seeded, step.ns_explicit) = (9.0, 11.0);
        }
        KernelRecord {
            deal_ns: 300.0,
            eval_ns_seeded: 90.0,
            eval_ns_explicit: 110.0,
            deal_ns_samples: vec![300.0],
            eval_ns_seeded_samples: vec![90.0],
            eval_ns_explicit_samples: vec![110.0],
            load: 0.5,
            ..record
        }
    }

    #[test]
    fn a_record_has_every_step_and_is_read_back_as_it_was_written() {
        let record = example("gelu", Protocol::Sigma);
        assert_eq!(record.steps.len(), 8, "seven exchanges and the finish");
        assert_eq!(record.steps[7].opens, "finish");
        assert_eq!(record.eval_ns(), 100.0);
        let calls = record.aes_calls.unwrap();
        assert_eq!(record.deal_limit_ns(), Some(f64::from(calls.deal) * 0.5));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        write(&path, std::slice::from_ref(&record)).unwrap();
        assert_eq!(beside(folder.path()), [record]);
        assert_eq!(beside(&folder.path().join("elsewhere")), []);
        std::fs::write(&path, "{}\n").unwrap();
        assert_eq!(beside(folder.path()), []);
    }
}
