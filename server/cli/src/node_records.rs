//! What a record says of each node of a program.

use serde::{Deserialize, Serialize};
use suf_control::v1::NodeFigures;

use crate::critical::Waits;

/// What was measured of one node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// Which node of the program.
    pub node: u32,
    /// Its name: the operation, or in a model what it is for, such as "layer 3 scores".
    pub name: String,
    /// The operation.
    pub op: String,
    /// Causal depth of its deepest message; the opening of an input has 1 and counts for no other node. Of a model's nodes the
    /// rounds that the node itself takes.
    pub rounds: u32,
    /// Payload bits sent by party 0.
    pub bits_sent: u64,
    /// Payload bits received by party 0.
    pub bits_received: u64,
    /// Payload bits of one direction, as declared.
    pub declared_bits: u64,
    /// Payload bytes of one direction.
    pub sent_bytes: u64,
    /// Bytes of key of one party as declared: the mean of both. The first node has those of the seed too.
    pub declared_key_bytes: f64,
    /// Bytes of key of one party as loaded: the mean of both. The first node has those of the seed too.
    pub key_bytes: f64,
    /// Time in which the slower party worked on the node; nodes overlap.
    pub comp_ms: f64,
    /// Time that one core needs at the least: the longest of the node's calls of AES, multiplications and memory accesses, each at
    /// the processor's rate. Zero in older records.
    pub limit_ms: f64,
    /// Which of the three that is: "aes", "products" or "memory".
    pub limit_by: String,
    /// When the first work on it began at the slower party, from the opening of the inputs on, in the middle repeat.
    pub begin_ms: f64,
    /// When the last work on it ended, likewise.
    pub end_ms: f64,
    /// Its share of the critical path of the slower party in the middle repeat. Zeros in older records, and of nodes that nothing
    /// waited for.
    pub path: Waits,
    /// Elements that differ from the node's integer function, over all repeats.
    pub wrong: u64,
    /// Elements for which the node promises nothing, because an input is outside its domain, over all repeats.
    pub out_of_range: u64,
}

impl NodeRecord {
    /// Of a node in a program of one gate: what the link measured.
    pub(crate) fn of_gate(figures: &NodeFigures) -> Self {
        let NodeFigures { node, ref name, rounds, bits_sent, bits_received, .. } = *figures;
        Self {
            node,
            name: name.clone(),
            op: name.clone(),
            rounds,
            bits_sent,
            bits_received,
            sent_bytes: bits_sent.div_ceil(8),
            key_bytes: figures.key_bytes as f64,
            comp_ms: figures.comp_ms,
            begin_ms: figures.begin_ms,
            end_ms: figures.end_ms,
            ..Self::default()
        }
    }
}
