//! What a run of a program needs of its party's memory and disk, in bytes.

use std::cmp::Reverse;

use suf_gate::{Node, NodeId, Part, Party, Program, TILE_ELEMS};
use suf_party::WINDOW;

use crate::store::SEAL_BYTES;

/// Bytes of an element of a wire at a party: a share, or the public masked value that takes its place.
const BYTES_PER_ELEMENT: u64 = 8;

/// Bytes for each element of the parts in flight: what a backend keeps of an evaluation, and its messages in both directions.
const IN_FLIGHT_BYTES_PER_ELEMENT: u64 = 96;

/// Parts of a spooled batch whose keys are in memory: those in flight, and some that are being wiped.
const LOADED_PARTS: u64 = WINDOW as u64 + 4;

/// Bytes that a run needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Bytes of keys.
    pub(crate) keys: u64,
    /// Bytes of the seals that keys have in the spool.
    pub(crate) seals: u64,
    /// Bytes of keys in memory while the other keys are in the spool.
    pub(crate) loaded: u64,
    /// Bytes of shares, and of what is computed from them.
    pub(crate) shares: u64,
    /// Bytes of output shares that wait to be fetched.
    pub(crate) outputs: u64,
    /// Bytes of matrices that stay after the run: those of a load.
    pub(crate) kept: u64,
}

impl Need {
    /// What `program` needs at `party`.
    pub(crate) fn of(program: &Program, party: Party) -> Self {
        let parts: u64 = program
            .nodes()
            .filter(|(_, node)| node.is_keyed())
            .map(|(_, node)| u64::from(node.tiles()))
            .sum();
        // The first tile of a node is its largest, and the party that gets more of it may be this one in another tile.
        let of_tile = |id| Party::BOTH.map(|party| program.key_bytes_of(party, Part::new(id, 0)));
        let largest_key = program.nodes().flat_map(|(id, _)| of_tile(id)).max().unwrap_or(0) as u64;
        let in_flight = exchanging_elems(program).min(u64::from(WINDOW) * TILE_ELEMS as u64);
        Self {
            keys: program.key_bytes(party),
            seals: parts * SEAL_BYTES,
            loaded: parts.min(LOADED_PARTS) * largest_key,
            shares: (most_held(program) + gathered_elems(program) + joined_elems(program))
                * BYTES_PER_ELEMENT
                + opening_bytes(program)
                + in_flight * IN_FLIGHT_BYTES_PER_ELEMENT,
            outputs: output_elems(program) * BYTES_PER_ELEMENT,
            kept: kept_elems(program).sum::<u64>() * BYTES_PER_ELEMENT,
        }
    }
}

/// Bytes a second at which a run's keys and messages move at least: a tenth of a home's link.
const SLOWEST_BYTES_PER_S: u64 = 1 << 20;

/// Seconds of a round at most: a round trip on a bad link, and the work between two exchanges of large parts.
const SLOWEST_ROUND_S: u64 = 2;

/// Seconds in which a run of `program` ends if its client asks for no deadline: what it costs at the slowest. `wait_s` is for
/// agreement and input.
pub(crate) fn deadline_s(program: &Program, wait_s: u64) -> u64 {
    let keys: u64 = Party::BOTH.iter().map(|party| program.key_bytes(*party)).sum();
    let messages = 2 * program.message_bits() / 8 + opening_bytes(program);
    let values = (program.input_elems() + output_elems(program)) * 2 * BYTES_PER_ELEMENT;
    let moved = keys.saturating_add(messages).saturating_add(values);
    wait_s + moved.div_ceil(SLOWEST_BYTES_PER_S) + SLOWEST_ROUND_S * u64::from(program.rounds())
}

/// Elements of all outputs.
pub(crate) fn output_elems(program: &Program) -> u64 {
    program.outputs().map(|id| program.node(id).shape().elems()).sum()
}

/// Elements of each matrix that a load program keeps.
fn kept_elems(program: &Program) -> impl Iterator<Item = u64> {
    program.nodes().filter(|(_, node)| node.is_kept()).map(|(_, node)| node.shape().elems())
}

