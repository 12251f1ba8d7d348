//! One record per model, protocol and link: everything measured, and where. Tables, exports, plots and the README's
//! figures are made from records and from nothing else.

use std::path::Path;

use serde::{Deserialize, Serialize};
use suf_control::v1::Figures;
use suf_gate::{Gate, Party};

use crate::{
    cluster::PeakMemory,
    error::Error,
    jsonl,
    model_records::OfModel,
    node_records::NodeRecord,
    projection::Projection,
    provenance,
    samples::{Sample, middle},
    tensor::{Accuracy, Tensor},
};

/// File of the records in a folder of results.
pub const FILE: &str = "records.jsonl";

/// What was measured for one gate, or one program of a model, on one link. Times are medians over the repeats unless they say
/// otherwise. Of a model's program they begin with the opening of the inputs, which counts as a round, and its bits too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Model row, "custom", or a model's folder.
    pub model: String,
    /// Name of the function; of a model's program its architecture.
    pub gate: String,
    /// Sequence length; 0 for a free size.
    pub seq: u64,
    /// Elements of the inputs.
    pub gate_elems: u64,
    /// Gates of this size in one inference.
    pub gate_count: u32,
    /// Protocol.
    pub protocol: String,
    /// Shape of the protocol, where it has several: the digits of `onehot`.
    pub shape: String,
    /// "cpu" or "cuda".
    pub backend: String,
    /// Link profile, by name.
    pub link: String,
    /// "loopback", "netem", "shaped" or "network", as the parties report it.
    pub link_kind: String,
    /// Smoothed round-trip time between the parties, in milliseconds.
    pub rtt_ms: f64,
    /// QUIC connections that shared the messages between the parties.
    pub lanes: u32,
    /// Bits per second of the link as set or measured; 0 where unknown.
    pub rate_bps: f64,
    /// Gate key bytes of one party: the mean of both.
    pub key_bytes: f64,
    /// Gate key bytes of party 0.
    pub key_bytes_p0: u64,
    /// Gate key bytes of party 1.
    pub key_bytes_p1: u64,
    /// Gate key bytes per element and party as declared beside the gate; of a model's program those of the whole.
    pub declared_key_bytes: f64,
    /// Bytes of the masks for entering and leaving the gate: the mean of both parties.
    pub mask_bytes: f64,
    /// Bytes of both whole key containers, headers included.
    pub container_bytes: u64,
    /// Dealer: request to the last key byte in memory, both parties' keys.
    pub key_ms: f64,
    /// First key byte sent to the last byte stored and checked at the slower party.
    pub ship_ms: f64,
    /// Opening the masked input from the client's shares, at the slower party.
    pub open_ms: f64,
    /// Masked input and keys loaded to the masked output, at the slower party.
    pub eval_ms: f64,
    /// Part of `eval_ms` in which the party worked on a tile: `kernel_ms`, `copy_ms` and `wait_ms` together.
    pub comp_ms: f64,
    /// The rest of `eval_ms`: messages were on the link, or the other party computed.
    pub comm_ms: f64,
    /// Part of `comp_ms` in which a kernel ran, of any tile; all of it on a CPU.
    pub kernel_ms: f64,
    /// Part of `comp_ms` in which bytes moved between messages and the card, and no kernel ran.
    pub copy_ms: f64,
    /// Part of `comp_ms` in which the party waited for its card, or handed work to it.
    pub wait_ms: f64,
    /// Payload bytes of the gate that one party sends and receives.
    pub eval_bytes: u64,
    /// Payload bytes of one direction.
    pub sent_bytes: u64,
    /// Payload bits per element and direction.
    pub bits_per_elem: f64,
    /// UDP bytes that party 0 sends and receives for the gate.
    pub wire_bytes: u64,
    /// Causal depth as measured at the link.
    pub eval_rounds: u32,
    /// Causal depth as declared beside the gate.
    pub declared_rounds: u32,
    /// Bits per direction for the tensor as declared beside the gate.
    pub declared_bits: u64,
    /// What each node of the program cost; empty in records of before programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeRecord>,
    /// Largest error against the real function.
    pub max_err: f64,
    /// Root mean square error.
    pub rms_err: f64,
    /// Mean error: the bias.
    pub mean_err: f64,
    /// Values where the real function has none, over all repeats; they are in none of the three errors above. None in records of
    /// before programs, which do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_reference: Option<u64>,
    /// Outputs that the protocol's definition does not allow, over all repeats.
    pub wrong: u64,
    /// What the inputs are.
    pub inputs: String,
    /// Measured runs; one more was made before them to warm up.
    pub repeats: u32,
    /// Each repeat's `eval_ms`, in order.
    pub eval_ms_samples: Vec<f64>,
    /// Each repeat's `comp_ms`.
    pub comp_ms_samples: Vec<f64>,
    /// Each repeat's `key_ms`.
    pub key_ms_samples: Vec<f64>,
    /// Each repeat's `ship_ms`.
    pub ship_ms_samples: Vec<f64>,
    /// Each repeat's `open_ms`.
    pub open_ms_samples: Vec<f64>,
    /// The published formula on this record's `comp_ms`, for its LAN.
    pub lan_proj_s: f64,
    /// The published formula on this record's `comp_ms`, for its WAN.
    pub wan_proj_s: f64,
    /// Peak resident memory of the dealer, in bytes, from [`Record::peaks_since`] on.
    pub dealer_peak_bytes: u64,
    /// Peak resident memory of the larger party, likewise.
    pub party_peak_bytes: u64,
    /// "row": the peaks are those of this record's runs, with what was resident before. "start": those since the daemons
    /// were started for this link. Records that do not say mean "start".
    #[serde(default = "since_start")]
    pub peaks_since: String,
    /// Processor or card and its driver, as the parties report it.
    pub hardware: String,
    /// Clock of the card's multiprocessors when a run ended, in MHz; 0 on a CPU.
    pub processor_mhz: u32,
    /// Clock of the card's memory, likewise.
    pub memory_mhz: u32,
    /// The machine of this record: processor, cores, memory, system.
    pub machine: String,
    /// Load average over the last minute, before the first repeat.
    pub load: f64,
    /// Version and commit.
    pub version: String,
    /// When the record was made, in seconds since the Unix epoch.
    pub unix_s: u64,
    /// What only a model's program has.
    #[serde(flatten)]
    pub of_model: Option<OfModel>,
}

