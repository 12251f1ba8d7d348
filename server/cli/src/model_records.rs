//! What a record of a model's program has beside what every record has.

use serde::{Deserialize, Serialize};
use suf_cpu::costs::{Rates, Work};
use suf_gate::{NodeId, Party, Program, check::NodeCheck, ops::Op};
use suf_model::{
    bert::{self, Compiled, Config, Length},
    plan::hex,
};

use crate::{
    cluster::PeakMemory,
    loading::Loaded,
    node_records::NodeRecord,
    predicted::Prediction,
    records::{Record, mean, median},
    samples::{SEED_BYTES, Sample, middle},
    sigma_cost,
};

/// What only a model's program has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfModel {
    /// Tokens of a text, padding counted.
    pub tokens: u32,
    /// Texts that were evaluated together.
    pub batch: u32,
    /// "exact": the number of tokens is public. "bucket": texts are padded.
    pub length: String,
    /// "public": parties and dealer know the weights. "private": nobody but their owner.
    pub weights: String,
    /// Digest of the quantised weights, as hexadecimal digits.
    pub digest: String,
    /// Layers of the model.
    pub layers: u32,
    /// Smallest cosine of a vector and that of the same weights in 64-bit floats, over all texts and repeats.
    pub cosine_min: f64,
    /// Mean of these cosines.
    pub cosine_mean: f64,
    /// Elements for which a node promises nothing, because an input is outside its domain, over all repeats.
    pub out_of_range: u64,
    /// Bytes that each party sent to load private weights; public ones are read from a file.
    pub load_bytes: u64,
    /// How long loading private weights took, from the owner's first call on; 0 for public ones and in older records.
    #[serde(default)]
    pub load_ms: f64,
    /// Exchanges of SIGMA for the same layers, by formula: it hides the weights.
    pub sigma_rounds: u64,
    /// Key bytes of a party of SIGMA, by formula.
    pub sigma_key_bytes: u64,
    /// Bytes that a party of SIGMA sends, by formula.
    pub sigma_sent_bytes: u64,
    /// Where the plan comes from.
    pub plan: String,
    /// Rates of a core from which the nodes' limits follow, in nanoseconds. The first is a call of AES, the second a multiplication
    /// modulo 2^64 in registers, the third a byte of the second-level cache. Zeros in older records.
    #[serde(default)]
    pub core_ns: [f64; 3],
    /// Why the protocol of the activation was chosen; none where it was given, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the link predicts; none on loopback, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
}

/// What a record is made from, beside the repeats.
pub(crate) struct ModelRow<'a> {
    /// What the model is called.
    pub(crate) name: &'a str,
    pub(crate) config: &'a Config,
    pub(crate) digest: &'a [u8; 32],
    pub(crate) compiled: &'a Compiled,
    pub(crate) plan: &'a str,
    /// What the texts are.
    pub(crate) texts: &'a str,
    pub(crate) link: &'a str,
    /// What a core of this machine does at best.
    pub(crate) rates: &'a Rates,
    /// What loading the weights took, if they are private.
    pub(crate) loaded: Option<&'a Loaded>,
}

/// What was found of the repeats' outputs.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Of each text in each repeat.
    pub(crate) cosines: Vec<f64>,
    /// Differences of all elements of all vectors.
    pub(crate) errors: Vec<f64>,
    /// Of each node: wrong elements and those out of range, over all repeats.
    pub(crate) nodes: Vec<[u64; 2]>,
}

impl Found {
    /// Adds what was found of a repeat's nodes.
    pub(crate) fn add_nodes(&mut self, checks: &[NodeCheck]) {
        self.nodes.resize(checks.len().max(self.nodes.len()), [0; 2]);
        for (sum, check) in self.nodes.iter_mut().zip(checks) {
            sum[0] += check.wrong;
            sum[1] += check.out_of_range;
        }
    }

    /// Adds a vector beside what it should be.
    pub(crate) fn add_vector(&mut self, made: &[f64], expected: &[f64]) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        self.cosines.push(dot(made, expected) / (dot(made, made) * dot(expected, expected)).sqrt());
        self.errors.extend(made.iter().zip(expected).map(|(made, expected)| made - expected));
    }
}

