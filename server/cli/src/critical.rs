//! What the end of a run waited for: the critical path of one party, from the parties' own clocks.
//!
//! The walk begins at the party's last work, and goes back to what that work could not begin without. That is the part's work
//! before, the peer's message, or the value of another part. So each moment of the run belongs to one node and one cause.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::{Deserialize, Serialize};
use suf_gate::{Part, Program};

use crate::observed::{Told, Worked};

/// Time on the critical path by its causes, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waits {
    /// A thread of the party worked.
    pub comp_ms: f64,
    /// Everything was there, and the party's threads were busy with other parts, or the part was beyond the window.
    pub turn_ms: f64,
    /// The peer had not sent its message yet.
    pub peer_ms: f64,
    /// The peer's message was on its way.
    pub link_ms: f64,
}

impl Waits {
    /// All of it.
    #[must_use]
    pub fn total_ms(&self) -> f64 {
        self.comp_ms + self.turn_ms + self.peer_ms + self.link_ms
    }
}

impl AddAssign for Waits {
    fn add_assign(&mut self, other: Self) {
        self.comp_ms += other.comp_ms;
        self.turn_ms += other.turn_ms;
        self.peer_ms += other.peer_ms;
        self.link_ms += other.link_ms;
    }
}

/// The works of each part, in order: it begins, makes the message of each exchange, and ends.
type Works = BTreeMap<Part, Vec<Worked>>;

/// The critical path of a run of `program`: what is spent on each node, in the order of the nodes. It is that of the party that tells
/// `own`. `peer` is what the other party tells.
#[must_use]
pub(crate) fn path(program: &Program, own: Told<'_>, peer: Told<'_>) -> Vec<Waits> {
    let [mine, theirs] = [own, peer].map(|told| by_part(told.works));
    let arrivals: BTreeMap<(Part, u8), u64> =
        own.arrivals.iter().map(|arrival| ((arrival.part, arrival.step), arrival.at_us)).collect();
    let mut found = vec![Waits::default(); program.nodes().count()];
    let last = |(part, works): (&Part, &Vec<Worked>)| Some((works.last()?.to_us, *part, works.len() - 1));
    let ends = mine.iter().filter(|(part, _)| !program.node(part.node).is_output()).filter_map(last);
    let mut next = ends.max().map(|(_, part, at)| (part, at));
    while let Some((part, at)) = next {
        let Some(work) = mine.get(&part).and_then(|works| works.get(at)) else { break };
        let waits = &mut found[part.node.index()];
        waits.comp_ms += ms(work.from_us, work.to_us);
        let (before, since) = match at.checked_sub(1) {
            Some(before) => (Some((part, before)), Some(mine[&part][before].to_us)),
            None => {
                let ended = |part: Part| last((&part, mine.get(&part)?));
                let latest = program.taken(part).flat_map(|taken| taken.parts()).filter_map(ended).max();
                (latest.map(|(_, part, at)| (part, at)), latest.map(|(to_us, ..)| to_us))
            }
        };
        next = before;
        let Some(since) = since else { break };
        // The message of exchange n is made by work n + 1, and taken by work n + 2.
        let step = at.checked_sub(2).and_then(|step| u8::try_from(step).ok());
        let arrival = step.and_then(|step| arrivals.get(&(part, step))).copied().unwrap_or(since).max(since);
        let sent = theirs.get(&part).and_then(|works| works.get(at.saturating_sub(1)));
        let sent = sent.map_or(since, |work| work.to_us).clamp(since, arrival);
        waits.peer_ms += ms(since, sent);
        waits.link_ms += ms(sent, arrival);
        waits.turn_ms += ms(arrival, work.from_us);
    }
    found
}

fn by_part(works: &[Worked]) -> Works {
    let mut parts = Works::new();
    for work in works {
        parts.entry(work.part).or_default().push(*work);
    }
    parts
}

fn ms(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use suf_gate::{
        Form, NodeId, TensorShape,
        ops::{Factors, Heads, Input, Op, Output, Pads, Product},
        ring::{FRAC, WIRE},
    };

    use super::*;
    use crate::observed::Arrival;

    /// An input, its pads, scores, and the output.
    fn program() -> Program {
        let shape = TensorShape::new(4, 8).expect("a tensor");
        let scores = Factors::Scores(Heads { heads: 2, tokens: 4 });
        let node = |op, inputs: &[u16]| (op, inputs.iter().copied().map(NodeId).collect::<Vec<_>>());
        let nodes = [
            node(Op::Input(Input::new(shape, WIRE, FRAC, Form::Masked)), &[]),
            node(Op::Pads(Pads::own(WIRE, WIRE).expect("the same ring")), &[0]),
            node(Op::Product(Product::new(scores, [WIRE; 2], WIRE).expect("they fit")), &[0, 0, 1, 1]),
            node(Op::Output(Output), &[2]),
        ];
        Program::new(nodes).expect("a program")
    }

    fn works(of: &[(u16, &[[u64; 2]])]) -> Vec<Worked> {
        let works = of.iter().flat_map(|(node, spans)| {
            spans.iter().map(|[from_ms, to_ms]| Worked {
                part: Part::new(NodeId(*node), 0),
                from_us: from_ms * 1000,
                to_us: to_ms * 1000,
            })
        });
        works.collect()
    }

    #[test]
    fn each_moment_has_one_node_and_one_cause() {
        let own = works(&[
            (0, &[[0, 1], [1, 2], [9, 10]]),
            (1, &[[10, 11], [11, 12]]),
            (2, &[[13, 15], [16, 17], [30, 34]]),
            (3, &[[40, 41], [41, 42]]),
        ]);
        let theirs = works(&[(0, &[[0, 1], [1, 4], [9, 10]]), (2, &[[13, 15], [17, 20], [29, 31]])]);
        let arrival =
            |node, at_ms: u64| Arrival { part: Part::new(NodeId(node), 0), step: 0, at_us: at_ms * 1000 };
        let arrivals = [arrival(0, 8), arrival(2, 27)];
        let own = Told { works: &own, arrivals: &arrivals };
        let found = path(&program(), own, Told { works: &theirs, arrivals: &[] });
        let expected = [
            // From 2 ms on it waits for the peer until 4, for the link until 8, and for a thread until 9.
            Waits { comp_ms: 3.0, turn_ms: 1.0, peer_ms: 2.0, link_ms: 4.0 },
            Waits { comp_ms: 2.0, ..Waits::default() },
            Waits { comp_ms: 7.0, turn_ms: 1.0 + 1.0 + 3.0, peer_ms: 3.0, link_ms: 7.0 },
            Waits::default(),
        ];
        assert_eq!(found, expected);
        assert_eq!(found.iter().map(Waits::total_ms).sum::<f64>(), 34.0);
    }

    #[test]
    fn a_message_that_was_there_before_costs_nothing() {
        let own = works(&[(0, &[[0, 1], [1, 5], [5, 6]])]);
        let arrivals = [Arrival { part: Part::new(NodeId(0), 0), step: 0, at_us: 3000 }];
        let found =
            path(&program(), Told { works: &own, arrivals: &arrivals }, Told { works: &[], arrivals: &[] });
        assert_eq!(found[0], Waits { comp_ms: 6.0, ..Waits::default() });
    }
}