/// The row that a record is for.
#[derive(Debug, Clone, Copy)]
pub struct RecordRow<'a> {
    /// Model row, or "custom".
    pub model: &'a str,
    /// Sequence length; 0 for a free size.
    pub seq: u64,
    /// Gates of this size in one inference.
    pub gate_count: u32,
    /// Link profile, by name.
    pub link: &'a str,
    /// The gate.
    pub gate: &'a Gate,
    /// The inputs.
    pub tensor: &'a Tensor<'a>,
}

impl Record {
    /// The record of `row` from its repeats.
    ///
    /// # Panics
    /// Without a sample.
    #[must_use]
    pub fn new(
        row: RecordRow<'_>,
        samples: &[Sample],
        accuracy: &Accuracy,
        memory: PeakMemory,
        load: f64,
    ) -> Self {
        let elements = row.tensor.elements();
        Self {
            model: row.model.to_owned(),
            gate: row.gate.name().to_owned(),
            seq: row.seq,
            gate_count: row.gate_count,
            protocol: row.gate.protocol().name().to_owned(),
            shape: shape_name(row.gate),
            declared_key_bytes: declared_key_bytes(row.gate, elements),
            nodes: middle(samples).figures[0].nodes.iter().map(NodeRecord::of_gate).collect(),
            max_err: accuracy.max_err(),
            rms_err: accuracy.rms_err(),
            mean_err: accuracy.mean_err(),
            without_reference: Some(accuracy.without_reference()),
            wrong: accuracy.wrong(),
            inputs: row.tensor.describe(),
            ..Self::measured(row.link, elements, samples, memory, load)
        }
    }

