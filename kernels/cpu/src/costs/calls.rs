//! Calls of AES, counted from a gate's definition.

use suf_gate::{Gate, Shape, Side, Source, layout::FieldId, lookup::LEAF_BITS, ring::WIRE, sigma};

/// Calls of AES for each element that a gate's definition asks for: its streams and trees, with paths to neighbouring
/// points walked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Both parties' keys.
    pub deal: u32,
    /// The seeded side's evaluation.
    pub seeded: u32,
    /// The explicit side's.
    pub explicit: u32,
}

impl Calls {
    /// Counts those of `gate`; none for a specification of `suf` that is not one function with a window.
    #[must_use]
    pub fn of(gate: &Gate) -> Option<Self> {
        let shape = gate.key_shape();
        let bits = |filter: &dyn Fn(FieldId, Source) -> bool| -> u32 {
            let fields = shape.fields().iter().enumerate();
            fields
                .filter(|(i, field)| filter(FieldId(*i as u16), field.source))
                .map(|(_, field)| field.width.bits())
                .sum()
        };
        // Both masks of wires as well.
        let own = bits(&|_, source| source == Source::Own) + 2 * u32::from(WIRE.bits());
        let once = bits(&|_, source| matches!(source, Source::Shared | Source::Dealer));
        // A party needs the masks of the wire only where it starts from shares, so they are left out here.
        let expanded = |side: Side| {
            bits(&|id, source| matches!(source, Source::Own | Source::Shared) && !shape.delivered(id, side))
        };
        let [deal, eval] = tree_calls(gate)?;
        Some(Self {
            deal: (2 * own + once) / 128 + deal,
            seeded: expanded(Side::Seeded) / 128 + eval,
            explicit: expanded(Side::Explicit) / 128 + eval,
        })
    }
}

/// Calls of the trees alone, to deal and to evaluate. A BGI tree costs the dealer both children of both parties' nodes, a
/// half-tree one call for each.
pub(super) fn tree_calls(gate: &Gate) -> Option<[u32; 2]> {
    let lookup = |bits: u8| {
        let levels = u32::from(bits - LEAF_BITS);
        [4 * levels + 2, (2 << levels) - 2 + (1 << levels)]
    };
    let window = |levels: u32, bits: u8| {
        let height = u32::from(bits.max(LEAF_BITS + 1) - LEAF_BITS);
        // The way down, all nodes under two neighbours, and one block more than the window has.
        [2 * levels + 2, levels - height + 2 * ((1 << height) - 1) + (1 << height) + 1]
    };
    Some(match gate.shape() {
        Shape::Sigma(sigma) => {
            let levels = u32::from(sigma::COMPARE_LEVELS);
            let [deal, eval] = lookup(sigma.clip());
            [4 * levels + 2 + deal, levels + 3 + eval]
        }
        Shape::SufLut(lut) => lookup(lut.bits()),
        Shape::Onehot(_) => [0, 0],
        Shape::Dpf(dpf) => window(dpf.levels().into(), dpf.window_bits()),
        Shape::Suf(suf) => {
            // One window on one tree, as of a curve: all common words are that tree's, and the leaf block's.
            let parts = suf.spec().parts();
            let entries = parts.table.as_ref()?.values.len();
            if parts.pieces.is_some() || parts.low_bits > 0 || !entries.is_power_of_two() {
                return None;
            }
            let common = gate.key_shape().fields().iter().filter(|field| field.source == Source::Common);
            let blocks: u32 = common.map(|field| field.width.bits() / 128).sum();
            window(blocks.checked_sub(1)?, entries.ilog2() as u8)
        }
    })
}

#[cfg(test)]
mod tests {
    use suf_gate::{Protocol, catalog, gatefile::GateFile};

    use super::*;

    fn calls(name: &str, protocol: Protocol) -> Calls {
        let file = GateFile::builtin(name).expect("built in");
        Calls::of(&catalog::gate(&file, protocol, None).expect("in the file")).expect("counted")
    }

    #[test]
    fn a_comparison_and_a_look_up_cost_sigma_its_calls() {
        // Trees alone. Dealing: 23 levels of four calls, one level of four, two leaf blocks of two. Evaluation: down
        // one path, a leaf block at each of three points, two nodes and two blocks of the look-up.
        let [deal, eval] = {
            let file = GateFile::builtin("gelu").expect("built in");
            tree_calls(&catalog::gate(&file, Protocol::Sigma, None).expect("in the file")).expect("counted")
        };
        assert_eq!([deal, eval], [23 * 4 + 2 + 4 + 2, 23 + 3 + 2 + 2]);
    }

    #[test]
    fn protocols_on_one_tree_need_the_same_trees_and_silu_more_than_gelu() {
        for name in ["gelu", "silu"] {
            assert_eq!(calls(name, Protocol::Suf).explicit, calls(name, Protocol::Dpf).explicit, "{name}");
        }
        for protocol in [Protocol::Sigma, Protocol::SufLut, Protocol::Suf, Protocol::Dpf] {
            assert!(calls("gelu", protocol).seeded < calls("silu", protocol).seeded, "{protocol}");
        }
    }
}