impl Record {
    /// The record of a model's program from its repeats.
    ///
    /// # Panics
    /// Without a sample.
    pub(crate) fn of_program(
        row: &ModelRow<'_>,
        samples: &[Sample],
        found: &Found,
        memory: PeakMemory,
        load: f64,
    ) -> Self {
        let program = &row.compiled.program;
        let Length { tokens, batch, padded } = row.compiled.length;
        let nodes = nodes(row, samples, found);
        let gate = program.nodes().find_map(|(_, node)| match node.op() {
            Op::Gate(op) => Some(op.gate()),
            _ => None,
        });
        let errors = found.errors.len().max(1) as f64;
        let sigma = sigma_cost::of(&sigma_cost::Sizes {
            tokens: tokens.into(),
            hidden: row.config.hidden.into(),
            heads: row.config.heads.into(),
            inner: row.config.inner.into(),
            layers: row.config.layers.into(),
        });
        let sum = |which: usize| found.nodes.iter().map(|node| node[which]).sum();
        let of_model = OfModel {
            tokens,
            batch,
            length: if padded { "bucket" } else { "exact" }.to_owned(),
            weights: if row.loaded.is_some() { "private" } else { "public" }.to_owned(),
            digest: hex(row.digest),
            layers: row.config.layers,
            cosine_min: found.cosines.iter().copied().fold(1.0, f64::min),
            cosine_mean: found.cosines.iter().sum::<f64>() / found.cosines.len().max(1) as f64,
            out_of_range: sum(1),
            load_bytes: row.loaded.map_or(0, |loaded| loaded.load_bytes),
            load_ms: row.loaded.map_or(0.0, |loaded| loaded.load_ms),
            sigma_rounds: sigma.rounds,
            sigma_key_bytes: sigma.key_bytes * u64::from(batch),
            sigma_sent_bytes: sigma.sent_bytes * u64::from(batch),
            plan: row.plan.to_owned(),
            core_ns: [row.rates.aes_ns, row.rates.product_ns, row.rates.byte_ns],
            why: None,
            prediction: None,
        };
        let [first, second] = Party::BOTH.map(|party| program.key_bytes(party) + SEED_BYTES);
        Self {
            model: row.name.to_owned(),
            gate: bert::TYPE.to_owned(),
            seq: tokens.into(),
            gate_count: 1,
            protocol: gate.map_or("", |gate| gate.protocol().name()).to_owned(),
            shape: gate.map(|gate| crate::records::shape_name(gate)).unwrap_or_default(),
            declared_key_bytes: mean(first, second),
            sent_bytes: nodes.iter().map(|node| node.sent_bytes).sum(),
            max_err: found.errors.iter().fold(0.0, |most, error| f64::max(most, error.abs())),
            rms_err: (found.errors.iter().map(|error| error * error).sum::<f64>() / errors).sqrt(),
            mean_err: found.errors.iter().sum::<f64>() / errors,
            wrong: sum(0),
            inputs: row.texts.to_owned(),
            nodes,
            of_model: Some(of_model),
            ..Self::measured(row.link, program.input_elems(), samples, memory, load)
        }
    }
}

fn nodes(row: &ModelRow<'_>, samples: &[Sample], found: &Found) -> Vec<NodeRecord> {
    let compiled = row.compiled;
    let program: &Program = &compiled.program;
    let typical = middle(samples);
    let figures = typical.slower();
    let node = |(at, measured): (usize, &suf_control::v1::NodeFigures)| {
        let id = NodeId(at as u16);
        let of = |sample: &Sample| sample.slower().nodes.get(at).map_or(0.0, |node| node.comp_ms);
        let seed = if at == 0 { SEED_BYTES } else { 0 };
        let keys =
            |party: usize| typical.figures[party].nodes.get(at).map_or(0, |node| node.key_bytes) + seed;
        let declared = Party::BOTH.map(|party| program.node_key_bytes(party, id) + seed);
        let [wrong, out_of_range] = found.nodes.get(at).copied().unwrap_or_default();
        let limit = Work::of(program, id).limit(row.rates);
        let first = typical.figures[0].nodes.get(at).unwrap_or(measured);
        NodeRecord {
            node: measured.node,
            name: compiled.about[at].name.clone(),
            op: measured.name.clone(),
            rounds: program.node(id).declared().rounds.into(),
            bits_sent: first.bits_sent,
            bits_received: first.bits_received,
            declared_bits: program.node(id).message_bits(),
            sent_bytes: first.bits_sent.div_ceil(8),
            declared_key_bytes: mean(declared[0], declared[1]),
            key_bytes: mean(keys(0), keys(1)),
            comp_ms: median(&samples.iter().map(of).collect::<Vec<_>>()),
            limit_ms: limit.ms,
            limit_by: limit.by.to_owned(),
            begin_ms: measured.begin_ms,
            end_ms: measured.end_ms,
            path: typical.path().get(at).copied().unwrap_or_default(),
            wrong,
            out_of_range,
        }
    };
    // Outputs are the last nodes, and cost nothing.
    figures.nodes.iter().enumerate().map(node).collect()
}

/// The layer of a node by its name, and what is left of the name; none for what comes before the layers or after them.
pub(crate) fn layer_of(name: &str) -> Option<(u32, &str)> {
    let (number, rest) = name.strip_prefix("layer ")?.split_once(' ')?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_tell_their_layer() {
        assert_eq!(layer_of("layer 3 row exponent"), Some((3, "row exponent")));
        assert_eq!([layer_of("input"), layer_of("layer x y"), layer_of("layer 3")], [None; 3]);
    }

    #[test]
    fn vectors_are_compared_by_direction_and_element_by_element() {
        let mut found = Found::default();
        found.add_vector(&[2.0, 0.0], &[1.0, 0.0]);
        found.add_vector(&[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(found.cosines, [1.0, 0.0]);
        assert_eq!(found.errors, [1.0, 0.0, -1.0, 1.0]);
    }
}