    /// What the repeats say of `elements` elements on `link`, whatever was evaluated.
    ///
    /// # Panics
    /// Without a sample.
    pub(crate) fn measured(
        link: &str,
        elements: u64,
        samples: &[Sample],
        memory: PeakMemory,
        load: f64,
    ) -> Self {
        let series = |figure: &dyn Fn(&Sample) -> f64| samples.iter().map(figure).collect::<Vec<_>>();
        let eval_ms_samples = series(&|sample| sample.slower().eval_ms);
        let comp_ms_samples = series(&|sample| sample.slower().comp_ms);
        let key_ms_samples = series(&|sample| sample.batch.key_ms);
        let ship_ms_samples = series(&|sample| sample.batch.ship_ms);
        let open_ms_samples = series(&|sample| sample.of_both(|figures| figures.open_ms));
        // Bytes do not vary between repeats, those of UDP aside: a middle one is as good as a median.
        let [first, second] = &middle(samples).figures;
        let path = first.link.clone().unwrap_or_default();
        let eval_bytes = (first.bits_sent + first.bits_received).div_ceil(8);
        let (eval_ms, comp_ms) = (median(&eval_ms_samples), median(&comp_ms_samples));
        let part = |figure: fn(&Figures) -> f64| median(&series(&|sample| figure(sample.slower())));
        let project = |link: Projection| link.seconds(comp_ms, eval_bytes, first.rounds);
        Self {
            gate_elems: elements,
            backend: first.backend.clone(),
            link: link.to_owned(),
            link_kind: path.kind,
            rtt_ms: path.rtt_ms,
            lanes: path.lanes,
            rate_bps: path.rate_bps,
            key_bytes: mean(first.key_bytes, second.key_bytes),
            key_bytes_p0: first.key_bytes,
            key_bytes_p1: second.key_bytes,
            mask_bytes: mean(first.mask_bytes, second.mask_bytes),
            container_bytes: first.container_bytes + second.container_bytes,
            key_ms: median(&key_ms_samples),
            ship_ms: median(&ship_ms_samples),
            open_ms: median(&open_ms_samples),
            eval_ms,
            comp_ms,
            comm_ms: (eval_ms - comp_ms).max(0.0),
            kernel_ms: part(|figures| figures.kernel_ms),
            copy_ms: part(|figures| figures.copy_ms),
            wait_ms: part(|figures| figures.wait_ms),
            eval_bytes,
            sent_bytes: first.bits_sent.div_ceil(8),
            bits_per_elem: first.bits_sent as f64 / elements as f64,
            wire_bytes: first.wire_bytes_sent + first.wire_bytes_received,
            eval_rounds: first.rounds,
            declared_rounds: first.declared_rounds,
            declared_bits: first.declared_bits,
            repeats: u32::try_from(samples.len()).expect("the command line takes a u32"),
            eval_ms_samples,
            comp_ms_samples,
            key_ms_samples,
            ship_ms_samples,
            open_ms_samples,
            lan_proj_s: project(Projection::LAN),
            wan_proj_s: project(Projection::WAN),
            dealer_peak_bytes: memory.dealer,
            party_peak_bytes: memory.parties[0].max(memory.parties[1]),
            peaks_since: if memory.of_row { "row".to_owned() } else { since_start() },
            hardware: first.hardware.clone(),
            processor_mhz: first.processor_mhz,
            memory_mhz: first.memory_mhz,
            machine: provenance::machine(),
            load,
            version: provenance::version().to_owned(),
            unix_s: provenance::unix_s(),
            ..Self::default()
        }
    }

    /// Whether it is of a model's program.
    #[must_use]
    pub fn is_of_model(&self) -> bool {
        self.of_model.is_some()
    }

    /// Whether `other` is of the same program of the same model, computed by the same kind of backend.
    pub(crate) fn is_same_program(&self, other: &Self) -> bool {
        let (Some(model), Some(others)) = (&self.of_model, &other.of_model) else { return false };
        let sizes = |model: &OfModel| (model.tokens, model.batch);
        let names = |record: &Self| [&record.protocol, &record.shape, &record.backend].map(String::clone);
        let texts = |model: &OfModel| [&model.digest, &model.length, &model.weights].map(String::clone);
        sizes(model) == sizes(others) && texts(model) == texts(others) && names(self) == names(other)
    }

    /// Key bytes per element and party.
    #[must_use]
    pub fn key_bytes_per_elem(&self) -> f64 {
        self.key_bytes / self.gate_elems as f64
    }

