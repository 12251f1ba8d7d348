//! The cost is measured at the link. A difference of one bit from the declaration is a failure.

use std::collections::BTreeMap;

use suf_gate::Program;

use crate::{Breach, Measured, NodeMeasured};

/// Compares the figures of a whole run with what `program` and each of its nodes declare.
pub(crate) fn check(program: &Program, measured: &Measured) -> Result<(), Breach> {
    let mut of_nodes: BTreeMap<_, _> =
        measured.nodes.iter().map(|node| (node.node, (node.bits_sent, node.bits_received))).collect();
    for (id, node) in program.nodes() {
        let declared = node.message_bits();
        let found = of_nodes.remove(&id).unwrap_or_default();
        if found != (declared, declared) {
            return Err(Breach::NodeCost { node: id, op: node.op().def().name(), measured: found, declared });
        }
    }
    if let Some((node, measured)) = of_nodes.pop_first() {
        return Err(Breach::NodeCost { node, op: "not in the program".into(), measured, declared: 0 });
    }
    let bits = program.message_bits();
    let declared = (program.rounds(), bits, bits);
    let is_counted = |node: &&NodeMeasured| !program.node(node.node).is_input();
    let deepest = measured.nodes.iter().filter(is_counted).map(|node| node.depth).max().unwrap_or(0);
    for rounds in [measured.rounds, deepest] {
        let found = (rounds, measured.bits_sent, measured.bits_received);
        if found != declared {
            return Err(Breach::Cost { measured: found, declared });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use suf_gate::{Protocol, catalog};
    use suf_wire::NodeId;

    use super::*;

    #[test]
    fn a_bit_or_a_round_more_or_less_fails_and_names_the_node() {
        let gate = catalog::builtin().find(|gate| gate.protocol() == Protocol::Onehot).expect("built in");
        let program = Program::of_gate(Arc::new(gate), 9).expect("a program");
        let (rounds, bits) = (program.rounds(), program.message_bits());
        let node = |node: u16, depth, bits_sent, bits_received| NodeMeasured {
            node: NodeId(node),
            depth,
            bits_sent,
            bits_received,
        };
        let (input, gate) = (node(0, 1, 48 * 9, 48 * 9), node(1, rounds, bits, bits));
        let measured = |rounds, bits_sent, bits_received, nodes: &[NodeMeasured]| {
            let nodes = nodes.to_vec();
            check(&program, &Measured { rounds, bits_sent, bits_received, transcript: [0; 32], nodes })
        };
        assert_eq!(measured(rounds, bits, bits, &[input, gate]), Ok(()));
        assert_eq!(measured(rounds, bits, bits, &[gate, input]), Ok(()));
        let wrong_nodes = [
            (0, vec![gate]),
            (0, vec![node(0, 1, 48 * 9, 48 * 9 - 1), gate]),
            (1, vec![input]),
            (1, vec![input, node(1, rounds, bits + 1, bits)]),
            (1, vec![input, node(1, rounds, bits, bits - 1)]),
            (2, vec![input, gate, node(2, 1, 1, 0)]),
            (3, vec![input, gate, node(3, 1, 0, 0)]),
        ];
        for (wrong, nodes) in wrong_nodes {
            let breach = measured(rounds, bits, bits, &nodes).expect_err("it differs");
            assert!(
                matches!(breach, Breach::NodeCost { node, .. } if node == NodeId(wrong)),
                "node {wrong}: {breach}"
            );
        }
        let good = [input, gate];
        for breach in [
            measured(rounds + 1, bits, bits, &good),
            measured(rounds, bits + 1, bits, &good),
            measured(rounds, bits, bits - 1, &good),
            measured(rounds, bits, bits, &[input, node(1, rounds - 1, bits, bits)]),
        ] {
            assert!(matches!(breach, Err(Breach::Cost { .. })), "{breach:?}");
        }
    }
}
