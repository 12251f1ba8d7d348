//! Which parts may begin, and when: pure counting over a program.
//!
//! Parts that need a key or an exchange, inputs and outputs aside, have a position: their place in the order of the program. At
//! most [`WINDOW`] of them are in flight, from the lowest one that is not over.

use std::{ops::Range, sync::Arc};

use suf_gate::{Node, Program};
use suf_wire::{NodeId, Part};

/// Parts in flight. A message of one exchange of one tile is some 200 KB (65536 elements of 25 bits). The longest fast
/// link in mind holds 3.2 MB, which 16 messages fill. Twice that number keeps it full while both ends compute. Both
/// parties must use the same number, because each checks how far ahead the other may be.
pub const WINDOW: u32 = 32;

/// What of a program has been done, as far as it decides what comes next.
pub(crate) struct Schedule {
    program: Arc<Program>,
    places: Vec<NodeParts>,
    /// Nodes whose parts have positions, with the position of their first part.
    positions: Vec<(u32, NodeId)>,
    /// Parts that are over.
    over: Frontier,
    /// Parts of which this party has sent all messages. The peer's window begins at its own lowest open part. Below
    /// that part the peer has had all messages of this party. So the peer's window ends within one window of the lowest
    /// part in this frontier, in whichever order frames arrive.
    sent: Frontier,
}

/// Where the parts of a node stand.
struct NodeParts {
    /// Number of parts of nodes before it.
    first_part: usize,
    /// The position of its first part.
    first_position: Option<u32>,
}

/// Positions that something is true of, in any order, and the lowest one of which it is not.
struct Frontier {
    lowest: u32,
    passed: Vec<bool>,
}

impl Schedule {
    pub(crate) fn new(program: Arc<Program>) -> Self {
        let (mut places, mut positions) = (Vec::<NodeParts>::new(), Vec::new());
        let (mut parts, mut position) = (0, 0);
        let mut silent = Vec::new();
        for (id, node) in program.nodes() {
            let first_position = has_position(node).then_some(position);
            if first_position.is_some() {
                positions.push((position, id));
                let end = position + node.tiles();
                if node.exchanges() == 0 {
                    silent.extend(position..end);
                }
                position = end;
            }
            places.push(NodeParts { first_part: parts, first_position });
            parts += node.tiles() as usize;
        }
        let (over, mut sent) = (Frontier::new(position), Frontier::new(position));
        silent.into_iter().for_each(|position| sent.pass(position));
        Self { program, places, positions, over, sent }
    }

    /// The number of a part among all parts.
    pub(crate) fn index(&self, part: Part) -> usize {
        self.places[part.node.index()].first_part + part.tile as usize
    }

    /// The parts whose values `part` takes, in the order in which it takes them.
    pub(crate) fn taken(&self, part: Part) -> impl Iterator<Item = Part> + use<'_> {
        self.program.taken(part).flat_map(|taken| taken.parts())
    }

    /// The parts that take the value of `part`, as often as they do.
    pub(crate) fn takers(&self, part: Part) -> Vec<Part> {
        self.program.takers(part)
    }

    /// The part at a position.
    pub(crate) fn at(&self, position: u32) -> Part {
        let (first, node) =
            self.positions[self.positions.partition_point(|(first, _)| *first <= position) - 1];
        Part::new(node, position - first)
    }

    /// Positions of the parts that may be in flight.
    pub(crate) fn window(&self) -> Range<u32> {
        self.over.lowest..self.over.lowest.saturating_add(WINDOW).min(self.over.len())
    }

    /// Whether `part` may be in flight as far as the window goes.
    pub(crate) fn is_open(&self, part: Part) -> bool {
        self.position(part).is_none_or(|position| position < self.window().end)
    }

    /// Whether the peer may be at `part`.
    pub(crate) fn is_open_to_peer(&self, part: Part) -> bool {
        self.position(part).is_none_or(|position| position < self.sent.lowest.saturating_add(WINDOW))
    }

    /// All messages of `part` are sent.
    pub(crate) fn pass_sent(&mut self, part: Part) {
        if let Some(position) = self.position(part) {
            self.sent.pass(position);
        }
    }

    /// `part` is over. Gives the positions that came into the window.
    pub(crate) fn pass_over(&mut self, part: Part) -> Range<u32> {
        let before = self.window().end;
        if let Some(position) = self.position(part) {
            self.over.pass(position);
        }
        before..self.window().end
    }

    fn position(&self, part: Part) -> Option<u32> {
        Some(self.places[part.node.index()].first_position? + part.tile)
    }
}

/// Whether the parts of a node count for the window. All others take neither keys nor messages, or are opened before, or given out
/// after everything else.
fn has_position(node: &Node) -> bool {
    !node.is_input() && !node.is_result() && (node.is_keyed() || node.exchanges() > 0)
}

impl Frontier {
    fn new(positions: u32) -> Self {
        Self { lowest: 0, passed: vec![false; positions as usize] }
    }

    fn len(&self) -> u32 {
        self.passed.len() as u32
    }