/// Elements of a matrix that is put together from its tiles: the largest one that is kept.
fn joined_elems(program: &Program) -> u64 {
    kept_elems(program).max().unwrap_or(0)
}

/// Elements of all nodes whose parts count for the window.
fn exchanging_elems(program: &Program) -> u64 {
    let counts = |node: &Node| !node.is_input() && (node.exchanges() > 0 || node.is_keyed());
    program.nodes().filter(|(_, node)| counts(node)).map(|(_, node)| node.shape().elems()).sum()
}

/// Elements that the parts in flight hold copies of, because they take other rows than they make. They are those of the
/// largest parts that a window holds.
fn gathered_elems(program: &Program) -> u64 {
    let mut gathered = Vec::new();
    for id in program.nodes().map(|(id, _)| id).filter(|id| reads_other_rows(program, *id)) {
        gathered.extend((0..program.node(id).tiles()).map(|tile| {
            let taken = program.taken(Part::new(id, tile));
            taken.map(|taken| program.taken_elems(&taken) as u64).sum::<u64>()
        }));
    }
    gathered.sort_unstable_by_key(|elems| Reverse(*elems));
    gathered.into_iter().take(WINDOW as usize).sum()
}

/// Whether a part takes other rows than it makes: then what it takes and what it makes are held at once.
fn reads_other_rows(program: &Program, id: NodeId) -> bool {
    let first = Part::new(id, 0);
    let rows = program.made(first).rows;
    program.taken(first).any(|taken| taken.rows != rows)
}

/// Bytes of the openings of all inputs, in both directions, which may all wait for a slow link. An input that is not opened
/// is not told apart.
fn opening_bytes(program: &Program) -> u64 {
    let bytes = |node: &Node| {
        let ring = node.ring().map_or(0, |ring| u64::from(ring.bits()));
        2 * ring.div_ceil(8) * node.shape().elems()
    };
    program.inputs().map(|id| bytes(program.node(id))).sum()
}