    /// The part of the measured communication that the rounds' delay explains, in milliseconds. A round takes half a
    /// round trip. The part is at most what was measured.
    #[must_use]
    pub fn rounds_ms(&self) -> f64 {
        (f64::from(self.eval_rounds) * self.rtt_ms / 2.0).min(self.comm_ms)
    }

    /// The rest of the measured communication: bytes on the link and waiting for the other party's computation.
    #[must_use]
    pub fn bytes_ms(&self) -> f64 {
        self.comm_ms - self.rounds_ms()
    }
}

/// Writes the records to `path`, one JSON object per line; the file is made anew.
///
/// # Errors
/// When it cannot be written; what stood there is then as it was.
pub fn write(path: &Path, records: &[Record]) -> Result<(), Error> {
    jsonl::write(path, records)
}

/// Reads a file of records. A line that is none is left out with a warning.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    Ok(jsonl::read(path)?.warned())
}

/// The records in `folder` that `wanted` takes: what a command leaves as it is. None where there are no records.
pub(crate) fn beside(folder: &Path, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
    let path = folder.join(FILE);
    let read = if path.exists() { jsonl::read(&path).map(jsonl::Lines::warned) } else { Ok(Vec::new()) };
    read.unwrap_or_default().into_iter().filter(wanted).collect()
}

/// The middle one of the values; the mean of the two middle ones where they are even in number.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The first and the third quartile of the values, each between the two values next to it.
#[must_use]
pub fn quartiles(values: &[f64]) -> [f64; 2] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return [0.0; 2] };
    [1, 3].map(|quarter| {
        let (below, over) = (last * quarter / 4, last * quarter % 4);
        let above = sorted[(below + 1).min(last)];
        sorted[below] + (above - sorted[below]) * over as f64 / 4.0
    })
}

