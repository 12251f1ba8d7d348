//! The figures of a run that ended well, as the control API tells them.

use std::collections::BTreeMap;

use suf_control::v1;
use suf_gate::BackendInfo;
use suf_link::Traffic;
use suf_party::{Plan, Summary};
use suf_wire::NodeId;

use crate::{keys::Received, timing::Timing};

/// What a run's figures are made from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) plan: &'a Plan,
    /// What the link measured.
    pub(crate) summary: &'a Summary,
    pub(crate) timing: &'a Timing,
    /// Bytes of the keys that were loaded, by node.
    pub(crate) node_key_bytes: &'a BTreeMap<NodeId, u64>,
    /// The keys, as they came.
    pub(crate) container: Received,
    /// UDP bytes of the exchanges.
    pub(crate) traffic: Traffic,
    /// The link between the parties.
    pub(crate) link: v1::Link,
    pub(crate) backend: BackendInfo,
}

impl Sources<'_> {
    /// The figures.
    pub(crate) fn figures(self) -> v1::Figures {
        let nodes = self.nodes();
        let Self { plan, summary, timing, container, traffic, link, backend, .. } = self;
        let split = timing.split();
        let measured = &summary.measured;
        v1::Figures {
            key_bytes: summary.key_bytes,
            // Masks of wires are expanded from the seed, which is counted as key.
            mask_bytes: 0,
            container_bytes: container.bytes,
            // The dealer's own figure.
            key_ms: 0.0,
            ship_ms: container.ship_ms,
            open_ms: timing.open_ms(),
            eval_ms: timing.eval_ms(),
            comp_ms: split.comp_ms(),
            comm_ms: split.link_ms,
            kernel_ms: split.kernel_ms,
            copy_ms: split.copy_ms,
            wait_ms: split.wait_ms,
            bits_sent: measured.bits_sent,
            bits_received: measured.bits_received,
            wire_bytes_sent: traffic.bytes_sent,
            wire_bytes_received: traffic.bytes_received,
            rounds: measured.rounds.into(),
            declared_rounds: plan.program.rounds().into(),
            declared_bits: plan.program.message_bits(),
            link: Some(link),
            backend: backend.name.into(),
            hardware: backend.device,
            processor_mhz: backend.clocks.map_or(0, |clocks| clocks.processor_mhz),
            memory_mhz: backend.clocks.map_or(0, |clocks| clocks.memory_mhz),
            version: env!("CARGO_PKG_VERSION").into(),
            transcript: measured.transcript.to_vec().into(),
            nodes,
            run_ms: timing.run_ms(),
        }
    }

    /// All nodes but the results, which only hand on what is there.
    fn nodes(&self) -> Vec<v1::NodeFigures> {
        let times = self.timing.nodes();
        let nodes = self.plan.program.nodes().filter(|(_, node)| !node.is_result());
        nodes
            .map(|(id, node)| {
                let measured = self.summary.measured.nodes.iter().find(|measured| measured.node == id);
                let time = times.get(&id);
                v1::NodeFigures {
                    node: id.0.into(),
                    name: node.op().def().name(),
                    rounds: measured.map_or(0, |measured| measured.depth.into()),
                    bits_sent: measured.map_or(0, |measured| measured.bits_sent),
                    bits_received: measured.map_or(0, |measured| measured.bits_received),
                    key_bytes: self.node_key_bytes.get(&id).copied().unwrap_or(0),
                    comp_ms: time.map_or(0.0, |time| time.comp_ms),
                    begin_ms: time.map_or(0.0, |time| time.begin_ms),
                    end_ms: time.map_or(0.0, |time| time.end_ms),
                }
            })
            .collect()
    }
}