/// Most elements of wires that are held at once. All inputs are there from the start. A wire is freed tile by tile by the last
/// node that takes it, unless parts take other rows than they make. The wire of an output stays until the end.
fn most_held(program: &Program) -> u64 {
    let count = program.nodes().count();
    let mut last_taker: Vec<Option<usize>> = vec![None; count];
    for (id, node) in program.nodes() {
        // Results come after all other nodes.
        let at = if node.is_result() { count - 1 } else { id.index() };
        for input in node.inputs() {
            let last = &mut last_taker[input.index()];
            *last = (*last).max(Some(at));
        }
    }
    // By node: elements that are held from there on, and no longer.
    let (mut begins, mut ends) = (vec![0; count + 1], vec![0; count + 1]);
    for ((id, node), last) in program.nodes().zip(&last_taker) {
        if let Some(last) = last {
            let begin = match () {
                () if node.is_input() => 0,
                () if reads_other_rows(program, id) => id.index(),
                () => id.index() + 1,
            };
            begins[begin] += node.shape().elems();
            ends[last + 1] += node.shape().elems();
        }
    }
    let mut held = 0;
    let sums = begins.into_iter().zip(ends).map(|(begins, ends)| {
        held = held + begins - ends;
        held
    });
    sums.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use suf_gate::{
        Form, Protocol, Ring, TensorShape, catalog,
        ops::{Factors, Heads, Input, Op, Output, Pads, Product},
        ring::{FRAC, WIRE},
    };

    use super::*;

    fn gate() -> Op {
        let gate = catalog::builtin().find(|gate| gate.protocol() == Protocol::Onehot);
        Op::gate(Arc::new(gate.expect("built in")))
    }

    fn input(elems: u64) -> (Op, Vec<NodeId>) {
        let shape = TensorShape::flat(elems).expect("of a size");
        (Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), vec![])
    }

    #[test]
    fn a_gate_holds_one_tensor_at_a_time() {
        let program = Program::new([
            input(1000),
            (gate(), vec![NodeId(0)]),
            (gate(), vec![NodeId(1)]),
            (Op::Output(Output), vec![NodeId(2)]),
        ]);
        let program = program.expect("a program");
        assert_eq!(most_held(&program), 1000);
        let need = Need::of(&program, Party::P0);
        assert_eq!(need.shares, 8 * 1000 + 12 * 1000 + 96 * 2000);
        assert_eq!((need.outputs, need.seals), (8000, 2 * SEAL_BYTES));
        assert_eq!(need.keys, program.key_bytes(Party::P0));
    }

    #[test]
    fn a_deadline_follows_what_a_program_costs() {
        let of = |elems| {
            let program = Program::new([
                input(elems),
                (gate(), vec![NodeId(0)]),
                (Op::Output(Output), vec![NodeId(1)]),
            ]);
            deadline_s(&program.expect("a program"), 70)
        };
        let program =
            Program::new([input(9), (gate(), vec![NodeId(0)]), (Op::Output(Output), vec![NodeId(1)])]);
        let rounds = u64::from(program.expect("a program").rounds());
        assert_eq!(of(9), 70 + 1 + 2 * rounds);
        let (few, many) = (of(1_000_000), of(10_000_000));
        let without = of(9) - 1;
        let [few, many] = [few - without, many - without];
        assert!((9 * few + 1..=10 * few).contains(&many), "{few} {many}");
    }

    #[test]
    fn what_is_taken_twice_or_given_out_is_held_longer() {
        let program = Program::new([
            input(1000),
            input(10),
            (gate(), vec![NodeId(0)]),
            (gate(), vec![NodeId(0)]),
            (Op::Output(Output), vec![NodeId(2)]),
            (gate(), vec![NodeId(1)]),
            (Op::Output(Output), vec![NodeId(3)]),
            (Op::Output(Output), vec![NodeId(5)]),
        ]);
        let program = program.expect("a program");
        // At the second gate: both inputs, and what the first made. The wires that are given out stay.
        assert_eq!(most_held(&program), 2010);
        assert_eq!(output_elems(&program), 2010);
        assert_eq!(opening_bytes(&program), 12 * 1010);
    }

    #[test]
    fn no_more_than_a_window_is_in_flight_or_loaded() {
        let elems = 100_000_000;
        let Op::Gate(op) = gate() else { unreachable!("it is one") };
        let program = Program::of_gate(Arc::clone(op.gate()), elems).expect("the largest");
        let need = Need::of(&program, Party::P1);
        assert_eq!(need.shares, 20 * elems + 96 * u64::from(WINDOW) * TILE_ELEMS as u64);
        let largest = Party::BOTH.map(|party| program.key_bytes_of(party, Part::new(NodeId(1), 0)));
        assert_eq!(need.loaded, 36 * largest[0].max(largest[1]) as u64);
    }

    /// Scores of 3 heads of 4 tokens, of 5 sequences: the parts of a product hold all that they read besides what they make.
    #[test]
    fn products_hold_what_they_take_and_what_they_make() {
        let shape = TensorShape::new(20, 6).expect("a tensor");
        let ring = Ring::new(48);
        let input = || (Op::Input(Input::new(shape, ring, 10, Form::Masked)), vec![]);
        let pads = || Op::Pads(Pads::own(ring, ring).expect("the same ring"));
        let heads = Factors::Scores(Heads { heads: 3, tokens: 4 });
        let product = Product::new(heads, [ring; 2], ring).expect("they fit");
        let program = Program::new([
            input(),
            input(),
            (pads(), vec![NodeId(0)]),
            (pads(), vec![NodeId(1)]),
            (Op::Product(product), vec![NodeId(0), NodeId(1), NodeId(2), NodeId(3)]),
            (Op::Output(Output), vec![NodeId(4)]),
        ]);
        let program = program.expect("a program");
        assert_eq!(gathered_elems(&program), 4 * 120);
        assert_eq!(most_held(&program), 4 * 120 + 60 * 4);
    }
}