/// How the shape is written in records: the digit widths of `onehot`, nothing for protocols of one shape.
#[must_use]
pub fn shape_name(gate: &Gate) -> String {
    match gate.shape() {
        suf_gate::Shape::Onehot(onehot) if onehot.digits().is_empty() => "window".to_owned(),
        suf_gate::Shape::Onehot(onehot) => {
            onehot.digits().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    }
}

fn declared_key_bytes(gate: &Gate, elements: u64) -> f64 {
    let of = |party| gate.batch_key_bytes(party, elements);
    mean(of(Party::P0), of(Party::P1)) / elements as f64
}

fn since_start() -> String {
    "start".to_owned()
}

pub(crate) fn mean(first: u64, second: u64) -> f64 {
    (first + second) as f64 / 2.0
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use suf_control::v1::{Batch, Link, NodeFigures};

    use super::*;
    use crate::{client::Outcome, gates};

    /// A record with plain figures.
    pub(crate) fn example(protocol: &str, link: &str) -> Record {
        let file = gates::file("gelu").unwrap();
        let gate = gates::gate(&file, suf_gate::Protocol::Onehot, None).unwrap();
        let tensor = Tensor::Synthetic { elements: 1000, domain: gate.domain() };
        let row =
            RecordRow { model: "bert-base", seq: 128, gate_count: 12, link, gate: &gate, tensor: &tensor };
        let samples: Vec<_> = [9.0, 5.0, 7.0].map(|eval_ms| sample(&gate, eval_ms)).into();
        let memory = PeakMemory { dealer: 1 << 20, parties: [2 << 20, 3 << 20], of_row: true };
        let record = Record::new(row, &samples, &Accuracy::default(), memory, 0.5);
        Record { protocol: protocol.to_owned(), ..record }
    }

    fn figures(eval_ms: f64) -> Figures {
        Figures {
            key_bytes: 80_000,
            eval_ms,
            comp_ms: eval_ms - 2.0,
            comm_ms: 2.0,
            kernel_ms: 1.0,
            copy_ms: 0.5,
            wait_ms: eval_ms - 3.5,
            bits_sent: 69_000,
            bits_received: 69_000,
            rounds: 3,
            declared_rounds: 3,
            link: Some(Link { kind: "loopback".into(), rtt_ms: 0.1, lanes: 1, ..Link::default() }),
            nodes: vec![node(0, "input", 1, 48_000), node(1, "gelu onehot", 3, 69_000)],
            ..Figures::default()
        }
    }

    fn node(node: u32, name: &str, rounds: u32, bits: u64) -> NodeFigures {
        let name = name.into();
        NodeFigures { node, name, rounds, bits_sent: bits, bits_received: bits, ..NodeFigures::default() }
    }

    fn sample(gate: &Gate, eval_ms: f64) -> Sample {
        let outcome = Outcome {
            run: suf_wire::RunId([1; 16]),
            batch: suf_wire::BatchId([2; 16]),
            figures: [figures(eval_ms), figures(eval_ms - 1.0)],
        };
        let batch = Batch { key_ms: 3.0, ship_ms: 4.0, ..Batch::default() };
        Sample::new(gate, 1000, outcome, batch).unwrap()
    }

    #[test]
    fn a_record_has_the_slower_partys_medians_and_the_projection() {
        let record = example("onehot", "loopback");
        assert_eq!((record.eval_ms, record.comp_ms, record.comm_ms), (7.0, 5.0, 2.0));
        assert_eq!((record.kernel_ms, record.copy_ms, record.wait_ms), (1.0, 0.5, 3.5));
        assert_eq!(record.eval_ms_samples, [9.0, 5.0, 7.0]);
        assert_eq!((record.eval_bytes, record.sent_bytes, record.bits_per_elem), (17_250, 8_625, 69.0));
        assert!((record.lan_proj_s - (0.005 + 2.0 * 17_250.0 / 1e9 + 0.0015)).abs() < 1e-12);
        assert!((record.rounds_ms() - 0.15).abs() < 1e-12);
        assert_eq!(record.rounds_ms() + record.bytes_ms(), record.comm_ms);
        assert_eq!(record.party_peak_bytes, 3 << 20);
        let nodes: Vec<_> = record.nodes.iter().map(|node| (&node.name[..], node.bits_sent)).collect();
        assert_eq!(nodes, [("input", 48_000), ("gelu onehot", 69_000)]);
    }

    #[test]
    fn records_are_read_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let records = vec![example("onehot", "loopback"), example("sigma", "lan")];
        write(&path, &records).unwrap();
        assert_eq!(read(&path).unwrap(), records);
        // A bench that was killed while it wrote, before files were written whole, left half a line.
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert_eq!(read(&path).unwrap(), records[..1]);
        // Records of before say nothing of since when the peaks are, nor of nodes, nor of values without a reference.
        let mut old = serde_json::to_value(&records[0]).unwrap();
        for key in ["peaks_since", "nodes", "without_reference"] {
            old.as_object_mut().unwrap().remove(key).unwrap();
        }
        std::fs::write(&path, format!("{old}\n")).unwrap();
        let old = read(&path).unwrap().remove(0);
        assert_eq!((&old.peaks_since[..], old.without_reference), ("start", None));
        assert!(old.nodes.is_empty());
    }

    #[test]
    fn measured_unlike_declared_is_a_defect() {
        let file = gates::file("gelu").unwrap();
        let gate = gates::gate(&file, suf_gate::Protocol::Onehot, None).unwrap();
        let outcome = |change: fn(&mut Figures)| {
            let mut figures = [figures(1.0), figures(1.0)];
            change(&mut figures[1]);
            Outcome { run: suf_wire::RunId([1; 16]), batch: suf_wire::BatchId([2; 16]), figures }
        };
        let verdict = |change| Sample::new(&gate, 1000, outcome(change), Batch::default());
        assert!(verdict(|_| ()).is_ok());
        assert!(verdict(|figures| figures.rounds += 1).is_err());
        assert!(verdict(|figures| figures.bits_sent -= 1).is_err());
        assert!(verdict(|figures| figures.transcript = Bytes::from_static(&[1])).is_err());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn quartiles_lie_between_values() {
        assert_eq!(quartiles(&[5.0, 1.0, 4.0, 2.0, 3.0]), [2.0, 4.0]);
        assert_eq!(quartiles(&[4.0, 1.0, 2.0, 3.0]), [1.75, 3.25]);
        assert_eq!(quartiles(&[7.0]), [7.0, 7.0]);
        assert_eq!(quartiles(&[]), [0.0, 0.0]);
    }
}