    fn pass(&mut self, position: u32) {
        self.passed[position as usize] = true;
        while self.passed.get(self.lowest as usize) == Some(&true) {
            self.lowest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::{
        Form, Protocol, TILE_ELEMS, TensorShape, catalog,
        ops::{Factors, Heads, Input, Op, Output, Pads, Product},
        ring::{FRAC, WIRE},
    };

    use super::*;

    /// Two inputs, a gate on each, and a second gate on what the first one makes.
    fn program(tiles: u64) -> Schedule {
        let gate = catalog::builtin().find(|gate| gate.protocol() == Protocol::Onehot).expect("built in");
        let gate = Op::gate(Arc::new(gate));
        let shape = TensorShape::flat(tiles * TILE_ELEMS as u64).expect("few elements");
        let input = || (Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), vec![]);
        let program = Program::new([
            input(),
            (gate.clone(), vec![NodeId(0)]),
            input(),
            (gate.clone(), vec![NodeId(2)]),
            (gate, vec![NodeId(1)]),
            (Op::Output(Output), vec![NodeId(3)]),
            (Op::Output(Output), vec![NodeId(4)]),
        ]);
        Schedule::new(Arc::new(program.expect("a program")))
    }

    #[test]
    fn gates_have_positions_in_the_order_of_the_program() {
        let schedule = program(3);
        let indices = schedule.program.parts().map(|part| schedule.index(part));
        assert!(indices.eq(0..7 * 3));
        let order: Vec<_> = (0..9).map(|position| schedule.at(position)).collect();
        let expected =
            [1, 3, 4].into_iter().flat_map(|node| (0..3).map(move |tile| Part::new(NodeId(node), tile)));
        assert!(order.iter().copied().eq(expected), "{order:?}");
        for (position, part) in order.into_iter().enumerate() {
            assert_eq!(schedule.position(part), Some(position as u32));
        }
        for node in [0, 2, 5, 6] {
            assert_eq!(schedule.position(Part::new(NodeId(node), 1)), None);
        }
        assert_eq!(schedule.window(), 0..9);
    }

    #[test]
    fn a_tile_is_taken_from_the_same_tile_of_the_nodes_before() {
        let schedule = program(3);
        let part = |node| Part::new(NodeId(node), 2);
        assert!(schedule.taken(part(4)).eq([part(1)]));
        assert_eq!(schedule.takers(part(1)), [part(4)]);
        assert_eq!(schedule.takers(part(3)), [part(5)]);
        assert_eq!((schedule.taken(part(0)).count(), schedule.takers(part(6)).len()), (0, 0));
    }

    /// Scores of 2 heads of 200 tokens, of 2 sequences: 400 rows in 2 tiles make 800 in 3.
    #[test]
    fn a_part_of_a_product_takes_all_tiles_that_hold_its_rows() {
        let (shape, ring) = (TensorShape::new(400, 200).expect("a tensor"), WIRE);
        let scores = Factors::Scores(Heads { heads: 2, tokens: 200 });
        let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
        let program = Program::new([
            node(Op::Input(Input::new(shape, ring, FRAC, Form::Masked)), &[]),
            node(Op::Pads(Pads::own(ring, ring).expect("the same ring")), &[0]),
            node(Op::Product(Product::new(scores, [ring; 2], ring).expect("they fit")), &[0, 0, 1, 1]),
            node(Op::Output(Output), &[2]),
        ]);
        let schedule = Schedule::new(Arc::new(program.expect("a program")));
        let part = |node, tile| Part::new(NodeId(node), tile);
        for (tile, taken) in [(0, &[0][..]), (1, &[0, 1]), (2, &[0, 1])] {
            let expected = [0, 0, 1, 1].map(|node| taken.iter().map(move |tile| part(node, *tile)));
            assert!(schedule.taken(part(2, tile)).eq(expected.into_iter().flatten()), "tile {tile}");
        }
        assert_eq!(schedule.takers(part(0, 1)), [part(1, 1), part(2, 1), part(2, 2), part(2, 1), part(2, 2)]);
        assert_eq!(schedule.takers(part(1, 0)).len(), 6);
        // Shares of masks of their own need neither keys nor messages.
        assert_eq!([1, 2].map(|node| schedule.position(part(node, 1))), [None, Some(1)]);
    }

    #[test]
    fn the_window_begins_at_the_lowest_part_that_is_not_over() {
        let mut schedule = program(20);
        assert_eq!(schedule.window(), 0..WINDOW);
        assert_eq!(schedule.pass_over(schedule.at(1)), WINDOW..WINDOW, "a hole at 0 holds it up");
        assert!(!schedule.is_open(schedule.at(WINDOW)) && schedule.is_open(schedule.at(WINDOW - 1)));
        assert_eq!(schedule.pass_over(schedule.at(0)), WINDOW..WINDOW + 2);
        assert!(schedule.is_open(schedule.at(WINDOW + 1)));
        assert!(schedule.is_open(Part::new(NodeId(2), 19)), "an input is open from the start");
        for position in 2..60 {
            schedule.pass_over(schedule.at(position));
        }
        assert_eq!(schedule.window(), 60..60);
    }

    #[test]
    fn the_peers_window_begins_at_the_lowest_part_that_it_may_lack() {
        let mut schedule = program(20);
        schedule.pass_over(schedule.at(0));
        assert!(!schedule.is_open_to_peer(schedule.at(WINDOW)), "what is over here says nothing of the peer");
        schedule.pass_sent(schedule.at(0));
        assert!(schedule.is_open_to_peer(schedule.at(WINDOW)));
        assert!(!schedule.is_open_to_peer(schedule.at(WINDOW + 1)));
    }
}
